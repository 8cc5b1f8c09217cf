"""control/options/spaces.py: sub-options of 43, 63, 122, 124, 125, 139, 140, 175, and what every code of IANA's has."""

import re
from pathlib import Path
from typing import Any

import pytest

from control.options.rendering import OptionRejected, Vocabulary, encode
from control.options.spaces import _SPACES
from control.options.table import (
    FIELDS,
    PRIVATE,
    ROWS,
    SUBOPTION_ROWS,
    UNASSIGNED,
    WHY_COMPUTED,
    Kind,
    Option,
    option_by_code,
)
from control.options.values import ENCODERS


def option(subkey: str) -> Option:
    found = Vocabulary().find(subkey)
    assert found is not None, subkey
    return found


# --- the whole table -------------------------------------------------------------------------------------------------

# In the field although the registry gives them to nobody.
DE_FACTO = {160, 203, 249, 252}


def test_every_code_has_a_type_or_is_the_server_s_or_is_unassigned() -> None:
    rows = {code for code, _, _ in ROWS}
    assert rows | UNASSIGNED | PRIVATE == set(range(1, 255))
    assert rows & (UNASSIGNED | PRIVATE) == set() and set() == UNASSIGNED & PRIVATE
    assert {249, 252} <= DE_FACTO <= rows
    for code in UNASSIGNED | PRIVATE:
        assert option_by_code(code).kind is Kind.RAW
    for code in rows:
        assert (option_by_code(code).kind is Kind.COMPUTED) == (code in WHY_COMPUTED)
    # Text or bytes although assigned: what 77 holds is not agreed on in the field, 129-135 are every maker's own.
    assert {code for code, kind, _ in ROWS if kind is Kind.RAW} == {77, *range(129, 136)}


def test_codes_that_want_bytes_are_known() -> None:
    """Nothing that a person types is still left to hexadecimal; whoever adds one has to think about it."""
    assert {code for code, kind, _ in ROWS if kind is Kind.HEX} == {
        81,  # answers the client's flags
        97, 208,  # an identifier, a magic number
        99, 123, 144,  # civic and geographic location: bit fields, made by tools
        162,  # encrypted DNS: service parameters in DNS form, made by tools
        177, 220, 221,  # cable modems before 122; between servers and relays
    }  # fmt: skip


def test_fields_belong_to_records_and_end_in_the_only_list() -> None:
    records = {(0, code) for code, kind, _ in ROWS if kind is Kind.RECORD}
    records |= {
        (code, number) for code, rows in SUBOPTION_ROWS.items() for number, kind, _ in rows if kind is Kind.RECORD
    }
    assert set(FIELDS) == records
    lists = {Kind.ADDRESSES, Kind.DOMAINS, Kind.TEXT}
    for fields in FIELDS.values():
        assert all(kind in ENCODERS for _, kind in fields) and not lists & {kind for _, kind in fields[:-1]}


@pytest.mark.parametrize(
    ("code", "name", "kind"),
    [(code, names, kind) for code, rows in SUBOPTION_ROWS.items() for _, kind, names in rows],
)
def test_suboptions_are_found_by_every_name_and_by_number(code: int, name: str, kind: Kind) -> None:
    for each in name.split():
        spelling = each.replace("-", "_")
        found = _SPACES[code][spelling]
        assert found.kind is kind and found.space == code and _SPACES[code][str(found.code)] == found


# --- golden bytes ----------------------------------------------------------------------------------------------------

