"""kea-dhcp4.conf of 2.x and 3.x: comments, includes, classes by expression, reservations of every kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from control.importers.kinds import IPXE_ON
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

SITE = SITES / "kea/kea-dhcp4.conf"
KEA1, KEA2, KEA3, KEA6 = (f"02:00:00:00:03:0{number}" for number in (1, 2, 3, 6))


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("kea"), imported(SITE))


def test_only_what_has_no_counterpart_is_named() -> None:
    found = imported(SITE)
    assert lost(found) == [
        "kea-dhcp4.conf:4 interfaces-config",
        "kea-dhcp4.conf:32 pools",
        "kea-dhcp4.conf:45 reservation 'rack7:3'",
        "kea-dhcp4.conf:46 reservation 02:00:00:00:03:05",
    ], reasons(found)


def test_the_host_file_has_no_faults(hosts: Path) -> None:
    assert faults(hosts) == {}


@pytest.mark.parametrize(
    "kind, file",
    [
        ("bios-pxe", "undionly.kpxe"),
        ("uefi-x64", "snponly.efi"),
        ("uefi-arm64", "arm.efi"),
        ("ipxe-http", "http://10.50.0.2/menu.ipxe"),
        ("os", None),
    ],
)
def test_each_stage_of_a_boot(hosts: Path, kind: str, file: str | None) -> None:
    found = ask(hosts, KEA1, kind, relay="10.50.0.1")
    assert (found.verdict, found.said["address"], found.text(67)) == ("OFFERED", "10.50.0.11/24", file)
    assert (addresses(found, 3), addresses(found, 6)) == (["10.50.0.1"], ["10.50.0.3", "10.50.0.4"])
    times = [int.from_bytes(found.options[code], "big") for code in (51, 58, 59)]
    assert times == [4000, 1000, 2000]
    assert (found.text(12), found.text(239), found.text(66)) == ("kea1", "http://10.50.0.2/ztp.sh", "10.50.0.2")


def test_networks_and_reservations(hosts: Path) -> None:
    second = ask(hosts, KEA2, "os", relay="10.50.0.1")
    assert (second.said["address"], addresses(second, 3), addresses(second, 7)) == (
        "10.51.0.12/24", ["10.51.0.1"], ["10.51.0.9"],
    )  # fmt: skip
    third = ask(hosts, KEA3, "os", relay="10.52.0.1")
    assert (third.said["address"], third.text(66)) == ("10.52.0.13/24", "10.52.0.2")
    assert int.from_bytes(third.options[51], "big") == 600
    sixth = ask(hosts, KEA6, "os", relay="10.50.0.1")
    assert (sixth.options[26], sixth.text(12)) == ((9000).to_bytes(2, "big"), "kea6.dc3")


def test_a_file_of_3_x(tmp_path: Path) -> None:
    found = imported(SITES / "kea/kea3.conf", with_classes=True)
    assert lost(found) == ["kea3.conf:10 client-classes"], reasons(found)
    path, config = written(tmp_path, found), configuration(found)
    assert faults(path, config) == {}
    telephone = ask(path, "02:00:00:00:04:01", "os", config=config, says=b"\x3c\x0aAcme-Tel 9")
    other = ask(path, "02:00:00:00:04:01", "os", config=config)
    assert (telephone.text(66), other.text(66)) == ("10.60.0.9", None)
    assert telephone.options[2] == other.options[2] == (3600).to_bytes(4, "big"), "an additional class of its subnet"


def site(**said: object) -> dict[str, object]:
    reservation = {"hw-address": "02:00:00:00:00:01", "ip-address": "10.1.0.9", "hostname": "a"}
    subnet = {"id": 1, "subnet": "10.1.0.0/16", "reservations": [reservation]}
    return {"Dhcp4": {"subnet4": [subnet], **said}}


@pytest.mark.parametrize(
    "data, wanted",
    [
        ({"name": "domain-name-servers", "data": "10.1.0.3,10.1.0.4"}, {"name_server": "10.1.0.3, 10.1.0.4"}),
        ({"name": "boot-file-name", "data": "http://h/x"}, {"tftp_filename": "http://h/x"}),
        ({"code": 43, "csv-format": False, "data": "0x010400000000"}, {"vendor_specific": "hex:01:04:00:00:00:00"}),
        ({"name": "classless-static-route", "data": "10.0.0.0/8 - 10.1.0.1"},
         {"classless_static_routes": "10.0.0.0/8 10.1.0.1"}),
        ({"name": "ip-forwarding", "data": "true"}, {"ip-forwarding": "true"}),
        ({"name": "default-ip-ttl", "data": "0xf0"}, {"default_ttl": 240}),
        ({"name": "root-path", "data": "a\\,b"}, {"root_disk_path": "a,b"}),
        ({"code": 240, "csv-format": False, "data": "'text'"}, {"option-240": "text:text"}),
        ({"space": "vendor-encapsulated-options-space", "code": 6, "csv-format": False, "data": "08"},
         {"vendor_specific": "hex:06:01:08"}),
    ],
)  # fmt: skip
def test_option_data_becomes_an_attribute(tmp_path: Path, data: dict[str, object], wanted: dict[str, object]) -> None:
    found = of_text(tmp_path, json.dumps(site(**{"option-data": [data]})), "kea.conf")
    assert not lost(found), reasons(found)
    assert rows(tmp_path, found)["pools"]["imported"]["dhcp"] == {"enabled": 1, "lease_time": 7200} | wanted


@pytest.mark.parametrize(
    "test, classes",
    [
        ("option[93].hex == 0x0007", {"uefi-x64"}),
        ("option[client-system].hex == 0x000B", {"uefi-arm64"}),
        ("(option[60].exists) and not (substring(option[60].hex, 0, 9) == 'PXEClient')", {"http-boot"}),
        ("match('PXEClient:Arch:0000[7]:.*', option[60].text) and not option[77].exists", {"uefi-x64"}),
        ("option[175].option[19].exists", {"ipxe-http"}),
        ("ifelse(option[77].exists, option[77].hex, 'none') == 'iPXE'", {"ipxe"}),
        ("option[user-class].hex == 'iPXE' or member('UNKNOWN')", {"ipxe"}),
        ("lcase(option[77].hex) == 'ip' + 'xe'", {"ipxe"}),
    ],
)
def test_an_expression_becomes_classes(tmp_path: Path, test: str, classes: set[str]) -> None:
    said = site(**{"client-classes": [{"name": "x", "test": test, "boot-file-name": "http://h/x"}]})
    found = of_text(tmp_path, json.dumps(said), "kea.conf", with_classes=True)
    assert not lost(found), reasons(found)
    told = rows(tmp_path, found)["pools"]["imported"]["dhcp"]
    names = {key.partition("--")[2] for key in told if key.startswith("tftp_filename")}
    assert names - IPXE_ON.keys() == classes, told


def test_what_counts_before_what(tmp_path: Path) -> None:
    """Options of a subnet before those of classes; boot files of classes before the subnet's."""
    said = site(**{
        "client-classes": [
            {"name": "roms", "test": "substring(option[60].hex,0,9) == 'PXEClient'", "boot-file-name": "class.0",
             "option-data": [{"name": "log-servers", "data": "10.1.0.7"}, {"name": "ntp-servers", "data": "10.1.0.7"}]},
            {"name": "again", "test": "option[93].exists", "boot-file-name": "second.0"},
        ],
        "boot-file-name": "file.0",
        "option-data": [{"name": "ntp-servers", "data": "10.1.0.5"}],
    })  # fmt: skip
    subnet = said["Dhcp4"]["subnet4"][0]  # type: ignore[index]
    subnet |= {"boot-file-name": "subnet.0", "option-data": [{"name": "log-servers", "data": "10.1.0.6"}]}
    path = written(tmp_path, of_text(tmp_path, json.dumps(said), "kea.conf"))
    rom, system = (ask(path, "02:00:00:00:00:01", kind) for kind in ("bios-pxe", "os"))
    assert (rom.text(67), system.text(67)) == ("class.0", "subnet.0")
    assert addresses(rom, 7) == addresses(system, 7) == ["10.1.0.6"]
    assert (addresses(rom, 42), addresses(system, 42)) == (["10.1.0.7"], ["10.1.0.5"])


