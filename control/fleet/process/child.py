"""The fleet's process as control keeps it: started with one end of a channel, asked to end by closing that."""

from __future__ import annotations

import asyncio
import subprocess
import sys

from control.fleet.process.jobs import TO_CONTROL
from fastpath.protocol import Channel

END_LOOK_S = 0.01
END_LOOKS = 100  # it gives its lease back meanwhile


class FleetProcess:
    """Started when it is made; it waits for its first message on `channel`, which it owns.  Raises OSError."""

    def __init__(self) -> None:
        self.channel, theirs = Channel.pair(TO_CONTROL)
        try:
            self._process = subprocess.Popen(self.command(theirs.fileno()), pass_fds=[theirs.fileno()])
        except OSError:
            self.channel.close()
            raise
        finally:
            theirs.close()
        self.channel.sock.setblocking(False)

    def command(self, fd: int) -> list[str]:
        """fd: its end of the channel."""
        return [sys.executable, "-P", "-m", "control", "fleet", str(fd)]

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        self._process.kill()

    async def end(self) -> None:
        """In order, or else by SIGKILL; also when it has ended already."""
        self.channel.close()
        for _ in range(END_LOOKS):
            if self._process.poll() is not None:
                return
            await asyncio.sleep(END_LOOK_S)
        self._process.kill()
        while self._process.poll() is None:
            await asyncio.sleep(END_LOOK_S)
