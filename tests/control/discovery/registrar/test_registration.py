"""What one machine does to the inventory: every step over HTTP against the embedded one, and every reason to wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from ext.leases import LeaseState as State

from control.clusto.client import (
    BasicNetworkSwitch,
    BasicRack,
    BasicServer,
    IPManager,
    PenguinServer,
    Pool,
    get_by_name,
)
from control.config.config import Dhcp
from control.discovery.registrar.factories import Builder
from control.discovery.registrar.inventory import Step
from control.discovery.registrar.registration import Spot
from control.mac import spellings
from control.plan.plan import plan_hosts
from control.sources.fetch import Fetcher
from tests.control.discovery.conftest import Inventory
from tests.control.discovery.support import MAC, MACS, Hands, Killed, Snapshot, attribute, servers, snapshot


def test_a_new_server_ends_up_in_its_place_with_everything_connected(site: Inventory) -> None:
    outcome = Hands(site.url).register(MAC, 7, vlan=442)
    assert (outcome.state, outcome.server, outcome.switch, outcome.port) == ("registered", "s0001", "r1-sw1", 7)
    found = snapshot(site.store)
    assert found["s0001"][0] == "penguinserver"
    assert attribute(found, "s0001", "bootstrap", "mac") == [MAC]
    assert attribute(found, "s0001", "port-nic-eth", "mac", 1) == [], "DHCP has not confirmed it yet"
    assert attribute(found, "s0001", "port-nic-eth", "connection", 1) == ["r1-sw1"]
    assert attribute(found, "s0001", "port-nic-eth", "otherportnum", 1) == [7]
    assert attribute(found, "r1-sw1", "port-nic-eth", "connection", 7) == ["s0001"]
    assert attribute(found, "r1-sw1", "port-nic-eth", "otherportnum", 7) == [1]
    assert attribute(found, "r1-sw1", "port-nic-eth", "vlan", 7) == [442]
    assert attribute(found, "r1-pwr1", "port-pwr-nema-5", "connection", 7) == ["s0001"]
    assert attribute(found, "r1-ts1", "port-console-serial", "connection", 7) == ["s0001"]
    assert attribute(found, "r1", "_contains", "ru", 7) == ["s0001"]
    assert attribute(found, "s0001", "ip", "ipstring", 0) == ["10.100.1.2"], "the first but the gateway"
    server = get_by_name("s0001")
    assert sorted(server.parent_paths()) == ["/pool/pxeboot", "/rack/r1"]
    assert isinstance(server, PenguinServer) and server.get_ips() == ["10.100.1.2"]


def test_a_free_address_is_none_of_ours_no_server_id_and_no_relay_s(site: Inventory) -> None:
    """A new server was given 10.0.0.10: the address of the service itself."""
    hands = Hands(site.url)
    hands.reserved = dict.fromkeys((f"10.100.1.{number}" for number in (2, 3, 5)), "this machine's, on eth0")
    for mac, port in zip(MACS, (7, 8, 9), strict=False):
        assert hands.register(mac, port).state == "registered"
    found = snapshot(site.store)
    given = [attribute(found, f"s000{number}", "ip", "ipstring", 0) for number in (1, 2, 3)]
    assert given == [["10.100.1.4"], ["10.100.1.6"], ["10.100.1.7"]]


def test_a_numbered_address_that_is_ours_or_the_gateway_is_refused(site: Inventory) -> None:
    dc = get_by_name("dc")
    dc.set_attr("racklayout", "1-20=1-20", subkey="address")
    hands = Hands(site.url)
    hands.reserved = {"10.100.1.7": "a relay, by the giaddr of requests"}
    outcome = hands.register(MACS[0], 7)
    assert outcome.state == "waits" and "10.100.1.7 is a relay, by the giaddr of requests; no server" in outcome.reason
    outcome = hands.register(MACS[1], 1)
    assert outcome.state == "waits" and "10.100.1.1 is the gateway of net-r1" in outcome.reason


def test_the_same_trap_again_changes_nothing(site: Inventory) -> None:
    hands = Hands(site.url)
    hands.register(MAC, 7)
    before = snapshot(site.store)
    for _ in range(3):
        outcome = hands.register(MAC, 7)
        assert (outcome.state, outcome.did) == ("registered", [])
    assert Hands(site.url).register(MAC, 7).did == []
    assert snapshot(site.store) == before


def test_a_host_s_dhcp_makes_the_mac_count_and_a_bmc_s_after_an_hour_or_a_person_s_word(site: Inventory) -> None:
    hands = Hands(site.url)
    bmc, host = MACS[:2]
    outcome = hands.register(bmc, 3, roles=("bmc",))
    assert outcome.state == "registered" and any(f"ctl adopt {bmc}" in note for note in outcome.notes)
    assert attribute(snapshot(site.store), "s0001", "port-nic-eth", "ipmi-mac", 1) == [], "one request says nothing"
    assert hands.register(bmc, 3, roles=("bmc",), lasting=True).state == "confirmed"
    outcome = hands.register(host, 3, roles=("host",))
    assert (outcome.state, outcome.server, outcome.answered) == ("confirmed", "s0001", True)
    found = snapshot(site.store)
    assert servers(found) == ["s0001"]
    assert attribute(found, "s0001", "port-nic-eth", "mac", 1) == [host]
    assert attribute(found, "s0001", "port-nic-eth", "ipmi-mac", 1) == [bmc]
    assert sorted(attribute(found, "s0001", "bootstrap", "mac")) == [bmc, host]
    hands.register(MACS[2], 4, roles=("bmc",), bmc_word=True)
    assert attribute(snapshot(site.store), "s0002", "port-nic-eth", "ipmi-mac", 1) == [MACS[2]], "a person's word"


@pytest.mark.parametrize("lasting, word", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("port", ["port-nic-eth", "port-nic-ib"])
def test_a_nic_s_mac_is_never_recorded_as_a_bmc_s(site: Inventory, port: str, lasting: bool, word: bool) -> None:
    """A forged DISCOVER in the name of a host, by MAC and vendor class, wrote that for good."""
    server = BasicServer("web7")
    server.set_attr(port, MAC.upper(), subkey="mac", number=2)
    get_rack().insert(server, 7)
    before = snapshot(site.store)
    outcome = Hands(site.url).register(MAC, 0, places=[], roles=("bmc",), lasting=lasting, bmc_word=word)
    if port == "port-nic-eth":
        assert outcome.server == "web7" and any("not recorded as an ipmi-mac" in note for note in outcome.notes)
    assert snapshot(site.store) == before


@pytest.mark.parametrize("spelling", list(spellings("02:ab:cd:00:0e:0f")))
def test_a_mac_is_known_in_every_spelling_that_the_inventory_may_have(site: Inventory, spelling: str) -> None:
    """Dotted, it was a stranger: its server got a twin with the same MAC, and neither was answered."""
    mac = "02:ab:cd:00:0e:0f"
    server = BasicServer("web7")
    server.set_port_attr("nic-eth", 1, "mac", spelling)
    get_rack().insert(server, 7)
    before = snapshot(site.store)
    hands = Hands(site.url)
    outcome = hands.register(mac, 7)
    assert outcome.state == "waits" and "/server/web7" in outcome.reason
    outcome = hands.register(mac, 0, places=[], roles=("bmc",), bmc_word=True)
    assert any("not recorded as an ipmi-mac" in note for note in outcome.notes)
    assert snapshot(site.store) == before
    assert hands.register(mac, 7, roles=("boot",), adopted=True).state == "confirmed"
    after = snapshot(site.store)
    assert servers(after) == ["web7"] and attribute(after, "web7", "port-nic-eth", "mac", 1) == [spelling]


def test_a_mac_of_mixed_case_on_another_server_s_nic_is_no_bmc_s(site: Inventory) -> None:
    """A person adopted it as the BMC of the one, and it was the other's NIC."""
    mac = "02:ab:cd:00:0e:0f"
    BasicServer("other").set_port_attr("nic-eth", 1, "mac", "02:Ab:cD:00:0e:0F")
    BasicServer("web7").set_attr("bootstrap", mac, subkey="mac")
    before = snapshot(site.store)
    outcome = Hands(site.url).register(mac, 0, places=[], roles=("bmc",), bmc_word=True, served="other")
    assert (outcome.state, outcome.did) == ("waits", [])
    assert f"{mac} stands at /server/other, /server/web7; wanted one; correct the inventory" in outcome.reason
    assert snapshot(site.store) == before
    outcome = Hands(site.url).register(mac, 0, places=[], roles=("bmc",), bmc_word=True, served="web7, gone")
    assert outcome.server == "web7" and outcome.did, "who has it no more has no word in it"


