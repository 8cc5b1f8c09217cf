"""`bootstorm ctl`: its commands and their arguments; what they print is that of ctl.py and the files beside it.

Each takes `--json`, `--socket` and `-c` before its name or behind it, and is given the client that they ask for.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, Final

import click

from control.cli.shared import FAILED, examples, read_config

NUMBER_MAX = 2**31 - 1  # of the service's numbers
UNITS_S: Final = {"d": 86_400, "h": 3_600, "m": 60, "min": 60, "s": 1}
PART: Final = re.compile(r"(\d{1,9})(d|h|min|m|s)")
DURATION_MAX_S: Final = 31_622_400  # a year, as the service takes it


def duration(_context: click.Context, _option: click.Parameter, value: str | None) -> int | None:
    """Seconds, from 90s, 30m, 2h, 7d or several of these together: an option's callback."""
    if value is None:
        return None
    parts = PART.findall(value)
    seconds = sum(int(number) * UNITS_S[unit] for number, unit in parts)
    if "".join(map("".join, parts)) != value or not 1 <= seconds <= DURATION_MAX_S:
        raise click.BadParameter(f"{value!r}: wanted a duration such as 90s, 30m, 2h or 1d12h, of at most 366d")
    return seconds


def where_and_how() -> list[click.Parameter]:
    """The options of `ctl` itself and of every command of it.  Behind the name counts before what stands before it."""
    return [
        click.Option(["--json", "as_json"], is_flag=True, help="JSON on standard output."),
        click.Option(["--socket"], metavar="PATH", help="Control socket; default: that of services.conf."),
        click.Option(
            ["-c", "--config"], metavar="FILE", help="services.conf that names it; default: clusto's search path."
        ),
    ]


class CtlCommand(click.Command):
    """A command of the group below: the group's options count behind its name, too."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.params += where_and_how()

    def invoke(self, context: click.Context) -> Any:
        from control.cli.ctl import Client

        before = context.parent.params if context.parent is not None else {}
        as_json, socket, config = (context.params.pop(name) for name in ("as_json", "socket", "config"))
        if not socket and not config:
            socket, config = before.get("socket"), before.get("config")
        path = socket or str(read_config(config).control.socket)
        context.obj = Client(path, as_json or bool(before.get("as_json")))
        return super().invoke(context)


class CtlGroup(click.Group):
    """Whatever is added by `@ctl.command()` is a CtlCommand, and begins with `@click.pass_obj`: the Client."""

    command_class = CtlCommand

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.params += where_and_how()


@click.group(
    cls=CtlGroup,
    epilog=examples(
        "bootstorm ctl status",
        "bootstorm ctl hosts --stuck",
        "bootstorm ctl explain 02:00:00:00:00:01",
        "bootstorm ctl -c services.conf refresh --wait",
    ),
)
def ctl(**_where_and_how: Any) -> None:
    """Ask and steer a running service.  The options may also stand behind the command."""


@ctl.command(
    epilog=examples(
        "bootstorm ctl status",
        "bootstorm ctl status --wait 30             # after a start: returns when machines are answered",
        "bootstorm ctl status --quiet || echo nobody is answered",
    )
)
@click.option(
    "--wait",
    "wait_s",
    type=click.IntRange(0, 3600),
    metavar="SECONDS",
    help="Wait until somebody is answered, at most so long.",
)
@click.option("--quiet", is_flag=True, help="Print nothing at all; the exit code says it.")
@click.pass_obj
def status(client: Any, wait_s: int | None, quiet: bool) -> None:
    """Generation, inventory, workers, counters.  Exit code 1: nobody is answered, or nothing says so."""
    from control.cli.health import print_status

    sys.exit(print_status(client, wait_s, quiet))


@ctl.command(epilog=examples("bootstorm ctl health", "bootstorm ctl health --max-age 3600 --wait 10"))
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
@click.pass_obj
def health(client: Any, max_age: float | None, wait_s: int) -> None:
    """Is DHCP served?  Exit code 0: a worker answers from a table; 1: none does; 2: nobody says."""
    from control.cli.health import print_health

    sys.exit(print_health(client, max_age, wait_s))


@ctl.command(
    epilog=examples(
        "bootstorm ctl refresh --wait",
        "bootstorm ctl refresh --host node7 --wait",
        "bootstorm ctl refresh --host rack7         # a container: all that hangs below it",
    )
)
@click.option("--wait", is_flag=True, help="Return when every worker answers from it; in a fleet, on all machines.")
@click.option("--here", is_flag=True, help="With --wait: only the workers of this machine.")
@click.option("--force", is_flag=True, help="Also when most hosts would go.")
@click.option("--full", is_flag=True, help="Read everything (the default).")
@click.option("--mac", help="Only the host with this MAC address, or this name or address in the table.")
@click.option("--host", help="Only this host, or what hangs below this container.")
@click.pass_obj
def refresh(client: Any, wait: bool, here: bool, force: bool, full: bool, mac: str | None, host: str | None) -> None:
    """Read the inventory now: everything, or one host.  Exit code 1: it was not read, or has no such host."""
    from control.cli.ctl import not_found

    if full and (mac or host):
        raise click.UsageError("--full reads everything; leave it out with --mac or --host")
    if force and (mac or host):
        raise click.UsageError("--force is for reading everything; a host that you name needs none: leave it out")
    if here and not wait:
        raise click.UsageError("--here says which workers --wait waits for; add --wait")
    asked = {"wait": wait, "force": force, "mac": mac, "host": host} | ({"here": True} if here else {})
    figures = client.show_with_bar("refresh", asked)
    if lines := not_found(figures):
        for line in lines:
            click.echo(f"bootstorm: {line}", err=True)
        sys.exit(FAILED)


@ctl.command()
@click.pass_obj
def diff(client: Any) -> None:
    """What the last refresh changed: MAC, host, old, new."""
    client.show_pages("diff", page=1000)


@ctl.command(epilog=examples("bootstorm ctl faults", "bootstorm ctl faults --object 'rack7-*' --kind conflict"))
@click.option("--object", "named", metavar="NAME", help="Only of this object, or of all that `rack7-*` fits.")
@click.option("--kind", help="Only of this kind, such as unknown-option, bad-value, conflict.")
@click.pass_obj
def faults(client: Any, named: str | None, kind: str | None) -> None:
    """All faults of the inventory, in the order in which they were first seen."""
    from control.cli.faults_text import print_faults

    print_faults(client, named, kind)


@ctl.command(
    epilog=examples(
        "bootstorm ctl hosts --stuck",
        "bootstorm ctl hosts --never-seen --rack 'rack7*'",
        "bootstorm ctl hosts --by pool",
    )
)
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
@click.pass_obj
def hosts(
    client: Any, /, stuck: bool, never_seen: bool, progress: str | None, by: str | None, **wanted: str | None
) -> None:
    """Every host: how far its boot is, since when, and why no further."""
    from control.cli.hosts_text import print_hosts, print_sums

    words = [word for word, on in (("stuck", stuck), ("never", never_seen)) if on] + ([progress] if progress else [])
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


@ctl.command(
    epilog=examples(
        "bootstorm ctl hold node7 --for 2h --because 'its board is replaced'",
        "bootstorm ctl hold 02:00:00:00:00:07",
    )
)
@click.argument("host", metavar="HOST|MAC|ADDRESS")
@click.option(
    "--for", "for_s", callback=duration, metavar="DURATION", help="Such as 90s, 30m, 2h; without it until `release`."
)
@click.option("--because", metavar="TEXT", help="Why, for everybody who wonders.")
@click.pass_obj
def hold(client: Any, host: str, for_s: int | None, because: str | None) -> None:
    """Do not answer a host, whatever the inventory says; its BMC only when the BMC's own MAC or address is named."""
    client.show("hold", {"host": host, "for": for_s, "because": because})