# The menu that the PXE documentation of several vendors shows for ISC dhcpd, there as a row of bytes.
PXE_MENU = (
    "discovery-control=8, boot-servers=0 10.0.0.1 32768 10.0.0.2 10.0.0.3, "
    'boot-menu=0 "Local disk" 32768 Install, menu-prompt=10 "Press F8, or wait"'
)
GOLDEN: list[tuple[str, list[Any], str]] = [
    (
        "vendor_specific",
        [PXE_MENU],
        "06 01 08 "
        "08 12 00 00 01 0a 00 00 01 80 00 02 0a 00 00 02 0a 00 00 03 "
        "09 17 00 00 0a 4c 6f 63 61 6c 20 64 69 73 6b 80 00 07 49 6e 73 74 61 6c 6c "
        "0a 12 0a 50 72 65 73 73 20 46 38 2c 20 6f 72 20 77 61 69 74 ff",
    ),
    ("vendor_specific", ["Discovery_Control = 0x08"], "06 01 08 ff"),
    ("vendor_specific", ["menu-prompt=0 Don't ask"], "0a 0a 00 44 6f 6e 27 74 20 61 73 6b ff"),
    ("vendor_specific", ["menu-prompt=255"], "0a 01 ff ff"),
    ("vendor_specific", ["boot-item=15 0"], "47 04 00 0f 00 00 ff"),
    ("vendor_specific", ["boot-servers=15"], "08 03 00 0f 00 ff"),
    ("vendor_specific", ["discovery-mcast-addr=232.0.1.0, mtftp-cport=1758"], "07 04 e8 00 01 00 02 02 06 de ff"),
    # by number: some other vendor's, or PXE's types where the number is PXE's; no end mark
    ("vendor_specific", ["6=8"], "06 01 08"),
    ("vendor_specific", ["241=ip:10.0.0.5 10.0.0.6"], "f1 08 0a 00 00 05 0a 00 00 06"),
    ("vendor_specific", ["1=u32:2, 2=u32:1"], "01 04 00 00 00 02 02 04 00 00 00 01"),
    ("vendor_specific", ["129=text:10, 130=ServerName"], "81 02 31 30 82 0a 53 65 72 76 65 72 4e 61 6d 65"),
    # 0 is nobody's whose other numbers we know
    ("vendor_specific", ["0=a, 1=b, 3=text:c"], "00 01 61 01 01 62 03 01 63"),
    ("vendor_specific", ["1=hex:0a000005, 0=text:"], "01 04 0a 00 00 05 00 00"),
    ("etherboot", ["0=hex:01:02"], "00 02 01 02"),
    ("vivso", ["enterprise 2636: 0=a, 1=hex:05"], "00 00 0a 4c 06 00 01 61 01 01 05"),
    # what stands within quotation marks is text
    ("vendor_specific", ["241=01:04"], "f1 02 01 04"),
    ("vendor_specific", ["241=\"01:04\""], "f1 05 30 31 3a 30 34"),
    ("vivso", ["enterprise 9: 1='0x0104'"], "00 00 00 09 08 01 06 30 78 30 31 30 34"),
    # still text
    ("vendor_specific", ["url=http://x"], "75 72 6c 3d 68 74 74 70 3a 2f 2f 78"),
    ("vendor_specific", ["Raspberry Pi Boot"], b"Raspberry Pi Boot".hex(" ")),
    ("vendor_specific", ["300=x"], "33 30 30 3d 78"),
    ("vendor_specific", [7], "37"),
    ("etherboot", ["no-pxedhcp=1"], "b0 01 01"),
    ("etherboot", ["176=1"], "b0 01 01"),
    ("ipxe", ["priority=-5, keep-san=yes, skip-san-boot=off,"], "01 01 fb 08 01 01 09 01 00"),
    ("ipxe", ["no-pxedhcp=1", "keep-san=1"], "b0 01 01 08 01 01"),
    ("ipxe", ["bus-id=01:80:86:10:0e, syslogs=192.0.2.1"], "b1 05 01 80 86 10 0e 55 09 31 39 32 2e 30 2e 32 2e 31"),
    ("ipxe", ["san-drive=0x80, username='a, \"b'"], "bd 01 80 be 05 61 2c 20 22 62"),
    ("ipxe", ["99=hello, 100=0x, 101=U16:7"], "63 05 68 65 6c 6c 6f 64 00 65 02 00 07"),
    ("ipxe", ["scriptlet=\"\""], "51 00"),
    (
        "vendor_class",
        ["enterprise 9: text, 0x0102; Enterprise 4491: text:5"],
        "00 00 00 09 08 04 74 65 78 74 02 01 02 00 00 11 8b 02 01 35",
    ),
    (
        "vivso",
        ["enterprise 9: 1=0x0102, 2=text; enterprise 3561: 11=http://a/?b=c"],
        "00 00 00 09 0a 01 02 01 02 02 04 74 65 78 74 00 00 0d e9 0f 0b 0d 68 74 74 70 3a 2f 2f 61 2f 3f 62 3d 63",
    ),
    ("vivso", ["enterprise 9: 1=u8:1", "enterprise 10: 1=u8:2;"], "00 00 00 09 03 01 01 01 00 00 00 0a 03 01 01 02"),
    ("vivso", ["00:00:00:09:00"], "00 00 00 09 00"),
    (
        "cablelabs-client-configuration",
        ["primary-dhcp-server=10.0.0.1, provisioning-server=a.b, as-backoff=1 2 3, kerberos-realm=C.D, use-tgt=1"],
        "01 04 0a 00 00 01 03 06 00 01 61 01 62 00 04 0c 00 00 00 01 00 00 00 02 00 00 00 03 "
        "06 05 01 43 01 44 00 07 01 01",
    ),
    ("nwip-suboptions", ["2=0x, preferred-dss=10.0.0.1 10.0.0.2"], "02 00 06 08 0a 00 00 01 0a 00 00 02"),
    ("ipv4-address-mos", ["is=10.0.0.1, es=10.0.0.2"], "01 04 0a 00 00 01 03 04 0a 00 00 02"),
    ("ipv4-fqdn-mos", ["cs=a.b c"], "02 08 01 61 01 62 00 01 63 00"),
]  # fmt: skip


