"""When the options of one boot are over: by what the boot ledger shows of the machine.  Pure.

An ACK alone ends nothing: it may be lost, and a ROM asks at port 4011 after it.  What ends them is that the machine has
come further, or that time has passed.  What is asked in the same stage after that is another boot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from control.plan.classes import SEPARATOR
from control.service.machines.override_book import Override

AFTER_ACK_S: Final = 120.0
ROM, LOADER, SYSTEM = 1, 2, 3  # phases, as ext/ledger.pxd counts them
PHASES: Final = {"rom": ROM, "loader": LOADER, "system": SYSTEM}
WORDS: Final = {ROM: "its ROM", LOADER: "iPXE", SYSTEM: "a system"}
UNTIL: Final = {"ipxe": LOADER, "os": SYSTEM}  # classes that end them, and their phases
ANSWERS: Final = ("ACKED", "ACKED_BOOT", "ANSWERED_BOOTP")
SAME_SECOND_S: Final = (
    1.0  # the ledger counts whole seconds: what was answered just before is not taken for the next boot
)


def phase_of(name: str) -> int:
    """Of a client class, as the ledger or an attribute names it; 0 of the site's own."""
    name = name.lower().replace("_", "-")
    if name in ("os", "bmc"):
        return SYSTEM
    if name in ("ipxe", "ipxe-http"):
        return LOADER
    from control.plan.classes import CLASSES

    return ROM if name in CLASSES else 0


def needed(override: Override) -> int:
    """The phase in which the options are wanted last; 0: in the first that is answered."""
    if override.until in UNTIL:
        return UNTIL[override.until] - 1
    phases = [phase_of(name.rpartition(SEPARATOR)[2]) if SEPARATOR in name else 0 for name, _value in override.options]
    return max(phases) if phases and min(phases) > 0 else 0


def answered(row: Mapping[str, Any], since_s: float, had_one: bool) -> Iterable[tuple[int, float]]:
    """(phase, when) of what was answered since then, as far as the ledger still tells, the earliest phase first.

    row: as of ext.roll.Roll.row, of a card; since_s: seconds since 1970, by the clock that the row's are told by.
    had_one: its boot was answered since then already.  A system that runs and renews is no boot."""
    found = set()
    last_s, stage_s = row["last_s"], row["stage_s"]
    if last_s is None:
        return ()
    after_s = since_s + SAME_SECOND_S
    phase, _, step = row["stage"].partition("-")
    if step == "answered" and stage_s > after_s:
        found.add((PHASES[phase], float(stage_s)))
    if row["verdict"] in ANSWERS and last_s > after_s:
        found.add((phase_of(row["class"]), float(last_s)))
    is_new = row["boot_s"] > after_s or had_one or any(phase < SYSTEM for phase, _at in found)
    return sorted(each for each in found if each[0] and (each[0] < SYSTEM or is_new))


def over(override: Override, rows: Iterable[Mapping[str, Any]], ahead_s: float, now_s: float) -> str:
    """Why its boot is over, or nothing.  Notes the first ACK that counts in the override.

    rows: of the machine's cards, as of Roll.row; ahead_s: of the calendar's clock before CLOCK_BOOTTIME; now_s: of the
    latter."""
    wanted = needed(override)
    for row in rows:
        for phase, at_s in answered(row, override.since_s + ahead_s, override.acked_phase > 0):
            if wanted and phase > wanted:
                return f"{WORDS[phase]} was answered"
            if override.acked_phase and phase > override.acked_phase and phase > wanted:
                return f"{WORDS[phase]} was answered"
            if not override.acked_phase and phase >= wanted:
                override.acked_phase, override.acked_s = phase, at_s - ahead_s
    if override.acked_s is not None and not override.until and now_s - override.acked_s >= AFTER_ACK_S:
        return f"{WORDS[override.acked_phase]} was answered {AFTER_ACK_S:.0f} s ago"
    return ""
