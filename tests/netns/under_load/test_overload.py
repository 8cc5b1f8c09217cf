"""More than a slowed-down worker can answer, for seconds: ratios only, with bounds that a busy machine keeps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.lab.lab import Lab
from bench.overload import FLOOD, OTHERS, Bench, slowed_down
from fastpath.sockets import bpf, unknown_mac_filter

pytestmark = pytest.mark.netns

BRAKE_NS = 500_000  # a worker that answers 2,000 a second
CAPACITY = 0.95 * 1e9 / BRAKE_NS
SECONDS = 4.0
HOSTS = 500


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    if reason := Lab.available():
        pytest.skip(reason)
    with slowed_down(str(BRAKE_NS), HOSTS, 1) as bench:
        bench.capacity = CAPACITY
        yield bench


def test_a_brake_shows(bench: Bench) -> None:
    assert bench.stage.site is not None
    assert bench.stage.site.ctl("status")["slowed_down_ns"] == [BRAKE_NS, 0]
    assert "SLOWED DOWN" in bench.stage.server.logs()


def test_three_times_the_capacity(bench: Bench) -> None:
    """Without shedding the queue grows until nobody is answered in time: goodput falls to some 0.2."""
    figures = bench.all_want_more(SECONDS)
    run = bench.runs[-1]
    assert figures["goodput"] >= 0.6, figures
    assert run.parts[OTHERS].late <= 0.02 * run.parts[OTHERS].in_time, "what is answered is answered in time"
    assert figures["recovery_s"] < 1.5, figures


def test_a_flooding_relay_leaves_the_others_their_answers(bench: Bench) -> None:
    figures = bench.one_relay_floods(SECONDS)
    assert figures["others_kept"] >= 0.85, figures
    assert bench.runs[-1].counters["IGNORED_SHARE"] > bench.runs[-1].parts[FLOOD].sent / 3


def test_strangers_at_a_third_of_the_capacity(bench: Bench) -> None:
    figures = bench.strangers_come(SECONDS, 1 / 3, "strangers at a third")
    assert figures["known_beside"] >= 0.98 * figures["known_alone"], figures


def test_strangers_at_three_times_the_capacity_are_dropped_in_the_kernel() -> None:
    """Each stranger that a worker sees costs it a quarter of an answer here, as at full speed."""
    if reason := Lab.available():
        pytest.skip(reason)
    try:
        unknown_mac_filter.create_known()
    except bpf.BpfFailed as failed:
        pytest.skip(str(failed))
    with slowed_down(f"{BRAKE_NS},{BRAKE_NS // 4}", HOSTS, 1, drop_strangers=True) as bench:
        bench.capacity = CAPACITY
        figures = bench.strangers_come(SECONDS, 3.0, "strangers at three times")
        assert figures["known_beside"] >= 0.8 * figures["known_alone"], figures
        counters = bench.runs[-1].counters
        seen = counters["DROPPED_STRANGERS"] + counters.get("IGNORED_UNKNOWN_MAC", 0)
        assert counters["DROPPED_STRANGERS"] > seen / 2
