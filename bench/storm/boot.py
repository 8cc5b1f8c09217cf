"""`bench boot`: a site of racks boots, and some of its machines hang at known stages, which `ctl hosts` has to find.

Every client counts for itself how far it came and what it sent and heard, so that whatever the service shows can be
compared with something that is not the service's.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bench.engine.firmware import IPXE, OS, ROM, Firmware
from bench.engine.storms import STEPS
from bench.engine.target import Population, Target
from bench.lab.lab import Lab
from bench.report import record
from bench.rig.options import Chosen, finish, progress, target_options, tell
from bench.rig.stage import two_cores
from bench.storm.racks import HANGS, OF_ITSELF, Machine, Row, Site, even_rows, site_of, with_hangs
from bench.storm.running import NOWHERE, Outcome, Running, Scene, starts
from bench.storm.standing import Part, Standing, standing
from bench.storm.storm import between_stages
from bench.storm.viewers import Looking, looked_at, readers

Place = tuple[str, str]  # stage and step
END = (OS.name, "ACK")
NAMED = 20


@dataclass(frozen=True, slots=True)
class Pace:
    """stages: in order, with what lies between them.  spread_s: within which all machines get their power."""

    stages: tuple[Firmware, ...]
    spread_s: float = 3.0


def usual_pace(between: str = "1.5:3,1.5:3", spread_s: float = 3.0) -> Pace:
    """A UEFI ROM, iPXE and a system with the timers of each.  between: seconds from one to the next, in words."""
    waits = between_stages(between)
    return Pace((ROM, IPXE.after(*waits[0]), OS.after(*waits[1])), spread_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """What the clients know of one boot.

    where: of each machine the stage and step that it came to, None without power; wanted: to which it had to come.
    asked: of each machine its requests and the replies to them."""

    machines: Sequence[Machine]
    outcomes: list[Outcome]
    where: list[Place | None]
    wanted: list[Place | None]
    asked: list[tuple[int, int]]
    seconds: float

    def total(self, count: str) -> int:
        return sum(outcome.tally[count] for outcome in self.outcomes)

    @property
    def own_drops(self) -> int:
        return sum(outcome.own_drops for outcome in self.outcomes)

    @property
    def stages(self) -> tuple[str, ...]:
        return self.outcomes[0].stages

    @property
    def datagrams(self) -> dict[str, dict[str, int]]:
        """Stage -> step -> how many, repeated ones too."""
        return {
            stage: {step: sum(outcome.datagrams[stage][step] for outcome in self.outcomes) for step in STEPS}
            for stage in self.stages
        }

    @property
    def came_to(self) -> dict[str, dict[str, int]]:
        """Stage -> step -> machines that came so far and no further."""
        found = Counter(place for place in self.where if place is not None)
        return {stage: {step: found[stage, step] for step in STEPS} for stage in self.stages}

    @property
    def astray(self) -> list[Machine]:
        """Machines that are not where they had to come to."""
        pairs = zip(self.machines, self.where, self.wanted, strict=True)
        return [machine for machine, where, wanted in pairs if where != wanted]

    @property
    def all_right(self) -> bool:
        return not (self.astray or any(self.total(count) for count in ("wrong", "duplicate")))

    def record(self) -> dict[str, Any]:
        counts = ("up", "hung", "dark", "sent", "heard", "wrong", "duplicate", "wasted", "stray")
        return {count: self.total(count) for count in counts} | {
            "machines": len(self.machines),
            "seconds": round(self.seconds, 3),
            "without_power": self.where.count(None),
            "datagrams": self.datagrams,
            "came_to": self.came_to,
            "retransmissions_of_ours": sum(outcome.ours for outcome in self.outcomes),
            "astray": [machine.name for machine in self.astray],
            "own_drops": self.own_drops,
            "examples": [example for outcome in self.outcomes for example in outcome.examples],
        }

    def lines(self) -> list[str]:
        """For people."""
        said = [
            f"{'':6}" + "".join(f"{step:>10}" for step in STEPS) + "  came to:" + "".join(f"{s:>10}" for s in STEPS)
        ]
        for stage, counts in self.datagrams.items():
            ends = "".join(f"{count:>10,}" for count in self.came_to[stage].values())
            said.append(f"{stage:6}" + "".join(f"{count:>10,}" for count in counts.values()) + f"{'':10}{ends}")
        said.append(
            f"{len(self.machines):,} machines in {self.seconds:.1f} s: {self.total('up'):,} up, "
            f"{self.total('hung'):,} hang as they were to or have no power, {self.total('dark'):,} dark; "
            f"{self.total('wrong'):,} wrong replies, {self.total('duplicate'):,} double"
        )
        if self.astray:
            shown = ", ".join(machine.name for machine in self.astray[:NAMED])
            said.append(f"{len(self.astray):,} are not where they had to come to: {shown}")
        return said


def ends_of(site: Site, number: int, last: bool) -> list[Place | None]:
    """Where each machine has to come to at a boot; None without power.  last: all hang that are to hang, else those
    whom the inventory or their cabling lets hang."""

    def of(machine: Machine) -> Place | None:
        hang = HANGS.get(machine.hang)
        if number < site.rows[machine.row].first_boot:
            return None
        return END if hang is None or not (last or hang.made or hang.at is None) else hang.at

    return [of(machine) for machine in site.machines]


def boot(
    site: Site,
    parts: Sequence[Part],
    pace: Pace,
    *,
    core: int | None,
    seed: int,
    number: int = 1,
    last: bool = True,
    watch: Callable[[int], None] = lambda _done: None,
) -> Boot:
    """All machines get their power; returns when each is up or where it hangs.

    number: of the boot, from 1 on.  watch: called a few times a second with the number of machines that are."""
    wanted = ends_of(site, number, last)
    where: list[Place | None] = [None] * len(site.machines)
    asked = [(0, 0)] * len(site.machines)
    began = time.monotonic()
    running: list[Running] = []
    outcomes = []
    try:
        for at, part in enumerate(parts):
            running.append(_start(site, part, pace, wanted, core, (seed << 16) + (number << 8) + at))
        for some in running:
            outcomes.append(some.wait(lambda _done: watch(sum(each.done for each in running))))
    except BaseException:
        for some in running:
            some.stop()
        raise
    seconds = time.monotonic() - began
    for part, outcome in zip(parts, outcomes, strict=True):
        for at, place, count in zip(part.numbers, outcome.where, outcome.asked, strict=True):
            where[at], asked[at] = place, count
    return Boot(machines=site.machines, outcomes=outcomes, where=where, wanted=wanted, asked=asked, seconds=seconds)


def _start(site: Site, part: Part, pace: Pace, wanted: Sequence[Place | None], core: int | None, seed: int) -> Running:
    names = [stage.name for stage in pace.stages]

    def octet(end: Place | None) -> int:
        return NOWHERE if end is None or end == END else names.index(end[0]) * len(STEPS) + STEPS.index(end[1])

    own = [wanted[number] for number in part.numbers]
    machines = [site.machines[number] for number in part.numbers]
    ends = bytes(map(octet, own))
    power = starts(len(own), pace.spread_s, 1, 0.0, seed)
    scene = Scene(
        pace.stages, False, [at if end is not None else -1.0 for at, end in zip(power, own, strict=True)], ends=ends
    )
    people = Population(
        [machine.mac.to_bytes(6, "big") for machine in machines],
        [machine.address for machine in machines],
        part.relays,
    )
    return Running(part.target, people, scene, core=core, seed=seed)


@contextlib.contextmanager
def _place(chosen: Chosen, hang: int, seed: int) -> Iterator[tuple[Site, list[Part], Standing | None, int]]:
    """The site, how its machines ask, our own service (None: another was named), and the generator's core."""
    core = two_cores()[1] if chosen.core is None else chosen.core
    if chosen.server is not None:
        if bool(chosen.giaddr) == bool(chosen.ifname):
            raise click.UsageError("with --server give either --giaddr or --ifname")
        people = chosen.people()
        machines = tuple(
            Machine(number, mac.hex(":"), int.from_bytes(mac, "big"), address)
            for number, (mac, address) in enumerate(zip(people.macs, people.addresses, strict=True))
        )
        site = _hanging(Site((Row("hosts", len(machines)),), machines), hang, seed, OF_ITSELF)
        target = Target(chosen.server, chosen.giaddr, chosen.ifname)
        yield site, [Part(target, list(range(len(machines))), people.relays)], None, core
        return
    if reason := Lab.available():
        raise click.ClickException(f"a server of our own needs a laboratory: {reason}; or name one with --server")
    kinds = tuple(HANGS) if chosen.relays else tuple(kind for kind in HANGS if kind != "elsewhere")
    try:
        well = site_of(even_rows(chosen.hosts, chosen.relays + 1))
    except ValueError as unfit:
        raise click.UsageError(str(unfit)) from unfit
    site = _hanging(well, hang, seed, kinds)
    tell(f"starting our own server with {len(site.machines):,} machines in {len(site.rows)} rows")
    with standing(site, chosen.workers, control=readers()) as place:
        yield site, place.parts, place, core


