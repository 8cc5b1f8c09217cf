"""tests/deploy/expressions.py itself: an expression that would find nothing is told."""

from __future__ import annotations

import pytest

from tests.deploy.expressions import Scraped, faults

SCRAPED = Scraped({
    "a_total": [{"verdict": "GOOD"}, {"verdict": "BAD"}],
    "b": [{}],
    "c_info": [{"digest": "1", "mode": "serve"}],
})  # fmt: skip


@pytest.mark.parametrize(
    "expression",
    [
        "b > 3 * b", 'a_total{verdict="GOOD"}',
        'sum by (instance, verdict) (rate(a_total{verdict=~"GOOD|BA."}[5m])) > 0',
        'increase(a_total{verdict!="BAD"}[1h]) > 3', "b < on (job, instance) group_left () b",
        'count by (job) (up{job="x"}) unless on (job) count by (job) (b == 1)', 'b{instance=~"$instance"}',
        "count by (job) (count by (job, digest) (c_info)) > 1", 'rate(a_total{instance="x y (z)"}[$__rate_interval])',
    ],
)  # fmt: skip
def test_what_finds_something(expression: str) -> None:
    assert faults(expression, SCRAPED) == []


@pytest.mark.parametrize(
    "expression, fault",
    [
        ("bb > 1", "no series bb"),
        ("b > 3 * interval", "no series interval"),
        ('b{state="ok"}', "b: no label state"),
        ('a_total{verdict="UGLY"}', "a_total: verdict is never UGLY"),
        ('a_total{verdict!="UGLY"}', "a_total: verdict is never UGLY"),
        ('a_total{verdict=~"GOOD|UGLY"}', "a_total: verdict never fits UGLY"),
        ("sum by (digest) (a_total)", "no series here has the label digest"),
        ("a_total{verdict='GOOD'}", "a_total: cannot be read: {verdict='GOOD'}"),
        ("1 > 0", "it asks for no series"),
    ],
)
def test_what_finds_nothing(expression: str, fault: str) -> None:
    assert fault in faults(expression, SCRAPED)
