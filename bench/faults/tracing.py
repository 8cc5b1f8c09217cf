"""Ends a process at one instant of its work: right behind a system call that did something, before it can act on it."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import time

RECVMMSG = {"x86_64": 299, "aarch64": 243}
_DETACH, _SYSCALL, _SEIZE, _INTERRUPT, _GET_SYSCALL_INFO = 17, 24, 0x4206, 0x4207, 0x420E
_TRACESYSGOOD, _WALL = 1, 0x40000000
_ENTRY, _EXIT = 1, 2


class _Info(ctypes.Structure):
    """struct ptrace_syscall_info of linux/ptrace.h, with the two of its variants that are read here."""

    _fields_ = (
        ("op", ctypes.c_uint8),
        ("arch", ctypes.c_uint32),
        ("instruction", ctypes.c_uint64),
        ("stack", ctypes.c_uint64),
        ("number_or_result", ctypes.c_int64),
        ("arguments", ctypes.c_uint64 * 8),
    )


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> int:
    result = int(_libc.ptrace(request, pid, address, data))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"ptrace of {pid}: {os.strerror(error)}")
    return result


def available() -> str:
    """Why this cannot be done here; empty when it can."""
    return "" if platform.machine() in RECVMMSG else f"the number of recvmmsg is not known on {platform.machine()}"


def kill_with_datagrams(pid: int, limit_s: float) -> bool:
    """SIGKILL to a process whose main thread has just received datagrams and not looked at them.

    False when it received none within limit_s; then it goes on.  OSError when it may not be traced or has ended."""
    wanted, number = RECVMMSG[platform.machine()], -1
    info = _Info()
    _ptrace(_SEIZE, pid, 0, _TRACESYSGOOD)
    _ptrace(_INTERRUPT, pid)
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        _pid, status = os.waitpid(pid, _WALL)
        if not os.WIFSTOPPED(status):
            raise ProcessLookupError(f"{pid} ended while it was traced")
        _ptrace(_GET_SYSCALL_INFO, pid, ctypes.sizeof(info), ctypes.addressof(info))
        if info.op == _ENTRY:
            number = info.number_or_result
        elif info.op == _EXIT and number == wanted and info.number_or_result > 0:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, _WALL)  # its parent hears of it after its tracer
            return True
        _ptrace(_SYSCALL, pid)
    _ptrace(_INTERRUPT, pid)
    os.waitpid(pid, _WALL)
    _ptrace(_DETACH, pid)
    return False
