"""What comes over the wire, also from who means harm: each message as it was, everything else refused by name."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.fleet.messages import (
    HEAD_BYTES_MAX,
    NOWHERE,
    SHA256_BYTES,
    VERSION,
    Announcement,
    Blob,
    Content,
    Have,
    Head,
    Journaled,
    Lease,
    LookedUp,
    LookUp,
    Mark,
    Order,
    Seen,
    Verb,
    decode,
    encode,
    kind_of,
)  # fmt: skip
from control.fleet.signing import Ed25519Signer, sealed
from control.fleet.wire import Reason, Refused, unpacked

BLOB = Blob(b"b" * SHA256_BYTES, 20 << 20, 160)
CONTENT = Content(6, b"d" * SHA256_BYTES, 100_000, b"rules", BLOB, Blob(b"e" * SHA256_BYTES, 4_000, 1))
MARK = Mark(1_800_000_000, 12, 345)
HEAD = Head(
    shard="dc1", mark=MARK, leader="dhcp1.example.org", created_s=1_800_000_000, stable=CONTENT, trial=CONTENT,
    canary=("dhcp1.example.org", "dhcp2.example.org"), kept=(CONTENT, CONTENT, CONTENT),
)  # fmt: skip
MESSAGES = (
    HEAD,
    replace(HEAD, trial=None, canary=(), stable=CONTENT._replace(delta=None), kept=()),
    Lease(holder="dhcp1", session=b"s" * 16, beat=7),
    Lease(holder="", session=b"s" * 16, beat=0),
    Announcement(shard="dc1", mark=NOWHERE),
    Have(
        shard="dc1",
        host="dhcp1",
        mark=MARK,
        serves=b"d" * 32,
        refused="",
        served_s=9,
        restarts=1,
        abandoned=2,
        proof=b"p" * 700,
    ),
    Order(shard="dc1", number=1, verb=Verb.ROLLBACK, digest=b"d" * 32),
    Seen(host="dhcp1", spool=b"12345678", number=1, what=b"trap"),
    Journaled(host="dhcp1", spool=b"12345678", numbers=(1, 2, 3)),
    LookUp(
        shard="dc1", host="dhcp1", session=b"s" * 16, number=4, macs=(b"\x02" * 6,) * 16, names=("host1",), asked=False
    ),
    LookedUp(
        host="dhcp1",
        session=b"s" * 16,
        number=4,
        missing=(b"\x02" * 6,),
        missing_names=("host1",),
        digest=b"d" * 32,
        counts=(9, 1, 0, 0, 0),
        fault="why",
    ),
)


def record(message: Any, **changes: Any) -> bytes:
    """Its map with other values; an ellipsis takes the field out."""
    found = msgpack.unpackb(encode(message), raw=False) | changes
    packed: bytes = msgpack.packb({name: value for name, value in found.items() if value is not ...})
    return packed


def refused(kind: type[Any], raw: bytes) -> Reason:
    with pytest.raises(Refused) as fault:
        decode(kind, raw)
    return fault.value.reason


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_each_is_read_as_it_was(message: Any) -> None:
    assert decode(type(message), encode(message)) == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_what_a_later_build_adds_is_ignored(message: Any) -> None:
    assert decode(type(message), record(message, later="?")) == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_no_field_may_be_missing_or_of_another_type(message: Any) -> None:
    kind = type(message)
    for field in fields(message):
        assert refused(kind, record(message, **{field.name: ...})) is Reason.MISSING_FIELD
        for odd in (-1, 1 << 60, 1.5, {"a": 1}, [[[[]]]], "\x1b[2J", "x" * 5_000, b"x" * 5_000, [1] * 5_000):
            assert refused(kind, record(message, **{field.name: odd})) in (Reason.WRONG_FIELD, Reason.TOO_LONG)
    assert refused(kind, record(message, v=VERSION + 1)) is Reason.UNKNOWN_VERSION
    assert refused(kind, record(message, v=True)) is Reason.UNKNOWN_VERSION
    assert refused(kind, record(message, kind="other")) is Reason.OTHER_KIND


@pytest.mark.parametrize(
    "field, value",
    [
        ("mark", [1, 2]), ("mark", [1, 2, True]), ("mark", [1, 2, 3, 4, 5, 6, 7]), ("mark", [1, 2, -3]),
        ("held", 1), ("orders", True), ("canary", ["", ]), ("canary", ["x"] * 17), ("kept", [[]]), ("leader", ""),
        ("stable", [6, b"short", 1, b"", [b"b" * 32, 1, 1], None]), ("shard", b"dc1"), ("leader", "a\nb"),
        ("stable", [6, b"d" * 32, 1, b"", [b"b" * 32, 1 << 40, 1], None]),
    ],
)  # fmt: skip
def test_a_head_s_fields_have_bounds(field: str, value: Any) -> None:
    assert refused(Head, record(HEAD, **{field: value})) is Reason.WRONG_FIELD


@pytest.mark.parametrize(
    "raw, reason",
    [
        (b"", Reason.NOT_MSGPACK), (b"\xc1", Reason.NOT_MSGPACK), (b"\x01\x01", Reason.NOT_MSGPACK),
        (b"\xdd\xff\xff\xff\xff", Reason.NOT_MSGPACK), (b"\x91" * 5_000 + b"\x01", Reason.NOT_MSGPACK),
        (b"\x81\x90\x01", Reason.NOT_MSGPACK), (b"\xd6\xff\x00\x00\x00\x01", Reason.NOT_MSGPACK),
        (b"\xd9\x02\xff\xfe", Reason.NOT_MSGPACK), (b"\xc4\xff", Reason.NOT_MSGPACK), (b"x" * 9_000, Reason.TOO_LONG),
    ],
)  # fmt: skip
def test_what_is_no_message_is_refused(raw: bytes, reason: Reason) -> None:
    with pytest.raises(Refused) as fault:
        unpacked(raw, 8_000)
    assert fault.value.reason is reason


@pytest.mark.property
@given(st.binary(max_size=300) | st.recursive(st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) |
       st.binary(max_size=40) | st.text(max_size=20), lambda some: st.lists(some, max_size=8) |
       st.dictionaries(st.text(max_size=8), some, max_size=8), max_leaves=20).map(msgpack.packb))  # fmt: skip
def test_whatever_comes_is_a_message_or_refused(raw: bytes) -> None:
    for kind in {type(message) for message in MESSAGES}:
        with pytest.raises(Refused):
            decode(kind, raw)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_the_kind_is_told_before_it_is_read(message: Any) -> None:
    assert kind_of(encode(message)) is type(message)
    assert kind_of(record(message, kind="other")) is None and kind_of(record(message, kind=[1])) is None


@pytest.mark.parametrize("raw", [b"", b"\xc1", b"\x01", b"\x90", b"\x80", b"x" * 9_000])
def test_what_is_no_message_has_no_kind(raw: bytes) -> None:
    assert kind_of(raw) is None


def test_a_head_of_a_few_canaries_is_short() -> None:
    assert len(sealed(encode(HEAD), Ed25519Signer(b"s" * 32))) < 1_000
    most = replace(HEAD, leader="l" * 64, shard="s" * 64, canary=tuple(f"{n:064}" for n in range(16)))
    assert len(sealed(encode(most), Ed25519Signer(b"s" * 32))) < HEAD_BYTES_MAX
