"""control/service/doors/console.py: framing in any pieces, peers that may and may not, and one command's fault."""

import asyncio
import contextlib
import itertools
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control.service.doors import console
from control.service.doors.commands import READ, TEXT, Command, Rights
from control.service.doors.console import (
    REQUEST_BYTES_MAX,
    BadRequest,
    CommandFailed,
    Console,
    Handler,
    Report,
    Requests,
    Stream,
)


def packed(cmd: Any = "ping", **fields: Any) -> bytes:
    data: bytes = msgpack.packb({"cmd": cmd} | fields)
    return data


def all_of(requests: Requests, data: bytes) -> list[dict[str, Any]]:
    requests.feed(data)
    return list(iter(requests.next, None))


# --- framing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_, want",
    [
        pytest.param({"id": 7, "cmd": "x", "args": {"a": 1}}, {"id": 7, "args": {"a": 1}}, id="whole"),
        pytest.param({"cmd": "x"}, {}, id="no-id-no-args"),
        pytest.param({"id": "t", "cmd": "x", "args": None}, {"id": "t"}, id="args-null"),
        pytest.param({"cmd": "x", "more": 1}, {}, id="unknown-fields-are-ignored"),
        pytest.param({"cmd": "x", "progress": True}, {"progress": True}, id="progress"),
        pytest.param({"cmd": "x", "progress": 1}, {}, id="progress-is-true-or-nothing"),
    ],
)
def test_requests(request_: dict[str, Any], want: dict[str, Any]) -> None:
    plain: dict[str, Any] = {"id": None, "cmd": "x", "args": {}, "progress": False}
    assert all_of(Requests(), msgpack.packb(request_)) == [plain | want]


@settings(deadline=None, max_examples=50)
@given(cuts=st.lists(st.integers(0, 200), max_size=12), count=st.integers(1, 4))
def test_requests_in_any_pieces(cuts: list[int], count: int) -> None:
    stream = b"".join(packed("x", id=number, args={"text": "ü" * number}) for number in range(count))
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    requests = Requests()
    got = [request["id"] for a, b in itertools.pairwise(places) for request in all_of(requests, stream[a:b])]
    assert got == list(range(count))


@pytest.mark.parametrize(
    "data, said",
    [
        pytest.param(b"\xc1", "no msgpack map", id="a-byte-that-msgpack-never-uses"),
        pytest.param(b"GET / HTTP/1.0\r\n\r\n", "found 71", id="HTTP"),
        pytest.param(msgpack.packb(5), "found 5", id="number"),
        pytest.param(msgpack.packb([1, 2]), "found [1, 2]", id="list"),
        pytest.param(msgpack.packb({}), "found {}", id="empty-map"),
        pytest.param(msgpack.packb({"cmd": 5}), "wanted", id="cmd-is-a-number"),
        pytest.param(
            msgpack.packb({"cmd": "x", "args": [1]}), "args of x: found list, wanted a map", id="args-is-a-list"
        ),
        pytest.param(msgpack.packb({1: 2}), "no msgpack map", id="number-as-key"),
        pytest.param(msgpack.packb({"cmd": b"\xff".decode("latin-1")})[:-1] + b"\xff", "no msgpack map", id="no-UTF-8"),
        pytest.param(b"\x91" * 2000 + b"\x90", "no msgpack map", id="nested-without-end"),
        pytest.param(b"\x91" * 20 + b"\x90", "found [[[", id="nested"),
        pytest.param(b"\xdd\x00\x00\xff\xff" * 5_000, "no msgpack map", id="lists-of-lists-to-be"),
        pytest.param(b"\x81\xa4args\xdd\x00\x00\xff\xff", "no msgpack map", id="a-long-list-to-be"),
        pytest.param(
            msgpack.packb({"cmd": "x", "args": {"a": [[0] * 1_000] * 60}}), "over 8192 elements", id="many-elements"
        ),
        pytest.param(
            msgpack.packb({"cmd": "x", "args": {"a": [[[[[[[[[]]]]]]]]]}}), "nested more than 8 deep", id="nested-args"
        ),
        pytest.param(msgpack.packb({"cmd": "x", "id": [1]}), "id of x: found [1], wanted", id="id-is-a-list"),
        pytest.param(msgpack.packb({"cmd": "x", "id": 1.5}), "id of x: found 1.5, wanted", id="id-is-no-whole-number"),
        pytest.param(msgpack.packb({"cmd": "x", "id": "y" * 70}), "found str of 70 characters", id="id-is-long"),
        pytest.param(msgpack.packb({"cmd": "x", "args": msgpack.ExtType(5, b"abc")}), "no msgpack map", id="ext"),
        pytest.param(b"\xdf\xff\xff\xff\xff", "no msgpack map", id="a-map-of-4-billion"),
        pytest.param(b"\xdb\xff\xff\xff\xff" + b"x" * REQUEST_BYTES_MAX, "no msgpack map", id="a-text-of-4-GB"),
        pytest.param(b"\x81\xa3cmd\xda\xff\xff" + b"x" * REQUEST_BYTES_MAX, "no msgpack map", id="over-the-limit"),
        pytest.param(msgpack.packb({"cmd": ["x" * 60_000]}), "found ", id="a-long-one-is-quoted-short"),
    ],
)
def test_what_is_no_request(data: bytes, said: str) -> None:
    with pytest.raises(BadRequest) as caught:
        all_of(Requests(), data)
    assert said in str(caught.value) and len(str(caught.value)) < 300


