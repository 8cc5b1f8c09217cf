"""Rows that are served otherwise than the table on disk says, since the disk did not take the change.

Whoever starts from that table is silent about them until the inventory has said what they are: its word about them is
known to be wrong.  The planner writes the file while there is room, so that it can be written over when there is none.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

FILE: Final = "table.unsaved"  # in dhcp.state_dir
ROWS_MAX: Final = 1 << 17  # 1 MiB
TOO_MANY: Final = 0xFFFFFFFF
MAGIC: Final = b"bootstorm rows 1\n"
HEAD: Final = struct.Struct("<17s64sII")  # magic, name of the table, rows or TOO_MANY, checksum of name and rows
BYTES: Final = HEAD.size + 8 * ROWS_MAX


@dataclass(frozen=True, slots=True)
class Unsaved:
    """table: fastpath.process.table_proof.name_of() the one on disk, of its delta where it has one; keys: of rows
    (ext.table.row_key), None: more than ROWS_MAX."""

    table: str
    keys: Sequence[int] | None

    def words(self) -> str:
        many = f"more than {ROWS_MAX:,}" if self.keys is None else f"{len(self.keys):,}"
        return f"{many} of its rows had changed when the disk did not take a table any more"


def make_room(path: str) -> None:
    """A file that says nothing; one of another size or kind makes way.  Raises OSError."""
    try:
        found = os.lstat(path)
        if stat.S_ISREG(found.st_mode) and found.st_size == BYTES:
            return
        os.unlink(path)
    except FileNotFoundError:
        pass
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        write_at(fd, bytes(BYTES), 0)
        os.fsync(fd)
    except OSError:
        os.unlink(path)  # one that is too short could not be written over
        raise
    finally:
        os.close(fd)


def has_room(path: str) -> bool:
    """Raises OSError."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == BYTES


def note(path: str, table: str, keys: Iterable[int] | None) -> None:
    """In the room that is there.  keys: None: of all rows.  Whenever this is broken off, it says all rows or these.

    Raises OSError, FileNotFoundError where no room is."""
    packed = array("Q", keys) if keys is not None else None
    name = table.encode("ascii")
    fd = opened(path)
    try:
        write_at(fd, HEAD.pack(MAGIC, name, TOO_MANY, zlib.crc32(name)), 0)
        os.fdatasync(fd)
        if packed is not None and len(packed) <= ROWS_MAX:
            content = packed.tobytes()
            write_at(fd, content, HEAD.size)
            os.fdatasync(fd)
            write_at(fd, HEAD.pack(MAGIC, name, len(packed), zlib.crc32(name + content)), 0)
            os.fdatasync(fd)
    finally:
        os.close(fd)


def clear(path: str) -> None:
    """The disk has all that is served.  Raises OSError."""
    fd = opened(path)
    try:
        write_at(fd, bytes(HEAD.size), 0)
        os.fdatasync(fd)
    finally:
        os.close(fd)


def opened(path: str) -> int:
    """For writing, and not for ever where somebody has put a pipe there."""
    return os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def read(path: str) -> Unsaved | None:
    """None: nothing is noted, or there is no beginning of a note.  Raises OSError; ValueError for a damaged note."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        head = os.pread(fd, HEAD.size, 0)
        if not head.startswith(MAGIC) or len(head) != HEAD.size:
            return None
        _magic, name, many, checksum = HEAD.unpack(head)
        if many > ROWS_MAX and many != TOO_MANY:
            raise ValueError(f"it is damaged: {many} rows, and at most {ROWS_MAX} have room")
        content = os.pread(fd, 8 * many, HEAD.size) if many != TOO_MANY else b""
    finally:
        os.close(fd)
    if zlib.crc32(name + content) != checksum or (many != TOO_MANY and len(content) != 8 * many):
        raise ValueError("it is damaged: its checksum is wrong")
    return Unsaved(name.decode("ascii", "replace"), None if many == TOO_MANY else array("Q", content))


def write_at(fd: int, content: bytes, at: int) -> None:
    done = 0
    while done < len(content):
        done += os.pwrite(fd, content[done:], at + done)
