"""control/config/bmc.py and its use in plan.py: rows for a server's BMC beside the server's own; switches of
replies."""

import os
from pathlib import Path
from typing import Any

import pytest
from ext.builder import TEMPLATE_FLAGS, Builder, Surroundings
from ext.classify import ClientClass
from ext.codec import answer
from ext.leases import LeaseState as State
from ext.table import Generation, Pair
from ext.verdict import Verdict

from control.config.bmc import ROLE_BIT, USUAL, Rule, rules
from control.config.config import parse
from control.mac import show_mac
from control.plan.compile import Filler
from control.plan.rows import Plan
from control.plan.templates import Template
from tests.control.inventories import CLIENTS, At, Site, attribute, decode, variant
from tests.ext.packets import Parsed, discover, ip, tlv

MAC, CARD = 0x001122334401, 0x001122334499
CARD_TEXT = "00:11:22:33:44:99"


def server(*addresses: str | At, card: str | None = None, dhcp: dict[str, Any] | None = None) -> Site:
    site = Site()
    extra = [attribute("port-nic-eth", "ipmi-mac", card, 1)] if card else []
    site.host("a", *addresses, extra=extra, dhcp=dhcp)
    return site


def rows(site: Site, **config: Any) -> dict[int, tuple[State, list[str]]]:
    """By key: state and addresses."""
    plan = site.plan(**{"update_ipmi": True, **config})
    return {row.key: (row.state, [f"{ip_text(lease[0])}" for lease in row.leases]) for row in plan.rows}


def ip_text(address: int) -> str:
    return ".".join(str(address >> shift & 255) for shift in (24, 16, 8, 0))


BOTH = ("10.1.0.10", At("10.1.0.90", port="ipmi"))


def test_a_shared_card_has_a_row_for_each_role() -> None:
    assert rows(server(*BOTH)) == {
        MAC: (State.SERVED, ["10.1.0.10"]),
        MAC | ROLE_BIT: (State.SERVED, ["10.1.0.90"]),
    }


def test_a_recorded_card_has_a_row_as_well() -> None:
    found = rows(server(*BOTH, card=CARD_TEXT))
    assert found[CARD | ROLE_BIT] == found[MAC | ROLE_BIT] == (State.SERVED, ["10.1.0.90"])
    assert CARD not in found


def test_without_an_address_of_its_own() -> None:
    assert rows(server("10.1.0.10")) == {MAC: (State.SERVED, ["10.1.0.10"])}
    assert rows(server("10.1.0.10", card=CARD_TEXT))[CARD | ROLE_BIT] == (State.NO_ADDRESS, [])


def test_off_for_the_server_is_off_for_its_bmc() -> None:
    found = rows(server(*BOTH, card=CARD_TEXT, dhcp={"enabled": 0}))
    assert {state for state, _ in found.values()} == {State.DISABLED}


def test_one_role_while_update_ipmi_is_off() -> None:
    assert rows(server(*BOTH, card=CARD_TEXT), update_ipmi=False).keys() == {MAC}
    assert rules(False, (Rule("vendor_class", "bmc", b"x"),)) == ()


def test_the_sites_rules_come_first() -> None:
    own = Rule("vendor_class", "host", b"udhcp 0.9.9-installer")
    assert rules(True, (own,)) == (own, *USUAL)
    assert all(len(rule.text) <= 29 for rule in USUAL)


def test_a_bmc_gets_options_but_not_the_servers_name() -> None:
    plan = server(*BOTH, dhcp={"enabled": 1, "domain": "x.example"}).plan(update_ipmi=True)
    host, bmc = sorted(plan.rows)
    assert (decode(host.own)[12], 12 in decode(bmc.own)) == (b"a", False)
    assert decode(bmc.own)[15] == decode(host.own)[15] == b"x.example"


