"""Independent programs ask the server under test and say what they understood: nmap, dhcping."""

from __future__ import annotations

import pytest

from bench.lab.checks import dhcping, nmap_discover, nmap_inform
from tests.netns.clients.cases import flow, kind, skipping
from tests.netns.clients.scene import Scene
from tests.netns.clients.servers import (
    BOOT_FILE,
    CLIENT,
    DOMAIN,
    MASK,
    NAMES_BOOT_SERVER,
    OWN_RENEWALS_ONLY,
    RENEWS_WITHOUT_MEMORY,
    SERVER,
    STRANGER_MAC,
)

pytestmark = pytest.mark.netns

OPTIONS = {
    "Server Identifier": SERVER,
    "Subnet Mask": MASK,
    "Router": SERVER,
    "Domain Name": DOMAIN,
    "Bootfile Name": BOOT_FILE,
    "TFTP Server Name": SERVER,
    "Hostname": CLIENT.name,
}


@pytest.mark.client("nmap")
def test_nmap_decodes_the_offer(scene: Scene) -> None:
    host = scene.client()
    host.address("cl", "10.88.0.98/24")  # nmap sends nothing from an interface without one
    with skipping():
        told = nmap_discover(host, "cl", CLIENT.mac)
    scene.needs(NAMES_BOOT_SERVER)
    wanted = OPTIONS | {
        "DHCP Message Type": "DHCPOFFER",
        "IP Offered": CLIENT.near,
        "IP Address Lease Time": "2h00m00s",
    }
    assert told | wanted == told


@pytest.mark.client("nmap")
def test_nmap_hears_nothing_for_a_stranger(scene: Scene) -> None:
    host = scene.client()
    host.address("cl", "10.88.0.98/24")
    with skipping():
        assert nmap_discover(host, "cl", STRANGER_MAC) == {}
    scene.saw(r"\S+\.68 > 255\.255\.255\.255\.67", kind("Discover"))


@pytest.mark.client("nmap")
def test_nmap_informs_itself(scene: Scene) -> None:
    host = scene.client()
    host.address("cl", f"{CLIENT.near}/24")
    with skipping():
        told = nmap_inform(host, SERVER)
    scene.needs(NAMES_BOOT_SERVER)
    assert told | OPTIONS | {"DHCP Message Type": "DHCPACK"} == told
    assert "IP Address Lease Time" not in told


@pytest.mark.client("dhcping")
@pytest.mark.parametrize("inform", [pytest.param(False, id="REQUEST and RELEASE"), pytest.param(True, id="INFORM")])
def test_dhcping(scene: Scene, inform: bool) -> None:
    if not inform:
        scene.needs(RENEWS_WITHOUT_MEMORY)
    host = scene.client()
    host.address("cl", f"{CLIENT.near}/24")
    with skipping():
        assert dhcping(host, CLIENT.near, CLIENT.mac, SERVER, inform) == SERVER
    scene.saw(flow(f"{SERVER}:67", f"{CLIENT.near}:68"), kind("ACK"))
    if not inform:
        scene.saw(flow(f"{CLIENT.near}:68", f"{SERVER}:67"), kind("Release"))


@pytest.mark.client("dhcping")
def test_dhcping_for_an_address_of_somebody_else_gets_silence(scene: Scene) -> None:
    scene.needs(OWN_RENEWALS_ONLY)
    host = scene.client()
    host.address("cl", "10.88.0.99/24")
    with skipping():
        assert dhcping(host, "10.88.0.99", CLIENT.mac, SERVER) == ""
