"""A service that says what a test wants, and a board of it."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack

from control.board.figures import PROGRESS
from tests.control.board.asking import Board, boarding, opened
from tests.control.cli.test_ctl import STATUS
from tests.ports import free_port

GROUP = dict.fromkeys(PROGRESS, 1) | {"stages": {"rom-asked": 1}}
HEALTH = {"ready": True, "reason": None, "answering": 1, "workers": 1}


def status(**more: Any) -> dict[str, Any]:
    return STATUS | {
        "doubts": [], "restarts": {}, "lookups": {}, "health": HEALTH, "other_servers": {}, "mode": "serve",
        "version": "1", "build": "b", "control_up_s": 1.0, "fault_kinds": {}, "strangers": {},
        "losses": {"udp_rcvbuf_errors": 0, "queues": []}, "refresh": STATUS["refresh"] | {"interval_s": 300.0},
        "workers": [STATUS["workers"][0] | {"heartbeat_age_s": 0.1}],
    } | more  # fmt: skip


def overview(**more: Any) -> dict[str, Any]:
    return {
        "since_s": 1, "now_s": int(time.time()), "generation": 1, "cut": {},
        "totals": {"states": {"served": dict.fromkeys(PROGRESS, 1)}, "stages": {}, "progress": {}},
        "by": {"pool": {"a": GROUP}, "rack": {"r": GROUP}, "relay": {}},
    } | more  # fmt: skip


def host(number: int, **more: Any) -> dict[str, Any]:
    return {
        "mac": f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}", "role": "host", "name": f"h{number}",
        "state": "served",
        "addresses": ["10.1.0.1"], "progress": "stuck", "stage": "rom-asked", "stage_s": 1000 + number, "requests": 1,
        "reason": "why",
    } | more  # fmt: skip


class Fake:
    """answers: command -> answer(arguments), which may raise to be refused; a dict is an answer as it is."""

    def __init__(self, path: str) -> None:
        self.answers: dict[str, Any] = {
            "status": lambda _: status(), "overview": lambda _: overview(),
            "hosts": lambda _: {"hosts": [host(1)], "after": 1, "more": False, "base": 1, "generation": 1},
            "faults": lambda _: {"faults": []}, "events": lambda _: None,
        }  # fmt: skip
        self.path = path
        self.asked: list[str] = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(100)
        os.chmod(path, 0o666)
        self.open: list[socket.socket] = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock: socket.socket) -> None:
        unpacker = msgpack.Unpacker(raw=False)
        with sock:
            try:
                while data := sock.recv(65536):
                    unpacker.feed(data)
                    for request in unpacker:
                        self.asked.append(request["cmd"])
                        if request["cmd"] == "events":
                            piece = self.answers["events"](request["args"])
                            if piece is not None:
                                sock.sendall(msgpack.packb({"progress": piece}))
                            sock.recv(1)  # until it goes
                            return
                        try:
                            found = self.answers[request["cmd"]](request["args"])
                            reply = {"id": 1, "ok": True, "result": found}
                        except Exception as error:
                            reply = {"id": 1, "ok": False, "error": str(error)}
                        sock.sendall(msgpack.packb(reply))
                        return
            except OSError:
                return

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@contextmanager
def faked(
    folder: Path, change: Callable[[Fake], object] = lambda _: None, **board: Any
) -> Iterator[tuple[Fake, Board, int]]:
    port = free_port()
    path = str(folder / "control.sock")
    opened(folder)
    fake = Fake(path)
    change(fake)
    user = {"user": "nobody"} if os.geteuid() == 0 else {}
    conf = folder / "services.conf"
    conf.write_text(json.dumps({
        "dhcp": {"api_url": "http://127.0.0.1:1", "state_dir": str(folder / "state")},
        "control": {"socket": path, "read_uids": [65534]},
        "board": {"bind": f"127.0.0.1:{port}", "title": "t"} | user | board,
    }))  # fmt: skip
    conf.chmod(0o644)
    try:
        with boarding(conf, port) as found:
            yield fake, found, port
    finally:
        fake.close()


def raw(port: int, text: bytes, wait_s: float = 5.0) -> bytes:
    """What the board says to some octets, until it closes or is silent."""
    with socket.create_connection(("127.0.0.1", port), timeout=wait_s) as sock:
        sock.sendall(text)
        found = b""
        try:
            while data := sock.recv(65536):
                found += data
        except TimeoutError:
            pass
        return found


def get(port: int, path: str = "/", *more: str, wait_s: float = 10.0) -> bytes:
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: close", *more]
    return raw(port, "\r\n".join(lines).encode() + b"\r\n\r\n", wait_s)


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def rss_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    return 0
