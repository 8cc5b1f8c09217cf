"""Who dies first when memory ends: the planner and the registrars, which use the most and are replaced the easiest.

A score (oom_score_adj) is inherited by children, and anybody may raise his own; to lower it takes CAP_SYS_RESOURCE.
"""

from __future__ import annotations

import logging

log = logging.getLogger("bootstorm.oom")

SPARED = -900  # supervisor and workers, where that is permitted
FIRST, BEFORE_WORKERS = 700, 100  # above those: planner and registrars; control, observer, trap receiver
_PATH = "/proc/self/oom_score_adj"
_MAX = 1000


def offer(more: int) -> None:
    """This process, and what it starts, dies before those with a lower score."""
    try:
        with open(_PATH, "r+", encoding="ascii") as file:
            score = int(file.read())
            file.seek(0)
            file.write(str(min(_MAX, score + more)))
    except OSError as error:  # no /proc: the kernel judges by size alone
        log.info("%s stays as it is: %s", _PATH, error.strerror)


def spare() -> None:
    """This process, and what it starts, dies after all others.  A score that somebody chose stays."""
    try:
        with open(_PATH, "r+", encoding="ascii") as file:
            if int(file.read()) == 0:
                file.seek(0)
                file.write(str(SPARED))
    except OSError:  # OOMScoreAdjust= of a unit does the same
        log.debug("%s stays 0: no CAP_SYS_RESOURCE", _PATH)
