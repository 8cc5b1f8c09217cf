"""control/service/load/latency.py: the last minute is the last minute; what the status says of the running service."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import signal
import socket
import time
import urllib.request
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ext.page import LATENCIES, LATENCY_BOUNDS_S
from prometheus_client.parser import text_string_to_metric_families

from control.service.load import latency
from control.service.load.latency import STEP_S, WINDOW_S, Latency, bound_of, summary
from tests.control.service.test_service import content
from tests.control.serving import WAIT_S, Running, may_serve, serving
from tests.ext.packets import DISCOVER, message
from tests.ports import free_port

PLACES = len(LATENCY_BOUNDS_S) + 1
HEARTBEAT_S = 0.1  # at most so long before it was stopped the worker's loop had turned
NOTHING = {"count": 0, "p50_s": None, "p99_s": None, "max_bucket_s": None}


def counts(**places: int) -> list[int]:
    """counts(at3=7): seven at the fourth bound."""
    found = [0] * PLACES
    for name, count in places.items():
        found[int(name.removeprefix("at"))] = count
    return found


@pytest.mark.parametrize(
    "found, p50, p99, most",
    [
        (counts(at3=1), 3, 3, 3),
        (counts(at0=50, at1=49, at7=1), 0, 1, 7),
        (counts(at0=49, at1=49, at7=2), 1, 7, 7),
        (counts(at5=1, at6=1), 5, 6, 6),
        (counts(at5=1000, at24=1), 5, 5, None),
        (counts(at24=3), None, None, None),
        (counts(), None, None, None),
    ],
)
def test_half_of_them_and_99_percent(found: list[int], p50: int | None, p99: int | None, most: int | None) -> None:
    def seconds(place: int | None) -> float | None:
        return None if place is None else LATENCY_BOUNDS_S[place]

    assert summary(found) == {
        "count": sum(found), "p50_s": seconds(p50), "p99_s": seconds(p99), "max_bucket_s": seconds(most),
    }  # fmt: skip


def test_a_share_is_never_that_of_fewer() -> None:
    """Of any number: at least so many are within the bound, and fewer within the one before."""
    for total in range(1, 300):
        found = counts(at2=total // 3, at4=total // 2, at9=total - total // 3 - total // 2)
        for share in (0.5, 0.99, 1.0):
            place = LATENCY_BOUNDS_S.index(bound_of(found, share) or 0.0)
            within = list(accumulate(found))
            assert within[place] >= share * total and (place == 0 or within[place - 1] < share * total)


class Page:
    def __init__(self, slot: int = 0) -> None:
        self.slot = slot
        self.told: dict[str, Any] = {name: {"sum_ns": 0, "counts": counts()} for name in LATENCIES}

    def latency(self) -> dict[str, Any]:
        return {name: {"sum_ns": told["sum_ns"], "counts": list(told["counts"])} for name, told in self.told.items()}

    def take(self, name: str, place: int, many: int) -> None:
        self.told[name]["counts"][place] += many
        self.told[name]["sum_ns"] += many * round(LATENCY_BOUNDS_S[place] * 1e9)


def made(*pages: Page) -> tuple[Latency, SimpleNamespace]:
    clock = SimpleNamespace(now_s=1000.0)
    return Latency(pages, lambda: clock.now_s), clock  # type: ignore[arg-type]


def go_on(kept: Latency, clock: SimpleNamespace, seconds: float) -> None:
    for _ in range(round(seconds / STEP_S)):
        clock.now_s += STEP_S
        kept.keep()


def test_the_window_begins_with_the_process_and_becomes_a_minute() -> None:
    page = Page()
    page.take("wait", 5, 1000)
    kept, clock = made(page)
    assert kept.status()["wait"] == NOTHING, "what was before is not of this window"
    assert kept.status()["totals"]["wait"]["counts"][5] == 1000
    page.take("wait", 10, 7)
    go_on(kept, clock, 30)
    clock.now_s += 1
    assert (kept.status()["window_s"], kept.status()["wait"]["count"]) == (31.0, 7)
    assert kept.status()["wait"]["max_bucket_s"] == LATENCY_BOUNDS_S[10] and kept.status()["answer"] == NOTHING
    go_on(kept, clock, 25)
    assert kept.status()["wait"]["count"] == 7
    go_on(kept, clock, WINDOW_S)
    assert kept.status()["wait"] == NOTHING, "it is over a minute ago"
    for _ in range(100):
        go_on(kept, clock, STEP_S)
        assert WINDOW_S <= kept.status()["window_s"] <= WINDOW_S + STEP_S
    assert len(kept.kept) <= WINDOW_S / STEP_S + 2


def test_a_loop_that_stood_still_says_for_how_long() -> None:
    page = Page()
    kept, clock = made(page)
    page.take("answer", 3, 2)
    clock.now_s += 500
    assert (kept.status()["window_s"], kept.status()["answer"]["count"]) == (500.0, 2)


def test_workers_are_told_apart_and_added_up() -> None:
    pages = [Page(0), Page(1)]
    kept, _clock = made(*pages)
    pages[0].take("wait", 4, 3)
    pages[1].take("wait", 20, 1)
    pages[1].take("answer", 6, 2)
    status = kept.status()
    assert [(each["slot"], each["wait"]["count"], each["answer"]["count"]) for each in status["workers"]] == [
        (0, 3, 0), (1, 1, 2),
    ]  # fmt: skip
    assert status["workers"][1]["wait"]["sum_s"] == LATENCY_BOUNDS_S[20]
    assert status["totals"]["wait"]["counts"] == counts(at4=3, at20=1)
    assert status["totals"]["wait"]["sum_s"] == pytest.approx(3 * LATENCY_BOUNDS_S[4] + LATENCY_BOUNDS_S[20])
    json.dumps(status, allow_nan=False)


def test_a_page_that_begins_anew_is_nothing_less_than_nothing() -> None:
    page = Page()
    page.take("wait", 4, 30)
    kept, _clock = made(page)
    page.told = Page().told
    assert kept.status()["wait"] == NOTHING


def test_it_keeps_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, _clock = made(Page())
    monkeypatch.setattr(latency, "STEP_S", 0.001)

    async def scenario() -> None:
        running = asyncio.create_task(kept.run())
        while len(kept.kept) < 5:
            await asyncio.sleep(0)
        running.cancel()

    asyncio.run(scenario())


# --- the running service ---------------------------------------------------------------------------------------------


def histogram(port: int, name: str) -> tuple[list[int], float, int]:
    """(within each bound, sum, count) of a scrape."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        told = text_string_to_metric_families(answer.read().decode())
    (family,) = (family for family in told if family.name == f"bootstorm_{name}")
    assert family.type == "histogram"
    buckets = [s for s in family.samples if s.name.endswith("_bucket")]
    assert [float(s.labels["le"]) for s in buckets] == [*LATENCY_BOUNDS_S, math.inf]
    values = {s.name.rpartition("_")[2]: s.value for s in family.samples if s not in buckets}
    return [round(s.value) for s in buckets], values["sum"], round(values["count"])


