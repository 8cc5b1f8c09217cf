"""ext/classify.pxd: which stage of a boot asks, by synthetic requests and by what real firmware sent; and the state of
a REQUEST's client."""

import pytest
from ext.builder import Builder
from ext.classify import ClientClass, ClientState
from ext.codec import parse
from ext.table import Pair
from hypothesis import given
from hypothesis import strategies as st

from tests.ext.captures import datagrams, dhcp_captures
from tests.ext.packets import DISCOVER, Parsed, ip, message, request, tlv
from tests.ext.sites import ALICE, ask, generation

PXE = tlv(60, b"PXEClient:Arch:00000:UNDI:002001")
HTTP = tlv(60, b"HTTPClient:Arch:00016:UNDI:003001")
HTTP_PLAIN = tlv(60, b"HTTPClient")
HAS_HTTP = tlv(175, b"\x13\x01\x01\xb1\x05\x01\x80\x86\x10\x0e")
NO_HTTP = tlv(175, b"\xb1\x05\x01\x80\x86\x10\x0e\x21\x01\x01")


def arch(*numbers: int) -> bytes:
    return tlv(93, b"".join(number.to_bytes(2, "big") for number in numbers))


@pytest.mark.parametrize(
    "options, client",
    [
        (b"", ClientClass.OS),
        (tlv(60, b"udhcp 0.9.9-pre"), ClientClass.OS),
        (tlv(60, b"PXEClien"), ClientClass.OS),
        (tlv(60, b"PXEClient"), ClientClass.BIOS_PXE),
        (PXE, ClientClass.BIOS_PXE),
        (PXE + arch(0), ClientClass.BIOS_PXE),
        (PXE + arch(6), ClientClass.UEFI_IA32),
        (PXE + arch(7), ClientClass.UEFI_X64),
        (PXE + arch(9), ClientClass.UEFI_X64),
        (PXE + arch(7, 0), ClientClass.UEFI_X64),
        (PXE + arch(11), ClientClass.UEFI_ARM64),
        (PXE + arch(27), ClientClass.UEFI_RISCV64),
        (PXE + arch(41), ClientClass.RPIBOOT_ARM),
        (PXE + arch(42), ClientClass.PXE),
        (PXE + arch(0xFFFF), ClientClass.PXE),
        (PXE + arch(16), ClientClass.HTTP_BOOT_X64),
        (HTTP_PLAIN, ClientClass.HTTP_BOOT),
        (HTTP_PLAIN + arch(7), ClientClass.HTTP_BOOT),
        (HTTP_PLAIN + arch(19), ClientClass.HTTP_BOOT_ARM64),
        (HTTP_PLAIN + arch(28), ClientClass.HTTP_BOOT_RISCV64),
        (HTTP_PLAIN + arch(0x1010), ClientClass.HTTP_BOOT),
        (tlv(60, b"NVIDIA/BF/PXE") + arch(11), ClientClass.UEFI_ARM64),
        (tlv(60, b"NVIDIA/BF/BMC"), ClientClass.OS),
        (tlv(60, b"udhcp 1.27.1") + arch(14), ClientClass.POWER_OPAL),
        (arch(14), ClientClass.POWER_OPAL),
        (arch(31), ClientClass.S390_BASIC),
        (tlv(60, b"U-Boot.armv8") + arch(22), ClientClass.UBOOT_ARM64),
        (PXE + arch(22), ClientClass.UBOOT_ARM64),
        (tlv(60, b"anaconda") + arch(7), ClientClass.OS),
        (arch(46), ClientClass.OS),
        (tlv(60, b"PXEClient:Arch:00007:UNDI:003016"), ClientClass.UEFI_X64),
        (tlv(60, b"PXEClient:Arch:0000x:UNDI"), ClientClass.BIOS_PXE),
        (tlv(60, b"PXEClient:Arch:000"), ClientClass.BIOS_PXE),
        (PXE + tlv(93, b"\x00"), ClientClass.BIOS_PXE),
        (HTTP, ClientClass.HTTP_BOOT),
        (HTTP + arch(16), ClientClass.HTTP_BOOT_X64),
        (HTTP + tlv(77, b"iPXE") + HAS_HTTP, ClientClass.IPXE_HTTP),
        (PXE + tlv(77, b"iPXE"), ClientClass.IPXE),
        (PXE + tlv(77, b"\x04iPXE"), ClientClass.IPXE),
        (PXE + tlv(77, b"gPXE"), ClientClass.IPXE),
        (PXE + NO_HTTP, ClientClass.IPXE),
        (PXE + tlv(175, b"\x13\x01\x00"), ClientClass.IPXE),
        (PXE + tlv(175, b"\x13\x01"), ClientClass.IPXE),
        (PXE + tlv(175, b"\x13\x00"), ClientClass.IPXE),
        (PXE + HAS_HTTP, ClientClass.IPXE_HTTP),
        (PXE + tlv(97, b"\x00RPi4" + b"\x15" * 12), ClientClass.RASPBERRY_PI),
        (PXE + tlv(97, b"\x00" + b"D" * 16), ClientClass.RASPBERRY_PI),
        (tlv(97, b"\x00RPi4" + b"\x15" * 12), ClientClass.OS),
    ],
)
def test_class(options: bytes, client: ClientClass) -> None:
    assert parse(message(DISCOVER, ALICE, options))["client_class"] is client