def test_a_mac_of_mixed_case_is_known_by_who_is_served(site: Inventory) -> None:
    server = BasicServer("web7")
    server.set_port_attr("nic-eth", 1, "mac", "02-Ab-cD-00-0e-0F")
    before = snapshot(site.store)
    for served in ("web7", "gone, web7"):
        outcome = Hands(site.url).register("02:ab:cd:00:0e:0f", 7, served=served)
        assert outcome.state == "waits" and "/server/web7" in outcome.reason
    assert snapshot(site.store) == before
    outcome = Hands(site.url).register(MAC, 7, served="web7")
    assert outcome.server == "s0001", "what the table says may be old: the MAC has to stand there"


def test_a_bootstrap_mac_in_dots_is_not_written_twice(site: Inventory) -> None:
    hands = Hands(site.url)
    hands.register(MAC, 7)
    get_by_name("s0001").set_attr("bootstrap", "0011.2233.4455", subkey="mac")
    before = snapshot(site.store)
    assert hands.register(MAC, 7).did == []
    assert snapshot(site.store) == before


def test_an_hour_of_a_mac_that_no_port_shows_is_not_enough(site: Inventory) -> None:
    hands = Hands(site.url)
    hands.register(MAC, 3)
    hands.register(MAC, 0, places=[], roles=("bmc",), lasting=True)
    assert attribute(snapshot(site.store), "s0001", "port-nic-eth", "ipmi-mac", 1) == []


