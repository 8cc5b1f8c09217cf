"""What ROMs, UEFI, iPXE, systems and management cards do beyond the RFCs, and what they get: a case each.

The ids say the trap; the site is an operator's host file (ext/racks.py), so this is the whole product's word.
"""

from collections.abc import Callable
from itertools import pairwise

import pytest
from ext.verdict import Verdict

from tests.ext.packets import BROADCAST_FLAG, DECLINE, Parsed, discover, inform, ip, message, quad, request, tlv
from tests.ext.racks import (
    BIOS,
    BOOT_FILE,
    BOOT_SERVER,
    EBC,
    HTTP,
    IPXE,
    IPXE_HTTP,
    LEASE_S,
    RASPBERRY,
    ROM_LEASE_S,
    SECOND,
    SERVER,
    STAGES,
    UEFI,
    URL,
    ask,
    mac,
    renewing,
    said,
    vendor,
)

V = Verdict
PLAIN = mac("plain")
ADDRESS = "10.1.0.11"


def offer(options: bytes = b"", machine: str = "plain", **fields: object) -> Parsed:
    return said(discover(mac(machine), options=options, **fields))


def max_size(octets: int) -> bytes:
    return tlv(57, octets.to_bytes(2, "big"))


# Sizes.


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
@pytest.mark.parametrize("machine", ["plain", "bare"])
def test_no_reply_is_shorter_than_bootp_s_300_octets(machine: str, stage: bytes) -> None:
    bare = {"plain": ADDRESS, "bare": "10.1.0.13"}[machine]
    packets = [discover, lambda one, **more: inform(one, bare, **more), request]
    for make in packets:
        assert len(ask(make(mac(machine), options=stage)).data) >= 300
    assert len(ask(request(mac(machine), requested="10.1.0.99", options=stage)).data) == 300


MOST = {
    "without-57-576-octets-of-IP": (b"", 548),
    "57-below-the-minimum-is-raised": (max_size(300), 548),
    "57-of-0": (max_size(0), 548),
    "57-of-576-busybox": (max_size(576), 548),
    "57-of-1472-iPXE-on-edk2": (max_size(1472), 1444),
    "57-of-1500": (max_size(1500), 1472),
    "57-of-65280-edk2-s-byte-order": (max_size(65280), 1472),
}


@pytest.mark.parametrize("wish, most", MOST.values(), ids=MOST)
def test_largest_reply(wish: bytes, most: int) -> None:
    """Options that do not fit are left out whole, the mandatory ones never."""
    reply = offer(wish, "huge")
    assert most - 92 < reply.length <= most
    assert reply.codes[:7] == [53, 54, 51, 58, 59, 1, 3]
    assert {len(value) for code, value in reply.order + reply.overflow if 224 <= code < 249} == {90}


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_a_usual_reply_fits_the_small_buffers_of_firmware(stage: bytes) -> None:
    """Old edk2 keeps 312 octets of options, iPXE's smallest buffer is 552; even when they say that more would do."""
    reply = offer(stage + max_size(1472))
    assert reply.length <= 552
    assert reply.length - 240 <= 312


@pytest.mark.parametrize("agent", [1, 10, 255])
def test_the_relay_s_octets_come_on_top(agent: int) -> None:
    """Whatever the relay adds, the client gets the same."""
    plain = said(discover(mac("huge"), giaddr="10.1.0.2"))
    reply = said(discover(mac("huge"), giaddr="10.1.0.2", agent=bytes(agent)))
    assert reply.order == [*plain.order, (82, bytes(agent))]
    assert (reply.length, reply.overflow) == (plain.length + 2 + agent, plain.overflow)


# Order and form of options.


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_type_server_and_times_stand_first_whatever_the_list_says(stage: bytes) -> None:
    wanted = tlv(55, bytes((67, 66, 60, 43, 15, 12, 6, 3, 1, 59, 58, 54, 51, 53)))
    assert offer(stage + wanted).codes[:5] == [53, 54, 51, 58, 59]


def test_option_82_stands_last_whatever_the_list_says() -> None:
    packet = discover(PLAIN, options=tlv(55, bytes((82, 1, 3))) + tlv(61, b"\1abc"), giaddr="10.1.0.2", agent=b"\1\1x")
    assert said(packet).codes[-2:] == [61, 82]


