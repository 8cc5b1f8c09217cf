"""The site of the client tests: a server, a relay and two segments; each test gets fresh client hosts.

    server --sv-- near (10.88.0.0/24) --rs-- relay --rc-- far (10.77.0.0/24)

BOOTSTORM_RIVAL=dnsmasq runs the same tests against dnsmasq.  A failed test shows what the server, the clients, the
relay and the wire said.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

import pytest

from bench.clients import Unsupported, available
from bench.lab import Host, Lab, Process, Segment, guard
from tests.netns.servers import CLIENT, SERVER, SERVERS, Known, ServerUnderTest

SHOWN_BYTES = 12_000


@dataclass(slots=True)
class Site:
    """What stands for the whole module."""

    lab: Lab
    server: Host
    relay: Host
    near: Segment
    far: Segment
    under_test: ServerUnderTest


@dataclass(slots=True)
class Scene:
    """One test's clients, and what goes over the server's wire meanwhile (None without tcpdump)."""

    site: Site
    wire: Process | None
    marks: dict[Process, int]
    hosts: list[Host] = field(default_factory=list)

    def client(self, known: Known = CLIENT, far: bool = False, mac: str = "") -> Host:
        """A new machine with an interface cl, on the server's segment or behind the relay."""
        host = self.site.lab.host(f"client{len(self.hosts)}")
        self.hosts.append(host)
        (self.site.far if far else self.site.near).plug(host, "cl", mac=mac or known.mac)
        return host

    def saw(self, first_line: str, message: str, since: int = 0) -> None:
        """Wait until the wire has carried a packet: regular expressions of tcpdump's address line and of an option."""
        if self.wire is not None:
            self.wire.wait_for(rf"(?s:{first_line}: (?:(?!\n\d\d:\d\d:).)*?{message})", 3.0, since)

    def wire_mark(self) -> int:
        return self.wire.mark() if self.wire is not None else 0

    def report(self) -> Iterator[tuple[str, str]]:
        yield "wire at the server", self.wire.log() if self.wire is not None else "tcpdump is not installed"
        yield f"server ({self.site.under_test.name})", self.site.server.logs(self.marks)
        for host in (self.site.relay, *self.hosts):
            yield host.name, host.logs(self.marks)


def _chosen_server() -> ServerUnderTest:
    name = os.environ.get("BOOTSTORM_RIVAL", "bootstorm")
    if name not in SERVERS:
        raise pytest.UsageError(f"BOOTSTORM_RIVAL={name!r}, wanted one of {sorted(SERVERS)}")
    return SERVERS[name]()


@pytest.fixture(scope="session", autouse=True)
def machine_untouched() -> Iterator[None]:
    """A stock hook of a DHCP client would cut this machine off: nothing of it may differ afterwards."""
    with guard():
        yield


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    if reason := Lab.available():
        pytest.skip(reason)
    with Lab() as lab:
        near, far, server, relay = lab.bridge("near"), lab.bridge("far"), lab.host("server"), lab.host("relay")
        near.plug(server, "sv", f"{SERVER}/24")
        near.plug(relay, "rs", "10.88.0.2/24")
        far.plug(relay, "rc", "10.77.0.1/24")
        relay.sysctl("net.ipv4.ip_forward", 1)
        server.route("10.77.0.0/24", "10.88.0.2")
        under_test = _chosen_server()
        try:
            under_test.start(server)
        except Unsupported as lost:
            pytest.skip(str(lost))
        yield Site(lab, server, relay, near, far, under_test)
        under_test.stop()


@pytest.fixture
def scene(site: Site) -> Iterator[Scene]:
    wire = None
    marks = site.server.marks() | site.relay.marks()
    if available("tcpdump"):
        argv = ["tcpdump", "-i", "sv", "-n", "-e", "-l", "-vvv", "-s0", "--immediate-mode", "-Z", "root"]
        wire = site.server.popen([*argv, "udp port 67 or udp port 68 or arp"])
        wire.wait_for("listening on", 5.0)
    scene = Scene(site, wire, marks)
    try:
        yield scene
    finally:
        for host in scene.hosts:
            host.close()
        if wire is not None:
            wire.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the logs while the test's hosts still stand."""
    report = yield
    scene = getattr(item, "funcargs", {}).get("scene")
    if report.when == "call" and report.failed and scene is not None:
        report.sections += [(title, text[-SHOWN_BYTES:]) for title, text in scene.report()]
    return report