@ctl.command(
    epilog=examples(
        "bootstorm ctl once node7 tftp_filename--ipxe=http://10.20.0.2/install.ipxe",
        "bootstorm ctl once node7 tftp_filename=/install.0 --until-class os",
    )
)
@click.argument("host", metavar="HOST|MAC|ADDRESS")
@click.argument("options", nargs=-1, required=True, metavar="OPTION[--CLASS]=VALUE...")
@click.option("--until-class", "until", type=click.Choice(["ipxe", "os"]), help="Until this class was answered.")
@click.option("--for", "for_s", callback=duration, metavar="DURATION", help="Such as 30m, 2h: no longer than that.")
@click.option("--because", metavar="TEXT", help="Why, for everybody who wonders.")
@click.pass_obj
def once(
    client: Any, host: str, options: tuple[str, ...], until: str | None, for_s: int | None, because: str | None
) -> None:
    """Give a host these options for its next boot, as if its `dhcp` attributes said them; then it boots as usual."""
    arguments = {"host": host, "options": list(options), "until": until, "for": for_s, "because": because}
    client.show("once", arguments)


@ctl.command(epilog=examples("bootstorm ctl release node7"))
@click.argument("host", metavar="HOST|MAC|ADDRESS|NUMBER")
@click.pass_obj
def release(client: Any, host: str) -> None:
    """End the overrides of a host: it is what the inventory says again."""
    client.show("release", {"host": host})


@ctl.command()
@click.pass_obj
def overrides(client: Any) -> None:
    """What operators want otherwise than the inventory says: who, since when, for how long, why."""
    client.show("overrides", {})


