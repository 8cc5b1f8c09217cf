"""Log lines about traps: one a sender and reason in five minutes, few a second for all, never a flood.

What is said once (a trap that nobody decodes) is remembered here for 10,000 pairs of sender and trap; for those that
were heard last also by unknown.py, which outlives this process.
"""

from __future__ import annotations

import logging
from collections import OrderedDict

from control.discovery.traps.unknown import Pair

log = logging.getLogger("bootstorm.traps")

REPEAT_S = 300.0
LINES_PER_S, LINES_BURST = 5.0, 50.0
SENDERS_MAX = 10_000


class Complaints:
    def __init__(self) -> None:
        self.said: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()  # -> when, held back since
        self.told: OrderedDict[Pair, None] = OrderedDict()  # once and for all; the longest unheard first
        self.budget, self.budget_s = LINES_BURST, 0.0

    def note(self, sender: str, reason: str, sentence: str, now_s: float) -> None:
        """sentence: goes to the log as it is, unless this sender's reason was there a moment ago."""
        said_s, held_back = self.said.pop((sender, reason), (-REPEAT_S, 0))
        if now_s - said_s < REPEAT_S or not self._may_log(now_s):
            self.said[sender, reason] = (said_s, held_back + 1)
        else:
            log.warning("%s%s", sentence, f" ({held_back} more since the last line)" if held_back else "")
            self.said[sender, reason] = (now_s, 0)
        if len(self.said) > SENDERS_MAX:
            self.said.popitem(last=False)

    def once(self, pair: Pair, sentence: str, now_s: float) -> bool:
        """Whether it is in the log, now or before; else there were too many lines, and it can be tried again."""
        if pair not in self.told:
            if not self._may_log(now_s):
                return False
            log.warning("%s", sentence)
            self.told[pair] = None
            if len(self.told) > SENDERS_MAX:
                self.told.popitem(last=False)
        self.told.move_to_end(pair)
        return True

    def _may_log(self, now_s: float) -> bool:
        self.budget = min(LINES_BURST, self.budget + (now_s - self.budget_s) * LINES_PER_S)
        self.budget_s = now_s
        if self.budget < 1:
            return False
        self.budget -= 1
        return True
