"""Traps into the running service: real senders, a burst, deaths, reloads, upgrades, and `ctl status` all the while."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from control.cli.ctl import render_traps
from control.discovery.traps.queue import DROPS
from tests.control.discovery.traps.messages import (  # fmt: skip
    AS_SW1,
    LEARNT,
    SENDER_ENGINE,
    mac_trap,
    needs_net_snmp,
    numbered,
    recorded,
    snmptrap,
)
from tests.control.serving import WAIT_S, Running, serving
from tests.ext.captures import datagrams
from tests.ports import free_port

HOSTS = "base,mask,gateway\n10.1.0.0,255.255.255.0,10.1.0.1\n\nname,mac,address,dhcp.enabled\n"
HOSTS += "h1,02:00:00:00:00:01,10.1.0.11,1\n"
SECRETS = {"auth": "sha", "auth_password": "authpass12", "privacy": "aes", "privacy_password": "privpass12"}
USERS = [{"name": "sw1", "engine_id": SENDER_ENGINE, **SECRETS}, {"name": "mgr1", **SECRETS}]
BURST = 20_000
MAC = "01 00 0a 02 e2 e0 00 00 {:02x} 00 05 00"


@pytest.fixture(scope="module", autouse=True)
def _may() -> None:
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0).close()
    except PermissionError:
        pytest.skip("no CAP_NET_RAW for the service's packet socket; run as root, or inside `unshare -rn`")


class Site:
    """The service and a sender on loopback."""

    def __init__(self, running: Running, folder: Path, port: int) -> None:
        self.running, self.folder, self.port = running, folder, port
        self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sender.connect(("127.0.0.1", port))

    def traps(self) -> dict[str, Any]:
        found: dict[str, Any] = self.running.status()["traps"]
        return found

    def send(self, *contents: bytes) -> None:
        for content in contents:
            self.sender.send(content)

    def await_traps(self, good: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Polls the status, which has no event to wait for; bounded."""
        deadline, found = time.monotonic() + WAIT_S, {}
        while time.monotonic() < deadline:
            found = self.traps()
            if good(found):
                return found
            time.sleep(0.02)
        raise AssertionError(f"not within {WAIT_S:.0f} s; last seen: {found}")

    def settled(self, total: int) -> dict[str, Any]:
        """When `total` datagrams are dealt with in one way or another."""
        return self.await_traps(lambda now: now["queued"] == 0 and now["received"] + lost(now) >= total)


def lost(traps: dict[str, Any]) -> int:
    return int(traps["dropped"].get("kernel", 0))


def accounted(traps: dict[str, Any]) -> int:
    """Every datagram that was received counts as exactly one of these."""
    dropped = sum(count for reason, count in traps["dropped"].items() if reason in DROPS)
    return int(traps["decoded"] + traps["unknown"] + traps["discoveries"] + traps["queued"] + dropped)


@contextmanager
def receiving(folder: Path, **snmp: Any) -> Iterator[Site]:
    (folder / "hosts.csv").write_text(HOSTS)
    port = free_port()
    section = {"bind_address": "127.0.0.1", "bind_port": port, "communities": ["public"], "users": USERS}
    with serving(folder, f"file://{folder}/hosts.csv", section | snmp) as running:
        running.wait_for("generation 1: 1 hosts|receiving traps; 0 are queued")  # whichever comes first
        running.wait_for("generation 1: 1 hosts|receiving traps; 0 are queued")
        yield Site(running, folder, port)


