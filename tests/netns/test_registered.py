"""From power to OFFER: a real trap tells of a new machine, and its own DHCP client, asking all the while, is answered.

Nothing is faked: net-snmp sends, `bootstorm serve` registers in `bootstorm inventory`, udhcpc retransmits by itself.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from bench.lab.client import Lease, missing
from bench.lab.clients import Udhcpc
from bench.lab.lab import CommandFailed, Host, Lab, Segment, which
from bench.lab.site import ENVIRONMENT, INVENTORY, RunningSite

pytestmark = pytest.mark.netns

SERVER, SWITCH, NETWORK = "10.88.0.1", "10.88.0.9", "10.88.0"
CHANGED, HISTORY = "1.3.6.1.4.1.9.9.215.2.0.1", "1.3.6.1.4.1.9.9.215.1.1.8.1.2.17"
WAIT_S = 60.0
VLAN = 10
SECRETS = {"auth": "sha", "auth_password": "authpass12", "privacy": "aes", "privacy_password": "privpass12"}
V2C = ["snmptrap", "-v", "2c", "-c", "public"]
V3 = ["snmpinform", "-v", "3", "-u", "sw", "-l", "authPriv", "-a", "SHA", "-A", SECRETS["auth_password"]]
V3 += ["-x", "AES", "-X", SECRETS["privacy_password"], "-r", "5", "-t", "5"]
SITE = f"""
from control.clusto.client import *
connect("http://{INVENTORY}")
IPManager("net-r1", baseip="{NETWORK}.0", netmask="255.255.255.0", gateway="{NETWORK}.254")
SimpleEntityNameManager("servernames", basename="s", digits=4)
pool = Pool("pxeboot")
for subkey, value in (("enabled", 1), ("tftp_server", "{SERVER}"), ("tftp_filename", "/pxelinux.0")):
    pool.set_attr("dhcp", value, subkey=subkey)
rack = BasicRack("r1")
rack.set_attr("snmp", 1, subkey="discovery")
for field, value in (("ru_map", "1-20=1-20"), ("pwr_map", "1-20=1-20"), ("address", "1-20=101-120"),
                     ("ipmanager", "net-r1"), ("bmc_address", "1-20=201-220"), ("bmc_ipmanager", "net-r1"),
                     ("pools", "pxeboot")):
    rack.set_attr("racklayout", value, subkey=field)
switch = BasicNetworkSwitch("r1-sw1")
switch.bind_ip("{SWITCH}")
rack.insert(switch, 41)
rack.insert(BasicPowerStrip("r1-pwr1"), 42)
"""


@dataclass(slots=True)
class Datacenter:
    """One rack's network: the service, the switch that sends traps, a segment for new machines."""

    running: RunningSite
    switch: Host
    segment: Segment
    lab: Lab

    def machine(self, mac: str) -> Host:
        host = self.lab.host(f"machine{mac[-2:]}")
        self.segment.plug(host, "cl", mac=mac)
        return host

    def trap(self, mac: str, port: int, how: list[str]) -> None:
        """The switch has learnt the address.  Returns when net-snmp is through: an inform's when it was answered."""
        history = f"01 {VLAN:04x} {mac.replace(':', '')} {port:04x} 00".replace(" ", "")
        spaced = " ".join(history[at : at + 2] for at in range(0, len(history), 2))
        argv = [*how, SERVER, "12345", CHANGED, HISTORY, "x", spaced]
        state = str(self.switch.scratch)
        self.switch.run(argv, timeout=WAIT_S, env={"MIBS": "", "SNMP_PERSISTENT_DIR": state, "SNMPCONFPATH": state})

    def asked(self, path: str) -> Any:
        """What the inventory answers over HTTP."""
        program = (
            f"import sys, urllib.request as u; sys.stdout.write(u.urlopen('http://{INVENTORY}{path}').read().decode())"
        )
        return json.loads(self.running.host.run([sys.executable, "-c", program], timeout=WAIT_S).stdout)

    def discovered(self, mac: str, *states: str) -> dict[str, Any]:
        """Its row of `ctl discovered` when it has come so far; each question is a process and paces the loop."""
        deadline, said = time.monotonic() + WAIT_S, ""
        while time.monotonic() < deadline:
            try:
                (row,) = self.running.ctl("discovered", "--mac", mac)["machines"]
            except CommandFailed as unknown:
                said = str(unknown)
                continue
            if row["state"] in states:
                return dict(row)
            said = str(row)
        raise AssertionError(f"{mac}: not {' or '.join(states)} within {WAIT_S:.0f} s: {said}")

    def port(self, path: str, kind: str, number: int) -> tuple[str, int]:
        """The other end of a port."""
        (found,) = (p for p in self.asked(f"{path}/ports")["ports"] if (p["type"], p["num"]) == (kind, number))
        return found["other"], found["othernum"]

    def attributes(self, path: str, key: str) -> dict[tuple[str | None, int | None], Any]:
        rows = self.asked(f"{path}/attrs?key={key}&ignore_hidden=")["attrs"]
        return {(row["subkey"], row["number"]): row["value"] for row in rows}


