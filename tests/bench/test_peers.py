"""The comparison with other servers: one table of hosts, right configurations, no figure for a wrong answer."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import yaml

from bench.engine import sockets
from bench.engine.forms import DISCOVER, REQUEST
from bench.lab.lab import Lab
from bench.peers import run
from bench.peers.answers import Relay, WrongAnswer, await_first, check, faults
from bench.peers.coredhcp import CONFIG, Coredhcp
from bench.peers.kea import configuration
from bench.peers.peer import Peer
from bench.peers.table import Table
from bench.report.figures import Histogram
from bench.report.machine import pinned
from bench.report.outcome import Result
from bench.rig import load
from bench.rig.contest import Burst, Cost, Turn
from bench.rig.load import Search
from bench.rig.stage import FIRST_ADDRESS, FIRST_MAC, NETWORK, RELAY, SERVER, invented, two_hosts

TABLE = Table(count=3, network=NETWORK, server=IPv4Address(SERVER), first_mac=FIRST_MAC, first_address=FIRST_ADDRESS)
GIADDR = IPv4Address(RELAY)

every_peer = pytest.mark.parametrize("peer", run.PEERS, ids=lambda peer: peer.name)


def present(peer: Peer) -> None:
    if reason := peer.missing():
        pytest.skip(reason)


# --- configurations --------------------------------------------------------------------------------------------------


@every_peer
def test_every_peer_gets_every_host(peer: Peer) -> None:
    files = "\n".join(peer.files(TABLE, "sv", Path("/scratch")).values())
    for host in TABLE.hosts():
        assert files.count(host.mac) == 1 and files.count(f"{host.address}") == 1
    assert TABLE.boot_file in files and str(TABLE.server) in files


def test_ours_gets_the_same_hosts() -> None:
    ours = [(host["name"], host["mac"], host["addresses"]) for host in json.loads(TABLE.host_file())["hosts"]]
    assert ours == [(host.name, host.mac, [str(host.address)]) for host in TABLE.hosts()]


def test_kea_writes_no_leases_and_has_no_pool() -> None:
    server = configuration(TABLE, "sv", Path("kea.log"))["Dhcp4"]
    (subnet,) = server["subnet4"]
    assert subnet["subnet"] == "10.96.0.0/12" and "pools" not in subnet
    assert server["lease-database"]["persist"] is False
    assert server["multi-threading"] == {"enable-multi-threading": False}


def test_coredhcp_asks_the_file_before_nbp_ends_the_chain() -> None:
    content = yaml.safe_load(Coredhcp().files(TABLE, "sv", Path("/scratch"))[CONFIG])
    names = [next(iter(plugin)) for plugin in content["server4"]["plugins"]]
    assert names.index("file") < names.index("nbp")


def test_the_list_of_packages_names_them_all() -> None:
    listed = (Path(run.__file__).parent / "packages.txt").read_text().splitlines()
    assert {peer.package for peer in run.PEERS} <= {line.split("#")[0].strip() for line in listed}


@every_peer
def test_the_peer_takes_its_configuration_and_no_broken_one(peer: Peer, tmp_path: Path) -> None:
    present(peer)
    written = peer.write(TABLE, "lo", tmp_path)
    command = list(peer.check_command(written))
    if not command:
        pytest.skip(f"{peer.name} has no mode that only checks its configuration")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    config = next(tmp_path / name for name in peer.files(TABLE, "lo", tmp_path) if (tmp_path / name).stat().st_size)
    config.write_text(config.read_text() + "\nno such words {\n")
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode != 0


# --- answers ---------------------------------------------------------------------------------------------------------


def reply(kind: int = 2, **changed: bytes) -> bytes:
    """A right OFFER to the first host, with fields or options (`o3`) replaced; an empty value leaves the option out."""
    host = next(TABLE.hosts())
    options = {53: bytes([kind]), 1: TABLE.network.netmask.packed, 3: TABLE.server.packed, 54: TABLE.server.packed}
    options |= {51: TABLE.lease_s.to_bytes(4, "big"), 66: str(TABLE.server).encode(), 67: b"/pxelinux.0\0"}
    options |= {int(name[1:]): value for name, value in changed.items() if name[0] == "o"}
    body = bytearray(240)
    body[0], body[236:240] = 2, b"\x63\x82\x53\x63"
    body[16:20], body[24:28] = changed.get("yiaddr", host.address.packed), changed.get("giaddr", GIADDR.packed)
    body[28:34] = changed.get("chaddr", bytes.fromhex(host.mac.replace(":", "")))
    return bytes(body) + b"".join(bytes([c, len(v)]) + v for c, v in options.items() if v) + b"\xff"


def found(answer: bytes, *, boots: bool = True) -> list[str]:
    return list(faults(answer, DISCOVER, next(TABLE.hosts()), TABLE, GIADDR, boots=boots))


def test_a_right_reply_has_no_fault() -> None:
    assert found(reply()) == []
    assert list(faults(reply(5), REQUEST, next(TABLE.hosts()), TABLE, GIADDR)) == []


@pytest.mark.parametrize(
    "answer, fault",
    [
        pytest.param(b"", "no reply", id="silence"),
        pytest.param(reply(5), "type is 5, wanted 2", id="type"),
        pytest.param(reply(yiaddr=bytes(4)), "yiaddr is 0.0.0.0, wanted 10.96.1.0", id="coredhcp's-nbp-first"),
        pytest.param(reply(chaddr=bytes(6)), "chaddr is 00:00:00:00:00:00", id="mac"),
        pytest.param(reply(giaddr=bytes(4)), "giaddr is 0.0.0.0", id="giaddr"),
        pytest.param(reply(o1=bytes(4)), "netmask (1)", id="netmask"),
        pytest.param(reply(o3=b""), "router (3) is None", id="router"),
        pytest.param(reply(o51=bytes(4)), "lease time (51) is 0, wanted 3600", id="lease"),
        pytest.param(reply(o54=b""), "server id (54) is None", id="server-id"),
        pytest.param(reply(o67=b"other"), "boot file (67, file)", id="boot-file"),
        pytest.param(reply(o66=b""), "boot server (66, siaddr)", id="boot-server"),
    ],
)
def test_a_wrong_reply_is_named(answer: bytes, fault: str) -> None:
    assert any(fault in said for said in found(answer))


def test_who_cannot_say_what_to_boot_is_not_asked_for_it() -> None:
    assert found(reply(o66=b"", o67=b""), boots=False) == []


# --- the table -------------------------------------------------------------------------------------------------------


def result(rate: float, **changed: int | float) -> Result:
    empty = Histogram([])
    made = Result(
        asked_rate=rate, offered=int(rate) + 1, answered=int(rate) + 1, wrong=0, lost=0, silent=0, duplicate=0, stray=0,
        late=0, late_after_send=0, limit_s=0.005, seconds=1.0, latency=empty, service=empty, lateness=empty,
        timeline=[], faults={}, examples=[], own_drops=0, send_errors=0, backlog=0, stalled_s=0.0, generator_cpu_s=0.0,
    )  # fmt: skip
    return replace(made, **changed)  # type: ignore[arg-type]


def cost(cpu_s: float = 0.5, others_s: float = 0.0) -> Cost:
    return Cost(wall_s=1.0, server_cpu_s=cpu_s, others_s=others_s, stolen_s=0.0, stalled_s=0.0)


def turn(name: str, rate: float, others_s: float = 0.0) -> Turn:
    trials = [result(rate / 2), result(rate), result(2 * rate, backlog=int(rate))]
    return Turn(
        name, Search(trials), [cost(others_s=others_s)] * 3, [Burst(int(rate), cost(1.0)), Burst(1, cost(0.01))]
    )


def test_the_table_has_ours_the_limit_and_the_ratios() -> None:
    turns = [turn("echo", 80_000), turn("bootstorm", 40_000), turn("kea", 10_000)]
    rows = {line.split()[0]: line.split() for line in run.table_of(turns)[1:]}
    assert rows["bootstorm"][1:6] == ["40,001", "0.50", "1.00", "40,000", "1.00"]
    assert rows["kea"][1:6] == ["10,001", "0.13", "4.00", "10,000", "4.00"]
    assert rows["kea"][-1] == "server"


def test_a_server_that_answers_wrongly_has_no_figure() -> None:
    wrong = replace(turn("kea", 10_000), wrong="DISCOVER of node000000: yiaddr is 0.0.0.0")
    text = "\n".join(run.table_of([turn("bootstorm", 40_000), wrong]))
    assert "10,001" not in text and "yiaddr is 0.0.0.0" in text
    assert wrong.record()["replies_s"] is None and "trials" not in wrong.record()


def test_a_burst_too_short_for_the_clock_says_nothing() -> None:
    assert turn("kea", 1000).core_second == 1000
    assert replace(turn("kea", 1000), bursts=[Burst(1000, cost(0.02))]).core_second is None


def test_disturbance_stands_beside_the_figure() -> None:
    assert run.table_of([turn("kea", 1000, others_s=0.4)])[1].split()[-6:-4] == ["40", "%"]


def test_a_missing_peer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.peers.peer.which", lambda _program: None)
    rules = run.Rules(hosts=3, seconds=0.1, budget_s=1)
    turns, missing = run.contest(rules, [peer.name for peer in run.PEERS], limits=False, ours_too=False)
    assert turns == []
    assert missing["kea"] == "kea-dhcp4 is not installed (Debian package kea-dhcp4-server)"
    assert set(missing) == {"kea", "dhcpd", "dnsmasq", "coredhcp", "freeradius"}


def test_a_search_ends_with_its_time() -> None:
    assert load.highest(lambda rate: result(rate), 1000.0, budget_s=0.0).trials == []


def test_a_rate_is_too_high_after_as_many_failures_as_are_allowed() -> None:
    asked: list[float] = []

    def measure(rate: float) -> Result:
        asked.append(rate)
        return result(rate, lost=int(rate) if rate > 1500 else 0)

    load.highest(measure, 1000.0, 5, tries=3)
    assert asked == [1000.0, 2000.0, 2000.0, 2000.0, 1500.0]


# --- the real ones ---------------------------------------------------------------------------------------------------


@pytest.mark.netns
@pytest.mark.alone
@pytest.mark.skipif(Lab.available() is not None, reason=str(Lab.available()))
@every_peer
def test_the_real_one_answers_rightly_and_is_measured(peer: Peer) -> None:
    present(peer)
    found = run.of_peer(peer, run.Rules(hosts=40, seconds=0.2, budget_s=1.0))
    assert not found.wrong
    assert found.checked == {"hosts": 40, "answers": 80}
    assert sum(trial.answered for trial in found.search.trials) > 0
    assert all(trial.wrong == trial.duplicate == 0 for trial in found.search.trials)


class _NbpFirst(Coredhcp):
    def files(self, table: Table, ifname: str, folder: Path) -> dict[str, str]:
        files = super().files(table, ifname, folder)
        content = yaml.safe_load(files[CONFIG])
        content["server4"]["plugins"].sort(key=lambda plugin: "nbp" not in plugin)
        return files | {CONFIG: yaml.safe_dump(content, sort_keys=False)}


@pytest.mark.netns
@pytest.mark.alone
@pytest.mark.skipif(Lab.available() is not None, reason=str(Lab.available()))
def test_a_real_server_that_answers_wrongly_is_found_out() -> None:
    peer = _NbpFirst()
    present(peer)
    with two_hosts() as stage, pinned(stage.cores[0]), peer.running(stage.server, TABLE, "sv") as process:
        with sockets.open_relay((RELAY,), 67, stage.client) as sock:
            relay = Relay(sock, GIADDR, TABLE.server)
            await_first(relay, TABLE, stage.server, process)
            with pytest.raises(WrongAnswer, match=r"yiaddr is 0\.0\.0\.0, wanted 10\.96\.1\.0"):
                check(relay, TABLE, boots=False)
        wrong = load.start(stage.target, invented(3), 100.0, 12).wait()
    assert wrong.wrong > 0 and not wrong.good
