"""The start of a supervisor with what the one before had the service manager keep (fdstore.py): the same sockets with
what waits in them, the same pages, the same table, the configuration that was accepted.

All or nothing of what was opened: a socket that is missing would leave its share of the hosts without an answer.  What
is memory and cannot be used is made anew.  What is refused is taken back from the manager before anything is opened: it
would hold port 67 with us, and the kernel would give it our requests.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import socket
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from ext.ledger import is_ledger
from ext.page import INBOX_AT, SITE_PAGE_BYTES, SiteWords, WorkerPage, create_site_page, create_worker_page

from fastpath.privileges.sandbox import UserUnknown, drop_privileges, owner_of
from fastpath.process.build import BUILD_NAME
from fastpath.process.limits import too_few_files
from fastpath.process.logs import choose_form
from fastpath.process.notify import Handed, NotifySocket
from fastpath.process.turns import create_turns
from fastpath.protocol import GENERATION_MAX, MessageRefused, Settings, close_all, known
from fastpath.sockets.sniffer import channel_ends
from fastpath.sockets.sockets import SlotSockets, SocketsFailed, open_console
from fastpath.sockets.trap_port import TrapFds
from fastpath.sockets.xdp import PoolFds, XdpFds
from fastpath.supervisor.children import LAYOUTS, table_layout
from fastpath.supervisor.descriptors import Kept, StartFailed, try_ledger, write_pid
from fastpath.supervisor.fdstore import FAULTS, FORM, STATE, TRY, Store, is_spare
from fastpath.supervisor.manager import hung_up

log = logging.getLogger("bootstorm.manager")

TRIES_MAX = 3  # starts in a row with the same descriptors that did not come to serve; then these are not used again
STATE_BYTES_MAX = 1 << 20
RELEASE_S = 10.0  # for the manager to give up what is refused
AGAIN_S = 0.02
SOCKETS = (
    "console", "udp", "urgent", "packet", "boot", "tap", "traps_udp", "traps_receiver", "traps_control", "xdp_plain",
    "xdp_urgent",
)  # fmt: skip
_NAME = re.compile(r"([a-z_]+(?:-\d+)*)((?:\.\d+){1,3})")
T = TypeVar("T")


class Refused(Exception):
    """What was handed back cannot be gone on with; says why."""


@dataclass(slots=True)
class Found:
    """What was handed back, by role.  tables: (role, numbers, serial, handed) of each base and delta; rest: what is not
    needed; state: its text."""

    taken: dict[str, Handed] = field(default_factory=dict)
    tables: list[tuple[str, tuple[int, ...], int, Handed]] = field(default_factory=list)
    rest: list[Handed] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)
    tries: int = 0

    def fd(self, role: str) -> int:
        return self.taken[role].fd if role in self.taken else -1

    def take(self, role: str) -> int:
        """One that was taken, and may be used.  Raises Refused."""
        if role not in self.taken:
            raise Refused(f"{role} is missing")
        return self.taken[role].fd

    def drop(self, role: str, why: str) -> None:
        """One of this role will be made anew."""
        handed = self.taken.pop(role, None)
        if handed is not None:
            log.warning("handed back by the service manager: %s is made anew: %s", role, why)
            self.rest.append(handed)


def sorted_out(handed: Sequence[Handed]) -> Found:
    """By role; of several of one role the youngest counts."""
    found, serials = Found(), dict[str, int]()
    for each in handed:
        named = _NAME.fullmatch(each.name)
        if named is None:
            log.warning("handed back by the service manager: %.100r is none of ours: closed", each.name)
            found.rest.append(each)
            continue
        role, (*numbers, serial) = named[1], [int(number) for number in named[2][1:].split(".")]
        if role in ("base", "delta"):
            found.tables.append((role, tuple(numbers), serial, each))
        elif serial > serials.get(role, -1):
            if role in found.taken:
                found.rest.append(found.taken[role])
            found.taken[role], serials[role] = each, serial
        else:
            found.rest.append(each)
    return found


def read_state(found: Found) -> None:
    """Also counts this try, before anything can go wrong with it.  Raises Refused."""
    fd = found.take(STATE)
    try:
        content = os.pread(fd, STATE_BYTES_MAX, 0)
        line, _newline, tries = content.partition(b"\n")
        found.tries = len(tries) + 1
        os.pwrite(fd, TRY, len(content))
        found.state = json.loads(line)
    except (OSError, ValueError) as fault:
        raise Refused(f"the state cannot be read: {fault}") from fault
    if not isinstance(found.state, dict):
        raise Refused("the state is none")
    form = found.state.get("form")
    if form != FORM:
        raise Refused(f"they are of {found.state.get('build', 'an unknown build')}, in form {form}; wanted form {FORM}")
    if found.tries > TRIES_MAX:
        raise Refused(f"{TRIES_MAX} starts in a row with them did not come to serve")


def check_all_there(found: Found) -> None:
    """Everything that the one before had open is here, and is what its name says.  Raises Refused."""
    roles = [str(role) for role in found.state.get("roles", [])]
    missing = [role for role in roles if role not in found.taken]
    if missing or not roles:
        raise Refused(
            f"{len(missing)} of {len(roles)} are missing, such as {', '.join(missing[:5])}; "
            "found a store that was full, perhaps: raise FileDescriptorStoreMax= of the unit"
        )
    for role in sorted(found.taken.keys() - set(roles) - {STATE}):
        if not is_spare(role):
            found.rest.append(found.taken.pop(role))
    for role in roles:
        is_socket = stat.S_ISSOCK(os.fstat(found.fd(role)).st_mode)
        wanted = role.partition("-")[0] in SOCKETS
        if is_socket != wanted:
            raise Refused(f"{role} is {'a' if is_socket else 'no'} socket")


def check_ports(found: Found, settings: Settings) -> None:
    """Raises Refused for a socket that is not where this service's are."""
    for slot in range(settings.workers):
        for kind in ("udp", "urgent"):
            with socket.socket(fileno=os.dup(found.take(f"{kind}-{slot}"))) as sock:
                port = sock.getsockname()[1] if sock.family == socket.AF_INET else -1
            if port != settings.port and not (settings.mode == "observe" and port == 0):
                raise Refused(f"{kind}-{slot} is at port {port}, wanted {settings.port}")


