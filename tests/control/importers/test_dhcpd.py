"""dhcpd.conf: a site of racks, its answers to each stage of a boot, and every form of a statement."""

from __future__ import annotations

from pathlib import Path

import pytest

from control.config.classes import remarks
from control.importers.kinds import Kinds
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

SITE = SITES / "dhcpd/dhcpd.conf"
NODE1, NODE2, NODE3, LEAF1, STAFF1, BENCH = (f"02:00:00:00:00:0{number}" for number in range(1, 7))


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("dhcpd"), imported(SITE))


def test_only_what_has_no_counterpart_is_named() -> None:
    found = imported(SITE)
    assert lost(found) == ["dhcpd.conf:62 range 10.30.1.100 10.30.1.200"], reasons(found)
    told = {note.text.split()[0] for note in found.notes if not note.lost}
    assert told == {"authoritative", "ddns-update-style", "log-facility", "max-lease-time", "omapi-port", "key", "deny"}


def test_the_host_file_has_no_faults(hosts: Path) -> None:
    assert faults(hosts) == {}


@pytest.mark.parametrize(
    "kind, file, server",
    [
        ("bios-pxe", "undionly.kpxe", "10.20.0.2"),
        ("uefi-x64", "snponly.efi", "10.20.0.2"),
        ("uefi-arm64", "snponly-arm64.efi", "10.20.0.2"),
        ("ipxe", "http://10.20.0.2/menu.ipxe", "10.20.0.2"),
        ("ipxe-http", "http://10.20.0.2/menu.ipxe", "10.20.0.2"),
        ("http-boot-x64", "http://10.20.0.2/shimx64.efi", None),
        ("os", None, None),
    ],
)
def test_each_stage_of_a_boot(hosts: Path, kind: str, file: str | None, server: str | None) -> None:
    found = ask(hosts, NODE1, kind, relay="10.20.0.1")
    assert (found.verdict, found.said["address"]) == ("OFFERED", "10.20.0.11/24")
    assert (found.text(67), found.text(66)) == (file, server)
    assert found.text(60) == ("HTTPClient" if kind == "http-boot-x64" else None)
    assert addresses(found, 3) == ["10.20.0.1"] and addresses(found, 6) == ["10.20.0.3", "10.20.0.4"]
    assert addresses(found, 42) == ["10.20.0.5"] and int.from_bytes(found.options[51], "big") == 7200
    assert (found.text(12), found.text(15)) == ("node1", "dc1.example.org")
    assert found.text(17) == "iscsi:10.20.0.9::::iqn.2026-01.org.example:disk"
    assert found.options[175] == b"\xb0\x01\x01"
    assert found.options[119].startswith(b"\3dc1\7example\3org\0")


def test_a_subnet_s_own_values_and_the_shared_network(hosts: Path) -> None:
    found = ask(hosts, NODE2, "os", relay="10.20.0.1")
    assert found.said["address"] == "10.21.0.12/24"
    assert (addresses(found, 3), addresses(found, 42)) == (["10.21.0.1"], ["10.21.0.5"])


@pytest.mark.parametrize("kind", ["bios-pxe", "uefi-x64", "ipxe-http", "os"])
def test_a_group_s_boot_file_is_everybody_s(hosts: Path, kind: str) -> None:
    """It stands nearer than the classes' in dhcpd, and a value for a class would win here."""
    found = ask(hosts, NODE3, kind, relay="10.20.0.1")
    assert found.text(67) == "rescue.0" and found.text(17) == "iscsi:10.20.0.9::::iqn.2026-01.org.example:disk"


def test_a_host_s_own_values(hosts: Path) -> None:
    found = ask(hosts, LEAF1, "os", relay="10.20.0.1")
    assert (found.text(12), found.text(114)) == ("leaf1.dc1", "http://10.20.0.2/onie-installer.bin")
    assert (found.text(239), int.from_bytes(found.options[51], "big")) == ("http://10.20.0.2/ztp.sh", 120)
    staff = ask(hosts, STAFF1, "os", relay="10.30.0.1")
    assert staff.options[121] == bytes((16, 10, 99, 10, 30, 0, 254)) and staff.options[26] == (9000).to_bytes(2, "big")
    assert (staff.text(15), int.from_bytes(staff.options[51], "big")) == ("staff.example.org", 600)
    assert ask(hosts, BENCH, "os", relay="10.20.0.1").verdict == "IGNORED_DISABLED"


