"""Templates of the table: what many hosts share, with a variant for each client class.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import AddressValueError, IPv4Address
from typing import Any, NamedTuple

from ext.builder import TEMPLATE_FLAGS
from ext.classify import ClientClass
from ext.table import OWN_BYTES_MAX

from control.options.rendering import PXELINUX_MAGIC as MAGIC
from control.options.rendering import pxelinux_magic, render
from control.plan.classes import (
    BMC,
    EVERYWHERE,
    NAMES,
    SEPARATOR,
    URL_KEY,
    Client,
    ClientClasses,
    boot_service_manners,
    is_said,
    manners,
    resolve,
)
from control.plan.contexts import ALWAYS_BROADCAST, OVERLOAD, SWITCHES, Context, Merged, Payloads
from control.plan.networks import ROUTER, ROUTES, SUBNET_MASK, BadRecord, Manager, routes_on_link

LEASE_S, RENEWAL_S, REBINDING_S = 3600, 1600, 3150
INFINITE_S = 0xFFFFFFFF
FILE_BYTES_MAX = 127
NO_OVERLOAD, BROADCAST, BOOTS = (TEMPLATE_FLAGS[name] for name in ("no-overload", "broadcast", "boots"))
ON = b"\1"
_SERVER_ID = 54
_LEASE, _RENEWAL, _REBINDING, _TFTP_SERVER, _TFTP_FILENAME, _MAGIC = 51, 58, 59, 66, 67, 208
_TIMES = (_LEASE, _RENEWAL, _REBINDING)
_VENDOR_SPECIFIC, _VENDOR_CLASS, _IPXE = 43, 60, 175
# Fields of the template, or what classes have manners about: in the template wherever the attribute stands.
_APART = {*_TIMES, _SERVER_ID, _TFTP_SERVER, _TFTP_FILENAME, _VENDOR_SPECIFIC, _VENDOR_CLASS, _IPXE}


class Template(NamedTuple):
    """What many hosts share; the fields of ext.builder.Builder.add_template.

    variants: (class, Template) of those that get something else; ClientClass as int, or the name of a site's class."""

    options: bytes
    file: bytes
    siaddr: int
    server_id: int
    lease_s: int
    renewal_s: int
    rebinding_s: int
    flags: int = 0
    variants: tuple[tuple[int | str, Template], ...] = ()

    def fields(self) -> dict[str, Any]:
        """As add_template takes them."""
        return self._asdict() | {"variants": {client: variant.fields() for client, variant in self.variants}}


@dataclass
class OwnAttributes:
    """The `dhcp` attributes of a host itself, split once: what decides about its template, and what goes to it alone.

    said: all of them; shared: the keys that are fields of a template, or said to a class by anybody, so that they stand
    in its template; names_host: option 12 is set, by it or a container; encode: makes `payloads`, and blames."""

    said: Merged
    shared: frozenset[str]
    names_host: bool
    encode: Callable[[], Payloads]

    @cached_property
    def payloads(self) -> Payloads:
        """None: it cannot be sent, which is reported when somebody wants to know."""
        return self.encode()

    def alone(self) -> dict[int, bytes]:
        """By option code: what stands in no template."""
        return {int(key): data for key, data in self.payloads.items() if data is not None and key not in self.shared}


def decides_about_template(identity: str, classed: Collection[str]) -> bool:
    """identity: of an attribute, without its class; classed: those that somebody says to a class."""
    return (
        identity in classed
        or identity == URL_KEY
        or identity in SWITCHES
        or (identity.isdigit() and int(identity) in _APART)
    )


def make_template(
    attributes: OwnAttributes,
    context: Context,
    manager: Manager | None,
    classes: ClientClasses,
    of_bmc: bool = False,
) -> Template:
    """For everybody, and variants for the classes that get something else.  Raises BadRecord.

    of_bmc: for a BMC's row, which gets what is said to BMCs, whatever class its firmware asks as."""
    own, theirs = attributes.said, attributes.payloads
    hidden = {key for key in own if key not in attributes.shared and key.isdigit()}
    made: dict[tuple[int, tuple[tuple[int, bytes], ...]], Template] = {}
    network = manager.payloads if manager is not None else {}
    layers = ({key: theirs.get(key) for key in own if key in attributes.shared}, context.payloads, network)
    subkeys = [values.subkey for values in (*context.merged.values(), *own.values())]
    subkeys += [values.subkey for values in manager.said.values()] if manager is not None else []
    magic = pxelinux_magic(subkeys)
    said_to = classes_said(*layers)
    planned: dict[Client, Template] = {}
    for client in classes.planned(said_to):
        if client is ClientClass.PXE and not said_to & {NAMES[ClientClass.BIOS_PXE], NAMES[ClientClass.PXE]}:
            planned[client] = planned[ClientClass.BIOS_PXE]  # the same manners, and nothing said to either
            continue
        payloads = manager.options() if manager is not None else {}
        chain = (BMC, *classes.chain(client)) if of_bmc else tuple(classes.chain(client))
        said = resolve(chain, layers)
        for key, data in said.items():
            if key.isdigit():
                payloads[int(key)] = data
        url = said.get(URL_KEY)
        flags = flags_of(said)
        if manager is not None:
            manners(classes.firmware(client), payloads, url)
        else:
            boots = boot_service_manners(classes.firmware(client), payloads, url)
            flags |= BROADCAST | (BOOTS if boots else 0)
        if magic and not any(str(_MAGIC) in each for each in (own, context.merged, network)):
            payloads[_MAGIC] = MAGIC
        if manager is not None and manager.is_unnumbered and not is_said(chain, str(ROUTES), (*layers, hidden)):
            router = (theirs if str(ROUTER) in hidden else {}).get(str(ROUTER)) or payloads.get(ROUTER, b"")
            if len(router) >= 4:  # less of it was said as bare octets
                payloads[ROUTES] = routes_on_link(router[:4])
        for key in hidden:  # the host's own options say it; the network itself is right, whatever somebody mistyped
            if theirs.get(key) is not None or int(key) not in (SUBNET_MASK, ROUTER):
                payloads.pop(int(key), None)
        content = (flags, tuple(sorted(payloads.items())))
        if content not in made:
            made[content] = rendered(payloads)._replace(flags=content[0])
        planned[client] = made[content]
    return planned[ClientClass.OS]._replace(variants=differing(planned, classes))


