"""bench queue: what waits in a buffer is measured, and the arithmetic of how much fits is the kernel's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.__main__ import main
from bench.engine.echo_server import RECEIVE_BYTES
from bench.lab.lab import Lab
from bench.queue import Fit
from fastpath.sockets import sockets

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/performance.md"


def test_what_fits() -> None:
    assert Fit(1280, 106_496).datagrams == 166  # the default buffer, 212,992 bytes as the kernel counts them
    assert Fit(1280).needed(100_000) == 64_000_000
    fit = Fit(2304, Fit(2304).needed(5000))
    assert fit.datagrams == 5000


def test_the_bench_counts_with_the_workers_buffer() -> None:
    assert sockets.RECEIVE_BYTES_TOTAL == RECEIVE_BYTES


def test_the_document_s_arithmetic() -> None:
    rows = re.findall(
        r"^\| [\d,]+ bytes \| ([\d,]+) bytes \| ([\d,]+) \| (\d+) MB \|$", DOCUMENT.read_text(), re.MULTILINE
    )
    assert len(rows) == 3
    for each, fit, needed in rows:
        cost = Fit(int(each.replace(",", "")))
        assert f"{cost.datagrams:,}" == fit
        assert f"{cost.needed(100_000) / (1 << 20):.0f}" == needed


@pytest.mark.netns
@pytest.mark.alone
@pytest.mark.skipif(Lab.available() is not None, reason=str(Lab.available()))
def test_what_waits_is_measured() -> None:
    done = CliRunner().invoke(main, ["queue", "--requests", "50000", "--rate", "100000"])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    costs = {int(words[0]): int(words[1]) for words in (line.split() for line in lines[1:4])}
    assert list(costs) == [300, 548, 1400]
    assert all(length < cost <= 8192 for length, cost in costs.items())
    assert lines[4] == "the last of 50,000 is answered after 0.50 s at 100,000 replies/s"