NUL = {
    "bios-pxe": (BIOS, b"/pxelinux.0\0"),
    "uefi-x64": (UEFI, b"snponly.efi\0"),
    "ipxe": (IPXE, b"/pxelinux.0\0"),
    "os": (b"", b"/pxelinux.0\0"),
    "http-boot-writes-its-own": (HTTP, URL.encode()),
}


@pytest.mark.parametrize("stage, file", NUL.values(), ids=NUL)
def test_boot_file_ends_with_nul_where_roms_need_it(stage: bytes, file: bytes) -> None:
    reply = offer(stage)
    assert reply.option(67) == file
    assert reply.file.rstrip(b"\0") == file.rstrip(b"\0")


@pytest.mark.parametrize(
    "stage, file",
    [
        pytest.param(vendor("PXEClient:Arch:00007:UNDI:003016\0"), b"snponly.efi\0", id="60"),
        pytest.param(BIOS + tlv(77, b"iPXE\0") + IPXE[-14:], b"/pxelinux.0\0", id="77"),
        pytest.param(vendor("MSFT 5.0\0") + tlv(12, b"host\0"), b"/pxelinux.0\0", id="12-and-60-of-an-old-Windows"),
    ],
)
def test_strings_that_the_client_ends_with_nul(stage: bytes, file: bytes) -> None:
    assert offer(stage).option(67) == file


# Overload.


def test_overload_only_when_options_do_not_fit() -> None:
    roomy = offer(max_size(1500) + tlv(55, b"\1\3\6"), "big")
    assert (52 in roomy.codes, roomy.sname) == (False, bytes(64))


def test_overload_leaves_the_boot_file_where_roms_look_for_it() -> None:
    reply = offer(tlv(55, b"\x43\1\3"), "big")
    assert reply.file.rstrip(b"\0") == BOOT_FILE.encode()
    assert (reply.option(52) or b"\0")[0] & 1 == 0


def test_overload_is_announced_and_ended() -> None:
    reply = offer(b"", "huge")
    assert reply.option(52) in (b"\1", b"\2", b"\3")
    assert reply.overflow
    assert not any(code in (52, 53, 54, 51) for code, _ in reply.overflow)


# Who is who: 54, siaddr, 66, ciaddr.


def test_siaddr_is_the_boot_server_and_54_is_us() -> None:
    reply = offer(BIOS)
    assert (reply.siaddr, reply.server_id, reply.option(66)) == (BOOT_SERVER, SERVER, f"{BOOT_SERVER}\0".encode())


def test_siaddr_is_0_without_a_boot_server_never_ourselves() -> None:
    """A client that renews to siaddr by mistake must not be led astray by a value that nobody wrote."""
    assert offer(b"", "bare").siaddr == "0.0.0.0"


def test_a_boot_server_s_name_goes_into_66_alone() -> None:
    reply = offer(BIOS, "named")
    assert (reply.siaddr, reply.option(66)) == ("0.0.0.0", b"boot.example.org\0")


def test_a_renewal_sent_to_another_address_of_ours_is_acked() -> None:
    """Talos and some BMCs renew to siaddr."""
    reply = said(request(PLAIN, ciaddr=ADDRESS), **renewing(ADDRESS, SECOND))
    assert (reply.kind, reply.yiaddr) == (5, ADDRESS)


CIADDR = {
    "in-DISCOVER": discover(PLAIN, ciaddr="192.0.2.9"),
    "in-DISCOVER-somebody-else-s": discover(PLAIN, ciaddr="10.1.0.19"),
    "with-50": request(PLAIN, requested=ADDRESS, server_id=SERVER, ciaddr="192.0.2.9"),
    "with-50-its-own": request(PLAIN, requested=ADDRESS, server_id=SERVER, ciaddr=ADDRESS),
}


@pytest.mark.parametrize("packet", CIADDR.values(), ids=CIADDR)
def test_ciaddr_wrongly_set_moves_nothing(packet: bytes) -> None:
    reply = ask(packet)
    assert (reply.route, reply.destination) == ("frame", ip(ADDRESS))
    assert Parsed.of(reply.data).yiaddr == ADDRESS


# Broadcast flag.


@pytest.mark.parametrize("flags", [0, BROADCAST_FLAG])
@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_broadcast_flag_is_obeyed_and_echoed(stage: bytes, flags: int) -> None:
    reply = ask(discover(PLAIN, options=stage, flags=flags))
    assert reply.route == ("broadcast" if flags else "frame")
    assert Parsed.of(reply.data).flags == flags


