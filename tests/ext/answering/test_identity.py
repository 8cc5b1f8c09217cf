"""Who asks: InfiniBand's names, a BMC behind its server's MAC, plain BOOTP, options in parts; switches of replies."""

from typing import Any

import pytest
from ext.builder import TEMPLATE_FLAGS, Builder
from ext.codec import parse
from ext.table import Pair, TableInvalid
from ext.verdict import Verdict

from tests.ext.packets import BROADCAST_FLAG, CLIENT_PARAMETERS, Parsed, discover, ip, mac_bytes, message, request, tlv
from tests.ext.sites import ALICE, OPTIONS, REMOTE, STRANGER, ask, generation, one_host, relayed, surroundings, unicast

GUID = bytes.fromhex("0002c90300a1b2c3")
PSEUDO = int.from_bytes(GUID[:3] + GUID[5:], "big")
SHARED, OWN_CARD = 0x020000000050, 0x020000000051
HOST_IP, BMC_IP = "10.1.0.50", "10.1.0.51"
UDHCP = tlv(60, b"udhcp 0.9.9-pre")
RULES = (
    ("vendor_class", "host", b"udhcp 0.9.9-installer"),
    ("vendor_class", "bmc", b"udhcp 0.9."),
    ("other_mac", "bmc", b""),
)


def infiniband(client_id: bytes, kind: int | None = 1, **fields: Any) -> bytes:
    return message(kind, 0, tlv(61, client_id), htype=32, hlen=0, chaddr=bytes(16), flags=BROADCAST_FLAG, **fields)


# --- InfiniBand, RFC 4390 --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "client_id",
    [
        pytest.param(b"\x20" + GUID, id="type-32-and-guid"),
        pytest.param(b"\xff" + bytes(4) + bytes.fromhex("0002000002c900") + GUID, id="duid-en-of-mellanox"),
        pytest.param(b"\xff" + b"iaid" + b"\0\3\0\x20" + GUID, id="duid-ll"),
        pytest.param(b"\x20" + mac_bytes(PSEUDO), id="48-bits-only"),
    ],
)
def test_infiniband_is_known_by_its_client_id(client_id: bytes) -> None:
    reply = ask(one_host(mac=PSEUDO), infiniband(client_id))
    assert (reply.verdict, reply.route) == (Verdict.OFFERED, "broadcast")
    said = Parsed.of(reply.data)
    assert (said.yiaddr, said.htype, said.hlen, said.chaddr) == (HOST_IP, 32, 0, bytes(16))
    assert (said.flags, said.option(61)) == (BROADCAST_FLAG, client_id)


@pytest.mark.parametrize("client_id", [b"", b"\x20", GUID, b"\x20" + GUID[:5]])
def test_infiniband_without_a_guid_has_no_name(client_id: bytes) -> None:
    packet = infiniband(client_id)
    assert parse(packet)["mac"] == b""
    assert ask(one_host(mac=PSEUDO), packet).verdict == Verdict.IGNORED_UNKNOWN_MAC


def test_ethernet_is_never_known_by_a_client_id() -> None:
    """RFC 4361 section 6.3 lets a server with fixed addresses go by chaddr."""
    packet = discover(STRANGER, options=tlv(61, b"\x20" + GUID))
    assert ask(one_host(mac=PSEUDO), packet).verdict == Verdict.IGNORED_UNKNOWN_MAC


# --- BMC or host -----------------------------------------------------------------------------------------------------


def shared_card(*, bmc: bool = True, rules: tuple[tuple[str, str, bytes], ...] = RULES) -> Pair:
    builder = Builder()
    index = builder.add_template(options=OPTIONS)
    builder.add_host(SHARED, name=b"server", own=tlv(12, b"server"), leases=((ip(HOST_IP), 24, index),))
    if bmc:
        for mac in (SHARED, OWN_CARD):
            builder.add_host(mac, role=1, name=b"server", leases=((ip(BMC_IP), 24, index),))
    return Pair(generation(builder, around=surroundings(rules=rules)))


OTHER_CARD = tlv(61, b"\1" + mac_bytes(OWN_CARD))
SAME_CARD = tlv(61, b"\1" + mac_bytes(SHARED))


@pytest.mark.parametrize(
    "options, yiaddr",
    [
        pytest.param(b"", HOST_IP, id="says-nothing"),
        pytest.param(UDHCP, BMC_IP, id="vendor-class"),
        pytest.param(tlv(60, b"udhcp 1.36.1"), HOST_IP, id="an-installer"),
        pytest.param(tlv(60, b"udhcp 0.9.9-installer"), HOST_IP, id="the-first-rule-that-fits"),
        pytest.param(OTHER_CARD, BMC_IP, id="client-id-with-another-mac"),
        pytest.param(SAME_CARD, HOST_IP, id="client-id-with-its-own-mac"),
        pytest.param(tlv(61, b"\xff" + bytes(18)), HOST_IP, id="duid"),
    ],
)
def test_two_roles_behind_one_mac(options: bytes, yiaddr: str) -> None:
    pair = shared_card()
    for packet in (discover(SHARED, options=options), request(SHARED, requested=yiaddr, options=options)):
        assert Parsed.of(ask(pair, packet).data).yiaddr == yiaddr
    wrong = HOST_IP if yiaddr == BMC_IP else BMC_IP
    assert ask(pair, request(SHARED, requested=wrong, options=options)).verdict == Verdict.NAKED
    assert ask(pair, request(SHARED, ciaddr=wrong, options=options), **unicast()).verdict == Verdict.IGNORED_CIADDR


