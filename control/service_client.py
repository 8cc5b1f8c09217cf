"""The client's side of the control socket: one call a connection, for commands, `top` and the board."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

import msgpack

CONNECT_S = 10.0  # where others fill the service's queue, and while a control process is being replaced
REPLY_BYTES_MAX = 1 << 28
TIMEOUT_S = 1000.0  # a full refresh of a large site takes minutes


class CallFailed(Exception):
    """One clear line for stderr."""


class Unreachable(CallFailed):
    """Nobody answered: no service, or a control process that was being replaced just then.

    denied: the socket is there, and may not be opened by this user."""

    def __init__(self, line: str, denied: bool = False) -> None:
        super().__init__(line)
        self.denied = denied


class ServiceClient:
    """path: of the socket.

    connect_s, answer_s: how long a call waits for room in the service's queue, and for each piece of the answer (None:
    for ever)."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.connect_s: float = CONNECT_S
        self.answer_s: float | None = TIMEOUT_S

    def call(
        self,
        command: str,
        arguments: dict[str, Any],
        on_progress: Callable[[dict[str, Any]], None] | None = None,
    ) -> Any:
        """The result.  Raises CallFailed with the service's word, or Unreachable where there is none.

        on_progress: is given each piece of a stream, too."""
        request = {"id": 1, "cmd": command, "args": arguments, "progress": on_progress is not None}
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                self.connect(sock)
                sock.settimeout(self.answer_s)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has said why before it closed
                    sock.sendall(msgpack.packb(request, unicode_errors="backslashreplace"))
                reply = self.read_reply(sock, on_progress)
        except OSError as error:
            denied = error.errno == errno.EACCES
            raise Unreachable(f"control socket {self.path}: {self.why(error)}", denied) from error
        if not reply.get("ok"):
            raise CallFailed(str(reply.get("error")))
        return reply["result"]

    def connect(self, sock: socket.socket) -> None:
        """Waits for room in the service's queue, in the kernel, which lets one after the other in."""
        sock.settimeout(None)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval(self.connect_s))
        sock.connect(self.path)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval(0.0))

    def why(self, error: OSError) -> str:
        words = error.strerror or str(error)
        if error.errno == errno.EACCES:
            return f"{words}; list uid {os.geteuid()} in control.allow_uids, or in control.read_uids, and reload"
        if error.errno == errno.EAGAIN:
            return f"no room in its queue within {self.connect_s:g} s; is the service's control process stopped (`ps`)?"
        if error.errno in (errno.EMFILE, errno.ENFILE):
            return f"{words}: no descriptor is free to ask with (`ulimit -n`); the service was not asked"
        return f"{words}; is `bootstorm serve` running, and is this its control.socket?"

    def read_reply(self, sock: socket.socket, on_progress: Callable[[dict[str, Any]], None] | None) -> dict[str, Any]:
        unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=REPLY_BYTES_MAX)
        while data := sock.recv(1 << 16):
            try:
                unpacker.feed(data)
                for reply in unpacker:
                    if on_progress is not None and isinstance(reply, dict) and "progress" in reply:
                        on_progress(reply["progress"])
                        continue
                    if isinstance(reply, dict) and ("result" in reply or not reply.get("ok")):
                        return reply
                    raise ValueError(f"found {str(reply)[:80]!r}")
            except (ValueError, msgpack.UnpackException, msgpack.BufferFull) as error:
                raise CallFailed(f"control socket {self.path}: no answer of bootstorm's ({error})") from error
        raise Unreachable(f"control socket {self.path}: closed without an answer")


def timeval(seconds: float) -> bytes:
    """For SO_SNDTIMEO; 0: no limit."""
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
