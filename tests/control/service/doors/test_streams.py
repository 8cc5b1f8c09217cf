"""control/service/doors/console.py: commands that are told piece by piece, as fast as the peer takes them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from control.service.doors import console
from control.service.doors.commands import CHANGE, READ, Command, Right, Rights
from control.service.event_ring import GAP, SERVICE, EventRing
from tests.control.service.doors.test_console import OURSELVES, _all, packed, reply_of, served, until

READER = Rights(frozenset({1 << 31}), read_uids=frozenset({os.geteuid()}))
COMMANDS = {"ping": Command(READ), "fail": Command(CHANGE), "crash": Command(CHANGE), "unspeakable": Command(READ),
            "pieces": Command(READ)}  # fmt: skip


class Endless:
    """A stream of what give() says.  open: how many are at it."""

    def __init__(self) -> None:
        self.open = 0
        self.pieces: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def give(self, number: int) -> None:
        self.pieces.put_nowait({"number": number})

    async def __call__(self, _arguments: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        self.open += 1
        try:
            while True:
                yield await self.pieces.get()
        finally:
            self.open -= 1


async def three(_arguments: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    for number in range(3):
        yield {"number": number}


def pause() -> Any:
    return asyncio.sleep(0.01)


def test_pieces_then_the_reply_then_the_next_request(tmp_path: Path) -> None:
    async def run() -> list[dict[str, Any]]:
        async with served(tmp_path / "c", streams={"pieces": three}):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "c")
            writer.write(packed("pieces", id=7, progress=True) + packed(id=8))
            writer.write_eof()
            replies = _all(await asyncio.wait_for(reader.read(), 30))
            writer.close()
            return replies

    *told, end, pong = asyncio.run(run())
    assert told == [{"id": 7, "progress": {"number": number}} for number in range(3)]
    assert end == {"id": 7, "ok": True, "result": None} and pong["id"] == 8


def test_who_takes_no_pieces_is_told_how(tmp_path: Path) -> None:
    async def run() -> dict[str, Any]:
        async with served(tmp_path / "c", streams={"pieces": three}):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "c")
            writer.write(packed("pieces"))
            reply = await reply_of(reader)
            writer.close()
            return reply

    assert asyncio.run(run())["error"] == 'pieces: it is told piece by piece; ask with "progress": true'


def test_who_may_read_follows_until_that_right_is_taken_away(tmp_path: Path) -> None:
    async def run() -> None:
        pieces = Endless()
        async with served(tmp_path / "c", rights=READER, commands=COMMANDS, streams={"pieces": pieces}) as door:
            reader, writer = await asyncio.open_unix_connection(tmp_path / "c")
            writer.write(packed("pieces", progress=True))
            pieces.give(1)
            assert (await reply_of(reader))["progress"] == {"number": 1}
            door.allow(Rights(frozenset({1 << 31})))
            pieces.give(2)
            assert (await reply_of(reader))["error"] == f"pieces: uid {os.geteuid()} may not read any more"
            await until(lambda: pieces.open == 0, pause)
            writer.close()

    asyncio.run(run())


def test_few_follow_at_once_and_who_goes_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(console.STREAMS_AT_ONCE, Right.CHANGE, 2)

    async def run() -> None:
        pieces = Endless()
        async with served(tmp_path / "c", rights=OURSELVES, commands=COMMANDS, streams={"pieces": pieces}) as door:
            followers = [await asyncio.open_unix_connection(tmp_path / "c") for _ in range(2)]
            for _reader, writer in followers:
                writer.write(packed("pieces", progress=True))
            await until(lambda: pieces.open == 2, pause)
            reader, writer = await asyncio.open_unix_connection(tmp_path / "c")
            writer.write(packed("pieces", progress=True))
            assert (await reply_of(reader))["error"] == "pieces: 2 others follow already"
            writer.write(packed(id=1))
            assert (await reply_of(reader))["ok"], "all else goes on"
            followers[0][1].transport.abort()
            await until(lambda: pieces.open == 1, pause)
            writer.write(packed("pieces", progress=True))
            await until(lambda: pieces.open == 2, pause)
            for _reader, open_writer in (followers[1], (reader, writer)):
                open_writer.transport.abort()
            await until(lambda: door.connections == 0 and pieces.open == 0, pause)
            assert not +door.streaming

    asyncio.run(run())
    assert not caplog.records


def test_a_client_that_goes_while_a_piece_is_on_its_way_is_no_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def flood(_arguments: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        while True:
            yield {"text": "x" * 100_000}

    async def run() -> None:
        async with served(tmp_path / "c", streams={"pieces": flood}) as door:
            for _ in range(5):
                reader, writer = await asyncio.open_unix_connection(tmp_path / "c")
                writer.write(packed("pieces", progress=True))
                await reader.readexactly(1)
                writer.transport.abort()
            await until(lambda: door.connections == 0, pause)

    asyncio.run(run())
    assert not caplog.records, "nor a task whose end nobody has asked for"


def test_who_takes_nothing_for_long_is_cut_off_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "SEND_S", 0.1)

    async def flood(_arguments: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        while True:
            yield {"text": "x" * 100_000}

    async def run() -> None:
        async with served(tmp_path / "c", streams={"pieces": flood}) as door:
            _reader, writer = await asyncio.open_unix_connection(tmp_path / "c", limit=1)
            writer.write(packed("pieces", progress=True))
            await until(lambda: door.counts["not_taken"] == 1 and door.connections == 0, pause)
            writer.transport.abort()

    asyncio.run(run())


def test_a_follower_that_reads_nothing_costs_nothing_and_hears_of_the_gap(tmp_path: Path) -> None:
    """What it does not take is noted once, for all who follow, and is overwritten there; another follower misses
    nothing."""

    async def run() -> None:
        loop, ring = asyncio.get_running_loop(), EventRing()
        async with served(tmp_path / "c", commands=console.COMMANDS, streams={"events": ring.stream}):
            slow, quick = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
            with slow, quick:
                for sock in (slow, quick):
                    sock.setblocking(False)
                    await loop.sock_connect(sock, str(tmp_path / "c"))
                    await loop.sock_sendall(sock, packed("events", args={"follow": True}, progress=True))
                followed = asyncio.create_task(events_of(quick, ring.first + 20_000))
                await until(lambda: len(ring.bells) == 2, pause)
                for number in range(1, 20_001):
                    ring.note("table-changed", None, None, f"{number} {'x' * 200}")
                    if not number % 200:
                        await asyncio.sleep(0)
                        await until(lambda now=number: quick_has(now), pause)  # type: ignore[misc]
                assert len(ring.places[SERVICE]) == ring.places[SERVICE].maxlen
                assert [event["number"] - ring.first for event in await followed] == list(range(20_001))
                late = await events_of(slow, ring.newest)
        missing = [event["missing"] for event in late if event["kind"] == GAP]
        assert missing and len(late) - len(missing) + sum(missing) == 20_001
        assert late[-1]["number"] == ring.newest

    heard: list[dict[str, Any]] = []

    def quick_has(number: int) -> bool:
        return bool(heard) and heard[-1]["number"] >= heard[0]["number"] + number

    async def events_of(sock: socket.socket, last: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        unpacker = msgpack.Unpacker(raw=False)
        while not found or found[-1]["number"] < last:
            data = await asyncio.get_running_loop().sock_recv(sock, 1 << 16)
            assert data, "it was cut off"
            unpacker.feed(data)
            found += [event for piece in unpacker for event in piece["progress"]["events"]]
            heard.extend(found[len(heard) :])
        return found

    asyncio.run(run())
