"""Two features at once in one plan: what one says to some must not cost others their answer."""

from typing import Any

import pytest
from ext.classify import ClientClass
from ext.leases import LeaseState as State

from control.config.bmc import ROLE_BIT
from control.config.classes import SiteClass
from control.config.config import Dhcp
from control.plan.plan import plan_hosts
from control.plan.ports import PORT_MAX
from control.plan.rows import Plan
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


def test_a_value_for_a_class_that_reaches_nobody_is_a_fault() -> None:
    site = Site()
    said = {
        "vendor_specific--bmc": "text:x",
        "bootfile_url--raspberry-pi": "http://b/x",
        "bootfile_url--leaf": "http://b/x",
    }
    site.pool("p", enabled=1, **said, **{"bootfile_url--uefi-x64": "http://b/x", "bootfile_url--ipxe": "http://b/x"})
    site.host("a", "10.1.0.10", pools=["p"], dhcp={})
    leaf, faults = (
        SiteClass("leaf", "uefi-x64", (("vendor_class", ((b"PXEClient:Arch:00007:UNDI:003999", False),)),)),
        {},
    )
    for update_ipmi in (False, True):
        plan = plan_hosts(site.inventory(), Dhcp(classes=(leaf,), update_ipmi=update_ipmi))
        faults[update_ipmi] = {reason.about: reason for reason in plan.faults.get("p", []) if reason.kind == "in-vain"}
    assert faults[False].keys() == said.keys() and faults[True].keys() == said.keys() - {"vendor_specific--bmc"}
    assert "dhcp.update_ipmi is off" in faults[False]["vendor_specific--bmc"]
    assert "bootfile_url--leaf reaches nobody: nothing of class leaf loads" in faults[True]["bootfile_url--leaf"]


@pytest.mark.parametrize(
    "said, fault",
    [
        (
            {"tftp_filename--http-boot": "snponly.efi"},
            "tftp_filename--http-boot = 'snponly.efi' reaches nobody: who boots",
        ),
        ({"tftp_filename--http-boot-x64": "http://b/x.efi"}, ""),
        ({"tftp_server--http-boot": "10.1.0.5"}, "tftp_server--http-boot reaches nobody: who boots by HTTP"),
        ({"tftp_filename--uefi-x64": "snponly.efi"}, ""),
        ({"bootfile_url--bmc": "http://b/x"}, ""),
    ],
)
def test_what_http_boot_cannot_take_is_a_fault(said: dict[str, str], fault: str) -> None:
    site = Site()
    site.pool("p", enabled=1, **said)
    site.host("a", "10.1.0.10", pools=["p"], dhcp={})
    faults = plan_hosts(site.inventory(), Dhcp(update_ipmi=True)).faults.get("p", [""])
    assert fault in faults[0] and bool(faults[0]) == bool(fault)


def test_a_url_that_cannot_be_sent_is_called_what_it_was_called() -> None:
    site = Site()
    site.host("a", "10.1.0.10", dhcp={"enabled": 1, "bootfile_url": "http://b/\x01"})
    assert site.plan().faults["a"][0].startswith("dhcp option bootfile_url (67): ")


def test_a_router_of_bare_octets_makes_no_half_a_route() -> None:
    site = Site("10.1.0.10/32", gateway=None)
    site.host("a", "10.1.0.10", dhcp={"enabled": 1, "router": "hex:01"})
    assert 121 not in options(site.plan(), "a")


def test_cards_and_networks_by_the_hundred_are_planned_at_once() -> None:
    """Linear in what there is of both: 400 cards with 100 addresses took 2 s when each looked at all names."""
    site = Site(None)
    for number in range(100):
        site.network(f"n{number}", f"10.{number}.0.0/24", f"10.{number}.0.1")
    macs = [attribute("port-nic-eth", "mac", f"02:00:00:00:{n >> 8:02x}:{n & 255:02x}", n) for n in range(2, 402)]
    bound = [At(f"10.{number}.0.10", manager=f"n{number}") for number in range(100)]
    site.host("a", *bound, extra=macs, dhcp={"enabled": 1, "boot_ports": "all"})
    plan = site.plan()
    assert len(plan.rows) == 401 and {len(row.leases) for row in plan.rows} == {100}


def test_boot_ports_of_a_network_are_a_fault() -> None:
    site = Site()
    site.things["/resourcemanager/net"].append(attribute("dhcp", "boot_ports", "all"))
    site.host("a", "10.1.0.10", dhcp={"enabled": 1})
    assert "boot_ports" in site.plan().faults["net"][0]
