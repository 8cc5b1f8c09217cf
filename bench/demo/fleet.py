"""`make demo-fleet`: three servers of one table, on private networks, and what becomes of it when parts of it die.

A real DHCP client asks by a relay that knows two of the three.  Told in order, with the time of each step: a change of
the inventory, the machine that leads is killed, the message engine is killed and comes back.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import click

from bench.demo.single import ADDRESS, EXAMPLE, MAC, Story, ask, describe
from bench.lab import console
from bench.lab.client import Lease, NoLease, missing
from bench.lab.lab import Host, Lab, LabError, Process, which
from bench.lab.site import BOOTSTORM, ENVIRONMENT, RunningSite

NAMES = ("dhcp1", "dhcp2", "dhcp3")
NETWORK, RELAY, INFRA = "10.99.0", "10.99.0.254", "10.99.0.9"
CLIENTS_NET, GATEWAY = "192.168.1.0/24", "192.168.1.254"
INVENTORY_AT, ENGINE_AT = f"{INFRA}:9996", f"{INFRA}:4222"
ENGINE = """\
listen: "{at}"
jetstream {{ store_dir: "{store}" }}
"""
CHANGE = """\
from control.clusto.client import Pool, connect

connect('http://{inventory}')
Pool('pxeboot-servers').set_attr(key='dhcp', subkey='tftp_filename', value='{file}')
"""
READY_S, LEADS_S, LOOK_S = 60.0, 30.0, 0.05
MISSING = 2


class NothingToRun(click.ClickException):
    """A program that the demonstration is made of is not here."""

    exit_code = MISSING


class Infra:
    """The machine with the inventory and the message engine."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.conf = host.scratch / "nats.conf"
        self.conf.write_text(ENGINE.format(at=ENGINE_AT, store=host.scratch / "nats"))
        self.engine: Process | None = None

    def start_engine(self) -> None:
        program = which("nats-server") or "nats-server"
        self.engine = self.host.popen([program, "-c", str(self.conf)])
        self.engine.wait_for("Server is ready", READY_S)

    def kill_engine(self) -> None:
        assert self.engine is not None
        self.engine.stop(signal.SIGKILL)

    def start_inventory(self) -> None:
        database = f"sqlite:///{self.host.scratch}/inventory.db"
        command = [*BOOTSTORM, "inventory", "--dsn", database, "--bind", INVENTORY_AT]
        self.host.popen(command, env=ENVIRONMENT).wait_for("listening on", READY_S)

    def run(self, program: str, **words: str) -> None:
        text = program.format(inventory=INVENTORY_AT, **words)
        self.host.run([sys.executable, "-c", text], timeout=30.0, env=ENVIRONMENT)


class Responder:
    def __init__(self, host: Host, address: str) -> None:
        self.host, self.address = host, address
        self.site = RunningSite(host, workers=1, api_url=f"http://{INVENTORY_AT}")
        self.key = host.scratch / "fleet.key"
        self.public = host.run([*BOOTSTORM, "fleet-key", str(self.key)], env=ENVIRONMENT).stdout.strip()

    @property
    def name(self) -> str:
        return self.host.name

    def join(self, trusted: list[str]) -> None:
        """The section fleet of its services.conf."""
        conf = json.loads(self.site.config.read_text())
        conf["fleet"] = {
            "servers": [f"nats://{ENGINE_AT}"], "name": self.name, "signing_key": str(self.key),
            "trusted_keys": trusted,
        }  # fmt: skip
        self.site.config.write_text(json.dumps(conf))

    def status(self) -> dict[str, Any]:
        """Empty while it does not answer."""
        found: dict[str, Any] = self.asked("status")
        return found

    def asked(self, command: str, **arguments: Any) -> Any:
        try:
            return console.ask(str(self.site.console), command, answer_s=READY_S, **arguments)
        except (OSError, RuntimeError):  # not there yet, or not any more; refused
            return {}

    @property
    def state(self) -> dict[str, Any]:
        return (self.status().get("fleet") or {}).get("state") or {}

    def boot_file(self) -> str:
        """Of the client, as its workers have it."""
        found = self.asked("lookup", mac=MAC)
        return str(found["leases"][0]["file"]) if found else ""


def until(true: Callable[[], bool], limit_s: float, what: str) -> None:
    """Raises LabError."""
    deadline = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {limit_s:g} s")
        time.sleep(LOOK_S)