def classes_said(*layers: Mapping[str, object]) -> set[str]:
    """The classes that something is said to."""
    return {key.partition(SEPARATOR)[2] for layer in layers for key in layer if SEPARATOR in key}


def differing(planned: Mapping[Client, Template], classes: ClientClasses) -> tuple[tuple[int | str, Template], ...]:
    """The variants that a table has to be told of (ext.builder.Builder.add_template)."""
    found: list[tuple[int | str, Template]] = []
    for client, template in planned.items():
        wider = ClientClass.OS if client in EVERYWHERE else classes.wider(client, planned)
        if template is not planned[wider]:
            found.append((client if isinstance(client, str) else int(client), template))
    return tuple(found)


def flags_of(said: Mapping[str, bytes]) -> int:
    """Of a template, ext/leases.pxd: TEMPLATE_..."""
    flags = NO_OVERLOAD if said.get(OVERLOAD, ON) != ON else 0
    return flags | (BROADCAST if said.get(ALWAYS_BROADCAST) == ON else 0)


def rendered(payloads: dict[int, bytes]) -> Template:
    """Raises BadRecord for what no table can hold."""
    lease, renewal, rebinding = lease_times(*(payloads.pop(code, None) for code in _TIMES))
    server_id = payloads.pop(_SERVER_ID, b"")
    file = payloads.get(_TFTP_FILENAME, b"").rstrip(b"\0")
    options = render(payloads)
    check_size(options)
    return Template(
        options=options,
        file=file if len(file) <= FILE_BYTES_MAX else b"",
        siaddr=literal_address(payloads.get(_TFTP_SERVER, b"")),
        server_id=int.from_bytes(server_id, "big"),
        lease_s=lease,
        renewal_s=renewal,
        rebinding_s=rebinding,
    )


def check_size(options: bytes) -> None:
    """Raises BadRecord for what no table can hold; no packet could carry it either."""
    if len(options) > OWN_BYTES_MAX:
        raise BadRecord(f"{len(options)} bytes of DHCP options; a host has at most {OWN_BYTES_MAX}", "too-large")


def lease_times(lease: bytes | None, renewal: bytes | None, rebinding: bytes | None) -> tuple[int, int, int]:
    """Seconds.  T1 and T2 that nobody set beside a lease, or that are not below it, are 1/2 and 7/8 of it (RFC 2131
    section 4.4.5); of a lease without end they are without end."""
    lease_s = int.from_bytes(lease, "big") if lease else LEASE_S
    endless = lease_s == INFINITE_S
    default_t1_s, default_t2_s = (lease_s, lease_s) if endless else (lease_s // 2, lease_s * 7 // 8)
    if not lease:
        default_t1_s, default_t2_s = RENEWAL_S, REBINDING_S
    rebinding_s = int.from_bytes(rebinding, "big") if rebinding else default_t2_s
    renewal_s = int.from_bytes(renewal, "big") if renewal else default_t1_s
    if lease and not renewal:
        renewal_s = min(renewal_s, rebinding_s)
    if endless:
        return lease_s, min(renewal_s, rebinding_s), rebinding_s
    if rebinding_s >= lease_s:
        rebinding_s = lease_s * 7 // 8
    if renewal_s >= lease_s or renewal_s > rebinding_s:
        renewal_s = lease_s // 2
    return lease_s, renewal_s, rebinding_s


def literal_address(payload: bytes) -> int:
    """siaddr is an address; a name goes out as option 66 only, for who can resolve it."""
    try:
        return int(IPv4Address(payload.rstrip(b"\0").decode()))
    except (AddressValueError, UnicodeDecodeError):
        return 0
