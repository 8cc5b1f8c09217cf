"""What is being served, seen from control: the current pair, the workers' pages, the wait for all to adopt."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterator
from functools import cache
from typing import Any

from ext.mac_bloom import KnownMacs, KnownOuis
from ext.page import SiteWords, WorkerPage
from ext.table import Generation, Pair, TableInvalid

from control.mac import show_mac
from control.table.rows import describe_row, port_reason
from ext import table as table_module
from fastpath.protocol import close_all

log = logging.getLogger("bootstorm.control")

UNKNOWN_S = -(1 << 62)  # as in a new site page: before everything
NEVER = "the inventory has not confirmed a table yet"
CLOCK_LOOK_S = 1.0
CLOCK_SET_S = 2.0  # a clock that is slewed moves by less between two looks


class NotAdopted(Exception):
    """Not every worker answers from the generation yet; names those that do not."""


class ServedTable:
    """The pair of generations and the pages.  confirm() and date() tell the workers how old the inventory's word is.

    What is of unknown age is for the workers older than everything: no NAK, until the inventory confirms it."""

    def __init__(self, site_fd: int, page_fds: list[int], adopted_bell: int, known_fd: int = -1) -> None:
        self.site = SiteWords(site_fd)
        self.known = KnownMacs(known_fd) if known_fd >= 0 else None  # where the kernel drops strangers
        self.pages = [WorkerPage(fd) for fd in page_fds]
        self.ouis = KnownOuis()
        self.adopted_bell = adopted_bell
        self.pair: Pair | None = None
        self.pair_fds: list[int] = []
        self.adopted = asyncio.Event()
        self.age_reason = NEVER  # why the age is not known
        self.dated_s = 0.0  # since 1970, of a table from disk; 0 once the inventory has had its say
        self.watching_clock = False
        self.clock_ahead_s = 0.0  # of the calendar's clock before CLOCK_BOOTTIME, when that date was looked at
        self.loop: asyncio.AbstractEventLoop | None = None
        self.rejections: dict[int, str] = {}

    def watch(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.loop.add_reader(self.adopted_bell, self.on_bell)
        if self.site.dated_s:  # our predecessor's table: the clock may have been set while nobody looked at it
            self.date(float(self.site.dated_s))

    def on_bell(self) -> None:
        os.eventfd_read(self.adopted_bell)
        self.adopted.set()

    def fds(self) -> list[int]:
        """base (and delta), still ours."""
        return self.pair_fds

    def take_over(self, fds: list[int]) -> None:
        """What was served when this process started; fds are borrowed.

        After an upgrade it may be laid out as another build does: then the planner has to make one of it that can be
        read, and until it has, only workers of that build answer."""
        try:
            self.serve(fds)
        except TableInvalid as foreign:
            log.warning("the table that is served cannot be read by this build (%s); another is made of it", foreign)
            self.pair_fds = [os.dup(fd) for fd in fds]

    def serve(self, fds: list[int]) -> None:
        """Look at a new pair, before any worker does; fds are borrowed.  When it raises, the one before is served."""
        pair = Pair(Generation(fds[0]), Generation(fds[1]) if len(fds) > 1 else None)
        ours: list[int] = []
        try:
            for fd in fds:
                ours.append(os.dup(fd))
            if self.known is not None:
                self.known.follow(pair)
        except BaseException:
            close_all(ours)
            raise
        before, self.pair, self.pair_fds = self.pair_fds, pair, ours
        close_all(before)

    @contextlib.contextmanager
    def serving(self, fds: list[int]) -> Iterator[None]:
        """As serve(), while the pair is handed on.  When that raises, the one before is served.

        Or the next planner would start from what no worker has, and find that nothing is new."""
        before, before_fds, self.pair_fds = self.pair, self.pair_fds, []
        try:
            self.serve(fds)
            yield
        except BaseException:
            close_all(self.pair_fds)
            self.pair, self.pair_fds = before, before_fds  # MACs that the kernel lets through now are a few too many
            raise
        close_all(before_fds)

    @property
    def generation(self) -> int:
        return self.pair.top.number if self.pair is not None else 0

    @property
    def hosts(self) -> int:
        return self.pair.top.host_count if self.pair is not None else 0

    def confirm(self, boottime_s: float) -> None:
        """The inventory's word: at that time of CLOCK_BOOTTIME, which nobody sets, it said what is served."""
        self.dated_s, self.age_reason = 0.0, ""
        self.site.confirmed_boottime_s = int(boottime_s)
        self.site.dated_s = 0  # last: who is killed in between leaves a table that is too old, never one too young

    def date(self, confirmed_s: float) -> None:
        """A table from disk: confirmed at that time since 1970, as the clock then said.

        Whether that is long ago only today's clock can tell.  While it is all that we have, a clock that is set has us
        look again: machines without a clock of their own learn the time after they have booted.  The date stands in the
        site page, so that a successor of this process looks again as well."""
        self.dated_s = confirmed_s
        self.site.dated_s = int(confirmed_s)
        self.compare_clock()
        if not self.watching_clock:
            self.watch_clock()

    def watch_clock(self) -> None:
        self.watching_clock = bool(self.dated_s) and self.loop is not None
        if self.watching_clock and self.loop is not None:
            if abs(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) - self.clock_ahead_s) > CLOCK_SET_S:
                self.compare_clock()
                log.warning("the clock was set: the age of the table from disk is %s", self.age_words())
            self.loop.call_later(CLOCK_LOOK_S, self.watch_clock)

    def compare_clock(self) -> None:
        now_s, boottime_s = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
        self.clock_ahead_s = now_s - boottime_s
        if self.dated_s > now_s:
            self.age_reason = f"it is dated {calendar(self.dated_s)}, and the clock says {calendar(now_s)}"
        elif now_s < installed_s():
            self.age_reason = f"the clock says {calendar(now_s)}, which is before this code was installed"
        else:
            self.age_reason = ""
        age_s = now_s - self.dated_s
        self.site.confirmed_boottime_s = UNKNOWN_S if self.age_reason else int(boottime_s - age_s)

    def age_s(self) -> float | None:
        """Seconds since the inventory's last word; None when that is not known, age_reason says why."""
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - self.site.confirmed_boottime_s
        return None if age > 1e15 else round(max(0.0, age), 3)

    def age_words(self) -> str:
        age = self.age_s()
        return f"unknown ({self.age_reason})" if age is None else f"{age:.0f} s"

    async def wait_adopted(self, generation: int, limit_s: float) -> None:
        """Until every slot has a live worker that answers from `generation` or a later one.  Raises NotAdopted."""
        deadline = time.monotonic() + limit_s
        while True:
            self.adopted.clear()
            late = [page.slot for page in self.pages if not page.pid or page.generation < generation]
            if not late:
                return
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self.adopted.wait()
            except TimeoutError as error:
                raise NotAdopted(
                    f"workers {late} do not answer from generation {generation} after {limit_s:.0f} s"
                    + "".join(f"; worker {slot}: {self.rejections[slot]}" for slot in late if slot in self.rejections)
                ) from error

    def counters(self) -> dict[str, int]:
        """Verdict -> count, all workers together; those that never happened are left out."""
        total: dict[str, int] = {}
        for page in self.pages:
            for name, count in page.verdicts().items():
                if count:
                    total[name] = total.get(name, 0) + count
        return total

    def send_errors(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for page in self.pages:
            for name, count in page.send_errors().items():
                total[name] = total.get(name, 0) + count
        return total

    def workers(self) -> list[dict[str, Any]]:
        return [
            {"slot": page.slot, "pid": page.pid, "generation": page.generation, **page.totals()} for page in self.pages
        ]

    def host_name(self, mac: int) -> str | None:
        row = self.pair.lookup(mac) if self.pair is not None else None
        return row["name"].decode("utf-8", "replace") if row is not None else None

    def lookup(self, mac: int, role: int = 0) -> dict[str, Any] | None:
        """What the workers know of a MAC, in words; None when the inventory has no such host."""
        row = self.row(mac, role)
        if row is None:
            return None
        return {"mac": show_mac(mac), "role": "bmc" if role else "host", **describe_row(row)}

    def row(self, mac: int, role: int = 0) -> dict[str, Any] | None:
        """As ext.table.Pair.lookup."""
        return self.pair.lookup(mac, role) if self.pair is not None else None

    def port_reason(self, mac: str) -> str | None:
        """Why a known card of a host is not served; None for any other MAC."""
        return port_reason(self.row(int(mac.replace(":", ""), 16)))

    def knows_oui(self, mac: str) -> bool:
        """Whether a MAC is one of a maker whose cards the inventory has."""
        if self.pair is None:
            return False
        self.ouis.follow(self.pair)  # here, not when a table comes: nobody waits for it then
        return int(mac.replace(":", ""), 16) in self.ouis

    def name_of(self, mac: str) -> str | None:
        """The object of the inventory that has a MAC; costs microseconds, unlike lookup()."""
        row = self.row(int(mac.replace(":", ""), 16))
        return row["name"].decode("utf-8", "replace") if row is not None else None


@cache
def installed_s() -> float:
    """No clock that is right shows less."""
    return os.stat(table_module.__file__).st_mtime


def calendar(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