# --- single statements ------------------------------------------------------------------------------------------------

NET = "subnet 10.1.0.0 netmask 255.255.0.0 { }\n"
HOST = "host a { hardware ethernet 02:00:00:00:00:01; fixed-address 10.1.0.9; %s }\n"


def said(tmp_path: Path, statement: str, before: str = "") -> dict[str, object]:
    """The attributes that a statement in a host becomes; iPXE apart by architecture is another test's."""
    found = of_text(tmp_path, f"{before}\n{NET}{HOST % statement}", with_classes=True)
    assert not lost(found), reasons(found)
    dhcp = dict(rows(tmp_path, found)["hosts"]["a"].get("dhcp", {}))
    return {key: value for key, value in dhcp.items() if "--ipxe-uefi" not in key}


@pytest.mark.parametrize(
    "statement, wanted",
    [
        ('filename "a b.0";', {"tftp_filename": "a b.0"}),
        ('filename "";', {"tftp_filename": ""}),
        ("next-server 10.1.0.2;", {"tftp_server": "10.1.0.2"}),
        ("always-broadcast on;", {"always_broadcast": 1}),
        ("option routers 10.1.0.1, 10.1.0.2;", {"router": "10.1.0.1, 10.1.0.2"}),
        ("option time-offset -3600;", {"time_zone": -3600}),
        ("option ip-forwarding true;", {"ip-forwarding": "true"}),
        ("option static-routes 10.0.0.0 10.1.0.1, 10.9.0.0 10.1.0.2;",
         {"static-routes": "10.0.0.0, 10.1.0.1, 10.9.0.0, 10.1.0.2"}),
        ("option vendor-encapsulated-options 01:04:0a:01:00:02;", {"vendor_specific": "hex:01:04:0a:01:00:02"}),
        ('option vendor-encapsulated-options "-f profile.xml";', {"vendor_specific": "-f profile.xml"}),
        ('option tftp-server-name "boot.example.org";', {"tftp_server": "boot.example.org"}),
        ('option bootfile-name = concat("a", ".", "efi");', {"tftp_filename": "a.efi"}),
        ('option user-class "01:04";', {"user_class": "text:01:04"}),
        ("option netbios-node-type 8;", {"NetBIOS_node_type": 8}),
        ("max-lease-time 10; default-lease-time 600;", {"lease_time": 600}),
    ],
)  # fmt: skip
def test_a_statement_becomes_an_attribute(tmp_path: Path, statement: str, wanted: dict[str, object]) -> None:
    assert said(tmp_path, statement) == wanted


@pytest.mark.parametrize(
    "definition, statement, wanted",
    [
        ("code 150 = ip-address", "10.1.0.2", {"tftp_server_address": "10.1.0.2"}),
        ("code 150 = array of ip-address", "10.1.0.2, 10.1.0.3", {"tftp_server_address": "10.1.0.2, 10.1.0.3"}),
        ("code 224 = ip-address", "10.1.0.2", {"option-224": "hex:0a:01:00:02"}),
        ("code 225 = text", '"some words"', {"option-225": "some words"}),
        ("code 225 = string", "0a:0b", {"option-225": "0a:0b"}),
        ("code 226 = unsigned integer 16", "9", {"option-226": "hex:00:09"}),
        ("code 227 = boolean", "on", {"option-227": "hex:01"}),
        ("code 228 = { unsigned integer 8, ip-address }", "7 10.1.0.2", {"option-228": "hex:07:0a:01:00:02"}),
        ("code 229 = array of { integer 8, integer 8 }", "1 2, 3 -4", None),
        ("code 229 = array of { integer 8, signed integer 8 }", "1 2, 3 -4", {"option-229": "hex:01:02:03:fc"}),
    ],
)  # fmt: skip
def test_an_option_that_the_file_defines(
    tmp_path: Path, definition: str, statement: str, wanted: dict[str, object] | None
) -> None:
    before = f"option mine {definition};"
    if wanted is None:
        found = of_text(tmp_path, f"{before}\n{NET}{HOST % f'option mine {statement};'}")
        assert lost(found) == [f"dhcpd.conf:3 option mine {statement.replace(',', ' ,')}"], reasons(found)
    else:
        assert said(tmp_path, f"option mine {statement};", before) == wanted


