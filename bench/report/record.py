"""What every bench writes down: machine, commit, build, scenario, seed, figures, and who disturbed it meanwhile."""

from __future__ import annotations

import json
import os
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.report.machine import ROOT, TICK_S, build_mode, commit, machine_record

RESULTS = ROOT / "bench/results"
FORMAT = 1
# Share of a core's time that others took (or the hypervisor), from there on a figure is theirs as well.
DISTURBED = 0.05
FLOOR = 3.0  # per cent that two runs of one thing on an idle machine differ by
DISTURBED_FLOOR = 25.0  # when the machine was disturbed in either


def begin(bench: str, scenario: dict[str, Any], seed: int) -> dict[str, Any]:
    """A record with everything that is known before the run."""
    return {
        "format": FORMAT,
        "bench": bench,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine_record(),
        "commit": commit(),
        "build": build_mode(),
        "scenario": scenario,
        "seed": seed,
    }


class Watch:
    """What the cores did from here to `figures()`: seconds busy, idle, and stolen by the hypervisor, by core."""

    def __init__(self) -> None:
        self._start, self._before = time.monotonic(), core_times()

    def figures(self, stalled_s: float = 0.0) -> dict[str, Any]:
        """stalled_s: for which the generator had no core; not every hypervisor owns up to what it takes."""
        wall = time.monotonic() - self._start
        now = core_times()
        spent = {core: [b - a for a, b in zip(self._before[core], now[core], strict=True)] for core in now}
        stolen = max((steal for _busy, _idle, steal in spent.values()), default=0.0)
        return {
            "wall_s": round(wall, 3),
            "cores": {
                str(core): {"busy_s": round(busy, 2), "idle_s": round(idle, 2), "stolen_s": round(steal, 2)}
                for core, (busy, idle, steal) in spent.items()
            },
            "load": [round(load, 2) for load in os.getloadavg()],
            "stalled_s": round(stalled_s, 3),
            "disturbed": max(stolen, stalled_s) > DISTURBED * wall,
        }


def core_times() -> dict[int, tuple[float, float, float]]:
    found = {}
    rows = re.findall(r"^cpu(\d+) (.*)$", Path("/proc/stat").read_text(), re.MULTILINE)
    for core, row in rows:
        user, nice, system, idle, wait, hard, soft, steal = (int(word) * TICK_S for word in row.split()[:8])
        found[int(core)] = (user + nice + system + hard + soft, idle + wait, steal)
    return found


def resolved(path: Path) -> Path:
    """A bare file name means one in bench/results."""
    target = RESULTS / path if path.parent == Path() and not path.is_absolute() else path
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def write(path: Path, record: dict[str, Any]) -> Path:
    target = resolved(path)
    target.write_text(json.dumps(record, indent=1) + "\n")
    return target


def read(path: Path) -> dict[str, Any]:
    """A record.  ValueError when the file is none."""
    target = path if path.exists() else RESULTS / path
    try:
        found = json.loads(target.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: no record of a bench: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT or "bench" not in found:
        raise ValueError(f"{path}: no record of a bench: wanted an object with format {FORMAT} and a bench")
    return found


def remarks(disturbance: dict[str, Any]) -> list[str]:
    """What a reader of the figures must know of the machine."""
    if not disturbance["disturbed"]:
        return []
    stolen = ", ".join(f"core {core} {spent['stolen_s']:.2f} s" for core, spent in disturbance["cores"].items())
    return [
        f"DISTURBED: the generator stood still for {disturbance['stalled_s']:.2f} s, the hypervisor owns up to {stolen}"
        f", of {disturbance['wall_s']:.2f} s; repeat on a quiet machine before quoting a figure"
    ]
