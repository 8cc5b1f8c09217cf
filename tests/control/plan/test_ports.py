"""control/plan/ports.py and its use in plan.py: which cards of a host are answered, and with which addresses."""

from typing import Any

import pytest
from ext.builder import Builder, Surroundings
from ext.leases import LeaseState as State
from ext.table import Generation

from control.config.config import Dhcp
from control.mac import parse_mac
from control.plan.compile import Filler
from control.plan.plan import Rules
from control.plan.rows import Plan
from control.sources.model import Thing
from tests.control.inventories import At, Site, attribute

FIRST, SECOND, THIRD = "00:11:22:33:44:01", "00:11:22:33:44:02", "00:11:22:33:44:03"
NAMES = {parse_mac(FIRST): "1", parse_mac(SECOND): "2", parse_mac(THIRD): "3"}


def faults(plan: Plan) -> str:
    return "; ".join(plan.faults.get("a", []))


def card(number: Any, mac: Any, name: str | None = None) -> list[Any]:
    found = [attribute("port-nic-eth", "mac", mac, number)]
    return found if name is None else [*found, attribute("port-nic-eth", "osportname", name, number)]


def server(*addresses: str | At, first: str | tuple[()] = FIRST, more: Any = (), dhcp: Any = None) -> Site:
    """A host with a second card."""
    site = Site()
    site.network("far", "10.2.0.0/24")
    said = {"enabled": 1} | (dhcp or {})
    site.host("a", *addresses, mac=first, extra=[*card(2, SECOND), *more], dhcp=said)
    return site


def answered(plan: Plan) -> dict[str, Any]:
    """By port: the last octets of the addresses, or the state."""
    return {
        NAMES[row.mac]: [f"{lease[0] >> 8 & 255}.{lease[0] & 255}" for lease in row.leases] or row.state.name
        for row in plan.rows
    }


ONE, TWO = "10.1.0.10", "10.1.0.11"


def test_the_first_port_alone_by_default() -> None:
    plan = server(ONE).plan()
    assert answered(plan) == {"1": ["0.10"], "2": "OTHER_PORT"} and not plan.faults
    assert [row.port for row in plan.rows] == [0, 2] and len({row.thing for row in plan.rows}) == 1
    assert plan.claims == []


@pytest.mark.parametrize(
    "said, want",
    [
        (1, {"1": ["0.10"], "2": "OTHER_PORT"}),
        (2, {"1": "OTHER_PORT", "2": ["0.10"]}),
        ([1, 2], {"1": ["0.10"], "2": ["0.10"]}),
        ("1, 2", {"1": ["0.10"], "2": ["0.10"]}),
        ("2 1", {"1": ["0.10"], "2": ["0.10"]}),
        ("all", {"1": ["0.10"], "2": ["0.10"]}),
        ("ALL", {"1": ["0.10"], "2": ["0.10"]}),
    ],
    ids=str,
)
@pytest.mark.parametrize("spelling", ["boot_ports", "boot-ports", "Boot_Ports"])
def test_the_attribute_says_which(said: Any, want: Any, spelling: str) -> None:
    site = server(ONE, dhcp={spelling: said})
    assert answered(site.plan()) == want and not site.plan().faults


def test_the_nearest_word_counts_and_the_configuration_last() -> None:
    site = server(ONE)
    site.pool("far", boot_ports=1)
    site.pool("near", boot_ports="all")
    site.members["/pool/near"] = ["/server/a"]
    site.members["/pool/far"] = ["/pool/near"]
    assert answered(site.plan(boot_ports=(2,)))["1"] == answered(site.plan())["2"] == ["0.10"]
    site.members["/pool/near"] = []
    assert answered(site.plan(boot_ports=(2,))) == {"1": "OTHER_PORT", "2": ["0.10"]}
    assert answered(site.plan(boot_ports="all")) == {"1": ["0.10"], "2": ["0.10"]}


