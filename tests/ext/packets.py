"""Requests made by hand and replies taken apart by hand: knows the RFCs, nothing of ext's code."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

COOKIE = bytes((99, 130, 83, 99))
FIXED = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")  # RFC 2131 figure 1, with the cookie: 240 bytes
DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM = range(1, 9)
TYPE_NAMES = ("", "DISCOVER", "OFFER", "REQUEST", "DECLINE", "ACK", "NAK", "RELEASE", "INFORM")
BROADCAST_FLAG = 0x8000
BROADCAST = 0xFFFFFFFF
CLIENT_PARAMETERS = bytes((1, 28, 2, 3, 15, 6, 12))  # dhclient's list


def ip(text: str) -> int:
    """Dotted quad -> int in host order, as ext's faces want it."""
    return int(IPv4Address(text))


def quad(text: str | int) -> bytes:
    return IPv4Address(text).packed


def mac_bytes(mac: int) -> bytes:
    return mac.to_bytes(6, "big")


def tlv(code: int, value: bytes | int | str = b"") -> bytes:
    """One option; a number is one octet, a text is an address."""
    if isinstance(value, int):
        value = bytes((value,))
    elif isinstance(value, str):
        value = quad(value)
    return bytes((code, len(value))) + value


def message(
    kind: int | None,
    mac: int,
    options: bytes = b"",
    *,
    op: int = 1,
    htype: int = 1,
    hlen: int = 6,
    hops: int = 0,
    xid: int = 0x12345678,
    secs: int = 0,
    flags: int = 0,
    ciaddr: str | int = 0,
    yiaddr: str | int = 0,
    giaddr: str | int = 0,
    chaddr: bytes | None = None,
    sname: bytes = b"",
    file: bytes = b"",
    cookie: bytes = COOKIE,
    end: bytes = b"\xff",
    agent: bytes = b"",
) -> bytes:
    """A UDP payload.  kind None: no option 53 (plain BOOTP); agent: option 82's value, put last as a relay does."""
    if chaddr is None:
        chaddr = mac_bytes(mac)
    fixed = FIXED.pack(
        op, htype, hlen, hops, xid, secs, flags, quad(ciaddr), quad(yiaddr), quad(0), quad(giaddr),
        chaddr, sname, file, cookie,
    )  # fmt: skip
    head = b"" if kind is None else tlv(53, kind)
    return fixed + head + options + (tlv(82, agent) if agent else b"") + end


def request(
    mac: int,
    *,
    requested: str | int | None = None,
    server_id: str | int | None = None,
    options: bytes = b"",
    **fields: object,
) -> bytes:
    """DHCPREQUEST: SELECTING with both, INIT-REBOOT with `requested` alone, RENEWING and REBINDING with ciaddr."""
    head = b"" if server_id is None else tlv(54, quad(server_id))
    head += b"" if requested is None else tlv(50, quad(requested))
    return message(REQUEST, mac, head + options, **fields)  # type: ignore[arg-type]


def discover(mac: int, **fields: object) -> bytes:
    return message(DISCOVER, mac, **fields)  # type: ignore[arg-type]


def inform(mac: int, ciaddr: str | int, **fields: object) -> bytes:
    return message(INFORM, mac, ciaddr=ciaddr, **fields)  # type: ignore[arg-type]


def options_of(area: bytes) -> Iterator[tuple[int, bytes]]:
    """Strict: raises ValueError where a client could lose its way."""
    at = 0
    while at < len(area):
        code = area[at]
        if code == 255:
            if area[at + 1 :].strip(b"\0"):
                raise ValueError("bytes other than PAD behind END")
            return
        if code == 0:
            at += 1
            continue
        if at + 2 > len(area) or at + 2 + area[at + 1] > len(area):
            raise ValueError(f"option {code} reaches over its area")
        yield code, area[at + 2 : at + 2 + area[at + 1]]
        at += 2 + area[at + 1]
    raise ValueError("no END")


@dataclass(frozen=True)
class Parsed:
    """A BOOTP message taken apart; addresses as text."""

    op: int
    htype: int
    hlen: int
    hops: int
    xid: int
    secs: int
    flags: int
    ciaddr: str
    yiaddr: str
    siaddr: str
    giaddr: str
    chaddr: bytes
    sname: bytes
    file: bytes
    order: list[tuple[int, bytes]] = field(default_factory=list)  # as they stand in the options field
    overflow: list[tuple[int, bytes]] = field(default_factory=list)  # from file and sname, when option 52 says so
    length: int = 0

    @classmethod
    def of(cls, payload: bytes) -> "Parsed":
        values = FIXED.unpack_from(payload)
        if values[-1] != COOKIE:
            raise ValueError("no cookie")
        quads = [str(IPv4Address(value)) for value in values[7:11]]
        order = list(options_of(payload[FIXED.size :]))
        overload = dict(order).get(52, b"\0")[0]
        overflow: list[tuple[int, bytes]] = []
        if overload & 1:
            overflow += options_of(values[13])
        if overload & 2:
            overflow += options_of(values[12])
        return cls(*values[:7], *quads, *values[11:14], order, overflow, len(payload))

    @property
    def codes(self) -> list[int]:
        return [code for code, _ in self.order]

    def option(self, code: int) -> bytes | None:
        """The whole value, parts joined (RFC 3396); None when absent."""
        parts = [value for at, value in self.order + self.overflow if at == code]
        return b"".join(parts) if parts else None

    @property
    def kind(self) -> int:
        value = self.option(53)
        return value[0] if value else 0

    @property
    def server_id(self) -> str:
        return str(IPv4Address(self.option(54) or b"\0\0\0\0"))


def described(payload: bytes, route: Sequence[str] = ()) -> str:
    """A message as text, a line a field and option: what a golden file holds."""
    said = Parsed.of(payload)
    lines = [
        *route,
        f"op {said.op} htype {said.htype} hlen {said.hlen} hops {said.hops} xid {said.xid:#010x} secs {said.secs} "
        f"flags {said.flags:#06x}",
        f"ciaddr {said.ciaddr} yiaddr {said.yiaddr} siaddr {said.siaddr} giaddr {said.giaddr}",
        f"chaddr {said.chaddr.hex()}",
        f"sname {said.sname.rstrip(bytes(1))!r}",
        f"file {said.file.rstrip(bytes(1))!r}",
    ]
    for code, value in said.order:
        lines.append(f"option {code} = {value_text(code, value)}")
    for code, value in said.overflow:
        lines.append(f"overloaded option {code} = {value_text(code, value)}")
    lines.append(f"{said.length} bytes")
    return "\n".join(lines) + "\n"


def value_text(code: int, value: bytes) -> str:
    if code == 53:
        return TYPE_NAMES[value[0]]
    if code in (1, 3, 6, 28, 50, 54):
        return " ".join(str(IPv4Address(value[at : at + 4])) for at in range(0, len(value), 4))
    if code in (51, 58, 59):
        return f"{int.from_bytes(value, 'big')} s"
    if code in (12, 15, 60, 67):
        return repr(value)
    return value.hex() or "(empty)"
