"""A call of a running service's control socket, without its command line: what a bench asks hundreds of times."""

from __future__ import annotations

import socket
from typing import Any

import msgpack

ANSWER_S = 900.0


def ask(console: str, command: str, *, answer_s: float = ANSWER_S, **arguments: Any) -> Any:
    """One call of the control socket.  RuntimeError with the service's word when it fails, TimeoutError after a silence
    of answer_s."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(answer_s)
        sock.connect(console)
        sock.sendall(msgpack.packb({"id": 1, "cmd": command, "args": arguments}))
        unpacker = msgpack.Unpacker()
        while data := sock.recv(1 << 16):
            unpacker.feed(data)
            for reply in unpacker:
                if not reply["ok"]:
                    raise RuntimeError(f"{command} {arguments}: {reply['error']}")
                return reply["result"]
    raise RuntimeError(f"{command}: the control socket was closed without an answer")