def memory(found: Found, workers: int) -> bool:
    """Pages, site page and ledger that this build can use stay in `taken`.  True: all pages are there, so that it is
    known what the workers answered from."""
    all_there = True
    for slot in range(workers):
        role = f"page-{slot}"
        try:
            check_size(found.take(role), INBOX_AT)
            if (page := WorkerPage(found.take(role))).slot != slot:
                raise ValueError(f"it is of slot {page.slot}")
        except (Refused, OSError, ValueError) as fault:
            all_there = False
            found.drop(role, str(fault))
    try:
        check_size(found.take("site"), SITE_PAGE_BYTES)
        SiteWords(found.take("site"))
    except (Refused, OSError, ValueError) as fault:
        found.drop("site", str(fault))
    if not is_ledger(found.fd("ledger")):
        found.drop("ledger", "it is of another layout than this build's")
    return all_there


def check_size(fd: int, least: int) -> None:
    """To read beyond the end of a mapped file ends a process.  Raises OSError, ValueError."""
    if (size := os.fstat(fd).st_size) < least:
        raise ValueError(f"found {size} bytes, wanted {least}")


@dataclass(slots=True)
class Table:
    """A pair that was handed back; delta None: a base alone."""

    generation: int
    base_generation: int
    layout: int
    base: Handed
    delta: Handed | None = None


def youngest_table(found: Found) -> Table | None:
    """What was published last, as far as the manager has it whole."""
    bases: dict[int, Table] = {}
    for role, numbers, _serial, handed in sorted(found.tables, key=lambda each: each[2]):
        if role == "base" and len(numbers) == 2 and 0 < numbers[0] < GENERATION_MAX:
            bases[numbers[0]] = Table(numbers[0], numbers[0], numbers[1], handed)
    tables = list(bases.values())
    for role, numbers, _serial, handed in sorted(found.tables, key=lambda each: each[2]):
        if role == "delta" and len(numbers) == 2 and numbers[1] in bases and numbers[1] <= numbers[0] < GENERATION_MAX:
            base = bases[numbers[1]]
            tables.append(Table(numbers[0], base.generation, base.layout, base.base, handed))
    return max(tables, key=lambda table: (table.generation, table.delta is not None), default=None)


