"""control/discovery/traps/receiver.py and discovery/inbox.py: what happens where something is full, and what dies takes
with it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from control.cli.ctl import render_traps
from control.discovery.inbox import TrapInbox
from control.discovery.traps import receiver as traps
from control.discovery.traps.complaints import LINES_BURST
from control.discovery.traps.queue import CONTENT_MAX, TRIES_MAX, TrapQueue
from control.discovery.traps.receiver import TrapReceiver
from control.discovery.trapseen import TrapSeen
from fastpath.protocol import Channel, Fds, Listen, memfd
from tests.control.discovery.traps.messages import HEAD, message, numbered, told

CONFIG = b'{"snmp": {"communities": ["public"]}}'
WAIT_S = 120.0


class Bench:
    """A receiver without its process: its fds are kept here, as the supervisor keeps them."""

    def __init__(self, folder: Path, queue_bytes: int = 4 << 20, receive_bytes: int = 100_000) -> None:
        self.folder = folder
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.udp.setsockopt(socket.IPPROTO_IP, 8, 1)
        self.udp.bind(("127.0.0.1", 0))
        self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sender.connect(self.udp.getsockname())
        self.queue = os.memfd_create("test-traps")
        os.ftruncate(self.queue, queue_bytes)
        self.ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def receiver(self) -> TrapReceiver:
        """A further one: the last one's successor."""
        ours, _theirs = Channel.pair()
        with memfd("test-config", CONFIG) as config:
            given = {"config": config, "udp": self.udp.fileno(), "queue": self.queue, "control": self.ends[0].fileno()}
            fds = Fds.of({name: os.dup(fd) for name, fd in given.items()})
        return TrapReceiver(ours, Listen(config_path="services.conf", state_dir=str(self.folder)), fds)

    def inbox(self, on_traps: Callable[[list[TrapSeen]], None]) -> TrapInbox:
        return TrapInbox(os.dup(self.queue), os.dup(self.ends[1].fileno()), on_traps)

    def counters(self) -> dict[str, int]:
        return TrapQueue(self.queue).counters()


async def running(
    receiver: TrapReceiver, until: Callable[[], bool], then: tuple[Callable[[], None], Callable[[], bool]] | None = None
) -> None:
    """Its tasks, until something is so (then do something, and until something else is); bounded."""
    receiver.drain_on()
    tasks = [asyncio.ensure_future(one) for one in (receiver.read_queue(), receiver.tick())]
    try:
        async with asyncio.timeout(WAIT_S):
            while not until():
                assert not any(task.done() for task in tasks), tasks
                await asyncio.sleep(0)
            if then is not None:
                then[0]()
                while not then[1]():
                    assert not any(task.done() for task in tasks), tasks
                    await asyncio.sleep(0)
    finally:
        for task in tasks:
            task.cancel()


def test_what_the_kernel_drops_is_counted(tmp_path: Path) -> None:
    bench = Bench(tmp_path, receive_bytes=20_000)
    for number in range(500):
        bench.sender.send(numbered(number))
    asyncio.run(running(bench.receiver(), lambda: bench.counters()["received"] + bench.counters()["kernel"] == 500))
    found = bench.counters()
    assert 0 < found["kernel"] < 500 and found["decoded"] + found["queued"] == found["received"]


def test_control_does_not_listen_and_nothing_is_lost(tmp_path: Path) -> None:
    """The channel fills, then the queue, then the kernel's buffer; then control is back."""
    bench, total, seen = Bench(tmp_path, queue_bytes=8192 + 3 * (CONTENT_MAX + 64)), 5000, list[TrapSeen]()

    async def both() -> None:
        receiver, sent = bench.receiver(), 0

        def blocked() -> bool:
            """One datagram a turn of the loop, so that none has to wait in the kernel before the queue is full."""
            nonlocal sent
            bench.sender.send(numbered(sent))
            sent += 1
            return not receiver.draining

        def through() -> bool:
            nonlocal sent
            if sent < total:
                bench.sender.send(numbered(sent))
                sent += 1
            return len(seen) >= total

        def back() -> None:
            assert receiver.queue.room() is None and bench.counters()["queued"] > 0 and sent < total
            bench.inbox(seen.extend).watch()

        await running(receiver, blocked, then=(back, through))

    asyncio.run(both())
    assert bench.counters()["kernel"] == 0
    assert {one.mac for one in seen} == {f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}" for number in range(total)}


def test_one_sender_leaves_half_of_the_queue_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, queue_bytes=8192 + 8 * (CONTENT_MAX + 64))
    receiver = bench.receiver()
    monkeypatch.setattr(receiver, "drain_on", lambda: None)
    for _turn in range(10):
        bench.sender.send(bytes(60_000))
        receiver.drain()
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other.bind(("127.0.0.2", 0))
    other.sendto(numbered(1), bench.udp.getsockname())
    receiver.drain()
    found = bench.counters()
    assert (found["queued"], found["sender_share"], found["received"]) == (6, 5, 11)


