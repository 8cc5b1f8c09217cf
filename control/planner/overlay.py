"""What an operator wants otherwise than the inventory says, as rows that are laid over the planned ones when a table is
published (Served.lay).  What the planner itself compares, looks up and goes back to are the inventory's rows alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ext.addresses import View
from ext.builder import identity_of_object
from ext.leases import LeaseState as State
from ext.table import STATES, Pair

from control.plan.compile import decoded
from control.plan.rows import Row
from control.plan.templates import Template

HELD = "held by an operator"
ROLE_SHIFT = 48  # of a row's key
LAID_OVER = ("served", "proxied")  # who is not answered anyway keeps the reason for that
VERSIONS_MAX = 4  # of the rows of one host, with other addresses each


@dataclass(frozen=True, slots=True)
class Once:
    """What a host says itself for its next boot.  said: as of control/plan/otherwise.py."""

    name: str
    said: tuple[tuple[str, str], ...]


class Overlay:
    """holds: (identity of an object, role) of the rows that are not answered, whichever MACs they have by now.

    onces: by identity, of hosts that get other options.  planned: what these make of them, by key, the newest first: it
    needs the inventory's word, and a row is laid over one that has its addresses alone.

    By object and not by MAC: a board that is replaced does not end a hold, and its old MAC may be somebody else's."""

    def __init__(self) -> None:
        self.holds: frozenset[tuple[int, int]] = frozenset()
        self.onces: dict[int, Once] = {}
        self.planned: dict[int, list[dict[int, Row]]] = {}

    def set(self, holds: Iterable[Iterable[int]], onces: Iterable[Sequence[Any]] = ()) -> None:
        """holds, onces: as messages bear them."""
        self.holds = frozenset((identity, role) for identity, role in holds)
        before, self.onces = self.onces, {}
        for identity, name, said, *_known in onces:
            self.onces[identity] = Once(name, tuple((option, value) for option, value in said))
        self.planned = {
            identity: versions for identity, versions in self.planned.items()
            if identity in self.onces and self.onces[identity] == before.get(identity)
        }  # fmt: skip

    def remember(self, shown: Mapping[int, Mapping[str, Any]], known: Collection[int]) -> None:
        """What a planner before this one made of them.  shown: rows as of Pair.lookup, by key; known: identities of
        those that it knew."""
        rows: dict[int, dict[int, Row]] = {}
        for key, row in shown.items():
            if row["identity"] in known and row["state"] in LAID_OVER:
                rows.setdefault(row["identity"], {})[key] = row_of(key, row)
        for identity, found in rows.items():
            self.take(identity, found)

    def take(self, identity: int, rows: Mapping[int, Row]) -> None:
        """The newest; one with other addresses stays beside it, for a rollback and for rows that are not believed."""
        others = [each for each in self.planned.get(identity, ()) if addresses_of(each) != addresses_of(rows)]
        self.planned[identity] = [dict(rows), *others][:VERSIONS_MAX]

    def said_by(self, path: str) -> tuple[int, Once] | None:
        """Of an object that gets other options.  path: where the inventory has it."""
        identity = identity_of_object(path.encode("utf-8", "backslashreplace"))
        once = self.onces.get(identity)
        return (identity, once) if once is not None else None

    def has_rows(self, identity: int, view: View) -> bool:
        """Whether what was planned of a host can be laid over something, once nobody holds it."""
        alone = Overlay()
        alone.planned[identity] = self.planned[identity]
        return bool(alone.rows(view))

    def rows(self, view: View) -> dict[int, Row]:
        """By key, of what would be answered.  view: of the inventory's rows."""
        if not self.holds and not self.planned:
            return {}
        pair: Pair = view.pair
        found = {}
        for key in sorted(view.of_objects({identity for identity, _role in self.holds} | self.planned.keys())):
            row = pair.lookup(key)
            if row["state"] not in LAID_OVER:
                continue
            if (row["identity"], key >> ROLE_SHIFT) in self.holds:
                found[key] = Row(key, State.HELD, decoded(row["name"]), b"", (), HELD, row["identity"])
                continue
            addresses = [(lease["address"], lease["prefix"]) for lease in row["leases"]]
            for version in self.planned.get(row["identity"], ()):
                other = version.get(key)
                if other is not None and [lease[:2] for lease in other.leases] == addresses:
                    found[key] = other
                    break
        return found


def addresses_of(rows: Mapping[int, Row]) -> dict[int, list[tuple[int, int]]]:
    """By key, those with their prefixes."""
    return {key: [(address, prefix) for address, prefix, _template in row.leases] for key, row in rows.items()}


def row_of(key: int, row: Mapping[str, Any]) -> Row:
    """A row of a table as it was planned.  row: as of Pair.lookup."""
    leases = [(lease["address"], lease["prefix"], template_of(lease["template"])) for lease in row["leases"]]
    state = State(STATES.index(row["state"]))
    return Row(key, state, decoded(row["name"]), row["own"], tuple(leases), "", row["identity"])


def template_of(told: Mapping[str, Any]) -> Template:
    variants = tuple((client, template_of(other)) for client, other in told.get("variants", {}).items())
    return Template(**{**told, "variants": variants})
