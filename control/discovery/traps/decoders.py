"""Traps -> MAC addresses: which decoder reads which enterprise's traps, and Cisco's.

A further switch family is a function `(Notification) -> Iterator[Sighting | str] | None` under its OID in DECODERS;
what it yields as text is the reason (SKIPS) why one address was left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from control.discovery.traps.ber import IP_ADDRESS, OCTET_STRING, OID, Binding, oid

SNMP_TRAP_OID = oid("1.3.6.1.6.3.1.1.4.1.0")
SNMP_TRAP_ADDRESS = oid("1.3.6.1.6.3.18.1.3.0")
CISCO_MAC_NOTIFICATION = oid("1.3.6.1.4.1.9.9.215")
_HISTORY_MESSAGE = oid("1.3.6.1.4.1.9.9.215.1.1.8.1.2")  # cmnHistMacChangedMsg; its history index follows
_TUPLE_OCTETS, _END, _LEARNT, _REMOVED = 11, 0, 1, 2
VLAN_MAX = 4094
BROADCAST, NOBODY = b"\xff" * 6, bytes(6)

# Why one address of a trap goes no further -> what that means to a person.
SKIPS = {
    "mac_zero": "a MAC address of zeros",
    "mac_broadcast": "the broadcast MAC address",
    "mac_multicast": "a multicast MAC address",
    "operation": "an operation that is neither learnt nor removed",
    "cut": "a tuple that ends in the middle",
    "vlan": "a VLAN number above 4094",
    "port": "port number 0",
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


@dataclass(frozen=True, slots=True)
class Sighting:
    mac: str
    port: int
    vlan: int
    learnt: bool


Decoder = Callable[[Notification], Iterator[Sighting | str] | None]


def cisco_mac_notification(notification: Notification) -> Iterator[Sighting | str] | None:
    """CISCO-MAC-NOTIFICATION-MIB; None for its other traps (moves, thresholds)."""
    messages = []
    for name, tag, value in notification.bindings:
        if tag == OCTET_STRING and name.startswith(_HISTORY_MESSAGE) and _one_identifier(name[len(_HISTORY_MESSAGE) :]):
            messages.append(value)
    return _tuples(messages) if messages else None


def _one_identifier(octets: bytes) -> bool:
    return bool(octets) and octets[-1] < 0x80 and all(octet >= 0x80 for octet in octets[:-1])


def _tuples(messages: list[bytes]) -> Iterator[Sighting | str]:
    """<operation 1><VLAN 2><MAC 6><dot1dBasePort 2>, big-endian, up to an operation of 0 or the end of the value."""
    for message in messages:
        for at in range(0, len(message), _TUPLE_OCTETS):
            operation = message[at]
            if operation == _END:
                break
            if len(message) - at < _TUPLE_OCTETS:
                yield "cut"
                break
            mac = message[at + 3 : at + 9]
            vlan, port = (
                int.from_bytes(message[at + 1 : at + 3], "big"),
                int.from_bytes(message[at + 9 : at + 11], "big"),
            )
            if reason := _wrong(operation, mac, vlan, port):
                yield reason
            else:
                yield Sighting(mac.hex(":"), port, vlan, operation == _LEARNT)


def _wrong(operation: int, mac: bytes, vlan: int, port: int) -> str:
    if operation not in (_LEARNT, _REMOVED):
        return "operation"
    if mac == NOBODY:
        return "mac_zero"
    if mac == BROADCAST:
        return "mac_broadcast"
    if mac[0] & 1:
        return "mac_multicast"
    if vlan > VLAN_MAX:
        return "vlan"
    return "" if port else "port"


DECODERS: dict[bytes, Decoder] = {CISCO_MAC_NOTIFICATION: cisco_mac_notification}
"""Enterprise OID (content octets) -> who reads what is below it.  The octets of an OID begin with those of its parents,
and of nobody else."""


def decode(notification: Notification) -> Iterator[Sighting | str] | None:
    """What the trap says, or None when nobody knows it."""
    for enterprise, decoder in DECODERS.items():
        if notification.trap.startswith(enterprise):
            return decoder(notification)
    return None
