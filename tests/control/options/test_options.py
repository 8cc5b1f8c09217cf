"""control/options/rendering.py and table.py: names, golden bytes, every way to be refused."""

import datetime
from typing import Any

import pytest

from control.options import rendering, table
from control.options.rendering import OptionRejected, Vocabulary, encode, pxelinux_magic, render, tlv
from control.options.spaces import SPACE_ENCODERS
from control.options.table import ROWS, WHY_COMPUTED, Kind, Option, option_by_code

SHIPPED_EXTRA = {
    "66": "tftp_server",
    "67": "tftp_filename",
    "208": "pxelinux-magic",
    "209": "pxelinux-configfile",
    "210": "pxelinux-pathprefix",
    "211": "pxelinux-reboottime",
}
# What the original could send, with its codes (the list of scapy 2.3.3 and the shipped extra_options).
# fmt: off
ORIGINAL_NAMES = {
    1: "subnet_mask", 2: "time_zone", 3: "router", 4: "time_server", 5: "IEN_name_server", 6: "name_server",
    7: "log_server", 8: "cookie_server", 9: "lpr_server", 12: "hostname", 14: "dump_path", 15: "domain",
    17: "root_disk_path", 22: "max_dgram_reass_size", 23: "default_ttl", 24: "pmtu_timeout",
    28: "broadcast_address", 35: "arp_cache_timeout", 36: "ether_or_dot3", 37: "tcp_ttl",
    38: "tcp_keepalive_interval", 39: "tcp_keepalive_garbage", 40: "NIS_domain", 41: "NIS_server",
    42: "NTP_server", 43: "vendor_specific", 44: "NetBIOS_server", 45: "NetBIOS_dist_server",
    50: "requested_addr", 51: "lease_time", 54: "server_id", 55: "param_req_list", 56: "error_message",
    57: "max_dhcp_size", 58: "renewal_time", 59: "rebinding_time", 60: "vendor_class_id", 61: "client_id",
    64: "NISplus_domain", 65: "NISplus_server", 69: "SMTP_server", 70: "POP3_server", 71: "NNTP_server",
    72: "WWW_server", 73: "Finger_server", 74: "IRC_server", 75: "StreetTalk_server",
    76: "StreetTalk_Dir_Assistance", 82: "relay_agent_Information", 66: "tftp_server", 67: "tftp_filename",
    208: "pxelinux-magic", 209: "pxelinux-configfile", 210: "pxelinux-pathprefix", 211: "pxelinux-reboottime",
}
# fmt: on

# Kinds that only a sub-option has, with an encoder of their own.
SUBOPTION_KINDS = {Kind.PXE_SERVERS, Kind.PXE_MENU, Kind.UNTYPED}


def option(subkey: str) -> Option:
    found = Vocabulary().find(subkey)
    assert found is not None, subkey
    return found


def parse(blob: bytes) -> dict[int, bytes]:
    """TLVs -> payloads, pieces of one code joined (RFC 3396); the mirror of render, for these tests only."""
    payloads: dict[int, bytes] = {}
    while blob:
        code, length = blob[0], blob[1]
        assert len(blob) >= 2 + length
        payloads[code] = payloads.get(code, b"") + blob[2 : 2 + length]
        blob = blob[2 + length :]
    return payloads


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "name"), ORIGINAL_NAMES.items(), ids=ORIGINAL_NAMES.values())
def test_original_names_are_found_in_any_spelling(code: int, name: str) -> None:
    for extra in ({}, SHIPPED_EXTRA):
        vocabulary = Vocabulary(extra)
        for spelling in (name, name.lower(), name.upper(), name.replace("_", "-"), name.replace("-", "_")):
            found = vocabulary.find(spelling)
            assert found is not None and (found.code, found.name) == (code, name)


