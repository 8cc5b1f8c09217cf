"""A request that was sent to somebody else, decided by the workers' own code as if it had been sent to us.

Three things stand between the two.  It names another server's id: ours is put in its place.  It was addressed to
another server: it is taken to be addressed to us.  It came in where we have no address (a mirror port, a VLAN that we
have no interface for): then where its client stands is said by RFC 3011's option, which a worker believes before its
own interfaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any, NamedTuple

from ext.codec import links_of
from ext.table import Pair

from control.messages.dissect import HEADER_BYTES, Message, dissect
from ext import codec

BROADCAST = 0xFFFFFFFF
SERVER_ID, SUBNET_SELECTION = 54, 118
SERVER_PORT = 67


class Link(NamedTuple):
    """An address of ours.  address: int in host order."""

    ifindex: int
    address: int
    prefix: int
    served: bool

    @property
    def network(self) -> IPv4Network:
        return IPv4Network((self.address, self.prefix), strict=False)


class Seen(NamedTuple):
    """A datagram on the wire.  Addresses are ints in host order; time_s: since 1970.  vlan: of a tag for which this
    machine has no interface, 0 for none; then ifindex is where it came in, and nothing of ours stands there."""

    time_s: float
    ifindex: int
    source: int
    source_port: int
    destination: int
    payload: bytes
    vlan: int = 0

    @property
    def place(self) -> int | tuple[int, int]:
        """Where it was seen, to be told from other places."""
        return (self.ifindex, self.vlan) if self.vlan else self.ifindex


class Decided(NamedTuple):
    """reply None: silence, for which `verdict` is the reason.  address: of the lease chosen, 0 for none.  proxied: it$
    is the other server that shall give the address."""

    verdict: str
    reply: Message | None
    address: int
    host: str
    proxied: bool = False


class Replay:
    """One table.  age_s: of the table, for NAKs."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.links = [Link(*link) for link in links_of(pair)]
        outside = [link for link in self.links if link.address >> 24 != 127]
        self.stand_in = min(outside, key=lambda link: not link.served, default=None)

    def decide(self, seen: Seen, request: dict[str, Any], near: int, age_s: int) -> Decided | None:
        """What we would have said; None: where its client stands is not known, and neither does `near` say it.

        request: codec.parse() of it; near: an address in the client's network, as the other server's reply tells it."""
        here = [link for link in self.links if link.ifindex == seen.ifindex and not seen.vlan]
        payload, told = seen.payload, False
        if any(link.address == seen.destination for link in here):
            place = addressed(seen, seen.ifindex, seen.destination)
        elif here and is_broadcast(seen.destination, here):
            place = addressed(seen, seen.ifindex, here[0].address) | {"destination": seen.destination}
        elif here:
            place = addressed(seen, seen.ifindex, here[0].address)
        elif self.stand_in is None:
            return None
        else:
            place = addressed(seen, self.stand_in.ifindex, self.stand_in.address)
            if not (request["giaddr"] or request["ciaddr"] or request["subnet_selection"]):
                if not near:
                    return None
                payload, told = with_subnet_selection(payload, near), True
        if request["message_type"] == 3 and request["server_id"]:
            payload = with_server_id(payload, place["local"])
        trace = codec.trace(self.pair, payload, **place, age_s=age_s)
        reply = dissect(trace.reply.data) if trace.reply.data else None
        if reply is not None and told:
            kept = {code: value for code, value in reply.options.items() if code != SUBNET_SELECTION}
            reply = replace(reply, options=kept)
        host = trace.host.decode("utf-8", "replace")
        return Decided(trace.reply.verdict.name, reply, trace.address, host, trace.state == "proxied")


def addressed(seen: Seen, ifindex: int, address: int) -> dict[str, Any]:
    """To an address of ours, as codec.trace() takes it."""
    return {
        "ifindex": ifindex, "source": seen.source, "source_port": seen.source_port, "destination": address,
        "local": address,
    }  # fmt: skip


def is_broadcast(destination: int, here: Sequence[Link]) -> bool:
    return destination == BROADCAST or any(destination == int(link.network.broadcast_address) for link in here)


def with_server_id(payload: bytes, address: int) -> bytes:
    """The same request to another server."""
    changed = bytearray(payload)
    for at, code, length in option_places(payload):
        if code == SERVER_ID and length == 4:
            changed[at + 2 : at + 6] = address.to_bytes(4, "big")
    return bytes(changed)


def with_subnet_selection(payload: bytes, address: int) -> bytes:
    """The same request, told to come from the network of an address."""
    end = HEADER_BYTES
    for at, _code, length in option_places(payload):
        end = at + 2 + length
    option = bytes((SUBNET_SELECTION, 4)) + address.to_bytes(4, "big")
    return payload[:end] + option + payload[end:]


def option_places(payload: bytes) -> list[tuple[int, int, int]]:
    """(where, code, length) of the options behind the header, as far as they can be read."""
    found, at = [], HEADER_BYTES
    while at + 1 < len(payload) and payload[at] != 255:
        if payload[at] == 0:
            at += 1
            continue
        if at + 2 + payload[at + 1] > len(payload):
            break
        found.append((at, payload[at], payload[at + 1]))
        at += 2 + payload[at + 1]
    return found
