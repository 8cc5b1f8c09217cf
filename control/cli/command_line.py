"""The command line: serve, inventory, ctl, check, explain; thin, the work is elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from control.config.classes import remarks
from control.config.config import NOBODY_BELIEVED, Config, ConfigFaults, load, load_first, resolve_workers, search_path
from control.config.places import faults_on_disk
from fastpath.process.build import BUILD_NAME
from fastpath.process.escape import shown, shown_all
from fastpath.process.limits import too_few_files
from fastpath.process.logs import choose_form, configure_logging, flush_logs, log_at_once

FAILED, WRONG = 1, 2
BRAKE_NS_MAX = 1_000_000  # a batch of 64 of them is still no hung worker


def read_config(path: str | None) -> Config:
    """Exit 2 with every fault listed."""
    try:
        if path is not None:
            return load(path)
        config, passed_over = load_first(search_path(os.environ.get("HOME")))
    except ConfigFaults as faults:
        for fault in faults.faults:
            click.echo(f"bootstorm: {fault}", err=True)
        sys.exit(WRONG)
    for line in passed_over:
        click.echo(f"bootstorm: {line}", err=True)
    return config


def bench_brake_ns() -> tuple[int, int]:
    """BOOTSTORM_BENCH_BRAKE_NS = ANSWER[,OTHER]: workers rest so long after each answer, each other datagram, so that
    a bench can offer three times their capacity.  No key of services.conf: no installed service can be left so."""
    words = os.environ.get("BOOTSTORM_BENCH_BRAKE_NS", "0").split(",")
    if not 1 <= len(words) <= 2 or not all(word.isdecimal() and int(word) <= BRAKE_NS_MAX for word in words):
        wanted = f"wanted N or N,N, each 0 to {BRAKE_NS_MAX}"
        click.echo(f"bootstorm: BOOTSTORM_BENCH_BRAKE_NS={','.join(words)}: {wanted}", err=True)
        sys.exit(WRONG)
    return int(words[0]), int(words[-1]) if len(words) == 2 else 0


config_option = click.option("-c", "--config", "path", help="services.conf; default: clusto's search path.")


@click.group()
@click.version_option(BUILD_NAME, message="bootstorm %(version)s")
def main() -> None:
    """Static DHCP for datacenters, from what the clusto inventory says."""


@main.command()
@config_option
def serve(path: str | None) -> None:
    """Serve DHCP.  SIGTERM stops, SIGHUP reads the configuration again, SIGUSR2 upgrades in place."""
    configure_logging()  # what it has to say of the file must not hold the start up either
    config = read_config(path)
    choose_form(config.log.format)
    workers = resolve_workers(config.dhcp.workers, len(os.sched_getaffinity(0)))
    if fault := too_few_files(workers):
        click.echo(f"bootstorm: {fault}", err=True)
        sys.exit(FAILED)
    settings = {
        "config_path": str(Path(str(config.path)).resolve()),
        "workers": workers,
        "port": config.dhcp.port,
        "boot_port": config.dhcp.boot_port,
        "state_dir": str(config.dhcp.state_dir),
        "console_path": str(config.control.socket),
        "user": config.dhcp.user,
        "mode": config.dhcp.mode,
        "interfaces": list(config.dhcp.interfaces),
        "io": config.dhcp.io,
        "trap_address": config.snmp.bind_address if config.receives_traps else None,
        "trap_port": config.snmp.bind_port,
        "drop_strangers": config.dhcp.drop_strangers,
        "brake_ns": bench_brake_ns(),
    }
    # Until its loop takes them: one that comes while it starts ends it in order, like any other.  SIGHUP and SIGUSR2,
    # which end nothing, wait since the first line of control/__main__.py.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2))
    config_fd, fd = os.memfd_create("bootstorm-config", 0), os.memfd_create("bootstorm-settings", 0)
    os.write(config_fd, config.text)
    os.write(fd, json.dumps({"settings": settings, "config_fd": config_fd}).encode())
    flush_logs()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "fastpath", "supervise", str(fd)])


@main.command()
@config_option
@click.option("--file-only", is_flag=True, help="Look at nothing that the configuration names.")
def check(path: str | None, file_only: bool) -> None:
    """Check the configuration and what it names: host file, user, interfaces, rack factory.  Every fault is listed,
    exit 2 when there is one."""
    config = read_config(path)
    faults = faults_on_disk(config.dhcp.state_dir, config.control.socket)
    warnings: list[str] = []
    if not file_only:
        from control.cli.faults_text import StatusLine
        from control.explain.named import look

        status = StatusLine()
        for found in look(config, lambda stage, done, _total: status.show(f"{stage} {done:,}")):
            (faults if found.fault else warnings).append(f"{found.key}: {found.text}")
        status.clear()
    for fault in faults:
        click.echo(shown(f"bootstorm: {config.path}: {fault}"), err=True)
    for warning in warnings:
        click.echo(shown(f"{config.path}: warning: {warning}"), err=True)
    if faults:
        sys.exit(WRONG)
    click.echo(f"{config.path}: good; inventory {config.dhcp.api_url}, state in {config.dhcp.state_dir}")
    if config.receives_traps and not config.snmp.believes_somebody():
        click.echo(f"{config.path}: warning: {NOBODY_BELIEVED}", err=True)
    for remark in remarks(config.dhcp.classes):
        click.echo(f"{config.path}: warning: {remark}", err=True)


def read_knowledge(path: str | None, hosts: Path | None) -> Any:
    """The table to explain from: of a host file, of the configuration's state folder; none where neither is named."""
    from control.config.config import Dhcp
    from control.explain.command import NOTHING, from_hosts, from_state

    if hosts is not None:
        return from_hosts(hosts, read_config(path).dhcp if path is not None else Dhcp())
    if path is not None:
        return from_state(read_config(path).dhcp)
    try:
        config, _passed_over = load_first(search_path(os.environ.get("HOME")))
    except ConfigFaults:
        return NOTHING
    return from_state(config.dhcp, named=False)