@pytest.mark.parametrize("said", [0, "0", "-1", "eth1", "1;2", "", None, "1 two", "9" * 30], ids=str)
def test_a_value_that_nobody_understands_puts_the_host_in_quarantine(said: Any) -> None:
    plan = server(ONE, dhcp={"boot_ports": said}).plan()
    assert {row.state for row in plan.rows} == {State.QUARANTINED}
    assert "wanted numbers of ports such as 1, or all" in faults(plan)
    pooled = server(ONE)
    pooled.pool("p", boot_ports=said)
    pooled.members["/pool/p"] = ["/server/a"]
    assert {row.state for row in pooled.plan().rows} == {State.QUARANTINED}


def test_ports_without_a_card_are_a_fault() -> None:
    plan = server(ONE, dhcp={"boot_ports": 5}).plan()
    assert answered(plan) == {"1": "OTHER_PORT", "2": "OTHER_PORT"}
    assert "boot_ports 5 (a) names no port with a MAC; there is 1, 2" in faults(plan)
    assert server(ONE, dhcp={"boot_ports": "1 5"}).plan().faults == {}, "one of them has a card"


# --- whose an address is ---------------------------------------------------------------------------------------------

BOTH = {"boot_ports": "all"}


@pytest.mark.parametrize(
    "addresses, more, want",
    [
        pytest.param([ONE], (), {"1": ["0.10"], "2": ["0.10"]}, id="one address that is nobody's by name: both"),
        pytest.param([ONE, TWO], (), {"1": ["0.10"], "2": ["0.11"]}, id="two: each its own"),
        pytest.param(
            [ONE, At(TWO, port="eth1")], (), {"1": ["0.10"], "2": ["0.11"]}, id="eth1 is the second port's name"
        ),
        pytest.param(
            [At(ONE, port="eth1"), At(TWO, port="eth0")], (), {"1": ["0.10"], "2": ["0.10"]},
            id="the first port keeps what was bound first",
        ),
        pytest.param([At(ONE, port="eth0")], (), {"1": ["0.10"], "2": "NO_ADDRESS"}, id="eth0 is the first port's"),
        pytest.param([At(ONE, port="bond0")], (), {"1": ["0.10"], "2": ["0.10"]}, id="a name that is no port's"),
        pytest.param(
            [At(ONE, port="eth0")], [attribute("port-nic-eth", "osportname", "eth0", 2)],
            {"1": ["0.10"], "2": ["0.10"]}, id="both ports have that name",
        ),
        pytest.param(
            [ONE, At(TWO, port="fast0")], [attribute("port-nic-eth", "osportname", "fast0", 2)],
            {"1": ["0.10"], "2": ["0.11"]}, id="a name of its own",
        ),
        pytest.param(
            [At(ONE, port="eth0"), At("10.2.0.10", "far", port="eth1")], (),
            {"1": ["0.10", "0.10"], "2": ["0.10"]}, id="another network",
        ),
        pytest.param(
            [ONE, TWO], card(3, THIRD), {"1": ["0.10"], "2": ["0.11"], "3": ["0.10"]}, id="more cards than addresses"
        ),
    ],
)  # fmt: skip
def test_addresses(addresses: list[Any], more: Any, want: Any) -> None:
    plan = server(*addresses, more=more, dhcp=BOTH).plan()
    found = {
        name: said if isinstance(said, str) else [f"0.{each.rpartition('.')[2]}" for each in said]
        for name, said in answered(plan).items()
    }
    assert found == want
    assert not any(row.state is State.CONFLICT for row in plan.rows)


def test_why_a_further_card_has_no_address() -> None:
    plan = server(At(ONE, port="eth0"), dhcp=BOTH).plan()
    assert plan.rows[1].reason == "no address for port 2 (eth1): 10.1.0.10 is bound to eth0"


def test_an_address_that_another_card_uses_is_no_fault_and_one_that_none_uses_is() -> None:
    assert server(ONE, TWO, dhcp=BOTH).plan().faults == {}
    alone = "address 10.1.0.11 is not used: 10.1.0.10 in the same network was bound first"
    assert alone in faults(server(ONE, TWO).plan())
    three = server(ONE, TWO, "10.1.0.12", dhcp=BOTH).plan()
    assert "10.1.0.12 is not used" in faults(three) and "10.1.0.11" not in faults(three)


