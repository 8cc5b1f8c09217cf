"""Asks the service what the board shows, once for all who look, and remembers the last answers with their age.

While the service is down, slow, restarted or upgraded, the last answers stay, with the reason why there are no newer
ones; the next good answer ends that.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import msgpack

from control.board.figures import History
from control.service_client import CallFailed, ServiceClient, Unreachable

log = logging.getLogger("bootstorm.board")

PACE_S: Final = 1.0
SLOWEST_S: Final = 10.0
REST: Final = 15  # times as long as the answers took, so that asking costs the service a small share of its time
UNWATCHED_S: Final = 5.0  # nobody looks: only the history goes on
PATIENCE_S: Final = 2.0  # of a page that is loaded
ANSWER_S: Final = 5.0  # for an answer of the service
STUCK_SHOWN: Final = 100
STUCK_A_PAGE: Final = 500
LOOKING_S: Final = 1.0  # for those that stand longest, of the service's time
PAGES_MAX: Final = 40  # of the list of those: a page is at most a quarter of a second of looking
CONFLICTS_SHOWN: Final = 20
EVENTS_KEPT: Final = 200
PIECE_BYTES_MAX: Final = 1 << 22
AT_ONCE: Final = 1  # call of the pages, and one of the figures: the service takes two costly ones of a reader
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
        self.stuck_seen = 0  # of which those in `stuck` stand longest; 0: of all
        self.conflicts: list[Mapping[str, Any]] = []
        self.events: deque[Mapping[str, Any]] = deque(maxlen=EVENTS_KEPT)
        self.taken_s = 0.0  # since 1970, of the last good status; 0: there was none
        self.looked_s = 0.0  # the same of overview, stuck and conflicts
        self.failure = "the service was not asked yet"
        self.failed_since_s = time.time()
        self.asked = False  # and had an answer or none
        self.events_failure = ""
        self.looked_failure = ""  # why overview, stuck or conflicts are refused by a service that answers
        self.history = History()
        self.version = 0
        self.watchers = 0
        self.wanted = asyncio.Event()
        self.changed = asyncio.Condition()
        self.turns = asyncio.Semaphore(AT_ONCE)
        self.waiting = 0
        self.threads = ThreadPoolExecutor(AT_ONCE, "pages")
        self.own_thread = ThreadPoolExecutor(1, "figures")

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
        """ask(client), beside the loop, no later than ANSWER_S from now; several calls of one question count as one.
        Raises CallFailed, Busy."""
        if self.waiting >= WAITING_MAX:
            raise Busy(f"{self.waiting} questions wait for the service already; try again in a moment")
        self.waiting += 1
        try:
            try:
                async with asyncio.timeout(ANSWER_S):
                    await self.turns.acquire()
            except TimeoutError as late:
                raise Busy(f"the service lets others wait for {ANSWER_S:g} s already; try again in a moment") from late
            try:
                return await asyncio.get_running_loop().run_in_executor(self.threads, ask, self.client())
            finally:
                self.turns.release()
        finally:
            self.waiting -= 1

    def client(self) -> ServiceClient:
        made = ServiceClient(self.path)
        made.connect_s, made.answer_s = ANSWER_S, ANSWER_S
        return made

    async def look(self, command: str, arguments: dict[str, Any]) -> Any:
        """As call(), for the figures, which wait for nobody's page."""
        client = self.client()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.own_thread, client.call, command, arguments)

    # --- asking ------------------------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """For ever: whatever goes wrong in one turn is said, and the next one tries again."""
        while True:
            began = time.monotonic()
            try:
                await self.ask()
                self.failure = ""
            except Exception as failed:  # whatever another build says must not end the turns
                self.fail(reason_of(failed))
            took_s = time.monotonic() - began
            async with self.changed:
                self.version += 1
                self.changed.notify_all()
            await self.rest(min(max(PACE_S - took_s, REST * took_s), SLOWEST_S))

    def fail(self, why: str) -> None:
        if not self.failure or not self.asked:
            self.asked = True
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
        """What was known of that which is not answered, or not understood, stays.  Raises whatever goes wrong."""
        status = mapping(await self.look("status", {}), "status")
        answered_s = time.monotonic()
        if self.failure and self.taken_s:
            log.info("the service at %s answers again", self.path)
        self.asked = True
        self.status, self.taken_s = status, time.time()
        if self.watchers or self.overview is None:
            await self.look_further(status)
        self.history.take(answered_s, status)

    async def look_further(self, status: Mapping[str, Any]) -> None:
        """A refusal, as of a service without a boot ledger, costs what is asked for here.  Raises whatever else goes
        wrong."""
        try:
            overview = mapping(await self.look("overview", {}), "overview")
            self.overview, self.looked_s = overview, time.time()
            self.stuck = await self.find_stuck() if any_stuck(overview) else []
            conflicts = (status.get("fault_kinds") or {}).get("conflict", 0)
            wanted = {"kind": "conflict", "limit": CONFLICTS_SHOWN}
            self.conflicts = (await self.look("faults", wanted))["faults"] if conflicts else []
            self.looked_failure = ""
        except Unreachable:
            raise
        except CallFailed as refused:
            if self.looked_failure != str(refused):
                log.warning("no machines from %s: %s", self.path, refused)
            self.looked_failure = str(refused)

    async def find_stuck(self) -> list[Mapping[str, Any]]:
        """Those that stand longest, of all that are found in LOOKING_S; `stuck_seen` says how many these were, where
        there are more."""
        found: list[Mapping[str, Any]] = []
        after, seen, more = 0, 0, True
        until_s = time.monotonic() + LOOKING_S
        for _ in range(PAGES_MAX):
            page = await self.look("hosts", {"progress": "stuck", "after": after, "limit": STUCK_A_PAGE})
            after, more = page["after"], page["more"]
            seen += len(page["hosts"])
            found = heapq.nsmallest(STUCK_SHOWN, [*found, *page["hosts"]], key=lambda host: host["stage_s"] or 0)
            if not more or (time.monotonic() > until_s and len(found) >= STUCK_SHOWN):
                break
        self.stuck_seen = seen if more else 0
        return found

    async def follow_events(self) -> None:
        """For ever; whoever is at the other end goes on from our number."""
        rest_s = PACE_S
        while True:
            try:
                await self.take_events()
                rest_s = PACE_S
            except Exception as failed:  # as in follow()
                why = reason_of(failed)
                if why != self.events_failure and not isinstance(failed, OSError):  # follow() logs who is not there
                    log.warning("no events from %s: %s", self.path, why)
                self.events_failure = why
                rest_s = min(2 * rest_s, SLOWEST_S) if not isinstance(failed, OSError) else PACE_S
            await asyncio.sleep(rest_s)

    async def take_events(self) -> None:
        """Until the service ends the stream.  Raises whatever goes wrong."""
        since = self.events[-1]["number"] if self.events else None
        reader, writer = await asyncio.open_unix_connection(self.path)
        try:
            self.events_failure = ""
            arguments = {"since": since, "follow": True}
            writer.write(msgpack.packb({"id": 1, "cmd": "events", "args": arguments, "progress": True}))
            async for piece in pieces(reader):
                found = [mapping(event, "an event") for event in piece["events"]]
                for event in found:
                    if not isinstance(event["number"], int):
                        raise TypeError(f"an event's number is {str(event['number'])[:80]!r}")
                self.events.extend(found)
        finally:
            writer.close()