def test_sub_options_of_a_space(tmp_path: Path) -> None:
    before = """option space PXE; option PXE.discovery-control code 6 = unsigned integer 8;
    option PXE.mtftp-ip code 1 = ip-address; vendor-option-space PXE; option PXE.mtftp-ip 0.0.0.0;"""
    found = said(tmp_path, "option PXE.discovery-control 8;", before)
    assert found == {"vendor_specific": "hex:01:04:00:00:00:00:06:01:08"}, "the file's own, and the host's"


@pytest.mark.parametrize(
    "block, classes",
    [
        ("option arch = 00:07", {"uefi-x64"}),
        ("not (option arch = 00:07) and exists arch and not exists user-class", None),
        ('substring(option vendor-class-identifier, 0, 20) = "PXEClient:Arch:00011"', {"uefi-arm64"}),
        ('substring(option vendor-class-identifier, 15, 5) = "00006"', {"uefi-ia32"}),
        ('option user-class ~~ "^ipxe"', {"ipxe"}),
        ("exists ipxe.bus-id", {"ipxe"}),
        ("exists ipxe.http and exists ipxe.menu and (exists ipxe.pxe or exists ipxe.efi)", {"ipxe-http"}),
        ('option vendor-class-identifier = "PXEClient:Arch:00006:UNDI:002001"', {"uefi-ia32"}),
        ('ucase(option user-class) = "IPXE"', {"ipxe"}),
        ('suffix(substring(option vendor-class-identifier, 0, 10), 1) = "t"', {"http-boot"}),
    ],
)
def test_a_condition_becomes_classes(tmp_path: Path, block: str, classes: set[str] | None) -> None:
    before = """option arch code 93 = unsigned integer 16; option space ipxe;
    option ipxe-encap-opts code 175 = encapsulate ipxe; option ipxe.bus-id code 177 = string;
    option ipxe.http code 19 = unsigned integer 8; option ipxe.menu code 39 = unsigned integer 8;
    option ipxe.pxe code 33 = unsigned integer 8; option ipxe.efi code 36 = unsigned integer 8;"""
    file = "http://h/x" if classes == {"http-boot"} else "x"
    found = said(tmp_path, f'if {block} {{ filename "{file}"; }}', before)
    told = {key.partition("--")[2] for key, value in found.items() if value == file}
    if classes is None:
        assert {"bios-pxe", "uefi-arm64"} <= told or "pxe" in told
        assert found.get("tftp_filename--uefi-x64", "x") == ""
    else:
        assert told == classes and len(found) == len(told), found


def test_a_class_of_the_site(tmp_path: Path) -> None:
    text = """class "phones" { match if substring(option vendor-class-identifier, 0, 8) = "Acme-Tel";
      option tftp-server-name "10.1.0.9"; }
      class "aps" { match option vendor-class-identifier; }
      subclass "aps" "Acme AP" { option tftp-server-name "10.1.0.8"; }
    """
    found = of_text(tmp_path, text + NET + HOST % "", with_classes=True)
    assert found.rows.classes == [
        {"name": "acme-tel", "match": {"vendor_class": "Acme-Tel*"}},
        {"name": "acme-ap", "match": {"vendor_class": "Acme AP"}},
    ]
    path, config = written(tmp_path, found), configuration(found)
    assert not lost(found) and faults(path, config) == {}
    for says, server in ((b"Acme-Tel 7", "10.1.0.9"), (b"Acme AP", "10.1.0.8"), (b"Acme AP2", None)):
        option = bytes((60, len(says))) + says
        assert ask(path, "02:00:00:00:00:01", "os", config=config, says=option).text(66) == server
    without = of_text(tmp_path, text + NET + HOST % "")
    assert next(note.reason for note in without.notes if note.lost).endswith("--conf FILE writes it")
    assert faults(written(tmp_path, without)) == {} and not without.rows.classes


def test_hosts_that_omapi_wrote(tmp_path: Path) -> None:
    text = """
    lease 10.1.0.50 { starts 4 2026/11/26 08:00:00; hardware ethernet 02:00:00:00:00:50; }
    host gone { dynamic; deleted; }
    host made { dynamic; hardware ethernet 02:00:00:00:00:01; fixed-address 10.1.0.9;
      supersede server.filename = "pxelinux.0"; supersede server.next-server = 0a:01:00:02;
      supersede host-name = "made.example.org"; }
    server-duid "\\000\\001";
    """
    found = of_text(tmp_path, text + NET)
    assert not lost(found), reasons(found)
    host = rows(tmp_path, found)["hosts"]["made"]
    assert host["dhcp"] == {"tftp_filename": "pxelinux.0", "tftp_server": "10.1.0.2"}
    assert host["hostname"] == "made.example.org" and list(rows(tmp_path, found)["hosts"]) == ["made"]