def test_broadcast_flag_is_echoed_through_a_relay() -> None:
    """Or the router sends the reply by unicast to a machine that is deaf to it."""
    reply = ask(discover(mac("far"), giaddr="10.3.0.1", flags=BROADCAST_FLAG))
    assert (reply.route, Parsed.of(reply.data).flags) == ("udp", BROADCAST_FLAG)


@pytest.mark.parametrize("htype", [6, 24, 32])
def test_a_link_layer_that_is_not_ethernet_is_answered_by_broadcast(htype: int) -> None:
    assert ask(discover(PLAIN, htype=htype)).route == "broadcast"


# Retries and timers.

RETRIES = {
    "iPXE-1-2-4-8-says-4-8-12-16": (IPXE, (4, 8, 12, 16)),
    "PXE-4-8-16-32": (BIOS, (0, 4, 12, 28)),
    "edk2-0-3.6-11.6-27.6": (UEFI, (0, 4, 12, 28)),
    "edk2-HTTP-boot-0-4-12": (HTTP, (0, 4, 12)),
    "secs-never-moves": (b"", (0, 0, 0)),
    "secs-byte-swapped": (b"", (1, 256, 0x0400)),
    "secs-huge": (b"", (27497, 0xFFFF)),
    "first-packet-after-30-s-of-STP": (UEFI, (50,)),
}


@pytest.mark.parametrize("stage, secs", RETRIES.values(), ids=RETRIES)
def test_every_retry_is_answered_alike(stage: bytes, secs: tuple[int, ...]) -> None:
    """No first packet is held back, no later one preferred, and secs never comes back (RFC 2131 table 3)."""
    replies = {ask(discover(PLAIN, options=stage, secs=value)).data for value in secs}
    assert len(replies) == 1
    assert Parsed.of(replies.pop()).secs == 0


def test_iPXE_s_REQUEST_again_after_a_quarter_of_a_second() -> None:
    packet = request(PLAIN, requested=ADDRESS, server_id=SERVER, options=IPXE)
    assert ask(packet) == ask(packet)


def test_a_machine_in_a_boot_loop_is_not_punished() -> None:
    """Some servers ignore a MAC after ten packets."""
    replies = {
        (each.verdict, each.data[240:])
        for number in range(200)
        for each in (ask(discover(PLAIN, options=BIOS, xid=number)),)
    }
    assert len(replies) == 1
    assert replies.pop()[0] == V.OFFERED


# PXE, iPXE, HTTP boot.


@pytest.mark.parametrize("stage", [IPXE, IPXE_HTTP], ids=["ipxe", "ipxe-http"])
@pytest.mark.parametrize("make", [discover, request], ids=["OFFER", "ACK"])
def test_iPXE_is_told_not_to_wait_for_a_proxy(make: Callable[..., bytes], stage: bytes) -> None:
    """175.176 = 1 saves 2 to 3 s a boot."""
    assert said(make(PLAIN, options=stage)).option(175) == b"\xb0\x01\x01"


@pytest.mark.parametrize("stage", [b"", BIOS, UEFI, HTTP], ids=["os", "bios-pxe", "uefi-x64", "http-boot"])
def test_nobody_else_is(stage: bytes) -> None:
    assert offer(stage).option(175) is None


@pytest.mark.parametrize("stage", [BIOS, UEFI, EBC], ids=["bios-pxe", "uefi-7", "uefi-9"])
def test_60_is_not_echoed_without_43(stage: bytes) -> None:
    """UEFI takes 60 = PXEClient without 43 for a BINL offer, asks port 4011 at siaddr and fails."""
    reply = offer(stage)
    assert (reply.option(43), reply.option(60)) == (None, None)


@pytest.mark.parametrize("stage", [BIOS, UEFI], ids=["bios-pxe", "uefi-x64"])
def test_a_menu_comes_with_60_and_the_boot_file_beside_it(stage: bytes) -> None:
    """Many UEFI ROMs stumble over menus of one entry: siaddr and file lead there as well."""
    reply = offer(stage, "menu")
    assert (reply.option(60), reply.option(43)[-1:]) == (b"PXEClient", b"\xff")  # type: ignore[index]
    assert (reply.siaddr, reply.file.rstrip(b"\0")) == (BOOT_SERVER, BOOT_FILE.encode())


def test_systems_do_not_get_60_beside_a_43() -> None:
    assert offer(b"", "menu").option(60) is None