def test_a_sighting_without_a_trap_counts_for_a_bootstrap_mac(site: Inventory) -> None:
    hands = Hands(site.url)
    hands.register(MAC, 3)
    assert hands.register(MAC, 0, places=[], roles=("host",)).state == "confirmed"
    assert hands.register(MACS[9], 0, places=[], roles=("host",)).state == "unknown"
    assert attribute(snapshot(site.store), "s0001", "port-nic-eth", "mac", 1) == [MAC]


def test_one_chaddr_of_bmc_and_host_gets_both_roles_only_when_the_host_boots(site: Inventory) -> None:
    hands = Hands(site.url)
    hands.register(MAC, 3, roles=("bmc",), lasting=True)
    outcome = hands.register(MAC, 3, roles=("bmc", "host"))
    assert any("taken for the BMC's" in note for note in outcome.notes)
    assert attribute(snapshot(site.store), "s0001", "port-nic-eth", "mac", 1) == []
    hands.register(MAC, 3, roles=("bmc", "boot"))
    found = snapshot(site.store)
    assert attribute(found, "s0001", "port-nic-eth", "mac", 1) == [MAC]
    assert attribute(found, "s0001", "port-nic-eth", "ipmi-mac", 1) == [MAC]


def test_a_mac_that_stands_there_is_never_replaced(site: Inventory) -> None:
    hands = Hands(site.url)
    hands.register(MACS[0], 3, roles=("host",))
    for _ in range(2):
        outcome = hands.register(MACS[1], 3, roles=("boot",))
        assert any("not changed" in note for note in outcome.notes) and outcome.state == "registered"
    assert attribute(snapshot(site.store), "s0001", "port-nic-eth", "mac", 1) == [MACS[0]]


def test_a_second_nic_joins_the_server_of_its_rack_unit_whichever_comes_first(site: Inventory) -> None:
    hands = Hands(site.url)
    assert hands.register(MACS[0], 25, roles=("host",)).server == "s0001"
    assert hands.register(MACS[1], 5, roles=("host",)).server == "s0001"
    found = snapshot(site.store)
    assert servers(found) == ["s0001"]
    assert attribute(found, "s0001", "port-nic-eth", "otherportnum", 2) == [25]
    assert attribute(found, "s0001", "port-nic-eth", "otherportnum", 1) == [5]
    assert attribute(found, "s0001", "port-nic-eth", "mac", 1) == [MACS[1]]
    assert attribute(found, "s0001", "port-nic-eth", "mac", 2) == [MACS[0]]
    # And is no stranger any more: whoever plans the hosts finds both cards, all at once and by the second alone.
    source = Fetcher(site.url)
    whole = source.read().whole()
    assert whole.things["/server/s0001"].macs() == [(2, MACS[0]), (1, MACS[1])]
    looked_up = source.read_hosts([MACS[0]], [], source.read().frame)
    assert looked_up.hosts == ["/server/s0001"]
    states = {row.mac: row.state for row in plan_hosts(whole, Dhcp()).rows}
    assert states[int(MACS[0].replace(":", ""), 16)] is State.OTHER_PORT


