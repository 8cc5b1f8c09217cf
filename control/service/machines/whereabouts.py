"""Which containers the objects of rows are in, as the planner says it: for the filters and the sums of `ctl hosts`."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from typing import Any

from ext.ledger import PHASES

from control.sources.model import name_of

POOL, RACK = "pool", "rack"


class Whereabouts:
    """placed: 4 octets for each row number, its group (ext/ledger.pyx: Roll).  groups: by number, the paths of all
    containers above; number 0 is of rows that nothing is known of."""

    def __init__(self) -> None:
        self.placed = b""
        self.groups: list[list[str]] = [[]]
        self.ends = b"\0"  # of each group, the phase in which boots end; 0: not said

    def take(self, report: Mapping[str, Any]) -> None:
        """A planner's report (control/planner/report.py); one of an older planner has nothing of it."""
        if "groups" in report:
            self.groups = [[], *(paths for paths, _ends in report["groups"])]
            self.ends = bytes([0, *(PHASES.index(ends) if ends in PHASES else 0 for _paths, ends in report["groups"])])
        self.placed = report.get("placed", self.placed)

    def containers(self, group: int) -> list[str]:
        return self.groups[group] if group < len(self.groups) else []

    def of_kind(self, group: int, kind: str) -> list[str]:
        """Names of the containers of a kind that a group is in: `rack` is any type with that in its name (rack,
        basicrack, ...)."""
        return [name_of(path) for path in self.containers(group) if is_of_kind(path, kind)]

    def fitting(self, kind: str, pattern: str) -> bytes:
        """An octet for each group: whether it is in a container of a kind that a pattern of `*`, `?`, `[...]` fits."""
        fits = re.compile(fnmatch.translate(pattern)).fullmatch
        return bytes([any(map(fits, self.of_kind(group, kind))) for group in range(len(self.groups))])


def is_of_kind(path: str, kind: str) -> bool:
    type_ = path.split("/")[1] if path.count("/") >= 2 else ""
    return kind in type_ if kind == RACK else type_ == kind
