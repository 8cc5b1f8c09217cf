"""bench compare tells a change from noise and refuses what cannot be compared; records survive the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench.report import compare, record
from bench.report.record import Watch, begin, remarks


def made(rate: float = 100_000.0, p99: float = 1.0, **changes: Any) -> dict[str, Any]:
    fixed = {
        "machine": {"cpu": "x", "cores": 2, "kernel": "6", "virtual": True},
        "commit": "c" * 40,
        "build": "release",
    }
    best = {"answered_rate": rate, "latency_ms": {"p99": p99}}
    return {"format": record.FORMAT, "bench": "load", "scenario": {"hosts": 1}, "best": best, **fixed, **changes}


@pytest.mark.parametrize(
    "rate, p99, verdicts",
    [
        pytest.param(101_000, 1.01, ["noise", "noise"], id="noise"),
        pytest.param(110_000, 0.9, ["better", "better"], id="better"),
        pytest.param(90_000, 1.2, ["WORSE", "WORSE"], id="worse"),
    ],
)
def test_more_replies_and_less_latency_are_better(rate: float, p99: float, verdicts: list[str]) -> None:
    assert [row.verdict for row in compare.compare(made(), made(rate, p99))] == verdicts


def test_trials_of_one_rate_bound_the_noise() -> None:
    wide = made(trials=[{"asked_rate": 1, "answered_rate": 100}, {"asked_rate": 1, "answered_rate": 80}])
    assert compare.noise_of(wide) == pytest.approx(20)
    assert compare.noise_of(made()) == compare.FLOOR
    assert compare.noise_of(made(disturbance={"disturbed": True})) == compare.DISTURBED_FLOOR
    assert [row.verdict for row in compare.compare(wide, made(85_000, 1.0))] == ["noise", "noise"]


@pytest.mark.parametrize(
    "changes", [{"bench": "storm"}, {"build": "debug"}, {"scenario": {}}, {"machine": {"cpu": "y"}}], ids=str
)
def test_unlike_runs_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(compare.Unlike, match=next(iter(changes))):
        compare.compare(made(), made(**changes))
    assert compare.compare(made(), made(**changes), insist=True)


def test_the_command_fails_when_something_got_worse(tmp_path: Path) -> None:
    paths = [record.write(tmp_path / f"{i}.json", made(rate)) for i, rate in enumerate((100_000.0, 50_000.0))]
    words = [*map(str, paths), "--picture", str(tmp_path / "both.svg")]
    done = CliRunner().invoke(compare.main, words)
    assert done.exit_code == 1 and "worse than noise explains: answered_rate" in done.output
    assert (tmp_path / "both.svg").read_text().startswith("<?xml")
    assert CliRunner().invoke(compare.main, [str(paths[0]), str(paths[0])]).exit_code == 0


def test_what_is_no_record_is_said(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("[]")
    with pytest.raises(ValueError, match="no record of a bench"):
        record.read(other)


def test_a_record_names_what_it_was_made_on() -> None:
    begun = begin("load", {"hosts": 1}, 7)
    assert {"machine", "commit", "build", "scenario", "seed", "started"} <= begun.keys()
    disturbed = Watch().figures(stalled_s=1.0)
    assert disturbed["disturbed"] and "DISTURBED" in remarks(disturbed)[0]