def test_a_server_that_stands_in_the_unit_already_is_taken(site: Inventory) -> None:
    server = BasicServer("web7")
    get_rack().insert(server, 7)
    assert Hands(site.url).register(MAC, 7).server == "web7"
    found = snapshot(site.store)
    assert servers(found) == ["web7"]
    assert attribute(found, "r1-sw1", "port-nic-eth", "connection", 7) == ["web7"]


def get_rack() -> BasicRack:
    rack = get_by_name("r1")
    assert isinstance(rack, BasicRack)
    return rack


def waiting(site: Inventory, mac: str, port: int, **named: object) -> str:
    """The reason; nothing was written."""
    before = snapshot(site.store)
    outcome = Hands(site.url).register(mac, port, **named)  # type: ignore[arg-type]
    assert outcome.state in ("waits", "off", "uplink"), outcome
    assert snapshot(site.store) == before
    return outcome.reason


def test_an_occupied_unit_waits(site: Inventory) -> None:
    server = BasicServer("web7")
    server.set_port_attr("nic-eth", 1, "mac", MACS[8])
    get_rack().insert(server, 7)
    assert "rack unit holds /server/web7 with nic-eth 1 mac" in waiting(site, MAC, 7)


def test_a_mac_that_moves_waits(site: Inventory) -> None:
    hands = Hands(site.url)
    hands.register(MAC, 3)
    assert "connected to r1-sw1:3, and was seen on r1-sw1 port 9: it moved" in waiting(site, MAC, 9)
    hands.register(MACS[1], 4)
    assert "where /server/s0002 is connected" in waiting(site, MAC, 4)


def test_a_known_mac_that_is_connected_nowhere_waits_for_adopt(site: Inventory) -> None:
    server = BasicServer("web1")
    server.set_port_attr("nic-eth", 1, "mac", MAC)
    assert f"ctl adopt {MAC}" in waiting(site, MAC, 3)
    outcome = Hands(site.url).register(MAC, 3, adopted=True)
    assert (outcome.state, outcome.server) == ("confirmed", "web1") and outcome.answered
    assert attribute(snapshot(site.store), "r1-sw1", "port-nic-eth", "connection", 3) == ["web1"]


@pytest.mark.parametrize(
    "switch, container, off",
    [
        pytest.param(0, None, True, id="a-0-on-the-switch-vetoes"),
        pytest.param("0", None, True, id="also-as-text"),
        pytest.param("1", None, False, id="a-1-as-text"),
        pytest.param("maybe", None, True, id="what-is-neither-is-off"),
        pytest.param(None, 0, True, id="a-container-next-to-it-beats-the-datacenter"),
        pytest.param(1, 0, False, id="the-switch-beats-its-containers"),
    ],
)
def test_discovery_is_merged_and_the_most_specific_wins(
    site: Inventory, switch: int | str | None, container: int | None, off: bool
) -> None:
    device = get_by_name("r1-sw1")
    if switch is not None:
        device.set_attr("snmp", switch, subkey="discovery")
    if container is not None:
        pool = Pool("access")
        pool.insert(device)
        pool.set_attr("snmp", container, subkey="discovery")
    if off:
        assert "snmp discovery is" in waiting(site, MAC, 3)
    else:
        assert Hands(site.url).register(MAC, 3).state == "registered"


def test_two_containers_of_one_level_that_disagree_are_off(site: Inventory) -> None:
    device = get_by_name("r1-sw1")
    for name, value in (("a", 1), ("b", 0)):
        pool = Pool(name)
        pool.insert(device)
        pool.set_attr("snmp", value, subkey="discovery")
    assert "snmp discovery is off (b)" in waiting(site, MAC, 3)


def test_no_discovery_anywhere(site: Inventory) -> None:
    get_by_name("dc").del_attrs("snmp")
    assert "set neither there nor on a container" in waiting(site, MAC, 3)


def test_containers_in_a_circle_end(site: Inventory) -> None:
    a, b = Pool("a"), Pool("b")
    a.insert(b)
    b.insert(a)
    a.insert(get_by_name("r1-sw1"))
    assert Hands(site.url).register(MAC, 3).state == "registered"


