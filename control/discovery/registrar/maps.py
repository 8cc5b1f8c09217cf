"""Number maps as text: `1-20=1-20, 21-24=40-33/2`; layouts.py and facts.py read rack units, outlets and ports so."""

from __future__ import annotations

import re
from typing import Final

_PART: Final = re.compile(r"(\d{1,10})(?:-(\d{1,10}))?=(\d{1,6})(?:-(\d{1,6}))?(?:/(\d{1,2}))?", re.ASCII)
ENTRIES_MAX: Final = 10_000
WANTED: Final = "wanted parts such as 1-20=1-20, or 1-4=1-8/2 for two each"


class MapFault(ValueError):
    """What was found, and what was wanted."""


def numbers_between(first: str, last: str | None) -> range:
    """Both ends counted, upwards or downwards."""
    start, end = int(first), int(last if last is not None else first)
    return range(start, end + 1) if end >= start else range(start, end - 1, -1)


def parse_map(text: str, *, single: bool = False, shared: bool = False) -> dict[int, tuple[int, ...]]:
    """FROM=TO[/SIZE], several of them: each number on the left gets the next SIZE of the right.

    single: a SIZE is not allowed.  shared: a number may be on the right twice.  Raises MapFault."""
    found: dict[int, tuple[int, ...]] = {}
    given: set[int] = set()
    for part in re.split(r"[,;\s]+", text.strip()):
        match = _PART.fullmatch(part)
        if match is None:
            raise MapFault(f"found {part[:60]!r}; {WANTED}")
        size = int(match[5] or 1)
        left, right = numbers_between(match[1], match[2]), numbers_between(match[3], match[4])
        if size < 1 or (single and size > 1):
            raise MapFault(f"{part}: found {size} for each; wanted {'1' if single else '1 or more'}")
        if len(right) != len(left) * size:
            raise MapFault(f"{part}: found {len(left)} on the left, {len(right)} on the right; wanted {size} for each")
        if len(found) + len(left) > ENTRIES_MAX:
            raise MapFault(f"{part}: found more than {ENTRIES_MAX} numbers; wanted fewer")
        for at, number in enumerate(left):
            targets = tuple(sorted(right[at * size : (at + 1) * size]))
            if number in found:
                raise MapFault(f"{part}: {number} is on the left twice; wanted once")
            if not shared and (twice := given & set(targets)):
                raise MapFault(f"{part}: {min(twice)} is on the right twice; wanted once")
            given.update(targets)
            found[number] = targets
    return found
