"""The flight recorder's way to a person: shares of it, lines, and captures that tcpdump, tshark and explain read."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ext.page import RECORDED_BYTES_MAX, Recorded

from control.cli.ctl import CallFailed, Client
from control.explain import recent
from control.messages.capture import read_capture
from control.messages.dissect import dissect
from control.messages.pcapng import INBOUND, OUTBOUND, Writer, ip_udp
from control.service.machines import recorder
from tests.ext.packets import ACK, DISCOVER, OFFER, REQUEST, ip, message, tlv

BOOT_NS = 1_700_000_000 * 10**9
SERVER = ip("10.1.0.1")
STRANGER = message(DISCOVER, 0x0200000000FF, xid=0xABCD)


def recorded(number: int, request: bytes, reply: bytes = b"", *, at_ns: int | None = None, **fields: Any) -> Recorded:
    plain: dict[str, Any] = {
        "number": number, "boottime_ns": number * 1000 if at_ns is None else at_ns, "ifindex": 2, "source": 0,
        "source_port": 68, "destination": 0xFFFFFFFF, "verdict": "OFFERED" if reply else "IGNORED_UNKNOWN_MAC",
        "request": request[:RECORDED_BYTES_MAX], "request_bytes": len(request), "route": "frame" if reply else "",
        "sent": True, "reply": reply, "reply_bytes": len(reply), "reply_source": SERVER if reply else 0,
        "reply_destination": ip("10.1.0.50") if reply else 0, "reply_port": 68, "reply_mac": b"\2\0\0\0\0\1",
    }  # fmt: skip
    return Recorded(**plain | fields)


def exchange(number: int, mac: int = 0x020000000001, **fields: Any) -> Recorded:
    discover = message(DISCOVER, mac, xid=number)
    offer = message(OFFER, mac, tlv(54, "10.1.0.1"), op=2, xid=number, yiaddr="10.1.0.50")
    return recorded(number, discover, offer, **fields)


class Page:
    """A worker's page that holds what it is told, as ext.page.WorkerPage gives it; overwrites: how many it has lost."""

    def __init__(self, records: list[Recorded], written: int | None = None) -> None:
        self.held = records
        self.records_written = len(records) if written is None else written

    def records(self, since: int) -> list[Recorded]:
        return [record for record in self.held if since <= record.number < self.records_written]


def answering(pages: list[Page], limit: int = 500) -> Callable[[str, dict[str, Any]], Any]:
    """The service's side of the command, without a socket."""

    def call(command: str, arguments: dict[str, Any]) -> Any:
        assert command == "packets"
        mac = int(arguments["mac"].replace(":", ""), 16) if arguments["mac"] else None
        told = recorder.share(pages, arguments["slot"], arguments["since"], limit, mac)  # type: ignore[arg-type]
        recorder.name(told["records"], lambda ifindex: f"eth{ifindex}", lambda _mac: "alice", (67, 4011))
        return told | {"port": 67, "boot_ns": BOOT_NS}

    return call


# --- shares ----------------------------------------------------------------------------------------------------------


def test_workers_are_merged_by_time_in_pages_of_any_size() -> None:
    pages = [
        Page([exchange(number, at_ns=number * 2000) for number in range(9)]),
        Page([exchange(number, at_ns=number * 2000 + 1000) for number in range(7)]),
    ]
    whole = recent.collect(answering(pages), None, None)
    assert [record["time_ns"] - BOOT_NS for record in whole.records] == [*range(0, 14_000, 1000), 14_000, 16_000]
    assert recent.collect(answering(pages, limit=2), None, None) == whole
    assert recent.collect(answering(pages, limit=2), None, 3).records == whole.records[-3:]
    assert whole.missed == 0


def test_what_comes_in_while_reading_is_left_out_and_what_is_overwritten_is_counted() -> None:
    page = Page([exchange(number) for number in range(10)])
    answer = answering([page], limit=4)

    def call(command: str, arguments: dict[str, Any]) -> Any:
        told = answer(command, arguments)
        page.held = [*page.held[5:], exchange(page.records_written)]
        page.records_written += 1
        return told

    found = recent.collect(call, None, None)
    assert [record["number"] for record in found.records] == [0, 1, 2, 3, 5, 6, 7, 8]
    assert found.missed == 2


def test_one_host_and_the_newest_of_it() -> None:
    page = Page(
        [exchange(n, mac=0x020000000001 + n % 2) for n in range(10)] + [recorded(10, b"short"), recorded(11, b"")]
    )
    found = recent.collect(answering([page], limit=2), "02:00:00:00:00:02", None)
    assert [record["number"] for record in found.records] == [1, 3, 5, 7, 9]
    found = recent.collect(answering([page]), "02:00:00:00:00:02", 2)
    assert [record["number"] for record in found.records] == [7, 9]


