"""control/service/fleet/link.py: what is said to the fleet's process arrives, in its order, however full its channel
is."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from control.fleet.process import jobs
from control.fleet.process.jobs import TO_FLEET
from control.service.fleet.link import FleetLink
from fastpath.protocol import Channel, close_all


class Process(SimpleNamespace):
    """A fleet's process that reads when it is told to."""

    def __init__(self) -> None:
        self.channel, self.theirs = Channel.pair(TO_FLEET)
        for each in (self.channel, self.theirs):
            each.sock.setblocking(False)

    def reads(self) -> list[Any]:
        found = []
        while True:
            try:
                message, fds = self.theirs.receive()
            except BlockingIOError:
                return found
            close_all(fds)
            found.append(message)


def link(process: Process | None) -> FleetLink:
    made = FleetLink.__new__(FleetLink)
    made.process, made.ended = process, asyncio.Event()  # type: ignore[assignment]
    made.start_saying()
    return made


def test_a_burst_arrives_whole_and_in_order() -> None:
    async def scenario() -> None:
        process = Process()
        made = link(process)
        for number in range(5_000):
            made.say(jobs.Keep(mac="00:11:22:33:44:55", record=b"%d" % number + b"x" * 400))
        made.say(jobs.Sync(number=1))
        assert made.outbox, "more than its channel holds"
        read = process.reads()
        async with asyncio.timeout(20):
            while made.outbox:
                await asyncio.sleep(0.005)
                read += process.reads()
        read += process.reads()
        assert [int(each.record.rstrip(b"x")) for each in read[:-1]] == list(range(5_000))
        assert read[-1] == jobs.Sync(number=1) and not made.dropped

    asyncio.run(scenario())


def test_what_a_follower_saw_waits_for_the_next_process() -> None:
    async def scenario() -> None:
        made = link(None)
        made.say(jobs.Seen(what=b"one"))
        made.say(jobs.Keep(mac="00:11:22:33:44:55", record=b"of the lead before"))
        made.say(jobs.Seen(what=b"two"))
        made.forget_said()
        process = Process()
        made.process = process  # type: ignore[assignment]
        made.drain()
        assert process.reads() == [jobs.Seen(what=b"one"), jobs.Seen(what=b"two")] and not made.outbox

    asyncio.run(scenario())
