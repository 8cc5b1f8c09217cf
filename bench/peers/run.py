"""`bootstorm bench peers`: the same hosts and the same traffic at other DHCP servers, at ours, and at the echo.

One after the other on one core, the generator on another; relayed DISCOVERs and REQUESTs of our own sender, every reply
checked, and some of them word by word before anything is measured.  A server that answers wrongly has no figure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import click

from bench.engine import sockets
from bench.engine.echo_server import RECEIVE_BYTES
from bench.lab.lab import CommandFailed, Lab, LabError
from bench.peers.answers import Relay, WrongAnswer, await_first, check
from bench.peers.coredhcp import Coredhcp
from bench.peers.dhcpd import Dhcpd
from bench.peers.dnsmasq import Dnsmasq
from bench.peers.freeradius import Freeradius
from bench.peers.kea import Kea
from bench.peers.peer import Peer
from bench.peers.table import Table
from bench.report import record
from bench.report.machine import check_pinned, members, pinned, receive_buffer, widen
from bench.report.picture import draw_bars
from bench.rig.contest import Turn, disturbed, hold
from bench.rig.load import Search
from bench.rig.options import finish, record_options, tell
from bench.rig.stage import (
    FIRST_ADDRESS,
    FIRST_MAC,
    HOSTS_MAX,
    NETWORK,
    RELAY,
    SERVER,
    Stage,
    echo_server,
    invented,
    own_site,
    two_cores,
    two_hosts,
)

PEERS: tuple[Peer, ...] = (Kea(), Dhcpd(), Dnsmasq(), Coredhcp(), Freeradius())
OURS, ECHOES = "bootstorm", ("bare echo", "echo")
REPLY_BYTES = 348  # of ours to the sender's DISCOVER
FAST = 20_000.0  # where the search begins for ours and the echo


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The same for all: hosts, seconds of one run and of one server's search; bytes of the echo's replies."""

    hosts: int
    seconds: float
    budget_s: float
    seed: int = 1
    reply_bytes: int = REPLY_BYTES

    def table(self) -> Table:
        return Table(
            count=self.hosts,
            network=NETWORK,
            server=IPv4Address(SERVER),
            first_mac=FIRST_MAC,
            first_address=FIRST_ADDRESS,
        )

    def hold(self, name: str, stage: Stage, first: float, *, unchecked: bool = False) -> Turn:
        check_pinned(stage.server, stage.cores[0])
        return hold(
            name,
            stage,
            invented(self.hosts),
            seconds=self.seconds,
            first=first,
            budget_s=self.budget_s,
            unchecked=unchecked,
            seed=self.seed,
        )


def echo(name: str, rules: Rules) -> Turn:
    """The machine's own limit: the echo, or the bare one."""
    with two_hosts() as stage, echo_server(stage, bare=name == "bare echo", reply_bytes=rules.reply_bytes):
        return rules.hold(name, stage, FAST, unchecked=True)


def ours(rules: Rules) -> Turn:
    """Our own server, one worker."""
    table = rules.table()
    with own_site(invented(rules.hosts)) as stage, _relay(stage, table) as relay:
        return _checked(OURS, relay, table, lambda: rules.hold(OURS, stage, FAST))


def of_peer(peer: Peer, rules: Rules) -> Turn:
    """Somebody else's.  LabError when it does not come up."""
    table = rules.table()
    with ExitStack() as open_now:
        stage = open_now.enter_context(two_hosts())
        with pinned(stage.cores[0]):
            process = open_now.enter_context(peer.running(stage.server, table, "sv"))
        with _relay(stage, table) as relay:
            await_first(relay, table, stage.server, process)
            for pid in members(stage.server):
                widen(pid, RECEIVE_BYTES)  # as ours and the echo have it: a longer queue, no faster server
            turn = _checked(
                peer.name, relay, table, lambda: rules.hold(peer.name, stage, peer.usual_rate), boots=peer.boots
            )
        buffer = max((receive_buffer(pid) for pid in members(stage.server)), default=0)
    note = f"{peer.package} {peer.version()}" + (f"; {peer.limits}" if peer.limits else "")
    return replace(turn, note=f"{note}; receive buffer {buffer >> 20} MB")


@contextmanager
def _relay(stage: Stage, table: Table) -> Iterator[Relay]:
    """Asks for the check; closed while the load has the relay's address."""
    sock = sockets.open_relay((RELAY,), 67, stage.client)
    with sock:
        yield Relay(sock, IPv4Address(RELAY), table.server)


def _checked(name: str, relay: Relay, table: Table, measure: Callable[[], Turn], *, boots: bool = True) -> Turn:
    """A turn, if the answers are right.  The check's socket is closed then: it would get the load's replies."""
    try:
        asked = check(relay, table, boots=boots)
    except WrongAnswer as wrong:
        return Turn(name, Search([]), [], wrong=str(wrong))
    relay.sock.close()
    return replace(measure(), checked=asked)


