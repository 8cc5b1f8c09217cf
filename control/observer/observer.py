"""The observer, a process of its own while dhcp.mode is observe: the wire -> control/observer/shadow.py -> control and
the log.

It has no privileges, sends nothing to anybody but control, and may die at any moment: what it has counted goes with it.
"""

from __future__ import annotations

import errno
import logging
import os
import selectors
import socket
import struct
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import msgpack
from ext.page import SiteWords
from ext.table import Generation, Pair, TableInvalid

from control.messages.capture import RAW_IP, Datagram, dhcp_of
from control.observer.link import KINDS, Ask, Tally, Told
from control.observer.replay import Replay, Seen
from control.observer.shadow import Shadow
from control.observer.vlans import PACKET_AUXDATA, SOL_PACKET, Vlans, tag_of
from fastpath.process.log_forms import about
from fastpath.process.logs import configure_logging
from fastpath.process.oom import BEFORE_WORKERS, offer
from fastpath.process.turns import Turns
from fastpath.protocol import Channel, ChannelClosed, Fds, Load, Stop, Watch, close_all, memfd

log = logging.getLogger("bootstorm.observer")

NICE = 10  # behind the workers, and behind the server that is watched if it runs here
BATCH = 256  # datagrams between two looks at the channels
DATAGRAM_BYTES_MAX = 2048
TICK_S = 1.0
REPEAT_S = 300.0  # the same difference of the same host: one line in this time
LINES_PER_S, LINES_BURST = 20.0, 200.0
SPOKEN_MAX = 20_000
NAMES_MAX = 4096
TAGGED_MAX = 1000
_STATISTICS = 6
_SO_TIMESTAMPNS = 35


class Observer:
    """channel: from the supervisor; control: to control; tap: where the datagrams come from."""

    def __init__(
        self,
        channel: Channel,
        tap: socket.socket,
        site: SiteWords,
        control: Channel,
        only: list[str],
        turns: Turns | None = None,
    ) -> None:
        self.turns = turns
        self.channel, self.tap, self.site, self.control = channel, tap, site, control
        tap.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)  # here, since an earlier build may have opened it
        self.vlans = Vlans()
        self.tagged: dict[str, int] = {}
        self.only = frozenset(only)
        self.indexes: dict[str, int] = {}
        self.dropped, self.looked_s = 0, time.time()
        self.passed_over = 0
        self.said: dict[str, Any] = {}
        self.log = SparingLog()
        self.shadow = Shadow(self.age_s, self.interface_name, self.log.note)

    def age_s(self) -> int:
        return int(time.clock_gettime(time.CLOCK_BOOTTIME) - self.site.confirmed_boottime_s)

    def interface_name(self, ifindex: int) -> str:
        return next((name for name, index in self.indexes.items() if index == ifindex), f"interface {ifindex}")

    def run(self) -> None:
        """Until Stop, or until the supervisor is gone."""
        for sock in (self.channel.sock, self.control.sock, self.tap):
            sock.setblocking(False)
        selector = selectors.DefaultSelector()
        for end in (self.channel, self.control, self.tap):
            selector.register(end.fileno(), selectors.EVENT_READ)
        told_s = 0.0
        while self.listen():
            if self.turns is not None:
                self.turns.show("observer")
            self.answer_control()
            busy = self.watch()
            now_s = time.monotonic()
            if now_s - told_s >= TICK_S:
                told_s = now_s
                self.tally()
            if not busy:
                self.shadow.expire(time.time())
                selector.select(TICK_S)

    # --- the wire ------------------------------------------------------------------------------------------------

    def watch(self) -> bool:
        """A bounded share of what waits; True when there may be more."""
        for _ in range(BATCH):
            try:
                content, ancillary, _flags, address = self.tap.recvmsg(DATAGRAM_BYTES_MAX, 128)
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno != errno.ENETDOWN:  # an interface went; the next ones are still there
                    raise
                continue
            name = address[0]
            if self.only and name not in self.only:
                self.passed_over += 1
                continue
            arrived_s = arrival_s(ancillary)
            found = dhcp_of(RAW_IP, content, 0, time.time() if arrived_s is None else arrived_s)
            if isinstance(found, Datagram):
                ifindex, vlan = self.place_of(name, ancillary)
                self.shadow.take(
                    Seen(found.time_s, ifindex, found.source, found.source_port, found.destination, found.payload, vlan)
                )
        return True

    def place_of(self, name: str, ancillary: Iterable[tuple[int, int, bytes]]) -> tuple[int, int]:
        """(ifindex, VLAN) of where a datagram was seen; VLAN 0: untagged, or the interface is that of the VLAN."""
        ifindex, tag = self.index_of(name), tag_of(ancillary)
        if tag is None:
            return ifindex, 0
        own = self.vlans.interface_of(ifindex, tag)
        if own is not None:
            self.indexes[own.name] = own.ifindex
            return own.ifindex, 0
        link = f"{name}, VLAN {tag.vlan}"
        if link not in self.tagged:
            if len(self.tagged) >= TAGGED_MAX:
                return ifindex, tag.vlan
            self.tagged[link] = 0
            log.warning(
                "frames on %s carry the tag of VLAN %d, and this machine has no interface for it: where their clients "
                "stand is known from relays and from the other server's replies alone", name, tag.vlan,
            )  # fmt: skip
        self.tagged[link] += 1
        return ifindex, tag.vlan

    def index_of(self, name: str) -> int:
        """Kept: asking costs a system call a datagram.  A renamed or new interface has another name."""
        if name not in self.indexes:
            if len(self.indexes) >= NAMES_MAX:
                self.indexes.clear()
            try:
                self.indexes[name] = socket.if_nametoindex(name)
            except OSError:  # gone since
                return 0
        return self.indexes[name]

    # --- the supervisor ------------------------------------------------------------------------------------------

    def listen(self) -> bool:
        """Take what the supervisor says; False when it is time to go."""
        while True:
            try:
                message, fds = self.channel.receive()
            except BlockingIOError:
                return True
            except ChannelClosed as gone:
                log.error("the supervisor is gone (%s); stopping", gone)
                return False
            if isinstance(message, Stop):
                return False
            if isinstance(message, Load):
                self.adopt(message, fds)
            close_all(fds)

    def adopt(self, message: Load, fds: Fds) -> None:
        try:
            delta = fds.perhaps("delta")
            pair = Pair(Generation(fds.one("base")), Generation(delta) if delta >= 0 else None)
        except (TableInvalid, OSError) as error:
            log.error("generation %d is not adopted: %s", message.generation, error)
            return
        self.indexes.clear()  # with the table come news of the interfaces
        self.vlans.forget()
        self.shadow.replay = Replay(pair)

    # --- control -------------------------------------------------------------------------------------------------

    def totals(self, strict: bool = False) -> dict[str, Any]:
        _received, dropped = struct.unpack("II", self.tap.getsockopt(SOL_PACKET, _STATISTICS, 8))
        if dropped:
            self.dropped += dropped
            self.shadow.lost(self.looked_s, time.time())
        self.looked_s = time.time()
        return self.shadow.totals(strict) | {
            "dropped": self.dropped, "passed_over": self.passed_over, "lines_held_back": self.log.held_back,
            "tagged": dict(self.tagged),
        }  # fmt: skip

    def tally(self) -> None:
        totals = self.totals()
        if totals != self.said:
            with suppress(BlockingIOError, ChannelClosed):  # control is busy, or between two lives: the next one counts
                self.control.send(Tally(totals=totals))
                self.said = totals

    def answer_control(self) -> None:
        while True:
            try:
                message, fds = self.control.receive()
            except (BlockingIOError, ChannelClosed):
                return
            close_all(fds)
            if isinstance(message, Ask):
                told = {"totals": self.totals(message.strict), "hosts": self.hosts(message)}
                try:
                    with memfd("bootstorm-observed", msgpack.packb(told)) as fd:
                        self.control.send(Told(number=message.number), [fd])
                except (BlockingIOError, ChannelClosed) as error:
                    log.warning("control does not take an answer: %s", error)

    def hosts(self, ask: Ask) -> list[dict[str, Any]]:
        if ask.mac is not None:
            return [self.shadow.row(ask.mac, strict=ask.strict)] if ask.mac in self.shadow.hosts else []
        return self.shadow.differing(ask.after, ask.limit, ask.strict)