@pytest.mark.parametrize(
    "said, named",
    [
        ({"client-classes": [{"name": "x", "test": "relay4[1].hex == 0x01"}]}, "it depends on relay4 of the request"),
        ({"client-classes": [{"name": "x", "test": "option[93].hex = 7"}]}, "in the condition"),
        ({"client-classes": [{"name": "x", "test": "member('nobody')"}]}, "of which no test is known"),
        ({"client-classes": [{"name": "x", "template-test": "option[60].hex"}]}, "a class that makes classes"),
        ({"option-data": [{"name": "nosuch", "data": "1"}]}, "defined nowhere"),
        ({"option-data": [{"name": "routers", "data": "nowhere"}]}, "wanted one or more IPv4 addresses"),
        ({"option-data": [{"name": "domain-name", "never-send": True}]}, "cannot be taken back"),
        ({"option-def": [{"name": "x", "code": 224, "type": "psid"}]}, "an option of type psid"),
        ({"hooks-libraries": [{"library": "x.so"}]}, "what a hook does is not known"),
        ({"hosts-database": {"type": "mysql"}}, "hosts of a database"),
        ({"nosuch-key": 1}, "no key of this name"),
    ],
)
def test_what_cannot_be_carried_over_is_named_with_its_line(
    tmp_path: Path, said: dict[str, object], named: str
) -> None:
    text = json.dumps(site(**said), indent=1)
    found = of_text(tmp_path, text, "kea.conf")
    told = [note for note in found.notes if note.lost]
    assert any(named in note.line() for note in told), reasons(found)
    wanted = next(iter(said))
    first = next(number for number, line in enumerate(text.splitlines(), 1) if wanted in line)
    assert all(first <= note.place.line <= first + 8 for note in told)
    assert "a" in rows(tmp_path, found)["hosts"]
