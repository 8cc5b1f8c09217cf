"""Every fault of bench/faults/faults.py, each alone, under a load whose every request is accounted for: nothing lost,
nothing wrong, no address twice, no wait longer than the fault's limit, and the service whole again afterwards.

`make test-faults` runs all of it and prints the table; `make test` the short ones.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from bench.faults.faults import FAULTS, Fault, recovered
from bench.faults.trial import Row, attempt, calm, calm_limit_s, row_of
from bench.faults.watched import Watched, watched_site
from bench.lab.lab import Lab
from tests.netns.under_load.faulttable import property_of

pytestmark = pytest.mark.faults

HOSTS, RATE, SEED = 1000, 2000.0, 7
SECONDS = 120.0  # at most, of one load
CALM_S, WARM_S = 3.0, 0.3
BUSY = float(os.environ.get("BOOTSTORM_BUSY", "1"))  # `make test`: limits are so many times as long, counts are not


class Standing:
    """A site for all tests of this file; anew after a test that left it broken."""

    def __init__(self) -> None:
        self.stack = contextlib.ExitStack()
        self.watched: Watched | None = None
        self.calm: Row | None = None

    def get(self) -> Watched:
        if self.watched is None:
            self.watched = self.stack.enter_context(watched_site(HOSTS, RATE, SEED, SECONDS))
        return self.watched

    def give_up(self) -> None:
        self.watched = None
        self.stack.close()

    def calm_row(self) -> Row:
        if self.calm is None:
            watched = self.get()
            watched.begin()
            time.sleep(WARM_S)
            trial = calm(watched, CALM_S)
            watched.end()
            self.calm = row_of(watched, [trial], 0.0)
        return self.calm


@pytest.fixture(scope="module")
def standing() -> Iterator[Standing]:
    if reason := Lab.available():
        pytest.skip(reason)
    found = Standing()
    try:
        yield found
    finally:
        found.stack.close()


def test_calm(standing: Standing, record_property: Callable[[str, object], None]) -> None:
    row = standing.calm_row()
    record_property(*property_of(row))
    assert row.good, row.faults
    received = [worker["rx"] for worker in standing.get().site.status()["workers"]]
    for slot, count in enumerate(received):
        share = count / sum(received)
        assert 0.5 / len(received) < share < 1.5 / len(received), f"{share:.0%} of the requests went to worker {slot}"


@pytest.mark.parametrize(
    "fault",
    [pytest.param(fault, marks=[] if fault.short else [pytest.mark.long], id=fault.name) for fault in FAULTS],
)
def test_fault(standing: Standing, fault: Fault, record_property: Callable[[str, object], None]) -> None:
    limit_s = calm_limit_s(standing.calm_row())
    watched = standing.get()
    if reason := fault.needs(watched):
        pytest.skip(f"{fault.name}: {reason}")
    watched.begin()
    time.sleep(WARM_S)
    recovered(watched)
    try:
        trial = attempt(watched, fault)
    finally:
        watched.end()
    row = row_of(watched, [trial], limit_s)
    row = replace(row, limit_s=row.limit_s * BUSY)
    record_property(*property_of(row))
    if not row.good:
        said = "\n".join([*watched.log, *watched.faulty(), watched.site.pipe.log()[-6000:]])
        standing.give_up()
        pytest.fail(f"{fault.name}: {'; '.join(row.faults)}\n{said}", pytrace=False)
