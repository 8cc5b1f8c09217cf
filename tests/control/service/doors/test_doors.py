"""Attacks on the doors of a running service, control socket and metrics.bind: `ctl` gets in, control stays small."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest

from control.service.doors import metrics
from control.service.doors.door import Door, Refused
from tests.control.service.doors.test_metrics import write_inventory
from tests.control.serving import Running, may_serve, serving
from tests.ports import free_port

NOBODY = 65534
GROWTH_MAX = 64 << 20
LOG_MAX = 100_000
QUICK_S = 5.0


def memory(pid: int, word: str = "VmHWM") -> int:
    """Bytes; VmHWM is the most there ever was."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{word}:"))


def quickest(running: Running, times: int) -> float:
    """The longest of so many `ctl status`."""
    longest = 0.0
    for _ in range(times):
        since = time.monotonic()
        running.status()
        longest = max(longest, time.monotonic() - since)
    return longest


@pytest.fixture
def _may() -> None:
    may_serve()


@contextmanager
def served(folder: Path, **how: Any) -> Iterator[Running]:
    """The same processes at the end as at the beginning, and not one traceback."""
    with serving(folder, write_inventory(folder), **how) as running:
        running.wait_for(r"generation \d: 2 hosts")
        pid = running.child("run")
        yield running
        assert running.child("run") == pid
        assert not [line for line in running.lines if "Traceback" in line]


