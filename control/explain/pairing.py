"""Whose reply is whose in a capture, and what a relay passed on.  Pure.

A reply belongs to the newest request before it with its xid and chaddr that asks for such a reply and has none of that
server yet.  Where both sides of a relay are in the capture, a request is there twice, the client's own (without giaddr)
and the relay's (with its giaddr); so is the reply, to the relay and from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from control.explain.leasequery import is_leasequery
from control.messages.capture import Datagram
from control.messages.dissect import Message, dissect

PATIENCE_S = 64.0  # between a request and its reply: the longest that a client waits (RFC 2131 section 4.1)
PASS_ON_S = 2.0  # in which a relay passes on, clocks of two captures included
LOOK_BACK = 64  # requests of one machine under one xid; what is older is not looked at
SERVER_PORT = 67
_HOPS = 3  # octet of the header
_SERVER_ID = 54
_ANSWERS = {"OFFER": {"DISCOVER"}, "ACK": {"REQUEST", "INFORM"}, "NAK": {"REQUEST"}, "": {""}}
_RAPID_COMMIT = 80  # RFC 4039: an ACK to a DISCOVER
_EXPECTING = {"DISCOVER", "REQUEST", "INFORM", "LEASEQUERY", ""}
Key = tuple[int, bytes]


@dataclass(slots=True)
class Answer:
    """A reply as it was seen first.  copies: the same reply at the other side of a relay."""

    datagram: Datagram
    message: Message
    copies: list[Datagram] = field(default_factory=list)

    @property
    def server(self) -> str:
        """Who answers: by its id, unless that is the relay's (RFC 5107, and a copy that the relay sent)."""
        source, named = str(IPv4Address(self.datagram.source)), self.message.options.get(_SERVER_ID, b"")
        server = str(IPv4Address(named)) if len(named) == 4 and any(named) else source
        return source if server == self.message.giaddr else server

    @property
    def reached_client(self) -> bool:
        """It was seen on its way to the client, and not only to a relay."""
        return any(not to_relay(each, self.message) for each in (self.datagram, *self.copies))


@dataclass(slots=True)
class Asked:
    """A request, or what is none.  origin: of a relay's copy, the place of the client's own in Paired.requests."""

    datagram: Datagram
    message: Message | None
    origin: int | None = None
    passed_on: list[int] = field(default_factory=list)  # places of the relays' copies
    answers: list[Answer] = field(default_factory=list)

    @property
    def expects_reply(self) -> bool:
        return self.message is not None and self.message.kind in _EXPECTING


@dataclass(slots=True)
class Paired:
    """strays: replies to nothing that the capture has."""

    requests: list[Asked] = field(default_factory=list)
    strays: list[Answer] = field(default_factory=list)

    def is_unanswered(self, at: int) -> bool:
        """Whether a request that wants a reply has none, at neither side of a relay."""
        asked = self.requests[at]
        return asked.expects_reply and not asked.answers and not any(self.requests[i].answers for i in asked.passed_on)


def pair(datagrams: Iterable[Datagram]) -> Paired:
    return Pairing().run(datagrams)


