"""dhcp.mode = observe beside a real server: nothing of ours on the wire, every difference named; then the switch.

server (dnsmasq) --+
watcher (ours)   --+-- near (10.88.0.0/24) -- clients
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.lab.clients import NoLease, dhclient, missing, tiny, udhcpc
from bench.lab.lab import CommandFailed, Host, Lab, Process, Segment
from bench.lab.site import BOOTSTORM, ENVIRONMENT, RunningSite
from control.messages.capture import read_capture
from control.messages.dissect import dissect

pytestmark = pytest.mark.netns

PRESENT, OURS = "10.88.0.1", "10.88.0.3"
SAME, OTHER, THEIRS, MINE = (f"02:e2:e0:00:00:{number}" for number in (11, 12, 13, 14))
SITE = {
    "networks": [
        {"base": "10.88.0.0", "mask": "255.255.255.0", "gateway": "10.88.0.254"},
        {"base": "10.77.0.0", "mask": "255.255.255.0", "gateway": "10.77.0.254"},
    ],
    "pools": [{"name": "racks", "dhcp": {"enabled": 1, "tftp_server": PRESENT, "tftp_filename": "/boot.0",
                                         "lease_time": 7200}}],
    "hosts": [
        {"name": "alike", "mac": SAME, "addresses": ["10.88.0.11", "10.77.0.11"], "pool": "racks"},
        {"name": "other", "mac": OTHER, "addresses": ["10.88.0.99"], "pool": "racks"},
        {"name": "ours", "mac": MINE, "addresses": ["10.88.0.14"], "pool": "racks"},
    ],
}  # fmt: skip
WAIT_S, START_S = 60.0, 180.0
TRIES = 300  # each question is a process, and paces the loop


def dnsmasq(host: Host, *more: str) -> Process:
    """The present server, as it is by itself: a boot file in option 67 or in the field, as it is asked, T1 and T2 that
    vary, siaddr and broadcast address always.  It knows one host that we do not, and one at another address."""
    argv = ["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--port=0", "--log-dhcp"]
    argv += [f"--dhcp-leasefile={host.scratch}/leases", "--interface=sv", "--bind-interfaces"]
    argv += ["--dhcp-range=10.88.0.0,static,255.255.255.0,7200", f"--dhcp-boot=/boot.0,,{PRESENT}"]
    argv += ["--dhcp-range=set:far,10.77.0.0,static,255.255.255.0,7200", "--dhcp-option=tag:far,3,10.77.0.254"]
    argv += ["--dhcp-option=tag:!far,3,10.88.0.254", f"--dhcp-host={SAME},10.88.0.11,alike"]
    argv += [f"--dhcp-host={OTHER},10.88.0.12,other", f"--dhcp-host={THEIRS},10.88.0.13,theirs", *more]
    process = host.popen(argv)
    process.wait_for("DHCP, static leases only on 10.77", WAIT_S)
    return process


@dataclass(slots=True)
class Beside:
    lab: Lab
    near: Segment
    server: Host
    watcher: Host
    site: RunningSite
    wire: Process
    dnsmasq: Process
    clients: int = 0

    def client(self, mac: str) -> Host:
        self.clients += 1
        host = self.lab.host(f"client{self.clients}")
        self.near.plug(host, "cl", mac=mac)
        return host

    def host(self, mac: str, count: int = 1) -> dict[str, Any]:
        """What `ctl observed` says of a machine once it has seen `count` kinds of exchange of it."""
        found: dict[str, Any] = {}
        for _ in range(TRIES):
            told = self.site.ctl("observed", "--mac", mac)
            if told["hosts"] and len(told["hosts"][0]["stages"]) >= count:
                return dict(told["hosts"][0])
            found = told
        raise AssertionError(f"{mac}: wanted {count} stages, found {found}\n{self.site.host.logs()}")


@pytest.fixture(scope="module")
def beside() -> Iterator[Beside]:
    if reason := Lab.available() or missing("dnsmasq", "tcpdump"):
        pytest.skip(reason)
    with Lab() as lab:
        near, server, watcher = lab.bridge("near"), lab.host("server"), lab.host("watcher")
        near.plug(server, "sv", f"{PRESENT}/24")
        near.plug(watcher, "wa", f"{OURS}/24")
        near.switch.ip("link set br0 type bridge ageing_time 0")  # a hub: everybody hears everything
        present = dnsmasq(server)
        hosts = watcher.scratch / "hosts.yaml"
        hosts.write_text(json.dumps(SITE))
        site = RunningSite(watcher, 2, mode="observe", api_url=f"file://{hosts}")
        site.serve()
        site.await_status(ready, START_S)
        argv = ["tcpdump", "-i", "wa", "-n", "-e", "-l", "--immediate-mode", "-Z", "root", "-Q", "out"]
        wire = watcher.popen([*argv, "udp or icmp"])
        wire.wait_for("listening on", WAIT_S)
        try:
            yield Beside(lab, near, server, watcher, site, wire, present)
        finally:
            site.stop()


def ready(status: dict[str, Any]) -> bool:
    """Every worker answers from the whole table."""
    return status["hosts"] == 3 and all(worker["generation"] for worker in status["workers"])


def differences(found: dict[str, Any]) -> dict[str, tuple[str, dict[str, tuple[str, str]]]]:
    """Stage -> (result, what differs -> (theirs, ours))."""
    return {
        stage["stage"]: (
            stage["result"],
            {each["what"]: (each["theirs"], each["ours"]) for each in stage["differences"]},
        )
        for stage in found["stages"]
    }


def test_a_host_that_both_answer_alike(beside: Beside) -> None:
    assert dhclient(beside.client(SAME), "cl").address == "10.88.0.11"
    found = beside.host(SAME, 2)
    assert found["host"] == "alike"
    assert differences(found) == {"DISCOVER of os on wa": ("same", {}), "REQUEST of os on wa": ("same", {})}
    for stage in found["stages"]:
        reasons = {each["what"]: each["why"] for each in stage["set_aside"]}
        assert reasons["boot file"] == "the same boot file, in another place"
        assert reasons["option 66 tftp_server"] == "the same boot server, in another place"


def test_a_host_that_is_configured_otherwise(beside: Beside) -> None:
    """udhcpc sends a client id, which we repeat (RFC 6842) and dnsmasq does not."""
    assert udhcpc(beside.client(OTHER), "cl").address == "10.88.0.12"
    host = beside.host(OTHER, 2)
    found = differences(host)
    assert found["DISCOVER of os on wa"] == ("different", {"address": ("10.88.0.12", "10.88.0.99")})
    aside = {each["what"]: (each["theirs"], each["ours"]) for each in host["stages"][0]["set_aside"]}
    assert aside["option 61 client_id"] == ("-", f"Ethernet {OTHER}")
    assert found["REQUEST of os on wa"] == ("different", {"message": ("ACK", "NAK")}), "it takes their address"
    log = beside.watcher.logs()
    line = rf"{OTHER} \(other\), DISCOVER of os on wa: address: they say 10\.88\.0\.12, we say 10\.88\.0\.99"
    assert len(re.findall(line, log)) == 1


def test_a_host_that_only_they_know(beside: Beside) -> None:
    assert udhcpc(beside.client(THEIRS), "cl").address == "10.88.0.13"
    found = beside.host(THEIRS, 2)
    assert found["host"] is None
    assert {stage["verdict"] for stage in found["stages"]} == {"IGNORED_UNKNOWN_MAC"}
    silence = "the inventory has no machine with this MAC address"
    assert differences(found)["DISCOVER of os on wa"] == ("only they", {"OFFER": ("10.88.0.13", silence)})


def test_a_host_that_only_we_know(beside: Beside) -> None:
    with pytest.raises(NoLease):
        tiny(beside.client(MINE), "cl", timeout_s=1.0)
    found = beside.host(MINE)  # after the time that the present server has for a reply
    assert differences(found) == {"DISCOVER of os on wa": ("only we", {"OFFER": ("-", "10.88.0.14")})}


def test_what_operators_see(beside: Beside) -> None:
    status = beside.site.await_status(lambda status: (status["observed"] or {}).get("counts", {}).get("only we"))
    hosts = status["observed"]["hosts"]
    assert [hosts[each] for each in ("same", "different", "only they", "only we")] == [1, 1, 1, 1]
    assert status["mode"] == "observe" and status["observed"]["dropped"] == 0
    told = beside.site.ctl("observed")
    assert [row["mac"] for row in told["hosts"]] == [OTHER, THEIRS, MINE]
    assert list(told["totals"]["servers"]) == [PRESENT]
    strictly = beside.site.ctl("observed", "--strict")
    assert [row["mac"] for row in strictly["hosts"]] == [SAME, OTHER, THEIRS, MINE]
    ctl = [*BOOTSTORM, "ctl", "--socket", str(beside.site.console)]
    said = beside.watcher.run([*ctl, "observed"], timeout=WAIT_S, env=ENVIRONMENT).stdout
    assert f"{OTHER} (other)" in said and "address: they say 10.88.0.12, we say 10.88.0.99" in said
    said = beside.watcher.run([*ctl, "status"], timeout=WAIT_S, env=ENVIRONMENT).stdout
    assert re.search(r"observing   \d+ requests, \d+ replies of others: .*; 1 hosts the same, 3 not", said)


def test_workers_decide_count_and_record_and_nothing_of_ours_was_on_the_wire(beside: Beside) -> None:
    status = beside.site.ctl("status")
    assert status["counters"]["OFFERED"] >= 3 and sum(worker["tx"] for worker in status["workers"]) == 0
    lines = beside.watcher.run(
        [*BOOTSTORM, "ctl", "--socket", str(beside.site.console), "recent", "--last", "500"],
        timeout=WAIT_S, env=ENVIRONMENT,
    ).stdout  # fmt: skip
    assert re.search(
        rf"{SAME} \(alike\)  DISCOVER on wa from 0\.0\.0\.0  OFFERED: .*, not sent: dhcp.mode is observe", lines
    )
    assert [line for line in beside.wire.log().splitlines() if " > " in line] == []


def test_a_killed_observer_is_replaced_and_goes_on(beside: Beside) -> None:
    """It loses what it has counted; the table, the socket and the channel to control are its successor's."""
    (pid,) = [pid for pid, words in processes(beside) if words[-2] == "observer"]
    os.kill(pid, signal.SIGKILL)
    beside.site.await_status(lambda status: status["restarts"]["observer"] == 1, START_S)
    assert dhclient(beside.client(SAME), "cl").address == "10.88.0.11"
    assert {result for result, _ in differences(beside.host(SAME, 1)).values()} == {"same"}


