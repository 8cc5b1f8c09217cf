"""Tables as blobs: from descriptors to what a head says of them, and back."""

from __future__ import annotations

import fcntl
import json
import mmap
import os
from collections.abc import Iterator, Mapping
from hashlib import sha256

from ext.table import TABLE_LAYOUT, Generation, Pair, compare, new_memfd

from control.config.config import Config
from control.fleet.blobs import CHUNK_BYTES
from control.fleet.messages import Blob, Content
from control.table.digest import rows_digest
from control.table.file import SEALS

# Keys of section dhcp that decide what rows say; the others are each machine's own.
RULES = ("update_ipmi", "extra_options", "boot_ports", "bmc_rules", "classes", "ipmi_port_name")


def rules_digest(config: Config) -> bytes:
    said = {name: repr(getattr(config.dhcp, name)) for name in RULES}
    return sha256(json.dumps(said, sort_keys=True).encode()).digest()


def pair_of(fds: list[int]) -> Pair:
    """Of base (and delta).  Raises TableInvalid."""
    return Pair(Generation(fds[0]), Generation(fds[1]) if len(fds) > 1 else None)


def blob_behind(fd: int) -> Blob:
    size = os.fstat(fd).st_size
    with mmap.mmap(fd, size, prot=mmap.PROT_READ) as view:
        return Blob(sha256(view).digest(), size, -(-size // CHUNK_BYTES))


def chunks_of(fd: int) -> Iterator[bytes]:
    at = 0
    while chunk := os.pread(fd, CHUNK_BYTES, at):
        yield chunk
        at += len(chunk)


def content_of(fds: list[int], rules: bytes) -> tuple[Content, Pair]:
    """Raises TableInvalid."""
    pair = pair_of(fds)
    base, *delta = [blob_behind(fd) for fd in fds]
    digest = rows_digest(pair)
    return Content(TABLE_LAYOUT, digest, pair.top.host_count, rules, base, delta[0] if delta else None), pair


def changed_hosts(before: Pair | None, after: Pair) -> int:
    """Rows in which they differ; all of them where it is not known."""
    changes = compare(before, after)
    return len(changes)


def new_table() -> int:
    """An empty memfd, to be sealed once it has its bytes."""
    fd: int = new_memfd("bootstorm-fleet")
    return fd


def seal(fd: int) -> None:
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)


def fds_of(content: Content, blobs: Mapping[bytes, int]) -> list[int] | None:
    """Borrowed; None where one is not here."""
    found = [blobs.get(blob.sha256) for blob in content.blobs]
    return [fd for fd in found if fd is not None] if None not in found else None
