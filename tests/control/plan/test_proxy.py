"""Hosts with `dhcp` `proxy`: what is planned for them, what changes about others, and how a person reads it."""

from __future__ import annotations

from typing import Any

import pytest
from ext.builder import TEMPLATE_FLAGS
from ext.classify import ClientClass
from ext.leases import LeaseState as State
from ext.table import Generation, Pair, compare

from control.cli.ctl import render_lookup, render_status
from control.config.config import Dhcp
from control.explain.offline import assumed
from control.options.rendering import PXELINUX_MAGIC
from control.plan.plan import plan_hosts
from control.plan.rows import Plan
from control.plan.templates import Template
from control.table.changes import flat
from control.table.rows import describe_row
from tests.control.cli.test_ctl import STATUS
from tests.control.inventories import CLIENTS, At, Site, decode, row_of, variant
from tests.control.plan.test_compile import check_quick_path, whole

BOOTS, BROADCAST = TEMPLATE_FLAGS["boots"], TEMPLATE_FLAGS["broadcast"]
FILE = {"tftp_server": "10.1.0.5", "tftp_filename": "/pxelinux.0"}
TAKE_THE_FILE = b"\6\1\x08\xff"  # discovery control 8, PXE 2.1 table 2-1
EVERYBODY = set(CLIENTS)
HTTP = {client for client in CLIENTS if client.name.startswith("HTTP_BOOT")}
NEVER = {1, 3, 28, 33, 51, 58, 59, 121, 249}  # the address server's


def planned(*addresses: str, own: dict[str, Any] | None = None, **pool: Any) -> Plan:
    site = Site()
    site.pool("boot", **{"enabled": 1, "proxy": 1, **pool})
    site.host("a", *addresses, pools=["boot"], dhcp=own or {})
    return site.plan()


def variants(plan: Plan) -> dict[ClientClass, Template]:
    row = row_of(plan, "a")
    ((address, prefix, template),) = row.leases
    assert (row.state, address, prefix) == (State.PROXIED, 0, 32)
    return {client: variant(template, client) for client in CLIENTS}


def options(plan: Plan) -> dict[ClientClass, dict[int, bytes]]:
    """By class, of those that have something to boot."""
    own = decode(row_of(plan, "a").own)
    found = {}
    for client, template in variants(plan).items():
        assert template.flags & BROADCAST, "there is no address to send it to"
        if template.flags & BOOTS:
            found[client] = decode(template.options) | own
            assert not NEVER & found[client].keys()
    return found


@pytest.mark.parametrize(
    "own, pool, want",
    [
        *[pytest.param({}, on, State.PROXIED, id=f"on-{on!r}") for on in (1, True, "1", "true", " YES ")],
        *[pytest.param({}, off, State.SERVED, id=f"off-{off!r}") for off in (0, False, "0", "no", "", None)],
        *[pytest.param({}, odd, State.QUARANTINED, id=f"odd-{odd!r}") for odd in ("maybe", 2, "on")],
        pytest.param({"proxy": 0}, 1, State.SERVED, id="own-0-beats-pool-1"),
        pytest.param({"proxy": 1}, 0, State.PROXIED, id="own-1-beats-pool-0"),
        pytest.param({"enabled": 0}, 1, State.DISABLED, id="enabled-0-counts-first"),
    ],
)
def test_when_it_is_on(own: dict[str, Any], pool: Any, want: State) -> None:
    row = row_of(planned("10.1.0.10", own=own, **FILE | {"proxy": pool}), "a")
    assert row.state is want
    if want is State.PROXIED:
        origin = "a" if "proxy" in own else "boot"
        assert row.reason == f"dhcp proxy is on ({origin}): another server gives its address, we say what it boots"


def test_it_needs_no_address() -> None:
    assert row_of(planned(**FILE), "a").state is State.PROXIED
    assert not planned(**FILE).faults


