"""The last good table on disk, in dhcp.state_dir: what a cold start serves from while the inventory is down.

`table.base` and `table.delta` are generations as they are in memory.  Both are written aside and renamed; a delta whose
base is not there any more is ignored; a damaged or foreign file is kept aside with its reason and never served.
Files of the layout before this one are converted.

`table.unsaved` names the rows that are served otherwise since the disk did not take them: what it says of these is
known to be wrong (fastpath/process/unsaved_rows.py).

A file's time is that of the inventory's last word for what is served with it on top: a delta's for both, a base's for
the base alone, so that a base whose delta was lost is as old as it is.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path

from ext.layout5 import OtherBase
from ext.table import TABLE_LAYOUT, Generation, Pair, TableInvalid, compare, new_memfd, row_key

from ext import layout5
from fastpath.process import unsaved_rows
from fastpath.process.table_proof import FILE, Proof, name_of
from fastpath.protocol import close_all

log = logging.getLogger("bootstorm.tablefile")

LENGTH_AT = 24  # where each layout's header says how long the whole is
BEGINNING_BYTES = 4096  # more than a header
NAME_BYTES_MAX = 128  # more than name_of() gives
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class TableStore:
    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.base_path = state_dir / "table.base"
        self.delta_path = state_dir / "table.delta"
        self.pin_path = state_dir / "pinned"
        self.unsaved_path = str(state_dir / unsaved_rows.FILE)
        self.base_on_disk = ""  # its name: another machine's base may have the number of ours
        self.delta_on_disk = 0
        self.on_disk: Pair | None = None  # what a start would find; None: nobody knows without looking
        self.noted: Pair | None = None  # what was served when the disk did not take it
        self.has_note = True  # perhaps, of a planner before this one
        self.note_fault = self.proof_fault = ""
        self.fault = ""  # why the disk does not take it, until it does: one line in the log for each

    # A rollback holds over restarts, or the table that somebody went away from would come back by itself.

    def pinned_s(self) -> float:
        """Since 1970: when `ctl rollback` pinned the table on disk; 0 when it did not."""
        try:
            return self.pin_path.stat().st_mtime
        except FileNotFoundError:
            return 0.0
        except OSError as error:
            log.error("cannot look for %s: %s; no rollback holds", self.pin_path, error.strerror)
            return 0.0

    def pin(self, since_s: float, left: str = "") -> str:
        """Why it cannot be written, or nothing.  Only after save() wrote the table that is meant.  left: name_of() the
        one that somebody went away from, until whoever serves that has heard."""
        aside = self.pin_path.with_name(self.pin_path.name + ".new")
        try:
            aside.unlink(missing_ok=True)
            fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
            try:
                write_if_room(fd, left.encode())
                os.utime(fd, (since_s, since_s))
            finally:
                os.close(fd)
            os.rename(aside, self.pin_path)
        except OSError as error:
            return f"cannot write {self.pin_path}: {error.strerror}"
        return ""

    def left(self) -> str:
        """As pin() was told; "" where nobody knows."""
        try:
            with open(self.pin_path, "rb", opener=no_link) as file:
                return file.read(NAME_BYTES_MAX).decode("ascii", "replace")
        except FileNotFoundError:
            return ""
        except OSError as error:
            log.error("cannot read %s: %s", self.pin_path, error.strerror)
            return ""

    def unpin(self) -> None:
        try:
            self.pin_path.unlink(missing_ok=True)
        except OSError as error:
            log.error("cannot remove %s: %s; after a restart the rollback holds again", self.pin_path, error.strerror)

    def load(self) -> tuple[int, int, float] | None:
        """(base fd, delta fd or -1, seconds since 1970 of the inventory's last word), or None when there is none."""
        base_raw, delta_raw = self._copied(self.base_path), self._copied(self.delta_path)
        try:
            if base_raw < 0:
                return None
            base_fd = self._accepted(self.base_path, lambda: present_base(base_raw))
            if base_fd < 0:
                return None
            layout = layout5.layout_of(base_raw)
            if layout != TABLE_LAYOUT:
                log.warning(
                    "%s has layout %d and is read into layout %d; until the next refresh two objects of one name count "
                    "as one", self.base_path, layout, TABLE_LAYOUT,
                )  # fmt: skip
            there = os.path.lexists(self.delta_path)
            delta_fd = -1
            if delta_raw >= 0:
                delta_fd = self._accepted(self.delta_path, lambda: present_delta(base_raw, base_fd, delta_raw))
            return base_fd, delta_fd, self._confirmed_s(base_fd, delta_fd, there)
        finally:
            close_all([fd for fd in (base_raw, delta_raw) if fd >= 0])

    def unsaved(self, fd: int) -> Collection[int] | None:
        """Keys of the rows of a loaded table of which it is known that they were served otherwise; None: there are too
        many.  fd: of its delta where it has one."""
        try:
            found = unsaved_rows.read(self.unsaved_path)
        except (OSError, ValueError) as fault:
            words = (
                "%s cannot be read: %s; which rows of the table on disk are wrong is not known, so nobody is answered "
                "before the inventory is read; remove it if you know better"
            )
            log.error(words, self.unsaved_path, fault)
            return None
        if found is None or found.table != name_of(fd):
            return frozenset()
        log.error("%s is older than what was served: %s; who has these is not answered before the inventory is read",
                  self.state_dir, found.words())  # fmt: skip
        return found.keys and frozenset(found.keys)

    def _confirmed_s(self, base_fd: int, delta_fd: int, delta_there: bool) -> float:
        """0.0: not known."""
        try:
            base_s = self.base_path.stat().st_mtime
            if delta_fd >= 0:
                return max(base_s, self.delta_path.stat().st_mtime)  # builds before this one dated the base for both
        except OSError as error:
            log.error("cannot look at %s: %s; its age is not known", error.filename, error.strerror)
            return 0.0
        return min(base_s, Generation(base_fd).created_s) if delta_there else base_s

    def _copied(self, path: Path) -> int:
        """A sealed memfd with the file's content, whatever it is; -1 when there is none that can be read."""
        try:
            return sealed_copy(path)
        except FileNotFoundError:
            return -1
        except OSError as error:
            log.error("cannot read %s: %s; starting without it", path, error.strerror)
            return -1

    def _accepted(self, path: Path, read: Callable[[], int]) -> int:
        """The fd that read() gives; -1 for what must not be served: then the file is put aside, unless it is
        only a delta that no base is there for any more."""
        try:
            return read()
        except OtherBase as foreign:
            log.info("%s is not used: %s", path, foreign)
        except TableInvalid as damage:
            aside = path.with_name(f"{path.name}.refused-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}")
            try:
                os.rename(path, aside)
                log.error("%s is not served: %s; kept as %s", path, damage, aside.name)
            except OSError as error:
                log.error("%s is not served: %s; cannot be put aside: %s", path, damage, error.strerror)
        return -1

    def save(self, pair: Pair, base_fd: int, delta_fd: int, confirmed_s: float, proof: Proof | None = None) -> str:
        """After a publication, or after the inventory confirmed what is there: writes what the disk has not got yet.
        Returns why it cannot, or nothing.  proof: what the table depends on, None: nobody knows.

        In this order, since it may end at each step: the table; the proof, which holds for it alone; and only then is
        the note forgotten that rows of an older one are wrong.

        A full or read-only disk costs the next cold start, not the service: it is logged, once while it lasts."""
        try:
            base_name = name_of(base_fd)
            if self.base_on_disk != base_name or not self.base_path.exists():
                if not is_copy(self.base_path, base_fd):  # of a planner before this one
                    if delta_fd >= 0:
                        self.note_rows(base_name, None)  # until its delta is there, too
                    write_aside(self.base_path, base_fd)
                    self.on_disk = Pair(pair.base)  # the delta there is of another base
                self.base_on_disk = base_name
            if delta_fd >= 0 and (self.delta_on_disk != pair.top.number or not self.delta_path.exists()):
                write_aside(self.delta_path, delta_fd)
                self.delta_on_disk = pair.top.number
            self.on_disk = pair
            stamp(self.delta_path if delta_fd >= 0 else self.base_path, confirmed_s)
        except OSError as error:
            where = f"{error.filename}: " if error.filename is not None else ""
            self.say_fault(f"cannot keep the table: {where}{error.strerror or error}")
            self.note_unsaved(pair)
            self.withdraw_proof()  # it holds for the table that is not served any more
        else:
            if self.fault:
                log.warning("the table is kept in %s again", self.state_dir)
            self.fault = ""
            self.prove(proof)
            self.forget_unsaved()
        return self.fault

    def note_rows(self, table: str, keys: Collection[int] | None) -> None:
        """Raises OSError."""
        if keys is None and not unsaved_rows.has_room(self.unsaved_path):
            return  # a first table
        self.noted = None
        self.has_note = True
        unsaved_rows.note(self.unsaved_path, table, keys)

    def note_unsaved(self, pair: Pair) -> None:
        """Which rows of the table on disk are wrong by now."""
        if self.noted is pair:
            return
        try:
            kept = self.on_disk or self.read_back()
            if kept is None:
                return
            top_path = self.delta_path if kept.delta is not None else self.base_path
            fd = os.open(top_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                name = name_of(fd)
            finally:
                os.close(fd)
            changes = compare(kept, pair)
            keys = [row_key(mac, role) for rows in (changes.changed, changes.removed) for mac, role in rows]
            if keys:
                self.note_rows(name, keys)
            else:  # it has them all, and a wrong date
                unsaved_rows.clear(self.unsaved_path)
            self.on_disk, self.noted, self.note_fault = kept, pair, ""
        except (OSError, TableInvalid) as fault:
            words = "%s cannot be written: %s; a start while the inventory is down serves the rows as the disk has them"
            if str(fault) != self.note_fault:
                log.error(words, self.unsaved_path, fault)
            self.note_fault = str(fault)

    def read_back(self) -> Pair | None:
        loaded = self.load()
        if loaded is None:
            return None
        fds = [fd for fd in loaded[:2] if fd >= 0]
        try:
            return Pair(Generation(fds[0]), Generation(fds[1]) if len(fds) > 1 else None)
        finally:
            close_all(fds)

    def forget_unsaved(self) -> None:
        try:
            if not unsaved_rows.has_room(self.unsaved_path):
                unsaved_rows.make_room(self.unsaved_path)
            elif self.has_note:
                unsaved_rows.clear(self.unsaved_path)
            self.noted, self.has_note = None, False
        except OSError as error:
            if error.strerror != self.note_fault:
                log.error("%s: %s; if the disk is full one day, rows that change then are not noted there",
                          self.unsaved_path, error.strerror)  # fmt: skip
            self.note_fault = error.strerror or ""

    def prove(self, proof: Proof | None) -> None:
        """What the table depends on.  Without that a start waits for the planner, which is no fault; one of an older
        table would be a licence to serve that."""
        path = self.state_dir / FILE
        aside = path.with_name(FILE + ".new")
        try:
            if proof is None:
                self.withdraw_proof()
                return
            aside.unlink(missing_ok=True)
            fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
            with os.fdopen(fd, "wb") as file:
                file.write(proof.packed())
            os.rename(aside, path)
        except OSError as error:
            log.warning("%s cannot be written: %s; the next start is slower", path, error.strerror)
            self.withdraw_proof()
        else:
            self.proof_fault = ""

    def withdraw_proof(self) -> None:
        path = self.state_dir / FILE
        try:
            path.unlink(missing_ok=True)
            self.proof_fault = ""
        except OSError as error:
            if error.strerror != self.proof_fault:
                words = "%s cannot be removed: %s; a start now serves the table of before until the inventory is read"
                log.error(words, path, error.strerror)
            self.proof_fault = error.strerror or ""

    def say_fault(self, fault: str) -> None:
        if fault != self.fault:
            log.error("%s: %s; a restart now would need the inventory", self.state_dir, fault)
        self.fault = fault


def sealed_copy(path: Path) -> int:
    """A memfd with the content of a file that nobody can change any more; of one that is not as long as its header
    says, and so no table, the beginning: it may be of any length.  Raises OSError."""
    source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fd: int = new_memfd(f"bootstorm-{path.name}")
        try:
            size = os.fstat(source).st_size
            is_whole = layout5.layout_of(source) and os.pread(source, 8, LENGTH_AT) == size.to_bytes(8, sys.byteorder)
            copy(source, fd, size if is_whole else min(size, BEGINNING_BYTES))
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
        except OSError:
            os.close(fd)
            raise
    finally:
        os.close(source)
    return fd


def present_base(raw: int) -> int:
    """An fd of its own with the table behind `raw` in the present layout, verified.  Raises TableInvalid."""
    layout: int = layout5.layout_of(raw)
    if layout not in (0, layout5.LAYOUT, TABLE_LAYOUT):
        raise TableInvalid(
            f"layout {layout} of another version; this build reads layouts {layout5.LAYOUT} and {TABLE_LAYOUT}"
        )
    fd: int = layout5.convert(raw)[0] if layout == layout5.LAYOUT else os.dup(raw)
    return verified(fd)


def present_delta(base_raw: int, base_fd: int, raw: int) -> int:
    """The same of a delta.  base_raw: as its base lies on the disk; base_fd: what present_base() made of that.

    Raises OtherBase, and TableInvalid for damage."""
    if layout5.layout_of(raw) == layout5.layout_of(base_raw) == layout5.LAYOUT:
        made: tuple[int, int] = layout5.convert(base_raw, raw)
        converted_fd, fd = made
        os.close(converted_fd)  # octet by octet what base_fd is
    elif layout5.layout_of(raw) == layout5.LAYOUT:
        raise OtherBase("the delta belongs to a base of an older layout")
    else:
        fd = present_base(raw)
    verified(fd)
    try:
        Pair(Generation(base_fd), Generation(fd))
    except TableInvalid as foreign:
        os.close(fd)
        raise OtherBase(str(foreign)) from foreign
    return fd


def present_pair(fds: list[int]) -> tuple[int, int]:
    """Of base (and delta), perhaps of the layout before this one: fds of their own in the present layout, delta or -1.

    Raises TableInvalid."""
    base_fd = present_base(fds[0])
    try:
        return base_fd, present_delta(fds[0], base_fd, fds[1]) if len(fds) > 1 else -1
    except TableInvalid:
        os.close(base_fd)
        raise


def verified(fd: int) -> int:
    """The fd; closed when this raises TableInvalid."""
    try:
        Generation(fd).verify()
    except TableInvalid:
        os.close(fd)
        raise
    return fd


def is_copy(path: Path, fd: int) -> bool:
    """Whether a file is the table behind fd, by the header, which has the checksum of the rest, and the length."""
    try:
        source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return name_of(source) == name_of(fd) and os.fstat(source).st_size == os.fstat(fd).st_size
    finally:
        os.close(source)


def no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def stamp(path: Path, seconds: float) -> None:
    """Sets a file's time; not that of a file elsewhere that somebody linked to.  Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.utime(fd, (seconds, seconds))
    finally:
        os.close(fd)


def write_if_room(fd: int, content: bytes) -> None:
    """The whole, or nothing where the disk is full.  Raises OSError for every other reason."""
    try:
        written = os.write(fd, content)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        written = 0
    if written < len(content):
        os.ftruncate(fd, 0)


def write_aside(path: Path, fd: int) -> None:
    """The content of a memfd under `path`, whole or not at all, also over a power cut."""
    aside = path.with_name(path.name + ".new")
    aside.unlink(missing_ok=True)  # never into what stands there: it may be another name of something else
    target = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        copy(fd, target, os.fstat(fd).st_size)
        os.fsync(target)
    except OSError:
        aside.unlink(missing_ok=True)  # half a table takes what little room there is
        raise
    finally:
        os.close(target)
    os.rename(aside, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def copy(source: int, target: int, size: int) -> None:
    at = 0
    while at < size:
        sent = os.sendfile(target, source, at, size - at)
        if sent == 0:
            raise OSError(errno.EIO, f"short copy: {at} of {size} bytes")
        at += sent
