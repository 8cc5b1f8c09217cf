"""control/plan/plan.py: which addresses, MACs and networks may be used, as tables whose ids name the rules."""

from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from typing import Any

import pytest
from ext.leases import LeaseState as State

from control.config.config import Dhcp
from control.plan.plan import plan_hosts
from control.plan.rows import Plan
from control.sources.model import Attribute, Inventory
from tests.control.inventories import OFFSET, At, Site, attribute, look, row_of

ROUTER, LONG = 3, "x" * (1 << 20)


def faults(plan: Plan, name: str = "a") -> str:
    return "; ".join(plan.faults.get(name, []))


# --- networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "network, gateway, address, mask, broadcast",
    [
        pytest.param("10.1.0.0/24", "10.1.0.1", "10.1.0.10", "255.255.255.0", "10.1.0.255", id="private"),
        pytest.param("8.20.30.0/24", "8.20.30.1", "8.20.30.53", "255.255.255.0", "8.20.30.255", id="public"),
        pytest.param("172.16.0.0/12", None, "172.31.255.254", "255.240.0.0", "172.31.255.255", id="no-gateway"),
        pytest.param("10.1.0.8/31", "10.1.0.8", "10.1.0.9", "255.255.255.254", "10.1.0.9", id="RFC3021"),
        pytest.param("10.1.0.8/32", None, "10.1.0.8", "255.255.255.255", None, id="host-route"),
        pytest.param("10.1.0.77/24", None, "10.1.0.10", "255.255.255.0", "10.1.0.255", id="baseip-inside-the-network"),
    ],
)
def test_the_network_s_options(
    network: str, gateway: str | None, address: str, mask: str, broadcast: str | None
) -> None:
    site = Site(network, gateway)
    site.host("a", address)
    plan = site.plan()
    options = look(plan).options
    assert options.get(ROUTER) == (IPv4Address(gateway).packed if gateway else None)
    assert (options[1], options.get(28)) == (
        IPv4Address(mask).packed,
        IPv4Address(broadcast).packed if broadcast else None,
    )
    assert [str(IPv4Address(last)) for _first, last in plan.networks] == [broadcast or address]


def test_attributes_replace_what_the_network_says() -> None:
    site = Site()
    site.pool("boot", enabled=1, router="10.1.0.2")
    site.host("a", "10.1.0.10", pools=["boot"], dhcp={"subnet_mask": "255.255.0.0"})
    options = look(site.plan()).options
    assert (options[ROUTER], options[1]) == (bytes([10, 1, 0, 2]), bytes([255, 255, 0, 0]))


