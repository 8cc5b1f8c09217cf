"""Real DHCP clients after their first lease: renewing, rebinding, rebooting, refused, released, declined, informed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from bench.lab.client import Lease, NoLease, unreachable
from bench.lab.clients import (
    Dhclient,
    Dhcpcd,
    RenewingDhclient,
    Udhcpc,
    dhclient,
    dhclient_remembers,
    dhcpcd,
    dhcrelay,
    udhcpc,
)
from bench.lab.networkd import Networkd
from tests.netns.clients.cases import client, flow, kind, must_be, skipping
from tests.netns.clients.scene import Scene
from tests.netns.clients.servers import (
    CLIENT,
    INFORMS_WITHOUT_LEASE,
    KEEPS_DECLINED,
    SAME_TWICE,
    SECOND,
    SERVER,
    SHORT,
    STRANGER_MAC,
    Known,
)

pytestmark = pytest.mark.netns

END = "END (255), length 0"  # of a packet that tcpdump has written to its end

RENEWING = [  # what makes it renew, and the host that it does it as
    client("udhcpc", Udhcpc, Udhcpc.renew, CLIENT),
    client("dhclient", RenewingDhclient, RenewingDhclient.next_lease, CLIENT),
    client("dhcpcd", Dhcpcd, Dhcpcd.renew, CLIENT),
    client("systemd-networkd", Networkd, Networkd.next_lease, SHORT),  # it has no command for it without D-Bus
]


def served(scene: Scene, known: Known) -> Known:
    """The host, where the server under test has leases as short as it wants."""
    if known.lease_s < scene.site.under_test.shortest_lease_s:
        pytest.skip(f"{scene.site.under_test.name} has no lease of {known.lease_s} s")
    return known


@pytest.mark.parametrize(("start", "renew", "known"), RENEWING)
def test_renew(scene: Scene, start: Any, renew: Callable[[Any], Lease], known: Known) -> None:
    with skipping(), start(scene.client(served(scene, known)), "cl") as running:
        must_be(running.lease, known)
        since = scene.wire_mark()
        must_be(renew(running), known)
    scene.saw(flow(f"{known.near}:68", f"{SERVER}:67"), kind("Request"), since)
    scene.saw(flow(f"{SERVER}:67", f"{known.near}:68"), kind("ACK"), since)


@pytest.mark.parametrize(("start", "renew", "known"), RENEWING)
def test_renew_through_a_relay_that_is_the_router(
    scene: Scene, start: Any, renew: Callable[[Any], Lease], known: Known
) -> None:
    """The relay hears the routed REQUEST as well: the server gets it twice, and must answer both alike."""
    host = scene.client(served(scene, known), far=True)
    with skipping(), dhcrelay(scene.site.relay, "rc", "rs", SERVER), start(host, "cl") as running:
        must_be(running.lease, known, far=True)
        since = scene.wire_mark()
        must_be(renew(running), known, far=True)
        scene.saw(flow(f"{known.far}:68", f"{SERVER}:67"), kind("Request"), since)
        whole = rf"{kind('ACK')}(?:(?!\n\d\d:\d\d:).)*?{re.escape(END)}\n"
        scene.saw(flow(f"{SERVER}:67", f"{known.far}:68"), whole, since)
        scene.saw(flow(f"{SERVER}:67", "10.77.0.1:67"), whole, since)
    scene.needs(SAME_TWICE)
    replies = [packet for packet in scene.packets(since) if packet.reply and packet.options[-1:] == (END,)]
    answers = {(packet.message, packet.address, packet.options) for packet in replies}
    assert len(answers) <= 1, "direct and relayed differ"


REBINDING = [
    client("udhcpc", Udhcpc, Udhcpc.next_lease),
    client("dhclient", Dhclient, Dhclient.next_lease),
    client("dhcpcd", Dhcpcd, Dhcpcd.next_lease),
    client("systemd-networkd", Networkd, Networkd.next_lease),
]


@pytest.mark.parametrize(("start", "rebind"), REBINDING)
def test_rebind(scene: Scene, start: Any, rebind: Callable[[Any], Lease]) -> None:
    """Its server does not hear its renewals any more: at T2 it asks everybody."""
    host = scene.client(served(scene, SHORT))
    with skipping(), start(host, "cl", timeout_s=float(SHORT.lease_s)) as running:
        must_be(running.lease, SHORT)
        with unreachable(host, "cl", SERVER):
            since = scene.wire_mark()
            must_be(rebind(running), SHORT)
    scene.saw(r"\S+\.68 > 255\.255\.255\.255\.67", kind("Request"), since)  # networkd leaves its address out
    scene.saw(flow(f"{SERVER}:67", f"{SHORT.near}:68"), kind("ACK"), since)


@pytest.mark.client("dhcpcd")
def test_rebind_on_command(scene: Scene) -> None:
    with skipping(), Dhcpcd(scene.client(), "cl") as running:
        since = scene.wire_mark()
        must_be(running.rebind(), CLIENT)
    scene.saw(flow(f"{CLIENT.near}:68", "255.255.255.255:67"), kind("Request"), since)


@pytest.mark.parametrize(
    "start",
    [
        client("udhcpc", Udhcpc),
        client("dhclient", Dhclient),
        client("dhcpcd", Dhcpcd),
        client("systemd-networkd", Networkd),
    ],
)
def test_release_keeps_the_address_for_its_host(scene: Scene, start: Any) -> None:
    host = scene.client()
    with skipping(), start(host, "cl") as running:
        running.release()
    scene.saw(flow(f"{CLIENT.near}:68", f"{SERVER}:67"), kind("Release"))
    with start(host, "cl") as running:
        must_be(running.lease, CLIENT)


@pytest.mark.parametrize("run", [client("dhclient", dhclient), client("dhcpcd", dhcpcd)])
def test_init_reboot(scene: Scene, run: Callable[..., Lease]) -> None:
    host = scene.client()
    with skipping():
        must_be(run(host, "cl"), CLIENT)
    since = scene.wire_mark()
    again = run(host, "cl")
    must_be(again, CLIENT)
    assert again.raw["event"] == "REBOOT"  # its own word for: I asked for what I remembered, and got it
    scene.saw(flow("0.0.0.0:68", "255.255.255.255:67"), kind("Request"), since)


@pytest.mark.client("dhclient")
@pytest.mark.parametrize(
    "remembered",
    [
        pytest.param("10.88.0.99", id="RFC2131 4.3.2 not its address"),
        pytest.param(CLIENT.far, id="RFC2131 4.3.2 moved from the other network"),
        pytest.param(SECOND.near, id="RFC2131 4.3.2 somebody else's"),
    ],
)
def test_wrong_remembered_address_gets_a_nak_then_a_lease(scene: Scene, remembered: str) -> None:
    host = scene.client()
    dhclient_remembers(host, "cl", remembered)
    with skipping(), Dhclient(host, "cl") as running:
        must_be(running.lease, CLIENT)
        log = running.log()
    assert f"DHCPREQUEST for {remembered}" in log
    assert f"DHCPNAK from {SERVER}" in log
    scene.saw(flow(f"{SERVER}:67", "255.255.255.255:68"), kind("NACK"))


@pytest.mark.client("dhcpcd")
def test_moved_to_another_network(scene: Scene) -> None:
    """It remembers its address behind the relay, wakes up beside the server, is refused and gets the right one."""
    host = scene.client(far=True)
    with skipping(), dhcrelay(scene.site.relay, "rc", "rs", SERVER):
        must_be(dhcpcd(host, "cl"), CLIENT, far=True)
    host.ip("link delete cl")
    scene.site.near.plug(host, "cl", mac=CLIENT.mac)
    must_be(dhcpcd(host, "cl"), CLIENT)
    scene.saw(flow(f"{SERVER}:67", "255.255.255.255:68"), kind("NACK"))


@pytest.mark.client("dhclient")
def test_nak_goes_through_the_relay(scene: Scene) -> None:
    host = scene.client(far=True)
    dhclient_remembers(host, "cl", CLIENT.near)
    with skipping(), dhcrelay(scene.site.relay, "rc", "rs", SERVER, option82=True), Dhclient(host, "cl") as running:
        must_be(running.lease, CLIENT, far=True)
        assert "DHCPNAK from" in running.log()
    scene.saw(flow(f"{SERVER}:67", "10.77.0.1:67"), kind("NACK"))


@pytest.mark.parametrize(
    ("run", "how"),
    [
        client("udhcpc", udhcpc, {"arp_check": True}),
        client("dhcpcd", dhcpcd, {"arp_check": True}),
        client("dhclient", dhclient, {"refuse": True}),  # probes nothing by itself: its hook has the say
    ],
)
def test_a_declined_address_stays_with_its_host(scene: Scene, run: Callable[..., Lease], how: dict[str, Any]) -> None:
    scene.needs(KEEPS_DECLINED)
    squatter = scene.client(mac=STRANGER_MAC)
    squatter.address("cl", f"{CLIENT.near}/24")
    with skipping(), pytest.raises(NoLease):
        run(scene.client(), "cl", timeout_s=4.0, **how)
    scene.saw(flow("0.0.0.0:68", "255.255.255.255:67"), kind("Decline"))
    squatter.close()
    must_be(run(scene.client(), "cl"), CLIENT)


@pytest.mark.client("dhcpcd")
def test_inform(scene: Scene) -> None:
    with skipping():
        lease = dhcpcd(scene.client(), "cl", inform=f"{CLIENT.near}/24", timeout_s=20.0)
    assert (lease.server_id, lease.router, lease.domain) == (SERVER, SERVER, "example.org")
    scene.saw(flow(f"{CLIENT.near}:68", "255.255.255.255:67"), kind("Inform"))
    scene.saw(flow(f"{SERVER}:67", f"{CLIENT.near}:68"), kind("ACK"))
    scene.needs(INFORMS_WITHOUT_LEASE)
    assert lease.lease_time == 0, "an ACK to INFORM has no lease"