@pytest.mark.golden
@pytest.mark.parametrize(("subkey", "values", "want"), GOLDEN, ids=[f"{row[0]}-{row[1]}" for row in GOLDEN])
def test_payloads(subkey: str, values: list[Any], want: str) -> None:
    assert encode(option(subkey), values).hex(" ") == want


def test_a_client_finds_the_menu_again() -> None:
    """Walked as a PXE ROM walks it: tag, length, value up to the end mark."""
    payload, found = encode(option("vendor_specific"), [PXE_MENU]), {}
    while payload[0] != 255:
        found[payload[0]] = payload[2 : 2 + payload[1]]
        payload = payload[2 + payload[1] :]
    assert payload == b"\xff" and list(found) == [6, 8, 9, 10]
    assert found[10][0] == 10 and found[10][1:].decode() == "Press F8, or wait"
    servers, kinds = found[8], []
    while servers:
        kinds.append((int.from_bytes(servers[:2], "big"), servers[2]))
        servers = servers[3 + 4 * servers[2] :]
    assert kinds == [(0, 1), (32768, 2)]


# --- what the documentation shows ---------------------------------------------------------------------------------

INVENTORY = (Path(__file__).resolve().parents[3] / "docs/inventory.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("subkey", "example"),
    [
        *re.findall(r"^(vendor_specific) = (.*)$", INVENTORY, re.MULTILINE),
        *re.findall(r"^\| `(vendor_class|vivso)`.*? \| `(.*?)`", INVENTORY, re.MULTILINE),
        *re.findall(r"^\| `(etherboot)`.*: `(no-pxedhcp=.*?)`", INVENTORY, re.MULTILINE),
        *re.findall(r"such as `(option-6rd)` \| .*: `(.*?)`", INVENTORY),
        *re.findall(r"^\| `(classless_static_routes)`.*? \| `(.*?)`", INVENTORY, re.MULTILINE),
    ],
)
def test_documented_examples_are_sent(subkey: str, example: str) -> None:
    assert len(encode(option(subkey), [example])) > 5


def test_documented_names_and_codes_are_the_table_s() -> None:
    for code in (43, 175):
        row = re.search(rf"^\| {code} \| (.*) \|$", INVENTORY, re.MULTILINE)
        assert row is not None
        first = {names.split()[0] for _, _, names in SUBOPTION_ROWS[code]}
        assert set(re.findall(r"`([a-z-]+)`", row[1])) == first
    only_bytes = re.search(r"Bytes are the only way for ([0-9, and]+)\.", INVENTORY)
    assert only_bytes is not None
    hexadecimal = {code for code, kind, _ in ROWS if kind is Kind.HEX} - {208}  # that one is a constant
    assert {int(code) for code in re.findall(r"[0-9]+", only_bytes[1])} == hexadecimal
    examples = re.findall(r"^vendor_specific = .*|^\| `(?:vendor_class|vivso|etherboot)`", INVENTORY, re.MULTILINE)
    assert len(examples) == 4, "the examples above were found"


