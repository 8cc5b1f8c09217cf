"""Who leads: one lease, written by compare-and-set, believed by its holder for less time than others wait.

The engine's clock has no part in it.  The holder believes in its lease for ttl - margin from the moment at which it
*sent* the write that was accepted.  Everybody else takes the lead only where the lease says that it is free, or has
been read unchanged for ttl by the reader's own clock.  The margin covers clocks of different speed, and what an
inventory still does with a request that its sender has given up.

A lease that is missing was lost with the store, and somebody may believe in it still.  Whoever makes it anew holds it
for quiet_ms before it leads.  After a loss revisions begin anew, so that an old one may fit another's lease: each
write, a renewal too, follows a look that is younger than answer_ms.  quiet_ms is longer than anything from before can
last: that look, a lease believed after it, and one that was overwritten by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from control.fleet.actions import Actions, Lead, ReadLease, StepDown, WriteLease
from control.fleet.messages import Lease, decode, encode
from control.fleet.wire import Refused

NEVER: Final = -(1 << 60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    ttl_ms: int = 10_000  # a lease that did not change for that long is free
    margin_ms: int = 2_000  # its holder stops so long before
    renew_ms: int = 3_000
    poll_ms: int = 1_000  # how often the others look
    answer_ms: int = 2_000  # of the engine; also how old what was read may be when it decides

    @property
    def believed_ms(self) -> int:
        return self.ttl_ms - self.margin_ms

    @property
    def quiet_ms(self) -> int:
        return self.answer_ms + 2 * self.believed_ms


class Election(NamedTuple):
    """seen, revision: the lease as last read; since_ms: since when it has been read so; asked_ms: when that was asked.
    writing_ms: when the write on its way was sent.  held: revision of our own lease, 0 without; until_ms: believed
    until then."""

    host: str
    session: bytes
    may_lead: bool = True
    timing: Timing = Timing()
    seen: bytes | None = None
    revision: int = 0
    since_ms: int = NEVER
    asked_ms: int = NEVER
    reading_ms: int = NEVER
    writing_ms: int = NEVER
    beat: int = 0
    held: int = 0
    until_ms: int = NEVER
    quiet_until_ms: int = NEVER
    taken: int = 0
    told: bool = False
    made: bool = False  # by a write of ours, perhaps, where there was none; we have not led by it yet
    sent_ms: int = NEVER  # of the last write that was accepted
    known_ms: int = NEVER  # when that was known: what was asked before may show the state before


Step = tuple[Election, Actions]


def leads(state: Election, now: int) -> bool:
    return state.held > 0 and state.quiet_until_ms <= now < state.until_ms


def time_left(state: Election, now: int) -> int:
    """Milliseconds for which the lead is sure; 0 without."""
    return state.until_ms - now if leads(state, now) else 0


@lru_cache(maxsize=64)
def lease_of(value: bytes | None) -> Lease | None:
    """None also for what is no lease: it is waited for like another's, and written over."""
    if value is None:
        return None
    try:
        return decode(Lease, value)
    except Refused:
        return None


def is_ours(state: Election, value: bytes | None) -> bool:
    """Of this very process: an answer was lost.  One of an earlier process of this host is waited for."""
    lease = lease_of(value)
    return lease is not None and lease.session == state.session and lease.holder == state.host


def is_free(state: Election, now: int) -> bool:
    """Whether what was read lets us take the lead.  Compare-and-set decides between several that may."""
    if state.since_ms == NEVER or now - state.asked_ms > state.timing.answer_ms:
        return False
    lease = lease_of(state.seen)
    if state.seen is None or is_ours(state, state.seen) or (lease is not None and not lease.holder):
        return True
    return now - state.since_ms >= state.timing.ttl_ms


def write(state: Election, last: int, now: int, holder: str) -> Step:
    beat = state.beat + 1
    value = encode(Lease(holder=holder, session=state.session, beat=beat))
    return state._replace(writing_ms=now, beat=beat, made=state.made or not last), (WriteLease(value, last, beat),)