def test_an_upgrade_goes_on_observing(beside: Beside) -> None:
    before = {pid for pid, _words in processes(beside)}
    os.kill(beside.site.supervisor(), signal.SIGUSR2)
    fresh = {0, *before}
    beside.site.await_status(
        lambda _status: {words[-2]: pid for pid, words in processes(beside)}.get("observer", 0) not in fresh, START_S
    )
    assert dhclient(beside.client(SAME), "cl").address == "10.88.0.11"
    assert {result for result, _ in differences(beside.host(SAME, 1)).values()} == {"same"}
    assert [line for line in beside.wire.log().splitlines() if " > " in line] == []


def processes(beside: Beside) -> list[tuple[int, list[str]]]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if (folder / "ns/net").stat().st_ino == beside.site.network():
                words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
                found += [(int(folder.name), words)] if words[-2:-1] else []
    return found


def test_on_the_very_machine_of_the_present_server(beside: Beside) -> None:
    """dnsmasq has port 67 there, and would share it with anybody who asks the kernel for that."""
    hosts = beside.server.scratch / "hosts.yaml"
    hosts.write_text(json.dumps(SITE))
    site = RunningSite(beside.server, 1, mode="observe", api_url=f"file://{hosts}")
    try:
        site.serve()
        site.await_status(ready, START_S)
        assert site.server is not None
        assert "another server of this machine has UDP port 67" in site.server.log()
        assert udhcpc(beside.client(OTHER), "cl").address == "10.88.0.12"
        found: dict[str, Any] = {"hosts": []}
        for _ in range(TRIES):
            if (found := site.ctl("observed", "--mac", OTHER))["hosts"]:
                break
        result, offered = differences(found["hosts"][0])["DISCOVER of os on sv"]
        assert (result, offered["address"]) == ("different", ("10.88.0.12", "10.88.0.99"))
        assert site.ctl("status")["workers"][0]["rx"] == 0
    finally:
        site.stop()


