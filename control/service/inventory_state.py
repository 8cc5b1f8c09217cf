"""What `ctl status` and the metrics say of the inventory: how it is, what was found last, how refreshes ended."""

from __future__ import annotations

from dataclasses import dataclass, field

INVENTORY_STATES = ("ok", "stale", "down")  # State.word()
# How refreshes ended: counters of `ctl status`.  doubtful: published, but for what could not be read or believed.
OUTCOMES = ("published", "unchanged", "doubtful", "down", "shrunk", "contested", "pinned", "internal")


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

    def reasons_of(self, mac: str) -> str | None:
        return self.reasons.get(mac)

    def word(self, hosts: bool) -> str:
        """ok; stale: the last try failed and an older table serves; down: it failed and there is nothing to serve."""
        if not self.failure and self.confirmed_s:
            return "ok"
        return "stale" if hosts else "down"
