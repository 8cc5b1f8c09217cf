"""`ctl events`: one line an event as it comes, for a person or a program; goes on when control is replaced."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click

from control.cli.ctl import FAILED, Client
from control.service_client import CallFailed, Unreachable
from fastpath.process.escape import shown, shown_all


class NotWritten(Exception):
    """Our own output takes nothing more, which is no fault of the service's."""


def print_events(client: Client, since: int | None, follow: bool) -> None:
    """Exit 1 with one line on stderr when there is no answer, or no service any more.  Raises OSError of our output."""
    at, heard = since, False

    def show(piece: Mapping[str, Any]) -> None:
        nonlocal at, heard
        heard = True
        for event in piece["events"]:
            try:
                click.echo(json.dumps(event) if client.as_json else render_event(shown_all(event)))
            except OSError as error:
                raise NotWritten from error
            at = event["number"]

    while True:
        heard = False
        try:
            client.answer_s = None
            client.call("events", {"since": at, "follow": follow}, show)
            return
        except NotWritten as unwritten:
            assert unwritten.__cause__ is not None
            raise unwritten.__cause__ from None
        except CallFailed as failed:
            # The socket is the supervisor's and stays: whoever is next at its other end goes on from our number.
            if follow and heard and isinstance(failed, Unreachable):
                continue
            click.echo(f"bootstorm: {shown(str(failed))}", err=True)
            sys.exit(FAILED)


def render_event(event: Mapping[str, Any]) -> str:
    when = datetime.fromtimestamp(event["time_s"], UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    who = " ".join(each for each in (event["object"], event["mac"]) if each)
    return f"{when}Z  {event['number']}  {event['kind']:<18}  {who + ': ' if who else ''}{event['reason']}"
