"""The soak's account: what is lost, wrong, twice, rightly silent, unheard, and what is right while it changes.

The server here answers as each test tells it to, wrongly on purpose: a real one would not."""

from __future__ import annotations

import socket
import struct
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from typing import Any

from bench.engine.ledger import Ledger

from bench.engine.forms import DISCOVER, REQUEST, add, form, options_of

LOOPBACK = int(IPv4Address("127.0.0.1"))
FIRST = int(IPv4Address("10.0.0.1"))
MACS = [b"\x02\0\0\0\0" + bytes([i]) for i in range(4)]  # the last is a stranger
OFFER, ACK, NAK = 2, 5, 6
RATE, PATIENCE_S = 500.0, 0.3
Answer = Callable[[bytes, int, int], tuple[int, int] | None]  # MAC, kind, address asked for -> kind, address


def right(mac: bytes, kind: int, _asked: int) -> tuple[int, int] | None:
    return None if mac == MACS[3] else (OFFER if kind == DISCOVER else ACK, FIRST + MACS.index(mac))


@contextmanager
def served(answer: list[Answer]) -> Iterator[int]:
    """A server that answers as answer[0] says; its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(0.05)
        ended = threading.Event()

        def run() -> None:
            while not ended.is_set():
                try:
                    data, sender = sock.recvfrom(2048)
                except TimeoutError:
                    continue
                options = {code: data[at : at + length] for code, at, length in options_of(data)}
                asked = int.from_bytes(options.get(50, b""), "big")
                if (said := answer[0](data[28:34], options[53][0], asked)) is None:
                    continue
                kind, address = said
                head = bytearray(data[:240])
                head[0], head[16:20] = 2, struct.pack("!I", address)
                more = bytes([53, 1, kind, 54, 4, 127, 0, 0, 1, 51, 4, 0, 0, 1, 0, 255])
                sock.sendto(bytes(head) + more, sender)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            ended.set()
            thread.join()


@contextmanager
def running(answer: list[Answer]) -> Iterator[Any]:
    """The ledger under way; its account is closed at the end."""
    with served(answer) as port, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        ledger = Ledger(
            sock.fileno(), server=LOOPBACK, port=port, relays=[LOOPBACK], rate=RATE, seconds=20.0, room=1024,
            patience_ns=int(PATIENCE_S * 1e9), first_address=FIRST, span=4,
        )  # fmt: skip
        ledger.set_peers(b"".join(MACS), array("I", [FIRST, FIRST + 1, FIRST + 2, 0]))
        ledger.set_objects([0, 1, 2, 9])
        for kind in (DISCOVER, REQUEST):
            add(ledger, form(kind))
        thread = threading.Thread(target=ledger.run)
        thread.start()
        time.sleep(0.2)
        try:
            yield ledger
        finally:
            ledger.stop()
            thread.join()


def test_everything_right() -> None:
    with running([right]) as ledger:
        pass
    totals = ledger.totals()
    assert totals["answered"] == totals["sent"] > 50
    assert not any(totals[name] for name in ("lost", "wrong", "twice", "unheard", "silent", "duplicate", "waiting"))
    stretch = ledger.between(ledger.began_ns, time.monotonic_ns())
    assert stretch["sent"] == totals["sent"] and 0 < stretch["wait_ns"] < 1e9


def change_twice(ledger: Any) -> None:
    """Two changes of the first host, which leave it where it was."""
    ledger.begin_change([(0, FIRST)])
    ledger.end_change([0])
    ledger.begin_change([(0, FIRST + 3)])
    ledger.begin_change([(0, FIRST)])
    ledger.end_change([0])


def test_who_was_to_be_silent_when_it_was_asked_may_change_twice_before_that_is_settled() -> None:
    """Two changes of one host within the patience: found by a soak, after ten million requests."""
    answer: list[Answer] = [right]
    with running(answer) as ledger:
        ledger.begin_change([(0, 0)])
        answer[0] = lambda mac, kind, asked: None if mac == MACS[0] else right(mac, kind, asked)
        ledger.end_change([0])
        time.sleep(0.15)
        ledger.begin_change([(0, FIRST)])
        answer[0] = right
        change_twice(ledger)
    totals = ledger.totals()
    assert totals["silent"] > 0 and totals["lost"] == 0, totals


def test_who_falls_silent_while_a_request_is_on_its_way_loses_nothing() -> None:
    """Sent while it was to be answered, read when it was not any more: as behind a stopped worker."""
    answer: list[Answer] = [lambda mac, kind, asked: None if mac == MACS[0] else right(mac, kind, asked)]
    with running(answer) as ledger:
        ledger.begin_change([(0, 0)])
        ledger.end_change([0])
        ledger.begin_change([(0, FIRST)])
        answer[0] = right
        change_twice(ledger)
    totals = ledger.totals()
    assert totals["silent"] > 5 and totals["lost"] == 0, totals


def test_silence_is_lost_unless_nobody_listens() -> None:
    answer: list[Answer] = [right]
    with running(answer) as ledger:
        answer[0] = lambda *_: None
        time.sleep(0.2)
        ledger.open_deaf(time.monotonic_ns())
        time.sleep(0.2)
        ledger.close_deaf(time.monotonic_ns())
        answer[0] = right
        time.sleep(0.1)
    totals = ledger.totals()
    assert 50 < totals["lost"] < 150 and 50 < totals["unheard"] < 150
    assert ledger.lost_kept_of()[0][4] in MACS
    ((begin, end),) = ledger.spells()
    assert 0.15e9 < end - begin < 1e9


def test_an_address_for_two() -> None:
    answer: list[Answer] = [right]
    with running(answer) as ledger:
        answer[0] = lambda mac, kind, asked: right(MACS[0] if mac == MACS[1] else mac, kind, asked)
        time.sleep(0.2)
        answer[0] = right
        time.sleep(0.1)
    kinds = {kind for kind, *_rest in ledger.wrong_kept_of()}
    assert ledger.totals()["twice"] > 0 and kinds == {"address", "twice"}
    twice = next(row for row in ledger.wrong_kept_of() if row[0] == "twice")
    assert {twice[4], twice[7]} == {MACS[0], MACS[1]} and twice[5] == FIRST


def test_a_refusal_of_what_is_right() -> None:
    with running([lambda mac, kind, asked: (NAK, 0) if kind == REQUEST else right(mac, kind, asked)]) as ledger:
        pass
    assert {kind for kind, *_rest in ledger.wrong_kept_of()} == {"NAK"}


def test_a_stranger_is_not_answered_and_one_that_comes_is() -> None:
    answer: list[Answer] = [right]
    with running(answer) as ledger:
        ledger.begin_change([(3, FIRST + 3)])  # it begins to ask
        time.sleep(0.1)
        answer[0] = lambda mac, kind, _asked: (OFFER if kind == DISCOVER else ACK, FIRST + MACS.index(mac))
        time.sleep(0.1)
        ledger.end_change([3])
        time.sleep(PATIENCE_S + 0.1)
        before = ledger.totals()
        ledger.begin_change([(3, 0)])
        ledger.end_change([3])
        time.sleep(0.1)
    assert before["silent"] > 0 and before["wrong"] == before["lost"] == 0
    assert {kind for kind, *_rest in ledger.wrong_kept_of()} == {"stranger answered"}


def test_while_a_change_is_under_way_both_are_right_and_then_one() -> None:
    moved = {MACS[0]: FIRST + 1, MACS[1]: FIRST}
    answer: list[Answer] = [right]

    def exchanged(mac: bytes, kind: int, asked: int) -> tuple[int, int] | None:
        wanted = moved.get(mac, FIRST + MACS.index(mac))
        return (OFFER, wanted) if kind == DISCOVER else (ACK, wanted) if asked == wanted else (NAK, 0)

    with running(answer) as ledger:
        ledger.begin_change([(0, FIRST + 1), (1, FIRST)])
        time.sleep(0.1)
        answer[0] = exchanged
        time.sleep(0.1)
        ledger.end_change([0, 1])
        time.sleep(0.2)
        good = ledger.totals()
        answer[0] = right  # the service falls back to what it had
        time.sleep(0.1)
    assert good["wrong"] == good["lost"] == good["twice"] == 0
    assert ledger.totals()["wrong"] > 0
