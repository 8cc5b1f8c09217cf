"""`bootstorm explain MAC|PCAP|HEX`: which of the three it is, the table to answer from, and the whole explanation."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from ext.table import Pair

from control.clusto.errors import InventoryDown
from control.config.config import Dhcp
from control.explain.explainer import Explainer, begin_of, servers_of, strays_of
from control.explain.leasequery import is_leasequery
from control.explain.offline import Interface, Unusable, assumed, open_table, placed, plan_file
from control.explain.pairing import pair
from control.mac import parse_mac
from control.messages.capture import Capture, CaptureBroken, Datagram, read_capture
from control.messages.dissect import dissect
from control.plan.contexts import Faults
from control.plan.origins import Origins
from control.sources.filesource import FileSource
from control.sources.model import Inventory
from control.sources.reasons import clipped

DATAGRAM_BYTES_MAX = 1536
FAULT_CHARS_MAX = 500
NAME_CHARS_MAX = 255  # of an object; no message of DHCP is that short, and db01 or cafe is a name
DATAGRAM_HEAD_BYTES = 48  # of a datagram's row besides its payload
PIECE_BYTES, PIECE_DATAGRAMS = 48 << 10, 256  # of a capture in one request to the console, which takes 64 KiB
_HEX = re.compile(r"(?:0[xX])?((?:[0-9a-fA-F]{2}[\s:]*)+)")


class Unexplained(Exception):
    """One clear line for stderr."""


class Knowledge(NamedTuple):
    """The table and what else is known; pair None: there is none, `source` says why."""

    pair: Pair | None
    source: str
    reasons: dict[str, str]
    origins: Origins | None
    config: Dhcp
    faults: Faults | None = None  # of the whole inventory, where it was planned for this


def from_hosts(path: Path, config: Dhcp) -> Knowledge:
    """Raises Unexplained."""
    try:
        source = FileSource(f"file://{quote(os.fsencode(path.resolve()))}")
        planned = plan_file(source, config)
    except InventoryDown as down:
        raise Unexplained(str(down)) from down

    def read_hosts(macs: list[str]) -> Inventory:
        return source.read_hosts(macs, [], Inventory())

    faults = sum(map(len, planned.faults.values()))
    words = f"table: {planned.pair.top.host_count} machines of {path.name}" + (
        f", {faults} faults in it" if faults else ""
    )
    return Knowledge(planned.pair, words, planned.reasons, Origins(read_hosts, config), config, planned.faults)


def from_state(config: Dhcp, *, named: bool = True) -> Knowledge:
    """named: somebody wants this table; else one that is not there is no fault.  Raises Unexplained."""
    try:
        pair = open_table(config.state_dir)
    except Unusable as damage:
        raise Unexplained(str(damage)) from damage
    if pair is None and not named:
        return NOTHING
    if pair is None:
        raise Unexplained(f"{config.state_dir}: no table there; has this service read its inventory yet?")
    words = f"table: generation {pair.top.number} in {config.state_dir}, {pair.top.host_count} machines"
    return Knowledge(pair, words, {}, None, config)


NOTHING = Knowledge(
    None,
    "table: none, so what we would answer is not known; name one with --hosts FILE or -c services.conf",
    {},
    None,
    Dhcp(),
)


def parse_interface(text: str) -> tuple[int, int]:
    """ADDRESS/PREFIX -> both.  Raises ValueError with what is wrong."""
    address, _, prefix = text.partition("/")
    try:
        found = int(IPv4Address(address))
    except AddressValueError as error:
        raise ValueError(f"{text!r}: {error}; wanted ADDRESS/PREFIX such as 10.20.0.2/24") from error
    if not prefix.isascii() or not prefix.isdigit() or not 0 < int(prefix) <= 32:
        raise ValueError(f"{text!r}: wanted ADDRESS/PREFIX such as 10.20.0.2/24")
    return found, int(prefix)


def explain(subject: str, known: Knowledge, given: Sequence[tuple[int, int]] = ()) -> tuple[str, dict[str, Any]]:
    """("machine", "capture" or "datagram", the explanation).  given: the server's interfaces.  Raises Unexplained."""
    path = Path(subject)
    mac = parse_mac(subject)
    if mac is not None and not is_file(path):
        if known.pair is None:
            raise Unexplained(f"{subject}: a machine needs a table to be looked up in; {known.source[7:]}")
        explainer, premises = prepare(known, given, [mac], Capture())
        return "machine", explainer.machine(mac) | {"premises": premises} | faults_of(known)
    if is_file(path):
        capture = read(path)
        explainer, premises = prepare(known, given, askers(capture), capture)
        paired = pair(capture.datagrams)
        return "capture", {
            "premises": premises, "requests": explainer.capture(capture, paired),
            "strays": strays_of(paired, begin_of(capture)), "frames": capture.frames, "skipped": capture.skipped,
        } | faults_of(known)  # fmt: skip
    payload = read_hex(subject)
    message = dissect(payload)
    macs = [int.from_bytes(message.chaddr[:6], "big")] if message is not None else []
    explainer, premises = prepare(known, given, macs, Capture())
    return "datagram", {"premises": premises, "request": explainer.datagram(payload)} | faults_of(known)


