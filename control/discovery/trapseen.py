"""What a trap says, as the trap receiver hands it to the rest of control: plain values, nothing of SNMP in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgpack


@dataclass(frozen=True, slots=True, kw_only=True)
class TrapSeen:
    """One MAC address that a switch learnt or forgot.

    switch: dotted IPv4 address of the sender that is believed (snmp.proxies); mac: lower case with colons; port:
    dot1dBasePort of BRIDGE-MIB, which is no ifIndex; learnt: False when the switch removed it; boottime_s: seconds of
    CLOCK_BOOTTIME at which the datagram was taken from the socket."""

    switch: str
    mac: str
    port: int
    vlan: int
    learnt: bool
    boottime_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Some of them between the two processes (a fastpath.protocol.Channel).  rows: msgpack, a list of lists of six."""

    rows: bytes

    @classmethod
    def of(cls, seen: Sequence[TrapSeen]) -> Batch:
        rows = [(one.switch, one.mac, one.port, one.vlan, one.learnt, one.boottime_s) for one in seen]
        return cls(rows=msgpack.packb(rows))

    def seen(self) -> list[TrapSeen]:
        return [
            TrapSeen(switch=switch, mac=mac, port=port, vlan=vlan, learnt=learnt, boottime_s=boottime_s)
            for switch, mac, port, vlan, learnt, boottime_s in msgpack.unpackb(self.rows)
        ]


KINDS: dict[str, type] = {"Batch": Batch}
BATCH_ROWS_MAX = 500  # 64 bytes each at most, in a message of fastpath.protocol.MESSAGE_BYTES_MAX