@pytest.mark.parametrize(
    "manager, reason",
    [
        pytest.param({"network": None}, "IP manager without baseip", id="no-baseip"),
        pytest.param({"network": "10.1.0.0/24", "netmask": "255.0.255.0"}, "'255.0.255.0'", id="mask-with-a-hole"),
        pytest.param({"network": "10.1.0.0/24", "gateway": "none"}, "'none'", id="gateway-of-letters"),
        pytest.param({"network": "fe80:::/24"}, "'fe80:::'", id="no-IPv6"),
        pytest.param({"network": LONG + "/24"}, "IP manager with baseip", id="1-MB"),
    ],
)
def test_an_unusable_manager_is_reported_and_its_addresses_are_not_served(manager: dict[str, Any], reason: str) -> None:
    site = Site(None)
    site.network("net", **manager)
    site.network("good", "10.2.0.0/24")
    site.host("a", "10.1.0.10")
    site.host("b", At("10.2.0.10", "good"))
    plan = site.plan()
    assert reason in faults(plan, "net") and len(str(plan.faults)) < 800
    assert look(plan, "a").state is State.QUARANTINED
    assert look(plan, "a").reason == "address 10.1.0.10: its manager /resourcemanager/net is not usable"
    assert look(plan, "b").state is State.SERVED
    assert plan.networks == [(0x0A020000, 0x0A0200FF)]


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address, reason",
    [
        pytest.param(At("10.2.0.10"), "lies outside its manager's network 10.1.0.0/24", id="outside-its-manager"),
        pytest.param(At("10.1.0.10", "gone"), "manager /resourcemanager/gone is not usable", id="manager-is-gone"),
        pytest.param(At("10.9.0.10", ""), "has no manager, and 0 managers contain it", id="no-manager-contains-it"),
        pytest.param(At("10.3.0.10", ""), "has no manager, and 2 managers contain it", id="two-managers-contain-it"),
        pytest.param(At("10.1.0.0"), "is the network or broadcast address", id="network-address"),
        pytest.param(At("10.1.0.255"), "is the network or broadcast address", id="broadcast-address"),
        pytest.param(At("10.1.0.1"), "is the gateway of 10.1.0.0/24", id="gateway"),
        pytest.param(At("127.0.0.5", "all"), "is not an address of a host", id="loopback"),
        pytest.param(At("239.1.2.3", "all"), "is not an address of a host", id="multicast"),
        pytest.param(At("240.0.0.1", "all"), "is not an address of a host", id="reserved"),
        pytest.param(At("255.255.255.255", "all"), "is not an address of a host", id="limited-broadcast"),
        pytest.param(At("0.0.0.0", "all"), "is not an address of a host", id="zero"),
        pytest.param(At("0.1.2.3", "all"), "is not an address of a host", id="network-0"),
        pytest.param(At("fe80:::1"), "'fe80:::1' (ip number 0) is no IPv4 address", id="no-IPv6"),
        pytest.param(At("10.1.0.010"), "'10.1.0.010' (ip number 0) is no IPv4 address", id="leading-zero"),
        pytest.param(At("10.1.0.10/24"), "is no IPv4 address", id="with-prefix"),
        pytest.param(At(LONG), "is no IPv4 address", id="1-MB"),
    ],
)  # fmt: skip
def test_an_unusable_address_quarantines_the_host(address: At, reason: str) -> None:
    site = Site()
    site.network("left", "10.3.0.0/24")
    site.network("right", "10.3.0.0/16")
    if address.manager == "all":
        site.network("all", "0.0.0.0/0")
    site.host("a", address)
    site.host("b", "10.1.0.11")
    plan = site.plan()
    assert look(plan).state is State.QUARANTINED
    assert reason in look(plan).reason and len(look(plan).reason) < 300
    assert faults(plan) == look(plan).reason
    assert look(plan, "b").state is State.SERVED and list(plan.faults) == ["a"]


@pytest.mark.parametrize(
    "rows, want",
    [
        pytest.param([(None, 0x0A01000A - (1 << 31))], ["10.1.0.10"], id="int-alone"),
        pytest.param([("ipstring", "10.1.0.10")], ["10.1.0.10"], id="ipstring-alone"),
        pytest.param([("ipstring", None), (None, 0x0A01000A - (1 << 31))], ["10.1.0.10"], id="NULL-ipstring"),
        pytest.param([(None, 0x0A01000A)], [], id="int-that-is-not-offset"),
        pytest.param([(None, 0x0A01000A + (1 << 31))], [], id="int-beyond-32-bits-is-not-wrapped-around"),
        pytest.param([(None, -(1 << 40))], [], id="int-far-below"),
        pytest.param([("cidr", "10.1.0.10/24")], [], id="neither"),
    ],
)
def test_where_an_address_is_written(rows: Sequence[tuple[str | None, Any]], want: list[str]) -> None:
    site = Site()
    manager = attribute("ip", "manager", "/resourcemanager/net", 4)
    site.host("a", extra=[manager, *(attribute("ip", subkey, value, 4) for subkey, value in rows)])
    assert look(site.plan()).addresses == want


def disagreeing() -> Site:
    """a's text says 10.1.0.10, its number 10.1.0.20."""
    site = Site()
    rows = [attribute("ip", "ipstring", "10.1.0.10", 0), attribute("ip", None, 0x0A010014 - OFFSET, 0)]
    site.host("a", extra=[*rows, attribute("ip", "manager", "/resourcemanager/net", 0)])
    return site


def test_a_record_whose_text_and_number_disagree_is_nobody_s_guess() -> None:
    seen = look(disagreeing().plan())
    assert (seen.state, seen.addresses) == (State.QUARANTINED, [])
    assert seen.reason == ("address 10.1.0.10 (ip number 0) is 10.1.0.20 in the same record: which one is meant?")


