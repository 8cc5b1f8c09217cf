"""The workers' flight recorders for `ctl recent --packets`: a bounded share of one at a time, in plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ext.page import Recorded, WorkerPage

from control.mac import show_mac
from ext import codec

RECORDS_MAX = 500  # in one answer; the client asks for the rest


def share(pages: Sequence[WorkerPage], slot: int, since: int, limit: int, mac: int | None) -> dict[str, Any]:
    """Up to `limit` records of a slot from number `since` on; a negative one counts back from the newest.

    mac: only datagrams of this host.  {"slots", "written", "next", "records"}: `next` is the number to go on from, None
    when the recorder is read to its end."""
    page = pages[slot]
    written = page.records_written
    found = page.records(max(0, written + since) if since < 0 else since)
    fitting = [record for record in found if mac is None or mac_of(record.request) == mac]
    taken = fitting[:limit]
    return {
        "slots": len(pages),
        "written": written,
        "next": taken[-1].number + 1 if len(fitting) > limit else None,
        "records": [plain(record, slot) for record in taken],
    }


def mac_of(payload: bytes) -> int | None:
    """What names the host of a request, as the workers see it; None for a datagram that names none."""
    said = codec.parse(payload)
    if "verdict" in said:  # refused before its options are read: the fixed header is all there is
        return int.from_bytes(payload[28:34], "big") if len(payload) >= 34 else None
    return int.from_bytes(said["mac"], "big") if said["mac"] else None


def plain(record: Recorded, slot: int) -> dict[str, Any]:
    """As msgpack takes it."""
    mac = mac_of(record.request)
    return {
        "slot": slot,
        "number": record.number,
        "boottime_ns": record.boottime_ns,
        "mac": show_mac(mac) if mac is not None else None,
        "verdict": record.verdict,
        "ifindex": record.ifindex,
        "source": record.source,
        "source_port": record.source_port,
        "destination": record.destination,
        "request": record.request,
        "request_bytes": record.request_bytes,
        "route": record.route,
        "sent": record.sent,
        "reply": record.reply,
        "reply_bytes": record.reply_bytes,
        "reply_source": record.reply_source,
        "reply_destination": record.reply_destination,
        "reply_port": record.reply_port,
        "reply_mac": record.reply_mac.hex(":"),
        "at_boot_port": record.at_boot_port,
    }


def name(
    records: Iterable[dict[str, Any]],
    interface_name: Callable[[int], str],
    host_name: Callable[[int], str | None],
    ports: tuple[int, int],
) -> None:
    """Add what only control knows: names of interfaces and hosts, and of `ports` (DHCP's, PXE's) the one it came to."""
    for record in records:
        record["port"] = ports[record.pop("at_boot_port")]
        record["interface"] = interface_name(record["ifindex"])
        record["host"] = host_name(int(record["mac"].replace(":", ""), 16)) if record["mac"] is not None else None
