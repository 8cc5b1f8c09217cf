"""The coordinator with its real registrar processes against the real inventory: bursts, kills, factories, an inventory
that is down, restarts from the journal."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from control.clusto.client import BasicServer, get_by_name
from control.clusto.server.httpd import application
from control.clusto.server.store import Store
from control.config.config import Config, Dhcp, load
from control.discovery import coordinator as coordinator_module
from control.discovery import machines
from control.discovery.coordinator import Coordinator
from control.discovery.machines import STRANGERS_MAX
from control.discovery.registrar import child as child_module
from control.discovery.reserved import Reserved
from control.discovery.trapseen import TrapSeen
from tests.control.clusto.support import running, serving
from tests.control.discovery.conftest import Inventory
from tests.control.discovery.support import MAC, MACS, attribute, make_rack, servers, snapshot, switch_address
from tests.ports import free_port

WAIT_S = 400.0  # a machine that is shared may take long; every wait is for an event
Scenario = Callable[[Coordinator], Coroutine[Any, Any, None]]


def clock() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def configured(folder: Path, url: str, **snmp: Any) -> Config:
    state = folder / "state"
    state.mkdir(exist_ok=True)
    conf = folder / "services.conf"
    conf.write_text(json.dumps({"dhcp": {"api_url": url, "state_dir": str(state)}, "snmp": snmp}))
    return load(conf)


class Refreshed:
    """The refresher's part: what the coordinator wants to be looked up."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], list[str]]] = []

    async def look_up(self, macs: list[str], names: list[str]) -> None:
        self.asked.append((macs, names))


def at_the_desk(
    config: Config,
    scenario: Scenario,
    refreshed: Refreshed | None = None,
    limit_s: float = 30.0,
    word: Callable[[int], str] = lambda _address: "",
    served: Callable[[str], str | None] = lambda _mac: None,
    **fleet: Any,
) -> None:
    """A coordinator from its start to its end, as control runs it.  fleet: may_work, page."""

    async def run() -> None:
        look_up = (refreshed or Refreshed()).look_up
        coordinator = Coordinator(config, look_up, clock, factory_limit_s=limit_s, word=word, served=served, **fleet)
        task = asyncio.create_task(coordinator.run())
        try:
            await asyncio.wait_for(scenario(coordinator), WAIT_S)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def trap(mac: str, port: int, switch: str = "10.0.0.1", vlan: int = 10) -> TrapSeen:
    return TrapSeen(switch=switch, mac=mac, port=port, vlan=vlan, learnt=True, boottime_s=clock())


def sighting(mac: str, class_: str = "BIOS_PXE", role: str = "host") -> dict[str, Any]:
    return {
        "mac": mac, "class": class_, "role": role, "verdict": "IGNORED_UNKNOWN_MAC", "giaddr": "10.0.0.254",
        "ifindex": 2, "client_id": b"\x01abc", "vendor_class": b"PXEClient", "circuit_id": b"\x00\x04",
        "requested_options": b"\x01\x03", "boottime_s": clock(),
    }  # fmt: skip


async def until(coordinator: Coordinator, mac: str, *states: str) -> dict[str, Any]:
    """Its row once it is in one of the states."""
    while True:
        rows = coordinator.listing([mac])["machines"]
        if rows and rows[0]["state"] in states and mac not in coordinator.working:
            row: dict[str, Any] = rows[0]
            return row
        await asyncio.sleep(0.02)