@pytest.mark.parametrize("address", ["10.1.0.10", "10.1.0.20"])
def test_both_that_a_disagreeing_record_may_mean_are_nobody_else_s(address: str) -> None:
    site = disagreeing()
    site.host("b", address)
    plan = site.plan()
    assert look(plan, "b").state is State.CONFLICT and f"{address} belongs to a and b" in look(plan, "b").reason


def test_text_and_number_that_agree_and_a_text_that_is_no_address() -> None:
    site = disagreeing()
    site.things["/server/a"][-3] = attribute("ip", "ipstring", "10.1.0.20", 0)
    assert look(site.plan()).addresses == ["10.1.0.20"]
    site.things["/server/a"][-3] = attribute("ip", "ipstring", "fe80::1", 0)
    assert "'fe80::1' (ip number 0) is no IPv4 address" in look(site.plan()).reason, "the number is no way out"


def test_two_addresses_on_one_port() -> None:
    """In one network the one that was bound first counts; in two networks both do."""
    site = Site()
    site.network("other", "10.2.0.0/24", "10.2.0.1")
    site.host("a", At("10.1.0.20", port="eth0"), At("10.1.0.10", port="eth0"), At("10.2.0.10", "other", port="eth0"))
    plan = site.plan()
    assert look(plan).addresses == ["10.1.0.20", "10.2.0.10"]
    assert plan.faults == {"a": ["address 10.1.0.10 is not used: 10.1.0.20 in the same network was bound first"]}


def test_an_address_without_manager_belongs_to_the_one_that_contains_it() -> None:
    site = Site()
    site.network("other", "10.2.0.0/24", "10.2.0.1")
    site.host("a", At("10.2.0.10", ""))
    seen = look(site.plan())
    assert seen.addresses == ["10.2.0.10"] and seen.options[ROUTER] == bytes([10, 2, 0, 1])


def test_the_manager_that_is_named_counts_where_several_contain_an_address() -> None:
    site = Site("10.1.0.0/16", "10.1.0.1")
    site.network("narrow", "10.1.7.0/24", "10.1.7.1")
    site.host("a", At("10.1.7.10", "narrow"))
    site.host("b", At("10.1.7.11", "net"))
    plan = site.plan()
    assert row_of(plan, "a").leases[0][1] == 24 and look(plan, "a").options[ROUTER] == bytes([10, 1, 7, 1])
    assert row_of(plan, "b").leases[0][1] == 16 and look(plan, "b").options[ROUTER] == bytes([10, 1, 0, 1])


def test_two_addresses_in_one_network_the_lowest_number_counts() -> None:
    site = Site()
    site.host("a", At("10.1.0.20", number=8), At("10.1.0.10", number=7), At("10.1.0.30", number=9))
    plan = site.plan()
    assert look(plan).addresses == ["10.1.0.10"]
    assert [line.split()[1] for line in plan.faults["a"]] == ["10.1.0.20", "10.1.0.30"]
    assert all("10.1.0.10 in the same network was bound first" in line for line in plan.faults["a"])


def test_two_networks_are_two_leases_each_with_its_own_network_options() -> None:
    site = Site()
    site.network("other", "10.2.0.0/16", None)
    site.host("a", At("10.2.0.10", "other", 3), At("10.1.0.10", "net", 2))
    plan = site.plan()
    assert look(plan).addresses == ["10.1.0.10", "10.2.0.10"], "the address that was bound first is preferred"
    assert look(plan, lease=0).options[ROUTER] == bytes([10, 1, 0, 1])
    assert ROUTER not in look(plan, lease=1).options and look(plan, lease=1).options[1] == bytes([255, 255, 0, 0])
    assert not plan.faults


def test_one_bad_address_of_two_is_reported_and_the_other_served() -> None:
    site = Site()
    site.host("a", At("10.1.0.255", number=1), At("10.1.0.10", number=2))
    plan = site.plan()
    assert look(plan).addresses == ["10.1.0.10"] and "10.1.0.255" in faults(plan)


