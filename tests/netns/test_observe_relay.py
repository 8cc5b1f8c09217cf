"""dhcp.mode = observe as a further helper address of a relay: the present server's replies go elsewhere, clients tell.

client --rc-- relay --rs-- server (dnsmasq, 10.88.0.1)
                    --ro-- watcher (ours, 10.66.0.1)
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from bench.lab.clients import missing, udhcpc
from bench.lab.lab import Lab
from bench.lab.site import RunningSite
from tests.netns.test_observe import OTHER, PRESENT, SAME, SITE, START_S, TRIES, differences, dnsmasq, ready

pytestmark = pytest.mark.netns

OURS = "10.66.0.1"
FAR = {SAME: "10.77.0.11", OTHER: "10.77.0.12"}  # as dnsmasq hands them out


@pytest.fixture(scope="module")
def site() -> Iterator[RunningSite]:
    if reason := Lab.available() or missing("dnsmasq", "dhcrelay"):
        pytest.skip(reason)
    with Lab() as lab:
        server, watcher, relay = lab.host("server"), lab.host("watcher"), lab.host("relay")
        lab.wire(server, relay, a_if="sv", b_if="rs", a_addr=f"{PRESENT}/24", b_addr="10.88.0.2/24")
        lab.wire(watcher, relay, a_if="wa", b_if="ro", a_addr=f"{OURS}/24", b_addr="10.66.0.2/24")
        far = lab.bridge("far")
        far.plug(relay, "rc", "10.77.0.1/24")
        relay.sysctl("net.ipv4.ip_forward", 1)
        server.route("10.77.0.0/24", "10.88.0.2")
        dnsmasq(server, *(f"--dhcp-host={mac},{address}" for mac, address in FAR.items()))
        argv = ["dhcrelay", "-4", "-d", "--no-pid", "-iu", "rs", "-iu", "ro", "-id", "rc", PRESENT, OURS]
        relay.popen(argv).wait_for(r"^Sending on +Socket/", START_S)  # the last that it says before it serves
        hosts = watcher.scratch / "hosts.yaml"
        hosts.write_text(json.dumps(SITE))
        running = RunningSite(watcher, 1, mode="observe", api_url=f"file://{hosts}")
        running.serve()
        running.await_status(ready, START_S)
        for number, mac in enumerate(FAR):
            client = lab.host(f"client{number}")
            far.plug(client, "cl", mac=mac)
            assert udhcpc(client, "cl").address == FAR[mac]
        yield running
        running.stop()


def stages(running: RunningSite, mac: str) -> dict[str, tuple[str, dict[str, tuple[str, str]]]]:
    """Of both its requests, once the time for replies is over."""
    for _ in range(TRIES):
        hosts = running.ctl("observed", "--mac", mac)["hosts"]
        if hosts and len(hosts[0]["stages"]) == 2:
            assert {stage["by"] for stage in hosts[0]["stages"] if stage["result"] != "not seen"} == {"request"}
            return differences(hosts[0])
    raise AssertionError(f"{mac}: {running.ctl('observed')}\n{running.host.logs()}")


def test_an_address_that_was_taken_is_the_one_that_we_would_give(site: RunningSite) -> None:
    assert stages(site, SAME) == {
        "DISCOVER of os by relay 10.77.0.1": ("not seen", {}),
        "REQUEST of os by relay 10.77.0.1": ("same", {}),
    }


def test_an_address_that_we_would_not_give(site: RunningSite) -> None:
    result, found = stages(site, OTHER)["REQUEST of os by relay 10.77.0.1"]
    assert result == "different" and found["address"][0] == "10.77.0.12"
    totals = site.ctl("observed")["totals"]
    assert totals["servers"] == {} and totals["counts"]["told by requests"] == 2
    assert sum(worker["tx"] for worker in site.ctl("status")["workers"]) == 0
