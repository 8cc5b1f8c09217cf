"""Real DHCP clients get their lease from the server under test, directly and through a real relay (site: scene.py)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bench.lab.checks import ipconfig
from bench.lab.client import Lease, NoLease
from bench.lab.clients import dhclient, dhcpcd, dhcrelay, tiny, udhcpc
from bench.lab.networkd import networkd
from tests.netns.clients.cases import client, flow, kind, must_be, skipping
from tests.netns.clients.scene import Scene
from tests.netns.clients.servers import CLIENT, ECHOES_ID, SECOND, SERVER, STRANGER_MAC

pytestmark = pytest.mark.netns

CLIENTS = [
    client("udhcpc", udhcpc),
    client("dhclient", dhclient),
    client("dhcpcd", dhcpcd),
    client("systemd-networkd", networkd),
]
FLAGS = [pytest.param(False, id="unicast"), pytest.param(True, id="broadcast")]
RELAYED = [  # broadcast flag, option 82
    pytest.param(False, False, id="unicast plain"),
    pytest.param(False, True, id="unicast option82"),
    pytest.param(True, True, id="broadcast option82"),
]


@pytest.mark.parametrize("broadcast", FLAGS)
@pytest.mark.parametrize("run", [*CLIENTS, client("tiny", tiny)])
def test_direct(scene: Scene, run: Callable[..., Lease], broadcast: bool) -> None:
    with skipping():
        must_be(run(scene.client(), "cl", broadcast=broadcast), CLIENT)
    to = "255.255.255.255" if broadcast else CLIENT.near
    scene.saw(flow(f"{SERVER}:67", f"{to}:68"), kind("ACK"))


@pytest.mark.client("ipconfig")
def test_initramfs(scene: Scene) -> None:
    with skipping():
        must_be(ipconfig(scene.client(), "cl"), CLIENT)


@pytest.mark.parametrize(("broadcast", "option82"), RELAYED)
@pytest.mark.parametrize("run", CLIENTS)
def test_relayed(scene: Scene, run: Callable[..., Lease], broadcast: bool, option82: bool) -> None:
    host = scene.client(far=True)
    with skipping(), dhcrelay(scene.site.relay, "rc", "rs", SERVER, option82=option82):
        must_be(run(host, "cl", broadcast=broadcast), CLIENT, far=True)
    # What the relay put into the request comes back in the reply: a relay may find the client's link by nothing else.
    echoed = r"(?:(?!\n\d\d:\d\d:).)*?Agent-Information" if option82 else ""
    scene.saw(flow(f"{SERVER}:67", "10.77.0.1:67"), kind("ACK") + echoed)


@pytest.mark.parametrize("run", CLIENTS)
def test_link_selection(scene: Scene, run: Callable[..., Lease]) -> None:
    """giaddr is an address of the server's own network; option 82 alone says where the client is (RFC 3527)."""
    host = scene.client(far=True)
    with skipping(), dhcrelay(scene.site.relay, "rc", "rs", SERVER, select=True):
        must_be(run(host, "cl"), CLIENT, far=True)
    scene.saw(flow(f"{SERVER}:67", "10.88.0.2:67"), kind("ACK") + r"(?:(?!\n\d\d:\d\d:).)*?Agent-Information")


@pytest.mark.client("dhclient")
def test_a_client_that_poses_as_a_relay(scene: Scene) -> None:
    host = scene.client()
    host.address("cl", "10.88.0.30/24")
    with skipping():
        must_be(dhclient(host, "cl", relay="10.88.0.30"), CLIENT)
    scene.saw(flow(f"{SERVER}:67", "10.88.0.30:67"), kind("ACK"))


@pytest.mark.client("tiny")
def test_our_own_client_through_the_relay(scene: Scene) -> None:
    host = scene.client(far=True)
    with skipping(), dhcrelay(scene.site.relay, "rc", "rs", SERVER):
        must_be(tiny(host, "cl"), CLIENT, far=True)


DUID = "ff00112233000100012a2a2a2a02e2e0000011"  # RFC 4361: IAID, then a DUID of link layer and time
ANY_DUID, ITS_MAC = "hardware-type 255", f"ether {CLIENT.mac}"


def identifier(name: str, what: str, run: Callable[..., Lease], client_id: bool | str, shown: str) -> Any:
    """shown: tcpdump's words for it, "" when none is sent."""
    return pytest.param(run, client_id, shown, id=f"{name}-{what}", marks=pytest.mark.client(name))


IDENTIFIERS = [
    identifier("udhcpc", "MAC", udhcpc, True, ITS_MAC),
    identifier("udhcpc", "none", udhcpc, False, ""),
    identifier("udhcpc", "DUID", udhcpc, DUID, ANY_DUID),
    identifier("udhcpc", "MAC of another", udhcpc, f"01{SECOND.mac.replace(':', '')}", f"ether {SECOND.mac}"),
    identifier("dhclient", "none", dhclient, False, ""),
    identifier("dhclient", "DUID", dhclient, True, ANY_DUID),
    identifier("dhcpcd", "DUID", dhcpcd, DUID, ANY_DUID),
    identifier("systemd-networkd", "DUID", networkd, True, ANY_DUID),
    identifier("systemd-networkd", "MAC", networkd, "mac", ITS_MAC),
]


@pytest.mark.parametrize(("run", "client_id", "shown"), IDENTIFIERS)
def test_identifier(scene: Scene, run: Callable[..., Lease], client_id: bool | str, shown: str) -> None:
    """The machine counts, not what it calls itself; what it calls itself comes back (RFC 6842)."""
    with skipping():
        must_be(run(scene.client(), "cl", client_id=client_id), CLIENT)
    scene.needs(ECHOES_ID)
    for packet in scene.packets():
        told = [option for option in packet.options if option.startswith("Client-ID (61)")]
        assert len(told) == bool(shown) and all(shown in option for option in told), packet


@pytest.mark.client("udhcpc")
@pytest.mark.parametrize(
    "requested", [pytest.param(SECOND.near, id="somebody else's"), pytest.param("192.0.2.9", id="foreign")]
)
def test_asks_for_a_wrong_address_in_its_discover(scene: Scene, requested: str) -> None:
    with skipping():
        must_be(udhcpc(scene.client(), "cl", requested=requested), CLIENT)
    scene.saw(flow("0.0.0.0:68", "255.255.255.255:67"), rf"Requested-IP \(50\), length 4: {requested}")


@pytest.mark.client("udhcpc")
def test_unknown_mac_gets_silence(scene: Scene) -> None:
    with skipping(), pytest.raises(NoLease) as silence:
        udhcpc(scene.client(mac=STRANGER_MAC), "cl", timeout_s=3.0)
    assert "discover" in silence.value.log  # it did ask
    scene.saw(flow("0.0.0.0:68", "255.255.255.255:67"), kind("Discover"))
    assert not [packet for packet in scene.packets() if packet.reply]


@pytest.mark.client("udhcpc")
def test_two_hosts_at_once_get_their_own(scene: Scene) -> None:
    hosts = {known.mac: (known, scene.client(known)) for known in (CLIENT, SECOND)}
    with skipping(), ThreadPoolExecutor(len(hosts)) as pool:
        leases = [(known, pool.submit(udhcpc, host, "cl", broadcast=True)) for known, host in hosts.values()]
        for known, lease in leases:
            must_be(lease.result(), known)