def test_http_boot_gets_a_url_the_name_servers_and_60() -> None:
    reply = offer(HTTP)
    assert (reply.option(60), reply.option(67)) == (b"HTTPClient", URL.encode())
    assert (reply.option(6), reply.option(66)) == (quad("10.1.0.53") + quad("10.1.0.54"), None)
    assert reply.yiaddr == ADDRESS, "0 would make it a proxy's offer"


def test_http_boot_without_a_url_is_not_told_that_we_do_http() -> None:
    """An HTTPClient offer without a URI is an error to edk2."""
    reply = offer(HTTP, "named")
    assert [reply.option(code) for code in (60, 66, 67)] == [None, None, None]
    assert reply.file == bytes(128)


@pytest.mark.parametrize("stage", [UEFI, EBC], ids=["7", "9"])
def test_architectures_7_and_9_are_both_x64(stage: bytes) -> None:
    assert offer(stage).option(67) == b"snponly.efi\0"


USER_CLASS = {"plain-text": b"iPXE", "RFC3004-counted": b"\4iPXE", "gPXE": b"gPXE"}


@pytest.mark.parametrize("user_class", USER_CLASS.values(), ids=USER_CLASS)
def test_option_77_in_both_forms(user_class: bytes) -> None:
    """Chain-loaded, iPXE still says PXEClient and the ROM's architecture."""
    assert offer(UEFI + tlv(77, user_class)).option(67) == b"/pxelinux.0\0"


def test_175_alone_tells_iPXE() -> None:
    assert offer(UEFI + tlv(175, b"\xb1\x05\x01\x1a\xf4\x10\x00")).option(175) == b"\xb0\x01\x01"


def test_raspberry_pi_finds_all_in_the_offer() -> None:
    """Its ROM never sends a REQUEST and looks for words of its own in 43."""
    reply = offer(RASPBERRY)
    assert b"Raspberry Pi Boot" in (reply.option(43) or b"")
    assert reply.option(60) == b"PXEClient"
    assert (reply.yiaddr, reply.siaddr, reply.file.rstrip(b"\0")) == (ADDRESS, BOOT_SERVER, BOOT_FILE.encode())
    assert [reply.option(code) is not None for code in (1, 3, 54, 51)] == [True] * 4


def test_short_leases_for_roms_long_ones_for_systems() -> None:
    times = [int.from_bytes(offer(stage).option(51) or b"", "big") for stage in (BIOS, b"")]
    assert times == [ROM_LEASE_S, LEASE_S]


# One machine, one address.

CLIENT_IDS = {
    "none": b"",
    "01-and-MAC": b"\x01" + PLAIN.to_bytes(6, "big"),
    "01-and-another-MAC": b"\x01" + mac("other").to_bytes(6, "big"),
    "RFC4361-networkd": b"\xff\x9b\x1d\x4a\x02" + b"\x00\x02\x00\x00\xab\x11" + bytes(range(8)),
    "DUID-LLT-dhclient": b"\xff\x12\x34\x56\x78\x00\x01\x00\x01" + bytes(4) + PLAIN.to_bytes(6, "big"),
    "text-with-0-dhcpcd": b"\x00node-17",
    "GUID": b"\x00" + bytes(range(16)),
    "as-long-as-can-be": b"\xff" + bytes(254),
}


@pytest.mark.parametrize("client_id", CLIENT_IDS.values(), ids=CLIENT_IDS)
@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_the_address_is_the_machine_s_whatever_client_id_it_shows(stage: bytes, client_id: bytes) -> None:
    """RFC 4361 section 6.3 lets a server go by chaddr; RFC 6842 has the id echoed."""
    option = tlv(61, client_id) if client_id else b""
    reply = offer(stage + option)
    assert (reply.yiaddr, reply.option(61)) == (ADDRESS, client_id or None)


@pytest.mark.parametrize("guid", [bytes(17), b"\0" + b"\xff" * 16, b"\0" + bytes(range(16))], ids=["0", "ff", "same"])
def test_a_guid_is_never_a_key(guid: bytes) -> None:
    """Many boards share theirs, or have none."""
    assert {offer(UEFI + tlv(97, guid), machine).yiaddr for machine in ("plain", "other")} == {ADDRESS, "10.1.0.19"}
    assert ask(discover(0x0200000000FE, options=UEFI + tlv(97, guid))).verdict == V.IGNORED_UNKNOWN_MAC