# --- lines -----------------------------------------------------------------------------------------------------------

INFINIBAND = message(DISCOVER, 0, tlv(61, bytes.fromhex("ff000000000002000002350002c903004f1ea1")), htype=32, hlen=0)


@pytest.mark.parametrize(
    "record, line",
    [
        pytest.param(
            exchange(1),
            "02:00:00:00:00:01 (alice)  DISCOVER on eth2 from 0.0.0.0  OFFERED: 10.1.0.50 to 10.1.0.50:68 in a frame "
            "to 02:00:00:00:00:01, 250 bytes",
            id="by-frame",
        ),
        pytest.param(
            exchange(1, route="broadcast", reply_destination=0xFFFFFFFF),
            "02:00:00:00:00:01 (alice)  DISCOVER on eth2 from 0.0.0.0  OFFERED: 10.1.0.50 by broadcast to "
            "255.255.255.255:68, 250 bytes",
            id="by-broadcast",
        ),
        pytest.param(
            recorded(1, message(REQUEST, 2, giaddr="10.9.0.1"), message(ACK, 2, op=2, yiaddr="10.9.0.7"), route="udp",
                     source=ip("10.9.0.1"), reply_destination=ip("10.9.0.1"), reply_port=67, verdict="ACKED"),
            "00:00:00:00:00:02 (alice)  REQUEST on eth2 by relay 10.9.0.1 from 10.9.0.1  ACKED: 10.9.0.7 to "
            "10.9.0.1:67, 244 bytes",
            id="relayed",
        ),
        pytest.param(
            exchange(1, sent=False, route="udp"),
            "02:00:00:00:00:01 (alice)  DISCOVER on eth2 from 0.0.0.0  OFFERED: 10.1.0.50 to 10.1.0.50:68, 250 bytes, "
            "not sent: dhcp.mode is observe",
            id="not-sent",
        ),
        pytest.param(
            recorded(1, STRANGER),
            "02:00:00:00:00:ff (alice)  DISCOVER on eth2 from 0.0.0.0  IGNORED_UNKNOWN_MAC: silence",
            id="silence",
        ),
        pytest.param(
            recorded(1, message(DISCOVER, 0, tlv(61, b"\1\2\3"), htype=32, hlen=0)),
            "no hardware address, client id 0x010203  DISCOVER on eth2 from 0.0.0.0  IGNORED_UNKNOWN_MAC: silence",
            id="no-MAC",
        ),
        pytest.param(
            recorded(1, b"junk", verdict="IGNORED_SHORT"),
            "4 bytes that are no DHCP  datagram on eth2 from 0.0.0.0  IGNORED_SHORT: silence",
            id="junk",
        ),
    ],
)  # fmt: skip
def test_lines(record: Recorded, line: str) -> None:
    lines = list(recent.render(recent.collect(answering([Page([record], 2)]), None, None)))
    assert len(lines) == 2 and re.fullmatch(r"2023-11-1[45] \S+", lines[0])
    stamp, _, said = lines[1].partition("  ")
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.000001|\d\d:\d\d:\d\d\.000000", stamp)
    assert said == line


def test_an_InfiniBand_host_has_the_name_that_the_workers_look_up() -> None:
    found = recent.collect(answering([Page([recorded(0, INFINIBAND)])]), None, None).records
    assert [record["mac"] for record in found] == ["00:02:c9:4f:1e:a1"]


def test_nothing_and_losses_are_said() -> None:
    assert list(recent.render(recent.Recording([], 3, 67))) == [
        "nothing",
        "3 more were overwritten while these were read",
    ]


def test_json_has_octets_in_hexadecimal() -> None:
    said = recent.for_json(recent.collect(answering([Page([recorded(0, STRANGER)])]), None, None))
    assert said["records"][0]["request"] == STRANGER.hex() and said["port"] == 67


# --- captures --------------------------------------------------------------------------------------------------------


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """Two workers, two interfaces: an offer, a reply that was not sent, junk, a long one that was cut, a stranger."""
    long = message(REQUEST, 7, tlv(43, bytes(200)) * 4)
    pages = [
        Page([exchange(0), exchange(1, sent=False), recorded(2, b"junk", verdict="IGNORED_SHORT")]),
        Page([recorded(0, long, ifindex=3, at_ns=500, verdict="IGNORED_UNKNOWN_MAC"), recorded(1, STRANGER)]),
    ]
    path = tmp_path / "out.pcap"
    said = recent.write_capture(recent.collect(answering(pages), None, None), path)
    assert said == f"{path}: 5 requests, 1 replies of ours; 1 of them cut, the recorder keeps the beginning"
    return path


