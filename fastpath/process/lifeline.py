"""A process that dies with the one that started it, also while it is stopped (SIGSTOP) or hangs.

A closed channel tells a process that runs that its parent is gone; one that is stopped would go on holding port 67.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct

_PR_SET_PDEATHSIG = 1


def die_with_parent(channel_fd: int) -> None:
    """Called first in a child, with the fd of its channel, which names the process that made it.

    The kernel sends the signal when the *thread* that started us ends: start children from main threads only.  It stays
    over an exec of the parent.  Exits at once where the parent was quicker.  Raises OSError when the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_PDEATHSIG): {os.strerror(number)}")
    with socket.socket(fileno=os.dup(channel_fd)) as sock:
        parent, _uid, _gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if os.getppid() != parent:
        os._exit(1)
