"""The kernel's drop of strangers: known hosts pass, strangers within a budget, the rest is dropped and counted."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator

import pytest
from ext.builder import Builder
from ext.mac_bloom import KnownMacs
from ext.table import Pair

from fastpath.sockets import bpf, sockets, unknown_mac_filter
from tests.ext.packets import discover, request
from tests.ext.sites import ALICE, STATES, generation, one_host, site
from tests.fastpath.sockets import inside

BUDGET = 3


def known_or_skip() -> int:
    try:
        return unknown_mac_filter.create_known(BUDGET)
    except bpf.BpfFailed as failed:
        pytest.skip(str(failed))


@pytest.fixture
def known() -> Iterator[int]:
    fd = known_or_skip()
    yield fd
    os.close(fd)


@pytest.fixture
def pair(known: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A socket of a lone worker on the loopback, behind the filter, and one that sends to it."""
    with (
        socket.socket(fileno=sockets._open_udp(0, 1, 0, sockets.choose, 1 << 20, known)) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.connect(("127.0.0.1", server.getsockname()[1]))
        server.setblocking(False)
        yield server, client


def passed(pair: tuple[socket.socket, socket.socket], packets: list[bytes]) -> list[bytes]:
    """The loopback delivers before send() returns."""
    server, client = pair
    for packet in packets:
        client.send(packet)
    found = []
    for _ in packets:
        try:
            found.append(server.recv(2048))
        except BlockingIOError:
            break
    return found


def many(count: int) -> list[bytes]:
    dice = random.Random(7)
    return [discover(0x06 << 40 | dice.getrandbits(40)) for _ in range(count)]


def test_nobody_is_dropped_before_the_table_is_there(pair: tuple[socket.socket, socket.socket], known: int) -> None:
    assert len(passed(pair, many(100))) == 100
    assert KnownMacs(known).counts() == {"dropped": 0, "passed": 0}


def test_known_hosts_always_pass_and_strangers_within_a_budget(
    pair: tuple[socket.socket, socket.socket], known: int
) -> None:
    macs = KnownMacs(known)
    macs.follow(one_host())
    mine = [discover(ALICE), request(ALICE, requested="10.1.0.50")] * 50
    assert passed(pair, mine) == mine
    assert macs.counts() == {"dropped": 0, "passed": 0}
    through = len(passed(pair, many(200)))
    assert macs.counts() == {"dropped": 200 - through, "passed": through}, "each is counted once"
    assert BUDGET <= through < 100, "a tick's worth for each tick that this took"


@pytest.mark.parametrize("packet", [b"", b"\1\1\6\0" + bytes(29), discover(0, htype=32, hlen=0)])
def test_what_has_no_ethernet_address_is_no_stranger(
    pair: tuple[socket.socket, socket.socket], known: int, packet: bytes
) -> None:
    KnownMacs(known).follow(one_host())
    assert passed(pair, [packet] * 100) == [packet] * 100


def test_all_that_was_added_is_known(pair: tuple[socket.socket, socket.socket], known: int) -> None:
    """Whatever its state, to the filter as to control; a generation that follows adds to those before."""
    dice = random.Random(11)
    macs = [dice.getrandbits(48) for _ in range(5000)]
    KnownMacs(known).follow(site())
    builder = Builder()
    template = builder.add_template(options=b"")
    for i, mac in enumerate(macs):
        builder.add_host(mac, name=b"one", leases=((0x0A090000 + i, 16, template),))
    again = KnownMacs(known)
    again.follow(Pair(generation(builder)))
    asked = [discover(mac) for mac in (*macs, ALICE, *STATES)]
    assert all(mac in again for mac in macs)
    for some in range(0, len(asked), 100):
        assert passed(pair, asked[some : some + 100]) == asked[some : some + 100]
    others = [dice.getrandbits(48) for _ in range(10_000)]
    assert sum(mac in again for mac in others) <= 10


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_steering_is_the_classic_one(known: int, workers: int) -> None:
    """Of what is not for this host alone, each socket takes its own, by the rule in fastpath/sockets/sockets.py."""
    dice = random.Random(workers)
    programs = [unknown_mac_filter.load_filter(known, index, workers) for index in range(2 * workers)]
    try:
        for _ in range(200):
            mac = dice.choice([dice.getrandbits(48), 0])
            packet = dice.choice(
                [discover(mac), request(mac, requested="10.1.0.50"), discover(mac)[: dice.randrange(60)]]
            )
            frame = b"\xff" * 6 + bytes(6) + b"\x88\xb5" + bytes(8) + packet
            wanted = worker_of(packet, workers)
            taken = [index for index, program in enumerate(programs) if inside.run_once(program, frame)]
            assert taken == [wanted]
    finally:
        for program in programs:
            os.close(program)


def worker_of(packet: bytes, workers: int) -> int:
    if len(packet) < 34:
        return 0
    word = int.from_bytes(packet[30:34], "big") if any(packet[28:34]) else int.from_bytes(packet[4:8], "big")
    worker = ((word * 0x9E3779B1 & 0xFFFFFFFF) >> 16) % workers
    return worker + (workers if len(packet) >= 244 and packet[240:243] == bytes([53, 1, 3]) else 0)
