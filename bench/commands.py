"""`bootstorm bench load`, `limit`, `replay`: a server of our own or a named one, figures, a record, a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bench import load, record, replay
from bench.figures import milliseconds
from bench.forms import Form
from bench.lab import Lab
from bench.load import Search
from bench.options import Chosen, finish, place, progress, record_options, target_options, tell
from bench.outcome import Result
from bench.picture import draw_load, draw_search
from bench.stage import HOSTS_MAX, Stage, echo_server, invented, own_site, two_hosts
from bench.target import Population, Target, population

REPLY_BYTES = 348  # of our server to an invented DISCOVER in the laboratory's site


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
@click.option("--seconds", default=3.0, show_default=True, type=click.FloatRange(0.1), help="Of one step.")
@click.option("--reply-bytes", default=REPLY_BYTES, show_default=True, type=click.IntRange(300, 1400))
@click.option("--server/--no-server", "with_server", default=True, show_default=True, help="Our own beside them.")
@record_options
def limit_command(
    hosts: int,
    seconds: float,
    reply_bytes: int,
    with_server: bool,
    seed: int,
    file: Path | None,
    picture: Path | None,
) -> None:
    """The machine's own limit: the echo, the bare echo, and our server beside them, one core each."""
    if reason := Lab.available():
        raise click.ClickException(f"the limit is measured in a laboratory, and cannot here: {reason}")
    people = invented(hosts)
    begun = record.begin("limit", {"hosts": hosts, "seconds": seconds, "reply_bytes": reply_bytes}, seed)
    watch = record.Watch()
    found: dict[str, Search] = {}
    used: dict[str, dict[str, Any]] = {}
    for name in ("bare echo", "echo", *(["bootstorm"] if with_server else [])):
        tell(f"{name}:")
        found[name], used[name] = _measured(name, people, seconds, reply_bytes, seed)
    stalled = sum(trial.stalled_s for search in found.values() for trial in search.trials)
    begun["disturbance"] = watch.figures(stalled)
    begun["servers"] = {name: _server_record(search, used[name]) for name, search in found.items()}
    for line in _limit_table(begun["servers"]):
        click.echo(line)
    drawn = None
    if picture is not None:
        trials = {name: search.trials for name, search in found.items()}
        drawn = draw_search(trials, record.resolved(picture), f"one core each, {hosts:,} hosts")
    finish(begun, file, drawn)


def _measured(
    name: str, people: Population, seconds: float, reply_bytes: int, seed: int
) -> tuple[Search, dict[str, Any]]:
    """The highest rate of one server, and the CPU that it needed for all replies of the search."""

    def measure(rate: float) -> Result:
        count = max(1, int(rate * seconds))
        unchecked = name != "bootstorm"
        under_way = load.start(stage.target, people, rate, count, core=stage.cores[1], seed=seed, unchecked=unchecked)
        trial = under_way.wait()
        tell(f"  {trial.lines()[0]}")
        return trial

    if name == "bootstorm":
        with own_site(people) as stage:
            before = stage.service()
            return load.highest(measure, 20_000.0), stage.since(before)
    with two_hosts() as stage, echo_server(stage, bare=name == "bare echo", reply_bytes=reply_bytes):
        before = stage.service()
        return load.highest(measure, 20_000.0), stage.since(before)


def _server_record(found: Search, used: dict[str, Any]) -> dict[str, Any]:
    answered = sum(trial.answered for trial in found.trials)
    return {
        "limit": found.limit,
        "replies_s": round(max((trial.answered_rate for trial in found.trials if trial.sustained), default=0.0)),
        "best": found.best.record() if found.best else None,
        "cpu_us_a_reply": round(1e6 * used["cpu_s"] / answered, 3) if answered else None,
        "generator_cpu_us_a_request": round(
            1e6 * sum(trial.generator_cpu_s for trial in found.trials) / sum(t.offered for t in found.trials), 3
        ),
        "dropped": used["dropped"],
        "trials": [trial.record() for trial in found.trials],
    }


def _limit_table(servers: dict[str, dict[str, Any]]) -> list[str]:
    lines = [f"{'':12}{'replies/s':>12}{'CPU us a reply':>16}{'of the echo':>13}  limited by"]
    echo = servers["echo"]["replies_s"]
    for name, figures in servers.items():
        share = f"{figures['replies_s'] / echo:.2f}" if echo else "-"
        cost = figures["cpu_us_a_reply"] or "-"
        lines.append(f"{name:12}{figures['replies_s']:>12,}{cost:>16}{share:>13}  {figures['limit']}")
    return lines


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
