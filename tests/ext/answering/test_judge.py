"""ext/judge.pxd and ext/answer.pxd: RFC 2131 section 4.3 and DESIGN section 3 as tables; the ids name the clause."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
from ext.builder import Builder
from ext.verdict import Verdict

from ext import table
from tests.ext.packets import DECLINE, RELEASE, Parsed, discover, inform, ip, message, request, tlv
from tests.ext.sites import (
    ALICE,
    CONFLICT,
    DISABLED,
    HELD,
    LINKS,
    NO_ADDRESS,
    NOTHING,
    NOTHING_TO_BOOT,
    OPTIONS,
    OTHER_PORT,
    OWN_ID,
    PROXIED,
    PUBLIC,
    QUARANTINED,
    REMOTE,
    STRANGER,
    THIEF,
    TWO,
    addresses,
    ask,
    boot_port,
    broadcast,
    generation,
    hosts,
    one_host,
    relayed,
    site,
    surroundings,
    unicast,
)

V = Verdict
OTHER_SERVER, REPLICA, VIP = "10.1.0.2", "10.1.0.3", "10.99.0.1"
FOREIGN = "192.0.2.1"  # in no network of the inventory


class Case(NamedTuple):
    packet: bytes
    want: Verdict
    yiaddr: str = "0.0.0.0"
    place: Mapping[str, Any] = NOTHING
    around: Mapping[str, Any] = NOTHING


def via(relay: str) -> dict[str, Any]:
    return relayed(relay)


def link82(address: str) -> bytes:
    return tlv(5, address)


BEHIND_ROUTER = unicast(source="10.9.0.70")

BMC = {"bootp": True, "rules": (("vendor_class", "bmc", b"udhcp 0.9."),)}

CASES = {
    # RFC 951, and who asks
    "951-bootp": Case(message(None, ALICE), V.ANSWERED_BOOTP, "10.1.0.50", around=BMC),
    "bmc-without-address": Case(discover(ALICE, options=tlv(60, b"udhcp 0.9.9-pre")), V.IGNORED_BMC, around=BMC),
    # DISCOVER, section 4.3.1
    "4.3.1-known-link": Case(discover(ALICE), V.OFFERED, "10.1.0.50"),
    "4.3.1-second-address-of-the-interface": Case(discover(PUBLIC), V.OFFERED, "10.2.0.90"),
    "4.3.1-option-50-of-a-discover-is-a-wish-only": Case(
        discover(ALICE, options=tlv(50, "10.1.0.77")), V.OFFERED, "10.1.0.50"
    ),
    "4.3.1-ciaddr-of-a-discover-is-ignored": Case(discover(ALICE, ciaddr="10.1.0.77"), V.OFFERED, "10.1.0.50"),
    "4.3.1-server-id-of-a-discover-is-ignored": Case(
        discover(ALICE, options=tlv(54, OTHER_SERVER)), V.OFFERED, "10.1.0.50"
    ),
    "4.3.1-other-interface": Case(discover(ALICE), V.IGNORED_OTHER_LINK, place=broadcast(3, "10.3.0.1")),
    "4.3.1-interface-unknown-to-the-inventory": Case(
        discover(ALICE), V.IGNORED_OTHER_LINK, place=broadcast(4, "172.31.0.1")
    ),
    "4.3.1-interface-without-address": Case(discover(ALICE), V.IGNORED_OTHER_LINK, place=broadcast(9)),
    "4.3.1-relay": Case(discover(REMOTE, giaddr="10.9.0.1"), V.OFFERED, "10.9.0.70", via("10.9.0.1")),
    "4.3.1-relay-on-another-known-link": Case(
        discover(REMOTE, giaddr="10.8.0.1"), V.IGNORED_OTHER_LINK, place=via("10.8.0.1")
    ),
    "4.3.1-relay-on-an-unknown-link": Case(discover(REMOTE, giaddr=FOREIGN), V.IGNORED_OTHER_LINK, place=via(FOREIGN)),
    "4.3.1-relay-by-broadcast": Case(discover(REMOTE, giaddr="10.9.0.1"), V.OFFERED, "10.9.0.70", broadcast()),
    "4.3.1-remote-host-on-our-link": Case(discover(REMOTE), V.IGNORED_OTHER_LINK),
    "4.3.1-two-addresses-here": Case(discover(TWO), V.OFFERED, "10.1.0.60"),
    "4.3.1-two-addresses-there": Case(discover(TWO, giaddr="10.9.0.1"), V.OFFERED, "10.9.0.60", via("10.9.0.1")),
    "4.3.1-two-addresses-elsewhere": Case(
        discover(TWO, giaddr="10.8.0.1"), V.IGNORED_OTHER_LINK, place=via("10.8.0.1")
    ),
    "4.3.1-unicast-from-the-link": Case(discover(ALICE), V.OFFERED, "10.1.0.50", unicast()),
    "4.3.1-unicast-from-nowhere-yet": Case(discover(ALICE), V.OFFERED, "10.1.0.50", unicast(source="0.0.0.0")),
    "4.3.1-unicast-from-behind-a-router": Case(discover(ALICE), V.IGNORED_OTHER_LINK, place=BEHIND_ROUTER),
    "4.3.1-directed-broadcast": Case(
        discover(ALICE), V.OFFERED, "10.1.0.50",
        {"ifindex": 2, "destination": ip("10.1.0.255"), "local": ip("10.1.0.1"), "source": ip("10.1.0.50")},
    ),
    # which link: 82.5 > 118 > giaddr > interface
    "RFC3527-82.5-before-giaddr": Case(
        discover(REMOTE, giaddr="10.8.0.1", agent=link82("10.9.0.0")), V.OFFERED, "10.9.0.70", via("10.8.0.1")
    ),
    "RFC3527-82.5-before-giaddr-wrong": Case(
        discover(REMOTE, giaddr="10.9.0.1", agent=link82("10.8.0.0")), V.IGNORED_OTHER_LINK, place=via("10.9.0.1")
    ),
    "RFC3527-82.5-before-118": Case(
        discover(TWO, giaddr="10.8.0.1", options=tlv(118, "10.1.0.0"), agent=link82("10.9.0.0")),
        V.OFFERED, "10.9.0.60", via("10.8.0.1"),
    ),
    "RFC3527-giaddr-of-a-loopback-of-the-relay": Case(
        discover(REMOTE, giaddr=FOREIGN, agent=link82("10.9.0.0")), V.OFFERED, "10.9.0.70", via(FOREIGN)
    ),
    "RFC3011-118-before-giaddr": Case(
        discover(REMOTE, giaddr="10.8.0.1", options=tlv(118, "10.9.0.0")), V.OFFERED, "10.9.0.70", via("10.8.0.1")
    ),
    "RFC3011-118-before-the-interface": Case(discover(TWO, options=tlv(118, "10.9.0.0")), V.OFFERED, "10.9.0.60"),
    "RFC3011-118-nowhere": Case(discover(TWO, options=tlv(118, FOREIGN)), V.IGNORED_OTHER_LINK),
    # SELECTING, section 4.3.2
    "4.3.2-SELECTING-ours": Case(request(ALICE, requested="10.1.0.50", server_id="10.1.0.1"), V.ACKED, "10.1.0.50"),
    "4.3.2-SELECTING-another-address-of-ours": Case(
        request(ALICE, requested="10.1.0.50", server_id="10.3.0.1"), V.ACKED, "10.1.0.50"
    ),
    "4.3.2-SELECTING-other-server": Case(
        request(ALICE, requested="10.1.0.50", server_id=OTHER_SERVER), V.IGNORED_OTHER_SERVER
    ),
    "4.3.2-SELECTING-other-server-wrong-address": Case(
        request(ALICE, requested="10.1.0.77", server_id=OTHER_SERVER), V.IGNORED_OTHER_SERVER
    ),
    "4.3.2-SELECTING-dhcp.server_id": Case(
        request(ALICE, requested="10.1.0.50", server_id=VIP), V.ACKED, "10.1.0.50", around={"server_id": ip(VIP)}
    ),
    "4.3.2-SELECTING-accepted-server_ids": Case(
        request(ALICE, requested="10.1.0.50", server_id=REPLICA), V.ACKED, "10.1.0.50",
        around={"server_ids": addresses([VIP, REPLICA])},
    ),
    "4.3.2-SELECTING-not-in-server_ids": Case(
        request(ALICE, requested="10.1.0.50", server_id=OTHER_SERVER), V.IGNORED_OTHER_SERVER,
        around={"server_ids": addresses([VIP, REPLICA])},
    ),
    "4.3.2-SELECTING-the-template's-server_id": Case(
        request(OWN_ID, requested="10.1.0.80", server_id="10.99.0.7"), V.ACKED, "10.1.0.80"
    ),
    "4.3.2-SELECTING-another-template's-server_id": Case(
        request(ALICE, requested="10.1.0.50", server_id="10.99.0.7"), V.IGNORED_OTHER_SERVER
    ),
    "4.3.2-SELECTING-the-unicast-destination": Case(
        request(REMOTE, requested="10.9.0.70", server_id=VIP, giaddr="10.9.0.1"), V.ACKED, "10.9.0.70",
        relayed(to=VIP),
    ),
    "4.3.2-SELECTING-a-broadcast-destination-is-no-id": Case(
        request(ALICE, requested="10.1.0.50", server_id="255.255.255.255"), V.IGNORED_OTHER_SERVER
    ),
    "RFC5107-another-relay's-id": Case(
        request(REMOTE, requested="10.9.0.70", server_id="10.9.0.9", giaddr="10.9.0.1",
                options=tlv(82, tlv(11, "10.9.0.1"))),
        V.IGNORED_OTHER_SERVER, place=via("10.9.0.1")
    ),
    "4.3.2-SELECTING-wrong-address": Case(request(ALICE, requested="10.1.0.77", server_id="10.1.0.1"), V.NAKED),
    "4.3.2-SELECTING-relay": Case(
        request(TWO, requested="10.9.0.60", server_id="10.1.0.1", giaddr="10.9.0.1"), V.ACKED, "10.9.0.60",
        via("10.9.0.1"),
    ),
    "4.3.2-SELECTING-relay-address-of-the-other-link": Case(
        request(TWO, requested="10.1.0.60", server_id="10.1.0.1", giaddr="10.9.0.1"), V.NAKED, place=via("10.9.0.1")
    ),
    "4.3.2-SELECTING-foreign-ciaddr-with-option-50": Case(
        request(ALICE, requested="10.1.0.50", server_id="10.1.0.1", ciaddr="10.1.0.77"), V.ACKED, "10.1.0.50"
    ),
    "4.3.2-SELECTING-without-address": Case(request(ALICE, server_id="10.1.0.1"), V.ACKED, "10.1.0.50"),
    # INIT-REBOOT, section 4.3.2
    "4.3.2-INIT-REBOOT-right": Case(request(ALICE, requested="10.1.0.50"), V.ACKED, "10.1.0.50"),
    "4.3.2-INIT-REBOOT-right-relay": Case(
        request(REMOTE, requested="10.9.0.70", giaddr="10.9.0.1"), V.ACKED, "10.9.0.70", via("10.9.0.1")
    ),
    "4.3.2-INIT-REBOOT-wrong-address": Case(request(ALICE, requested="10.1.0.77"), V.NAKED),
    "4.3.2-INIT-REBOOT-wrong-network": Case(request(ALICE, requested="192.168.7.7"), V.NAKED),
    "4.3.2-INIT-REBOOT-right-address-wrong-known-link": Case(
        request(ALICE, requested="10.1.0.50"), V.NAKED, place=broadcast(3, "10.3.0.1")
    ),
    "4.3.2-INIT-REBOOT-relay-wrong-known-link": Case(
        request(REMOTE, requested="10.9.0.70", giaddr="10.8.0.1"), V.NAKED, place=via("10.8.0.1")
    ),
    "4.3.2-INIT-REBOOT-unknown-link": Case(
        request(ALICE, requested="10.1.0.50"), V.IGNORED_NAK_UNKNOWN_LINK, place=broadcast(4, "172.31.0.1")
    ),
    "4.3.2-INIT-REBOOT-unknown-relay-link": Case(
        request(ALICE, requested="10.1.0.50", giaddr=FOREIGN), V.IGNORED_NAK_UNKNOWN_LINK, place=via(FOREIGN)
    ),
    "4.3.2-INIT-REBOOT-unknown-82.5": Case(
        request(REMOTE, requested="10.9.0.70", giaddr="10.9.0.1", agent=link82(FOREIGN)),
        V.IGNORED_NAK_UNKNOWN_LINK, place=via("10.9.0.1"),
    ),
    "4.3.2-INIT-REBOOT-interface-without-address": Case(
        request(ALICE, requested="10.1.0.50"), V.IGNORED_NAK_UNKNOWN_LINK, place=broadcast(9)
    ),
    "4.3.2-INIT-REBOOT-from-behind-a-router": Case(
        request(ALICE, requested="10.1.0.50"), V.IGNORED_NAK_UNKNOWN_LINK, place=BEHIND_ROUTER
    ),
    "4.3.2-INIT-REBOOT-unknown-host": Case(request(STRANGER, requested="10.1.0.50"), V.IGNORED_UNKNOWN_MAC),
    "DESIGN3-max_nak_age-reached": Case(
        request(ALICE, requested="10.1.0.77"), V.NAKED, place={"age_s": 86400}
    ),
    "DESIGN3-max_nak_age-passed": Case(
        request(ALICE, requested="10.1.0.77"), V.IGNORED_NAK_STALE_TABLE, place={"age_s": 86401}
    ),
    "DESIGN3-max_nak_age-0": Case(
        request(ALICE, requested="10.1.0.77"), V.IGNORED_NAK_STALE_TABLE, place={"age_s": 1},
        around={"max_nak_age_s": 0},
    ),
    "DESIGN3-stale-table-still-ACKs": Case(
        request(ALICE, requested="10.1.0.50"), V.ACKED, "10.1.0.50", {"age_s": 10**9}
    ),
    "Kea-neither-address": Case(request(ALICE), V.ACKED, "10.1.0.50"),
    "Kea-neither-address-relay": Case(request(TWO, giaddr="10.9.0.1"), V.ACKED, "10.9.0.60", via("10.9.0.1")),
    "Kea-neither-address-other-link": Case(request(ALICE), V.IGNORED_OTHER_LINK, place=broadcast(3, "10.3.0.1")),
    # RENEWING (unicast) and REBINDING (broadcast), section 4.3.2
    "4.3.2-RENEWING": Case(request(ALICE, ciaddr="10.1.0.50"), V.ACKED, "10.1.0.50", unicast()),
    "4.3.2-RENEWING-behind-a-router": Case(request(REMOTE, ciaddr="10.9.0.70"), V.ACKED, "10.9.0.70", BEHIND_ROUTER),
    "4.3.2-RENEWING-second-address": Case(
        request(TWO, ciaddr="10.9.0.60"), V.ACKED, "10.9.0.60", unicast(source="10.9.0.60")
    ),
    "4.3.2-RENEWING-with-our-id": Case(
        request(ALICE, ciaddr="10.1.0.50", server_id="10.1.0.1"), V.ACKED, "10.1.0.50", unicast()
    ),
    "4.3.2-RENEWING-with-another-id": Case(
        request(ALICE, ciaddr="10.1.0.50", server_id=OTHER_SERVER), V.IGNORED_OTHER_SERVER, place=unicast()
    ),
    "4.3.2-RENEWING-somebody-else's": Case(request(ALICE, ciaddr="10.1.0.60"), V.IGNORED_CIADDR, place=unicast()),
    "4.3.2-RENEWING-nobody's": Case(request(ALICE, ciaddr="10.1.0.77"), V.IGNORED_CIADDR, place=unicast()),
    "4.3.2-RENEWING-ciaddr-ours": Case(request(THIEF, ciaddr="10.1.0.1"), V.IGNORED_CIADDR, place=unicast()),
    "4.3.2-RENEWING-stale-table": Case(
        request(ALICE, ciaddr="10.1.0.50"), V.ACKED, "10.1.0.50", {**unicast(), "age_s": 10**9}
    ),
    "4.3.2-REBINDING": Case(request(ALICE, ciaddr="10.1.0.50"), V.ACKED, "10.1.0.50"),
    "4.3.2-REBINDING-relay": Case(
        request(REMOTE, ciaddr="10.9.0.70", giaddr="10.9.0.1"), V.ACKED, "10.9.0.70", via("10.9.0.1")
    ),
    "4.3.2-REBINDING-somebody-else's": Case(request(ALICE, ciaddr="10.1.0.60"), V.IGNORED_CIADDR),
    # DECLINE 4.3.3, RELEASE 4.3.4
    "4.3.3-DECLINE": Case(
        message(DECLINE, ALICE, tlv(54, "10.1.0.1") + tlv(50, "10.1.0.50")), V.NOTED_DECLINE
    ),
    "4.3.3-DECLINE-without-id": Case(message(DECLINE, ALICE, tlv(50, "10.1.0.50")), V.NOTED_DECLINE),
    "4.3.3-DECLINE-other-server": Case(
        message(DECLINE, ALICE, tlv(54, OTHER_SERVER) + tlv(50, "10.1.0.50")), V.IGNORED_OTHER_SERVER
    ),
    "4.3.3-DECLINE-stranger": Case(message(DECLINE, STRANGER, tlv(50, "10.1.0.50")), V.IGNORED_UNKNOWN_MAC),
    "4.3.4-RELEASE": Case(
        message(RELEASE, ALICE, tlv(54, "10.1.0.1"), ciaddr="10.1.0.50"), V.NOTED_RELEASE, place=unicast()
    ),
    "4.3.4-RELEASE-without-id": Case(message(RELEASE, ALICE, ciaddr="10.1.0.50"), V.NOTED_RELEASE, place=unicast()),
    # INFORM, section 4.3.5
    "4.3.5-INFORM": Case(inform(ALICE, "10.1.0.50"), V.ACKED_INFORM),
    "4.3.5-INFORM-unicast": Case(inform(ALICE, "10.1.0.50"), V.ACKED_INFORM, place=unicast()),
    "4.3.5-INFORM-foreign-ciaddr": Case(inform(ALICE, "10.1.0.60"), V.IGNORED_CIADDR),
    "4.3.5-INFORM-without-ciaddr": Case(inform(ALICE, "0.0.0.0"), V.IGNORED_CIADDR),
    "4.3.5-INFORM-ciaddr-ours": Case(inform(THIEF, "10.1.0.1"), V.IGNORED_CIADDR),
    "4.3.5-INFORM-stranger": Case(inform(STRANGER, "10.1.0.50"), V.IGNORED_UNKNOWN_MAC),
    # the host's state, whatever it asks
    "state-unknown": Case(discover(STRANGER), V.IGNORED_UNKNOWN_MAC),
    "state-disabled": Case(discover(DISABLED), V.IGNORED_DISABLED),
    "state-disabled-REQUEST": Case(request(DISABLED, requested="10.1.0.77"), V.IGNORED_DISABLED),
    "state-other-port": Case(discover(OTHER_PORT), V.IGNORED_OTHER_PORT),
    "state-other-port-REQUEST": Case(request(OTHER_PORT, requested="10.1.0.77"), V.IGNORED_OTHER_PORT),
    "state-held": Case(discover(HELD), V.IGNORED_HELD),
    "state-held-REQUEST-never-NAKs": Case(request(HELD, requested="10.1.0.77"), V.IGNORED_HELD),
    "state-no-address": Case(discover(NO_ADDRESS), V.IGNORED_NO_ADDRESS),
    "state-conflict": Case(discover(CONFLICT), V.IGNORED_CONFLICT),
    "state-conflict-never-NAKs": Case(request(CONFLICT, requested="10.1.0.77"), V.IGNORED_CONFLICT),
    "state-quarantined": Case(discover(QUARANTINED), V.IGNORED_QUARANTINED),
    "state-quarantined-never-NAKs": Case(request(QUARANTINED, requested="10.1.0.77"), V.IGNORED_QUARANTINED),
    "state-quarantined-INFORM": Case(inform(QUARANTINED, "10.1.0.50"), V.IGNORED_QUARANTINED),
    "state-quarantined-RELEASE": Case(message(RELEASE, QUARANTINED), V.IGNORED_QUARANTINED),
    # where it came in
    "interfaces-limited-served": Case(discover(ALICE), V.OFFERED, "10.1.0.50", around={"interfaces_limited": True}),
    "interfaces-limited-other": Case(
        discover(ALICE), V.IGNORED_INTERFACE, place=broadcast(3, "10.3.0.1"), around={"interfaces_limited": True}
    ),
    "interfaces-limited-relay": Case(
        discover(REMOTE, giaddr="10.9.0.1"), V.IGNORED_INTERFACE, place={**via("10.9.0.1"), "ifindex": 3},
        around={"interfaces_limited": True},
    ),
    "interfaces-limited-without-address": Case(
        discover(ALICE), V.IGNORED_INTERFACE, place=broadcast(9), around={"interfaces_limited": True}
    ),
    "giaddr-in-relays": Case(
        discover(REMOTE, giaddr="10.9.0.1"), V.OFFERED, "10.9.0.70", via("10.9.0.1"),
        {"relays": ((ip("10.8.0.1"), 32), (ip("10.9.0.0"), 24))},
    ),
    "giaddr-not-in-relays": Case(
        discover(REMOTE, giaddr="10.9.0.1"), V.IGNORED_RELAY, place=via("10.9.0.1"),
        around={"relays": ((ip("10.9.0.2"), 32),)},
    ),
    "no-relay-needed-without-giaddr": Case(
        discover(ALICE), V.OFFERED, "10.1.0.50", around={"relays": ((ip("10.9.0.2"), 32),)}
    ),
    "unknown-relay-refused-before-the-look-up": Case(
        discover(STRANGER, giaddr="10.9.0.1"), V.IGNORED_RELAY, place=via("10.9.0.1"),
        around={"relays": ((ip("10.9.0.2"), 32),)},
    ),
    # what we could answer with
    "no-address-on-the-interface": Case(
        discover(REMOTE, giaddr="10.9.0.1"), V.IGNORED_NO_SERVER_ID, place=broadcast(9)
    ),
    "no-address-on-the-interface-NAK": Case(
        request(REMOTE, requested="10.9.0.71", giaddr="10.9.0.1"), V.IGNORED_NO_SERVER_ID, place=broadcast(9)
    ),
    "server_id-but-no-source-address": Case(
        discover(REMOTE, giaddr="10.9.0.1"), V.IGNORED_NO_SERVER_ID, place=broadcast(9), around={"server_id": ip(VIP)}
    ),
    "no-room": Case(
        discover(REMOTE, giaddr="10.9.0.1", options=tlv(61, bytes(255)), agent=bytes(255)), V.IGNORED_NO_ROOM,
        place=via("10.9.0.1"), around={"links": ((2, ip("10.1.0.1"), 24, 576, True),)},
    ),
    "truncated": Case(discover(ALICE), V.IGNORED_TRUNCATED, place={"truncated": True}),
    # the parser's verdicts come through
    "parse-short": Case(b"\1", V.IGNORED_SHORT),
    "parse-reply": Case(discover(ALICE, op=2), V.IGNORED_NOT_REQUEST),
    "parse-cookie": Case(discover(ALICE, cookie=bytes(4)), V.IGNORED_COOKIE),
    "parse-hardware": Case(discover(ALICE, hlen=7), V.IGNORED_HARDWARE),
    "parse-bootp": Case(message(None, ALICE), V.IGNORED_BOOTP),
    "parse-type": Case(message(5, ALICE), V.IGNORED_MESSAGE_TYPE),
}  # fmt: skip


ROM = tlv(60, b"PXEClient:Arch:00000:UNDI:002001") + tlv(93, b"\0\0")
LEASED = "10.1.0.150"  # what the other server gave PROXIED

CASES |= {
    # PXE 2.1: the address comes from another server, the boot file from us
    "proxy-DISCOVER-of-a-ROM": Case(discover(PROXIED, options=ROM), V.OFFERED_PROXY),
    "proxy-DISCOVER-on-any-link": Case(
        discover(PROXIED, options=ROM), V.OFFERED_PROXY, place=broadcast(4, "172.31.0.1")
    ),
    "proxy-DISCOVER-relayed": Case(
        discover(PROXIED, options=ROM, giaddr="10.8.0.1"), V.OFFERED_PROXY, place=via("10.8.0.1")
    ),
    "proxy-DISCOVER-of-a-system": Case(discover(PROXIED), V.IGNORED_PROXY),
    "proxy-DISCOVER-with-nothing-to-boot": Case(discover(NOTHING_TO_BOOT, options=ROM), V.IGNORED_PROXY),
    "proxy-SELECTING-the-other-server": Case(
        request(PROXIED, requested=LEASED, server_id=OTHER_SERVER, options=ROM), V.IGNORED_PROXY
    ),
    "proxy-SELECTING-us": Case(
        request(PROXIED, requested="0.0.0.0", server_id="10.1.0.1", options=ROM), V.IGNORED_PROXY
    ),
    "proxy-INIT-REBOOT-never-NAKs": Case(request(PROXIED, requested="10.3.0.77"), V.IGNORED_PROXY),
    "proxy-RENEWING": Case(request(PROXIED, ciaddr=LEASED), V.IGNORED_PROXY, place=unicast(source=LEASED)),
    "proxy-DECLINE": Case(message(DECLINE, PROXIED, tlv(50, LEASED)), V.IGNORED_PROXY),
    "proxy-RELEASE": Case(message(RELEASE, PROXIED, ciaddr=LEASED), V.IGNORED_PROXY),
    "proxy-BOOTP": Case(message(None, PROXIED, ROM), V.IGNORED_PROXY, around=BMC),
    "proxy-INFORM-of-a-ROM": Case(
        inform(PROXIED, LEASED, options=ROM), V.ACKED_INFORM, place=unicast(source=LEASED)
    ),
    "proxy-INFORM-relayed": Case(
        inform(PROXIED, "10.9.0.150", options=ROM, giaddr="10.9.0.1"), V.ACKED_INFORM, place=via("10.9.0.1")
    ),
    "proxy-INFORM-of-a-system": Case(inform(PROXIED, LEASED), V.IGNORED_PROXY, place=unicast(source=LEASED)),
    "proxy-INFORM-for-another-address": Case(
        inform(PROXIED, FOREIGN, options=ROM), V.IGNORED_CIADDR, place=unicast(source=LEASED)
    ),
    "proxy-INFORM-without-ciaddr": Case(inform(PROXIED, 0, options=ROM), V.IGNORED_CIADDR),
    # PXE 2.1: port 4011
    "4011-REQUEST": Case(request(PROXIED, ciaddr=LEASED, options=ROM), V.ACKED_BOOT, place=boot_port()),
    "4011-REQUEST-naming-any-server": Case(
        request(PROXIED, ciaddr=LEASED, server_id=OTHER_SERVER, options=ROM), V.ACKED_BOOT, place=boot_port()
    ),
    "4011-INFORM": Case(inform(PROXIED, LEASED, options=ROM), V.ACKED_BOOT, place=boot_port()),
    "4011-behind-a-router": Case(
        request(PROXIED, ciaddr="10.9.0.150", options=ROM), V.ACKED_BOOT, place=boot_port("10.9.0.150")
    ),
    "4011-served-host": Case(
        request(ALICE, ciaddr="10.1.0.50", options=ROM), V.ACKED_BOOT, place=boot_port("10.1.0.50", 4011)
    ),
    "4011-served-host's-other-address": Case(
        request(TWO, ciaddr="10.9.0.60", options=ROM), V.ACKED_BOOT, place=boot_port("10.9.0.60")
    ),
    "4011-served-host-with-a-wrong-address": Case(
        request(ALICE, ciaddr="10.1.0.60", options=ROM), V.IGNORED_CIADDR, place=boot_port("10.1.0.60")
    ),
    "4011-nothing-to-boot": Case(
        request(NOTHING_TO_BOOT, ciaddr=LEASED, options=ROM), V.IGNORED_PROXY, place=boot_port()
    ),
    "4011-system": Case(request(PROXIED, ciaddr=LEASED), V.IGNORED_BOOT_PORT, place=boot_port()),
    "4011-DISCOVER": Case(discover(PROXIED, options=ROM), V.IGNORED_BOOT_PORT, place=boot_port()),
    "4011-RELEASE": Case(message(RELEASE, ALICE, ROM, ciaddr="10.1.0.50"), V.IGNORED_BOOT_PORT,
                         place=boot_port("10.1.0.50")),
    "4011-without-ciaddr": Case(request(PROXIED, options=ROM), V.IGNORED_BOOT_PORT, place=boot_port()),
    "4011-for-another-address": Case(
        request(PROXIED, ciaddr=FOREIGN, options=ROM), V.IGNORED_BOOT_PORT, place=boot_port()
    ),
    "4011-served-host-for-its-own-from-elsewhere": Case(
        request(ALICE, ciaddr="10.1.0.50", options=ROM), V.IGNORED_BOOT_PORT, place=boot_port(FOREIGN)
    ),
    "4011-relayed": Case(
        request(PROXIED, ciaddr=LEASED, options=ROM, giaddr="10.9.0.1"), V.IGNORED_BOOT_PORT, place=boot_port()
    ),
    "4011-stranger": Case(request(STRANGER, ciaddr=LEASED, options=ROM), V.IGNORED_UNKNOWN_MAC, place=boot_port()),
    "4011-disabled": Case(request(DISABLED, ciaddr=LEASED, options=ROM), V.IGNORED_DISABLED, place=boot_port()),
    "4011-closed-interface": Case(
        request(PROXIED, ciaddr=LEASED, options=ROM), V.IGNORED_INTERFACE, place=boot_port(ifindex=3),
        around={"interfaces_limited": True},
    ),
}  # fmt: skip


def bad_giaddr(giaddr: str) -> Case:
    return Case(discover(REMOTE, giaddr=giaddr, agent=link82("10.9.0.0")), V.IGNORED_GIADDR, place=via("10.9.0.1"))


CASES |= {
    f"DESIGN3-giaddr-{why}": bad_giaddr(giaddr)
    for why, giaddr in {
        "0/8": "0.0.0.1",
        "127/8": "127.0.0.1",
        "127/8-last": "127.255.255.255",
        "multicast": "224.0.0.1",
        "multicast-last": "239.255.255.255",
        "class-E": "240.0.0.1",
        "limited-broadcast": "255.255.255.255",
        "ours": "10.1.0.1",
        "ours-on-another-interface": "10.3.0.1",
        "local-broadcast": "10.1.0.255",
        "local-network-address": "10.1.0.0",
        "broadcast-of-another-interface": "172.31.0.255",
        "broadcast-of-the-lease's-network": "10.9.0.255",
        "network-address-of-the-lease": "10.9.0.0",
    }.items()
}


KINDS = {
    V.OFFERED: 2, V.OFFERED_PROXY: 2, V.ACKED: 5, V.ACKED_INFORM: 5, V.ACKED_BOOT: 5, V.ANSWERED_BOOTP: 0, V.NAKED: 6,
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_judge(case: Case) -> None:
    reply = ask(site(**case.around), case.packet, **case.place)
    assert reply.verdict == case.want
    if reply.verdict > V.NAKED:
        assert (reply.data, reply.route, reply.source) == (b"", "", 0)
    else:
        said = Parsed.of(reply.data)
        assert said.yiaddr == case.yiaddr
        assert said.kind == KINDS[reply.verdict]


def test_no_table_yet() -> None:
    assert ask(None, discover(ALICE)).verdict == V.IGNORED_NO_TABLE


def test_every_verdict_is_reached() -> None:
    reached = {ask(site(**case.around), case.packet, **case.place).verdict for case in CASES.values()}
    reached.add(ask(None, discover(ALICE)).verdict)
    rest = {V.GO_ON, V.ABANDONED, V.IGNORED_LATE, V.IGNORED_SHARE, V.IGNORED_CHECKSUM}  # the worker's own
    assert set(Verdict) - reached == rest


def test_giaddr_of_a_point_to_point_link_is_no_broadcast() -> None:
    """RFC 3021: both addresses of a /31 are hosts."""
    pair = one_host(mac=REMOTE, address="10.9.0.70", around={"links": (*LINKS, (5, ip("10.5.0.0"), 31, 1500, True))})
    packet = discover(REMOTE, giaddr="10.5.0.1", agent=link82("10.9.0.0"))
    assert ask(pair, packet, **{**via("10.5.0.1"), "ifindex": 5}).verdict == V.OFFERED


@pytest.mark.parametrize("prefix", [0, 1, 8, 23, 31, 32])
def test_every_prefix(prefix: int) -> None:
    """The link fits by the lease's own prefix; /32: any link that the inventory knows."""
    pair = one_host(mac=REMOTE, address="10.9.0.70", prefix=prefix)
    inside = ask(pair, discover(REMOTE, giaddr="10.9.0.71"), **via("10.9.0.71"))
    outside = ask(pair, discover(REMOTE, giaddr="200.9.0.71"), **via("200.9.0.71"))
    assert inside.verdict == V.OFFERED
    assert outside.verdict == (V.OFFERED if prefix == 0 else V.IGNORED_OTHER_LINK)


