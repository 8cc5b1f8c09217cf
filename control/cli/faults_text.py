"""How faults look to a person and to a program: those of `ctl faults`, page by page."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import click

from control.cli.ctl import FAILED, CallFailed, Client
from fastpath.process.escape import shown, shown_all

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
