"""control/service/fleet/link.py: what control counts for its fleet process."""

from __future__ import annotations

import asyncio
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from control.fleet.process import jobs
from control.service.fleet import link
from control.service.fleet.link import RATE_LOOKS, FleetLink
from control.service.served_table import NotAdopted


def test_requests_and_replies_are_those_of_the_last_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now, counts = [100.0], [0, 0]
    monkeypatch.setattr(link.time, "monotonic", lambda: now[0])
    workers = [{"rx": 0, "tx": 0}, {"rx": 0, "tx": 0}]
    here: Any = SimpleNamespace(seen=deque(maxlen=RATE_LOOKS), table=SimpleNamespace(workers=lambda: workers))

    def look(requests: int, replies: int) -> tuple[int, int]:
        counts[0], counts[1] = counts[0] + requests, counts[1] + replies
        workers[0] = {"rx": counts[0], "tx": counts[1]}
        told = FleetLink.rates(here)
        now[0] += 1
        return told

    assert look(1_000, 1_000) == (0, 0), "what was before is no rate"
    assert look(50, 40) == (50, 40) and look(70, 40) == (60, 40)
    for _ in range(RATE_LOOKS - 1):
        told = look(10, 10)
    assert told == (10, 10), "of the last seconds alone"
    counts[:] = [0, 0]
    assert look(5, 5) == (0, 0), "counted anew, as of other workers"


def test_a_table_is_adopted_when_all_workers_answer_from_it_and_not_before() -> None:
    sent: list[Any] = []
    answers = [NotAdopted("workers [0] do not answer"), NotAdopted("workers [0] do not answer"), None]

    async def wait_adopted(_generation: int, _limit_s: float) -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer

    table = SimpleNamespace(generation=7, wait_adopted=wait_adopted)
    here: Any = SimpleNamespace(table=table, adopted=False, served_s=0.0, say=sent.append)
    asyncio.run(FleetLink.tell_adopted(here, 7, b"d"))
    assert sent == [jobs.Adopted(digest=b"d")] and here.adopted and here.served_s > 0
    table.generation = 8
    asyncio.run(FleetLink.tell_adopted(here, 7, b"d"))
    assert len(sent) == 1, "another table took its place"