class TestDelta:
    """The delta's word counts before the base's, and its Surroundings replace the base's."""

    BASE = generation(hosts())

    def pair(self, builder: Builder, **around: Any) -> table.Pair:
        return table.Pair(self.BASE, generation(builder, 2, surroundings(**around)))

    def test_other_address(self) -> None:
        builder = Builder(self.BASE)
        index = builder.add_template(options=OPTIONS)
        builder.add_host(ALICE, name=b"alice", leases=((ip("10.1.0.99"), 24, index),))
        pair = self.pair(builder)
        assert Parsed.of(ask(pair, discover(ALICE)).data).yiaddr == "10.1.0.99"
        assert ask(pair, request(ALICE, requested="10.1.0.50")).verdict == V.NAKED
        assert ask(pair, request(ALICE, ciaddr="10.1.0.50"), **unicast()).verdict == V.IGNORED_CIADDR
        assert Parsed.of(ask(pair, discover(TWO)).data).yiaddr == "10.1.0.60"

    def test_tombstone(self) -> None:
        builder = Builder(self.BASE)
        builder.add_tombstone(ALICE)
        pair = self.pair(builder)
        for packet in (discover(ALICE), request(ALICE, requested="10.1.0.50"), request(ALICE, ciaddr="10.1.0.50")):
            assert ask(pair, packet).verdict == V.IGNORED_UNKNOWN_MAC
        assert ask(pair, discover(TWO)).verdict == V.OFFERED

    def test_new_host(self) -> None:
        builder = Builder(self.BASE)
        index = builder.add_template(options=OPTIONS)
        builder.add_host(STRANGER, name=b"new", leases=((ip("10.1.0.200"), 24, index),))
        assert Parsed.of(ask(self.pair(builder), discover(STRANGER)).data).yiaddr == "10.1.0.200"

    def test_quarantine(self) -> None:
        builder = Builder(self.BASE)
        builder.add_host(ALICE, name=b"alice", state=4)
        assert ask(self.pair(builder), discover(ALICE)).verdict == V.IGNORED_QUARANTINED

    def test_surroundings(self) -> None:
        pair = self.pair(Builder(self.BASE), links=((7, ip("10.1.0.2"), 24, 1500, True),))
        assert ask(pair, discover(ALICE)).verdict == V.IGNORED_OTHER_LINK
        reply = ask(pair, discover(ALICE), **broadcast(7, "10.1.0.2"))
        assert (reply.verdict, Parsed.of(reply.data).server_id) == (V.OFFERED, "10.1.0.2")


