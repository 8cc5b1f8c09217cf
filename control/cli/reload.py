"""`ctl reload`: a new configuration, or each reason why it is refused; for people and for ExecReload= of a unit."""

from __future__ import annotations

import json

import click

from control.cli.ctl import FAILED, Client
from control.service_client import CallFailed
from fastpath.process.escape import shown


def print_reload(client: Client) -> int:
    """The exit code: 0 where the file is in force, FAILED with a line for each fault on stderr."""
    try:
        told = client.call("reload", {})
    except CallFailed as failed:
        click.echo(f"bootstorm: {shown(str(failed))}", err=True)
        return FAILED
    for fault in told["refused"]:
        click.echo(f"bootstorm: not reloaded: {shown(fault)}", err=True)
    if client.as_json:
        click.echo(json.dumps(told, indent=2))
    elif not told["refused"]:
        click.echo(shown(f"{told['config']}: in force"))
    return FAILED if told["refused"] else 0