class Pairing:
    """One pass through a capture, in the order of its frames."""

    def __init__(self) -> None:
        self.paired = Paired()
        self.places: dict[Key, list[int]] = {}
        self.queries: dict[int, int] = {}
        self.replies: dict[Key, list[Answer]] = {}
        self.told: set[tuple[int, str, str]] = set()
        self.given: dict[tuple[Key, str, str, str], list[tuple[int, Answer]]] = {}

    def run(self, datagrams: Iterable[Datagram]) -> Paired:
        for datagram in datagrams:
            message = dissect(datagram.payload)
            if message is None or message.op != 2:
                self.take_request(datagram, message)
            elif not self.is_copy(datagram, message):
                self.take_reply(Answer(datagram, message))
        # Of two requests and two replies that were crossed, each gets its own.
        for pairs in self.given.values():
            for at, (_, answer) in zip(sorted(at for at, _ in pairs), pairs, strict=True):
                self.paired.requests[at].answers.append(answer)
        for asked in self.paired.requests:
            asked.answers.sort(key=lambda answer: answer.datagram.frame)
        return self.paired

    def take_request(self, datagram: Datagram, message: Message | None) -> None:
        asked, requests = Asked(datagram, message), self.paired.requests
        requests.append(asked)
        if message is None:
            return
        here, places = len(requests) - 1, self.places.setdefault(message.key, [])
        own = next((at for at in reversed(places[-LOOK_BACK:]) if self.passes_on(here, at)), None)
        if own is not None:  # a second relay passes on what a first one did
            first = requests[own].origin
            asked.origin = own if first is None else first
            requests[asked.origin].passed_on.append(here)
        places.append(here)
        if is_leasequery(message):
            self.queries[message.xid] = here

    def passes_on(self, copy: int, own: int) -> bool:
        """Whether a request is what a relay made of another one of the same key."""
        copied, asked = self.paired.requests[copy], self.paired.requests[own]
        one, other = copied.message, asked.message
        if one is None or other is None or one.kind != other.kind or not one.giaddr:
            return False
        if not 0 <= copied.datagram.time_s - asked.datagram.time_s <= PASS_ON_S:
            return False
        hops = copied.datagram.payload[_HOPS]
        if other.giaddr:
            return other.giaddr == one.giaddr and hops > asked.datagram.payload[_HOPS]
        others = (self.paired.requests[at] for at in asked.passed_on)
        return all(
            each.message is None or each.message.giaddr != one.giaddr or each.datagram.payload[_HOPS] != hops
            for each in others
        )

    def is_copy(self, datagram: Datagram, message: Message) -> bool:
        """Whether a reply was seen at the other side of its relay already; then it is noted there."""
        side = to_relay(datagram, message)
        for answer in reversed(self.replies.get(message.key, [])[-LOOK_BACK:] if message.giaddr else []):
            known = answer.message
            sides = {to_relay(each, known) for each in (answer.datagram, *answer.copies)}
            if (
                side not in sides
                and (known.kind, known.yiaddr, known.giaddr) == (message.kind, message.yiaddr, message.giaddr)
                and known.options.get(_SERVER_ID) == message.options.get(_SERVER_ID)
                and abs(datagram.time_s - answer.datagram.time_s) <= PASS_ON_S
            ):
                answer.copies.append(datagram)
                return True
        return False

    def take_reply(self, answer: Answer) -> None:
        message, requests = answer.message, self.paired.requests
        self.replies.setdefault(message.key, []).append(answer)
        if is_leasequery(message):  # it names who has the address, which the query did not
            at = self.queries.get(message.xid)
        else:
            places = [at for at in self.places.get(message.key, [])[-LOOK_BACK:] if self.asks_for(at, answer)]
            at = max(places, key=lambda at: self.rank(at, answer), default=None)
        if at is None:
            self.paired.strays.append(answer)
            return
        self.told.add((at, message.kind, answer.server))
        asked = requests[at].message
        group = message.key, message.kind, answer.server, asked.giaddr if asked is not None else ""
        self.given.setdefault(group, []).append((at, answer))

    def asks_for(self, at: int, answer: Answer) -> bool:
        asked, message = self.paired.requests[at], answer.message
        if asked.message is None or answer.datagram.time_s - asked.datagram.time_s > PATIENCE_S:
            return False
        wanted = _ANSWERS.get(message.kind, set())
        rapid = message.kind == "ACK" and _RAPID_COMMIT in message.options and asked.message.kind == "DISCOVER"
        of_it = not message.giaddr or asked.message.giaddr in ("", message.giaddr)
        return of_it and (asked.message.kind in wanted or rapid)

    def rank(self, at: int, answer: Answer) -> tuple[bool, bool, int]:
        """The greatest has it: of the same side of a relay, not answered by that server yet, the newest."""
        asked = self.paired.requests[at].message
        same_side = asked is not None and asked.giaddr == answer.message.giaddr
        return same_side, (at, answer.message.kind, answer.server) not in self.told, at


def to_relay(datagram: Datagram, message: Message) -> bool:
    """Of a reply: it goes to a relay, which passes it on."""
    at_relay = str(IPv4Address(datagram.destination)) == message.giaddr or datagram.destination_port == SERVER_PORT
    return bool(message.giaddr) and at_relay