def test_a_trap_that_ends_receivers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first falls among others, those after it read one at a time: the others come through, once or twice."""
    bench, poison = Bench(tmp_path), numbered(3)
    for number in range(6):
        bench.sender.send(numbered(number))
    read = traps.TrapReader.read

    def deadly(reader: traps.TrapReader, datagram: traps.Datagram) -> traps.Reading:
        if datagram.content == poison:
            raise SystemExit
        return read(reader, datagram)

    monkeypatch.setattr(traps.TrapReader, "read", deadly)
    seen: list[str] = []
    lives = 0

    async def live() -> None:
        bench.inbox(lambda batch: seen.extend(one.mac for one in batch)).watch()
        await running(bench.receiver(), lambda: bench.counters()["decoded"] == 5 and len(set(seen)) == 5)

    while lives < 10:
        lives += 1
        try:
            asyncio.run(live())
            break
        except SystemExit:
            continue
    found = bench.counters()
    assert (found["abandoned"], found["decoded"], found["received"]) == (1, 5, 6)
    assert lives <= TRIES_MAX + 2
    assert poison[-9:] not in seen and len(set(seen)) == 5


def test_without_a_state_folder_there_is_no_v3(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(tmp_path / "missing")
    receiver = bench.receiver()
    assert "no SNMPv3" in caplog.text and receiver.reader.engine.users == set()
    bench.sender.send(numbered(1))
    asyncio.run(running(receiver, lambda: bench.counters()["decoded"] == 1))


def test_what_nobody_decodes_is_named_once_by_oid_and_sender(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also by a successor, in the status and in its text; others than the first are counted only."""
    bench, link_up = Bench(tmp_path), "1.3.6.1.6.3.1.1.5.4"
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other.bind(("127.0.0.2", 0))

    def send(times: int) -> None:
        for _turn in range(times):
            bench.sender.send(told(link_up))
        bench.sender.send(told("1.3.6.1.4.1.99999.1", form="v1"))
        other.sendto(told(link_up), bench.udp.getsockname())

    with caplog.at_level(logging.WARNING):
        send(3)
        asyncio.run(running(bench.receiver(), lambda: bench.counters()["unknown"] == 5))
        send(1)
        asyncio.run(running(bench.receiver(), lambda: bench.counters()["unknown"] == 8))
    said = sorted(record.getMessage() for record in caplog.records if "no decoder reads it" in record.getMessage())
    assert said == [
        f"trap {trap} from {sender}: no decoder reads it; said once, and counted by ctl status"
        for trap, sender in (
            ("1.3.6.1.4.1.99999.0.1", "127.0.0.1"),
            (f"{link_up} (linkUp)", "127.0.0.1"),
            (f"{link_up} (linkUp)", "127.0.0.2"),
        )
    ]
    status = bench.inbox(lambda _batch: None).status()
    assert status["unknown"] == 8
    assert [(row["trap"], row["name"], row["sender"], row["count"]) for row in status["unknown_traps"]] == [
        (link_up, "linkUp", "127.0.0.1", 4),
        ("1.3.6.1.4.1.99999.0.1", None, "127.0.0.1", 2),
        (link_up, "linkUp", "127.0.0.2", 2),
    ]
    lines = render_traps(status)
    assert f"{4:>14,}  unknown: {link_up} (linkUp) from 127.0.0.1" in lines
    status["unknown_traps"] *= 5
    assert render_traps(status)[-1] == f"{'':>14}  and 5 more: ctl status --json"


def test_only_who_is_believed_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(tmp_path)
    bench.sender.send(message(*HEAD, community=b"stranger"))
    asyncio.run(running(bench.receiver(), lambda: bench.counters()["community"] == 1))
    assert bench.inbox(lambda _batch: None).status()["unknown_traps"] == [] and "no decoder" not in caplog.text


def test_flooded_with_unknown_traps_the_log_and_the_table_stay_small(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench, total = Bench(tmp_path, receive_bytes=1 << 20), 400
    for number in range(total):
        bench.sender.send(told(f"1.3.6.1.4.1.99999.{number}"))
    with caplog.at_level(logging.WARNING):
        asyncio.run(running(bench.receiver(), lambda: bench.counters()["unknown"] == total))
    lines = [record for record in caplog.records if "no decoder reads it" in record.getMessage()]
    rows = bench.inbox(lambda _batch: None).status()["unknown_traps"]
    assert LINES_BURST <= len(lines) < LINES_BURST + 5 * WAIT_S and 100 < len(rows) < total
    assert {row["count"] for row in rows} == {1}