def await_read(running: Running, count: int) -> dict[str, Any]:
    """Until the workers have read so many: they tell nobody.  Each question is a connection, and paces the loop."""
    deadline = time.monotonic() + WAIT_S
    status = running.status()
    while sum(worker["rx"] for worker in status["workers"]) < count:
        assert time.monotonic() < deadline, status["workers"]
        status = running.status()
    return status


def test_a_stopped_worker_shows_in_status_and_scrape(tmp_path: Path) -> None:
    """Requests come all the while.  The supervisor replaces it, and what waited meanwhile is in the right bucket."""
    may_serve()
    (tmp_path / "hosts.csv").write_text(content(1, 2))
    port, total = free_port(), 300
    with serving(tmp_path, f"file://{tmp_path}/hosts.csv", metrics={"bind": f"127.0.0.1:{port}"}) as running:
        running.wait_for(r"generation 1: 2 hosts")
        running.ctl("refresh", {"wait": True})
        for name in ("queue_wait_seconds", "answer_seconds"):
            assert histogram(port, name) == ([0] * PLACES, 0.0, 0), "there from the first scrape"
        at = "127.0.0.1", json.loads((tmp_path / "services.conf").read_text())["dhcp"]["port"]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(message(DISCOVER, 0x020000000001), at)
            (worker,) = await_read(running, 1)["workers"]
            os.kill(worker["pid"], signal.SIGSTOP)
            begun_s = time.monotonic()
            for number in range(total):
                sender.sendto(message(DISCOVER, 0x020000000001 + number % 2), at)
            sent_s = time.monotonic()
            found = re.search(r"no turn of its loop for ([\d.]+) s", running.wait_for("no turn of its loop"))
        told = await_read(running, 1 + total)["latency"]
        read_s = time.monotonic()
        assert found is not None
        least_s = float(found[1]) - HEARTBEAT_S - (sent_s - begun_s)
        assert total <= told["wait"]["count"] <= 1 + total
        assert least_s <= told["wait"]["p50_s"] <= told["wait"]["max_bucket_s"] <= 2 * (read_s - begun_s)
        while (scraped := histogram(port, "queue_wait_seconds"))[2] < told["wait"]["count"]:
            assert time.monotonic() < read_s + WAIT_S, "for 0.25 s all scrapes are the same"
        assert scraped[0] == list(accumulate(told["totals"]["wait"]["counts"]))
        assert scraped[1] == pytest.approx(told["totals"]["wait"]["sum_s"]) and scraped[1] >= least_s * total
        assert histogram(port, "answer_seconds")[2] == told["answer"]["count"] == 0, "nothing is to be sent here"