def test_two_servers_with_one_card() -> None:
    site = server(*BOTH, card=CARD_TEXT)
    site.host(
        "b", "10.1.0.11", At("10.1.0.91", port="ipmi"), extra=[attribute("port-nic-eth", "ipmi-mac", CARD_TEXT, 1)]
    )
    plan = site.plan(update_ipmi=True)
    (contested,) = [row for row in plan.rows if row.mac == CARD]
    assert (contested.state, contested.key) == (State.CONFLICT, CARD | ROLE_BIT)
    assert f"MAC {CARD_TEXT} belongs to a and b" in contested.reason == plan.faults["a"][0]


@pytest.mark.parametrize("port", [1, 2])
def test_one_server_s_card_is_another_s_bmc(port: int) -> None:
    """Nobody knows which of them asks; the first is silent, the second's shared card is not touched by it."""
    site = server(*BOTH, card=CARD_TEXT)
    own = {} if port == 2 else {"mac": CARD_TEXT}
    site.host("b", "10.1.0.11", extra=[attribute("port-nic-eth", "mac", CARD_TEXT, 2)] if port == 2 else [], **own)
    plan = site.plan(update_ipmi=True)
    found = {row.key: row for row in plan.rows}
    assert found[CARD].state is found[CARD | ROLE_BIT].state is State.CONFLICT
    said = f"MAC {CARD_TEXT} belongs to a and b, as a card and as a BMC (ipmi-mac)"
    assert found[CARD].reason == found[CARD | ROLE_BIT].reason == said
    assert plan.faults["a"].count(said) == plan.faults["b"].count(said) == 1
    assert found[MAC].state is found[MAC | ROLE_BIT].state is State.SERVED
    assert rows(site, update_ipmi=False)[CARD][0] is (State.SERVED if port == 1 else State.OTHER_PORT)


def test_a_shared_card_in_two_servers_answers_neither_and_neither_bmc() -> None:
    site = server(*BOTH)
    site.host("b", "10.1.0.11", mac=show_mac(MAC))
    assert {state for state, _addresses in rows(site).values()} == {State.CONFLICT}
    assert rows(site).keys() == {MAC, MAC | ROLE_BIT}


def served(plan: Plan) -> Pair:
    builder = Builder()
    Filler(builder).add_all(plan.rows)
    around = Surroundings(
        networks=((ip("10.1.0.0"), ip("10.1.0.255")),),
        links=((2, ip("10.1.0.2"), 24, 1500, True),),
        rules=rules(True, ()),
    )
    fd = builder.seal(1, around, created_s=1)
    made = Pair(Generation(fd))
    os.close(fd)
    return made


@pytest.mark.parametrize(
    "rule", [rule for rule in USUAL if rule.kind == "vendor_class"], ids=lambda rule: rule.text.decode()
)
def test_every_known_firmware_gets_the_bmcs_address(rule: Rule) -> None:
    pair = served(server(*BOTH).plan(update_ipmi=True))
    packet = discover(MAC, options=tlv(60, rule.text + b" 1.2"))
    assert Parsed.of(answer(pair, packet, ifindex=2).data).yiaddr == "10.1.0.90"
    assert Parsed.of(answer(pair, discover(MAC), ifindex=2).data).yiaddr == "10.1.0.10"
    nothing = served(server("10.1.0.10").plan(update_ipmi=True))
    assert answer(nothing, packet, ifindex=2).verdict == Verdict.IGNORED_BMC


def test_show_mac_of_a_key() -> None:
    assert show_mac(MAC | ROLE_BIT) == show_mac(MAC) == "00:11:22:33:44:01"


# --- what is said to BMCs alone --------------------------------------------------------------------------------------

PROFILE = "-f system_config.xml -i 192.168.0.130 -u user -p s3cret -n cifs -s 2 -d 0 -t 500"


def templates(site: Site, **config: Any) -> tuple[Template, Template]:
    """The server's, the BMC's."""
    host, bmc = sorted(site.plan(**{"update_ipmi": True, **config}).rows)
    return host.leases[0][2], bmc.leases[0][2]


