"""The flight recorder between two processes: a worker writes, this one reads, every record is whole."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from ext.builder import Builder, Surroundings
from ext.page import EVENTS_KEPT, RECORDS_KEPT, Recorded, WorkerPage, create_site_page, create_worker_page
from ext.sighted import Sighted

from control.messages.dissect import dissect
from fastpath.protocol import Assign, Channel, Load, Ready, Stop
from tests.ext.packets import DECLINE, DISCOVER, REQUEST, ip, message, tlv

HOSTS, BURST, ROUNDS = 64, 256, 60
FIRST_MAC = 0x020000000100
LIMIT_S = 60.0
CLIENT_ID = 61


def table() -> int:
    builder = Builder()
    template = builder.add_template(options=tlv(1, "255.0.0.0"))
    for host in range(HOSTS):
        builder.add_host(FIRST_MAC + host, name=b"h", leases=((ip("127.1.0.1") + host, 8, template),))
    around = Surroundings(
        networks=((ip("127.0.0.0"), ip("127.255.255.255")),), links=((1, ip("127.0.0.1"), 8, 65535, True),)
    )
    return builder.seal(1, around, created_s=5)


class OneWorker:
    """A real worker process on a UDP socket of the loopback interface; this process is its supervisor."""

    def __init__(self) -> None:
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
        self.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.udp.bind(("127.0.0.1", 0))
        self.urgent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # nobody sends to it
        self.boot = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.boot.setsockopt(socket.IPPROTO_IP, 8, 1)
        self.boot.bind(("127.0.0.1", 0))
        self.packet = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        self.page_fd, self.site_fd, self.table_fd = create_worker_page(0), create_site_page(), table()
        self.bells = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2)]
        self.page = WorkerPage(self.page_fd)
        self.start()

    def start(self) -> None:
        """With whatever the last one left in the page."""
        self.channel, theirs = Channel.pair()
        argv = [sys.executable, "-P", "-m", "fastpath", "worker", str(theirs.fileno())]
        self.process = subprocess.Popen(argv, pass_fds=[theirs.fileno()])
        theirs.close()
        self.channel.sock.settimeout(LIMIT_S)
        assert isinstance(self.channel.receive()[0], Ready)
        self.channel.send(Load(generation=1, base=1), {"base": self.table_fd})
        fds = {
            "udp": self.udp.fileno(),
            "urgent": self.urgent.fileno(),
            "packet": self.packet.fileno(),
            "boot": self.boot.fileno(),
            "page": self.page_fd,
            "site": self.site_fd,
            "adopted": self.bells[0],
            "events": self.bells[1],
        }
        port, boot_port = self.udp.getsockname()[1], self.boot.getsockname()[1]
        self.channel.send(Assign(slot=0, port=port, boot_port=boot_port), fds)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.channel.close()

    def close(self) -> None:
        self.channel.send(Stop())
        try:
            self.process.wait(LIMIT_S)
        finally:
            self.process.kill()
            self.process.wait()
            for end in (self.udp, self.urgent, self.boot, self.packet, self.channel.sock):
                end.close()
            for fd in (self.page_fd, self.site_fd, self.table_fd, *self.bells):
                os.close(fd)


def await_count(reached: Callable[[], bool]) -> None:
    """Yields the CPU meanwhile: the worker needs it."""
    deadline = time.monotonic() + LIMIT_S
    while not reached():
        assert time.monotonic() < deadline, f"not within {LIMIT_S:g} s"
        os.sched_yield()


@pytest.fixture
def worker() -> Iterator[OneWorker]:
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0).close()
    except PermissionError:
        pytest.skip("no CAP_NET_RAW for the worker's packet socket; run as root, or inside `unshare -rn`")
    with closing(OneWorker()) as running:
        yield running


def datagram(number: int) -> bytes:
    """Its number stands at the beginning and, in the client id that a reply repeats (RFC 6842), at the end."""
    client_id = b"\0" + number.to_bytes(4, "big") * 40
    return message(DISCOVER, FIRST_MAC + number % HOSTS, tlv(CLIENT_ID, client_id), xid=number)


def must_be_whole(record: Recorded) -> int:
    """Both halves are of one exchange; its number."""
    request, reply = dissect(record.request), dissect(record.reply)
    assert request is not None and reply is not None, record
    assert record.verdict == "OFFERED" and record.sent
    assert (reply.xid, reply.chaddr) == (request.xid, request.chaddr)
    assert record.request == datagram(request.xid), "a record of two requests"
    assert reply.options[CLIENT_ID] == request.options[CLIENT_ID], "a record of two replies"
    assert record.reply_destination == ip("127.1.0.1") + request.xid % HOSTS
    return request.xid


def test_a_reader_sees_whole_records_while_a_worker_writes(worker: OneWorker) -> None:
    target, total = worker.udp.getsockname(), BURST * ROUNDS
    done = threading.Event()

    def send() -> None:
        """In bursts that the socket's queue holds, so that every datagram becomes a record."""
        deadline = time.monotonic() + LIMIT_S
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for first in range(0, total, BURST):
                while worker.page.records_written < first - BURST and time.monotonic() < deadline:
                    os.sched_yield()
                for number in range(first, first + BURST):
                    sender.sendto(datagram(number), target)
        done.set()

    thread = threading.Thread(target=send)
    thread.start()
    read, while_writing, deadline = 0, 0, time.monotonic() + LIMIT_S
    while worker.page.records_written < total and time.monotonic() < deadline:
        before = worker.page.records_written
        found = worker.page.records(max(0, before - RECORDS_KEPT))
        while_writing += worker.page.records_written > before
        numbers = [record.number for record in found]
        assert numbers == sorted(set(numbers))
        for record in (
            found[:BURST] + found[-BURST:]
        ):  # the oldest are the next to be overwritten, the newest just written
            assert must_be_whole(record) == record.number
            read += 1
    thread.join(LIMIT_S)
    assert done.is_set() and worker.page.records_written == total == worker.page.totals()["rx"]
    assert read > BURST and while_writing > 0, "nothing was read while the worker wrote"
    last = worker.page.records(0)
    assert [record.number for record in last] == list(range(total - RECORDS_KEPT, total))
    assert [must_be_whole(record) for record in last] == [record.number for record in last]


