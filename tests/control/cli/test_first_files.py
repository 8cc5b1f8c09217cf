"""`bootstorm init`: what it writes is accepted as it stands, and nothing that is there is lost."""

from __future__ import annotations

import os
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from control.cli.command_line import main
from control.cli.first_files import (
    CONF,
    EXAMPLE_MAC,
    HOSTS,
    Interface,
    Machine,
    NotWritten,
    default_gateways,
    example_address,
    networks_of,
    this_machine,
    write_first_files,
)
from control.config.config import load, parse


def interface(name: str, *addresses: str, gateway: str | None = None) -> Interface:
    return Interface(name, tuple(map(IPv4Interface, addresses)), IPv4Address(gateway) if gateway else None)


OFFICE = interface("eth0", "192.0.2.7/24", gateway="192.0.2.254")
RACKS = interface("eth1", "10.20.0.2/24", "10.20.0.3/24", "10.21.0.11/16")
BARE = interface("eth2")
TUNNEL = interface("tun0", "10.99.0.1/32")


def bootstorm(*words: str) -> Result:
    return CliRunner().invoke(main, words)


@pytest.mark.parametrize(
    "chosen", [(), (BARE,), (OFFICE,), (RACKS, OFFICE), (TUNNEL,), (interface("x", "10.0.0.1/29"),)]
)
def test_what_it_writes_is_good(chosen: tuple[Interface, ...], tmp_path: Path) -> None:
    folder = tmp_path / "with a blank, # and %"
    folder.mkdir()
    write_first_files(folder, Machine((*chosen, BARE)), chosen, tmp_path / "state")
    conf, hosts = folder / CONF, folder / HOSTS
    checked = bootstorm("check", "-c", str(conf))
    assert checked.exit_code == 0 and f"{conf}: good; " in checked.stdout, checked.stderr
    linted = bootstorm("lint", str(hosts), "--strict")
    assert linted.exit_code == 0 and f"{hosts}: 1 hosts, no faults\n" in linted.stdout, linted.stdout
    explained = bootstorm("explain", EXAMPLE_MAC, "--hosts", str(hosts))
    assert explained.exit_code == 0 and "OFFER: we offer it an address" in explained.stdout
    config = load(conf)
    assert config.dhcp.interfaces == tuple(each.name for each in chosen)
    assert config.dhcp.state_dir == tmp_path / "state"


def test_every_line_that_is_offered_as_a_comment_is_good(tmp_path: Path) -> None:
    write_first_files(tmp_path, Machine((RACKS,)), (RACKS,), tmp_path / "state")
    text = (tmp_path / CONF).read_text()
    offered = text.replace('# "', '"').replace("\n}\n\n#", "\n},\n\n#")
    assert offered != text
    config = parse(offered.encode(), tmp_path / CONF)
    assert (config.dhcp.user, config.dhcp.mode, config.metrics.bind) == ("bootstorm", "observe", ("127.0.0.1", 9100))


def test_it_shows_each_interface_with_its_addresses(tmp_path: Path) -> None:
    write_first_files(tmp_path, Machine((RACKS, OFFICE, BARE)), (RACKS,), tmp_path)
    text = (tmp_path / CONF).read_text()
    assert "#   eth1 (10.20.0.2/24, 10.20.0.3/24, 10.21.0.11/16)\n" in text
    assert "#   eth2 (no IPv4 address)\n" in text
    assert "base: 10.20.0.0, mask: 255.255.255.0}  # eth1\n" in (tmp_path / HOSTS).read_text()


def test_networks_do_not_overlap_and_have_their_own_router_only() -> None:
    wide = interface("eth3", "10.20.0.9/16", gateway="10.30.0.1")
    found = [(str(address), str(gateway), name) for address, gateway, name in networks_of((RACKS, wide, OFFICE))]
    assert found == [
        ("10.20.0.2/24", "None", "eth1"), ("10.21.0.11/16", "None", "eth1"), ("192.0.2.7/24", "192.0.2.254", "eth0"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "ours, router, address",
    [
        ("10.0.0.1/24", None, "10.0.0.11"),
        ("10.0.0.11/24", "10.0.0.10", "10.0.0.9"),
        ("10.0.0.6/29", "10.0.0.5", "10.0.0.4"),
    ],
)
def test_the_example_s_address_is_nobody_s(ours: str, router: str | None, address: str) -> None:
    gateway = IPv4Address(router) if router else None
    assert str(example_address([(IPv4Interface(ours), gateway, "eth0")])) == address


def test_nothing_is_overwritten_and_half_is_not_left(tmp_path: Path) -> None:
    (tmp_path / HOSTS).symlink_to("/nowhere")
    ran = bootstorm("init", str(tmp_path))
    assert ran.exit_code == 1 and f"{tmp_path / HOSTS}: there already, and left as it is; move it away" in ran.stderr
    assert [path.name for path in tmp_path.iterdir()] == [HOSTS]
    (tmp_path / HOSTS).unlink()
    with pytest.raises(NotWritten, match="No such file or directory; wanted a folder that you may write to"):
        write_first_files(tmp_path / "nowhere", Machine(), (), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_command_names_the_next_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = bootstorm("init", "--state-dir", "kept")
    assert ran.exit_code == 0 and "sudo bootstorm ctl -c services.conf status --wait 30" in ran.stdout
    assert load(CONF).dhcp.state_dir == tmp_path / "kept"
    assert load(CONF).dhcp.api_url == f"file://{tmp_path}/{HOSTS}"
    assert load(CONF).dhcp.interfaces == tuple(each.name for each in this_machine().with_addresses())


def test_this_machine_without_its_loopback() -> None:
    assert {each.name for each in this_machine().interfaces} <= set(os.listdir("/sys/class/net")) - {"lo"}


def test_the_default_route() -> None:
    head = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
    routes = head + (
        "eth0 00000000 FE0200C0 0003 0 0 0 00000000 0 0 0\n"
        "eth0 000200C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n"
        "ppp0 00000000 00000000 0001 0 0 0 00000000 0 0 0\n"
    )
    assert default_gateways(routes) == {"eth0": IPv4Address("192.0.2.254")}
    assert default_gateways(head) == {}
