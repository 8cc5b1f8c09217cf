"""From one build to another in place: what the old image writes down, and what the new one makes of it.

The two share nothing but this text (JSON, read by known fields) and open descriptors.  Where the new build lays out
pages, tables or pools otherwise, sockets stay and memory is made anew: docs/design.md, "Upgrade".
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

from ext.ledger import is_ledger
from ext.page import SiteWords, WorkerPage, create_site_page, create_worker_page

from fastpath.process.build import BUILD_NAME, fingerprint
from fastpath.process.turns import create_turns
from fastpath.protocol import Channel, MessageRefused, Settings, Tried, close_all, known, write_all
from fastpath.supervisor.children import KINDS, LAYOUTS, Child, PageHead, differing
from fastpath.supervisor.descriptors import Kept, try_ledger

log = logging.getLogger("bootstorm.supervisor")

SITE_WORDS = ("confirmed_boottime_s", "dated_s")  # of the site's page: what a table's age is told by
NO_POOLS = "this build lays out the memory of XDP otherwise than the one before it; a restart opens it anew"


@dataclass(slots=True)
class Heir:
    """A child as the old image knew it.  own_page: its page is that of the slot; page_fd: else."""

    kind: str
    pid: int
    fd: int
    slot: int = -1
    ready: bool = False
    own_page: bool = True
    page_fd: int = -1
    layouts: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class State:
    """All that goes from one image to the next.  counters: of each slot's page; site: of the site page."""

    settings: Settings
    kept: Kept
    children: list[Heir]
    totals: dict[str, int]
    counters: list[dict[str, Any]]
    site: dict[str, int]
    layouts: dict[str, int]
    build: str
    reload_wanted: bool = False  # SIGHUP came, and no control has taken it yet
    manager: dict[str, Any] = field(default_factory=dict)  # what the service manager keeps: Manager.restore()


def write_state(
    settings: Settings,
    kept: Kept,
    children: Sequence[Child],
    totals: Mapping[str, int],
    pages: Sequence[WorkerPage],
    reload_wanted: bool = False,
    manager: Mapping[str, Any] | None = None,
) -> bytes:
    """What read_state() of any build reads.  Raises OSError."""
    heirs = [
        Heir(
            child.kind,
            child.pid,
            child.channel.fileno(),
            child.slot,
            child.ready,
            child.head is None,
            child.head.fd if child.head is not None else -1,
            child.layouts,
        )
        for child in children
    ]
    state = {
        "build": BUILD_NAME,
        "layouts": LAYOUTS,
        "settings": asdict(settings),
        "kept": kept.told(),
        "children": [asdict(heir) for heir in heirs],
        "totals": dict(totals),
        "counters": [page.counters() for page in pages],
        "reload_wanted": reload_wanted,
        "manager": dict(manager or {}),
        "site": {name: getattr(SiteWords(kept.site_page), name) for name in SITE_WORDS},
    }
    return json.dumps(state).encode()


def read_state(text: bytes) -> State:
    """From write_state() of another build.  Raises MessageRefused, ValueError where this build cannot go on from it."""
    told = json.loads(text)
    if not isinstance(told, dict) or not {"settings", "kept"} <= told.keys():
        raise MessageRefused("the running service tells nothing to go on from")
    return State(
        settings=known(Settings, told["settings"]),
        kept=Kept.restore(told["kept"]),
        children=[known(Heir, heir) for heir in told.get("children", [])],
        totals={kind: int(total) for kind, total in told.get("totals", {}).items() if kind in KINDS},
        counters=list(told.get("counters", [])),
        site=dict(told.get("site", {})),
        layouts=dict(told.get("layouts", {})),
        build=str(told.get("build", "an unknown build")),
        reload_wanted=bool(told.get("reload_wanted", False)),
        manager=told["manager"] if isinstance(told.get("manager"), dict) else {},
    )


@contextlib.contextmanager
def trial_fds(text: bytes, kept: Kept) -> Iterator[dict[str, int]]:
    """What a trial gets: copies and read-only views, nothing by which it could reach the service.  Raises OSError."""
    with ExitStack() as until:

        def owned(fd: int) -> int:
            until.callback(close_all, [fd])
            return fd

        fds = {"state": owned(os.memfd_create("bootstorm-try-state", os.MFD_CLOEXEC))}
        write_all(fds["state"], text)
        fds["config"] = owned(os.memfd_create("bootstorm-try-config", os.MFD_CLOEXEC))
        write_all(fds["config"], os.pread(kept.config, os.fstat(kept.config).st_size, 0))
        for name, fd in kept.table_by_name().items():
            fds[name] = owned(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC))
        yield fds


