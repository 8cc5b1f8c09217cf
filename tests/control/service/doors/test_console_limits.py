"""control/service/doors/console.py: the two rights, arguments of the wrong kind, and the limits of whatever a peer
does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from control.service.doors import console
from control.service.doors.commands import CHANGE, FLAG, READ, TEXT, Command, Right, Rights
from control.service.doors.console import REQUEST_BYTES_MAX, BadRequest, Report, Requests
from tests.control.service.doors.test_console import OURSELVES, _all, all_of, packed, reply_of, served, talk, until

# --- rights ----------------------------------------------------------------------------------------------------------

COMMANDS = {
    "ping": Command(READ, {"text": TEXT}), "fail": Command(CHANGE), "crash": Command(CHANGE, {"wait": FLAG}),
    "unspeakable": Command(READ),
}  # fmt: skip
READER = Rights(frozenset({1 << 31}), read_uids=frozenset({os.geteuid()}))
MEMBER = Rights(frozenset({1 << 31}), read_gids=frozenset({*os.getgroups(), os.getegid()}))


@pytest.mark.parametrize("rights", [READER, MEMBER], ids=["uid", "gid"])
def test_who_may_read_reads_and_reaches_nothing_that_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rights: Rights
) -> None:
    ponged, refused = talk(tmp_path, packed(id=1), packed("fail", id=2), rights=rights, commands=COMMANDS)
    assert ponged["ok"]
    want = f"fail: uid {os.geteuid()} may only read; list it in control.allow_uids to let it change something"
    assert refused == {"id": 2, "ok": False, "error": want}
    assert caplog.messages == []


def test_every_group_of_the_peer_counts() -> None:
    rights = Rights(frozenset({0}), frozenset({7}), frozenset({30, 31}))
    assert [rights.of(0, ()), rights.of(7, ()), rights.of(8, (1, 31)), rights.of(8, (1, 2))] == [
        Right.CHANGE, Right.READ, Right.READ, Right.NONE,
    ]  # fmt: skip


def test_every_change_is_logged_with_who_said_it_and_what_came_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    talk(tmp_path, packed("fail"), packed("crash", args={"wait": True}), packed("ping"), commands=COMMANDS)
    who = f"uid {os.geteuid()} (pid {os.getpid()})"
    assert caplog.messages == [
        f"{who} says: fail",
        f"{who}: fail: failed: not today",
        f"{who} says: crash wait=True",
        "command crash failed",
        f"{who}: crash wait=True: internal fault in crash: KeyError: 'bug'",
    ]


def test_rights_that_are_taken_away_count_for_who_is_connected(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "c", commands=COMMANDS) as served_console:
            reader, writer = await asyncio.open_unix_connection(tmp_path / "c")
            writer.write(packed("fail"))
            assert (await reply_of(reader))["error"] == "not today"
            served_console.allow(READER)
            writer.write(packed("fail"))
            assert "may only read" in (await reply_of(reader))["error"]
            writer.close()

    asyncio.run(run())


def test_what_a_reader_may_ask_depends_on_the_rights_of_now(tmp_path: Path) -> None:
    """`explain` asks the inventory for who may change something; for a reader it does not."""

    async def whose(_arguments: dict[str, Any], _report: Report) -> str:
        return console.caller.get().right.name

    async def run() -> None:
        async with served(tmp_path / "c", {"ping": whose}, commands=COMMANDS) as served_console:
            reader, writer = await asyncio.open_unix_connection(tmp_path / "c")
            for rights, right in (OURSELVES, "CHANGE"), (READER, "READ"), (OURSELVES, "CHANGE"):
                served_console.allow(rights)
                writer.write(packed("ping"))
                assert (await reply_of(reader))["result"] == right
            writer.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "rights, mode",
    [(OURSELVES, 0o600), (READER, 0o666), (MEMBER, 0o666), (Rights(frozenset({0, os.geteuid()})), 0o600)],
)
def test_the_file_is_for_those_who_are_named(tmp_path: Path, rights: Rights, mode: int) -> None:
    path = tmp_path / "c"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        console.set_mode(str(path), rights)
        assert path.stat().st_mode & 0o777 == mode


def test_a_link_in_the_place_of_the_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0o640)
    (tmp_path / "c").symlink_to(tmp_path / "secret")
    console.set_mode(str(tmp_path / "c"), READER)
    console.set_mode(str(tmp_path / "secret"), READER)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o640


# --- arguments -------------------------------------------------------------------------------------------------------

NASTY: list[Any] = [
    [1], {}, {"a": [[[]]]}, 1 << 63, -(1 << 63), float("nan"), float("inf"), "x" * 60_000, "[" * 60_000, b"\xff", True,
    "\x1b[31m", "a\nb",
]  # fmt: skip


@pytest.mark.parametrize("value", NASTY, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("command", sorted(console.COMMANDS))
def test_a_value_of_another_kind_is_an_error_and_no_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, command: str, value: Any
) -> None:
    """Of every argument of every command; what gets through is of the kind that the command says."""
    kinds = console.COMMANDS[command].arguments
    got: list[dict[str, Any]] = []

    async def take(arguments: dict[str, Any], _report: Report) -> Any:
        got.append(arguments)

    for name in kinds:
        (reply,) = (
            talk(
                tmp_path / f"{name}",
                packed(command, args={name: value}),
                handlers={command: take},
                commands=console.COMMANDS,
            )
            if (tmp_path / name).mkdir() is None
            else ()
        )
        if not reply["ok"]:
            assert reply["error"].startswith(f"{command}: {name}: found ") and len(reply["error"]) < 300
            assert reply["error"].isprintable()
    assert all(kinds[name].fits(value) for each in got for name, value in each.items())
    assert not [record for record in caplog.records if record.exc_info]


# --- limits ----------------------------------------------------------------------------------------------------------


def test_pipelined_requests_wait_until_the_reply_before_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """412 kB of them made 20 GB of replies; who does not read his is cut off."""
    monkeypatch.setattr(console, "SEND_S", 0.3)
    begun: list[int] = []

    async def large(_arguments: dict[str, Any], _report: Report) -> Any:
        begun.append(1)
        return b"x" * (1 << 20)

    async def run() -> dict[str, int]:
        async with served(tmp_path / "c", {"large": large}) as served_console:
            with socket.socket(socket.AF_UNIX) as peer:
                peer.setblocking(False)
                await asyncio.get_running_loop().sock_connect(peer, str(tmp_path / "c"))
                with contextlib.suppress(BlockingIOError):
                    peer.send(packed("large") * 10_000)
                await until(lambda: bool(served_console.counts["not_taken"]), lambda: asyncio.sleep(0.01))
            return dict(served_console.counts)

    assert asyncio.run(run())["not_taken"] == 1
    assert len(begun) == 1


def test_progress_that_nobody_reads_is_left_out_and_the_reply_is_whole(tmp_path: Path) -> None:
    async def talkative(_arguments: dict[str, Any], report: Report) -> Any:
        for done in range(20_000):
            report({"stage": "s" * 500, "done": done, "total": 20_000})
        return "well"

    async def run() -> list[dict[str, Any]]:
        async with served(tmp_path / "c", {"talkative": talkative}):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "c", limit=1 << 10)
            writer.write(packed("talkative", progress=True))
            writer.write_eof()
            replies = _all(await asyncio.wait_for(reader.read(), 30))
            writer.close()
            return replies

    *told, reply = asyncio.run(run())
    assert reply["result"] == "well"
    assert 0 < len(told) < 20_000 and [each["progress"]["done"] for each in told] == list(range(len(told)))


@pytest.mark.parametrize(
    "limit, sent",
    [pytest.param("IDLE_S", b"", id="idle"), pytest.param("REQUEST_S", packed()[:-1], id="half-a-request")],
)
def test_who_says_nothing_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, sent: bytes) -> None:
    monkeypatch.setattr(console, limit, 0.1)

    async def run() -> None:
        async with served(tmp_path / "c") as served_console:
            reader, writer = await asyncio.open_unix_connection(tmp_path / "c")
            writer.write(sent)
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()
            assert served_console.counts["timed_out"] == 1 and not served_console.peers

    asyncio.run(run())


def test_a_request_in_drops_has_a_limit_of_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its first octet on, however often another one comes."""
    monkeypatch.setattr(console, "REQUEST_S", 0.3)

    async def run() -> None:
        async with served(tmp_path / "c") as served_console:
            with socket.socket(socket.AF_UNIX) as peer:
                peer.setblocking(False)
                await asyncio.get_running_loop().sock_connect(peer, str(tmp_path / "c"))
                dripped = 0
                while not served_console.counts["timed_out"] and dripped < 100:
                    with contextlib.suppress(OSError):
                        peer.send(b"\xdb\x00\x00\xff\xff"[dripped : dripped + 1] or b"x")
                    dripped += 1
                    await asyncio.sleep(0.05)
                assert dripped < 20

    asyncio.run(run())


