"""The limit on open files: whether a service fits below it, asked before anything is opened."""

from __future__ import annotations

import contextlib
import resource

FILES_LEAST, FILES_A_WORKER = 40, 8  # the supervisor has about 25, and 7 a worker


def too_few_files(workers: int) -> str:
    """Why so many workers do not fit below the limit, or nothing.  Takes what the hard limit allows, if it must."""
    wanted = FILES_LEAST + FILES_A_WORKER * workers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return ""
        return (
            f"open files: found a limit of {soft} (hard {hard}); wanted at least {wanted} for {workers} workers; raise "
            "LimitNOFILE= of the unit, or ulimit -n, or set dhcp.workers to fewer"
        )
    return ""
