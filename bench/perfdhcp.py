"""`python -m bench.perfdhcp`: replies a second on one core, ours and Kea's in one run, asked by somebody else's client.

perfdhcp (Kea's own load generator) poses as a relay on core 1 and does whole exchanges (DISCOVER, OFFER, REQUEST, ACK)
for many hosts; each server gets core 0 for all of its processes, one after the other.  The highest rate with less than
0.1 % loss is searched by doubling and bisection.  CPU time is that of all processes, for ours the inventory's too.

How far to trust it.  perfdhcp sends and checks in one thread and is often slower than the server: then "replies/s" is
its figure, and "replies per CPU-second" of the server is the fair one (a server that is idle wakes up more often for
less, so this flatters nobody).  It spins above 10,000 exchanges/s, so its CPU time says nothing there; that it could
not send what it was asked to does.  The kernel gives it 166 packets of receive buffer, which costs it replies whenever
the core is taken away for some milliseconds; so it gets a big one, and Kea, which has no setting for that, gets the
same as ours: a longer queue, no faster server.  An overloaded server may answer what is queued in the wait of EXIT_S
behind the run: at most 4 % too good in 5 s on an idle machine, for either; the delay of an ACK shows it.

perfdhcp checks no addresses.  bench.engine.crowd does, after the load, and a server that got one wrong has no figure.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import click

from bench.lab.lab import Host, Lab, LabError, Process, which
from bench.lab.processes import children
from bench.lab.site import ENVIRONMENT, running_site
from bench.peers.answers import WrongAnswer, await_socket
from bench.peers.kea import Kea
from bench.peers.table import Table
from bench.report.machine import (
    ROOT,
    await_drained,
    build_mode,
    check_pinned,
    commit,
    cpu_s,
    dropped,
    idle_s,
    machine_record,
    members,
    pinned,
    receive_buffer,
    widen,
)

NETWORK = IPv4Network("10.96.0.0/12")
SERVER, RELAY, FIRST_ADDRESS = IPv4Address("10.96.0.1"), IPv4Address("10.96.0.2"), IPv4Address("10.96.1.0")
# perfdhcp adds its counter octet by octet without carry.  From a base of zeros that is plain counting: a capture of
# `-R 10000` showed exactly 02:00:00:00:00:00 to 02:00:00:00:27:0f, in order, then again from the first (2.2.0).
FIRST_MAC = 0x020000000000
HOSTS_MAX = 1_000_000
EXIT_S = 0.2
LOSS_MAX, PRECISION = 0.001, 0.05
START_RATE, STEPS_MAX = 2000, 14
KEPT_UP = 0.98  # of the rate that it was asked for, from there on perfdhcp counts as the limit
FULL = 0.85  # share of a core in use, from there on it counts as full
DISTURBED = 0.1  # share of a core that others took, from there on the figure is theirs as well
SAMPLES, SAMPLE_HOSTS, SAMPLE_RATE = 4, 150, 1000
BUFFER_BYTES = 16 << 20  # for perfdhcp
RESULTS = ROOT / "bench/results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What perfdhcp counted.  malformed: replies that it could not read; orphans: replies to nothing that it sent."""

    discovers: int
    offers: int
    requests: int
    acks: int
    orphans: int
    malformed: int
    delay_ms: float | None  # average from REQUEST to ACK


