"""That a loop turns, shown in shared memory: a word for each kind of process that has one, read by the supervisor; and
how a process does whose loop does not.

A word is shown by the loop itself, never by a thread beside it: a thread turns on while the loop hangs.  The layout (a
word of 64 bits for each of KINDS, in this order) is the same in every build; kinds are only ever appended.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time

KINDS = ("control", "traps", "observer")  # the workers show theirs in their pages
BYTES = 4096
_MFD_ALLOW_SEALING, _F_ADD_SEALS = 0x0002, 1033
_SEALS = 0x0002 | 0x0004  # F_SEAL_SHRINK, F_SEAL_GROW: who has it cannot cut the memory off under its reader


def create_turns() -> int:
    """A new memfd in which nobody has turned yet; the caller owns it.  Raises OSError."""
    fd = os.memfd_create("bootstorm-turns", os.MFD_CLOEXEC | _MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, BYTES)
        fcntl.fcntl(fd, _F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(fd)
        raise
    return fd


class Turns:
    """Maps the memfd; fd is borrowed.  Raises OSError."""

    def __init__(self, fd: int) -> None:
        self.map = mmap.mmap(fd, BYTES)
        self.words = memoryview(self.map).cast("Q")

    def show(self, kind: str) -> None:
        self.words[KINDS.index(kind)] = time.monotonic_ns()

    def last_s(self, kind: str) -> float:
        """CLOCK_MONOTONIC of the last turn; 0.0: none since forget()."""
        return self.words[KINDS.index(kind)] / 1e9

    def forget(self, kind: str) -> None:
        self.words[KINDS.index(kind)] = 0


def look_at(pid: int) -> tuple[str, int] | None:
    """(state, CPU time of all threads in ns) of a process; None where /proc does not tell, for want of a descriptor."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        return fields[0], (int(fields[11]) + int(fields[12])) * 10_000_000
    except (OSError, IndexError, ValueError):
        return None
