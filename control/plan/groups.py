"""Which containers hosts are in, and where their boots end: what `ctl hosts` tells racks and pools apart by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from control.sources.model import Inventory

UNKNOWN = 0  # of a row that no group is known of


class Groups:
    """Numbers for what many hosts share; each stays its own for as long as this lives."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[tuple[str, ...], str], int] = {}

    def of(self, parents: Sequence[str], ends: str) -> int:
        """parents: paths of the direct containers; ends: of contexts.BOOT_ENDS, or nothing."""
        key = (parents if parents.__class__ is tuple else tuple(parents), ends)
        number = self.numbers.get(key)  # type: ignore[arg-type]
        if number is None:
            number = self.numbers[key] = len(self.numbers) + 1  # type: ignore[index]
        return number

    def told(self, inventory: Inventory) -> list[list[Any]]:
        """[[paths of all containers above, where boots end]] by number, from 1 on."""
        return [
            [[path for level in inventory.levels_above(parents) for path in level], ends]
            for parents, ends in self.numbers
        ]
