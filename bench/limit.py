"""`bootstorm bench limit`: the machine's own limit on one core, by the echo server, with our server beside it."""

from __future__ import annotations

from pathlib import Path

import click

from bench.lab.lab import Lab
from bench.peers.run import REPLY_BYTES, Rules, contest, table_of
from bench.report import record
from bench.report.picture import draw_search
from bench.rig.contest import disturbed
from bench.rig.options import finish, record_options
from bench.rig.stage import HOSTS_MAX


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
