"""A tiny DHCP client of our own, for machines without a real one: one DISCOVER and REQUEST, the lease as JSON.

`python -m bench.lab.tinyclient IFNAME`.  Used by `make demo` and by clients.tiny; no substitute for real clients in
tests: who writes both the server and the client misreads the RFC twice in the same way.  It sets no address.
"""

from __future__ import annotations

import argparse
import json
import secrets
import socket
import struct
import sys
import time
from dataclasses import dataclass

DISCOVER, OFFER, REQUEST, ACK, NAK = 1, 2, 3, 5, 6
BROADCAST_FLAG = 0x8000
MAGIC = bytes.fromhex("63825363")
ETH_P_IP = 0x0800
BOOTP_BYTES = 236
# mask, router, name servers, host name, domain, lease time, server id, T1, T2, boot server, boot file
WANTED = bytes([1, 3, 6, 12, 15, 51, 54, 58, 59, 66, 67])
RESEND_S = (1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True, slots=True)
class Reply:
    yiaddr: str
    siaddr: str
    file: str
    options: dict[int, bytes]

    def kind(self) -> int:
        return self.options.get(53, b"\0")[0]

    def address(self, code: int) -> str:
        value = self.options.get(code, b"")
        return socket.inet_ntoa(value[:4]) if len(value) >= 4 else ""

    def text(self, code: int) -> str:
        return self.options.get(code, b"").rstrip(b"\0").decode(errors="replace")


def checksum(data: bytes) -> int:
    """Internet checksum, RFC 1071."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def option(code: int, value: bytes) -> bytes:
    return bytes([code, len(value)]) + value


def request_frame(mac: bytes, xid: int, flags: int, options: bytes) -> bytes:
    """A whole Ethernet frame, 0.0.0.0:68 to 255.255.255.255:67, BOOTP padded to 300 bytes."""
    bootp = struct.pack("!4BIHH16x16s192x", 1, 1, 6, 0, xid, 0, flags, mac) + MAGIC + options + b"\xff"
    bootp = bootp.ljust(300, b"\0")
    source, destination = bytes(4), b"\xff" * 4
    udp = struct.pack("!4H", 68, 67, 8 + len(bootp), 0)
    pseudo = source + destination + struct.pack("!HH", 17, len(udp) + len(bootp))
    udp = udp[:6] + struct.pack("!H", checksum(pseudo + udp + bootp) or 0xFFFF)
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(bootp), 0, 0, 64, 17, 0, source, destination)
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return b"\xff" * 6 + mac + struct.pack("!H", ETH_P_IP) + header + udp + bootp


def parse_options(data: bytes) -> dict[int, bytes]:
    """Code -> value, parts of a split option joined (RFC 3396); stops at the end mark or where the bytes end."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data) and data[at] != 255:
        if data[at] == 0:
            at += 1
        elif at + 2 > len(data) or at + 2 + data[at + 1] > len(data):
            break
        else:
            found[data[at]] = found.get(data[at], b"") + data[at + 2 : at + 2 + data[at + 1]]
            at += 2 + data[at + 1]
    return found


def parse_reply(packet: bytes, mac: bytes, xid: int) -> Reply | None:
    """Reply of an IPv4 packet, or None when it isn't one to us."""
    if len(packet) < 28 or packet[9] != 17:
        return None
    udp = packet[(packet[0] & 15) * 4 :]
    bootp = udp[8:]
    if (
        len(bootp) < BOOTP_BYTES + 4
        or udp[2:4] != struct.pack("!H", 68)
        or bootp[BOOTP_BYTES : BOOTP_BYTES + 4] != MAGIC
    ):
        return None
    if bootp[0] != 2 or bootp[4:8] != struct.pack("!I", xid) or bootp[28:34] != mac:
        return None
    options = parse_options(bootp[BOOTP_BYTES + 4 :])
    overload = options.get(52, b"\0")[0]
    file = "" if overload & 1 else bootp[108:236].split(b"\0")[0].decode(errors="replace")
    for bit, field in ((1, bootp[108:236]), (2, bootp[44:108])):
        if overload & bit:
            options = parse_options(field) | options
    return Reply(socket.inet_ntoa(bootp[16:20]), socket.inet_ntoa(bootp[20:24]), file, options)