def parse_report(text: str) -> Report:
    """perfdhcp's closing words (2.2) -> counts.  Raises LabError, with the words, when a count is missing."""
    parts = re.split(r"^\*\*\*(?:Statistics for: )?(.+?)\*\*\*$", text, flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))

    def count(section: str, what: str) -> int:
        found = re.search(rf"^{what}: (\d+)$", sections.get(section, ""), re.MULTILINE)
        if found is None:
            raise LabError(f"perfdhcp: no {what!r} for {section} in its report; it said:\n{text}")
        return int(found[1])

    delay = re.search(r"^avg delay: ([\d.]+) ms$", sections.get("REQUEST-ACK", ""), re.MULTILINE)
    return Report(
        discovers=count("DISCOVER-OFFER", "sent packets"),
        offers=count("DISCOVER-OFFER", "received packets"),
        requests=count("REQUEST-ACK", "sent packets"),
        acks=count("REQUEST-ACK", "received packets"),
        orphans=count("DISCOVER-OFFER", "orphans") + count("REQUEST-ACK", "orphans"),
        malformed=count("Malformed Packets", "Malformed packets"),
        delay_ms=float(delay[1]) if delay else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run of perfdhcp at one rate.  CPU times in seconds; `idle_s` of (the server's core, perfdhcp's)."""

    asked: int  # exchanges a second
    seconds: float  # for which it sent
    wall_s: float  # with its start and its wait for the last replies
    report: Report
    server_cpu_s: float
    perfdhcp_cpu_s: float
    idle_s: tuple[float, float] = (0.0, 0.0)
    server_dropped: int = 0  # by full receive buffers
    perfdhcp_dropped: int = 0

    @property
    def sent(self) -> int:
        return self.report.discovers + self.report.requests

    @property
    def answered(self) -> int:
        return self.report.offers + self.report.acks

    @property
    def loss(self) -> float:
        return 1 - self.answered / self.sent if self.sent else 1.0

    @property
    def replies_s(self) -> float:
        return self.answered / self.seconds

    @property
    def replies_cpu_s(self) -> float:
        """Replies per CPU-second of the whole service."""
        return self.answered / self.server_cpu_s if self.server_cpu_s else 0.0

    @property
    def kept_up(self) -> bool:
        """perfdhcp sent what it was asked to."""
        return self.report.discovers >= KEPT_UP * self.asked * self.seconds

    @property
    def good(self) -> bool:
        return self.loss < LOSS_MAX

    @property
    def others_s(self) -> tuple[float, float]:
        """What everybody else, kernel threads included, took from the two cores."""
        first, second = self.wall_s - self.idle_s[0], self.wall_s - self.idle_s[1]
        return max(0.0, first - self.server_cpu_s), max(0.0, second - self.perfdhcp_cpu_s)

    @property
    def server_full(self) -> bool:
        """The server, not perfdhcp, could not go faster: it has used up its core, or its queue ran over."""
        return self.server_dropped > 0 or self.server_cpu_s >= FULL * self.seconds

    @property
    def disturbed(self) -> bool:
        """Others took a good part of one of the cores."""
        return max(self.others_s) > DISTURBED * self.wall_s

    def record(self) -> dict[str, Any]:
        counts = {name: getattr(self.report, name) for name in self.report.__slots__}
        return counts | {
            "asked_exchanges_s": self.asked,
            "seconds": self.seconds,
            "wall_s": round(self.wall_s, 3),
            "offered": self.sent,
            "answered": self.answered,
            "loss": round(self.loss, 6),
            "replies_s": round(self.replies_s),
            "server_cpu_s": round(self.server_cpu_s, 2),
            "replies_per_cpu_s": round(self.replies_cpu_s),
            "perfdhcp_cpu_s": round(self.perfdhcp_cpu_s, 2),
            "others_cpu_s": [round(other, 2) for other in self.others_s],
            "disturbed": self.disturbed,
            "server_dropped": self.server_dropped,
            "perfdhcp_dropped": self.perfdhcp_dropped,
        }


@dataclass(frozen=True, slots=True)
class Found:
    """What a search tried, in order."""

    trials: list[Trial]

    @property
    def best(self) -> Trial | None:
        """The most replies/s with an acceptable loss."""
        return max((trial for trial in self.trials if trial.good), key=lambda trial: trial.replies_s, default=None)

    @property
    def limit(self) -> str:
        """Who ended the search: "server", "perfdhcp", "others" on their cores, or "steps" when none of them did."""
        failed = [trial for trial in self.trials if not trial.good or not trial.kept_up]
        if not failed:
            return "steps"
        if any(trial.server_full for trial in failed):
            return "server"
        return "others" if any(trial.disturbed for trial in failed) else "perfdhcp"


def search(measure: Callable[[int], Trial], start: int = START_RATE, steps_max: int = STEPS_MAX) -> Found:
    """Highest rate without loss: doubling while it goes well, then bisection until PRECISION or `steps_max`.

    A rate counts as too high when it failed twice: on a shared machine one failure says little.  Ends too when perfdhcp
    was asked for more and did not get more: it has reached its own limit."""
    trials: list[Trial] = []
    low, high, rate, failed, most = 0, 0, start, False, 0.0
    while len(trials) < steps_max and (not high or high > low * (1 + PRECISION)) and rate > 0:
        trial = measure(rate)
        trials.append(trial)
        if trial.good:
            low, failed = rate, False
            if not trial.kept_up and trial.replies_s < most * (1 + PRECISION):
                break
            most = max(most, trial.replies_s)
        elif not failed:
            failed = True
            continue
        else:
            high, failed = rate, False
        rate = (low + high) // 2 if high else low * 2
    return Found(trials)


@dataclass(frozen=True, slots=True)
class Stage:
    """The two hosts of one measurement: the server on one core, perfdhcp on the other."""

    server: Host
    client: Host
    cores: tuple[int, int]
    hosts: int
    seconds: float

    def command(self, rate: int) -> list[str]:
        base = f"mac={FIRST_MAC.to_bytes(6, 'big').hex(':')}"
        words = f"perfdhcp -4 -l cl -g single -r {rate} -p {self.seconds:g} -R {self.hosts} -b {base}"
        return [*words.split(), "-W", str(int(EXIT_S * 1e6)), str(SERVER)]

    def measure(self, rate: int) -> Trial:
        """One run of perfdhcp.  LabError when it did not get to a report."""
        await_drained(self.server)
        hosts, start = (self.server, self.client), time.monotonic()
        lost, cpu, idle = [dropped(h) for h in hosts], cpu_s(self.server), [idle_s(c) for c in self.cores]
        used = _children_s()
        with pinned(self.cores[1]):
            process = self.client.popen(self.command(rate))
        self.widen(process)
        status = process.wait(4 * self.seconds + 20)
        wall = time.monotonic() - start
        if status not in (0, 3):  # 3: some exchanges failed
            raise LabError(f"perfdhcp: exit status {status}, wanted 0 or 3; it said:\n{process.log()}")
        lost_by = [dropped(h) - before for h, before in zip(hosts, lost, strict=True)]
        idle_by = [idle_s(c) - before for c, before in zip(self.cores, idle, strict=True)]
        return Trial(
            asked=rate,
            seconds=self.seconds,
            wall_s=wall,
            report=parse_report(process.log()),
            server_cpu_s=cpu_s(self.server) - cpu,
            perfdhcp_cpu_s=_children_s() - used,
            idle_s=(idle_by[0], idle_by[1]),
            server_dropped=lost_by[0],
            perfdhcp_dropped=lost_by[1],
        )

    @staticmethod
    def widen(process: Process) -> None:
        """perfdhcp's buffer, as soon as it has its socket: some milliseconds after its start."""
        while process.running():
            if any(widen(pid, BUFFER_BYTES // 2) for pid in children(process.pid)):
                return
            time.sleep(0.002)

    def check_answers(self) -> dict[str, int]:
        """Ask for some hosts of each part of the population; WrongAnswer unless each gets its own address, twice."""
        asked = min(SAMPLE_HOSTS, self.hosts)
        for sample in range(SAMPLES):
            first = (self.hosts - asked) * sample // (SAMPLES - 1)
            command = [
                sys.executable,
                "-m",
                "bench.engine.crowd",
                "--mix",
                "--server",
                str(SERVER),
                "--giaddr",
                str(RELAY),
            ]
            command += ["--hosts", str(asked), "--most", str(2 * asked), "--rate", str(SAMPLE_RATE)]
            command += ["--first-mac", (FIRST_MAC + first).to_bytes(6, "big").hex(":")]
            command += ["--first-address", str(FIRST_ADDRESS + first)]
            done = self.client.run(command, timeout=30.0, env=ENVIRONMENT)
            figures = json.loads(done.stdout)
            if figures["wrong"] or figures["unanswered"]:
                raise WrongAnswer(
                    f"{figures['wrong']} wrong and {figures['unanswered']} missing answers in {figures['sent']} from "
                    f"host {first} on: {figures['wrong_first']} {figures['unanswered_first']}"
                )
        return {"hosts": SAMPLES * asked, "answers": 2 * SAMPLES * asked}


def _children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@dataclass(frozen=True, slots=True)
class Result:
    """One server's search, the check of its answers, and its receive buffer.  wrong: why it has no figure."""

    name: str
    found: Found
    checked: dict[str, int]
    buffer_bytes: int
    wrong: str = ""

    def record(self) -> dict[str, Any]:
        head = {"checked": self.checked, "receive_buffer_bytes": self.buffer_bytes}
        if self.wrong:
            return head | {"wrong": self.wrong}
        best = self.found.best.record() if self.found.best else None
        return head | {"limit": self.found.limit, "best": best, "trials": [t.record() for t in self.found.trials]}


def run_server(name: str, lab: Lab, cores: tuple[int, int], hosts: int, seconds: float, buffer: int) -> Result:
    """Start one server on hosts of its own, search, check.  buffer: bytes for its sockets; 0 leaves them alone."""
    server, client = lab.host(f"{name}-server"), lab.host(f"{name}-relay")
    ends = [f"{address}/{NETWORK.prefixlen}" for address in (SERVER, RELAY)]
    lab.wire(server, client, a_if="sv", b_if="cl", a_addr=ends[0], b_addr=ends[1])
    table = Table(count=hosts, network=NETWORK, server=SERVER, first_mac=FIRST_MAC, first_address=int(FIRST_ADDRESS))
    tell(f"{name}: starting with {hosts} hosts")
    with ExitStack() as running:
        with pinned(cores[0]):
            if name == "kea":
                await_socket(server, running.enter_context(Kea().running(server, table, "sv")))
            else:
                running.enter_context(running_site(server, table.host_file(), hosts, workers=1))
        result = _search_and_check(name, Stage(server, client, cores, hosts, seconds), buffer)
    client.close()
    server.close()
    return result


def _search_and_check(name: str, stage: Stage, buffer: int) -> Result:
    check_pinned(stage.server, stage.cores[0])
    if buffer:
        for pid in members(stage.server):
            widen(pid, buffer)

    def measure(rate: int) -> Trial:
        trial = stage.measure(rate)
        tell(
            f"{name}: {rate} exchanges/s asked, {trial.replies_s:.0f} replies/s, loss {100 * trial.loss:.3f} %, "
            f"server {trial.server_cpu_s:.2f} CPU s, perfdhcp {trial.perfdhcp_cpu_s:.2f}"
            f"{'' if trial.kept_up else ', perfdhcp could not send that much'}"
        )
        return trial

    size = max((receive_buffer(pid) for pid in members(stage.server)), default=0)
    found = search(measure)
    await_drained(stage.server)
    try:
        return Result(name, found, stage.check_answers(), size)
    except WrongAnswer as wrong:
        return Result(name, found, {}, size, str(wrong))


def tell(text: str) -> None:
    """Progress; the figures alone go to standard output."""
    click.echo(text, err=True)


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %"


ROWS: dict[str, Callable[[Trial], str]] = {
    "replies/s (2 an exchange)": lambda t: f"{t.replies_s:,.0f}",
    "loss": lambda t: f"{100 * t.loss:.3f} %",
    "server, CPU s of the run": lambda t: f"{t.server_cpu_s:.2f} of {t.seconds:g}",
    "replies per CPU-second": lambda t: f"{t.replies_cpu_s:,.0f}",
    "perfdhcp's share of its core": lambda t: _percent(t.perfdhcp_cpu_s, t.wall_s),
    "others on the two cores": lambda t: " and ".join(_percent(other, t.wall_s) for other in t.others_s),
    "average delay of an ACK": lambda t: "unknown" if t.report.delay_ms is None else f"{t.report.delay_ms:.2f} ms",
}
LIMITS = {"server": "the server", "perfdhcp": "perfdhcp", "others": "other processes", "steps": "number of steps"}


def table(results: list[Result]) -> str:
    """The figures side by side; a server with a wrong answer, or without one good run, has none."""
    best = [None if result.wrong else result.found.best for result in results]
    lines = [["", *(result.name for result in results), "ratio" if len(results) == 2 else ""]]
    for label, show in ROWS.items():
        lines.append([label, *(show(trial) if trial else "-" for trial in best), _ratio(label, best)])
    most = [None if r.wrong else max((t.replies_s for t in r.found.trials), default=0.0) for r in results]
    lines.append(["most replies/s at any loss", *("-" if m is None else f"{m:,.0f}" for m in most), ""])
    lines.append(["limited by", *("-" if r.wrong else LIMITS[r.found.limit] for r in results), ""])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _ratio(label: str, best: list[Trial | None]) -> str:
    figure = {"replies/s (2 an exchange)": "replies_s", "replies per CPU-second": "replies_cpu_s"}.get(label)
    if figure is None or len(best) != 2 or best[0] is None or best[1] is None:
        return ""
    rival = getattr(best[1], figure)
    return f"{getattr(best[0], figure) / rival:.1f}" if rival else ""


def remarks(results: list[Result]) -> list[str]:
    """What a reader of the table must know: perfdhcp's own limit, and who else was on the cores."""
    trials = [trial for result in results for trial in result.found.trials]
    slow = [trial for trial in trials if not (trial.kept_up or trial.server_full or trial.disturbed)]
    said = ["perfdhcp's own limit: not seen in this run."]  # a run that others slowed down does not show it
    if slow:
        most = max(slow, key=lambda trial: trial.replies_s)
        said = [
            f"perfdhcp's own limit: asked for {2 * most.asked:,} replies/s it got {most.replies_s:,.0f} with "
            f"{_percent(most.perfdhcp_cpu_s, most.wall_s)} of its core, while the server used "
            f"{_percent(most.server_cpu_s, most.seconds)} of its own: replies/s above is perfdhcp's figure there, "
            "replies per CPU-second is the server's."
        ]
    if disturbed := sum(trial.disturbed for trial in trials):
        said.append(
            f"DISTURBED: in {disturbed} of {len(trials)} runs others took over {100 * DISTURBED:.0f} % of one of the "
            "two cores; repeat on an idle machine before quoting replies/s."
        )
    return said


def missing(peer: str) -> str | None:
    """Why the bench can't run here; None when it can."""
    if os.geteuid() != 0:
        return "needs root: receive buffers beyond net.core.rmem_max (SO_RCVBUFFORCE)"
    needed = {"perfdhcp": "kea-admin"} | ({"kea-dhcp4": "kea-dhcp4-server"} if peer == "kea" else {})
    for program, package in needed.items():
        if which(program) is None:
            return f"{program} is not installed (Debian package {package})"
    if len(os.sched_getaffinity(0)) < 2:
        return "needs two cores, one for the server and one for perfdhcp; this process may use one"
    return Lab.available()


def write(path: Path, record: dict[str, Any]) -> Path:
    """Write the record; a bare file name means one in bench/results."""
    target = RESULTS / path if path.parent == Path() else path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(record, indent=1) + "\n")
    return target


@click.command()
@click.option("--hosts", default=10_000, show_default=True, type=click.IntRange(1, HOSTS_MAX))
@click.option("--seconds", default=5.0, show_default=True, type=click.FloatRange(1), help="Length of one step.")
@click.option("--peer", default="kea", show_default=True, type=click.Choice(["kea", "none"]))
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="A bare name: in bench/results.")
def main(hosts: int, seconds: float, peer: str, file: Path | None) -> None:
    """Replies a second on one core, ours and a rival's.  Exit 1 when a server answered wrongly."""
    if reason := missing(peer):
        raise click.ClickException(reason)
    first, second = sorted(os.sched_getaffinity(0))[:2]
    record: dict[str, Any] = {"bench": "perfdhcp", "started": datetime.now(UTC).isoformat(timespec="seconds")}
    record |= {"machine": machine_record(), "commit": commit(), "build": build_mode()}
    results: list[Result] = []
    try:
        with Lab() as lab:
            for name in ["bootstorm", *([] if peer == "none" else [peer])]:
                buffer = results[0].buffer_bytes // 2 if results else 0  # the kernel doubles what it is asked for
                results.append(run_server(name, lab, (first, second), hosts, seconds, buffer))
    except LabError as failed:
        raise click.ClickException(str(failed)) from failed
    scenario = {"hosts": hosts, "seconds": seconds, "loss_max": LOSS_MAX, "relayed": True, "cores": [first, second]}
    record |= {"scenario": scenario, "load_after": os.getloadavg()}
    record["servers"] = {result.name: result.record() for result in results}
    click.echo(table(results))
    for remark in remarks(results):
        click.echo(remark)
    for result in results:
        if not result.wrong:
            click.echo(
                f"{result.name}: {result.checked['answers']} answers for {result.checked['hosts']} hosts checked"
            )
    if file is not None:
        click.echo(f"written: {write(file, record)}")
    if wrong := [f"{result.name} has no figure: {result.wrong}" for result in results if result.wrong]:
        raise click.ClickException("; ".join(wrong))


if __name__ == "__main__":
    main()