@ctl.command(epilog=examples("bootstorm ctl fleet", "bootstorm ctl fleet hold", "bootstorm ctl fleet rollback 3f9a"))
@click.argument("order", required=False, type=click.Choice(["hold", "release", "promote", "rollback"]))
@click.argument("digest", required=False)
@click.option("--key", type=click.Path(path_type=Path), metavar="FILE", help="An operator's; else this machine's own.")
@click.pass_obj
def fleet(client: Any, order: str | None, digest: str | None, key: Path | None) -> None:
    """Which machines serve which table; or an ORDER to all of them: hold (nobody changes its table), release (of a hold
    or a rollback), promote (what the canaries try goes to all), rollback (to the table of DIGEST, the last but one
    unless said).  Exit code 1: a machine is behind, or the order was not obeyed."""
    from control.cli.fleet_text import give_order, print_fleet

    sys.exit(print_fleet(client) if order is None else give_order(client, order, digest or "", key))


@ctl.command()
@click.pass_obj
def reload(client: Any) -> None:
    """Read services.conf again, as SIGHUP does.  Exit code 1: it is refused, all of it; every fault is listed."""
    from control.cli.reload import print_reload

    sys.exit(print_reload(client))


@ctl.command(epilog=examples("bootstorm ctl lookup node7", "bootstorm ctl lookup 02-00-00-00-00-07 --json"))
@click.argument("mac", metavar="MAC|NAME|ADDRESS")
@click.pass_obj
def lookup(client: Any, mac: str) -> None:
    """What the workers know of a machine."""
    client.show("lookup", {"mac": mac})


@ctl.command("explain", epilog=examples("bootstorm ctl explain node7", "bootstorm ctl explain storm.pcap"))
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


@ctl.command(epilog=examples("bootstorm ctl observed", "bootstorm ctl observed --kind address"))
@click.option("--mac", help="Only this machine, with what is the same as well.")
@click.option("--kind", help="Only differences of this kind, such as address, message, silence or 'boot file'.")
@click.option("--strict", is_flag=True, help="With the differences that are set aside since no client acts by them.")
@click.pass_obj
def observed(client: Any, mac: str | None, kind: str | None, strict: bool) -> None:
    """While dhcp.mode is observe: what we would have answered otherwise than the server that is there."""
    client.show_observed(mac, kind, strict)


@ctl.command(
    epilog=examples(
        "bootstorm ctl recent --mac node7",
        "bootstorm ctl recent --mac node7 --packets",
        "bootstorm ctl recent --pcap all.pcap",
    )
)
@click.option(
    "--most",
    type=click.IntRange(0, NUMBER_MAX),
    default=50,
    show_default=True,
    metavar="NUMBER",
    help="How many warnings, newest first.",
)
@click.option("--mac", help="Only this machine: a MAC address, a name or an address.")
@click.option("--packets", is_flag=True, help="The last datagrams instead, answered or not: the flight recorders.")
@click.option("--pcap", type=click.Path(dir_okay=False, path_type=Path), help="The same into a capture.")
@click.option(
    "--last",
    type=click.IntRange(1, NUMBER_MAX),
    metavar="NUMBER",
    help="Of the datagrams only the newest so many; listed are 50 without.",
)
@click.pass_obj
def recent(client: Any, most: int, mac: str | None, packets: bool, pcap: Path | None, last: int | None) -> None:
    """The last warnings: who asked and was not answered, and why; or the last datagrams themselves."""
    if pcap is not None:
        client.save_packets(pcap, mac, last)
    elif packets or last is not None:
        client.show_packets(mac, last)
    else:
        client.show("recent", {"most": most, "mac": mac})


@ctl.command(epilog=examples("bootstorm ctl events --follow", "bootstorm ctl events --json"))
@click.option("--follow", is_flag=True, help="Go on with what happens from now on, also when control is replaced.")
@click.option("--since", type=click.IntRange(0, 2**63 - 1), metavar="NUMBER", help="Only what came behind it.")
@click.pass_obj
def events(client: Any, follow: bool, since: int | None) -> None:
    """What happened, each with its reason: tables, refreshes, conflicts, new machines, boot loops, strangers ...

    With --json one object a line."""
    from control.cli.events_text import print_events

    print_events(client, since, follow)


@ctl.command(epilog=examples("bootstorm ctl discovered", "bootstorm ctl discovered --mac 52:54:00:00:00:02"))
@click.option("--mac", help="Only this MAC address.")
@click.pass_obj
def discovered(client: Any, mac: str | None) -> None:
    """Machines that switches and DHCP saw: what was decided, what was done, what waits for a person and why."""
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
    """Do nothing about a machine, over restarts too, until `unignore` or `adopt`."""
    client.show("ignore", {"mac": mac})


@ctl.command()
@click.argument("mac")
@click.pass_obj
def unignore(client: Any, mac: str) -> None:
    """Undo `ignore`: the machine has its turn as if it had just been seen."""
    client.show("unignore", {"mac": mac})