def leader_of(responders: list[Responder], limit_s: float) -> Responder:
    found: list[Responder] = []

    def leads() -> bool:
        found[:] = [each for each in responders if each.state.get("leads")]
        return len(found) == 1

    until(leads, limit_s, "one of them leads")
    return found[0]


@contextlib.contextmanager
def relay(host: Host, servers: list[Responder]) -> Iterator[None]:
    argv = ["dhcrelay", "-4", "-d", "--no-pid", "-iu", "north", "-id", "south", *(server.address for server in servers)]
    process = host.popen(argv)
    try:
        process.wait_for(r"^Sending on +Socket/", 5.0)
        yield
    finally:
        process.stop()


def lease(client: Host, boot_file: str) -> tuple[str, Lease]:
    """Raises NoLease where it is not the inventory's."""
    name, got = ask(client)
    if (got.address, got.boot_file) != (ADDRESS, boot_file):
        raise NoLease(f"the lease is {got.address}, {got.boot_file}; wanted {ADDRESS}, {boot_file}", str(got))
    return name, got


def network(lab: Lab) -> tuple[Infra, list[Responder], Host, Host]:
    """infra, the three, the relay, the client"""
    segment, relay_host, client = lab.bridge("segment"), lab.host("relay"), lab.host("client")
    segment.plug(relay_host, "north", f"{RELAY}/24")
    lab.wire(relay_host, client, a_if="south", b_if="cl", a_addr=f"{GATEWAY}/24", b_mac=MAC)
    infra, responders = lab.host("infra"), []
    segment.plug(infra, "sv", f"{INFRA}/24")
    for number, name in enumerate(NAMES, 1):
        host, address = lab.host(name), f"{NETWORK}.{number}"
        segment.plug(host, "sv", f"{address}/24")
        host.await_carrier("sv")
        host.route(CLIENTS_NET, RELAY)
        responders.append(Responder(host, address))
    for responder in responders:
        responder.join([each.public for each in responders])
    return Infra(infra), responders, relay_host, client


def rows(leader: Responder) -> list[str]:
    """`ctl fleet`, as a person sees it."""
    argv = [*BOOTSTORM, "ctl", "--socket", str(leader.site.console), "fleet"]
    return leader.host.run(argv, check=False, timeout=30.0, env=ENVIRONMENT).stdout.splitlines()


def begin(lab: Lab, story: Story) -> tuple[Infra, list[Responder], Responder, Host, Host]:
    infra, responders, relay_host, client = network(lab)
    story.tell(f"private hosts: {', '.join(NAMES)}, infra, a relay at {GATEWAY}, behind it a client {MAC}")
    infra.start_inventory()
    infra.run(EXAMPLE)
    infra.start_engine()
    story.tell(f"on infra: bootstorm inventory at {INVENTORY_AT} with one server, {version()} at {ENGINE_AT}")
    leader, *others = responders
    leader.site.serve()
    until(lambda: leader.status().get("hosts") == 1, READY_S, "it serves")
    story.tell(f"bootstorm serve on {leader.name}: it serves what it has read by itself")
    until(lambda: bool(leader.state.get("leads") and leader.state.get("follows")), READY_S, "it leads")
    story.tell("it leads, and has published its table: a fleet's first leader waits for 18 s,",
               "for what may have been there before and was lost")  # fmt: skip
    for other in others:
        other.site.serve()
    until(lambda: all(each.boot_file() == "/pxelinux.0" for each in others), READY_S, "both serve it")
    story.tell(f"bootstorm serve on {' and '.join(each.name for each in others)}: they serve that table, and read no "
               "inventory. ctl fleet:", *rows(leader))  # fmt: skip
    return infra, responders, leader, relay_host, client