class Exchange:
    """One client's talk over a packet socket."""

    def __init__(self, ifname: str, flags: int, common: bytes, deadline: float) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP))
        self.socket.bind((ifname, ETH_P_IP))
        self.mac: bytes = self.socket.getsockname()[4]
        self.xid, self.flags, self.common, self.deadline = secrets.randbits(32), flags, common, deadline

    def ask(self, kind: int, wanted: tuple[int, ...], options: bytes = b"") -> Reply | None:
        """Send, and send again, until a reply of a wanted kind comes; None when the time is over."""
        frame = request_frame(self.mac, self.xid, self.flags, option(53, bytes([kind])) + options + self.common)
        for pause in (*RESEND_S, *[RESEND_S[-1]] * 100):
            if time.monotonic() >= self.deadline:
                return None
            self.socket.send(frame)
            resend = min(self.deadline, time.monotonic() + pause)
            while (left := resend - time.monotonic()) > 0:
                self.socket.settimeout(left)
                try:
                    packet = self.socket.recv(65535)
                except TimeoutError:
                    break
                reply = parse_reply(packet[14:], self.mac, self.xid)
                if reply is not None and reply.kind() in wanted:
                    return reply
        return None

    def lease(self) -> Reply | str:
        """The ACK, or why there is none."""
        offer = self.ask(DISCOVER, (OFFER,))
        if offer is None:
            return "no OFFER"
        picked = option(50, socket.inet_aton(offer.yiaddr)) + option(54, offer.options.get(54, bytes(4)))
        answer = self.ask(REQUEST, (ACK, NAK), picked)
        if answer is None:
            return f"no ACK for {offer.yiaddr}, which was offered"
        return answer if answer.kind() == ACK else f"NAK for {offer.yiaddr}, which was offered"


def main(argv: list[str] | None = None) -> int:
    """Exit status 0 and JSON on stdout with a lease; 1 and a line on stderr without."""
    parser = argparse.ArgumentParser(prog="python -m bench.lab.tinyclient", description=__doc__.splitlines()[0])
    parser.add_argument("ifname")
    parser.add_argument("--broadcast", action="store_true", help="ask for broadcast replies")
    parser.add_argument("--no-client-id", dest="client_id", action="store_false", help="send no option 61")
    parser.add_argument("--vendor-class", default="", help="option 60")
    parser.add_argument("--timeout", type=float, default=8.0, help="seconds until it gives up")
    args = parser.parse_args(argv)
    started = time.monotonic()
    common = option(55, WANTED) + (option(60, args.vendor_class.encode()) if args.vendor_class else b"")
    try:
        exchange = Exchange(args.ifname, BROADCAST_FLAG * args.broadcast, common, started + args.timeout)
    except OSError as error:
        sys.stderr.write(f"tinyclient: interface {args.ifname}: {error.strerror}\n")
        return 1
    if args.client_id:
        exchange.common += option(61, b"\x01" + exchange.mac)
    ack = exchange.lease()
    if isinstance(ack, str):
        sys.stderr.write(f"tinyclient: {args.ifname}: {ack} within {args.timeout:g} s\n")
        return 1
    told = {
        "address": ack.yiaddr,
        "mask": ack.address(1),
        "router": ack.address(3),
        "server_id": ack.address(54),
        "lease_time": int.from_bytes(ack.options.get(51, b""), "big"),
        "boot_file": ack.text(67) or ack.file,
        "siaddr": ack.siaddr,
        "hostname": ack.text(12),
        "domain": ack.text(15),
        "seconds": round(time.monotonic() - started, 4),
    }
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
