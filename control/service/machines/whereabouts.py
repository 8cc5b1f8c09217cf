"""Which containers the objects of rows are in, as the planner says it: for the filters and the sums of `ctl hosts`."""

from __future__ import annotations

import asyncio
import fnmatch
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ext.ledger import PHASES

from control.sources.model import name_of

POOL, RACK = "pool", "rack"
GROUPS_AT_ONCE: Final = 100  # a millisecond on a busy machine
FITTED_AT_ONCE: Final = 1_000
FOUND_MAX: Final = 8  # patterns that are remembered
HABITS_AT_ONCE: Final = 20 * GROUPS_AT_ONCE
COMPANIES_MAX: Final = 1 << 16
HABIT_BYTES: Final = 8  # ext/roll.pxd
PHASE_OF: Final = {phase: number for number, phase in enumerate(PHASES)}


class Whereabouts:
    """placed: 4 octets for each row number, its group (ext/roll.pyx: Roll).  groups: by number, the paths of all
    containers above; number 0 is of rows that nothing is known of.

    doubtful: 4 octets for each row number, other than 0 of a row that stays as it was, in doubt; None: nobody said."""

    def __init__(self) -> None:
        self.placed = b""
        self.groups: list[list[str]] = [[]]
        self.ends = b"\0"  # of each group, the phase in which boots end; 0: not said
        self.doubtful: bytes | None = None
        self.index = Index(self.groups)
        for _ in self.index.build(self.index):
            pass
        self.indexing = asyncio.Lock()

    def take(self, report: Mapping[str, Any]) -> None:
        """A planner's report (control/planner/report.py); one of an older planner has nothing of it."""
        if "groups" in report:
            self.groups = [[], *(paths for paths, _ends in report["groups"])]
            self.ends = bytes([0, *(PHASE_OF.get(ends, 0) for _paths, ends in report["groups"])])
        self.placed = report.get("placed", self.placed)
        self.doubtful = report.get("doubtful", self.doubtful)

    async def indexed(self) -> Index:
        """Of the groups as they are now; made in pieces after they changed."""
        async with self.indexing:
            while self.index.groups is not self.groups:
                index = Index(self.groups)
                for _ in index.build(self.index):
                    await asyncio.sleep(0)
                self.index = index
        return self.index


class Index:
    """Containers by number, as a scan of all rows takes them (ext/scan.pyx); complete when build() is at its end.

    names: of each kind; number 0, of an empty name, has the groups that are in none.  companies: of each group the
    number of its *company*, whose machines tell each other how far their boots go: the nearest pool, else the group
    itself; 0: none.  habits: of each group 8 octets, what the last scan has found of that (Scan.habits)."""

    def __init__(self, groups: Sequence[Sequence[str]]) -> None:
        self.groups = groups
        self.names: dict[str, list[str]] = {POOL: [""], RACK: [""]}
        self.first = {kind: array("I", [0]) for kind in self.names}
        self.members = {kind: array("I") for kind in self.names}
        self.companies = array("I")
        self.company_names = [""]  # of a pool, or of a group's containers
        self.company_keys: dict[str, int] = {"": 0}
        self.first_groups = [0]  # of each company
        self.habits, self.has_learnt = b"", False
        self.found: dict[tuple[str, str], bytes] = {}  # of fitting(): a list has thousands of pages

    def build(self, before: Index) -> Iterator[None]:
        """In pieces.  before: whose habits go on, for companies that it has, too."""
        numbers: dict[tuple[str, str], int] = {}
        known: dict[str, tuple[str, int]] = {}  # path -> its kind, number
        for group, paths in enumerate(self.groups):
            found: dict[str, list[int]] = {POOL: [], RACK: []}
            for path in paths:
                said = known.get(path)
                if said is None:
                    said = known[path] = self.container(path, numbers)
                kind, number = said
                if kind and number not in found[kind]:
                    found[kind].append(number)
            for kind, ours in found.items():
                self.members[kind].extend(ours or (0,))
                self.first[kind].append(len(self.members[kind]))
            pools = found[POOL]
            self.companies.append(self.company(group, paths, self.names[POOL][pools[0]] if pools else ""))
            if group % GROUPS_AT_ONCE == GROUPS_AT_ONCE - 1:
                yield
        yield from self.remember(before)

    def container(self, path: str, numbers: dict[tuple[str, str], int]) -> tuple[str, int]:
        """(kind, number), by kind and name; ("", 0) of other kinds."""
        kind = kind_of(path)
        if not kind:
            return "", 0
        number = numbers.setdefault((kind, name_of(path)), len(self.names[kind]))
        if number == len(self.names[kind]):
            self.names[kind].append(name_of(path))
        return kind, number

    def company(self, group: int, paths: Sequence[str], pool: str) -> int:
        key = f"pool {pool}" if pool else "\0".join(paths)
        number = self.company_keys.get(key)
        if number is None:
            if len(self.company_names) == COMPANIES_MAX:
                return 0
            number = self.company_keys[key] = len(self.company_names)
            self.company_names.append(pool or ", ".join(map(name_of, paths)))
            self.first_groups.append(group)
        return number

    def remember(self, before: Index) -> Iterator[None]:
        of_company = [bytes(HABIT_BYTES)] * len(self.company_names)
        for key, number in self.company_keys.items():
            at = HABIT_BYTES * before.first_groups[before.company_keys.get(key, 0)]
            of_company[number] = before.habits[at : at + HABIT_BYTES] or bytes(HABIT_BYTES)
            if number % GROUPS_AT_ONCE == GROUPS_AT_ONCE - 1:
                yield
        habits = bytearray()
        for first in range(0, len(self.companies), HABITS_AT_ONCE):
            habits += b"".join([of_company[number] for number in self.companies[first : first + HABITS_AT_ONCE]])
            yield
        self.habits = bytes(habits)
        self.has_learnt = before.has_learnt and len(before.company_names) > 1

    def is_pool(self, group: int) -> bool:
        """Whether the group's company is a pool."""
        return group < len(self.groups) and any(kind_of(path) == POOL for path in self.groups[group])

    async def fitting(self, kind: str, pattern: str) -> bytes:
        """An octet for each group: whether it is in a container of a kind that a pattern of `*`, `?`, `[...]` fits.  In
        pieces."""
        said = self.found.get((kind, pattern))
        if said is not None:
            return said
        fits = re.compile(fnmatch.translate(pattern)).fullmatch
        names, first, members = self.names[kind], self.first[kind], self.members[kind]
        fitting, found = bytearray(len(names)), bytearray(len(self.groups))
        for number in range(1, len(names)):  # 0 is of groups that are in none
            fitting[number] = fits(names[number]) is not None
            if number % FITTED_AT_ONCE == 0:
                await asyncio.sleep(0)
        for group in range(len(found)):
            found[group] = any(map(fitting.__getitem__, members[first[group] : first[group + 1]]))
            if group % FITTED_AT_ONCE == 0:
                await asyncio.sleep(0)
        if len(self.found) >= FOUND_MAX:
            self.found.pop(next(iter(self.found)), None)
        told = self.found[kind, pattern] = bytes(found)
        return told

    def company_name(self, group: int) -> str:
        return self.company_names[self.companies[group]] if group < len(self.companies) else ""


def kind_of(path: str) -> str:
    return next((kind for kind in (POOL, RACK) if is_of_kind(path, kind)), "")


def is_of_kind(path: str, kind: str) -> bool:
    type_ = path.split("/")[1] if path.count("/") >= 2 else ""
    return kind in type_ if kind == RACK else type_ == kind
