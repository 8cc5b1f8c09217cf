"""What a worker may still ask of the kernel once it has loaded everything: its sockets, memory and clocks.

The supervisor makes the program once; loading libseccomp takes as long as the rest of a worker's start.  The worker
only installs it (ext/pump.pyx).
"""

from __future__ import annotations

import errno
import logging
import os

log = logging.getLogger("bootstorm.confine")

ALLOWED = (  # by what they are for; a name that this machine's architecture does not have is left out
    # packets, and the channel to the supervisor
    "recvmmsg", "sendmmsg", "recvmsg", "sendmsg", "sendto", "recvfrom", "setsockopt", "getsockopt", "poll", "ppoll",
    # tables come as fds and are mapped
    "mmap", "munmap", "mremap", "mprotect", "madvise", "brk", "fstat", "newfstatat", "lseek", "pread64", "close",
    # doorbells, log lines
    "fcntl", "read", "write", "writev",
    # threads, signals, time
    "futex", "set_robust_list", "rseq", "sched_yield", "sched_getaffinity", "gettid", "getpid", "rt_sigaction",
    "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall", "tgkill", "exit", "exit_group", "clock_gettime",
    "clock_nanosleep", "gettimeofday", "getrandom",
)  # fmt: skip
CLONE_THREAD = 0x00010000


def worker_program() -> bytes:
    """The filter as the kernel takes it (struct sock_filter); everything but ALLOWED fails with EPERM.

    Empty where the machine has no libseccomp: workers serve all the same, and the log says so once."""
    try:
        import pyseccomp
    except (ImportError, RuntimeError, OSError) as missing:
        log.warning("workers run without a seccomp filter: %s; install libseccomp2 for it", missing)
        return b""
    allowed = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.EPERM))
    for name in ALLOWED:
        try:
            allowed.add_rule(pyseccomp.ALLOW, name)
        except ValueError:
            log.debug("no system call %s here", name)
    # A thread, no process.  Where clone3 takes its flags a filter cannot look; without it libc falls back to clone.
    thread = pyseccomp.Arg(0, pyseccomp.MASKED_EQ, CLONE_THREAD, CLONE_THREAD)
    allowed.add_rule(pyseccomp.ALLOW, "clone", thread)
    allowed.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")
    with os.fdopen(os.memfd_create("bootstorm-seccomp", os.MFD_CLOEXEC), "w+b") as file:
        allowed.export_bpf(file)
        file.seek(0)
        return file.read()