def table_of(turns: Sequence[Turn]) -> list[str]:
    """Ours, the limit and every peer; what has no figure says why."""
    by_name = {turn.name: turn for turn in turns}
    mine, limit = by_name.get(OURS), by_name.get("echo")
    names = ("replies/s", "of the echo", "ours / its", "a core-second", "ours / its", "disturbed", "runs")
    lines = [f"{'':12}" + "".join(f"{name:>14}" for name in names) + "  limited by"]
    for turn in turns:
        if turn.wrong:
            lines.append(f"{turn.name:12}{'-':>14}  {turn.wrong}")
            continue
        cells = [
            _number(turn.replies_s),
            _ratio(turn.replies_s, limit.replies_s if limit else None),
            _ratio(mine.replies_s if mine else None, turn.replies_s),
            _number(turn.core_second),
            _ratio(mine.core_second if mine else None, turn.core_second),
            f"{100 * turn.disturbance:.0f} %",
            "{} of {}".format(*turn.runs),
        ]
        ended = turn.search.limit if turn.best is not None else f"{turn.search.limit}; no rate was without loss"
        lines.append(f"{turn.name:12}" + "".join(f"{cell:>14}" for cell in cells) + f"  {ended}")
    return lines


def _number(value: float | None) -> str:
    return f"{value:,.0f}" if value else "-"


def _ratio(one: float | None, other: float | None) -> str:
    return f"{one / other:.2f}" if one and other else "-"


def contest(
    rules: Rules, names: Sequence[str], *, limits: bool = True, ours_too: bool = True
) -> tuple[list[Turn], dict[str, str]]:
    """The turns of the echoes, ours and the peers of these names; and who is missing, with the reason."""
    turns, missing = [], {}
    for name in (*(ECHOES if limits else ()), *([OURS] if ours_too else ())):
        tell(f"{name}:")
        turns.append(ours(rules) if name == OURS else echo(name, rules))
    for peer in PEERS:
        if peer.name not in names:
            continue
        if reason := peer.missing():
            missing[peer.name] = reason
            tell(f"{peer.name}: left out: {reason}")
            continue
        tell(f"{peer.name}:")
        try:
            turns.append(of_peer(peer, rules))
        except (LabError, CommandFailed) as failed:
            missing[peer.name] = str(failed)
            tell(f"{peer.name}: left out: {failed}")
    return turns, missing


def impossible() -> str | None:
    """Why there can be no comparison here."""
    if reason := Lab.available():
        return reason
    cores = two_cores()
    return None if cores[0] != cores[1] else "it needs two cores, one for the servers and one for the generator"


@click.command("peers")
@click.option("--hosts", default=10_000, show_default=True, type=click.IntRange(1, HOSTS_MAX))
@click.option("--seconds", default=1.0, show_default=True, type=click.FloatRange(0.1), help="Of one run.")
@click.option("--budget", default=30.0, show_default=True, type=click.FloatRange(1), help="Seconds of one server.")
@click.option("--only", multiple=True, type=click.Choice([peer.name for peer in PEERS]), help="Default: all of them.")
@click.option("--limits/--no-limits", default=True, show_default=True, help="The echo and the bare echo beside them.")
@record_options
def main(
    hosts: int,
    seconds: float,
    budget: float,
    only: tuple[str, ...],
    limits: bool,
    seed: int,
    file: Path | None,
    picture: Path | None,
) -> None:
    """Ours, the machine's limit and other DHCP servers.  Exit 1 when a server answered wrongly: it has no figure."""
    if reason := impossible():
        raise click.ClickException(f"servers are compared in a laboratory, and cannot be here: {reason}")
    names = list(only or [peer.name for peer in PEERS])
    rules = Rules(hosts=hosts, seconds=seconds, budget_s=budget, seed=seed)
    scenario: dict[str, Any] = {"hosts": hosts, "seconds": seconds, "budget_s": budget, "relayed": True, "peers": names}
    begun, watch = record.begin("peers", scenario, seed), record.Watch()
    turns, missing = contest(rules, names, limits=limits)
    stalled = sum(cost.stalled_s for turn in turns for cost in turn.costs)
    begun |= {"disturbance": watch.figures(stalled), "servers": {turn.name: turn.record() for turn in turns}}
    begun["missing"] = missing
    for line in [*table_of(turns), *disturbed(turns)]:
        click.echo(line)
    for turn in turns:
        if turn.note:
            click.echo(f"{turn.name}: {turn.note}")
    for name, reason in missing.items():
        click.echo(f"{name} is not in the table: {reason}")
    drawn = None
    if picture is not None:
        bars = [(turn.name, turn.replies_s, turn.disturbance) for turn in turns]
        drawn = draw_bars(bars, record.resolved(picture), f"one core each, {hosts:,} hosts, relayed")
    finish(begun, file, drawn)
    if wrong := [f"{turn.name}: {turn.wrong}" for turn in turns if turn.wrong]:
        raise click.ClickException("no figure for a server that answers wrongly: " + "; ".join(wrong))