def test_the_port_map_of_a_switch(site: Inventory) -> None:
    switch = get_by_name("r1-sw1")
    switch.set_attr("snmp", "101-120=1-20", subkey="port_map")
    assert Hands(site.url).register(MAC, 107).port == 7
    assert "has no bridge port 7" in waiting(site, MACS[1], 7)
    switch.set_attr("snmp", "101-120=1-19", subkey="port_map")
    assert "found 20 on the left, 19 on the right" in waiting(site, MACS[1], 107)


def test_a_port_by_its_ifindex_needs_a_map_and_is_the_same_port(site: Inventory) -> None:
    switch = get_by_name("r1-sw1")
    at: list[list[str | int]] = [["10.0.0.1", "ifIndex 10107 (refused)", 0]]
    assert "ifIndex 10107, and snmp ifindex_map is set neither there" in waiting(site, MAC, 0, places=at)
    switch.set_attr("snmp", "10101-10120=1-19", subkey="ifindex_map")
    assert "ifindex_map of r1-sw1: 10101-10120=1-19: found 20 on the left" in waiting(site, MAC, 0, places=at)
    switch.set_attr("snmp", "436207616-436207620=1-5, 10101-10120=1-20", subkey="ifindex_map")
    other = [["10.0.0.1", "ifIndex 7 (refused)", 0]]
    assert "its snmp ifindex_map has no ifIndex 7" in waiting(site, MAC, 0, places=other)
    assert "port security of r1-sw1 port 7 does not admit" in waiting(site, MAC, 0, places=at)
    outcome = Hands(site.url).register(MAC, 0, places=[*at, ["10.0.0.1", 7, 10]])
    assert (outcome.state, outcome.port) == ("registered", 7), "the switch has learnt it there since"
    assert attribute(snapshot(site.store), "r1-sw1", "port-nic-eth", "vlan", 7) == [10]


def test_what_port_security_refuses_is_nobody_s_further_mac_until_a_person_says_so(site: Inventory) -> None:
    get_by_name("dc").set_attr("snmp", "10101-10120=1-20", subkey="ifindex_map")
    hands = Hands(site.url)
    hands.register(MACS[0], 7, vlan=442)
    refused: list[list[str | int]] = [["10.0.0.1", "ifIndex 10107 (refused)", 0]]
    assert "does not admit" in waiting(site, MACS[1], 0, places=refused)
    outcome = Hands(site.url).register(MACS[1], 0, places=refused, adopted=True)
    assert outcome.server == "s0001" and "one more MAC behind r1-sw1 port 7" in outcome.notes[0]
    found = snapshot(site.store)
    assert attribute(found, "s0001", "bootstrap", "mac") == MACS[:2]
    assert attribute(found, "r1-sw1", "port-nic-eth", "vlan", 7) == [442], "the trap did not say another"


def test_a_port_id_needs_a_map_of_its_own(site: Inventory) -> None:
    """DELL-NETWORKING-MAC-NOTIFICATION-MIB does not say what it counts: it is not taken for a bridge port."""
    at: list[list[str | int]] = [["10.0.0.1", "portId 5", 10]]
    get_by_name("r1-sw1").set_attr("snmp", "1-20=1-20", subkey="port_map")
    assert "portId 5, and snmp portid_map is set neither there" in waiting(site, MAC, 0, places=at)
    get_by_name("dc").set_attr("snmp", "1-20=1-20", subkey="portid_map")
    outcome = Hands(site.url).register(MAC, 0, places=at)
    assert (outcome.state, outcome.server, outcome.port) == ("registered", "s0001", 5)


def test_a_trap_without_a_vlan_writes_none(site: Inventory) -> None:
    assert Hands(site.url).register(MAC, 3, vlan=0).state == "registered"
    assert attribute(snapshot(site.store), "r1-sw1", "port-nic-eth", "vlan", 3) == []
    dry = Hands(site.url, dry=True).register(MACS[1], 4, vlan=0)
    assert dry.state == "would" and not any("VLAN" in word for word in dry.did)


