"""A client that sends what it is told and shows every byte of the replies: requests as JSON on standard input.

[{"payload": hexadecimal, "to": address, "replies": how many to wait for}] -> [[[source, hexadecimal], ...], ...]
"""

from __future__ import annotations

import json
import socket
import sys
import time

LIMIT_S = 20.0


def ask(sock: socket.socket, payload: bytes, to: str, wanted: int) -> list[tuple[str, str]]:
    """Replies with the request's xid, by source; fewer than `wanted` when the time is up."""
    sock.sendto(payload, (to, 67))
    deadline, found = time.monotonic() + LIMIT_S, []
    while len(found) < wanted and (left := deadline - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            data, (source, _port) = sock.recvfrom(4096)
        except TimeoutError:
            break
        if data[:1] == b"\2" and data[4:8] == payload[4:8]:
            found.append((source, data.hex()))
    return sorted(found)


def main() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, sys.argv[1].encode())
        sock.bind(("", 68))
        said = [ask(sock, bytes.fromhex(row["payload"]), row["to"], row["replies"]) for row in json.load(sys.stdin)]
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main()
