"""The files of a configuration: read whole, with limits, in UTF-8 or Latin-1; what they include, never in a circle."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from control.importers.site import Unfit

FILE_BYTES_MAX: Final = 256 << 20
TOTAL_BYTES_MAX: Final = 512 << 20
FILES_MAX: Final = 10_000
DEPTH_MAX: Final = 32
Heard = Callable[[str, int, int], None]
"""Called with a file's name, how many of its octets are done, and how many it has."""


class Unreadable(ValueError):
    """Not a file that can be read: which, and why."""


class Files:
    """Those of one configuration.  open_now: the chain of includes."""

    def __init__(self, heard: Heard = lambda _name, _done, _total: None) -> None:
        self.heard = heard
        self.open_now: list[Path] = []
        self.count = self.total = 0

    @contextmanager
    def opened(self, path: Path) -> Iterator[str]:
        """Its text.  Raises Unreadable; Unfit where the file includes itself."""
        real = Path(os.path.realpath(path))
        if real in self.open_now:
            raise Unfit(f"{path} includes itself: {' -> '.join(str(each) for each in (*self.open_now, real))}")
        if len(self.open_now) >= DEPTH_MAX:
            raise Unfit(f"includes {DEPTH_MAX} deep")
        self.count += 1
        if self.count > FILES_MAX:
            raise Unreadable(f"{path}: more than {FILES_MAX} files")
        data = read(real)
        self.total += len(data)
        if self.total > TOTAL_BYTES_MAX:
            raise Unreadable(f"{path}: with the files before it more than {TOTAL_BYTES_MAX} bytes")
        self.open_now.append(real)
        try:
            yield text_of(data)
        finally:
            self.open_now.pop()

    def beside(self, name: str) -> Path:
        """A path as a configuration names it: relative to the file that is read."""
        folder = self.open_now[-1].parent if self.open_now else Path()
        return folder / name


def read(path: Path) -> bytes:
    """Whatever it is: a FIFO does not wait for a writer.  Raises Unreadable."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise Unreadable(f"{path}: no regular file")
    with open(descriptor, "rb") as stream:
        if found.st_size > FILE_BYTES_MAX:
            raise Unreadable(f"{path}: {found.st_size} bytes; wanted at most {FILE_BYTES_MAX}")
        try:
            return stream.read(FILE_BYTES_MAX + 1)
        except OSError as error:
            raise Unreadable(f"{path}: {error.strerror}") from error


def text_of(data: bytes) -> str:
    """Old files are in Latin-1 as often as in UTF-8, mostly in comments; the old servers take octets."""
    if data[:3] == b"\xef\xbb\xbf":
        data = data[3:]
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def files_in(folder: Path) -> list[Path]:
    """Regular files directly in it, by name.  Raises Unreadable."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise Unreadable(f"{folder}: {error.strerror}") from error
