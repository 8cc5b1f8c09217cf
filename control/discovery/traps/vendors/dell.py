"""Dell's DELL-NETWORKING-MAC-NOTIFICATION-MIB (1.3.6.1.4.1.6027.3.28): a MAC a trap, learnt or moved.

The MIB does not say what its port ids count, so they are a numbering of their own, for which the inventory has a map.
"""

from __future__ import annotations

from control.discovery.traps.ber import oid
from control.discovery.traps.notification import Decoder, Found, Notification, Sighting, number_of, octets_of, wrong
from control.discovery.trapseen import PORT_ID, port_text

_ADDRESS, _VLAN, _PORT, _NEW_PORT = (oid(f"1.3.6.1.4.1.6027.3.28.1.{number}") for number in range(2, 6))


def learnt(notification: Notification) -> Found | None:
    """macLearnNotification."""
    return _at(notification, _PORT)


def moved(notification: Notification) -> Found | None:
    """macMoveNotification: from portId to newPortId."""
    return _at(notification, _NEW_PORT, _PORT)


def _at(notification: Notification, *ports: bytes) -> Found | None:
    """ports: the object with the port that it is at; with the one that it left, if it moved."""
    found = notification.scalars(_ADDRESS, _VLAN, *ports)
    if found is None:
        return None
    mac, (vlan, *numbers) = octets_of(found[0]), map(number_of, found[1:])
    at = [number for number in numbers if number is not None]
    if mac is None or vlan is None or len(at) < len(numbers):
        return None
    if reason := next(filter(None, (wrong(mac, vlan, number) for number in at)), ""):
        return iter([reason])
    port, *left = (port_text(PORT_ID, number) for number in at)
    return iter([Sighting(mac.hex(":"), port, vlan, True, left[0] if left else 0)])


# As v2c names them, and as the enterprise and number of a v1 trap make it (RFC 3584 section 3.1): the last but one
# identifier of these is not 0, as SMIv2 would have it.
_BRANCH = "1.3.6.1.4.1.6027.3.28.1.1"
TRAPS: dict[bytes, Decoder] = {
    oid(f"{_BRANCH}.1"): learnt,
    oid(f"{_BRANCH}.0.1"): learnt,
    oid(f"{_BRANCH}.2"): moved,
    oid(f"{_BRANCH}.0.2"): moved,
}