@pytest.mark.parametrize(
    ("subkey", "code", "kind"),
    [
        ("option-150", 150, Kind.ADDRESSES),
        ("OPTION_150", 150, Kind.ADDRESSES),
        ("150", 150, Kind.ADDRESSES),
        ("option-066", 66, Kind.TEXT_NUL),
        ("option_240", 240, Kind.RAW),
        ("ntp-servers", 42, Kind.ADDRESSES),
        (" router ", 3, Kind.ADDRESSES),
    ],
)
def test_numbers_and_common_names(subkey: str, code: int, kind: Kind) -> None:
    assert (option(subkey).code, option(subkey).kind) == (code, kind)


@pytest.mark.parametrize("subkey", ["", "enabled", "option-0", "option-255", "option-1000", "0", "255", "option-", "٣"])
def test_no_such_option(subkey: str) -> None:
    assert Vocabulary().find(subkey) is None


@pytest.mark.parametrize(
    ("subkey", "nearest"),
    [
        ("tftp_file_name", "tftp_filename"),
        ("ntp_sever", "NTP_server"),
        ("lease-tim", "lease_time"),
        ("qqqqqqqq", None),
        ("", None),
        ("x" * 1_000_000, None),
    ],
)
def test_nearest(subkey: str, nearest: str | None) -> None:
    assert Vocabulary().nearest(subkey) == nearest


def test_extra_options_add_rename_and_move_names() -> None:
    vocabulary = Vocabulary({"240": "rack_colour", "150": "tftp_server", "42": "clock"})
    assert vocabulary.find("Rack-Colour") == Option(240, "rack_colour", Kind.RAW)
    assert vocabulary.find("tftp_server") == Option(150, "tftp_server", Kind.ADDRESSES)
    assert vocabulary.find("clock") == Option(42, "clock", Kind.ADDRESSES)
    assert vocabulary.nearest("rack_color") == "rack_colour"
    assert Vocabulary().find("rack_colour") is None, "one vocabulary's names must not leak into the next"


@pytest.mark.parametrize("code", ["0", "255", "-1", "1.5", "", "sixty", "٣", "1" * 5000])
def test_extra_options_with_bad_codes(code: str) -> None:
    with pytest.raises(ValueError, match="option"):
        Vocabulary({code: "name"})


def test_option_by_code_bounds() -> None:
    assert option_by_code(254) == Option(254, "option-254", Kind.RAW)
    for code in (0, 255, -1):
        with pytest.raises(ValueError, match=f"option {code}"):
            option_by_code(code)
    assert table.may_be_empty(80) and not table.may_be_empty(12)


def test_table_is_consistent() -> None:
    codes = [code for code, _, _ in ROWS]
    assert codes == sorted(set(codes)) and codes[0] == 1 and codes[-1] <= 254
    computed = {code for code, kind, _ in ROWS if kind is Kind.COMPUTED}
    assert computed == set(WHY_COMPUTED)
    assert set(rendering._ENCODERS) == set(Kind) - {Kind.COMPUTED} - SUBOPTION_KINDS


@pytest.mark.parametrize(
    ("subkeys", "want"),
    [
        (["domain", "tftp_server"], False),
        ([], False),
        (["pxelinux-configfile"], True),
        (["domain", "PXELINUX_reboottime"], True),
        (["pxelinux-magic"], True),
        (["xpxelinux"], False),
    ],
)
def test_pxelinux_magic(subkeys: list[str], want: bool) -> None:
    assert pxelinux_magic(subkeys) is want


# --- golden bytes ----------------------------------------------------------------------------------------------------

