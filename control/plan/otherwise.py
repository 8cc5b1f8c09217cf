"""A host's rows as they would be if it said some `dhcp` attributes itself: what an operator wants for its next boot.

Pure; the rules, names and encodings are those of the attributes of the inventory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from control.config.config import Dhcp
from control.plan.classes import SEPARATOR
from control.plan.contexts import BOOT_ENDS, BOOT_PORTS, ENABLED, PROXY, Reader
from control.plan.networks import SHARED
from control.plan.plan import Rules, plan_hosts
from control.plan.rows import Row
from control.sources.model import Attribute, Inventory, Thing

Said = Sequence[tuple[str, str]]
"""(name of a `dhcp` attribute, perhaps with `--class`; value); one name several times has several values."""

NO_OPTIONS = {ENABLED, PROXY, BOOT_PORTS, BOOT_ENDS, SHARED}


def saying(thing: Thing, said: Said, reader: Reader) -> Thing:
    """The thing with these attributes in the place of those that it has of the same options."""
    ours = {reader.identity(name) for name, _value in said}
    kept = [
        each
        for each in thing.attributes
        if each.key != "dhcp" or each.subkey is None or reader.identity(each.subkey) not in ours
    ]
    more = [Attribute("dhcp", name, number, value, "string") for number, (name, value) in enumerate(said)]
    return replace(thing, attributes=(*kept, *more))


def planned_otherwise(inventory: Inventory, config: Dhcp, path: str, said: Said) -> tuple[list[Row], list[str]]:
    """The rows of one host, and what is wrong with what is said; no rows then.  inventory: with all above the host."""
    rules = Rules(inventory, config)
    reader = rules.reader
    for name, _value in said:
        if reader.identity(name).partition(SEPARATOR)[0] in NO_OPTIONS:
            return [], [f"dhcp {name}: it says who is answered, not with what; wanted an option"]
    thing = inventory.things[path]
    things = inventory.things | {path: saying(thing, said, reader)}
    otherwise = plan_hosts(replace(inventory, things=things), config)
    before = set(plan_hosts(inventory, config).faults.get(thing.name, ()))
    faults = [str(fault) for fault in otherwise.faults.get(thing.name, ()) if fault not in before]
    return ([] if faults else [row for row in otherwise.rows if row.thing == path]), faults
