"""The control socket: msgpack maps over a Unix stream, peers judged by the kernel's word for who they are.

Request {"id", "cmd", "args"}, reply {"id", "ok": true, "result"} or {"id", "ok": false, "error"}.  A connection has one
request under way: what is sent meanwhile stays in the kernel, and is answered in its turn.  A request with "progress":
true may get any number of {"id", "progress": {...}} before its reply; of a command that is a stream, these are what it
asked for, and none is left out.

Nothing that a peer sends, or does not send, or does not read, costs more than the limits below say.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import socket
import stat
import struct
from array import array
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import msgpack

from control.service.doors.commands import COMMANDS, Command, Right, Rights, WrongArgument, checked, found
from control.service.doors.door import REASONS, Door, Refused
from fastpath.process.escape import shown

log = logging.getLogger("bootstorm.console")

REQUEST_BYTES_MAX = 1 << 16
LIST_MAX, MAP_MAX = 1_024, 64  # elements of one list, of one map
ELEMENTS_MAX, DEPTH_MAX = 8_192, 8  # of a whole request
NAME_CHARACTERS_MAX = 64  # of a command, of an id
READ_BYTES = 1 << 14
CONNECTIONS_MAX = 64
RESERVED_CONNECTIONS = 16  # of these, for root and our own user
READERS_MAX = 32  # of these, who may only read
UID_CONNECTIONS_MAX = 16  # of one uid other than those two
IDLE_S = 60.0  # between two requests
REQUEST_S = 10.0  # from a request's first octet to its last
SEND_S = 30.0  # for a reply to be taken
GONE_S = 1.0  # for a command whose client is gone; then it is cancelled
COSTLY_AT_ONCE = {Right.READ: 2, Right.CHANGE: 4}
STREAMS_AT_ONCE = {Right.READ: 8, Right.CHANGE: 16}  # each holds a connection, perhaps for ever
ARGUMENTS_CHARACTERS_MAX = 500  # of a change's arguments in the log
SO_PEERGROUPS = 59
GROUPS_MAX = 256
REFUSALS = ("no_right", "all_taken", "uid_limit", "readers_limit", *REASONS)  # of connections
COUNTED = ("served", "bad", "unknown", "forbidden", "timed_out", "not_taken")  # of requests

Report = Callable[[dict[str, Any]], None]
"""Tells the client how far its command is."""
Handler = Callable[[dict[str, Any], Report], Awaitable[Any]]
Stream = Callable[[dict[str, Any]], AsyncGenerator[dict[str, Any], None]]


class CommandFailed(Exception):
    """The command was understood and cannot be done; the text goes to the client as it is."""


class BadRequest(Exception):
    """What came is no request: the peer hears why and is cut off."""


class Gone(Exception):
    """The peer takes nothing more."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, by the kernel's word at connect.  right: at connect, or of the request under way."""

    pid: int
    uid: int
    gids: Sequence[int]
    right: Right

    def __str__(self) -> str:
        return f"uid {self.uid} (pid {self.pid})"


OURSELVES = Peer(os.getpid(), os.geteuid(), (), Right.CHANGE)
caller: ContextVar[Peer] = ContextVar("caller", default=OURSELVES)
"""Whose command is being answered."""


class Requests:
    """Bytes -> requests, whatever pieces they come in, one at a time."""

    def __init__(self) -> None:
        self.unpacker = msgpack.Unpacker(
            raw=False,
            strict_map_key=True,
            max_buffer_size=REQUEST_BYTES_MAX + READ_BYTES,
            max_str_len=REQUEST_BYTES_MAX,
            max_bin_len=REQUEST_BYTES_MAX,
            max_array_len=LIST_MAX,
            max_map_len=MAP_MAX,
            max_ext_len=0,
        )
        self.fed = self.taken = 0  # octets since the beginning; of these, in requests that were given on

    @property
    def begun(self) -> bool:
        """Some octets of a request are here."""
        return self.fed > self.taken

    def feed(self, data: bytes) -> None:
        """Raises BadRequest; then nothing more can be understood on this stream."""
        try:
            self.unpacker.feed(data)
        except (ValueError, msgpack.BufferFull) as error:
            raise self.bad(error) from error
        self.fed += len(data)

    def next(self) -> dict[str, Any] | None:
        """The next request that is here as a whole.  Raises BadRequest, as feed() does."""
        try:
            request = self.unpacker.unpack()
        except msgpack.OutOfData:
            if self.fed - self.taken > REQUEST_BYTES_MAX:  # the unpacker limits what it has not looked at yet
                raise self.bad(ValueError("it is larger")) from None
            return None
        except (ValueError, RecursionError, msgpack.UnpackException, msgpack.BufferFull) as error:
            raise self.bad(error) from error
        before, self.taken = self.taken, self.unpacker.tell()
        if self.taken - before > REQUEST_BYTES_MAX:
            raise self.bad(ValueError("it is larger"))
        return check_request(request)

    @staticmethod
    def bad(error: Exception) -> BadRequest:
        return BadRequest(f"no msgpack map of at most {REQUEST_BYTES_MAX} bytes: {shown(str(error), 100)}")