GOLDEN: list[tuple[str, list[Any], str]] = [
    ("subnet_mask", ["255.255.254.0"], "ff ff fe 00"),
    ("broadcast_address", [" 10.0.1.255 "], "0a 00 01 ff"),
    ("router", ["10.0.0.1"], "0a 00 00 01"),
    ("name_server", ["10.0.0.1, 10.0.0.2"], "0a 00 00 01 0a 00 00 02"),
    ("name_server", ["10.0.0.1 10.0.0.2,10.0.0.3"], "0a 00 00 01 0a 00 00 02 0a 00 00 03"),
    ("NTP_server", ["192.0.2.9", "192.0.2.8"], "c0 00 02 09 c0 00 02 08"),
    ("mobile-ip-home-agent", [""], ""),
    ("static-routes", ["192.0.2.1 10.0.0.1"], "c0 00 02 01 0a 00 00 01"),
    ("default_ttl", [64], "40"),
    ("default_ttl", ["64"], "40"),
    ("interface-mtu", [9000], "23 28"),
    ("path-mtu-plateau-table", ["68, 296 508"], "00 44 01 28 01 fc"),
    ("lease_time", [7200], "00 00 1c 20"),
    ("lease_time", ["7200"], "00 00 1c 20"),
    ("lease_time", [4294967295], "ff ff ff ff"),
    ("lease_time", [True], "00 00 00 01"),
    ("time_zone", [-18000], "ff ff b9 b0"),
    ("time_zone", ["3600"], "00 00 0e 10"),
    ("ip-forwarding", [False], "00"),
    ("ip-forwarding", ["Yes"], "01"),
    ("ip-forwarding", [1], "01"),
    ("domain", ["example.org"], "65 78 61 6d 70 6c 65 2e 6f 72 67"),
    ("hostname", [1234], "31 32 33 34"),
    ("hostname", ["a-1.example.org."], b"a-1.example.org.".hex(" ")),
    ("domain", ["köln"], "6b c3 b6 6c 6e"),
    ("tftp_server", ["10.0.0.1"], "31 30 2e 30 2e 30 2e 31 00"),
    ("tftp_filename", ["/pxelinux.0"], "2f 70 78 65 6c 69 6e 75 78 2e 30 00"),
    ("pxelinux-configfile", ["a.cfg"], "61 2e 63 66 67"),
    ("pxelinux-reboottime", ["30"], "00 00 00 1e"),
    ("pxelinux-magic", ["f1:00:75:7e"], "f1 00 75 7e"),
    ("pxelinux-magic", ["0xF100757E"], "f1 00 75 7e"),
    ("pxelinux-magic", ["f100757e"], "f1 00 75 7e"),
    ("pxelinux-magic", ["f1-0-75 7e"], "f1 00 75 7e"),
    ("etherboot", ["b0:01:01"], "b0 01 01"),
    ("vendor_specific", ["Raspberry Pi Boot"], "52 61 73 70 62 65 72 72 79 20 50 69 20 42 6f 6f 74"),
    ("vendor_specific", ["06:01:08:ff"], "06 01 08 ff"),
    ("vendor_specific", ["0x060108ff"], "06 01 08 ff"),
    ("vendor_specific", ["deadbeef"], "64 65 61 64 62 65 65 66"),
    ("option-240", [7], "37"),
    ("option-240", ["0x"], ""),
    # a value that says itself what it is
    ("lease_time", ["hex:00000e10"], "00 00 0e 10"),
    ("subnet_mask", ["HEX:ff:ff:ff:00"], "ff ff ff 00"),
    ("tftp_server_address", ["text:tftp"], "74 66 74 70"),
    ("tftp_filename", ["text:0x01"], "30 78 30 31 00"),
    ("tftp_filename", ["hex:61"], "61"),
    ("hostname", ["text:a_b"], "61 5f 62"),
    ("vendor_specific", ["text:6=8"], "36 3d 38"),
    ("vendor_specific", ["hex:06 01 08"], "06 01 08"),
    ("option-240", ["text:01:02"], "30 31 3a 30 32"),
    ("option-240", [" text: 01"], "20 30 31"),
    ("option-240", ["hex:01:02"], "01 02"),
    # bytes are guessed only where nobody said otherwise
    ("option-240", ["01:02"], "01 02"),
    ("option-240", ['"01:02"'], "30 31 3a 30 32"),
    ("option-240", ["'0x0102'"], "30 78 30 31 30 32"),
    ("option-240", ['"a"'], "22 61 22"),
    ("option-240", ["0x" + "ab" * 32], " ".join(["ab"] * 32)),
    ("option-240", [":".join(["AB"] * 32)], ":".join(["AB"] * 32).encode().hex(" ")),
    ("option-240", [":".join(["ab"] * 20)], ":".join(["ab"] * 20).encode().hex(" ")),
    ("option-240", [":".join(["ab"] * 16)], " ".join(["ab"] * 16)),
    ("option-240", ["hex:" + ":".join(["AB"] * 32)], " ".join(["ab"] * 32)),
    ("vendor_specific", [":".join(["AB"] * 32)], " ".join(["ab"] * 32)),
    ("v4-access-domain", ["example.org."], "07 65 78 61 6d 70 6c 65 03 6f 72 67 00"),
    ("domain-search", ["a.example, b.c"], "01 61 07 65 78 61 6d 70 6c 65 00 01 62 01 63 00"),
    ("domain-search", ["b.c", "xn--kln-sna"], "01 62 01 63 00 0b 78 6e 2d 2d 6b 6c 6e 2d 73 6e 61 00"),
    # RFC 3397: what follows eng. and mkt. points to byte 4 (RFC 3397's own example, section 3)
    (
        "domain-search",
        ["eng.apple.com. marketing.apple.com."],
        "03 65 6e 67 05 61 70 70 6c 65 03 63 6f 6d 00 09 6d 61 72 6b 65 74 69 6e 67 c0 04",
    ),
    ("domain-search", ["a.b", "a.b b"], "01 61 01 62 00 c0 00 c0 02"),
    ("bcms-controller-names", ["a.b, c.b"], "01 61 01 62 00 01 63 01 62 00"),
    # RFC 3361
    ("sip-servers", ["a.b, c.d"], "00 01 61 01 62 00 01 63 01 64 00"),
    ("sip-servers", ["10.0.0.1", "10.0.0.2"], "01 0a 00 00 01 0a 00 00 02"),
    ("sip-servers", ["0x0101"], "01 01"),
    # records
    ("slp_service_agent", ["1 10.0.0.1, 10.0.0.2"], "01 0a 00 00 01 0a 00 00 02"),
    ("slp_service_agent", ["no", "10.0.0.1", "10.0.0.2"], "00 0a 00 00 01 0a 00 00 02"),
    ("slp_service_scope", ["yes rack, 1"], "01 72 61 63 6b 2c 20 31"),
    ("slp_service_scope", ["0"], "00"),
    ("isns", ["1 2 3 4 10.0.0.1"], "00 01 00 02 00 03 00 00 00 04 0a 00 00 01"),
    ("pxe_client_network_interface", ["1 3 16"], "01 03 10"),
    ("rdnss-selection", ["1 10.0.0.1 10.0.0.2 a.b"], "01 0a 00 00 01 0a 00 00 02 01 61 01 62 00"),
    ("v4-portparams", ["6, 8, 255"], "06 08 00 ff"),
    (
        "6rd",
        ["14 32 2001:db8:: 10.0.0.1 10.0.0.2"],
        "0e 20 20 01 0d b8 00 00 00 00 00 00 00 00 00 00 00 00 0a 00 00 01 0a 00 00 02",
    ),
    ("dhcp4o6-s46-saddr", ["2001:db8::1"], "20 01 0d b8 00 00 00 00 00 00 00 00 00 00 00 01"),
    ("v4-pcp-server", ["10.0.0.1 10.0.0.2; 10.0.0.3"], "08 0a 00 00 01 0a 00 00 02 04 0a 00 00 03"),
    ("v4-pcp-server", ["10.0.0.1", "10.0.0.3"], "04 0a 00 00 01 04 0a 00 00 03"),
    ("v4-sztp-redirect", ["https://a/b x:y"], "00 0b 68 74 74 70 73 3a 2f 2f 61 2f 62 00 03 78 3a 79"),
    ("forcerenew_nonce_capable", ["1, 2"], "01 02"),
    ("auto-config", ["no"], "00"),
    # RFC 3442: width, significant octets, router
    ("classless_static_routes", ["10.0.0.0/8 10.1.1.1"], "08 0a 0a 01 01 01"),
    ("classless_static_routes", ["0.0.0.0/0 via 10.0.0.1"], "00 0a 00 00 01"),
    ("classless_static_routes", ["default via 10.0.0.1"], "00 0a 00 00 01"),
    ("classless_static_routes", ["10.0.0.0/8:10.1.1.1"], "08 0a 0a 01 01 01"),
    (
        "classless_static_routes",
        ["10.17.0.0/16 10.0.0.2, 10.27.129.128/25 10.0.0.3"],
        "10 0a 11 0a 00 00 02 19 0a 1b 81 80 0a 00 00 03",
    ),
    (
        "ms-classless-static-routes",
        ["10.229.0.128/32 0.0.0.0", "0.0.0.0/0 10.0.0.1"],
        "20 0a e5 00 80 00 00 00 00 00 0a 00 00 01",
    ),
]


