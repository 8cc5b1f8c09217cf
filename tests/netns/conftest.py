"""Fixtures of the client tests (clients/scene.py): one site for all of them but the firmware's, one scene a test.

BOOTSTORM_RIVAL=dnsmasq runs the same tests against dnsmasq.  A failed test shows what the server, the clients, the
relay and the wire said.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest

from bench.lab.client import Unsupported
from bench.lab.lab import Lab, guard
from tests.netns.clients.boot import BootServers
from tests.netns.clients.scene import Scene, Site, capture, standing
from tests.netns.clients.servers import SERVERS, ServerUnderTest

SHOWN_BYTES = 12_000


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


def _skip_or_stand(under_test: ServerUnderTest) -> Iterator[Site]:
    if reason := Lab.available():
        pytest.skip(reason)
    try:
        with standing(under_test) as site:
            yield site
    except Unsupported as lost:
        pytest.skip(str(lost))


@pytest.fixture(scope="session")
def clients_site() -> Iterator[Site]:
    yield from _skip_or_stand(_chosen_server())


@pytest.fixture(scope="session")
def firmware_site() -> Iterator[Site]:
    if (rival := _chosen_server().name) != BootServers.name:
        pytest.skip(f"firmware boots on {BootServers.name}'s answers, not on those of {rival}")
    yield from _skip_or_stand(BootServers())


@pytest.fixture
def site(request: pytest.FixtureRequest) -> Site:
    """The machines' site for tests with the marker `firmware`, the clients' for all others."""
    which = "firmware_site" if request.node.get_closest_marker("firmware") else "clients_site"
    found = request.getfixturevalue(which)
    assert isinstance(found, Site)
    return found


@pytest.fixture
def scene(site: Site) -> Iterator[Scene]:
    marks = {process: mark for host in site.lasting() for process, mark in host.marks().items()}
    wire = capture(site.server, "sv")
    scene = Scene(site, wire, marks)
    try:
        with scene.on:
            yield scene
    finally:
        for host in scene.hosts:
            host.close()
        if wire is not None:
            wire.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the times, and the logs of a failed test, while its hosts still stand."""
    report = yield
    scene = getattr(item, "funcargs", {}).get("scene")
    if report.when == "call" and scene is not None:
        report.user_properties += list(scene.times().items())
        if report.failed:
            report.sections += [(title, text[-SHOWN_BYTES:]) for title, text in scene.report()]
    return report
