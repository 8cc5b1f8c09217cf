"""A page of memory between the fleet's process and the registrars: until when this machine may write to the inventory.

The fleet's process writes that time, and whoever sends such a request reads it immediately before.  A process that ends
leaves it as it was, which is no lie: nobody else takes the lead before then.  A registrar notes in a place of its own
until when its request may be under way, so that the lease is not given back meanwhile.  Milliseconds of CLOCK_BOOTTIME.
"""

from __future__ import annotations

import mmap
import os
import time
from typing import Final

from control.fleet.leading import may_send
from fastpath.protocol import memfd

PLACES: Final = 16  # of registrars
_BYTES: Final = 8 * (1 + PLACES)


def now_ms() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def new_page() -> int:
    """A descriptor of an empty one, owned by the caller: nothing may be written."""
    with memfd("bootstorm-fleet-lead", bytes(_BYTES)) as fd:
        return os.dup(fd)


class LeadPage:
    """fd: of new_page(), borrowed."""

    def __init__(self, fd: int) -> None:
        self._words = memoryview(mmap.mmap(fd, _BYTES)).cast("Q")  # each is written and read whole

    @property
    def until_ms(self) -> int:
        """0: no request may be sent."""
        return self._words[0]

    @until_ms.setter
    def until_ms(self, until_ms: int) -> None:
        self._words[0] = until_ms

    @staticmethod
    def now_ms() -> int:
        return now_ms()

    def may_send(self, now: int, timeout_ms: int) -> bool:
        """Whether a request may be sent now that may take as long as timeout_ms."""
        return may_send(self.until_ms, now, timeout_ms)

    def note(self, place: int, busy_ms: int) -> None:
        """A request of that registrar may be under way until then; 0: none is."""
        self._words[1 + place] = busy_ms

    @property
    def busy_ms(self) -> int:
        """Of the last one of all; 0 where none is under way."""
        return max(self._words[1:])
