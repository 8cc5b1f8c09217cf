"""The captures as exchanges: one site that knows their machines, and each request with its answer as readable text.

The site is a host file, planned and compiled as the service does it, so that the text shows the whole product's word.
"""

import json
import tempfile
from collections.abc import Sequence
from functools import cache
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from ext.codec import Reply
from ext.table import Pair

from control.config.config import Dhcp
from control.explain.offline import Interface, placed, plan_file
from control.sources.filesource import FileSource
from ext import codec
from tests.ext.captures import Datagram, datagrams
from tests.ext.packets import BROADCAST, TYPE_NAMES, Parsed, ip

FOLDER = Path(__file__).parents[1] / "data" / "exchanges"
PERFDHCP_COUNT = 200
SHORTEST_FULL = 9  # a message that differs from an earlier one in fewer lines is told by those


class Wire(NamedTuple):
    """An interface of the server."""

    ifname: str
    ifindex: int
    address: str
    prefix: int


NEAR, FAR, PERF = Wire("near", 2, "10.88.0.1", 24), Wire("far", 3, "10.77.0.2", 24), Wire("perf", 4, "10.96.0.1", 16)
WIRES = (NEAR, FAR, PERF)


class Exchange(NamedTuple):
    """A request of a capture, where it came in, and what the packet path made of it."""

    asked: Datagram
    wire: Wire
    reply: Reply


def host_file() -> str:
    """The site as a host file.  perfdhcp counts up the last octet of its MACs without carry."""
    site: dict[str, Any] = yaml.safe_load((FOLDER / "hosts.yaml").read_text())
    for i in range(PERFDHCP_COUNT):
        mac = (0x000C01020300 | (4 + i) & 0xFF).to_bytes(6, "big").hex(":")
        site["hosts"].append({"name": f"perf{i}", "mac": mac, "addresses": [f"10.96.1.{i}"], "pool": "racks"})
    return json.dumps(site)


def host_count() -> int:
    return len(json.loads(host_file())["hosts"])


@cache
def pair() -> Pair:
    return planned(host_file(), WIRES)


def planned(text: str, wires: Sequence[Wire], **config: Any) -> Pair:
    """A host file's table, served on some interfaces."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        made = plan_file(FileSource(f"file://{file.name}"), Dhcp(**config))
    if made.faults:
        raise ValueError(f"the site has faults: {made.faults}")
    return placed(made.pair, [Interface(wire.ifindex, ip(wire.address), wire.prefix) for wire in wires], Dhcp(**config))


def wire_of(datagram: Datagram) -> Wire:
    """The server stands where the capture was made; -clientside: on the clients' link, which it had not been."""
    if datagram.name.startswith("perfdhcp"):
        return PERF
    return FAR if "-clientside" in datagram.name else NEAR


def place_of(datagram: Datagram) -> dict[str, Any]:
    """Where it came in, as codec.answer wants it."""
    wire = wire_of(datagram)
    local = ip(wire.address) if datagram.destination == BROADCAST else datagram.destination
    return {
        "ifindex": wire.ifindex, "source": datagram.source, "source_port": datagram.source_port,
        "destination": datagram.destination, "local": local,
    }  # fmt: skip


def exchanges(name: str) -> list[Exchange]:
    """Every request of tests/data/pcaps/<name>.pcap, answered."""
    return [
        Exchange(datagram, wire_of(datagram), codec.answer(pair(), datagram.payload, **place_of(datagram)))
        for datagram in datagrams(name)
        if datagram.payload[0] == 1
    ]


def value_text(code: int, value: bytes) -> str:
    """An option's value for people; what has no better form in hexadecimal."""
    if code == 53 and len(value) == 1 and value[0] < len(TYPE_NAMES):
        return TYPE_NAMES[value[0]]
    if code in (1, 3, 6, 28, 42, 50, 54, 118) and len(value) % 4 == 0:
        return " ".join(str(IPv4Address(value[at : at + 4])) for at in range(0, len(value), 4))
    if code in (51, 58, 59):
        return f"{int.from_bytes(value, 'big')} s"
    if code in (57, 93) and len(value) == 2:
        return str(int.from_bytes(value, "big"))
    if code == 55:
        return " ".join(map(str, value))
    if code in (12, 15, 56, 60, 66, 67, 77):
        return repr(value)[1:]
    return value.hex(" ") or "(empty)"


