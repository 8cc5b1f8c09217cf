"""The command line: init, serve, check, explain, lint, bench, and the groups inventory and ctl; thin, the work is
elsewhere.

A command is added here, one of `ctl` in ctl_commands.py; what it needs it imports when it runs (shared.py).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import click

from control.cli.ctl_commands import ctl
from control.cli.import_command import import_command
from control.cli.inventory_commands import inventory
from control.cli.shared import FAILED, WRONG, config_option, examples, read_config

BRAKE_NS_MAX = 1_000_000  # a batch of 64 of them is still no hung worker


def bench_brake_ns() -> tuple[int, int]:
    """BOOTSTORM_BENCH_BRAKE_NS = ANSWER[,OTHER]: workers rest so long after each answer, each other datagram, so that
    a bench can offer three times their capacity.  No key of services.conf: no installed service can be left so."""
    words = os.environ.get("BOOTSTORM_BENCH_BRAKE_NS", "0").split(",")
    if not 1 <= len(words) <= 2 or not all(word.isdecimal() and int(word) <= BRAKE_NS_MAX for word in words):
        wanted = f"wanted N or N,N, each 0 to {BRAKE_NS_MAX}"
        click.echo(f"bootstorm: BOOTSTORM_BENCH_BRAKE_NS={','.join(words)}: {wanted}", err=True)
        sys.exit(WRONG)
    return int(words[0]), int(words[-1]) if len(words) == 2 else 0


def show_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from fastpath.process.build import BUILD_NAME

        click.echo(f"bootstorm {BUILD_NAME}")
        context.exit()


@click.group(
    epilog=examples(
        "bootstorm init                             # services.conf and hosts.yaml for this machine",
        "bootstorm check",
        "bootstorm serve --try                      # in this terminal, until Ctrl-C",
        "bootstorm ctl status --wait 30",
        "bootstorm explain --hosts hosts.yaml 02:00:00:00:00:01",
    )
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=show_version, help="Version and build."
)
def main() -> None:
    """Static DHCP for datacenters, from what the clusto inventory says."""


@main.command(epilog=examples("bootstorm init", "bootstorm init /etc/clusto --interface eth1"))
@click.argument("folder", type=click.Path(path_type=Path), default=".")
@click.option("--interface", "names", multiple=True, metavar="NAME", help="To serve; again for more; default: all.")
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    default="/var/lib/bootstorm",
    show_default=True,
    metavar="FOLDER",
    help="Where the service is to keep its table, its journal and its socket.",
)
def init(folder: Path, names: tuple[str, ...], state_dir: Path) -> None:
    """Write a services.conf with comments and an example hosts.yaml, for this machine.  Nothing is overwritten."""
    import shlex

    from control.cli.first_files import NotWritten, this_machine, write_first_files
    from fastpath.process.escape import shown

    try:
        machine = this_machine()
    except OSError as error:
        raise click.ClickException(f"this machine's interfaces: {error}") from error
    known = {each.name: each for each in machine.interfaces}
    if unknown := [name for name in names if name not in known]:
        raise click.UsageError(f"--interface: found {shlex.join(unknown)}; wanted one of {', '.join(known) or 'none'}")
    chosen = [known[name] for name in dict.fromkeys(names)] or machine.with_addresses()
    try:
        write_first_files(folder, machine, chosen, Path(os.path.abspath(state_dir)))
    except NotWritten as failed:
        click.echo(shown(f"bootstorm: {failed}"), err=True)
        sys.exit(FAILED)
    conf, hosts = (shlex.quote(str(folder / name)) for name in ("services.conf", "hosts.yaml"))
    where = ", ".join(each.shown for each in chosen) or "every interface"
    click.echo(f"{conf}: machines of {hosts} that ask on {where} are answered, nobody else")
    click.echo(f"{hosts}: an example with one machine; put yours there")
    click.echo("next:")
    for step in (
        f"bootstorm check -c {conf}",
        f"sudo bootstorm serve --try -c {conf}    # in this terminal, until Ctrl-C",
        f"sudo bootstorm serve -c {conf}",
        f"sudo bootstorm ctl -c {conf} status --wait 30",
    ):
        click.echo(f"  {step}")


@main.command(epilog=examples("bootstorm serve -c services.conf", "bootstorm serve --try"))
@config_option
@click.option("--try", "on_trial", is_flag=True, help="For a first look: whatever it keeps is removed at the end.")
def serve(path: str | None, on_trial: bool) -> None:
    """Serve DHCP.  SIGTERM stops, SIGHUP reads the configuration again, SIGUSR2 upgrades in place.

    With --try its state, its control socket and a copy of services.conf are in a folder of their own, which is removed
    at the end; the first lines name it."""
    if on_trial:
        from control.cli.trial import serve_on_trial

        sys.exit(serve_on_trial(path))
    from control.config.config import resolve_workers
    from fastpath.process.limits import too_few_files
    from fastpath.process.logs import choose_form, configure_logging
    from fastpath.process.notify import handed_back

    configure_logging()  # what it has to say of the file must not hold the start up either
    if "NOTIFY_SOCKET" in os.environ and handed_back(os.environ):  # of a service that was killed: what it had goes on
        again = [sys.executable, "-P", "-m", "control", "serve", *(("-c", path) if path is not None else ())]
        become_supervisor({"again": again})
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
    config_fd = os.memfd_create("bootstorm-config", 0)
    os.write(config_fd, config.text)
    become_supervisor({"settings": settings, "config_fd": config_fd})


def become_supervisor(told: dict[str, Any]) -> NoReturn:
    """told: as fastpath.supervisor.serving.main() takes it."""
    import json

    from fastpath.process.logs import flush_logs

    # Until its loop takes them: one that comes while it starts ends it in order, like any other.  SIGHUP and SIGUSR2,
    # which end nothing, wait since the first line of control/__main__.py.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2))
    fd = os.memfd_create("bootstorm-settings", 0)
    os.write(fd, json.dumps(told).encode())
    flush_logs()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "fastpath", "supervise", str(fd)])


@main.command(epilog=examples("bootstorm check", "bootstorm check -c services.conf --file-only"))
@config_option
@click.option("--file-only", is_flag=True, help="Look at nothing that the configuration names.")
def check(path: str | None, file_only: bool) -> None:
    """Check the configuration and what it names: host file, user, interfaces, rack factory, keys.  Lists every fault,
    exit 2 when there is one."""
    from control.config.classes import remarks
    from control.config.config import NOBODY_BELIEVED
    from control.config.places import faults_on_disk
    from fastpath.process.escape import shown

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
    from control.config.config import ConfigFaults, Dhcp, load_first, search_path
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


@main.command(
    epilog=examples(
        "bootstorm explain 02:00:00:00:00:01",
        "bootstorm explain --hosts hosts.yaml storm.pcap",
        "bootstorm explain --hosts hosts.yaml --interface 10.20.0.2/24 02:00:00:00:00:01",
    )
)
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
    import json

    from control.cli.explain_text import RENDER
    from control.explain.command import Unexplained, parse_interface
    from control.explain.command import explain as explain_subject
    from fastpath.process.escape import shown, shown_all

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


@main.command(
    epilog=examples(
        "bootstorm lint hosts.yaml", "bootstorm lint http://127.0.0.1:9996 -c services.conf", "bootstorm lint --strict"
    )
)
@click.argument("subject", metavar="[FILE|URL]", required=False)
@config_option
@click.option("--strict", is_flag=True, help="Exit 1 for remarks, too.")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
def lint(subject: str | None, path: str | None, strict: bool, as_json: bool) -> None:
    """Plan an inventory as a whole and list every fault of it, with file and line; no service is needed.

    FILE is a host file, URL an inventory; without either it is dhcp.api_url of -c, whose names of options and BMC port
    count in any case.  Exit code 1: there are faults; 2: wrong usage."""
    from dataclasses import replace
    from urllib.parse import quote

    from control.cli.faults_text import print_findings
    from control.config.config import Dhcp

    config = read_config(path).dhcp if path is not None or subject is None else Dhcp()
    if subject is not None:
        if "://" not in subject and not Path(subject).is_file():
            raise click.UsageError(f"{subject}: no such file; wanted a host file, or the URL of an inventory")
        url = subject if "://" in subject else f"file://{quote(os.fsencode(Path(subject).resolve()))}"
        config = replace(config, api_url=checked_url(url))
    sys.exit(print_findings(subject or config.api_url, config, as_json, strict))


def checked_url(url: str) -> str:
    from control.config.checks import Wrong, take_url

    try:
        return take_url(url)
    except Wrong as wrong:
        raise click.UsageError(f"{url}: {wrong.wanted or wrong.step or 'no URL of an inventory'}") from wrong


@main.command("fleet-key", epilog=examples("bootstorm fleet-key /etc/bootstorm/fleet.key"))
@click.argument("file", type=click.Path(path_type=Path))
def fleet_key(file: Path) -> None:
    """Make a key for fleet.signing_key in a new FILE, mode 0600.  Prints the line that every machine of the fleet needs
    in fleet.trusted_keys."""
    from control.fleet.process.keyfiles import make_key

    try:
        click.echo(make_key(file))
    except OSError as error:
        click.echo(f"bootstorm: {file}: {error.strerror}", err=True)
        sys.exit(FAILED)


@main.group()
def fleet() -> None:
    """Servers that serve one table: set one up.  How far they are says `bootstorm ctl fleet`."""


@fleet.command(
    "init",
    epilog=examples(
        "bootstorm fleet init --machine dhcp1 --machine dhcp2 --server nats1.example.org -o fleet",
        "bootstorm fleet init --engine three --machine dhcp1 --machine dhcp2 --follower dhcp3 --canary dhcp3 "
        "--server nats1.example.org --server nats2.example.org --server nats3.example.org -o fleet",
    ),
)
@click.option("--shard", default="main", show_default=True, metavar="NAME", help="Whose table.")
@click.option("--machine", "leaders", multiple=True, metavar="NAME", help="Which may lead; again for more.")
@click.option("--follower", "followers", multiple=True, metavar="NAME", help="Which never leads; again for more.")
@click.option("--canary", multiple=True, metavar="NAME", help="Which tries new tables first; again for more.")
@click.option("--engine", type=click.Choice(["one", "three", "hub-leaf"]), default="one", show_default=True)
@click.option(
    "--server", "servers", multiple=True, metavar="HOST",
    help="A node of the engine; again for three, or for the hub and then the leaf, which followers connect to.",
)  # fmt: skip
@click.option(
    "--etc", type=click.Path(path_type=Path), default="/etc/bootstorm", show_default=True, metavar="FOLDER",
    help="Where each machine will have its files.",
)  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help="A new folder.")
def fleet_init(output: Path, etc: Path, **said: Any) -> None:
    """Make keys, certificates, the engine's configuration and each machine's section `fleet`, in a new FOLDER.

    Nothing is overwritten, and no secret is printed.  FOLDER has the secrets of all machines: hand them out, and remove
    it."""
    import shlex

    from control.fleet.setup.engines import Plan
    from control.fleet.setup.first_day import NotWritten, WrongPlan, checked, steps, write
    from fastpath.process.escape import shown

    try:
        plan = checked(Plan(**said))
        written = write(plan, output, Path(os.path.abspath(etc)))
    except WrongPlan as wrong:
        raise click.UsageError(shown(str(wrong))) from wrong
    except NotWritten as failed:
        click.echo(shown(f"bootstorm: {failed}"), err=True)
        sys.exit(FAILED)
    click.echo("\n".join(steps(plan, written, shlex.quote(str(output)), str(etc))))


@main.command()
@config_option
def board(path: str | None) -> None:
    """Show in a browser how far every machine is: serves HTTP at board.bind until SIGTERM.  Needs bootstorm[board]."""
    from fastpath.process.escape import shown
    from fastpath.process.logs import choose_form, configure_logging

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
        from control.board.top import show_top
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


@main.command()
def schema() -> None:
    """Print the JSON Schema of services.conf, by which editors complete its keys and underline what is wrong."""
    import json

    from control.config.schema import document

    click.echo(json.dumps(document(), indent=2))


main.add_command(import_command)


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> None:
    """Load, laboratories and comparisons: see `bootstorm bench --help`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))  # until it has its libraries
    os.execv(sys.executable, [sys.executable, "-P", "-m", "bench", *arguments])


main.add_command(inventory)
main.add_command(ctl)