def version() -> str:
    program = which("nats-server") or "nats-server"
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def play(lab: Lab, story: Story) -> None:
    infra, responders, leader, relay_host, client = begin(lab, story)
    other = next(each for each in responders if each is not leader)
    with relay(relay_host, [leader, other]):
        name, got = lease(client, "/pxelinux.0")
        story.tell(f"a relay that knows {leader.name} and {other.name}; {name} got its lease in {got.seconds:.2f} s:",
                   *describe(got))  # fmt: skip
        infra.run(CHANGE, file="/rescue.0")
        story.tell("an attribute changes in the inventory: tftp_filename = /rescue.0")
        figures = leader.site.ctl("refresh", "--wait")
        story.tell(f"ctl refresh --wait on {leader.name}: read in {figures['seconds']} s; the workers of "
                   f"{figures['fleet']['machines']} machines answer from it")  # fmt: skip
        _name, got = lease(client, "/rescue.0")
        story.tell(f"the client asks again and sees the change, from {got.server_id}, in {got.seconds:.2f} s")
        left = leader_dies(story, infra, responders, leader, client)
        engine_dies(story, infra, left, other, client)
    for responder in left:
        responder.site.stop()
    story.tell("stopped cleanly")


def leader_dies(
    story: Story, infra: Infra, responders: list[Responder], leader: Responder, client: Host
) -> list[Responder]:
    """Those that are left."""
    leader.host.ip("link set sv down")  # or its processes would say goodbye to the engine while they are ended
    died_s = time.monotonic()
    leader.host.close()
    story.tell(f"{leader.name}, which led, loses its power")
    _name, got = lease(client, "/rescue.0")
    story.tell(f"the client asks: {got.server_id} answers, {got.seconds:.2f} s after the first DISCOVER")
    infra.run(CHANGE, file="/memtest.0")
    story.tell("meanwhile the inventory changes: tftp_filename = /memtest.0")
    left = [each for each in responders if each is not leader]
    other = leader_of(left, LEADS_S)
    story.tell(f"{other.name} leads, {time.monotonic() - died_s:.1f} s after the other one died")
    until(lambda: all(each.boot_file() == "/memtest.0" for each in left), LEADS_S, "the change is everywhere")
    _name, got = lease(client, "/memtest.0")
    story.tell(f"it has read the inventory, and both serve the change, {time.monotonic() - died_s:.1f} s after;",
               f"the client sees it from {got.server_id}")  # fmt: skip
    return left


def engine_dies(story: Story, infra: Infra, left: list[Responder], other: Responder, client: Host) -> None:
    """other: the one of those that are left that the relay knows."""
    infra.kill_engine()
    until(lambda: not any(each.state.get("connected", True) for each in left), LEADS_S, "both notice")
    story.tell("the message engine is killed. ctl fleet:", *rows(other)[:2])
    _name, got = lease(client, "/memtest.0")
    story.tell(f"the client asks: {got.server_id} answers in {got.seconds:.2f} s")
    other.site.stop()
    other.site.serve()
    until(lambda: other.boot_file() == "/memtest.0", READY_S, "it serves from its disk")
    _name, got = lease(client, "/memtest.0")
    story.tell(f"{other.name} is restarted, still without an engine: it serves from its disk, the client got its lease")
    infra.run(CHANGE, file="/pxelinux.0")
    infra.start_engine()
    began_s = time.monotonic()
    story.tell("the inventory changes: tftp_filename = /pxelinux.0; then the engine comes back")
    until(lambda: all(each.state.get("connected") for each in left), READY_S, "both are connected again")
    leads = leader_of(left, READY_S)
    leads.site.ctl("refresh", "--wait")  # the same one may lead on, which reads the inventory once an hour
    until(lambda: all(each.boot_file() == "/pxelinux.0" for each in left), READY_S, "the change is everywhere")
    _name, got = lease(client, "/pxelinux.0")
    story.tell(f"{leads.name} leads, and after ctl refresh both serve the change, {time.monotonic() - began_s:.1f} s "
               "after that;",
               f"the client sees it from {got.server_id}. ctl fleet:", *rows(leads))  # fmt: skip


@click.command()
def main() -> None:
    """Exit 0 when the client got what the inventory says each time; 2 where a program that it takes is not here."""
    if which("nats-server") is None:
        raise NothingToRun("the message engine, nats-server, is not installed (Debian package nats-server)")
    if lost := missing("dhcrelay"):
        raise NothingToRun(lost)
    if reason := Lab.available():
        raise NothingToRun(f"the demo makes its own network namespaces, and cannot here: {reason}")
    try:
        with Lab() as lab:
            play(lab, Story())
    except (LabError, NoLease) as failed:
        raise click.ClickException(str(failed)) from failed
    click.echo("\nevery question was answered, and every change came to all that lived")


if __name__ == "__main__":
    main()
