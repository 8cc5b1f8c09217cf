"""Waits until an inventory that is a file is written or replaced: itself, a link that leads to it, or a folder above.

inotify tells of all that at once (editors rename over the file, Kubernetes swaps a link beside it, a deployment
replaces the folder); what it cannot see, as on NFS, a look at the file every few seconds finds.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from asyncinotify import Event, Inotify, Mask

from control.sources.filesource import SCHEME, FileSource

log = logging.getLogger("bootstorm.watch")

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
    return FileSource(api_url).path if api_url.startswith(SCHEME) else None


async def wait_for_change(path: Path, given_up: asyncio.Event) -> None:
    """Until the file is written, replaced, or nobody wants to know any more."""
    waiting = [asyncio.ensure_future(changed(path)), asyncio.ensure_future(given_up.wait())]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def changed(path: Path) -> None:
    with contextlib.ExitStack() as stack:
        inotify = None
        try:
            inotify = stack.enter_context(Inotify())
        except OSError as error:
            cannot_watch(path, error)
        first = found = look(path)  # not in a thread: what is written from here on must not go unseen
        last = first.state
        refused: set[Path] = set()
        while True:
            if inotify is not None:
                found = watch(inotify, path, refused)
            event = await next_event(inotify, found.steps)
            if event is None:
                try:
                    found = await asyncio.to_thread(look, path)  # it may be that the file's server does not answer
                except RuntimeError:  # no thread can be started just now
                    continue
                if first.state != found.state == last:  # and nobody is writing it just now
                    return
                last = found.state
                continue
            name = event.name.name if event.name is not None else ""
            if event.mask & Mask.CLOSE_WRITE and name == path_name(found):
                return
            found = look(path)
            if found.state != first.state and is_whole(event, name, found):
                return


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
