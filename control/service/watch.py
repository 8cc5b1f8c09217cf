"""Waits until an inventory that is a file is written or replaced: itself, a link that leads to it, or a folder above.

inotify tells of all that at once (editors rename over the file, Kubernetes swaps a link beside it, a deployment
replaces the folder); what it cannot see, as on NFS, a look at the file every few seconds finds.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from threading import Thread
from typing import NamedTuple, TypeVar

from asyncinotify import Event, Inotify, Mask

from control.sources.file_url import SCHEME, path_in

log = logging.getLogger("bootstorm.watch")
T = TypeVar("T")

RECHECK_S = 5.0
LINKS_MAX = 40  # as the kernel has it
WHOLE = Mask.CLOSE_WRITE | Mask.MOVED_TO  # what has come by these is no half of a file
CHANGES = WHOLE | Mask.CREATE | Mask.DELETE | Mask.MOVED_FROM | Mask.ATTRIB | Mask.MOVE_SELF | Mask.DELETE_SELF

Step = tuple[Path, str]
"""A folder, and the name in it that leads on to the file."""


class Seen(NamedTuple):
    """state: of the file; None where the way ends before it."""

    steps: tuple[Step, ...]
    state: tuple[int, ...] | None


def watched_path(api_url: str) -> Path | None:
    """The file behind dhcp.api_url; None when it is a server."""
    return path_in(api_url) if api_url.startswith(SCHEME) else None


async def follow(wanted: Callable[[], Path | None], another: asyncio.Event, on_change: Callable[[float], None]) -> None:
    """For ever.  wanted: the file that is to be followed just now, if there is one; another: set when that may have
    become another one.  on_change(since): what was read of the file after `since`, of CLOCK_MONOTONIC, may be old."""
    while True:
        path = wanted()
        following = [asyncio.ensure_future(follow_one(path, on_change))] if path is not None else []
        try:
            while wanted() == path:
                another.clear()
                told = asyncio.ensure_future(another.wait())
                try:
                    await asyncio.wait((told, *following), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    told.cancel()
                for ended in following:
                    if ended.done():
                        await ended  # with a fault, or it would not have
        finally:
            for task in following:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


async def follow_one(path: Path, on_change: Callable[[float], None]) -> None:
    with contextlib.closing(Watched(path)) as file:
        begun_s = time.monotonic()
        await file.begin()
        on_change(begun_s)  # who has begun to read meanwhile, as where its server did not answer, has to do it again
        while True:
            await file.change()
            on_change(-math.inf)


_under_way: dict[Path, Future[None]] = {}  # done when the thread that looks ends, whatever it found


async def aside(path: Path, work: Callable[[], T]) -> T:
    """What touches the file's file system, in a thread: its server may not answer, and control's loop must go on.

    One at a time for each file, whoever gave up waiting for the one before; a thread of its own, for those of the loop
    are few and belong to others; a daemon, which keeps nobody from ending."""
    done, over = Future[T](), Future[None]()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)
        del _under_way[path]
        over.set_result(None)

    for future in (done, over):
        future.set_running_or_notify_cancel()  # who gives up waiting does not cancel what runs
    while True:
        while (before := _under_way.get(path)) is not None:
            await asyncio.wait([asyncio.wrap_future(before)])
        _under_way[path] = over
        try:
            Thread(target=run, name="watch", daemon=True).start()
        except RuntimeError:  # none can be started just now
            del _under_way[path]
            await asyncio.sleep(RECHECK_S)
        else:
            return await asyncio.wrap_future(done)


class Watched:
    """One file.  Watches stand from before the first look on, and from one change to the next: nothing that is written
    in between goes unseen."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.refused: set[Path] = set()
        self.first = self.found = Seen((), None)  # as it was at the last change; as it was last seen
        self.inotify: Inotify | None = None
        try:
            self.inotify = Inotify()
        except OSError as error:
            cannot_watch(path, error)

    def close(self) -> None:
        """Also while a thread still looks: it adds no more watches."""
        if self.inotify is not None:
            self.inotify.close()

    async def begin(self) -> None:
        self.first = self.found = await aside(self.path, self.look)

    async def change(self) -> None:
        """Until the file is written or replaced."""
        last = self.first.state
        while True:
            event = await next_event(self.inotify, self.found.steps)
            if event is None:
                self.found = await aside(self.path, self.look)
                if self.first.state != self.found.state == last:  # and nobody is writing it just now
                    break
                last = self.found.state
                continue
            written = bool(event.mask & Mask.CLOSE_WRITE) and name_in(event) == path_name(self.found)
            self.found, whole = await aside(self.path, partial(self.look_after, event))
            if written or (whole and self.found.state != self.first.state):
                break
        self.first = self.found

    # --- in the thread -------------------------------------------------------------------------------------------

    def look(self) -> Seen:
        return look(self.path) if self.inotify is None else watch(self.inotify, self.path, self.refused)

    def look_after(self, event: Event) -> tuple[Seen, bool]:
        """And whether what has come is whole."""
        found = self.look()
        return found, is_whole(event, name_in(event), found)


def name_in(event: Event) -> str:
    return event.name.name if event.name is not None else ""


def cannot_watch(path: Path, error: OSError) -> None:
    log.error("cannot watch %s: %s; changes there are seen within %.0f s", path, error.strerror, 2 * RECHECK_S)


def watch(inotify: Inotify, path: Path, refused: set[Path]) -> Seen:
    """Again and again: a folder that was replaced is another one, and a link may lead elsewhere meanwhile."""
    found = look(path)
    while True:
        for folder in {folder for folder, _ in found.steps}:
            try:
                inotify.add_watch(folder, CHANGES | Mask.ONLYDIR)
            except OSError as error:
                if folder not in refused and error.errno not in (errno.ENOENT, errno.ENOTDIR):
                    refused.add(folder)
                    cannot_watch(folder, error)
        before, found = found, look(path)
        if found.steps == before.steps:
            return found


async def next_event(inotify: Inotify | None, steps: tuple[Step, ...]) -> Event | None:
    """The next one that may be about the file; None when it is time to look without."""
    names = {name for _, name in steps}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(RECHECK_S):
            while inotify is not None:
                event = await inotify.get()
                if event.name is None or event.name.name in names:
                    return event
            await asyncio.Event().wait()  # nobody tells
    return None


def path_name(found: Seen) -> str:
    return found.steps[-1][1] if found.steps else ""


def is_whole(event: Event, name: str, found: Seen) -> bool:
    """A new file that was merely created is being written, a link or a folder that was put in place is not."""
    if event.mask & Mask.MOVED_TO:
        return True
    return bool(event.mask & Mask.CREATE) and any(
        at == name and os.path.islink(folder / at) for folder, at in found.steps
    )


def look(path: Path) -> Seen:
    steps = tuple(steps_to(path))
    try:
        state = os.stat(path)
    except OSError:
        return Seen(steps, None)
    return Seen(steps, (state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size))


def steps_to(path: Path) -> Iterator[Step]:
    """All folders and names that lead to a file, through each link, as far as there is something."""
    folder, todo, links = Path("/"), list(path.parts[:0:-1]), 0
    while todo:
        name = todo.pop()
        if name == "..":
            folder = folder.parent
            continue
        yield folder, name
        try:
            target = os.readlink(folder / name)
        except OSError as error:
            if error.errno != errno.EINVAL:
                return
            folder /= name
            continue
        links += 1
        if links > LINKS_MAX:
            return
        if target.startswith("/"):
            folder = Path("/")
        todo += [part for part in reversed(target.split("/")) if part not in ("", ".")]