def command(state_fd: int) -> list[str]:
    """What an upgrade executes, and what ends a trial."""
    return [sys.executable, "-P", "-m", "fastpath", "supervise", str(state_fd)]


class CodeChanged(Exception):
    """What is installed is not what was tried."""


def check_unchanged(tried: Tried) -> None:
    """Raises CodeChanged, also where it cannot be seen: in the midst of an installation."""
    if not tried.fingerprint:
        return  # of a build that does not say
    try:
        now = fingerprint(tried.folders)
    except OSError as error:
        raise CodeChanged(str(error)) from error
    if now != tried.fingerprint:
        raise CodeChanged("files were written since")


def become(text: bytes, fds: Sequence[int], tried: Tried) -> None:
    """Execute the code that is installed now, and that was tried, in place of this one.  fds stay open in it.

    Returns by OSError and CodeChanged only, and then everything is as it was.  Signals are to be blocked: the
    default action would end the new image before it listens, and those that come meanwhile wait for it."""
    state_fd = os.memfd_create("bootstorm-upgrade", os.MFD_CLOEXEC)
    try:
        write_all(state_fd, text)
        for fd in (state_fd, *fds):
            os.set_inheritable(fd, True)
        check_unchanged(tried)  # last: from here until the new image has loaded, nothing leads back
        os.execv(sys.executable, command(state_fd))
    except (OSError, CodeChanged):
        for fd in fds:
            with contextlib.suppress(OSError):
                os.set_inheritable(fd, False)
        close_all([state_fd])
        raise


def lay_out_anew(state: State) -> None:
    """Memory of another layout is replaced by memory of this build's, counters carried over; sockets stay.

    A worker of the old build goes on with its own page until it ends; its heir keeps that page's fd.  All or nothing:
    raises OSError with everything as it was."""
    kept, others = state.kept, differing(state.layouts)
    if kept.turns < 0:
        kept.turns = create_turns()
    if kept.ledger < 0 or not is_ledger(kept.ledger):
        if kept.ledger >= 0:
            log.warning("the boot ledger is of another layout than this build's: a new one begins")
            close_all([kept.ledger])
        kept.ledger = try_ledger()
    if "page" not in others:
        return
    with ExitStack() as undo:
        pages = []
        for slot in range(len(kept.slots)):
            fd = create_worker_page(slot)
            undo.callback(close_all, [fd])
            if slot < len(state.counters):
                WorkerPage(fd).carry(state.counters[slot])
            pages.append(fd)
        site = create_site_page()
        undo.callback(close_all, [site])
        for name in state.site.keys() & set(SITE_WORDS):
            setattr(SiteWords(site), name, int(state.site[name]))
        undo.pop_all()
    for heir in state.children:
        if heir.kind == "worker" and heir.own_page and 0 <= heir.slot < len(kept.pages):
            heir.own_page, heir.page_fd = False, kept.pages[heir.slot]
    held = {heir.page_fd for heir in state.children}
    close_all([fd for fd in kept.pages if fd not in held])
    close_all([kept.site_page])
    kept.pages, kept.site_page = pages, site


def forget_pools(state: State) -> None:
    """Pools of another layout: the programs are taken off the interfaces, and the sockets get what these took.

    Opening new ones wants capabilities that were given up at the start."""
    kept = state.kept
    if kept.xdp is None or "pool" not in differing(state.layouts):
        return
    log.warning("no XDP from now on, sockets instead: %s", NO_POOLS)
    close_all(kept.xdp.all())
    kept.xdp, kept.io_reason = None, NO_POOLS


def adopt(heir: Heir, layouts: Mapping[str, int]) -> Child:
    """A child of the old image, to be replaced.  Raises OSError."""
    pidfd = os.pidfd_open(heir.pid)
    try:
        channel = Channel.of_fd(heir.fd)
        channel.sock.setblocking(False)
        channel.takes_enclosed = False
        head = PageHead(heir.page_fd) if heir.page_fd >= 0 else None
    except (OSError, ValueError) as error:
        close_all([pidfd])
        raise OSError(f"pid {heir.pid}: {error}") from error
    now = time.monotonic()
    child = Child(heir.kind, heir.pid, channel, pidfd, now, slot=heir.slot, ready=heir.ready, outdated=True)
    child.layouts, child.head, child.since_s = dict(heir.layouts or layouts), head, now
    return child


def kill_heir(heir: Heir) -> None:
    """One that cannot be adopted must not go on unwatched.  It is a child of ours, so its pid is still its own."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(heir.pid, signal.SIGKILL)
    close_all([fd for fd in (heir.fd, heir.page_fd) if fd >= 0])
