"""A datagram -> what it says and why it is believed, or the reason why not.  No sockets, no clock of its own.

Plain v2c traps, nearly all there are in a storm, are read by ber.py; pysnmp reads the rest (engine.py), but only what
may be worth its time: it needs milliseconds where ber.py needs microseconds, and strangers shall not be able to spend
them.  Wherever both could, they come to the same result (tests/control/discovery/traps/test_ber_property.py).
"""

from __future__ import annotations

import socket
import struct
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Network

from control.config.config import Snmp
from control.discovery.traps import ber
from control.discovery.traps.budgets import EngineTime
from control.discovery.traps.decoders import Decoders
from control.discovery.traps.engine import Clocks, Engine
from control.discovery.traps.notification import Notification, Sighting
from control.discovery.traps.queue import Datagram
from control.discovery.trapseen import Port, TrapSeen

ASK_OCTETS_MAX, ASK_BINDINGS_MAX = 2048, 64  # for pysnmp: 64 bindings take it some 15 ms
REPEAT_S = 2.0  # the same news again within it is a loop or a repetition
RECENT_MAX = 16_384
_KINDS = {(ber.V1, ber.TRAP_V1), (ber.V2C, ber.INFORM)}
_FIRST_MULTICAST, _LOOPBACK = 224 << 24, 127


@dataclass(slots=True)
class Reading:
    """outcome: of queue.OUTCOMES; skips: of notification.SKIPS, and "repeated"; replies: for the sender.

    unknown: of a trap that nobody decodes, the switch that is believed to have sent it, and the trap."""

    outcome: str
    seen: list[TrapSeen] = field(default_factory=list)
    skips: Counter[str] = field(default_factory=Counter)
    replies: list[bytes] = field(default_factory=list)
    detail: str = ""
    unknown: tuple[int, bytes] | None = None


class TrapReader:
    """One configuration.  engine_id, boots, clocks: see Engine.  spent_s: the processor's seconds so far."""

    def __init__(
        self,
        snmp: Snmp,
        engine_id: bytes,
        boots: int,
        clocks: Clocks,
        spent_s: Callable[[], float] = time.process_time,
    ) -> None:
        self.engine = Engine(snmp.communities, snmp.users, engine_id, boots, clocks)
        self.believes_somebody = snmp.believes_somebody()
        self.budget = EngineTime()
        self.spent_s = spent_s
        self.decoders = Decoders(snmp.traps)
        self.proxies = [_mask(network) for network in snmp.proxies]
        self.recent: OrderedDict[tuple[str, str], tuple[Sighting, float]] = OrderedDict()

    def forwards(self, source: int) -> bool:
        """Its word for the real sender is believed."""
        return any(source & mask == network for network, mask in self.proxies)

    def read(self, datagram: Datagram) -> Reading:
        """Never raises for what is in the datagram."""
        if not datagram.source_port or not 0 < datagram.source < _FIRST_MULTICAST:
            return Reading("sender")
        forwarded = self.forwards(datagram.source)
        try:
            message = ber.envelope(datagram.content)
            if not self.believes_somebody:
                return Reading("unbelieved")
            if isinstance(message, ber.Secured):
                return self._secured(datagram, message)
            if not self.engine.believes(message.community, forwarded):
                return Reading("community" if self.engine.communities else "unbelieved")
            if (message.version, message.pdu) == (ber.V2C, ber.TRAP_V2):
                return self._notification(datagram, ber.bindings(datagram.content, message))
            if (message.version, message.pdu) not in _KINDS:
                return Reading("pdu")
            if ber.count_bindings(datagram.content, message, ASK_BINDINGS_MAX) > ASK_BINDINGS_MAX:
                return Reading("too_large", detail=f"more than {ASK_BINDINGS_MAX} variable bindings")
        except ber.Malformed as cut:
            return Reading("malformed", detail=str(cut))
        except ber.OtherVersion as other:
            return Reading("version", detail=str(other))
        except ber.Unusual:
            if not self.believes_somebody:
                return Reading("unbelieved")  # else pysnmp is the judge of those
        return self._ask(datagram)

    def _secured(self, datagram: Datagram, message: ber.Secured) -> Reading:
        """No engine id yet: somebody looks for ours, to send an inform (RFC 3414 section 4)."""
        if not self.engine.users or (message.engine_id and (message.user, message.engine_id) not in self.engine.users):
            name = message.user.decode("ascii", "backslashreplace")
            return Reading("user", detail=f"user {name}, engine {message.engine_id.hex() or 'none'}")
        return self._ask(datagram)

    def _ask(self, datagram: Datagram) -> Reading:
        if len(datagram.content) > ASK_OCTETS_MAX:
            return Reading("too_large", detail=f"{len(datagram.content)} octets")
        source, forwarded = datagram.source, self.forwards(datagram.source)
        now_s = datagram.boottime_ns / 1e9  # when it came: what waits in the queue was not paid for by the wait
        if not self.budget.affords(source, now_s, forwards=forwarded):
            return Reading("costly")
        peer, before_s = (_dotted(source), datagram.source_port), self.spent_s()
        taken = self.engine.take(datagram.content, peer, now_s, forwarded=forwarded)
        believed = taken.bindings is not None
        self.budget.spend(source, self.spent_s() - before_s, believed=believed, forwards=forwarded)
        if taken.bindings is None:
            return Reading(taken.reason, replies=taken.replies, detail=taken.detail)
        reading = self._notification(datagram, taken.bindings)
        reading.replies = taken.replies
        return reading

    def _notification(self, datagram: Datagram, bindings: list[ber.Binding]) -> Reading:
        notification = Notification.of(bindings)
        switch = datagram.source
        if self.forwards(switch) and (address := notification.address()):
            if not 0 < address < _FIRST_MULTICAST or address >> 24 == _LOOPBACK:
                return Reading("forwarder", detail=f"snmpTrapAddress {_dotted(address)}")
            switch = address
        found = self.decoders.decode(notification)
        if found is None:
            return Reading("unknown", unknown=(switch, notification.trap))
        reading = Reading("decoded")
        dotted, boottime_s = _dotted(switch), datagram.boottime_ns / 1e9
        for one in found:
            if isinstance(one, str):
                reading.skips[one] += 1
            elif self._repeated(dotted, one, boottime_s):
                reading.skips["repeated"] += 1
            else:
                reading.seen += _seen(dotted, one, boottime_s)
        return reading

    def _repeated(self, switch: str, one: Sighting, boottime_s: float) -> bool:
        """Whether the last that this switch said of the MAC, a moment ago, was the same."""
        before = self.recent.pop((switch, one.mac), None)
        if before is not None and before[0] == one and boottime_s - before[1] < REPEAT_S:
            self.recent[switch, one.mac] = before
            return True
        self.recent[switch, one.mac] = (one, boottime_s)
        if len(self.recent) > RECENT_MAX:
            self.recent.popitem(last=False)
        return False


def _seen(switch: str, one: Sighting, boottime_s: float) -> list[TrapSeen]:
    """What moved is at its new port first and gone from the old one then, so that it is somewhere all the time."""
    at: list[tuple[Port, bool]] = [(one.port, one.learnt)]
    if one.left and one.left != one.port:
        at.append((one.left, False))
    return [
        TrapSeen(switch=switch, mac=one.mac, port=port, vlan=one.vlan, learnt=learnt, boottime_s=boottime_s)
        for port, learnt in at
    ]


def _mask(network: IPv4Network) -> tuple[int, int]:
    return int(network.network_address), int(network.netmask)


def _dotted(address: int) -> str:
    return socket.inet_ntoa(struct.pack("!I", address))
