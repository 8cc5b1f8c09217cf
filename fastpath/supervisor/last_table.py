"""The table that was served before this start, for the workers at once, where all that it depends on is as it was.

Otherwise, and for everything that follows, control and its planner say what is served; they find this table in force as
they would find that of a control process before them.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sys
import time
from dataclasses import dataclass

from ext.page import SiteWords
from ext.table import Generation, Pair, TableInvalid, new_memfd

from ext import table as table_module
from fastpath.process import table_proof, unsaved_rows
from fastpath.protocol import GENERATION_MAX, Settings, close_all
from fastpath.sockets.interface_addresses import interface_addresses
from fastpath.supervisor.children import LAYOUTS, table_layout
from fastpath.supervisor.descriptors import Kept

log = logging.getLogger("bootstorm.supervisor")

SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
LENGTH_AT = 24  # where the header says how long the whole is
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CONFIG_BYTES_MAX = 1 << 20


class NotAsItWas(Exception):
    """The planner has to look at it; says why."""


@dataclass(frozen=True, slots=True)
class LastTable:
    """delta: -1 where there is none.  dated_s: since 1970, the inventory's last confirmation."""

    base: int
    delta: int
    generation: int
    base_generation: int
    dated_s: float


def serve_last_table(settings: Settings, kept: Kept) -> bool:
    """As if control had published it: whether there is one to serve."""
    found = last_table(settings, kept.config)
    if found is None:
        return False
    kept.base, kept.delta, kept.table_layout = found.base, found.delta, LAYOUTS["table"]
    kept.generation, kept.base_generation = found.generation, found.base_generation
    date(SiteWords(kept.site_page), found.dated_s)
    words = "generation %d from disk is served: dhcp in services.conf and the interfaces are as they were"
    log.info(words, found.generation)
    return True


def date(site: SiteWords, dated_s: float) -> None:
    """As control does it when it looks at the clock (control/service/served_table.py), which it goes on with: of an age
    that the clock cannot tell nobody is refused (NAK)."""
    now_s = time.time()
    site.dated_s = int(dated_s)
    if dated_s <= now_s and now_s >= os.stat(table_module.__file__).st_mtime:
        site.confirmed_boottime_s = int(time.clock_gettime(time.CLOCK_BOOTTIME) - (now_s - dated_s))


def last_table(settings: Settings, config_fd: int) -> LastTable | None:
    """None, with a line in the log, where it is not to be served as it lies there.  The caller owns the fds."""
    if settings.mode != "serve" or settings.drop_strangers:
        return None  # an observer compares what control serves; the kernel's filter learns the MACs from control
    try:
        return proven(settings.state_dir, os.pread(config_fd, CONFIG_BYTES_MAX + 1, 0))
    except FileNotFoundError:
        return None  # the first start
    except (NotAsItWas, TableInvalid, ValueError, OSError) as why:
        words = f"{why.filename}: {why.strerror}" if isinstance(why, OSError) and why.filename else str(why)
        log.info("the table on disk waits for the planner: %s", words)
        return None


def proven(state_dir: str, config: bytes) -> LastTable:
    """Raises NotAsItWas, TableInvalid, ValueError, OSError."""
    if not os.access(state_dir, os.W_OK | os.X_OK):  # a proof is withdrawn by removing it
        raise NotAsItWas(f"{state_dir} cannot be written: what lies there may be older than what was served last")
    proof = table_proof.read(content(os.path.join(state_dir, table_proof.FILE), table_proof.BYTES_MAX))
    if reason := proof.unlike(config, interface_addresses()):
        raise NotAsItWas(reason)
    unsaved = unsaved_rows.read(os.path.join(state_dir, unsaved_rows.FILE))
    if unsaved is not None:
        raise NotAsItWas(unsaved.words())
    fds: list[int] = []
    try:
        for file, name in (("table.base", proof.base), ("table.delta", proof.delta)):
            if name:
                fds.append(sealed_copy(os.path.join(state_dir, file), name))
        generations = [Generation(fd) for fd in fds]
        for generation in generations:
            generation.verify()
        base, top = generations[0], generations[-1]
        Pair(base, top if len(fds) > 1 else None)
        if not proof.delta:
            look_for_delta(os.path.join(state_dir, "table.delta"), base)
        if not 0 < base.number <= top.number < GENERATION_MAX:
            raise NotAsItWas(f"generation {top.number} on base {base.number}")
    except BaseException:
        close_all(fds)
        raise
    return LastTable(fds[0], fds[1] if len(fds) > 1 else -1, top.number, base.number, proof.confirmed_s)


def look_for_delta(path: str, base: Generation) -> None:
    """Raises NotAsItWas where there is a delta of a base of which the proof says that it is served alone; TableInvalid
    for a damaged one."""
    try:
        fd = sealed_copy(path)
    except FileNotFoundError:
        return
    try:
        delta = Generation(fd)
    finally:
        os.close(fd)
    delta.verify()
    try:
        Pair(base, delta)
    except TableInvalid:  # of another base, and left there
        return
    raise NotAsItWas(f"{path} is younger than {table_proof.FILE}")


def content(path: str, most: int) -> bytes:
    """Raises OSError, NotAsItWas."""
    fd = os.open(path, FILE_FLAGS)
    try:
        found = os.read(fd, most + 1)
    finally:
        os.close(fd)
    if len(found) > most:
        raise NotAsItWas(f"{path} is larger than {most} bytes")
    return found


def sealed_copy(path: str, name: str = "") -> int:
    """A memfd with a table that nobody can change any more.  name: of the one that is wanted.  Raises OSError,
    NotAsItWas for another one."""
    source = os.open(path, FILE_FLAGS)
    try:
        size = os.fstat(source).st_size
        said = os.pread(source, 8, LENGTH_AT)
        if (name and table_proof.name_of(source) != name) or said != size.to_bytes(8, sys.byteorder):
            raise NotAsItWas(f"{path} is another one than was served last")
        fd: int = new_memfd(f"bootstorm-{os.path.basename(path)}")
        try:
            at = 0
            while at < size:
                sent = os.sendfile(fd, source, at, size - at)
                if sent == 0:
                    raise NotAsItWas(f"{path} became shorter")
                at += sent
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
            if table_layout(fd) != LAYOUTS["table"]:
                raise NotAsItWas(f"{path} is of another layout")
        except BaseException:
            os.close(fd)
            raise
    finally:
        os.close(source)
    return fd
