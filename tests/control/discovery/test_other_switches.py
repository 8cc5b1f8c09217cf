"""From the octets of each vendor's trap to a server on the right port: reader, channel, coordinator, registrar."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from control.clusto.client import get_by_name
from control.discovery.coordinator import Coordinator
from control.discovery.trapseen import Batch, TrapSeen
from tests.control.discovery.conftest import Inventory
from tests.control.discovery.support import MACS, attribute, servers, snapshot
from tests.control.discovery.test_coordinator import at_the_desk, configured, until
from tests.control.discovery.traps.messages import binding, datagram, mac_trap, number, reader, told

SWITCH = (10 << 24) + 1  # 10.0.0.1, as tests/control/discovery/support.py has it
OCTETS = [bytes.fromhex(mac.replace(":", "")) for mac in MACS]
CISCO, DELL, SECURITY = "1.3.6.1.4.1.9.9.215", "1.3.6.1.4.1.6027.3.28.1", "1.3.6.1.4.1.9.9.315"


def history(port: int, mac: bytes) -> bytes:
    return b"\1\0\x0a" + mac + port.to_bytes(2, "big")


def moved(mac: bytes, left: int, port: int) -> bytes:
    rows = [number(f"{CISCO}.1.3.{at}.0", value) for at, value in ((4, 10), (5, left), (6, port))]
    return told(f"{CISCO}.2.0.2", binding(f"{CISCO}.1.3.3.0", 0x04, mac), *rows)


def learnt_by_dell(mac: bytes, port: int) -> bytes:
    rows = number(f"{DELL}.3.0", 10), number(f"{DELL}.4.0", port)
    return told(f"{DELL}.1.1", binding(f"{DELL}.2.0", 0x04, mac), *rows)


def refused(mac: bytes, index: int) -> bytes:
    row = binding(f"{SECURITY}.1.2.1.1.10.{index}", 0x04, mac)
    return told(f"{SECURITY}.0.0.1", number(f"1.3.6.1.2.1.2.2.1.1.{index}", index), row)


def said(*contents: bytes) -> list[TrapSeen]:
    """As control has it from the receiver."""
    here = reader()
    seen = [one for content in contents for one in here.read(datagram(content, SWITCH)).seen]
    return Batch.of(seen).seen()


def test_each_lands_at_its_port(site: Inventory, tmp_path: Path) -> None:
    gbn = "1.3.6.1.4.1.13464.1.2.3.3.1"
    switch = get_by_name("r1-sw1")
    switch.set_attr("snmp", "101-120=1-20", subkey="portid_map")
    rows: dict[str, dict[str, Any]] = {}

    async def scenario(coordinator: Coordinator) -> None:
        coordinator.take(
            said(
                told(f"{gbn}.2.0.1", binding(f"{gbn}.1.1.8.1.2.1", 0x04, history(3, OCTETS[0]))),
                mac_trap(history(4, OCTETS[1])),
                moved(OCTETS[1], 4, 5),
                learnt_by_dell(OCTETS[2], 106),
                refused(OCTETS[3], 10107),
            )
        )
        for mac, state in zip(MACS, ("registered", "registered", "registered", "waits"), strict=False):
            rows[mac] = await until(coordinator, mac, state)
        coordinator.take(said(moved(OCTETS[0], 3, 9)))
        rows["moved"] = await until(coordinator, MACS[0], "waits")

    at_the_desk(configured(tmp_path, site.url), scenario)
    assert [rows[mac]["port"] for mac in MACS[:4]] == [3, 5, 6, None]
    assert "snmp ifindex_map is set neither there" in rows[MACS[3]]["reason"]
    assert rows[MACS[3]]["places"] == [{"switch": "10.0.0.1", "port": "ifIndex 10107 (refused)", "vlan": 0}]
    assert f"{MACS[0]} belongs to /server/" in rows["moved"]["reason"] and "it moved" in rows["moved"]["reason"]
    found = snapshot(site.store)
    assert len(servers(found)) == 3, "neither the refused one nor a second one of what moved"
    assert [attribute(found, "r1-sw1", "port-nic-eth", "vlan", port) for port in (3, 4, 5, 6)] == [[10], [], [10], [10]]
