"""What the supervisor opens at the start and keeps: every socket, page, channel; and the start itself.

Also over an upgrade: all of it is fds, and goes through the re-exec as numbers.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import resource
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ext.ledger import create_ledger
from ext.page import create_site_page, create_worker_page

from fastpath.privileges.folders import Untrusted, check_file, check_folder, give, is_real_root, opened_folder
from fastpath.privileges.sandbox import UserUnknown, drop_privileges, owner_of
from fastpath.process.turns import create_turns
from fastpath.protocol import Settings, known
from fastpath.sockets.sniffer import channel_ends, open_tap
from fastpath.sockets.sockets import SlotSockets, SocketsFailed, open_console, open_slots
from fastpath.sockets.trap_port import TrapFds, open_traps
from fastpath.sockets.unknown_mac_filter import try_known
from fastpath.sockets.xdp import PoolFds, XdpFailed, XdpFds, open_xdp

log = logging.getLogger("bootstorm.supervisor")


LOCK_BYTES_MAX = 20  # a pid and a newline


class StartFailed(Exception):
    """The service cannot start; one line that says why and what to do."""


@dataclass(slots=True)
class Kept:
    """Every fd that outlives the other processes, and this one over an upgrade.

    Another build reads it by the fields that it knows (restore()): a new field has a default, none changes its meaning.
    Lists that are as long as there are workers are in the order of their slots."""

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
    turns: int = -1  # fastpath/process/turns.py
    table_layout: int = 0  # of base and delta
    ledger: int = -1  # ext/ledger.pxd

    def fds(self) -> list[int]:
        single = [
            self.turns,
            self.ledger,
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

    def table_by_name(self) -> dict[str, int]:
        return {name: fd for name, fd in (("base", self.base), ("delta", self.delta)) if fd >= 0}

    def slot_fds(self, slot: int) -> dict[str, int | list[int]]:
        """What the worker of a slot gets, by the names of Assign."""
        sockets = self.slots[slot]
        named: dict[str, int | list[int]] = {
            "udp": sockets.udp,
            "urgent": sockets.urgent,
            "packet": sockets.packet,
            "page": self.pages[slot],
            "site": self.site_page,
            "adopted": self.adopted_bell,
            "events": self.event_bell,
        }
        if sockets.boot >= 0:
            named["boot"] = sockets.boot
        if self.ledger >= 0:
            named["ledger"] = self.ledger
        if self.xdp:
            named["pool_memory"] = [pool.memory for pool in self.xdp.pools]
            named["pool_plain"] = [pool.plain[slot] for pool in self.xdp.pools]
            named["pool_urgent"] = [pool.urgent[slot] for pool in self.xdp.pools]
        return named

    def told(self) -> dict[str, Any]:
        """For restore(), perhaps of another build."""
        return asdict(self)

    @classmethod
    def restore(cls, told: Mapping[str, Any]) -> Kept:
        """From told(), perhaps of another build.  Raises MessageRefused where that lacks what this build cannot do
        without."""
        kept: Kept = known(cls, told)
        kept.slots = [known(SlotSockets, slot) for slot in told["slots"]]
        if kept.xdp is not None:
            kept.xdp.pools = [known(PoolFds, pool) for pool in told["xdp"]["pools"]]
        return kept


def lock_state(state_dir: str, owner: tuple[int, int] | None = None) -> int:
    """The fd that holds the lock of state_dir; folder and lock are the owner's from then on.

    Raises StartFailed when another service has it, or when either is not what root may touch."""
    path = os.path.join(state_dir, "lock")
    try:
        with opened_folder(state_dir, make=True) as folder:
            check_folder(folder, state_dir, owner)
            fd = open_lock(folder, path, owner)
            if owner is not None:
                give(fd, owner)
                give(folder, owner)
    except Untrusted as found:
        raise StartFailed(f"dhcp.state_dir {state_dir}: {found}") from found
    except OSError as error:
        raise StartFailed(f"dhcp.state_dir {state_dir}: {error.strerror}; make it or name another folder") from error
    return fd


def open_lock(folder: int, path: str, owner: tuple[int, int] | None) -> int:
    """Raises OSError, Untrusted, StartFailed."""
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        try:
            fd = os.open("lock", os.O_RDWR | os.O_CREAT | flags, 0o640, dir_fd=folder)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            fd = os.open("lock", os.O_RDONLY | flags, dir_fd=folder)  # what is there is served all the same
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise Untrusted(f"{path} is a symbolic link, a pipe or a folder; remove it") from error
        raise
    try:
        check_file(fd, path, owner)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
            raise StartFailed(
                f"dhcp.state_dir {os.path.dirname(path)}: another bootstorm (pid {holder}) serves from it; stop that "
                "one first, or give this one a state_dir of its own"
            ) from error
        if not re.fullmatch(rb"[0-9]*\n?", os.pread(fd, LOCK_BYTES_MAX + 1, 0)):
            raise Untrusted(f"{path} holds something else than a pid; remove it")
        write_pid(fd, os.path.dirname(path))
    except BaseException:
        os.close(fd)
        raise
    return fd


def write_pid(lock: int, state_dir: str) -> None:
    """On a full or read-only disk what is there is served all the same."""
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        log.error(
            "dhcp.state_dir %s: %s; nothing new can be kept there until that is mended", state_dir, error.strerror
        )


def refused(error: OSError) -> StartFailed:
    """What the system refuses at the start, in one line."""
    what = "the system refuses what the start needs"
    files, size = resource.getrlimit(resource.RLIMIT_NOFILE)[0], resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if error.errno == errno.EMFILE:
        return StartFailed(
            f"{what}: {error.strerror}; found a limit of {files}, wanted 1024 or more; raise it (ulimit -n, "
            "LimitNOFILE of the unit)"
        )
    if error.errno == errno.EFBIG:
        return StartFailed(
            f"{what}: {error.strerror}; found a limit of {size} bytes for a file, wanted none; lift it (ulimit -f, "
            "LimitFSIZE of the unit)"
        )
    return StartFailed(f"{what}: {error}")


def open_all(settings: Settings, config_fd: int) -> Kept:
    """First start: lock, open, hand over to the service user, and give up all privileges.  Raises StartFailed."""
    observe = settings.mode == "observe"
    try:
        owner = owner_of(settings.user)
        lock = lock_state(settings.state_dir, owner)
        known, known_fault = try_known() if settings.drop_strangers and not observe else (-1, "")
        slots, boot_fault = open_slots(settings.workers, settings.port, owner, observe, settings.boot_port, known)
        tap = open_tap(settings.interfaces) if observe else -1
        xdp, io_reason = try_xdp(settings, owner)
        console = open_console(settings.console_path, owner)
        traps, traps_fault = try_traps(settings, owner)
        drop_privileges(owner)
    except (SocketsFailed, UserUnknown) as error:
        raise StartFailed(str(error)) from error
    if is_real_root():
        log.warning(
            "running as root, since dhcp.user is not set: whoever takes over a process that reads what comes from the "
            "network owns all files of root's; set dhcp.user, or start it as that user (docs/operations.md, Privileges)"
        )
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
        turns=create_turns(),
        ledger=try_ledger(),
    )


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


def try_ledger() -> int:
    """-1 where the system gives none, by a limit on the size of files for example: machines need addresses, however far
    their boots are known."""
    try:
        fd: int = create_ledger()
        return fd
    except OSError as error:
        log.error("no boot ledger: %s; `ctl hosts` has nothing to tell until a start that gets one", error)
        return -1


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
