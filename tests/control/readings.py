"""A Site as a Reading: in the parts that a test wants, each of which it may lose, thin out or watch being planned.

parts = Parts(site, {"p": ["a", "b"], "q": ["c"]})
done = parts.compile(Compiler(Dhcp()))
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence

from ext.builder import Builder, Surroundings
from ext.table import Generation, Pair

from control.plan.compile import Assembled, Compilation, Compiler
from control.sources.model import Batch, Inventory, PartLost, Reading, Thing
from tests.control.inventories import Site


class Parts:
    """split: key of a part -> names; what is in none is in the frame alone.

    lost: parts that cannot be read, with the reason; missing: paths that are listed and not given; planned: paths that
    somebody took out of a part, in order."""

    def __init__(self, site: Site, split: Mapping[str, Sequence[str]]) -> None:
        self.whole = site.inventory()
        self.split = {key: [site.path(name) for name in names] for key, names in split.items()}
        self.lost: dict[str, str] = {}
        self.missing: set[str] = set()
        self.taken: list[str] = []

    def reading(self) -> Reading:
        hosts = {path for paths in self.split.values() for path in paths}
        inside = {parent for parents in self.whole.parents.values() for parent in parents}
        things = {
            path: thing
            for path, thing in self.whole.things.items()
            if path in inside or path in self.whole.managers or path not in hosts
        }
        parents: dict[str, Sequence[str]] = {path: tuple(found) for path, found in self.whole.parents.items()}
        frame = Inventory(things, parents, managers=list(self.whole.managers))
        return Reading(frame, (self.batch(key, paths) for key, paths in self.split.items()))

    def batch(self, key: str, paths: list[str]) -> Batch:
        given = [self.whole.things[path] for path in paths if path not in self.missing]
        content = repr(given).encode("utf-8", "backslashreplace")
        digest = b"" if key in self.lost else hashlib.blake2b(content, digest_size=16).digest()

        def things() -> Iterator[Thing]:
            if key in self.lost:
                raise PartLost(self.lost[key])
            for thing in given:
                self.taken.append(thing.name)
                yield thing

        return Batch(key, paths, digest, things)

    def compile(self, compiler: Compiler, keep: bool = True) -> Compilation:
        self.taken.clear()
        reading = self.reading()
        done = compiler.begin(reading.frame)
        for batch in reading.batches:
            done.add(batch)
        if keep:
            compiler.keep(done)
        return done


def sealed(rows: Builder | Assembled, number: int = 1) -> Generation:
    builder = rows.rows if isinstance(rows, Assembled) else rows
    fd = builder.seal(number, Surroundings(), created_s=1)
    try:
        made = Generation(fd)
    finally:
        os.close(fd)
    made.verify()
    return made


def states(holder: Generation | Pair) -> dict[bytes, str]:
    """Name -> state."""
    rows = [holder.lookup(*key) for key in holder.keys()]  # noqa: SIM118
    return {row["name"]: row["state"] for row in rows}
