"""`bootstorm bench queue`: what one waiting request costs in a receive buffer, and how large a storm a buffer holds.

The kernel charges a datagram's whole memory (truesize) to the buffer, several times its length; measured here by
letting datagrams wait in a socket that nobody reads.
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass

import click

from bench.engine import sockets
from bench.engine.echo_server import RECEIVE_BYTES
from bench.engine.forms import BOOTP_MIN
from bench.lab.lab import Lab, LabError
from bench.rig.stage import RELAY, SERVER, two_hosts

SAMPLE, ARRIVE_S, LOOK_S, STILL = 500, 10.0, 0.01, 5
LENGTHS = (BOOTP_MIN, 548, 1400)
MEMINFO_RMEM, MEMINFO_RCVBUF = 0, 1  # indices of SK_MEMINFO_RMEM_ALLOC and SK_MEMINFO_RCVBUF


@dataclass(frozen=True, slots=True)
class Fit:
    """A buffer of `buffer_bytes` (as SO_RCVBUFFORCE is asked for it) and datagrams that cost `each_bytes` in it."""

    each_bytes: int
    buffer_bytes: int = RECEIVE_BYTES

    @property
    def datagrams(self) -> int:
        """How many fit: the kernel takes twice what it is asked for, since it counts its own part, too."""
        return 2 * self.buffer_bytes // self.each_bytes

    def needed(self, datagrams: int) -> int:
        """Bytes to ask for so that as many fit."""
        return -(-datagrams * self.each_bytes // 2)


def waiting(sock: socket.socket) -> tuple[int, int]:
    """Bytes that wait in a socket as the kernel counts them, and how many may."""
    found = struct.unpack("9I", sock.getsockopt(socket.SOL_SOCKET, sockets.SO_MEMINFO, 36))
    return found[MEMINFO_RMEM], found[MEMINFO_RCVBUF]


def truesize(reader: socket.socket, sender: socket.socket, address: tuple[str, int], length: int) -> int:
    """Bytes that a datagram of `length` costs.  LabError when not all of the sample arrive."""
    for _ in range(SAMPLE):
        sender.sendto(bytes(length), address)
    taken, same, deadline = 0, 0, time.monotonic() + ARRIVE_S
    while same < STILL and time.monotonic() < deadline:
        now = waiting(reader)[0]
        taken, same = now, same + 1 if now == taken else 0
        time.sleep(LOOK_S)  # the socket's memory tells nobody that it has changed
    count = 0
    reader.setblocking(False)
    try:
        while reader.recv(2048) is not None:
            count += 1
    except BlockingIOError:
        pass
    if count != SAMPLE:
        raise LabError(f"queue: {count} of {SAMPLE} datagrams of {length} bytes arrived, wanted all of them")
    return taken // SAMPLE


@click.command("queue")
@click.option("--requests", default=100_000, show_default=True, type=click.IntRange(1), help="That come at once.")
@click.option("--rate", default=100_000.0, show_default=True, type=click.FloatRange(1), help="That the server answers.")
def main(requests: int, rate: float) -> None:
    """Bytes that a waiting request costs, and what a storm needs of the buffer and of time."""
    if reason := Lab.available():
        raise click.ClickException(f"queues are measured in a laboratory, and cannot be here: {reason}")
    click.echo(f"{'request':>8}{'costs':>8}{'in ' + str(RECEIVE_BYTES >> 20) + ' MB':>12}{f'{requests:,} need':>16}")
    with two_hosts() as stage:
        reader = sockets.open_relay((SERVER,), 67, stage.server)
        with reader, sockets.open_relay((RELAY,), 67, stage.client) as sender:
            for length in LENGTHS:
                fit = Fit(truesize(reader, sender, (SERVER, 67), length))
                needed = f"{fit.needed(requests) / (1 << 20):.0f} MB"
                click.echo(f"{length:>8}{fit.each_bytes:>8}{fit.datagrams:>12,}{needed:>16}")
    click.echo(f"the last of {requests:,} is answered after {requests / rate:.2f} s at {rate:,.0f} replies/s")
