"""control/explain/pairing.py: each reply under its own request, and both sides of a relay as one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from control.explain import pairing
from control.explain.pairing import PASS_ON_S, PATIENCE_S, Paired, pair
from control.messages.capture import Datagram, read_capture
from tests.ext.captures import PCAPS, dhcp_captures
from tests.ext.packets import ACK, BROADCAST, DECLINE, DISCOVER, INFORM, NAK, OFFER, RELEASE, REQUEST, ip, message, tlv
from tests.ext.sites import ALICE, TWO

SERVER, OTHER, CLIENT, RELAY, NEAR = "10.1.0.1", "10.1.0.2", "10.9.0.50", "10.9.0.1", "10.1.0.254"


@dataclass
class Wire:
    """Datagrams in the order of a capture; frames count from 1."""

    datagrams: list[Datagram] = field(default_factory=list)
    now_s: float = 1000.0

    def see(self, payload: bytes, source: str, ports: tuple[int, int], to: int, after_s: float) -> int:
        self.now_s += after_s
        frame = len(self.datagrams) + 1
        self.datagrams.append(Datagram(frame, self.now_s, ip(source), ports[0], to, ports[1], payload))
        return frame

    def ask(self, kind: int | None, after_s: float = 0.01, mac: int = ALICE, **fields: Any) -> int:
        return self.see(message(kind, mac, **fields), "0.0.0.0", (68, 67), BROADCAST, after_s)

    def relay(self, kind: int, after_s: float = 0.001, giaddr: str = RELAY, hops: int = 1, **fields: Any) -> int:
        payload = message(kind, ALICE, giaddr=giaddr, hops=hops, **fields)
        return self.see(payload, NEAR, (67, 67), ip(SERVER), after_s)

    def say(self, kind: int | None, after_s: float = 0.01, server: str = SERVER, **fields: Any) -> int:
        """To the client."""
        return self.see(reply_of(kind, server, **fields), server, (67, 68), ip(CLIENT), after_s)

    def say_to_relay(self, kind: int, after_s: float = 0.01, server: str = SERVER, **fields: Any) -> int:
        giaddr = fields.setdefault("giaddr", RELAY)
        return self.see(reply_of(kind, server, **fields), server, (67, 67), ip(giaddr), after_s)

    def say_from_relay(self, kind: int, after_s: float = 0.001, server: str = SERVER, **fields: Any) -> int:
        fields.setdefault("giaddr", RELAY)
        return self.see(reply_of(kind, server, **fields), RELAY, (67, 68), BROADCAST, after_s)

    def pair(self) -> Paired:
        return pair(self.datagrams)

    def owners(self) -> dict[int, list[int]]:
        """Frame of a request -> those of its replies."""
        return {
            asked.datagram.frame: [answer.datagram.frame for answer in asked.answers] for asked in self.pair().requests
        }


def reply_of(kind: int | None, server: str, options: bytes = b"", mac: int = ALICE, **fields: Any) -> bytes:
    return message(kind, mac, (tlv(54, server) if kind else b"") + options, op=2, **{"yiaddr": CLIENT} | fields)


# --- under its own request -------------------------------------------------------------------------------------------


def test_a_late_OFFER_is_the_DISCOVER_s() -> None:
    """The second server's, after the client has taken the first one's, under the same xid."""
    wire = Wire()
    wire.ask(DISCOVER), wire.say(OFFER), wire.ask(REQUEST), wire.say(OFFER, server=OTHER), wire.say(ACK)
    assert wire.owners() == {1: [2, 4], 3: [5]}


def test_each_ACK_has_its_own_REQUEST() -> None:
    """Renewals under one xid: by time."""
    wire = Wire()
    for _ in range(3):
        wire.ask(REQUEST, after_s=30.0, ciaddr=CLIENT), wire.say(ACK)
    assert wire.owners() == {1: [2], 3: [4], 5: [6]}


def test_two_tries_and_two_replies_are_not_crossed() -> None:
    wire = Wire()
    wire.ask(REQUEST), wire.ask(REQUEST, after_s=0.25), wire.say(ACK), wire.say(ACK)
    assert wire.owners() == {1: [3], 2: [4]}


def test_a_try_that_was_lost_has_no_reply() -> None:
    wire = Wire()
    wire.ask(REQUEST), wire.ask(REQUEST, after_s=4.0), wire.say(ACK), wire.say(ACK, server=OTHER)
    assert wire.owners() == {1: [], 2: [3, 4]} and wire.pair().is_unanswered(0) and not wire.pair().is_unanswered(1)


def test_what_a_message_cannot_answer_it_does_not() -> None:
    wire = Wire()
    wire.ask(DISCOVER), wire.say(NAK), wire.say(ACK), wire.ask(INFORM, ciaddr=CLIENT), wire.say(OFFER), wire.say(ACK)
    wire.ask(None), wire.say(None)
    found = wire.pair()
    assert wire.owners() == {1: [5], 4: [6], 7: [8]}
    assert [answer.datagram.frame for answer in found.strays] == [2, 3]


def test_rapid_commit() -> None:
    wire = Wire()
    wire.ask(DISCOVER, options=tlv(80)), wire.say(ACK, options=tlv(80))
    assert wire.owners() == {1: [2]}


@pytest.mark.parametrize(
    "fields",
    [{"xid": 5}, {"mac": TWO}, {"after_s": PATIENCE_S + 1}],
    ids=["another-xid", "another-machine", "too-late"],
)
def test_a_reply_to_something_else_is_a_stray(fields: dict[str, Any]) -> None:
    wire = Wire()
    wire.ask(REQUEST), wire.say(ACK, **fields)
    assert wire.owners() == {1: []} and len(wire.pair().strays) == 1


def test_what_wants_no_reply_is_not_unanswered() -> None:
    wire = Wire()
    wire.ask(DECLINE), wire.ask(RELEASE), wire.ask(DISCOVER)
    found = wire.pair()
    assert [found.is_unanswered(at) for at in range(3)] == [False, False, True]
    wire.see(b"junk", CLIENT, (68, 67), BROADCAST, 0.0)
    assert not wire.pair().is_unanswered(3)


# --- a relay ---------------------------------------------------------------------------------------------------------


def test_a_reply_on_both_sides_of_a_relay_is_one() -> None:
    wire = Wire()
    wire.ask(DISCOVER), wire.relay(DISCOVER), wire.say_to_relay(OFFER), wire.say_from_relay(OFFER)
    found = wire.pair()
    own, copy = found.requests
    assert (own.origin, own.passed_on, copy.origin) == (None, [1], 0)
    (answer,) = copy.answers
    assert own.answers == [] and [each.frame for each in answer.copies] == [4]
    assert answer.server == SERVER and answer.reached_client
    assert not found.is_unanswered(0) and not found.is_unanswered(1) and found.strays == []


def test_the_relay_s_clock_may_be_behind() -> None:
    """In a capture that was put together from two, the client's side may stand first."""
    wire = Wire()
    wire.ask(DISCOVER), wire.relay(DISCOVER), wire.say_from_relay(OFFER), wire.say_to_relay(OFFER)
    (answer,) = [answer for asked in wire.pair().requests for answer in asked.answers]
    assert answer.server == SERVER, "told by its id, not by the relay that sent this copy"
    assert len(answer.copies) == 1


