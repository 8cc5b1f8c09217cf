"""Two features at once in one plan: what one says to some must not cost others their answer."""

from typing import Any

import pytest
from ext.classify import ClientClass

from control.config.bmc import ROLE_BIT
from control.config.config import Dhcp
from control.plan.plan import Plan, State, plan_hosts
from control.plan.ports import PORT_MAX
from tests.control.inventories import At, Site, attribute, decode, row_of, variant


def options(plan: Plan, name: str, client: ClientClass = ClientClass.OS) -> dict[int, bytes]:
    row = row_of(plan, name)
    return decode(variant(row.leases[0][2], client).options) | decode(row.own)


@pytest.mark.parametrize("order", [("bogus", "10.1.0.254"), ("10.1.0.254", "bogus")])
def test_a_neighbour_s_wrong_router_changes_no_other_host(order: tuple[str, str]) -> None:
    site = Site()
    site.pool("p", enabled=1)
    for number, router in enumerate(order):
        site.host(f"h{number}", f"10.1.0.1{number}", pools=["p"], dhcp={"router": router})
    plan = site.plan()
    found = {router: options(plan, f"h{number}")[3] for number, router in enumerate(order)}
    assert found == {"bogus": bytes((10, 1, 0, 1)), "10.1.0.254": bytes((10, 1, 0, 254))}


@pytest.mark.parametrize("number", [0, PORT_MAX + 1, 2**32, 2**70])
def test_a_port_that_there_cannot_be_costs_itself(number: int) -> None:
    site = Site()
    site.host("a", "10.1.0.10", dhcp={"enabled": 1})
    path = next(path for path in site.things if path.endswith("/a"))
    site.things[path].append(attribute("port-nic-eth", "mac", "00:11:22:33:44:77", number))
    plan = site.plan()
    assert [row.state for row in plan.rows] == [State.SERVED] and "counted from 1" in plan.faults["a"][0]


def test_a_name_for_one_class_leaves_the_others_theirs() -> None:
    site = Site()
    site.pool("p", enabled=1, **{"hostname--ipxe": "loader", "hostname--bmc": "card"})
    site.host("a", "10.1.0.10", pools=["p"], dhcp={})
    plan = site.plan()
    assert options(plan, "a")[12] == b"a" and options(plan, "a", ClientClass.IPXE)[12] == b"loader"


def bmc_site(**pool: Any) -> Site:
    site = Site()
    site.pool("p", enabled=1, **pool)
    site.host("a", "10.1.0.10", At("10.1.0.90", port="ipmi"), pools=["p"], dhcp={})
    path = next(path for path in site.things if path.endswith("/a"))
    site.things[path].append(attribute("port-nic-eth", "ipmi-mac", "00:11:22:33:44:77", 1))
    return site


@pytest.mark.parametrize("pool", [{"boot_ports": "1-2"}, {"proxy": "maybe"}])
def test_what_is_wrong_with_a_host_s_cards_leaves_its_bmc_the_address(pool: dict[str, Any]) -> None:
    plan = plan_hosts(bmc_site(**pool).inventory(), Dhcp(update_ipmi=True))
    states = {row.key >= ROLE_BIT: row.state for row in plan.rows}
    assert states == {False: State.QUARANTINED, True: State.SERVED}


def test_a_further_card_never_gets_the_bmc_s_address() -> None:
    site = bmc_site()
    path = next(path for path in site.things if path.endswith("/a"))
    site.things[path].append(attribute("port-nic-eth", "mac", "00:11:22:33:44:78", 2))
    plan = plan_hosts(site.inventory(), Dhcp(boot_ports="all"))
    given = {row.key: [address for address, _prefix, _template in row.leases] for row in plan.rows}
    assert 0x0A01005A not in given[0x001122334478]


def test_a_43_for_a_system_of_a_proxied_host_is_no_fault() -> None:
    site = Site()
    site.pool("p", enabled=1, proxy=1, tftp_filename="x.0", **{"vendor_specific--os": "-f a.xml"})
    site.host("a", pools=["p"], dhcp={})
    assert not site.plan().faults
    site.pool("q", enabled=1, proxy=1, tftp_filename="x.0", vendor_specific="-f a.xml")
    site.host("b", pools=["q"], dhcp={})
    assert "--os" in site.plan().faults["q"][0]


def test_boot_ports_of_a_network_are_a_fault() -> None:
    site = Site()
    site.things["/resourcemanager/net"].append(attribute("dhcp", "boot_ports", "all"))
    site.host("a", "10.1.0.10", dhcp={"enabled": 1})
    assert "boot_ports" in site.plan().faults["net"][0]
