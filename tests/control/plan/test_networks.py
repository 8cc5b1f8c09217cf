"""What IP managers say besides their addresses: options, which networks share a link, and addresses of IPv6."""

from __future__ import annotations

import time
from ipaddress import IPv4Network
from itertools import pairwise
from typing import Any

import pytest
from ext.classify import ClientClass
from ext.leases import LeaseState as State
from hypothesis import given, settings
from hypothesis import strategies as st

from control.config.config import Dhcp
from control.plan.compile import Compiler
from control.plan.networks import Manager, group_number, kept_shared, shared_networks
from control.plan.origins import Origins
from control.plan.plan import Rules, plan_hosts
from control.plan.rows import Plan
from control.sources.model import Attribute, Inventory, is_ipv6
from tests.control.inventories import At, Site, attribute, look, row_of


def site(**dhcp: Any) -> Site:
    made = Site(None)
    made.network("net", "10.1.0.0/24", "10.1.0.1", **dhcp)
    return made


def file_of(plan: Plan, client: ClientClass, name: str = "a") -> bytes:
    template = row_of(plan, name).leases[0][2]
    return dict(template.variants).get(int(client), template).file


# --- the options of a network ----------------------------------------------------------------------------------------


def test_a_network_s_options_are_the_least_specific() -> None:
    made = site(name_server="10.1.0.3", domain="net.example", lease_time=7200, router="10.1.0.9")
    made.pool("dc", type_="datacenter", domain="dc.example", enabled=1)
    made.host("a", "10.1.0.10", pools=["dc"], dhcp={})
    made.host("b", "10.1.0.11", pools=["dc"], dhcp={"name_server": "10.1.0.4"})
    plan = made.plan()
    a, b = look(plan, "a"), look(plan, "b")
    assert a.options[6] == bytes((10, 1, 0, 3)) and b.options[6] == bytes((10, 1, 0, 4))
    assert a.options[15] == b.options[15] == b"dc.example"
    assert a.options[3] == bytes((10, 1, 0, 9)), "an attribute counts before the gateway"
    assert a.template is not None and (a.template.lease_s, plan.faults) == (7200, {})


@pytest.mark.parametrize(
    "network, pool, own, rom, system",
    [
        ({"tftp_filename--uefi-x64": "net.efi"}, {"tftp_filename": "pool"}, {}, b"net.efi", b"pool"),
        ({"tftp_filename--uefi-x64": "net.efi"}, {}, {"tftp_filename": "own"}, b"net.efi", b"own"),
        ({"tftp_filename--uefi-x64": "net.efi"}, {"tftp_filename--uefi-x64": "pool.efi"}, {}, b"pool.efi", b""),
        ({"tftp_filename": "net"}, {"tftp_filename--uefi-x64": "pool.efi"}, {}, b"pool.efi", b"net"),
    ],
)
def test_a_network_s_values_for_one_class(
    network: dict[str, Any], pool: dict[str, Any], own: dict[str, Any], rom: bytes, system: bytes
) -> None:
    made = site(**network)
    made.pool("p", enabled=1, **pool)
    made.host("a", "10.1.0.10", pools=["p"], dhcp=own)
    plan = made.plan()
    assert (file_of(plan, ClientClass.UEFI_X64), file_of(plan, ClientClass.OS)) == (rom, system)


def test_an_option_that_another_network_says_to_a_class_is_right_in_both() -> None:
    """A host's own option goes to it alone, whatever class asks, unless somebody says it to a class."""
    made = site(**{"domain--uefi-x64": "rom.example"})
    made.network("other", "10.2.0.0/24")
    made.host("a", "10.1.0.10", At("10.2.0.10", "other"), dhcp={"enabled": 1, "domain": "own.example"})
    plan = made.plan()
    assert look(plan, lease=0).options[15] == look(plan, lease=1).options[15] == b"own.example"
    first, second = (lease[2] for lease in row_of(plan, "a").leases)
    assert b"rom.example" in dict(first.variants)[int(ClientClass.UEFI_X64)].options
    assert all(b"rom.example" not in each.options for each in (second, *dict(second.variants).values()))