def test_the_switch_and_the_recorder_afterwards(beside: Beside) -> None:
    """The last test: the old server goes, we serve, and what the workers said can be read as a capture."""
    beside.dnsmasq.stop()
    config = json.loads(beside.site.config.read_text())
    config["dhcp"]["mode"] = "serve"
    beside.site.config.write_text(json.dumps(config))
    beside.site.stop()
    beside.site.serve()
    beside.site.await_status(ready, START_S)
    lease = udhcpc(beside.client(OTHER), "cl")
    assert (lease.address, lease.server_id) == ("10.88.0.99", OURS)
    path = beside.watcher.scratch / "out.pcap"
    ctl = [*BOOTSTORM, "ctl", "--socket", str(beside.site.console), "recent", "--mac", OTHER.upper()]
    said = beside.watcher.run([*ctl, "--pcap", str(path)], timeout=WAIT_S, env=ENVIRONMENT)
    assert f"{path}: 2 requests, 2 replies of ours" in said.stderr
    datagrams = read_capture(path).datagrams
    kinds = [message.kind if (message := dissect(each.payload)) else "" for each in datagrams]
    assert kinds == ["DISCOVER", "OFFER", "REQUEST", "ACK"]
    assert abs(datagrams[0].time_s - time.time()) < 600
    assert beside.watcher.run(["tcpdump", "-nr", str(path)]).stdout.count("BOOTP/DHCP") == 4
    explained = beside.watcher.run([*BOOTSTORM, "explain", str(path)], timeout=WAIT_S, env=ENVIRONMENT).stdout
    assert "2 requests, 2 replies to them, 4 frames" in explained
    with pytest.raises(CommandFailed, match=r'dhcp\.mode is "serve"'):
        beside.site.ctl("observed")
