"""A crowd of clients from one process: sends DISCOVERs and REQUESTs for many hosts and accounts for every single one.

As a relay (UDP, giaddr) or as a segment full of machines (Ethernet broadcasts).  Python, good for some 10,000 packets a
second: for tests of correctness; the native sender of the benches is another.  Prints one JSON object.
"""

from __future__ import annotations

import json
import select
import signal
import socket
import struct
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from types import FrameType
from typing import Any

import click

from bench.lab.tinyclient import ETH_P_IP, MAGIC, option, parse_options, request_frame

DISCOVER, OFFER, REQUEST, ACK = 1, 2, 3, 5
TICK_S = 0.001
TAIL_S = 2.0  # after the last request, where nobody says otherwise; a reply later than that counts as none
SO_RCVBUFFORCE = 33
PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC, SOL_PACKET = 1, 1, 263


@dataclass(slots=True)
class Crowd:
    """Hosts counted up from a first MAC and a first address; and what became of their requests."""

    hosts: int
    first_mac: int
    step: int
    first_address: int
    server: int
    giaddr: int = 0
    flags: int = 0
    mix: bool = False
    sent_s: list[float] = field(default_factory=list)  # by number of the request, which is its xid
    answers: Counter[int] = field(default_factory=Counter)
    late_s: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def mac(self, number: int) -> bytes:
        return (self.first_mac + number % self.hosts * self.step).to_bytes(6, "big")

    def address(self, number: int) -> int:
        return self.first_address + number % self.hosts

    def kind(self, number: int) -> int:
        return REQUEST if self.mix and number // self.hosts % 2 else DISCOVER

    def options(self, number: int) -> bytes:
        kind = self.kind(number)
        picked = option(50, self.address(number).to_bytes(4, "big")) + option(54, self.server.to_bytes(4, "big"))
        return option(53, bytes([kind])) + (picked if kind == REQUEST else b"") + option(55, bytes([1, 3, 12, 66, 67]))

    def payload(self, number: int) -> bytes:
        head = struct.pack("!4BIHH12xI", 1, 1, 6, 1, number, 0, self.flags, self.giaddr)
        return (head + self.mac(number) + bytes(202) + MAGIC + self.options(number) + b"\xff").ljust(300, b"\0")

    def frame(self, number: int) -> bytes:
        return request_frame(self.mac(number), number, self.flags, self.options(number))

    def take(self, bootp: bytes, now: float) -> None:
        """Check one reply: the right host, the right address, the right kind, and how often."""
        if len(bootp) < 240 or bootp[0] != 2:
            return
        number = int.from_bytes(bootp[4:8], "big")
        if number >= len(self.sent_s):
            self.wrong.append(f"reply with xid {number}, which was never sent")
            return
        self.answers[number] += 1
        self.late_s.append(now - self.sent_s[number])
        kind = parse_options(bootp[240:]).get(53, b"\0")[0]
        found = (bootp[28:34], int.from_bytes(bootp[16:20], "big"), kind)
        wanted = (self.mac(number), self.address(number), ACK if self.kind(number) == REQUEST else OFFER)
        if found != wanted:
            self.wrong.append(
                f"request {number}: mac {found[0].hex(':')} address {IPv4Address(found[1])} type {found[2]}, "
                f"wanted {wanted[0].hex(':')} {IPv4Address(wanted[1])} {wanted[2]}"
            )

    def figures(self) -> dict[str, Any]:
        late = sorted(self.late_s)
        at = {f"p{p}": round(1000 * late[int((len(late) - 1) * p / 100)], 3) for p in (50, 99, 100)} if late else {}
        unanswered = [number for number in range(len(self.sent_s)) if not self.answers[number]]
        return {
            "sent": len(self.sent_s),
            "answered": len(self.answers),
            "unanswered": len(unanswered),
            "unanswered_first": unanswered[:10],
            "twice": sum(count - 1 for count in self.answers.values()),
            "wrong": len(self.wrong),
            "wrong_first": self.wrong[:5],
            "late_ms": at,
        }