def usable_table(found: Found, all_pages: bool, adopted: int) -> Table | None:
    """adopted: the youngest generation that a worker has answered from.  What is older than that, or of unknown age
    beside it, might give an address that has another owner by now: the one on disk is dated, and this one is not."""
    table, why = youngest_table(found), ""
    if table is None:
        why = "there is none" if adopted else ""
    elif not all_pages:
        why = "nobody knows whether it is what was answered from last"
    elif table.generation < adopted:
        why = f"generation {table.generation} is older than {adopted}, from which a worker has answered"
    elif table.layout != LAYOUTS["table"]:
        why = f"its layout is {table.layout}, this build's {LAYOUTS['table']}"
    else:
        why = fault_of(table)
    if why:
        log.warning("handed back by the service manager: the table is not used: %s; the one on disk serves", why)
    return None if why else table


def fault_of(table: Table) -> str:
    """Why its descriptors are no table of that layout; "" where they are."""
    try:
        for handed in (table.base, table.delta):
            if handed is not None and (layout := table_layout(handed.fd)) != table.layout:
                return f"{handed.name} has layout {layout}"
    except (OSError, ValueError) as fault:
        return str(fault)
    return ""


def kept_of(found: Found, settings: Settings) -> Kept:
    """Everything, as open_all() would have it; nothing is opened that was handed back.  Raises Refused, OSError."""
    all_pages = memory(found, settings.workers)
    pages = [found.fd(f"page-{slot}") for slot in range(settings.workers)]
    words = [WorkerPage(fd) for fd in pages if fd >= 0]
    table = usable_table(found, all_pages, max((page.generation for page in words), default=0))
    for page in words:
        page.pid = page.generation = 0  # its worker died with the supervisor
    if table is None:
        found.drop("site", "what it says of a table's age is of one that is not used")
    slots = [
        SlotSockets(
            udp=found.take(f"udp-{slot}"),
            urgent=found.take(f"urgent-{slot}"),
            packet=found.take(f"packet-{slot}"),
            boot=found.fd(f"boot-{slot}"),
        )
        for slot in range(settings.workers)
    ]
    observe = settings.mode == "observe"
    observer_end, control_end = channel_ends() if observe else (-1, -1)
    kept = Kept(
        config=found.take("config"),
        lock=found.take("lock"),
        console=found.take("console"),
        site_page=found.fd("site") if "site" in found.taken else create_site_page(),
        adopted_bell=os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK),
        event_bell=os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK),
        slots=slots,
        pages=[fd if fd >= 0 else create_worker_page(slot) for slot, fd in enumerate(pages)],
        tap=found.fd("tap"),
        observer_end=observer_end,
        control_end=control_end,
        traps=traps_of(found),
        known=found.fd("known"),
        xdp=xdp_of(found, settings.workers),
        turns=create_turns(),
        ledger=found.fd("ledger") if "ledger" in found.taken else try_ledger(),
    )
    for name in FAULTS:
        setattr(kept, name, str(found.state.get("faults", {}).get(name, "")))
    take_table(found, kept, table)
    return kept


def traps_of(found: Found) -> TrapFds | None:
    if "traps_udp" not in found.taken:
        return None
    return TrapFds(*(found.take(f"traps_{name}") for name in ("udp", "queue", "receiver", "control")))


def xdp_of(found: Found, workers: int) -> XdpFds | None:
    """None where XDP was off, and where its memory is laid out otherwise: then all of it is dropped, which takes the
    programs off the interfaces, and the sockets get what these took."""
    links = [found.taken[role].fd for role in found.taken if role.startswith("xdp_link-")]
    if not links:
        return None
    if found.state.get("layouts", {}).get("pool") != LAYOUTS["pool"]:
        for role in [role for role in found.taken if role.startswith("xdp_")]:
            found.drop(role, "this build lays out the memory of XDP otherwise; a restart opens it anew")
        return None
    queues = sum(role.startswith("xdp_memory-") for role in found.taken)
    pools = [
        PoolFds(
            found.take(f"xdp_memory-{at}"),
            [found.take(f"xdp_plain-{at}-{slot}") for slot in range(workers)],
            [found.take(f"xdp_urgent-{at}-{slot}") for slot in range(workers)],
        )
        for at in range(queues)
    ]
    return XdpFds(links, pools)


