"""What a status says of a fleet, as control/service/fleet/link.py does."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from control.fleet.process import jobs


def fleet_status(shard: str = "main", **more: Any) -> dict[str, Any]:
    """Of a machine that leads; more: fields of its process' State."""
    state = jobs.State(
        leads=True, follows=True, connected=True, leader="dhcp1", mark=[5, 3, 7], serves="7c" * 32,
        head_s=1_796_048_927, machines=3,
    )  # fmt: skip
    said = asdict(state) | more
    return {"shard": shard, "fault": "", "deaths": 1, "alone": False, "silent_s": 0.4, "state": said}
