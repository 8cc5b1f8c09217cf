"""How `ctl fleet` looks to a person and to a program, and what makes it exit 1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from control.cli.ctl import FAILED, Client
from control.service_client import CallFailed
from fastpath.process.escape import shown, shown_all

SHOWN = 12  # of a digest


def print_fleet(client: Client) -> int:
    try:
        told = client.call("fleet", {})
    except CallFailed as failed:
        return failure(str(failed))
    if client.as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        click.echo("\n".join(render(shown_all(told))))
    return FAILED if told["fault"] or told["refused"] or any(row["behind"] for row in told["machines"]) else 0


def give_order(client: Client, verb: str, digest: str, key: Path | None) -> int:
    from control.fleet.process.keyfiles import KeyFault
    from control.fleet.wire import Refused

    arguments: dict[str, Any] = {"verb": verb, "digest": digest}
    try:
        if key is not None:
            arguments["signed"] = signed(client.call("fleet", {}), verb, digest, key)
        told = client.call("fleet_order", arguments)
    except (CallFailed, KeyFault, Refused) as failed:
        return failure(str(failed))
    if client.as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        click.echo("\n".join(render_head(shown_all(told["head"]), told["now_s"])))
    return 0


def signed(told: dict[str, Any], verb: str, digest: str, key: Path) -> bytes:
    """The order, by an operator's key, which does not leave this process.  Raises CallFailed, KeyFault, Refused."""
    from control.fleet.messages import Order, Verb, encode
    from control.fleet.orders import target
    from control.fleet.process.keyfiles import read_signing_key
    from control.fleet.signing import sealed

    signer, head = read_signing_key(key), told["head"]
    if head is None:
        raise CallFailed("fleet: there is no head yet that an order could be about")
    trial = bytes.fromhex(head["trial"]["digest"]) if head["trial"] else b""
    kept = [bytes.fromhex(content["digest"]) for content in head["kept"]]
    about = target(Verb(verb), trial, kept, digest)
    return sealed(encode(Order(shard=told["shard"], number=head["orders"] + 1, verb=Verb(verb), digest=about)), signer)


def failure(said: str) -> int:
    click.echo(f"bootstorm: {shown(said)}", err=True)
    return FAILED


def render(told: dict[str, Any]) -> list[str]:
    where = "leads" if told["leads"] else f"led by {told['leader'] or 'nobody'}"
    lines = [f"shard     {told['shard']}, {where}"]
    if not told["connected"]:
        lines.append(f"engine    FLEET DOWN: {told['engine_fault']}; the table serves on")
    if told["fault"]:
        lines.append(f"leader    {told['fault']}")
    lines += render_head(told["head"], told["now_s"]) if told["head"] else ["head      none yet"]
    if told["refused"]:
        lines.append(f"REFUSED   here: {told['refused']}")
    if told["head"] and told["head"]["stable"]["rules"] != told["rules"]:
        lines.append("rules     OTHER keys of section dhcp decide rows here than at the leader, whose count")
    return lines + render_machines(told["machines"])


def render_machines(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each, below a heading."""
    if not rows:
        return []
    heading = f"{'machine':<20} {'serves':<{SHOWN}} {'generation':>15} {'age':>8} {'requests/s':>10} {'replies/s':>10}"
    lines = [f"{heading} {'lag':>7} {'heard':>6}  state"]
    for row in rows:
        age = "unknown" if row["age_s"] is None else f"{row['age_s']} s"
        lag = f"{row['lag_ms'] / 1000:.1f} s" if row["lag_ms"] else "-"
        line = f"{row['host']:<20} {row['serves'][:SHOWN] or 'no table':<{SHOWN}} {row['mark'][2]:>15} {age:>8} "
        line += f"{row['requests_s']:>10,} {row['replies_s']:>10,} {lag:>7} {row['heard_ms'] // 1000:>4} s  "
        lines.append(line + (f"BEHIND: {row['behind']}" if row["behind"] else "good"))
    builds = {row["version"] for row in rows if row["version"]}
    if len(builds) > 1:
        for build in sorted(builds):
            names = ", ".join(row["host"] for row in rows if row["version"] == build)
            lines.append(f"build     {build}: {names}")
    return lines


def render_head(head: dict[str, Any], now_s: float) -> list[str]:
    incarnation, revision, generation = head["mark"]
    age_s = max(0, int(now_s - head["created_s"]))
    lines = [
        f"head      {incarnation}.{revision}.{generation} by {head['leader']}, {age_s} s old",
        f"stable    {table_words(head['stable'])}",
    ]
    if head["trial"]:
        lines.append(f"trial     {table_words(head['trial'])}, by {', '.join(head['canary'])}")
    if head["failed"]:
        lines.append(f"FAILED    {head['failed'][:SHOWN]} was dropped; it is tried again after: ctl fleet release")
    if head["held"]:
        lines.append("HELD      nobody changes its table until: ctl fleet release")
    if head["pinned"]:
        lines.append("PINNED    by a rollback: nothing newer is published until: ctl fleet release")
    lines += [f"kept      {table_words(content)}" for content in head["kept"]]
    return lines


def table_words(content: dict[str, Any]) -> str:
    size = sum(blob["bytes"] for blob in content["blobs"])
    return f"{content['digest'][:SHOWN]}  {content['hosts']:,} hosts, {size:,} bytes"
