"""Our reader of plain v2c traps against pysnmp, under generated input: what we accept it reads alike, what we refuse it
refuses; and whatever arrives, the whole reader says one of its reasons."""

from __future__ import annotations

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from control.discovery.traps import ber
from control.discovery.traps.engine import Engine
from control.discovery.traps.notification import number_of
from control.discovery.traps.queue import OUTCOMES
from tests.control.discovery.traps.messages import (
    HEAD,
    LEARNT,
    binding,
    datagram,
    mac_trap,
    message,
    number,
    reader,
    tlv,
    told,
    v1_trap,
)
from tests.ext.captures import datagrams

pytestmark = pytest.mark.property
PEER = ("10.88.0.9", 50_000)
COMPARED = {ber.OCTET_STRING, ber.IP_ADDRESS, ber.OID}  # of pysnmp's other values but numbers only the tag is kept
NUMBERS = {ber.INTEGER, ber.UNSIGNED32}  # written in several ways

identifiers = st.one_of(st.integers(0, 300), st.integers(0, 2**32 - 1), st.sampled_from([127, 128, 16383, 16384]))
names = st.builds(
    lambda first, rest: ber.encode_oid((1, 3, *first, *rest)), st.just((6, 1)), st.lists(identifiers, max_size=9)
)
raw_names = st.one_of(names, st.binary(max_size=8))
values = st.one_of(
    st.tuples(st.just(0x02), st.binary(min_size=1, max_size=5)),
    st.tuples(st.just(0x04), st.binary(max_size=40)),
    st.tuples(st.just(0x06), raw_names),
    st.tuples(st.just(0x40), st.binary(min_size=3, max_size=5)),
    st.tuples(st.sampled_from([0x41, 0x42, 0x43, 0x46]), st.binary(max_size=9)),
    st.tuples(st.integers(0, 255), st.binary(max_size=6)),
)
rows = st.builds(lambda name, value: tlv(0x30, tlv(0x06, name), tlv(*value)), raw_names, values)
traps = st.builds(
    lambda found, community: message(*HEAD, *found, community=community),
    st.lists(rows, max_size=6),
    st.sampled_from([b"public", b"public", b"public", b"other", b""]),
)
whole = [mac_trap(LEARNT), mac_trap(LEARNT, LEARNT), mac_trap(LEARNT, pdu=0xA6), v1_trap(b"\x0a\0\0\1")]
MOVE, DELL, SECURITY = "1.3.6.1.4.1.9.9.215", "1.3.6.1.4.1.6027.3.28.1", "1.3.6.1.4.1.9.9.315"
ADDRESS = LEARNT[3:9]
others = [
    told(
        f"{MOVE}.2.0.2", binding(f"{MOVE}.1.3.3.0", 4, ADDRESS), *(number(f"{MOVE}.1.3.{at}.0", 7) for at in (4, 5, 6))
    ),
    told(
        f"{SECURITY}.0.0.3",
        binding(f"{SECURITY}.1.2.1.1.10.5", 4, ADDRESS),
        number(f"{SECURITY}.1.2.1.1.18.5", 7, 0x42),
    ),
    told(f"{DELL}.1.2", binding(f"{DELL}.2.0", 4, ADDRESS), *(number(f"{DELL}.{at}.0", 7) for at in (3, 4, 5))),
    told("1.3.6.1.4.1.2636.3.48.1.0.5", binding("1.3.6.1.4.1.2636.3.48.1.2.1.8.1.2.1", 4, LEARNT + b"\0")),
]
CAPTURED = [
    one.payload for name in ("snmp-trap-v3", "snmp-inform-v3", "snmp-trap-linkup-v2c") for one in datagrams(name)
]


@st.composite
def spoilt(draw: st.DrawFn, sources: st.SearchStrategy[bytes]) -> bytes:
    """A message with a few octets changed, taken out or put in."""
    octets = bytearray(draw(sources))
    for _change in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(octets) - 1)))
        match draw(st.sampled_from(["change", "out", "in", "cut"])):
            case "change" if octets:
                octets[at] = draw(st.integers(0, 255))
            case "out":
                del octets[at : at + 1]
            case "in":
                octets[at:at] = draw(st.binary(max_size=3))
            case "cut":
                del octets[len(octets) - draw(st.integers(0, 3)) :]
    return bytes(octets)


def compared(bindings: list[ber.Binding]) -> list[tuple[bytes, int, bytes | int | None]]:
    return [
        (name, tag, number_of((name, tag, value)) if tag in NUMBERS else value if tag in COMPARED else b"")
        for name, tag, value in bindings
    ]


def agrees(engine: Engine, octets: bytes) -> str:
    """How we judged it, once pysnmp has said the same."""
    theirs = engine.take(octets, PEER, 1000.0).bindings
    try:
        envelope = ber.envelope(octets)
        if not isinstance(envelope, ber.Community) or (envelope.version, envelope.pdu) != (ber.V2C, ber.TRAP_V2):
            return "another's"
        ours = ber.bindings(octets, envelope)
    except (ber.Malformed, ber.OtherVersion):
        assert theirs is None
        return "refused"
    except ber.Unusual:
        return "left"
    if not engine.believes(envelope.community, False):
        assert theirs is None
        return "refused"
    assert theirs is not None, "we read it and pysnmp does not"
    assert compared(ours) == compared(theirs)
    return "read"


@settings(max_examples=300, deadline=None)
@given(traps | spoilt(traps | st.sampled_from(whole + others)))
@example(mac_trap(LEARNT))
@example(mac_trap(LEARNT)[:-1])
def test_pysnmp_agrees(octets: bytes) -> None:
    event(agrees(reader().engine, octets))


def test_the_comparison_compares() -> None:
    engine = reader().engine
    assert {agrees(engine, other) for other in others} == {"read"}
    assert all(reader().read(datagram(other)).seen for other in others)
    assert agrees(engine, mac_trap(LEARNT)) == "read"
    assert agrees(engine, mac_trap(LEARNT, community=b"wrong")) == "refused"
    assert agrees(engine, mac_trap(LEARNT)[:-1]) == "refused"
    assert agrees(engine, mac_trap(LEARNT) + b"\0") == "left"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80) | spoilt(st.sampled_from(whole + others + CAPTURED)))
def test_whatever_arrives_has_one_of_the_outcomes(octets: bytes) -> None:
    reading = reader().read(datagram(octets))
    assert reading.outcome in OUTCOMES
    assert not reading.seen or reading.outcome == "decoded"