@pytest.mark.golden
@pytest.mark.parametrize(("subkey", "values", "want"), GOLDEN, ids=[f"{row[0]}-{row[1]}" for row in GOLDEN])
def test_payloads(subkey: str, values: list[Any], want: str) -> None:
    assert encode(option(subkey), values).hex(" ") == want


def test_every_kind_has_golden_bytes() -> None:
    written_elsewhere = (
        set(SPACE_ENCODERS) | SUBOPTION_KINDS | {Kind.SINT8}
    )  # tests/control/options/test_options_spaces.py
    assert {option(subkey).kind for subkey, _, _ in GOLDEN} == set(Kind) - {Kind.COMPUTED} - written_elsewhere | {
        Kind.VENDOR,
        Kind.SUBOPTIONS,
    }


def test_a_bare_text_counts_as_one_value() -> None:
    assert encode(option("domain"), "example") == b"example"


@pytest.mark.golden
def test_tlv_splits_over_255_bytes() -> None:
    assert tlv(6, bytes(4)) == bytes.fromhex("06 04 00000000")
    assert tlv(43, b"a" * 255) == b"\x2b\xff" + b"a" * 255
    assert tlv(43, b"a" * 256) == b"\x2b\xff" + b"a" * 255 + b"\x2b\x01a"
    assert tlv(80, b"") == b"\x50\x00"
    assert tlv(240, b"") == b"\xf0\x00"


