"""What the board and `bootstorm top` show, made of the service's own words: `status` and `overview`.  Pure.

Both get plain values that a template or a table lays out; nothing is computed there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

PROGRESS: Final = {  # as ext.ledger has them -> how people say it, in the order in which they are shown
    "done": "done",
    "booting": "booting",
    "stuck": "stuck",
    "unknown": "has an address, end unknown",
    "refused": "not served on purpose",
    "never": "not heard yet",
}
PHASES: Final = {"rom": "ROM", "loader": "iPXE", "system": "system"}
STEPS: Final = {"asked": "asked", "offered": "was offered an address", "answered": "has its address"}
KINDS: Final = {"pool": "pool", "rack": "rack", "relay": "relay"}
HEAD_WORDS: Final = {  # what the head of a fleet says -> a sentence
    "held": "the fleet is held: nobody changes its table until `ctl fleet release`",
    "pinned": "the fleet was rolled back: nothing newer is published until `ctl fleet release`",
    "dropped": "the canaries dropped a table; it is tried again after `ctl fleet release`",
}
SAMPLES: Final = 600  # ten minutes, one a second
ROWS_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class Group:
    """A pool, a rack, a relay, or everything: how many machines are how far.

    name: "" of those that are in none, and of those that asked without a relay."""

    name: str
    progress: Mapping[str, int]
    stages: Mapping[str, int]

    @property
    def machines(self) -> int:
        return sum(self.progress.values())

    @property
    def heard(self) -> int:
        return self.machines - self.progress.get("never", 0)

    def reached(self, phase: str) -> int:
        """Machines whose furthest stage of this boot is in a phase."""
        return sum(self.stages.get(f"{phase}-{step}", 0) for step in STEPS)

    def parts(self) -> list[tuple[str, int]]:
        """(progress, machines) of those that there are, in the order in which they are drawn."""
        return [(word, self.progress[word]) for word in PROGRESS if self.progress.get(word)]

    def bars(self, width: int = 1000) -> list[tuple[str, int, float, float]]:
        """(progress, machines, x, width) of a bar of a width, which all machines fill."""
        found, at = [], 0.0
        for word, many in self.parts():
            wide = width * many / max(self.machines, 1)
            found.append((word, many, round(at, 1), round(wide, 1)))
            at += wide
        return found


class Sample(NamedTuple):
    """At a moment.  time_s: CLOCK_MONOTONIC; replies_s, requests_s: since the one before, None where nobody knows."""

    time_s: float
    requests_s: float | None
    replies_s: float | None
    wait_s: float | None
    queue_bytes: int


@dataclass(slots=True)
class History:
    """The last minutes, at the pace in which somebody asked."""

    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    before: tuple[float, int, int] | None = None

    def take(self, time_s: float, status: Mapping[str, Any]) -> None:
        workers = status["workers"]
        received, sent = (sum(worker[word] for worker in workers) for word in ("rx", "tx"))
        requests_s = replies_s = None
        if self.before is not None and time_s > self.before[0]:
            took_s = time_s - self.before[0]
            if received >= self.before[1] and sent >= self.before[2]:  # else the service has begun anew
                requests_s, replies_s = (received - self.before[1]) / took_s, (sent - self.before[2]) / took_s
        self.before = time_s, received, sent
        wait = (status.get("latency") or {}).get("wait") or {}
        queues = (status.get("losses") or {}).get("queues") or ()
        waiting = sum(queue["bytes"] for queue in queues)
        self.samples.append(Sample(time_s, requests_s, replies_s, wait.get("p99_s"), waiting))

    def line(self, word: str, width: int = 600, height: int = 60) -> str:
        """Points of an SVG polyline; "" where there is nothing to draw.  What is not known is left out."""
        values = [(sample.time_s, getattr(sample, word)) for sample in self.samples]
        known = [(time_s, value) for time_s, value in values if value is not None]
        if len(known) < 2:
            return ""
        begin_s, end_s = known[0][0], known[-1][0]
        top = max(value for _time_s, value in known) or 1
        return " ".join(
            f"{width * (time_s - begin_s) / (end_s - begin_s):.1f},{height - (height - 2) * value / top:.1f}"
            for time_s, value in known
        )

    def now(self, word: str) -> float | None:
        return getattr(self.samples[-1], word) if self.samples else None

    def most(self, word: str) -> float | None:
        return max((value for sample in self.samples if (value := getattr(sample, word)) is not None), default=None)

    @property
    def span_s(self) -> float:
        return self.samples[-1].time_s - self.samples[0].time_s if self.samples else 0.0


def totals_of(overview: Mapping[str, Any]) -> Group:
    """Of every row of the table."""
    totals = overview["totals"]
    progress: dict[str, int] = {}
    for counts in totals["states"].values():
        for word, many in counts.items():
            progress[word] = progress.get(word, 0) + many
    return Group("", progress, totals["stages"])


def groups_of(overview: Mapping[str, Any], kind: str) -> list[Group]:
    """Those with stuck machines first, the more the earlier; then by name."""
    found = [
        Group(name, {word: counts.get(word, 0) for word in PROGRESS}, counts.get("stages", {}))
        for name, counts in overview["by"].get(kind, {}).items()
    ]
    return sorted(found, key=lambda group: (-group.progress["stuck"], group.name))


def warnings_of(status: Mapping[str, Any]) -> list[str]:
    """What somebody has to look at, each as one sentence; the worst first."""
    found = []
    health = status.get("health") or {}
    if not health.get("ready", True):
        found.append(f"no machine is answered: {health['reason']}")
    for worker in status["workers"]:
        if not worker["pid"]:
            found.append(f"worker {worker['slot']} has no process")
    fleet = status.get("fleet")
    if status["inventory_reason"] and not read_elsewhere(fleet):
        found.append(f"the inventory: {status['inventory_reason']}")
    if status["pinned_s"] is not None:
        found.append("a rollback holds the table; `ctl refresh --force` ends that")
    if many := (status.get("overrides") or {}).get("total"):
        found.append(f"{many:,} overrides by operators: {'; '.join(status['overrides']['first'])}")
    found += [f"in doubt: {doubt}" for doubt in status["doubts"]]
    if conflicts := (status.get("fault_kinds") or {}).get("conflict"):
        found.append(f"{conflicts:,} conflicts of the inventory: their machines are not answered")
    found += [f"another DHCP server: {server}" for server in status["other_servers"]]
    if cloned := status["identities"]["cloned"]:
        found.append(f"{cloned:,} client-ids of several machines")
    if loops := status["identities"]["loops"]:
        found.append(f"{loops:,} machines in a boot loop")
    for part in ("boot_port", "strangers", "traps"):
        if (status.get(part) or {}).get("state") == "failed":
            found.append(f"{part.replace('_', ' ')}: {status[part]['reason']}")
    if status.get("io_reason"):
        found.append(f"XDP is not used: {status['io_reason']}")
    if status.get("mode") == "observe":
        found.append("dhcp.mode is observe: nothing is sent")
    if status.get("slowed_down_ns"):
        found.append("slowed down for a bench; restart it")
    found += fleet_warnings(fleet) if fleet else []
    return found + [f"refused: {fault}" for fault in status.get("config_refused") or ()]


def read_elsewhere(fleet: Mapping[str, Any] | None) -> bool:
    """The inventory: by the machine of the fleet that leads, which is not this one."""
    state = (fleet or {}).get("state") or {}
    return bool(state.get("follows") and not state.get("leads"))


def fleet_words(status: Mapping[str, Any]) -> str:
    """One line; "" where there is no fleet."""
    fleet = status.get("fleet")
    if not fleet:
        return ""
    state = fleet["state"] or {}
    where = "leads" if state.get("leads") else f"led by {state.get('leader') or 'nobody'}"
    found = [f"shard {fleet['shard']}, {where}", f"head {'.'.join(map(str, state.get('mark') or [])) or 'none yet'}"]
    if state.get("leads"):
        found.append(f"{state['machines']:,} machines, {state['behind']:,} behind")
    if not state.get("connected"):
        found.append("FLEET DOWN")
    return "; ".join(found)


def fleet_warnings(fleet: Mapping[str, Any]) -> list[str]:
    state = fleet["state"] or {}
    found = []
    if not state.get("connected"):
        why = state.get("fault") or fleet["fault"] or "its process is not there"
        found.append(f"the fleet is down: {why}; the table serves on")
    if fleet["alone"]:
        found.append("this machine reads the inventory for itself, as if there were no fleet")
    if state.get("refused"):
        found.append(f"what the fleet says is refused here: {state['refused']}")
    if state.get("leads") and state["behind"]:
        found.append(f"{state['behind']:,} machines of the fleet are behind: `ctl fleet` names them")
    for word, words in HEAD_WORDS.items():
        if state.get(word):
            found.append(words)
    return found


def span(seconds: float | None) -> str:
    """0.3 s, 41 s, 12 min, 5 h, 3 days; "unknown"."""
    if seconds is None:
        return "unknown"
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{max(seconds, 0):.1f} s"


def duration(seconds: float | None) -> str:
    """Of a wait: 120 us, 3.4 ms, 1.2 s; "-" where nobody knows."""
    if seconds is None:
        return "-"
    for unit, length in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def stage_words(stage: str) -> str:
    """rom-offered -> ROM was offered an address."""
    phase, _, step = stage.partition("-")
    return f"{PHASES[phase]} {STEPS[step]}" if phase in PHASES and step in STEPS else stage


def newest_first(events: Iterable[Mapping[str, Any]], most: int) -> Sequence[Mapping[str, Any]]:
    return list(events)[-most:][::-1]