@pytest.mark.parametrize(
    ("asked", "unicast", "state"),
    [
        ({"requested": "10.1.0.50", "server_id": "10.1.0.1"}, False, ClientState.SELECTING),
        ({"requested": "10.1.0.50", "server_id": "10.1.0.1"}, True, ClientState.SELECTING),
        ({"server_id": "10.1.0.1"}, False, ClientState.SELECTING),
        ({"requested": "10.1.0.50"}, False, ClientState.INIT_REBOOT),
        ({"requested": "10.1.0.51", "ciaddr": "10.1.0.50"}, False, ClientState.INIT_REBOOT),
        ({"ciaddr": "10.1.0.50"}, True, ClientState.RENEWING),
        ({"ciaddr": "10.1.0.50", "requested": "10.1.0.50"}, True, ClientState.RENEWING),
        ({"ciaddr": "10.1.0.50", "server_id": "10.1.0.1"}, True, ClientState.RENEWING),
        ({"ciaddr": "10.1.0.50"}, False, ClientState.REBINDING),
        ({"ciaddr": "10.1.0.50", "giaddr": "10.9.0.1"}, True, ClientState.REBINDING),
        ({}, False, ClientState.NAMELESS),
    ],
)
def test_state_of_a_request(asked: dict[str, str], unicast: bool, state: ClientState) -> None:
    """RFC 2131 section 4.3.2 and table 4; how lenient it is beyond them stands in docs/protocol.md."""
    assert parse(request(ALICE, **asked), unicast=unicast)["client_state"] is state


def test_other_messages_have_no_state() -> None:
    assert parse(message(DISCOVER, ALICE))["client_state"] is ClientState.NO_STATE


# What each capture's firmware and clients are; all others are operating systems.
CAPTURED = {
    "dhclient-pxe-clientid": {ClientClass.IPXE},
    "udhcpc-clientid": {ClientClass.BIOS_PXE},
    "ovmf-uefi-pxe": {ClientClass.UEFI_X64, ClientClass.IPXE_HTTP},
    "ovmf-pxe-x4": {ClientClass.UEFI_X64, ClientClass.IPXE_HTTP},
    "noserver-ipxe-and-ovmf": {ClientClass.UEFI_X64, ClientClass.IPXE_HTTP, ClientClass.HTTP_BOOT_X64},
    "relay82-pxe-bios": {ClientClass.IPXE_HTTP},
}


@pytest.mark.parametrize("name", dhcp_captures())
def test_captured(name: str) -> None:
    found = {parsed["client_class"] for d in datagrams(name) if "client_class" in (parsed := parse(d.payload))}
    default = {ClientClass.IPXE_HTTP} if "ipxe" in name else {ClientClass.OS}
    assert found == CAPTURED.get(name, default)


@given(st.lists(st.tuples(st.sampled_from([60, 77, 93, 97, 175, 55]), st.binary(max_size=40)), max_size=6))
def test_any_options_have_a_class(options: list[tuple[int, bytes]]) -> None:
    area = b"".join(bytes([code, len(data)]) + data for code, data in options)
    assert parse(message(DISCOVER, ALICE, area))["client_class"] in set(ClientClass)


def two_stages() -> Pair:
    builder = Builder()
    ipxe = {"options": tlv(67, b"http://x/menu"), "file": b"http://x/menu", "lease_s": 120, "server_id": ip("10.9.9.9")}
    index = builder.add_template(
        options=tlv(67, b"undionly.kpxe"),
        file=b"undionly.kpxe",
        variants={ClientClass.IPXE: ipxe, ClientClass.IPXE_HTTP: ipxe},
    )
    builder.add_host(ALICE, name=b"alice", leases=((ip("10.1.0.50"), 24, index),))
    return Pair(generation(builder))


@pytest.mark.parametrize(
    "options, file", [(PXE, "undionly.kpxe"), (PXE + HAS_HTTP, "http://x/menu"), (b"", "undionly.kpxe")]
)
def test_the_variant_is_what_is_sent(options: bytes, file: str) -> None:
    pair = two_stages()
    offer = Parsed.of(ask(pair, message(DISCOVER, ALICE, options)).data)
    ack = Parsed.of(ask(pair, request(ALICE, options=options, requested="10.1.0.50", server_id=offer.server_id)).data)
    assert (offer.yiaddr, ack.yiaddr) == ("10.1.0.50", "10.1.0.50")
    assert offer.option(67) == ack.option(67) == file.encode()
    assert offer.server_id == ack.server_id == ("10.9.9.9" if file.startswith("http") else "10.1.0.1")
    assert offer.option(51) == ack.option(51) == (120 if file.startswith("http") else 3600).to_bytes(4, "big")


def test_variants_are_content() -> None:
    """They count in the digest, and come along when a host is copied or a builder appended."""
    with_variants = two_stages()
    builder = Builder()
    index = builder.add_template(options=tlv(67, b"undionly.kpxe"), file=b"undionly.kpxe")
    builder.add_host(ALICE, name=b"alice", leases=((ip("10.1.0.50"), 24, index),))
    assert generation(builder).digest != with_variants.top.digest
    copied, appended = Builder(), Builder()
    copied.copy_host(with_variants.base, ALICE)
    appended.append(copied)
    assert generation(copied).digest == generation(appended).digest == with_variants.top.digest
    row = generation(appended).lookup(ALICE)
    assert row["leases"][0]["template"]["variants"][int(ClientClass.IPXE)]["file"] == b"http://x/menu"