@settings(deadline=None, max_examples=200)
@given(data=st.binary(max_size=300))
def test_random_bytes_are_a_bad_request_or_nothing_yet(data: bytes) -> None:
    with contextlib.suppress(BadRequest):
        for request in all_of(Requests(), data):
            assert isinstance(request["cmd"], str) and isinstance(request["args"], dict)


# --- a served socket -------------------------------------------------------------------------------------------------


async def ping(arguments: dict[str, Any], _report: Report) -> Any:
    return {"pong": arguments.get("text")}


async def fail(_arguments: dict[str, Any], _report: Report) -> Any:
    raise CommandFailed("not today")


async def crash(_arguments: dict[str, Any], _report: Report) -> Any:
    raise KeyError("bug")


async def unspeakable(_arguments: dict[str, Any], _report: Report) -> Any:
    return {"object": object()}


PLAIN: Mapping[str, Handler] = {"ping": ping, "fail": fail, "crash": crash, "unspeakable": unspeakable}
OURSELVES = Rights(frozenset({os.geteuid()}))


class Any_(dict[str, Command]):
    """What is said of every command of a test that does not matter to it."""

    def __missing__(self, name: str) -> Command:
        return Command(READ, {"text": TEXT})


@contextlib.asynccontextmanager
async def served(
    path: Path,
    handlers: Mapping[str, Handler] = PLAIN,
    rights: Rights = OURSELVES,
    commands: Mapping[str, Command] | None = None,
    streams: Mapping[str, Stream] | None = None,
) -> AsyncIterator[Console]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    commands = Any_() if commands is None else commands
    served_console = Console(listener.fileno(), handlers, rights, commands, streams=streams)
    task = asyncio.create_task(served_console.run())
    try:
        yield served_console
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        listener.close()


async def reply_of(reader: asyncio.StreamReader) -> dict[str, Any]:
    unpacker = msgpack.Unpacker()
    while data := await asyncio.wait_for(reader.read(4096), 30):
        unpacker.feed(data)
        for reply in unpacker:
            return dict(reply)
    raise EOFError


def talk(
    folder: Path,
    *data: bytes,
    handlers: Mapping[str, Handler] = PLAIN,
    rights: Rights = OURSELVES,
    commands: Mapping[str, Command] | None = None,
) -> list[Any]:
    """Replies to what is sent on one connection, up to its end; each piece is sent after the reply to the last."""

    async def run() -> list[Any]:
        replies = []
        async with served(folder / "c", handlers, rights, commands):
            reader, writer = await asyncio.open_unix_connection(folder / "c")
            for piece in data:
                writer.write(piece)
                replies.append(await reply_of(reader))
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), 30) == b""
            writer.close()
        return replies

    return asyncio.run(run())


