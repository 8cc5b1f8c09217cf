"""What the service manager keeps for us (systemd's FileDescriptorStoreMax=): sockets, pages, ledger, table, settings.

A supervisor that is killed is started again with them, so that nothing that waits in a socket's queue is lost.  Each
descriptor has a role, and in the manager's store a name of its own, ROLE.NUMBERS.SERIAL: several of one name would only
pile up there.  What replaces another one is stored first, and the other one removed after it; of two, the higher serial
counts.  Nothing is ever known of what the manager has in fact: it says nothing of a store that is full.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from fastpath.process.build import BUILD_NAME
from fastpath.process.logs import FORM_VARIABLE
from fastpath.process.notify import Handed
from fastpath.protocol import Settings, write_all
from fastpath.supervisor.children import LAYOUTS
from fastpath.supervisor.descriptors import Kept

FORM = 1  # of names and state; another one is refused as a whole
STATE = "state"
TRY = b"t"  # behind the line of the state, one for each of the tries
FAULTS = ("traps_fault", "boot_fault", "known_fault", "io_reason")  # of Kept: what an operator is told goes on
SPARE = ("page", "site", "ledger", "delta", "base")  # memory of ours that can be made anew
Send = Callable[[str, Sequence[int]], None]
"""Raises OSError."""
Identity = tuple[int, int]  # device and inode


def roles(kept: Kept) -> dict[str, int]:
    """Role -> fd, in the order in which they are stored: what a start needs most comes first, should there be no room
    for all; a delta before its base, so that no base is taken for a table without it.

    Not among them: what a start makes anew without a loss (bells, turns, the observer's channel)."""
    found = {"config": kept.config, "lock": kept.lock, "console": kept.console}
    for slot, sockets in enumerate(kept.slots):
        found |= {
            f"udp-{slot}": sockets.udp,
            f"urgent-{slot}": sockets.urgent,
            f"packet-{slot}": sockets.packet,
            f"boot-{slot}": sockets.boot,
        }
    found |= {"known": kept.known, "tap": kept.tap}
    if kept.traps:
        found |= {f"traps_{name}": fd for name, fd in asdict(kept.traps).items()}
    if kept.xdp:
        found |= {f"xdp_link-{at}": fd for at, fd in enumerate(kept.xdp.links)}
        for at, pool in enumerate(kept.xdp.pools):
            found[f"xdp_memory-{at}"] = pool.memory
            found |= {f"xdp_plain-{at}-{slot}": fd for slot, fd in enumerate(pool.plain)}
            found |= {f"xdp_urgent-{at}-{slot}": fd for slot, fd in enumerate(pool.urgent)}
    found |= {f"page-{slot}": fd for slot, fd in enumerate(kept.pages)}
    found |= {"site": kept.site_page, "ledger": kept.ledger, "delta": kept.delta, "base": kept.base}
    return {role: fd for role, fd in found.items() if fd >= 0}


def is_spare(role: str) -> bool:
    return role.partition("-")[0] in SPARE


def numbers_of(role: str, kept: Kept) -> tuple[int, ...]:
    """What its name says of a table: of a base generation and layout, of a delta generation and base."""
    if role == "base":
        return kept.base_generation, kept.table_layout
    return (kept.generation, kept.base_generation) if role == "delta" else ()


def written(settings: Settings, kept: Kept) -> bytes:
    """What a start has to know besides the descriptors; one line."""
    return (
        json.dumps(
            {
                "form": FORM,
                "build": BUILD_NAME,
                "layouts": LAYOUTS,
                "settings": asdict(settings),
                "roles": [role for role in roles(kept) if not is_spare(role)],
                "faults": {name: getattr(kept, name) for name in FAULTS},
                "log_format": os.environ.get(FORM_VARIABLE, ""),
            }
        ).encode()
        + b"\n"
    )


def identity(fd: int) -> Identity:
    """Raises OSError."""
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


@dataclass(slots=True)
class Stored:
    """A descriptor that the manager was given."""

    name: str
    identity: Identity


@dataclass(slots=True)
class Store:
    """What the manager was given, by role; obsolete: names that it is to forget; state: a memfd, -1 before it is made.

    tries: starts in a row, this one included, that began with what the manager handed back and have not served yet.
    is_due: something may have changed since the last sync()."""

    stored: dict[str, Stored] = field(default_factory=dict)
    obsolete: list[str] = field(default_factory=list)
    state: int = -1
    tries: int = 0
    is_due: bool = True
    serial: int = 0

    def told(self) -> dict[str, Any]:
        """For restore() in another image."""
        names = [[role, stored.name, *stored.identity] for role, stored in self.stored.items()]
        return {"form": FORM, "stored": names, "obsolete": self.obsolete}

    def restore(self, told: Mapping[str, Any]) -> None:
        """From told(), perhaps of another build, whose names may mean something else; then these are forgotten.

        Raises LookupError, TypeError, ValueError with nothing changed."""
        stored = {
            str(role): Stored(str(name), (int(device), int(inode))) for role, name, device, inode in told["stored"]
        }
        self.obsolete = [str(name) for name in told["obsolete"]]
        if told["form"] == FORM:
            self.stored = stored
        else:
            self.obsolete += [each.name for each in stored.values()]

    def take_over(self, taken: Mapping[str, Handed], rest: Sequence[Handed], tries: int) -> None:
        """What the manager handed back is what it has: taken, by role; rest is to be forgotten.  Raises OSError."""
        self.stored = {role: Stored(handed.name, identity(handed.fd)) for role, handed in taken.items()}
        self.obsolete = [handed.name for handed in rest]
        self.tries = tries

    def name(self, role: str, numbers: Sequence[int]) -> str:
        self.serial = max(self.serial + 1, time.monotonic_ns() // 1000)
        return ".".join([role, *map(str, numbers), str(self.serial)])

    def sync(self, settings: Settings, kept: Kept, send: Send) -> None:
        """Store what is new, then forget what it replaces.  Raises OSError where the manager takes nothing more now:
        the next call goes on from there."""
        self.make_state(settings, kept)
        wanted = {STATE: self.state, **roles(kept)}
        for role, fd in wanted.items():
            found, before = identity(fd), self.stored.get(role)
            if before is not None and before.identity == found:
                continue
            name = self.name(role, numbers_of(role, kept))
            # Without FDPOLL=0 systemd drops a socket that shows POLLERR, as UDP does after an ICMP message.
            send(f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0", [fd])
            self.stored[role] = Stored(name, found)
            if before is not None:
                self.obsolete.append(before.name)
        for role in self.stored.keys() - wanted.keys():
            self.obsolete.append(self.stored.pop(role).name)
        self.forget(send)
        self.is_due = False

    def make_state(self, settings: Settings, kept: Kept) -> None:
        """Once an image: what it says does not change.  Raises OSError."""
        if self.state >= 0:
            return
        state = os.memfd_create("bootstorm-state", os.MFD_CLOEXEC)
        try:
            write_all(state, written(settings, kept) + TRY * self.tries)
        except OSError:
            os.close(state)
            raise
        self.state = state

    def forget(self, send: Send) -> None:
        """Raises OSError."""
        while self.obsolete:
            send(f"FDSTOREREMOVE=1\nFDNAME={self.obsolete[0]}", [])
            del self.obsolete[0]

    def give_up(self) -> None:
        """Nothing of it is wanted any more: forget() says so; first the state, without which the rest is no use."""
        self.obsolete += [stored.name for stored in self.stored.values()]
        self.stored.clear()

    def proven(self) -> None:
        """This start serves: no try any more.  Raises OSError."""
        if self.state >= 0 and self.tries:
            os.ftruncate(self.state, os.fstat(self.state).st_size - self.tries * len(TRY))
        self.tries = 0

    def close(self) -> None:
        if self.state >= 0:
            os.close(self.state)
            self.state = -1