def test_places_that_cannot_be(site: Inventory) -> None:
    assert "10.0.9.9: the address is bound to nothing" in waiting(site, MAC, 3, switch="10.0.9.9")
    assert "has no nic-eth port 49 (bridge port 49): correct its snmp port_map" in waiting(site, MAC, 49)
    get_by_name("r1-sw1").set_attr("snmp", "5=49", subkey="portid_map")
    reason = waiting(site, MAC, 0, places=[["10.0.0.1", "portId 5", 0]])
    assert "has no nic-eth port 49 (portId 5): correct its snmp portid_map" in reason
    assert "ru_map has no switch port 45" in waiting(site, MAC, 45)
    other = BasicNetworkSwitch("core")
    get_by_name("r1-sw1").connect_ports("nic-eth", 48, other, 1)  # type: ignore[attr-defined]
    assert "leads to another switch" in waiting(site, MAC, 48)
    assert "at the same time" in waiting(site, MAC, 0, places=[["10.0.0.1", 3, 1], ["10.0.0.1", 4, 1]])


def test_an_uplink_among_the_places_is_left_out(site: Inventory) -> None:
    get_by_name("r1-sw1").connect_ports("nic-eth", 48, BasicNetworkSwitch("core"), 1)  # type: ignore[attr-defined]
    outcome = Hands(site.url).register(MAC, 0, places=[["10.0.0.1", 48, 1], ["10.0.0.1", 4, 1]])
    assert (outcome.state, outcome.port, outcome.uplinks) == ("registered", 4, [["10.0.0.1", 48]])


def test_racks_that_cannot_be(site: Inventory) -> None:
    switch = BasicNetworkSwitch("lost")
    switch.bind_ip("10.0.0.99")
    dc = get_by_name("dc")
    dc.insert(switch)
    assert "is in no rack" in waiting(site, MAC, 3, switch="10.0.0.99")
    for name in ("r8", "r9"):
        rack = BasicRack(name)
        rack.add_attr("_contains", switch, subkey="ru", number=1)
    assert "is in racks r8, r9; wanted exactly one" in waiting(site, MAC, 3, switch="10.0.0.99")
    dc.del_attrs("racklayout")
    assert "rack r1 has no factory" in waiting(site, MAC, 3)


def test_what_the_layout_names_must_be_there(site: Inventory) -> None:
    get_by_name("r1-pwr1").delete()
    assert "power strip r1-pwr1, which does not exist" in waiting(site, MAC, 3)


def test_a_name_manager_that_is_not_there(site: Inventory) -> None:
    get_by_name("servernames").delete()
    assert "name manager servernames does not exist" in waiting(site, MAC, 3)


def test_names_that_are_taken_are_passed_over(site: Inventory) -> None:
    hands = Hands(site.url)
    assert hands.register(MACS[0], 1).server == "s0001"
    BasicServer("s0002")
    BasicServer("s0003")
    assert hands.register(MACS[1], 2).server == "s0004"
    assert Hands(site.url).register(MACS[2], 3).server == "s0005"


def test_too_many_macs_behind_a_server_wait(site: Inventory) -> None:
    hands = Hands(site.url)
    for mac in MACS[:8]:
        assert hands.register(mac, 3).server == "s0001"
    assert "has 8 MACs already" in waiting(site, MACS[9], 3)


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(site: Inventory) -> None:
    before = snapshot(site.store)
    outcome = Hands(site.url, dry=True).register(MAC, 7, vlan=9, roles=("host",))
    assert outcome.state == "would"
    assert outcome.did[0] == "make a penguinserver named like s0001"
    assert "rack r1 unit 7" in outcome.did and "nic-eth 1 to r1-sw1:7" in outcome.did
    assert snapshot(site.store) == before


def test_two_registrars_with_one_machine_end_with_one_server(site: Inventory) -> None:
    """Another bootstorm makes its server between our look and our writing: the first by name stays."""
    ours, theirs = Hands(site.url), Hands(site.url)
    alone = theirs.registration.alone

    def meanwhile(*arguments: object) -> str:
        ours.register(MAC, 7)
        return alone(*arguments)  # type: ignore[arg-type]

    theirs.registration.alone = meanwhile  # type: ignore[method-assign,assignment]
    outcome = theirs.register(MAC, 7)
    found = snapshot(site.store)
    assert len(servers(found)) == 1, servers(found)
    assert attribute(found, "r1-sw1", "port-nic-eth", "connection", 7) == servers(found)
    assert outcome.state in ("registered", "waits")


