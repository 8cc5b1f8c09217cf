"""The real engine for tests: Debian's nats-server on a port of the loopback, with its store in a folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import free_port

PROGRAM = shutil.which("nats-server", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
UP_S = 10.0


class Nats:
    """more: lines of its configuration besides port and store."""

    host = "127.0.0.1"

    def __init__(self, folder: Path, more: str = "") -> None:
        self.folder, self.port = folder, free_port()
        self.store = folder / "store"
        self.conf = folder / "nats.conf"
        self.conf.write_text(
            f'listen: "127.0.0.1:{self.port}"\njetstream {{ store_dir: "{self.store}" }}\n'
            f'pid_file: "{folder}/pid"\n{more}\n'
        )
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        assert PROGRAM is not None
        log = (self.folder / "nats.log").open("ab")
        self.process = subprocess.Popen([PROGRAM, "-c", str(self.conf)], stdout=log, stderr=log)
        log.close()
        deadline = time.monotonic() + UP_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 1) as probe:
                if probe.recv(4) == b"INFO":
                    return
            assert self.process.poll() is None, (self.folder / "nats.log").read_text()[-2000:]
            time.sleep(0.02)  # it says nothing when it is up
        raise TimeoutError("nats-server")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def wipe(self) -> None:
        """As a store that was lost."""
        self.kill()
        shutil.rmtree(self.store, ignore_errors=True)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)


@contextlib.contextmanager
def running(folder: Path, more: str = "") -> Iterator[Nats]:
    if PROGRAM is None:
        pytest.skip("nats-server is not installed")
    folder.mkdir(exist_ok=True)
    made = Nats(folder, more)
    made.start()
    try:
        yield made
    finally:
        made.kill()
