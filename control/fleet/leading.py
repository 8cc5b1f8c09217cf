"""The leader: the head of its epoch, new tables, canaries and orders, one compare-and-set after the other.

It begins with the head that is there, and writes it again under its own epoch (the claim) before anything else; from
then on nothing that an earlier leader has on its way is accepted.  Where there is no head, the responders tell theirs.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum, auto
from typing import Final, NamedTuple

from control.fleet import election
from control.fleet.actions import Action, Actions, Announce, Build, PutBlobs, ReadHead, Resign, WriteHead
from control.fleet.canary import Verdict, Watch, heard, needs_trial, verdict
from control.fleet.heads import Site, read_head, sealed_head
from control.fleet.messages import NOWHERE, Announcement, Content, Have, Head, Mark, Order, encode
from control.fleet.orders import dropped, obeyed, promoted, with_table
from control.fleet.wire import Reason, Refused

NEVER: Final = -(1 << 60)
GATHER_MS: Final = 2_000  # for the haves of all, where there is no head
ANSWER_MS: Final = 2_000
PUT_MS: Final = 10_000
BUILD_MS: Final = 5_000  # between two orders to the planner
LOOK_MS: Final = 5_000  # at the head, whether it is still there
CONFIRM_S: Final = 60  # a head is written again when the inventory still says the same
ATTEMPTS_MAX: Final = 8
ORDERS_MAX: Final = 8


class Phase(Enum):
    IDLE = auto()  # another leads
    READING = auto()
    GATHERING = auto()
    CLAIMING = auto()
    LEADS = auto()


class Leading(NamedTuple):
    """revision: of the lease at which the lead was taken; incarnation, generation: of the last head tried.  head,
    head_revision: as it is in the store, as far as is known.  best: the newest head that anybody has proved.  own: the
    table of this machine, whose blobs it has.  attempts: heads of this term whose outcome may be unknown.  wants:
    the newest table built, not in the head yet.  put: digests whose blobs are in the store."""

    site: Site
    phase: Phase = Phase.IDLE
    wall_s: int = 0
    revision: int = 0
    incarnation: int = 0
    generation: int = 0
    head: Head | None = None
    head_revision: int = 0
    best: Head | None = None
    own: Content | None = None
    attempts: tuple[bytes, ...] = ()
    writing_ms: int = NEVER
    reading_ms: int = NEVER
    looked_ms: int = NEVER
    gather_until_ms: int = NEVER
    wants: Content | None = None
    changed: int = 0
    put: frozenset[bytes] = frozenset()
    putting: bytes = b""
    putting_ms: int = NEVER
    build_ms: int = NEVER
    missing: bool = False  # somebody lacks blobs that the store should have
    orders: tuple[Order, ...] = ()
    refused: str = ""  # the last order that was
    watch: Watch | None = None


Step = tuple[Leading, Actions]


def may_write(lease: election.Election, state: Leading, now: int, timeout_ms: int) -> bool:
    """Whether a request to the inventory may be sent now that may take as long as timeout_ms."""
    return may_send(write_until_ms(lease, state, now), now, timeout_ms)


def write_until_ms(lease: election.Election, state: Leading, now: int) -> int:
    """For who sends the requests, in another process: it asks may_send() with this before each of them."""
    return lease.until_ms if state.phase is Phase.LEADS and election.leads(lease, now) else 0


def may_send(until_ms: int, now: int, timeout_ms: int) -> bool:
    return until_ms - now > timeout_ms


# --- the term --------------------------------------------------------------------------------------------------------


def begin(state: Leading, revision: int, own: Content | None, newest: Head | None, now: int) -> Step:
    """The lease is ours.  own: what this machine serves of the fleet's; newest: the newest head that it accepted."""
    state = end(state)._replace(phase=Phase.READING, revision=revision, own=own)
    return look(proved(state, newest), now)


def end(state: Leading) -> Leading:
    return Leading(site=state.site, wall_s=state.wall_s, best=state.best)


def proved(state: Leading, head: Head | None) -> Leading:
    """A head with a good signature, from wherever."""
    if head is None or (state.best is not None and head.mark <= state.best.mark):
        return state
    return state._replace(best=head)


def highest(state: Leading) -> Mark:
    return state.best.mark if state.best else NOWHERE


def look(state: Leading, now: int) -> Step:
    return state._replace(reading_ms=now, looked_ms=now), (ReadHead(True, now),)


def announced(state: Leading, mark: Mark) -> Announce:
    return Announce(encode(Announcement(shard=state.site.shard, mark=mark)))


def new_incarnation(state: Leading) -> int:
    """That of the highest epoch known if ours is above it in the same; else a new one.  It takes its number from the
    calendar where that is higher, so that a store which lost everything goes on above what nobody is there to tell."""
    known = highest(state)
    if state.incarnation and not known > Mark(state.incarnation, state.revision, state.generation):
        return state.incarnation
    if known.incarnation and (known.incarnation, state.revision) > known.epoch:
        return known.incarnation
    return max(known.incarnation + 1, state.wall_s)