def faults_of(known: Knowledge) -> dict[str, Any]:
    """Of the machines that were explained, their containers and networks; of all others how many there are.

    After prepare(), which reads the machines.  Nothing where the inventory was not planned for this."""
    if known.faults is None or known.origins is None:
        return {}
    told = [
        {"object": name, "kind": reason.kind, "reason": clipped(reason, FAULT_CHARS_MAX)}
        for name in known.origins.objects
        for reason in known.faults.get(name, ())
    ]
    return {"faults": told, "other_faults": sum(map(len, known.faults.values())) - len(told)}


def ask(subject: str, call: Callable[[str, dict[str, Any]], Any]) -> dict[str, Any]:
    """The same of a running service.  call: ctl.Client.call; a capture goes there in pieces.  Raises Unexplained."""
    path = Path(subject)
    if is_file(path):
        capture = read(path)
        pieces = [call("explain", {"capture": [list(each) for each in piece]}) for piece in pieces_of(capture)]
        seconds = {each.frame: round(each.time_s - begin_of(capture), 6) for each in capture.datagrams}

        def whole(word: str) -> list[dict[str, Any]]:
            said = sorted((each for piece in pieces for each in piece.get(word, ())), key=lambda each: each["frame"])
            return [each | {"seconds": seconds[each["frame"]]} for each in said]

        return {
            "kind": "capture",
            "premises": list(dict.fromkeys(line for piece in pieces for line in piece["premises"])),
            "requests": whole("requests"),
            "strays": whole("strays"),
            "frames": capture.frames,
            "skipped": capture.skipped,
        }
    if len(subject) > NAME_CHARS_MAX and _HEX.fullmatch(subject.strip()) is not None:
        return dict(call("explain", {"datagram": read_hex(subject)}))
    return dict(call("explain", {"mac": subject}))


def pieces_of(capture: Capture) -> list[list[Datagram]]:
    """What the console takes at once, the datagrams of one exchange together as long as they fit."""
    exchanges: dict[Any, list[Datagram]] = {}
    for datagram in capture.datagrams:
        message = dissect(datagram.payload)
        key: Any = message.key if message is not None else None
        exchanges.setdefault(message.xid if is_leasequery(message) else key, []).append(datagram)
    pieces: list[list[Datagram]] = [[]]
    size = 0
    for exchange in exchanges.values():
        length = sum(len(datagram.payload) + DATAGRAM_HEAD_BYTES for datagram in exchange)
        if size + length > PIECE_BYTES:
            pieces.append([])
            size = 0
        for datagram in exchange:
            if size > PIECE_BYTES - DATAGRAM_BYTES_MAX or len(pieces[-1]) == PIECE_DATAGRAMS:
                pieces.append([])
                size = 0
            pieces[-1].append(datagram)
            size += len(datagram.payload) + DATAGRAM_HEAD_BYTES
    return [sorted(piece) for piece in pieces if piece]


def read(path: Path) -> Capture:
    """Raises Unexplained."""
    try:
        return read_capture(path)
    except CaptureBroken as broken:
        raise Unexplained(str(broken)) from broken
    except OSError as error:
        raise Unexplained(f"{path}: {error.strerror}") from error


def is_file(path: Path) -> bool:
    """A name that is too long for a file is none."""
    try:
        return path.exists()
    except OSError:
        return False


def read_hex(subject: str) -> bytes:
    found = _HEX.fullmatch(subject.strip())
    if found is None:
        shown = subject if len(subject) <= 60 else f"{subject[:60]}... ({len(subject)} characters)"
        raise Unexplained(
            f"{shown!r}: neither a MAC address, nor a file that is there, nor a datagram's octets in hexadecimal"
        )
    payload = bytes.fromhex(re.sub(r"[\s:]", "", found[1]))
    if len(payload) > DATAGRAM_BYTES_MAX:
        raise Unexplained(f"{len(payload)} octets, a datagram of DHCP has at most {DATAGRAM_BYTES_MAX}")
    return payload


def askers(capture: Capture) -> list[int]:
    """MACs of the requests, each once."""
    found = (dissect(datagram.payload) for datagram in capture.datagrams)
    return list(dict.fromkeys(int.from_bytes(m.chaddr[:6], "big") for m in found if m is not None and m.op == 1))


def prepare(
    known: Knowledge, given: Sequence[tuple[int, int]], macs: Sequence[int], capture: Capture
) -> tuple[Explainer, list[str]]:
    """The explainer, and what it takes for granted, in words."""
    if known.pair is None:
        return Explainer(None, ()), [known.source]
    servers, relays = servers_of(capture)
    if given:
        interfaces = [Interface(index, address, prefix) for index, (address, prefix) in enumerate(given, 1)]
        words = f"server: {', '.join(map(str, interfaces))}"
    else:
        interfaces = assumed(known.pair, macs, servers, relays)
        shown = ", ".join(map(str, interfaces[:4])) + (f" and {len(interfaces) - 4} more" if interfaces[4:] else "")
        words = (
            f"server: assumed to have an address in each network ({shown or 'there is none'}); --interface says others"
        )
    pair = placed(known.pair, interfaces, known.config)
    origins = known.origins
    if origins is not None:
        try:
            origins.read(macs)
        except InventoryDown as down:
            raise Unexplained(str(down)) from down
    explainer = Explainer(pair, interfaces, known.reasons.get, origins.of if origins else lambda *_: {})
    return explainer, [known.source, words]
