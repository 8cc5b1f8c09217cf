"""A run under way: a native engine in a thread of its own, on a core of its own, with its socket; how it ended."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Protocol

from bench.engine import sockets

LOOK_S = 0.2


class Engine(Protocol):
    def run(self) -> None: ...
    def stop(self) -> None: ...


class UnderWay:
    """Begins at once.  `await_end()` closes the socket; cpu_s: of the engine's thread, known then.

    core: that the engine's thread is kept on."""

    def __init__(self, name: str, engine: Engine, sock: socket.socket, core: int | None) -> None:
        self._engine, self._socket, self._core = engine, sock, core
        self._drops = sockets.drops(sock)
        self._failed: BaseException | None = None
        self.cpu_s = 0.0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            if self._core is not None:
                os.sched_setaffinity(0, {self._core})  # of this thread alone
            self._engine.run()
            self.cpu_s = time.thread_time()
        except BaseException as failed:
            self._failed = failed

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """Nothing more is sent; what was sent is still waited for."""
        self._engine.stop()

    def await_end(self, look: Callable[[], None] | None = None) -> int:
        """Until the engine has ended; how many datagrams its own socket had no room for.  Raises what it raised.

        look: called a few times a second meanwhile; what it raises stops the engine."""
        try:
            while self._thread.is_alive():
                self._thread.join(LOOK_S)
                if look is not None:
                    look()
        except BaseException:
            self.stop()
            raise
        if self._failed is not None:
            raise self._failed
        drops = sockets.drops(self._socket)
        if self._socket.family != socket.AF_PACKET:  # a packet socket's begin anew with every question
            drops -= self._drops
        self._socket.close()
        return drops
