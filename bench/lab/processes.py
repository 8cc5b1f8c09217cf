"""Commands that run on the hosts of a laboratory (lab.py): what they say is collected, and nobody outlives us.

Each is the only child of an nsenter that we start: the nsenter's status is the command's, but signals have to be sent
to the command itself.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

# An ordinary user's PATH lacks the folders where the network tools are.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
LOG_BYTES_MAX = 8 << 20
CLOSE_S = 5.0
LAST_WORDS_S = 1.0


class LabError(RuntimeError):
    """A laboratory, or a command in one, did not do what it should."""


class CommandFailed(LabError):
    """A command in a host ended with an error or not in time; the message holds all that it said."""


def which(program: str) -> str | None:
    """Path of a program, looked up where root would find it."""
    return shutil.which(program, path=SEARCH_PATH)


def children(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _signal_inner(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to the command itself, which is the only child of the nsenter that we started."""
    deadline = time.monotonic() + 1.0
    while process.poll() is None:
        if inner := children(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(inner[0], number)
            return
        if time.monotonic() > deadline:
            raise LabError(f"pid {process.pid} ({process.args!r}): nsenter started no command within 1 s")
        time.sleep(0.001)  # the fork inside nsenter can't be waited for


def kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(LabError):
            _signal_inner(process, signal.SIGKILL)
        try:
            process.wait(1.0)
        except subprocess.TimeoutExpired:
            process.kill()  # the command follows by its parent-death signal
            process.wait(CLOSE_S)


class Process:
    """A running command of a host; what it says is collected, and can be waited for."""

    def __init__(self, name: str, argv: Sequence[str], env: Mapping[str, str]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )
        self._said = bytearray()
        self._news = threading.Condition()
        self._drained = False
        threading.Thread(target=self._drain, name=f"log of {name}", daemon=True).start()

    def _drain(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        with stream:
            while chunk := os.read(stream.fileno(), 65536):
                with self._news:
                    if len(self._said) < LOG_BYTES_MAX:  # a chatty command must not block on a full pipe
                        self._said += chunk
                    self._news.notify_all()
        with self._news:
            self._drained = True
            self._news.notify_all()

    @property
    def pid(self) -> int:
        """Process that ends when the command ends, with its status; signals go through `send_signal`."""
        return self._process.pid

    def log(self, since: int = 0) -> str:
        with self._news:
            return self._said[since:].decode(errors="replace")

    def mark(self) -> int:
        """Length of the log so far: pass it as `since` to look at later lines only."""
        with self._news:
            return len(self._said)

    def wait_for(self, pattern: str, timeout: float, since: int = 0) -> str:
        """First match of a regular expression in the log; LabError when the time is over or the command has ended."""
        deadline = time.monotonic() + timeout
        with self._news:
            while True:
                if found := re.search(pattern, self._said[since:].decode(errors="replace"), re.MULTILINE):
                    return found[0]
                left = deadline - time.monotonic()
                if self._drained or left <= 0:
                    why = "ended" if self._drained else f"went on for {timeout:g} s"
                    text = self._said.decode(errors="replace")
                    raise LabError(f"{self.name} {why} without saying {pattern!r}; it said:\n{text}")
                self._news.wait(left)

    def running(self) -> bool:
        return self._process.poll() is None

    def send_signal(self, number: int) -> None:
        _signal_inner(self._process, number)

    def wait(self, timeout: float) -> int:
        """Status of a command that ends by itself, once its last words are in the log."""
        try:
            status = self._process.wait(timeout)
            with self._news:
                # A daemon that it left behind may keep the pipe open: then what is there has to do.
                self._news.wait_for(lambda: self._drained, LAST_WORDS_S)
            return status
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name} still runs after {timeout:g} s; it said:\n{self.log()}") from None

    def stop(self, number: int = signal.SIGTERM, timeout: float = 3.0, again_s: float | None = None) -> int:
        """End the command with a signal, sent again every `again_s`, after `timeout` with SIGKILL; its status."""
        deadline = time.monotonic() + timeout
        while self.running() and (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(LabError):
                self.send_signal(number)
                self.wait(min(left, again_s or left))
        kill(self._process)
        return self._process.wait(CLOSE_S)