def read(state: Election, now: int) -> Step:
    return state._replace(reading_ms=now), (ReadLease(now),)


def lost(state: Election, why: str) -> Step:
    """Forgets what was read: the next take-over begins with a look."""
    actions: Actions = (StepDown(why),) if state.told else ()
    state = state._replace(
        held=0, until_ms=NEVER, told=False, writing_ms=NEVER, since_ms=NEVER, asked_ms=NEVER, reading_ms=NEVER
    )
    return state, actions


def tick(state: Election, now: int) -> Step:
    before: Actions = ()
    timing = state.timing
    if state.held and now >= state.until_ms:
        state, before = lost(state, "the lease was not renewed in time")
    if state.writing_ms != NEVER and now - state.writing_ms >= timing.answer_ms:
        state = state._replace(writing_ms=NEVER)  # what came of it is read
    if leads(state, now) and not state.told:
        state, before = state._replace(told=True, made=False), (*before, Lead(state.taken))
    state, actions = written_or_read(state, now)
    return state, before + actions


def written_or_read(state: Election, now: int) -> Step:
    timing = state.timing
    if state.writing_ms != NEVER:
        return state, ()
    if state.held and now - state.sent_ms < timing.renew_ms:
        return state, ()
    fresh = now - state.asked_ms <= timing.answer_ms
    if fresh and (state.held or (state.may_lead and is_free(state, now))):
        return write(state, state.held or state.revision, now, state.host)
    if now - state.reading_ms >= timing.poll_ms:
        return read(state, now)
    return state, ()


def lease_read(state: Election, asked_ms: int, value: bytes | None, revision: int, now: int) -> Step:
    """revision: 0 where there is no lease."""
    if asked_ms <= max(state.asked_ms, state.known_ms):
        return state, ()  # overtaken by a later one, or by what we wrote
    if value is not None and not is_ours(state, value):
        state = state._replace(made=False)
    changed = (value, revision) != (state.seen, state.revision) or state.since_ms == NEVER
    since_ms = now if changed else state.since_ms
    state = state._replace(seen=value, revision=revision, since_ms=since_ms, asked_ms=asked_ms)
    if state.held:
        if not is_ours(state, value):
            return lost(state, "the lease is another's, or gone")
        state = state._replace(held=revision)
    return written_or_read(state, now)


def lease_written(state: Election, beat: int, revision: int, now: int) -> Step:
    """revision: 0 where compare-and-set found another one."""
    if beat != state.beat or state.writing_ms == NEVER:
        return state, ()
    sent_ms = state.writing_ms
    state = state._replace(writing_ms=NEVER)
    if not revision:
        return read(state._replace(asked_ms=NEVER), now)
    until_ms = sent_ms + state.timing.believed_ms
    if now >= until_ms:
        return state, ()
    if not state.held:
        quiet_until_ms = now + state.timing.quiet_ms if state.made else now
        state = state._replace(taken=revision, quiet_until_ms=quiet_until_ms)
    state = state._replace(held=revision, until_ms=until_ms, sent_ms=sent_ms, known_ms=now, asked_ms=NEVER)
    if leads(state, now) and not state.told:
        return state._replace(told=True, made=False), (Lead(state.taken),)
    return state, ()


def resign(state: Election, why: str) -> Step:
    return lost(state, why) if state.held else (state, ())


def release(state: Election, busy_ms: int, now: int) -> Step:
    """At an orderly end: the lease says that it is free, so that the next one need not wait.

    busy_ms: until then a request to the inventory may be under way.  Where one is, or the inventory may still be at it,
    the lease is left to run out: whoever takes the lead then begins after that.  So it is where we have not led by it
    yet: what was before a lease that was lost may last."""
    if not leads(state, now) or now < busy_ms + state.timing.margin_ms:
        return state, ()
    revision = state.held
    state, ended = lost(state, "the process ends")
    state, actions = write(state, revision, now, "")
    return state, ended + actions
