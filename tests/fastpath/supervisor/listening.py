"""The other end of NOTIFY_SOCKET, in the test's own process: what was said, and the descriptors that were stored."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastpath.process.notify import Handed
from fastpath.protocol import close_all
from tests.fastpath.supervisor.world import World, settled_world


class Listener:
    """said: the words of each message, in order; store: name -> descriptor; answers_barriers: else they are kept."""

    def __init__(self, address: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind("\0" + address[1:] if address.startswith("@") else address)
        self.sock.setblocking(False)
        self.said: list[str] = []
        self.store: dict[str, int] = {}
        self.answers_barriers = True
        self.barriers: list[int] = []

    def hear(self) -> list[str]:
        """Everything that has come; what is new of it."""
        before = len(self.said)
        with contextlib.suppress(BlockingIOError):
            while True:
                data, fds, _flags, _address = socket.recv_fds(self.sock, 1 << 16, 253)
                self.take(data.decode(), fds)
        return self.said[before:]

    @contextmanager
    def hearing(self) -> Iterator[None]:
        """In a thread meanwhile: the kernel keeps ten messages of it, where systemd has not raised that."""
        done = threading.Event()

        def hear() -> None:
            while not done.is_set():
                if select.select([self.sock], [], [], 0.01)[0]:
                    self.hear()

        thread = threading.Thread(target=hear)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self.hear()

    def take(self, words: str, fds: list[int]) -> None:
        self.said.append(words)
        lines = dict(line.partition("=")[::2] for line in words.splitlines())
        name = lines.get("FDNAME", "")
        if "FDSTORE" in lines:
            assert lines["FDPOLL"] == "0" and len(fds) == 1 and name not in self.store
            self.store[name] = fds[0]
        elif "FDSTOREREMOVE" in lines:
            os.close(self.store.pop(name))
        elif "BARRIER" in lines and not self.answers_barriers:
            self.barriers += fds
        else:
            close_all(fds)

    def roles(self) -> dict[str, str]:
        """Role -> its name; each once."""
        found: dict[str, str] = {}
        for name in self.store:
            role = name.partition(".")[0]
            assert role not in found, f"two of one role: {name}, {found[role]}"
            found[role] = name
        return found

    def hand_back(self) -> list[Handed]:
        """As to the next process: copies, which it owns."""
        return [Handed(name, os.dup(fd)) for name, fd in self.store.items()]

    def close(self) -> None:
        close_all([*self.store.values(), *self.barriers])
        self.sock.close()


@contextmanager
def listened_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[World, Listener]]:
    """A settled world whose supervisor has a manager, which hears it."""
    listener = Listener(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with settled_world(tmp_path, monkeypatch) as world:
        try:
            yield world, listener
        finally:
            listener.close()


def until_said(world: World, listener: Listener, good: Callable[[str], bool], what: str) -> list[str]:
    """Turns until a message is good; what was said until then."""
    said: list[str] = []

    def heard() -> bool:
        said.extend(listener.hear())
        return any(good(words) for words in said)

    world.until(heard, what)
    return said
