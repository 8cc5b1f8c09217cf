"""What a look-up of single hosts has to take along, so that what it publishes contradicts nothing that is served.

Who moves leaves something behind: his old MAC, his old address, somebody who was in conflict with him.  Every such row
is read again, removed or made a conflict in the same delta; one step deep.  Nothing here is published without the look
of served.py at the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ext.addresses import View
from ext.leases import LeaseState as State
from ext.table import Pair

from control.config.bmc import ROLE_BIT
from control.mac import show_mac
from control.plan.compile import decoded, identities
from control.plan.conflicts import conflicts
from control.plan.rows import Claim, Claims, Contested, Plan, Row
from control.sources.model import Inventory, name_of

DISPUTES_MAX = 10_000  # beyond that many conflicts the next refresh, not a look-up, finds out that one is over
PARTIES_MAX = 64  # rows of one conflict: that many are not read again for one host


@dataclass(slots=True)
class Dispute:
    """One conflict: rows that are not answered, by key, and the names of the objects."""

    keys: frozenset[int]
    names: frozenset[str]


@dataclass(slots=True)
class Disputes:
    """Who is silent because of whom, which a row in conflict does not say: so that a conflict ends with its cause."""

    by_key: dict[int, list[Dispute]] = field(default_factory=dict)
    by_name: dict[str, list[Dispute]] = field(default_factory=dict)
    by_address: dict[int, Dispute] = field(default_factory=dict)
    known: dict[tuple[frozenset[int], frozenset[str]], Dispute] = field(default_factory=dict)

    def note(self, contested: Contested) -> None:
        for key, found in contested.macs.items():
            self.add(frozenset((key,)), frozenset(name for name, _thing in found))
        for address, owners in contested.addresses.items():
            made = self.add(
                frozenset(key for key, _name, _thing in owners if key is not None),
                frozenset(name for _key, name, _thing in owners),
            )
            if made is not None:
                self.by_address[address] = made

    def add(self, keys: frozenset[int], names: frozenset[str]) -> Dispute | None:
        known = self.known.get((keys, names))
        if known is not None:  # said once more: by each refresh while something cannot be read, and by each look-up
            return known
        if len(self.known) >= DISPUTES_MAX or len(keys) + len(names) > 2 * PARTIES_MAX:
            return None
        made = self.known[keys, names] = Dispute(keys, names)
        for key in keys:
            self.by_key.setdefault(key, []).append(made)
        for name in names:
            self.by_name.setdefault(name, []).append(made)
        return made

    def touching(self, keys: Iterable[int], names: Iterable[str], addresses: Iterable[int]) -> list[Dispute]:
        found = [each for key in keys for each in self.by_key.get(key, ())]
        found += [each for name in names for each in self.by_name.get(name, ())]
        return found + [self.by_address[address] for address in addresses if address in self.by_address]

    def names_at(self, key: int, row: Mapping[str, Any]) -> list[str]:
        """Of the objects that a row of the table is of: a MAC that several have shows all their names in one."""
        shown = decoded(row["name"])
        known = (sorted(dispute.names) for dispute in self.by_key.get(key, ()))
        return next((names for names in known if ", ".join(names) == shown), [shown])


@dataclass(slots=True)
class Closure:
    """What a look-up found.  keys: of the rows that it decides about: who has no row among `rows` (by key) is not in
    the inventory any more.  plan: of all that was read, and of what stands above.  claims: by path of each object that
    was read, what it has without being answered with it."""

    keys: set[int]
    rows: dict[int, Row]
    plan: Plan
    claims: Claims
    names: set[str]  # of objects that the inventory has
    inventory: Inventory  # all that was read


Read = Callable[[list[str], list[str], Inventory], Inventory]  # control.sources.model.Source.read_hosts


def read_closed(
    read: Read,
    planned: Callable[[Inventory], Plan],
    known: tuple[Inventory, View, Disputes],
    macs: list[str],
    names: list[str],
    asked: set[int],
) -> Closure:
    """Read hosts, and again what these touch in what is served.

    known: the frame of the last full read, what is served, who is in conflict.  asked: keys.  Whatever read() raises
    ends the look-up without effect: half of such a word is none, and what is served contradicts nothing."""
    frame, view, disputes = known
    inventory = read(macs, names, frame)
    there = {name_of(path) for path in (*inventory.fresh, *inventory.lost, *inventory.managers) if path}
    plan, paths = planned(inventory), paths_read(inventory, frame)
    rows, whole = rows_of(plan, paths), inventory
    keys, more_names = close_over(view, disputes, plan, rows, paths, asked)
    # What a container said at the last full read is no reason to silence anybody: perhaps it says so no more.
    more_names |= names_of_others(plan.contested, paths)
    more_names -= set(names)
    # A row as it is served is of its own object alone; who else may have the MAC of another one?
    things = identities(paths)
    own = {row["mac"] | row["role"] << 48 for row in served_rows(view.pair, rows) if row["identity"] in things}
    more_macs = {show_mac(key) for key in keys - own} - set(macs)
    if more_macs or more_names:
        more = read(sorted(more_macs), sorted(more_names), inventory)  # nothing is read twice
        paths |= paths_read(more, frame)
        more.things = inventory.things | more.things
        more.parents = inventory.parents | more.parents
        more.lost = inventory.lost | more.lost
        more.fresh = inventory.fresh | more.fresh
        for path, addresses in inventory.claimed.items():
            more.claimed.setdefault(path, set()).update(addresses)
        plan = planned(more)
        whole = more
        leave_to_the_unread(plan, paths, known, {*macs, *more_macs}, {*names, *more_names})
        rows = rows_of(plan, paths)
    # All of an object was read: a row of it that was not planned is gone, whoever asked for that.
    keys |= rows.keys() | view.of_objects(identities(paths))
    unsure = view.of_objects(identities(plan.unsure))  # what cannot be read stays as it is served
    claims: dict[str, list[Claim]] = {path: [] for path in paths.difference(plan.unsure)}
    for claim in plan.claims:
        if claim[2] in claims:
            claims[claim[2]].append(claim)
    kept = {key: row for key, row in rows.items() if key not in unsure}
    return Closure(keys - unsure, kept, plan, claims, there, whole)


def paths_read(inventory: Inventory, frame: Inventory) -> set[str]:
    """Of what was read for its own sake, and not only to know what stands above something."""
    return (inventory.things.keys() - frame.things.keys()) | set(inventory.hosts)


def names_of_others(contested: Contested, read: Collection[str]) -> set[str]:
    """Of objects that were not read, and have something together with somebody.  read: paths."""
    parties = [party for found in contested.macs.values() for party in found]
    parties += [(name, thing) for owners in contested.addresses.values() for _key, name, thing in owners]
    return {name for name, thing in parties if thing not in read}


def rows_of(plan: Plan, read: Collection[str]) -> dict[int, Row]:
    """What a look-up may publish: rows of what was read for it, and conflicts with those.  read: paths."""
    return {row.key: row for row in plan.rows if row.thing in read or row.state is State.CONFLICT}


def leave_to_the_unread(
    plan: Plan, read: Collection[str], known: tuple[Inventory, View, Disputes], macs: Collection[str], names: set[str]
) -> None:
    """A row that would replace that of an object which was not read, or has its MAC in the other role, becomes a
    conflict of the two, in the plan.

    The second question reads objects whose MACs, as they are now, nobody asked about: whoever is served with one of
    them has it still, for all that is known.  read: paths; known: as in read_closed(); macs, names: all that was asked
    for: who was, and was not found, is gone."""
    _frame, view, disputes = known
    sure = identities({*read, *plan.unsure})
    found: dict[int, list[tuple[str, str | int]]] = {}
    rows = rows_of(plan, read)
    for key, other in [(each, other) for each in rows for other in (each, each ^ ROLE_BIT)]:
        row, served = rows[key], None if show_mac(key) in macs else view.pair.lookup(other)
        if served is None or served["identity"] in sure or decoded(served["name"]) in names:
            continue
        if isinstance(row.thing, str) and row.thing and served["identity"] in identities([row.thing]):
            continue  # of a container, whose row is in a conflict with somebody
        parties = list(found.get(key, plan.contested.macs.get(key, [(row.name, row.thing)])))
        others = disputes.names_at(other, served)
        if len(others) > 1:
            parties += [(name, "") for name in others if name not in {party for party, _thing in parties}]
        else:
            parties.append((others[0], served["identity"]))
        found |= {key: parties, other: parties}
    losers = conflicts(Contested(found), plan.faults)
    plan.rows = [losers.pop(row.key, row) for row in plan.rows] + list(losers.values())
    plan.contested = Contested({**plan.contested.macs, **found}, plan.contested.addresses)


def close_over(
    view: View, disputes: Disputes, plan: Plan, rows: Mapping[int, Row], read: Collection[str], asked: set[int]
) -> tuple[set[int], set[str]]:
    """Keys of all rows that the look-up decides about, and names of the objects that may have a word in it.

    asked: keys that were asked for; read: paths of the objects that were read for that, and rows what they became."""
    pair = view.pair
    things = identities(read)
    keys = asked | rows.keys()
    keys |= view.of_objects(things | {row["identity"] for row in served_rows(pair, keys)})
    addresses = {address for address, _name, path in plan.claims if path in read}
    addresses.update(address for row in rows.values() for address in addresses_of(row))
    for row in served_rows(pair, keys):
        if row["state"] == "served":
            addresses.update(lease["address"] for lease in row["leases"])
    keys |= view.with_addresses(addresses)
    keys |= {key ^ ROLE_BIT for key in keys if pair.lookup(key ^ ROLE_BIT) is not None}  # one's card is another's BMC
    touched = disputes.touching(keys, map(name_of, read), addresses)
    keys.update(key for dispute in touched for key in dispute.keys)
    names = {name for dispute in touched for name in dispute.names}
    names.update(decoded(row["name"]) for row in served_rows(pair, keys) if row["identity"] not in things)
    return keys, names


def served_rows(pair: Pair, keys: Iterable[int]) -> Iterator[dict[str, Any]]:
    return (row for key in keys if (row := pair.lookup(key)) is not None)


def addresses_of(row: Row) -> list[int]:
    return [] if row.state is State.PROXIED else [address for address, _prefix, _template in row.leases]
