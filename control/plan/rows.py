"""What becomes of the hosts of an inventory: a row each, what they have besides, and what several of them have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ext.leases import LeaseState as State

from control.config.bmc import ROLE_BIT
from control.plan.contexts import Faults
from control.plan.templates import Template

Claim = tuple[int, str, str]  # address, name and path of who has it without being answered with it
Claims = Mapping[str, Sequence[Claim]]  # path -> all that this object has so
# The key of the row that hands an address out, None for who only has it; the name; which object (Row.thing)
Owner = tuple[int | None, str, str | int]


class Row(NamedTuple):
    """One host of the table, or its BMC.  leases: (address, prefix, template), the preferred first.

    key: its MAC, with ROLE_BIT above that for a BMC.  thing: which object it is of: its path, or an identity of the
    table; two objects may show the same name.  PROXIED: one lease of address 0.  port: of OTHER_PORT, its number."""

    key: int
    state: State
    name: str
    own: bytes
    leases: tuple[tuple[int, int, Template], ...]
    reason: str = ""
    thing: str | int = ""
    port: int = 0

    @property
    def mac(self) -> int:
        return self.key & (ROLE_BIT - 1)


@dataclass(slots=True)
class Contested:
    """What several rows or objects have.  macs: row's key -> (name, Row.thing) of each; addresses: -> Owner of each."""

    macs: Mapping[int, Sequence[tuple[str, str | int]]] = field(default_factory=dict)
    addresses: Mapping[int, Sequence[Owner]] = field(default_factory=dict)


@dataclass(slots=True)
class Plan:
    """rows: sorted by key.  claims: (address, name, path) that nobody else may be given.  networks: (first, last)."""

    rows: list[Row] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)
    networks: list[tuple[int, int]] = field(default_factory=list)
    shared: list[tuple[int, int, int]] = field(default_factory=list)  # (first, last, group): on one link
    claims: list[Claim] = field(default_factory=list)
    contested: Contested = field(default_factory=Contested)
    unsure: list[str] = field(default_factory=list)  # paths of what nobody may conclude about: it stays as it is served
