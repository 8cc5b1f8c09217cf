"""What discovery is at, on disk: one record a machine, the last one counts; a SIGKILL or a power cut costs nothing.

A thread of its own appends and syncs, many records at once when they come fast, so that control's loop never waits for
the disk.  The file is written anew, aside and renamed, when most of its lines are out of date.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import queue
import threading
from pathlib import Path
from typing import Any, Final

log = logging.getLogger("bootstorm.discovery")

SPARE_LINES: Final = 5_000  # out of date, before the file is written anew
FILE_BYTES_MAX: Final = 256 << 20
Record = dict[str, Any]


class JournalFailed(Exception):
    """What was to be kept is not on disk."""


class Journal:
    """put() and forget() return at once; flush() when all of it is on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fault = ""
        self.skipped = 0
        self.live: dict[str, bytes] = {}
        self.lines = 0
        self.fd = -1
        self.todo: queue.SimpleQueue[tuple[str, Record | None] | asyncio.Future[None] | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self.run, name="journal", daemon=True)

    # --- for control's loop --------------------------------------------------------------------------------------

    def load(self) -> list[Record]:
        """What was under way; lines that are torn or no record are left out and counted.  Starts the thread."""
        records: dict[str, Record] = {}
        try:
            with self.path.open("rb") as file:
                content = file.read(FILE_BYTES_MAX)
        except FileNotFoundError:
            content = b""
        except OSError as error:
            log.error("cannot read %s: %s; what was under way is found again by its next trap", self.path, error)
            content = b""
        for line in content.split(b"\n"):
            if not line:
                continue
            try:
                record = json.loads(line)
                mac = record["mac"]
            except (ValueError, TypeError, KeyError):
                self.skipped += 1
                continue
            records.pop(mac, None)
            if not record.get("end"):
                records[mac] = record
        if self.skipped:
            log.warning("%s: %d lines were torn or no records; left out", self.path, self.skipped)
        self.live = {mac: encoded(record) for mac, record in records.items()}
        if content:
            try:
                self.write_anew()
            except OSError as error:
                self.failed(error)
        self.thread.start()
        return list(records.values())

    def put(self, mac: str, record: Record) -> None:
        self.todo.put((mac, record | {"mac": mac}))

    def forget(self, mac: str) -> None:
        self.todo.put((mac, None))

    async def flush(self) -> None:
        """Raises JournalFailed."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.todo.put(done)
        await done

    def close(self) -> None:
        """After all that was put is written."""
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
        aside.unlink(missing_ok=True)  # never into what stands there: it may be another name of something else
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_APPEND | os.O_CLOEXEC
        fd = os.open(aside, flags, 0o640)
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
            raise
        if self.fd >= 0:
            os.close(self.fd)
        self.fd, self.lines, self.fault = fd, len(self.live), ""


def encoded(record: Record) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def write_all(fd: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
