"""The planner's process as control keeps it: started with one end of a channel, ended by SIGKILL.

Light, so that control can start it before it loads its own libraries: a cold start then waits for the slower of the two
and not for both.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys

from control.jobs import KINDS
from fastpath.protocol import Channel

END_LOOK_S = 0.005


class PlannerProcess:
    """Started when it is made; it waits for its first message on `channel`, which the caller owns."""

    def __init__(self) -> None:
        self.channel, theirs = Channel.pair(KINDS)
        argv = [sys.executable, "-P", "-m", "control", "planner", str(theirs.fileno())]
        self._process = subprocess.Popen(argv, pass_fds=[theirs.fileno()])
        theirs.close()
        self.channel.sock.setblocking(False)

    @classmethod
    def ahead(cls) -> PlannerProcess | None:
        """None where the machine starts no process now: who needs the planner tries again, and says why."""
        try:
            return cls()
        except OSError:
            return None

    @property
    def pid(self) -> int:
        return self._process.pid

    async def end(self) -> None:
        """Also when it has ended already.  Without a thread to wait in: a full limit on processes gives none."""
        self._process.kill()
        while self._process.poll() is None:
            await asyncio.sleep(END_LOOK_S)
