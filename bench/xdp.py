"""`bootstorm bench xdp`: both ways into and out of our server on one wire, what a reply costs by each, in one run.

The echo, an empty server on the same kind of sockets, stands beside them: what no server by sockets can go below.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from bench.engine.target import Target
from bench.lab.site import RunningSite
from bench.peers.run import REPLY_BYTES, impossible
from bench.report import record
from bench.report.machine import pinned
from bench.report.picture import draw_search
from bench.rig.contest import Turn, disturbed, hold
from bench.rig.host_file import host_file
from bench.rig.options import finish, record_options, tell
from bench.rig.stage import HOSTS_MAX, SERVER, Stage, echo_server, invented, two_hosts

BACK_ENDS = ("socket", "xdp")
FIRST, START_S = 10_000.0, 300.0


@contextmanager
def served(io: str, hosts: int) -> Iterator[Stage]:
    """Our server with one worker, all of it on the first core.  RuntimeError when it does not run as asked."""
    with two_hosts() as stage:
        path = stage.server.scratch / "hosts.csv"
        with path.open("w") as out:
            out.writelines(host_file(hosts))
        running = RunningSite(stage.server, 1, api_url=f"file://{path}", io=io, interfaces=["sv"])
        try:
            with pinned(stage.cores[0]):
                running.serve()
                status = running.await_status(
                    lambda s: s["hosts"] == hosts and all(w["generation"] for w in s["workers"]), START_S
                )
            if status["io"] != io:
                raise RuntimeError(f"wanted dhcp.io = {io}, the server runs with {status['io']}: {status['io_reason']}")
            yield stage
        finally:
            running.stop()


def turns(hosts: int, seconds: float, budget_s: float, seed: int) -> Iterator[Turn]:
    """Direct and relayed, each by sockets and by XDP; then the echo, relayed."""
    people = invented(hosts)

    def turn(name: str, stage: Stage, **more: Any) -> Turn:
        tell(f"{name}:")
        return hold(name, stage, people, seconds=seconds, first=FIRST, budget_s=budget_s, seed=seed, **more)

    for way in ("relayed", "direct"):
        for io in BACK_ENDS:
            with served(io, hosts) as stage:
                target = Target(SERVER, ifname="cl", host=stage.client) if way == "direct" else None
                yield turn(f"{way}, {io}", stage, target=target)
    with two_hosts() as stage, echo_server(stage, bare=False, reply_bytes=REPLY_BYTES):
        yield turn("relayed, echo", stage, unchecked=True)


def table(found: Sequence[Turn]) -> Iterator[str]:
    """ratio: CPU of a reply, against the sockets' of the same way."""
    yield f"{'':>16}{'replies/s':>12}{'CPU ns':>10}{'noise':>8}{'disturbed':>11}{'ratio':>8}"
    costs = {turn.name: turn.cpu_ns for turn in found}
    for turn in found:
        base, cost = costs.get(f"{turn.name.partition(',')[0]}, socket"), turn.cpu_ns
        cpu = "-" if cost is None else f"{cost:,.0f}"
        ratio = "-" if cost is None or base is None else f"{cost / base:.2f}"
        rate = turn.wrong or (f"{turn.replies_s:,.0f}" if turn.replies_s else "-")
        shares = f"{100 * turn.cpu_noise:>6.0f} %{100 * turn.disturbance:>9.0f} %"
        yield f"{turn.name:>16}{rate:>12}{cpu:>10}{shares}{ratio:>8}"


@click.command("xdp")
@click.option("--hosts", default=10_000, show_default=True, type=click.IntRange(1, HOSTS_MAX))
@click.option("--seconds", default=0.5, show_default=True, type=click.FloatRange(0.1), help="Of one run.")
@click.option("--budget", default=6.0, show_default=True, type=click.FloatRange(0.5), help="Seconds of one search.")
@record_options
def main(hosts: int, seconds: float, budget: float, seed: int, file: Path | None, picture: Path | None) -> None:
    """CPU of a reply with dhcp.io = socket and = xdp, relayed and direct, one core each, every reply checked."""
    if reason := impossible():
        raise click.ClickException(f"XDP is measured in a laboratory, and cannot be here: {reason}")
    begun, watch = record.begin("xdp", {"hosts": hosts, "seconds": seconds, "budget_s": budget}, seed), record.Watch()
    found = list(turns(hosts, seconds, budget, seed))
    stalled = sum(cost.stalled_s for turn in found for cost in turn.costs)
    begun |= {"disturbance": watch.figures(stalled), "servers": {turn.name: turn.record() for turn in found}}
    for line in [*table(found), *disturbed(found)]:
        click.echo(line)
    drawn = None
    if picture is not None:
        trials = {turn.name: turn.search.trials for turn in found}
        drawn = draw_search(trials, record.resolved(picture), f"sockets and XDP, one core each, {hosts:,} hosts")
    finish(begun, file, drawn)
    if wrong := [turn.name for turn in found if turn.wrong]:
        raise click.ClickException(f"{', '.join(wrong)}: answered wrongly or twice, and has no figure")
