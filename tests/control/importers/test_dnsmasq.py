"""dnsmasq.conf with its hosts file and folder, ethers, and every form of its lines."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from tests.control.importers.support import (
    SITES,
    addresses,
    ask,
    configuration,
    faults,
    imported,
    lost,
    of_text,
    reasons,
    rows,
    written,
)

SITE = SITES / "dnsmasq/dnsmasq.conf"
LAB1, LAB2, LAB3, LAB4, FAR5 = (f"02:00:00:00:01:0{number}" for number in range(1, 6))


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("dnsmasq"), imported(SITE))


def test_only_what_has_no_counterpart_is_named() -> None:
    found = imported(SITE)
    assert lost(found) == [
        "dnsmasq.conf:2 interface=eth1",
        "dnsmasq.conf:38 dhcp-host=id:some-text,10.40.0.17",
        "dnsmasq.conf:39 dhcp-host=lap,10.40.0.18",
    ], reasons(found)
    told = {note.text.partition("=")[0] for note in found.notes if not note.lost}
    assert {"domain-needed", "log-dhcp", "enable-tftp", "tftp-root", "dhcp-host", "listen-address"} <= told


def test_the_host_file_has_no_faults(hosts: Path) -> None:
    assert faults(hosts) == {}


@pytest.mark.parametrize(
    "kind, file",
    [
        ("bios-pxe", "undionly.kpxe"),
        ("uefi-x64", "snponly.efi"),
        ("uefi-arm64", "snponly-arm64.efi"),
        ("ipxe", "http://10.40.0.1/menu.ipxe"),
        ("ipxe-http", "http://10.40.0.1/menu.ipxe"),
        ("os", "undionly.kpxe"),
    ],
)
def test_each_stage_of_a_boot(hosts: Path, kind: str, file: str) -> None:
    found = ask(hosts, LAB1, kind)
    assert (found.verdict, found.said["address"]) == ("OFFERED", "10.40.0.11/24")
    assert (found.text(67), found.text(66)) == (file, "10.40.0.1")
    assert addresses(found, 3) == addresses(found, 6) == ["10.40.0.1"], "dnsmasq names itself"
    assert (found.text(12), found.text(15), addresses(found, 42)) == ("lab1", "lab.example.org", ["10.40.0.5"])
    assert int.from_bytes(found.options[51], "big") == 43_200
    assert found.options[175] == b"\xb0\x01\x01"
    asks_for_pxe = kind not in ("os",)
    assert found.options.get(43) == (b"\x06\x01\x08" if asks_for_pxe else None)


def test_tags_of_hosts_and_networks(hosts: Path) -> None:
    far = ask(hosts, FAR5, "os", relay="10.41.0.1")
    assert (addresses(far, 3), addresses(far, 6)) == (["10.41.0.1"], ["10.41.0.3"])
    assert (far.said["address"], int.from_bytes(far.options[51], "big")) == ("10.41.0.15/24", 2700)
    for mac, mtu in ((LAB1, None), (LAB2, 9000), ("02:00:00:00:01:22", 9000), ("02:00:00:00:02:01", 9000)):
        found = ask(hosts, mac, "os").options.get(26)
        assert found == (mtu.to_bytes(2, "big") if mtu else None), mac


def test_forms_of_dhcp_host(hosts: Path) -> None:
    assert int.from_bytes(ask(hosts, LAB2, "os").options[51], "big") == 3600
    for mac in (LAB3, "02:00:00:00:01:13"):
        found = ask(hosts, mac, "os")
        assert (found.said["address"], found.options[51]) == ("10.40.0.13/24", b"\xff" * 4)
    assert ask(hosts, LAB4, "os").said["address"] == "10.40.0.14/24", "by the MAC in its client identifier"
    assert ask(hosts, "02:00:00:00:01:06", "os").verdict == "IGNORED_UNKNOWN_MAC", "ignore"
    assert ask(hosts, "02:00:00:00:02:99", "os").verdict == "IGNORED_UNKNOWN_MAC", "conf-dir leaves out what ends in ~"


NET = "port=0\ndhcp-range=10.1.0.0,static,255.255.0.0\ndhcp-option=3\n"
HOST = "dhcp-host=02:00:00:00:00:01,10.1.0.9,a\n"


def said(tmp_path: Path, lines: str) -> dict[str, object]:
    """What the site's pool says because of them, but for the lease."""
    found = of_text(tmp_path, f"{NET}{lines}\n{HOST}", "dnsmasq.conf")
    assert not lost(found), reasons(found)
    pool = dict(rows(tmp_path, found)["pools"]["imported"]["dhcp"])
    assert (pool.pop("enabled"), pool.pop("lease_time")) == (1, 3600)
    return pool