class Wire:
    """Where the crowd stands: a relay's UDP socket, or a packet socket on a segment."""

    def __init__(self, crowd: Crowd, ifname: str | None) -> None:
        self.crowd = crowd
        if ifname is None:
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.socket.bind((str(IPv4Address(crowd.giaddr)), 67))
            self.socket.connect((str(IPv4Address(crowd.server)), 67))
        else:
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP))
            self.socket.bind((ifname, ETH_P_IP))
            index = socket.if_nametoindex(ifname)
            everything = struct.pack("iHH8s", index, PACKET_MR_PROMISC, 0, b"")
            self.socket.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, everything)
        self.packets = ifname is not None
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        except PermissionError:  # a user namespace: the default buffer has to do
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
        self.socket.setblocking(False)

    def send(self, number: int) -> None:
        crowd = self.crowd
        data = crowd.frame(number) if self.packets else crowd.payload(number)
        crowd.sent_s.append(time.monotonic())
        self.socket.send(data)

    def receive(self) -> None:
        while True:
            try:
                data, address = self.socket.recvfrom(4096)
            except BlockingIOError:
                return
            if not self.packets:
                self.crowd.take(data, time.monotonic())
            elif address[2] != socket.PACKET_OUTGOING and data[23] == 17 and data[36:38] == b"\x00\x44":
                self.crowd.take(data[42:], time.monotonic())

    def wait(self, seconds: float) -> None:
        if select.select([self.socket], [], [], max(0.0, seconds))[0]:
            self.receive()


def run(crowd: Crowd, wire: Wire, rate: float, most: int, tail_s: float) -> None:
    """Send at a fixed rate until `most` requests are out or SIGTERM comes, then wait for the last replies."""
    going = True

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal going
        going = False

    signal.signal(signal.SIGTERM, stop)
    sys.stderr.write("crowd: sending\n")
    sys.stderr.flush()
    start = time.monotonic()
    while going and len(crowd.sent_s) < most:
        due = min(most, int((time.monotonic() - start) * rate) + 1)
        for number in range(len(crowd.sent_s), due):
            wire.send(number)
        wire.receive()
        wire.wait(TICK_S)
    end = time.monotonic() + tail_s
    while time.monotonic() < end and len(crowd.answers) < len(crowd.sent_s):
        wire.wait(end - time.monotonic())
    extra = time.monotonic() + 0.2  # a second answer to the same request would come right behind
    while time.monotonic() < extra:
        wire.wait(extra - time.monotonic())


@click.command()
@click.option("--server", required=True, help="Its address.")
@click.option("--giaddr", help="Pose as this relay.")
@click.option("--ifname", help="Broadcast from this interface instead.")
@click.option("--hosts", default=1000, show_default=True)
@click.option("--first-mac", default="02:00:00:00:00:00", show_default=True)
@click.option("--step", default=1, show_default=True, help="From one MAC to the next.")
@click.option("--first-address", required=True)
@click.option("--rate", default=1000.0, show_default=True, help="Requests a second.")
@click.option("--most", default=1000, show_default=True, help="Requests in all.")
@click.option("--tail", default=TAIL_S, show_default=True, help="Seconds that the last replies may take.")
@click.option("--mix", is_flag=True, help="REQUESTs too, in turn with DISCOVERs.")
@click.option("--broadcast-flag", is_flag=True)
def main(
    server: str,
    giaddr: str | None,
    ifname: str | None,
    hosts: int,
    first_mac: str,
    step: int,
    first_address: str,
    rate: float,
    most: int,
    tail: float,
    mix: bool,
    broadcast_flag: bool,
) -> None:
    """Send a crowd's requests and print what became of them."""
    if (giaddr is None) == (ifname is None):
        raise click.UsageError("give either --giaddr or --ifname")
    crowd = Crowd(
        hosts=hosts,
        first_mac=int(first_mac.replace(":", ""), 16),
        step=step,
        first_address=int(IPv4Address(first_address)),
        server=int(IPv4Address(server)),
        giaddr=int(IPv4Address(giaddr)) if giaddr else 0,
        flags=0x8000 if broadcast_flag else 0,
        mix=mix,
    )
    run(crowd, Wire(crowd, ifname), rate, most, tail)
    click.echo(json.dumps(crowd.figures()))


if __name__ == "__main__":
    main()
