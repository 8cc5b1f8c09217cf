"""`ctl health`: a line and an exit code for keepalived, probes and scripts.

A control process that is being replaced, by the supervisor or an upgrade, is waited for: DHCP is served meanwhile, and
who took that for a fault would take a server away that answers.
"""

from __future__ import annotations

import json
import time
from typing import Any, Final

import click

from control.cli.ctl import Client
from control.service_client import CallFailed, Unreachable
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