def test_a_bmc_without_address_never_gets_the_servers() -> None:
    pair = shared_card(bmc=False)
    assert ask(pair, discover(SHARED, options=UDHCP)).verdict == Verdict.IGNORED_BMC
    assert ask(pair, discover(SHARED)).verdict == Verdict.OFFERED
    assert ask(pair, discover(STRANGER, options=UDHCP)).verdict == Verdict.IGNORED_UNKNOWN_MAC


def test_a_recorded_bmc_is_one_whatever_it_says() -> None:
    for options in (b"", UDHCP, SAME_CARD):
        assert Parsed.of(ask(shared_card(), discover(OWN_CARD, options=options)).data).yiaddr == BMC_IP


@pytest.mark.parametrize("vendor", [b"PXEClient:Arch:00007:UNDI:003016", b"HTTPClient:Arch:00016:UNDI:003001"])
def test_firmware_that_boots_never_gets_the_address_of_a_bmc(vendor: bytes) -> None:
    """Its host, which shares the card and was not recorded yet: silence, until it is."""
    boots = tlv(60, vendor)
    assert ask(shared_card(), discover(OWN_CARD, options=boots)).verdict == Verdict.IGNORED_UNKNOWN_MAC
    assert ask(shared_card(), request(OWN_CARD, requested=BMC_IP, options=boots)).verdict == Verdict.IGNORED_UNKNOWN_MAC
    assert Parsed.of(ask(shared_card(), discover(SHARED, options=boots)).data).yiaddr == HOST_IP


def test_without_rules_there_are_no_roles() -> None:
    pair = shared_card(rules=())
    assert Parsed.of(ask(pair, discover(SHARED, options=UDHCP)).data).yiaddr == HOST_IP
    assert ask(pair, discover(OWN_CARD)).verdict == Verdict.IGNORED_UNKNOWN_MAC


@pytest.mark.parametrize(
    "rule, options, fits",
    [
        (("user_class", "bmc", b"BMC"), tlv(77, b"BMC1"), True),
        (("user_class", "bmc", b"BMC"), tlv(60, b"BMC1"), False),
        (("client_id", "bmc", b"\0ipmi"), tlv(61, b"\0ipmi-17"), True),
        (("client_id", "bmc", b"\0ipmi"), tlv(61, b"\0ipm"), False),
        (("requested_options", "bmc", b"\1\3\x0c"), tlv(55, b"\1\3\x0c"), True),
        (("requested_options", "bmc", b"\1\3\x0c"), tlv(55, b"\1\3\x0c\6"), False),
        (("vendor_class", "bmc", b"x" * 29), tlv(60, b"x" * 40), True),
    ],
)
def test_rule_kinds(rule: tuple[str, str, bytes], options: bytes, fits: bool) -> None:
    reply = ask(shared_card(rules=(rule,)), discover(SHARED, options=options))
    assert Parsed.of(reply.data).yiaddr == (BMC_IP if fits else HOST_IP)


def test_a_rule_that_no_table_can_hold() -> None:
    with pytest.raises(TableInvalid, match="a rule takes 29"):
        shared_card(rules=(("vendor_class", "bmc", b"x" * 30),))


# --- BOOTP, RFC 951 and 1542 -----------------------------------------------------------------------------------------

BOOTP = {"around": {"bootp": True}, "file": b"/boot", "siaddr": ip("10.1.0.5"), "own": tlv(12, b"old")}


def test_bootp_is_answered_when_switched_on() -> None:
    packet = message(None, ALICE, tlv(61, b"\1id"))
    assert ask(one_host(), packet).verdict == Verdict.IGNORED_BOOTP
    reply = ask(one_host(**BOOTP), packet)
    assert (reply.verdict, reply.route, reply.destination) == (Verdict.ANSWERED_BOOTP, "frame", ip(HOST_IP))
    said = Parsed.of(reply.data)
    assert (said.yiaddr, said.siaddr, said.file.rstrip(b"\0"), said.length) == (HOST_IP, "10.1.0.5", b"/boot", 300)
    assert said.codes == [1, 3, 12]


