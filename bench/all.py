"""`bootstorm bench all`: every bench once, in about ten minutes, and one table at the end.

Each runs as a process of its own, so that none disturbs or outlives another.  Records go to bench/results, pictures to
docs/performance; what the benches say on the way goes to standard error, the figures that count to standard output.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bench.core import SIZES
from bench.lab.site import ENVIRONMENT
from bench.report import record
from bench.report.machine import ROOT
from bench.rig.options import tell

PICTURES = ROOT / "docs/performance"
# A hang ends.  BASE_S: for what does not get shorter with the scale, eight servers to be started and checked.
LIMIT_S, BASE_S = 1800.0, 900.0
STDERR = 2


@dataclass(frozen=True, slots=True)
class Part:
    """One bench: its name, which is that of its command and its files, and its options."""

    name: str
    options: tuple[str, ...]


def parts(scale: float) -> list[Part]:
    """In order; the table of servers is the last."""
    largest = int(min(1e6, max(1e3, 1e6 * scale)))
    sizes = [word for hosts in SIZES if hosts <= largest for word in ("--hosts", str(hosts))]
    core = (*sizes, "--batches", str(max(100, int(5000 * scale))), *(() if scale >= 1 else ("--no-instructions",)))
    return [
        Part("core", core),
        Part("storm", ("--hosts", str(max(100, int(10_000 * scale))), "--spread", "1")),
        Part("growth", ("--largest", str(largest), "--budget", f"{max(0.5, 4 * scale):g}")),
        Part("peers", ("--budget", f"{max(1.0, 20 * scale):g}")),
    ]


def summary(made: dict[str, Any]) -> list[str]:
    """The figures of a record (core, storm, growth) beside the table of servers, with how disturbed they are."""
    disturbance = made["disturbance"]
    stolen = sum(core["stolen_s"] for core in disturbance["cores"].values())
    said = f"{made['bench']}: others had {disturbance['stalled_s']:.1f} s of the generator's core, the hypervisor "
    said += f"{stolen:.1f} s of {disturbance['wall_s']:.0f} s" + ("; DISTURBED" if disturbance["disturbed"] else "")
    if made["bench"] == "core":
        rows = [f"{point['hosts']:>9,} hosts: {point['median_ns']} ns a packet without I/O" for point in made["points"]]
    elif made["bench"] == "storm":
        best = made["best"]
        rows = [
            f"{best['up']:,} of {best['hosts']:,} hosts up, the last after {best['last_ack_s']:.1f} s, "
            f"retransmissions of ours: {best['retransmissions_of_ours']}"
        ]
    else:
        rows = [f"{axis}: {curve['why']}" for axis, curve in made["curves"].items()]
    return [said, *(f"    {row}" for row in rows)]


@click.command("all")
@click.option("--scale", default=1.0, show_default=True, type=click.FloatRange(0.01, 100), help="1: about 10 minutes.")
@click.option(
    "--only", multiple=True, type=click.Choice([part.name for part in parts(1)]), help="Default: all of them."
)
@click.option("--results", default=record.RESULTS, type=click.Path(path_type=Path), help="Folder of the records.")
@click.option("--pictures", default=PICTURES, type=click.Path(path_type=Path), help="Folder of the pictures.")
def main(scale: float, only: tuple[str, ...], results: Path, pictures: Path) -> None:
    """Every bench, its record and picture; the table of servers last.  Exit 1 if one failed, after all others."""
    failed = [
        f"{part.name} ended with {status}"
        for part in parts(scale)
        if not only or part.name in only
        if (status := _run(part, results, pictures, BASE_S + LIMIT_S * scale))
    ]
    if failed:
        raise click.ClickException(f"{'; '.join(failed)}: see above")


def _run(part: Part, results: Path, pictures: Path, limit_s: float) -> int:
    """Exit status of a part; its record's figures are printed whenever it got as far as one."""
    tell(f"--- bench {part.name} {' '.join(part.options)}")
    file = results.resolve() / f"{part.name}.json"
    file.unlink(missing_ok=True)  # an earlier run's figures are not this one's
    command = [sys.executable, "-m", "bench", part.name, *part.options]
    command += ["--json", str(file), "--picture", str(pictures.resolve() / f"{part.name}.svg")]
    last = part.name == parts(1)[-1].name
    try:
        status = subprocess.run(
            command,
            check=False,
            timeout=limit_s,
            env={**os.environ, **ENVIRONMENT},
            stdout=None if last else STDERR,
        ).returncode
    except subprocess.TimeoutExpired:
        tell(f"bench {part.name}: not done within {limit_s:g} s, given up")
        status = 124
    if file.exists() and not last:
        click.echo("\n".join(summary(record.read(file))))
    return status
