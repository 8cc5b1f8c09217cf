"""`bootstorm top`: the board in a terminal.  The same figures, laid out by rich."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from control.board import discreet, figures
from control.service_client import CallFailed, ServiceClient, Unreachable
from fastpath.process.escape import shown

STYLES: Final = {
    "done": "green", "booting": "blue", "stuck": "bold red", "unknown": "magenta", "refused": "bright_black",
    "never": "bright_black",
}  # fmt: skip
GROUPS_SHOWN: Final = 12
STUCK_SHOWN: Final = 15
BAR_CELLS: Final = 30
NAME_MAX: Final = 40
ANSWER_S: Final = 10.0
FAILED: Final = 1
REDRAWN_S: Final = 1.0  # while an answer is waited for, so that its age is seen
ODD: Final = "the service says what this build does not understand; is it of another one?"


class Picture:
    """The last answers.  by: of figures.KINDS."""

    def __init__(self, client: ServiceClient, by: str) -> None:
        self.client = client
        self.by = by
        self.history = figures.History()
        self.status: Mapping[str, Any] | None = None
        self.overview: Mapping[str, Any] = {}
        self.stuck: list[Mapping[str, Any]] = []
        self.taken_s = 0.0
        self.failure = self.looked_failure = ""

    def ask(self) -> None:
        """What was known stays where there is no answer; `failure` says why."""
        try:
            status = self.client.call("status", {})
            self.look_further()
            self.history.take(time.monotonic(), status)
        except CallFailed as failed:
            self.failure = str(failed)
            return
        except Exception as odd:  # another build may say anything
            self.failure = f"{ODD} ({odd!r:.200})"
            return
        self.status, self.taken_s, self.failure = status, time.time(), ""

    def look_further(self) -> None:
        """A refusal, as of a service without a boot ledger, costs what is asked for here."""
        try:
            self.overview = self.client.call("overview", {})
            stuck = figures.totals_of(self.overview).progress.get("stuck", 0)
            wanted = {"progress": "stuck", "limit": STUCK_SHOWN}
            self.stuck = self.client.call("hosts", wanted)["hosts"] if stuck else []
            self.looked_failure = ""
        except Unreachable:
            raise
        except CallFailed as refused:
            self.looked_failure = str(refused)

    def draw(self) -> RenderableType:
        if self.status is None:
            return Text(f"no answer yet: {shown(self.failure)}", style="bold red")
        machines = (self.machines, self.groups, self.stuck_ones) if self.overview else ()
        parts = (self.headline, *machines, self.notices)
        return Group(*(drawn(part) for part in parts))

    def headline(self) -> RenderableType:
        assert self.status is not None
        health, now_s = self.status["health"], time.time()
        if self.failure:
            words = Text(f"NO ANSWER for {figures.span(now_s - self.taken_s)}: {shown(self.failure)}", style="bold red")
        elif not health["ready"]:
            words = Text(f"NOT READY: {shown(discreet.reason(health['reason']))}", style="bold red")
        else:
            words = Text("{answering} of {workers} workers answer".format(**health), style="green")
        rates = f"{figures.number(self.history.now('requests_s'))} requests/s, "
        rates += f"{figures.number(self.history.now('replies_s'))} replies/s, "
        rates += f"wait p99 {figures.duration(self.history.now('wait_s'))}, "
        rates += f"{figures.number(self.history.now('queue_bytes'))} bytes queued"
        age = f"generation {self.status['generation']}, figures {figures.span(now_s - self.taken_s)} old"
        if self.looked_failure:
            words.append(f"\nHow far machines are it does not say: {shown(self.looked_failure)}", style="bold red")
        fleet = figures.fleet_words(self.status)
        lines = (
            [Text(f"fleet: {shown(fleet, 200)}", style="bold red" if "FLEET DOWN" in fleet else "")] if fleet else []
        )
        return Group(words, Text(rates), *lines, Text(age, style="bright_black"))

    def machines(self) -> RenderableType:
        totals = figures.totals_of(self.overview)
        line = Text(f"{totals.machines:,} cards and BMCs:")
        for word, words in figures.PROGRESS.items():
            many = totals.progress.get(word, 0)
            line.append(f"  {many:,} {words}", style=STYLES[word] if many else "bright_black")
        if since_s := self.overview.get("since_s"):
            since = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(since_s))
            line.append(f"; nothing is known of what was before {since}", style="bright_black")
        table = Table(box=None, pad_edge=False)
        for title in ("who asks", *figures.STEPS.values()):
            table.add_column(title, justify="left" if title == "who asks" else "right")
        for phase, words in figures.PHASES.items():
            counts = (totals.stages.get(f"{phase}-{step}", 0) for step in figures.STEPS)
            table.add_row(words, *(f"{many:,}" for many in counts))
        return Group(line, table)

    def groups(self) -> RenderableType:
        table = Table(box=None, pad_edge=False)
        for title in (self.by, "stuck", "", "machines", "not heard", "done"):
            table.add_column(title, justify="right" if title not in (self.by, "") else "left")
        found = figures.groups_of(self.overview, self.by)
        for group in found[:GROUPS_SHOWN]:
            name = group.name or ("without a relay" if self.by == "relay" else "in none")
            stuck = group.progress["stuck"]
            table.add_row(
                Text(shown(name, NAME_MAX)), Text(f"{stuck:,}", style=STYLES["stuck"] if stuck else ""), bar(group),
                f"{group.machines:,}", f"{group.progress['never']:,}", f"{group.progress['done']:,}",
            )  # fmt: skip
        rest = len(found) - GROUPS_SHOWN
        return Group(table, Text(f"and {rest:,} more" if rest > 0 else "", style="bright_black"))

    def stuck_ones(self) -> RenderableType:
        if not self.stuck:
            return Text("")
        table = Table(box=None, pad_edge=False)
        for title in ("stuck", "stands at", "for", "why"):
            table.add_column(title)
        for host in self.stuck:
            since = figures.span(time.time() - host["stage_s"]) if host["stage_s"] else ""
            who, why = (
                Text(shown(host["name"] or host["mac"], NAME_MAX), style="bold"),
                Text(shown(discreet.reason(host["reason"]), 200)),
            )
            table.add_row(who, figures.stage_words(host["stage"]), since, why)
        return table

    def notices(self) -> RenderableType:
        assert self.status is not None
        found = figures.warnings_of(self.status)
        if not found:
            return Text("")
        return Panel(
            Text("\n".join(shown(discreet.reason(words), 200) for words in found)),
            title="to look at",
            border_style="yellow",
        )


def drawn(part: Callable[[], RenderableType]) -> RenderableType:
    """One that cannot be drawn costs itself."""
    try:
        return part()
    except Exception as missing:
        return Text(f"{part.__name__}: {ODD} ({shown(repr(missing), 200)})", style="bold red")


def bar(group: figures.Group) -> Text:
    line = Text()
    at = 0.0
    for word, many in group.parts():
        end = at + BAR_CELLS * many / max(group.machines, 1)
        line.append("█" * (round(end) - round(at)), style=STYLES[word])
        at = end
    return line


def show_top(client: ServiceClient, by: str, every_s: float, once: bool) -> None:
    """Until Ctrl-C; once: one picture, exit 1 where there is no answer."""
    client.answer_s = client.connect_s = ANSWER_S
    picture, console = Picture(client, by), Console()
    picture.ask()
    if once or not sys.stdout.isatty():
        if picture.status is None:
            click.echo(f"bootstorm: {shown(picture.failure)}", err=True)
            sys.exit(FAILED)
        console.print(picture.draw())
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # and the screen comes back
    turns = threading.Thread(target=ask_for_ever, args=(picture, every_s), daemon=True)
    with Live(picture.draw(), console=console, screen=True, auto_refresh=False) as live:
        turns.start()
        while True:
            time.sleep(min(every_s, REDRAWN_S))
            live.update(picture.draw(), refresh=True)


def ask_for_ever(picture: Picture, every_s: float) -> None:
    while True:
        time.sleep(every_s)
        picture.ask()