def _hanging(site: Site, many: int, seed: int, kinds: Sequence[str]) -> Site:
    try:
        return with_hangs(site, many, seed, kinds)
    except ValueError as unfit:
        raise click.UsageError(str(unfit)) from unfit


def _stay(place: Standing | None) -> None:
    """Until Ctrl-C: somebody looks at it."""
    where = f"--socket {place.service.console} " if place is not None else ""
    tell(f"bootstorm ctl {where}hosts --stuck: after a minute it names them; Ctrl-C ends this")
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


@click.command("boot")
@target_options(10_000, relays=9)
@click.option("--hang", default=37, show_default=True, type=click.IntRange(0), help="Machines that hang, of all kinds.")
@click.option("--boots", default=2, show_default=True, type=click.IntRange(1), help="One after the other.")
@click.option("--spread", default=3.0, show_default=True, help="Machines get their power within so many seconds.")
@click.option(
    "--between", default="1.5:3,1.5:3", show_default=True, help="Seconds from ROM to iPXE, from iPXE to system."
)
@click.option(
    "--viewers", default=0, show_default=True, type=click.IntRange(0), help="Who look at the board meanwhile; its CPU."
)
@click.option("--stay", is_flag=True, help="Leave the laboratory as it is until Ctrl-C.")
@click.option("--seed", default=1, show_default=True, help="Of who hangs, and how.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Record; -: on standard output, no words there.")
def main(
    hang: int,
    boots: int,
    spread: float,
    between: str,
    viewers: int,
    stay: bool,
    seed: int,
    file: Path | None,
    **chosen_options: Any,
) -> None:
    """A site of racks boots, and some of its machines hang at known stages at the last boot.

    Exit 1: a machine is not where it had to come to, or a reply was wrong or double."""
    chosen, pace = Chosen(**chosen_options), usual_pace(between, spread)
    scenario = chosen.scenario() | {"hang": hang, "boots": boots, "spread_s": spread, "between_s": between}
    made = record.begin("boot", scenario, seed)
    say = tell if file == Path("-") else click.echo
    found: list[Boot] = []
    looks: list[dict[str, Any]] = []
    with _place(chosen, hang, seed) as (site, parts, place, core):
        watched = record.Watch()
        for number in range(1, boots + 1):
            with looking(place, viewers) as seen, progress(f"boot {number} of {boots}", len(site.machines)) as watch:
                found.append(
                    boot(site, parts, pace, core=core, seed=seed, number=number, last=number == boots, watch=watch)
                )
            for line in [*found[-1].lines(), *([seen.line()] if viewers else [])]:
                say(line)
            looks.append(seen.record())
        made |= {"disturbance": watched.figures(sum(each.total("stalled_ns") for each in found) / 1e9)}
        made |= {"hung": _hung(site), "boots": [each.record() for each in found]}
        made |= {"board": looks} if viewers else {}
        for kind, names in _by_kind(site).items():
            say(f"{HANGS[kind].words}: {', '.join(names)}")
        if file == Path("-"):
            click.echo(json.dumps(made))
            sys.stdout.flush()
        else:
            finish(made, file, None)
        if stay:
            _stay(place)
    if not all(each.all_right for each in found):
        raise click.ClickException(
            f"{sum(len(each.astray) for each in found)} machines are not where they had to come to"
        )


def looking(place: Standing | None, viewers: int) -> contextlib.AbstractContextManager[Looking]:
    if place is not None:
        return looked_at(place.service, viewers)
    if viewers:
        raise click.UsageError("--viewers look at a server of our own, and another was named by --server")
    return contextlib.nullcontext(Looking(0))


def _hung(site: Site) -> list[dict[str, Any]]:
    return [
        {"name": machine.name, "mac": machine.mac_text, "hang": machine.hang, "rack": machine.rack}
        for machine in site.machines
        if machine.hang
    ]


def _by_kind(site: Site) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for machine in site.machines:
        if machine.hang:
            found.setdefault(machine.hang, []).append(machine.name)
    return found