def test_bmc_rows_are_not_the_host() -> None:
    builder = Builder()
    index = builder.add_template(options=OPTIONS)
    builder.add_host(ALICE, name=b"bmc", leases=((ip("10.1.0.150"), 24, index),), role=1)
    assert ask(table.Pair(generation(builder)), discover(ALICE)).verdict == V.IGNORED_UNKNOWN_MAC
    builder.add_host(ALICE, name=b"alice", leases=((ip("10.1.0.50"), 24, index),))
    assert Parsed.of(ask(table.Pair(generation(builder)), discover(ALICE)).data).yiaddr == "10.1.0.50"


def test_the_id_of_our_own_offer_is_accepted_for_a_second_address() -> None:
    builder = Builder()
    here = builder.add_template(options=OPTIONS)
    there = builder.add_template(options=OPTIONS, server_id=ip("10.99.0.9"))
    builder.add_host(TWO, name=b"two", leases=((ip("10.1.0.60"), 24, here), (ip("10.9.0.60"), 24, there)))
    pair = table.Pair(generation(builder))
    offer = Parsed.of(ask(pair, discover(TWO, giaddr="10.9.0.1"), **via("10.9.0.1")).data)
    assert (offer.yiaddr, offer.server_id) == ("10.9.0.60", "10.99.0.9")
    taken = request(TWO, requested=offer.yiaddr, server_id=offer.server_id, giaddr="10.9.0.1")
    assert ask(pair, taken, **via("10.9.0.1")).verdict == V.ACKED


@pytest.mark.parametrize("hlen", [0, 1, 5])
def test_octets_behind_hlen_are_no_mac(hlen: int) -> None:
    """RFC 2131 section 2: chaddr has hlen octets, the rest is rubbish (RFC 4390: InfiniBand has none)."""
    assert ask(site(), discover(ALICE, htype=32, hlen=hlen)).verdict in (V.IGNORED_UNKNOWN_MAC, V.IGNORED_HARDWARE)


@pytest.mark.parametrize("packet", [discover(THIEF), request(THIEF, requested="10.1.0.1")], ids=["OFFER", "ACK"])
def test_our_own_address_is_never_given_away(packet: bytes) -> None:
    """DESIGN section 1, the first promise: two machines with one address, one of them this server."""
    assert ask(site(), packet).verdict > V.NAKED


def test_a_renewal_that_repeats_its_address_in_option_50() -> None:
    """dhcping does this (dhcping-request.pcap); from behind a router it is a renewal all the same."""
    packet = request(REMOTE, ciaddr="10.9.0.70", requested="10.9.0.70")
    reply = ask(site(), packet, **BEHIND_ROUTER)
    assert (reply.verdict, reply.destination) == (V.ACKED, ip("10.9.0.70"))
