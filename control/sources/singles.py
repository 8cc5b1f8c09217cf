"""Single hosts over HTTP, with what decides about them as it is now: their containers, up to the top, and managers.

The frame of the last full read only gives what nothing of this depends on.  What one job has read is not asked for
twice, also when its answer is the frame of another question.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from ipaddress import AddressValueError, IPv4Address
from typing import Any, TypeVar

from control.clusto.answers import LIST_BYTES_MAX, AnswerSpoiled
from control.clusto.errors import InventoryDown
from control.mac import spellings
from control.sources.asking import Asker, Shown
from control.sources.model import BELOW_MAX, CLUSTO_INT_OFFSET, Inventory, InventoryMalformed, TooMany

CONDITIONS = 96  # in one question: four variables each, and SQLite may take no more than 999
_PATH = re.compile(r"/[^/]+/.+")
T = TypeVar("T")


class SingleReader:
    """One job.  frame: of the last full read, or the answer to another question of the same job."""

    def __init__(self, asker: Asker, frame: Inventory) -> None:
        self.asker = asker
        self.first = not frame.fresh
        self.found = Inventory(dict(frame.things), dict(frame.parents), [], list(frame.managers))
        self.found.fresh = set(frame.fresh)
        self.found.unread = {path: why for path, why in frame.unread.items() if path in frame.fresh}
        self.found.lost = dict(frame.lost)
        self.found.asked_about = set(frame.asked_about)
        self.before = frame.things.keys()
        self.found.claimed = {path: set(addresses) for path, addresses in frame.claimed.items()}

    def read(self, macs: Iterable[str], names: Iterable[str]) -> Inventory:
        """Raises InventoryDown, also when nothing of what somebody asked for can be read.

        Who else has a word in it, which the job's second question is about, costs himself alone."""
        try:
            paths = self.with_macs(macs)
            below = []
            for path in self.named(list(names)):
                shown = self.add(path)
                paths.append(path)
                below += shown.contents if shown is not None and self.first else []
            self.add_below(below, paths)
            for path in paths:
                self.add(path)
            lost = [self.found.lost[path] for path in paths if path in self.found.lost]
            if self.first and lost and len(lost) == len(paths):
                raise InventoryDown(lost[0])
            addresses = self.addresses(path for path in paths if path not in self.found.lost)
            claimants = self.claimants(addresses)
            for path in claimants:
                self.add(path)
            self.claim(addresses, self.found.lost.keys() & claimants)
            # Their rows are published, too: with no address that is somebody else's.  He is not read, or it never ends.
            others = [text for text in self.addresses(self.published()) if text not in self.found.asked_about]
            if others:
                self.claim(others, [path for path in self.claimants(others) if not self.is_read(path)])
        except InventoryMalformed as error:
            raise InventoryDown(f"{self.asker.url}: {error}") from error
        return self.found

    # --- who -----------------------------------------------------------------------------------------------------

    def with_macs(self, macs: Iterable[str]) -> list[str]:
        wanted = [
            {"key": "port-nic-eth", **which, "value": text}
            for mac in macs
            for text in spellings(mac)
            for which in ({"subkey": "mac"}, {"subkey": "ipmi-mac", "number": 1})
        ]
        return self.having(wanted)

    def named(self, names: Sequence[str]) -> list[str]:
        return self.listed(self.asker.entities(names=names)) if names else []

    def addresses(self, paths: Iterable[str]) -> list[str]:
        return sorted({a.text for path in paths for a in self.found.things[path].addresses()})

    def published(self) -> Iterator[str]:
        """All whose rows may be published: closure.paths_read().  Somebody's container, which may be new, too."""
        things = self.found.things
        for path in {*self.found.hosts, *(things.keys() - self.before)}:
            if self.is_read(path) and things[path].has_mac():
                yield path

    def is_read(self, path: str) -> bool:
        return path in self.found.things and path in self.found.fresh and path not in self.found.lost

    def claimants(self, addresses: Sequence[str]) -> list[str]:
        """Who has one of these, whoever they were asked for among them."""
        self.found.asked_about.update(addresses)
        claims: list[dict[str, Any]] = []
        for text in addresses:
            claims.append({"key": "ip", "subkey": "ipstring", "value": text})
            number = _as_number(text)
            if number is not None:
                claims.append({"key": "ip", "subkey": None, "value": number - CLUSTO_INT_OFFSET})
        return self.having(claims)

    def having(self, conditions: Sequence[dict[str, Any]]) -> list[str]:
        paths: dict[str, None] = {}
        for some in _chunks(conditions, CONDITIONS):
            paths.update(dict.fromkeys(self.listed(self.asker.entities(attrs=some))))
        return list(paths)

    def listed(self, paths: list[str]) -> list[str]:
        """Each once; a name that stands twice is noted."""
        for path, count in Counter(paths).items():
            if count > 1:
                self.found.lost[path] = f"{path}: its name stands twice in the inventory"
        return list(dict.fromkeys(paths))

    def claim(self, addresses: Sequence[str], paths: Collection[str]) -> None:
        """Note which of the addresses these paths have, which do not say so themselves.

        The answer about many addresses does not tell which of them: it is halved until it does."""
        if not paths:
            return
        if len(addresses) == 1:
            number = _as_number(addresses[0])
            if number is not None:
                for path in paths:
                    self.found.claimed.setdefault(path, set()).add(number)
            return
        middle = len(addresses) // 2
        for half in (addresses[:middle], addresses[middle:]):
            self.claim(half, set(paths).intersection(self.claimants(half)))

    # --- what they are -------------------------------------------------------------------------------------------

    def add(self, path: str) -> Shown | None:
        """A thing that is asked for, and all that decides about it; None when it cannot be read, or was already."""
        found = self.found
        if path in found.lost:
            return None
        shown = None
        if path not in found.fresh:
            try:
                shown = self.asker.show(path)
            except (AnswerSpoiled, InventoryMalformed) as error:
                found.lost[path] = f"{path} cannot be read: {error}"
                return None
            self.take(shown)
        self.add_above(found.parents.get(path, ()))
        thing = found.things.get(path)
        if thing is None:  # read as a container of this job, which failed
            found.lost[path] = found.unread[path]
            return None
        for address in thing.addresses():
            self.add_manager(address.manager)
        if thing.has_mac() and path not in found.hosts:
            found.hosts.append(path)
        return shown

    def take(self, shown: Shown) -> None:
        path = shown.thing.path
        self.found.fresh.add(path)
        self.found.things[path] = shown.thing
        self.found.parents[path] = shown.parents

    def add_above(self, parents: Sequence[str]) -> None:
        """Containers as they are now, each once a job.  One that cannot be read is in `unread`."""
        todo, seen = list(parents), set(parents)
        while todo:
            path = todo.pop()
            if path not in self.found.fresh:
                try:
                    self.take(self.asker.show(path, LIST_BYTES_MAX))
                except (AnswerSpoiled, InventoryMalformed) as error:
                    self.miss(path, str(error))
            more = [parent for parent in self.found.parents.get(path, ()) if parent not in seen]
            seen.update(more)
            todo += more

    def miss(self, path: str, why: str) -> None:
        self.found.fresh.add(path)
        self.found.unread[path] = why
        self.found.things.pop(path, None)
        self.found.parents.pop(path, None)

    def add_manager(self, path: str | None) -> None:
        """A network's gateway may have changed, and the network may be younger than the last full read."""
        if not isinstance(path, str) or not _PATH.fullmatch(path) or path in self.found.fresh:
            return
        try:
            self.found.things[path] = self.asker.manager(path)
        except (AnswerSpoiled, InventoryMalformed) as error:
            self.miss(path, str(error))
            if path in self.found.managers:
                self.found.managers.remove(path)
            return
        self.found.fresh.add(path)
        if path not in self.found.managers:
            self.found.managers.append(path)

    def add_below(self, contents: Sequence[str], paths: list[str]) -> None:
        """All that hangs below what was asked for by name comes into paths.  Raises TooMany."""
        todo = list(dict.fromkeys(contents))
        seen = set(todo)
        done = 0
        while todo:
            if len(seen) > BELOW_MAX:
                raise TooMany
            self.asker.progress("hosts", done, len(seen))
            path = todo.pop()
            paths.append(path)
            shown = self.add(path)
            done += 1
            more = [] if shown is None else [each for each in shown.contents if each not in seen]
            seen.update(more)
            todo += more
        if done:
            self.asker.progress("hosts", done, done)


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for at in range(0, len(items), size):
        yield items[at : at + size]


def _as_number(text: str) -> int | None:
    """None for what is no address."""
    try:
        return int(IPv4Address(text))
    except AddressValueError:
        return None
