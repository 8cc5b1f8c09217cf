"""Tables in the store: a base or delta is chunks under subjects of their own, and its name is its SHA-256.

No object store, no meta message: a chunk is read by its subject, and the whole is believed by its hash alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256
from typing import Final

from control.fleet.messages import Blob
from control.fleet.wire import Reason, Refused

CHUNK_BYTES: Final = 128 << 10  # below the engine's 1 MB with room, and few enough for a direct get each
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")  # of a subject: no dot, no wildcard


def subject(shard: str, blob: Blob, number: int) -> str:
    """Raises ValueError for a shard that cannot stand in a subject."""
    if not _TOKEN.fullmatch(shard):
        raise ValueError(f"shard {shard!r:.40}: wanted 1 to 32 of A-Z a-z 0-9 _ -")
    return f"fleet.{shard}.blob.{blob.sha256.hex()}.{number}"


def blob_of(data: bytes | memoryview, chunk_bytes: int = CHUNK_BYTES) -> Blob:
    return Blob(sha256(data).digest(), len(data), -(-len(data) // chunk_bytes))


def chunks(data: bytes | memoryview, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes | memoryview]:
    return (data[start : start + chunk_bytes] for start in range(0, len(data), chunk_bytes))


class Assembly:
    """Chunks in their order, hashed as they come; the caller writes each into its memfd after take() accepted it."""

    def __init__(self, blob: Blob) -> None:
        self.blob = blob
        self.taken = self.size = 0
        self._hash = sha256()

    def take(self, chunk: bytes | memoryview) -> bool:
        """True with the last one.  Raises Refused when these are not the bytes that the head names."""
        self.taken += 1
        self.size += len(chunk)
        self._hash.update(chunk)
        if self.size > self.blob.size or self.taken > self.blob.chunks:
            raise Refused(Reason.BLOB_WRONG, f"{self.size} bytes and more, wanted {self.blob.size}")
        if self.taken < self.blob.chunks:
            return False
        if self.size != self.blob.size:
            raise Refused(Reason.BLOB_WRONG, f"{self.size} bytes, wanted {self.blob.size}")
        if self._hash.digest() != self.blob.sha256:
            raise Refused(Reason.BLOB_WRONG, f"sha256 {self._hash.hexdigest()}, wanted {self.blob.sha256.hex()}")
        return True