async def pieces(reader: asyncio.StreamReader) -> AsyncIterator[Mapping[str, Any]]:
    """Of a command that is a stream, until the service ends it.  Raises CallFailed, OSError, ValueError, TypeError,
    msgpack's exceptions."""
    unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=PIECE_BYTES_MAX)
    while data := await reader.read(1 << 16):
        unpacker.feed(data)
        for reply in unpacker:
            if "progress" not in mapping(reply, "events"):
                if not reply.get("ok"):
                    raise CallFailed(str(reply.get("error")))
                return
            yield mapping(reply["progress"], "events")


def mapping(said: Any, what: str) -> Mapping[str, Any]:
    """Raises TypeError."""
    if not isinstance(said, Mapping):
        raise TypeError(f"{what}: found {str(said)[:80]!r}, wanted a map")
    return said


def reason_of(failed: Exception) -> str:
    """For people: what does not let the board know more."""
    if isinstance(failed, (CallFailed, Busy)):
        return str(failed)
    if isinstance(failed, OSError):
        return f"the board cannot ask it: {failed.strerror or failed}"
    return f"it says what this board does not understand ({failed!r:.200}); is it of another build?"


def any_stuck(overview: Mapping[str, Any]) -> bool:
    return any(counts.get("stuck") for counts in overview["totals"]["states"].values())
