"""When the inventory's word is not believed: too many hosts gone at once, and hosts that flip to and fro.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ext.addresses import View
from ext.layout5 import identity_of_name
from ext.table import Changes, Generation, row_key

ANSWERED = {"served", "proxied"}
FLIPS = 3  # back to what it was before, so often in a row
STEADY = 3  # reads that agree release a host
WATCHED_MAX = 10_000  # more changes than this at once are no flipping, they are somebody's work


def shrinking(served: View, full: Generation, changes: Changes, limit: float) -> str | None:
    """Why this content may not replace what is served; None when it may.  limit: dhcp.max_shrink.

    Hosts count, not rows: who is answered at another MAC, or under another name at the same one, is not gone."""
    pair, lost = served.pair, dict[int, str]()  # object -> its fate
    had_address = set[int]()
    for mac, role in (*changes.removed, *changes.changed):
        was, now = pair.lookup(mac, role), full.lookup(mac, role)
        if role == 0 and was["state"] in ANSWERED and not is_as_good(now, was["state"] == "served"):
            lost.setdefault(was["identity"], "removed" if now is None else now["state"])
            if was["state"] == "served":
                had_address.add(was["identity"])
    if not lost:
        return None
    elsewhere = [(key, pair.lookup(key)["identity"]) for key in served.of_objects(lost)]
    for changed in (*changes.added, *changes.changed):
        row = full.lookup(*changed)
        # What is served may be of the layout before, whose rows know their objects by name.
        elsewhere += [(row_key(*changed), thing) for thing in (row["identity"], identity_of_name(row["name"]))]
    for key, thing in elsewhere:
        if thing in lost and not key >> 48 and is_as_good(full.lookup(key), thing in had_address):
            del lost[thing]
    total, before = len(lost), len(served.answered_hosts())
    if total <= limit * before or (total == 1 < before and limit > 0):
        return None
    counts = Counter(lost.values())
    how = [f"{counts.pop('removed')} removed"] if "removed" in counts else []
    how += [f"{count} {state}" for state, count in sorted(counts.items())]
    return (
        f"{total} of {before} hosts would no longer be answered ({', '.join(how)}), dhcp.max_shrink allows {limit:.0%}"
        f"; the table of generation {pair.top.number} serves on; if this is meant: bootstorm ctl refresh --force"
    )


def is_as_good(row: dict[str, Any] | None, had_address: bool) -> bool:
    """Who is told what to boot and nothing more has lost his address as well, as far as we are asked."""
    return row is not None and (row["state"] == "served" or (row["state"] == "proxied" and not had_address))


@dataclass(slots=True)
class _Watched:
    """One host's last contents (0: not there), and how often in a row it went back to the one before."""

    before: int
    last: int
    returns: int = 0
    steady: int = 1  # reads in a row that said `last`
    held: bool = False


class Flips:
    """Remembers what changed lately.  A host that goes back to its former content FLIPS times in a row is held: it
    stays as it is served until STEADY reads in a row agree."""

    def __init__(self) -> None:
        self.watched: dict[int, _Watched] = {}

    def note(self, changed: Iterable[int], served: Callable[[int], int], read: Callable[[int], int]) -> set[int]:
        """After one read.  changed: keys of rows that differ from what is served; served, read: their content, hashed.
        Returns the keys to hold."""
        changed = set(changed)
        for mac in self.watched.keys() | (changed if len(changed) <= WATCHED_MAX else set()):
            self.see(mac, served(mac), read(mac))
        return {mac for mac, watched in self.watched.items() if watched.held}

    def see(self, mac: int, served: int, read: int) -> None:
        watched = self.watched.get(mac)
        if watched is None:
            if len(self.watched) < WATCHED_MAX:
                self.watched[mac] = _Watched(before=served, last=read)
            return
        if read == watched.last:
            watched.steady += 1
            if watched.steady >= STEADY:
                del self.watched[mac]
            return
        watched.returns = watched.returns + 1 if read == watched.before else 0
        watched.before, watched.last, watched.steady = watched.last, read, 1
        watched.held = watched.held or watched.returns >= FLIPS