def test_a_host_without_address() -> None:
    site = Site()
    site.host("a")
    seen = look(site.plan())
    assert (seen.state, seen.reason) == (State.NO_ADDRESS, "no address bound")


@pytest.mark.parametrize(
    "update_ipmi, port, want",
    [
        pytest.param(True, "ipmi", [], id="the-card's-address-is-not-the-host's"),
        pytest.param(False, "ipmi", ["10.1.0.10"], id="only-with-update_ipmi"),
        pytest.param(True, "eth0", ["10.1.0.10"], id="another-port"),
    ],
)
def test_addresses_of_the_ipmi_port(update_ipmi: bool, port: str, want: list[str]) -> None:
    site = Site()
    site.host("a", At("10.1.0.10", port=port))
    assert look(site.plan(update_ipmi=update_ipmi)).addresses == want


def test_the_ipmi_port_has_the_configured_name() -> None:
    site = Site()
    site.host("a", At("10.1.0.10", port="bmc"), "10.1.0.11")
    assert look(site.plan(update_ipmi=True, ipmi_port_name="bmc")).addresses == ["10.1.0.11"]


# --- MACs of objects -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mac", ["01:00:5e:00:00:01", "00:00:00:00:00:00", "garbage", "", LONG])
def test_a_garbage_mac_is_reported_and_makes_no_row(mac: str) -> None:
    site = Site()
    site.host("a", "10.1.0.10", mac=mac)
    site.host("b", "10.1.0.11")
    plan = site.plan()
    assert [row.name for row in plan.rows] == ["b"]
    assert "is no MAC address of a single card" in faults(plan) and len(faults(plan)) < 300


def test_one_mac_in_two_spellings_on_one_object_is_one_mac() -> None:
    site = Site()
    site.host("a", "10.1.0.10", mac=["00:11:22:33:44:55", "00-11-22-33-44-55"])
    plan = site.plan()
    assert look(plan).state is State.SERVED and not plan.faults


def test_two_macs_on_port_1_are_not_answered() -> None:
    site = Site()
    site.host("a", "10.1.0.10", mac=["00:11:22:33:44:55", "00:11:22:33:44:56"])
    plan = site.plan()
    assert [(row.mac, row.state) for row in plan.rows] == [
        (0x001122334455, State.QUARANTINED),
        (0x001122334456, State.QUARANTINED),
    ]
    assert "has 2 MACs" in faults(plan)


def test_another_port_than_the_first_is_known_and_not_answered() -> None:
    site = Site()
    site.host("a", "10.1.0.10", mac=(), extra=[attribute("port-nic-eth", "mac", "00:11:22:33:44:55", 2)])
    (row,) = site.plan().rows
    assert (row.key, row.state, row.port, row.leases) == (0x001122334455, State.OTHER_PORT, 2, ())


# --- conflicts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "second", ["00:11:22:33:44:5a", "00:11:22:33:44:5A", "00-11-22-33-44-5a", "0011.2233.445a"], ids=str
)
@pytest.mark.parametrize("enabled", [1, 0])
def test_two_objects_with_one_mac_are_both_not_answered(second: str, enabled: int) -> None:
    site = Site()
    site.host("a", "10.1.0.10", mac="00:11:22:33:44:5a")
    site.host("b", "10.1.0.11", mac=second, dhcp={"enabled": enabled})
    site.host("c", "10.1.0.12")
    plan = site.plan()
    conflict = "MAC 00:11:22:33:44:5a belongs to a and b"
    assert [(row.name, row.state) for row in plan.rows] == [("c", State.SERVED), ("a, b", State.CONFLICT)]
    assert plan.rows[1].reason == conflict and plan.faults == {"a": [conflict], "b": [conflict]}


@pytest.mark.parametrize("enabled", [1, 0], ids=["both-enabled", "the-other-is-disabled"])
def test_two_objects_with_one_address_are_both_not_answered(enabled: int) -> None:
    site = Site()
    site.host("a", "10.1.0.10")
    site.host("b", "10.1.0.10", dhcp={"enabled": enabled})
    site.host("c", "10.1.0.12")
    plan = site.plan()
    conflict = "address 10.1.0.10 belongs to a and b"
    assert (look(plan, "a").state, look(plan, "a").reason) == (State.CONFLICT, conflict)
    assert look(plan, "b").state is (State.CONFLICT if enabled else State.DISABLED)
    assert look(plan, "c").state is State.SERVED
    assert plan.faults == {"a": [conflict], "b": [conflict]}


