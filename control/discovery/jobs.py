"""What the coordinator and its registrars say to each other: frozen dataclasses over a fastpath.protocol.Channel."""

from __future__ import annotations

from dataclasses import dataclass, field


class Waits(Exception):
    """Only a person, or a change in the inventory, can take this machine further: the text says what and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrarBegin:
    """Coordinator -> registrar, first.  fds: the text of services.conf; in a fleet then the page by which it knows
    whether this machine leads (control/fleet/process/page.py), where place is this registrar's."""

    config_path: str
    place: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Coordinator -> registrar: take one machine as far as it goes.

    places: [switch, port as its trap names it (trapseen.Port), VLAN or 0], the newest first; none for what only DHCP
    saw.
    roles: what its DHCP said it is, of "host", "boot" (a host, beyond doubt: firmware that loads a boot file), "bmc".
    name: of the server that an earlier try was about to make or made; "" for none.
    adopted: a person said to go on with what is not done without asking.
    lasting: it has said for so long, at one place, that it is a BMC (machines.BMC_LASTS_S).
    bmc_word: a person adopted it when it had said that it is a BMC.
    served: names of the objects that the table has for this MAC, "" for none."""

    mac: str
    places: list[list[str | int]]
    roles: list[str]
    name: str = ""
    adopted: bool = False
    lasting: bool = False
    bmc_word: bool = False
    served: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """Registrar -> coordinator: about to make a server of this name.  Answered with Granted when it is on disk."""

    mac: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """Coordinator -> registrar.  ok False: another machine is about to take that name; fault: it cannot be put on
    disk."""

    ok: bool
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserves:
    """Registrar -> coordinator: about to bind one of these addresses.  Answered with Reserved."""

    addresses: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """Coordinator -> registrar.  words: of each address what has it, "" where a server may get it."""

    words: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Registrar -> coordinator: what it is at, for the reason when it hangs or dies there."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Registrar -> coordinator, after each: how many requests to the inventory were answered since it was started."""

    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Registrar -> coordinator: how far the machine came.

    state: one of states.OUTCOMES.  did: what was written, in words.  answered: whether a DHCP answer may have changed.
    uplinks: of the places, those whose port leads to another switch: [switch, port]."""

    mac: str
    state: str
    reason: str = ""
    server: str = ""
    switch: str = ""
    port: int = 0
    did: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    answered: bool = False
    uplinks: list[list[str | int]] = field(default_factory=list)


KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (RegistrarBegin, Work, Intent, Granted, Reserves, Reserved, Stage, Progress, Outcome)
}
