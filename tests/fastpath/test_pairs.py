"""Which pair of generations the table's age is about, and swapping pairs while signals come."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from ext.builder import Builder, Surroundings
from ext.page import SiteWords, WorkerPage, create_site_page, create_worker_page
from ext.pump import Pump
from ext.table import Generation

from fastpath.protocol import Load, Loaded, Rejected
from tests.ext.packets import REQUEST, ip, message, tlv
from tests.fastpath.test_recording import FIRST_MAC, OneWorker, await_count

REQUESTED = 50


@pytest.fixture(autouse=True)
def _may() -> None:
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0).close()
    except PermissionError:
        pytest.skip("no CAP_NET_RAW for the worker's packet socket; run as root, or inside `unshare -rn`")


@pytest.fixture
def worker() -> Iterator[OneWorker]:
    with closing(OneWorker()) as running:
        yield running


def foreign(number: int) -> bytes:
    """A client that boots with an address of another host's."""
    return message(REQUEST, FIRST_MAC, tlv(REQUESTED, ip("127.1.0.77").to_bytes(4, "big")), xid=number)


def asked(worker: OneWorker, number: int) -> str:
    """The verdict."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        before = worker.page.records_written
        sender.sendto(foreign(number), worker.udp.getsockname())
        await_count(lambda: worker.page.records_written > before)
    return str(worker.page.records(before)[0].verdict)


def test_a_pair_that_was_refused_leaves_the_old_one_of_unknown_age(worker: OneWorker) -> None:
    """Control confirms what it has published; who could not adopt that does not know how old its own is."""
    words = SiteWords(worker.site_fd)
    assert asked(worker, 1) == "IGNORED_NAK_STALE_TABLE", "nobody has confirmed anything"
    words.confirmed_boottime_s = int(time.clock_gettime(time.CLOCK_BOOTTIME))
    assert asked(worker, 2) == "NAKED"
    damaged = os.memfd_create("damaged")
    os.write(damaged, bytes(8192))
    worker.channel.send(Load(generation=2, base=2), {"base": damaged})
    message_, _fds = worker.channel.receive()
    while isinstance(message_, Loaded):  # what it had mapped before
        message_, _fds = worker.channel.receive()
    assert isinstance(message_, Rejected) and message_.generation == 2
    assert asked(worker, 3) == "IGNORED_NAK_STALE_TABLE"
    worker.channel.send(Load(generation=1, base=1), {"base": worker.table_fd})
    deadline, number = time.monotonic() + 30, 4
    while asked(worker, number) != "NAKED":
        assert time.monotonic() < deadline
        number += 1
    os.close(damaged)


def one_host(number: int) -> int:
    builder = Builder()
    builder.add_host(FIRST_MAC, name=b"h", leases=((ip("127.1.0.1"), 8, builder.add_template()),))
    return int(builder.seal(number, Surroundings(), created_s=5))


def test_another_machine_s_base_of_the_same_number_is_adopted(worker: OneWorker) -> None:
    """Of a fleet; each of them counted its own from 1 before.  Theirs knows no link, so that its answers differ."""
    theirs = one_host(1)
    builder = Builder(Generation(theirs))
    builder.add_host(FIRST_MAC + 1, name=b"more", leases=((ip("127.1.0.78"), 8, builder.add_template()),))
    delta = int(builder.seal(9, Surroundings(), created_s=6))
    SiteWords(worker.site_fd).confirmed_boottime_s = int(time.clock_gettime(time.CLOCK_BOOTTIME))
    assert asked(worker, 1) == "NAKED"
    worker.channel.send(Load(generation=1, base=1), {"base": theirs})
    deadline, number = time.monotonic() + 30, 2
    while asked(worker, number) != "IGNORED_NAK_UNKNOWN_LINK":
        assert time.monotonic() < deadline, "it answers from its own base still"
        number += 1
    worker.channel.send(Load(generation=1, base=1), {"base": worker.table_fd})
    worker.channel.send(Load(generation=9, base=1), {"base": theirs, "delta": delta})
    await_count(lambda: worker.page.generation == 9)
    os.close(theirs)
    os.close(delta)


def test_a_signal_does_not_unmap_what_the_loop_still_reads() -> None:
    """load() waits for the loop in a system call that a signal ends early."""
    ends = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    ends.append(socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0))
    for end in ends[:2]:
        end.bind(("127.0.0.1", 0))
    fds = [create_worker_page(0), create_site_page(), os.eventfd(0, os.EFD_NONBLOCK), os.eventfd(0, os.EFD_NONBLOCK)]
    tables = {number: one_host(number) for number in range(1, 9)}
    pump = Pump()
    udp, urgent, packet = (end.fileno() for end in ends)
    pump.assign(udp_fd=udp, urgent_fd=urgent, packet_fd=packet, page_fd=fds[0], site_fd=fds[1], adopted_fd=fds[2],
                bell_fd=fds[3], port=ends[0].getsockname()[1])  # fmt: skip
    loop = threading.Thread(target=pump.run)
    wrong: list[tuple[int, int]] = []

    def load() -> None:
        for turn in range(3000):
            number = 1 + turn % 8
            if (found := pump.load(tables[number])) != number:
                wrong.append((number, found))

    helper = threading.Thread(target=load)
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        loop.start()
        helper.start()
        while helper.is_alive():
            signal.pthread_kill(helper.ident, signal.SIGUSR1)  # type: ignore[arg-type]
            time.sleep(0)
        assert wrong == []
        assert WorkerPage(fds[0]).generation == pump.generation
    finally:
        helper.join()
        pump.stop()
        loop.join()
        signal.signal(signal.SIGUSR1, before)
        for fd in (*fds, *tables.values()):
            os.close(fd)
        for end in ends:
            end.close()
