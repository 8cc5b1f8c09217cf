"""What control and its planner say to each other: frozen dataclasses over a fastpath.protocol.Channel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanBegin:
    """Control -> planner, first.  links: (ifindex, name, address, prefix, mtu).  fds: the text of services.conf, then
    base (and delta) being served."""

    config_path: str
    state_dir: str
    links: list[list[int | str]]
    generation: int = 0
    pinned_s: float = 0.0  # as the planner before said; the disk may not have taken it
    keeps: bool = True  # false: what it makes is served by nobody yet, and the disk has another's
    holds: list[list[int]] = field(default_factory=list)  # as in Lay, and the next, too
    onces: list[list[Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """Read the inventory and plan anew.  force: even if it takes most hosts away, or the table is pinned."""

    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LookUp:
    """Read these hosts only, also while a refresh is under way.  macs: lower case with colons; names: of objects.

    asked: by a person, not because somebody was seen on the wire."""

    macs: list[str]
    names: list[str]
    asked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Relink:
    """The interfaces changed: same hosts, new surroundings.  Answered with Relinked; one at a time is under way."""

    links: list[list[int | str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Relinked:
    """Planner -> control: a Relink was taken; its table, if there is one, came before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """Serve what was served before the last refresh, and stay there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lay:
    """All overrides that are in force from now on.  Answered with Laid, or Failed; also while a refresh is under way.

    holds: (identity of an object, role) of the rows that are not answered.  onces: (identity of a host, its name, its
    attributes for one boot as (name, value), whether the table that is served has them already)."""

    holds: list[list[int]] = field(default_factory=list)
    onces: list[list[Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Laid:
    """Planner -> control: a Lay was taken; its table, if there is one, came before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckTable:
    """May another machine's table be served here?  fds: base (and delta).  Answered with TableChecked; one that is good
    waits for a ServeTable.  digest: of its rows (control/table/digest.py)."""

    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TableChecked:
    """Planner -> control.  reason: a control.fleet.wire.Reason, or nothing where it is good."""

    digest: bytes
    reason: str = ""
    said: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeTable:
    """Serve the one that was checked last.  Answered with Planned of origin "fleet", or Failed."""

    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ListChanges:
    """What the last refresh changed, from the offset-th on.  Answered with Listed."""

    offset: int
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FindOrigins:
    """Which objects give these machines their options, by what the inventory says now; nothing is published.  Answered
    with OriginsFound; also while a refresh is under way.

    leases: (MAC as a number, address)."""

    leases: list[tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginsFound:
    """fds: a memfd with msgpack, [[MAC, address, client class, {option code: who said it}]]; none when it failed.

    The class: its number, or the name of a site's class."""

    failed: str = ""  # why


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Planner -> control: said by the work itself, after each piece.  done, total: what the stage counts; rows:
    planned so far; bytes: of the answer or file that is being read, as it comes.  table_layout: of READY, how this
    planner lays out tables; 0 from a build that does not say."""

    stage: str
    done: int
    total: int
    rows: int = 0
    bytes: int = 0
    table_layout: int = 0


# Once, when the planner has said what the disk has, or what became of the table that it was given, and takes jobs.
READY = Progress(stage="begin", done=0, total=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """fds: report, then base and delta when `published`.  confirmed_s: seconds since 1970 of the inventory's word."""

    # "inventory", "hosts" (a look-up), "disk", "links", "rollback", "overrides", "fleet" (another machine's)
    origin: str
    generation: int
    base: int
    published: bool
    confirmed_s: float
    confirmed_boottime_s: float = 0.0  # of "inventory": the same by CLOCK_BOOTTIME
    hosts: int
    quarantined: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    stages_s: dict[str, float] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)  # of a look-up: MACs that the inventory does not have
    missing_names: list[str] = field(default_factory=list)  # the same of objects
    doubts: list[str] = field(default_factory=list)  # what could not be read or believed, and stays as it was
    kept_hosts: int = 0  # rows that stay as they were, in doubt
    kept_parts: int = 0  # parts of the inventory that had not changed and were not planned again
    parts: int = 0
    pinned_s: float = 0.0  # since 1970; 0 while no rollback holds
    unsaved: str = ""  # of "rollback": why the disk does not have it, so that a restart ends it


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Nothing was published; what was served goes on.  job: whose answer this is."""

    # "down", "shrunk", "contested", "pinned", "nothing"; "refused": overrides; "network": a look-up of one, no host;
    # "internal": a fault of ours, or a planner that ended;
    # "unread": a look-up by a planner that has not read the inventory as a whole yet; "superseded", which only control
    # says: of what another configuration ended; "follows", the same: this machine serves what its fleet publishes.
    kind: str
    reason: str
    job: str = "refresh"  # or "hosts", "changes", "check", "fleet", "overrides"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """fds: a memfd with msgpack, [{"mac", "host", "old", "new"}]; old or new is None where there was no host."""

    generation: int  # that the last refresh made
    origin: str
    total: int


class RefreshFailed(Exception):
    """A refresh that was asked for did not happen; the old table serves on."""


KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        PlanBegin, Refresh, LookUp, Relink, Rollback, ListChanges, FindOrigins, CheckTable, ServeTable,
        TableChecked, Progress, Planned, Failed, Listed, OriginsFound, Relinked, Lay, Laid,
    )
}  # fmt: skip
