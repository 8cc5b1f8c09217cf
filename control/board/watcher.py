"""Asks the service what the board shows, once for all who look, and remembers the last answers with their age.

While the service is down, slow, restarted or upgraded, the last answers stay, with the reason why there are no newer
ones; the next good answer ends that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import msgpack

from control.board.figures import History
from control.service_client import CallFailed, ServiceClient

log = logging.getLogger("bootstorm.board")

PACE_S: Final = 1.0
SLOWEST_S: Final = 10.0
REST: Final = 15  # times as long as the answers took, so that asking costs the service a small share of its time
UNWATCHED_S: Final = 5.0  # nobody looks: only the history goes on
PATIENCE_S: Final = 2.0  # of a page that is loaded
ANSWER_S: Final = 5.0  # for an answer of the service
STUCK_SHOWN: Final = 100
PAGES_MAX: Final = 40  # of the list of those: a page is at most a quarter of a second of looking
CONFLICTS_SHOWN: Final = 20
EVENTS_KEPT: Final = 200
PIECE_BYTES_MAX: Final = 1 << 22
AT_ONCE: Final = 2  # calls: the service takes two costly ones of a reader
WAITING_MAX: Final = 64


class Busy(Exception):
    """So many wait for the service already that one more would wait for nothing."""


class Watcher:
    """path: of the control socket."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.status: Mapping[str, Any] | None = None
        self.overview: Mapping[str, Any] | None = None
        self.stuck: list[Mapping[str, Any]] = []
        self.conflicts: list[Mapping[str, Any]] = []
        self.events: deque[Mapping[str, Any]] = deque(maxlen=EVENTS_KEPT)
        self.taken_s = 0.0  # since 1970, of the last good status; 0: there was none
        self.looked_s = 0.0  # the same of overview, stuck and conflicts
        self.failure = "the service was not asked yet"
        self.failed_since_s = time.time()
        self.history = History()
        self.version = 0
        self.watchers = 0
        self.wanted = asyncio.Event()
        self.changed = asyncio.Condition()
        self.turns = asyncio.Semaphore(AT_ONCE)
        self.waiting = 0
        self.threads = ThreadPoolExecutor(AT_ONCE, "service")

    # --- for the pages -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def watched(self) -> Any:
        """While somebody looks, the figures are asked for at their full pace."""
        self.watchers += 1
        self.wanted.set()
        try:
            yield
        finally:
            self.watchers -= 1

    async def refreshed(self, oldest_s: float) -> None:
        """Returns once the figures are no older than that, could not be asked for, or let themselves be waited for too
        long.  Only within watched()."""
        if time.time() - self.looked_s <= oldest_s:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S), self.changed:
                before = self.version
                await self.changed.wait_for(lambda: self.version != before)

    async def versions(self) -> AsyncIterator[int]:
        """Each time that there is something new; those that nobody waited for are left out."""
        told = 0
        while True:
            async with self.changed:
                await self.changed.wait_for(lambda: self.version != told)  # noqa: B023 (told is of this turn)
                told = self.version
            yield told

    async def call(self, command: str, arguments: dict[str, Any]) -> Any:
        """Raises CallFailed, Busy."""
        return await self.run(lambda client: client.call(command, arguments))

    async def run(self, ask: Any) -> Any:
        """ask(client), beside the loop; several calls of one question count as one.  Raises CallFailed, Busy."""
        if self.waiting >= WAITING_MAX:
            raise Busy(f"{self.waiting} questions wait for the service already; try again in a moment")
        self.waiting += 1
        try:
            async with self.turns:
                client = ServiceClient(self.path)
                client.connect_s, client.answer_s = ANSWER_S, ANSWER_S
                return await asyncio.get_running_loop().run_in_executor(self.threads, ask, client)
        finally:
            self.waiting -= 1

    # --- asking ------------------------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """For ever."""
        while True:
            began = time.monotonic()
            try:
                await self.ask()
                self.failure = ""
            except (CallFailed, Busy) as failed:
                self.fail(str(failed))
            except (KeyError, TypeError, ValueError) as odd:
                self.fail(f"it says what this board does not understand ({odd!r}); is it of another build?")
            took_s = time.monotonic() - began
            async with self.changed:
                self.version += 1
                self.changed.notify_all()
            await self.rest(min(max(PACE_S - took_s, REST * took_s), SLOWEST_S))

    def fail(self, why: str) -> None:
        if not self.failure:
            log.warning("no figures from %s: %s", self.path, why)
            self.failed_since_s = time.time()
        self.failure = why

    async def rest(self, seconds: float) -> None:
        if self.watchers:
            await asyncio.sleep(seconds)
            return
        self.wanted.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, UNWATCHED_S)):
                await self.wanted.wait()

    async def ask(self) -> None:
        """Raises CallFailed, Busy; then what was known stays."""
        status = await self.call("status", {})
        self.history.take(time.monotonic(), status)
        if self.watchers or self.overview is None:
            overview = await self.call("overview", {})
            stuck = await self.find_stuck() if any_stuck(overview) else []
            conflicts = (status.get("fault_kinds") or {}).get("conflict", 0)
            found = await self.call("faults", {"kind": "conflict", "limit": CONFLICTS_SHOWN}) if conflicts else {}
            self.overview, self.stuck, self.conflicts = overview, stuck, found.get("faults", [])
            self.looked_s = time.time()
        if self.failure and self.taken_s:
            log.info("the service at %s answers again", self.path)
        self.status, self.taken_s = status, time.time()

    async def find_stuck(self) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        after = 0
        for _ in range(PAGES_MAX):
            page = await self.call("hosts", {"progress": "stuck", "after": after, "limit": STUCK_SHOWN})
            after = page["after"]
            found += page["hosts"]
            if len(found) >= STUCK_SHOWN or not page["more"]:
                break
        return sorted(found[:STUCK_SHOWN], key=lambda host: host["stage_s"] or 0)

    async def follow_events(self) -> None:
        """For ever; whoever is at the other end goes on from our number."""
        while True:
            since = self.events[-1]["number"] if self.events else None
            with contextlib.suppress(OSError, ValueError, msgpack.UnpackException):  # follow() says who does not answer
                async for piece in pieces(self.path, "events", {"since": since, "follow": True}):
                    self.events.extend(piece["events"])
            await asyncio.sleep(PACE_S)


async def pieces(path: str, command: str, arguments: dict[str, Any]) -> AsyncIterator[Mapping[str, Any]]:
    """Of a command that is a stream, until the service ends it.  Raises OSError, ValueError, msgpack's exceptions."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(msgpack.packb({"id": 1, "cmd": command, "args": arguments, "progress": True}))
        unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=PIECE_BYTES_MAX)
        while data := await reader.read(1 << 16):
            unpacker.feed(data)
            for reply in unpacker:
                if not isinstance(reply, dict) or "progress" not in reply:
                    return
                yield reply["progress"]
    finally:
        writer.close()


def any_stuck(overview: Mapping[str, Any]) -> bool:
    return any(counts.get("stuck") for counts in overview["totals"]["states"].values())