def test_a_switch_s_address_is_nobody_else_s() -> None:
    site = Site()
    site.host("sw", "10.1.0.10", type_="networkswitch", mac=(), dhcp={})
    site.host("a", "10.1.0.10")
    plan = site.plan()
    assert look(plan).reason == "address 10.1.0.10 belongs to a and sw"
    assert [row.name for row in plan.rows] == ["a"] and list(plan.faults) == ["a", "sw"]


def test_an_address_that_is_written_twice_on_one_object_is_no_conflict() -> None:
    site = Site()
    site.host("a", "10.1.0.10", "10.1.0.10")
    assert look(site.plan()).addresses == ["10.1.0.10"]


def test_an_address_in_the_reach_of_two_managers_is_still_one_address() -> None:
    site = Site()
    site.network("wide", "10.0.0.0/8")
    site.host("a", At("10.1.0.10", "net"))
    site.host("b", At("10.1.0.10", "wide"))
    plan = site.plan()
    assert {row.state for row in plan.rows} == {State.CONFLICT}


def test_a_conflict_over_one_of_two_addresses_silences_the_host() -> None:
    site = Site()
    site.network("other", "10.2.0.0/24")
    site.host("a", "10.1.0.10", At("10.2.0.10", "other"))
    site.host("b", At("10.2.0.10", "other"))
    assert [row.state for row in site.plan().rows] == [State.CONFLICT, State.CONFLICT]


# --- a bad record never harms the rest -------------------------------------------------------------------------------


def many_networks(site: Site) -> None:
    for number in range(260):
        site.network(f"n{number}", f"10.{2 + number // 256}.{number % 256}.0/24")
    site.host("a", *(At(f"10.{2 + number // 256}.{number % 256}.9", f"n{number}") for number in range(260)))


def many_options(site: Site) -> None:
    site.host("a", "10.1.0.10", dhcp={"enabled": 1} | {f"option-{code}": "x" * 1400 for code in range(150, 254)})


def many_shared_options(site: Site) -> None:
    site.pool("big", enabled=1, **{f"option-{code}": "x" * 1400 for code in range(150, 254)})
    site.host("a", "10.1.0.10", pools=["big"], dhcp={})


@pytest.mark.parametrize("make", [many_networks, many_options, many_shared_options])
def test_what_no_table_can_hold_quarantines_the_host(make: Callable[[Site], None]) -> None:
    site = Site()
    make(site)
    site.host("b", "10.1.0.11")
    plan = site.plan()
    assert look(plan).state is State.QUARANTINED and "a" in plan.faults
    assert look(plan, "b").state is State.SERVED


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(Attribute("dhcp", "lease_time", None, 1.5, "float"), id="a-fraction"),
        pytest.param(Attribute("dhcp", None, None, "x", "string"), id="no-subkey"),
        pytest.param(Attribute("dhcp", "x" * 256, None, "x", "string"), id="long-subkey"),
        pytest.param(Attribute("dhcp", "domain", -5, "x", "string"), id="negative-number"),
        pytest.param(Attribute("ip", "ipstring", None, "10.1.0.9", "string"), id="address-without-number"),
        pytest.param(Attribute("port-nic-eth", "mac", 1, None, "string"), id="NULL-mac"),
    ],
)
def test_an_odd_attribute_does_not_harm_other_hosts(bad: Attribute) -> None:
    site = Site()
    site.host("a", extra=[bad])
    site.things["/server/a"] += site.bound(At("10.1.0.10", number=0))
    site.host("b", "10.1.0.11")
    plan = site.plan()
    assert look(plan, "b").state is State.SERVED
    assert [row.name for row in plan.rows] == ["a", "b"]


def test_nothing_at_all() -> None:
    assert plan_hosts(Inventory(), Dhcp()) == Plan()
