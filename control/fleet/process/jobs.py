"""What control and its fleet process say to each other: frozen dataclasses over a fastpath.protocol.Channel.

Tables travel as descriptors named base and delta.  digest: of a table's rows (control/table/digest.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetBegin:
    """Control -> fleet, first.  fds: config, the text of services.conf; base (and delta) that is served."""

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
class Counts:
    """Control -> fleet, once a second: as control.fleet.adoption.Counted, of the table that is served."""

    served_s: int
    restarts: int
    abandoned: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Control -> fleet, answered with Told under that number.  verb: "" for all that the fleet is at, else an order
    (control.fleet.messages.Verb).  digest: hexadecimal, the beginning of that of a table to go back to; signed: that
    order as an operator signed it, empty: this machine signs it."""

    number: int
    verb: str = ""
    digest: str = ""
    signed: bytes = b""


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
    known.  fault: why there is no engine."""

    leads: bool
    follows: bool
    connected: bool
    leader: str = ""
    mark: list[int] = field(default_factory=list)
    serves: str = ""
    dated_s: int = 0
    refused: str = ""
    fault: str = ""
    lost: int = 0  # actions that found no room, and messages that did


TO_CONTROL: dict[str, type] = {kind.__name__: kind for kind in (Told, Build, ReadInventory, Check, Serve, State)}
TO_FLEET: dict[str, type] = {
    kind.__name__: kind for kind in (FleetBegin, Built, Alone, Checked, Served, Counts, Ask)
}  # fmt: skip