class SparingLog:
    """One line a host and kind of difference in REPEAT_S, and not more than LINES_PER_S of all."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.spoken: OrderedDict[tuple[str, str], float] = OrderedDict()
        self.budget, self.budget_s = LINES_BURST, clock()
        self.held_back = 0

    def note(self, host: str, kind: str, sentence: str) -> None:
        now_s = self.clock()
        last_s = self.spoken.get((host, kind))
        self.budget = min(LINES_BURST, self.budget + (now_s - self.budget_s) * LINES_PER_S)
        self.budget_s = now_s
        if (last_s is not None and now_s - last_s < REPEAT_S) or self.budget < 1:
            self.held_back += 1
            return
        self.budget -= 1
        self.spoken[host, kind] = now_s
        self.spoken.move_to_end((host, kind))
        while len(self.spoken) > SPOKEN_MAX:
            self.spoken.popitem(last=False)
        log.warning("%s", sentence, extra=about(mac=None if host.startswith("client id ") else host))


def arrival_s(ancillary: Iterable[tuple[int, int, bytes]]) -> float | None:
    """Seconds since 1970 when the kernel saw it; None when it does not say."""
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(content) >= 16:
            seconds, nanoseconds = struct.unpack_from("qq", content)
            return float(seconds) + float(nanoseconds) / 1e9
    return None


def main(fd: int) -> None:
    """The process: one message with everything, then the loop.  fd: its channel to the supervisor."""
    configure_logging()
    offer(BEFORE_WORKERS)
    os.nice(NICE)
    channel = Channel.of_fd(fd)
    watch, fds = channel.receive()
    if not isinstance(watch, Watch):
        raise TypeError(f"observer: the first message is {type(watch).__name__}, wanted Watch")
    words, tap = SiteWords(fds.one("site")), socket.socket(fileno=fds.one("tap"))
    turns = Turns(fds.one("turns")) if fds.perhaps("turns") >= 0 else None
    close_all([fds.one("site"), *fds.all("turns")])
    control = Channel.of_fd(fds.one("control"), KINDS)
    Observer(channel, tap, words, control, watch.interfaces, turns).run()
