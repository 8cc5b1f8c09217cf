"""The last good table on disk, in dhcp.state_dir: what a cold start serves from while the inventory is down.

`table.base` and `table.delta` are generations as they are in memory.  Both are written aside and renamed; a delta whose
base is not there any more is ignored; a damaged or foreign file is kept aside with its reason and never served.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from pathlib import Path

from ext.table import Generation, Pair, TableInvalid, new_memfd

log = logging.getLogger("bootstorm.tablefile")


class TableStore:
    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.base_path = state_dir / "table.base"
        self.delta_path = state_dir / "table.delta"
        self.pin_path = state_dir / "pinned"
        self.base_on_disk = self.delta_on_disk = 0

    # A rollback holds over restarts, or the table that somebody went away from would come back by itself.

    def pinned_s(self) -> float:
        """Since 1970: when `ctl rollback` pinned the table on disk; 0 when it did not."""
        try:
            return self.pin_path.stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def pin(self, since_s: float) -> None:
        try:
            stamp(self.pin_path, os.O_WRONLY | os.O_CREAT, since_s)
        except OSError as error:
            log.error("cannot write %s: %s; a restart would end the rollback", self.pin_path, error.strerror)

    def unpin(self) -> None:
        self.pin_path.unlink(missing_ok=True)

    def load(self) -> tuple[int, int, float] | None:
        """(base fd, delta fd or -1, seconds since 1970 of the inventory's last word), or None when there is none."""
        base_fd = self._read(self.base_path)
        if base_fd < 0:
            return None
        confirmed_s = self.base_path.stat().st_mtime
        delta_fd = self._read(self.delta_path)
        if delta_fd >= 0:
            try:
                Pair(Generation(base_fd), Generation(delta_fd))
            except TableInvalid as foreign:
                log.info("%s is not used: %s", self.delta_path, foreign)
                os.close(delta_fd)
                delta_fd = -1
        return base_fd, delta_fd, confirmed_s

    def _read(self, path: Path) -> int:
        """A memfd with the file's verified content; -1 when there is no file, or only one that must not be served."""
        try:
            source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return -1
        except OSError as error:
            log.error("cannot read %s: %s; starting without it", path, error.strerror)
            return -1
        fd: int = new_memfd(f"bootstorm-{path.name}")
        try:
            copy(source, fd)
            Generation(fd).verify()
        except TableInvalid as damage:
            os.close(fd)
            aside = path.with_name(f"{path.name}.refused-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}")
            try:
                os.rename(path, aside)
                log.error("%s is not served: %s; kept as %s", path, damage, aside.name)
            except OSError as error:
                log.error("%s is not served: %s; cannot be put aside: %s", path, damage, error.strerror)
            return -1
        except OSError as error:
            os.close(fd)
            log.error("cannot read %s: %s; starting without it", path, error.strerror)
            return -1
        finally:
            os.close(source)
        return fd

    def save(self, pair: Pair, base_fd: int, delta_fd: int, confirmed_s: float) -> None:
        """After a publication, or after the inventory confirmed what is there: writes what the disk has not got yet.

        A full disk costs the next cold start, not the service: it is logged."""
        try:
            if self.base_on_disk != pair.base.number or not self.base_path.exists():
                write_aside(self.base_path, base_fd)
                self.base_on_disk = pair.base.number
            if delta_fd >= 0 and (self.delta_on_disk != pair.top.number or not self.delta_path.exists()):
                write_aside(self.delta_path, delta_fd)
                self.delta_on_disk = pair.top.number
            stamp(self.base_path, os.O_RDONLY, confirmed_s)
        except OSError as error:
            log.error("cannot keep the table in %s: %s; a restart now would need the inventory", self.state_dir, error)


def stamp(path: Path, flags: int, seconds: float) -> None:
    """Sets a file's time; not that of a file elsewhere that somebody linked to.  Raises OSError."""
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o640)
    try:
        os.utime(fd, (seconds, seconds))
    finally:
        os.close(fd)


def write_aside(path: Path, fd: int) -> None:
    """The content of a memfd under `path`, whole or not at all, also over a power cut."""
    aside = path.with_name(path.name + ".new")
    aside.unlink(missing_ok=True)  # never into what stands there: it may be another name of something else
    target = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        copy(fd, target)
        os.fsync(target)
    finally:
        os.close(target)
    os.rename(aside, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def copy(source: int, target: int) -> None:
    size, at = os.fstat(source).st_size, 0
    while at < size:
        sent = os.sendfile(target, source, at, size - at)
        if sent == 0:
            raise OSError(errno.EIO, f"short copy: {at} of {size} bytes")
        at += sent
