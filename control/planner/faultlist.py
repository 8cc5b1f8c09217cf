"""All faults of a plan as bytes, for control's book of them (control/service/faultbook.py).  Pure.

[name, kind, reason] by msgpack, one after the other, so that the reader takes as many at once as it has time for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice, repeat
from typing import Final

import msgpack

from control.sources.reasons import OTHER, clipped

FAULTS_MAX: Final = 100_000  # beyond that they are counted
LISTED_MAX: Final = 10  # of one object, in `ctl status`
NAME_CHARS_MAX: Final = 255
REASON_CHARS_MAX: Final = 500  # a conflict of ten thousand objects names them all, and each of them has that reason
Fault = tuple[str, str, str]
"""Name of the object, kind, reason."""


def listed(faults: Mapping[str, Sequence[str]], name: str) -> list[str]:
    """The first reasons of one object, and how many more there are."""
    reasons = faults[name]
    first = [clipped(reason, REASON_CHARS_MAX) for reason in reasons[:LISTED_MAX]]
    left = len(reasons) + counted(faults).get(name, 0) - LISTED_MAX
    return first if len(reasons) <= LISTED_MAX else [*first, f"... and {left} more"]


def counted(faults: Mapping[str, Sequence[str]]) -> Mapping[str, int]:
    """How many reasons of an object are not among its reasons, where the last of these says so."""
    return {name: more - 1 for name, more in getattr(faults, "more", {}).items()}


def packed_faults(faults: Mapping[str, Sequence[str]]) -> tuple[bytes, int]:
    """The first FAULTS_MAX, and how many more there are."""
    packer = msgpack.Packer(unicode_errors="backslashreplace", autoreset=False)
    pairs = chain.from_iterable(zip(repeat(name), reasons, strict=False) for name, reasons in faults.items())
    total = sum(map(len, faults.values())) + sum(counted(faults).values())
    for name, reason in islice(pairs, FAULTS_MAX):
        total -= 1
        kind = getattr(reason, "kind", OTHER)
        packer.pack((clipped(name, NAME_CHARS_MAX), kind, clipped(reason, REASON_CHARS_MAX)))
    return packer.bytes(), total


def unpacked_faults(packed: bytes) -> Iterator[Fault]:
    """Raises ValueError for what is none of packed_faults()."""
    unpacker = msgpack.Unpacker(raw=False, max_buffer_size=len(packed) + 1)
    unpacker.feed(packed)
    for found in unpacker:
        if not isinstance(found, list) or len(found) != 3:
            raise ValueError(f"found {str(found)[:80]!r}, wanted [name, kind, reason]")
        yield found[0], found[1], found[2]