@pytest.mark.parametrize("where", ["pool", "host"])
def test_what_is_said_to_bmc_reaches_no_class_of_the_server(where: str) -> None:
    """A BMC's profile has a share's password in it."""
    site = Site()
    said = {"vendor_specific--bmc": PROFILE}
    site.pool("boot", enabled=1, vendor_specific="0x060103ff", **(said if where == "pool" else {}))
    site.host("a", *BOTH, pools=["boot"], dhcp=said if where == "host" else {})
    host, bmc = templates(site)
    for client in CLIENTS:
        assert decode(variant(host, client).options)[43] == bytes.fromhex("060103ff"), client
        assert decode(variant(bmc, client).options)[43] == PROFILE.encode(), client
        assert decode(variant(bmc, client).options).get(60) != b"PXEClient", "its 43 is not PXE's"
    assert PROFILE.encode() not in b"".join(each.options for _, each in (*host.variants, (0, host)))


def test_a_bmc_s_value_beats_one_for_the_class_that_its_firmware_asks_as() -> None:
    site = Site()
    site.host("a", *BOTH, dhcp={"enabled": 1, "domain--os": "os.example", "domain": "x.example", "domain--bmc": "b"})
    host, bmc = templates(site)
    assert {decode(variant(bmc, client).options)[15] for client in CLIENTS} == {b"b"}
    assert decode(host.options)[15] == b"os.example"
    assert decode(variant(host, ClientClass.UEFI_X64).options)[15] == b"x.example"


def test_a_site_s_class_as_which_a_bmc_asks_gets_what_the_bmc_gets() -> None:
    site = Site()
    site.host("a", *BOTH, dhcp={"enabled": 1, "domain--idrac": "i.example", "domain--bmc": "b.example"})
    (idrac,) = parse(
        b'{"dhcp": {"classes": [{"name": "idrac", "match": {"vendor_class": "iDRAC"}}]}}', Path("services.conf")
    ).dhcp.classes
    host, bmc = templates(site, classes=(idrac,))
    assert decode(dict(host.variants)["idrac"].options)[15] == b"i.example"
    assert {decode(each.options)[15] for each in (bmc, *dict(bmc.variants).values())} == {b"b.example"}


def test_without_such_a_word_server_and_bmc_share_a_template() -> None:
    site = Site()
    site.pool("boot", enabled=1, domain="x.example", tftp_filename="/a.0")
    site.host("a", *BOTH, pools=["boot"], dhcp={})
    host, bmc = templates(site)
    assert host is bmc


# --- switches of replies ---------------------------------------------------------------------------------------------


def flags(dhcp: dict[str, Any]) -> dict[ClientClass, int]:
    (row,) = server("10.1.0.10", dhcp={"enabled": 1, **dhcp}).plan().rows
    ((_address, _prefix, template),) = row.leases
    return {client: variant(template, client).flags for client in CLIENTS}


@pytest.mark.parametrize(
    "dhcp, want",
    [
        ({}, {}),
        ({"overload": 0}, dict.fromkeys(CLIENTS, "no-overload")),
        ({"overload": 1}, {}),
        ({"overload--bios-pxe": "no"}, {ClientClass.BIOS_PXE: "no-overload"}),
        ({"overload": 0, "overload--os": 1}, dict.fromkeys(set(CLIENTS) - {ClientClass.OS}, "no-overload")),
        ({"always_broadcast--raspberry-pi": 1}, {ClientClass.RASPBERRY_PI: "broadcast"}),
        ({"always-broadcast": "true"}, dict.fromkeys(CLIENTS, "broadcast")),
    ],
)
def test_switches_by_class(dhcp: dict[str, Any], want: dict[ClientClass, str]) -> None:
    assert flags(dhcp) == {client: TEMPLATE_FLAGS[want[client]] if client in want else 0 for client in CLIENTS}


def test_a_switch_that_is_neither_on_nor_off() -> None:
    site = server("10.1.0.10", dhcp={"enabled": 1, "overload": "maybe"})
    plan = site.plan()
    assert plan.faults["a"] == ["dhcp overload = 'maybe' of a: wanted 1, true, yes or 0, false, no"]
    assert plan.rows[0].state is State.SERVED
