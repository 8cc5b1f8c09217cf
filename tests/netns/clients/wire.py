"""DHCP packets out of what tcpdump prints: who asked, who answered, how long it took.  Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_DAY_S = 86_400.0
_PACKET = re.compile(
    r"^(\d\d):(\d\d):(\d\d\.\d+) .*\n"
    r" +(\S+) > (\S+): .*BOOTP/DHCP, (Request|Reply).* xid (0x[0-9a-f]+),.*\n"
    r"((?:\t.*\n)*)",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Packet:
    """at: seconds since midnight.  options: tcpdump's words for each but 82, in their order."""

    at: float
    source: str
    destination: str
    reply: bool
    xid: str
    mac: str
    message: str
    relay: str
    address: str
    options: tuple[str, ...]


def packets(log: str) -> list[Packet]:
    """Every DHCP packet of a `tcpdump -vvv` log, in its order; a last one that is not whole yet may be missing."""
    found = []
    for hours, minutes, seconds, source, destination, kind, xid, text in _PACKET.findall(log):
        fields = dict(re.findall(r"^\t  (Client-Ethernet-Address|Gateway-IP|Your-IP) (\S+)", text, re.MULTILINE))
        message = re.search(r"DHCP-Message \(53\), length 1: (\S+)", text)
        options = re.findall(r"^\t    (\S.*\(\d+\), length .*(?:\n\t {5,}.*)*)", text, re.MULTILINE)
        found.append(
            Packet(
                at=int(hours) * 3600 + int(minutes) * 60 + float(seconds),
                source=source,
                destination=destination,
                reply=kind == "Reply",
                xid=xid,
                mac=fields.get("Client-Ethernet-Address", ""),
                message=message[1] if message else "",
                relay=fields.get("Gateway-IP", ""),
                address=fields.get("Your-IP", ""),
                options=tuple(option for option in options if "(82)" not in option.partition("\n")[0]),
            )
        )
    return found


def between(earlier: Packet, later: Packet) -> float:
    """Seconds, over midnight too."""
    return (later.at - earlier.at) % _DAY_S


def answer_times(seen: list[Packet]) -> list[float]:
    """Seconds from each reply back to the request that it answers: the last one before it of the same machine."""
    asked: dict[tuple[str, str], Packet] = {}  # machines that start together share transaction ids
    times = []
    for packet in seen:
        key = packet.xid, packet.mac
        if not packet.reply:
            asked[key] = packet
        elif key in asked:
            times.append(between(asked[key], packet))
    return times


def until_ack(seen: list[Packet]) -> float | None:
    """Seconds from first request to first ACK of the machine that took longest; None without an ACK."""
    times = []
    for mac in {packet.mac for packet in seen}:
        first = next((packet for packet in seen if packet.mac == mac and not packet.reply), None)
        ack = next((packet for packet in seen if packet.mac == mac and packet.message == "ACK"), None)
        if first is not None and ack is not None:
            times.append(between(first, ack))
    return max(times, default=None)