def lines_of(payload: bytes) -> list[str]:
    """A message, a line a field and option; fields that are zero or empty are left out."""
    said = Parsed.of(payload)
    lines = [f"xid {said.xid:08x}"]
    if (said.htype, said.hlen) != (1, 6):
        lines.append(f"htype {said.htype} hlen {said.hlen}")
    lines += [f"{name} {value}" for name, value in (("hops", said.hops), ("secs", said.secs)) if value]
    if said.flags:
        lines.append("flags broadcast" if said.flags == 0x8000 else f"flags {said.flags:#06x}")
    for name in ("ciaddr", "yiaddr", "siaddr", "giaddr"):
        if (address := getattr(said, name)) != "0.0.0.0":
            lines.append(f"{name} {address}")
    lines.append(f"chaddr {said.chaddr[: said.hlen].hex(':')}")
    if said.chaddr[said.hlen :].strip(b"\0"):
        lines.append(f"chaddr behind hlen {said.chaddr[said.hlen :].hex(' ')}")
    lines += [f"{name} {value!r}" for name in ("sname", "file") if (value := getattr(said, name).rstrip(b"\0"))]
    lines += [f"{code:3} {value_text(code, value)}" for code, value in said.order]
    lines += [f"{code:3} {value_text(code, value)} (overloaded)" for code, value in said.overflow]
    lines.append(f"{said.length} octets")
    return lines


class Teller:
    """Tells messages one after the other: in full, or what is otherwise than in an earlier one."""

    def __init__(self) -> None:
        self.told: list[tuple[str, list[str], frozenset[str]]] = []  # name of the message, its lines, the same as a set

    def tell(self, name: str, payload: bytes) -> list[str]:
        lines = lines_of(payload)
        said = frozenset(lines)
        best = min(self.told, key=lambda one: len(one[2] ^ said), default=None)
        self.told.append((name, lines, said))
        if best is None or len(best[2] ^ said) >= 2 * SHORTEST_FULL or not in_one_order(best[1], lines):
            return lines
        new = [line.strip() for line in lines if line not in best[1]]
        named = {subject(line) for line in new}
        gone = [subject(line) for line in best[1] if line not in lines and subject(line) not in named]
        parts = [*new, *(f"no {name}" for name in gone)]
        return [f"as {best[0]}" + (f", but: {'; '.join(parts)}" if parts else "")]


def subject(line: str) -> str:
    """The field or option that a line speaks of."""
    return "octets" if line.endswith(" octets") else line.split()[0]


def in_one_order(before: list[str], lines: list[str]) -> bool:
    """True when what both say of, they say in the same order."""
    one, other = [subject(line) for line in before], [subject(line) for line in lines]
    return [name for name in one if name in other] == [name for name in other if name in one]


def way(exchange: Exchange) -> str:
    reply = exchange.reply
    to = {"frame": f"frame to {reply.mac.hex(':')}", "broadcast": "broadcast", "udp": "UDP"}[reply.route]
    return f"{IPv4Address(reply.source)} -> {IPv4Address(reply.destination)}:{reply.port}, {to}"


def portrait(name: str) -> str:
    """The capture's exchanges as a golden file holds them."""
    requests, replies = Teller(), Teller()
    lines = [f"{name}.pcap: what its clients ask, and what we answer"]
    for exchange in exchanges(name):
        asked, reply = exchange.asked, exchange.reply
        frame = asked.name.rpartition("-")[2]
        kind = TYPE_NAMES[Parsed.of(asked.payload).kind]
        lines.append(
            f"\nframe {frame}, {kind} on {exchange.wire.ifname}: {IPv4Address(asked.source)}:{asked.source_port}"
            f" -> {IPv4Address(asked.destination)}:{asked.destination_port}"
        )
        lines += [f"  < {line}" for line in requests.tell(f"frame {frame}", asked.payload)]
        if reply.data:
            lines.append(f"  {reply.verdict.name}: {way(exchange)}")
            lines += [f"  > {line}" for line in replies.tell(f"the answer to frame {frame}", reply.data)]
        else:
            lines.append(f"  {reply.verdict.name}: silence")
    return "\n".join(lines) + "\n"