@pytest.fixture(scope="module")
def datacenter() -> Iterator[Datacenter]:
    if reason := Lab.available() or missing("udhcpc"):
        pytest.skip(reason)
    if which("snmptrap") is None:
        pytest.skip("snmptrap is not installed (Debian package snmp)")
    with Lab() as lab:
        segment, server, switch = lab.bridge("segment"), lab.host("server"), lab.host("switch")
        segment.plug(server, "sv", f"{SERVER}/24")
        segment.plug(switch, "sw", f"{SWITCH}/24")
        users = [{"name": "sw", **SECRETS}]
        snmp = {"bind_address": SERVER, "bind_port": 162, "communities": ["public"], "users": users}
        running = RunningSite(server, update_ipmi=True, snmp=snmp)
        running.start_inventory()
        try:
            server.run([sys.executable, "-c", SITE], timeout=WAIT_S, env=ENVIRONMENT)
            running.serve(0)
            assert running.server is not None
            running.server.wait_for("receiving traps", WAIT_S)
            yield Datacenter(running, switch, segment, lab)
        finally:
            running.stop()


def asking(pool: ThreadPoolExecutor, host: Host, **ask: Any) -> Future[Lease]:
    """udhcpc from now on, a DISCOVER a second, until it has its lease."""

    def run() -> Lease:
        with Udhcpc(host, "cl", timeout_s=WAIT_S, **ask) as client:
            return client.lease

    return pool.submit(run)


