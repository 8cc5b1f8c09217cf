"""SNMP messages in BER, read as far as cheap decisions need it: who sends, what kind, and plain v2c traps whole.

Bounded: every length is checked against what encloses it, no recursion, no copy but of what is returned.  What is
strange but might be valid BER (indefinite lengths, long integers, further components) is `Unusual` and left to pysnmp;
what runs over its own end is `Malformed`, and nobody could read it.  RFC 3417 section 8, RFC 3416, RFC 3412, RFC 1157.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

INTEGER, OCTET_STRING, OID, SEQUENCE = 0x02, 0x04, 0x06, 0x30
IP_ADDRESS, UNSIGNED32, COUNTER64 = 0x40, 0x42, 0x46  # Unsigned32 is Gauge32's (RFC 2578 section 7.1.11)
TRAP_V1, INFORM, TRAP_V2 = 0xA4, 0xA6, 0xA7
V1, V2C, V3 = 0, 1, 3
BINDINGS_MAX = 65536 // 7  # what fits into a datagram

# Sub-identifiers up to 2^32 - 1, at most 128 of them (RFC 2578 section 3.5), each in its shortest form.
_OID = re.compile(
    rb"(?:[\x00-\x7f]|[\x81-\xff][\x80-\xff]{0,2}[\x00-\x7f]|[\x81-\x8f][\x80-\xff]{3}[\x00-\x7f]){1,127}", re.DOTALL
)
_UNSIGNED = {0x41: 4, UNSIGNED32: 4, 0x43: 4, COUNTER64: 8}  # Counter32, Gauge32, TimeTicks


class Malformed(Exception):
    """Cut, or a length that lies."""


class Unusual(Exception):
    """Not in the form in which senders write it; it may be valid all the same."""


class OtherVersion(Exception):
    """Neither SNMPv1 nor v2c nor v3."""


@dataclass(frozen=True, slots=True)
class Community:
    """A message of SNMPv1 or v2c.  pdu: tag; start, stop: where its content lies."""

    version: int
    community: bytes
    pdu: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Secured:
    """A message of SNMPv3 with the user-based security model; nothing in it is verified yet."""

    engine_id: bytes
    user: bytes


Binding = tuple[bytes, int, bytes]
"""Name (content octets of the OBJECT IDENTIFIER), tag of the value, its content octets."""


def read(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """The tag at `at`, and where its content starts and stops.  Raises Malformed, Unusual."""
    if at + 2 > end:
        raise Malformed(f"cut at octet {at}")
    tag, length, start = data[at], data[at + 1], at + 2
    if length >= 0x80:
        octets = length & 0x7F
        if octets == 0 or octets > 4:
            raise Unusual(f"length of {octets} octets at octet {at}")
        if start + octets > end:
            raise Malformed(f"cut at octet {at}")
        length = int.from_bytes(data[start : start + octets], "big")
        start += octets
    if tag & 0x1F == 0x1F:
        raise Unusual(f"tag of several octets at octet {at}")
    if start + length > end:
        raise Malformed(f"octet {at}: a length of {length}, and {end - start} octets follow")
    return tag, start, start + length


def expect(wanted: int, data: bytes, at: int, end: int) -> tuple[int, int]:
    tag, start, stop = read(data, at, end)
    if tag != wanted:
        raise Unusual(f"octet {at}: tag {tag:#04x}, wanted {wanted:#04x}")
    return start, stop


def envelope(data: bytes) -> Community | Secured:
    """Whose message it is.  Raises Malformed, Unusual, OtherVersion."""
    if data[:1] != b"\x30":
        raise Malformed("it does not begin as SNMP does")
    start, end = expect(SEQUENCE, data, 0, len(data))
    if end != len(data):
        raise Unusual(f"{len(data) - end} octets behind the message")
    at, stop = expect(INTEGER, data, start, end)
    if stop - at != 1:
        raise Unusual(f"version of {stop - at} octets")
    version = data[at]
    if version in (V1, V2C):
        at, stop = expect(OCTET_STRING, data, stop, end)
        community = data[at:stop]
        pdu, at, stop = read(data, stop, end)
        if stop != end:
            raise Unusual(f"{end - stop} octets behind the PDU")
        return Community(version, community, pdu, at, stop)
    if version == V3:
        _at, stop = expect(SEQUENCE, data, stop, end)
        at, stop = expect(OCTET_STRING, data, stop, end)
        return _security_parameters(data, at, stop)
    raise OtherVersion(f"SNMP version number {version}")


def _security_parameters(data: bytes, at: int, end: int) -> Secured:
    """UsmSecurityParameters of RFC 3414 section 2.4."""
    at, end = expect(SEQUENCE, data, at, end)
    at, stop = expect(OCTET_STRING, data, at, end)
    engine_id = data[at:stop]
    for _counter in ("boots", "time"):
        _at, stop = expect(INTEGER, data, stop, end)
    at, stop = expect(OCTET_STRING, data, stop, end)
    return Secured(engine_id, data[at:stop])


def count_bindings(data: bytes, message: Community, most: int) -> int:
    """How many variable bindings a v1 trap or v2c notification has; stops counting beyond `most`."""
    at = message.start
    for _field in range(5 if message.pdu == TRAP_V1 else 3):
        _tag, _start, at = read(data, at, message.stop)
    at, end = expect(SEQUENCE, data, at, message.stop)
    count = 0
    while at < end and count <= most:
        _tag, _start, at = read(data, at, end)
        count += 1
    return count


def bindings(data: bytes, message: Community) -> list[Binding]:
    """The variable bindings of a v2c trap.  Raises Malformed; Unusual for whatever is not plainly valid."""
    start, stop = expect(INTEGER, data, message.start, message.stop)
    if not 1 <= stop - start <= 4:
        raise Unusual(f"request-id of {stop - start} octets")
    for _field in ("error-status", "error-index"):
        start, stop = expect(INTEGER, data, stop, message.stop)
        if data[start:stop] != b"\0":
            raise Unusual("an error in a trap")
    at, end = expect(SEQUENCE, data, stop, message.stop)
    if end != message.stop:
        raise Unusual(f"{message.stop - end} octets behind the bindings")
    found: list[Binding] = []
    while at < end:
        start, stop = expect(SEQUENCE, data, at, end)
        at = stop
        start, name_stop = expect(OID, data, start, stop)
        name = data[start:name_stop]
        tag, start, value_stop = read(data, name_stop, stop)
        value = data[start:value_stop]
        if value_stop != stop or _OID.fullmatch(name) is None or not _plain(tag, value):
            raise Unusual(f"binding at octet {name_stop}")
        found.append((name, tag, value))
    return found


def _plain(tag: int, value: bytes) -> bool:
    """A value of RFC 2578 in a form that leaves no doubt."""
    if tag == OCTET_STRING:
        return len(value) <= 65535
    if tag == INTEGER:
        return 1 <= len(value) <= 4
    if tag == OID:
        return _OID.fullmatch(value) is not None
    if tag == IP_ADDRESS:
        return len(value) == 4
    if most := _UNSIGNED.get(tag):
        return (1 <= len(value) <= most and value[0] < 0x80) or (len(value) == most + 1 and value[0] == 0)
    return False


def encode_oid(identifiers: tuple[int, ...]) -> bytes:
    """Content octets of an OBJECT IDENTIFIER (X.690 section 8.19); two identifiers at least."""
    encoded = bytearray()
    for identifier in (identifiers[0] * 40 + identifiers[1], *identifiers[2:]):
        groups = [identifier & 0x7F]
        while identifier := identifier >> 7:
            groups.append(identifier & 0x7F | 0x80)
        encoded += bytes(reversed(groups))
    return bytes(encoded)


def oid(text: str) -> bytes:
    """The same of "1.3.6.1"."""
    return encode_oid(tuple(map(int, text.split("."))))


def dotted(octets: bytes) -> str:
    """The text of content octets of an OBJECT IDENTIFIER; an identifier that is cut off at the end is left out."""
    identifiers, number = [], 0
    for octet in octets:
        number = number << 7 | octet & 0x7F
        if octet < 0x80:
            identifiers.append(number)
            number = 0
    if not identifiers:
        return ""
    first = min(identifiers[0] // 40, 2)
    return ".".join(map(str, (first, identifiers[0] - 40 * first, *identifiers[1:])))
