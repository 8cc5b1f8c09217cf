"""Are a server's replies right?  Some hosts are asked one by one and every word of the replies that boots them is read.

The load itself checks each of its replies for host, address and kind; this checks what else was in the table.
"""

from __future__ import annotations

import re
import select
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from bench.engine.forms import DISCOVER, REQUEST, WANTED, form, kind_of, options_of
from bench.lab.lab import Host as LabHost
from bench.lab.lab import LabError, Process
from bench.peers.table import Host, Table

READY_S, TRY_S, ANSWER_S = 60.0, 0.25, 5.0
ASKED_MAX = 200
PORT_67 = re.compile(r"^ *\d+: [0-9A-F]{8}:0043 ", re.MULTILINE)


class WrongAnswer(Exception):
    """A server said something else than the table, or nothing: it has no figure."""


@dataclass(frozen=True, slots=True)
class Relay:
    """A relay's socket, and its own address; the server that it forwards to."""

    sock: socket.socket
    giaddr: IPv4Address
    server: IPv4Address

    def ask(self, kind: int, host: Host, xid: int, limit_s: float, options: Sequence[tuple[int, bytes]] = ()) -> bytes:
        """The reply to one request of a host; empty when none came in time."""
        self.sock.sendto(request(kind, host, xid, self, options), (str(self.server), 67))
        deadline = time.monotonic() + limit_s
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self.sock], [], [], left)[0]:
                reply = self.sock.recv(2048)
                if reply[4:8] == xid.to_bytes(4, "big") and reply[:1] == b"\x02":
                    return reply
        return b""


def request(kind: int, host: Host, xid: int, relay: Relay, options: Sequence[tuple[int, bytes]] = ()) -> bytes:
    """What a relay forwards of a host that asks for its address; options: code and value of further ones."""
    made = form(kind, options)
    mac, data = bytes.fromhex(host.mac.replace(":", "")), bytearray(made.data)
    data[3], data[4:8], data[24:28] = 1, xid.to_bytes(4, "big"), relay.giaddr.packed
    data[28:34] = data[made.client_id_at : made.client_id_at + 6] = mac
    if made.requested_at:
        data[made.requested_at : made.requested_at + 4] = host.address.packed
        data[made.server_at : made.server_at + 4] = relay.server.packed
    return bytes(data)


def await_socket(host: LabHost, process: Process) -> None:
    """Until somebody on the host has UDP port 67.  LabError when the process ended or did not get there."""
    deadline, table = time.monotonic() + READY_S, Path(f"/proc/{host.pid}/net/udp")
    while time.monotonic() < deadline and process.running():
        if PORT_67.search(table.read_text()):
            return
        time.sleep(0.05)  # /proc tells nobody that it has changed
    raise LabError(f"{process.name}: no socket on port 67 within {READY_S:g} s; it said:\n{process.log()[-2000:]}")


def await_first(relay: Relay, table: Table, host: LabHost, process: Process) -> float:
    """Until the server says anything to the first host of the table; seconds.  LabError when it does not get there."""
    started = time.monotonic()
    await_socket(host, process)
    first = next(table.hosts())
    for number in range(int(READY_S / TRY_S)):
        if relay.ask(DISCOVER, first, 0xB0070000 + number, TRY_S):
            return time.monotonic() - started
        if not process.running():
            break
    raise LabError(f"{process.name}: no reply within {READY_S:g} s; it said:\n{process.log()[-2000:]}")


def check(relay: Relay, table: Table, *, boots: bool = True) -> dict[str, int]:
    """DISCOVER and REQUEST of hosts from all over the table; how many.  WrongAnswer with the first fault in words.

    boots: the replies have to say what to boot, too."""
    step = max(1, table.count // ASKED_MAX)
    asked = [host for i, host in enumerate(table.hosts()) if i % step == 0 or i == table.count - 1]
    for number, host in enumerate(asked):
        for kind in (DISCOVER, REQUEST):
            reply = relay.ask(kind, host, 0xC0DE0000 + 2 * number + (kind == REQUEST), ANSWER_S)
            if found := list(faults(reply, kind, host, table, relay.giaddr, boots=boots)):
                what = "DISCOVER" if kind == DISCOVER else "REQUEST"
                raise WrongAnswer(f"{what} of {host.name} ({host.mac}): {'; '.join(found)}")
    return {"hosts": len(asked), "answers": 2 * len(asked)}


def faults(
    reply: bytes, kind: int, host: Host, table: Table, giaddr: IPv4Address, *, boots: bool = True
) -> Iterator[str]:
    """What is wrong with a reply to one host, each in words: found, wanted."""
    if not reply:
        yield f"no reply within {ANSWER_S:g} s"
        return
    said = {code: reply[at : at + length] for code, at, length in options_of(reply)}
    server = table.server.packed
    rows: list[tuple[str, Any, Any]] = [
        ("type", kind_of(reply), WANTED[kind]),
        ("chaddr", reply[28:34].hex(":"), host.mac),
        ("yiaddr", IPv4Address(reply[16:20]), host.address),
        ("giaddr", IPv4Address(reply[24:28]), giaddr),
        ("netmask (1)", said.get(1), table.network.netmask.packed),
        ("router (3)", said.get(3), server),
        ("lease time (51)", int.from_bytes(said.get(51, b""), "big"), table.lease_s),
        ("server id (54)", said.get(54), server),
    ]
    yield from (f"{what} is {found}, wanted {wanted}" for what, found, wanted in rows if found != wanted)
    if boots:
        yield from _boot_faults(reply, said, table)


def _boot_faults(reply: bytes, said: dict[int, bytes], table: Table) -> Iterator[str]:
    files = {_text(said.get(67, b"")), _text(reply[108:236])}
    if not any(name.lstrip("/") == table.boot_file.lstrip("/") for name in files):
        yield f"boot file (67, file) is {sorted(files)}, wanted {table.boot_file}"
    servers = {_text(said.get(66, b"")), str(IPv4Address(reply[20:24]))}
    if str(table.server) not in servers:
        yield f"boot server (66, siaddr) is {sorted(servers)}, wanted {table.server}"


def _text(value: bytes) -> str:
    return value.split(b"\0")[0].decode(errors="replace")
