"""`fleet-spool`: what this machine saw and the leader's journal has not confirmed, on disk before it is passed on.

Records are appended and synced: the spool's number, then [number, octets] for each entry and [number] for one that is
confirmed.  The file is written anew, aside and renamed, when most of it is out of date.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, Final

import msgpack

from control.fleet.messages import SEEN_BYTES_MAX, SPOOL_BYTES
from control.fleet.wire import packed
from control.table.file import write_aside
from fastpath.protocol import memfd, write_all

log = logging.getLogger("bootstorm.fleet")

FILE: Final = "fleet-spool"
FILE_BYTES_MAX: Final = 32 << 20
SPARE_RECORDS: Final = 4_096


class SpoolFile:
    """spool: of this file; entries: number -> what; number: of the last entry."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / FILE
        self.spool = os.urandom(SPOOL_BYTES)
        self.entries: dict[int, bytes] = {}
        self.number = self.records = 0
        self.fd = -1

    def load(self) -> None:
        """A file that is torn or damaged is read as far as it goes; what was read is passed on under a new number."""
        try:
            with self.path.open("rb") as file:
                content = file.read(FILE_BYTES_MAX)
        except FileNotFoundError:
            return
        except OSError as error:
            log.error("%s cannot be read: %s; traps that waited in it come again by their switch", self.path, error)
            return
        whole = self.read(content)
        if not whole:
            log.warning("%s is damaged; %d entries of it are passed on", self.path, len(self.entries))
            self.spool = os.urandom(SPOOL_BYTES)

    def read(self, content: bytes) -> bool:
        """False: not to its end."""
        records = msgpack.Unpacker(max_buffer_size=FILE_BYTES_MAX + 1)
        records.feed(content)
        try:
            spool = records.unpack()
            if type(spool) is not bytes or len(spool) != SPOOL_BYTES:
                return False
            whole = records.tell()
            for record in records:
                self.take(record)
                whole = records.tell()  # afterwards it is beyond half a record as well
            self.spool = spool
        except (ValueError, msgpack.OutOfData, msgpack.UnpackException):
            return False
        return bool(whole == len(content))

    def take(self, record: Any) -> None:
        """Raises ValueError for what is no record."""
        good = type(record) is list and len(record) in (1, 2) and type(record[0]) is int and 0 < record[0] < 1 << 53
        if not good or (len(record) == 2 and (type(record[1]) is not bytes or len(record[1]) > SEEN_BYTES_MAX)):
            raise ValueError("no record")
        self.records += 1
        self.number = max(self.number, record[0])
        if len(record) == 2:
            self.entries[record[0]] = record[1]
        else:
            self.entries.pop(record[0], None)

    def add(self, what: bytes) -> int:
        """Its number, when it is on disk.  Raises OSError: then it is not."""
        number = self.number + 1
        self.append([number, what])
        self.number, self.entries[number] = number, what
        return number

    def confirmed(self, numbers: tuple[int, ...]) -> None:
        """They may come again after a crash, as anything may."""
        for number in numbers:
            self.entries.pop(number, None)
        try:
            self.append(*([number] for number in numbers), sync=False)
        except OSError as error:
            log.error("%s: %s; what is confirmed is passed on again after a restart", self.path, error.strerror)

    def append(self, *records: list[Any], sync: bool = True) -> None:
        """Raises OSError."""
        if self.fd < 0 or self.records > 2 * len(self.entries) + SPARE_RECORDS:
            self.write_anew()
        try:
            write_all(self.fd, b"".join(packed(record) for record in records))
            if sync:
                os.fdatasync(self.fd)
        except OSError:
            os.close(self.fd)  # half a record may stand at the end
            self.fd, self.records = -1, 1 << 53
            raise
        self.records += len(records)

    def write_anew(self) -> None:
        """Raises OSError."""
        records = [packed([number, what]) for number, what in sorted(self.entries.items())]
        with memfd("bootstorm-fleet-spool", packed(self.spool) + b"".join(records)) as fd:
            write_aside(self.path, fd)
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self.records = len(records)
