"""The control process: builds its parts, wires them, runs them in one loop.  The supervisor keeps its fds.

Nothing in this loop blocks: the inventory is read and tables are built by the planner, a child.  When this process
dies, the workers serve on, and the next one finds the table, the pages and the console where they were.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ext.codec import links_of

from control.config import MAX_FILE_BYTES, Config, ConfigFaults, changes_needing_restart, load, parse
from control.console import CommandFailed, Console, Report
from control.discovery.commands import DiscoveryCommands
from control.discovery.desk import Desk
from control.events import Warnings
from control.explain import Explainer
from control.jobs import Planned
from control.links import LinkAddress, watch_links
from control.lookups import Lookups
from control.offline import Interface
from control.plan import parse_mac, show_mac
from control.refresh import CONFIRM_S, Refresher, RefreshFailed
from control.table import NotAdopted, ServedTable
from control.watch import wait_for_change, watched_path
from fastpath.logs import configure_logging
from fastpath.protocol import Accepted, Begin, Channel, ChannelClosed, Publish, Rejected, Reload, Restarted, Stop, memfd

log = logging.getLogger("bootstorm.control")

DIFF_ROWS_MAX = 1_000  # in one answer; the client asks for the rest


class Stopped(Exception):
    """The supervisor said so, or is gone."""


class Service:
    def __init__(self, channel: Channel, begin: Begin, fds: list[int]) -> None:
        config_fd, console_fd, site_fd, adopted_bell, event_bell, *rest = fds
        workers = begin.settings.workers
        self.channel = channel
        self.settings = begin.settings
        self.restarts = begin.restarts
        self.config = parse(os.pread(config_fd, MAX_FILE_BYTES, 0), Path(begin.settings.config_path))
        self.started_s = time.monotonic()
        self.links: list[LinkAddress] = []
        self.configured = asyncio.Event()  # another configuration is in force
        self.table = ServedTable(site_fd, rest[:workers], adopted_bell)
        if begin.generation:
            self.table.serve(rest[workers:])
        self.refresher = Refresher(self.config, self.table, self.publish, begin.generation)
        self.lookups = Lookups(self.refresher.look_up)
        state = self.refresher.state
        self.warnings = Warnings(
            self.table, event_bell, self.interface_name, state.reasons_of, on_unknown=self.on_unknown
        )
        self.desk = Desk(self.config, self.refresher.look_up, boottime_s)
        handlers = {
            "status": self.status,
            "refresh": self.refresh,
            "diff": self.diff,
            "rollback": self.rollback,
            "lookup": self.lookup,
            "explain": self.explain,
            "workers": self.workers,
            "recent": self.recent,
            **DiscoveryCommands(self.desk).handlers(),
        }
        allowed = {0, os.geteuid(), *self.config.control.allow_uids}
        self.console = Console(console_fd, handlers, allowed)

    async def run(self) -> None:
        """Until the supervisor says stop.  Every part is a task; one that fails ends control."""
        loop = asyncio.get_running_loop()
        self.channel.sock.setblocking(False)
        stopped: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self.channel.fileno(), self.on_message, stopped)
        self.table.watch()
        self.warnings.watch()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.follow_links(group), name="links")
                group.create_task(self.console.run(), name="console")
                group.create_task(self.follow_file(), name="file")
                group.create_task(self.desk.run(), name="discovery")
                await stopped
                raise Stopped
        except* Stopped:
            log.info("stopping")
        finally:
            await self.refresher.end_planner()
        # What must outlive us is the supervisor's; taking the loop and its libraries down would only take time.
        logging.shutdown()
        os._exit(0)

    async def follow_links(self, group: asyncio.TaskGroup) -> None:
        """The first word of the interfaces starts the planner; without it no reply would have a source address."""
        refreshing = False
        async for links in watch_links():
            self.links = links
            for name in set(self.config.dhcp.interfaces) - {link.name for link in links}:
                log.warning("dhcp.interfaces names %s, which has no IPv4 address: nothing is answered there", name)
            await self.refresher.relink(links)
            if not refreshing:
                refreshing = True
                group.create_task(self.refresher.run(), name="refresh")
                group.create_task(self.lookups.run(), name="lookups")

    def on_unknown(self, mac: str, place: str) -> None:
        """A file is read as soon as it changes, and a pinned table is what somebody wants: nothing to look up there."""
        if watched_path(self.config.dhcp.api_url) is None and not self.refresher.state.pinned_s:
            self.lookups.ask(mac, place)

    async def follow_file(self) -> None:
        """An inventory that is a file is read again when it is written or replaced."""
        while True:
            path = watched_path(self.config.dhcp.api_url)
            if path is None:
                await self.configured.wait()
            else:
                await wait_for_change(path, self.configured)
                self.refresher.poke.set()
            self.configured.clear()

    def interface_name(self, ifindex: int) -> str:
        return next((link.name for link in self.links if link.ifindex == ifindex), f"interface {ifindex}")

    def publish(self, planned: Planned, fds: list[int]) -> None:
        """To the supervisor, who keeps it and gives it to the workers."""
        self.table.serve(fds)
        self.channel.send(Publish(generation=planned.generation, base=planned.base), fds)

    # --- from the supervisor -------------------------------------------------------------------------------------

    def on_message(self, stopped: asyncio.Future[None]) -> None:
        try:
            message, _fds = self.channel.receive()
        except BlockingIOError:
            return
        except ChannelClosed:
            message = Stop()
        if isinstance(message, Stop):
            asyncio.get_running_loop().remove_reader(self.channel.fileno())
            if not stopped.done():
                stopped.set_result(None)
        elif isinstance(message, Restarted):
            self.restarts = message.restarts
        elif isinstance(message, Rejected):
            self.table.rejections[message.slot] = message.reason
        elif isinstance(message, Reload):
            self.reload()

    def reload(self) -> None:
        """SIGHUP: all of the new file, or nothing of it."""
        try:
            config = load(self.settings.config_path)
        except ConfigFaults as faults:
            for fault in faults.faults:
                log.error("not reloaded: %s", fault)
            return
        refused = changes_needing_restart(self.config, config)
        for sentence in refused:
            log.error("not reloaded: %s", sentence)
        if refused:
            return
        self.config = config
        self.configured.set()
        with memfd("bootstorm-config", config.text) as fd:
            self.channel.send(Accepted(), [fd])
        self.console.allow_uids = {0, os.geteuid(), *config.control.allow_uids}
        self.reloading = asyncio.get_running_loop().create_task(self.reconfigure(config))
        log.info("configuration reloaded")

    async def reconfigure(self, config: Config) -> None:
        await self.refresher.reconfigure(config)
        await self.desk.reconfigure(config)

    # --- commands ------------------------------------------------------------------------------------------------

    async def status(self, _arguments: dict[str, Any], _report: Report) -> dict[str, Any]:
        table, state = self.table, self.refresher.state
        return {
            "generation": table.generation,
            "base": table.pair.base.number if table.pair else 0,
            "digest": table.pair.top.digest if table.pair else None,
            "hosts": table.hosts,
            "quarantined": state.quarantined,
            "table_age_s": table.age_s(),
            "table_bytes": (table.pair.base.size + (table.pair.delta.size if table.pair.delta else 0))
            if table.pair
            else 0,
            "inventory": state.word(table.hosts > 0),
            "inventory_reason": state.failure or (None if state.confirmed_s else "not read yet"),
            "doubts": state.doubts,
            "kept_hosts": state.kept_hosts,
            "pinned_s": round(time.time() - state.pinned_s, 1) if state.pinned_s else None,
            "refresh": {
                "stage": state.stage or None,
                "done": state.done,
                "total": state.total,
                "last_seconds": round(state.last_duration_s, 3),
                "stages_s": state.stages_s,
                "parts": state.parts,
                "kept_parts": state.kept_parts,
                "outcomes": state.outcomes,
            },
            "workers": table.workers(),
            "restarts": self.restarts,
            "counters": table.counters(),
            "send_errors": table.send_errors(),
            "warnings_suppressed": self.warnings.suppressed,
            "lookups": self.lookups.counts,
            "discovery": self.desk.status(),
            "faults": dict(list(state.faults.items())[:20]),
            "faults_total": state.faults_total,
            "control_up_s": round(time.monotonic() - self.started_s, 1),
        }

    async def refresh(self, arguments: dict[str, Any], report: Report) -> dict[str, Any]:
        mac, host = arguments.get("mac"), arguments.get("host")
        try:
            if mac is None and host is None:
                with self.refresher.followed_by(lambda progress: report(asdict(progress))):
                    figures = await self.refresher.refresh(bool(arguments.get("force")))
            else:
                macs = [show_mac(self.read_mac("refresh", mac))] if mac is not None else []
                names = [str(host)] if host is not None else []
                figures, _missing = await self.refresher.look_up(macs, names, asked=True)
        except RefreshFailed as failed:
            raise CommandFailed(str(failed)) from failed
        if arguments.get("wait"):
            await self.all_adopted(figures["generation"])
        return figures

    async def all_adopted(self, generation: int) -> None:
        started = time.monotonic()
        try:
            await self.table.wait_adopted(generation, CONFIRM_S)
        except NotAdopted as late:
            raise CommandFailed(str(late)) from late
        self.refresher.state.stages_s["ack"] = round(time.monotonic() - started, 4)

    async def diff(self, arguments: dict[str, Any], _report: Report) -> dict[str, Any]:
        offset, limit = int(arguments.get("offset", 0)), int(arguments.get("limit", DIFF_ROWS_MAX))
        if offset < 0 or not 0 < limit <= DIFF_ROWS_MAX:
            raise CommandFailed(f"diff: offset {offset}, limit {limit}; wanted 0 or more, and 1 to {DIFF_ROWS_MAX}")
        try:
            return await self.refresher.changes(offset, limit)
        except RefreshFailed as failed:
            raise CommandFailed(f"diff: {failed}") from failed

    async def rollback(self, _arguments: dict[str, Any], _report: Report) -> dict[str, Any]:
        try:
            figures = await self.refresher.rollback()
        except RefreshFailed as failed:
            raise CommandFailed(f"rollback: {failed}") from failed
        await self.all_adopted(figures["generation"])
        return figures

    async def lookup(self, arguments: dict[str, Any], _report: Report) -> dict[str, Any]:
        found = self.table.lookup(self.read_mac("lookup", arguments.get("mac")))
        if found is None:
            raise CommandFailed(
                f"lookup: the table of generation {self.table.generation} has no host {arguments['mac']}"
            )
        return found | {"reason": self.refresher.state.reasons_of(found["mac"])}

    async def explain(self, arguments: dict[str, Any], _report: Report) -> dict[str, Any]:
        """Who gave an option is not said: only the planner knows the inventory, and it may be busy for minutes."""
        mac = self.read_mac("explain", arguments.get("mac"))
        if self.table.pair is None:
            raise CommandFailed("explain: there is no table yet: the inventory has not been read")
        links = [link for link in links_of(self.table.pair) if link[1] >> 24 != 127]
        # What a relay sends is taken to come in on the first: one that is served.
        places = [Interface(*place) for *place, _served in sorted(links, key=lambda link: not link[3])]
        found = Explainer(self.table.pair, places, self.refresher.state.reasons_of).machine(mac)
        return found | {"premises": [f"table: generation {self.table.generation}, as the workers have it"]}

    @staticmethod
    def read_mac(command: str, text: Any) -> int:
        mac = parse_mac(str(text))
        if mac is None:
            raise CommandFailed(f"{command}: {text!r} is no MAC address, wanted one such as 00:11:22:33:44:55")
        return mac

    async def workers(self, _arguments: dict[str, Any], _report: Report) -> list[dict[str, Any]]:
        return self.table.workers()

    async def recent(self, arguments: dict[str, Any], _report: Report) -> list[dict[str, Any]]:
        mac = arguments.get("mac")
        wanted = show_mac(self.read_mac("recent", mac)) if mac is not None else None
        return self.warnings.newest(int(arguments.get("most", 50)), wanted)


def boottime_s() -> float:
    """As traps and sightings are stamped."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def main(fd: int) -> None:
    """The process: one message with everything, then the loop.  fd: its channel to the supervisor."""
    configure_logging()
    channel = Channel.of_fd(fd)
    begin, fds = channel.receive()
    if not isinstance(begin, Begin):
        raise TypeError(f"control: the first message is {type(begin).__name__}, wanted Begin")
    service = Service(channel, begin, fds)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(service.run())