def test_an_address_that_is_bound_all_the_same_is_nobody_else_s() -> None:
    site = Site()
    site.host("a", "10.1.0.10", dhcp={"enabled": 1, "proxy": 1})
    site.host("b", "10.1.0.10")
    site.host("c", dhcp={"enabled": 1, "proxy": 1})
    plan = site.plan()
    assert {row.name: row.state for row in plan.rows} == {
        "a": State.PROXIED, "b": State.CONFLICT, "c": State.PROXIED,
    }  # fmt: skip
    assert row_of(plan, "b").reason == "address 10.1.0.10 belongs to a and b"


def test_roms_get_the_file_and_are_told_to_take_it() -> None:
    found = options(planned(**FILE))
    assert found.keys() == EVERYBODY - HTTP - {ClientClass.OS}  # a path is no URL
    for client, said in found.items():
        assert said[60] == b"PXEClient" and said[67] == b"/pxelinux.0\0" and said[66] == b"10.1.0.5\0"
        assert client is ClientClass.RASPBERRY_PI or said == {
            43: TAKE_THE_FILE, 60: b"PXEClient", 66: b"10.1.0.5\0", 67: b"/pxelinux.0\0",
        }  # fmt: skip
    template = variants(planned(**FILE))[ClientClass.UEFI_X64]
    assert (template.file, template.siaddr) == (b"/pxelinux.0", 0x0A010005)


def test_a_raspberry_pi_gets_its_own_words_and_needs_no_file() -> None:
    assert options(planned(tftp_server="10.1.0.5")).keys() == {ClientClass.RASPBERRY_PI}
    assert b"Raspberry Pi Boot" in options(planned(**FILE))[ClientClass.RASPBERRY_PI][43]


def test_http_boot_gets_a_url() -> None:
    said = options(planned(bootfile_url="http://10.1.0.5/a.efi"))
    assert said.keys() == HTTP | {ClientClass.IPXE_HTTP}
    assert said[ClientClass.HTTP_BOOT] == {60: b"HTTPClient", 67: b"http://10.1.0.5/a.efi"}
    assert said[ClientClass.IPXE_HTTP][60] == b"PXEClient"


def test_ipxe_is_not_told_to_ignore_proxies_unless_the_inventory_says_so() -> None:
    assert 175 not in options(planned(**FILE))[ClientClass.IPXE]
    said = options(planned(**FILE, ipxe="no-pxedhcp=1, priority=5"))
    assert said[ClientClass.IPXE][175] == b"\xb0\1\1\1\1\5"


def test_ipxe_may_boot_from_a_disk_on_the_network() -> None:
    found = options(planned(**{"root-path": "iscsi:10.1.0.5::::iqn.a"}))
    assert found.keys() == {ClientClass.IPXE, ClientClass.IPXE_HTTP}


def test_a_menu_of_the_inventory_stands() -> None:
    menu = "discovery-control=8, boot-servers=15 10.1.0.5, boot-menu=15 Install, menu-prompt=10 F8"
    found = options(planned(vendor_specific=menu))
    assert found.keys() == EVERYBODY - HTTP - {ClientClass.OS}
    assert found[ClientClass.BIOS_PXE][43].startswith(b"\6\1\x08\x08\7\0\x0f\1\x0a\1\0\5")


def test_each_class_has_its_own_file() -> None:
    found = options(planned(**FILE | {"tftp_filename--uefi-x64": "a.efi", "tftp_filename--ipxe": "menu.ipxe"}))
    assert found[ClientClass.UEFI_X64][67] == b"a.efi\0" and found[ClientClass.BIOS_PXE][67] == b"/pxelinux.0\0"
    assert found[ClientClass.IPXE][67] == b"menu.ipxe\0"


def test_what_the_address_server_says_is_not_said_wherever_it_stands() -> None:
    network = {"router": "10.1.0.254", "lease_time": 60, "static-route": "10.2.0.1 10.1.0.1", "option-121": "0x0A"}
    plan = planned(
        **FILE, **network, own={"subnet_mask": "255.0.0.0", "domain": "a.example", "classless-static-route": "0x0B"}
    )
    said = options(plan)[ClientClass.BIOS_PXE]
    assert said.keys() == {15, 43, 60, 66, 67}, "and no host name: the address server gives it"


