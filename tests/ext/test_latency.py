"""ext/latency.pxd and its place in the page: the arithmetic of buckets, when stamps are wanted, other builds' pages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from ext.codec import Latency
from ext.page import (
    INBOX_AT,
    LATENCIES,
    LATENCY_BOUNDS_S,
    PAGE_LAYOUT,
    WORKER_PAGE_BYTES,
    WorkerPage,
    create_worker_page,
)
from hypothesis import given
from hypothesis import strategies as st

US, MS, S = 1_000, 1_000_000, 1_000_000_000
PLACES = len(LATENCY_BOUNDS_S) + 1


def placed(*waits_ns: int) -> dict[int, int]:
    """Place -> count, of one batch."""
    latency = Latency()
    latency.take(list(waits_ns))
    return {place: count for place, count in enumerate(latency.counts()) if count}


def test_the_bounds_are_microseconds_to_seconds_in_powers_of_two() -> None:
    assert LATENCY_BOUNDS_S[0] == 1e-6 and 8 < LATENCY_BOUNDS_S[-1] < 9
    assert all(above == 2 * below for below, above in pairwise(LATENCY_BOUNDS_S))
    assert LATENCY_BOUNDS_S[19] == 0.524288, "by which the alert goes"


@pytest.mark.parametrize(
    "wait_ns, place",
    [
        (-5 * S, 0), (0, 0), (1, 0), (US, 0), (US + 1, 1), (2 * US, 1), (2 * US + 1, 2), (4 * US, 2), (5 * US, 3),
        (1024 * US, 10), (1024 * US + 1, 11), (300 * MS, 19), (524_288 * US, 19), (524_288 * US + 1, 20),
        (8_388_608 * US, 23), (8_388_608 * US + 1, 24), (3600 * S, 24), (1 << 62, 24),
    ],
)  # fmt: skip
def test_a_bound_is_the_longest_that_its_bucket_takes(wait_ns: int, place: int) -> None:
    """As Prometheus' le means it."""
    assert placed(wait_ns) == {place: 1}


@pytest.mark.property
@given(st.integers(0, 20 * S))
def test_what_is_in_a_bucket_is_over_the_bound_before_it(wait_ns: int) -> None:
    ((place, _count),) = placed(wait_ns).items()
    bounds_ns = [-1, *(round(bound_s * S) for bound_s in LATENCY_BOUNDS_S), 1 << 63]
    assert bounds_ns[place] < wait_ns <= bounds_ns[place + 1]


@pytest.mark.parametrize(
    "waits_ms, counted",
    [
        ([5], {5: 1}),
        ([9, 1], {9: 1, 1: 1}),
        ([9, 5, 1], {9: 2, 1: 1}),
        ([40, 30, 20, 10], {40: 2, 20: 2}),
        ([300] * 32 + [70] * 32, {300: 32, 70: 32}),
    ],
)
def test_each_half_of_a_batch_counts_as_its_oldest(waits_ms: list[int], counted: dict[int, int]) -> None:
    latency = Latency()
    latency.take([wait * MS for wait in waits_ms])
    assert sum(latency.counts()) == len(waits_ms)
    assert latency.sum_ns == sum(wait * MS * count for wait, count in counted.items())


def test_stamps_are_wanted_while_there_is_time_to_sleep_or_the_queues_have_no_end() -> None:
    latency, now = Latency(), 1000 * S
    assert latency.wants_stamps(now, rested=True)
    assert latency.wants_stamps(now + MS) and not latency.wants_stamps(now + 3 * MS), "it works and keeps up"
    assert latency.wants_stamps(now + 4 * MS, pressed=True), "requests are refused by their age"
    assert not latency.wants_stamps(now + 5 * MS)
    assert not latency.wants_stamps(now + 24 * MS, emptied=False)
    assert latency.wants_stamps(now + 26 * MS, emptied=False), "21 ms since it was at the end"
    assert not latency.wants_stamps(now + 27 * MS)
    assert latency.wants_stamps(now + 70 * MS, rested=True) and latency.wants_stamps(now + 71 * MS)


def test_a_new_worker_wants_them_until_it_has_seen_the_end() -> None:
    """Its predecessor may have left a long queue."""
    latency = Latency()
    assert latency.wants_stamps(1000 * S, emptied=False) and latency.wants_stamps(1001 * S, emptied=False)
    assert not latency.wants_stamps(1002 * S)


# --- in the page -----------------------------------------------------------------------------------------------------


@pytest.fixture
def page() -> Iterator[WorkerPage]:
    fd = create_worker_page(3)
    try:
        yield WorkerPage(fd)
    finally:
        os.close(fd)


def test_a_page_of_an_earlier_build_has_room_for_it() -> None:
    """Those of version 6 have 3,407,872 bytes before the inbox, wherever they end themselves."""
    assert (PAGE_LAYOUT, INBOX_AT) == (6, 52 << 16) and WORKER_PAGE_BYTES <= INBOX_AT


def nothing() -> dict[str, Any]:
    return {name: {"sum_ns": 0, "counts": [0] * PLACES} for name in LATENCIES}


def some() -> dict[str, Any]:
    return {name: {"sum_ns": 5 * S, "counts": [at + n for n in range(PLACES)]} for at, name in enumerate(LATENCIES)}


def test_it_begins_with_nothing_and_goes_on_in_a_new_page(page: WorkerPage) -> None:
    assert page.latency() == nothing() == page.counters()["latency"]
    page.carry(page.counters() | {"latency": some()})
    assert page.latency() == some() and page.totals()["rx"] == 0


@pytest.mark.parametrize(
    "told",
    [
        {}, {"latency": None}, {"latency": []}, {"latency": {"wait": 7}}, {"latency": {"wait": {}, "answer": None}},
        {"latency": {"wait": {"sum_ns": 5, "counts": [1, 2, 3]}}},
        {"latency": {"wait": {"sum_ns": "5", "counts": ["1"] * PLACES}}},
        {"latency": {"wait": {"sum_ns": -5, "counts": [-1] * PLACES}}},
    ],
    ids=["older", "none", "list", "number", "empty", "other-bounds", "texts", "negative"],
)  # fmt: skip
def test_what_another_build_does_not_tell_is_0(page: WorkerPage, told: dict[str, Any]) -> None:
    page.carry({"latency": some()})
    page.carry(told)
    assert page.latency() == nothing()
