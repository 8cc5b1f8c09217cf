"""What `ctl status` and the metrics say of the inventory: how it is, what was found last, how refreshes ended."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from control.planner.jobs import Planned
from control.service.event_ring import Note, nowhere

log = logging.getLogger("bootstorm.refresh")

INVENTORY_STATES = ("ok", "stale", "down")  # State.word()
# How refreshes ended: counters of `ctl status`.  doubtful: published, but for what could not be read or believed.
OUTCOMES = ("published", "unchanged", "doubtful", "down", "shrunk", "contested", "pinned", "internal")
STAGES = ("fetch", "parse", "plan", "build", "pack", "publish", "ack")  # of a refresh; ack where somebody waited


@dataclass(slots=True)
class InventoryState:
    """What `ctl status` says of the inventory."""

    failure: str = ""
    confirmed_s: float = 0.0  # since 1970
    last_duration_s: float = 0.0
    stage: str = ""
    done: int = 0
    total: int = 0
    rows: int = 0
    bytes: int = 0
    stages_s: dict[str, float] = field(default_factory=dict)
    quarantined: int = 0
    faults: dict[str, list[str]] = field(default_factory=dict)
    faults_total: int = 0
    reasons: dict[str, str] = field(default_factory=dict)  # mac -> why it is not answered
    doubts: list[str] = field(default_factory=list)  # what the last refresh could not read or believe
    kept_hosts: int = 0  # that stay as they were for that
    parts: int = 0
    kept_parts: int = 0
    pinned_s: float = 0.0  # since 1970; 0: nothing holds the table
    outcomes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    note: Note = nowhere

    def failed(self, kind: str, reason: str, generation: int) -> None:
        """A refresh came to nothing.  kind: as of control.planner.jobs.Failed; generation: what is served on."""
        if kind in self.outcomes:
            self.outcomes[kind] += 1
        if kind in ("pinned", "nothing"):
            return  # the inventory itself is not to blame
        if self.failure != reason:  # once, not at every try
            log.warning("refresh failed: %s; generation %d serves on", reason, generation)
            self.note("refresh-failed", None, None, f"{reason}; generation {generation} serves on")
        self.failure = reason

    def succeeded(self, planned: Planned) -> None:
        if self.failure:
            log.info("the inventory is back")
            self.note("refresh-recovered", None, None, f"the inventory is back, after: {self.failure}")
        if planned.doubts != self.doubts:  # once, not at every refresh
            for doubt in planned.doubts:
                log.warning("in doubt: %s", doubt)
                self.note("in-doubt", None, None, doubt)
            if not planned.doubts:
                log.info("nothing of the inventory is in doubt any more")
                self.note("doubt-ended", None, None, "nothing of the inventory is in doubt any more")
        self.failure = ""
        self.confirmed_s = planned.confirmed_s
        self.stages_s = planned.stages_s
        self.doubts, self.kept_hosts = planned.doubts, planned.kept_hosts
        self.parts, self.kept_parts = planned.parts, planned.kept_parts
        self.outcomes["published" if planned.published else "unchanged"] += 1
        self.outcomes["doubtful"] += bool(planned.doubts)

    def reasons_of(self, mac: str) -> str | None:
        return self.reasons.get(mac)

    def word(self, hosts: bool) -> str:
        """ok; stale: the last try failed and an older table serves; down: it failed and there is nothing to serve."""
        if not self.failure and self.confirmed_s:
            return "ok"
        return "stale" if hosts else "down"