@pytest.mark.parametrize("name", [None, "eth0", "eth1", "bond0"])
def test_a_site_that_says_nothing_of_ports_has_what_it_had(name: str | None) -> None:
    """Whatever an address is bound to."""
    addresses = [At(ONE, port=name), TWO, At("10.2.0.10", "far", port=name)]
    with_it, without = server(*addresses), Site()
    without.network("far", "10.2.0.0/24")
    without.host("a", *addresses, mac=FIRST)
    assert with_it.plan().rows[0] == without.plan().rows[0] and with_it.plan().faults == without.plan().faults


def test_a_proxied_host_boots_from_the_ports_that_are_named() -> None:
    rows = server(dhcp={"proxy": 1}).plan().rows
    assert [row.state for row in rows] == [State.PROXIED, State.OTHER_PORT]
    rows = server(dhcp={"proxy": 1} | BOTH).plan().rows
    assert [row.state for row in rows] == [State.PROXIED, State.PROXIED]


# --- bad records -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ports", [(1,), "all"])
def test_a_card_in_two_hosts_is_a_conflict_that_names_both(ports: Any) -> None:
    site = server(ONE)
    site.host("b", TWO, mac=SECOND)
    plan = site.plan(boot_ports=ports)
    assert [(row.name, row.state) for row in plan.rows] == [("a", State.SERVED), ("a, b", State.CONFLICT)]
    assert plan.rows[1].reason == f"MAC {SECOND} belongs to a and b"


@pytest.mark.parametrize("ports, want", [((1,), "1"), ((2,), "1"), ("all", "1")])
def test_one_mac_at_two_ports_is_one_card(ports: Any, want: str) -> None:
    site = Site()
    site.host("a", ONE, mac=FIRST, extra=card(2, FIRST.replace(":", "-")))
    plan = site.plan(boot_ports=ports)
    assert answered(plan) == {want: ["0.10"]} and "is another port's of it, too" in faults(plan)


@pytest.mark.parametrize("number", [0, -1])
def test_ports_are_counted_from_one(number: int) -> None:
    site = Site()
    site.host("a", ONE, mac=FIRST, extra=card(number, SECOND))
    plan = site.plan(boot_ports="all")
    assert answered(plan) == {"1": ["0.10"]} and "ports are counted from 1" in faults(plan)


def test_a_mac_without_a_port_is_nobodys_and_a_number_as_text_is_one() -> None:
    site = Site()
    site.host("a", ONE, mac=FIRST, extra=[*card(None, SECOND), *card("3", THIRD)])
    assert answered(site.plan()) == {"1": ["0.10"], "3": "OTHER_PORT"}


def test_two_macs_at_a_further_port_harm_it_alone() -> None:
    plan = server(ONE, more=card(2, THIRD), dhcp=BOTH).plan()
    assert answered(plan) == {"1": ["0.10"], "2": "QUARANTINED", "3": "QUARANTINED"}
    assert "port-nic-eth 2 has 2 MACs" in faults(plan)


def test_a_bmc_that_is_recorded_as_a_card_too_stays_the_bmc() -> None:
    bmc = [attribute("port-nic-eth", "ipmi-mac", SECOND, 1)]
    site = server(ONE, At("10.1.0.90", port="ipmi"), more=bmc)
    rows = {(row.mac, row.key >> 48): row.state for row in site.plan(update_ipmi=True).rows}
    second, first = parse_mac(SECOND), parse_mac(FIRST)
    assert rows == {(first, 0): State.SERVED, (first, 1): State.SERVED, (second, 1): State.SERVED}


def test_what_depends_on_something_unread_is_not_decided_at_any_port() -> None:
    inventory = server(ONE).inventory()
    inventory.unread["/resourcemanager/net"] = "a test wants it so"
    rows, _claims = Rules(inventory, Dhcp()).undecided(inventory.things["/server/a"], "/resourcemanager/net")
    assert [row.state for row in rows] == [State.QUARANTINED] * 2


def test_hosts_are_counted_and_not_cards() -> None:
    builder = Builder()
    Filler(builder).add_all(server(ONE, dhcp=BOTH).plan().rows)
    made = Generation(builder.seal(1, Surroundings(), created_s=1))
    assert (len(made), made.host_count) == (2, 1)


def test_a_thing_with_a_second_card_alone_can_ask() -> None:
    assert Thing("/server/a", tuple(card(2, SECOND))).has_mac()
