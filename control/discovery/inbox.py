"""Control's end of the trap receiver: takes its batches as they come, and reads its counters whenever asked."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

from control.discovery.traps.decoders import NAMES
from control.discovery.traps.notification import SKIPS
from control.discovery.traps.queue import DROPS, TrapQueue
from control.discovery.trapseen import KINDS, TrapSeen
from fastpath.protocol import Channel

SLICE_S = 0.003  # a turn of control's loop


class TrapInbox:
    """queue_fd: the receiver's queue, closed here; channel_fd: kept.  on_traps must not block."""

    def __init__(self, queue_fd: int, channel_fd: int, on_traps: Callable[[list[TrapSeen]], None]) -> None:
        self.queue = TrapQueue(queue_fd)
        os.close(queue_fd)
        self.channel = Channel.of_fd(channel_fd, KINDS)
        self.channel.sock.setblocking(False)
        self.on_traps = on_traps

    def watch(self) -> None:
        asyncio.get_running_loop().add_reader(self.channel.fileno(), self.on_messages)

    def on_messages(self) -> None:
        """At least one, however late it is; the loop comes back as long as there are more."""
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + SLICE_S
        while True:
            try:
                batch, _fds = self.channel.receive()
            except BlockingIOError:
                return
            self.on_traps(batch.seen())
            if loop.time() > ends_s:
                return

    def status(self) -> dict[str, Any]:
        """What `ctl status` says; only reasons that occurred.  received = decoded + unknown + discoveries + queued +
        what was dropped for a reason but "kernel".  unknown_traps: the most frequent first."""
        counters = self.queue.counters()
        return {
            "state": "receiving",
            "received": counters["received"],
            "decoded": counters["decoded"],
            "queued": counters["queued"],
            "unknown": counters["unknown"],
            "unknown_traps": [
                {"trap": row.trap, "name": NAMES.get(row.trap), "sender": row.sender, "count": row.times}
                for row in self.queue.unknown.rows()
            ],
            "discoveries": counters["discovery"],
            "unanswered": counters["unanswered"],
            "seen": counters["seen"],
            "repeated": counters["repeated"],
            "dropped": {name: counters[name] for name in (*DROPS, "kernel") if counters[name]},
            "skipped": {name: counters[name] for name in SKIPS if counters[name]},
        }