def check_request(request: Any) -> dict[str, Any]:
    if not isinstance(request, dict) or not isinstance(request.get("cmd"), str):
        raise BadRequest(f'found {found(request)}, wanted {{"id", "cmd", "args"}}')
    command = shown(request["cmd"], NAME_CHARACTERS_MAX)
    arguments = request.get("args") or {}
    if not isinstance(arguments, dict):
        raise BadRequest(f"args of {command}: found {type(arguments).__name__}, wanted a map")
    named = request.get("id")
    if not (named is None or type(named) is int or (isinstance(named, str) and len(named) <= NAME_CHARACTERS_MAX)):
        wanted = f"wanted a whole number or a text of at most {NAME_CHARACTERS_MAX} characters"
        raise BadRequest(f"id of {command}: found {found(named)}, {wanted}")
    check_size(command, arguments)
    return {
        "id": named,
        "cmd": request["cmd"],
        "args": arguments,
        "progress": request.get("progress") is True,
    }


def check_size(command: str, arguments: dict[str, Any]) -> None:
    """A request of 64 KiB may hold 65,536 empty lists, and lists 500 deep."""
    elements, level = 0, [arguments]
    for _depth in range(DEPTH_MAX):
        below: list[Any] = []
        for each in level:
            elements += len(each)
            parts = each.values() if isinstance(each, dict) else each
            below += [part for part in parts if isinstance(part, dict | list)]
        if elements > ELEMENTS_MAX or not below:
            break
        level = below
    else:
        raise BadRequest(f"args of {command}: nested more than {DEPTH_MAX} deep")
    if elements > ELEMENTS_MAX:
        raise BadRequest(f"args of {command}: over {ELEMENTS_MAX} elements")


def credentials(sock: socket.socket, rights: Rights) -> Peer:
    """Of the process at the other end when it connected.  Raises OSError."""
    pid, uid, gid = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    gids = array("I", [gid])
    with contextlib.suppress(OSError):  # in more groups than that: the primary one counts
        gids.frombytes(sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 4 * GROUPS_MAX))
    return Peer(pid, uid, tuple(gids), rights.of(uid, gids))