def test_a_reply_long_after_is_another_one() -> None:
    wire = Wire()
    (
        wire.ask(DISCOVER),
        wire.relay(DISCOVER),
        wire.say_to_relay(OFFER),
        wire.say_from_relay(OFFER, after_s=PASS_ON_S + 1),
    )
    assert [len(asked.answers) for asked in wire.pair().requests] == [0, 2]


def test_only_the_client_s_side() -> None:
    wire = Wire()
    wire.ask(DISCOVER), wire.say_from_relay(OFFER)
    ((answer,),) = [asked.answers for asked in wire.pair().requests]
    assert (answer.server, answer.message.giaddr, answer.reached_client) == (SERVER, RELAY, True)


def test_a_relay_that_passes_nothing_on() -> None:
    wire = Wire()
    wire.relay(DISCOVER), wire.say_to_relay(OFFER)
    ((answer,),) = [asked.answers for asked in wire.pair().requests]
    assert not answer.reached_client and answer.copies == []


def test_the_id_of_a_server_may_be_the_relay_s() -> None:
    """RFC 5107: then the server is who sent it to the relay."""
    wire = Wire()
    wire.relay(DISCOVER)
    payload = reply_of(OFFER, RELAY, giaddr=RELAY)
    wire.see(payload, SERVER, (67, 67), ip(RELAY), 0.01)
    ((answer,),) = [asked.answers for asked in wire.pair().requests]
    assert answer.server == SERVER