def test_captures_and_real_senders(tmp_path: Path) -> None:
    needs_net_snmp()
    as_mgr1 = ["-Ci", "-r", "2", "-t", "20", "-u", "mgr1", *AS_SW1[4:], "-l", "authPriv"]
    with receiving(tmp_path) as site:
        for name in ("trap-v2c", "trap-v2c-3macs", "trap-v2c-badcommunity", "trap-linkup-v2c", "trap-v3", "inform-v2c"):
            site.send(next(datagrams(f"snmp-{name}")).payload)
        now = site.settled(6)
        assert (now["decoded"], now["unknown"], now["dropped"]) == (4, 1, {"community": 1})
        assert now["seen"] + now["repeated"] == 1 + 3 + 3 + 3
        senders = [
            ["-v", "1", "-c", "public"],
            ["-v", "2c", "-c", "public"],
            ["-v", "2c", "-c", "public", "-Ci", "-r", "2", "-t", "20"],
            ["-v", "3", *AS_SW1, "-l", "authPriv", "-Z", "2000000000,123"],
            ["-v", "3", *as_mgr1],
        ]
        for number, arguments in enumerate(senders):
            snmptrap(tmp_path, site.port, *arguments, history=MAC.format(0x80 + number))
        done = site.await_traps(lambda then: then["decoded"] == 4 + len(senders))
        assert done["seen"] == now["seen"] + len(senders)
        assert (done["discoveries"], done["unanswered"]) == (1, 0)
        assert snmptrap(tmp_path, site.port, *senders[2][:3], "wrong", "-Ci", "-r", "0", "-t", "1", check=False) == 1
        assert snmptrap(tmp_path, site.port, "-v", "3", "-Ci", "-r", "0", "-t", "1", "-u", "nobody", check=False) == 1
        last = site.await_traps(lambda then: then["dropped"].get("community") == 2)
        assert (last["seen"], accounted(last)) == (done["seen"], last["received"])
        assert "not used: a community that snmp.communities does not have" in site.running.wait_for(
            "trap from 127.0.0.1"
        )


def test_nobody_to_believe_is_said_by_check_log_and_status(tmp_path: Path) -> None:
    with receiving(tmp_path, communities=[], users=[]) as site:
        site.send(numbered(1))
        now = site.await_traps(lambda now: now["dropped"].get("unbelieved") == 1)
        assert now["seen"] == 0 and 'set it to ["*"] to believe any' in now["advice"]
        assert any("BELIEVED FROM NOBODY" in line for line in render_traps(now))
        site.running.wait_for("not used: nobody is believed")
        argv = [sys.executable, "-P", "-m", "control", "check", "-c", str(tmp_path / "services.conf")]
        checked = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
        assert "good" in checked.stdout and 'set it to ["*"]' in checked.stderr
        conf = tmp_path / "services.conf"
        content = json.loads(conf.read_text())
        conf.write_text(json.dumps(content | {"snmp": content["snmp"] | {"communities": ["*"]}}))
        site.running.process.send_signal(signal.SIGHUP)
        site.running.wait_for("communities, users and proxies are those of the reloaded configuration")
        site.send(mac_trap(LEARNT, community=b"anything"))
        assert not site.await_traps(lambda now: now["seen"] == 1)["advice"]


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    """The most that it ever had."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def waited_s(pid: int) -> float:
    """For a core of the machine, ready to run."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def test_a_burst_of_20000(tmp_path: Path) -> None:
    """Each MAC address at a port of its own: every one of them is a machine that discovery has to think of."""
    with receiving(tmp_path) as site:
        contents = [numbered(number, 1 + number) for number in range(BURST)]
        receiver, control = site.running.child("traps"), site.running.child("run")
        before_cpu, before_mb, before_wait = cpu_s(receiver), memory_mb(control), waited_s(control)
        started = time.monotonic()
        site.send(*contents)
        sent_s = time.monotonic() - started
        asked = []

        def through(now: dict[str, Any]) -> bool:
            return bool(now["queued"] == 0 and now["received"] + lost(now) >= BURST)

        now: dict[str, Any] = {}
        while time.monotonic() - started < WAIT_S and not through(now := site.traps()):
            before = time.monotonic()
            site.traps()
            asked.append(time.monotonic() - before)
        took_s, spent_s = time.monotonic() - started, cpu_s(receiver) - before_cpu
        # Discovery is at the machines still; they settle a second after their traps.
        ends = time.monotonic() + 3.0
        while time.monotonic() < ends:
            before = time.monotonic()
            machines = site.running.status()["discovery"]["machines"]
            asked.append(time.monotonic() - before)
        asked.sort()
        median, late, most = (asked[int(share * (len(asked) - 1))] * 1000 for share in (0.5, 0.99, 1.0))
        grown_mb = memory_mb(control) - before_mb
        sys.stdout.write(
            f"\n{BURST} traps sent in {sent_s:.2f} s, through after {took_s:.2f} s: {now['received']} received, "
            f"{now['decoded']} decoded, {now['seen']} MAC addresses, {lost(now)} dropped by the kernel, "
            f"{now['dropped']}; {machines} machines; receiver {spent_s:.2f} s of CPU ({BURST / spent_s:.0f} a second); "
            f"status asked {len(asked)} times, median {median:.1f} ms, 99 % {late:.1f} ms, most {most:.1f} ms, "
            f"while control waited {waited_s(control) - before_wait:.2f} s for a core; "
            f"memory: receiver {memory_mb(receiver):.0f} MB, control {memory_mb(control):.0f} MB, {grown_mb:.0f} of it "
            f"by the burst; load {os.getloadavg()[0]:.1f}\n"
        )
        assert now["received"] + lost(now) == BURST, "none lost uncounted"
        assert accounted(now) == now["received"] == now["decoded"] == now["seen"]
        assert machines == now["seen"]
        assert BURST / spent_s > 2000 and grown_mb < 100
        assert median < 50, "control's loop is held up"
        if os.geteuid() == 0:  # else net.core.rmem_max decides
            assert lost(now) == 0