def test_machines_that_stand_there_twice(tmp_path: Path) -> None:
    text = """
    host a { hardware ethernet 02:00:00:00:00:01; fixed-address 10.1.0.9; }
    host a-far { hardware ethernet 02:00:00:00:00:01; fixed-address 10.2.0.9; }
    host a-wlan { hardware ethernet 02:00:00:00:00:02; fixed-address 10.1.0.9; }
    host other { hardware ethernet 02:00:00:00:00:02; fixed-address 10.1.0.8; filename "x"; }
    subnet 10.2.0.0 netmask 255.255.0.0 { }
    """
    found = of_text(tmp_path, text + NET)
    assert lost(found) == ["dhcpd.conf:5 host other"], reasons(found)
    assert rows(tmp_path, found)["hosts"] == {
        "a": {"name": "a", "macs": ["02:00:00:00:00:01", "02:00:00:00:00:02"], "addresses": ["10.1.0.9", "10.2.0.9"],
              "pool": "imported", "dhcp": {"boot_ports": "all"}}
    }  # fmt: skip


@pytest.mark.parametrize(
    "text, named",
    [
        ("host b { fixed-address 10.1.0.8; }", "it is known by nothing"),
        ("host b { option dhcp-client-identifier \"x\"; fixed-address 10.1.0.8; }", "known by the client identifier"),
        ('host b { host-identifier option agent.circuit-id "s1"; fixed-address 10.1.0.8; }', "agent.circuit-id"),
        ("host b { hardware ethernet 02:00:00:00:00:09; }", "it has no fixed address"),
        ("host b { hardware ethernet 02:00:00:00:00:09; fixed-address www.example.org; }", "--resolve looks names up"),
        ("host b { hardware ethernet 02:00:00:00:00:09; fixed-address 192.0.2.1; }", "in no network that is declared"),
        ("host b { hardware token-ring 02:00:00:00:00:09; fixed-address 10.1.0.8; }", "wanted: hardware ethernet"),
        ("host b { hardware ethernet 02:00:00:00:00:09; fixed-address 10.1.255.255; }", "the first or the last"),
        ("host b { hardware ethernet 01:00:00:00:00:09; fixed-address 10.1.0.8; }", "no MAC address of a single card"),
        ('if packet(24, 4) = 0a:01:00:01 { filename "x"; }', "it depends on packet of the request"),
        ('if exists agent.circuit-id { filename "x"; }', "it depends on option 82"),
        ('option nosuch "x";', "no option of the name nosuch is defined"),
        ("option interface-mtu 12;", "wanted a whole number 68..65535"),
        ("option routers www.example.org;", "--resolve looks names up"),
        ("nosuch-statement on;", "no statement of this name is known"),
        ("server-identifier 10.1.0.3;", "dhcp.server_id"),
        ("allow bootp;", "dhcp.bootp"),
        ("on commit { execute(\"/bin/true\"); }", "no program runs"),
        ("switch (option arch) { case 1: break; }", "a switch was not followed"),
        ('option host-name = binary-to-ascii(16, 8, "-", hardware);', "computed for each client"),
        ("subnet6 2001:db8::/64 { range6 2001:db8::1 2001:db8::2; }", "it is IPv6's"),
        ("subnet 10.7.0.0 netmask 255.255.0.255 { }", "255.255.0.255"),
        ('subclass "nosuch" 1:02:00:00:00:00:01;', "declared nowhere above"),
    ],
)  # fmt: skip
def test_what_cannot_be_carried_over_is_named_with_its_line(tmp_path: Path, text: str, named: str) -> None:
    found = of_text(tmp_path, f"{NET}\n{text}\n{HOST % ''}")
    told = [note for note in found.notes if note.lost]
    assert {note.place.line for note in told} == {3}, reasons(found)
    assert any(named in note.line() for note in told), reasons(found)
    assert "a" in rows(tmp_path, found)["hosts"], "the statements behind it count"


