"""The boot port's sockets: one a worker, steered by chaddr, none where it is taken; the mark of what came by them."""

from __future__ import annotations

import mmap
import os
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from ext.page import INBOX_AT, WORKER_PAGE_BYTES

from fastpath.sockets import sockets
from fastpath.sockets.sockets import is_taken, open_slots
from tests.ext.packets import DISCOVER, message, request, tlv
from tests.fastpath.test_recording import FIRST_MAC, OneWorker, await_count
from tests.ports import free_port

WORKERS = 4


@pytest.fixture
def no_packet_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_open_packet", lambda: os.open("/dev/null", os.O_RDONLY))


@pytest.mark.usefixtures("no_packet_socket")
def test_requests_are_spread_as_those_of_port_67_and_each_is_delivered_once() -> None:
    """Whatever its first option says: there is no socket for urgent ones here."""
    port = free_port()
    slots, fault = open_slots(WORKERS, free_port(), None, boot_port=port)
    assert fault == ""
    ends = [socket.socket(fileno=slot.boot) for slot in slots]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(200):
            sender.sendto(
                request(FIRST_MAC + number) if number % 2 else message(8, FIRST_MAC + number), ("127.0.0.1", port)
            )
    found: list[list[int]] = [[] for _ in ends]
    for end, mine in zip(ends, found, strict=True):
        end.setblocking(False)
        try:
            while True:
                mine.append(int.from_bytes(end.recv(2048)[28:34], "big") - FIRST_MAC)
        except BlockingIOError:
            pass
    assert sorted(number for mine in found for number in mine) == list(range(200))
    assert all(len(mine) > 200 // WORKERS // 3 for mine in found)
    close_all(slots, ends)


@pytest.mark.usefixtures("no_packet_socket")
def test_a_port_that_somebody_has_is_left_to_him_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Also where he would share it, as dnsmasq does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        slots, fault = open_slots(2, free_port(), None, boot_port=port)
        assert [slot.boot for slot in slots] == [-1, -1]
        assert f"UDP port {port} belongs to another program" in fault and fault in caplog.text
    close_all(slots, [])


@pytest.mark.usefixtures("no_packet_socket")
@pytest.mark.parametrize("observe, wanted", [(True, True), (False, False)], ids=["observing", "switched-off"])
def test_it_stays_closed(observe: bool, wanted: bool) -> None:
    """Who observes beside another server must not take that server's port from it."""
    port = free_port()
    slots, fault = open_slots(2, free_port(), None, observe, port if wanted else 0)
    assert (fault, [slot.boot for slot in slots], is_taken(port)) == ("", [-1, -1], False)
    close_all(slots, [])


def close_all(slots: list[sockets.SlotSockets], ends: list[socket.socket]) -> None:
    for end in ends:
        end.close()
    for fd in (fd for slot in slots for fd in (slot.udp, slot.urgent, slot.packet)):
        os.close(fd)


# --- the worker's loop -----------------------------------------------------------------------------------------------


@pytest.fixture
def worker() -> Iterator[OneWorker]:
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0).close()
    except PermissionError:
        pytest.skip("no CAP_NET_RAW for the worker's packet socket; run as root, or inside `unshare -rn`")
    with closing(OneWorker()) as running:
        yield running


