"""A reply through scapy's eyes, held against our own parse of it: two readers that share no code."""

from scapy.fields import Field, IPField
from scapy.layers.dhcp import BOOTP, DHCP, DHCPRevOptions
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from tests.ext.packets import Parsed, quad

HEADER = ("op", "htype", "hlen", "hops", "xid", "secs", "flags", "ciaddr", "yiaddr", "siaddr", "giaddr", "chaddr")


def octets(field: Field | None, values: tuple[object, ...]) -> bytes:
    """What scapy's values stand for, by the kind of its field."""
    if isinstance(field, IPField):
        return b"".join(quad(str(value)) for value in values)
    if field is not None and all(isinstance(value, int) for value in values):
        return b"".join(value.to_bytes(field.sz, "big") for value in values)  # type: ignore[attr-defined]
    return b"".join(value if isinstance(value, bytes) else bytes(value) for value in values)  # type: ignore[call-overload]


def options(theirs: BOOTP) -> list[tuple[int, bytes]]:
    """In order.  ValueError where scapy lost its way."""
    found = []
    for option in theirs[DHCP].options:
        if option in ("end", "pad"):
            continue
        if not isinstance(option, tuple):
            raise ValueError(f"scapy cannot read {option!r}")
        name, values = option[0], option[1:]
        code, field = (name, None) if isinstance(name, int) else DHCPRevOptions[name]
        found.append((code, octets(field, values)))
    return found


def compare(payload: bytes) -> Parsed:
    """Our parse, after scapy has read the same in every field of the header and every option, in the same order."""
    ours, theirs = Parsed.of(payload), BOOTP(payload)
    read = {name: getattr(theirs, name) for name in HEADER} | {"flags": int(theirs.flags)}
    agree("header", read, {name: getattr(ours, name) for name in HEADER})
    agree("sname", theirs.sname.ljust(64, b"\0"), ours.sname)
    agree("file", theirs.file.ljust(128, b"\0"), ours.file)
    agree("options", options(theirs), ours.order)
    behind = theirs[DHCP].options[len(ours.order) :]
    agree("what stands behind them", behind, ["end", *["pad"] * (len(behind) - 1)])
    return ours


def agree(what: str, theirs: object, ours: object) -> None:
    if theirs != ours:
        raise AssertionError(f"{what}: scapy reads {theirs!r}, we read {ours!r}")


def checked_frame(data: bytes) -> Ether:
    """An Ethernet frame whose lengths and checksums scapy works out alike."""
    theirs, again = Ether(data), Ether(data)
    for layer, name in ((IP, "chksum"), (IP, "len"), (UDP, "len"), (UDP, "chksum")):
        again[layer].delfieldval(name)
    agree("frame", data, bytes(again))
    return theirs