def test_names_are_looked_up_only_when_asked(tmp_path: Path) -> None:
    text = "next-server localhost;\n" + NET + HOST % ""
    assert lost(of_text(tmp_path, text)) == ["dhcpd.conf:1 next-server localhost"]
    found = of_text(tmp_path, text, resolve=True)
    assert rows(tmp_path, found)["pools"]["imported"]["dhcp"]["tftp_server"] == "127.0.0.1" and not lost(found)
    nowhere = of_text(tmp_path, "next-server nowhere.invalid;\n" + NET + HOST % "", resolve=True)
    assert lost(nowhere) == ["dhcpd.conf:1 next-server nowhere.invalid"]


def test_a_boot_file_without_a_boot_server_is_named(tmp_path: Path) -> None:
    """A ROM then asks the DHCP server, which will be another machine."""
    found = of_text(tmp_path, 'filename "pxelinux.0";\n' + NET + HOST % "")
    assert lost(found) == ["dhcpd.conf:2 network 10.1.0.0/16"] and "no boot server" in reasons(found)
    for instead in ('filename "http://10.1.0.2/x.efi";', 'filename "pxelinux.0"; next-server 10.1.0.2;'):
        assert not lost(of_text(tmp_path, f"{instead}\n{NET}{HOST % ''}"))


def test_a_class_by_hardware_is_named(tmp_path: Path) -> None:
    text = """class "some" { match hardware; %s }
    subclass "some" 1:02:00:00:00:00:01;
    """
    found = of_text(tmp_path, text % "next-server 10.1.0.2;" + NET + HOST % "")
    assert lost(found) == ["dhcpd.conf:1 class some"] and "it depends on hardware of the request" in reasons(found)
    pools_only = of_text(tmp_path, text % "" + NET + HOST % "")
    assert not lost(pools_only) and "it only chose a pool" in reasons(pools_only)


def test_iPXE_by_its_architecture(tmp_path: Path) -> None:
    """A file that says nothing of iPXE tells it what the ROM is told; it is the ROM of virtual cards."""
    text = """option arch code 93 = unsigned integer 16; next-server 10.1.0.2;
    if option arch = 00:07 { filename "x.efi"; }
    elsif option arch = 00:0b { filename "arm.efi"; } else { filename "x.0"; }
    """
    without = of_text(tmp_path, text + NET + HOST % "")
    assert {line.partition(" ")[2] for line in lost(without)} == {
        "tftp_filename for iPXE on uefi-x64", "tftp_filename for iPXE on uefi-arm64",
    }, reasons(without)  # fmt: skip
    assert faults(written(tmp_path, without)) == {}
    found = of_text(tmp_path, text + NET + HOST % "", with_classes=True)
    path, config = written(tmp_path, found), configuration(found)
    assert not lost(found) and faults(path, config) == {} and remarks(config.classes) == []
    for kind in Kinds().all:
        if kind.client.startswith("ipxe"):
            says = b"".join(bytes((code, len(value))) + value for code, value in kind.options.items())
            file = {7: "x.efi", 11: "arm.efi"}.get(kind.options[93][1], "x.0")
            assert ask(path, "02:00:00:00:00:01", "os", config=config, says=says).text(67) == file, kind


def test_a_router_that_is_a_host_itself(tmp_path: Path) -> None:
    """A network's gateway cannot be a machine's address; the option router can name it."""
    text = "subnet 10.1.0.0 netmask 255.255.0.0 { option routers 10.1.0.9; }\n"
    found = of_text(tmp_path, text + HOST % "")
    path = written(tmp_path, found)
    assert not lost(found) and faults(path) == {}
    answer = ask(path, "02:00:00:00:00:01", "os")
    assert (answer.said["address"], addresses(answer, 3)) == ("10.1.0.9/16", ["10.1.0.9"])


def test_names_and_addresses_that_a_row_cannot_have(tmp_path: Path) -> None:
    text = """
    host "db 01_prod" { hardware ethernet 02:00:00:00:00:01; fixed-address 10.1.0.9, 10.1.0.10; }
    host b { hardware ethernet 02:00:00:00:00:02; fixed-address 10.1.0.8; option host-name "b_2"; }
    option fqdn.no-client-update on;
    """
    found = of_text(tmp_path, text + NET)
    path = written(tmp_path, found)
    assert not lost(found) and faults(path) == {}, reasons(found)
    assert "10.1.0.10: 10.1.0.9 of the same network is given" in reasons(found)
    names = [ask(path, f"02:00:00:00:00:0{number}", "os").text(12) for number in (1, 2)]
    assert names == ["db-01-prod", "b_2"]
