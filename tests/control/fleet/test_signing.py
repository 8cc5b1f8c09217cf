"""Whose signature counts, and that a blob is what its hash says."""

from __future__ import annotations

import pytest

from control.fleet.blobs import Assembly, blob_of, chunks, subject
from control.fleet.signing import Ed25519Keys, Ed25519Signer, opened, sealed
from control.fleet.wire import Reason, Refused, packed

OURS, STRANGER = Ed25519Signer(b"o" * 32), Ed25519Signer(b"s" * 32)
KEYS = Ed25519Keys([OURS.public])
DATA = bytes(range(256)) * 4


def why(raw: bytes, most: int = 4096) -> Reason:
    with pytest.raises(Refused) as fault:
        opened(raw, KEYS, most)
    return fault.value.reason


def test_what_was_signed_is_read() -> None:
    assert opened(sealed(b"body", OURS), KEYS, 4096) == b"body"


def test_several_keys_are_trusted_while_one_is_exchanged() -> None:
    keys = Ed25519Keys([OURS.public, STRANGER.public])
    assert opened(sealed(b"body", STRANGER), keys, 4096) == opened(sealed(b"body", OURS), keys, 4096)


def test_nothing_else_is() -> None:
    raw = sealed(b"body", OURS)
    assert why(sealed(b"body", STRANGER)) is Reason.UNKNOWN_KEY
    assert why(packed([b"bodY", OURS.key_id, OURS.sign(b"body")])) is Reason.WRONG_SIGNATURE
    assert why(packed([b"body", OURS.key_id, STRANGER.sign(b"body")])) is Reason.WRONG_SIGNATURE
    assert why(packed([b"body", OURS.key_id, OURS._key.sign(b"body")])) is Reason.WRONG_SIGNATURE
    assert why(packed([b"body", OURS.key_id, b"short"])) is Reason.WRONG_FIELD
    assert why(packed([b"body", 7, OURS.sign(b"body")])) is Reason.WRONG_FIELD
    assert why(packed([b"body", OURS.key_id])) is Reason.NOT_A_RECORD
    assert why(packed({"body": 1})) is Reason.NOT_A_RECORD
    assert why(raw, len(raw) - 1) is Reason.TOO_LONG
    for at in range(len(raw)):
        with pytest.raises(Refused):
            opened(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :], KEYS, 4096)


def test_a_blob_comes_together_from_its_chunks() -> None:
    blob, assembly = blob_of(DATA, 100), Assembly(blob_of(DATA, 100))
    parts = list(chunks(DATA, 100))
    assert (blob.size, blob.chunks) == (1024, 11)
    assert [assembly.take(part) for part in parts] == [False] * 10 + [True]
    assert subject("dc1", blob, 3) == f"fleet.dc1.blob.{blob.sha256.hex()}.3"


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([DATA[:100], DATA[200:300], DATA[100:200], *chunks(DATA[300:], 100)], id="exchanged"),
        pytest.param([DATA[:100], *chunks(DATA[100:-1], 100)], id="cut"),
        pytest.param([*chunks(DATA[:-1] + b"?", 100)], id="flipped"),
        pytest.param([DATA + b"?"], id="too much in one"),
        pytest.param([*chunks(DATA, 90)], id="one too many"),
    ],
)
def test_other_bytes_are_refused(parts: list[bytes]) -> None:
    assembly = Assembly(blob_of(DATA, 100))
    with pytest.raises(Refused) as fault:
        for part in parts:
            assembly.take(part)
    assert fault.value.reason is Reason.BLOB_WRONG


@pytest.mark.parametrize("shard", ["", "a.b", "dc*", "dc>", "ä", "x" * 33])
def test_a_shard_that_is_no_word_of_a_subject_is_refused(shard: str) -> None:
    with pytest.raises(ValueError, match="wanted 1 to 32"):
        subject(shard, blob_of(b""), 0)
