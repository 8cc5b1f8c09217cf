"""Reads the inventory over HTTP: containers once, members once in bulk, merged on our side.

model.py parses what comes, plan/plan.py draws conclusions.  The order of requests is what the real
daemon bears (docs/inventory.md): it is single-threaded, stalls for seconds
with more than a few connections, and takes an hour to merge 10,000 servers by itself, 16 s to hand them out in bulk.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from control.clusto.answers import BULK_BYTES_MAX, FIRST_PER_MEMBER_S, FIRST_S, SINGLE_BYTES_MAX, AnswerSpoiled
from control.clusto.errors import InventoryDown
from control.sources.asking import BY_NAME, Asker, Progress, Shown, distinct_parents
from control.sources.bulk import scan_members
from control.sources.model import (
    CONTAINERS,
    Batch,
    Inventory,
    InventoryMalformed,
    PartLost,
    Reading,
    Thing,
    name_of,
    parse_show,
)
from control.sources.reasons import Reason
from control.sources.singles import SingleReader

__all__ = ["Fetcher", "Progress"]

CONNECTIONS = 4  # its listen queue is 5; a sixth connection waits for whole seconds
READERS = CONNECTIONS - 1  # of a full read; one is left for look-ups meanwhile, and for what is asked twice
AHEAD = 2  # bulk answers of 12 MB each that wait to be parsed
SINGLES = 200  # hosts in no container of size: so many make a batch
UNREAD_MAX = 8  # containers and managers; more than that is no inventory
ONE_BY_ONE_MAX = 50_000  # hosts that are asked what contains them, when a container does not say it; 9 ms each
TWICE = "its name stands twice in the inventory; to be read again it needs a name of its own"
T = TypeVar("T")


class Fetcher(Asker):
    """The inventory over HTTP."""

    def read_hosts(self, macs: Iterable[str], names: Iterable[str], frame: Inventory) -> Inventory:
        """As model.Source says; macs in any usual spelling in the inventory."""
        return SingleReader(self, frame).read(macs, names)

    def read(self) -> Reading:
        """Everything that a plan needs, the hosts in parts.  Raises InventoryDown; never gives half a frame."""
        try:
            return self._read()
        except InventoryMalformed as error:
            raise InventoryDown(f"{self.url}: {error}") from error

    def _read(self) -> Reading:
        frame = Inventory()
        pool = ThreadPoolExecutor(READERS, thread_name_prefix="fetch")
        try:
            self.progress("list", 0, 4)
            everything, containers, listed, managers = pool.map(
                lambda filters: self.entities(**filters),
                (
                    {},
                    {"attrs": [{"key": "_contains"}]},
                    {"attrs": [{"key": "port-nic-eth", "subkey": "mac"}, {"key": "ip"}]},
                    {"clusto_drivers": ["ipmanager"]},
                ),
            )
            twice = named_twice(everything)
            del everything
            wanted = {path: path for path in listed if not twice or name_of(path) not in twice}
            doubled = sorted({path for path in listed if name_of(path) in twice})
            for path in {*containers, *managers}:
                if name_of(path) in twice:
                    frame.unread[path] = TWICE
            found = self._containers(pool, frame, sorted({path for path in containers if path not in frame.unread}))
            self._managers(pool, frame, sorted({path for path in managers if path not in frame.unread}))
        finally:
            pool.shutdown(cancel_futures=True)
        inside = self._memberships(frame, found, wanted)
        left = [path for path in wanted if path not in frame.things]
        themselves = [frame.things[path] for path in wanted if path in frame.things]
        if any(path in containers for path in frame.unread):
            parts = self._one_by_one(frame, found, left)
        else:
            parts = list(covering(inside, left))
        for part in parts:
            part.members = len(found[part.container].contents) if part.container is not None else 0
        return Reading(frame, self._batches(frame, parts, themselves, doubled))

    def _containers(self, pool: ThreadPoolExecutor, frame: Inventory, paths: list[str]) -> dict[str, Shown]:
        """By path; asked for twice, and what cannot be read then is noted in the frame."""
        found: dict[str, Shown] = {}

        def show(path: str) -> Shown | InventoryDown | InventoryMalformed:
            try:
                return self.show(path)
            except (AnswerSpoiled, InventoryMalformed):
                try:
                    return self.show(path)
                except (AnswerSpoiled, InventoryMalformed) as error:
                    return error

        for path, shown in zip(paths, self._all(pool, "containers", show, paths), strict=True):
            if isinstance(shown, Shown):
                found[path] = shown
                frame.things[path] = shown.thing
            else:
                self._miss(frame, path, shown)
        return found

    def _managers(self, pool: ThreadPoolExecutor, frame: Inventory, paths: list[str]) -> None:
        def read(path: str) -> Thing | InventoryDown | InventoryMalformed:
            try:
                return self.manager(path)
            except (AnswerSpoiled, InventoryMalformed) as error:
                return error

        unread = [path for path in paths if path not in frame.things and path not in frame.unread]
        for path, thing in zip(unread, self._all(pool, "managers", read, unread), strict=True):
            if isinstance(thing, Thing):
                frame.things[path] = thing
            else:
                self._miss(frame, path, thing)
        frame.managers = [path for path in paths if path in frame.things]

    def _miss(self, frame: Inventory, path: str, why: Exception) -> None:
        """Raises InventoryDown when that is no matter of single objects any more: a daemon that fails is spared."""
        frame.unread[path] = str(why)
        if len([reason for reason in frame.unread.values() if reason != TWICE]) > UNREAD_MAX:
            raise InventoryDown(
                f"more than {UNREAD_MAX} containers and managers cannot be read, the last: {path}: {why}"
            )

    @staticmethod
    def _memberships(frame: Inventory, found: Mapping[str, Shown], wanted: Mapping[str, str]) -> dict[str, list[str]]:
        """Container -> those of `wanted` in it; everybody's parents go into the frame."""
        inside: dict[str, list[str]] = {}
        tuples: dict[tuple[tuple[str, ...], str], tuple[str, ...]] = {}
        for container, shown in found.items():
            inside[container] = [wanted[path] for path in shown.contents if path in wanted]
            for path in shown.contents:
                # A million hosts share a few hundred tuples, and each path is kept once.
                before = tuple(frame.parents.get(path, ()))
                after = tuples.setdefault((before, container), (*before, container))
                frame.parents[wanted.get(path, path)] = after
        return inside

    def _one_by_one(self, frame: Inventory, found: Mapping[str, Shown], left: list[str]) -> list[_Part]:
        """With a container that says nothing of who is in it, everybody is asked who contains him."""
        if len(left) > ONE_BY_ONE_MAX:
            path, why = next(iter(frame.unread.items()))
            raise InventoryDown(
                f"{path} cannot be read ({why}); to ask {len(left)} objects one by one what they are in is too much, "
                f"the limit is {ONE_BY_ONE_MAX}"
            )
        frame.parents = {path: tuple(shown.parents) for path, shown in found.items()}
        return [_Part(None, sorted(left)[at : at + SINGLES], learning=True) for at in range(0, len(left), SINGLES)]

    def _batches(
        self, frame: Inventory, parts: list[_Part], containers: list[Thing], doubled: list[str]
    ) -> Iterator[Batch]:
        """In order, some ahead of who takes them.  The containers that are hosts themselves are read already."""
        if containers:
            digest = _digest(repr(containers).encode("utf-8", "backslashreplace"))
            yield Batch(CONTAINERS, [thing.path for thing in containers], digest, lambda: containers)
        if doubled:
            yield Batch(
                "names that stand twice", doubled, b"", lambda: (), {name_of(path): [TWICE] for path in doubled}
            )
        total, done = sum(len(part.paths) for part in parts), 0
        self.progress("hosts", 0, total)
        pool = ThreadPoolExecutor(READERS, thread_name_prefix="fetch")
        try:
            ahead: deque[tuple[_Part, Future[list[bytearray]]]] = deque()
            todo = iter(parts)
            while True:
                for part in todo:
                    ahead.append((part, pool.submit(self._twice, part)))
                    if len(ahead) >= (AHEAD if part.container else READERS):
                        break
                if not ahead:
                    return
                part, answer = ahead.popleft()
                yield self._batch(frame, part, answer)
                done += len(part.paths)
                self.progress("hosts", done, total)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _twice(self, part: _Part) -> list[bytearray]:
        """The answers of a part; a spoiled one is asked for twice."""
        try:
            return self._content(part)
        except AnswerSpoiled:
            return self._content(part)

    def _content(self, part: _Part) -> list[bytearray]:
        """Single hosts: nothing for each that is not to be had."""
        if part.container is not None:
            first_s = FIRST_S + FIRST_PER_MEMBER_S * part.members
            return [self.get_raw(BY_NAME, BULK_BYTES_MAX, first_s, name=name_of(part.container), prefetch_attrs="[{}]")]
        return [self._single(path) for path in part.paths]

    def _single(self, path: str) -> bytearray:
        try:
            return self.get_raw(BY_NAME, SINGLE_BYTES_MAX, name=name_of(path))
        except AnswerSpoiled:
            return bytearray()

    def _batch(self, frame: Inventory, part: _Part, answer: Future[list[bytearray]]) -> Batch:
        content: list[bytearray] = []
        lost: AnswerSpoiled | None = None
        try:
            content = answer.result()
        except AnswerSpoiled as error:
            lost = error
        faults: dict[str, list[str]] = {}
        if part.learning and lost is None:
            self._learn(frame, part.paths, content)

        def things() -> Iterator[Thing]:
            if lost is not None:
                raise PartLost(str(lost)) from lost
            if part.container is None:
                yield from self._singles(frame, part, content, faults)
                return
            try:
                yield from self._members(part, content)
            except (InventoryMalformed, AnswerSpoiled) as error:
                raise PartLost(str(error)) from error

        key = part.container or f"single hosts from {part.paths[0]}"
        return Batch(key, part.paths, _digest(*content) if lost is None and all(content) else b"", things, faults)

    def _members(self, part: _Part, content: list[bytearray]) -> Iterator[Thing]:
        """What is no JSON may have been cut off: it is asked for twice, and what came before comes once more."""
        assert part.container is not None
        where = f"get_by_name {name_of(part.container)}"
        for last in (False, True):
            text = content.pop() if content else self._content(part)[0]
            try:
                with self.reading_json(BY_NAME, text):
                    yield from scan_members(text, where)
                return
            except AnswerSpoiled:
                if last:
                    raise

    def _learn(self, frame: Inventory, paths: list[str], content: list[bytearray]) -> None:
        """Whoever does not say it is asked once more when its turn comes, and cannot be read then."""
        for path, text in zip(paths, content, strict=True):
            try:
                frame.parents[path] = tuple(distinct_parents(self.decode(BY_NAME, text), path))
            except (InventoryMalformed, AnswerSpoiled):
                text.clear()

    def _singles(
        self, frame: Inventory, part: _Part, content: list[bytearray], faults: dict[str, list[str]]
    ) -> Iterator[Thing]:
        for path, text in zip(part.paths, content, strict=True):
            name = name_of(path)
            try:
                # Asked again where nothing came: now its reason counts.
                body = self.decode(BY_NAME, text) if text else self.get(BY_NAME, SINGLE_BYTES_MAX, name=name)
                thing = parse_show(body, f"get_by_name {name}")[0]
                if part.learning:
                    frame.parents[path] = tuple(distinct_parents(body, f"get_by_name {name}"))
            except (InventoryMalformed, AnswerSpoiled) as error:
                faults[name] = [Reason(f"cannot be read: {error}", "unread")]
                continue
            yield thing

    def _all(self, pool: ThreadPoolExecutor, stage: str, work: Callable[[str], T], paths: Iterable[str]) -> Iterator[T]:
        todo = list(paths)
        self.progress(stage, 0, len(todo))
        for done, result in enumerate(pool.map(work, todo), 1):
            yield result
            self.progress(stage, done, len(todo))


