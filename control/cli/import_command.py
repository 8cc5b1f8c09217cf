"""`bootstorm import`: a configuration of another DHCP server -> a host file; the report of what was left out."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from control.importers.command import Imported, Wish

FORMATS: Final = ("dhcpd", "dnsmasq", "kea", "ethers", "dhcp-hostsfile")
LOST: Final = 1
BAR_CHARS: Final = 30
Parsed = TypeVar("Parsed", IPv4Address, IPv4Network)


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="The host file; else standard output."
)
@click.option("--from", "form", type=click.Choice(FORMATS), help="The format of FILE; else it is guessed.")
@click.option("--force", is_flag=True, help="Also in the place of a file that is there.")
@click.option("--resolve", is_flag=True, help="Look up names that stand where an address is wanted.")
@click.option(
    "--server-address", "ours", multiple=True, metavar="ADDRESS",
    help="Of the old server, where it names itself (dnsmasq: router, DNS, boot server); again for more.",
)  # fmt: skip
@click.option(
    "--network",
    "networks",
    multiple=True,
    metavar="ADDRESS/PREFIX",
    help="For files without networks, or without their masks; again for more.",
)
@click.option("--ethers", type=click.Path(path_type=Path), default="/etc/ethers", help="What read-ethers reads.")
@click.option(
    "--conf", type=click.Path(dir_okay=False, path_type=Path), help="Write a services.conf with its client classes."
)
@click.option("--json", "as_json", is_flag=True, help="The report as JSON on standard output.")
def import_command(
    file: Path, output: Path | None, form: str | None, force: bool, as_json: bool, conf: Path | None, **said: Any
) -> None:
    """Make a host file of the configuration of ISC dhcpd, dnsmasq or Kea, or of ethers.

    Each statement that is not carried over is named with file, line and reason.  Exit code 0: all was carried over;
    1: something was not (the host file is written all the same), or FILE cannot be read; 2: wrong usage."""
    import json

    from control.importers.command import Wish

    for path in (output, conf):
        if path is not None and path.exists() and not force:
            raise click.UsageError(f"{path} is there already; --force replaces it")
    wish = Wish(
        path=file,
        format=form,
        resolve=said["resolve"],
        server_addresses=taken(IPv4Address, said["ours"], "--server-address"),
        networks=taken(IPv4Network, said["networks"], "--network"),
        ethers=said["ethers"],
        with_classes=conf is not None,
    )
    imported = run(wish)
    if output is not None:
        write(output, host_file(imported, file), force)
    elif not as_json:
        sys.stdout.writelines(host_file(imported, file))
    if conf is not None:
        write(conf, iter([json.dumps(imported.configuration(output), indent=2) + "\n"]), force)
    report(imported, wish, output, as_json)
    sys.exit(LOST if imported.lost else 0)


def taken(kind: type[Parsed], texts: tuple[str, ...], option: str) -> tuple[Parsed, ...]:
    try:
        return tuple(kind(text) for text in texts)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from error


def run(wish: Wish) -> Imported:
    """Exit 1 with a line where it cannot be read."""
    from control.cli.faults_text import StatusLine
    from control.importers.command import WrongUsage, import_file
    from control.importers.reading import Unreadable
    from fastpath.process.escape import shown

    status = StatusLine()

    def progress(what: str, done: int, total: int) -> None:
        filled = BAR_CHARS * done // max(total, 1)
        status.show(f"{what} [{'#' * filled}{'-' * (BAR_CHARS - filled)}] {100 * done // max(total, 1)} %")

    gc.disable()  # its passes over what stays to the end are a quarter of the time, and the process ends after this
    try:
        return import_file(wish, progress)
    except WrongUsage as error:
        status.clear()
        raise click.UsageError(str(error)) from error
    except Unreadable as error:
        status.clear()
        click.echo(f"bootstorm: import: {shown(str(error))}", err=True)
        sys.exit(LOST)
    finally:
        gc.enable()
        status.clear()


def host_file(imported: Imported, source: Path) -> Iterator[str]:
    from control.importers.writing import lines_of

    return lines_of(imported.rows, imported.head(source))


def write(path: Path, lines: Iterator[str], force: bool) -> None:
    """Exit 1 where that cannot be done; the file is whole or as it was."""
    from control.importers.writing import write_whole
    from fastpath.process.escape import shown

    try:
        write_whole(path, lines, force=force)
    except FileExistsError as error:
        raise click.UsageError(f"{path} is there already; --force replaces it") from error
    except OSError as error:
        click.echo(f"bootstorm: import: {shown(str(path))}: {error.strerror}", err=True)
        sys.exit(LOST)


def report(imported: Imported, wish: Wish, output: Path | None, as_json: bool) -> None:
    from fastpath.process.escape import shown

    rows = imported.rows
    figures = {
        "networks": len(rows.networks), "pools": len(rows.pools), "hosts": len(rows.hosts),
        "classes": len(rows.classes), "lost": imported.lost, "not_needed": len(imported.notes) - imported.lost,
    }  # fmt: skip
    if as_json:
        head = {"file": str(wish.path), "format": imported.format, "output": str(output) if output else None}
        from control.cli.faults_text import print_json

        notes = (
            {**note.place._asdict(), "text": note.text, "reason": note.reason, "lost": note.lost}
            for note in imported.notes
        )
        print_json(head | figures, "notes", notes)
        return
    for note in imported.notes:
        click.echo(shown(note.line()), err=True)
    click.echo(
        shown(
            f"{wish.path}: {imported.format}: {figures['hosts']:,} hosts, {figures['networks']:,} networks, "
            f"{figures['pools']:,} pools; {figures['lost']:,} not carried over, {figures['not_needed']:,} not needed"
        ),
        err=True,
    )
