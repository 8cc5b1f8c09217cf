"""The site of the client tests: a server, a relay and two segments; each test gets fresh clients and machines.

server --sv-- near (10.88.0.0/24) --rs-- relay --rc-- far (10.77.0.0/24)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pytest

from bench.lab.client import available
from bench.lab.emulated import Firmware, Machine
from bench.lab.lab import Host, Lab, Process, Segment
from tests.netns.clients.servers import CLIENT, SERVER, Known, ServerUnderTest
from tests.netns.clients.wire import Packet, answer_times, packets, until_ack

SAW_S = 5.0


@dataclass(slots=True)
class Site:
    """What stands for the whole module."""

    lab: Lab
    server: Host
    relay: Host
    near: Segment
    far: Segment
    under_test: ServerUnderTest

    def lasting(self) -> tuple[Host, ...]:
        return self.server, self.relay, self.near.switch, self.far.switch


@contextmanager
def standing(under_test: ServerUnderTest) -> Iterator[Site]:
    """The site, with its server answering.  Unsupported when the server needs what is not there."""
    with Lab() as lab:
        near, far, server, relay = lab.bridge("near"), lab.bridge("far"), lab.host("server"), lab.host("relay")
        near.plug(server, "sv", f"{SERVER}/24")
        near.plug(relay, "rs", "10.88.0.2/24")
        far.plug(relay, "rc", "10.77.0.1/24")
        relay.sysctl("net.ipv4.ip_forward", 1)
        server.route("10.77.0.0/24", "10.88.0.2")
        under_test.start(server)
        try:
            yield Site(lab, server, relay, near, far, under_test)
        finally:
            under_test.stop()


def capture(host: Host, ifname: str) -> Process | None:
    """tcpdump of DHCP and ARP, from the moment when it listens; None where it is missing or may not run.

    It gives up groups at its start, which a user namespace forbids: an ordinary user sees no wire."""
    if not available("tcpdump"):
        return None
    argv = ["tcpdump", "-i", ifname, "-n", "-e", "-l", "-vvv", "-s0", "--immediate-mode", "-Z", "root"]
    wire = host.popen([*argv, "udp port 67 or udp port 68 or arp"])
    said = wire.wait_for("listening on|Couldn't change to", 10.0)
    return wire if said == "listening on" else None


@dataclass(slots=True)
class Scene:
    """One test's clients, and what goes over the server's wire meanwhile (None: nobody can see it)."""

    site: Site
    wire: Process | None
    marks: dict[Process, int]
    hosts: list[Host] = field(default_factory=list)
    boot: float | None = None  # seconds from power on to the end of the slowest machine's boot
    on: ExitStack = field(default_factory=ExitStack)  # machines that have power

    def needs(self, virtue: str) -> None:
        """Skips the test, or the rest of it, where the server under test is known not to do that."""
        if virtue in self.site.under_test.lacks:
            pytest.skip(f"{self.site.under_test.name} does not {virtue}")

    def client(self, known: Known = CLIENT, far: bool = False, mac: str = "") -> Host:
        """A new machine with an interface cl, on the server's segment or behind the relay."""
        host = self.site.lab.host(f"client{len(self.hosts)}")
        self.hosts.append(host)
        (self.site.far if far else self.site.near).plug(host, "cl", mac=mac or known.mac)
        return host

    def machine(self, known: Known, firmware: Firmware, card: str = "virtio-net-pci", far: bool = False) -> Machine:
        """An emulated machine, switched on; off at the end of the test."""
        segment = self.site.far if far else self.site.near
        return self.on.enter_context(Machine(segment, known.mac, firmware, card))

    def saw(self, first_line: str, message: str, since: int = 0) -> None:
        """Wait until the wire has carried a packet: regular expressions of tcpdump's address line and of an option."""
        if self.wire is not None:
            self.wire.wait_for(rf"(?s:{first_line}: (?:(?!\n\d\d:\d\d:).)*?{message})", SAW_S, since)

    def wire_mark(self) -> int:
        return self.wire.mark() if self.wire is not None else 0

    def packets(self, since: int = 0) -> list[Packet]:
        """What the wire has carried; nothing without tcpdump."""
        return packets(self.wire.log(since)) if self.wire is not None else []

    def times(self) -> dict[str, float | None]:
        """For the table of clients."""
        seen = self.packets()
        return {"until_ack": until_ack(seen), "slowest": max(answer_times(seen), default=None), "boot": self.boot}

    def report(self) -> Iterator[tuple[str, str]]:
        """What everybody said, for a failed test."""
        yield "wire at the server", self.wire.log() if self.wire is not None else "tcpdump is not installed"
        yield f"server ({self.site.under_test.name})", self.site.server.logs(self.marks)
        for host in (*self.site.lasting()[1:], *self.hosts):
            yield host.name, host.logs(self.marks)
