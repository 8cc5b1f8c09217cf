"""How long requests wait and take, as a real worker's page has it: idle, stopped, dead, and busy."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from ext.page import LATENCY_BOUNDS_S

from fastpath.sockets.sockets import SO_RCVBUFFORCE
from tests.ext.packets import DISCOVER, message
from tests.fastpath.test_recording import FIRST_MAC, HOSTS, OneWorker, await_count

SO_TIMESTAMPNS = 35
STOPPED_S = 0.3
BATCH = 64


@pytest.fixture
def worker() -> Iterator[OneWorker]:
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0).close()
    except PermissionError:
        pytest.skip("no CAP_NET_RAW for the worker's packet socket; run as root, or inside `unshare -rn`")
    with closing(OneWorker()) as running:
        yield running


def send(worker: OneWorker, count: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(count):
            sender.sendto(message(DISCOVER, FIRST_MAC + number % HOSTS), worker.udp.getsockname())


def counts(worker: OneWorker, name: str) -> dict[float, int]:
    """Bound in seconds -> how many were within it, and not within the one before."""
    found = worker.page.latency()[name]["counts"]
    return {bound: count for bound, count in zip((*LATENCY_BOUNDS_S, float("inf")), found, strict=True) if count}


def bound_of(seconds: float) -> float:
    return next((bound for bound in LATENCY_BOUNDS_S if seconds <= bound), float("inf"))


def more(now: dict[float, int], before: dict[float, int]) -> dict[float, int]:
    return {bound: count - before.get(bound, 0) for bound, count in now.items() if count != before.get(bound)}


def await_answers(worker: OneWorker, count: int) -> None:
    """What is counted last."""
    await_count(lambda: sum(worker.page.latency()["answer"]["counts"]) >= count)


def stands_still(seconds: float) -> None:
    """Time goes by, which is what is measured here."""
    until_s = time.monotonic() + seconds
    await_count(lambda: time.monotonic() >= until_s)


def test_an_idle_worker(worker: OneWorker) -> None:
    for number in range(1, 4):
        begun_s = time.monotonic()
        send(worker, 1)
        await_answers(worker, number)
        most_s = bound_of(time.monotonic() - begun_s)
        for name in ("wait", "answer"):
            assert sum(counts(worker, name).values()) == number
            assert 0 < worker.page.latency()[name]["sum_ns"] / 1e9 <= number * LATENCY_BOUNDS_S[-1]
        assert min(counts(worker, "wait")) <= most_s and min(counts(worker, "answer")) <= most_s
    assert worker.udp.getsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS) == 1


def test_what_waits_for_a_stopped_worker_is_in_its_bucket(worker: OneWorker) -> None:
    """More than one batch, and all of it came at once."""
    send(worker, 1)
    await_answers(worker, 1)
    before = counts(worker, "wait")
    os.kill(worker.process.pid, signal.SIGSTOP)
    begun_s = time.monotonic()
    send(worker, BATCH + 20)
    stands_still(STOPPED_S)
    os.kill(worker.process.pid, signal.SIGCONT)
    await_answers(worker, 1 + BATCH + 20)
    most_s = time.monotonic() - begun_s
    waits = more(counts(worker, "wait"), before)
    assert sum(waits.values()) == BATCH + 20
    assert bound_of(STOPPED_S) <= min(waits) and max(waits) <= bound_of(most_s)
    assert sum(count for bound, count in counts(worker, "answer").items() if bound < STOPPED_S) >= BATCH // 2, (
        "that they waited is no time of the worker's"
    )


def test_what_waited_for_a_successor_has_waited(worker: OneWorker) -> None:
    send(worker, 1)
    await_answers(worker, 1)
    before = counts(worker, "wait")
    worker.kill()
    begun_s = time.monotonic()
    send(worker, BATCH + 20)
    stands_still(STOPPED_S)
    worker.start()
    await_answers(worker, 1 + BATCH + 20)
    most_s = time.monotonic() - begun_s
    waits = more(counts(worker, "wait"), before)
    assert sum(waits.values()) == BATCH + 20
    assert bound_of(STOPPED_S) <= min(waits) and max(waits) <= bound_of(most_s)


def test_every_request_of_a_busy_worker_is_in_some_bucket(worker: OneWorker) -> None:
    """It does not sleep for many batches, so its sockets stamp in part of them only."""
    try:
        worker.udp.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
    except PermissionError:
        pytest.skip("no CAP_NET_ADMIN: the queue is too short to keep a worker busy for many batches")
    os.kill(worker.process.pid, signal.SIGSTOP)
    begun_s = time.monotonic()
    total = BATCH * 100
    send(worker, total)
    os.kill(worker.process.pid, signal.SIGCONT)
    await_answers(worker, total)
    most_s = time.monotonic() - begun_s
    for name in ("wait", "answer"):
        assert sum(counts(worker, name).values()) == total and max(counts(worker, name)) <= bound_of(most_s)
        assert worker.page.latency()[name]["sum_ns"] / 1e9 < total * most_s
