"""Cases of people who do this job, about networks: which link, which address, and what a network says of itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from control.cli.explain_text import RENDER
from control.config.config import Dhcp
from control.explain.command import explain, from_hosts
from tests.ext.packets import discover, ip, quad, request, tlv

CASES = Path(__file__).resolve().parents[2] / "data/cases"
DOCUMENT = Path(__file__).resolve().parents[3] / "docs/inventory.md"
NODE1, NODE6, VM1 = 0x020000000001, 0x020000000006, 0x020000000071


def hosts(folder: Path, name: str, **replaced: str) -> Path:
    """A case's hosts; replaced: a network's name -> the `dhcp` that it gets besides."""
    content = (CASES / name).read_text()
    for network, dhcp in replaced.items():
        content, count = re.subn(rf"(\{{name: {network}, [^}}]*)\}}", rf"\1, dhcp: {{{dhcp}}}}}", content, count=1)
        assert count == 1, f"no network {network} in {name}"
    return written(folder, content)


def written(folder: Path, content: str) -> Path:
    path = folder / "hosts.yaml"
    path.write_text(content)
    return path


def asked(path: Path, datagram: str | bytes, *interfaces: str) -> dict[str, Any]:
    """What explain makes of a case, or of a datagram, before the server with these interfaces."""
    payload = (CASES / datagram).read_text().strip() if isinstance(datagram, str) else datagram.hex()
    given = [(ip(text.split("/")[0]), int(text.split("/")[1])) for text in interfaces]
    return dict(explain(payload, from_hosts(path, Dhcp()), given)[1]["request"])


def option(said: dict[str, Any], code: int) -> str | None:
    found = [each for each in said["reply"]["options"] if each["code"] == code]
    return found[0]["value"] if found else None


def origin(said: dict[str, Any], code: int) -> str:
    return str(next(each["origin"] for each in said["reply"]["options"] if each["code"] == code))


def shown(said: dict[str, Any]) -> str:
    return "\n".join(RENDER["datagram"]({"request": said, "premises": []}))


# --- two subnets of one VLAN ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case, interfaces",
    [("06-secondary-subnet.hex", ()), ("06-secondary-subnet-local.hex", ("10.20.0.2/24",))],
    ids=["relayed", "local"],
)
def test_an_address_in_the_other_subnet_of_the_vlan(tmp_path: Path, case: str, interfaces: tuple[str, ...]) -> None:
    apart = asked(hosts(tmp_path, "00-hosts.yaml"), case, *interfaces)
    assert (apart["verdict"], apart["fit"]) == ("IGNORED_OTHER_LINK", None)
    said = asked(hosts(tmp_path, "00-hosts.yaml", rack1="shared: vlan20", rack1b="shared: vlan20"), case, *interfaces)
    assert (said["verdict"], said["address"]) == ("OFFERED", "10.21.0.16/24")
    assert (option(said, 1), option(said, 3)) == ("255.255.255.0", "10.21.0.1"), "that network's own"
    assert "10.21.0.0/24 is on that link, too" in shown(said)


def test_a_group_is_its_name_and_not_that_there_is_one(tmp_path: Path) -> None:
    other = hosts(tmp_path, "00-hosts.yaml", rack1="shared: vlan20", rack1b="shared: vlan21")
    assert asked(other, "06-secondary-subnet.hex")["verdict"] == "IGNORED_OTHER_LINK"


def test_no_nak_for_the_address_in_the_other_subnet(tmp_path: Path) -> None:
    reboot = request(NODE6, requested="10.21.0.16", giaddr="10.20.0.1")
    assert asked(hosts(tmp_path, "00-hosts.yaml"), reboot)["verdict"] == "NAKED", "as the table says: another link"
    path = hosts(tmp_path, "00-hosts.yaml", rack1="shared: vlan20", rack1b="shared: vlan20")
    assert asked(path, reboot)["verdict"] == "ACKED"
    wrong = request(NODE6, requested="10.20.0.16", giaddr="10.20.0.1")
    assert asked(path, wrong)["verdict"] == "NAKED", "an address that is not its own is none, on whatever link"


def test_the_worked_example_of_the_document(tmp_path: Path) -> None:
    _, _, after = DOCUMENT.read_text().partition("### A VLAN with two subnets\n")
    example = re.search(r"```yaml\n(.*?)```", after, re.DOTALL)
    assert example is not None
    path = written(tmp_path, example[1])
    for mac, giaddr, address, router in (
        (0x020000000031, "10.20.0.1", "10.20.0.31/24", "10.20.0.1"),
        (0x020000000032, "10.20.0.1", "10.21.0.32/24", "10.21.0.1"),
        (0x020000000031, "10.21.0.1", "10.20.0.31/24", "10.20.0.1"),
        (0x020000000033, "10.20.0.1", "10.20.0.33/24", "10.20.0.1"),
        (0x020000000033, "10.21.0.1", "10.21.0.33/24", "10.21.0.1"),
    ):
        said = asked(path, discover(mac, giaddr=giaddr))
        assert (said["verdict"], said["address"], option(said, 3)) == ("OFFERED", address, router)
        assert option(said, 6) == "10.20.0.3", "the VLAN's name server, whichever subnet"


# --- one address without a network ------------------------------------------------------------------------------------

ROUTES = "192.0.2.1/32 is on the link, default via 192.0.2.1"


@pytest.mark.parametrize("case", ["20-slash32-relay.hex", "20-slash32-linksel-own.hex"])
def test_a_32_is_offered_on_a_link_that_the_site_knows(tmp_path: Path, case: str) -> None:
    said = asked(hosts(tmp_path, "20-slash32.yaml"), case)
    assert (said["verdict"], said["address"], option(said, 1)) == ("OFFERED", "198.51.100.7/32", "255.255.255.255")
    assert option(said, 3) == "192.0.2.1" and option(said, 28) is None
    assert raw(said, 121) == bytes((32, 192, 0, 2, 1, 0, 0, 0, 0, 0, 192, 0, 2, 1)), "as the operator wrote it"
    assert origin(said, 121) == "pool unnumbered, classless_static_routes"
    routed = "without a network of its own" in shown(said)
    assert routed is (case == "20-slash32-relay.hex"), "with 82.5 the address itself is the link"


def raw(said: dict[str, Any], code: int) -> bytes:
    return bytes.fromhex(next(each["hex"] for each in said["reply"]["options"] if each["code"] == code))


UNNUMBERED = """
networks:
- {{name: vm1, base: 198.51.100.7, mask: 255.255.255.255{gateway}}}
- {{name: hv, base: 192.0.2.0, mask: 255.255.255.0, gateway: 192.0.2.1}}
pools: [{{name: u, dhcp: {{enabled: 1{pool}}}}}]
hosts: [{{name: vm1, mac: "02:00:00:00:00:71", address: 198.51.100.7, pool: u, dhcp: {{{own}}}}}]
"""
ON_LINK = bytes((32, 192, 0, 2, 1, 0, 0, 0, 0, 0, 192, 0, 2, 1))


@pytest.mark.parametrize(
    "gateway, pool, own, router, routes",
    [
        (", gateway: 192.0.2.1", "", "", "192.0.2.1", ON_LINK),
        ("", ", router: 192.0.2.1", "", "192.0.2.1", ON_LINK),
        ("", "", "router: 192.0.2.1", "192.0.2.1", ON_LINK),
        (", gateway: 192.0.2.9", ", router: 192.0.2.8", "router: 192.0.2.1", "192.0.2.1", ON_LINK),
        (", gateway: 192.0.2.1", ', classless_static_routes: "default via 192.0.2.7"', "", "192.0.2.1",
         bytes((0, 192, 0, 2, 7))),
        (", gateway: 192.0.2.1", "", 'classless_static_routes: "default via 192.0.2.7"', "192.0.2.1",
         bytes((0, 192, 0, 2, 7))),
        (", gateway: 192.0.2.1", ', classless_static_routes--ipxe: "default via 192.0.2.7"', "", "192.0.2.1", ON_LINK),
        (", gateway: 192.0.2.1", ', classless_static_routes: "rubbish"', "", "192.0.2.1", None),
        ("", "", "", None, None),
    ],
    ids=["manager", "pool", "host", "nearest", "said", "said-by-host", "said-to-another-class", "unusable", "none"],
)  # fmt: skip
def test_the_router_of_a_32_is_on_its_link(
    tmp_path: Path, gateway: str, pool: str, own: str, router: str | None, routes: bytes | None
) -> None:
    """RFC 3442: who takes 121 ignores 3, so that both are needed, and the first route is the one to the router."""
    path = written(tmp_path, UNNUMBERED.format(gateway=gateway, pool=pool, own=own))
    said = asked(path, discover(VM1, giaddr="192.0.2.1"))
    assert (said["verdict"], option(said, 3)) == ("OFFERED", router)
    codes = {each["code"] for each in said["reply"]["options"]}
    assert (raw(said, 121) if 121 in codes else None) == routes
    assert 249 not in codes


def test_two_hosts_of_one_32_s_pool_keep_their_own_routers(tmp_path: Path) -> None:
    """One template for both would send one of them to the other's router."""
    path = written(
        tmp_path,
        """
networks:
- {name: vm1, base: 198.51.100.7, mask: 255.255.255.255}
- {name: hv, base: 192.0.2.0, mask: 255.255.255.0}
pools: [{name: u, dhcp: {enabled: 1}}]
hosts:
- {name: vm1, mac: "02:00:00:00:00:71", address: 198.51.100.7, pool: u, dhcp: {router: 192.0.2.1}}
- {name: x, mac: "02:00:00:00:00:72", address: 192.0.2.50, pool: u, dhcp: {router: 192.0.2.2}}
""",
    )
    assert raw(asked(path, discover(VM1, giaddr="192.0.2.1")), 121) == ON_LINK
    path.write_text(path.read_text().replace("router: 192.0.2.1", "router: 192.0.2.3"))
    other = raw(asked(path, discover(VM1, giaddr="192.0.2.1")), 121)
    assert other == ON_LINK.replace(bytes((192, 0, 2, 1)), bytes((192, 0, 2, 3)))