def test_from_trap_to_lease_in_the_inventory(site: Inventory, tmp_path: Path) -> None:
    refreshed = Refreshed()

    async def scenario(coordinator: Coordinator) -> None:
        coordinator.sighted(sighting(MAC))  # DHCP is often there before the trap
        coordinator.take([trap(MAC, 7), trap(MAC, 7), trap(MAC, 7)])
        row = await until(coordinator, MAC, "confirmed")
        assert (row["server"], row["switch"], row["port"], row["roles"]) == ("s0001", "r1-sw1", 7, ["boot"])
        assert row["dhcp"]["vendor_class"] == "PXEClient" and row["dhcp"]["circuit_id"] == "00:04"
        coordinator.take([trap(MACS[1], 8)])
        await until(coordinator, MACS[1], "registered")
        coordinator.sighted(sighting(MACS[1], "OS"))
        await until(coordinator, MACS[1], "confirmed")
        while sum(len(macs) for macs, _names in refreshed.asked) < 2:
            await asyncio.sleep(0.02)

    at_the_desk(configured(tmp_path, site.url), scenario, refreshed)
    found = snapshot(site.store)
    assert attribute(found, "s0001", "port-nic-eth", "mac", 1) == [MAC]
    assert refreshed.asked[0] == ([MAC], ["s0001"]), "served at its next retransmission, not at the next refresh"


def test_registrars_ask_what_the_inventory_does_not_know_of_an_address(site: Inventory, tmp_path: Path) -> None:
    config, reserved = configured(tmp_path, site.url), Reserved()
    reserved.follow([(int(IPv4Address("10.100.1.2")), "eth0")])
    for number, verdict in ((3, "ACKED"), (4, "IGNORED_UNKNOWN_MAC"), (5, "IGNORED_RELAY")):
        reserved.note({"giaddr": int(IPv4Address(f"10.100.1.{number}")), "verdict": verdict})

    async def scenario(coordinator: Coordinator) -> None:
        coordinator.take([trap(MAC, 7)])
        await until(coordinator, MAC, "registered")

    at_the_desk(config, scenario, word=lambda address: reserved.word(address, config.dhcp))
    assert attribute(snapshot(site.store), "s0001", "ip", "ipstring", 0) == ["10.100.1.5"]


def test_registrars_are_told_who_is_served(site: Inventory, tmp_path: Path) -> None:
    mac = "02:ab:cd:00:0e:0f"
    BasicServer("web7").set_port_attr("nic-eth", 1, "mac", "02:Ab:cD:00:0e:0F")

    async def scenario(coordinator: Coordinator) -> None:
        coordinator.take([trap(mac, 7)])
        assert "/server/web7" in (await until(coordinator, mac, "waits"))["reason"]

    at_the_desk(configured(tmp_path, site.url), scenario, served={mac: "web7"}.get)
    assert servers(snapshot(site.store)) == ["web7"]


