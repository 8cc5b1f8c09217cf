"""What the supervisor shows control of each slot, in shared memory: how full the queues of its sockets are, and the
heartbeat of a worker whose page control cannot read, because another build laid it out.

It stands behind the words of the turns, in their memory (fastpath/process/turns.py): a place for each of SLOTS_MAX
slots, whatever dhcp.workers is.  The layout is the same in every build; one that has none of this writes nothing there.
"""

from __future__ import annotations

import mmap
import time
from typing import Any

from fastpath.process.turns import BYTES

SLOTS_MAX = 64  # of dhcp.workers
QUEUES = ("plain", "urgent", "boot")  # the sockets of a slot: DISCOVERs and the rest, REQUESTs, PXE's port
FIGURES = ("bytes", "peak_bytes", "limit_bytes")  # of each queue, 32 bits each
OLD_S = 5.0  # what the supervisor wrote so long ago says nothing of now
_LOOKED_AT, _HEARTBEATS_AT, _QUEUES_AT = 1024, 1088, 1600
_FIGURE_MAX = 0xFFFFFFFF
_QUEUES_END = _QUEUES_AT + SLOTS_MAX * len(QUEUES) * len(FIGURES) * 4
assert _HEARTBEATS_AT + SLOTS_MAX * 8 <= _QUEUES_AT and _QUEUES_END <= BYTES


class SlotWords:
    """Maps the memfd of the turns; fd is borrowed.  Raises OSError."""

    def __init__(self, fd: int) -> None:
        self.map = mmap.mmap(fd, BYTES)
        view = memoryview(self.map)
        self.looked = view[_LOOKED_AT : _LOOKED_AT + 8].cast("Q")
        self.heartbeats = view[_HEARTBEATS_AT : _HEARTBEATS_AT + SLOTS_MAX * 8].cast("Q")
        self.figures = view[_QUEUES_AT:_QUEUES_END].cast("I")

    # --- for the supervisor --------------------------------------------------------------------------------------

    def show_queue(self, slot: int, queue: int, figures: tuple[int, int, int]) -> None:
        """figures: as FIGURES."""
        at = (slot * len(QUEUES) + queue) * len(FIGURES)
        for offset, figure in enumerate(figures):
            self.figures[at + offset] = min(figure, _FIGURE_MAX)

    def show_heartbeat(self, slot: int, heartbeat_ns: int) -> None:
        """CLOCK_MONOTONIC; 0: the slot's page is one that control can read."""
        self.heartbeats[slot] = heartbeat_ns

    def show_looked(self) -> None:
        """All of it is of now."""
        self.looked[0] = time.monotonic_ns()

    # --- for control ---------------------------------------------------------------------------------------------

    @property
    def are_fresh(self) -> bool:
        """False under a supervisor of a build that shows nothing here."""
        return time.monotonic_ns() - self.looked[0] < OLD_S * 1e9

    def heartbeat_ns(self, slot: int) -> int:
        return self.heartbeats[slot] if self.are_fresh else 0

    def queues(self, slots: int) -> list[dict[str, Any]]:
        """[{"worker", "queue", "bytes", "peak_bytes", "limit_bytes"}] of so many slots; a limit of 0: the socket is not
        open.  Empty where the supervisor shows nothing."""
        if not self.are_fresh:
            return []
        return [
            {"worker": slot, "queue": name}
            | dict(zip(FIGURES, self.figures[at : at + len(FIGURES)].tolist(), strict=True))
            for slot in range(slots)
            for at, name in (((slot * len(QUEUES) + queue) * len(FIGURES), name) for queue, name in enumerate(QUEUES))
        ]
