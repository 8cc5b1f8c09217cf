"""What a member of the fleet keeps over restarts: the newest head that it accepted, and the table that it serves by it.

`fleet-state` is one msgpack record, written aside, synced and renamed.  `fleet-delta` is the delta as the store has it:
the table on disk has one of this machine's own in its place.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from control.fleet.messages import HEAD_BYTES_MAX, NOWHERE, Blob, Content, Mark, content_check, mark_check
from control.fleet.process.tables import blob_behind
from control.fleet.wire import Refused, fixed, maybe, octets, packed, text, unpacked
from control.table.file import sealed_copy, write_aside
from fastpath.protocol import memfd

log = logging.getLogger("bootstorm.fleet")

STATE_FILE: Final = "fleet-state"
DELTA_FILE: Final = "fleet-delta"
_VERSION: Final = 1
_BYTES_MAX: Final = HEAD_BYTES_MAX + 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """head: as it was signed, or nothing.  serves: the fleet's table in the workers."""

    shard: str
    mark: Mark = NOWHERE
    head: bytes = b""
    serves: Content | None = None


_record = fixed(
    lambda version, shard, mark, head, serves: Kept(shard=shard, mark=mark, head=head, serves=serves),
    octets(1, 1), text(), mark_check, octets(HEAD_BYTES_MAX), maybe(content_check),
)  # fmt: skip


class Disk:
    def __init__(self, state_dir: Path, shard: str) -> None:
        self.state_dir = state_dir
        self.path = state_dir / STATE_FILE
        self.kept = Kept(shard=shard)

    def load(self) -> Kept:
        """What is there of this shard; as on a new machine where that is nothing that can be read."""
        try:
            raw = self.path.read_bytes()
            found = _record(unpacked(raw, _BYTES_MAX))
        except FileNotFoundError:
            return self.kept
        except (OSError, Refused) as fault:
            log.error("%s cannot be used: %s; this machine starts as a new one of its fleet", self.path, fault)
            return self.kept
        if found.shard != self.kept.shard:
            log.warning("%s is of shard %s; this machine is new to %s", self.path, found.shard, self.kept.shard)
            return self.kept
        self.kept = found
        return self.kept

    def keep(self, kept: Kept) -> None:
        """Synced when it returns.  Raises OSError: then what was kept before still is."""
        record = [bytes([_VERSION]), kept.shard, kept.mark, kept.head, kept.serves]
        with memfd("bootstorm-fleet-state", packed(record)) as fd:
            write_aside(self.path, fd)
        self.kept = kept

    def keep_delta(self, fd: int) -> None:
        """Raises OSError."""
        write_aside(self.state_dir / DELTA_FILE, fd)

    def delta(self, wanted: Blob) -> int | None:
        """A sealed memfd with the delta that was kept, if it is that one; the caller owns it."""
        try:
            fd = sealed_copy(self.state_dir / DELTA_FILE)
        except OSError:
            return None
        if os.fstat(fd).st_size == wanted.size and blob_behind(fd) == wanted:
            return fd
        os.close(fd)
        return None
