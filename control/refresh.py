"""When to read the inventory, what to do when that fails, and when a refresh is done: all workers answer from it.

Drives the planner, a child process: starts it, gives it one job at a time with a time limit, ends it when it hangs.
Keeps the last good table; a failure only shows in the status, in the log once, and in the next try's delay.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgpack

from control.config import Config, resolve_refresh_interval
from control.links import LinkAddress
from control.planner import KINDS, Failed, LookUp, PlanBegin, Planned, Progress, Refresh, Relink
from control.table import ServedTable
from fastpath.protocol import Channel, ChannelClosed, close_all, memfd

log = logging.getLogger("bootstorm.refresh")

JOB_LIMIT_S = 900.0  # far above any refresh that was ever measured: a planner that takes longer hangs
RETRY_FIRST_S, RETRY_MAX_S = 2.0, 60.0
CONFIRM_S = 5.0  # for all workers to adopt; they need milliseconds


class RefreshFailed(Exception):
    """A refresh that was asked for did not happen; the old table serves on."""


@dataclass(slots=True)
class InventoryState:
    """What `ctl status` says of the inventory."""

    failure: str = ""
    confirmed_s: float = 0.0  # since 1970
    last_duration_s: float = 0.0
    stage: str = ""
    done: int = 0
    total: int = 0
    stages_s: dict[str, float] = field(default_factory=dict)
    quarantined: int = 0
    faults: dict[str, list[str]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)  # mac -> why it is not answered

    def reasons_of(self, mac: str) -> str | None:
        return self.reasons.get(mac)

    def word(self, hosts: bool) -> str:
        """ok; stale: the last try failed and an older table serves; down: it failed and there is nothing to serve."""
        if not self.failure and self.confirmed_s:
            return "ok"
        return "stale" if hosts else "down"


class Refresher:
    """Owner of the planner process.  publish(planned, fds) hands a new pair on; fds are borrowed."""

    def __init__(
        self, config: Config, table: ServedTable, publish: Callable[[Planned, list[int]], None], generation: int
    ) -> None:
        self.config = config
        self.table = table
        self.publish = publish
        self.generation = generation
        self.state = InventoryState()
        self.links: list[LinkAddress] = []
        self.job, self.starting = asyncio.Lock(), asyncio.Lock()
        self.process: asyncio.subprocess.Process | None = None
        self.channel: Channel | None = None
        self.replies: asyncio.Queue[Planned | Failed] = asyncio.Queue()
        self.poke = asyncio.Event()

    # --- the planner process -------------------------------------------------------------------------------------

    async def start_planner(self) -> None:
        """A fresh planner with what is served now (or with what the disk has), configured anew."""
        async with self.starting:
            await self._start_planner()

    async def running_planner(self) -> Channel:
        """The planner's channel; starts one when there is none, and one only, whoever needs it at the same time."""
        async with self.starting:
            if self.channel is None:
                await self._start_planner()
            assert self.channel is not None
            return self.channel

    async def _start_planner(self) -> None:
        await self.end_planner()
        ours, theirs = Channel.pair(KINDS)
        argv = [sys.executable, "-P", "-m", "control", "planner", str(theirs.fileno())]
        self.process = await asyncio.create_subprocess_exec(*argv, pass_fds=[theirs.fileno()])
        theirs.close()
        ours.sock.setblocking(False)
        self.channel = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self.on_message)
        begin = PlanBegin(
            config_path=str(self.config.path), links=[list(link) for link in self.links], generation=self.generation
        )
        with memfd("bootstorm-config", self.config.text) as config_fd:
            ours.send(begin, [config_fd, *self.table.fds()])

    async def end_planner(self) -> None:
        self.drop_channel()
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
            self.process = None

    def drop_channel(self) -> None:
        if self.channel is not None:
            asyncio.get_running_loop().remove_reader(self.channel.fileno())
            self.channel.close()
            self.channel = None

    def on_message(self) -> None:
        assert self.channel is not None
        try:
            message, fds = self.channel.receive()
        except BlockingIOError:
            return
        except ChannelClosed as gone:
            self.drop_channel()
            self.replies.put_nowait(Failed(kind="internal", reason=f"the planner ended ({gone}); see its log lines"))
            return
        if isinstance(message, Progress):
            self.state.stage, self.state.done, self.state.total = message.stage, message.done, message.total
        elif isinstance(message, Planned):
            self.on_planned(message, fds)
        elif isinstance(message, Failed):
            self.replies.put_nowait(message)

    def on_planned(self, planned: Planned, fds: list[int]) -> None:
        report_fd, *table_fds = fds
        with os.fdopen(report_fd, "rb") as file:
            file.seek(0)
            report = msgpack.unpack(file, strict_map_key=False)
        if planned.origin == "inventory":
            self.state.faults, self.state.reasons = report["faults"], report["reasons"]
            self.state.quarantined = planned.quarantined
        elif planned.origin == "hosts":
            self.state.faults |= report["faults"]
            self.state.reasons |= report["reasons"]
        if planned.published:
            self.generation = planned.generation
            self.publish(planned, table_fds)
        close_all(table_fds)
        if planned.origin in ("inventory", "disk"):
            self.table.confirm(planned.confirmed_s)
        if planned.origin in ("inventory", "hosts"):
            self.replies.put_nowait(planned)
        else:
            log.info("generation %d: %d hosts (%s)", planned.generation, planned.hosts, planned.origin)

    # --- jobs ----------------------------------------------------------------------------------------------------

    async def relink(self, links: list[LinkAddress]) -> None:
        """Interfaces changed; the first call starts everything."""
        self.links = links
        if self.channel is None:
            await self.running_planner()
            return
        try:
            self.channel.send(Relink(links=[list(link) for link in links]))
        except ChannelClosed:
            await self.start_planner()

    async def refresh(self, force: bool = False) -> dict[str, Any]:
        """Read the inventory now.  Returns the figures of `refresh --json`; raises RefreshFailed with the reason.

        Who asked may go away meanwhile: the job goes on, or the next one would get its answer."""
        return await asyncio.shield(asyncio.get_running_loop().create_task(self.do_refresh(force), name="job"))

    async def look_up(self, macs: list[str], names: list[str] | None = None) -> tuple[dict[str, Any], list[str]]:
        """Read single hosts now; the figures, and which MACs the inventory does not have.  Raises RefreshFailed."""
        job = self.do_look_up(macs, names or [])
        return await asyncio.shield(asyncio.get_running_loop().create_task(job, name="job"))

    async def do_look_up(self, macs: list[str], names: list[str]) -> tuple[dict[str, Any], list[str]]:
        async with self.job:
            started = time.monotonic()
            reply = await self.give(LookUp(macs=macs, names=names))
            if isinstance(reply, Failed):
                raise RefreshFailed(reply.reason)
            return self.figures(reply, started), reply.missing

    async def give(self, message: Refresh | LookUp) -> Planned | Failed:
        """One job to the planner, and its answer; the caller holds self.job."""
        try:
            channel = await self.running_planner()
            while not self.replies.empty():
                self.replies.get_nowait()  # of a planner that died between two jobs
            channel.send(message)
            return await asyncio.wait_for(self.replies.get(), JOB_LIMIT_S)
        except TimeoutError:
            await self.end_planner()
            return Failed(kind="internal", reason=f"the planner took over {JOB_LIMIT_S:.0f} s and was ended")
        except ChannelClosed as gone:
            self.drop_channel()
            return Failed(kind="internal", reason=f"the planner ended ({gone}); see its log lines")
        except OSError as error:
            return Failed(kind="internal", reason=f"cannot start the planner: {error}")

    async def do_refresh(self, force: bool) -> dict[str, Any]:
        async with self.job:
            started = time.monotonic()
            reply = await self.give(Refresh(force=force))
            self.state.last_duration_s = time.monotonic() - started
            self.state.stage = ""
            if isinstance(reply, Failed):
                self.note_failure(reply)
                raise RefreshFailed(reply.reason)
            return self.note_success(reply, started)

    def note_failure(self, failed: Failed) -> None:
        if self.state.failure != failed.reason:  # once, not at every try
            log.warning("refresh failed: %s; generation %d serves on", failed.reason, self.table.generation)
        self.state.failure = failed.reason

    def note_success(self, planned: Planned, started: float) -> dict[str, Any]:
        if self.state.failure:
            log.info("the inventory is back")
        self.state.failure = ""
        self.state.confirmed_s = planned.confirmed_s
        self.state.stages_s = planned.stages_s
        return self.figures(planned, started)

    def figures(self, planned: Planned, started: float) -> dict[str, Any]:
        """What `refresh --json` says of a job."""
        figures = {
            "generation": planned.generation,
            "hosts": planned.hosts,
            "added": planned.added,
            "changed": planned.changed,
            "removed": planned.removed,
            "quarantined": planned.quarantined,
            "seconds": round(time.monotonic() - started, 3),
        }
        if planned.published:
            log.info(
                "generation %(generation)d: %(hosts)d hosts, %(added)d added, %(changed)d changed, "
                "%(removed)d removed, %(quarantined)d quarantined, %(seconds).2f s",
                figures,
            )
        return figures

    async def run(self) -> None:
        """Refresh for ever: at the configured interval, after a failure with a growing delay, at once when poked."""
        delay_s = RETRY_FIRST_S
        while True:
            try:
                await self.refresh()
                delay_s = RETRY_FIRST_S
                wait_s = resolve_refresh_interval(self.config.dhcp.refresh_interval, self.state.last_duration_s)
            except RefreshFailed:
                wait_s, delay_s = delay_s, min(delay_s * 2, RETRY_MAX_S)
            self.poke.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.poke.wait(), wait_s)

    async def reconfigure(self, config: Config) -> None:
        async with self.job:
            self.config = config
            await self.start_planner()
        self.poke.set()