def test_our_own_reader_reads_what_was_on_the_wire(capture: Path) -> None:
    found = read_capture(capture)
    assert found.frames == 6 and found.skipped == {"cut by the capture": 1}
    kinds = [said.kind if (said := dissect(each.payload)) else None for each in found.datagrams]
    assert kinds == ["DISCOVER", "OFFER", "DISCOVER", "DISCOVER", None]
    request, reply = found.datagrams[:2]
    assert (request.source, request.source_port, request.destination, request.destination_port) == (
        0,
        68,
        2**32 - 1,
        67,
    )
    assert (reply.source, reply.source_port, reply.destination, reply.destination_port) == (
        SERVER,
        67,
        ip("10.1.0.50"),
        68,
    )
    assert request.time_s == reply.time_s == BOOT_NS / 10**9
    assert found.datagrams[3].payload == STRANGER


@pytest.mark.parametrize(
    "command, wanted",
    [
        pytest.param(
            ["tcpdump", "-nr"], r"IP 0\.0\.0\.0\.68 > 255\.255\.255\.255\.67: BOOTP/DHCP, Request", id="tcpdump"
        ),
        pytest.param(["tshark", "-r"], r"DHCP Offer +- Transaction ID 0x0", id="tshark"),
    ],
)
def test_the_usual_tools_read_it(capture: Path, command: list[str], wanted: str) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run([*command, str(capture)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and re.search(wanted, done.stdout), done.stdout + done.stderr
    assert len(done.stdout.strip().splitlines()) == 6


def test_wireshark_shows_verdict_and_silence(capture: Path) -> None:
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    fields = ["frame.packet_flags_direction", "frame.comment", "ip.checksum.status"]
    argv = ["tshark", "-o", "ip.check_checksum:TRUE", "-r", str(capture), "-T", "fields"]
    argv += [word for field in fields for word in ("-e", field)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [int(row[0], 16) for row in rows] == [INBOUND, OUTBOUND, INBOUND, INBOUND, INBOUND, INBOUND]
    silent = "IGNORED_UNKNOWN_MAC: the inventory has no machine with this MAC address; silence"
    assert [rows[2][1], rows[4][1]] == [f"{silent} (on eth3, worker 1)", f"{silent} (on eth2, worker 1)"]
    assert "not sent: dhcp.mode is observe" in rows[3][1]
    assert {row[2] for row in rows} == {"1"}, "every IP checksum is good"


def test_an_empty_capture_is_one(tmp_path: Path) -> None:
    recent.write_capture(recent.Recording([], 0, 67), tmp_path / "out.pcap")
    assert read_capture(tmp_path / "out.pcap").frames == 0


def test_a_block_says_its_length_twice_and_is_padded(tmp_path: Path) -> None:
    path = tmp_path / "one.pcap"
    with path.open("wb") as file:
        Writer(file).packet(2**32 + 5, b"abc", 9, INBOUND, "why")
    content, at, kinds = path.read_bytes(), 0, []
    while at < len(content):
        kind, length = struct.unpack_from("<II", content, at)
        assert length % 4 == 0 and struct.unpack_from("<I", content, at + length - 4)[0] == length
        kinds.append(kind)
        at += length
    assert kinds == [0x0A0D0D0A, 1, 6] and content[-40:].count(b"why") == 1


def test_headers_name_the_whole_length() -> None:
    packet = ip_udp(1, 68, 2, 67, b"x" * 10, 1400)
    assert struct.unpack_from("!H", packet, 2)[0] == 1428 and struct.unpack_from("!H", packet, 24)[0] == 1408
    assert sum(struct.unpack("!10H", packet[:20])) % 0xFFFF == 0


def test_what_came_to_the_boot_port_stands_there_with_it(tmp_path: Path) -> None:
    at_boot_port = exchange(1, verdict="ACKED_BOOT", source=ip("10.1.0.50"), at_boot_port=True)
    recording = recent.collect(answering([Page([exchange(0), at_boot_port])]), None, None)
    recent.write_capture(recording, tmp_path / "a.pcapng")
    ports = [(each.source_port, each.destination_port) for each in read_capture(tmp_path / "a.pcapng").datagrams]
    assert ports == [(68, 67), (67, 68), (68, 4011), (4011, 68)]


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client = Client("/nowhere")
    client.call = lambda *_: answering([Page([])])("packets", {"slot": 0, "since": 0, "mac": None})  # type: ignore[method-assign]
    with pytest.raises(SystemExit) as ended:
        client.save_packets(tmp_path / "no" / "out.pcap", None, None)
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"bootstorm: {tmp_path}/no/out.pcap: {os.strerror(2)}\n"
    with pytest.raises(SystemExit):
        Client(str(tmp_path / "nobody")).save_packets(tmp_path / "out.pcap", None, None)
    with pytest.raises(CallFailed):
        recent.collect(Client(str(tmp_path / "nobody")).call, None, None)
