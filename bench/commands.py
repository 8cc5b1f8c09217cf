"""`bootstorm bench load`, `limit`, `replay`: a server of our own or a named one, figures, a record, a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bench import replay
from bench.engine.forms import Form
from bench.engine.target import Population, Target, population
from bench.lab.lab import Lab
from bench.peers.run import REPLY_BYTES, Rules, contest, table_of
from bench.report import record
from bench.report.figures import milliseconds
from bench.report.outcome import Result
from bench.report.picture import draw_load, draw_search
from bench.rig import load
from bench.rig.contest import disturbed
from bench.rig.load import Search
from bench.rig.options import Chosen, finish, place, progress, record_options, target_options, tell
from bench.rig.stage import HOSTS_MAX, Stage


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


def _service(stage: Stage | None, before: dict[str, float]) -> dict[str, Any]:
    """What our own server used; nothing is known of somebody else's."""
    return {"server_used": stage.since(before)} if stage is not None else {}


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
        begun |= _service(stage, before) | {"disturbance": watch.figures(stalled)}
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


@click.command("limit")
@click.option("--hosts", default=10_000, show_default=True, type=click.IntRange(1, HOSTS_MAX))
@click.option("--seconds", default=1.0, show_default=True, type=click.FloatRange(0.1), help="Of one run.")
@click.option("--budget", default=30.0, show_default=True, type=click.FloatRange(1), help="Seconds of one search.")
@click.option("--reply-bytes", default=REPLY_BYTES, show_default=True, type=click.IntRange(300, 1400))
@click.option("--server/--no-server", "with_server", default=True, show_default=True, help="Our own beside them.")
@record_options
def limit_command(
    hosts: int,
    seconds: float,
    budget: float,
    reply_bytes: int,
    with_server: bool,
    seed: int,
    file: Path | None,
    picture: Path | None,
) -> None:
    """The machine's own limit: the echo, the bare echo, and our server beside them, one core each."""
    if reason := Lab.available():
        raise click.ClickException(f"the limit is measured in a laboratory, and cannot here: {reason}")
    scenario = {"hosts": hosts, "seconds": seconds, "reply_bytes": reply_bytes, "budget_s": budget}
    begun, watch = record.begin("limit", scenario, seed), record.Watch()
    rules = Rules(hosts=hosts, seconds=seconds, budget_s=budget, seed=seed, reply_bytes=reply_bytes)
    turns = contest(rules, (), ours_too=with_server)[0]
    stalled = sum(cost.stalled_s for turn in turns for cost in turn.costs)
    begun |= {"disturbance": watch.figures(stalled), "servers": {turn.name: turn.record() for turn in turns}}
    for line in [*table_of(turns), *disturbed(turns)]:
        click.echo(line)
    drawn = None
    if picture is not None:
        trials = {turn.name: turn.search.trials for turn in turns}
        drawn = draw_search(trials, record.resolved(picture), f"one core each, {hosts:,} hosts")
    finish(begun, file, drawn)


@click.command("replay")
@click.argument("pcap", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@target_options(1)
@record_options
@click.option(
    "--speed", default=1.0, show_default=True, type=click.FloatRange(0, min_open=True), help="2: twice as fast."
)
@click.option("--spread", default=0.0, show_default=True, help="Copies of a machine begin within so many seconds.")
@click.option("--option-82/--no-option-82", default=True, show_default=True, help="Relays add it, replies echo it.")
def replay_command(
    pcap: tuple[Path, ...],
    speed: float,
    spread: float,
    option_82: bool,
    seed: int,
    file: Path | None,
    picture: Path | None,
    **chosen_options: Any,
) -> None:
    """What a capture's clients said, by --hosts hosts at least, every reply checked.  Exit 1 unless each was right."""
    relayed = not chosen_options["ifname"]
    source = replay.traffic(pcap, circuit=option_82 and relayed)
    copies = -(-chosen_options["hosts"] // len(source.macs))
    chosen_options["hosts"] = copies * len(source.macs)
    chosen = Chosen(**chosen_options)
    people = chosen.people()
    planned = replay.plan(source, copies, speed=speed, spread_s=spread, seed=seed)
    scenario = chosen.scenario() | {"pcap": [path.name for path in pcap], "copies": copies, "speed": speed}
    begun = record.begin("replay", scenario | {"spread_s": spread}, seed)
    tell(f"{len(source.forms)} distinct requests of {len(source.macs)} machines, {copies} copies of each machine")
    with place(chosen, people) as (target, stage, core):
        watch, before = record.Watch(), stage.service() if stage else {}
        with progress("replay", len(planned.due_ns)) as bar:
            found = replay.start(
                target, people, source.forms, planned, limit_s=load.LIMIT_S, core=core, seed=seed
            ).wait(bar)
        begun |= _service(stage, before) | {"disturbance": watch.figures(found.stalled_s), "best": found.record()}
    for line in found.lines():
        click.echo(line)
    if source.skipped:
        click.echo(f"left out: {source.skipped} requests without a DHCP message type of a client")
    drawn = draw_load(found, record.resolved(picture), f"replay of {len(pcap)} captures") if picture else None
    finish(begun, file, drawn)
    if found.wrong or found.duplicate or found.lost:
        raise click.ClickException(
            f"{found.lost} requests without a reply, {found.wrong} wrong, {found.duplicate} replies too many; "
            f"p99 {milliseconds(found.latency.percentile(99))}"
        )
