"""docs/discovery.md against the code: its setting up, its three layouts and its factory are run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from control.clusto import client
from control.clusto.client import (
    BasicConsoleServer,
    BasicNetworkSwitch,
    BasicPowerStrip,
    BasicRack,
    IPManager,
    Pool,
    get_by_name,
)
from control.discovery.registrar.layouts import DEFAULTS, FIELDS
from tests.control.discovery.conftest import Inventory
from tests.control.discovery.support import MACS, Hands, attribute, inventory, servers, snapshot

TEXT = (Path(__file__).parents[3] / "docs/discovery.md").read_text(encoding="utf-8")


def blocks() -> list[tuple[str, str]]:
    """(layout's name or "", Python code), in the document's order."""
    pattern = r"(?:<!-- layout:([a-z-]+) -->\n)?```python\n(.*?)^```"
    return [(found[1] or "", found[2]) for found in re.finditer(pattern, TEXT, re.DOTALL | re.MULTILINE)]


def execute(code: str, url: str) -> dict[str, Any]:
    scope: dict[str, Any] = {"Pool": Pool}
    exec(compile(code.replace("http://127.0.0.1:9996", url), "docs/discovery.md", "exec"), scope)
    return scope


@pytest.fixture
def documented(tmp_path: Path) -> Any:
    """The document's own site: rack r1 with its switch, and what the layouts name."""
    with inventory(tmp_path) as (store, url):
        execute(blocks()[0][1], url)
        for name in ("r1-pwr1", "r1-pwr2"):
            BasicPowerStrip(name)
        BasicConsoleServer("r1-ts1")
        IPManager("net-r1", baseip="10.1.0.0", netmask="255.255.255.0", gateway="10.1.0.1")
        for pool in ("pxeboot", "web"):
            Pool(pool)
        yield Inventory(store, url)


def use(site: Inventory, layout: str) -> Hands:
    (code,) = [code for name, code in blocks() if name == layout]
    execute(code, site.url)["kind"].insert(get_by_name("r1"))
    return Hands(site.url)


def test_the_plain_layout(documented: Inventory) -> None:
    assert use(documented, "plain").register(MACS[0], 20).state == "registered"
    found = snapshot(documented.store)
    assert attribute(found, "r1", "_contains", "ru", 20) == ["s0001"]
    assert attribute(found, "r1-ts1", "port-console-serial", "connection", 20) == ["s0001"]
    assert get_by_name("s0001").get_ips() == ["10.1.0.2"]  # type: ignore[attr-defined]
    assert "/pool/pxeboot" in get_by_name("s0001").parent_paths()


def test_the_layout_with_two_nics(documented: Inventory) -> None:
    hands = use(documented, "two-nics")
    assert hands.register(MACS[0], 22).server == hands.register(MACS[1], 2).server == "s0001"
    found = snapshot(documented.store)
    assert attribute(found, "r1", "_contains", "ru", 39) == ["s0001"]
    assert attribute(found, "r1-pwr1", "port-pwr-nema-5", "connection", 2) == ["s0001"]
    assert attribute(found, "s0001", "ip", "ipstring", 0) == ["10.1.0.102"]
    assert attribute(found, "s0001", "ip", "osportname", 0) == ["bond0"]
    assert {"/pool/pxeboot", "/pool/web"} <= set(get_by_name("s0001").parent_paths())


def test_the_layout_of_two_units(documented: Inventory) -> None:
    second = BasicNetworkSwitch("r1-sw2")
    second.bind_ip("10.0.0.2")
    rack = get_by_name("r1")
    assert isinstance(rack, BasicRack)
    rack.insert(second, 41)
    hands = use(documented, "two-units")
    hands.register(MACS[0], 3)
    assert hands.register(MACS[1], 3, switch="10.0.0.2").server == "s0001"
    found = snapshot(documented.store)
    assert servers(found) == ["s0001"] and found["s0001"][0] == "penguinserver2u"
    assert attribute(found, "r1", "_contains", "ru", 5) == attribute(found, "r1", "_contains", "ru", 6) == ["s0001"]
    assert attribute(found, "s0001", "port-pwr-nema-5", "connection", 1) == ["r1-pwr1"]
    assert attribute(found, "s0001", "port-pwr-nema-5", "connection", 2) == ["r1-pwr2"]
    assert attribute(found, "r1-sw2", "port-nic-eth", "connection", 3) == ["s0001"]


def test_the_factory(documented: Inventory, tmp_path: Path) -> None:
    (code,) = [code for name, code in blocks() if "def get_factory" in code]
    module = tmp_path / "factory_of_the_document.py"
    module.write_text(code)
    outcome = Hands(documented.url, module=str(module)).register(MACS[0], 5)
    assert (outcome.state, outcome.server) == ("registered", "s0001"), outcome
    assert attribute(snapshot(documented.store), "r1", "_contains", "ru", 5) == ["s0001"]


def test_every_field_of_a_layout_is_in_the_table_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", TEXT, re.MULTILINE))
    assert list(rows) == [
        "ru_map", "pwr_map", "console_map", "nic2", "switch", "switch2", "power", "console", "driver", "address",
        "ipmanager", "osport", "bmc_address", "bmc_ipmanager", "bmc_osport", "pools",
    ]  # fmt: skip
    assert rows.keys() == FIELDS.keys()
    assert {name: rows[name] for name in DEFAULTS} == {name: f"`{value}`" for name, value in DEFAULTS.items()}


def test_a_switch_and_a_rack_of_a_site_s_own_driver_have_ports_and_units(documented: Inventory) -> None:
    """As with the original and its plugins; our inventory has none, so the class is what is tested."""
    assert issubclass(client.object_of({"object": "/networkswitch/x", "driver": "cisco4948"}).__class__, client.Device)
    assert isinstance(client.object_of({"object": "/rack/x", "driver": "apcrack"}), BasicRack)
    switch = client.object_of({"object": "/networkswitch/r1-sw1", "driver": "cisco4948"})
    assert isinstance(switch, client.Device) and switch.port_free("nic-eth", 49)
