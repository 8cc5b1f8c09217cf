"""The trap receiver, a process of its own: drains the socket into the queue, reads what is in it, tells control.

Draining goes first and costs microseconds, so that a burst is out of the kernel's buffer before it is read.  A batch
leaves the queue only when control's channel has it: while control is away, the queue fills, then the kernel's buffer,
and what that drops is counted.  Started by the supervisor, which keeps socket, queue and channel.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import socket
import struct
import time
from collections import Counter
from pathlib import Path

from control.config.config import MAX_FILE_BYTES, parse_accepted
from control.discovery.traps.complaints import Complaints
from control.discovery.traps.decoders import known_as
from control.discovery.traps.engine import Clocks
from control.discovery.traps.identity import Identity
from control.discovery.traps.notification import SKIPS
from control.discovery.traps.queue import DROPS, Datagram, TrapQueue
from control.discovery.traps.reader import Reading, TrapReader
from control.discovery.traps.unknown import Pair, oid_text
from control.discovery.trapseen import BATCH_ROWS_MAX, KINDS, Batch, TrapSeen
from fastpath.process.logs import configure_logging, leave
from fastpath.process.loop_turns import show_turns
from fastpath.process.oom import BEFORE_WORKERS, offer
from fastpath.process.turns import Turns
from fastpath.protocol import Accepted, Channel, ChannelClosed, Fds, Listen, Stop, close_all

log = logging.getLogger("bootstorm.traps")

DRAIN_MAX = 1024  # datagrams a turn of the loop
BATCH_MAX = 256  # datagrams that are committed together
BATCH_S = 0.005  # or as many as this time allows
TICK_S = 1.0
SAVE_S = 10.0
_SO_MEMINFO, _MEMINFO = 55, struct.Struct("9I")  # linux/sock_diag.h; the last one counts drops
_IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)
_PKTINFO = struct.Struct("=I4s4s")  # ifindex, the local address to answer from, the destination
_ANCILLARY = socket.CMSG_SPACE(_PKTINFO.size)


class TrapReceiver:
    def __init__(self, channel: Channel, listen: Listen, fds: Fds) -> None:
        config_fd, queue_fd = fds.one("config"), fds.one("queue")
        self.turns = Turns(fds.one("turns")) if fds.perhaps("turns") >= 0 else None
        self.channel = channel
        self.config_path = listen.config_path
        self.udp = socket.socket(fileno=fds.one("udp"))
        self.udp.setblocking(False)
        self.queue = TrapQueue(queue_fd)
        os.close(queue_fd)
        self.control = Channel.of_fd(fds.one("control"), KINDS)
        self.control.sock.setblocking(False)
        self.complaints = Complaints()
        self.identity: Identity | None = None
        try:
            self.identity = Identity(Path(listen.state_dir), time.clock_gettime(time.CLOCK_BOOTTIME))
        except (OSError, ValueError) as fault:
            log.error("no SNMPv3: %s", fault)
        self.saved_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        if not self.queue.open():
            log.error("the queue was laid out by another version: what was in it and the counters are gone")
        self.careful = BATCH_MAX if self.queue.queued else 0  # a predecessor may have died of one of these
        self.reader = self._reader(config_fd)
        self.arrived = asyncio.Event()
        self.draining = False

    def _reader(self, config_fd: int) -> TrapReader:
        """By the configuration in a memfd, which is closed.  Without a lasting identity there is no SNMPv3."""
        text = os.pread(config_fd, MAX_FILE_BYTES, 0)
        snmp = parse_accepted(text, Path(self.config_path))[0].snmp  # what is refused now, control says
        os.close(config_fd)
        if self.identity is not None:
            try:
                boots = self.identity.next_boots()
                return TrapReader(snmp, self.identity.engine_id, boots, self.identity.clocks)
            except OSError as fault:
                log.error("no SNMPv3: %s: %s", self.identity.path, fault.strerror)
        return TrapReader(dataclasses.replace(snmp, users=()), os.urandom(12), 1, Clocks())

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        stopped: asyncio.Future[None] = loop.create_future()
        self.channel.sock.setblocking(False)
        loop.add_reader(self.channel.fileno(), self.on_message, stopped)
        self.drain_on()
        log.info("receiving traps; %d are queued from before", self.queue.queued)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.read_queue(), name="queue")
            group.create_task(self.tick(), name="tick")
            group.create_task(show_turns(self.turns, "traps"), name="turns")
            await stopped
            self.save()
            # The queue keeps what is not committed; nothing else is worth an orderly end.
            leave()

    def on_message(self, stopped: asyncio.Future[None]) -> None:
        try:
            message, fds = self.channel.receive()
        except BlockingIOError:
            return
        except ChannelClosed:
            message, fds = Stop(), Fds()
        if isinstance(message, Stop) and not stopped.done():
            asyncio.get_running_loop().remove_reader(self.channel.fileno())
            stopped.set_result(None)
        elif isinstance(message, Accepted):
            self.reader = self._reader(fds.one("config"))
            log.info("communities, users and proxies are those of the reloaded configuration")
        else:
            close_all(fds)

    # --- socket -> queue ---------------------------------------------------------------------------------------------

    def drain_on(self) -> None:
        if not self.draining:
            self.draining = True
            asyncio.get_running_loop().add_reader(self.udp.fileno(), self.drain)

    def drain(self) -> None:
        """Up to DRAIN_MAX datagrams; a full queue leaves the rest to the kernel until something was committed."""
        queue, udp = self.queue, self.udp
        share = queue.size // 2
        boottime_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        for _turn in range(DRAIN_MAX):
            room = queue.room()
            if room is None:
                self.draining = False
                asyncio.get_running_loop().remove_reader(udp.fileno())
                break
            try:
                length, ancillary, _flags, (address, port) = udp.recvmsg_into([room], _ANCILLARY)
            except BlockingIOError:
                break
            source = int.from_bytes(socket.inet_aton(address), "big")
            if queue.holds(source) > share and not self.reader.forwards(source):
                queue.counts["sender_share"] += 1
                self.complain("sender_share", source)
                continue
            queue.note(boottime_ns, length, source, _destination(ancillary), port)
        queue.publish()
        self.arrived.set()

    # --- queue -> control --------------------------------------------------------------------------------------------

    async def read_queue(self) -> None:
        while True:
            counts: Counter[str] = Counter()
            seen: list[TrapSeen] = []
            replies: list[tuple[Datagram, bytes]] = []
            unknown: Counter[Pair] = Counter()
            if not self.take_batch(counts, seen, replies, unknown):
                self.arrived.clear()
                await self.arrived.wait()
                continue
            await self.tell_control(seen)
            for datagram, reply in replies:
                self.answer(datagram, reply)
            for name, count in counts.items():
                self.queue.counts[name] += count
            self.name(unknown)
            self.queue.commit()
            self.drain_on()
            await asyncio.sleep(0)

    def take_batch(
        self,
        counts: Counter[str],
        seen: list[TrapSeen],
        replies: list[tuple[Datagram, bytes]],
        unknown: Counter[Pair],
    ) -> bool:
        """Read what there is, within bounds; False: nothing."""
        ends_s = time.monotonic() + BATCH_S
        for turn in range(BATCH_MAX):
            alone = self.careful > 0
            if turn and (alone or time.monotonic() > ends_s):
                return True
            given_up = alone and not self.queue.careful()
            datagram = self.queue.take()
            if datagram is None:
                self.careful = 0
                return turn > 0
            self.careful -= alone
            reading = Reading("abandoned") if given_up else self.reader.read(datagram)
            self.count(reading, datagram, counts)
            seen += reading.seen
            if reading.unknown is not None:
                unknown[reading.unknown] += 1
            replies += [(datagram, reply) for reply in reading.replies]
        return True

    def count(self, reading: Reading, datagram: Datagram, counts: Counter[str]) -> None:
        counts[reading.outcome] += 1
        counts["seen"] += len(reading.seen)
        counts.update(reading.skips)
        if reading.outcome in DROPS:
            self.complain(reading.outcome, datagram.source, reading.detail)
        for reason in reading.skips.keys() & SKIPS.keys():
            self.complain(reason, datagram.source)

    def name(self, unknown: Counter[Pair]) -> None:
        """Traps that nobody decodes: counted by sender and OID, and each of these pairs in the log once."""
        now_s = time.monotonic()
        for (source, trap), times in unknown.items():
            if self.queue.unknown.add(source, trap, times):
                sender = socket.inet_ntoa(source.to_bytes(4, "big"))
                what = known_as(oid_text(trap))
                sentence = f"trap {what} from {sender}: no decoder reads it; said once, and counted by ctl status"
                if self.complaints.once((source, trap), sentence, now_s):
                    self.queue.unknown.named(source, trap)

    def complain(self, reason: str, source: int, detail: str = "") -> None:
        sender = socket.inet_ntoa(source.to_bytes(4, "big"))
        words = DROPS.get(reason) or SKIPS[reason]
        sentence = f"trap from {sender} not used: {words}" + (f" [{detail}]" if detail else "")
        self.complaints.note(sender, reason, sentence, time.monotonic())

    async def tell_control(self, seen: list[TrapSeen]) -> None:
        """Waits while the channel is full: control is busy, or being replaced."""
        for at in range(0, len(seen), BATCH_ROWS_MAX):
            batch = Batch.of(seen[at : at + BATCH_ROWS_MAX])
            while True:
                try:
                    self.control.send(batch)
                    break
                except BlockingIOError:
                    await _writable(self.control.fileno())

    def answer(self, datagram: Datagram, reply: bytes) -> None:
        """From the address that the sender knows us by."""
        info = _PKTINFO.pack(0, datagram.destination.to_bytes(4, "big"), bytes(4))
        peer = (socket.inet_ntoa(datagram.source.to_bytes(4, "big")), datagram.source_port)
        try:
            self.udp.sendmsg([reply], [(socket.IPPROTO_IP, _IP_PKTINFO, info)], socket.MSG_DONTWAIT, peer)
        except OSError as fault:
            self.queue.counts["unanswered"] += 1
            self.complaints.note(peer[0], "unanswered", f"cannot answer {peer[0]}: {fault.strerror}", time.monotonic())

    # --- now and then ------------------------------------------------------------------------------------------------

    async def tick(self) -> None:
        while True:
            drops = _MEMINFO.unpack(self.udp.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))[-1]
            if more := drops - self.queue.counts["kernel"]:
                self.queue.counts["kernel"] = drops
                self.queue.publish()
                sentence = f"the kernel dropped {more} traps: its buffer was full"
                self.complaints.note("", "kernel", sentence, time.monotonic())
            if time.clock_gettime(time.CLOCK_BOOTTIME) - self.saved_s > SAVE_S:
                self.save()
            await asyncio.sleep(TICK_S)

    def save(self) -> None:
        self.saved_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        if self.identity is None or not self.identity.clocks.moved:
            return
        try:
            self.identity.save()
        except OSError as fault:
            sentence = f"{self.identity.path}: {fault.strerror}; the clocks of SNMPv3 senders are not kept"
            self.complaints.note("", "save", sentence, time.monotonic())


def _destination(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO) and len(data) >= _PKTINFO.size:
            return int.from_bytes(_PKTINFO.unpack_from(data)[1], "big")
    return 0


async def _writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(fd, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_writer(fd)


def main(fd: int) -> None:
    """The process: one message with everything, then the loop.  fd: its channel to the supervisor."""
    configure_logging()
    offer(BEFORE_WORKERS)
    os.nice(5)  # a burst of traps waits in the queue; machines that ask for addresses, and `ctl status`, do not
    channel = Channel.of_fd(fd)
    listen, fds = channel.receive()
    if not isinstance(listen, Listen):
        raise TypeError(f"traps: the first message is {type(listen).__name__}, wanted Listen")

    async def receive() -> None:
        await TrapReceiver(channel, listen, fds).run()

    asyncio.run(receive())
