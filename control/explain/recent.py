"""The flight recorders of all workers, merged by time, as lines or a capture: `ctl recent --packets`, the board."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, NamedTuple

from control.explain.wording import VERDICTS
from control.messages.dissect import dissect, hexadecimal
from control.messages.pcapng import INBOUND, OUTBOUND, Writer, ip_udp

LISTED = 50  # datagrams, where nobody says how many
CLIENT_ID = 61
Call = Callable[[str, dict[str, Any]], Any]


class Recording(NamedTuple):
    """records: as control/service/machines/recorder.py gives them, oldest first.  missed: overwritten while they were
    being read."""

    records: list[dict[str, Any]]
    missed: int
    port: int


def collect(call: Call, mac: str | None, last: int | None) -> Recording:
    """Everything that the workers still have, or the newest `last`; what comes in meanwhile is left out.

    Whatever call() raises goes through."""
    records: list[dict[str, Any]] = []
    slot, slots, missed, port = 0, 1, 0, 0
    boot_ns: int | None = None
    while slot < slots:
        since: int | None = -last if last is not None and mac is None else 0
        end: int | None = None
        while since is not None:
            told = call("packets", {"slot": slot, "since": since, "mac": mac})
            slots, port = told["slots"], told["port"]
            boot_ns = told["boot_ns"] if boot_ns is None else boot_ns  # one for all, or they would not merge rightly
            end = told["written"] if end is None else end
            for record in told["records"]:
                if record["number"] < end:
                    records.append(record | {"time_ns": boot_ns + record.pop("boottime_ns")})
            if mac is None and since > 0 and told["records"]:
                missed += min(told["records"][0]["number"], end) - since
            since = told["next"] if told["next"] is not None and told["next"] < end else None
        slot += 1
    records.sort(key=lambda record: (record["time_ns"], record["slot"], record["number"]))
    return Recording(records[-last:] if last is not None else records, missed, port)


def for_json(recording: Recording) -> dict[str, Any]:
    """Octets as hexadecimal."""
    records = [
        record | {"request": record["request"].hex(), "reply": record["reply"].hex()} for record in recording.records
    ]
    return {"records": records, "missed": recording.missed, "port": recording.port}


# --- as lines --------------------------------------------------------------------------------------------------------


def render(recording: Recording) -> Iterator[str]:
    """One line a datagram, the day before the first of each day."""
    day = ""
    for record in recording.records:
        when = datetime.fromtimestamp(record["time_ns"] // 10**9).astimezone()
        if day != (day := f"{when:%Y-%m-%d %Z}"):
            yield day
        yield f"{when:%H:%M:%S}.{record['time_ns'] % 10**9 // 1000:06}  {line_of(record)}"
    if not recording.records:
        yield "nothing"
    if recording.missed:
        yield f"{recording.missed} more were overwritten while these were read"


def line_of(record: dict[str, Any]) -> str:
    message = dissect(record["request"])
    kind = (message.kind or "BOOTP") if message is not None and message.op == 1 else "datagram"
    relay = f" by relay {message.giaddr}" if message is not None and message.giaddr else ""
    place = f"on {record['interface']}{relay} from {IPv4Address(record['source'])}"
    return f"{who(record)}  {kind} {place}  {record['verdict']}: {outcome(record)}"


def who(record: dict[str, Any]) -> str:
    host = f" ({record['host']})" if record["host"] else ""
    if record["mac"] is not None:
        return f"{record['mac']}{host}"
    message = dissect(record["request"])
    if message is None:
        return f"{record['request_bytes']} bytes that are no DHCP"
    named = message.options.get(CLIENT_ID, b"")
    return f"no hardware address, client id {hexadecimal(named)}" if named else "no hardware address"


def outcome(record: dict[str, Any]) -> str:
    """Where the reply went, or that there was none."""
    if not record["reply_bytes"]:
        return "silence"
    target = f"{IPv4Address(record['reply_destination'])}:{record['reply_port']}"
    how = {
        "udp": f"to {target}",
        "frame": f"to {target} in a frame to {record['reply_mac']}",
        "broadcast": f"by broadcast to {target}",
    }[record["route"]]
    reply = dissect(record["reply"])
    address = f"{reply.yiaddr} " if reply is not None and reply.yiaddr else ""
    unsent = "" if record["sent"] else ", not sent: dhcp.mode is observe"
    return f"{address}{how}, {record['reply_bytes']} bytes{unsent}"


# --- as a capture ----------------------------------------------------------------------------------------------------


def write_capture(recording: Recording, path: Path) -> str:
    """One sentence on what was written.  Only what was on the wire stands there: replies that were decided and not sent
    are in the comments.  Raises OSError."""
    replies = cut = 0
    with path.open("wb") as file:
        writer = Writer(file)
        for record in recording.records:
            for packet, whole_bytes, direction, comment in frames(record):
                writer.packet(record["time_ns"], packet, whole_bytes, direction, comment)
                replies += direction == OUTBOUND
                cut += len(packet) < whole_bytes
    words = f"{path}: {len(recording.records)} requests, {replies} replies of ours"
    words += f"; {cut} of them cut, the recorder keeps the beginning" if cut else ""
    return words + (f"; {recording.missed} more were overwritten meanwhile" if recording.missed else "")


def frames(record: dict[str, Any]) -> Iterable[tuple[bytes, int, int, str]]:
    """(packet, bytes of the whole one, direction, comment) of a request, and of its reply if that was sent."""
    head = 28
    packet = ip_udp(
        record["source"], record["source_port"], record["destination"], record["port"],
        record["request"], record["request_bytes"],
    )  # fmt: skip
    meaning = VERDICTS.get(record["verdict"], ("", ""))[0]
    comment = f"{record['verdict']}: {meaning + '; ' if meaning else ''}{outcome(record)}"
    place = f"(on {record['interface']}, worker {record['slot']})"
    yield packet, head + record["request_bytes"], INBOUND, f"{comment} {place}"
    if record["reply_bytes"] and record["sent"]:
        packet = ip_udp(
            record["reply_source"], record["port"], record["reply_destination"], record["reply_port"],
            record["reply"], record["reply_bytes"],
        )  # fmt: skip
        yield packet, head + record["reply_bytes"], OUTBOUND, f"ours, {outcome(record)}"
