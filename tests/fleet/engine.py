"""JetStream as the fleet uses it: keys with revisions and compare-and-set, chunks by subject, mirrors that lag.

What was measured of the real one is in it: revisions begin anew when the store was wiped; a mirror may be late by 16 s
and may lack single messages for good, while the hub has them; a store may come back as it was before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from control.fleet.messages import Blob


@dataclass(slots=True)
class Engine:
    wrote_head: Callable[[bytes], None]  # for every head that is accepted
    up: bool = True
    revision: int = 0
    keys: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    chunks: dict[tuple[bytes, int], tuple[bytes, int]] = field(default_factory=dict)  # with the time of the put
    past: list[tuple[int, bytes | None, int]] = field(default_factory=list)  # of the head, for the mirrors
    saved: tuple[int, dict[str, tuple[bytes, int]], dict[tuple[bytes, int], tuple[bytes, int]]] | None = None
    wipes: int = 0
    restoring: int = 0  # which restoration is under way, counted; 0 for none

    def read(self, key: str) -> tuple[bytes | None, int]:
        return self.keys.get(key, (None, 0))

    def mirrored_head(self, now: int, lag: int) -> tuple[bytes | None, int]:
        for time, value, revision in reversed(self.past):
            if time <= now - lag:
                return value, revision
        return None, 0

    def write(self, key: str, value: bytes, last: int | None, now: int) -> int:
        """The new revision; 0 where the key's is not `last`.  last: None for a put without compare-and-set."""
        if last is not None and self.read(key)[1] != last:
            return 0
        self.revision += 1
        self.keys[key] = value, self.revision
        if key == "head":
            self.past.append((now, value, self.revision))
            self.wrote_head(value)
        return self.revision

    def put(self, blob: Blob, number: int, chunk: bytes, now: int) -> None:
        self.chunks[blob.sha256, number] = chunk, now

    def chunk(self, blob: Blob, number: int, now: int, lag: int) -> bytes | None:
        found = self.chunks.get((blob.sha256, number))
        return found[0] if found and (not lag or found[1] <= now - lag) else None

    def save(self) -> None:
        self.saved = self.revision, dict(self.keys), dict(self.chunks)

    def restore(self, now: int) -> None:
        if self.saved is not None:
            self.revision, self.keys, self.chunks = self.saved[0], dict(self.saved[1]), dict(self.saved[2])
            self.wipes += 1
            self.past.append((now, *self.read("head")))

    def wipe(self, now: int) -> None:
        self.revision, self.keys, self.chunks = 0, {}, {}
        self.wipes += 1
        self.past.append((now, None, 0))
