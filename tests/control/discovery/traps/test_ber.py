"""control/discovery/traps/ber.py: what it reads, what it refuses, what it leaves to pysnmp."""

from __future__ import annotations

import pytest
from pyasn1.codec.ber import encoder
from pyasn1.type.univ import ObjectIdentifier

from control.discovery.traps import ber
from tests.control.discovery.traps.messages import HEAD, HISTORY, LEARNT, binding, mac_trap, message, tlv, v1_trap
from tests.ext.captures import datagrams

TRAP = mac_trap(LEARNT)


@pytest.mark.parametrize("text", ["1.3", "0.0", "2.999.1", "1.3.6.1.4.1.9.9.215", "1.3.127.128.16383.16384.4294967295"])
def test_oids(text: str) -> None:
    octets = ber.oid(text)
    assert ber._OID.fullmatch(octets)
    assert octets == encoder.encode(ObjectIdentifier(text))[2:]


def test_a_whole_trap() -> None:
    envelope = ber.envelope(TRAP)
    assert isinstance(envelope, ber.Community)
    assert (envelope.version, envelope.community, envelope.pdu) == (ber.V2C, b"public", ber.TRAP_V2)
    assert ber.bindings(TRAP, envelope)[2:] == [(ber.oid(f"{HISTORY}.2.17"), ber.OCTET_STRING, LEARNT)]
    assert ber.count_bindings(TRAP, envelope, 100) == 3
    assert ber.count_bindings(TRAP, envelope, 1) == 2


def test_v1_and_v3() -> None:
    trap = v1_trap(b"\x0a\0\0\1")
    envelope = ber.envelope(trap)
    assert isinstance(envelope, ber.Community) and (envelope.version, envelope.pdu) == (ber.V1, ber.TRAP_V1)
    assert ber.count_bindings(trap, envelope, 100) == 1
    (capture,) = datagrams("snmp-trap-v3")
    assert ber.envelope(capture.payload) == ber.Secured(bytes.fromhex("8000000903020000000009"), b"sw1")


@pytest.mark.parametrize("cut", range(len(TRAP)))
def test_cut_anywhere(cut: int) -> None:
    with pytest.raises((ber.Malformed, ber.Unusual)):
        envelope = ber.envelope(TRAP[:cut])
        assert isinstance(envelope, ber.Community)
        ber.bindings(TRAP[:cut], envelope)


@pytest.mark.parametrize("at", range(len(TRAP)))
def test_no_length_is_believed_beyond_its_end(at: int) -> None:
    """Every octet once as 0x7f, 0x84 and 0xff: whatever is read lies inside."""
    for octet in (0x7F, 0x84, 0xFF):
        spoilt = TRAP[:at] + bytes((octet,)) + TRAP[at + 1 :]
        try:
            envelope = ber.envelope(spoilt)
            if isinstance(envelope, ber.Community):
                for name, _tag, value in ber.bindings(spoilt, envelope):
                    assert name in spoilt and value in spoilt
        except (ber.Malformed, ber.Unusual, ber.OtherVersion) as refused:
            assert str(refused)


@pytest.mark.parametrize(
    "strange",
    [
        pytest.param(b"\x30\x80" + TRAP[2:] + b"\0\0", id="indefinite-length"),
        pytest.param(TRAP + b"\0", id="octets-behind"),
        pytest.param(message(*HEAD, binding("1.3.6.1", 0x05, b"")), id="NULL"),
        pytest.param(message(*HEAD, binding("1.3.6.1", 0x02, b"\1\2\3\4\5")), id="integer-of-five-octets"),
        pytest.param(message(*HEAD, binding("1.3.6.1", 0x41, b"\xff\0\0\0")), id="negative-counter"),
        pytest.param(message(*HEAD, binding("1.3.6.1", 0x40, b"\1\2\3")), id="short-address"),
        pytest.param(message(*HEAD, binding("1.3.6.1", 0x24, b"\4\1a")), id="constructed-string"),
        pytest.param(message(*HEAD, tlv(0x30, tlv(0x06, b"\x2b\x80\1"), tlv(0x04))), id="padded-identifier"),
        pytest.param(message(*HEAD, tlv(0x30, tlv(0x06, b"\x2b\x81"), tlv(0x04))), id="unfinished-identifier"),
        pytest.param(message(*HEAD, tlv(0x30, tlv(0x06, b""), tlv(0x04))), id="empty-name"),
        pytest.param(message(*HEAD, tlv(0x30, tlv(0x06, b"+"), tlv(0x04), tlv(0x04))), id="three-in-a-binding"),
    ],
)
def test_left_to_pysnmp(strange: bytes) -> None:
    with pytest.raises(ber.Unusual):
        envelope = ber.envelope(strange)
        assert isinstance(envelope, ber.Community)
        ber.bindings(strange, envelope)


def test_other_versions() -> None:
    for version in (2, 4, 255):
        with pytest.raises(ber.OtherVersion, match=f"SNMP version number {version}"):
            ber.envelope(message(*HEAD, version=version))
