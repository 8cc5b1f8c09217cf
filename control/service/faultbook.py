"""The faults of the inventory, all of them: when each was first seen, what is new, and pages of them for `ctl faults`.

A refresh replaces all; a look-up those of the objects that it read.  A hundred thousand are taken up and looked through
in pieces, between which control's loop goes on.
"""

from __future__ import annotations

import asyncio
import difflib
import fnmatch
import hashlib
import logging
import re
import time
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, TypeVar

from control.planner.faultlist import FAULTS_MAX, Fault, unpacked_faults
from control.service.doors.commands import FAULTS_A_PAGE
from control.service.event_ring import Note, nowhere
from control.sources.reasons import KINDS, OTHER

log = logging.getLogger("bootstorm.faults")

A_PIECE: Final = 1_000  # taken up at once: a millisecond
SCAN_S: Final = 0.005  # looked through at once
PAGE_CHARS_MAX: Final = 1 << 18
NEW_LOGGED_MAX: Final = 20  # lines until the next refresh; of more, how many
NOTED_MAX: Final = 100  # events of one report and sort; of more, how many
CONFLICT: Final = "conflict"
T = TypeVar("T")


class WrongFilter(ValueError):
    """There is no such kind; says which there are."""


class FaultBook:
    """known: fault -> its number and when it was first seen, in the order of the numbers, which only grow: who reads in
    pages misses none and sees none twice, whatever changes meanwhile."""

    def __init__(self, clock: Callable[[], float] = time.time, note: Note = nowhere) -> None:
        self.clock = clock
        self.note = note
        self.known: dict[Fault, tuple[int, float]] = {}
        self.order: list[Fault] = []
        self.numbers = array("q")  # of `order`
        self.objects: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.left_out = 0  # that are only counted
        self.digest = b""  # of the last refresh's list, while nothing else has changed the book
        self.last = 0  # number
        self.logged = self.unlogged = 0  # new ones since the last refresh
        self.turn = asyncio.Lock()
        self.under_way: set[asyncio.Task[None]] = set()

    def take(self, report: Mapping[str, Any], whole: bool) -> None:
        """A planner's report (control/planner/planner.py: write_report).  whole: of a refresh, which read everything.

        Returns at once; page() waits until it is taken up."""
        read = frozenset(report.get("read", ()))
        if not whole and not report["faults"] and self.objects.keys().isdisjoint(read) and not self.under_way:
            return
        task = asyncio.get_running_loop().create_task(self.take_up(report, whole, read), name="faults")
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)

    async def take_up(self, report: Mapping[str, Any], whole: bool, read: Collection[str]) -> None:
        content = report.get("book", b"") + b"%d" % report.get("book_left_out", 0)
        digest = hashlib.blake2b(content, digest_size=16).digest() if whole else b""
        async with self.turn:
            if whole and digest == self.digest:
                self.tell([], whole)
                return
            try:
                told = await self.told(report)
            except ValueError:
                log.exception("the planner's list of faults cannot be read; the one before it stays")
                return
            left_out = report.get("book_left_out", 0)
            now = self.clock()
            order = [f async for f in in_pieces(self.order) if f in told or not (whole or f[0] in read)]
            known = {fault: self.known[fault] async for fault in in_pieces(order)}
            new = [fault async for fault in in_pieces(told) if fault not in self.known]
            gone = [fault async for fault in in_pieces(self.order) if fault not in known]
            room = max(0, FAULTS_MAX - len(order))
            async for fault in in_pieces(new[:room]):
                self.last += 1
                known[fault] = (self.last, now)
            order += new[:room]
            numbers = array("q", [known[fault][0] async for fault in in_pieces(order)])
            objects = Counter([fault[0] async for fault in in_pieces(order)])
            kinds = Counter([fault[1] async for fault in in_pieces(order)])
            self.known, self.order, self.numbers, self.objects, self.kinds = known, order, numbers, objects, kinds
            self.digest = digest
            self.left_out = left_out + len(new[room:]) if whole else self.left_out + len(new[room:])
            self.tell(new, whole)
            await self.tell_followers(gone, "ended")
            await self.tell_followers(new, "appeared")

    @staticmethod
    async def told(report: Mapping[str, Any]) -> dict[Fault, None]:
        """The faults of a report; of a planner that is older than this control, as many as it says."""
        kinds = {kind: kind for kind in KINDS}
        if "book" in report:
            faults: Iterable[Fault] = unpacked_faults(report["book"])
        else:
            faults = [(name, OTHER, reason) for name, reasons in report["faults"].items() for reason in reasons]
        return {(name, kinds.get(kind, kind), reason): None async for name, kind, reason in in_pieces(faults)}

    def tell(self, new: list[Fault], whole: bool) -> None:
        """In the log: the first by line, of the others how many, and that with the next refresh."""
        if whole:
            self.logged = 0
        lines = new[: max(0, NEW_LOGGED_MAX - self.logged)]
        for name, kind, reason in lines:
            log.warning("new: %s: %s [%s]", name, reason, kind)
        self.logged += len(lines)
        self.unlogged += len(new) - len(lines)
        if whole and self.unlogged:
            log.warning("%d more faults of the inventory are new; all of them: bootstorm ctl faults", self.unlogged)
            self.unlogged = 0

    async def tell_followers(self, faults: list[Fault], what: str) -> None:
        """By an event each, up to NOTED_MAX; conflicts are a sort of their own."""
        counts: Counter[str] = Counter()
        async for named, kind, reason in in_pieces(faults):
            sort = CONFLICT if kind == CONFLICT else "fault"
            counts[sort] += 1
            if counts[sort] <= NOTED_MAX:
                self.note(f"{sort}-{what}", named, None, reason if sort == CONFLICT else f"{reason} [{kind}]")
        for sort, count in counts.items():
            if count > NOTED_MAX:
                self.note(
                    f"{sort}-{what}", None, None, f"{count - NOTED_MAX:,} more; those of now: bootstorm ctl faults"
                )

    async def page(
        self, named: str | None = None, kind: str | None = None, after: int = 0, limit: int = FAULTS_A_PAGE
    ) -> dict[str, Any]:
        """Those behind a number, of an object (or of all that a pattern of `*`, `?`, `[...]` fits) and of a kind.

        "after": where the next page begins; "more": there may be one, whether this one has anything or not.  Raises
        WrongFilter."""
        if kind is not None and kind not in KINDS:
            near = difflib.get_close_matches(kind[:64], KINDS, n=1)
            guess = f"did you mean {near[0]}?" if near else f"wanted one of {', '.join(KINDS)}"
            raise WrongFilter(f"kind {kind[:64]!r}: there is none; {guess}")
        if self.under_way:
            await asyncio.wait(set(self.under_way))
        fits = re.compile(fnmatch.translate(named)).fullmatch if named is not None else None
        found: list[dict[str, Any]] = []
        chars = 0
        until_s = time.perf_counter() + SCAN_S
        for at in range(bisect_right(self.numbers, after), len(self.order)):
            fault = self.order[at]
            if (kind is None or fault[1] == kind) and (fits is None or fault[0] == named or fits(fault[0])):
                first_s = self.known[fault][1]
                found.append(
                    {"object": fault[0], "kind": fault[1], "reason": fault[2], "first_seen_s": round(first_s, 3)}
                )
                chars += len(fault[0]) + len(fault[2])
            after = self.numbers[at]
            full = len(found) >= limit or chars >= PAGE_CHARS_MAX
            if full or (not at % 64 and time.perf_counter() > until_s):
                break
        return {
            "total": len(self.order) + self.left_out,
            "objects": len(self.objects),
            "kinds": dict(sorted(self.kinds.items())),
            "left_out": self.left_out,
            "faults": found,
            "after": after,
            "more": bool(self.numbers) and after < self.numbers[-1],
        }


async def in_pieces(items: Iterable[T]) -> Any:
    """The items, and after A_PIECE of them whatever else the loop has to do."""
    for at, item in enumerate(items, 1):
        yield item
        if not at % A_PIECE:
            await asyncio.sleep(0)
