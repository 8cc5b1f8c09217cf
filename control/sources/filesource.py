"""An inventory that is a file: `dhcp.api_url` = file:///etc/bootstorm/hosts.csv, in the format of `inventory load`.

The same things come out as if the file had been loaded into an inventory and read over HTTP, so the same rules decide.
A bad row costs that row and is reported; a file that is no such file, or that changes while it is read, costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from itertools import islice

from control.clusto.errors import InventoryDown
from control.clusto.hostfile import KINDS, HostRow, Unreadable, rows_of
from control.sources.fetch import Progress
from control.sources.file_url import path_in
from control.sources.model import Batch, Inventory, Reading
from control.sources.rowreading import BAD_ROWS_NAMED, Row, RowReading

ROWS_A_BATCH = 5_000


class FileSource:
    """progress(stage, done, total) is called while the hosts are read; done and total are rows.

    last: the last reading of the whole file."""

    def __init__(self, url: str, progress: Progress = lambda *_: None) -> None:
        self.path = path_in(url)
        self.progress = progress
        self.size = 0  # as it was when the reading began
        self.bad_rows_named = BAD_ROWS_NAMED
        self.last = RowReading(self.path.name, BAD_ROWS_NAMED)

    def read(self) -> Reading:
        self.size = 0
        version = self.version()
        self.last, frame = self.read_frame()
        return Reading(frame, self.batches(self.last, frame, version))

    def version(self) -> tuple[int, int, int]:
        """Another one is another content."""
        try:
            found = os.stat(self.path)
        except OSError as error:
            raise InventoryDown(f"{self.path}: {error.strerror}") from error
        self.size = self.size or found.st_size
        return found.st_ino, found.st_mtime_ns, found.st_size

    def rows(self, *kinds: str) -> Iterator[Row]:
        try:
            yield from rows_of(self.path, kinds or KINDS, self.heard)
        except OSError as error:
            raise InventoryDown(f"{self.path}: {error.strerror}") from error
        except Unreadable as error:
            raise InventoryDown(str(error)) from error

    def heard(self, count: int) -> None:
        """count: characters read so far.  One that grows as fast as it is read would have no end."""
        self.progress("bytes", count, 0)
        if 0 < self.size < count:
            raise InventoryDown(f"{self.path}: was written to while it was read; once more")

    def lines(self) -> int:
        """How many there are, hosts or not: what progress is measured by."""
        try:
            with self.path.open("rb") as file:
                left = iter(range(self.size, 0, -(1 << 20)))
                return sum(file.read(min(most, 1 << 20)).count(b"\n") for most in left)
        except OSError as error:
            raise InventoryDown(f"{self.path}: {error.strerror}") from error

    def read_frame(self) -> tuple[RowReading, Inventory]:
        """First pass: networks and containers."""
        reading = RowReading(self.path.name, self.bad_rows_named)
        return reading, reading.read_frame(self.rows("networks", "pools", "containers"))

    def batches(self, reading: RowReading, frame: Inventory, version: tuple[int, int, int]) -> Iterator[Batch]:
        """Second pass.  The parents of a batch's hosts are in the frame for as long as the batch is the last one."""
        yield from reading.batch_of_frame()
        rows, lines = self.rows("hosts"), self.lines()
        done = 0
        self.progress("hosts", 0, lines)
        while part := list(islice(rows, ROWS_A_BATCH)):
            batch = reading.batch(f"rows from {done + 1}", part, frame)
            yield batch
            reading.forget(batch, frame)
            done += len(part)
            self.progress("hosts", done, lines)
        self.check_unchanged(version)

    def check_unchanged(self, version: tuple[int, int, int]) -> None:
        if self.version() != version:
            raise InventoryDown(f"{self.path}: was written to while it was read; once more")

    def read_hosts(self, macs: Iterable[str], names: Iterable[str], frame: Inventory) -> Inventory:
        """As model.Source says; containers and networks as the file has them now, whatever the frame says."""
        self.size = 0
        version = self.version()
        reading, own_frame = self.read_frame()
        found = reading.find_hosts(self.host_rows, (set(macs), set(names)), own_frame, not frame.fresh)
        self.check_unchanged(version)
        return found

    def host_rows(self, _words: Collection[str] = ()) -> Iterator[HostRow]:
        """All: there is no index of a file."""
        for row in self.rows("hosts"):
            if isinstance(row, HostRow):
                yield row