BMC = (
    "udhcp 0.9.9-pre", "iDRAC", "CPQRIB3", "NVIDIA/BF/BMC", "NVIDIA/BF/OOB", "BF2Client", "",
)  # fmt: skip


@pytest.mark.parametrize("name", BMC, ids=lambda name: name.replace(" ", "-") or "no-60")
def test_management_cards_are_answered_like_systems(name: str) -> None:
    """Also where card and host share one MAC (sideband): nothing in 60 leads to another address or to silence."""
    option = vendor(name) if name else b""
    assert offer(option).order == offer().order
    reply = ask(request(PLAIN, ciaddr=ADDRESS, options=option), **renewing(ADDRESS))
    assert (reply.verdict, reply.destination, Parsed.of(reply.data).server_id) == (V.ACKED, ip(ADDRESS), SERVER)


# INFORM, NAK, other servers.


def test_inform_is_answered_at_ciaddr_without_address_and_times_even_when_asked_for() -> None:
    reply = ask(inform(PLAIN, ADDRESS, options=tlv(55, bytes((51, 58, 59, 1, 3)))))
    told = Parsed.of(reply.data)
    assert (reply.destination, told.yiaddr, told.ciaddr) == (ip(ADDRESS), "0.0.0.0", ADDRESS)
    assert not {51, 58, 59} & set(told.codes)


def test_a_nak_goes_to_everybody_on_the_wire() -> None:
    reply = ask(request(PLAIN, requested="10.1.0.99"))
    assert (reply.verdict, reply.route, reply.destination) == (V.NAKED, "broadcast", 0xFFFFFFFF)


def test_a_nak_through_a_relay_goes_to_giaddr_with_the_flag_set() -> None:
    reply = ask(request(mac("far"), requested="10.1.0.99", giaddr="10.3.0.1"))
    assert (reply.route, reply.destination, Parsed.of(reply.data).flags) == ("udp", ip("10.3.0.1"), BROADCAST_FLAG)


NO_NAK = {
    "stranger": (request(0x0200000000FE, requested="10.1.0.99"), V.IGNORED_UNKNOWN_MAC),
    "link-that-we-do-not-know": (request(PLAIN, requested="192.0.2.7", giaddr="192.0.2.1"), V.IGNORED_NAK_UNKNOWN_LINK),
    "other-server-s-offer": (request(PLAIN, requested="10.1.0.99", server_id="10.1.0.7"), V.IGNORED_OTHER_SERVER),
    "renewal-of-an-address-that-moved": (request(PLAIN, ciaddr="10.1.0.99"), V.IGNORED_CIADDR),
}


@pytest.mark.parametrize("packet, verdict", NO_NAK.values(), ids=NO_NAK)
def test_silence_rather_than_a_nak(packet: bytes, verdict: Verdict) -> None:
    assert ask(packet).verdict == verdict


def test_decline_leaves_the_address_to_its_machine() -> None:
    ask(message(DECLINE, PLAIN, tlv(50, ADDRESS) + tlv(54, SERVER)))
    assert offer().yiaddr == ADDRESS


# Datagrams that are legal and odd.


def test_244_octets_as_networkd_releases() -> None:
    packet = message(7, PLAIN)
    assert (len(packet), ask(packet).verdict) == (244, V.NOTED_RELEASE)


@pytest.mark.parametrize("length", range(244, 254))
def test_short_payloads_are_answered(length: int) -> None:
    """RFC 1542's 300 octets are the sender's duty; dhcping and networkd do not keep it."""
    packet = discover(PLAIN, end=b"\xff".ljust(length - 243, b"\0"))
    assert len(packet) == length
    assert ask(packet).verdict == V.OFFERED


@pytest.mark.parametrize("xid", [0, 1, 0xFFFFFFFF, 0x12345678])
def test_machines_that_share_a_transaction_id(xid: int) -> None:
    """Of 16 UEFI machines started together 5, 4, 3 and 3 had the same; 0 is as good as any."""
    machines = ("plain", "other", "menu", "bare")
    given = [offer(UEFI, machine, xid=xid) for machine in machines]
    assert len({reply.yiaddr for reply in given}) == len(machines)
    assert {reply.xid for reply in given} == {xid}
    assert all(one.chaddr != two.chaddr for one, two in pairwise(given))


@pytest.mark.parametrize("hops", [0, 1, 4, 16, 17, 255])
def test_any_hops(hops: int) -> None:
    reply = offer(hops=hops)
    assert (reply.yiaddr, reply.hops) == (ADDRESS, 0)
