"""The control socket: msgpack maps over a Unix stream, peers checked by SO_PEERCRED; framing and hand-over only.

Request {"id", "cmd", "args"}, reply {"id", "ok": true, "result"} or {"id", "ok": false, "error"}; several requests
may be under way on one connection, each reply carries its request's id.  A request with "progress": true may get any
number of {"id", "progress": {...}} before its reply.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import msgpack

log = logging.getLogger("bootstorm.console")

REQUEST_BYTES_MAX = 1 << 16
CONNECTIONS_MAX = 64
Report = Callable[[dict[str, Any]], None]
"""Tells the client how far its command is."""
Handler = Callable[[dict[str, Any], Report], Awaitable[Any]]


class CommandFailed(Exception):
    """The command was understood and cannot be done; the text goes to the client as it is."""


class BadRequest(Exception):
    """What came is no request: the peer hears why and is cut off."""


class Requests:
    """Bytes -> requests, whatever pieces they come in."""

    def __init__(self) -> None:
        self.unpacker = msgpack.Unpacker(raw=False, strict_map_key=True, max_buffer_size=REQUEST_BYTES_MAX)

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Raises BadRequest; then nothing more can be understood on this stream."""
        try:
            self.unpacker.feed(data)
            for request in self.unpacker:
                yield check_request(request)
        except (ValueError, msgpack.UnpackException, msgpack.BufferFull) as error:
            raise BadRequest(f"no msgpack map of at most {REQUEST_BYTES_MAX} bytes: {error}") from error


def check_request(request: Any) -> dict[str, Any]:
    if not isinstance(request, dict) or not isinstance(request.get("cmd"), str):
        raise BadRequest(f'found {str(request)[:80]!r}, wanted {{"id", "cmd", "args"}}')
    arguments = request.get("args") or {}
    if not isinstance(arguments, dict):
        raise BadRequest(f"args of {request['cmd']}: found {type(arguments).__name__}, wanted a map")
    return {
        "id": request.get("id"),
        "cmd": request["cmd"],
        "args": arguments,
        "progress": request.get("progress") is True,
    }


class Console:
    """Serves one listening socket.  handlers: command -> coroutine function of its arguments."""

    def __init__(self, listener_fd: int, handlers: Mapping[str, Handler], allow_uids: set[int]) -> None:
        self.listener_fd = listener_fd
        self.handlers = handlers
        self.allow_uids = allow_uids
        self.connections = 0

    async def run(self) -> None:
        listener = socket.socket(fileno=os.dup(self.listener_fd))
        server = await asyncio.start_unix_server(self.serve_peer, sock=listener)
        async with server:
            await server.serve_forever()

    async def serve_peer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        tasks: set[asyncio.Task[None]] = set()
        try:
            self.check_peer(writer)
            requests = Requests()
            while data := await reader.read(1 << 14):
                for request in requests.feed(data):
                    task = asyncio.create_task(self.answer(request, writer))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
        except BadRequest as bad:
            writer.write(self.failure(None, str(bad)))
        except ConnectionError:
            log.debug("a control client went away")
        finally:
            if tasks:
                await asyncio.wait(tasks, timeout=1.0)
            for task in tasks:
                task.cancel()
            self.connections -= 1
            with contextlib.suppress(ConnectionError):
                writer.close()
                await writer.wait_closed()

    def check_peer(self, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        _pid, uid, _gid = struct.unpack("iII", peer)
        if uid not in self.allow_uids:
            raise BadRequest(f"uid {uid} may not use this socket; list it in control.allow_uids")
        if self.connections > CONNECTIONS_MAX:
            raise BadRequest(f"{CONNECTIONS_MAX} connections are open already")

    async def answer(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        handler = self.handlers.get(request["cmd"])
        reply: dict[str, Any] = {"id": request["id"]}

        def report(progress: dict[str, Any]) -> None:
            if request["progress"] and not writer.is_closing():
                writer.write(msgpack.packb({"id": request["id"], "progress": progress}))

        try:
            if handler is None:
                raise CommandFailed(f"unknown command {request['cmd']!r}; known: {', '.join(sorted(self.handlers))}")
            reply |= {"ok": True, "result": await handler(request["args"], report)}
            packed = msgpack.packb(reply)
        except CommandFailed as failed:
            packed = self.failure(request["id"], str(failed))
        except Exception as bug:  # one command's fault must not end control, and must not pass silently
            log.exception("command %s failed", request["cmd"])
            fault = f"internal fault in {request['cmd']}: {type(bug).__name__}: {bug}"
            packed = self.failure(request["id"], fault)
        writer.write(packed)
        with contextlib.suppress(ConnectionError):
            await writer.drain()

    @staticmethod
    def failure(request_id: Any, error: str) -> bytes:
        packed: bytes = msgpack.packb(
            {"id": request_id, "ok": False, "error": error}, unicode_errors="backslashreplace"
        )
        return packed
