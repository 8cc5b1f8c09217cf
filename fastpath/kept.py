"""What the supervisor opens at the start and keeps: every socket, page, channel; and the start itself.

Also over an upgrade: all of it is fds, and goes through the re-exec as numbers.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import sys
from dataclasses import dataclass
from typing import Any

from ext.page import create_site_page, create_worker_page

from fastpath.protocol import Settings
from fastpath.sandbox import UserUnknown, drop_privileges, owner_of
from fastpath.sockets import SlotSockets, SocketsFailed, open_console, open_slots
from fastpath.strangers import try_known
from fastpath.tap import channel_ends, open_tap
from fastpath.traps import TrapFds, open_traps
from fastpath.xdp import PoolFds, XdpFailed, XdpFds, open_xdp

log = logging.getLogger("bootstorm.supervisor")


class StartFailed(Exception):
    """The service cannot start; one line that says why and what to do."""


@dataclass(slots=True)
class Kept:
    """Every fd that outlives the other processes, and this one over an upgrade."""

    config: int  # the text of services.conf as it was accepted
    lock: int
    console: int
    site_page: int
    adopted_bell: int
    event_bell: int
    slots: list[SlotSockets]
    pages: list[int]
    base: int = -1
    delta: int = -1
    generation: int = 0
    base_generation: int = 0
    tap: int = -1  # these three where dhcp.mode is observe
    observer_end: int = -1  # of the channel between observer and control
    control_end: int = -1
    traps: TrapFds | None = None
    traps_fault: str = ""
    boot_fault: str = ""
    known: int = -1  # the map of known MACs, where strangers are dropped
    known_fault: str = ""
    xdp: XdpFds | None = None
    io_reason: str = ""  # why not xdp, although dhcp.io says so

    def fds(self) -> list[int]:
        single = [
            self.config,
            self.lock,
            self.console,
            self.site_page,
            self.adopted_bell,
            self.event_bell,
            self.base,
            self.delta,
            self.tap,
            self.observer_end,
            self.control_end,
            self.known,
        ]
        paired = [fd for slot in self.slots for fd in slot.all()]
        traps = self.traps.all() if self.traps else []
        xdp = self.xdp.all() if self.xdp else []
        return [fd for fd in (*single, *paired, *self.pages, *traps, *xdp) if fd >= 0]

    def table(self) -> list[int]:
        return [fd for fd in (self.base, self.delta) if fd >= 0]

    def slot_fds(self, slot: int) -> list[int]:
        """What the worker of a slot gets, in the order of Assign."""
        sockets = self.slots[slot]
        fds = [sockets.udp, sockets.urgent, sockets.packet, self.pages[slot], self.site_page]
        fds += [self.adopted_bell, self.event_bell, *([sockets.boot] if sockets.boot >= 0 else [])]
        for pool in self.xdp.pools if self.xdp else []:
            fds += [pool.memory, pool.plain[slot], pool.urgent[slot]]
        return fds

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Kept:
        """From asdict()."""
        state["slots"] = [SlotSockets(**slot) for slot in state["slots"]]
        state["traps"] = TrapFds(**state["traps"]) if state.get("traps") else None
        if xdp := state.get("xdp"):
            state["xdp"] = XdpFds(xdp["links"], [PoolFds(**pool) for pool in xdp["pools"]])
        return cls(**state)


def lock_state(state_dir: str) -> int:
    """The fd that holds the lock of state_dir.  Raises StartFailed when another service has it."""
    try:
        os.makedirs(state_dir, mode=0o751, exist_ok=True)  # others may pass to the control socket
        fd = open_or_read(os.path.join(state_dir, "lock"))
    except OSError as error:
        raise StartFailed(f"dhcp.state_dir {state_dir}: {error.strerror}; make it or name another folder") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise StartFailed(
            f"dhcp.state_dir {state_dir}: another bootstorm (pid {holder}) serves from it; stop that one first, or "
            "give this one a state_dir of its own"
        ) from error
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:  # what is there is served all the same
        log.error(
            "dhcp.state_dir %s: %s; nothing new can be kept there until that is mended", state_dir, error.strerror
        )
    return fd


def open_or_read(path: str) -> int:
    """A file to be locked, made where it must be; on a disk that is read-only the one that is there."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def open_all(settings: Settings, config_fd: int) -> Kept:
    """First start: lock, open, hand over to the service user, and give up all privileges.  Raises StartFailed."""
    observe = settings.mode == "observe"
    try:
        owner = owner_of(settings.user)
        lock = lock_state(settings.state_dir)
        known, known_fault = try_known() if settings.drop_strangers and not observe else (-1, "")
        slots, boot_fault = open_slots(settings.workers, settings.port, owner, observe, settings.boot_port, known)
        tap = open_tap(settings.interfaces) if observe else -1
        xdp, io_reason = try_xdp(settings, owner)
        console = open_console(settings.console_path, owner)
        traps, traps_fault = try_traps(settings, owner)
        if owner is not None:
            for path in (settings.state_dir, os.path.join(settings.state_dir, "lock")):
                give(path, owner)
        drop_privileges(owner)
    except (SocketsFailed, UserUnknown, OSError) as error:
        raise StartFailed(str(error)) from error
    if not os.access(sys.executable, os.X_OK):
        raise StartFailed(
            f"dhcp.user {settings.user} may not execute {sys.executable}; install bootstorm where that user can read it"
        )
    observer_end, control_end = channel_ends() if observe else (-1, -1)
    return Kept(
        tap=tap,
        observer_end=observer_end,
        control_end=control_end,
        config=config_fd,
        lock=lock,
        console=console,
        site_page=create_site_page(),
        adopted_bell=os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK),
        event_bell=os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK),
        slots=slots,
        pages=[create_worker_page(slot) for slot in range(settings.workers)],
        traps=traps,
        traps_fault=traps_fault,
        boot_fault=boot_fault,
        known=known,
        known_fault=known_fault,
        xdp=xdp,
        io_reason=io_reason,
    )


def give(path: str, owner: tuple[int, int]) -> None:
    """Raises OSError, unless the disk is read-only: then whose it is decides nothing."""
    try:
        os.chown(path, *owner)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise


def try_traps(settings: Settings, owner: tuple[int, int] | None) -> tuple[TrapFds | None, str]:
    """Where traps are to be received.  Machines need addresses whoever holds the trap port: a fault there is told in
    log and status, and DHCP is served."""
    if settings.trap_address is None:
        return None, ""
    try:
        return open_traps(settings.trap_address, settings.trap_port, owner), ""
    except SocketsFailed as failed:
        log.error("no traps: %s", failed)
        return None, str(failed)


def try_xdp(settings: Settings, owner: tuple[int, int] | None) -> tuple[XdpFds | None, str]:
    """Where dhcp.io asks for it.  Sockets answer all the same: a fault there is told in log and status."""
    if settings.io != "xdp":
        return None, ""
    try:
        if settings.mode == "observe":
            raise XdpFailed("dhcp.mode is observe, which takes nothing off the wire")
        return open_xdp(settings.interfaces, settings.workers, settings.port, owner), ""
    except XdpFailed as failed:
        log.error("no XDP, sockets instead: %s", failed)
        return None, str(failed)
