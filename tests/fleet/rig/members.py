"""Members of a fleet on this machine: the real process, with a control that does what the real one does of it.

Only the planner and the workers are stood in for: a Check is answered by what the table says of itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ext.builder import Builder, Surroundings
from ext.table import Generation, Pair

from control.fleet.process import jobs
from control.fleet.process.child import FleetProcess
from control.fleet.process.tables import pair_of
from control.table.digest import rows_digest
from fastpath.protocol import ChannelClosed, close_all, memfd

LOOK_S = 0.02


def new_base(number: int, hosts: int, first: int = 1) -> int:
    """A sealed table of so many hosts; of which ones: by `first`."""
    builder = Builder()
    template = builder.add_template()
    for index in range(first, first + hosts):
        leases = ((0x0A000000 + index, 8, template),)
        builder.add_host(0x020000000000 + index, name=f"host{index}".encode(), leases=leases)
    return int(builder.seal(number, Surroundings(), created_s=5))


class Inventory:
    """What it says now: descriptors of base (and delta), and their digest."""

    def __init__(self) -> None:
        self.fds: list[int] = []
        self.number = 0

    def changed(self, hosts: int = 50, first: int | None = None) -> bytes:
        """Another base; its digest."""
        self.number += 1
        self.fds = [new_base(self.number, hosts, self.number * 1000 if first is None else first)]
        return self.digest

    @property
    def digest(self) -> bytes:
        return rows_digest(pair_of(self.fds))


class Member:
    """One machine.  conf: of section fleet, besides servers and name."""

    def __init__(self, folder: Path, name: str, inventory: Inventory, url: str, **conf: Any) -> None:
        self.folder, self.name, self.inventory = folder / name, name, inventory
        self.folder.mkdir(exist_ok=True)
        self.text = json.dumps(
            {"dhcp": {"state_dir": str(self.folder)}, "fleet": {"servers": [url], "name": name} | conf}
        ).encode()
        self.process: FleetProcess | None = None
        self.state = jobs.State(leads=False, follows=False, connected=False)
        self.serving: list[int] = []
        self.candidate: list[int] = []
        self.told: dict[int, jobs.Told] = {}
        self.number = 0
        self.refuse: Callable[[Pair], str] = lambda _pair: ""
        self.counts = jobs.Counts(served_s=0, restarts=0, abandoned=0)
        self.served_since = 0.0
        self.inventory_reads = 0
        self.looked_for: list[jobs.LookFor] = []
        self.known: set[str] = set()  # names and MACs that a look-up finds
        self.looks = True  # and answers
        self.journal: list[tuple[str, bytes]] = []  # host, what: of others, by who leads
        self.journals = True  # and says so
        self.recalled: dict[str, bytes] | None = None  # of the engine's journal; None: not all of it yet
        self.recalling: dict[str, bytes] = {}
        self.history: list[bytes] = []  # digests that were served, in order

    @property
    def digest(self) -> bytes:
        return rows_digest(pair_of(self.serving)) if self.serving else b""

    # --- life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        assert self.process is None
        self.process = self.new_process()
        asyncio.get_running_loop().add_reader(self.process.channel.fileno(), self.on_message)
        named = dict(zip(("base", "delta"), self.serving, strict=False))
        with memfd("config", self.text) as config:
            begin = jobs.FleetBegin(config_path="/services.conf", state_dir=str(self.folder))
            self.process.channel.send(begin, {"config": config, **named})

    def new_process(self) -> FleetProcess:
        return FleetProcess()

    async def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            await self.end()

    async def end(self) -> None:
        if self.process is not None:
            asyncio.get_running_loop().remove_reader(self.process.channel.fileno())
            process, self.process = self.process, None
            await process.end()
            self.state = jobs.State(leads=False, follows=False, connected=False)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    # --- as control ----------------------------------------------------------------------------------------------

    def send(self, message: Any, fds: list[int] | None = None) -> None:
        assert self.process is not None
        self.process.channel.send(message, dict(zip(("base", "delta"), fds or [], strict=False)))

    def on_message(self) -> None:
        assert self.process is not None
        try:
            message, fds = self.process.channel.receive()
        except BlockingIOError:
            return
        except ChannelClosed:
            asyncio.get_running_loop().remove_reader(self.process.channel.fileno())
            return
        tables = [*fds.all("base"), *fds.all("delta")]
        match message:
            case jobs.State():
                self.state = message
                self.send(self.counts)
            case jobs.Told():
                self.told[message.number] = message
            case jobs.Build() if self.inventory.fds:
                self.inventory_reads += 1
                self.send(jobs.Built(), self.inventory.fds)
            case jobs.LookFor():
                self.look_for(message)
            case jobs.Journal():
                self.journal.append((message.host, message.what))
                if self.journals:
                    self.send(jobs.Journaled(host=message.host, spool=message.spool, number=message.number))
            case jobs.Recall(mac=mac, record=record) if mac:
                self.recalling[mac] = record
            case jobs.Recall():
                self.recalled, self.recalling = self.recalling, {}
            case jobs.ReadInventory() if self.inventory.fds:
                self.inventory_reads += 1
                self.serve(self.inventory.fds)
                self.send(jobs.Alone(), self.inventory.fds)
            case jobs.Check():
                self.check(message, tables)
            case jobs.Serve():
                self.serve(self.candidate)
                self.send(jobs.Served(digest=message.digest))
                self.send(jobs.Adopted(digest=message.digest))
        close_all(fds)

    def check(self, message: jobs.Check, tables: list[int]) -> None:
        for fd in tables:
            Generation(fd).verify()
        pair = pair_of(tables)
        said = self.refuse(pair) or ("" if rows_digest(pair) == message.digest else "other rows")
        if not said:
            close_all(self.candidate)
            self.candidate = [os.dup(fd) for fd in tables]
        self.send(jobs.Checked(digest=message.digest, reason="table-wrong" if said else "", said=said))

    def serve(self, fds: list[int]) -> None:
        taken = [os.dup(fd) for fd in fds]
        close_all(self.serving)
        self.serving, self.served_since = taken, time.monotonic()
        self.history.append(self.digest)

    def look_for(self, message: jobs.LookFor) -> None:
        """What is known is in a table that is built before the answer."""
        self.looked_for.append(message)
        if not self.looks:
            return
        if self.known & {*message.macs, *message.names}:
            self.send(jobs.Built(), self.inventory.fds)
        missing = [mac for mac in message.macs if mac not in self.known]
        names = [name for name in message.names if name not in self.known]
        self.send(jobs.Looked(number=message.number, missing=missing, missing_names=names, counts=[50, 1, 0, 0, 0]))

    async def look_up(self, macs: list[str], names: list[str] | None = None, asked: bool = False) -> jobs.Told:
        self.number += 1
        self.send(jobs.LookUp(number=self.number, macs=macs, names=names or [], asked=asked))
        await until(lambda: self.number in self.told, 20, f"{self.name} looks up")
        return self.told.pop(self.number)

    async def keep(self, records: dict[str, bytes]) -> jobs.Told:
        """As the journal of who leads has them: until the engine has them too."""
        for mac, record in records.items():
            self.send(jobs.Keep(mac=mac, record=record))
        self.number += 1
        self.send(jobs.Sync(number=self.number))
        await until(lambda: self.number in self.told, 20, f"{self.name} stores its journal")
        return self.told.pop(self.number)

    def built(self) -> None:
        """The inventory was read, whoever asked."""
        self.send(jobs.Built(), self.inventory.fds)

    async def ask(self, verb: str = "", digest: str = "", signed: bytes = b"") -> jobs.Told:
        self.number += 1
        self.send(jobs.Ask(number=self.number, verb=verb, digest=digest, signed=signed))
        await until(lambda: self.number in self.told, 10, f"{self.name} answers")
        return self.told.pop(self.number)


async def until(true: Callable[[], bool], limit_s: float, what: str) -> float:
    """Seconds that it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < limit_s, f"{what}: not within {limit_s} s"
        await asyncio.sleep(LOOK_S)
    return time.monotonic() - began
