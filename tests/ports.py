"""Ports of this machine that no other test gets: below those that the kernel gives away, a range for each process of
pytest-xdist."""

from __future__ import annotations

import itertools
import os
import socket

FIRST, ROOM = 11_000, 1_000
_numbers = itertools.cycle(range(ROOM))


def free_port() -> int:
    """One that nobody has on any address, over UDP and TCP."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 16
    for number in itertools.islice(_numbers, ROOM):
        port = FIRST + worker * ROOM + number
        try:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                with socket.socket(socket.AF_INET, kind) as probe:
                    probe.bind(("", port))
        except OSError:
            continue
        return port
    raise OSError(f"no free port in {FIRST + worker * ROOM}..{FIRST + worker * ROOM + ROOM - 1}")