def take_table(found: Found, kept: Kept, table: Table | None) -> None:
    used = [handed for handed in (table.base, table.delta) if handed is not None] if table is not None else []
    found.rest += [handed for _role, _numbers, _serial, handed in found.tables if handed not in used]
    if table is None:
        return
    kept.generation, kept.base_generation, kept.table_layout = table.generation, table.base_generation, table.layout
    found.taken["base"], kept.base = table.base, table.base.fd
    if table.delta is not None:
        found.taken["delta"], kept.delta = table.delta, table.delta.fd


def settings_of(found: Found) -> Settings:
    """Raises Refused."""
    try:
        settings: Settings = known(Settings, found.state.get("settings", {}))
    except MessageRefused as fault:
        raise Refused(f"the settings cannot be read: {fault}") from fault
    if not 0 < settings.workers <= 64:
        raise Refused(f"the settings say {settings.workers} workers")
    return settings


def check_console(found: Found, settings: Settings) -> None:
    """A socket whose path is gone (a runtime folder that was removed) can be reached by nobody: it is opened anew.
    Raises Refused, UserUnknown."""
    try:
        if stat.S_ISSOCK(os.stat(settings.console_path).st_mode):
            return
    except OSError as error:
        if error.errno != errno.ENOENT:
            return
    try:
        fd = open_console(settings.console_path, owner_of(settings.user))
    except SocketsFailed as failed:
        raise Refused(str(failed)) from failed
    found.drop("console", f"{settings.console_path} is gone")
    found.taken["console"] = Handed("", fd)


def go_on(handed: Sequence[Handed]) -> tuple[Settings, Kept, Store]:
    """A start with what was handed back.  Raises Refused with nothing taken; StartFailed where the kernel refuses."""
    found = sorted_out(handed)
    try:
        for each in handed:
            os.set_inheritable(each.fd, False)
        read_state(found)
        settings = settings_of(found)
        check_all_there(found)
        check_ports(found, settings)
        check_console(found, settings)
        kept = kept_of(found, settings)
        drop_privileges(owner_of(settings.user))
    except (OSError, ValueError, TypeError, UserUnknown) as fault:
        raise Refused(f"{type(fault).__name__}: {fault}") from fault
    choose_form_of(found.state)
    too_few_files(settings.workers)
    write_pid(kept.lock, settings.state_dir)
    store = Store()
    console = found.taken["console"]
    if not console.name:  # opened by us just now
        del found.taken["console"]
    taken = {role: each for role, each in found.taken.items() if role != STATE}
    store.take_over(taken, [*found.rest, found.taken[STATE]], found.tries)
    close_all([each.fd for each in (*found.rest, found.taken[STATE])])
    log.warning(
        "the service manager has kept %d descriptors of %s: going on with them, with the configuration that was "
        "accepted, from generation %d; what waits in the sockets is answered",
        len(taken),
        found.state.get("build", BUILD_NAME),
        kept.generation,
    )
    return settings, kept, store


def choose_form_of(state: Mapping[str, Any]) -> None:
    name = str(state.get("log_format", ""))
    if name in ("text", "json"):
        choose_form(name)


def release(handed: Sequence[Handed], sock: NotifySocket | None) -> None:
    """Closed here, and forgotten by the manager, or nobody must open the port again.  Raises StartFailed."""
    close_all([each.fd for each in handed])
    deadline = time.monotonic() + RELEASE_S
    try:
        if sock is None:
            raise OSError(errno.ENOENT, "NOTIFY_SOCKET names none")
        for name in dict.fromkeys(each.name for each in handed):
            insist(partial(sock.send, f"FDSTOREREMOVE=1\nFDNAME={name}"), deadline)
        barrier = insist(sock.barrier, deadline)
        try:
            if not hung_up(barrier, max(0.0, deadline - time.monotonic())):
                raise TimeoutError(errno.ETIMEDOUT, f"no word from it for {RELEASE_S:.0f} s")
        finally:
            close_all([barrier])
    except OSError as error:
        raise StartFailed(
            f"the service manager still has sockets of the service before, which it handed back and which cannot be "
            f"used, and it does not give them up: {error.strerror or error}; stop the unit, then start it"
        ) from error


def insist(act: Callable[[], T], deadline: float) -> T:
    """Until it succeeds: the manager's queue may be full.  Raises OSError when the time is over."""
    while True:
        try:
            return act()
        except OSError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(AGAIN_S)  # nothing tells when there is room in the queue of another process
