"""`bootstorm bench load`: steady load on a server of our own or a named one, figures, a record, a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bench import replay
from bench.engine.forms import Form
from bench.engine.target import Population, Target, population
from bench.report import record
from bench.report.outcome import Result
from bench.report.picture import draw_load, draw_search
from bench.rig import load
from bench.rig.load import Search
from bench.rig.options import Chosen, finish, place, progress, record_options, target_options, tell
from bench.rig.stage import server_used


def _fit(chosen: Chosen, source: replay.Traffic | None) -> tuple[Population, tuple[Form, ...]]:
    """Hosts and forms: invented, or those of a capture (its machines, unless --hosts asks for more)."""
    people = chosen.people()
    if source is None:
        return people, ()
    if chosen.server is not None and chosen.hosts_from is None and chosen.first_address is None:
        people = population(source.macs, None, max(1, len(chosen.giaddr)))
    return people, tuple(source.forms)


def _trial(
    target: Target, people: Population, rate: float, seconds: float, forms: tuple[Form, ...], core: int, seed: int
) -> Result:
    count = max(1, int(rate * seconds))
    with progress(f"{rate:,.0f}/s", count) as watch:
        under_way = load.start(target, people, rate, count, forms=forms, core=core, seed=seed)
        found = under_way.wait(watch)
    for line in found.lines():
        tell(f"  {line}")
    return found


@click.command("load")
@target_options(10_000)
@record_options
@click.option("--rate", type=float, help="Requests a second; default: search the highest with less than 0.1 % loss.")
@click.option("--seconds", default=5.0, show_default=True, type=click.FloatRange(0.1), help="Of one step.")
@click.option("--pcap", multiple=True, type=click.Path(exists=True, path_type=Path), help="Requests from a capture.")
def load_command(
    rate: float | None,
    seconds: float,
    pcap: tuple[Path, ...],
    seed: int,
    file: Path | None,
    picture: Path | None,
    **chosen_options: Any,
) -> None:
    """Steady rate, open loop, every reply checked.  Exit 1 when a reply was wrong or came twice."""
    source = replay.traffic(pcap) if pcap else None
    if source is not None and not _given("hosts"):
        chosen_options["hosts"] = len(source.macs)
    chosen = Chosen(**chosen_options)
    people, forms = _fit(chosen, source)
    scenario = chosen.scenario() | {"hosts": len(people.macs), "seconds": seconds, "rate": rate, "loss_max": 0.001}
    scenario |= {"pcap": [path.name for path in pcap]}
    begun = record.begin("load", scenario, seed)
    with place(chosen, people) as (target, stage, core):
        watch, before = record.Watch(), stage.service() if stage else {}

        def measure(at: float) -> Result:
            return _trial(target, people, at, seconds, forms, core, seed)

        found = Search([measure(rate)]) if rate else load.highest(measure, 2000.0)
        stalled = sum(trial.stalled_s for trial in found.trials)
        begun |= server_used(stage, before) | {"disturbance": watch.figures(stalled)}
    begun |= _report(found, rate is not None)
    drawn = None
    if picture is not None:
        drawn = _draw(found, record.resolved(picture), f"load: {len(people.macs):,} hosts")
    finish(begun, file, drawn)
    if any(trial.wrong or trial.duplicate for trial in found.trials):
        raise click.ClickException("the server answered wrongly or twice: it has no figure")


def _given(name: str) -> bool:
    source = click.get_current_context().get_parameter_source(name)
    return source is not click.core.ParameterSource.DEFAULT


def _report(found: Search, single: bool) -> dict[str, Any]:
    """The figures on standard output, and for the record."""
    best = found.trials[0] if single else found.best
    if best is None:
        click.echo("no rate was without loss")
    else:
        for line in best.lines():
            click.echo(line)
    if not single:
        click.echo(f"limited by: {found.limit}")
    return {
        "limit": None if single else found.limit,
        "best": best.record() if best is not None else None,
        "trials": [trial.record() for trial in found.trials],
    }


def _draw(found: Search, path: Path, title: str) -> Path:
    if len(found.trials) == 1:
        return draw_load(found.trials[0], path, title)
    return draw_search({"server": found.trials}, path, title)
