"""Waits until an inventory that is a file is written or replaced (inotify on its folder: editors rename over it)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

from asyncinotify import Inotify, Mask

from control.clusto.filesource import SCHEME, FileSource

log = logging.getLogger("bootstorm.watch")

CHANGES = Mask.CLOSE_WRITE | Mask.MOVED_TO


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
    try:
        with Inotify() as inotify:
            inotify.add_watch(path.parent, CHANGES)
            async for event in inotify:
                if event.name is not None and event.name.name == path.name:
                    return
    except OSError as error:
        log.error("cannot watch %s: %s; it is read at dhcp.refresh_interval only", path, error)
        await asyncio.Event().wait()
