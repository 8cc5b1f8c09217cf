"""fastpath/supervisor/slot_watch.py: full queues and their peaks, on real sockets; whose heartbeat is shown."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastpath.process.slot_words import SlotWords
from fastpath.process.turns import create_turns
from fastpath.protocol import close_all
from fastpath.sockets.sockets import SlotSockets, queued
from fastpath.supervisor.slot_watch import LOOK_S, PEAK_S, SlotWatch
from tests.fastpath.supervisor.world import World, settled_world


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        yield made


def fill(sock: socket.socket, datagrams: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(datagrams):
            sender.sendto(bytes(300), sock.getsockname())


def test_what_waits_in_a_socket(sock: socket.socket) -> None:
    limit = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    assert queued(sock.fileno()) == (0, limit)
    fill(sock, 20)
    assert 20 * 300 < queued(sock.fileno())[0] < limit
    for _ in range(20):
        sock.recv(1 << 16)
    assert queued(sock.fileno()) == (0, limit)
    assert queued(-1) == (0, 0)


def test_a_peak_is_shown_until_two_windows_are_over(sock: socket.socket) -> None:
    """A storm of a second is over when the next scrape comes."""
    kept: Any = SimpleNamespace(turns=create_turns(), slots=[SlotSockets(-1, sock.fileno(), -1)], generation=1)
    watch, shown = SlotWatch(kept), SlotWords(kept.turns)
    try:
        now_s = 1_000.0
        watch.look(now_s, [])
        fill(sock, 20)
        full = queued(sock.fileno())[0]
        watch.look(now_s + LOOK_S / 2, [])
        assert shown.queues(1)[1]["bytes"] == 0, "not yet time for the next look"
        watch.look(now_s + 2 * LOOK_S, [])
        assert [queue["bytes"] for queue in shown.queues(1)] == [0, full, 0]
        for _ in range(20):
            sock.recv(1 << 16)
        watch.look(now_s + 2 * PEAK_S - 1, [])
        queue = shown.queues(1)[1]
        assert (queue["bytes"], queue["peak_bytes"], queue["limit_bytes"]) == (0, full, queued(sock.fileno())[1])
        watch.look(now_s + 4 * PEAK_S, [])
        assert shown.queues(1)[1]["peak_bytes"] == 0
    finally:
        close_all([kept.turns])


def test_the_heartbeat_of_a_worker_of_another_layout_is_shown(sock: socket.socket) -> None:
    """Control cannot read its page, and the page that the slot has by then is empty."""
    kept: Any = SimpleNamespace(turns=create_turns(), slots=[], generation=1)
    watch, shown = SlotWatch(kept), SlotWords(kept.turns)
    try:
        children: list[Any] = [
            SimpleNamespace(slot=0, head=None),
            SimpleNamespace(slot=1, head=SimpleNamespace(heartbeat_ns=55)),
        ]
        watch.look(1.0, children)
        assert [shown.heartbeat_ns(slot) for slot in range(3)] == [0, 55, 0]
        watch.look(2.0, [])
        assert shown.heartbeat_ns(1) == 0, "it has been replaced"
        kept.generation = 0
        watch.look(3.0, children)
        assert shown.heartbeat_ns(1) == 0, "it has no table to answer from"
    finally:
        close_all([kept.turns])


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with settled_world(tmp_path, monkeypatch) as made:
        yield made


def test_a_running_supervisor_shows_its_queues(world: World) -> None:
    shown = SlotWords(world.supervisor.kept.turns)
    world.until(lambda: len(shown.queues(2)) == 6, "they are shown")
    limits = {queue["queue"]: queue["limit_bytes"] for queue in shown.queues(2)}
    assert limits["plain"] > 0 and limits["urgent"] > 0 and limits["boot"] == 0