def test_ports_that_were_taken_since_they_were_looked_at(site: Inventory) -> None:
    """What is remembered of an outlet or a switch's port may be old; nothing is written over what stands there now."""
    hands = Hands(site.url)
    hands.register(MACS[0], 1)
    other = BasicServer("other")
    other.connect_ports("pwr-nema-5", 1, get_by_name("r1-pwr1"), 7)  # type: ignore[arg-type]
    outcome = hands.register(MAC, 7)
    assert outcome.state == "registered"
    assert any("not connected" in step and "/server/other" in step for step in outcome.did), outcome.did
    looked = hands.registration.builder_of

    def meanwhile(spot: Spot) -> Builder:
        other.connect_ports("nic-eth", 1, get_by_name("r1-sw1"), 8)  # type: ignore[arg-type]
        return looked(spot)

    hands.registration.builder_of = meanwhile  # type: ignore[method-assign]
    assert "that port is connected to /server/other:1" in hands.register(MACS[1], 8).reason
    found = snapshot(site.store)
    assert attribute(found, "r1-sw1", "port-nic-eth", "connection", 8) == ["other"]
    assert attribute(found, "r1-pwr1", "port-pwr-nema-5", "connection", 7) == ["other"]


def addresses(found: Snapshot, server: str) -> dict[str, tuple[str, int]]:
    """Port name -> address, and how many attributes it has."""
    rows = [row for row in found[server][1] if row[0] == "ip"]
    return {
        row[4]: (attribute(found, server, "ip", "ipstring", row[2])[0], sum(one[2] == row[2] for one in rows))
        for row in rows
        if row[1] == "osportname"
    }


def test_a_bmc_has_an_address_of_its_own_by_the_layout(site: Inventory) -> None:
    """Also when the registrar dies between any two attributes of either address."""
    dc = get_by_name("dc")
    IPManager("bmcs", baseip="10.200.0.0", netmask="255.255.255.0")
    for field, value in (("bmc_address", "1-20=101-120"), ("bmc_ipmanager", "bmcs"), ("bmc_osport", "ipmi")):
        dc.set_attr("racklayout", value, subkey=field)
    assert Hands(site.url).register(MAC, 20).state == "registered"
    assert addresses(snapshot(site.store), "s0001") == {"eth0": ("10.100.1.2", 5), "ipmi": ("10.200.0.120", 5)}
    for death in range(1, 11):
        hands = Hands(site.url, in_one=False)
        act, done = hands.inventory._act, [0]

        def mortal(path: str, action: str, parameters: Mapping[str, str], act: Any = act, done: Any = done) -> Any:
            answer = act(path, action, parameters)
            done[0] += parameters.get("key") == "ip"
            if done[0] == death:  # noqa: B023
                raise Killed
            return answer

        hands.inventory._act = mortal  # type: ignore[method-assign]
        with pytest.raises(Killed):
            hands.register(MACS[death], death)
        heir = Hands(site.url, in_one=False)
        heir.names = hands.names
        outcome = heir.register(MACS[death], death)
        assert outcome.state == "registered", outcome
        wanted = {"eth0": (f"10.100.1.{2 + death}", 5), "ipmi": (f"10.200.0.{100 + death}", 5)}
        assert addresses(snapshot(site.store), outcome.server) == wanted, f"killed at address attribute {death}"


def test_a_server_costs_few_requests(site: Inventory) -> None:
    """And fewer than twice as many where the inventory is the original's.  A switch's first server reads its rack."""
    counts = []
    for in_one in (True, False):
        hands = Hands(site.url, in_one=in_one)
        hands.register(MACS[in_one], 1 + in_one)
        before = hands.api.calls
        hands.register(MACS[2 + in_one], 3 + in_one)
        counts.append(hands.api.calls - before)
    print(f"requests a server: {counts[0]} of the embedded inventory, {counts[1]} of the original")
    assert counts[0] <= 10 and counts[1] <= 33, counts


def test_an_address_that_another_takes_at_the_same_time(site: Inventory) -> None:
    hands = Hands(site.url)
    rival = BasicServer("a-rival")
    written = hands.inventory.carry_out
    taken: list[str] = []

    def meanwhile(steps: Sequence[Step]) -> None:
        for step in steps:
            if step.parameters.get("subkey") == "ipstring" and not taken:
                taken.append(step.parameters["value"])
                rival.bind_ip(taken[0])
        written(steps)

    hands.inventory.carry_out = meanwhile  # type: ignore[method-assign]
    assert hands.register(MAC, 7).state == "registered"
    assert get_by_name("s0001").get_ips() == ["10.100.1.3"] and taken == ["10.100.1.2"]  # type: ignore[attr-defined]