@pytest.mark.client("udhcpc")
@pytest.mark.parametrize("port, how", [(5, V2C), (6, V3)], ids=["v2c-trap", "v3-authPriv-inform"])
def test_from_power_to_offer(datacenter: Datacenter, port: int, how: list[str]) -> None:
    mac, site = f"02:aa:00:00:00:{port:02x}", datacenter.running
    assert site.server is not None
    strangers = site.ctl("status")["counters"].get("IGNORED_UNKNOWN_MAC", 0)
    with ThreadPoolExecutor(1) as pool:
        lease = asking(pool, datacenter.machine(mac))
        # It has power, and nobody knows it.
        site.await_status(lambda now: now["counters"].get("IGNORED_UNKNOWN_MAC", 0) >= strangers + 2)
        assert not lease.done()
        mark, sent = site.server.mark(), time.monotonic()
        sent_at = datetime.now()  # as the log's lines have it
        datacenter.trap(mac, port, how)
        told_s = time.monotonic() - sent
        found = lease.result(WAIT_S)
        acked_s = time.monotonic() - sent
    line = site.server.wait_for(rf"^.*discovery: {mac} is (s\d+) on r1-sw1 port {port}, confirmed.*$", WAIT_S, mark)
    server = re.search(r" is (s\d+) ", line)
    assert server is not None
    registered_s = (datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f") - sent_at).total_seconds()
    sys.stdout.write(
        f"\n{how[0]} -> ACK in {acked_s:.2f} s: net-snmp through after {told_s:.2f} s, registered after "
        f"{registered_s:.2f} s (1 s of it waits for a hub's other addresses), ACK {acked_s - registered_s:.2f} s later "
        "(udhcpc asks once a second)\n"
    )
    assert (found.address, found.boot_file) == (f"{NETWORK}.{100 + port}", "/pxelinux.0")
    path = f"/server/{server[1]}"
    assert datacenter.port(path, "nic-eth", 1) == ("/networkswitch/r1-sw1", port)
    assert datacenter.port(path, "pwr-nema-5", 1) == ("/powerstrip/r1-pwr1", port)
    assert datacenter.port("/networkswitch/r1-sw1", "nic-eth", port) == (path, 1)
    assert datacenter.port("/powerstrip/r1-pwr1", "pwr-nema-5", port) == (path, 1)
    assert datacenter.attributes("/rack/r1", "_contains")["ru", port] == path
    assert datacenter.attributes("/networkswitch/r1-sw1", "port-nic-eth")["vlan", port] == VLAN
    assert datacenter.attributes(path, "port-nic-eth")["mac", 1] == mac
    assert datacenter.attributes(path, "ip")["ipstring", 0] == f"{NETWORK}.{100 + port}"
    assert sorted(datacenter.asked(path)["parents"]) == ["/pool/pxeboot", "/rack/r1"]
    assert found.seconds < WAIT_S and acked_s < 15.0, "the next retransmission, not the next refresh"


@pytest.mark.client("udhcpc")
@pytest.mark.parametrize(
    "port, as_bmc",
    [
        pytest.param(7, {"vendor_class": "udhcp 0.9.9-pre"}, id="by-its-vendor-class"),
        pytest.param(8, {"client_id": "0102aa000000f8"}, id="by-a-client-id-with-its-own-mac"),
    ],
)
def test_a_bmc_and_its_host_behind_one_nic(datacenter: Datacenter, port: int, as_bmc: dict[str, str]) -> None:
    """One switch port, one MAC address in all frames, two machines: each gets its own address, and is recorded."""
    mac = f"02:aa:00:00:00:{port:02x}"
    nic = datacenter.machine(mac)
    datacenter.trap(mac, port, V2C)
    server = datacenter.discovered(mac, "registered")["server"]
    with ThreadPoolExecutor(1) as pool:
        asks = asking(pool, nic, **as_bmc)
        while not any("ctl adopt" in note for note in datacenter.discovered(mac, "registered")["notes"]):
            assert not asks.done(), "one request, which anybody can forge, makes no BMC of a MAC"
        datacenter.running.ctl("adopt", mac)
        card = asks.result(WAIT_S)
        recorded = datacenter.attributes(f"/server/{server}", "port-nic-eth")
        assert (recorded["ipmi-mac", 1], ("mac", 1) in recorded) == (mac, False), "nothing but its BMC has asked so far"
        rom = asking(pool, nic, vendor_class="PXEClient:Arch:00000:UNDI:002001").result(WAIT_S)
        again = asking(pool, nic, **as_bmc).result(WAIT_S)
        system = asking(pool, nic).result(WAIT_S)
    assert [lease.address for lease in (card, again)] == [f"{NETWORK}.{200 + port}"] * 2
    assert [lease.address for lease in (rom, system)] == [f"{NETWORK}.{100 + port}"] * 2
    assert (rom.boot_file, card.hostname) == ("/pxelinux.0", "")
    recorded = datacenter.attributes(f"/server/{server}", "port-nic-eth")
    assert (recorded["mac", 1], recorded["ipmi-mac", 1]) == (mac, mac)
    bound = datacenter.attributes(f"/server/{server}", "ip")
    names = {bound["osportname", number]: bound["ipstring", number] for subkey, number in bound if subkey == "ipstring"}
    assert names == {"eth0": f"{NETWORK}.{100 + port}", "ipmi": f"{NETWORK}.{200 + port}"}
    assert datacenter.discovered(mac, "confirmed", "known")["roles"] == ["bmc", "boot", "host"]


@pytest.mark.client("udhcpc")
def test_a_card_that_shares_its_host_s_nic_is_answered_and_recorded_nowhere(datacenter: Datacenter) -> None:
    """What anybody could forge in the host's name has its own address as the answer, and no more."""
    mac = "02:aa:00:00:00:09"
    nic = datacenter.machine(mac)
    datacenter.trap(mac, 9, V2C)
    server = datacenter.discovered(mac, "registered")["server"]
    with ThreadPoolExecutor(1) as pool:
        rom = asking(pool, nic, vendor_class="PXEClient:Arch:00000:UNDI:002001").result(WAIT_S)
        card = asking(pool, nic, vendor_class="udhcp 0.9.9-pre").result(WAIT_S)
    assert (rom.address, card.address) == (f"{NETWORK}.109", f"{NETWORK}.209")
    recorded = datacenter.attributes(f"/server/{server}", "port-nic-eth")
    assert (recorded["mac", 1], ("ipmi-mac", 1) in recorded) == (mac, False)