def test_bad_input_is_counted_and_the_service_goes_on(tmp_path: Path) -> None:
    good = numbered(1)
    bad = [b"", b"x", good[:50], bytes(65507), b"\x30\x80" * 30000, mac_trap(b"\1\2", community=b"guess"), b"0\x84" * 9]
    with receiving(tmp_path) as site:
        for _turn in range(50):
            site.send(*bad)
        site.send(good)
        now = site.settled(50 * len(bad) + 1)
        assert now["dropped"] == {"malformed": 250, "too_large": 50, "community": 50}
        assert (now["decoded"], now["seen"], accounted(now)) == (1, 1, now["received"])


@pytest.mark.faults
def test_killed_receivers_lose_nothing(tmp_path: Path) -> None:
    """At most the datagram that each of them was taking from the kernel; here there is a successor's queue besides."""
    kills, share = 5, BURST // 6
    with receiving(tmp_path) as site:
        for turn in range(kills):
            site.send(*(numbered(number) for number in range(turn * share, (turn + 1) * share)))
            os.kill(site.running.child("traps"), signal.SIGKILL)
            site.running.wait_for("receiving traps; [0-9]+ are queued from before")
        site.send(*(numbered(number) for number in range(kills * share, BURST // 6 * 6)))
        total = BURST // 6 * 6
        now = site.settled(total - kills)
        gone = total - now["received"] - lost(now)
        sys.stdout.write(
            f"\n{kills} receivers killed during {total} traps: {now['received']} received, {now['decoded']} decoded, "
            f"{now['seen']} MAC addresses, {lost(now)} dropped by the kernel, {gone} gone with the dead\n"
        )
        assert 0 <= gone <= kills
        assert now["decoded"] == now["received"] == accounted(now)
        assert site.running.status()["restarts"]["traps"] == kills


@pytest.mark.faults
def test_a_killed_control_finds_what_was_said_meanwhile(tmp_path: Path) -> None:
    with receiving(tmp_path) as site:
        control = site.running.child("run")
        os.kill(control, signal.SIGSTOP)
        site.send(*(numbered(number) for number in range(8000)))
        os.kill(control, signal.SIGKILL)
        now = site.await_traps(lambda now: now["seen"] == 8000)
        assert now["queued"] == 0, "it waited in the channel, and behind it in the queue"


def test_reload(tmp_path: Path) -> None:
    """Communities, users and proxies at once; address and port with a restart."""
    with receiving(tmp_path) as site:
        other = mac_trap(bytes.fromhex("01000a02e2e0000022000500"), community=b"other")
        site.send(other)
        site.await_traps(lambda now: now["dropped"].get("community") == 1)
        conf = tmp_path / "services.conf"
        content = json.loads(conf.read_text())
        content["snmp"]["communities"] = ["other"]
        content["snmp"]["proxies"] = ["127.0.0.0/8"]
        conf.write_text(json.dumps(content))
        site.running.process.send_signal(signal.SIGHUP)
        site.running.wait_for("communities, users and proxies are those of the reloaded configuration")
        site.send(other, numbered(1))
        now = site.await_traps(lambda now: now["dropped"].get("community") == 2)
        assert now["seen"] == 1
        content["snmp"]["bind_port"] = free_port()
        conf.write_text(json.dumps(content))
        site.running.process.send_signal(signal.SIGHUP)
        assert "needs a restart: the trap socket" in site.running.wait_for("not reloaded: snmp.bind_port")


@pytest.mark.faults
def test_upgrade(tmp_path: Path) -> None:
    """The socket, the queue and the counters stay; the senders of SNMPv3 find the same engine."""
    with receiving(tmp_path) as site:
        site.send(*(numbered(number) for number in range(100)))
        site.settled(100)
        kept = json.loads((tmp_path / "state" / "snmp-engine").read_text())
        before = site.running.child("traps")
        site.running.process.send_signal(signal.SIGUSR2)
        site.send(*(numbered(number) for number in range(100, 3000)))
        site.running.wait_for("receiving traps; [0-9]+ are queued from before")
        now = site.settled(3000)
        assert (now["received"], now["seen"], site.running.child("traps") != before) == (3000, 3000, True)
        again = json.loads((tmp_path / "state" / "snmp-engine").read_text())
        assert (again["id"], again["boots"]) == (kept["id"], kept["boots"] + 1)


@pytest.mark.faults
def test_a_replayed_v3_trap_is_refused_by_a_successor_too(tmp_path: Path) -> None:
    clocks = ("9,5000", "9,4000", "9,5100")
    late, early, later = (recorded(tmp_path, "-v", "3", *AS_SW1, "-l", "authPriv", "-Z", clock) for clock in clocks)
    with receiving(tmp_path) as site:
        site.send(late)
        site.await_traps(lambda now: now["decoded"] == 1)
        site.running.process.send_signal(signal.SIGUSR2)  # the receiver is asked to stop, and saves its clocks
        site.running.wait_for("receiving traps")
        site.send(early, later)
        now = site.settled(3)
        assert (now["dropped"], now["decoded"]) == ({"window": 1}, 2)


def test_a_port_that_is_taken_costs_the_traps_and_not_the_service(tmp_path: Path) -> None:
    (tmp_path / "hosts.csv").write_text(HOSTS)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        snmp = {"bind_address": "127.0.0.1", "bind_port": other.getsockname()[1]}
        with serving(tmp_path, f"file://{tmp_path}/hosts.csv", snmp) as running:
            assert "no traps: cannot receive traps on 127.0.0.1" in running.wait_for("bootstorm.supervisor: no traps")
            running.wait_for("generation 1: 1 hosts")
            traps = running.status()["traps"]
            assert traps["state"] == "failed"
            assert f"UDP port {snmp['bind_port']}: Address already in use" in traps["reason"]


def test_without_a_section_nothing_listens(tmp_path: Path) -> None:
    (tmp_path / "hosts.csv").write_text(HOSTS)
    with serving(tmp_path, f"file://{tmp_path}/hosts.csv") as running:
        running.wait_for("generation 1: 1 hosts")
        assert running.status()["traps"] == {"state": "off", "reason": "services.conf has no section snmp"}
        with pytest.raises(KeyError, match="traps"):
            running.child("traps")
