"""How much of the trap receiver's time pysnmp may have: what costs milliseconds must not hold up the plain traps.

Those cost microseconds and stand in the same queue.  Seconds in, yes or no out; no clock of its own.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

# Seconds of pysnmp's a second, and how many are saved up.  Who was believed once has a share of its own, so that
# strangers, who can forge any number of addresses, spend theirs alone.
BELIEVED_RATE, BELIEVED_BURST_S = 0.4, 2.0
STRANGERS_RATE, STRANGERS_BURST_S = 0.1, 0.5
SENDER_RATE, SENDER_BURST_S = 0.1, 0.5  # of one address, out of its kind's share
SENDERS_MAX: Final = 10_000


@dataclass(slots=True)
class Bucket:
    """Seconds that may be spent; what was spent beyond is owed."""

    rate: float
    burst_s: float
    left_s: float = field(init=False)
    since_s: float | None = None

    def __post_init__(self) -> None:
        self.left_s = self.burst_s

    def has(self, now_s: float) -> bool:
        if self.since_s is not None:
            self.left_s = min(self.burst_s, self.left_s + max(0.0, now_s - self.since_s) * self.rate)
        self.since_s = now_s
        return self.left_s > 0


class EngineTime:
    def __init__(self) -> None:
        self.believed = Bucket(BELIEVED_RATE, BELIEVED_BURST_S)
        self.strangers = Bucket(STRANGERS_RATE, STRANGERS_BURST_S)
        self.senders: OrderedDict[int, Bucket] = OrderedDict()  # the longest silent first
        self.known: OrderedDict[int, None] = OrderedDict()  # whose messages pysnmp verified

    def affords(self, sender: int, now_s: float, *, forwards: bool = False) -> bool:
        """forwards: it speaks for many senders and has all of their share."""
        total = self.believed if forwards or sender in self.known else self.strangers
        return (forwards or self._of(sender).has(now_s)) and total.has(now_s)

    def spend(self, sender: int, seconds: float, *, believed: bool, forwards: bool = False) -> None:
        """What affords() allowed has cost so much, and was, or was not, a notification to be believed."""
        total = self.believed if forwards or sender in self.known else self.strangers
        total.left_s -= seconds
        if not forwards:
            self._of(sender).left_s -= seconds
        if believed:
            self.known[sender] = None
            self.known.move_to_end(sender)
            if len(self.known) > SENDERS_MAX:
                self.known.popitem(last=False)

    def _of(self, sender: int) -> Bucket:
        bucket = self.senders.get(sender)
        if bucket is None:
            bucket = self.senders[sender] = Bucket(SENDER_RATE, SENDER_BURST_S)
            if len(self.senders) > SENDERS_MAX:
                self.senders.popitem(last=False)
        self.senders.move_to_end(sender)
        return bucket