def test_an_idle_worker_takes_from_both_ports_and_knows_which(worker: OneWorker) -> None:
    """A DISCOVER: at port 67 an offer, at the boot port nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for round_ in range(1, 4):
            sender.sendto(message(DISCOVER, FIRST_MAC), worker.boot.getsockname())
            sender.sendto(message(DISCOVER, FIRST_MAC), worker.udp.getsockname())
            await_count(lambda round_=round_: worker.page.totals()["rx"] == 2 * round_)  # type: ignore[misc]
            verdicts = worker.page.verdicts()
            assert (verdicts["IGNORED_BOOT_PORT"], verdicts["OFFERED"]) == (round_, round_)


def test_a_busy_worker_takes_from_the_boot_port_as_well(worker: OneWorker) -> None:
    """Every 16th batch begins with what came there; the queue of port 67 is never empty meanwhile."""
    try:
        worker.udp.setsockopt(socket.SOL_SOCKET, sockets.SO_RCVBUFFORCE, 8 << 20)
    except PermissionError:
        pytest.skip("no CAP_NET_ADMIN: the queue is too short to keep a worker busy for 16 batches")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        os.kill(worker.process.pid, signal.SIGSTOP)
        for number in range(64 * 40):
            sender.sendto(message(DISCOVER, FIRST_MAC + number % 50), worker.udp.getsockname())
        for number in range(20):
            sender.sendto(message(DISCOVER, FIRST_MAC + number), worker.boot.getsockname())
        os.kill(worker.process.pid, signal.SIGCONT)
        await_count(lambda: worker.page.verdicts()["IGNORED_BOOT_PORT"] == 20)
    await_count(lambda: worker.page.totals()["rx"] == 64 * 40 + 20)
    places = [record.number for record in worker.page.records(0) if record.at_boot_port]
    assert min(places) < 64 * 39, "only when all others were answered"


@pytest.mark.parametrize("at_boot_port, verdict", [(1, "IGNORED_BOOT_PORT"), (0, "OFFERED")])
def test_what_a_dead_worker_left_is_answered_by_its_own_port(
    worker: OneWorker, at_boot_port: int, verdict: str
) -> None:
    """The page as it is between recvmmsg() and the reply: a length, and how many of the first came to the boot port."""
    packet = message(DISCOVER, FIRST_MAC, tlv(61, b"left behind by the dead"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(packet, worker.udp.getsockname())
        await_count(lambda: worker.page.totals()["rx"] == 1)
    worker.kill()
    with mmap.mmap(worker.page_fd, 0) as page:
        leave(page, packet, at_boot_port)
    worker.start()
    await_count(lambda: worker.page.totals()["recovered"] == 1)
    wanted = {"OFFERED": 1} | {verdict: 2 if verdict == "OFFERED" else 1}
    assert {name: count for name, count in worker.page.verdicts().items() if count} == wanted
    assert [record.at_boot_port for record in worker.page.records(0)] == [False, bool(at_boot_port)]


def leave(page: mmap.mmap, packet: bytes, at_boot_port: int) -> None:
    """ext/page.pxd: the datagram stands in the first buffer; its length at 56 of the inbox; boot_count stands at 64."""
    assert 0 < page.find(packet) < WORKER_PAGE_BYTES
    assert struct.unpack_from("I", page, INBOX_AT + 56) == (0,), "answered"
    struct.pack_into("I", page, INBOX_AT + 56, len(packet))
    struct.pack_into("Q", page, 64, at_boot_port)


def test_control_maps_no_pointer_that_the_kernel_follows(worker: OneWorker) -> None:
    """They stand behind what control and supervisor map: the worker's addresses are in the inbox, and nowhere else."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(message(DISCOVER, FIRST_MAC), worker.udp.getsockname())
        await_count(lambda: worker.page.totals()["rx"] == 1)
    maps = Path(f"/proc/{worker.process.pid}/maps").read_text().splitlines()
    pages = [[int(text, 16) for text in line.split()[0].split("-")] for line in maps if "bootstorm-worker-0" in line]
    first, last = max(pages, key=lambda page: page[1] - page[0])
    with mmap.mmap(worker.page_fd, 0, prot=mmap.PROT_READ) as page:
        words = [word for (word,) in struct.iter_unpack("Q", page[: len(page) // 8 * 8])]
    pointers = [at * 8 for at, word in enumerate(words) if first <= word < last]
    assert len(pointers) == 4 * 64, "name, vector and control data of each header, and each vector's buffer"
    assert min(pointers) >= INBOX_AT >= WORKER_PAGE_BYTES
    ours = [line for line in Path("/proc/self/maps").read_text().splitlines() if "bootstorm-worker-0" in line]
    sizes = [int(end, 16) - int(start, 16) for start, end in (line.split()[0].split("-") for line in ours)]
    assert sizes and max(sizes) <= INBOX_AT
