"""`bootstorm bench soak`: everything that can happen to a service, at random by a seed, under load.

Ends at the first request that is lost or wrongly answered, or wait that is too long, with what it takes to repeat it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from bench.faults.faults import FAULTS, Fault, recovered
from bench.faults.trial import Row, Trial, attempt, calm, calm_limit_s, render, row_of
from bench.faults.watched import PATIENCE_S, Watched, watched_site
from bench.lab.lab import Lab
from bench.report import record
from bench.report.figures import Histogram
from bench.report.machine import ROOT, commit
from bench.report.picture import draw_soak
from bench.rig.options import finish, record_options, tell

LOGS = ROOT / "build" / "soak"
WARM_S, PAUSE_S, SAMPLE_S, PICTURE_S = 1.0, 1.0, 2.0, 1.0
AMID_A_CHANGE = 0.3  # share of the faults that happen while a change of the inventory is on its way
# What may differ between the first quarter of a run and the last: allocators keep some, a delta and the pair before the
# last refresh come (4 descriptors where none were).  What is lost with every fault is more within minutes.
RSS_TIMES, RSS_MORE_KB, FDS_MORE, MEMFDS_MORE = 1.2, 8192, 8, 6
SHOWN = 20


@dataclass(slots=True)
class Sample:
    """Of the largest process of its kind: resident memory that is its own (kB), descriptors, memfds among them."""

    at_s: float
    kind: str
    rss_kb: int
    fds: int
    memfds: int


def look_at(pid: int) -> tuple[int, int, int]:
    """OSError when it has ended."""
    rss = 0
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            rss = int(line.split()[1])
    links = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    return rss, len(links), sum("/memfd:" in link for link in links)


@dataclass(slots=True)
class Sampler:
    """Looks at every process of the service every SAMPLE_S, in a thread of its own."""

    watched: Watched
    samples: list[Sample] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        started = time.monotonic()
        while not self.ended.wait(SAMPLE_S):
            for kind, pids in self.watched.site.by_kind().items():
                found = []
                for pid in pids:
                    with contextlib.suppress(OSError):
                        found.append(look_at(pid))
                if found:
                    most = (max(each[column] for each in found) for column in range(3))
                    self.samples.append(Sample(time.monotonic() - started, kind, *most))

    @contextlib.contextmanager
    def sampling(self) -> Iterator[None]:
        thread = threading.Thread(target=self.run, name="sampler", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.ended.set()
            thread.join()


@dataclass(frozen=True, slots=True)
class Growth:
    """Medians of a kind of process in the first quarter of the run and in the last."""

    kind: str
    first: tuple[float, float, float]
    last: tuple[float, float, float]

    @property
    def flat(self) -> bool:
        (rss, fds, memfds), (rss_then, fds_then, memfds_then) = self.first, self.last
        return rss_then <= max(RSS_TIMES * rss, rss + RSS_MORE_KB) and (
            fds_then <= fds + FDS_MORE and memfds_then <= memfds + MEMFDS_MORE
        )

    def line(self) -> str:
        pairs = zip(("RssAnon kB", "descriptors", "memfds"), self.first, self.last, strict=True)
        words = ", ".join(f"{name} {before:,.0f} -> {after:,.0f}" for name, before, after in pairs)
        return f"{self.kind:11} {words}{'' if self.flat else '  GROWS'}"


def growths(samples: Sequence[Sample], seconds: float) -> list[Growth]:
    """By kind; those that were seen in both quarters."""
    found = []
    for kind in sorted({sample.kind for sample in samples}):
        quarters = []
        for begin, end in ((0.0, seconds / 4), (3 * seconds / 4, seconds)):
            rows = [(s.rss_kb, s.fds, s.memfds) for s in samples if s.kind == kind and begin <= s.at_s <= end]
            if rows:
                quarters.append([statistics.median(column) for column in zip(*rows, strict=True)])
        if len(quarters) == 2:
            (a, b, c), (d, e, f) = quarters
            found.append(Growth(kind, (a, b, c), (d, e, f)))
    return found


@dataclass(slots=True)
class Soak:
    """A run: what is tried, in which order, and what it said."""

    watched: Watched
    seconds: float
    keep_going: bool
    faults: list[Fault]
    calm_row: Row | None = None
    trials: list[Trial] = field(default_factory=list)
    ended_by: str = ""

    def order(self) -> Iterator[Fault]:
        """All of them in random order, again and again: none is left out by chance."""
        while True:
            yield from self.watched.dice.sample(self.faults, len(self.faults))

    def run(self, calm_s: float) -> None:
        watched = self.watched
        started = time.monotonic()
        watched.begin()
        time.sleep(WARM_S)
        recovered(watched)
        calm_trial = calm(watched, calm_s)
        time.sleep(PATIENCE_S)  # then all of its requests are settled
        self.calm_row = row_of(watched, [calm_trial], 0.0)
        tell(f"calm for {calm_s:g} s: longest wait {self.calm_row.wait_s:.4f} s")
        for fault in self.order():
            if time.monotonic() - started > self.seconds or self.over():
                return
            amid = watched.dice.random() < AMID_A_CHANGE
            if amid:
                self.begin_change()
            trial = attempt(watched, fault)
            self.trials.append(trial)
            self.progress(trial, time.monotonic() - started, amid)
            time.sleep(watched.dice.random() * PAUSE_S)

    def begin_change(self) -> None:
        """Two machines exchange addresses, a refresh begins, and whatever comes next comes then."""
        change = self.watched.swap(False)
        self.watched.pending.append(change)
        self.watched.say(f"begun: {change.words}")
        with contextlib.suppress(OSError, RuntimeError):
            self.watched.site.ask("refresh", answer_s=0.05, wait=False)

    def over(self) -> bool:
        """Something was wrong, and nobody asked to go on."""
        totals = self.watched.ledger.totals()
        for name in ("wrong", "twice", "lost"):
            if totals[name]:
                self.ended_by = self.ended_by or f"{totals[name]} {name}"
        if self.trials and self.trials[-1].failure:
            self.ended_by = self.ended_by or f"{self.trials[-1].fault.name}: {self.trials[-1].failure}"
        return bool(self.ended_by) and not self.keep_going

    def progress(self, trial: Trial, at_s: float, amid: bool) -> None:
        found = self.watched.ledger.between(trial.from_ns, trial.to_ns)
        totals = self.watched.ledger.totals()
        counts = ", ".join(f"{name} {totals[name]:,}" for name in ("lost", "wrong", "twice", "unheard"))
        what = trial.fault.name + (" amid a change" if amid else "")
        took_s, wait_s = (trial.to_ns - trial.from_ns) / 1e9, found["wait_ns"] / 1e9
        tell(
            f"{at_s:7.1f} s  {what:44} {took_s:5.1f} s, wait {wait_s:.3f} s; so far {totals['sent']:,} sent, {counts}"
            + (f"  FAILED: {trial.failure}" if trial.failure else "")
        )

    def rows(self) -> list[Row]:
        """When the load has ended."""
        if self.calm_row is None:
            return []
        limit_s = calm_limit_s(self.calm_row)
        by_fault: dict[str, list[Trial]] = {}
        for trial in self.trials:
            by_fault.setdefault(trial.fault.name, []).append(trial)
        order = [fault.name for fault in self.faults if fault.name in by_fault]
        return [self.calm_row, *(row_of(self.watched, by_fault[name], limit_s) for name in order)]


def reproduction(soak: Soak, seed: int, rows: Sequence[Row]) -> Path:
    """Everything that a person needs who looks for the cause."""
    LOGS.mkdir(parents=True, exist_ok=True)
    path = LOGS / f"soak-{seed}.log"
    watched = soak.watched
    words = [
        f"make soak SEED={seed} SOAK_S={soak.seconds:g} SOAK_RATE={watched.rate:g}",
        f"commit {commit()}, {watched.hosts} hosts",
        *render(rows),
        "",
        "first faults:",
        *watched.faulty(),
        "",
        "what was done, in seconds since the first request:",
        *watched.log,
        "",
        "what the service said:",
        watched.site.pipe.log(),
    ]
    path.write_text("\n".join(words))
    return path


def chosen(names: Sequence[str], without: Sequence[str], watched: Watched) -> list[Fault]:
    """Faults that can be done here; each that cannot is named."""
    found = []
    for fault in FAULTS:
        if (names and not any(name in fault.name for name in names)) or any(name in fault.name for name in without):
            continue
        if reason := fault.needs(watched):
            tell(f"left out: {fault.name}: {reason}")
            continue
        found.append(fault)
    if not found:
        raise click.ClickException(f"no fault is left of {', '.join(fault.name for fault in FAULTS)}")
    return found


def show(soak: Soak, rows: Sequence[Row], grown: Sequence[Growth], figures: dict[str, Any]) -> None:
    for line in render(rows):
        click.echo(line)
    click.echo("first quarter -> last:")
    for growth in grown:
        click.echo(f"  {growth.line()}")
    click.echo(f"all requests: {json.dumps(figures['totals'])}; waits {json.dumps(figures['wait_ms'])}")
    for line in soak.watched.faulty()[:SHOWN]:
        click.echo(line)


@click.command("soak")
@click.option("--seconds", default=3600.0, show_default=True, type=click.FloatRange(1))
@click.option("--rate", default=20_000.0, show_default=True, type=click.FloatRange(100), help="Requests a second.")
@click.option("--hosts", default=2000, show_default=True, type=click.IntRange(100, 100_000))
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 16))
@click.option("--calm", "calm_s", default=30.0, show_default=True, type=click.FloatRange(1), help="Of nothing, first.")
@click.option("--only", multiple=True, help="Faults whose names hold this; again for more.")
@click.option("--without", multiple=True, help="Not the faults whose names hold this; again for more.")
@click.option("--keep-going", is_flag=True, help="Do not end at the first fault.")
@record_options
def main(
    seconds: float,
    rate: float,
    hosts: int,
    workers: int,
    calm_s: float,
    only: tuple[str, ...],
    without: tuple[str, ...],
    keep_going: bool,
    seed: int,
    file: Path | None,
    picture: Path | None,
) -> None:
    """Everything that can happen to a service, at random by a seed, under load; exit 1 when anything was wrong."""
    if reason := Lab.available():
        raise click.ClickException(f"a soak runs in a laboratory, and cannot here: {reason}")
    seed = seed or random.SystemRandom().randrange(1, 1 << 31)
    tell(f"seed {seed}")
    scenario = {"seconds": seconds, "rate": rate, "hosts": hosts, "workers": workers, "calm_s": calm_s}
    begun, watch = record.begin("soak", scenario, seed), record.Watch()
    with watched_site(hosts, rate, seed, seconds + calm_s + 600.0, workers) as watched:
        soak, sampler = Soak(watched, seconds, keep_going, chosen(only, without, watched)), Sampler(watched)
        began = time.monotonic()
        with sampler.sampling():
            try:
                soak.run(calm_s)
            finally:
                totals = watched.end()
        ran_s = time.monotonic() - began
        rows, grown = soak.rows(), growths(sampler.samples, ran_s)
        soak.over()
        waits = Histogram(watched.ledger.histogram())
        figures = {
            "totals": totals,
            "wait_ms": waits.record(),
            "rows": [row.record() for row in rows],
            "growth": {each.kind: {"first": each.first, "last": each.last, "flat": each.flat} for each in grown},
            "log": watched.log,
        }
        good = all(row.good for row in rows) and not soak.ended_by and all(each.flat for each in grown)
        begun |= {"figures": figures, "good": good}
        begun["disturbance"] = watch.figures(totals["stalled_ns"] / 1e9)
        show(soak, rows, grown, figures)
        if not good:
            click.echo(f"seed {seed}: {soak.ended_by or 'see the table'}; {reproduction(soak, seed, rows)}")
        drawn = None
        if picture is not None:
            marks = [((t.from_ns - watched.ledger.began_ns) / 1e9, t.fault.name) for t in soak.trials]
            memory = [(sample.at_s, sample.kind, sample.rss_kb / 1024) for sample in sampler.samples]
            title = f"{totals['sent']:,} requests at {rate:,.0f}/s, {len(soak.trials)} faults, seed {seed}"
            drawn = draw_soak(watched.ledger.waits(PICTURE_S), marks, memory, record.resolved(picture), title)
    finish(begun, file, drawn)
    if not good:
        raise SystemExit(1)
