"""control/plan/plan.py: what holds for any inventory, whatever its order."""

import random
from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import Any

import pytest
from ext.leases import LeaseState as State
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control.config.config import Dhcp
from control.mac import parse_mac
from control.plan.networks import parse_address, read_manager
from control.plan.plan import plan_hosts
from control.plan.rows import Plan
from control.sources.model import Inventory, Thing
from tests.control.inventories import At, Site, look

PXE_OPTIONS = {"66": "tftp_server", "67": "tftp_filename", "208": "pxelinux-magic", "209": "pxelinux-configfile"}
# --- properties ------------------------------------------------------------------------------------------------------

NETWORKS = {"n1": "10.1.0.0/28", "n2": "10.1.0.0/29", "n3": "10.2.0.0/30", "n4": None}
ADDRESSES = ["10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.9", "10.1.0.15", "10.2.0.1", "10.2.0.2", "nonsense"]
MACS = ["00:11:22:33:44:01", "00:11:22:33:44:02", "00-11-22-33-44-02", "00:11:22:33:44:03", "00:11:22:33:44:0A", "junk"]
VALUES = {
    "enabled": [1, 1, "yes", 0, "maybe"],
    "proxy": [1, 0, "no", "maybe"],
    "tftp_filename": ["/pxelinux.0"],
    "domain": ["a.example", "b.example", "", 7],
    "lease_time": [1000, "1000", "abc"],
    "tftp_server": ["10.1.0.2", "name"],
    "pxelinux-magic": ["01:02:03:04", "", "05:06:07:08"],
    "pxelinux-configfile": ["/c"],
    "hostname": ["h"],
    "router": ["10.1.0.14", "nowhere"],
}
OF_NETWORKS = {
    "domain": ["net.example"],
    "domain--uefi-x64": ["rom.example"],
    "tftp_filename--ipxe": ["menu.ipxe"],
    "name_server": ["10.1.0.3", "nowhere"],
    "pxelinux-configfile": ["/net"],
    "overload--bios-pxe": [0],
    "shared": ["v", "w", ""],
    "enabled": [1],
    "hostname": ["net"],
}


def some(draw: st.DrawFn, choices: Sequence[Any], most: int) -> list[Any]:
    return draw(st.lists(st.sampled_from(choices), max_size=most, unique=True)) if choices else []


@st.composite
def sites(draw: st.DrawFn) -> Site:
    site = Site(None)
    for name, network in NETWORKS.items():
        said = {key: draw(st.sampled_from(OF_NETWORKS[key])) for key in some(draw, list(OF_NETWORKS), 2)}
        site.network(name, network, draw(st.sampled_from([None, "10.1.0.1"])), **said)

    def dhcp(least: dict[str, Any]) -> dict[str, Any]:
        return least | {key: draw(st.sampled_from(VALUES[key])) for key in some(draw, list(VALUES), 3)}

    pools = [f"p{number}" for number in range(draw(st.integers(0, 3)))]
    for pool in pools:
        site.pool(pool, **dhcp({"enabled": 1}))
    hosts = [f"h{number}" for number in range(draw(st.integers(1, 6)))]
    for name in hosts:
        bound = [
            At(text, draw(st.sampled_from(["n1", "n2", "n3", "n4", "gone", ""]))) for text in some(draw, ADDRESSES, 3)
        ]
        site.host(name, *bound, mac=some(draw, MACS, 2), pools=some(draw, pools, 2), dhcp=dhcp({}))
    for pool in pools:
        for container in some(draw, [*pools, *hosts], 2):
            site.put(pool, container)
    return site


def comparable(plan: Plan) -> tuple[Any, ...]:
    faults = {name: sorted(reasons) for name, reasons in plan.faults.items()}
    return plan.rows, faults, sorted(plan.networks), plan.shared


@pytest.mark.property
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(site=sites(), extra=st.sampled_from([{}, PXE_OPTIONS]), seed=st.integers(0, 1 << 16))
def test_a_plan_is_safe_and_does_not_depend_on_any_order(site: Site, extra: dict[str, str], seed: int) -> None:
    inventory = site.inventory()
    plan = plan_hosts(inventory, Dhcp(extra_options=extra))
    owners: dict[int, str] = {}
    for row in plan.rows:
        assert (row.state in (State.SERVED, State.PROXIED)) == bool(row.leases)
        assert row.state is not State.PROXIED or [lease[:2] for lease in row.leases] == [(0, 32)]
        assert (row.state is State.SERVED) != bool(row.reason)
        if row.state is not State.SERVED:
            continue
        thing = inventory.things[f"/server/{row.name}"]
        assert row.mac in {parse_mac(text) for text in thing.mac()}
        bound = {int(parse_address(at)): at for at in thing.addresses() if at.text != "nonsense"}
        for lease, (address, prefix, _template) in enumerate(row.leases):
            assert address not in owners, f"{IPv4Address(address)}: {owners[address]} and {row.name}"
            owners[address] = row.name
            named = bound[address].manager
            usable = [path for path in inventory.managers if path != "/resourcemanager/n4"]
            assert named is None or named in usable
            networks = [read_manager(inventory.things[path]).network for path in ([named] if named else usable)]
            (network,) = [network for network in networks if IPv4Address(address) in network]
            assert network.prefixlen == prefix
            look(plan, row.name, lease)
    assert len({row.mac for row in plan.rows}) == len(plan.rows)
    assert comparable(plan_hosts(shuffled(inventory, random.Random(seed)), Dhcp(extra_options=extra))) == comparable(
        plan
    )


def shuffled(inventory: Inventory, dice: random.Random) -> Inventory:
    """The same, in another order wherever an order says nothing."""

    def mixed(items: Any) -> list[Any]:
        return dice.sample(list(items), len(items))

    things = {path: Thing(path, tuple(mixed(thing.attributes))) for path, thing in mixed(inventory.things.items())}
    parents = {path: mixed(containers) for path, containers in mixed(inventory.parents.items())}
    return Inventory(things=things, parents=parents, hosts=mixed(inventory.hosts), managers=mixed(inventory.managers))