@pytest.mark.parametrize(
    "line, wanted",
    [
        ("dhcp-option=6,10.1.0.3,10.1.0.4", {"name_server": "10.1.0.3, 10.1.0.4"}),
        ("dhcp-option=option:ntp-server,10.1.0.3", {"NTP_server": "10.1.0.3"}),
        ("dhcp-option-force=26,9000", {"interface-mtu": 9000}),
        ("dhcp-option=121,10.0.0.0/8,10.1.0.1,0.0.0.0/0,10.1.0.2",
         {"classless_static_routes": "10.0.0.0/8 10.1.0.1, 0.0.0.0/0 10.1.0.2"}),
        ('dhcp-option=17,"a,b"', {"root_disk_path": "a,b"}),
        ("dhcp-option=252,\"http://wpad/a b\"", {"wpad": "http://wpad/a b"}),
        ("dhcp-option=240,some text", {"option-240": "some text"}),
        ("dhcp-option=240,10.1.0.2", {"option-240": "hex:0a:01:00:02"}),
        ("dhcp-option=240,300", {"option-240": "hex:01:2c"}),
        ("dhcp-option=240,7s", {"option-240": "hex:00:07"}),
        ("dhcp-option=240,01:ff", {"option-240": "01:ff"}),
        ("dhcp-option=43,01:04:00:00:00:00", {"vendor_specific": "01:04:00:00:00:00"}),
        ("dhcp-option=option:T1,600", {"renewal_time": 600}),
        ("dhcp-option=option:T2,20m", {"rebinding_time": 1200}),
        ("dhcp-option=128,e4:45:74:68:00:00", {"tftp_server_ip_address": "hex:e4:45:74:68:00:00"}),
        ("dhcp-option=encap:175, 190, someone\ndhcp-option=encap:175,176,1b",
         {"etherboot": "hex:b0:01:01:be:07:73:6f:6d:65:6f:6e:65"}),
        ("dhcp-broadcast", {"always_broadcast": 1}),
        ("dhcp-no-override", {"overload": 0}),
        ("domain=a.example # the domain", {"domain": "a.example"}),
        ("dhcp-option=option:router,10.1.0.254\ndhcp-option=option:router,10.1.0.253", {}),
    ],
)  # fmt: skip
def test_a_line_becomes_an_attribute(tmp_path: Path, line: str, wanted: dict[str, object]) -> None:
    assert said(tmp_path, line) == wanted


def test_the_last_of_two_equal_ones_and_tagged_ones_count(tmp_path: Path) -> None:
    lines = """dhcp-option=option:router,10.1.0.254
    dhcp-option=option:router,10.1.0.253
    dhcp-option=tag:efi,42,10.1.0.7
    dhcp-option=42,10.1.0.6
    dhcp-match=set:efi,option:client-arch,7
    tag-if=set:both,tag:efi,tag:known
    dhcp-option=tag:both,7,10.1.0.8
    """
    found = of_text(tmp_path, NET + lines + HOST, "dnsmasq.conf")
    path = written(tmp_path, found)
    rom, system = (ask(path, "02:00:00:00:00:01", kind) for kind in ("uefi-x64", "os"))
    assert addresses(rom, 3) == ["10.1.0.253"]
    assert (addresses(rom, 42), addresses(system, 42)) == (["10.1.0.7"], ["10.1.0.6"])
    assert (addresses(rom, 7), addresses(system, 7)) == (["10.1.0.8"], [])


