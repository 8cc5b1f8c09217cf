"""What a decoder gets and gives: a notification, whatever version it came in, and the sightings that it tells of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from control.discovery.traps.ber import INTEGER, IP_ADDRESS, OCTET_STRING, OID, UNSIGNED32, Binding, oid
from control.discovery.trapseen import Port

SNMP_TRAP_OID = oid("1.3.6.1.6.3.1.1.4.1.0")
SNMP_TRAP_ADDRESS = oid("1.3.6.1.6.3.18.1.3.0")
VLAN_MAX = 4094
BRIDGE_PORT_MAX = 65535  # dot1dBasePort of RFC 4188
IF_INDEX_MAX = 2**31 - 1  # InterfaceIndex of RFC 2863
BROADCAST, NOBODY = b"\xff" * 6, bytes(6)

# Why one address of a trap goes no further -> what that means to a person.
SKIPS = {
    "mac_zero": "a MAC address of zeros",
    "mac_broadcast": "the broadcast MAC address",
    "mac_multicast": "a multicast MAC address",
    "operation": "an operation that is neither learnt nor removed",
    "cut": "a tuple that ends in the middle",
    "vlan": "a VLAN number above 4094",
    "port": "port number 0, or one above those that there can be",
    "mac_length": "a MAC address that has not six octets",
    "two_ports": "two ports for one MAC address where there can be one",
}


@dataclass(frozen=True, slots=True)
class Notification:
    """A trap or inform, whatever version it came in.  trap: snmpTrapOID; both in content octets (ber.Binding)."""

    trap: bytes
    bindings: list[Binding]

    @classmethod
    def of(cls, bindings: list[Binding]) -> Notification:
        """trap is empty where the sender names none."""
        trap = next((value for name, tag, value in bindings if name == SNMP_TRAP_OID and tag == OID), b"")
        return cls(trap, bindings)

    def address(self) -> int:
        """snmpTrapAddress (RFC 3584 section 3.1): who sent it first, as a forwarder says; 0 where nobody says."""
        for name, tag, value in self.bindings:
            if name == SNMP_TRAP_ADDRESS and tag == IP_ADDRESS:
                return int.from_bytes(value, "big")
        return 0

    def scalars(self, *names: bytes) -> list[Binding] | None:
        """Of each object its binding, whose name ends in .0; None unless each stands there exactly once."""
        wanted = [name + b"\0" for name in names]
        found: dict[bytes, Binding] = {}
        for binding in self.bindings:
            if binding[0] in wanted:
                if binding[0] in found:
                    return None  # which of the two is meant would be a guess
                found[binding[0]] = binding
        return [found[name] for name in wanted] if len(found) == len(wanted) else None

    def column(self, column: bytes) -> list[tuple[int, Binding]]:
        """Its bindings in a table that one number indexes: that number, and the binding."""
        found = []
        for binding in self.bindings:
            if binding[0].startswith(column):
                index = sole_identifier(binding[0][len(column) :])
                if index is not None:
                    found.append((index, binding))
        return found


@dataclass(frozen=True, slots=True)
class Sighting:
    """learnt: or removed.  left: the port that the MAC was at until then, if the trap says that it moved; else 0.

    vlan 0: the trap does not say which."""

    mac: str
    port: Port
    vlan: int
    learnt: bool
    left: Port = 0


Found = Iterator[Sighting | str]
Decoder = Callable[[Notification], Found | None]
"""What it yields as text is the reason (SKIPS) why one address was left out; None: the trap is not as its MIB says."""


def sole_identifier(octets: bytes) -> int | None:
    """The number that is the whole of these content octets of an OBJECT IDENTIFIER; None: none, or several."""
    if not octets or octets[-1] >= 0x80 or any(octet < 0x80 for octet in octets[:-1]):
        return None
    number = 0
    for octet in octets:
        number = number << 7 | octet & 0x7F
    return number


def number_of(binding: Binding) -> int | None:
    """Of an INTEGER or an Unsigned32; None for any other type."""
    _name, tag, value = binding
    return int.from_bytes(value, "big", signed=tag == INTEGER) if tag in (INTEGER, UNSIGNED32) else None


def octets_of(binding: Binding) -> bytes | None:
    """Of an OCTET STRING; None for any other type."""
    return binding[2] if binding[1] == OCTET_STRING else None


def wrong(mac: bytes, vlan: int, port: int, most: int = BRIDGE_PORT_MAX) -> str:
    """The reason (SKIPS) why this is nobody's place; "" where it may be.  most: of the port's numbering."""
    if len(mac) != len(NOBODY):
        return "mac_length"
    if mac == NOBODY:
        return "mac_zero"
    if mac == BROADCAST:
        return "mac_broadcast"
    if mac[0] & 1:
        return "mac_multicast"
    if not 0 <= vlan <= VLAN_MAX:
        return "vlan"
    return "" if 0 < port <= most else "port"
