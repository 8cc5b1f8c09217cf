"""The control process: builds its parts, wires them, runs them in one loop.  The supervisor keeps its fds.

Nothing in this loop blocks: the inventory is read and tables are built by the planner, a child.  When this process
dies, the workers serve on, and the next one finds the table, the pages and the console where they were.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from ipaddress import IPv4Address
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from control.config.config import (
    MAX_FILE_BYTES,
    Config,
    ConfigFaults,
    changes_needing_restart,
    load,
    parse_accepted,
    resolve_refresh_interval,
)
from control.discovery.coordinator import Coordinator
from control.discovery.inbox import TrapInbox
from control.discovery.reserved import Reserved
from control.discovery.sighting import sighting_of
from control.mac import parse_mac, show_mac
from control.observer.link import HOSTS_MAX, ObserverLink, ObserverSilent
from control.planner.child import PlannerProcess
from control.planner.jobs import Planned, RefreshFailed
from control.service import status
from control.service.clocks import boottime_s, wall_clock_at_boot_ns
from control.service.discovery_commands import DiscoveryCommands
from control.service.doors.commands import FAULTS_A_PAGE, Right, rights_of
from control.service.doors.console import CommandFailed, Console, Handler, Report, caller
from control.service.event_ring import EventRing
from control.service.events import ROLES, Warnings
from control.service.faultbook import WrongFilter
from control.service.fleet.keeper import FleetKeeper
from control.service.health import heartbeat_age_s, judge_health
from control.service.links import LINKS_MAX, LinkAddress, watch_links
from control.service.load import latency, losses
from control.service.lookups import Lookups
from control.service.machines import hosts as host_list
from control.service.machines import recorder
from control.service.machines.boot_events import BootEvents
from control.service.machines.host_commands import HostCommands
from control.service.machines.overrides import open_overrides
from control.service.refresh import CONFIRM_S, Refresher
from control.service.served_table import NotAdopted, ServedTable
from control.service.watch import follow, watched_path
from fastpath.process.build import BUILD, VERSION
from fastpath.process.logs import configure_logging, journal_missed, leave, lines_lost
from fastpath.process.loop_turns import show_turns
from fastpath.process.slot_words import SlotWords
from fastpath.process.turns import Turns
from fastpath.protocol import (
    Accepted,
    Begin,
    Channel,
    ChannelClosed,
    Fds,
    Publish,
    Rejected,
    Reload,
    Restarted,
    Stop,
    memfd,
)

if TYPE_CHECKING:
    from control.service.doors.metrics import Endpoint

log = logging.getLogger("bootstorm.control")

GC_THRESHOLDS = 5_000, 4, 250
SWITCH_INTERVAL_S = 0.0005  # the journal's thread encodes a burst; Python's 5 ms are paid at each step of an answer
CONFIG_REFUSED_SHOWN, FAULTS_SHOWN = 20, 20
DIFF_ROWS_MAX = 1_000  # in one answer; the client asks for the rest


class Stopped(Exception):
    """The supervisor said so, or is gone."""


class Service:
    def __init__(self, channel: Channel, begin: Begin, fds: Fds, planner: PlannerProcess | None = None) -> None:
        event_bell = fds.one("events")
        self.known_fault = begin.known_fault
        self.observer = ObserverLink(fds.one("observer")) if begin.settings.mode == "observe" else None
        self.turns = Turns(fds.one("turns")) if fds.perhaps("turns") >= 0 else None
        self.words = SlotWords(fds.one("turns")) if self.turns is not None else None
        self.channel = channel
        self.supervisor_build = begin.build
        self.settings = begin.settings
        self.restarts = begin.restarts
        self.config, self.config_refused = parse_accepted(
            os.pread(fds.one("config"), MAX_FILE_BYTES, 0),
            Path(begin.settings.config_path),
            Path(begin.settings.state_dir),
        )
        for refused in self.config_refused:
            log.error("accepted before this upgrade, refused now, its default counts: %s", refused)
        self.started_s = time.monotonic()
        self.links: list[LinkAddress] = []
        self.primary: dict[int, LinkAddress] = {}  # of each interface; an event asks for it, and there may be thousands
        self.stopped = asyncio.Event()
        self.configured = asyncio.Event()  # another configuration is in force
        self.table = ServedTable(fds.one("site"), fds.all("pages"), fds.one("adopted"), fds.perhaps("known"))
        if begin.generation:
            self.table.take_over([*fds.all("base"), *fds.all("delta")])
        self.latency = latency.Latency(self.table.pages)
        self.ring = EventRing()
        note = self.ring.note
        self.refresher = Refresher(
            self.config, self.table, self.publish, begin.generation, planner, self.make_way, note=note
        )
        self.fleet = FleetKeeper(self.config, self.refresher, self.table, lambda: self.restarts.get("worker", 0))
        ledger, state_dir = fds.perhaps("ledger"), Path(begin.settings.state_dir)
        self.hosts_known = known = host_list.open_hosts(ledger, state_dir, self.refresher.whereabouts)
        self.overrides = open_overrides(state_dir, self.table, self.fleet, self.all_adopted, note, known)
        self.lookups = Lookups(
            self.fleet.look_up, self.config.dhcp.relays, self.table.knows_oui, on_found=self.on_found
        )
        self.warnings = Warnings(
            self.table, event_bell, self.interface_name, self.reason_of, on_unknown=self.on_unknown,
            server_id=self.server_id, note=note, sightings_wanted=self.discovers,
        )  # fmt: skip
        self.traps_fault, self.boot_fault = begin.traps_fault, begin.boot_fault
        self.metrics_fault = ""
        self.endpoint: Endpoint | None = None
        self.io, self.io_reason = begin.io, begin.io_reason
        self.reserved = Reserved()
        self.coordinator = Coordinator(
            self.config, self.fleet.look_up, boottime_s,
            word=self.word_of_address, served=self.table.name_of, note=note,
            may_work=self.fleet.may_register, page=self.fleet.page,
        )  # fmt: skip
        self.fleet.attach(self.coordinator, self.reserved)
        queue, trap_channel = fds.perhaps("trap_queue"), fds.perhaps("trap_channel")
        self.traps = TrapInbox(queue, trap_channel, self.fleet.traps) if queue >= 0 else None
        self.warnings.subscribers.append(self.on_event)
        self.console = Console(
            fds.one("console"), self.handlers(), rights_of(self.config),
            path=begin.settings.console_path, streams={"events": self.ring.stream},
        )  # fmt: skip

    async def run(self) -> None:
        """Until the supervisor says stop.  Every part is a task; one that fails ends control."""
        loop = asyncio.get_running_loop()
        self.channel.sock.setblocking(False)
        if self.hosts_known is not None:
            self.hosts_known.load()
        loop.add_reader(self.channel.fileno(), self.on_message)
        self.table.watch()
        self.warnings.watch()
        if self.observer is not None:
            self.observer.watch()
        if self.traps is not None:
            self.traps.watch()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(show_turns(self.turns, "control"), name="turns")
                group.create_task(self.follow_links(group), name="links")
                group.create_task(self.fleet.run(), name="fleet")
                group.create_task(self.overrides.run(), name="overrides")
                group.create_task(self.console.run(), name="console")
                group.create_task(self.follow_file(), name="file")
                group.create_task(self.coordinator.run(), name="discovery")
                group.create_task(self.open_metrics(), name="metrics")
                if self.hosts_known is not None:
                    events = BootEvents(self.hosts_known, lambda: self.table.pair, self.reason_of, self.ring.note)
                    group.create_task(events.run(), name="boots")
                group.create_task(self.latency.run(), name="latency")
                await self.stopped.wait()
                raise Stopped
        except* Stopped:
            log.info("stopping")
        finally:
            await self.fleet.end()
            await self.refresher.end_planner()
            if self.hosts_known is not None:
                self.hosts_known.save()
        # What must outlive us is the supervisor's; taking the loop and its libraries down would only take time.
        leave()

    async def open_metrics(self) -> None:
        """Beside everything else: who serves addresses waits for no name server."""
        if self.config.metrics.bind is None:
            return
        host, port = self.config.metrics.bind
        self.metrics_fault = f"metrics.bind {host}:{port}: not open yet; the name is being looked up"
        from control.service.doors import metrics  # its libraries would cost every cold start, and few ask for it

        opened = await metrics.serve((host, port), self.whole_status, self.health_now)
        self.endpoint, self.metrics_fault = (None, opened) if isinstance(opened, str) else (opened, "")

    async def follow_links(self, group: asyncio.TaskGroup) -> None:
        """The first word of the interfaces starts the planner; without it no reply would have a source address."""
        refreshing = False
        async for links in watch_links():
            self.links = links
            self.primary = {link.ifindex: link for link in reversed(links)}
            self.reserved.follow((link.address, link.name) for link in links)
            for name in set(self.config.dhcp.interfaces) - {link.name for link in links}:
                log.warning("dhcp.interfaces names %s, which has no IPv4 address: nothing is answered there", name)
            await self.refresher.relink(links)
            await self.fleet.relink(links)
            if not refreshing:
                refreshing = True
                group.create_task(self.refresher.run(), name="refresh")
                group.create_task(self.lookups.run(), name="lookups")

    def on_unknown(self, mac: str, interface: str, relay: str | None = None) -> None:
        if self.fleet.looks_up():
            self.lookups.ask(mac, interface, relay)

    def on_found(self, mac: str) -> None:
        key = int(mac.replace(":", ""), 16)
        row = self.table.row(key) or self.table.row(key, ROLES["bmc"])
        named = row["name"].decode("utf-8", "replace") if row is not None else None
        why = self.reason_of(mac)
        outcome = f"it is not answered: {why}" if why else "its next try is answered"
        self.ring.note("machine-found", named, mac, f"a look-up found it in the inventory; {outcome}")

    def discovers(self) -> bool:
        return self.traps is not None or self.config.dhcp.update_ipmi

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Who registers servers or records BMCs wants to know who asks; others spare their inventory the questions."""
        if self.discovers():
            self.reserved.note(event)
            self.fleet.sighted(sighting_of(event))

    def word_of_address(self, address: int) -> str:
        return self.reserved.word(address, self.config.dhcp)

    async def follow_file(self) -> None:
        """An inventory that is a file is read again when it is written or replaced."""

        def on_change(since_s: float) -> None:
            reader = self.fleet.reader()
            if reader.begun_s >= since_s:
                reader.poke.set()

        await follow(lambda: watched_path(self.config.dhcp.api_url), self.configured, on_change)

    def interface_name(self, ifindex: int) -> str:
        return self.primary[ifindex].name if ifindex in self.primary else f"interface {ifindex}"

    def server_id(self, ifindex: int) -> str | None:
        """What we answer with on an interface, where no relay and no attribute says otherwise."""
        ours = self.primary.get(ifindex)
        found = self.config.dhcp.server_id or (IPv4Address(ours.address) if ours is not None else None)
        return str(found) if found is not None else None

    def publish(self, planned: Planned, fds: list[int]) -> None:
        """To the supervisor, who keeps it and gives it to the workers.

        Our own look comes first: it makes new hosts known to the filters, or these would be dropped as strangers."""
        named = dict(zip(("base", "delta"), fds, strict=False))
        with self.table.serving(fds):
            self.channel.send(Publish(generation=planned.generation, base=planned.base), named)
        self.fleet.published(planned, fds)
        self.ring.note_table(planned)

    # --- from the supervisor -------------------------------------------------------------------------------------

    def make_way(self, why: str) -> None:
        """For control of the installed code, which goes with its planner."""
        log.error("%s, and other code is installed: ending, so that control of that code goes on", why)
        self.stopped.set()

    def on_message(self) -> None:
        try:
            message, _fds = self.channel.receive()
        except BlockingIOError:
            return
        except ChannelClosed:
            message = Stop()
        if isinstance(message, Stop):
            asyncio.get_running_loop().remove_reader(self.channel.fileno())
            self.stopped.set()
        elif isinstance(message, Restarted):
            self.ring.note_restarts(self.restarts, message.restarts)
            self.restarts = message.restarts
        elif isinstance(message, Rejected):
            self.table.rejections[message.slot] = message.reason
        elif isinstance(message, Reload):
            self.reload()

    def reload(self) -> list[str]:
        """SIGHUP, `ctl reload`: all of the new file, or nothing of it; then why, each a sentence."""
        try:
            config = load(self.settings.config_path)
            refused = list(changes_needing_restart(self.config, config))
        except ConfigFaults as faults:
            refused = list(faults.faults)
        if refused:
            for sentence in refused:
                log.error("not reloaded: %s", sentence)
            self.ring.note("config-refused", None, None, "; ".join(refused))
            return refused
        self.config, self.config_refused = config, []
        self.lookups.relays = config.dhcp.relays
        self.configured.set()
        with memfd("bootstorm-config", config.text) as fd:
            self.channel.send(Accepted(), {"config": fd})
        self.console.allow(rights_of(config))
        self.reloading = asyncio.get_running_loop().create_task(self.reconfigure(config))
        log.info("configuration reloaded")
        self.ring.note("config-reloaded", None, None, "services.conf was read again, and is in force")
        return []

    async def reconfigure(self, config: Config) -> None:
        await self.refresher.reconfigure(config)
        self.fleet.reconfigure(config)
        await self.coordinator.reconfigure(config)

    # --- commands ------------------------------------------------------------------------------------------------

    def handlers(self) -> dict[str, Handler]:
        return {
            "status": self.status,
            "health": self.health,
            "refresh": self.refresh,
            "diff": self.diff,
            "faults": self.faults,
            "rollback": self.rollback,
            "reload": self.reload_now,
            "lookup": self.lookup,
            "explain": self.explain,
            "workers": self.workers,
            "recent": self.recent,
            "packets": self.packets,
            "observed": self.observed,
            **HostCommands(self.hosts_known, lambda: self.table.pair, self.reason_of).handlers(),
            **DiscoveryCommands(self.coordinator, self.fleet.registered_elsewhere).handlers(),
            **self.overrides.handlers(),
            **self.fleet.handlers(),
        }

    async def status(self, _arguments: dict[str, Any], _report: Report) -> dict[str, Any]:
        return await self.whole_status()

    async def whole_status(self) -> dict[str, Any]:
        table, reader = self.table, self.fleet.reader()
        state = reader.state
        return {
            "generation": table.generation,
            "base": table.pair.base.number if table.pair else 0,
            "digest": table.pair.top.digest if table.pair else None,
            "hosts": table.hosts,
            "quarantined": state.quarantined,
            "table_age_s": table.age_s(),
            "table_age_reason": table.age_reason if table.age_s() is None else None,
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
                "rows": state.rows,
                "bytes": state.bytes,
                "last_seconds": round(state.last_duration_s, 3),
                "interval_s": resolve_refresh_interval(self.config.dhcp.refresh_interval, state.last_duration_s),
                "stages_s": state.stages_s,
                "parts": state.parts,
                "kept_parts": state.kept_parts,
                "outcomes": state.outcomes,
            },
            "health": self.health_now(),
            "workers": self.worker_rows(),
            "restarts": self.restarts,
            "counters": table.counters(),
            "send_errors": table.send_errors(),
            "losses": losses.losses(self.words, len(table.pages)),
            "latency": self.latency.status(),
            "warnings_suppressed": self.warnings.suppressed,
            "log_lines_lost": lines_lost(),
            "log_journal_missed": journal_missed(),
            "events": self.ring.status(),
            "lookups": self.lookups.counts,
            "identities": self.warnings.identity_counts(),
            "other_servers": self.warnings.other_servers(),
            "strangers": status.strangers(table, self.known_fault),
            "traps": status.traps(self.traps, self.traps_fault, self.config.snmp),
            "discovery": self.coordinator.status(),
            "faults": dict(islice(state.faults.items(), FAULTS_SHOWN)),
            "faults_total": state.faults_total,
            "fault_kinds": dict(reader.faults.kinds),
            "limits": self.limits_status(),
            "metrics": self.metrics_fault or ("serving" if self.config.metrics.bind is not None else "off"),
            "boot_port": status.boot_port(self.settings, self.boot_fault),
            "fleet": self.fleet.status(),
            "overrides": self.overrides.status(),
            "config_refused": self.config_refused[:CONFIG_REFUSED_SHOWN],
            "boots": await self.hosts_known.scans.totals(table.pair) if self.hosts_known is not None else None,
            "mode": self.settings.mode,
            "slowed_down_ns": self.settings.brake_ns if any(self.settings.brake_ns) else None,  # by a bench
            "io": self.io,
            "io_reason": self.io_reason or None,
            "observed": self.observer.status() if self.observer is not None else None,
            "version": VERSION,
            "build": BUILD,
            "supervisor_build": self.supervisor_build,
            "control_up_s": round(time.monotonic() - self.started_s, 1),
        }

    async def health(self, arguments: dict[str, Any], _report: Report) -> dict[str, Any]:
        return self.health_now(arguments.get("max_age"))

    def health_now(self, max_age_s: float | None = None) -> dict[str, Any]:
        return judge_health(self.table, self.words, max_age_s)

    def worker_rows(self) -> list[dict[str, Any]]:
        return [
            row | {"heartbeat_age_s": heartbeat_age_s(page, self.words)}
            for row, page in zip(self.table.workers(), self.table.pages, strict=True)
        ]

    def limits_status(self) -> dict[str, Any]:
        """What came to the doors, and what was refused there, by reason (docs/operations.md, Limits)."""
        return {
            "control": self.console.status(),
            "metrics": self.endpoint.status() if self.endpoint is not None else None,
            "links": {"used": len(self.links), "most": LINKS_MAX},
        }

    async def refresh(self, arguments: dict[str, Any], report: Report) -> dict[str, Any]:
        mac, host = arguments.get("mac"), arguments.get("host")
        reader = self.fleet.reader()
        try:
            with reader.followed_by(lambda progress: report(asdict(progress))):
                if mac is None and host is None:
                    figures = await reader.refresh(bool(arguments.get("force")))
                else:
                    macs = [show_mac(self.find_mac("refresh", mac))] if mac is not None else []
                    names = [str(host)] if host is not None else []
                    figures, _missing = await self.fleet.look_up(macs, names, asked=True)
        except RefreshFailed as failed:
            raise CommandFailed(str(failed)) from failed
        if arguments.get("wait") and reader is not self.refresher:
            figures |= {"fleet": await self.fleet.served(bool(arguments.get("here")))}
        elif arguments.get("wait"):
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

    async def faults(self, arguments: dict[str, Any], _report: Report) -> dict[str, Any]:
        try:
            named, kind = arguments.get("object"), arguments.get("kind")
            limit = arguments.get("limit", FAULTS_A_PAGE)
            return await self.fleet.reader().faults.page(named, kind, arguments.get("after", 0), limit)
        except WrongFilter as wrong:
            raise CommandFailed(f"faults: {wrong}") from wrong

    async def rollback(self, _arguments: dict[str, Any], _report: Report) -> dict[str, Any]:
        try:
            figures = await self.refresher.rollback()
        except RefreshFailed as failed:
            raise CommandFailed(f"rollback: {failed}") from failed
        await self.all_adopted(figures["generation"])
        return figures

    async def reload_now(self, _arguments: dict[str, Any], _report: Report) -> dict[str, Any]:
        return {"config": self.settings.config_path, "refused": self.reload()}

    async def lookup(self, arguments: dict[str, Any], _report: Report) -> dict[str, Any]:
        key, role = self.find_card("lookup", arguments.get("mac"))
        found = self.table.lookup(key, role)
        if found is None or self.table.pair is None:
            missing = f"the table of generation {self.table.generation} has no host {arguments['mac']}"
            raise CommandFailed(f"lookup: {missing}")
        mac, known, pair = found["mac"], self.hosts_known, self.table.pair
        told = await known.of_mac(pair, key, self.reason_of) if known is not None else {"boots": []}
        told["overrides"] = self.overrides.of_card(key, role)
        return found | told | {"reason": self.reason_of(mac), "seen": self.warnings.seen_as(mac)}

    def reason_of(self, mac: str) -> str | None:
        """Why a machine is not answered, as the inventory or an operator says it."""
        said = self.refresher.state.reasons_of(mac) or self.table.port_reason(mac) or self.fleet.reason_of(mac)
        return self.overrides.reason(mac, said)

    async def explain(self, arguments: dict[str, Any], _report: Report) -> dict[str, Any]:
        from control.service.explaining import (  # a third of a cold start's imports, for a person's question
            Unexplainable,
            explain,
        )

        try:
            may_ask = caller.get().right is Right.CHANGE
            origins = self.refresher.origins if may_ask else None
            if arguments.get("mac") is not None and self.table.pair is not None:
                arguments = arguments | {"mac": show_mac(self.find_mac("explain", arguments["mac"]))}
            told = await explain(arguments, self.table, self.reason_of, origins)
            if (mac := parse_mac(str(arguments.get("mac")))) is not None:
                told["premises"] += self.overrides.lines(mac)
            return told
        except Unexplainable as reason:
            raise CommandFailed(f"explain: {reason}") from reason

    @staticmethod
    def read_mac(command: str, text: Any) -> int:
        mac = parse_mac(str(text))
        if mac is None:
            raise CommandFailed(f"{command}: {text!r} is no MAC address, wanted one such as 00:11:22:33:44:55")
        return mac

    def find_mac(self, command: str, text: Any) -> int:
        return self.find_card(command, text)[0]

    def find_card(self, command: str, text: Any) -> tuple[int, int]:
        """(MAC, role) of a MAC address, of a host's name or of its address, as the table has it."""
        try:
            return host_list.card_of(self.table.pair, str(text))
        except host_list.NotFound as missing:
            if (held := self.overrides.card(str(text))) is not None:
                return held
            raise CommandFailed(f"{command}: {missing}") from missing

    async def workers(self, _arguments: dict[str, Any], _report: Report) -> list[dict[str, Any]]:
        return self.worker_rows()

    async def recent(self, arguments: dict[str, Any], _report: Report) -> list[dict[str, Any]]:
        mac = arguments.get("mac")
        wanted = show_mac(self.find_mac("recent", mac)) if mac is not None else None
        return self.warnings.newest(int(arguments.get("most", 50)), wanted)

    async def packets(self, arguments: dict[str, Any], _report: Report) -> dict[str, Any]:
        mac, slot, since = arguments.get("mac"), arguments.get("slot", 0), arguments.get("since", 0)
        if type(slot) is not int or not 0 <= slot < self.settings.workers or type(since) is not int:
            raise CommandFailed(
                f"packets: slot {slot!r}, since {since!r}; wanted 0 to {self.settings.workers - 1}, and a whole number"
            )
        wanted = self.find_mac("packets", mac) if mac is not None else None
        told = recorder.share(self.table.pages, slot, since, recorder.RECORDS_MAX, wanted)
        ports = self.settings.port, self.settings.boot_port
        recorder.name(told["records"], self.interface_name, self.table.host_name, ports)
        return told | {"port": self.settings.port, "boot_ns": wall_clock_at_boot_ns()}

    async def observed(self, arguments: dict[str, Any], _report: Report) -> dict[str, Any]:
        if self.observer is None:
            raise CommandFailed('observed: dhcp.mode is "serve"; only a service with "observe" compares itself')
        mac, after = arguments.get("mac"), str(arguments.get("after", ""))
        wanted = show_mac(self.find_mac("observed", mac)) if mac is not None else None
        try:
            told = await self.observer.ask(wanted, after, HOSTS_MAX, bool(arguments.get("strict")))
        except ObserverSilent as silent:
            raise CommandFailed(f"observed: {silent}") from silent
        for host in told["hosts"]:
            host["reason"] = self.reason_of(host["mac"])
        return told | {"mac": wanted, "now_s": time.time(), "more": wanted is None and len(told["hosts"]) == HOSTS_MAX}


def main(fd: int, planner: PlannerProcess | None) -> None:
    """The process: one message with everything, then the loop.  fd: its channel to the supervisor."""
    configure_logging()
    channel = Channel.of_fd(fd)
    begin, fds = channel.receive()
    if not isinstance(begin, Begin):
        raise TypeError(f"control: the first message is {type(begin).__name__}, wanted Begin")
    service = Service(channel, begin, fds, planner)
    # A full collection among 50,000 machines of a burst, and a thread that computes, stop the loop for long.
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(service.run())
