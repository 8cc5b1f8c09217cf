"""A supervisor in the test's own process, with all that it keeps, and stand-ins (standin.py) for its children."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ext.ledger import create_ledger
from ext.page import create_site_page, create_worker_page

from fastpath.process.turns import create_turns
from fastpath.protocol import Settings, close_all, memfd
from fastpath.sockets.sockets import SlotSockets
from fastpath.supervisor import children
from fastpath.supervisor.children import LAYOUTS, TRIAL, Child
from fastpath.supervisor.descriptors import Kept
from fastpath.supervisor.supervisor import Supervisor

STANDIN = [sys.executable, "-I", "-S", str(Path(__file__).with_name("standin.py"))]
COMMANDS = {kind: [*STANDIN, kind] for kind in ("spare", "control")} | {TRIAL: [*STANDIN, "try"]}
WORKERS = 2
LIMIT_S = 60.0


class World:
    """A supervisor in this process, with all that it keeps and stand-ins for its children."""

    def __init__(self, folder: Path) -> None:
        self.sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3 * WORKERS + 1)]
        fds = [sock.fileno() for sock in self.sockets]
        with memfd("test-config", b"{}") as config:
            kept = Kept(
                config=os.dup(config),
                lock=os.memfd_create("test-lock", os.MFD_CLOEXEC),
                console=fds[-1],
                site_page=create_site_page(),
                adopted_bell=os.eventfd(0, os.EFD_CLOEXEC),
                event_bell=os.eventfd(0, os.EFD_CLOEXEC),
                slots=[SlotSockets(*fds[3 * slot : 3 * slot + 3]) for slot in range(WORKERS)],
                pages=[create_worker_page(slot) for slot in range(WORKERS)],
                turns=create_turns(),
                ledger=create_ledger(),
            )
        settings = Settings(
            config_path=str(folder / "services.conf"),
            workers=WORKERS,
            port=0,
            state_dir=str(folder),
            console_path=str(folder / "control.sock"),
        )
        self.supervisor = Supervisor(settings, kept, commands=dict(COMMANDS))
        self.supervisor.table_due_s = 0.0  # the stand-in of control publishes when it is told to

    def close(self) -> None:
        supervisor = self.supervisor
        self.kill_all()
        supervisor.manager.close()
        supervisor.selector.close()
        supervisor.wake.close()
        supervisor.wake_write.close()
        ours = {sock.fileno() for sock in self.sockets}
        close_all(fd for fd in supervisor.kept.fds() if fd not in ours)
        for sock in self.sockets:
            sock.close()

    def kill_all(self) -> None:
        """As the kernel does when a supervisor is killed."""
        for child in list(self.supervisor.children):
            child.kill()
            os.waitpid(child.pid, 0)
            child.close()
        self.supervisor.children.clear()

    def of(self, kind: str) -> list[Child]:
        return [child for child in self.supervisor.children if child.kind == kind]

    def settled(self) -> bool:
        """Everybody is there, has the table, turns; nobody is left over."""
        supervisor = self.supervisor
        spares = self.of("spare")
        return (
            sorted(child.slot for child in self.of("worker")) == list(range(WORKERS))
            and len(self.of("control")) == 1
            and supervisor.turns.last_s("control") > self.of("control")[0].started_s
            and len(spares) == 1
            and spares[0].loaded == supervisor.kept.generation > 0
            and all(page.heartbeat_ns > child.since_s * 1e9 for page, child in self.slots())
            and not self.of(TRIAL)
            and not supervisor.unreaped
            and not any(child.behind or child.stopping_s for child in supervisor.children)
        )

    def slots(self) -> list[tuple[Any, Child]]:
        return [(self.supervisor.pages[child.slot], child) for child in self.of("worker")]

    def until(self, good: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not good():
            assert time.monotonic() < deadline, f"not within {LIMIT_S:.0f} s: {what}; {self.supervisor.children}"
            self.supervisor.turn()

    def settle(self) -> None:
        self.until(self.settled, "everybody is there again")

    def stir(self) -> list[Child]:
        """Whatever a supervisor has to do: replace a worker, the spare and control, pass SIGHUP on, try new code.

        Returns who hangs from now on; it may be replaced long after all others."""
        for kind in ("worker", "spare", "control"):
            for child in self.of(kind)[:1]:
                os.kill(child.pid, signal.SIGKILL)
        self.supervisor.wake_write.send(bytes([signal.SIGHUP, signal.SIGUSR2]))
        hung = self.of("worker")[1:2]
        for child in hung:
            os.kill(child.pid, signal.SIGSTOP)
        return hung


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def own_children() -> set[int]:
    """Pids, zombies too."""
    found = set()
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/children", encoding="ascii") as file:
            found |= {int(pid) for pid in file.read().split()}
    return found


@contextmanager
def settled_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Everybody is there and has a table; what dies is replaced without pauses; execv refuses."""
    monkeypatch.setenv("STANDIN_TABLE_VERSION", str(LAYOUTS["table"]))
    monkeypatch.setattr(children, "YOUNG_S", 0.0)  # what dies here dies young: without pauses
    monkeypatch.setattr(os, "execv", refuse_exec)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    made = World(tmp_path)
    try:
        made.settle()
        yield made
    finally:
        monkeypatch.undo()
        made.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def refuse_exec(path: str, _argv: list[str]) -> None:
    raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def other_build_installed(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> list[float]:
    """Another build is installed; when it was executed, which fails here."""
    executed: list[float] = []

    def execute(_path: str, _argv: list[str]) -> None:
        executed.append(time.monotonic())
        raise OSError(errno.ENOENT, "not in a test")

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(os, "execv", execute)
    monkeypatch.setattr("fastpath.process.build.recorded", lambda: ("0.2", "b"))
    monkeypatch.setattr("fastpath.supervisor.installed.PAUSES_S", (0.3, 0.3, 60.0))
    return executed
