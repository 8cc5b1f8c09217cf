"""Traps and sightings on their way: on the disk of who received them, until the leader's journal has them.

At least once, and journaled once as long as the leader remembers: a number counts within one spool of one host.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from control.fleet.actions import Actions, Confirm, Journal, PassOn
from control.fleet.messages import Journaled, Seen, encode

NEVER: Final = -(1 << 60)
AGAIN_MS: Final = 5_000
AT_ONCE: Final = 64  # passed on in one go
WAITING_MAX: Final = 4_096  # in a spool; what comes then is lost, and counted
UNDER_WAY_MAX: Final = 1_024  # on their way to the leader's journal
UNDER_WAY_MS: Final = 20_000  # then it is taken again
KEYS_MAX: Final = 8_192  # remembered as journaled; an older one that comes again is journaled again, which does no harm
Key = tuple[str, bytes, int]  # host, spool, number


@dataclass(frozen=True, slots=True, kw_only=True)
class Spool:
    """Of the responder, after each entry is on its disk.  spool: drawn at random with a new file."""

    host: str
    spool: bytes
    waiting: Mapping[int, bytes]
    passed_ms: int = NEVER


def has_room(state: Spool) -> bool:
    return len(state.waiting) < WAITING_MAX


def kept(state: Spool, number: int, what: bytes) -> tuple[Spool, Actions]:
    """That entry is on disk by now."""
    state = replace(state, waiting={**state.waiting, number: what})
    return state, (pass_on(state, number, what),)


def pass_on(state: Spool, number: int, what: bytes) -> PassOn:
    return PassOn(encode(Seen(host=state.host, spool=state.spool, number=number, what=what)))


def tick(state: Spool, now: int) -> tuple[Spool, Actions]:
    if not state.waiting or now - state.passed_ms < AGAIN_MS:
        return state, ()
    some = sorted(state.waiting.items())[:AT_ONCE]
    return replace(state, passed_ms=now), tuple(pass_on(state, number, what) for number, what in some)


def confirmed(state: Spool, said: Journaled) -> tuple[Spool, tuple[int, ...]]:
    """The numbers to be taken off the disk as well."""
    if (said.host, said.spool) != (state.host, state.spool):
        return state, ()
    gone = tuple(number for number in said.numbers if number in state.waiting)
    if not gone:
        return state, ()
    return replace(state, waiting={n: what for n, what in state.waiting.items() if n not in gone}), gone


@dataclass(frozen=True, slots=True)
class Intake:
    """Of the leader.  journal: keys that its journal has on disk, the oldest first; under_way: those that are being
    written, and since when."""

    journal: Mapping[Key, None]
    under_way: Mapping[Key, int]


def started(keys: Iterable[Key]) -> Intake:
    return Intake(dict.fromkeys(keys), {})


def end(state: Intake) -> Intake:
    """Of the lead: whoever leads next takes what was under way."""
    return Intake(state.journal, {})


def confirm(key: Key) -> Confirm:
    return Confirm(encode(Journaled(host=key[0], spool=key[1], numbers=(key[2],))), key[0])


def seen(state: Intake, said: Seen, now: int) -> tuple[Intake, Actions]:
    key = (said.host, said.spool, said.number)
    if key in state.journal:
        return state, (confirm(key),)
    if now - state.under_way.get(key, NEVER) < UNDER_WAY_MS:
        return state, ()
    under_way = {each: since for each, since in state.under_way.items() if now - since < UNDER_WAY_MS}
    if len(under_way) >= UNDER_WAY_MAX:
        return state, ()  # it stays in its spool
    return replace(state, under_way={**under_way, key: now}), (Journal(key, said.what),)


def journaled(state: Intake, key: Key) -> tuple[Intake, Actions]:
    """That entry is on disk and synced."""
    journal = {**state.journal, key: None}
    while len(journal) > KEYS_MAX:
        del journal[next(iter(journal))]
    under_way = {each: since for each, since in state.under_way.items() if each != key}
    return Intake(journal, under_way), (confirm(key),)
