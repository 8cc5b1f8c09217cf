"""Real DHCP clients against the server under test, directly and through a real relay (site: conftest.py)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from bench.clients import (
    Dhclient,
    Dhcpcd,
    Lease,
    NoLease,
    RenewingDhclient,
    Udhcpc,
    Unsupported,
    dhclient,
    dhclient_remembers,
    dhcpcd,
    dhcrelay,
    tiny,
    udhcpc,
)
from tests.netns.conftest import Scene
from tests.netns.servers import BOOT_FILE, CLIENT, DOMAIN, LEASE_S, MASK, SECOND, SERVER, STRANGER_MAC, Known

pytestmark = pytest.mark.netns

CLIENTS = [pytest.param(udhcpc, id="udhcpc"), pytest.param(dhclient, id="dhclient"), pytest.param(dhcpcd, id="dhcpcd")]
FLAGS = [pytest.param(False, id="unicast"), pytest.param(True, id="broadcast")]
RELAYED = [  # broadcast flag, option 82
    pytest.param(False, False, id="unicast-plain"),
    pytest.param(False, True, id="unicast-option82"),
    pytest.param(True, True, id="broadcast-option82"),
]


def flow(source: str, destination: str) -> str:
    """tcpdump's words for a datagram, both ends as ADDRESS:PORT."""
    return " > ".join(end.replace(":", ".").replace(".", r"\.") for end in (source, destination))


def kind(message: str) -> str:
    return rf"DHCP-Message \(53\), length 1: {message}"


@contextlib.contextmanager
def skipping() -> Iterator[None]:
    """A client that isn't installed, or a kernel that can't do what a test needs, is a skip."""
    try:
        yield
    except Unsupported as lost:
        pytest.skip(str(lost))


def must_be(lease: Lease, known: Known, far: bool = False) -> None:
    """Every field that the client shows is the one that the inventory holds."""
    found = (lease.address, lease.mask, lease.router, lease.server_id, lease.lease_time, lease.boot_file)
    wanted = (
        known.far if far else known.near,
        MASK,
        "10.77.0.1" if far else "10.88.0.1",
        SERVER,
        LEASE_S,
        BOOT_FILE,
    )
    assert found == wanted
    assert (lease.hostname, lease.domain) == (known.name, DOMAIN)
    assert lease.siaddr in (SERVER, "")  # dhcpcd does not show it


@pytest.mark.parametrize("broadcast", FLAGS)
@pytest.mark.parametrize("run", [*CLIENTS, pytest.param(tiny, id="tiny")])
def test_direct(scene: Scene, run: Callable[..., Lease], broadcast: bool) -> None:
    with skipping():
        must_be(run(scene.client(), "cl", broadcast=broadcast), CLIENT)
    to = "255.255.255.255" if broadcast else CLIENT.near
    scene.saw(flow(f"{SERVER}:67", f"{to}:68"), kind("ACK"))


@pytest.mark.parametrize(("broadcast", "option82"), RELAYED)
@pytest.mark.parametrize("run", CLIENTS)
def test_relayed(scene: Scene, run: Callable[..., Lease], broadcast: bool, option82: bool) -> None:
    client = scene.client(far=True)
    with skipping(), dhcrelay(scene.site.relay, "rc", "rs", SERVER, option82=option82):
        must_be(run(client, "cl", broadcast=broadcast), CLIENT, far=True)
    # What the relay put into the request comes back in the reply: a relay may find the client's link by nothing else.
    echoed = r"(?:(?!\n\d\d:\d\d:).)*?Agent-Information" if option82 else ""
    scene.saw(flow(f"{SERVER}:67", "10.77.0.1:67"), kind("ACK") + echoed)


def test_our_own_client_through_the_relay(scene: Scene) -> None:
    client = scene.client(far=True)
    with skipping(), dhcrelay(scene.site.relay, "rc", "rs", SERVER):
        must_be(tiny(client, "cl"), CLIENT, far=True)


@pytest.mark.parametrize("client_id", [True, False])
def test_client_identifier_does_not_matter(scene: Scene, client_id: bool) -> None:
    with skipping():
        must_be(udhcpc(scene.client(), "cl", client_id=client_id), CLIENT)


RENEWING = [
    pytest.param(Udhcpc, id="udhcpc"),
    pytest.param(RenewingDhclient, id="dhclient"),
    pytest.param(Dhcpcd, id="dhcpcd"),
]


@pytest.mark.parametrize("kind_of_client", RENEWING)
def test_renew(scene: Scene, kind_of_client: type[Udhcpc | RenewingDhclient | Dhcpcd]) -> None:
    with skipping(), kind_of_client(scene.client(), "cl") as client:
        must_be(client.lease, CLIENT)
        since = scene.wire_mark()
        must_be(client.renew(), CLIENT)
    scene.saw(flow(f"{CLIENT.near}:68", f"{SERVER}:67"), kind("Request"), since)
    scene.saw(flow(f"{SERVER}:67", f"{CLIENT.near}:68"), kind("ACK"), since)