def test_one_pxe_service_of_a_system_is_a_boot_file(tmp_path: Path) -> None:
    lines = """pxe-service=x86PC,"Install, now",pxelinux,10.1.0.2
    pxe-service=X86-64_EFI,"Install",shim.efi,10.1.0.2
    pxe-service=ARM64_EFI,"One",one.efi,10.1.0.2
    pxe-service=ARM64_EFI,"Other",other.efi,10.1.0.2
    """
    found = of_text(tmp_path, NET + lines + HOST, "dnsmasq.conf", with_classes=True)
    path, config = written(tmp_path, found), configuration(found)
    assert [line.split()[0] for line in lost(found)] == ["dnsmasq.conf:6", "dnsmasq.conf:7"], reasons(found)
    files = {
        kind: ask(path, "02:00:00:00:00:01", kind, config=config).text(67)
        for kind in ("bios-pxe", "uefi-x64", "uefi-arm64", "os")
    }
    assert files == {"bios-pxe": "pxelinux.0", "uefi-x64": "shim.efi", "uefi-arm64": None, "os": None}


def test_vendor_classes_become_classes_of_the_site(tmp_path: Path) -> None:
    lines = """dhcp-vendorclass=set:phones,Acme-Tel
    dhcp-option=tag:phones,option:tftp-server,10.1.0.9
    dhcp-option=vendor:MSFT 5.0,2,1i
    """
    found = of_text(tmp_path, NET + lines + HOST, "dnsmasq.conf", with_classes=True)
    path, config = written(tmp_path, found), configuration(found)
    assert not lost(found) and faults(path, config) == {}, reasons(found)
    phone = ask(path, "02:00:00:00:00:01", "os", config=config, says=b"\x3c\x0aAcme-Tel 7")
    windows = ask(path, "02:00:00:00:00:01", "os", config=config, says=b"\x3c\x08MSFT 5.0")
    assert (phone.text(66), phone.options.get(43)) == ("10.1.0.9", None)
    assert (windows.text(66), windows.options.get(43)) == (None, b"\x02\x04\0\0\0\1")


@pytest.mark.parametrize(
    "line, named",
    [
        ("dhcp-range=10.2.0.50,10.2.0.99,255.255.0.0,12h", "given to machines that nobody named"),
        ("dhcp-range=10.2.0.50,10.2.0.99", "10.2.0.0/24 was taken"),
        ("dhcp-range=10.2.0.50,10.3.0.99", "--network ADDRESS/PREFIX says it"),
        ("dhcp-range=::1,::400,constructor:eth0", "it is IPv6's"),
        ("dhcp-range=10.1.0.0,proxy,255.255.0.0", "say `proxy` to the hosts"),
        ("dhcp-boot=pxelinux.0", "--server-address ADDRESS says which"),
        ("dhcp-host=02:00:00:00:00:*,ignore", "stands for many machines"),
        ("dhcp-host=06-02:00:00:00:00:02,10.1.0.8", "no MAC address of Ethernet"),
        ("dhcp-host=02:00:00:00:00:02,tag:red,10.1.0.8", "counts only with tag red"),
        ("dhcp-host=02:00:00:00:00:02,[2001:db8::1],10.1.0.8", "is IPv6's"),
        ("dhcp-host=02:00:00:00:00:02,other", "--resolve looks names up"),
        ("dhcp-option=option:nosuch,1", "wanted an option's number"),
        ("dhcp-option=3,somewhere", "wanted an IPv4 address"),
        ("dhcp-option=tag:eth7,3,10.1.0.1", "nothing sets this tag"),
        ("dhcp-option=vi-encap:2,10,text", "vendor_specific_information"),
        ("dhcp-option=42,0.0.0.0", "--server-address ADDRESS says which"),
        ("dhcp-circuitid=set:x,01:02", "what a relay adds"),
        ("dhcp-script=/bin/true", "no program runs"),
        ("conf-script=/bin/true", "no program is run"),
        ("conf-file=/nosuch/file", "No such file"),
        ("nosuch-option=1", "no option of this name is known"),
        ("pxe-prompt=Press F8,5", "menus are said as"),
        ("domain=example.org,10.1.0.5,10.1.0.9", "only a network"),
    ],
)
def test_what_cannot_be_carried_over_is_named_with_its_line(tmp_path: Path, line: str, named: str) -> None:
    found = of_text(tmp_path, f"{NET}{line}\n{HOST}", "dnsmasq.conf")
    told = [note for note in found.notes if note.lost]
    assert {note.place.line for note in told} == {4}, reasons(found)
    assert any(named in note.line() for note in told), reasons(found)
    assert "a" in rows(tmp_path, found)["hosts"], "the lines behind it count"


