"""A responder: which head it accepts, which table it wants, and when it serves it.

It reads the head by itself and takes announcements as hints.  What is refused, late or missing changes nothing: the
last good table serves.  The newest head accepted is on disk before anything comes of it, so that none goes back over
restarts.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from control.fleet.actions import (
    Action,
    Actions,
    CheckTable,
    KeepMark,
    ReadBlob,
    ReadHead,
    ReadInventory,
    Serve,
    Tell,
)  # fmt: skip
from control.fleet.heads import Site, judged
from control.fleet.messages import NOWHERE, Announcement, Blob, Content, Have, Head, Mark, encode
from control.fleet.wire import TEXT_BYTES_MAX, Reason, Refused

NEVER: Final = -(1 << 60)
READ_MS: Final = 2_000  # between two looks at the head
HINT_MS: Final = 200  # after an announcement, for the mirror; then the hub is asked
FETCH_MS: Final = 1_000  # between two attempts at a blob
TELL_MS: Final = 5_000
ALONE_MS: Final = 5_000  # without a table, until the inventory is read by ourselves
ALONE_AGAIN_MS: Final = 10_000
AGAIN_MS: Final = 60_000  # a table that was refused is checked again


class Counted(NamedTuple):
    """Of the workers, taken together: for how long they have served that table, and what happened to them since.
    requests_s, replies_s: of late, whatever table they served; age_s: of that table, None where it is not known."""

    digest: bytes = b""
    served_s: int = 0
    restarts: int = 0
    abandoned: int = 0
    requests_s: int = 0
    replies_s: int = 0
    age_s: int | None = None


class Responder(NamedTuple):
    """mark, head, raw: the newest head accepted, and as it was signed.  serves: the table in the workers; by_itself: it
    was not the fleet's.  goal: a table on its way; has: blobs that are here and were hashed.  bad: the digest that was
    refused last.  refusals, reason: how many there were, and the last one's.  adopted: digest of what all workers
    answer from.  hint: newest announcement, not yet read."""

    site: Site
    mark: Mark = NOWHERE
    head: Head | None = None
    raw: bytes = b""
    serves: Content | None = None
    by_itself: bool = False
    goal: Content | None = None
    has: frozenset[bytes] = frozenset()
    checking: bool = False
    fetching_ms: int = NEVER
    bad: bytes = b""
    bad_ms: int = NEVER
    refused: str = ""
    refusals: int = 0
    reason: str = ""
    adopted: bytes = b""
    reading_ms: int = NEVER
    behind: bool = False
    hint: Mark = NOWHERE
    hint_ms: int = NEVER
    told_ms: int = NEVER
    bare_since_ms: int = NEVER  # without a table
    alone_ms: int = NEVER
    counted: Counted = Counted()


Step = tuple[Responder, Actions]


def started(site: Site, raw: bytes, mark: Mark, serves: Content | None, now: int) -> Responder:
    """From the disk.  raw: the head kept there, or nothing; mark counts even if the keys have changed since."""
    try:
        head = judged(site, raw, NOWHERE, b"") if raw else None
    except Refused:
        head = None
    has = frozenset(blob.sha256 for blob in serves.blobs) if serves else frozenset[bytes]()
    return Responder(site=site, mark=mark, head=head, raw=raw, serves=serves, has=has, bare_since_ms=now)


def goal_of(head: Head, host: str, serves: Content | None) -> Content:
    """What that machine ought to serve by that head."""
    if head.held and serves is not None:
        return serves
    if head.trial is not None and host in head.canary:
        return head.trial
    return head.stable


def have_of(state: Responder) -> bytes:
    serves = state.serves.digest if state.serves else b""
    counted = state.counted if state.counted.digest == serves else Counted()
    return encode(
        Have(
            shard=state.site.shard, host=state.site.host, mark=state.mark, serves=serves, refused=state.refused,
            served_s=counted.served_s, restarts=counted.restarts, abandoned=counted.abandoned, proof=state.raw,
            bad=state.bad, adopted=state.adopted, requests_s=state.counted.requests_s,
            replies_s=state.counted.replies_s, age_s=state.counted.age_s, version=state.site.version,
        )
    )  # fmt: skip


def tell(state: Responder, now: int) -> Step:
    return state._replace(told_ms=now), (Tell(have_of(state)),)


def refuse(state: Responder, fault: Refused, now: int) -> Step:
    """Said at once where it is news."""
    said = str(fault)[:TEXT_BYTES_MAX].encode("ascii", "replace").decode()
    state = state._replace(refusals=state.refusals + 1, reason=fault.reason)
    return (state, ()) if said == state.refused else tell(state._replace(refused=said), now)


def read(state: Responder, hub: bool, now: int) -> Step:
    return state._replace(reading_ms=now), (ReadHead(hub, now),)


def lags(state: Responder) -> bool:
    """The newest head names another table for this machine: also after a restart before that was served."""
    return state.head is not None and (
        state.serves is None or goal_of(state.head, state.site.host, state.serves).digest != state.serves.digest
    )


def missing_blobs(state: Responder) -> tuple[Blob, ...]:
    return tuple(blob for blob in state.goal.blobs if blob.sha256 not in state.has) if state.goal else ()


def tick(state: Responder, now: int) -> Step:
    actions: list[Action] = []
    if state.hint > state.mark and now - state.hint_ms >= HINT_MS:
        state, more = read(state._replace(hint=NOWHERE), True, now)
        actions += more
    elif now - state.reading_ms >= READ_MS:
        state, more = read(state, state.behind, now)
        actions += more
    if state.goal is not None and not state.checking and now - state.fetching_ms >= FETCH_MS:
        state = state._replace(fetching_ms=now)
        actions += (ReadBlob(blob, True) for blob in missing_blobs(state))
    if state.bad and now - state.bad_ms >= AGAIN_MS:
        state = state._replace(bad=b"")
    if state.goal is None and not state.bad and lags(state):
        state, more = retarget(state, now)
        actions += more
    if state.serves is None and now - state.bare_since_ms >= ALONE_MS and now - state.alone_ms >= ALONE_AGAIN_MS:
        state = state._replace(alone_ms=now)
        actions.append(ReadInventory())
    if now - state.told_ms >= TELL_MS:
        state, more = tell(state, now)
        actions += more
    return state, tuple(actions)


def announced(state: Responder, said: Announcement, now: int) -> Step:
    """A hint to read; NOWHERE asks for a `have`."""
    if said.shard != state.site.shard:
        return state, ()
    if said.mark == NOWHERE:
        return tell(state, now)
    if said.mark <= max(state.mark, state.hint):
        return state, ()
    return read(state._replace(hint=said.mark, hint_ms=now), False, now)


def head_read(state: Responder, raw: bytes | None, now: int) -> Step:
    if raw is None or raw == state.raw:
        return state._replace(behind=False), ()
    try:
        head = judged(state.site, raw, state.mark, state.raw)
    except Refused as fault:
        if fault.reason is Reason.BEHIND:
            state = state._replace(behind=True)
        return refuse(state, fault, now)
    state = state._replace(mark=head.mark, head=head, raw=raw, behind=False, refused="")
    state, actions = retarget(state, now)
    return state, (KeepMark(head.mark, raw), *actions)


def retarget(state: Responder, now: int) -> Step:
    """After another head, or another table: what is to be fetched."""
    if state.head is None:
        return state, ()
    wanted = goal_of(state.head, state.site.host, state.serves)
    if state.serves is not None and wanted.digest == state.serves.digest:
        state = state._replace(goal=None, checking=False)
        served: Actions = ()
        if state.by_itself and wanted is not state.serves:  # found by ourselves, the fleet's from now on
            state, served = state._replace(serves=wanted, by_itself=False), (Serve(wanted),)
        state, actions = tell(state, now)
        return state, (*served, *actions)
    if wanted.layout != state.site.layout:
        fault = Refused(Reason.OTHER_LAYOUT, f"{wanted.layout}, this build reads {state.site.layout}")
        return refuse(state._replace(goal=None, checking=False, bad=wanted.digest, bad_ms=now), fault, now)
    if wanted.digest == state.bad or (state.goal is not None and wanted.digest == state.goal.digest):
        return state, ()
    state = state._replace(goal=wanted, checking=False, fetching_ms=now)
    asked = missing_blobs(state)
    if not asked:
        return state._replace(checking=True), (CheckTable(wanted),)
    return state, tuple(ReadBlob(blob, False) for blob in asked)


def blob_read(state: Responder, sha256: bytes, fault: Refused | None, now: int) -> Step:
    """fault: BLOB_MISSING or BLOB_WRONG; it is asked for again by the tick, at the hub."""
    goal = state.goal
    if goal is None or sha256 not in {blob.sha256 for blob in missing_blobs(state)}:
        return state, ()
    if fault is not None:
        return refuse(state, fault, now)
    state = state._replace(has=state.has | {sha256})
    if missing_blobs(state) or state.checking:
        return state, ()
    return state._replace(checking=True), (CheckTable(goal),)


def table_checked(state: Responder, digest: bytes, fault: Refused | None, now: int) -> Step:
    if state.goal is None or state.goal.digest != digest or not state.checking:
        return state, ()
    goal = state.goal
    if fault is not None:
        kept = frozenset(blob.sha256 for blob in state.serves.blobs) if state.serves else frozenset[bytes]()
        state = state._replace(goal=None, checking=False, bad=digest, bad_ms=now, has=kept)
        return refuse(state, fault, now)
    has = frozenset(blob.sha256 for blob in goal.blobs)
    state = state._replace(serves=goal, by_itself=False, goal=None, checking=False, has=has, bad=b"", refused="")
    state, actions = tell(state, now)
    return state, (Serve(goal), *actions)


def adopted(state: Responder, digest: bytes, now: int) -> Step:
    """All workers answer from that table: said at once, since somebody may be waiting for it."""
    return (state, ()) if digest == state.adopted else tell(state._replace(adopted=digest), now)


def inventory_read(state: Responder, content: Content, now: int) -> Step:
    """By ourselves.  The fleet's table takes its place as soon as there is one, unless the head is held by now."""
    if state.serves is not None:
        return state, ()
    state = state._replace(
        serves=content, by_itself=True, goal=None, checking=False, has=frozenset(), refused=""
    )  # fmt: skip
    state, actions = tell(state, now)
    return state, (Serve(content), *actions)