def test_nothing_to_boot_is_said_as_such() -> None:
    assert options(planned()) == {}
    assert options(planned(**{"pxelinux-configfile": "/c"})) == {}
    found = options(planned(**FILE, **{"pxelinux-magic": PXELINUX_MAGIC.hex(":")}))
    assert found[ClientClass.BIOS_PXE][208] == PXELINUX_MAGIC


def test_a_class_cannot_be_proxied_alone() -> None:
    site = Site()
    site.host("a", "10.1.0.10", dhcp={"enabled": 1, "proxy--ipxe": 1})
    plan = site.plan()
    assert row_of(plan, "a").state is State.SERVED and "no such option" in plan.faults["a"][0]


# --- others of the same containers -----------------------------------------------------------------------------------


def test_hosts_of_a_proxied_pool_are_all_proxied() -> None:
    """The quick path of plan.py takes none of them for usual, not even where a card of one is served."""
    site = Site()
    site.pool("boot", enabled=1, proxy=1, **FILE)
    site.host("a", "10.1.0.10", At("10.1.0.90", port="ipmi"), pools=["boot"], dhcp={})
    site.host("b", "10.1.0.11", pools=["boot"], dhcp={})
    config = Dhcp(update_ipmi=True, ipmi_port_name="ipmi")
    states = {(row.name, row.key == row.mac): row.state for row in plan_hosts(site.inventory(), config).rows}
    assert states == {("a", True): State.PROXIED, ("a", False): State.SERVED, ("b", True): State.PROXIED}
    assert check_quick_path(site.inventory(), config) == 0


def test_hosts_of_a_disabled_pool_are_all_disabled() -> None:
    """A card with an address made the template by which the quick path served the next host of the pool."""
    site = Site()
    site.pool("off")
    site.host("a", "10.1.0.10", At("10.1.0.90", port="ipmi"), pools=["off"], dhcp={})
    site.host("b", "10.1.0.11", pools=["off"], dhcp={})
    plan = site.plan(update_ipmi=True, ipmi_port_name="ipmi")
    assert [row.state for row in plan.rows] == [State.DISABLED] * 2


# --- in the table, and to a person -----------------------------------------------------------------------------------


def generation(plan: Plan) -> Generation:
    return whole(plan)


def test_the_table_takes_it_and_counts_it_and_sees_it_change() -> None:
    before, after = generation(planned("10.1.0.10", **FILE | {"proxy": 0})), generation(planned("10.1.0.10", **FILE))
    other = generation(planned(**FILE | {"tftp_filename": "/other.0"}))
    assert before.host_count == after.host_count == 1
    (mac,) = (mac for mac, _role in after.keys())  # noqa: SIM118
    assert after.lookup(mac)["state"] == "proxied" and Pair(after).in_state("proxied") == [(mac, 0)]
    assert Pair(after).with_address(0) == [] == Pair(after).with_address(0x0A01000A)
    assert len(compare(Pair(before), after).changed) == len(compare(Pair(after), other).changed) == 1
    assert len(compare(Pair(after), after)) == 0


def test_lookup_and_diff_show_no_address_of_zeros() -> None:
    row = generation(planned(**FILE)).lookup(0x001122334401)
    described = describe_row(row)
    assert described["state"] == "proxied" and described["leases"][0]["address"] is None
    assert not {"address", "lease_s"} & flat(row).keys()
    lines = render_lookup({"mac": "m", "reason": "dhcp proxy is on (boot)", "seen": [], **described})
    assert lines[0] == "m  a  proxied: dhcp proxy is on (boot)" and "0.0.0.0/32" not in "".join(lines)
    assert any(line.startswith("    but for bios-pxe: file = /pxelinux.0") for line in lines)


def test_no_interface_is_assumed_for_an_address_of_zeros() -> None:
    pair = Pair(generation(planned(**FILE)))
    assert assumed(pair, [0x001122334401], [], set()) == []


def test_status_tells_a_boot_port_that_is_taken() -> None:
    fault = {"port": 4011, "state": "failed", "reason": "UDP port 4011 belongs to another program"}
    assert f"boot port   {fault['reason']}" in render_status(STATUS | {"boot_port": fault})
    assert not any("boot port" in line for line in render_status(STATUS | {"boot_port": fault | {"state": "open"}}))