def test_the_quick_way_agrees_with_the_rules() -> None:
    """usual_rows takes the template that unusual_rows made for the same network, and no other."""
    made = site(domain="a.example")
    made.network("twin", "10.1.0.0/24", "10.1.0.1", domain="b.example")
    made.network("plain", "10.1.0.0/24", "10.1.0.1", shared="x")
    made.pool("p", enabled=1)
    for number, network in enumerate(("net", "twin", "plain") * 2):
        made.host(f"h{number}", At(f"10.1.0.{10 + number}", network), pools=["p"], dhcp={})
    rules = Rules(made.inventory(), Dhcp())
    for path in made.inventory().hosts:
        thing = rules.frame.things[path]
        context = rules.context(path)
        slow = rules.unusual_rows(thing, context)
        assert rules.usual_rows(thing, context) == slow
    domains = [look(made.plan(), f"h{number}").options.get(15) for number in range(6)]
    assert domains == [b"a.example", b"b.example", None] * 2


def test_an_attribute_that_changes_is_planned_anew_and_a_group_is_not() -> None:
    digests = {}
    for name, dhcp in {"none": {}, "a": {"domain": "a"}, "b": {"domain": "b"}, "group": {"shared": "g"}}.items():
        digests[name] = Rules(site(**dhcp).inventory(), Dhcp()).digest
    assert digests["none"] == digests["group"] and len(set(digests.values())) == 3


@pytest.mark.parametrize("subkey, value", [("enabled", 1), ("proxy", 1), ("hostname", "x"), ("host_name", "x")])
def test_what_a_network_cannot_say_is_a_fault_and_not_used(subkey: str, value: Any) -> None:
    made = site(**{subkey: value})
    made.host("a", "10.1.0.10")
    made.host("off", "10.1.0.11", dhcp={})
    plan = made.plan()
    assert (look(plan).state, look(plan).options[12], look(plan, "off").state) == (State.SERVED, b"a", State.DISABLED)
    assert [reason for reason in plan.faults["net"] if f"dhcp {subkey} of an IP manager is not used" in reason]


@pytest.mark.parametrize("dhcp", [{"lease_time": "1h"}, {"nonsense": 1}, {"router": "nowhere"}])
def test_a_value_that_cannot_be_sent_is_the_network_s_fault_once(dhcp: dict[str, Any]) -> None:
    made = site(**dhcp)
    for number in range(10, 13):
        made.host(f"h{number}", f"10.1.0.{number}")
    plan = made.plan()
    assert {row.state for row in plan.rows} == {State.SERVED} and list(plan.faults) == ["net"]
    assert len(plan.faults["net"]) == 1


def test_a_network_with_options_and_no_hosts() -> None:
    made = site(domain="x.example", shared="lonely")
    plan = made.plan()
    assert plan.rows == [] and plan.networks == [(0x0A010000, 0x0A0100FF)]
    compiler = Compiler(Dhcp())
    compiler.keep(compiler.begin(made.inventory()))


def test_a_proxied_host_gets_nothing_of_a_network() -> None:
    made = site(domain="net.example", tftp_filename="x")
    made.host("a", "10.1.0.10", dhcp={"enabled": 1, "proxy": 1})
    seen = look(made.plan())
    assert seen.state is State.PROXIED and 15 not in seen.options
    assert seen.template is not None and not any(variant.file for _client, variant in seen.template.variants)


def test_origins_name_the_network_of_the_record() -> None:
    """Of two IP managers that contain an address the record's own."""
    made = site(domain="a.example")
    made.network("wide", "10.0.0.0/8", domain="b.example", router="10.9.9.9")
    made.host("a", At("10.1.0.10", "wide"), mac="02:00:00:00:00:01")

    def read(_macs: list[str]) -> Inventory:
        return made.inventory()

    origins = Origins(read, Dhcp())
    origins.read([0x020000000001])
    found = origins.of(0x020000000001, ClientClass.OS, 0x0A01000A)
    assert found[15] == "network wide, domain" and found[3] == "network wide, router" and found[1] == "network wide"


# --- networks on one link --------------------------------------------------------------------------------------------