def test_dnsmasq_names_itself(tmp_path: Path) -> None:
    text = "dhcp-range=10.1.0.0,static,255.255.0.0\ndhcp-boot=pxelinux.0\n" + HOST
    unknown = of_text(tmp_path, text, "dnsmasq.conf")
    assert [line.split()[0] for line in lost(unknown)] == ["dnsmasq.conf:1", "dnsmasq.conf:2"]
    known = of_text(tmp_path, text, "dnsmasq.conf", server_addresses=(IPv4Address("10.1.0.1"),))
    found = ask(written(tmp_path, known), "02:00:00:00:00:01", "bios-pxe")
    assert not lost(known)
    assert (addresses(found, 3), addresses(found, 6), found.text(66)) == (["10.1.0.1"], ["10.1.0.1"], "10.1.0.1")


def test_ethers_by_itself_and_by_dnsmasq(tmp_path: Path) -> None:
    networks = (IPv4Network("10.70.0.0/24"),)
    found = imported(SITES / "ethers", networks=networks)
    assert lost(found) == ["ethers:4 02:00:00:00:05:03 somebody", "ethers:5 nonsense"], reasons(found)
    addressed = {each["mac"]: each["address"] for each in rows(tmp_path, found)["hosts"].values()}
    assert addressed == {"02:00:00:00:05:01": "10.70.0.11", "02:00:00:00:05:02": "10.70.0.12"}
    text = "port=0\ndhcp-range=10.70.0.0,static,255.255.255.0\ndhcp-option=3\nread-ethers\n"
    same = of_text(tmp_path, text, "dnsmasq.conf", ethers=SITES / "ethers")
    assert {each["address"] for each in rows(tmp_path, same)["hosts"].values()} == set(addressed.values())
    nowhere = imported(SITES / "ethers")
    assert "--network ADDRESS/PREFIX" in reasons(nowhere)


def test_a_hosts_file_by_itself(tmp_path: Path) -> None:
    found = imported(SITES / "dnsmasq/hosts", networks=(IPv4Network("10.40.0.0/24"),))
    assert found.format == "dhcp-hostsfile" and not lost(found), reasons(found)
    assert set(rows(tmp_path, found)["hosts"]) == {"more1", "more2"}


def test_a_mask_that_dnsmasq_asks_its_interface_for(tmp_path: Path) -> None:
    text = "port=0\ndhcp-range=10.2.0.0,static\ndhcp-option=3\ndhcp-host=02:00:00:00:00:01,10.2.9.9,a\n"
    found = of_text(tmp_path, text, "dnsmasq.conf", networks=(IPv4Network("10.2.0.0/16"),))
    assert not lost(found) and rows(tmp_path, found)["networks"]["10.2.0.0"]["mask"] == "255.255.0.0"