def test_a_request_over_the_limit_is_refused_in_whatever_parts(tmp_path: Path) -> None:
    """Also one whose elements are complete one by one, so that no part of it is over the limit."""
    data = b"\x82\xa3cmd\xa4ping\xa4args\x81\xa1a\xdc\x03\xff" + (b"\xda\x10\x00" + b"x" * 4096) * 1023
    requests = Requests()
    with pytest.raises(BadRequest, match="it is larger"):
        for at in range(0, len(data), console.READ_BYTES):
            all_of(requests, data[at : at + console.READ_BYTES])
    assert requests.fed <= REQUEST_BYTES_MAX + console.READ_BYTES


@pytest.mark.parametrize(
    "limit, most, who, reason",
    [
        pytest.param("READERS_MAX", 3, READER, "readers_limit", id="readers"),
        pytest.param("CONNECTIONS_MAX", 3, READER, "all_taken", id="all"),
    ],
)
def test_connections_are_bounded_and_the_refused_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: int, who: Rights, reason: str
) -> None:
    monkeypatch.setattr(console, limit, most)

    async def run() -> dict[str, Any]:
        async with served(tmp_path / "c", rights=who) as served_console:
            writers = []
            for _ in range(3):
                reader, writer = await asyncio.open_unix_connection(tmp_path / "c")
                writer.write(packed())
                assert (await reply_of(reader))["ok"]
                writers.append(writer)
            for _ in range(5):
                reader, writer = await asyncio.open_unix_connection(tmp_path / "c")
                assert (await reply_of(reader))["ok"] is False
                writer.close()
            for writer in writers:
                writer.close()
            return served_console.status()

    found = asyncio.run(run())
    assert found["refused"] == {reason: 5} and found["served"] == 3
