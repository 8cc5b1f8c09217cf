"""Tables of the simulated site: made from a version of the inventory, with a digest that they say of themselves.

As with the real ones, whoever builds a table writes its digest into it: against another's table that is whole in itself
only the hash of the blob helps.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

import msgpack

from control.fleet.blobs import blob_of, chunks
from control.fleet.messages import Content

LAYOUT = 6
CHUNK_BYTES = 48


@dataclass(frozen=True, slots=True)
class Table:
    version: int
    base: int  # the version that the base is of
    poison: bool  # it kills workers
    content: Content
    data: dict[bytes, bytes]  # blob's hash -> its bytes

    @property
    def digest(self) -> bytes:
        return self.content.digest


def table(version: int, base: int, poison: bool = False) -> Table:
    digest = sha256(b"rows of %d" % version).digest()
    base_data: bytes = msgpack.packb(["base", base, digest if version == base else b"", "hosts " * 8])
    blob = blob_of(base_data, CHUNK_BYTES)
    data = {blob.sha256: base_data}
    delta = None
    if version != base:
        delta_data: bytes = msgpack.packb(["delta", version, digest])
        delta = blob_of(delta_data, CHUNK_BYTES)
        data[delta.sha256] = delta_data
    content = Content(LAYOUT, digest, 10_000 + version, b"rules", blob, delta)
    return Table(version, base, poison, content, data)


def evil(content: Content) -> bytes:
    """Bytes in the place of a blob of that content that are whole in themselves and say that they are it."""
    made: bytes = msgpack.packb(["evil", 666, content.digest])
    return made


def is_whole(content: Content, data: dict[bytes, bytes]) -> bool:
    """What a machine can check of a table alone: that it is a table, and says that it is this one."""
    last = content.delta or content.base
    try:
        kind, _version, digest = msgpack.unpackb(data[last.sha256])[:3]
    except (KeyError, ValueError, TypeError):
        return False
    return isinstance(kind, str) and digest == content.digest


def split(data: bytes) -> list[bytes]:
    return [bytes(chunk) for chunk in chunks(data, CHUNK_BYTES)]
