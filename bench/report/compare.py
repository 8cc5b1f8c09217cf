"""`bootstorm bench compare A B`: two records of one bench, figure by figure, with the bounds of what noise explains.

The bound comes from the records themselves: how far the trials of one record that asked the same thing lie apart, and
never less than FLOOR.  Records of unlike machines, builds or scenarios are refused, unless somebody insists.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bench.report import record
from bench.report.picture import draw_comparison
from bench.report.record import DISTURBED_FLOOR, FLOOR

SAME = ("bench", "build", "scenario")
SAME_MACHINE = ("cpu", "cores", "kernel", "virtual")


class Unlike(ValueError):
    """Two records that say nothing about each other."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure in both records; change and noise in per cent.  better: +1 when more is better, -1 when less is."""

    name: str
    before: float
    after: float
    noise: float
    better: int

    @property
    def change(self) -> float:
        if self.before == 0:
            return 0.0 if self.after == 0 else float("inf")
        return 100.0 * (self.after - self.before) / abs(self.before)

    @property
    def verdict(self) -> str:
        if abs(self.change) <= self.noise:
            return "noise"
        return "better" if self.change * self.better > 0 else "WORSE"


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Why two records must not be compared."""
    found = [f"{name}: {before[name]!r} and {after[name]!r}" for name in SAME if before[name] != after[name]]
    machines = before["machine"], after["machine"]
    return found + [
        f"machine.{name}: {machines[0].get(name)!r} and {machines[1].get(name)!r}"
        for name in SAME_MACHINE
        if machines[0].get(name) != machines[1].get(name)
    ]


def figures(made: dict[str, Any]) -> dict[str, tuple[float, int]]:
    """Name -> (value, which way is better) of what a bench's record is about."""
    found: dict[str, tuple[float, int]] = {}
    for name, server in made.get("servers", {}).items():
        if server.get("replies_s") is not None:  # None: it answered wrongly
            found[f"{name} replies/s"] = (float(server["replies_s"]), 1)
        if server.get("cpu_us_a_reply") is not None:
            found[f"{name} CPU us a reply"] = (float(server["cpu_us_a_reply"]), -1)
    for point in made.get("points", []):
        found[f"{point['hosts']} hosts ns"] = (float(point["median_ns"]), -1)
    if made.get("instructions"):
        found["instructions"] = (float(made["instructions"]), -1)
    best = made.get("best") or {}
    for name, better in (("answered_rate", 1), ("loss", -1), ("last_ack_s", -1), ("retransmissions_of_ours", -1)):
        if name in best:
            found[name] = (float(best[name]), better)
    for name in ("latency_ms", "service_ms"):
        for point in ("p50", "p99", "p99.9", "max"):
            if point in best.get(name, {}):
                found[f"{name} {point}"] = (float(best[name][point]), -1)
    return found


def noise_of(made: dict[str, Any]) -> float:
    """Per cent by which trials at one asked rate lie apart, and at least the floor."""
    floor = DISTURBED_FLOOR if made.get("disturbance", {}).get("disturbed") else FLOOR
    by_rate: dict[tuple[str, float], list[float]] = {}
    searches = {"": made, **made.get("servers", {})}
    for name, search in searches.items():
        for trial in search.get("trials") or []:
            by_rate.setdefault((name, trial["asked_rate"]), []).append(trial["answered_rate"])
    spreads = [100.0 * (max(rates) - min(rates)) / max(rates) for rates in by_rate.values() if max(rates) > 0]
    return max([floor, *spreads])


def compare(before: dict[str, Any], after: dict[str, Any], *, insist: bool = False) -> list[Row]:
    """The figures that both have.  Unlike, with every difference, for records that must not be compared."""
    if (unlike := differences(before, after)) and not insist:
        raise Unlike("the records are of unlike runs:\n  " + "\n  ".join(unlike))
    noise = max(noise_of(before), noise_of(after))
    first, second = figures(before), figures(after)
    return [Row(name, value, second[name][0], noise, way) for name, (value, way) in first.items() if name in second]


@click.command("compare")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--insist", is_flag=True, help="Compare unlike runs all the same.")
@click.option(
    "--picture", type=click.Path(path_type=Path), help="Picture (.svg or .png); a bare name: in bench/results."
)
def main(a: Path, b: Path, insist: bool, picture: Path | None) -> None:
    """Record A against record B.  Exit 1 when a figure got worse by more than noise explains."""
    try:
        before, after = record.read(a), record.read(b)
        rows = compare(before, after, insist=insist)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    if not rows:
        raise click.ClickException(f"{a} and {b} have no figure in common")
    click.echo(f"{'':28}{before['commit'][:10]:>14}{after['commit'][:10]:>14}{'change':>10}{'noise':>9}")
    for row in rows:
        click.echo(
            f"{row.name:28}{row.before:>14,.3f}{row.after:>14,.3f}{row.change:>+9.1f}%{row.noise:>8.1f}%  {row.verdict}"
        )
    if picture is not None:
        drawn = [(row.name, row.change, row.noise) for row in rows if abs(row.change) != float("inf")]
        click.echo(f"picture: {draw_comparison(drawn, record.resolved(picture), f'{a.name} against {b.name}')}")
    if worse := [row.name for row in rows if row.verdict == "WORSE"]:
        raise click.ClickException(f"worse than noise explains: {', '.join(worse)}")
