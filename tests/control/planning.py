"""A planner in this process, the inventory that it reads, what control would hear of it; fixtures in conftest.py."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgpack
from ext.table import Generation, Pair

from control.clusto.server.store import Store
from control.config.config import Config, Dhcp
from control.planner.jobs import Planned, Progress
from control.planner.planner import Planner
from fastpath.protocol import close_all
from tests.control.inventories import Site
from tests.control.spoiling import Spoiling

LINKS: list[list[int | str]] = [[2, "eth0", 0x0A010002, 24, 1500], [3, "eth1", 0x0A020002, 24, 9000]]
OTHER_LINKS: list[list[int | str]] = [[2, "eth0", 0x0A010003, 24, 1500]]


def mac(number: int) -> int:
    return 0x020000000000 + number


def text(number: int) -> str:
    return mac(number).to_bytes(6, "big").hex(":")


def site(
    hosts: int = 6,
    *,
    gone: set[int] | None = None,
    changed: set[int] | None = None,
    off: bool = False,
    pools: Iterable[str] = ("boot",),
) -> Site:
    """Hosts h1, h2, ... in the pools by turns; those of `changed` have an address 100 higher."""
    made = Site()
    names = list(pools)
    for name in names:
        made.pool(name, enabled=0 if off else 1, domain="x.example")
    for number in sorted(set(range(1, hosts + 1)) - (gone or set())):
        address = f"10.1.0.{number + 10 + (100 if number in (changed or ()) else 0)}"
        made.host(f"h{number}", address, mac=text(number), pools=[names[number % len(names)]], dhcp={})
    return made


class Inventory:
    """The embedded inventory behind HTTP.

    down: what it says instead of the truth; spoiled: what it says to requests that contain a text; on_request: called
    with each before it is answered."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.server: Spoiling
        self.forget()

    def forget(self) -> None:
        self.down: bytes | None = None
        self.spoiled: dict[str, bytes] = {}
        self.on_request: Any = lambda _target: None

    def spoil(self, target: str) -> bytes | None:
        self.on_request(target)
        found = [raw for piece, raw in self.spoiled.items() if piece in target]
        return found[0] if found else self.down


class Control:
    """What control would see: messages in order, fds as sendmsg copies them."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.fds: list[list[int]] = []

    def send(self, message: Any, fds: list[int] | tuple[int, ...] = ()) -> None:
        if not isinstance(message, Progress):
            self.fds.append([os.dup(fd) for fd in fds])
        self.sent.append(message)

    @property
    def said(self) -> list[Any]:
        return [message for message in self.sent if not isinstance(message, Progress)]

    @property
    def last(self) -> Any:
        return self.said[-1]

    def report(self) -> dict[str, Any]:
        return dict(self.unpacked())

    def unpacked(self) -> Any:
        with os.fdopen(os.dup(self.fds[-1][0]), "rb") as file:
            file.seek(0)
            return msgpack.unpack(file, strict_map_key=False)

    def pair(self) -> Pair:
        """Of the last message that came with one."""
        _report, base, *delta = next(fds for fds in reversed(self.fds) if len(fds) > 1)
        return Pair(Generation(base), Generation(delta[0]) if delta else None)

    def close(self) -> None:
        for fds in self.fds:
            close_all(fds)
        self.fds.clear()


def config(inventory: Inventory, folder: Path, **dhcp: Any) -> Config:
    fields: dict[str, Any] = {"api_url": inventory.server.url, "state_dir": folder} | dhcp
    return Config(dhcp=Dhcp(**fields))


def end(planner: Planner) -> None:
    """Give its fds back."""
    planner.served.forget_former()
    planner.served.drop()
    planner.reader.shutdown()


def open_memfds() -> int:
    """Of this process.  Tables and reports are memfds; connections to the inventory come and go beside them."""
    return sum("memfd:" in _target(fd) for fd in os.listdir("/proc/self/fd"))


def _target(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:  # the directory's own, or closed by another thread meanwhile
        return ""


def number(planner: Planner) -> int:
    """Of the generation that serves."""
    return 0 if planner.served.pair is None else int(planner.served.pair.top.number)


def figures(planned: Planned) -> tuple[int, int, int, int]:
    return planned.hosts, planned.added, planned.changed, planned.removed


def refresh(planner: Planner, inventory: Inventory, content: Site, force: bool = False) -> None:
    content.store_in(inventory.store)
    planner.refresh(force)
