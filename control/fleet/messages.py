"""What travels between the responders of a shard: its messages, each with the checks that reading it makes.

A message is a msgpack map with the version and its kind.  Fields that this build does not know are ignored, so that a
later one may add some; a field that is missing, or says what cannot be, is a refusal with a name (wire.Reason).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeVar

from control.fleet.wire import (
    COUNT_MAX,
    TEXT_BYTES_MAX,
    Check,
    Reason,
    Refused,
    fixed,
    flag,
    maybe,
    octets,
    packed,
    several,
    text,
    unpacked,
    whole,
)  # fmt: skip

VERSION: Final = 1
SHA256_BYTES: Final = 32
SESSION_BYTES: Final = 16
SPOOL_BYTES: Final = 8
BLOB_BYTES_MAX: Final = 1 << 34
CHUNKS_MAX: Final = 1 << 20
HOST_BYTES_MAX: Final = 64  # a machine's name
VERSION_BYTES_MAX: Final = 64
CANARIES_MAX: Final = 16
KEPT_MAX: Final = 3  # tables before the present one: four to roll back between
HEAD_BYTES_MAX: Final = 4096  # sealed; one of a few canaries has less than 1 kB
SEEN_BYTES_MAX: Final = 2048
NUMBERS_MAX: Final = 256
MAC_BYTES: Final = 6
MACS_MAX: Final = 16  # in one look-up
NAMES_MAX: Final = 16
COUNTS: Final = 5
Message = TypeVar("Message")


class Mark(NamedTuple):
    """A head's place in the order of all: the epoch (incarnation of the fleet, revision of the lease at which its
    leader took the lead), and the generation in it."""

    incarnation: int
    revision: int
    generation: int

    @property
    def epoch(self) -> tuple[int, int]:
        return self.incarnation, self.revision


NOWHERE: Final = Mark(0, 0, 0)  # before every head; in an announcement: tell me what you have


class Blob(NamedTuple):
    """A sealed base or delta, in the store by chunks."""

    sha256: bytes
    size: int
    chunks: int


class Content(NamedTuple):
    """One table.  layout: of base and delta; digest: of its rows, the same on every machine; rules: digest of what in
    services.conf changes rows."""

    layout: int
    digest: bytes
    hosts: int
    rules: bytes
    base: Blob
    delta: Blob | None

    @property
    def blobs(self) -> tuple[Blob, ...]:
        return (self.base,) if self.delta is None else (self.base, self.delta)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The one key that says what a shard serves.  stable: everybody; trial: the canaries alone, until it is promoted to
    stable or dropped.  failed: digest of the last trial that was dropped.  held: nobody changes its table.  pinned: no
    newer table is published, after a rollback.  orders: how many of operators it has seen.  kept: tables before stable,
    the latest first."""

    shard: str
    mark: Mark
    leader: str
    created_s: int
    stable: Content
    trial: Content | None = None
    canary: tuple[str, ...] = ()
    failed: bytes = b""
    held: bool = False
    pinned: bool = False
    orders: int = 0
    kept: tuple[Content, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who leads; without a holder it is free.  session: of one process of the holder; beat: anew with every write."""

    holder: str
    session: bytes
    beat: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """There is a head: a hint to read it, never the head itself."""

    shard: str
    mark: Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Have:
    """What a responder is at.  mark: the newest head that it accepted; proof: that head as it was signed, so that a
    leader believes the mark; serves: digest of its table, or nothing; refused: why it does not serve what it should;
    bad: digest of the table that its own checks refused.  For who looks at the fleet, and for no decision: adopted,
    digest of the table that all of its workers answer from; age_s, since the inventory confirmed that, None where it is
    not known; version, of its build."""

    shard: str
    host: str
    mark: Mark
    serves: bytes
    refused: str
    served_s: int  # for how long its workers have served this table, since they or the service were started
    restarts: int  # of its workers in that time
    abandoned: int  # requests that ended three workers in that time
    proof: bytes
    bad: bytes = b""
    adopted: bytes = b""
    requests_s: int = 0
    replies_s: int = 0
    age_s: int | None = None
    version: str = ""


class Verb(StrEnum):
    HOLD = "hold"
    RELEASE = "release"  # of a hold or a rollback; a trial that was dropped may be made again
    PROMOTE = "promote"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An operator's, signed with an operator's key.  number: one more than the head has seen, so that none counts
    twice; digest: the table that is promoted, or gone back to."""

    shard: str
    number: int
    verb: Verb
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A trap or sighting on its way to the leader's journal.  spool: of which file of that host, since a new one counts
    from 1 again."""

    host: str
    spool: bytes
    number: int
    what: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Journaled:
    """The leader's journal has these: the host may forget them."""

    host: str
    spool: bytes
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LookUp:
    """What a follower wants the inventory asked for: MACs of strangers, names of objects.  session: of one process of
    that host, whose requests are numbered; asked: by a person, or by discovery after a registration."""

    shard: str
    host: str
    session: bytes
    number: int
    macs: tuple[bytes, ...]
    names: tuple[str, ...]
    asked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedUp:
    """The leader's answer to that host.  missing: of the MACs and names those that the inventory does not have; digest:
    of the table that the leader has made by then, or nothing; counts: of the hosts in it, and of those that it has
    added, changed, removed and quarantined; fault: why the inventory was not asked, or did not answer."""

    host: str
    session: bytes
    number: int
    missing: tuple[bytes, ...] = ()
    missing_names: tuple[str, ...] = ()
    digest: bytes = b""
    counts: tuple[int, ...] = ()
    fault: str = ""


def verb_of(value: Any) -> Verb:
    try:
        return Verb(text()(value))
    except ValueError as unknown:
        raise Refused(Reason.WRONG_FIELD, f"{value!r:.40}, wanted {', '.join(Verb)}") from unknown


_name = text(HOST_BYTES_MAX, 1)
_count = whole()
_sha = octets(SHA256_BYTES, SHA256_BYTES)
_sha_or_none = octets(SHA256_BYTES)
mark_check: Final = fixed(Mark, _count, _count, _count)
_blob = fixed(Blob, _sha, whole(BLOB_BYTES_MAX), whole(CHUNKS_MAX))
content_check: Final = fixed(Content, whole(1 << 16), _sha, _count, _sha_or_none, _blob, maybe(_blob))
_spool = octets(SPOOL_BYTES, SPOOL_BYTES)
_session = octets(SESSION_BYTES, SESSION_BYTES)
_macs = several(octets(MAC_BYTES, MAC_BYTES), MACS_MAX)
_names = several(text(TEXT_BYTES_MAX, 1), NAMES_MAX)

# Message -> its kind, its length at most, its fields.
_SHAPES: Final[dict[type, tuple[str, int, dict[str, Check]]]] = {
    Head: ("head", HEAD_BYTES_MAX, {
        "shard": _name, "mark": mark_check, "leader": _name, "created_s": _count, "stable": content_check,
        "trial": maybe(content_check), "canary": several(_name, CANARIES_MAX), "failed": _sha_or_none, "held": flag,
        "pinned": flag, "orders": _count, "kept": several(content_check, KEPT_MAX),
    }),
    Lease: ("lease", 512, {
        "holder": text(HOST_BYTES_MAX), "session": _session, "beat": _count,
    }),
    Announcement: ("announcement", 512, {"shard": _name, "mark": mark_check}),
    Have: ("have", HEAD_BYTES_MAX + 1024, {
        "shard": _name, "host": _name, "mark": mark_check, "serves": _sha_or_none, "refused": text(),
        "served_s": _count, "restarts": _count, "abandoned": _count, "proof": octets(HEAD_BYTES_MAX),
        "bad": _sha_or_none, "adopted": _sha_or_none, "requests_s": _count, "replies_s": _count,
        "age_s": maybe(_count), "version": text(VERSION_BYTES_MAX),
    }),
    Order: ("order", 512, {"shard": _name, "number": whole(COUNT_MAX, 1), "verb": verb_of, "digest": _sha_or_none}),
    Seen: ("seen", SEEN_BYTES_MAX + 256, {
        "host": _name, "spool": _spool, "number": _count, "what": octets(SEEN_BYTES_MAX),
    }),
    Journaled: ("journaled", 4096, {"host": _name, "spool": _spool, "numbers": several(_count, NUMBERS_MAX)}),
    LookUp: ("look-up", 6144, {
        "shard": _name, "host": _name, "session": _session, "number": _count, "macs": _macs, "names": _names,
        "asked": flag,
    }),
    LookedUp: ("looked-up", 6144, {
        "host": _name, "session": _session, "number": _count, "missing": _macs, "missing_names": _names,
        "digest": _sha_or_none, "counts": several(_count, COUNTS), "fault": text(),
    }),
}  # fmt: skip


def encode(message: object) -> bytes:
    kind, _most, fields = _SHAPES[type(message)]
    return packed({"v": VERSION, "kind": kind, **{name: getattr(message, name) for name in fields}})


def kind_of(raw: bytes) -> type | None:
    """Which message it says that it is; its fields are not looked at."""
    try:
        found = unpacked(raw, max(most for _kind, most, _fields in _SHAPES.values()))
    except Refused:
        return None
    said = found.get("kind") if type(found) is dict else None
    return next((made for made, (kind, _most, _fields) in _SHAPES.items() if kind == said), None)


def decode(wanted: type[Message], raw: bytes) -> Message:
    """Raises Refused."""
    kind, most, fields = _SHAPES[wanted]
    found = unpacked(raw, most)
    if type(found) is not dict:
        raise Refused(Reason.NOT_A_RECORD, f"{type(found).__name__}, wanted a map")
    if found.get("v") != VERSION or type(found["v"]) is not int:
        raise Refused(Reason.UNKNOWN_VERSION, f"{found.get('v')!r:.40}, this build reads {VERSION}")
    if found.get("kind") != kind:
        raise Refused(Reason.OTHER_KIND, f"{found.get('kind')!r:.40}, wanted {kind}")
    values = {}
    for name, check in fields.items():
        if name not in found:
            raise Refused(Reason.MISSING_FIELD, f"{kind}.{name}")
        try:
            values[name] = check(found[name])
        except Refused as fault:
            raise Refused(fault.reason, f"{kind}.{name}: {fault}") from fault
    return wanted(**values)