@pytest.mark.parametrize("giaddr, verdict", [("192.0.2.1", "OFFERED"), ("203.0.113.1", "IGNORED_OTHER_LINK")])
def test_a_32_is_not_offered_where_the_site_knows_no_network(tmp_path: Path, giaddr: str, verdict: str) -> None:
    said = asked(hosts(tmp_path, "20-slash32.yaml"), discover(VM1, giaddr=giaddr))
    assert said["verdict"] == verdict


def test_explain_shows_a_32_on_a_link_of_the_site(tmp_path: Path) -> None:
    said = explain("02:00:00:00:00:71", from_hosts(hosts(tmp_path, "20-slash32.yaml"), Dhcp()))[1]
    (network,) = said["networks"]
    assert network["network"] == "198.51.100.7/32" and "any link of the site" in network["by"]
    assert {group["explained"]["verdict"] for group in network["groups"]} == {"OFFERED"}


def test_a_32_and_an_address_of_the_link_the_link_s_first(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
networks:
- {name: service, base: 198.51.100.7, mask: 255.255.255.255, gateway: 192.0.2.1}
- {name: hv, base: 192.0.2.0, mask: 255.255.255.0, gateway: 192.0.2.1}
hosts: [{name: x, mac: "02:00:00:00:00:71", addresses: [198.51.100.7, 192.0.2.50], dhcp: {enabled: 1}}]
""",
    )
    assert asked(path, discover(VM1, giaddr="192.0.2.1"))["address"] == "192.0.2.50/24"


# --- Cisco's sub-options ----------------------------------------------------------------------------------------------


def test_cisco_s_link_selection_and_server_id(tmp_path: Path) -> None:
    said = asked(hosts(tmp_path, "00-hosts.yaml"), "05-cisco-150-152.hex")
    assert (said["verdict"], said["address"], said["link"]) == ("OFFERED", "10.20.0.11/24", "10.20.0.1")
    assert (option(said, 54), "82.150" in said["link_words"]) == ("10.20.0.1", True)
    sent = bytes.fromhex((CASES / "05-cisco-150-152.hex").read_text().strip())
    assert raw(said, 82) == sent[sent.index(bytes((82, 41))) + 2 :][:41], "echoed octet for octet"


@pytest.mark.parametrize(
    "agent, link, server_id",
    [
        (tlv(150, "10.21.0.1") + tlv(5, "10.20.0.1"), "10.20.0.1", None),
        (tlv(5, "10.20.0.1") + tlv(150, "10.21.0.1"), "10.20.0.1", None),
        (tlv(150, "10.20.0.1") + tlv(152) + tlv(151, b"\1"), "10.20.0.1", None),
        (tlv(150, "10.20.0.1") + tlv(152, b"\n\x14\0"), "10.20.0.1", None),
        (tlv(152, "10.7.7.7") + tlv(11, "10.9.9.9") + tlv(5, "10.20.0.1"), "10.20.0.1", "10.9.9.9"),
        (tlv(152, "10.7.7.7") + tlv(5, "10.20.0.1"), "10.20.0.1", "10.7.7.7"),
    ],
    ids=["5-first", "5-last", "RFC6607-152", "152-of-three", "11-first", "152-beside-5"],
)
def test_the_standard_s_sub_options_count_first(tmp_path: Path, agent: bytes, link: str, server_id: str | None) -> None:
    path = hosts(tmp_path, "00-hosts.yaml")
    said = asked(path, discover(NODE1, giaddr="10.255.0.7", agent=agent), "10.20.0.2/24")
    assert (said["verdict"], said["link"], option(said, 54)) == ("OFFERED", link, server_id or "10.20.0.2")
    assert raw(said, 82) == agent


def test_cisco_s_without_a_relay_say_nothing(tmp_path: Path) -> None:
    said = asked(hosts(tmp_path, "00-hosts.yaml"), discover(NODE1, agent=tlv(150, "10.21.0.1")), "10.20.0.2/24")
    assert (said["verdict"], said["address"]) == ("OFFERED", "10.20.0.11/24")


def test_option_82_of_who_is_not_answered_is_shown(tmp_path: Path) -> None:
    agent = tlv(1, b"Eth1/3") + tlv(2, b"\0\x1b\x21\0\0\1") + tlv(150, "203.0.113.1")
    said = asked(hosts(tmp_path, "00-hosts.yaml"), discover(NODE1, giaddr="10.255.0.7", agent=agent))
    assert said["verdict"] == "IGNORED_OTHER_LINK"
    assert 'circuit-id "Eth1/3", remote-id 0x001b21000001, link-selection-(Cisco) 203.0.113.1' in shown(said)


# --- the options of a network -----------------------------------------------------------------------------------------


def test_a_network_s_options_are_sent_and_named(tmp_path: Path) -> None:
    leaf = 0x020000000002
    said = asked(hosts(tmp_path, "30-options-of-a-network.yaml"), discover(leaf, giaddr="10.20.0.1"))
    assert (said["verdict"], option(said, 6)) == ("OFFERED", "10.20.0.3")
    assert origin(said, 6) == "network rack1, name_server" and origin(said, 3) == "network rack1"


def test_the_two_addresses_of_a_host_have_each_network_s_options(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
networks:
- {name: a, base: 10.20.0.0, mask: 255.255.255.0, dhcp: {name_server: 10.20.0.3, domain: a.example}}
- {name: b, base: 10.21.0.0, mask: 255.255.255.0, dhcp: {name_server: 10.21.0.3, domain: b.example}}
pools: [{name: p, dhcp: {enabled: 1, domain: p.example}}]
hosts: [{name: x, mac: "02:00:00:00:00:01", addresses: [10.20.0.5, 10.21.0.5], pool: p}]
""",
    )
    for giaddr, server in (("10.20.0.1", "10.20.0.3"), ("10.21.0.1", "10.21.0.3")):
        said = asked(path, discover(NODE1, giaddr=giaddr))
        assert (option(said, 6), option(said, 15)) == (server, "p.example")
    assert quad("10.21.0.3") == raw(said, 6) and origin(said, 15) == "pool p, domain"
