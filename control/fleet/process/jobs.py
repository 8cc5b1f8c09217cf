"""What control and its fleet process say to each other: frozen dataclasses over a fastpath.protocol.Channel.

Tables travel as descriptors named base and delta.  digest: of a table's rows (control/table/digest.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

SERVED: Final = "served"


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetBegin:
    """Control -> fleet, first.  fds: config, the text of services.conf; base (and delta) that is served; lead, the page
    of the registrars (page.py)."""

    config_path: str
    state_dir: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """Control -> fleet: the inventory says this.  fds: base (and delta), served by nobody yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """Control -> fleet: this machine read the inventory for itself, and serves this.  fds: base (and delta)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Control -> fleet: what became of a Check.  reason: a control.fleet.wire.Reason, or nothing where it is good."""

    digest: bytes
    reason: str = ""
    said: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Control -> fleet: what became of a Serve.  fault: why it is not served, or nothing."""

    digest: bytes
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """Control -> fleet, some time after Served: all workers answer from that table."""

    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Control -> fleet, once a second: as control.fleet.adoption.Counted, of the table that is served."""

    served_s: int
    restarts: int
    abandoned: int
    requests_s: int = 0
    replies_s: int = 0
    age_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Control -> fleet, answered with Told under that number.  verb: "" for all that the fleet is at, SERVED to wait
    until all machines serve the table of that digest, else an order (control.fleet.messages.Verb).  digest:
    hexadecimal; in an order the beginning of that of a table to go back to; signed: that order as an operator signed
    it, empty: this machine signs it."""

    number: int
    verb: str = ""
    digest: str = ""
    signed: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookUp:
    """Control -> fleet: this machine follows; the leader is to ask the inventory.  Answered with Told under that
    number: {"missing", "missing_names", "digest", "counts"} as control.fleet.messages.LookedUp, MACs as texts.
    asked: by a person, or by discovery."""

    number: int
    macs: list[str]
    names: list[str]
    asked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """Control -> fleet: what became of a LookFor.  counts: hosts, added, changed, removed, quarantined."""

    number: int
    missing: list[str] = field(default_factory=list)
    missing_names: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Control -> fleet: this machine follows, and saw this (control/fleet/sightings.py)."""

    what: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Journaled:
    """Control -> fleet: what was handed over as Journal is on the leader's disk and in the engine."""

    host: str
    spool: bytes
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Control -> fleet: the leader's journal of discovery has this of a machine; nothing: it is through."""

    mac: str
    record: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    """Control -> fleet.  Answered with Told under that number when each Keep before it is in the engine."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Fleet -> control.  fault: why it cannot be said or done."""

    number: int
    told: dict[str, Any] = field(default_factory=dict)
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """Fleet -> control: this machine leads, and needs what the inventory says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookFor:
    """Fleet -> control: this machine leads, and a follower wants these looked up.  Answered with Looked; a table that
    came of it is Built before."""

    number: int
    macs: list[str]
    names: list[str]
    asked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """Fleet -> control: this machine leads, and that host saw this (control/fleet/sightings.py).  Answered with
    Journaled."""

    host: str
    spool: bytes
    number: int
    what: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """Fleet -> control: this machine has taken the lead, and the engine has this of a machine.  Without a MAC: that was
    all of it."""

    mac: str
    record: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadInventory:
    """Fleet -> control: there is no table, and nobody to give one.  Answered with Alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Fleet -> control: may this be served here?  fds: base (and delta).  Answered with Checked."""

    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Serve:
    """Fleet -> control: the table that was checked last.  Answered with Served."""

    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Fleet -> control, when it changes and once a second.  follows: there is a head, and what is served is the
    fleet's.  dated_s: since 1970, when the leader last had the inventory's word for the table that is served; 0: not
    known.  fault: why there is no engine.  head_s: when the head was written, since 1970, 0 without one; held, pinned,
    trial, dropped: what it says; lags: it names another table for this machine.  machines, behind: on who leads, how
    many were heard of lately, and how many of all that are known do not serve what they should.  refusals: by
    control.fleet.wire.Reason, since the process was started."""

    leads: bool
    follows: bool
    connected: bool
    leader: str = ""
    mark: list[int] = field(default_factory=list)
    serves: str = ""
    dated_s: int = 0
    refused: str = ""
    fault: str = ""
    frozen: bool = False  # the head is held or pinned: nothing newer is published
    waiting: int = 0  # entries of this machine's spool that the leader's journal has not confirmed
    journal_fault: str = ""  # of the leader: why its journal is not in the engine
    lost: int = 0  # actions that found no room, and messages that did
    head_s: int = 0
    held: bool = False
    pinned: bool = False
    trial: bool = False
    dropped: bool = False
    lags: bool = False
    machines: int = 0
    behind: int = 0
    refusals: dict[str, int] = field(default_factory=dict)


TO_CONTROL: dict[str, type] = {
    kind.__name__: kind for kind in (Told, Build, LookFor, Journal, Recall, ReadInventory, Check, Serve, State)
}
TO_FLEET: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        FleetBegin, Built, Alone, Checked, Served, Adopted, Counts, Ask, LookUp, Looked, Seen, Journaled, Keep, Sync,
    )
}  # fmt: skip