@pytest.mark.golden
def test_render_of_the_documents_example() -> None:
    """The pool of the clusto documentation, on a /24 with the gateway .1 and PXELINUX's magic."""
    attributes = {
        "tftp_filename": "/pxelinux.0",
        "domain": "example.org",
        "tftp_server": "192.168.1.1",
        "hostname": "ex0000",
        "router": "192.168.1.1",
        "subnet_mask": "255.255.255.0",
        "broadcast_address": "192.168.1.255",
        "pxelinux-reboottime": "30",
    }
    blob = {option(subkey).code: encode(option(subkey), [value]) for subkey, value in attributes.items()}
    blob[208] = rendering.PXELINUX_MAGIC
    assert render(blob) == b"".join(
        [
            bytes.fromhex("01 04 ffffff00"),
            bytes.fromhex("03 04 c0a80101"),
            b"\x0c\x06ex0000",
            b"\x0f\x0bexample.org",
            bytes.fromhex("1c 04 c0a801ff"),
            b"\x42\x0c192.168.1.1\0",
            b"\x43\x0c/pxelinux.0\0",
            bytes.fromhex("d0 04 f100757e"),
            bytes.fromhex("d3 04 0000001e"),
        ]
    )


def test_render_order() -> None:
    payloads = dict.fromkeys((252, 2, 6, 3, 1), b"x")
    assert list(parse(render(payloads))) == [1, 3, 6, 2, 252]
    assert list(parse(render(payloads, order=(252, 252, 9, 6)))) == [252, 6, 1, 2, 3]
    assert render({}) == b""


@pytest.mark.parametrize("code", [0, 50, 51, 52, 53, 54, 55, 58, 59, 61, 82, 255])
def test_render_refuses_what_the_reply_encoder_writes(code: int) -> None:
    with pytest.raises(ValueError, match=str(code)):
        render({1: b"\xff\xff\xff\0", code: b"x"})


