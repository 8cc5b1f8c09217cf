"""What a decision wants done.  The process carries actions out in their order, and stops at the first that fails.

Answers of the engine come back to the decision with what identifies the question (asked_ms, beat, generation); an
answer that never comes is the tick's to notice.
"""

from __future__ import annotations

from dataclasses import dataclass

from control.fleet.messages import Blob, Content, LookedUp, Mark


@dataclass(frozen=True, slots=True)
class Action:
    """Any of the below."""


@dataclass(frozen=True, slots=True)
class Write(Action):
    """An encoded value to a key, if the key's revision is still `last`; 0: if there is no such key."""

    value: bytes
    last: int


@dataclass(frozen=True, slots=True)
class Say(Action):
    """An encoded message by core NATS: it may be lost."""

    value: bytes


@dataclass(frozen=True, slots=True)
class ReadLease(Action):
    """From the leader of the lease's stream, never from a mirror."""

    asked_ms: int


@dataclass(frozen=True, slots=True)
class WriteLease(Write):
    beat: int


@dataclass(frozen=True, slots=True)
class Lead(Action):
    """The lease is ours.  revision: the second half of the new epoch."""

    revision: int


@dataclass(frozen=True, slots=True)
class StepDown(Action):
    why: str


@dataclass(frozen=True, slots=True)
class Resign(Action):
    """To the election: somebody is ahead, the lead has to be taken anew."""

    why: str


@dataclass(frozen=True, slots=True)
class ReadHead(Action):
    """hub: from where it is written; otherwise from the nearest mirror, which may lag."""

    hub: bool
    asked_ms: int


@dataclass(frozen=True, slots=True)
class WriteHead(Write):
    generation: int


@dataclass(frozen=True, slots=True)
class Announce(Say):
    """To all of the shard."""


@dataclass(frozen=True, slots=True)
class Tell(Say):
    """A `have`, to whoever leads."""


@dataclass(frozen=True, slots=True)
class PutBlobs(Action):
    """All chunks, each acknowledged by the store."""

    content: Content


@dataclass(frozen=True, slots=True)
class Build(Action):
    """The planner reads the inventory and builds a table."""


@dataclass(frozen=True, slots=True)
class KeepMark(Action):
    """To disk and synced, before anything after it: the newest head that was accepted, as it was signed."""

    mark: Mark
    head: bytes


@dataclass(frozen=True, slots=True)
class ReadBlob(Action):
    blob: Blob
    hub: bool


@dataclass(frozen=True, slots=True)
class CheckTable(Action):
    """Layout, checksums, index, rows' digest and the guards, as for a table of our own."""

    content: Content


@dataclass(frozen=True, slots=True)
class Serve(Action):
    """The workers adopt it, and the disk keeps it."""

    content: Content


@dataclass(frozen=True, slots=True)
class ReadInventory(Action):
    """By ourselves and for this machine alone: there is no table, and nobody to give one."""


@dataclass(frozen=True, slots=True)
class PassOn(Say):
    """A `seen`, to whoever leads."""


@dataclass(frozen=True, slots=True)
class Journal(Action):
    """On the leader's disk and in the bucket, synced; after that the decision hears of it."""

    key: tuple[str, bytes, int]  # host, spool, number
    what: bytes


@dataclass(frozen=True, slots=True)
class Confirm(Say):
    """A `journaled`, to the host that it is from."""

    host: str


@dataclass(frozen=True, slots=True)
class AskLeader(Say):
    """A `look-up`, to whoever leads."""


@dataclass(frozen=True, slots=True)
class Learnt(Action):
    """What became of a look-up that this machine asked for: the leader's answer, or a fault in its place."""

    said: LookedUp


@dataclass(frozen=True, slots=True)
class LookInto(Action):
    """The leader's planner asks the inventory for these.  number: comes back with the answer."""

    number: int
    macs: tuple[bytes, ...]
    names: tuple[str, ...]
    asked: bool


@dataclass(frozen=True, slots=True)
class Answer(Say):
    """A `looked-up`, to the host that asked."""

    host: str


Actions = tuple[Action, ...]