def groups(**networks: tuple[str, str]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """network -> group that counts, and the faults.  networks: name -> (network, group)."""
    made = Site(None)
    for name, (network, group) in networks.items():
        made.network(name, network, **({"shared": group} if group else {}))
    plan = plan_hosts(made.inventory(), Dhcp())
    names = {group_number(group): group for _network, group in networks.values()}
    found = {}
    for first, last, number in plan.shared:
        (network,) = (
            name
            for name, (text, _group) in networks.items()
            if (int(IPv4Network(text)[0]), int(IPv4Network(text)[-1])) == (first, last)
        )
        found[network] = names[number]
    return found, plan.faults


def test_two_networks_of_one_group() -> None:
    found, faults = groups(a=("10.1.0.0/24", "v"), b=("10.2.0.0/24", "v"), c=("10.3.0.0/24", ""))
    assert (found, faults) == ({"a": "v", "b": "v"}, {})


def test_a_group_of_one_network_is_a_fault() -> None:
    _found, faults = groups(a=("10.1.0.0/24", "vlan20"), b=("10.2.0.0/24", "vlan2O"))
    assert faults == {
        "a": ["dhcp shared = 'vlan20': no other network has this group"],
        "b": ["dhcp shared = 'vlan2O': no other network has this group"],
    }


@pytest.mark.parametrize("inner, whose", [("w", "of group 'w'"), ("", "of no group")])
def test_groups_that_overlap(inner: str, whose: str) -> None:
    found, faults = groups(
        a=("10.1.0.0/16", "v"), b=("10.2.0.0/24", "v"), inside=("10.1.5.0/24", inner), d=("10.4.0.0/24", inner)
    )
    assert found == {"b": "v"} | ({"inside": "w", "d": "w"} if inner else {})
    assert faults["a"] == [f"dhcp shared = 'v' is not used: 10.1.0.0/16 has 10.1.5.0/24 in it, {whose}"]


def test_a_network_twice_with_two_groups_is_in_neither() -> None:
    found, faults = groups(
        a=("10.1.0.0/24", "v"), b=("10.1.0.0/24", "w"), c=("10.2.0.0/24", "v"), d=("10.3.0.0/24", "w")
    )
    assert found == {"c": "v", "d": "w"} and {"a", "b"} <= faults.keys()


def test_a_wide_manager_around_a_group_s_networks_does_no_harm() -> None:
    found, faults = groups(all=("10.0.0.0/8", ""), a=("10.1.0.0/24", "v"), b=("10.2.0.0/24", "v"))
    assert (found, faults) == ({"a": "v", "b": "v"}, {})


def test_two_values_of_shared_are_a_fault() -> None:
    made = Site(None)
    made.network("a", "10.1.0.0/24", shared=["v", "w"])
    made.network("b", "10.2.0.0/24", shared="v")
    plan = made.plan()
    assert plan.faults["a"] == ["dhcp shared has 2 values: ['v', 'w']; wanted one group"]
    assert [group for _first, _last, group in plan.shared] == [group_number("v")]


@pytest.mark.parametrize("value", [7, "7", " 7 "])
def test_any_text_or_number_is_a_name(value: Any) -> None:
    made = Site(None)
    made.network("a", "10.1.0.0/24", shared=value)
    made.network("b", "10.2.0.0/24", shared="7")
    assert {group for _first, _last, group in made.plan().shared} == {group_number("7")}


@pytest.mark.parametrize("value", ["v\n", "v\x1b[2J"])
def test_a_name_is_one_line(value: str) -> None:
    made = Site(None)
    made.network("a", "10.1.0.0/24", shared=f"x{value}x")
    plan = made.plan()
    assert plan.shared == [] and "wanted the name of a group" in plan.faults["a"][0]


MANAGERS = st.lists(
    st.tuples(st.integers(0, 63), st.integers(26, 32), st.sampled_from(["", "v", "w"])), max_size=12
)  # fmt: skip


@pytest.mark.property
@settings(deadline=None)
@given(drawn=MANAGERS)
def test_what_is_shared_is_disjoint_and_by_the_rule(drawn: list[tuple[int, int, str]]) -> None:
    managers = {}
    for number, (place, prefix, group) in enumerate(drawn):
        network = IPv4Network((0x0A000000 + place, prefix), strict=False)
        first, last = int(network[0]), int(network[-1])
        managers[f"/resourcemanager/m{number}"] = Manager(network, None, first, last, 0, (first, last, 0), group=group)
    found = shared_networks(managers, lambda *_: None, True)
    assert found == sorted(found) and all(one[1] < other[0] for one, other in pairwise(found))
    wanted = {
        (one.first, one.last, group_number(one.group))
        for one in managers.values()
        if one.group
        and not any(
            one.first <= other.first and other.last <= one.last and other.group != one.group
            for other in managers.values()
        )
    }
    assert {(first, last) for first, last, _group in found} <= {each[:2] for each in wanted}
    for first, last, group in wanted:
        assert any(begin <= first and last <= end and group == each for begin, end, each in found)


def test_ten_thousand_networks_of_one_group() -> None:
    managers = {}
    for number in range(10_000):
        first = 0x0A000000 + 256 * number
        network = IPv4Network((first, 24))
        managers[f"/resourcemanager/m{number}"] = Manager(
            network, None, first, first + 255, 0, (), group=str(number % 2)
        )
    started = time.process_time()
    assert len(shared_networks(managers, lambda *_: None, True)) == 10_000
    assert time.process_time() - started < 3, "0.1 s alone"


def test_groups_of_networks_that_cannot_be_read_stay() -> None:
    former = [(0, 9, 1), (10, 19, 1), (20, 29, 2)]
    assert kept_shared(former, [(0, 9, 3)], [(0, 9), (18, 19)]) == [(0, 9, 3), (20, 29, 2)]
    assert kept_shared(former, [], []) == former


def test_no_fault_of_a_lone_group_while_a_network_cannot_be_read() -> None:
    made = site(shared="v").inventory()
    made.unread["/resourcemanager/other"] = "status 500"
    assert Rules(made, Dhcp()).all_faults() == {}


# --- IPv6 ------------------------------------------------------------------------------------------------------------


def test_addresses_of_ipv6_are_passed_over() -> None:
    made = site()
    made.network("six", None)
    made.things["/resourcemanager/six"] = [
        attribute("baseip", "property", "2001:db8::"), attribute("netmask", "property", "ffff:ffff::"),
        attribute("dhcp", "domain", "six.example"), attribute("dhcp", "shared", "v"),
    ]  # fmt: skip
    made.host("a", At("2001:db8::10", "six"), "10.1.0.10", At("2001:db8::11", ""))
    made.host("only", At("2001:db8::12", "six"))
    made.host("mixed", At("2001:db8::13", "six"), At("10.1.0.300"))
    plan = made.plan()
    assert (look(plan).addresses, look(plan).state) == (["10.1.0.10"], State.SERVED)
    assert (look(plan, "only").state, look(plan, "only").reason) == (State.NO_ADDRESS, "no IPv4 address bound")
    assert look(plan, "mixed").state is State.QUARANTINED
    assert list(plan.faults) == ["mixed"] and plan.networks == [(0x0A010000, 0x0A0100FF)] and plan.shared == []


def test_an_ipv4_address_in_an_ipv6_manager_is_a_fault() -> None:
    made = site()
    made.things["/resourcemanager/six"] = [attribute("baseip", "property", "2001:db8::")]
    made.host("a", At("10.1.0.10", "six"))
    assert look(made.plan()).reason == "address 10.1.0.10: its manager /resourcemanager/six is not usable"


def test_a_record_whose_number_is_another_address_is_a_fault_whatever_its_text() -> None:
    made = site()
    made.host("a", dhcp={"enabled": 1}, extra=[
        Attribute("ip", "ipstring", 0, "2001:db8::1", "string"),
        Attribute("ip", None, 0, 0x0A01000A - (1 << 31), "int"),
    ])  # fmt: skip
    assert look(made.plan()).state is State.QUARANTINED


@pytest.mark.parametrize("text", ["2001:db8::1", "::", " fe80::1 ", "fe80::1%eth0", "::ffff:10.1.0.1"])
def test_what_is_ipv6(text: str) -> None:
    assert is_ipv6(text)


@pytest.mark.parametrize("text", ["10.1.0.1", "00:11:22:33:44:55", "2001:db8::g", ":", "", None, 7, "2001:db8::/32"])
def test_what_is_not(text: Any) -> None:
    assert not is_ipv6(text)


def test_an_unread_manager_of_ipv6_leaves_no_host_undecided() -> None:
    made = site()
    made.host("a", "10.1.0.10", At("2001:db8::1", "six"), At("2001:db8::2", ""))
    inventory = made.inventory()
    inventory.unread["/resourcemanager/six"] = "status 500"
    assert inventory.doubt(inventory.things["/server/a"]) is None
