"""What operators want otherwise than the inventory says, until when, and as it is kept over restarts.

Ends are told by CLOCK_BOOTTIME, which nobody sets: a clock that jumps neither ends an override nor prolongs it.  After
another boot of the machine the date has to do, as far as it can be true."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from control.discovery.statefile import json_object, open_new, read_file, write_all
from control.planner.jobs import Lay
from control.service.doors.commands import OPTIONS_MAX, SECONDS_MAX, TEXT_CHARACTERS_MAX

log = logging.getLogger("bootstorm.overrides")

FILE: Final = "overrides"  # in dhcp.state_dir
HOLD: Final = "hold"
ONCE: Final = "once"
KINDS: Final = (HOLD, ONCE)
OVERRIDES_MAX: Final = 1_000
MACS_MAX: Final = 16  # of one host, and as many addresses: by which it is found again
LINE_BYTES_MAX: Final = 1 << 17
FILE_BYTES_MAX: Final = 1 << 24
LONG_AGO_S: Final = -1e9
CLOCK_SET_S: Final = 2.0  # a clock that is slewed moves by less between two looks
DAMAGE_TOLD_MAX: Final = 10


class Full(ValueError):
    """There are too many overrides."""


@dataclass(slots=True)
class Override:
    """One, of the rows of an object that have a role.  Times are seconds.

    made_s: since 1970; for_s: how long it lasts, None until it is released; ends_s: by CLOCK_BOOTTIME of `boot`.
    macs, addresses: as the table had them when it was made, by which a row that is not answered is found again.

    Of the options of one boot: options: (name of a `dhcp` attribute, value); until: the class that ends them, or "";
    seen: by MAC, what the ledger showed when the table had them (once.py); acked_phase, acked_s: the first answer since
    then that counts; laid: the table has had them."""

    number: int
    kind: str
    identity: int
    role: int
    name: str
    uid: int
    made_s: float
    because: str = ""
    for_s: float | None = None
    ends_s: float | None = None
    macs: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    options: list[list[str]] = field(default_factory=list)
    until: str = ""
    seen: dict[str, list[Any]] | None = None
    acked_phase: int = 0
    acked_s: float | None = None
    laid: bool = False

    @property
    def target(self) -> tuple[int, int]:
        """Which rows: (identity of the object, role)."""
        return self.identity, self.role

    def means(self, text: str) -> bool:
        return text == self.name or text == str(self.number) or text in self.addresses


class Book:
    """All that are in force.  boottime_s: CLOCK_BOOTTIME; ahead_s: what to add to it for seconds since 1970; boot: of
    the machine, which it is of."""

    def __init__(
        self, state_dir: Path, boottime_s: Callable[[], float], ahead_s: Callable[[], float], boot: str
    ) -> None:
        self.path = state_dir / FILE
        self.boottime_s, self.ahead_s, self.boot = boottime_s, ahead_s, boot
        self.all: dict[int, Override] = {}
        self.by_target: dict[tuple[int, int], list[Override]] = {}
        self.fault = ""  # why the disk has not got them
        self.saved_ahead_s = ahead_s()

    # --- changes -----------------------------------------------------------------------------------------------------

    def add(self, made: Override) -> Override | None:
        """In the place of the one of its kind for the same rows, which is returned.  Sets its number, and when it was
        made and ends.  Raises Full."""
        before = self.of(made.kind, made.target)
        if before is None and len(self.all) >= OVERRIDES_MAX:
            raise Full(f"{OVERRIDES_MAX:,} overrides are in force; `ctl release` ends those that nobody needs")
        made.number = max(self.all, default=0) + 1
        made.made_s = self.boottime_s() + self.ahead_s()
        made.ends_s = self.boottime_s() + made.for_s if made.for_s is not None else None
        if before is not None:
            self.drop([before])
        self.enter(made)
        return before

    def enter(self, override: Override) -> None:
        self.all[override.number] = override
        self.by_target.setdefault(override.target, []).append(override)

    def drop(self, gone: Iterable[Override]) -> None:
        for each in gone:
            del self.all[each.number]
            self.by_target[each.target].remove(each)

    def expired(self) -> list[Override]:
        now_s = self.boottime_s()
        return [each for each in self.all.values() if each.ends_s is not None and each.ends_s <= now_s]

    # --- questions ---------------------------------------------------------------------------------------------------

    def of(self, kind: str, target: tuple[int, int]) -> Override | None:
        return next((each for each in self.by_target.get(target, ()) if each.kind == kind), None)

    def told(self) -> Lay:
        """As the planner is told of them."""
        return Lay(
            holds=[list(each.target) for each in self.all.values() if each.kind == HOLD],
            onces=[
                [each.identity, each.name, each.options, each.laid] for each in self.all.values() if each.kind == ONCE
            ],
        )

    def onces(self) -> list[Override]:
        return [each for each in self.all.values() if each.kind == ONCE]

    def left_s(self, override: Override) -> float | None:
        return None if override.ends_s is None else max(0.0, override.ends_s - self.boottime_s())

    # --- on disk -----------------------------------------------------------------------------------------------------

    def clock_was_set(self) -> bool:
        """Since the dates on the disk were written."""
        return abs(self.ahead_s() - self.saved_ahead_s) > CLOCK_SET_S

    def save(self) -> str:
        """Why the disk does not take them, or nothing.  Before anybody hears of a change: a crash must not undo it."""
        self.saved_ahead_s = self.ahead_s()
        aside = self.path.with_name(FILE + ".new")
        try:
            fd = open_new(aside)
            try:
                write_all(fd, b"".join(self.line(each) for each in self.all.values()))
                os.fsync(fd)
            finally:
                os.close(fd)
            aside.replace(self.path)
        except OSError as error:
            fault = f"cannot keep the overrides in {self.path}: {error.strerror}"
            if fault != self.fault:
                log.error("%s; a restart now has those of before", fault)
            self.fault = fault
        else:
            if self.fault:
                log.warning("the overrides are kept in %s again", self.path)
            self.fault = ""
        return self.fault

    def line(self, override: Override) -> bytes:
        """With the date at which it ends, for another boot."""
        told = dataclasses.asdict(override) | {"boot": self.boot}
        if override.ends_s is not None:
            told["ends_date_s"] = override.ends_s + self.ahead_s()
        return json.dumps(told).encode() + b"\n"

    def load(self) -> None:
        """What the disk has; a damaged line costs itself, and is named in the log."""
        try:
            content = read_file(self.path, FILE_BYTES_MAX + 1, os.O_NOFOLLOW)
        except FileNotFoundError:
            return
        except OSError as error:
            log.error("cannot read %s: %s; the overrides of before are not in force", self.path, error.strerror)
            return
        damaged = 0
        for number, line in enumerate(content[:FILE_BYTES_MAX].split(b"\n"), 1):
            if not line:
                continue
            try:
                told = json_object(line)
                found = read_line(line)
                found.ends_s = self.end_of(found, told)
                if found.acked_s is not None and (not self.boot or told.get("boot") != self.boot):
                    found.acked_s = LONG_AGO_S  # longer than it lasts, by any clock that is right
                if found.number in self.all or self.of(found.kind, found.target) is not None:
                    raise ValueError("it is there twice")
                if len(self.all) >= OVERRIDES_MAX:
                    raise ValueError(f"more than {OVERRIDES_MAX:,} overrides")
                self.enter(found)
            except ValueError as damage:
                damaged += 1
                if damaged <= DAMAGE_TOLD_MAX:
                    log.error("%s line %d is passed over: %s", self.path, number, damage)
        if damaged > DAMAGE_TOLD_MAX:
            log.error("%s: %d more lines are passed over", self.path, damaged - DAMAGE_TOLD_MAX)
        log.info("%s: %d overrides are in force", self.path, len(self.all))

    def end_of(self, override: Override, told: Mapping[str, Any]) -> float | None:
        """By CLOCK_BOOTTIME of this boot."""
        if override.for_s is None:
            return None
        if self.boot and told.get("boot") == self.boot and override.ends_s is not None:
            return override.ends_s
        date_s: Any = told.get("ends_date_s")
        if not is_number(date_s):
            raise ValueError(f"ends_date_s: found {str(date_s)[:40]!r}, wanted seconds since 1970")
        # A clock without a battery starts in the past: it lasts no longer than it was made for.
        left_s = min(float(date_s) - self.ahead_s() - self.boottime_s(), override.for_s)
        return self.boottime_s() + max(0.0, left_s)


def read_line(line: bytes) -> Override:
    """Raises ValueError, which says what was found and what was wanted."""
    if len(line) > LINE_BYTES_MAX:
        raise ValueError(f"{len(line)} octets, at most {LINE_BYTES_MAX} were written")
    told = json_object(line)
    known = {each.name for each in dataclasses.fields(Override)}
    try:
        found = Override(**{name: value for name, value in told.items() if name in known})
    except TypeError as missing:
        raise ValueError(str(missing)) from missing
    checks: list[tuple[str, Any, str]] = [
        ("number", is_whole(found.number, 1 << 53), "a whole number"),
        ("kind", found.kind in KINDS, f"one of {', '.join(KINDS)}"),
        ("identity", is_whole(found.identity, 1 << 64), "a whole number of 64 bits"),
        ("role", found.role in (0, 1) and type(found.role) is int, "0 or 1"),
        ("name", is_text(found.name), "a text"),
        ("because", is_text(found.because), "a text"),
        ("uid", is_whole(found.uid, 1 << 32), "a user's number"),
        ("made_s", is_number(found.made_s), "seconds since 1970"),
        ("for_s", found.for_s is None or (is_number(found.for_s) and 0 <= found.for_s <= SECONDS_MAX), "seconds"),
        ("ends_s", found.ends_s is None or is_number(found.ends_s), "seconds"),
        ("options", is_options(found.options), "a list of (name, value)"),
        ("until", found.until in ("", "ipxe", "os"), "ipxe, os or nothing"),
        ("seen", found.seen is None or are_snapshots(found.seen), "(requests, boots, stage) by MAC address"),
        ("acked_phase", is_whole(found.acked_phase, 4), "0 to 3"),
        ("acked_s", found.acked_s is None or (found.acked_phase and is_number(found.acked_s)), "seconds"),
        ("laid", isinstance(found.laid, bool), "true or false"),
        ("macs", is_texts(found.macs), "a list of texts"),
        ("addresses", is_texts(found.addresses), "a list of texts"),
    ]
    for name, fits, wanted in checks:
        if not fits:
            raise ValueError(f"{name}: found {str(getattr(found, name))[:40]!r}, wanted {wanted}")
    return found


def is_options(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= OPTIONS_MAX
        and all(isinstance(each, list) and len(each) == 2 and all(map(is_text, each)) for each in value)
    )


def are_snapshots(value: Any) -> bool:
    """Of once.py."""
    return isinstance(value, dict) and all(
        isinstance(each, list)
        and len(each) == 3
        and is_whole(each[0], 1 << 32)
        and is_whole(each[1], 1 << 16)
        and is_text(each[2])
        for each in value.values()
    )


def is_whole(value: Any, below: int) -> bool:
    return type(value) is int and 0 <= value < below


def is_number(value: Any) -> bool:
    return type(value) in (int, float) and -1e15 < value < 1e15


def is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= TEXT_CHARACTERS_MAX


def is_texts(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MACS_MAX and all(map(is_text, value))
