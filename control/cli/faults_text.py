"""How faults look to a person and to a program: those of `ctl faults`, page by page, and those of `bootstorm lint`."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from control.cli.ctl import FAILED, Client
from control.service_client import CallFailed
from fastpath.process.escape import shown, shown_all

if TYPE_CHECKING:
    from control.config.config import Dhcp

PAGE = 1_000


def print_faults(client: Client, named: str | None, kind: str | None) -> None:
    """However many there are, one page is in memory; exit 1 with one line on stderr when there is no answer."""
    try:
        pages = pages_of(client, named, kind)
        first = next(pages)
        if client.as_json:
            figures = {name: first[name] for name in ("total", "objects", "kinds", "left_out")}
            print_json(figures, "faults", (fault for page in chain_pages(first, pages) for fault in page["faults"]))
            return
        click.echo(render_head(shown_all(first)))
        for page in chain_pages(first, pages):
            for fault in page["faults"]:
                click.echo(render_fault(shown_all(fault)))
    except CallFailed as failed:
        click.echo(f"bootstorm: {shown(str(failed))}", err=True)
        sys.exit(FAILED)


def pages_of(client: Client, named: str | None, kind: str | None) -> Iterator[dict[str, Any]]:
    """Raises CallFailed."""
    after = 0
    while True:
        arguments = {"object": named, "kind": kind, "after": after, "limit": PAGE}
        page = client.call("faults", arguments)
        yield page
        if not page["more"]:
            return
        after = page["after"]


def chain_pages(first: dict[str, Any], others: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield first
    yield from others


def render_head(page: Mapping[str, Any]) -> str:
    """The whole inventory in a line, whatever was asked for."""
    if not page["total"]:
        return "no faults"
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(page["kinds"].items(), key=lambda each: -each[1]))
    left_out = f"; {page['left_out']:,} more are only counted" if page["left_out"] else ""
    return f"{page['total']:,} faults of {page['objects']:,} objects: {kinds}{left_out}"


def render_fault(fault: Mapping[str, Any]) -> str:
    seen = datetime.fromtimestamp(fault["first_seen_s"], UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    return f"{seen}  {fault['kind']:<15}  {fault['object']}: {fault['reason']}"


def print_json(
    head: Mapping[str, Any], name: str, rows: Iterable[Any], tail: Callable[[], Mapping[str, Any]] = dict
) -> None:
    """One JSON object with a list that is written as it comes, an element a line.  tail: what is known behind it."""

    def members(of: Mapping[str, Any]) -> str:
        return "".join(f"\n  {json.dumps(word)}: {json.dumps(value)}," for word, value in of.items())

    out, mark = sys.stdout, "\n    "
    out.write("{" + members(head) + f"\n  {json.dumps(name)}: [")
    for row in rows:
        out.write(mark + json.dumps(row))
        mark = ",\n    "
    more = members(tail()).removesuffix(",")
    out.write("\n  ]" + ("," + more if more else "") + "\n}\n")
    out.flush()  # here a reader that is gone is still the command's matter


# --- lint ------------------------------------------------------------------------------------------------------------


class StatusLine:
    """How far it is, on a terminal's standard error; taken away before anything else is written there."""

    def __init__(self) -> None:
        self.on = sys.stderr.isatty()
        self.there = False

    def show(self, text: str) -> None:
        if self.on:
            sys.stderr.write(f"\r\x1b[K{shown(text, 100)}")
            sys.stderr.flush()
            self.there = True

    def clear(self) -> None:
        if self.there:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self.there = False


def print_findings(subject: str, config: Dhcp, as_json: bool, strict: bool) -> int:
    """All that lint finds, as it finds it; the exit code.  subject: for the lines; config.api_url: what is read."""
    from control.explain.lint import Finding, open_lint

    status, counts = StatusLine(), Counter[str]()
    remarks = 0

    def progress(stage: str, done: int, total: int) -> None:
        status.show(f"{subject}: {stage} {done:,}" + (f" of {total:,}" if total else ""))

    lint = open_lint(config, progress)

    def found() -> Iterator[Finding]:
        nonlocal remarks
        for finding in lint.findings():
            status.clear()
            if finding.remark:
                remarks += 1
            else:
                counts[finding.kind] += 1
            yield finding
        status.clear()

    def figures() -> dict[str, Any]:
        return {
            "hosts": lint.hosts,
            "faults": counts.total(),
            "kinds": dict(sorted(counts.items())),
            "remarks": remarks,
        }

    if as_json:
        print_json({"subject": subject}, "findings", (each._asdict() for each in found()), figures)
    else:
        for each in found():
            click.echo(shown(render_finding(subject, each)))
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common())
        said = f"{counts.total():,} faults ({kinds})" if counts else "no faults"
        click.echo(shown(f"{subject}: {lint.hosts:,} hosts, {said}" + (f", {remarks:,} remarks" if remarks else "")))
    return FAILED if counts or (strict and remarks) else 0


def render_finding(subject: str, finding: Any) -> str:
    """FILE:LINE: KIND: OBJECT: what is wrong, as editors and CI systems read it."""
    place = f"{subject}:{finding.line}" if finding.line else subject
    reason = finding.reason.removeprefix(f"{Path(subject).name}: ")
    named = f"{finding.object}: " if finding.object and not finding.object.startswith(f"{Path(subject).name}: ") else ""
    return f"{place}: {'remark: ' if finding.remark else ''}{finding.kind}: {named}{reason}"