@dataclass(slots=True)
class _Part:
    """What one batch is made of.  container: whose members are read in bulk; None: each path by itself.

    members: of the container, wanted or not: so long takes its answer.  learning: who contains them is not known."""

    container: str | None
    paths: list[str]
    members: int = 0
    learning: bool = False


def covering(inside: dict[str, list[str]], wanted: Iterable[str]) -> Iterator[_Part]:
    """Containers whose members, read in bulk, cover the wanted things, the largest first; each thing in one part.

    What only a container of one or two would add is left to single requests."""
    left = dict.fromkeys(wanted)
    for container in sorted(inside, key=lambda path: (-len(inside[path]), path)):
        gained = [path for path in inside[container] if path in left]
        if len(gained) >= 3:
            for path in gained:
                del left[path]
            yield _Part(container, gained)
    singles = sorted(left)
    for at in range(0, len(singles), SINGLES):
        yield _Part(None, singles[at : at + SINGLES])


def _digest(*content: bytes | bytearray) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for number, piece in enumerate(content):
        digest.update(b"\0" if number else b"")
        digest.update(piece)
    return digest.digest()


def named_twice(paths: Iterable[str]) -> set[str]:
    """Names of several objects, whatever their types: clusto looks everything up by its name alone."""
    seen: set[str] = set()
    twice: set[str] = set()
    for path in paths:
        name = name_of(path)
        (twice if name in seen else seen).add(name)
    return twice
