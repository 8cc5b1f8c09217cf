"""Scopes of dhcpd.conf and what is said in them, evaluated for each kind of client.  Pure.

Which counts (dhcpd.conf(5), "Declarations"): the host, its groups, classes, the subnet, the shared network, the file
itself; within one scope the later statement.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from control.importers.conditions import Test
from control.importers.kinds import Kinds, Said, Value
from control.importers.site import Group, Notes, Place, Unfit


@dataclass(slots=True)
class Set:
    """option: our name of it, or a key of definitions.py."""

    option: str
    value: Value


@dataclass(slots=True)
class If:
    """branches: (condition, statements); None: else."""

    place: Place
    text: str
    branches: list[tuple[Test | None, list[Set | If]]]


Statement = Set | If


@dataclass(slots=True, eq=False)
class Scope:
    """kind: file, group, subnet, shared, pool, class, host.  names_hosts: use-host-decl-names."""

    kind: str
    name: str
    place: Place
    parent: Scope | None = None
    statements: list[Statement] = field(default_factory=list)
    group: Group | None = None
    names_hosts: bool | None = None
    boots: bool | None = None

    def chain(self) -> Iterator[Scope]:
        """The nearest first."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent


class Evaluation:
    def __init__(self, kinds: Kinds, notes: Notes) -> None:
        self.kinds = kinds
        self.notes = notes

    def said(self, statements: list[Statement], test: Test | None = None) -> Said:
        """What is told by them to those kinds that pass a test.  Raises Unfit for what the test does not know."""
        if test is None and all(isinstance(each, Set) for each in statements):
            return {each.option: each.value for each in statements if isinstance(each, Set)}
        active = range(len(self.kinds))
        told: dict[str, list[Value | None]] = {}
        self._run(statements, [at for at in active if test is None or test(self.kinds.all[at].options)], told)
        return {option: joined for option, values in told.items() if (joined := self.kinds.joined(values)) is not None}

    def _run(self, statements: list[Statement], active: list[int], told: dict[str, list[Value | None]]) -> None:
        for each in statements:
            if isinstance(each, Set):
                values = told.setdefault(each.option, [None] * len(self.kinds))
                for at in active:
                    values[at] = each.value
                continue
            rest = active
            try:
                chosen = []
                for test, inside in each.branches:
                    hit = rest if test is None else [at for at in rest if test(self.kinds.all[at].options)]
                    rest = [at for at in rest if at not in hit]
                    chosen.append((inside, hit))
            except Unfit as unfit:
                self.notes.lost(each.place, each.text, f"{unfit}, so nothing in this block was taken")
                continue
            for inside, hit in chosen:
                self._run(inside, hit, told)
