"""What the site knows of itself, and the sections of a generation that say it; the layout is leases.pxd's."""

from libc.string cimport memcpy, memset

from dataclasses import dataclass

from ext.leases cimport *
from ext.table import TableInvalid
from ext.wire cimport swap32


RULES = {"vendor_class": RULE_VENDOR_CLASS, "user_class": RULE_USER_CLASS, "client_id": RULE_CLIENT_ID,
         "other_mac": RULE_OTHER_MAC, "requested_options": RULE_REQUESTED}
ROLES = {"host": ROLE_HOST, "bmc": ROLE_BMC}


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the site knows of itself.  Addresses are ints in host order, networks (first, last), prefixes 0..32."""
    networks: tuple = ()           # (first, last), any order, may overlap
    links: tuple = ()              # (ifindex, address, prefix, mtu, served), the primary address of an interface first
    interfaces_limited: bool = False
    server_id: int = 0
    server_ids: tuple = ()
    relays: tuple = ()             # (address, prefix)
    max_nak_age_s: int = 86400
    bootp: bool = False
    rules: tuple = ()              # (key of RULES, key of ROLES, bytes), the first that fits says who asks
    classes: tuple = ()            # the site's client classes, ext/site_classes.pyx; a delta has those of its base
    shared: tuple = ()             # (first, last, group) of networks that share a link, disjoint; group: 1 to 2**64 - 1


def merged(networks) -> list:
    """Networks (first, last) -> their union, sorted and disjoint."""
    union = []
    reach = -2
    for first, last in sorted(networks):
        if first > reach + 1:
            union.append((first, last))
        elif last > reach:
            union.append((union.pop()[0], last))
        reach = max(reach, last)
    return union


def sections_of(surroundings) -> list:
    """(kind, bytes), in the order in which they are written; shared networks only where there are any."""
    return [*shared_section(surroundings.shared), (SECTION_NETWORKS, packed_networks(surroundings.networks)),
            (SECTION_LINKS, packed_links(surroundings.links)),
            (SECTION_SERVER_IDS, bytearray(b"".join(each.to_bytes(4, "big") for each in surroundings.server_ids))),
            (SECTION_RELAYS, packed_relays(surroundings.relays)), (SECTION_RULES, packed_rules(surroundings.rules))]


def shared_section(shared) -> list:
    said = b"".join(first.to_bytes(4, "little") + last.to_bytes(4, "little") + group.to_bytes(8, "little")
                    for first, last, group in sorted(shared))
    return [(SECTION_SHARED, bytearray(said))] if said else []


def packed_networks(networks) -> bytearray:
    return bytearray(b"".join(first.to_bytes(4, "little") + last.to_bytes(4, "little")
                              for first, last in merged(networks)))


def packed_links(links) -> bytearray:
    cdef Link link
    packed = bytearray()
    for ifindex, address, prefix, mtu, served in links:
        memset(&link, 0, sizeof(link))
        link.ifindex, link.address_be, link.prefix, link.mtu = ifindex, swap32(address), prefix, mtu
        link.flags = LINK_SERVED if served else 0
        packed += (<const char *>&link)[:sizeof(link)]
    return packed


def packed_relays(relays) -> bytearray:
    cdef Relay relay
    packed = bytearray()
    for address, prefix in relays:
        memset(&relay, 0, sizeof(relay))
        relay.address_be, relay.prefix = swap32(address), prefix
        packed += (<const char *>&relay)[:sizeof(relay)]
    return packed


def packed_rules(rules) -> bytearray:
    cdef Rule rule
    packed = bytearray()
    for kind, role, text in rules:
        if len(text) > RULE_TEXT_BYTES:
            raise TableInvalid(f"rule {kind} {text!r}: {len(text)} bytes, a rule takes {RULE_TEXT_BYTES}")
        memset(&rule, 0, sizeof(rule))
        rule.kind, rule.role, rule.length = RULES[kind], ROLES[role], len(text)
        memcpy(rule.text, <const char *><bytes>text, len(text))
        packed += (<const char *>&rule)[:sizeof(rule)]
    return packed
