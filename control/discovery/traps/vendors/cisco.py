"""Cisco's CISCO-MAC-NOTIFICATION-MIB (1.3.6.1.4.1.9.9.215) and CISCO-PORT-SECURITY-MIB (1.3.6.1.4.1.9.9.315)."""

from __future__ import annotations

import struct

from control.discovery.traps.ber import oid
from control.discovery.traps.notification import (
    IF_INDEX_MAX,
    Decoder,
    Found,
    Notification,
    Sighting,
    number_of,
    octets_of,
    wrong,
)
from control.discovery.traps.vendors.history import History
from control.discovery.trapseen import IF_INDEX, port_text

MAC_NOTIFICATION_MIB = oid("1.3.6.1.4.1.9.9.215")
_MOVE_ADDRESS, _MOVE_VLAN, _MOVE_FROM, _MOVE_TO = (oid(f"1.3.6.1.4.1.9.9.215.1.3.{number}") for number in range(3, 7))
_IF_INDEX = oid("1.3.6.1.2.1.2.2.1.1")
_LAST_ADDRESS, _LAST_VLAN = (oid(f"1.3.6.1.4.1.9.9.315.1.2.1.1.{number}") for number in (10, 18))  # cpsIfSecureLast...

changed = History(  # cmnHistMacChangedMsg: <operation 1><VLAN 2><MAC 6><dot1dBasePort 2>
    oid("1.3.6.1.4.1.9.9.215.1.1.8.1.2"), struct.Struct(">H6sH"), lambda vlan, mac, port: (vlan, mac, port)
)


def moved(notification: Notification) -> Found | None:
    """cmnMacMoveNotification: a MAC left one port for another; both are dot1dBasePorts."""
    found = notification.scalars(_MOVE_ADDRESS, _MOVE_VLAN, _MOVE_FROM, _MOVE_TO)
    if found is None:
        return None
    mac, (vlan, left, port) = octets_of(found[0]), map(number_of, found[1:])
    if mac is None or vlan is None or left is None or port is None:
        return None
    reason = wrong(mac, vlan, left) or wrong(mac, vlan, port)
    return iter([reason or Sighting(mac.hex(":"), port, vlan, True, left)])


def violated(notification: Notification) -> Found | None:
    """cps...Violation: a MAC was heard at an interface that does not admit it; the ifIndex is its row's index."""
    addresses, vlans = notification.column(_LAST_ADDRESS), notification.column(_LAST_VLAN)
    if len(addresses) != 1 or len(vlans) > 1:
        return None
    index, mac = addresses[0][0], octets_of(addresses[0][1])
    vlan = number_of(vlans[0][1]) if vlans else 0  # that of an access port is not named
    if mac is None or vlan is None:
        return None
    others: set[int | None] = {at for at, _row in vlans}
    for at, row in notification.column(_IF_INDEX):
        others |= {at, number_of(row)}
    reason = wrong(mac, vlan, index, IF_INDEX_MAX) or ("two_ports" if others - {index} else "")
    return iter([reason or Sighting(mac.hex(":"), port_text(IF_INDEX, index, refused=True), vlan, True)])


MOVES: dict[bytes, Decoder] = {oid("1.3.6.1.4.1.9.9.215.2.0.2"): moved}
PORT_SECURITY: dict[bytes, Decoder] = {oid(f"1.3.6.1.4.1.9.9.315.0.0.{number}"): violated for number in (1, 2, 3)}
