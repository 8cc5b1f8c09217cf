"""When the options of one boot are over: by what the boot ledger shows of the machine.  Pure.

An ACK alone ends nothing: it may be lost, and a ROM asks at port 4011 after it.  What ends them is that the machine has
come further, or that time has passed.  What is asked in the same stage after that is another boot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from control.mac import show_mac
from control.plan.classes import CLASSES, SEPARATOR
from control.service.machines.override_book import Override

AFTER_ACK_S: Final = 120.0
ROM, LOADER, SYSTEM = 1, 2, 3  # phases, as ext/ledger.pxd counts them
PHASES: Final = {"rom": ROM, "loader": LOADER, "system": SYSTEM}
WORDS: Final = {ROM: "its ROM", LOADER: "iPXE", SYSTEM: "a system"}
UNTIL: Final = {"ipxe": LOADER, "os": SYSTEM}  # classes that end them, and their phases
ANSWERS: Final = ("ACKED", "ACKED_BOOT", "ANSWERED_BOOTP")
NOTHING_SEEN: Final = (0, 0, "")  # of a card that was not heard


def phase_of(name: str) -> int:
    """Of a client class, as the ledger or an attribute names it; 0 of the site's own."""
    name = name.lower().replace("_", "-")
    if name in ("os", "bmc"):
        return SYSTEM
    if name in ("ipxe", "ipxe-http"):
        return LOADER
    return ROM if name in CLASSES else 0


def needed(override: Override) -> int:
    """The phase in which the options are wanted last; 0: in the first that is answered."""
    if override.until in UNTIL:
        return UNTIL[override.until] - 1
    phases = [phase_of(name.rpartition(SEPARATOR)[2]) if SEPARATOR in name else 0 for name, _value in override.options]
    return max(phases) if phases and min(phases) > 0 else 0


def snapshot(row: Mapping[str, Any]) -> list[Any]:
    """What the ledger shows of a card: what is otherwise later has happened since.  Its whole seconds would not tell.

    row: as of ext.roll.Roll.row."""
    return [row["requests"], row["boots"], row["stage"]]


def answered(row: Mapping[str, Any], seen: Sequence[Any], had_one: bool) -> list[tuple[int, float]]:
    """(phase, when) of what was answered since the snapshot, as far as the ledger still tells, the earliest first.

    When: since 1970, as the row's times.  had_one: its boot was answered since then already.  A system that runs and
    renews is no boot."""
    requests, boots, stage = seen
    found = set()
    phase, _, step = row["stage"].partition("-")
    is_new = row["boots"] != boots
    if step == "answered" and (is_new or row["stage"] != stage):
        found.add((PHASES.get(phase, 0), float(row["stage_s"])))
    if row["verdict"] in ANSWERS and row["requests"] != requests:
        found.add((phase_of(row["class"]), float(row["last_s"])))
    came_on = row["stage"] != stage and not stage.startswith("system")  # whatever lay between two looks
    is_boot = is_new or had_one or came_on or any(phase < SYSTEM for phase, _at in found)
    return sorted(each for each in found if each[0] and (each[0] < SYSTEM or is_boot))


def over(override: Override, rows: Iterable[Mapping[str, Any]], ahead_s: float, now_s: float) -> str:
    """Why its boot is over, or nothing.  Notes the first ACK that counts in the override.

    rows: of the machine's cards, as of Roll.row; ahead_s: of the calendar's clock before CLOCK_BOOTTIME; now_s: of the
    latter."""
    wanted = needed(override)
    for row in rows:
        seen = (override.seen or {}).get(show_mac(row["mac"]), NOTHING_SEEN)
        for phase, at_s in answered(row, seen, override.acked_phase > 0):
            if wanted and phase > wanted:
                return f"{WORDS[phase]} was answered"
            if override.acked_phase and phase > override.acked_phase and phase > wanted:
                return f"{WORDS[phase]} was answered"
            if not override.acked_phase and phase >= wanted:
                override.acked_phase, override.acked_s = phase, at_s - ahead_s
    if override.acked_s is not None and not override.until and now_s - override.acked_s >= AFTER_ACK_S:
        return f"{WORDS[override.acked_phase]} was answered {AFTER_ACK_S:.0f} s ago"
    return ""