# --- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subkey", "value", "says", "wanted"),
    [
        ("43", "discovry-control=8", "did you mean discovery-control?", "discovery-control=8"),
        ("43", "discovery-control=x", "discovery-control: 'x'", "0..255"),
        ("43", "discovery-control=8, or not", "'or not' without a =", "NAME=VALUE"),
        ("43", "discovery-control=8; menu-prompt=0", "discovery-control: '8; menu-prompt=0'", "0..255"),
        ("43", "boot-servers=10.0.0.1", "boot-servers: '10.0.0.1'", "a server type"),
        ("43", "boot-servers=1 10.0.0.300", "boot-servers: '10.0.0.300'", "a server type"),
        ("43", "boot-servers=1 " + "10.0.0.1 " * 64, "64 addresses for type 1", "a server type"),
        ("43", "boot-servers=1 " + "10.0.0.1 " * 63 + "2", "boot-servers of 258 bytes", "at most 255"),
        ("43", "boot-menu=0 Local disk", "3 words, not pairs", '"Local disk"'),
        ("43", 'boot-menu=0 ""', "a line of 0 bytes", "1..255"),
        ("43", "menu-prompt=Press F8", "seconds: 'Press'", "0..255"),
        ("43", "boot-item=15", "no layer", "type (a whole number 0..65535), then layer"),
        ("43", 'menu-prompt=1 "F8', 'a quotation mark "', "PXE sub-options"),
        ("43", "241=10.0.0.5", "sub-option 241: '10.0.0.5'", "ip:10.0.0.1"),
        ("43", "241=5", "sub-option 241: '5'", "u8:5"),
        ("43", "241=ip:fe80::1", "IPv6 address 'fe80::1'", "IPv4"),
        ("43", "241=u8:256", "256", "0..255"),
        ("43", "241=0xabc", "'0xabc'", "hexadecimal"),
        ("43", "6=8, discovery-control=8", "discovery-control (6) twice", "PXE"),
        ("175", "no-pxedhpc=1", "did you mean no-pxedhcp?", "keep-san"),
        ("175", "no-pxedhcp=2", "no-pxedhcp: '2'", "0 or 1"),
        ("175", "no-pxedhcp", "'no-pxedhcp' without a =", "NAME=VALUE"),
        ("175", "no-pxedhcp=", "no-pxedhcp without a value", "NAME=VALUE"),
        ("175", "priority=128", "priority: '128'", "-128..127"),
        ("175", "=1", "sub-option ''", "a number 0..254"),
        ("175", "0=1", "sub-option 0: '1'", "u8:5"),
        ("175", "255=0x01", "sub-option '255'", "a number 0..254"),
        ("43", "0=text:a, boot-menu=0 b", "sub-option 'boot-menu'", "a number 0..254"),
        ("43", "1=hex:xyz", "mtftp-ip: 'xyz'", "bytes in hexadecimal"),
        ("175", "99=a\0b", "sub-option 99: U+0000", "u8:5"),
        ("175", 7, "'7' without a =", "NAME=VALUE"),
        ("175", "", "an empty value", "NAME=VALUE"),
        ("175", "scriptlet=" + "x" * 256, "scriptlet of 256 bytes", "at most 255"),
        ("175", "x" * 1_000_000, "1000000 characters", "NAME=VALUE"),
        ("124", "9: text", "'9: text'", "enterprise 9: text"),
        ("124", "enterprise 9: 5", "class of enterprise 9: '5'", "u8:5"),
        ("124", "enterprise 9: a, ", "class of enterprise 9 without a value", "enterprise 9: text"),
        ("124", "enterprise 9: " + "x" * 255, "256 bytes for enterprise 9", "1..255"),
        ("125", "enterprise 9", "'enterprise 9'", "enterprise 9: 1=0x0102"),
        ("125", "enterprise 9:", "0 bytes for enterprise 9", "1..255"),
        ("125", "enterprise 4294967296: 1=a", "'enterprise 4294967296: 1=a'", "enterprise 9: 1=0x0102"),
        ("125", "enterprise 9: 1=a; enterprise 9: 2=b", "enterprise 9 twice", "enterprise 9: 1=0x0102"),
        ("125", "enterprise 9: model=a", "sub-option 'model'", "a number 0..254"),
        ("125", 7, "'7'", "enterprise 9: 1=0x0102"),
        ("122", "as-backoff=1 2", "as-backoff: no retries", "nominal"),
        ("122", "provisioning-server=a.b 10.0.0.1", "names and addresses together", "either"),
        ("63", "nwip-1-1=maybe", "nwip-1-1: 'maybe'", "0 or 1"),
    ],
)
def test_refused(subkey: str, value: Any, says: str, wanted: str) -> None:
    target = option(subkey)
    with pytest.raises(OptionRejected) as caught:
        encode(target, [value])
    message = str(caught.value)
    assert says in caught.value.found and wanted in caught.value.wanted, message
    assert re.match(rf"dhcp option {target.name} \({target.code}\): found .*; wanted ", message)
    assert len(message) < 500 and message.isprintable() and caught.value.option is target


def test_two_attributes_of_43_are_refused() -> None:
    with pytest.raises(OptionRejected, match="found 2 attributes"):
        encode(option("43"), ["discovery-control=8", "menu-prompt=0"])
