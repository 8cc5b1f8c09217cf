"""`ctl health`: a line and an exit code for keepalived, probes and scripts; and the exit code of `ctl status`.

A control process that is being replaced, by the supervisor or an upgrade, is waited for: DHCP is served meanwhile, and
who took that for a fault would take a server away that answers.
"""

from __future__ import annotations

import json
import time
from typing import Any, Final

import click

from control.cli.ctl import Client
from control.service_client import CONNECT_S, TIMEOUT_S, CallFailed, Unreachable
from fastpath.process.escape import shown

READY, NOT_READY, NO_ANSWER = 0, 1, 2
AGAIN_S: Final = 0.05  # between two tries at a socket that nobody listens on
LEAST_S: Final = 0.05  # for one try, however little time is left


def print_health(client: Client, max_age_s: float | None, wait_s: float) -> int:
    """The exit code: READY, NOT_READY as the service says, or NO_ANSWER with the reason on stderr."""
    try:
        found = ask(client, max_age_s, time.monotonic() + wait_s)
    except CallFailed as failed:
        click.echo(f"bootstorm: {shown(str(failed))}", err=True)
        return NO_ANSWER
    if client.as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo(shown(render_health(found)), err=not found["ready"])
    return READY if found["ready"] else NOT_READY


def print_status(client: Client, wait_s: float | None, quiet: bool) -> int:
    """The exit code: READY, or NOT_READY where the service says so, or says nothing, with the reason on stderr.

    wait_s: how long somebody may take to be answered; quiet: nothing is printed at all."""
    try:
        if wait_s:
            wait_ready(client, time.monotonic() + wait_s)
        found = client.call("status", {})
    except CallFailed as failed:
        if not quiet:
            click.echo(f"bootstorm: {shown(str(failed))}", err=True)
        return NOT_READY
    ready = found.get("health") or {"ready": True}  # of a service of before there was health: it has never said so
    if not quiet:
        client.print_result("status", found)
        if not ready["ready"]:
            click.echo(shown(f"bootstorm: not ready: {ready['reason']}"), err=True)
    return READY if ready["ready"] else NOT_READY


def wait_ready(client: Client, until_s: float) -> None:
    """Until somebody is answered, or the time is over.  Raises CallFailed as ask() does."""
    while not ask(client, None, until_s)["ready"] and time.monotonic() + AGAIN_S < until_s:
        time.sleep(AGAIN_S)
    client.connect_s, client.answer_s = CONNECT_S, TIMEOUT_S


def ask(client: Client, max_age_s: float | None, until_s: float) -> dict[str, Any]:
    """Raises CallFailed: the service's word at once, Unreachable when the time is over."""
    while True:
        client.connect_s = client.answer_s = max(until_s - time.monotonic(), LEAST_S)
        try:
            found: dict[str, Any] = client.call("health", {"max_age": max_age_s})
            return found
        except Unreachable as nobody:
            if nobody.denied or time.monotonic() + AGAIN_S >= until_s:
                raise
            time.sleep(AGAIN_S)


def render_health(found: dict[str, Any]) -> str:
    if not found["ready"]:
        return f"bootstorm: not ready: {found['reason']}"
    age = found["table_age_s"]
    words = "ready: {answering} of {workers} workers answer, generation {generation}".format(**found)
    return f"{words}, table age {'unknown' if age is None else f'{age:.0f} s'}"
