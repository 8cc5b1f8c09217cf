"""Names for new servers, as a clusto name manager's properties say, taken by making the server (there is no other way).

The manager's own counter cannot be seen or moved over HTTP: who allocates from the same manager with clusto's own tools
meets our names, and it then refuses for ever.  A manager for us alone avoids that (`snmp.name_manager`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from control.discovery.jobs import Waits
from control.discovery.registrar.inventory import Entity, Inventory, NoSuchDriver

log = logging.getLogger("bootstorm.discovery")

TRIES_MAX: Final = 1_000
MANAGERS: Final = ("simpleentitynamemanager", "simplenamemanager")
Intend = Callable[[str], bool]
"""Puts the name on disk before it is taken; False: another machine is about to take it."""


@dataclass(slots=True)
class Names:
    """One manager's names.  next: the first number that is not known to be taken."""

    inventory: Inventory
    manager: str
    next: int = 0
    base: str = ""
    digits: int = 0

    def read(self) -> None:
        """Raises Waits when there is no such manager."""
        found = self.inventory.entity(self.manager)
        if found is None or found.driver not in MANAGERS:
            what = "does not exist" if found is None else f"is a {found.driver}"
            wanted = "create a SimpleEntityNameManager of that name, or set snmp.name_manager"
            raise Waits(f"name manager {self.manager} {what}; {wanted}")
        base, digits, first, zeros = (
            found.one(key, "property") for key in ("basename", "digits", "next", "leadingZeros")
        )
        self.base = str(base or "")
        self.digits = int(digits if digits is not None else 2) if zeros in (None, 1, "1", True) else 0
        pattern = re.compile(re.escape(self.base) + r"(\d{1,18})", re.ASCII)
        taken = [int(m[1]) for name in self.inventory.names_with(self.base) if (m := pattern.fullmatch(name))]
        self.next = max([int(first if first is not None else 1), *(number + 1 for number in taken)])
        log.warning(
            "discovery: names are taken from %s on; allocating from name manager %s by clusto's own tools as well "
            "would wedge it",
            self.spelled(self.next),
            self.manager,
        )

    def spelled(self, number: int) -> str:
        return f"{self.base}{number:0{self.digits}d}"

    def upcoming(self) -> str:
        if not self.next:
            self.read()
        return self.spelled(self.next)

    def create(self, drivers: Sequence[str], name: str, intend: Intend) -> tuple[str, str]:
        """Makes a server; its path and the driver that it got.  drivers: the first that the inventory has.

        name: that of an earlier try, or "".  Raises Waits."""
        for _try in range(TRIES_MAX):
            if not name:
                name = self.upcoming()
                self.next += 1
                if not intend(name):
                    name = ""
                    continue
            made = self.make(drivers, name)
            if made is not None:
                return made
            name = ""
        raise Waits(f"name manager {self.manager}: {TRIES_MAX} names before {self.spelled(self.next)} are taken")

    def make(self, drivers: Sequence[str], name: str) -> tuple[str, str] | None:
        for at, driver in enumerate(drivers):
            try:
                path = self.inventory.create(driver, name)
            except NoSuchDriver as error:
                if at + 1 == len(drivers):
                    raise Waits(f"{error}; load its plugin there, or name another driver") from error
                continue
            return None if path is None else (path, driver)
        return None


def untouched(entity: Entity, drivers: Sequence[str]) -> bool:
    """Whether it is as an interrupted try of ours has left it: just made."""
    return not entity.rows and not entity.parents and not entity.contents and entity.driver in drivers