def test_addresses_that_are_somebody_s() -> None:
    reserved, dhcp = (
        Reserved(),
        replace(
            Dhcp(),
            server_id=IPv4Address("10.0.0.1"),
            server_ids=(IPv4Address("10.0.0.2"),),
            relays=(IPv4Network("10.0.0.3/32"), IPv4Network("10.1.0.0/16")),
        ),
    )
    for number in range(10_000):
        reserved.note({"giaddr": 0x0A020000 + number, "verdict": "IGNORED_UNKNOWN_MAC"})
    reserved.note({"giaddr": 0, "verdict": "ACKED"})
    said = [reserved.word(int(IPv4Address(text)), dhcp) for text in ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.1.0.1")]
    assert [word.partition(" (")[0] for word in said] == ["a server id of ours"] * 2 + ["a relay of dhcp.relays", ""]
    assert reserved.word(0, dhcp) == "" and len(reserved.of_strangers) == 4_096
    assert reserved.word(0x0A020000 + 9_999, dhcp) == "a relay, by the giaddr of requests"


def test_a_name_is_one_machine_s_until_it_is_through_also_over_a_restart(tmp_path: Path) -> None:
    config = configured(tmp_path, "http://127.0.0.1:9")

    async def first(coordinator: Coordinator) -> None:
        for mac in MACS[:2]:
            coordinator.machines.known(mac, clock())
        assert (await coordinator.intend(MACS[0], "s0001")).ok
        assert not (await coordinator.intend(MACS[1], "s0001")).ok
        assert (await coordinator.intend(MACS[0], "s0001")).ok, "its own, again"

    async def second(coordinator: Coordinator) -> None:
        assert coordinator.machines.of_mac[MACS[0]].name == "s0001"
        coordinator.machines.known(MACS[1], clock())
        assert not (await coordinator.intend(MACS[1], "s0001")).ok
        assert (await coordinator.intend(MACS[0], "s0002")).ok, "the first was taken by somebody else"
        assert (await coordinator.intend(MACS[1], "s0001")).ok
        assert (await coordinator.intend("02:00:00:00:00:99", "s0003")).fault

    at_the_desk(config, first)
    at_the_desk(config, second)


def test_another_configuration_ends_a_registrar_and_its_machine_goes_on(site: Inventory, tmp_path: Path) -> None:
    config = configured(tmp_path, site.url)

    async def scenario(coordinator: Coordinator) -> None:
        coordinator.take([trap(MAC, 7)])
        while MAC not in coordinator.working:
            await asyncio.sleep(0.001)
        await coordinator.reconfigure(config)
        assert (await until(coordinator, MAC, "registered", "waits"))["state"] == "registered"

    at_the_desk(config, scenario)
    assert servers(snapshot(site.store)) == ["s0001"]


def test_strangers_that_only_dhcp_saw_change_nothing_and_are_not_listed(site: Inventory, tmp_path: Path) -> None:
    before = snapshot(site.store)

    async def scenario(coordinator: Coordinator) -> None:
        coordinator.sighted(sighting(MACS[5]))
        coordinator.sighted(sighting(MACS[6], role="host") | {"verdict": "OFFERED"})
        while coordinator.machines.counts["unknown"] < 1:
            await asyncio.sleep(0.02)
        assert coordinator.listing()["total"] == 0 and MACS[6] not in coordinator.machines.of_mac

    at_the_desk(configured(tmp_path, site.url), scenario)
    assert snapshot(site.store) == before


def test_a_forged_request_in_a_known_host_s_name_records_nothing(site: Inventory, tmp_path: Path) -> None:
    """The host's own MAC became its ipmi-mac, for good, by one DISCOVER with a BMC's vendor class."""
    server = BasicServer("web7")
    server.set_port_attr("nic-eth", 1, "mac", MAC)
    server.set_attr("bootstrap", MACS[3], subkey="mac")
    before = snapshot(site.store)

    async def scenario(coordinator: Coordinator) -> None:
        for verdict in ("IGNORED_BMC", "ACKED", "IGNORED_UNKNOWN_MAC"):  # the last: a table that is old
            coordinator.sighted(sighting(MAC, "OS", "bmc") | {"verdict": verdict})
        coordinator.sighted(sighting(MACS[3], "OS", "bmc"))
        rows = [await until(coordinator, mac, "known", "registered") for mac in (MAC, MACS[3])]
        assert any("not recorded as an ipmi-mac" in note for note in rows[0]["notes"]), rows[0]
        assert any(f"ctl adopt {MACS[3]}" in note for note in rows[1]["notes"]), rows[1]
        assert await coordinator.adopt(MAC) is not None

    at_the_desk(configured(tmp_path, site.url), scenario)
    assert snapshot(site.store) == before


def test_a_word_for_a_machine_is_none_for_what_is_forged_in_its_name_later(site: Inventory, tmp_path: Path) -> None:
    get_by_name("dc").set_attr("snmp", 0, subkey="discovery")
    config = configured(tmp_path, site.url)

    async def first(coordinator: Coordinator) -> None:
        coordinator.take([trap(MAC, 7)])
        await until(coordinator, MAC, "off")
        assert await coordinator.adopt(MAC) is not None
        coordinator.sighted(sighting(MAC, "OS", "bmc"))
        while not any("asked as a BMC" in note for note in coordinator.listing([MAC])["machines"][0]["notes"]):
            await asyncio.sleep(0.02)
        assert attribute(snapshot(site.store), "s0001", "port-nic-eth", "ipmi-mac", 1) == []
        row = await coordinator.adopt(MAC)
        assert row is not None and row["state"] == "confirmed", row

    at_the_desk(config, first)
    assert attribute(snapshot(site.store), "s0001", "port-nic-eth", "ipmi-mac", 1) == [MAC]


def test_a_bmc_that_says_so_for_an_hour_on_its_server_s_port_is_recorded(
    site: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machines, "BMC_LASTS_S", 3.0)
    config = configured(tmp_path, site.url)

    async def first(coordinator: Coordinator) -> None:
        coordinator.take([trap(MAC, 7)])
        await until(coordinator, MAC, "registered")
        coordinator.sighted(sighting(MAC, "OS", "bmc"))
        while not coordinator.listing([MAC])["machines"][0]["notes"]:
            await asyncio.sleep(0.02)
        coordinator.sighted(sighting(MAC, "OS", "bmc"))
        await until(coordinator, MAC, "registered")
        assert attribute(snapshot(site.store), "s0001", "port-nic-eth", "ipmi-mac", 1) == []
        await coordinator.journal.flush()

    async def second(coordinator: Coordinator) -> None:
        machine = coordinator.machines.of_mac[MAC]
        assert machine.bmc_at is not None, "an hour that began before a restart goes on"
        while clock() < machine.bmc_at[1] + 3.0:
            await asyncio.sleep(0.05)
        coordinator.sighted(sighting(MAC, "OS", "bmc"))
        await until(coordinator, MAC, "confirmed")

    at_the_desk(config, first)
    at_the_desk(config, second)
    assert attribute(snapshot(site.store), "s0001", "port-nic-eth", "ipmi-mac", 1) == [MAC]


def test_forged_requests_take_no_machine_s_place(site: Inventory, tmp_path: Path) -> None:
    """50,000 made-up MACs that waited for their turn left no room for a machine that a trap shows."""

    async def scenario(coordinator: Coordinator) -> None:
        coordinator.machines.most = 3_000
        for number in range(10_000):
            coordinator.sighted(sighting((0x02AA00000000 + number).to_bytes(6, "big").hex(":")))
        assert len(coordinator.machines.of_mac) <= STRANGERS_MAX
        coordinator.take([trap(mac, 1 + at) for at, mac in enumerate(MACS[:12])])
        for mac in MACS[:12]:
            await until(coordinator, mac, "registered")
        assert coordinator.machines.counts["dropped_full"] == 0

    at_the_desk(configured(tmp_path, site.url), scenario)


@pytest.mark.timeout(1800)
@pytest.mark.waits
def test_a_registrar_that_is_killed_at_each_request_in_turn(
    site: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL for the real process, by a server that kills its client in the middle of an answer."""
    monkeypatch.setattr(machines, "SETTLE_S", 0.05)
    victims = range(1, 11)  # the requests of a server whose rack was just read

    async def scenario(coordinator: Coordinator) -> None:
        kills = 0
        for port, at in enumerate(victims, 1):
            site_counter.arm(at, lambda: [registrar.pid for registrar in coordinator.registrars if registrar.pid])
            coordinator.take([trap(MACS[port], port)])
            row = await until(coordinator, MACS[port], "registered", "waits")
            assert row["state"] == "registered", row
            kills += site_counter.killed
        assert kills == len(victims), kills
        print(f"SIGKILL in the middle of {kills} requests: {len(victims)} servers, each once")

    with counting(site) as (site_counter, url):
        at_the_desk(configured(tmp_path, url), scenario)
    found = snapshot(site.store)
    assert len(servers(found)) == len(victims)
    for port in range(1, len(victims) + 1):
        (server,) = attribute(found, "r1-sw1", "port-nic-eth", "connection", port)
        assert attribute(found, server, "bootstrap", "mac") == [MACS[port]]
        assert attribute(found, "r1", "_contains", "ru", port) == [server]
        assert attribute(found, "r1-pwr1", "port-pwr-nema-5", "connection", port) == [server]


class Counter:
    """Lets the n-th request from now on be done by the inventory, and kills who asked before the answer comes."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.at = self.killed = 0
        self.pids: Callable[[], list[int]] = list

    def arm(self, at: int, pids: Callable[[], list[int]]) -> None:
        self.at, self.pids, self.killed = at, pids, 0

    def __call__(self, environ: Any, start_response: Any) -> Any:
        answer = b"".join(self.app(environ, start_response))
        if self.at > 0:
            self.at -= 1
            if self.at == 0:
                for pid in self.pids():
                    self.killed = 1
                    os.kill(pid, signal.SIGKILL)
        return [answer]


@contextmanager
def counting(site: Inventory) -> Iterator[tuple[Counter, str]]:
    """The site's store behind a Counter, at a URL of its own."""
    counter = Counter(application(site.store))
    with serving(counter) as url:
        yield counter, url


FACTORY = '''
"""A site's module, as one would write it for the original."""
import time
from control.clusto import client as clusto

class Factory:
    def __init__(self, rack):
        self.rack = clusto.get_by_name(rack)
        self.switch = clusto.get_by_name(rack + "-sw1")
    def get_driver(self, switchport):
        return clusto.BasicServer
    def add_server(self, server, switchport):
        if switchport == 13:
            raise RuntimeError("thirteen")
        if switchport == 14:
            time.sleep(3600)
        if switchport == 15:
            raise SystemExit(3)
        if switchport == 16:
            import os
            os._exit(1)
        if switchport == 17:
            return
        if self.rack not in server.parents(clusto_types=["rack"]):
            self.rack.insert(server, switchport)
        if server.port_free("nic-eth", 1):
            server.connect_ports("nic-eth", 1, self.switch, switchport)

def get_factory(name):
    if name == "r2":
        return None
    if name == "r3":
        raise KeyError("r3")
    return Factory(name)
'''


@pytest.mark.timeout(1800)
@pytest.mark.waits
def test_a_site_s_own_factories(site: Inventory, tmp_path: Path) -> None:
    """One that raises, hangs, exits, does nothing or is None is that machine's reason; the others go on."""
    dc = get_by_name("dc")
    for number in (2, 3, 4):
        make_rack(dc, number)  # type: ignore[arg-type]
    dc.del_attrs("racklayout")
    module = tmp_path / "rackfactory.py"
    module.write_text(FACTORY)

    async def scenario(coordinator: Coordinator) -> None:
        for mac, port in zip(MACS, (13, 15, 16, 17), strict=False):
            coordinator.take([trap(mac, port)])
        coordinator.take([trap(MACS[10], 1, switch_address(2)), trap(MACS[11], 1, switch_address(3))])
        coordinator.take([trap(MACS[12], 14, switch_address(4))])
        coordinator.take([trap(MACS[20 + port], port) for port in range(1, 9)])
        for port in range(1, 9):
            assert (await until(coordinator, MACS[20 + port], "registered", "waits"))["state"] == "registered"
        reasons = [(await until(coordinator, mac, "waits"))["reason"] for mac in [*MACS[:4], *MACS[10:13]]]
        assert "add_server(s" in reasons[0] and "raised RuntimeError: thirteen at rackfactory.py:" in reasons[0]
        assert "raised SystemExit: 3" in reasons[1]
        assert "the registrar's process ended" in reasons[2] and "add_server(" in reasons[2]
        assert "did not connect /server/s" in reasons[3]
        assert "rack r2 has no factory" in reasons[4]
        assert "get_factory('r3') raised KeyError: 'r3'" in reasons[5]
        assert "took over 20 s and was ended" in reasons[6] and "add_server(" in reasons[6]
        assert coordinator.machines.pace(switch_address(4)).pause_s >= 60.0

    at_the_desk(configured(tmp_path, site.url, rackfactory=str(module)), scenario, limit_s=20.0)
    found = snapshot(site.store)
    for port in range(1, 9):
        (server,) = attribute(found, "r1-sw1", "port-nic-eth", "connection", port)
        assert found[server][0] == "basicserver" and attribute(found, "r1", "_contains", "ru", port) == [server]


def test_a_registrar_without_progress_is_replaced(
    site: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer of the inventory is progress; a process that is stopped makes none; its machine is tried again."""

    async def scenario(coordinator: Coordinator) -> None:
        coordinator.take([trap(MAC, 3)])
        await until(coordinator, MAC, "registered")
        (pid,) = (registrar.pid for registrar in coordinator.registrars if registrar.pid is not None)
        os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr(child_module, "PROGRESS_LIMIT_S", 1.0)
        coordinator.take([trap(MACS[1], 4)])
        while coordinator.counts["registrars_ended"] < 1:
            await asyncio.sleep(0.02)
        monkeypatch.undo()
        row = await until(coordinator, MACS[1], "retry", "registered")
        assert row["state"] == "registered" or "made no progress for 1 s after" in row["reason"]
        assert all(registrar.pid != pid for registrar in coordinator.registrars)

    monkeypatch.setattr(coordinator_module, "REGISTRARS", 1)
    at_the_desk(configured(tmp_path, site.url), scenario)


@pytest.mark.waits
def test_a_slow_inventory_does_not_end_a_registrar_that_gets_on(
    site: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as a whole limit for all its requests together, each of which takes a part of it."""
    slow = tmp_path / "sitecustomize.py"
    slow.write_text(
        "import time\nfrom control.clusto.client.api import Api\nplain = Api.request\n"
        "def request(*args, **more):\n    time.sleep(0.4)\n    return plain(*args, **more)\nApi.request = request\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}".rstrip(":"))

    async def scenario(coordinator: Coordinator) -> None:
        coordinator.take([trap(MACS[0], 3)])
        await until(coordinator, MACS[0], "registered")
        monkeypatch.setattr(child_module, "PROGRESS_LIMIT_S", 2.5)
        started = clock()
        coordinator.take([trap(MACS[1], 4)])
        await until(coordinator, MACS[1], "registered")
        assert clock() - started > 2.5 and coordinator.counts["registrars_ended"] == 0

    at_the_desk(configured(tmp_path, site.url), scenario)


def test_a_module_that_is_not_there_is_the_reason(site: Inventory, tmp_path: Path) -> None:
    async def scenario(coordinator: Coordinator) -> None:
        coordinator.take([trap(MAC, 3)])
        assert "no_such_module: import raised ModuleNotFoundError" in (await until(coordinator, MAC, "waits"))["reason"]

    at_the_desk(configured(tmp_path, site.url, rackfactory="no_such_module"), scenario)
    assert servers(snapshot(site.store)) == []


def test_an_inventory_that_is_down_is_waited_for_also_over_a_restart(made_site: Path, tmp_path: Path) -> None:
    for file in made_site.glob("inventory.db*"):
        shutil.copy(file, tmp_path)
    port = free_port()
    config = configured(tmp_path, f"http://127.0.0.1:{port}")

    async def seen(coordinator: Coordinator) -> None:
        coordinator.take([trap(mac, number) for number, mac in enumerate(MACS[:5], 1)])
        row = await until(coordinator, MACS[0], "down")
        assert "no answer" in row["reason"] and coordinator.status()["inventory_down"]
        await coordinator.journal.flush()

    at_the_desk(config, seen)
    store = Store(f"sqlite:///{tmp_path}/inventory.db")

    async def back(coordinator: Coordinator) -> None:
        for mac in MACS[:5]:  # no trap comes again
            await until(coordinator, mac, "registered")

    with running(store, port=port):
        at_the_desk(config, back)
        found = snapshot(store)
    assert len(servers(found)) == 5
    assert [len(attribute(found, "r1-sw1", "port-nic-eth", "connection", number)) for number in range(1, 6)] == [1] * 5


def test_adopt_and_ignore_hold_over_a_restart(site: Inventory, tmp_path: Path) -> None:
    get_by_name("dc").set_attr("snmp", 0, subkey="discovery")
    config = configured(tmp_path, site.url)

    async def first(coordinator: Coordinator) -> None:
        coordinator.take([trap(MACS[0], 1), trap(MACS[1], 2)])
        await until(coordinator, MACS[0], "off")
        assert await coordinator.adopt("02:00:00:00:00:99") is None
        row = await coordinator.adopt(MACS[0])
        assert row is not None and (row["state"], row["server"]) == ("registered", "s0001"), row
        row = coordinator.ignore(MACS[1])
        assert row is not None and row["state"] == "ignored"

    async def second(coordinator: Coordinator) -> None:
        coordinator.take([trap(MACS[1], 2), trap(MACS[2], 3)])
        await until(coordinator, MACS[2], "off")
        assert (await until(coordinator, MACS[1], "ignored"))["state"] == "ignored"
        row = await coordinator.adopt(MACS[1])
        assert row is not None and row["state"] == "registered"
        coordinator.take([trap(mac, 5) for mac in MACS[10:20]])
        crowded = await until(coordinator, MACS[10], "uplink")
        assert "more than 8 MACs on 10.0.0.1 port 5" in crowded["reason"]
        row = await coordinator.adopt(MACS[10])
        assert row is not None and (row["state"], row["server"], row["port"]) == ("registered", "s0003", 5)

    at_the_desk(config, first)
    at_the_desk(config, second)
    assert servers(snapshot(site.store)) == ["s0001", "s0002", "s0003"]


def test_a_burst_leaves_the_loop_responsive_and_memory_bounded(site: Inventory, tmp_path: Path) -> None:
    """20,000 traps at once, most of machines that are known to nobody: control's loop answers all the while."""
    late: list[float] = []

    async def scenario(coordinator: Coordinator) -> None:
        macs = [number.to_bytes(6, "big").hex(":") for number in range(0x020000000000, 0x020000000000 + 20_000)]
        coordinator.take([trap(mac, number % 4000, "10.9.0.1") for number, mac in enumerate(macs)])
        coordinator.take([trap(MAC, 7)])
        while (
            coordinator.inbox
            or MAC in coordinator.working
            or coordinator.machines.of_mac[MAC].state in ("seen", "working")
        ):
            due = clock() + 0.005
            await asyncio.sleep(0.005)
            coordinator.status()
            late.append(clock() - due)
        assert coordinator.machines.of_mac[MAC].state == "registered", (
            "the one that counts does not wait for 20,000 others"
        )
        assert len(coordinator.machines.of_mac) == 20_001 and coordinator.counts["dropped_inbox"] == 0

    at_the_desk(configured(tmp_path, site.url), scenario)
    late.sort()
    print(f"loop's delay with status: median {late[len(late) // 2] * 1e3:.1f} ms, worst {late[-1] * 1e3:.0f} ms")
    assert late[len(late) // 2] < 0.05


def test_a_dry_run_lists_what_it_would_do(site: Inventory, tmp_path: Path) -> None:
    before = snapshot(site.store)

    async def scenario(coordinator: Coordinator) -> None:
        coordinator.take([trap(MAC, 7)])
        row = await until(coordinator, MAC, "would")
        assert row["did"][0].startswith("make a penguinserver") and coordinator.status()["dry_run"]

    at_the_desk(configured(tmp_path, site.url, dry_run=True), scenario)
    assert snapshot(site.store) == before
