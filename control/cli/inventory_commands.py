"""`bootstorm inventory`: the embedded inventory, and what fills it and writes it out."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from control.cli.shared import FAILED, examples


@click.group(
    invoke_without_command=True,
    epilog=examples(
        "bootstorm inventory --dsn sqlite:///site.db load hosts.yaml",
        "bootstorm inventory --dsn sqlite:///site.db --bind 127.0.0.1:9996",
        "bootstorm inventory --dsn sqlite:///site.db dump all.yaml",
    ),
)
@click.option("--dsn", default="sqlite:///inventory.db", show_default=True, help="SQLAlchemy URL of the database.")
@click.option("--bind", default="127.0.0.1:9996", show_default=True, help="Address and port; port 0: any free one.")
@click.option(
    "--token",
    envvar="BOOTSTORM_API_TOKEN",
    help="Bearer token that clients have to show; BOOTSTORM_API_TOKEN does not appear in the list of processes.",
)
@click.option(
    "--name", "names", multiple=True, help="A name that it is reached under, besides this machine's; * for any."
)
@click.pass_context
def inventory(context: click.Context, dsn: str, bind: str, token: str | None, names: tuple[str, ...]) -> None:
    """The embedded inventory: our own clusto-httpd, for demos, tests and sites without a clusto."""
    from fastpath.process.logs import configure_logging, log_at_once

    if context.invoked_subcommand is None:
        from control.clusto.server.httpd import serve as serve_inventory

        configure_logging()
        with told_in_a_line(f"inventory on {bind}", dsn):
            serve_inventory(dsn, bind, token, names)
    else:
        log_at_once()
    context.obj = dsn


@contextlib.contextmanager
def told_in_a_line(what: str, dsn: str) -> Iterator[None]:
    """What comes of a file, a port or a database that is not there, as the message that `bootstorm` ends with."""
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    from fastpath.process.escape import shown

    try:
        yield
    except (OSError, ValueError, ImportError, SQLAlchemyError) as error:
        reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
        if isinstance(error, OSError) and error.filename is not None:
            reason = f"{os.fsdecode(error.filename)}: {error.strerror}"
        elif isinstance(error, (ArgumentError, ImportError)):
            reason += "; wanted an SQLAlchemy URL such as sqlite:///site.db, and its driver installed"
        where = re.sub(r"(?<=://)([^:@/]*):[^@]*@", r"\1:***@", dsn)
        raise click.ClickException(shown(f"{what}, database {where}: {reason}")) from error


@inventory.command("load")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say what would change, change nothing.")
@click.pass_obj
def load_inventory(dsn: str, file: Path, dry_run: bool) -> None:
    """Fill the inventory from a YAML or CSV file of networks, pools and hosts; again and again, it is idempotent."""
    from control.clusto.server.loading import load_file
    from control.clusto.server.store import Store
    from fastpath.process.escape import shown

    with click.progressbar(length=1, label=file.name, file=sys.stderr) as bar:

        def show(step: str, done: int, total: int) -> None:
            bar.label, bar.length = f"{file.name}: {step}", max(total, 1)
            bar.update(done - bar.pos)

        with told_in_a_line(f"load {file}", dsn):
            report = load_file(Store(dsn), file, dry_run=dry_run, on_progress=show)
    for row in report.errors:
        click.echo(f"bootstorm: {shown(str(row))}", err=True)
    counts = f"{report.added} added, {report.changed} changed, {report.unchanged} as they were"
    click.echo(f"{file}: {report.rows} rows, {counts}" + ("" if report.written else "; nothing written"))
    if report.errors:
        sys.exit(FAILED)


@inventory.command("dump")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def dump_inventory(dsn: str, file: Path) -> None:
    """Write networks, pools and hosts to a YAML file that `load` reads."""
    from control.clusto.server.loading import dump_file
    from control.clusto.server.store import Store

    with told_in_a_line(f"dump {file}", dsn):
        count = dump_file(Store(dsn), file)
    click.echo(f"{file}: {count} networks, pools and hosts")
