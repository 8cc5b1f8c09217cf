"""`make demo`: the document's example, end to end, on private networks: inventory, server, and a real DHCP client.

Prints what happened, in order, with the time of each step.  Nothing of the machine is touched.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import click

from bench.lab.client import Lease, NoLease, Unsupported
from bench.lab.clients import dhclient, dhcpcd, tiny, udhcpc
from bench.lab.lab import Host, Lab, LabError
from bench.lab.site import ENVIRONMENT, INVENTORY, RunningSite

SERVER, ADDRESS, MAC = "192.168.1.1", "192.168.1.50", "00:11:22:33:44:55"
EXAMPLE = """\
from control.clusto.client import BasicServer, IPManager, Pool, connect

connect('http://{inventory}')
IPManager('net-192-168-1', baseip='192.168.1.0', netmask='255.255.255.0', gateway='192.168.1.254')

p = Pool('pxeboot-servers')
p.set_attr(key='dhcp', subkey='enabled', value=1)
p.set_attr(key='dhcp', subkey='tftp_server', value='192.168.1.1')
p.set_attr(key='dhcp', subkey='tftp_filename', value='/pxelinux.0')
p.set_attr(key='dhcp', subkey='domain', value='example.org')

s = BasicServer('ex0000')
s.set_port_attr('nic-eth', 1, 'mac', '00:11:22:33:44:55')
s.bind_ip_to_osport('192.168.1.50', 'eth0')
p.insert(s)
"""
CHANGE = """\
from control.clusto.client import Pool, connect

connect('http://{inventory}')
Pool('pxeboot-servers').set_attr(key='dhcp', subkey='tftp_filename', value='/rescue.0')
"""
CLIENTS: dict[str, Callable[[Host, str], Lease]] = {"udhcpc": udhcpc, "dhclient": dhclient, "dhcpcd": dhcpcd}


class Story:
    """Numbered steps with the seconds that each took."""

    def __init__(self) -> None:
        self.started = self.last = time.monotonic()
        self.number = 0

    def tell(self, text: str, *details: str) -> None:
        now = time.monotonic()
        self.number += 1
        click.echo(f"{self.number:2}. [{now - self.started:6.2f} s, +{now - self.last:5.2f}]  {text}")
        for detail in details:
            click.echo(f"                           {detail}")
        self.last = now


def ask(host: Host) -> tuple[str, Lease]:
    """The first real client that is installed gets a lease; else our own small one, labelled as such."""
    for name, client in CLIENTS.items():
        try:
            return name, client(host, "cl")
        except Unsupported:
            continue
    return "bench.lab.tinyclient (ours: no real DHCP client is installed)", tiny(host, "cl")


def run_python(host: Host, program: str) -> None:
    text = program.format(inventory=INVENTORY)
    host.run([sys.executable, "-c", text], timeout=30.0, env=ENVIRONMENT)


def check(lease: Lease, boot_file: str) -> None:
    """The demo fails when the lease is not the inventory's."""
    found = (lease.address, lease.boot_file)
    if found != (ADDRESS, boot_file):
        raise NoLease(f"the lease is {found}, the inventory says {(ADDRESS, boot_file)}", str(lease))


def describe(lease: Lease) -> list[str]:
    return [
        f"address {lease.address}, netmask {lease.mask}, router {lease.router}, from server {lease.server_id}",
        f"next server {lease.siaddr}, boot file {lease.boot_file}, domain {lease.domain}, lease {lease.lease_time} s",
    ]


def play(lab: Lab, story: Story) -> None:
    server, client = lab.host("server"), lab.host("client")
    lab.wire(server, client, a_if="sv", b_if="cl", a_addr=f"{SERVER}/24", b_mac=MAC)
    story.tell(f"two private hosts and a wire: server {SERVER}, client {MAC}")
    site = RunningSite(server, workers=2)
    site.start_inventory()
    story.tell(f"bootstorm inventory listens on http://{INVENTORY}, empty")
    run_python(server, EXAMPLE)
    story.tell(
        "the document's example runs through the Python client:",
        *EXAMPLE.format(inventory=INVENTORY).strip().splitlines(),
    )
    site.serve(hosts=1)
    status = site.ctl("status")
    story.tell(f"bootstorm serve: generation {status['generation']}, {len(status['workers'])} workers, 1 host")
    name, lease = ask(client)
    check(lease, "/pxelinux.0")
    story.tell(f"{name} got its lease in {lease.seconds:.2f} s:", *describe(lease))
    run_python(server, CHANGE)
    story.tell("an attribute changes in the inventory: tftp_filename = /rescue.0")
    figures = site.ctl("refresh", "--wait")
    story.tell(
        f"bootstorm ctl refresh --wait: generation {figures['generation']} in {figures['seconds']} s, "
        f"{figures['changed']} host changed, every worker answers from it"
    )
    name, lease = ask(client)
    check(lease, "/rescue.0")
    story.tell(f"{name} asks again and sees the change:", *describe(lease))
    counters = ", ".join(f"{count} {verdict}" for verdict, count in sorted(site.ctl("status")["counters"].items()))
    story.tell(f"counters of the workers: {counters}")
    site.stop()
    story.tell("stopped cleanly")


@click.command()
def main() -> None:
    """Exit 0 when the client got what the inventory says, twice."""
    if reason := Lab.available():
        raise click.ClickException(f"the demo makes its own network namespaces, and cannot here: {reason}")
    story = Story()
    try:
        with Lab() as lab:
            play(lab, story)
    except (LabError, NoLease) as failed:
        raise click.ClickException(str(failed)) from failed
    click.echo(f"\nlease {ADDRESS}: as the inventory says, before and after the change")


if __name__ == "__main__":
    main()