# --- the control socket ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_may")
def test_pipelined_requests_that_nobody_reads_cost_nothing(tmp_path: Path) -> None:
    """25 kB of them made 1.9 GB, 412 kB the end of the machine."""
    request = msgpack.packb({"cmd": "status", "args": {}})
    with served(tmp_path) as running:
        running.status()
        pid = running.child("run")
        before = memory(pid)
        peers = [socket.socket(socket.AF_UNIX) for _ in range(10)]
        for peer in peers:
            peer.connect(str(tmp_path / "control.sock"))
            peer.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                peer.send(request * (412_000 // len(request)))
        assert quickest(running, 20) < QUICK_S
        assert memory(pid) - before < GROWTH_MAX
        for peer in peers:
            peer.close()


@pytest.mark.usefixtures("_may")
def test_what_is_nested_and_announced_without_end_costs_nothing(tmp_path: Path) -> None:
    bombs = [b"\x91" * 60_000, b"\xdd\x00\x00\xff\xff" * 500, b"\x81\xa4args" * 8_000, b"\xdf\x00\x00\xff\xff" * 500]
    with served(tmp_path) as running:
        pid = running.child("run")
        before = memory(pid)
        for _ in range(5):
            for bomb in bombs:
                with socket.socket(socket.AF_UNIX) as peer:
                    peer.settimeout(QUICK_S)
                    peer.connect(str(tmp_path / "control.sock"))
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                        peer.sendall(bomb)
                    assert b"no msgpack map" in peer.recv(1 << 16)
        assert quickest(running, 3) < QUICK_S
        assert memory(pid) - before < GROWTH_MAX


def strangers(path: Path, how: str) -> int:
    """A loop of connect as nobody, who may not even execute our Python: a fork.  Its pid."""
    pid = os.fork()
    if pid:
        return pid
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    held: list[socket.socket] = []
    while True:
        peer = socket.socket(socket.AF_UNIX)
        try:
            peer.connect(str(path))
        except OSError:
            continue
        held = [*held[-500:], peer] if how == "hold" else []


@pytest.mark.usefixtures("_may")
@pytest.mark.parametrize("how", ["close", "hold"])
@pytest.mark.parametrize("reader", [False, True], ids=["stranger", "reader"])
def test_loops_of_connect_shut_nobody_out(how: str, reader: bool) -> None:
    """Neither of somebody without any right nor of one who may read."""
    if os.geteuid() != 0:
        pytest.skip("another user's connections take root")
    with tempfile.TemporaryDirectory(prefix="bootstorm-") as name:  # pytest's own folder is closed to others
        folder = Path(name)
        folder.chmod(0o755)
        rights = {"read_uids": [NOBODY] if reader else [NOBODY - 1]}
        with served(folder, control=rights) as running:
            loops = [strangers(folder / "control.sock", how) for _ in range(2)]
            try:
                deadline = time.monotonic() + 30
                while not running.status()["limits"]["control"]["refused"] and time.monotonic() < deadline:
                    time.sleep(0.05)
                assert quickest(running, 30) < QUICK_S
                found = running.status()["limits"]["control"]
            finally:
                for loop in loops:
                    os.kill(loop, signal.SIGKILL)
                    os.waitpid(loop, 0)
        reason = "uid_limit" if reader else "no_right"
        if how == "hold" or not reader:
            assert found["refused"][reason] > 20
        assert sum(map(len, running.lines)) < LOG_MAX


@pytest.mark.usefixtures("_may")
def test_who_is_named_nowhere_cannot_even_connect(tmp_path: Path) -> None:
    with served(tmp_path) as running:
        running.status()
        assert (tmp_path / "control.sock").stat().st_mode & 0o777 == 0o600
    with served(tmp_path, control={"allow_uids": [NOBODY]}) as running:
        running.status()
        assert (tmp_path / "control.sock").stat().st_mode & 0o777 == 0o666


@pytest.mark.usefixtures("_may")
def test_every_command_with_every_nasty_value(tmp_path: Path) -> None:
    """An answer each, a short one where it is an error, and no fault of ours."""
    from control.service.doors.commands import COMMANDS
    from tests.control.service.doors.test_console_limits import NASTY

    with served(tmp_path):
        for name, command in COMMANDS.items():
            for value in NASTY:
                for word in command.arguments or {"none": None}:
                    with socket.socket(socket.AF_UNIX) as peer:
                        peer.settimeout(60)
                        peer.connect(str(tmp_path / "control.sock"))
                        peer.sendall(msgpack.packb({"cmd": name, "args": {word: value}}))
                        unpacker = msgpack.Unpacker(strict_map_key=False)
                        while not (replies := list(unpacker)):
                            unpacker.feed(peer.recv(1 << 16))
                    (reply,) = replies
                    assert reply["ok"] or (len(reply["error"]) < 500 and "internal fault" not in reply["error"]), reply


# --- metrics ---------------------------------------------------------------------------------------------------------


def scraped(port: int) -> bytes:
    """As a scraper does it: refused once, it comes again."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                return bytes(answer.read())
        except OSError:
            assert time.monotonic() < deadline, "the door stays shut"
            time.sleep(0.1)


@pytest.mark.usefixtures("_may")
def test_idle_connections_to_the_metrics_harm_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,100 of them made ctl time out, filled 16 MB of log and the table of descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4_000:
        pytest.skip("needs 4,000 descriptors of its own")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4_000, hard))
    port = free_port()
    peers: list[socket.socket] = []
    try:
        with served(tmp_path, metrics={"bind": f"127.0.0.1:{port}"}) as running:
            for _ in range(1_100):
                peer = socket.socket()
                peers.append(peer)
                peer.settimeout(QUICK_S)
                with contextlib.suppress(TimeoutError, ConnectionResetError):
                    peer.connect(("127.0.0.1", port))
            assert quickest(running, 10) < QUICK_S
            deadline = time.monotonic() + 30
            while (found := running.status()["limits"]["metrics"])["refused"]["all_taken"] <= 500:
                assert time.monotonic() < deadline, found
                time.sleep(0.05)
            assert found["open"] <= metrics.CONNECTIONS_MAX and found["refused"]["all_taken"] > 500
            for peer in peers:
                peer.close()
            assert b"bootstorm_hosts 2.0" in scraped(port)
        assert sum(map(len, running.lines)) < LOG_MAX
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for peer in peers:
            peer.close()


STATUS: dict[str, Any] = {"digest": 1, "mode": "serve", "inventory": "ok", "workers": []}


def health(max_age_s: float | None) -> dict[str, Any]:
    """Ready, unless an age is asked for."""
    return {
        "ready": max_age_s is None,
        "reason": f"wanted {max_age_s:g}" if max_age_s is not None else None,
        "answering": 1,
        "workers": 2,
    }


def asked(*pieces: bytes, pause_s: float = 0.0) -> bytes:
    """What the endpoint says to what comes in pieces."""

    async def status() -> dict[str, Any]:
        return STATUS

    async def run() -> bytes:
        endpoint = metrics.Endpoint(metrics.listen(await metrics.resolve("127.0.0.1", 0)), status, health)
        endpoint.door.open()
        port = endpoint.door.listener.getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answer = b""
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(pause_s)
            answer = await asyncio.wait_for(reader.read(), 30)
        writer.close()
        await endpoint.door.close()
        return answer

    return asyncio.run(run())


@pytest.mark.parametrize(
    "request_, want",
    [
        pytest.param(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 OK", id="get"),
        pytest.param(b"GET /metrics?a HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK", id="query"),
        pytest.param(b"HEAD / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK", id="head"),
        pytest.param(b"POST /metrics HTTP/1.1\r\n\r\n", b"HTTP/1.1 405 ", id="post"),
        pytest.param(b"GET /\x1b[31m HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 ", id="another-place"),
        pytest.param(b"\x16\x03\x01\r\n\r\n", b"HTTP/1.1 400 ", id="TLS"),
        pytest.param(b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", b"HTTP/1.1 431 ", id="long-header"),
    ],
)
def test_the_endpoint_speaks_as_much_http_as_it_needs(request_: bytes, want: bytes) -> None:
    answer = asked(request_)
    assert answer.startswith(want) and b"\x1b" not in answer
    assert (b"bootstorm_inventory" in answer) == (want.endswith(b"OK") and not request_.startswith(b"HEAD"))


@pytest.mark.parametrize(
    "request_, want, body",
    [
        pytest.param(b"GET /healthz HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK", b"ok\n", id="alive"),
        pytest.param(b"GET /readyz HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK", b"ready: 1 of 2 workers answer\n", id="yes"),
        pytest.param(b"HEAD /readyz HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK", b"", id="head"),
        pytest.param(
            b"GET /readyz?max_age=5 HTTP/1.1\r\n\r\n", b"HTTP/1.1 503 Service Unavailable",
            b"not ready: wanted 5\n", id="not-ready",
        ),
        pytest.param(b"HEAD /readyz?max_age=5 HTTP/1.1\r\n\r\n", b"HTTP/1.1 503 ", b"", id="head-not-ready"),
        pytest.param(b"GET /readyz?age=5 HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 ", None, id="misspelt"),
        pytest.param(b"GET /readyz?max_age=nan HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 ", None, id="no-number"),
        pytest.param(b"POST /readyz HTTP/1.1\r\n\r\n", b"HTTP/1.1 405 ", None, id="post"),
        pytest.param(b"GET /readyz/x HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 ", None, id="below"),
    ],
)  # fmt: skip
def test_probes(request_: bytes, want: bytes, body: bytes | None) -> None:
    head, _, said = asked(request_).partition(b"\r\n\r\n")
    assert head.startswith(want) and (body is None or said == body)


def test_the_form_is_the_one_that_the_scraper_asks_for() -> None:
    answer = asked(b"GET /metrics HTTP/1.1\r\naccept: application/openmetrics-text; version=1.0.0\r\n\r\n")
    assert b"application/openmetrics-text" in answer and answer.endswith(b"# EOF\n")


def test_who_drips_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "REQUEST_S", 0.2)
    assert asked(*[b"G"] * 10, pause_s=0.05) == b""


# --- the end of descriptors ------------------------------------------------------------------------------------------


def test_without_descriptors_the_loop_does_not_spin_and_the_log_stays_short(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    turns: list[int] = []

    async def run() -> tuple[dict[str, Any], int]:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "d"))
        listener.listen(64)

        async def serve(sock: socket.socket, _guest: None) -> None:
            await asyncio.get_running_loop().sock_recv(sock, 1)

        door = Door("test", listener, lambda _sock: None, serve)
        door.open()
        peers = [socket.socket(socket.AF_UNIX) for _ in range(40)]
        on_ready = door.on_ready
        door.on_ready = counted(on_ready, turns)  # type: ignore[method-assign]
        door.go_on()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        fillers = [os.open(os.devnull, os.O_RDONLY)]
        while fillers[-1] < (highest := max(map(int, os.listdir("/proc/self/fd")))) - 1:
            fillers.append(os.open(os.devnull, os.O_RDONLY))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 3, hard))
        try:
            for peer in peers:
                peer.setblocking(False)
                peer.connect(str(tmp_path / "d"))
            await asyncio.sleep(1.0)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        found = door.status()
        for peer in peers:
            peer.close()
        for filler in fillers:
            os.close(filler)
        fresh = socket.socket(socket.AF_UNIX)
        fresh.setblocking(False)
        fresh.connect(str(tmp_path / "d"))
        served = door.served
        for _ in range(300):
            if door.served > served:
                break
            await asyncio.sleep(0.01)
        assert door.served > served, "it goes on when there are descriptors again"
        fresh.close()
        await door.close()
        return found, len(turns)

    found, turns_made = asyncio.run(run())
    assert found["refused"]["EMFILE"] >= 1 and turns_made < 50
    assert len([line for line in caplog.messages if "connections refused" in line]) == 1


def counted(on_ready: Callable[[], None], turns: list[int]) -> Callable[[], None]:
    def count() -> None:
        turns.append(1)
        on_ready()

    return count


def test_a_fault_of_ours_in_one_connection_ends_that_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> bytes:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "d"))
        listener.listen(64)

        def admit(_sock: socket.socket) -> None:
            if not caplog.records:
                return
            raise Refused("enough", b"enough")

        async def serve(_sock: socket.socket, _guest: None) -> None:
            raise KeyError("bug")

        door = Door("test", listener, admit, serve)
        door.open()
        first, _writer = await asyncio.open_unix_connection(tmp_path / "d")
        assert await first.read() == b""
        second, _other = await asyncio.open_unix_connection(tmp_path / "d")
        told = await second.read()
        await door.close()
        return told

    assert asyncio.run(run()) == b"enough"
    assert caplog.messages[0] == "test: a connection ended by a fault of ours"
