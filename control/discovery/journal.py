"""What discovery is at, on disk: one record a machine, the last one counts; a SIGKILL or a power cut costs nothing.

A thread of its own appends and syncs, many records at once when they come fast, so that control's loop never waits for
the disk.  The file is written anew, aside and renamed, when most of its lines are out of date.
"""

from __future__ import annotations

import asyncio
import errno
import io
import json
import logging
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from control.discovery.statefile import json_object, open_new, read_file, write_all

log = logging.getLogger("bootstorm.discovery")

SPARE_LINES: Final = 5_000  # out of date, before the file is written anew
FILE_BYTES_MAX: Final = 128 << 20
LOST: Final = ".lost"
LOST_BYTES_MAX: Final = 1 << 20
NAMED_MAX: Final = 10  # lines, in the log
Record = dict[str, Any]
T = TypeVar("T")


class JournalFailed(Exception):
    """What was to be kept is not on disk."""


class Journal:
    """put() and forget() return at once; flush() when all of it is on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fault = ""
        self.skipped = 0
        self.lost: list[bytes] = []
        self.lost_bytes = 0
        self.live: dict[str, bytes] = {}
        self.lines = 0
        self.fd = -1
        self.todo: queue.SimpleQueue[tuple[str, Record | None] | asyncio.Future[None] | None] = queue.SimpleQueue()
        self.thread: threading.Thread | None = None
        # In a fleet: told of each record, and of each that ends, for the journal of all.
        self.mirror: Callable[[str, Record | None], None] = lambda _mac, _record: None

    # --- for control's loop --------------------------------------------------------------------------------------

    def load(self, read: Callable[[Record], T]) -> list[T]:
        """What was under way.  read: a record -> what is made of it; raises ValueError for one that is none of ours.

        A line that is torn, or says what no record says, is left out, counted, named, and kept in a file aside."""
        try:
            content = read_file(self.path, FILE_BYTES_MAX)
        except FileNotFoundError:
            content = b""
        except OSError as error:
            log.error("cannot read %s: %s; what was under way is found again by its next trap", self.path, error)
            content = b""
        found: dict[str, T] = {}
        for number, ended_line in enumerate(io.BytesIO(content), 1):
            line = ended_line.rstrip(b"\n")
            if not line:
                continue
            try:
                record = json_object(line)
                mac = record.get("mac")
                if not isinstance(mac, str):
                    raise ValueError(f"mac {str(mac)[:40]!r}")
                ended = bool(record.get("end"))
                made = None if ended else read(record)
            except ValueError as fault:
                self.lose(number, line, str(fault))
                continue
            for known in (found, self.live):
                known.pop(mac, None)
            if made is not None:
                found[mac] = made
                self.live[mac] = encoded(record)
        self.keep_lost()
        if content:
            try:
                self.write_anew()
            except OSError as error:
                self.failed(error)
        return list(found.values())

    def lose(self, number: int, line: bytes, fault: str) -> None:
        self.skipped += 1
        if self.skipped <= NAMED_MAX:
            log.warning("%s: line %d is no record of ours (%s); left out", self.path, number, fault[:200])
        if self.lost_bytes < LOST_BYTES_MAX:
            self.lost.append(line[: LOST_BYTES_MAX - self.lost_bytes])
            self.lost_bytes += len(self.lost[-1]) + 1

    def keep_lost(self) -> None:
        """Aside, for a person; that of an earlier start is replaced."""
        if not self.lost:
            return
        aside = self.path.with_name(self.path.name + LOST)
        where = f"kept in {aside.name}"
        try:
            fd = open_new(aside)
            try:
                write_all(fd, b"\n".join(self.lost) + b"\n")
            finally:
                os.close(fd)
        except OSError as error:
            where = f"not kept: {aside}: {error.strerror}"
        log.warning("%s: %d lines were torn or no records; left out, and %s", self.path, self.skipped, where)
        self.lost.clear()

    def put(self, mac: str, record: Record) -> None:
        self.todo.put((mac, record | {"mac": mac}))
        self.mirror(mac, record)
        self.start_thread()

    def forget(self, mac: str) -> None:
        self.todo.put((mac, None))
        self.mirror(mac, None)
        self.start_thread()

    def start_thread(self) -> None:
        """With the first that is to be written: a limit on processes that is full must not keep control from starting.
        Until there is one, what was put waits, and flush() says why."""
        if self.thread is not None:
            return
        thread = threading.Thread(target=self.run, name="journal", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self.failed(OSError(errno.EAGAIN, str(error)))
            return
        self.thread = thread

    async def flush(self) -> None:
        """Raises JournalFailed."""
        self.start_thread()
        if self.thread is None:
            raise JournalFailed(self.fault)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.todo.put(done)
        await done

    def close(self) -> None:
        """After all that was put is written."""
        if self.thread is not None:
            self.todo.put(None)
            self.thread.join()

    # --- the thread ----------------------------------------------------------------------------------------------

    def run(self) -> None:
        ending = False
        while not ending:
            batch = [self.todo.get()]
            while not self.todo.empty():
                batch.append(self.todo.get())
            ending = None in batch
            waiting = [item for item in batch if isinstance(item, asyncio.Future)]
            try:
                self.write([item for item in batch if isinstance(item, tuple)])
            except OSError as error:
                self.failed(error)
            for future in waiting:
                future.get_loop().call_soon_threadsafe(self.settle, future)
        if self.fd >= 0:
            os.close(self.fd)

    def settle(self, future: asyncio.Future[None]) -> None:
        if future.done():
            return
        if self.fault:
            future.set_exception(JournalFailed(self.fault))
        else:
            future.set_result(None)

    def failed(self, error: OSError) -> None:
        fault = f"cannot write {self.path}: {error.strerror or error}"
        if fault != self.fault:
            log.error("%s; no new server is made until it can be", fault)
        self.fault = fault

    def write(self, changes: list[tuple[str, Record | None]]) -> None:
        lines = []
        for mac, record in changes:
            if record is None:
                if self.live.pop(mac, None) is None:
                    continue
                lines.append(encoded({"mac": mac, "end": True}))
            else:
                line = encoded(record)
                if self.live.get(mac) == line:
                    continue
                self.live[mac] = line
                lines.append(line)
        full = self.lines + len(lines) > 2 * len(self.live) + SPARE_LINES
        if self.fault or full or (lines and self.fd < 0):
            self.write_anew()  # also after a fault: half a line may stand at the end
        elif lines:
            write_all(self.fd, b"".join(lines))
            os.fdatasync(self.fd)
            self.lines += len(lines)

    def write_anew(self) -> None:
        aside = self.path.with_name(self.path.name + ".new")
        fd = open_new(aside, os.O_APPEND)
        try:
            write_all(fd, b"".join(self.live.values()))
            os.fsync(fd)
            os.rename(aside, self.path)
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError:
            os.close(fd)
            aside.unlink(missing_ok=True)
            raise
        if self.fd >= 0:
            os.close(self.fd)
        self.fd, self.lines, self.fault = fd, len(self.live), ""


def encoded(record: Record) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"
