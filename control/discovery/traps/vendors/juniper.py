"""Juniper's JUNIPER-EX-MAC-NOTIFICATION-MIB (1.3.6.1.4.1.2636.3.40.1.7) and JUNIPER-L2ALD-MIB (1.3.6.1.4.1.2636.3.48).

The other traps of JUNIPER-L2ALD-MIB (limits, thresholds, pinning) name no MAC, or no number of the port that it is at.
"""

from __future__ import annotations

import struct

from control.discovery.traps.ber import oid
from control.discovery.traps.notification import Decoder
from control.discovery.traps.vendors.history import LEARNT, UPDATED, History

_LEARNT = frozenset({LEARNT, UPDATED})  # updated: the port of a MAC that was learnt before is another one now

ex_changed = History(  # jnxHistMacChangedMsg: <operation 1><VLAN 2><MAC 6><dot1dBasePort 4>
    oid("1.3.6.1.4.1.2636.3.40.1.7.1.1.1.8.1.2"),
    struct.Struct(">H6sI"),
    lambda vlan, mac, port: (vlan, mac, port),
    _LEARNT,
)
l2ald_changed = History(  # jnxL2aldHistMacChangedMsg: <operation 1><VLAN index 2><MAC 6><dot1dBasePort 2><VLAN tag 2>
    oid("1.3.6.1.4.1.2636.3.48.1.2.1.8.1.2"),
    struct.Struct(">H6sHH"),
    lambda _index, mac, port, vlan: (vlan, mac, port),
    _LEARNT,
)
TRAPS: dict[bytes, Decoder] = {
    oid("1.3.6.1.4.1.2636.3.40.1.7.2.0.1"): ex_changed,
    oid("1.3.6.1.4.1.2636.3.48.1.0.5"): l2ald_changed,
}
