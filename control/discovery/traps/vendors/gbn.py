"""MAC-NOTIFICATION-MIB of enterprise 13464, whose branch for these switches is called gbn; sold under many names."""

from __future__ import annotations

import struct

from control.discovery.traps.ber import oid
from control.discovery.traps.notification import Decoder
from control.discovery.traps.vendors.history import History

changed = History(  # mnHistMacChangedMsg, which says what cmnHistMacChangedMsg does
    oid("1.3.6.1.4.1.13464.1.2.3.3.1.1.1.8.1.2"), struct.Struct(">H6sH"), lambda vlan, mac, port: (vlan, mac, port)
)
TRAPS: dict[bytes, Decoder] = {oid("1.3.6.1.4.1.13464.1.2.3.3.1.2.0.1"): changed}
