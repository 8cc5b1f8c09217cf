"""A rack factory as one writes it for clusto, loaded as it is; and one that is repaired while the registrar runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.clusto import client
from control.clusto.client import APCRack, BasicRack, BasicServer, ClustoError, IPManager, PowerTowerXM, get_by_name
from control.discovery.registrar import factories
from tests.control.discovery.conftest import Inventory
from tests.control.discovery.support import MACS, Hands, attribute, make_rack, snapshot

WRITTEN_FOR_CLUSTO = """
from clusto.scripthelpers import init_script
from clusto.drivers import *
import clusto

OUTLETS = dict((port, "bb%d" % port) for port in range(1, 9))
OUTLETS.update((port, "aa%d" % (port - 8)) for port in range(9, 17))

def get_factory(name, layout=None):
    rack = clusto.get_by_name(name)
    layout = layout or rack.attr_value(key="racklayout")
    return {"7007": Tall}[str(layout)](name, rack.parents(clusto_types=["datacenter"]))

class Tall(object):
    def __init__(self, name, places):
        self.places = places
        self.rack = clusto.get_or_create(name, APCRack)
        self.switch = clusto.get_or_create(name + "-sw1", Cisco4948)
        self.console = clusto.get_or_create(name + "-ts1", OpenGearCM4148)
        self.power = clusto.get_or_create(name + "-pwr1", PowerTowerXM)

    def connect_ports(self):
        for place in self.places:
            if not self.rack in place:
                place.insert(self.rack)
        for unit, thing in ((40, self.switch), (41, self.power), (42, self.console)):
            if not thing in self.rack:
                self.rack.insert(thing, unit)
        if self.power.port_free("console-serial", 1):
            self.power.connect_ports("console-serial", 1, self.console, 44)
        if self.switch.port_free("pwr-nema-5", 1):
            self.switch.connect_ports("pwr-nema-5", 1, self.power, "ab8")
        self.power.bind_ip_to_osport("10.0.3.9", "nic0", porttype="nic-eth", portnum=1)

    def add_server(self, server, switchport):
        if not server in self.rack:
            self.rack.insert(server, switchport)
        if server.port_free("nic-eth", 1):
            server.connect_ports("nic-eth", 1, self.switch, switchport)
        if server.port_free("pwr-nema-5", 1):
            server.connect_ports("pwr-nema-5", 1, self.power, OUTLETS[switchport])
        if server.port_free("console-serial", 1):
            server.connect_ports("console-serial", 1, self.console, switchport)

    def get_driver(self, switchport):
        return PenguinServer
"""


@pytest.fixture(autouse=True)
def _own_modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The names that a factory loads are this test's alone."""
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("made_by", ["the factory", "a person with plain drivers"])
def test_a_factory_written_for_clusto_runs_as_it_is(site: Inventory, tmp_path: Path, made_by: str) -> None:
    module = tmp_path / "rackfactory.py"
    module.write_text(WRITTEN_FOR_CLUSTO)
    if made_by == "the factory":
        rack: BasicRack = APCRack("r9")
        get_by_name("dc").insert(rack)
        IPManager("net-r9", baseip="10.109.0.0", netmask="255.255.255.0")
        rack.set_attr(key="racklayout", value="7007")
        loaded = factories.Loaded(str(module)).module
        for _again in range(2):
            loaded.get_factory("r9").connect_ports()
        client.get_by_name("r9-sw1").bind_ip("10.0.9.9")  # type: ignore[attr-defined]
        address = "10.0.9.9"
        strip, outlet = "r9-pwr1", 16
        found = snapshot(site.store)
        assert [found[f"r9{name}"][0] for name in ("", "-sw1", "-ts1", "-pwr1")] == [
            "apcrack", "cisco4948", "opengearcm4148", "powertowerxm",
        ]  # fmt: skip
        assert attribute(found, strip, "port-pwr-nema-5", "connection", outlet) == ["r9-sw1"]
        assert attribute(found, strip, "port-nic-eth", "osportname", 1) == ["nic0"]
    else:
        make_rack(get_by_name("dc"), 9)  # type: ignore[arg-type]
        get_by_name("r9").set_attr(key="racklayout", value="7007")
        address = "10.0.0.9"
    hands = Hands(site.url, module=str(module))
    for mac, port in zip(MACS, (3, 12), strict=False):
        for _again in range(2):
            outcome = hands.register(mac, port, switch=address)
            assert outcome.state == "registered", outcome.reason
    found = snapshot(site.store)
    for server, port, outlet in (("s0001", 3, 27), ("s0002", 12, 4)):
        assert attribute(found, "r9-sw1", "port-nic-eth", "connection", port) == [server]
        assert attribute(found, "r9-pwr1", "port-pwr-nema-5", "connection", outlet) == [server]
        assert attribute(found, "r9-ts1", "port-console-serial", "connection", port) == [server]
        assert attribute(found, "r9", "_contains", "ru", port) == [server]


def test_outlets_have_names(site: Inventory) -> None:
    strip = PowerTowerXM("p1")
    assert [strip.port_number(name) for name in ("aa1", ".aa8", "ab1", "ba1", "bb1", "bb8", 7)] == [
        1, 8, 9, 17, 25, 32, 7,
    ]  # fmt: skip
    for wrong in ("aa9", "ca1", "", "aa1 "):
        with pytest.raises(ClustoError, match="no outlet is called"):
            strip.port_number(wrong)
    with pytest.raises(ClustoError, match="no port is called 'aa1'"):
        BasicServer("b1").port_free("pwr-nema-5", "aa1")


def test_who_is_in_what(site: Inventory) -> None:
    rack, server = client.get_by_name("r1"), BasicServer("b1")
    assert server not in rack
    rack.insert(server, 5)  # type: ignore[call-arg]
    assert server in rack and rack in server.parents(clusto_types=["rack"])
    assert client.get_or_create("b1", client.PenguinServer) == server, "one name is one entity"


BROKEN = {
    "a fault in what it imports": ("import helper\n\ndef get_factory(name):\n    return helper.Factory(name)\n", "1 /"),
    "a fault of its own": ("def get_factory(name):\n    return missing\n", ""),
    "no Python at all": ("def get_factory(name:\n", ""),
}
GOOD = """
from control.clusto import client

class Factory:
    def __init__(self, name):
        self.switch = client.get_by_name(name + "-sw1")
    def add_server(self, server, switchport):
        if server.port_free("nic-eth", 1):
            server.connect_ports("nic-eth", 1, self.switch, switchport)
"""


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("kind", BROKEN)
def test_a_repaired_module_counts_at_the_next_machine(
    site: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, by_name: bool
) -> None:
    """Without SIGHUP: also when the repair came within the second, and kept the file's length."""
    monkeypatch.setattr(factories, "FOLDER", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    module, helper = tmp_path / "sitefactory.py", tmp_path / "helper.py"
    text, spoilt = BROKEN[kind]
    module.write_text(text)
    helper.write_text(GOOD + spoilt)
    hands = Hands(site.url, module="sitefactory" if by_name else str(module))
    outcome = hands.register(MACS[0], 5)
    assert outcome.state == "waits" and "raised" in outcome.reason, outcome
    if spoilt:
        helper.write_text(GOOD)
    else:
        module.write_text(BROKEN["a fault in what it imports"][0])
    outcome = hands.register(MACS[0], 5)
    assert outcome.state == "registered", outcome.reason
    helper.write_text(GOOD.replace("def add_server", "def left_out"))
    assert hands.register(MACS[1], 6).state == "waits", "and what was spoilt counts as well"
