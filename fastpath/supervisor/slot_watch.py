"""The supervisor's look at its sockets: what waits there before any worker has received it.

It has every socket, whoever serves the slot, and looks on while a worker hangs or is being replaced, which is when a
queue grows.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastpath.process.slot_words import SLOTS_MAX, SlotWords
from fastpath.sockets.sockets import queued
from fastpath.supervisor.children import Child
from fastpath.supervisor.descriptors import Kept

LOOK_S = 0.1  # a storm fills a queue within 0.5 s
PEAK_S = 30.0  # a peak is shown for this long and at most for twice as long: scrapes come every 15 to 30 s


class SlotWatch:
    """Raises OSError."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        self.words = SlotWords(kept.turns)
        self.sockets = [
            (slot, queue, fd)
            for slot, sockets in enumerate(kept.slots[:SLOTS_MAX])
            for queue, fd in enumerate((sockets.udp, sockets.urgent, sockets.boot))
        ]
        self.peaks, self.former_peaks = [0] * len(self.sockets), [0] * len(self.sockets)
        self.looked_s = self.peaks_since_s = 0.0

    def look(self, now_s: float, children: Iterable[Child]) -> None:
        """At every turn of the supervisor; does something every LOOK_S."""
        if now_s - self.looked_s < LOOK_S:
            return
        self.looked_s = now_s
        if now_s - self.peaks_since_s >= PEAK_S:
            self.former_peaks, self.peaks, self.peaks_since_s = self.peaks, [0] * len(self.sockets), now_s
        for at, (slot, queue, fd) in enumerate(self.sockets):
            waiting, limit = queued(fd) if fd >= 0 else (0, 0)
            self.peaks[at] = max(self.peaks[at], waiting)
            self.words.show_queue(slot, queue, (waiting, max(self.peaks[at], self.former_peaks[at]), limit))
        heads = {child.slot: child.head for child in children if child.head is not None and self.kept.generation}
        for slot in range(SLOTS_MAX):
            self.words.show_heartbeat(slot, heads[slot].heartbeat_ns if slot in heads else 0)
        self.words.show_looked()