@pytest.mark.parametrize("kind_of_client", RENEWING)
def test_renew_through_a_relay_that_is_the_router(
    scene: Scene, kind_of_client: type[Udhcpc | RenewingDhclient | Dhcpcd]
) -> None:
    client = scene.client(far=True)
    # The relay hears the routed REQUEST as well: the server gets it twice, and must answer both alike.
    with skipping(), dhcrelay(scene.site.relay, "rc", "rs", SERVER), kind_of_client(client, "cl") as running:
        must_be(running.lease, CLIENT, far=True)
        since = scene.wire_mark()
        must_be(running.renew(), CLIENT, far=True)
    scene.saw(flow(f"{CLIENT.far}:68", f"{SERVER}:67"), kind("Request"), since)
    scene.saw(flow(f"{SERVER}:67", f"{CLIENT.far}:68"), kind("ACK"), since)


@pytest.mark.parametrize(
    "kind_of_client",
    [pytest.param(Udhcpc, id="udhcpc"), pytest.param(Dhclient, id="dhclient"), pytest.param(Dhcpcd, id="dhcpcd")],
)
def test_release_keeps_the_address_for_its_host(scene: Scene, kind_of_client: type[Udhcpc | Dhclient | Dhcpcd]) -> None:
    host = scene.client()
    with skipping(), kind_of_client(host, "cl") as client:
        client.release()
    scene.saw(flow(f"{CLIENT.near}:68", f"{SERVER}:67"), kind("Release"))
    with kind_of_client(host, "cl") as client:
        must_be(client.lease, CLIENT)


@pytest.mark.parametrize("run", [pytest.param(dhclient, id="dhclient"), pytest.param(dhcpcd, id="dhcpcd")])
def test_init_reboot(scene: Scene, run: Callable[..., Lease]) -> None:
    host = scene.client()
    with skipping():
        must_be(run(host, "cl"), CLIENT)
    since = scene.wire_mark()
    again = run(host, "cl")
    must_be(again, CLIENT)
    assert again.raw["event"] == "REBOOT"  # its own word for: I asked for what I remembered, and got it
    scene.saw(flow("0.0.0.0:68", "255.255.255.255:67"), kind("Request"), since)


@pytest.mark.parametrize(
    "remembered",
    [
        pytest.param("10.88.0.99", id="RFC2131-4.3.2-not-its-address"),
        pytest.param(CLIENT.far, id="RFC2131-4.3.2-moved-from-the-other-network"),
        pytest.param(SECOND.near, id="RFC2131-4.3.2-somebody-elses"),
    ],
)
def test_wrong_remembered_address_gets_a_nak_then_a_lease(scene: Scene, remembered: str) -> None:
    host = scene.client()
    dhclient_remembers(host, "cl", remembered)
    with skipping(), Dhclient(host, "cl") as client:
        must_be(client.lease, CLIENT)
        log = client.log()
    assert f"DHCPREQUEST for {remembered}" in log
    assert f"DHCPNAK from {SERVER}" in log
    scene.saw(flow(f"{SERVER}:67", "255.255.255.255:68"), kind("NACK"))


def test_nak_goes_through_the_relay(scene: Scene) -> None:
    host = scene.client(far=True)
    dhclient_remembers(host, "cl", CLIENT.near)
    with skipping(), dhcrelay(scene.site.relay, "rc", "rs", SERVER, option82=True), Dhclient(host, "cl") as client:
        must_be(client.lease, CLIENT, far=True)
        assert "DHCPNAK from" in client.log()
    scene.saw(flow(f"{SERVER}:67", "10.77.0.1:67"), kind("NACK"))


def test_unknown_mac_gets_silence(scene: Scene) -> None:
    with skipping(), pytest.raises(NoLease) as silence:
        udhcpc(scene.client(mac=STRANGER_MAC), "cl", timeout_s=3.0)
    assert "discover" in silence.value.log  # it did ask
    scene.saw(flow("0.0.0.0:68", "255.255.255.255:67"), kind("Discover"))
    assert scene.wire is None or "BOOTP/DHCP, Reply" not in scene.wire.log()


def test_two_hosts_at_once_get_their_own(scene: Scene) -> None:
    hosts = {known: scene.client(known) for known in (CLIENT, SECOND)}
    with skipping(), ThreadPoolExecutor(len(hosts)) as pool:
        leases = {known: pool.submit(udhcpc, host, "cl", broadcast=True) for known, host in hosts.items()}
        for known, lease in leases.items():
            must_be(lease.result(), known)


def test_a_declined_address_stays_with_its_host(scene: Scene) -> None:
    if scene.site.under_test.parks_declined:
        pytest.skip(f"{scene.site.under_test.name} takes a declined address out of use")
    squatter = scene.client(mac=STRANGER_MAC)
    squatter.address("cl", f"{CLIENT.near}/24")
    with skipping(), pytest.raises(NoLease):
        udhcpc(scene.client(), "cl", arp_check=True, timeout_s=3.0)
    scene.saw(flow("0.0.0.0:68", "255.255.255.255:67"), kind("Decline"))
    squatter.close()
    must_be(udhcpc(scene.client(), "cl", arp_check=True), CLIENT)