def is_outdone(state: Leading) -> bool:
    """Somebody proves a head above ours that is not the one in the store: that was wiped, restored or exchanged."""
    ours = Mark(state.incarnation, state.revision, state.generation)
    return highest(state) > max(ours, state.head.mark if state.head else NOWHERE)


# --- what comes in ---------------------------------------------------------------------------------------------------


def tick(state: Leading, wall_s: int, now: int) -> Step:
    """wall_s: seconds since 1970, for the head's date and a new incarnation only."""
    state = state._replace(wall_s=wall_s)
    if state.phase is Phase.IDLE:
        return state, ()
    if state.reading_ms != NEVER and now - state.reading_ms >= ANSWER_MS:
        return look(state, now)
    if state.writing_ms != NEVER and now - state.writing_ms >= ANSWER_MS:
        return look(state._replace(writing_ms=NEVER), now)
    if state.phase is Phase.GATHERING and now >= state.gather_until_ms:
        state = state._replace(phase=Phase.CLAIMING)
    if state.putting and now - state.putting_ms >= PUT_MS:
        state = state._replace(putting=b"")
    if state.phase is Phase.LEADS and state.writing_ms == NEVER and now - state.looked_ms >= LOOK_MS:
        return look(state, now)
    return go_on(state, now)


def head_read(state: Leading, asked_ms: int, raw: bytes | None, revision: int, now: int) -> Step:
    """revision: 0 where there is no head."""
    if state.phase is Phase.IDLE or asked_ms != state.reading_ms:
        return state, ()
    state = state._replace(reading_ms=NEVER, head_revision=revision)
    try:
        found = None if raw is None else read_head(state.site, raw)
    except Refused:
        found = None  # nobody's: written over
    if found is None or raw is None:
        if state.phase is Phase.CLAIMING and state.head is None:
            return go_on(state, now)
        gather_until_ms = now + GATHER_MS
        state = state._replace(phase=Phase.GATHERING, head=None, put=frozenset(), gather_until_ms=gather_until_ms)
        return state, (announced(state, NOWHERE),)
    if found.mark < highest(state):  # put back by somebody: what is known to be newer is written over it
        return go_on(state._replace(phase=Phase.CLAIMING), now)
    if raw in state.attempts:
        return accepted(state, found, now)
    state = proved(state, found)
    if found.mark.epoch > (state.incarnation, state.revision) and state.phase is not Phase.READING:
        return end(state), (Resign(f"there is a head of epoch {found.mark.epoch}"),)
    return go_on(state._replace(phase=Phase.CLAIMING, head=found), now)


def head_written(state: Leading, generation: int, revision: int, now: int) -> Step:
    """revision: 0 where compare-and-set found another one."""
    if state.phase is Phase.IDLE or generation != state.generation or state.writing_ms == NEVER:
        return state, ()
    state = state._replace(writing_ms=NEVER)
    if not revision:
        return look(state, now)
    return accepted(state._replace(head_revision=revision), read_head(state.site, state.attempts[-1]), now)


def accepted(state: Leading, head: Head, now: int) -> Step:
    """One of ours is in the store."""
    news = state.head is None or head.mark != state.head.mark
    state = proved(state._replace(phase=Phase.LEADS, head=head, reading_ms=NEVER, writing_ms=NEVER), head)
    trial = head.trial
    if trial is None:
        state = state._replace(watch=None)
    elif state.watch is None or state.watch.digest != trial.digest:
        state = state._replace(watch=Watch(trial.digest))
    state, actions = go_on(state, now)
    said = (announced(state, head.mark),) if news else ()
    return state, (*said, *actions)


def have_heard(state: Leading, have: Have, now: int) -> Step:
    """A mark counts with its proof only."""
    if have.shard != state.site.shard:
        return state, ()
    if have.mark > highest(state):
        try:
            state = proved(state, read_head(state.site, have.proof))
        except Refused:
            return state, ()
    head = state.head
    if head is None or state.phase is not Phase.LEADS:
        return state, ()
    if state.watch is not None:
        state = state._replace(watch=heard(state.watch, state.site.canary, head.canary, have))
    if have.refused.startswith(Reason.BLOB_MISSING) and have.mark == head.mark:
        state = state._replace(missing=True)
    if have.refused.startswith(Reason.FORKED) and have.mark.epoch == head.mark.epoch:
        state = state._replace(phase=Phase.CLAIMING, incarnation=highest(state).incarnation + 1)
    return go_on(state, now)


def built(state: Leading, content: Content, changed: int, now: int) -> Step:
    """By the planner, from what the inventory says; changed: hosts in which it differs from the table in the head."""
    if state.phase is Phase.IDLE:
        return state, ()
    return go_on(state._replace(wants=content, changed=changed), now)


def blobs_put(state: Leading, digest: bytes, done: bool, now: int) -> Step:
    if digest != state.putting or state.phase is Phase.IDLE:
        return state, ()
    state = state._replace(putting=b"")
    if done:
        missing = state.missing and state.head is not None and digest not in digests(state.head)
        state = state._replace(put=state.put | {digest}, missing=missing)
    return go_on(state, now) if done else (state, ())