def test_two_tries_by_a_relay_and_two_relays() -> None:
    wire, second = Wire(), "10.9.0.2"
    for _ in range(2):
        wire.ask(DISCOVER, after_s=4.0), wire.relay(DISCOVER), wire.relay(DISCOVER, giaddr=second)
    wire.say_to_relay(OFFER, giaddr=second), wire.say_to_relay(OFFER)
    found = wire.pair()
    assert [asked.origin for asked in found.requests] == [None, 0, 0, None, 3, 3]
    assert wire.owners() == {1: [], 2: [], 3: [], 4: [], 5: [8], 6: [7]}
    assert found.is_unanswered(0) and not found.is_unanswered(3)


def test_a_relay_behind_a_relay() -> None:
    wire = Wire()
    wire.ask(DISCOVER), wire.relay(DISCOVER), wire.relay(DISCOVER, hops=2), wire.say_to_relay(OFFER)
    assert [asked.origin for asked in wire.pair().requests] == [None, 0, 0]
    assert wire.owners() == {1: [], 2: [], 3: [4]}


def test_a_second_try_is_no_copy() -> None:
    wire = Wire()
    wire.ask(DISCOVER), wire.ask(DISCOVER), wire.relay(DISCOVER, after_s=PASS_ON_S + 1)
    assert [asked.origin for asked in wire.pair().requests] == [None] * 3


# --- recorded, and many ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["relay", "relay82", "relay82-bcast"])
def test_recorded_at_both_sides_of_a_relay(side: str) -> None:
    both = [read_capture(PCAPS / f"{name}.pcap").datagrams for name in (side, f"{side}-clientside")]
    together = sorted((each for datagrams in both for each in datagrams), key=lambda each: each.time_s)
    found = pair([each._replace(frame=number) for number, each in enumerate(together, 1)])
    assert [asked.origin for asked in found.requests] == [None, 0, None, 2]
    assert [len(asked.answers) for asked in found.requests] == [0, 1, 0, 1]
    for asked in found.requests[1::2]:
        assert (asked.answers[0].server, len(asked.answers[0].copies)) == ("10.88.0.1", 1)


@pytest.mark.parametrize("name", dhcp_captures())
def test_recorded_replies_follow_their_requests(name: str) -> None:
    """In these captures every reply comes right after its request, or with others of a storm in between."""
    found = pair(read_capture(PCAPS / f"{name}.pcap").datagrams)
    assert found.strays == []
    for asked in found.requests:
        assert len(asked.answers) <= 1 and asked.origin is None
        assert all(answer.datagram.frame > asked.datagram.frame for answer in asked.answers)


def test_only_so_many_requests_of_one_xid_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a capture of one machine that asks a hundred thousand times took hours."""
    monkeypatch.setattr(pairing, "LOOK_BACK", 2)
    wire = Wire()
    wire.ask(DISCOVER), wire.ask(REQUEST), wire.ask(REQUEST), wire.say(OFFER)
    assert len(wire.pair().strays) == 1