class Replies:
    """What goes to one peer.  A report that the peer does not take at once is left out; a reply is waited for."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.unsent = b""

    def report(self, content: dict[str, Any]) -> None:
        if self.unsent:
            return
        packed = pack(content)
        try:
            sent = self.sock.send(packed, socket.MSG_NOSIGNAL)
        except OSError:  # it does not read, or is gone: the reply will show
            return
        self.unsent = packed[sent:]

    async def send(self, packed: bytes) -> None:
        """Raises Gone."""
        data, self.unsent = self.unsent + packed, b""
        try:
            async with asyncio.timeout(SEND_S):
                await asyncio.get_running_loop().sock_sendall(self.sock, data)
        except (TimeoutError, OSError) as error:
            raise Gone(f"a reply of {len(data)} bytes is not taken") from error


class Console:
    """Serves one listening socket.  handlers: command -> coroutine function of its arguments; commands: what is said of
    each; path: of the socket, whose mode follows the rights; streams: commands that answer piece by piece."""

    def __init__(
        self,
        listener_fd: int,
        handlers: Mapping[str, Handler],
        rights: Rights,
        commands: Mapping[str, Command] = COMMANDS,
        path: str | None = None,
        streams: Mapping[str, Stream] | None = None,
    ) -> None:
        self.listener_fd = listener_fd
        self.handlers = handlers
        self.streams = streams or {}
        self.streaming: Counter[Right] = Counter()
        self.commands = commands
        self.rights = rights
        self.path = path
        self.peers: list[Peer] = []
        self.counts: Counter[str] = Counter()
        self.costly = {right: asyncio.Semaphore(most) for right, most in COSTLY_AT_ONCE.items()}
        self.door: Door | None = None

    @property
    def connections(self) -> int:
        return self.door.connections if self.door is not None else 0

    def allow(self, rights: Rights) -> None:
        """From now on, for who connects from now on, and for the next request of who is connected."""
        self.rights = rights
        if self.path is not None:
            set_mode(self.path, rights)

    async def run(self) -> None:
        self.allow(self.rights)
        listener = socket.socket(fileno=os.dup(self.listener_fd))
        self.door = Door("control.socket", listener, self.admit, self.serve_peer)
        self.door.open()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await self.door.close()

    def status(self) -> dict[str, Any]:
        """What the limits did."""
        door = self.door.status() if self.door is not None else {"open": 0, "served": 0, "refused": {}}
        return door | {"requests": dict(self.counts)}

    # --- who may -------------------------------------------------------------------------------------------------

    def admit(self, sock: socket.socket) -> Peer:
        """Raises Refused."""
        peer = credentials(sock, self.rights)
        if peer.right is Right.NONE:
            words = f"uid {peer.uid} may not use this socket; list it in control.allow_uids, or in control.read_uids"
            raise Refused("no_right", failure(None, words))
        ours = peer.uid in (0, os.geteuid())
        if len(self.peers) >= CONNECTIONS_MAX - (0 if ours else RESERVED_CONNECTIONS):
            raise Refused("all_taken", failure(None, f"{len(self.peers)} connections are open already"))
        if not ours and sum(other.uid == peer.uid for other in self.peers) >= UID_CONNECTIONS_MAX:
            raise Refused("uid_limit", failure(None, f"uid {peer.uid} has {UID_CONNECTIONS_MAX} connections already"))
        if peer.right is Right.READ and sum(other.right is Right.READ for other in self.peers) >= READERS_MAX:
            raise Refused("readers_limit", failure(None, f"{READERS_MAX} readers are connected already"))
        self.peers.append(peer)
        return peer

    async def serve_peer(self, sock: socket.socket, peer: Peer) -> None:
        replies = Replies(sock)
        try:
            await self.converse(sock, peer, replies)
        except BadRequest as bad:
            self.counts["bad"] += 1
            with contextlib.suppress(Gone):
                await replies.send(failure(None, str(bad)))
        except Gone:
            self.counts["not_taken"] += 1
        finally:
            self.peers.remove(peer)

    async def converse(self, sock: socket.socket, peer: Peer, replies: Replies) -> None:
        """One request after the other.  Raises BadRequest, Gone, OSError."""
        loop = asyncio.get_running_loop()
        requests = Requests()
        until_s = loop.time() + IDLE_S
        while True:
            try:
                async with asyncio.timeout_at(until_s):
                    data = await loop.sock_recv(sock, READ_BYTES)
            except TimeoutError:
                self.counts["timed_out"] += 1
                return
            if not data:
                return
            if not requests.begun:
                until_s = loop.time() + REQUEST_S
            requests.feed(data)
            while (request := requests.next()) is not None:
                await self.attend(request, sock, peer, replies)
                until_s = loop.time() + (REQUEST_S if requests.begun else IDLE_S)

    # --- one request ---------------------------------------------------------------------------------------------

    async def attend(self, request: dict[str, Any], sock: socket.socket, peer: Peer, replies: Replies) -> None:
        """Answer it; where the peer goes away meanwhile the command has a second to end.  Raises Gone."""
        self.counts["served"] += 1
        answering = asyncio.get_running_loop().create_task(self.answer(request, peer, replies), name="command")
        try:
            async with hung_up(sock) as gone:
                await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not answering.done():
                    await asyncio.wait({answering}, timeout=GONE_S)
                    raise Gone("hung up")
            await replies.send(answering.result())
        finally:
            if not answering.cancel() and not answering.cancelled():
                answering.exception()  # of a stream to who has hung up: nobody else asks for it

    async def answer(self, request: dict[str, Any], peer: Peer, replies: Replies) -> bytes:
        name, numbered = request["cmd"], request["id"]

        def report(progress: dict[str, Any]) -> None:
            if request["progress"]:
                replies.report({"id": numbered, "progress": progress})

        peer = replace(peer, right=self.rights.of(peer.uid, peer.gids))  # as the configuration says now
        caller.set(peer)
        said = ""
        try:
            command, arguments = self.judged(request, peer)
            if command.right is Right.CHANGE:
                said = f"{name}{in_words(arguments)}"
                log.info("%s says: %s", peer, said)
            async with self.costly[peer.right] if command.costly else contextlib.nullcontext():
                result: Any = None
                if name in self.streams:
                    await self.send_stream(request, arguments, peer, replies)
                else:
                    result = await self.handlers[name](arguments, report)
            packed = pack({"id": numbered, "ok": True, "result": result})
            outcome = "done"
        except CommandFailed as failed:
            packed, outcome = failure(numbered, str(failed)), f"failed: {failed}"
        except (asyncio.CancelledError, Gone):
            if said:
                log.info("%s: %s: cancelled, nobody waits for it any more", peer, said)
            raise
        except Exception as bug:  # one command's fault must not end control, and must not pass silently
            log.exception("command %s failed", shown(name, NAME_CHARACTERS_MAX))
            outcome = f"internal fault in {name}: {type(bug).__name__}: {bug}"
            packed = failure(numbered, outcome)
        if said:
            log.info("%s: %s: %s", peer, said, outcome)
        return packed

    async def send_stream(
        self, request: dict[str, Any], arguments: dict[str, Any], peer: Peer, replies: Replies
    ) -> None:
        """Piece after piece, each when the one before has been taken.  Raises CommandFailed, Gone."""
        name = request["cmd"]
        if not request["progress"]:
            raise CommandFailed(f'{name}: it is told piece by piece; ask with "progress": true')
        if self.streaming[peer.right] >= STREAMS_AT_ONCE[peer.right]:
            raise CommandFailed(f"{name}: {self.streaming[peer.right]} others follow already")
        self.streaming[peer.right] += 1
        try:
            async with contextlib.aclosing(self.streams[name](arguments)) as pieces:
                async for piece in pieces:
                    if self.rights.of(peer.uid, peer.gids) < self.commands[name].right:
                        raise CommandFailed(f"{name}: uid {peer.uid} may not read any more")
                    await replies.send(pack({"id": request["id"], "progress": piece}))
        finally:
            self.streaming[peer.right] -= 1

    def judged(self, request: dict[str, Any], peer: Peer) -> tuple[Command, dict[str, Any]]:
        """Raises CommandFailed for what does not exist, what the peer may not, and arguments of the wrong kind."""
        name = request["cmd"]
        if name not in self.handlers and name not in self.streams:
            self.counts["unknown"] += 1
            known = ", ".join(sorted([*self.handlers, *self.streams]))
            raise CommandFailed(f"unknown command {shown(repr(name), NAME_CHARACTERS_MAX)}; known: {known}")
        command = self.commands[name]
        if peer.right < command.right:
            self.counts["forbidden"] += 1
            raise CommandFailed(
                f"{name}: uid {peer.uid} may only read; list it in control.allow_uids to let it change something"
            )
        try:
            return command, checked(name, command, request["args"])
        except WrongArgument as wrong:
            raise CommandFailed(str(wrong)) from wrong


@contextlib.asynccontextmanager
async def hung_up(sock: socket.socket) -> Any:
    """A future that ends when the peer has closed its end for good, whatever of its requests is still unread."""
    loop = asyncio.get_running_loop()
    gone: asyncio.Future[None] = loop.create_future()

    def on_end() -> None:
        loop.remove_reader(poll.fileno())
        gone.cancel()

    with select.epoll() as poll:
        poll.register(sock.fileno(), 0)  # EPOLLHUP and EPOLLERR come unasked
        loop.add_reader(poll.fileno(), on_end)
        try:
            yield gone
        finally:
            loop.remove_reader(poll.fileno())
            gone.cancel()


def in_words(arguments: dict[str, Any]) -> str:
    """` mac=... wait=True`, for the log."""
    return shown("".join(f" {word}={value}" for word, value in arguments.items()), ARGUMENTS_CHARACTERS_MAX)


def set_mode(path: str, rights: Rights) -> None:
    """Of the socket's file: for everybody where others than root and our own user are named, since it is the peer's
    credentials that decide; else for us alone, so that nobody else is even heard."""
    others = rights.read_gids or (rights.change_uids | rights.read_uids) - {0, os.geteuid()}
    try:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.chmod(f"/proc/self/fd/{fd}", 0o666 if others else 0o600)
        finally:
            os.close(fd)
    except OSError as error:
        log.info("control.socket %s: its mode stays as it is: %s", path, error.strerror)


def pack(content: Any) -> bytes:
    packed: bytes = msgpack.packb(content, unicode_errors="backslashreplace")
    return packed


def failure(request_id: Any, error: str) -> bytes:
    return pack({"id": request_id, "ok": False, "error": error})