def ordered(state: Leading, order: Order, now: int) -> Step:
    if state.phase is Phase.IDLE or len(state.orders) >= ORDERS_MAX:
        return state, ()
    return go_on(state._replace(orders=(*state.orders, order)), now)


# --- what goes out ---------------------------------------------------------------------------------------------------


def go_on(state: Leading, now: int) -> Step:
    """The next head, if another one is due and none is on its way."""
    if state.phase not in (Phase.CLAIMING, Phase.LEADS):
        return state, ()
    if state.writing_ms != NEVER or state.reading_ms != NEVER:
        return state, ()
    head = state.head
    if head is None:
        return first_head(state, now)
    if is_outdone(state):
        return first_head(state._replace(phase=Phase.CLAIMING, head=None), now)
    if state.phase is Phase.CLAIMING:
        return write(state, head, now)
    if state.missing and (state.wants is None or state.wants.digest in digests(head)):
        return put_again(state, head, now)
    while state.orders:
        order, state = state.orders[0], state._replace(orders=state.orders[1:])
        try:
            return write(state, obeyed(head, order), now)
        except Refused as fault:
            state = state._replace(refused=str(fault))
    decided = verdict(state.watch, head.canary) if state.watch else Verdict.WAIT
    if decided is Verdict.PROMOTE and not head.held:
        return write(state, promoted(head), now)
    if decided is Verdict.DROP:
        return write(state, dropped(head), now)
    return next_table(state, head, now)


def write(state: Leading, head: Head, now: int) -> Step:
    """A number is used once, whatever comes of it: two heads of one mark would divide the responders."""
    if state.phase is Phase.CLAIMING:
        state = state._replace(incarnation=new_incarnation(state))
    generation = state.generation + 1
    mark = Mark(state.incarnation, state.revision, generation)
    value = sealed_head(state.site, replace(head, mark=mark, leader=state.site.host, created_s=state.wall_s))
    attempts = (*state.attempts, value)[-ATTEMPTS_MAX:]
    state = state._replace(generation=generation, attempts=attempts, writing_ms=now)
    return state, (WriteHead(value, state.head_revision, generation),)


def first_head(state: Leading, now: int) -> Step:
    """There is none in the store.  What the newest one that is known said of orders goes on; its table too, if this
    machine has it.  An older table than others serve is published by nobody: the inventory is read instead."""
    best, content = state.best, state.wants
    if best is not None and state.own is not None and state.own.digest == best.stable.digest:
        content = state.own
    elif best is not None and best.pinned and not state.orders:
        return state, ()  # gone back to by a person, and not here: not replaced by what was left
    if content is None:
        return build(state, now)
    if content.digest not in state.put:
        return put(state, content, now)
    if best is None:
        head = Head(
            shard=state.site.shard, mark=NOWHERE, leader=state.site.host, created_s=state.wall_s, stable=content
        )
    elif content.digest == best.stable.digest or not state.site.canary.hosts:
        head = replace(best, stable=content, trial=None, canary=(), kept=())
    else:  # whoever serves the stable one needs no blobs of it
        head = replace(with_table(best, content, state.site.canary.hosts), kept=())
    if state.orders:
        state, head = with_orders(state, head)
    return write(state, head, now)


def with_orders(state: Leading, head: Head) -> tuple[Leading, Head]:
    for order in state.orders:
        try:
            head = obeyed(head, order)
        except Refused as fault:
            state = state._replace(refused=str(fault))
    return state._replace(orders=()), head


def next_table(state: Leading, head: Head, now: int) -> Step:
    """While there is a trial the next table waits for what becomes of it.  A table is wanted until a head in the store
    names it: the writing of that head may have come to nothing."""
    new = state.wants
    if new is None or head.held or head.pinned or head.trial is not None:
        return state, ()
    if new.digest in (head.stable.digest, head.failed):
        state = state._replace(wants=None)
        if new.digest == head.stable.digest and abs(state.wall_s - head.created_s) >= CONFIRM_S:
            return write(state, head, now)  # its date is the table's age elsewhere
        return state, ()
    if new.digest not in state.put:
        return put(state, new, now)
    canary = state.site.canary
    canaries = canary.hosts if needs_trial(canary, head.stable, new, state.changed) else ()
    return write(state, with_table(head, new, canaries), now)


def put(state: Leading, content: Content, now: int) -> Step:
    if state.putting:
        return state, ()
    return state._replace(putting=content.digest, putting_ms=now), (PutBlobs(content),)


def digests(head: Head) -> set[bytes]:
    return {content.digest for content in (head.stable, head.trial) if content is not None}


def put_again(state: Leading, head: Head, now: int) -> Step:
    """Chunks went missing in the store: from this machine, else by a table built anew."""
    for content in (state.own, state.wants):
        if content is not None and content.digest in digests(head):
            return put(state, content, now)
    return build(state, now)


def build(state: Leading, now: int) -> Step:
    actions: tuple[Action, ...] = ()
    if now - state.build_ms >= BUILD_MS:
        state, actions = state._replace(build_ms=now), (Build(),)
    return state, actions


def serves(state: Leading, content: Content) -> Leading:
    """This machine has another table, with its blobs."""
    return state if state.phase is Phase.IDLE else state._replace(own=content)