def test_several_requests_on_one_connection(tmp_path: Path) -> None:
    got = talk(tmp_path, packed(id=1, args={"text": "a"}), packed("fail", id="two"), packed("nosuch", id=3), packed())
    assert got == [
        {"id": 1, "ok": True, "result": {"pong": "a"}},
        {"id": "two", "ok": False, "error": "not today"},
        {"id": 3, "ok": False, "error": "unknown command 'nosuch'; known: crash, fail, ping, unspeakable"},
        {"id": None, "ok": True, "result": {"pong": None}},
    ]


@pytest.mark.parametrize("command, said", [("crash", "KeyError: 'bug'"), ("unspeakable", "TypeError")])
def test_a_fault_in_one_command_is_told_and_the_next_one_works(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, command: str, said: str
) -> None:
    broken, well = talk(tmp_path, packed(command, id=1), packed(id=2))
    assert (broken["id"], broken["ok"]) == (1, False)
    assert broken["error"].startswith(f"internal fault in {command}: ") and said in broken["error"]
    assert well["ok"] is True
    assert [record.message for record in caplog.records] == [f"command {command} failed"]


@pytest.mark.parametrize("garbage", [b"\xc1", b"GET / HTTP/1.0\r\n\r\n", msgpack.packb(5)], ids=repr)
def test_garbage_ends_its_own_connection_only(tmp_path: Path, garbage: bytes) -> None:
    async def run() -> None:
        async with served(tmp_path / "c"):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "c")
            other_reader, other_writer = await asyncio.open_unix_connection(tmp_path / "c")
            writer.write(packed(id=1) + garbage)
            whole = await asyncio.wait_for(reader.read(), 30)
            replies = _all(whole)
            assert sorted((reply["ok"], reply["id"]) for reply in replies) == [(False, None), (True, 1)]
            writer.close()
            other_writer.write(packed(id=2))
            assert (await reply_of(other_reader))["id"] == 2
            other_writer.close()

    asyncio.run(run())


def _all(data: bytes) -> list[dict[str, Any]]:
    unpacker = msgpack.Unpacker()
    unpacker.feed(data)
    return list(unpacker)


def test_replies_come_in_the_order_of_the_requests_one_command_at_a_time(tmp_path: Path) -> None:
    states: list[str] = []

    async def slow(_arguments: dict[str, Any], _report: Report) -> Any:
        for _ in range(10):
            await asyncio.sleep(0)
        states.append("slow is done")
        return "slow"

    async def quick(_arguments: dict[str, Any], _report: Report) -> Any:
        states.append("quick begins")
        return "quick"

    async def run() -> list[dict[str, Any]]:
        async with served(tmp_path / "c", {"slow": slow, "quick": quick}):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "c")
            writer.write(packed("slow", id=1) + packed("quick", id=2))
            replies: list[dict[str, Any]] = []
            unpacker = msgpack.Unpacker()
            while len(replies) < 2:
                unpacker.feed(await asyncio.wait_for(reader.read(4096), 30))
                replies += unpacker
            writer.close()
            return replies

    assert [(reply["id"], reply["result"]) for reply in asyncio.run(run())] == [(1, "slow"), (2, "quick")]
    assert states == ["slow is done", "quick begins"]


async def counting(arguments: dict[str, Any], report: Report) -> Any:
    for done in range(3):
        report({"stage": "hosts", "done": done, "total": 2})
    return arguments


@pytest.mark.parametrize("wanted", [True, False])
def test_progress_goes_to_who_asked_for_it_before_the_reply(tmp_path: Path, wanted: bool) -> None:
    async def run() -> list[dict[str, Any]]:
        async with served(tmp_path / "c", {"counting": counting}):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "c")
            writer.write(packed("counting", id=5, progress=wanted))
            writer.write_eof()
            replies = _all(await asyncio.wait_for(reader.read(), 30))
            writer.close()
            return replies

    *told, reply = asyncio.run(run())
    steps = [{"stage": "hosts", "done": done, "total": 2} for done in range(3)]
    assert told == ([{"id": 5, "progress": step} for step in steps] if wanted else [])
    assert reply == {"id": 5, "ok": True, "result": {}}