def test_a_datagram_longer_than_a_record_keeps_its_beginning_and_says_its_length(worker: OneWorker) -> None:
    long = datagram(7)[:-1] + tlv(43, bytes(250)) * 3 + b"\xff"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(long, worker.udp.getsockname())
        sender.sendto(b"x", worker.udp.getsockname())
    deadline = time.monotonic() + LIMIT_S
    while worker.page.records_written < 2 and time.monotonic() < deadline:
        os.sched_yield()
    whole, junk = worker.page.records(0)
    assert (whole.request, whole.request_bytes, whole.verdict) == (long[:640], len(long), "OFFERED")
    assert (junk.request, junk.verdict, junk.route, junk.reply) == (b"x", "IGNORED_SHORT", "", b"")


def test_a_flood_of_strangers_takes_no_host_s_place_in_recorder_and_ring(worker: OneWorker) -> None:
    """2,000 a second pushed a DECLINE out of the recorder within a second, and the ring had no room for it."""
    strangers, target = 6_000, worker.udp.getsockname()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(datagram(0), target)
        for number in range(strangers):
            if number % BURST == 0:
                await_count(lambda sent=number: worker.page.totals()["rx"] >= sent - BURST)  # type: ignore[misc]
            sender.sendto(message(DISCOVER, 0x00AA00000000 + number), target)
        await_count(lambda: worker.page.totals()["rx"] == strangers + 1)
        declined = message(DECLINE, FIRST_MAC, tlv(50, "127.1.0.1") + tlv(54, "127.0.0.1"))
        sender.sendto(declined, target)
    await_count(lambda: worker.page.totals()["rx"] == strangers + 2)
    records = worker.page.records(0)
    assert (records[0].request, records[-1].request) == (datagram(0), declined), "before and behind them"
    assert records[-1].verdict == "NOTED_DECLINE"
    assert len(records) + worker.page.totals()["records_left_out"] == strangers + 2
    assert len(records) < 256 + 2 + 8 * LIMIT_S
    events = worker.page.drain()
    assert events[-1]["verdict"] == "NOTED_DECLINE" and len(events) == EVENTS_KEPT // 2 + 1
    assert worker.page.totals()["events_lost"] == strangers - EVENTS_KEPT // 2


def test_who_reads_the_ring_is_given_what_concerns_a_second_machine(worker: OneWorker) -> None:
    """Ten machines that say nothing new are heard and not told; a golden image, a loop and a refusal are."""
    sighted = Sighted()
    golden = tlv(CLIENT_ID, b"\0golden-image")

    def asks(number: int, options: bytes = b"", rounds: int = 1) -> None:
        for _ in range(rounds):
            wanted = tlv(50, socket.inet_ntoa((ip("127.1.0.1") + number).to_bytes(4, "big"))) + options
            sent.append(message(REQUEST, FIRST_MAC + number, wanted, xid=len(sent) + 1))
            sender.sendto(sent[-1], worker.udp.getsockname())

    sent: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(10):
            asks(number)
        asks(10, golden)
        asks(11, golden)
        asks(HOSTS)
        asks(12, tlv(60, b"PXEClient:Arch:00000:UNDI:002001"), rounds=4)
        await_count(lambda: worker.page.totals()["rx"] == len(sent))
    told = worker.page.drain(EVENTS_KEPT, sighted, False)
    macs = [int(event["mac"].replace(":", ""), 16) - FIRST_MAC for event in told]
    assert macs == [11, HOSTS, 12] and sighted.machines == 13
    clone, stranger, loop = told
    assert clone["news"].same == b"\0golden-image" and (stranger["verdict"], stranger["news"]) == (
        "IGNORED_UNKNOWN_MAC",
        None,
    )
    assert (loop["repeats"], loop["news"]) == (4, None)
    assert worker.page.drain(EVENTS_KEPT, sighted, False) == []
