"""Is DHCP served: what `ctl health`, /readyz and the metrics say, by what the workers show of themselves.

Ready: a worker answers from a table.  Control, the planner and the inventory may be down meanwhile, since that changes
no answer; nor does the table's age count unless somebody asks: two servers of one inventory would both step back.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from control.service.served_table import ServedTable
from fastpath.process.slot_words import SlotWords

HEARTBEAT_S = 2.0  # a worker shows one every 50 ms; the supervisor replaces it after 200 ms, unless it has no processor
NO_PROCESS, NO_TABLE, SILENT = "without a process", "without a table", f"without a turn for {HEARTBEAT_S:.0f} s"


def judge_health(table: ServedTable, words: SlotWords | None, max_age_s: float | None = None) -> dict[str, Any]:
    """{"ready", "reason", "answering", "workers", "generation", "table_age_s"}; reason: why not, or None.

    max_age_s: the table's age at which nobody is ready any more; None: it does not count."""
    faults = [fault_of(page, words) for page in table.pages]
    answering, age_s = faults.count(""), table.age_s()
    reason = None
    if not answering:
        found = ", ".join(f"{count} {fault}" for fault, count in Counter(faults).items())
        reason = f"none of {len(faults)} workers answers: {found}"
    elif max_age_s is not None and (age_s is None or age_s > max_age_s):
        reason = f"the table's age is {table.age_words()}, wanted at most {max_age_s:g} s"
    return {
        "ready": reason is None,
        "reason": reason,
        "answering": answering,
        "workers": len(faults),
        "generation": table.generation,
        "table_age_s": age_s,
    }


def fault_of(page: Any, words: SlotWords | None) -> str:
    """Why the worker of a slot does not answer; "" where it does.  page: ext.page.WorkerPage."""
    if words is not None and is_young(words.heartbeat_ns(page.slot)):
        return ""  # a worker of the build before an upgrade, which served with a table and still does
    if not page.pid:
        return NO_PROCESS
    if not page.generation:
        return NO_TABLE
    return "" if is_young(page.heartbeat_ns) else SILENT


def is_young(heartbeat_ns: int) -> bool:
    """heartbeat_ns: CLOCK_MONOTONIC."""
    return time.monotonic_ns() - heartbeat_ns < HEARTBEAT_S * 1e9


def heartbeat_age_s(page: Any, words: SlotWords | None) -> float:
    """Seconds since the last turn of a slot's worker, whichever build it is of; of none, since the last one's."""
    newest_ns = max(page.heartbeat_ns, words.heartbeat_ns(page.slot) if words is not None else 0)
    return round((time.monotonic_ns() - newest_ns) / 1e9, 3) if newest_ns else 0.0