@main.command()
@click.argument("subject", metavar="MAC|PCAP|HEX")
@config_option
@click.option("--hosts", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Answer from a host file.")
@click.option(
    "--interface", "interfaces", multiple=True, metavar="ADDRESS/PREFIX", help="Of the server; again for more."
)
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
def explain(subject: str, path: str | None, hosts: Path | None, interfaces: tuple[str, ...], as_json: bool) -> None:
    """Explain a machine, a capture, or a datagram in hexadecimal: what is asked, what we would answer, and why.

    The workers' own code answers, from the table in the state folder of -c, or from the file of --hosts."""
    from control.cli.explain_text import RENDER
    from control.explain.command import Unexplained, parse_interface
    from control.explain.command import explain as explain_subject

    try:
        given = [parse_interface(text) for text in interfaces]
    except ValueError as error:
        raise click.UsageError(f"--interface {error}") from error
    try:
        kind, result = explain_subject(subject, read_knowledge(path, hosts), given)
    except Unexplained as failed:
        click.echo(f"bootstorm: explain: {shown(str(failed))}", err=True)
        sys.exit(FAILED)
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        click.echo("\n".join(RENDER[kind](shown_all(result))))


@main.command()
@click.argument("subject", metavar="[FILE|URL]", required=False)
@config_option
@click.option("--strict", is_flag=True, help="Exit 1 for remarks, too.")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
def lint(subject: str | None, path: str | None, strict: bool, as_json: bool) -> None:
    """Plan an inventory as a whole and list every fault of it, with file and line; no service is needed.

    FILE is a host file, URL an inventory; without either it is dhcp.api_url of -c, whose names of options and BMC port
    count in any case.  Exit code 1: there are faults; 2: wrong usage."""
    from control.cli.faults_text import print_findings
    from control.config.config import Dhcp

    config = read_config(path).dhcp if path is not None or subject is None else Dhcp()
    if subject is not None:
        url = subject if "://" in subject else f"file://{Path(subject).resolve()}".replace("%", "%25")
        if "://" not in subject and not Path(subject).is_file():
            raise click.UsageError(f"{subject}: no such file; wanted a host file, or the URL of an inventory")
        config = replace(config, api_url=checked_url(url))
    sys.exit(print_findings(subject or config.api_url, config, as_json, strict))


def checked_url(url: str) -> str:
    from control.config.checks import Wrong, take_url

    try:
        return take_url(url)
    except Wrong as wrong:
        raise click.UsageError(f"{url}: {wrong.wanted or wrong.step or 'no URL of an inventory'}") from wrong


@main.command()
@config_option
def board(path: str | None) -> None:
    """Show in a browser how far every machine is: serves HTTP at board.bind until SIGTERM.  Needs bootstorm[board]."""
    configure_logging()
    config = read_config(path)
    choose_form(config.log.format)
    with wanting_extra("board"):
        from control.board.command import CannotServe, run
    try:
        run(config)
    except CannotServe as fault:
        click.echo(f"bootstorm: {config.path}: {shown(str(fault))}", err=True)
        sys.exit(FAILED)


@main.command()
@click.option("--socket", help="Control socket; default: that of services.conf.")
@config_option
@click.option("--by", type=click.Choice(["pool", "rack", "relay"]), default="pool", show_default=True)
@click.option("--every", "every_s", type=click.FloatRange(0.5, 60), default=1.0, show_default=True, metavar="SECONDS")
@click.option("--once", is_flag=True, help="One picture, also where standard output is no terminal.")
def top(socket: str | None, path: str | None, by: str, every_s: float, once: bool) -> None:
    """The board in a terminal: how far the machines are, who is stuck and why.  Needs bootstorm[board]."""
    from control.service_client import ServiceClient

    with wanting_extra("board"):
        from control.cli.top import show_top
    client = ServiceClient(socket or str(read_config(path).control.socket))
    with contextlib.suppress(KeyboardInterrupt):
        show_top(client, by, every_s, once)


@contextlib.contextmanager
def wanting_extra(extra: str) -> Iterator[None]:
    """Exit 1 with what to install where a library of an extra is not there."""
    try:
        yield
    except ModuleNotFoundError as missing:
        wanted = f"pip install 'bootstorm[{extra}]'"
        click.echo(f"bootstorm: the library {missing.name} is not installed; wanted: {wanted}", err=True)
        sys.exit(FAILED)


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> None:
    """Load, laboratories and comparisons: see `bootstorm bench --help`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))  # until it has its libraries
    os.execv(sys.executable, [sys.executable, "-P", "-m", "bench", *arguments])


@main.group(invoke_without_command=True)
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


@main.group()
@click.option("--socket", "path", help="Control socket; default: that of services.conf.")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
@click.option("-c", "--config", help="services.conf that names the socket; default: clusto's search path.")
@click.pass_context
def ctl(context: click.Context, path: str | None, as_json: bool, config: str | None) -> None:
    """Ask and steer a running service."""
    from control.cli.ctl import Client

    socket_path = path or str(read_config(config).control.socket)
    context.obj = Client(socket_path, as_json)


@ctl.command()
@click.pass_obj
def status(client: Any) -> None:
    """Generation, inventory, workers, counters."""
    client.show("status", {})


@ctl.command()
@click.option(
    "--max-age",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Not ready either when the table is older, or of unknown age.",
)
@click.option(
    "--wait",
    "wait_s",
    type=click.IntRange(0, 600),
    default=3,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a control process that is being replaced.",
)
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
@click.pass_obj
def health(client: Any, max_age: float | None, wait_s: int, as_json: bool) -> None:
    """Is DHCP served?  Exit code 0: a worker answers from a table; 1: none does; 2: nobody says."""
    from control.cli.health import print_health

    client.as_json = client.as_json or as_json
    sys.exit(print_health(client, max_age, wait_s))


@ctl.command()
@click.option("--wait", is_flag=True, help="Return when every worker answers from the new generation.")
@click.option("--force", is_flag=True, help="Also when most hosts would go.")
@click.option("--full", is_flag=True, help="Read everything (the default).")
@click.option("--mac", help="Only the host with this MAC address.")
@click.option("--host", help="Only this object of the inventory.")
@click.pass_obj
def refresh(client: Any, wait: bool, force: bool, full: bool, mac: str | None, host: str | None) -> None:
    """Read the inventory now: everything, or one host."""
    if full and (mac or host):
        raise click.UsageError("--full reads everything; leave it out with --mac or --host")
    if force and (mac or host):
        raise click.UsageError("--force is for reading everything; a host that you name needs none: leave it out")
    client.show_with_bar("refresh", {"wait": wait, "force": force, "mac": mac, "host": host})


@ctl.command()
@click.pass_obj
def diff(client: Any) -> None:
    """What the last refresh changed: MAC, host, old, new."""
    client.show_pages("diff", page=1000)


@ctl.command()
@click.option("--object", "named", metavar="NAME", help="Only of this object, or of all that `rack7-*` fits.")
@click.option("--kind", help="Only of this kind, such as unknown-option, bad-value, conflict.")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
@click.pass_obj
def faults(client: Any, named: str | None, kind: str | None, as_json: bool) -> None:
    """All faults of the inventory, in the order in which they were first seen."""
    from control.cli.faults_text import print_faults

    client.as_json = client.as_json or as_json
    print_faults(client, named, kind)


@ctl.command()
@click.option("--state", metavar="STATE[,...]", help="Of the row: served, disabled, conflict, ..., in-doubt.")
@click.option("--stuck", is_flag=True, help="Those that do not get on with their boot, each with the reason.")
@click.option("--never-seen", is_flag=True, help="Those that have not been heard.")
@click.option("--progress", metavar="PROGRESS[,...]", help="never, booting, stuck, done, unknown, refused.")
@click.option("--name", metavar="GLOB", help="Such as `rack7-*`.")
@click.option("--pool", metavar="GLOB", help="That they are in, at whatever depth.")
@click.option("--rack", metavar="GLOB", help="That they are in.")
@click.option("--relay", metavar="ADDRESS", help="By which they were heard last.")
@click.option("--address", metavar="ADDRESS[/PREFIX]", help="That they have.")
@click.option("--by", type=click.Choice(["pool", "rack", "relay"]), help="Only how many there are, for each of these.")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
@click.pass_obj
def hosts(
    client: Any,
    /,
    stuck: bool,
    never_seen: bool,
    progress: str | None,
    by: str | None,
    as_json: bool,
    **wanted: str | None,
) -> None:
    """Every host: how far its boot is, since when, and why no further."""
    from control.cli.hosts_text import print_hosts, print_sums

    words = [word for word, on in (("stuck", stuck), ("never", never_seen)) if on] + ([progress] if progress else [])
    client.as_json = client.as_json or as_json
    if by is not None:
        if words or any(value is not None for value in wanted.values()):
            raise click.UsageError("--by counts all hosts; it takes no filter")
        print_sums(client, by)
        return
    print_hosts(client, {**wanted, "progress": ",".join(words) or None})


@ctl.command()
@click.pass_obj
def rollback(client: Any) -> None:
    """Serve what was served before the last refresh, and stay there until `refresh --force`."""
    client.show("rollback", {})


@ctl.command()
@click.argument("mac", metavar="MAC|NAME|ADDRESS")
@click.pass_obj
def lookup(client: Any, mac: str) -> None:
    """What the workers know of a machine."""
    client.show("lookup", {"mac": mac})


@ctl.command("explain")
@click.argument("subject", metavar="MAC|NAME|ADDRESS|PCAP|HEX")
@click.pass_obj
def explain_running(client: Any, subject: str) -> None:
    """What the workers would answer: a machine in each network and stage of its boot, or the requests of a capture."""
    from control.explain.command import Unexplained, ask
    from control.service_client import CallFailed

    def explain_there() -> Any:
        try:
            return ask(subject, client.call)
        except Unexplained as failed:
            raise CallFailed(f"explain: {failed}") from failed

    client.print_answer("explain", explain_there)


@ctl.command()
@click.pass_obj
def workers(client: Any) -> None:
    """The worker processes, what they received and sent."""
    client.show("workers", {})


@ctl.command()
@click.option("--mac", help="Only this machine, with what is the same as well.")
@click.option("--kind", help="Only differences of this kind, such as address, message, silence or 'boot file'.")
@click.option("--strict", is_flag=True, help="With the differences that are set aside since no client acts by them.")
@click.pass_obj
def observed(client: Any, mac: str | None, kind: str | None, strict: bool) -> None:
    """While dhcp.mode is observe: what we would have answered otherwise than the server that is there."""
    client.show_observed(mac, kind, strict)


@ctl.command()
@click.option("--most", default=50, show_default=True, help="How many warnings, newest first.")
@click.option("--mac", help="Only this machine: a MAC address, a name or an address.")
@click.option("--packets", is_flag=True, help="The last datagrams instead, answered or not: the flight recorders.")
@click.option("--pcap", type=click.Path(dir_okay=False, path_type=Path), help="The same into a capture.")
@click.option("--last", type=click.IntRange(1), help="Of the datagrams only the newest so many; listed are 50 without.")
@click.pass_obj
def recent(client: Any, most: int, mac: str | None, packets: bool, pcap: Path | None, last: int | None) -> None:
    """The last warnings: who asked and was not answered, and why; or the last datagrams themselves."""
    if pcap is not None:
        client.save_packets(pcap, mac, last)
    elif packets or last is not None:
        client.show_packets(mac, last)
    else:
        client.show("recent", {"most": most, "mac": mac})


@ctl.command()
@click.option("--follow", is_flag=True, help="Go on with what happens from now on, also when control is replaced.")
@click.option("--since", type=click.IntRange(0, 2**63 - 1), metavar="NUMBER", help="Only what came behind it.")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output, one object a line.")
@click.pass_obj
def events(client: Any, follow: bool, since: int | None, as_json: bool) -> None:
    """What happened, each with its reason: tables, refreshes, conflicts, new machines, boot loops, strangers ..."""
    from control.cli.events_text import print_events

    client.as_json = client.as_json or as_json
    print_events(client, since, follow)


@ctl.command()
@click.option("--mac", help="Only this MAC address.")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
@click.pass_obj
def discovered(client: Any, mac: str | None, as_json: bool) -> None:
    """Machines that switches and DHCP saw: what was decided, what was done, what waits for a person and why."""
    client.as_json = client.as_json or as_json
    if mac is not None:
        client.show("discovered", {"mac": mac})
    else:
        client.show_pages("discovered", page=1000, rows="machines", same=None)


@ctl.command()
@click.argument("mac")
@click.pass_obj
def adopt(client: Any, mac: str) -> None:
    """Go on with a machine that waits for a person, and say what came of it."""
    client.show("adopt", {"mac": mac})


@ctl.command()
@click.argument("mac")
@click.pass_obj
def ignore(client: Any, mac: str) -> None:
    """Do nothing about a machine, over restarts too, until it is adopted."""
    client.show("ignore", {"mac": mac})