def test_progress_of_two_commands_on_one_connection_is_told_apart(tmp_path: Path) -> None:
    async def run() -> list[dict[str, Any]]:
        async with served(tmp_path / "c", {"counting": counting}):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "c")
            writer.write(packed("counting", id=1, progress=True) + packed("counting", id=2, progress=True))
            writer.write_eof()
            replies = _all(await asyncio.wait_for(reader.read(), 30))
            writer.close()
            return replies

    replies = asyncio.run(run())
    for number in (1, 2):
        mine = [reply for reply in replies if reply["id"] == number]
        assert [reply["progress"]["done"] for reply in mine[:-1]] == [0, 1, 2] and mine[-1]["ok"]


def test_progress_for_a_client_that_went_away_harms_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gone = asyncio.Event()
    ended: list[str] = []

    async def late(_arguments: dict[str, Any], report: Report) -> Any:
        await gone.wait()
        for done in range(100):
            report({"stage": "hosts", "done": done, "total": 100})
        ended.append("well")

    async def run() -> None:
        async with served(tmp_path / "c", {"late": late}) as served_console:
            _reader, writer = await asyncio.open_unix_connection(tmp_path / "c")
            writer.write(packed("late", progress=True))
            await until(lambda: served_console.connections == 1, lambda: asyncio.sleep(0.01))
            writer.transport.abort()
            gone.set()
            await until(lambda: served_console.connections == 0, lambda: asyncio.sleep(0.01))

    asyncio.run(run())
    assert ended == ["well"]
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


# --- who may ---------------------------------------------------------------------------------------------------------


def refused(folder: Path, **how: Any) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        async with served(folder / "c", **how):
            reader, writer = await asyncio.open_unix_connection(folder / "c")
            (reply,) = _all(await asyncio.wait_for(reader.read(), 30))
            writer.close()
            return reply

    return asyncio.run(run())


def test_a_uid_that_is_not_allowed_is_told_and_cut_off(tmp_path: Path) -> None:
    want = f"uid {os.geteuid()} may not use this socket; list it in control.allow_uids, or in control.read_uids"
    assert refused(tmp_path, rights=Rights(frozenset())) == {"id": None, "ok": False, "error": want}


def test_the_number_of_connections_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "CONNECTIONS_MAX", 0)
    assert refused(tmp_path)["error"] == "0 connections are open already"


# --- clients that vanish ---------------------------------------------------------------------------------------------


async def until(condition: Callable[[], bool], turn: Callable[[], Awaitable[Any]]) -> None:
    for _ in range(3000):
        if condition():
            return
        await turn()
    raise AssertionError("it never came to be")


def test_a_client_that_vanishes_leaves_nothing_behind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also in the middle of a command: that is given a second to end, then cancelled."""
    states: list[str] = []

    async def endless(_arguments: dict[str, Any], _report: Report) -> Any:
        states.append("begun")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            states.append("cancelled")
            raise

    async def run() -> None:
        async with served(tmp_path / "c", {**PLAIN, "endless": endless}) as served_console:
            reader, writer = await asyncio.open_unix_connection(tmp_path / "c")
            writer.write(packed("endless"))
            await until(lambda: bool(states), lambda: asyncio.sleep(0.01))
            assert served_console.connections == 1
            writer.transport.abort()
            await until(lambda: served_console.connections == 0, lambda: asyncio.sleep(0.01))
            await until(lambda: states == ["begun", "cancelled"], lambda: asyncio.sleep(0.01))
            reader, writer = await asyncio.open_unix_connection(tmp_path / "c")
            writer.write(packed(id=9))
            assert (await reply_of(reader))["id"] == 9
            writer.close()
            await until(lambda: served_console.connections == 0, lambda: asyncio.sleep(0.01))

    asyncio.run(run())
    assert not caplog.records


def test_a_client_that_asks_and_does_not_wait(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async with served(tmp_path / "c") as served_console:
            for _ in range(5):
                sock = socket.socket(socket.AF_UNIX)
                sock.connect(str(tmp_path / "c"))
                sock.sendall(packed(args={"text": "x" * 10_000}) * 5)
                sock.close()
            reader, writer = await asyncio.open_unix_connection(tmp_path / "c")
            writer.write(packed(id=9))
            assert (await reply_of(reader))["id"] == 9
            writer.close()
            await until(lambda: served_console.connections == 0, lambda: asyncio.sleep(0.01))

    asyncio.run(run())
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
