"""The power comes back: N machines boot at once, each with its firmware's timers, until the last one has its address.

The figures that count are not replies a second but whether anybody had to ask twice, whose fault that was, and when the
last machine was up.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from bench.engine.firmware import IPXE, IPXE_HASTY, OS, ROM
from bench.report import record
from bench.report.picture import draw_funnel
from bench.rig.options import Chosen, finish, place, record_options, target_options, tell
from bench.storm.running import Running, Scene, starts


def between_stages(text: str) -> list[tuple[float, float]]:
    """ "1:3,5:10" -> spreads of what lies between the stages.  BadParameter."""
    try:
        found = [(float(low), float(high)) for low, high in (part.split(":") for part in text.split(","))]
    except ValueError:
        raise click.BadParameter(f"{text!r}: wanted two spreads in seconds, as in 1:3,5:10") from None
    if len(found) != 2 or any(not 0 <= low <= high for low, high in found):
        raise click.BadParameter(f"{text!r}: wanted two spreads, each with its least first, as in 1:3,5:10")
    return found


@click.command("storm")
@target_options(10_000)
@record_options
@click.option("--spread", default=0.0, show_default=True, help="Machines get their power within so many seconds.")
@click.option("--racks", default=1, show_default=True, type=click.IntRange(1), help="Powered on one after the other.")
@click.option("--rack-interval", default=0.0, show_default=True, help="Seconds from one rack to the next.")
@click.option("--between", default="1:3,5:10", show_default=True, help="Seconds from ROM to iPXE, from iPXE to system.")
@click.option("--bmc", is_flag=True, help="Every machine has a management card that asks, too (--hosts counts both).")
@click.option("--hasty-ipxe", is_flag=True, help="iPXE takes the first offer, as with option 175.176.")
def main(
    spread: float,
    racks: int,
    rack_interval: float,
    between: str,
    bmc: bool,
    hasty_ipxe: bool,
    seed: int,
    file: Path | None,
    picture: Path | None,
    **chosen_options: Any,
) -> None:
    """N machines switched on at once, until the last ACK.  Exit 1: one stays dark, or a reply was wrong or double."""
    chosen = Chosen(**chosen_options)
    people = chosen.people()
    waits = between_stages(between)
    stages = (ROM, (IPXE_HASTY if hasty_ipxe else IPXE).after(*waits[0]), OS.after(*waits[1]))
    scene = Scene(stages, bmc, starts(len(people.macs), spread, racks, rack_interval, seed))
    scenario = chosen.scenario() | {"hosts": len(people.macs), "spread_s": spread, "racks": racks}
    scenario |= {"rack_interval_s": rack_interval, "between_s": between, "bmc": bmc, "hasty_ipxe": hasty_ipxe}
    begun = record.begin("storm", scenario, seed)
    with place(chosen, people) as (target, stage, core):
        watch, before = record.Watch(), stage.service() if stage else {}
        with click.progressbar(length=len(people.macs), label="up", file=sys.stderr) as bar:
            found = Running(target, people, scene, core=core, seed=seed).wait(lambda done: bar.update(done - bar.pos))
        if stage is not None:
            begun["server_used"] = stage.since(before)
            tell(f"the server used {begun['server_used']['cpu_s']} CPU s and dropped {begun['server_used']['dropped']}")
        begun |= {"disturbance": watch.figures(found.tally["stalled_ns"] / 1e9), "best": found.record()}
    for line in found.lines():
        click.echo(line)
    drawn = None
    if picture is not None:
        title = f"storm of {found.hosts:,} hosts, retransmissions of ours: {found.ours}"
        drawn = draw_funnel(found.funnel, found.hosts, record.resolved(picture), title)
    finish(begun, file, drawn)
    if not found.all_right:
        dark = found.hosts - found.tally["up"]
        raise click.ClickException(f"{dark} hosts are not up; {found.tally['wrong']} replies were wrong")
