"""The planner's process as control keeps it: started with one end of a channel, ended by SIGKILL.

Light, so that control can start it before it loads its own libraries: a cold start then waits for the slower of the two
and not for both.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

from control.planner.jobs import KINDS
from fastpath.protocol import Channel

END_LOOK_S = 0.005
STILL_LOOK_S = 0.25
STILL_LOOKS = 12  # 3 s; counted in looks, for a machine that is stopped as a whole stops control, too


class PlannerProcess:
    """Started when it is made; it waits for its first message on `channel`, which the caller owns."""

    def __init__(self) -> None:
        self.channel, theirs = Channel.pair(KINDS)
        argv = [sys.executable, "-P", "-m", "control", "planner", str(theirs.fileno())]
        self._process = subprocess.Popen(argv, pass_fds=[theirs.fileno()])
        theirs.close()
        self.channel.sock.setblocking(False)
        self.ran_ns, self.still, self.looked_s = -1, 0, 0.0

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

    def stands_still(self) -> bool:
        """It has used no processor for STILL_LOOKS looks, though it could have had one.  To be asked every
        STILL_LOOK_S, of a planner that has to work: one that waits for an inventory stands still as well.

        Who is ready to run (R) or waits for a disk (D) would be no quicker for another's start."""
        from fastpath.process.turns import look_at  # not before the planner is started

        now = time.monotonic()
        if now - self.looked_s >= STILL_LOOK_S / 2:  # several may ask
            self.looked_s = now
            seen = look_at(self.pid)
            moved = seen is None or seen[0] in "RD" or seen[1] != self.ran_ns
            self.still = 0 if moved else self.still + 1
            self.ran_ns = seen[1] if seen is not None else -1
        return self.still >= STILL_LOOKS

    async def end(self) -> None:
        """Also when it has ended already.  Without a thread to wait in: a full limit on processes gives none."""
        self._process.kill()
        while self._process.poll() is None:
            await asyncio.sleep(END_LOOK_S)
