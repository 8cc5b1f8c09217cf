"""The commands of the control socket: which right each needs, and what its arguments may be.  Pure.

Reading never changes what is served, what is kept or what the inventory has, and never asks the inventory; a command
that is not listed here does not exist.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from control.config.config import Config
from fastpath.process.escape import shown

TEXT_CHARACTERS_MAX = 1_024
REMARK_CHARACTERS_MAX = 200
OPTIONS_MAX = 32  # for one boot
OCTETS_MAX = 1 << 16
NUMBER_MAX = (1 << 31) - 1
SERIAL_MAX = (1 << 63) - 1
FAULTS_A_PAGE = 1_000
HOSTS_A_PAGE = 500
SECONDS_MAX = 31_622_400  # a year


class Right(enum.IntEnum):
    """What a peer of the control socket may do; the greater holds the lesser."""

    NONE = 0
    READ = 1
    CHANGE = 2


class WrongArgument(Exception):
    """An argument is not what the command takes; says what was found and what was wanted."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Of an argument.  wanted: in words."""

    wanted: str
    fits: Callable[[Any], bool]


def whole(lowest: int, highest: int) -> Kind:
    return Kind(
        f"a whole number {lowest} to {highest}",
        lambda value: type(value) is int and lowest <= value <= highest,  # type(): true is no number here
    )


SECONDS = Kind(
    f"a number of seconds 0 to {SECONDS_MAX}",
    lambda value: type(value) in (int, float) and 0 <= value <= SECONDS_MAX,
)
DURATION = Kind(
    f"a number of seconds 1 to {SECONDS_MAX}",
    lambda value: type(value) in (int, float) and 1 <= value <= SECONDS_MAX,
)
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
TEXT = Kind(
    f"a text of at most {TEXT_CHARACTERS_MAX} characters",
    lambda value: isinstance(value, str) and len(value) <= TEXT_CHARACTERS_MAX,
)
REMARK = Kind(
    f"a line of at most {REMARK_CHARACTERS_MAX} characters",
    lambda value: isinstance(value, str) and len(value) <= REMARK_CHARACTERS_MAX and value.isprintable(),
)
OCTETS = Kind(f"at most {OCTETS_MAX} octets", lambda value: isinstance(value, bytes) and len(value) <= OCTETS_MAX)
OPTIONS = Kind(
    f"1 to {OPTIONS_MAX} texts OPTION=VALUE of at most {TEXT_CHARACTERS_MAX // 2} characters",
    lambda value: (
        isinstance(value, list)
        and 1 <= len(value) <= OPTIONS_MAX
        and all(isinstance(each, str) and len(each) <= TEXT_CHARACTERS_MAX // 2 for each in value)
    ),
)
ROWS = Kind("a list", lambda value: isinstance(value, list))
PLACE = {"offset": whole(-NUMBER_MAX, NUMBER_MAX), "limit": whole(-NUMBER_MAX, NUMBER_MAX)}


@dataclass(frozen=True, slots=True)
class Command:
    """costly: some milliseconds of control's time, so a few are at work at once, whoever asks."""

    right: Right
    arguments: Mapping[str, Kind] = field(default_factory=dict)
    costly: bool = False


READ, CHANGE = Right.READ, Right.CHANGE
COMMANDS: Mapping[str, Command] = {
    "status": Command(READ),
    "health": Command(READ, {"max_age": SECONDS}),
    "workers": Command(READ),
    "lookup": Command(READ, {"mac": TEXT}),
    "recent": Command(READ, {"most": whole(0, NUMBER_MAX), "mac": TEXT}),
    "packets": Command(
        READ, {"mac": TEXT, "slot": whole(0, NUMBER_MAX), "since": whole(-NUMBER_MAX, SERIAL_MAX)}, costly=True
    ),
    "observed": Command(READ, {"mac": TEXT, "after": TEXT, "strict": FLAG}, costly=True),
    "discovered": Command(READ, {"mac": TEXT, **PLACE}, costly=True),
    "explain": Command(READ, {"mac": TEXT, "datagram": OCTETS, "capture": ROWS}, costly=True),
    "diff": Command(READ, PLACE, costly=True),
    "events": Command(READ, {"since": whole(0, SERIAL_MAX), "follow": FLAG}),
    "faults": Command(
        READ,
        {"object": TEXT, "kind": TEXT, "after": whole(0, SERIAL_MAX), "limit": whole(1, FAULTS_A_PAGE)},
        costly=True,
    ),
    "hosts": Command(
        READ,
        {
            **dict.fromkeys(("state", "progress", "name", "relay", "address", "pool", "rack", "by"), TEXT),
            "after": whole(0, SERIAL_MAX),
            "limit": whole(1, HOSTS_A_PAGE),
        },
        costly=True,
    ),
    "overview": Command(READ, costly=True),
    "fleet": Command(READ, costly=True),
    "fleet_order": Command(CHANGE, {"verb": TEXT, "digest": TEXT, "signed": OCTETS}),
    "refresh": Command(CHANGE, {"wait": FLAG, "here": FLAG, "force": FLAG, "mac": TEXT, "host": TEXT}),
    "rollback": Command(CHANGE),
    "hold": Command(CHANGE, {"host": TEXT, "for": DURATION, "because": REMARK}),
    "once": Command(
        CHANGE, {"host": TEXT, "options": OPTIONS, "until": TEXT, "for": DURATION, "because": REMARK}, costly=True
    ),
    "release": Command(CHANGE, {"host": TEXT}),
    "overrides": Command(READ, costly=True),
    "reload": Command(CHANGE),
    "adopt": Command(CHANGE, {"mac": TEXT}),
    "ignore": Command(CHANGE, {"mac": TEXT}),
    "unignore": Command(CHANGE, {"mac": TEXT}),
}


def checked(name: str, command: Command, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that the command knows; null is as if it were not there.  Raises WrongArgument."""
    taken = {}
    for word, kind in command.arguments.items():
        value = arguments.get(word)
        if value is None:
            continue
        if not kind.fits(value):
            raise WrongArgument(f"{name}: {word}: found {found(value)}, wanted {kind.wanted}")
        taken[word] = value
    return taken


def found(value: Any) -> str:
    """A value as an error message quotes it: short, and on one line."""
    if isinstance(value, str | bytes | Sequence | Mapping) and len(value) > 20:
        unit = "characters" if isinstance(value, str) else "octets" if isinstance(value, bytes) else "elements"
        return f"{type(value).__name__} of {len(value)} {unit}"
    return shown(repr(value), 80)


@dataclass(frozen=True, slots=True)
class Rights:
    """Who has which right, by the peer's credentials as the kernel knows them."""

    change_uids: frozenset[int]
    read_uids: frozenset[int] = frozenset()
    read_gids: frozenset[int] = frozenset()

    def of(self, uid: int, gids: Sequence[int]) -> Right:
        if uid in self.change_uids:
            return Right.CHANGE
        if uid in self.read_uids or not self.read_gids.isdisjoint(gids):
            return Right.READ
        return Right.NONE


def rights_of(config: Config) -> Rights:
    """Who may what on the control socket."""
    control = config.control
    changing = frozenset({0, os.geteuid(), *control.allow_uids})
    return Rights(changing, frozenset(control.read_uids), frozenset(control.read_gids))
