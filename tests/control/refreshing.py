"""A Refresher with the real planner process, the inventory it reads, and control's part around it.

async def scenario(control: Control) -> None: ...
within(inventory, tmp_path, scenario)

async def scenario(ctl: Ctl) -> None: ...          # the whole of control without a supervisor and without workers
commanded(inventory.server.url, tmp_path, scenario)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ext.page import create_site_page, create_worker_page

from control.cli.ctl import Client
from control.clusto.server.httpd import application
from control.clusto.server.store import Store
from control.config.config import load
from control.planner.jobs import Planned
from control.service.links import LinkAddress
from control.service.refresh import Refresher
from control.service.served_table import ServedTable
from control.service.service import Service
from fastpath.protocol import Begin, Channel, Fds, Settings, close_all
from tests.control.clusto.support import new_store
from tests.control.spoiling import Spoiling, spoiling


class Inventory:
    """The embedded inventory behind HTTP.

    down: what it says instead; spoiled: what it says to requests that contain a text; hold(piece): requests that
    contain it wait."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.down: bytes | None = None
        self.spoiled: dict[str, bytes] = {}
        self.asked, self.go_on = threading.Event(), threading.Event()
        self.holding: str | None = None
        self.delay_s = 0.0  # before each answer
        self.server: Spoiling

    def spoil(self, target: str) -> bytes | None:
        if self.holding is not None and self.holding in target:
            self.asked.set()
            self.go_on.wait(60)
        time.sleep(self.delay_s)
        found = [raw for piece, raw in self.spoiled.items() if piece in target]
        return found[0] if found else self.down

    def hold(self, piece: str = "") -> None:
        self.asked.clear()
        self.go_on.clear()
        self.holding = piece

    def release(self) -> None:
        self.holding = None
        self.go_on.set()

    def forget(self) -> None:
        self.release()
        self.down = None
        self.spoiled = {}

    async def wait_asked(self) -> None:
        assert await asyncio.to_thread(self.asked.wait, 60)


@contextmanager
def inventory_server(folder: Path) -> Iterator[Inventory]:
    store = new_store(folder)
    made = Inventory(store)
    with spoiling(application(store), made.spoil) as server:
        made.server = server
        yield made
        made.release()
    store.close()


class Control:
    """The parts of control around a Refresher: a table without workers, and what was published."""

    def __init__(self, url: str, folder: Path, **dhcp: Any) -> None:
        path = folder / "services.conf"
        path.write_text(json.dumps({"dhcp": {"api_url": url, "state_dir": str(folder)} | dhcp}))
        fds = [create_site_page(), create_worker_page(0), os.eventfd(0)]
        self.table = ServedTable(fds[0], [fds[1]], fds[2])
        close_all(fds)
        self.published: list[Planned] = []
        self.news = asyncio.Event()
        self.refresher = Refresher(load(path), self.table, self.publish, 0)

    def publish(self, planned: Planned, fds: list[int]) -> None:
        self.table.serve(fds)
        self.published.append(planned)
        self.news.set()

    async def wait_published(self, count: int) -> None:
        while len(self.published) < count:
            self.news.clear()
            await asyncio.wait_for(self.news.wait(), 60)

    @property
    def word(self) -> str:
        return self.refresher.state.word(self.table.hosts > 0)

    def pid(self) -> int:
        assert self.refresher.process is not None
        return self.refresher.process.pid

    def kill(self) -> None:
        """And wait until it is dead: what is sent to it from now on fails."""
        os.kill(self.pid(), signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # asyncio's watcher was quicker
            os.waitid(os.P_PID, self.pid(), os.WEXITED | os.WNOWAIT)


def within(
    inventory: Inventory, folder: Path, scenario: Callable[[Control], Coroutine[Any, Any, None]], **dhcp: Any
) -> None:
    async def run() -> None:
        control = Control(inventory.server.url, folder, **dhcp)
        try:
            await asyncio.wait_for(scenario(control), 120)
        finally:
            inventory.release()
            await control.refresher.end_planner()
            close_all(control.table.pair_fds)

    asyncio.run(run())


class Ctl:
    """`bootstorm ctl` to a Service of this process: real socket, real planner."""

    def __init__(self, service: Service, path: str) -> None:
        self.service = service
        self.path = path

    async def __call__(
        self, command: str, on_progress: Callable[[dict[str, Any]], None] | None = None, **arguments: Any
    ) -> Any:
        """Raises CallFailed."""
        return await asyncio.to_thread(Client(self.path).call, command, arguments, on_progress)

    async def status(self) -> dict[str, Any]:
        found: dict[str, Any] = await self("status")
        assert len(json.dumps(found)) < 50_000, "whatever happens"
        return found

    async def state_of(self, mac: str) -> str:
        return str((await self("lookup", mac=mac))["state"])


def commanded(url: str, folder: Path, scenario: Callable[[Ctl], Coroutine[Any, Any, None]], **dhcp: Any) -> None:
    async def run() -> None:
        conf, path = folder / "services.conf", str(folder / "control.sock")
        fields = {"api_url": url, "state_dir": str(folder), "refresh_interval": 3600} | dhcp
        conf.write_text(json.dumps({"dhcp": fields, "control": {"socket": path}}))
        ours, theirs = Channel.pair()
        with socket.socket(socket.AF_UNIX) as listener, conf.open("rb") as file:
            listener.bind(path)
            listener.listen()
            pages = [create_site_page(), os.eventfd(0), os.eventfd(0)]
            kept = {"config": file.fileno(), "console": listener.fileno()}
            fds = Fds.of(kept | dict(zip(("site", "adopted", "events"), pages, strict=True)))
            settings = Settings(config_path=str(conf), workers=0, port=0, state_dir=str(folder), console_path=path)
            service = Service(theirs, Begin(settings=settings), fds)
            console = asyncio.create_task(service.console.run())
            try:
                await service.refresher.relink([LinkAddress(2, "eth0", 0x0A010002, 24, 1500)])
                await asyncio.wait_for(scenario(Ctl(service, path)), 120)
            finally:
                console.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await console
                await service.refresher.end_planner()
                close_all([*service.table.pair_fds, *pages])
                ours.close()
                theirs.close()
                os.unlink(path)

    asyncio.run(run())