@pytest.mark.parametrize(("code", "payload"), [(0, b"x"), (255, b"x"), (256, b"x"), (-1, b"x"), (3, b""), (12, b"")])
def test_tlv_refuses(code: int, payload: bytes) -> None:
    with pytest.raises(ValueError, match=f"option {code}"):
        tlv(code, payload)


# --- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subkey", "values", "says"),
    [
        ("router", [], "no value"),
        ("router", [None], "None"),
        ("router", [datetime.datetime(2014, 11, 13)], "type datetime"),
        ("domain", [1.5], "type float"),
        ("domain", [["a"]], "type list"),
        ("domain", [b"a"], "type bytes"),
        ("router", [""], "an empty value"),
        ("router", [" , "], "an empty value"),
        ("router", [167772161], "the number 167772161"),
        ("router", ["10.0.0.256"], "'10.0.0.256'"),
        ("router", ["010.0.0.1"], "'010.0.0.1'"),
        ("router", ["10.0.0.0/8"], "'10.0.0.0/8'"),
        ("router", ["2001:db8::1"], "IPv6 address '2001:db8::1'"),
        ("NTP_server", ["10.0.0.1, ntp.example.org"], "'ntp.example.org'"),
        ("subnet_mask", ["255.0.255.0"], "255.255.255.0"),
        ("subnet_mask", ["255.255.255.0, 255.255.0.0"], "wanted one IPv4 address"),
        ("broadcast_address", ["10.0.0.1", "10.0.0.2"], "2 attributes"),
        ("static-routes", ["10.0.0.0 10.0.0.1 10.0.0.2"], "3 addresses"),
        ("lease_time", ["7200s"], "'7200s'"),
        ("lease_time", ["１２"], "wanted a whole number"),
        ("lease_time", [-1], "wanted a whole number 1..4294967295"),
        ("lease_time", [0], "wanted a whole number 1..4294967295"),
        ("lease_time", [4294967296], "4294967296"),
        ("lease_time", ["9" * 5000], "5000 characters"),
        ("lease_time", [1 << 9999], "10000 bits"),
        ("lease_time", ["3600", "7200"], "2 attributes"),
        ("interface-mtu", [67], "68..65535"),
        ("max_dhcp_size", ["575"], "576..65535"),
        ("default_ttl", [256], "1..255"),
        ("time_zone", [2147483648], "-2147483648..2147483647"),
        ("ip-forwarding", [2], "found 2"),
        ("ip-forwarding", ["maybe"], "'maybe'"),
        ("domain", [""], "an empty value"),
        ("tftp_filename", [""], "an empty value"),
        ("tftp_filename", ["/pxelinux.0\0"], "U+0000 at character 12"),
        ("domain", ["a\nb"], "U+000A at character 2"),
        ("hostname", [""], "an empty value"),
        ("hostname", ["db_01"], "'db_01'; wanted a host name"),
        ("hostname", ["-a"], "'-a'"),
        ("hostname", ["a-"], "'a-'"),
        ("hostname", ["a..b"], "'a..b'"),
        ("hostname", ["a b"], "'a b'"),
        ("hostname", ["köln"], "'köln'"),
        ("hostname", ["a" * 64], "(64 characters)"),
        ("hostname", ["a." * 128], "(256 characters)"),
        ("hostname", ["text:a\nb"], "U+000A"),
        ("router", ["hex:"], "an empty value"),
        ("router", ["hex:0g"], "'0g'; wanted bytes in hexadecimal"),
        ("lease_time", ["hex:0e10"], "2 bytes; wanted a whole number"),
        ("lease_time", ["hex:00000000"], "1..4294967295"),
        ("lease_time", ["text:3600"], "wanted a whole number"),
        ("server_id", ["text:abcde"], "'text:abcde'; wanted one IPv4 address"),
        ("subnet_mask", ["hex:ff00ff00"], "255.255.255.0"),
        ("domain", ["a\x85"], "U+0085"),
        ("domain", ["\ud800"], "U+D800"),
        ("domain", ["x" * 1401], "1401 bytes; wanted at most 1400"),
        ("domain", ["x" * 1_000_000], "1000000 characters"),
        ("router", ["10.0.0.1 " * 351], "1404 bytes"),
        ("router", ["10.0.0.1"] * 5000, "5000 attributes, more than any packet holds"),
        ("domain-search", ["example.org " * 1000] * 2, "more text than any packet holds"),
        ("router", [1.5], "type float"),
        ("router", [{"a": 1}], "type dict"),
        ("pxelinux-magic", ["f1:00:75:7"], None),
        ("pxelinux-magic", ["f1007"], "'f1007'"),
        ("pxelinux-magic", ["magic"], "'magic'"),
        ("pxelinux-magic", [""], "an empty value"),
        ("pxelinux-magic", [0xF100757E], "doesn't say how many bytes"),
        ("pxelinux-magic", ["0xf1:00"], "'0xf1:00'"),
        ("vendor_specific", ["0xnothex"], "'0xnothex'"),
        ("vendor_specific", ["0x"], "an empty value"),
        ("domain-search", ["a..b"], "label ''"),
        ("domain-search", ["."], "label ''"),
        ("domain-search", ["-a.b"], "label '-a'"),
        ("domain-search", ["köln.example"], "xn--"),
        ("domain-search", ["a" * 64], "label"),
        ("domain-search", [".".join(["a" * 63] * 4)], "RFC 1035"),
        ("v4-access-domain", ["a b"], "2 names"),
        ("classless_static_routes", ["10.0.0.0/8"], "1 words"),
        ("classless_static_routes", ["10.0.0.1/8 10.1.1.1"], "has host bits set"),
        ("classless_static_routes", ["10.0.0.0 10.1.1.1"], "'10.0.0.0' as a destination"),
        ("classless_static_routes", ["10.0.0.0/33 10.1.1.1"], "'10.0.0.0/33' as a destination"),
        ("classless_static_routes", ["10.0.0.0/8 gw"], "'gw'"),
        ("sip-servers", ["a.b 10.0.0.1"], "names and addresses together"),
        ("sip-servers", ["10.0.0.256"], "'10.0.0.256'"),
        ("slp_service_agent", ["10.0.0.1"], "mandatory: '10.0.0.1'"),
        ("slp_service_agent", ["1"], "no agents"),
        ("slp_service_scope", ["1", "scope"], "2 attributes"),
        ("v4-portparams", ["6 8"], "no psid"),
        ("v4-portparams", ["6 8 70000"], "psid: '70000'"),
        ("v4-portparams", [6], "no psid-length"),
        ("6rd", ["14 32 10.0.0.1 10.0.0.2"], "6rd-prefix: '10.0.0.1'"),
        ("dhcp4o6-s46-saddr", ["10.0.0.1"], "'10.0.0.1'"),
        ("dhcp4o6-s46-saddr", [1], "found 1"),
        ("v4-pcp-server", ["10.0.0.1;"], "a list of 0 addresses"),
        ("v4-sztp-redirect", ["not-a-uri"], "'not-a-uri'"),
        ("classless_static_routes", [8, 9], "the number 8|8 as a destination"),
        ("client_id", ["x"], "RFC 6842"),
        ("message-type", [5], "per reply"),
        ("requested_addr", ["10.0.0.1"], "only a client"),
        ("param_req_list", ["x"], "only a client"),
        ("relay_agent_Information", ["x"], "RFC 3046"),
        ("rapid_commit", [1], "RFC 4039"),
    ],
)
def test_refused(subkey: str, values: list[Any], says: str | None) -> None:
    target = option(subkey)
    if says is None:  # one-digit octets are legal between colons
        assert encode(target, values) == bytes.fromhex("f1007507")
        return
    with pytest.raises(OptionRejected) as caught:
        encode(target, values)
    message = str(caught.value)
    assert any(part in message for part in says.split("|")), message
    assert message.startswith(f"dhcp option {target.name} ({target.code}): found ") and "; wanted " in message
    assert len(message) < 500 and message.isprintable()
    assert caught.value.option is target
