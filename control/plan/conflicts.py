"""Who has something together with somebody else: neither is answered, both are named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address

from ext.leases import LeaseState as State

from control.config.bmc import ROLE_BIT
from control.mac import show_mac
from control.plan.contexts import Faults
from control.plan.rows import Contested, Owner, Plan, Row
from control.sources.reasons import Reason

Party = tuple[int, str, str | int]  # a row's key, its name, which object (Row.thing)


def without_conflicts(plan: Plan) -> list[Row]:
    """Two objects with one MAC or one address: neither is answered, both are named."""
    macs: dict[int, list[Party]] = {}
    owners: dict[int, list[Owner]] = {}
    for row in plan.rows:
        macs.setdefault(row.mac, []).append((row.key, row.name, row.thing))
        for address, _prefix, _template in row.leases:
            if row.state is not State.PROXIED:
                owners.setdefault(address, []).append((row.key, row.name, row.thing))
    for address, name, path in plan.claims:
        owners.setdefault(address, []).append((None, name, path))
    plan.contested = Contested(
        contested_keys(macs),
        {address: found for address, found in owners.items() if len({thing for _key, _name, thing in found}) > 1},
    )
    losers = conflicts(plan.contested, plan.faults)
    return [row for row in plan.rows if row.key not in losers] + list(losers.values())


def contested_keys(macs: Mapping[int, Iterable[Party]]) -> dict[int, Sequence[tuple[str, str | int]]]:
    """Contested.macs.  macs: all rows of some MACs.  One object may have a MAC as its card and as its BMC's (a shared
    LOM); of two objects nobody knows which of them asks, whatever the MAC is said to be of either."""
    found: dict[int, Sequence[tuple[str, str | int]]] = {}
    for rows in macs.values():
        by_key: dict[int, list[tuple[str, str | int]]] = {}
        for key, name, thing in rows:
            by_key.setdefault(key, []).append((name, thing))
        parties = list(dict.fromkeys(party for each in by_key.values() for party in each))
        if len({thing for _name, thing in parties}) > 1:
            found |= dict.fromkeys(by_key, parties)
        else:
            found |= {key: each for key, each in by_key.items() if len(each) > 1}
    return found


def conflicts(contested: Contested, faults: Faults) -> dict[int, Row]:
    """Rows that are not answered, by key, in place of those that have something together."""
    losers: dict[int, Row] = {}

    def lose(key: int, name: str, thing: str | int, reason: str) -> None:
        losers.setdefault(key, Row(key, State.CONFLICT, name, b"", (), reason, thing))

    for key, found in contested.macs.items():
        names = sorted(name for name, _thing in found)
        things = {thing for _name, thing in found}
        both = ", as a card and as a BMC (ipmi-mac)" if key ^ ROLE_BIT in contested.macs else ""
        reason = Reason(f"MAC {show_mac(key)} belongs to {all_of(names)}{both}", "conflict")
        lose(key, ", ".join(names), things.pop() if len(things) == 1 else "", reason)
        for name in names:
            faults.blame(name, losers[key].reason)
    for address, owners in sorted(contested.addresses.items()):
        names = sorted({thing: name for _key, name, thing in owners}.values())
        reason = Reason(f"address {IPv4Address(address)} belongs to {all_of(names)}", "conflict")
        for owner_key, name, thing in owners:
            if owner_key is not None:
                lose(owner_key, name, thing, reason)
        for name in dict.fromkeys(names):
            faults.blame(name, reason)  # one text, however many have it
    return losers


def all_of(names: Sequence[str]) -> str:
    """a and b; a and another object named a."""
    return " and ".join(
        f"another object named {name}" if at and names[at - 1] == name else name for at, name in enumerate(names)
    )