def test_bootp_takes_300_bytes_and_no_overload() -> None:
    long = OPTIONS + b"".join(tlv(code, bytes(20)) for code in range(200, 210))
    said = Parsed.of(ask(one_host(**BOOTP | {"options": long, "file": b""}), message(None, ALICE)).data)
    assert (said.length, said.overflow, said.option(52)) == (300, [], None)
    assert said.codes[:2] == [1, 3]
    relay = message(None, REMOTE, giaddr="10.9.0.1", agent=tlv(1, b"port7"))
    pair = one_host(**BOOTP | {"options": long, "mac": REMOTE, "address": "10.9.0.70"})
    reply = ask(pair, relay, **relayed())
    assert (reply.route, reply.destination, reply.port) == ("udp", ip("10.9.0.1"), 67)
    assert Parsed.of(reply.data).order[-1] == (82, tlv(1, b"port7"))


def test_bootp_with_its_address() -> None:
    pair = one_host(**BOOTP)
    reply = ask(pair, message(None, ALICE, ciaddr=HOST_IP), **unicast())
    assert (reply.verdict, reply.destination) == (Verdict.ANSWERED_BOOTP, ip(HOST_IP))
    assert Parsed.of(reply.data).ciaddr == HOST_IP
    assert ask(pair, message(None, ALICE, ciaddr="10.1.0.77"), **unicast()).verdict == Verdict.IGNORED_CIADDR
    other = ask(pair, message(None, ALICE, giaddr="10.9.0.1"), **relayed())
    assert other.verdict == Verdict.IGNORED_OTHER_LINK


# --- options in parts, RFC 3396 --------------------------------------------------------------------------------------


def test_parts_of_an_option_are_joined() -> None:
    long = bytes(range(256)) * 2
    packet = discover(
        ALICE,
        options=tlv(61, long[:255]) + tlv(55, CLIENT_PARAMETERS[:3]) + tlv(61, long[255:400]) + tlv(60, b"PXE")
        + tlv(55, CLIENT_PARAMETERS[3:]) + tlv(60, b"Client"),
    )  # fmt: skip
    found = parse(packet)
    assert (found["client_id"], found["parameter_list"]) == (long[:400], CLIENT_PARAMETERS)
    assert found["vendor_class"] == b"PXEClient"
    assert ask(one_host(), packet).verdict == Verdict.IGNORED_NO_ROOM  # 576 bytes do not take it back
    big = discover(ALICE, options=tlv(57, b"\5\xdc") + tlv(61, long[:255]) + tlv(61, long[255:400]))
    echoed = Parsed.of(ask(one_host(), big).data)
    assert echoed.option(61) == long[:400]
    assert [len(value) for code, value in echoed.order if code == 61] == [255, 145]


def test_parts_in_all_three_fields() -> None:
    """RFC 3396 section 5: options field, then file, then sname."""
    packet = discover(
        ALICE, options=tlv(52, 3) + tlv(61, b"\1a"), file=tlv(61, b"b") + b"\xff", sname=tlv(61, b"c") + b"\xff"
    )
    assert parse(packet)["client_id"] == b"\1abc"


def test_more_parts_than_room() -> None:
    packet = message(1, ALICE, tlv(77, b"u" * 255) * 30)
    found = parse(packet)
    assert len(packet) >= 255 and found["message_type"] == 1
    assert ask(one_host(), packet).verdict == Verdict.OFFERED


def test_82_is_never_joined() -> None:
    """A second one would be the client's forgery."""
    packet = discover(REMOTE, giaddr="10.9.0.1", options=tlv(82, tlv(1, b"a")), agent=tlv(5, "10.1.0.0"))
    assert parse(packet)["relay_agent"] == tlv(1, b"a")


# --- switches of a template ------------------------------------------------------------------------------------------


def test_no_overload() -> None:
    big = b"".join(tlv(code, bytes((code,)) * 100) for code in range(200, 206))
    may = Parsed.of(ask(one_host(options=big), discover(ALICE)).data)
    must_not = Parsed.of(ask(one_host(options=big, flags=TEMPLATE_FLAGS["no-overload"]), discover(ALICE)).data)
    assert may.overflow and may.option(52)
    assert not must_not.overflow and must_not.option(52) is None
    assert set(must_not.codes) < set(may.codes)


def test_always_broadcast() -> None:
    pair = one_host(flags=TEMPLATE_FLAGS["broadcast"])
    reply = ask(pair, discover(ALICE))
    assert (reply.route, Parsed.of(reply.data).flags) == ("broadcast", BROADCAST_FLAG)
    remote = one_host(mac=REMOTE, address="10.9.0.70", flags=TEMPLATE_FLAGS["broadcast"])
    reply = ask(remote, discover(REMOTE, giaddr="10.9.0.1"), **relayed())
    assert (reply.route, Parsed.of(reply.data).flags) == ("udp", BROADCAST_FLAG)
    renewed = ask(pair, request(ALICE, ciaddr=HOST_IP), **unicast())
    assert renewed.route == "frame"
