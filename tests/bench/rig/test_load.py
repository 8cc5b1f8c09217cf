"""bench.rig.load counts what a server does wrong: every request in one class, duplicates and late replies beside it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from bench.engine.forms import DISCOVER, RELEASE, REQUEST, form
from bench.engine.target import Population, Target, mac_bytes, population
from bench.report.figures import Histogram
from bench.report.outcome import Result
from bench.rig import load
from tests.bench.responders import FIRST_ADDRESS, FIRST_MAC, Asked, Behaviour, responder, right

HOSTS, REQUESTS, RATE = 20, 200, 2000.0


def people(known: bool = True) -> Population:
    addresses = [FIRST_ADDRESS + i for i in range(HOSTS)] if known else None
    return population([FIRST_MAC + i for i in range(HOSTS)], addresses)


def ask(
    behaviour: Behaviour, *, known: bool = True, circuit: bool = False, tail_s: float = 10.0, limit_s: float = 0.5
) -> Result:
    with responder(behaviour) as port:
        target = Target("127.0.0.1", ("127.0.0.1",), port=port, own_port=0)
        forms = [form(DISCOVER, circuit=circuit), form(REQUEST, circuit=circuit)]
        return load.start(
            target, people(known), RATE, REQUESTS, forms=forms, limit_s=limit_s, tail_s=tail_s, seed=7
        ).wait()


def classes(result: Result) -> dict[str, int]:
    named = ("answered", "wrong", "lost", "silent", "duplicate", "stray")
    assert result.answered + result.wrong + result.lost + result.silent == result.offered == REQUESTS
    return {name: count for name in named if (count := getattr(result, name))}


def test_a_right_server_has_nothing_against_it() -> None:
    result = ask(right, circuit=True, limit_s=60.0)
    assert classes(result) == {"answered": REQUESTS}
    assert result.late == 0 and result.loss == 0 and result.good and result.faults == {} and result.examples == []
    assert result.latency.count == result.service.count == result.lateness.count == REQUESTS
    assert sum(sent for _at, sent, *_ in result.timeline) == REQUESTS
    assert sum(answered for _at, _sent, answered, *_ in result.timeline) == REQUESTS


def test_lost_replies_are_lost() -> None:
    result = ask(lambda asked: [] if asked.number % 100 == 5 else right(asked), tail_s=4.0)
    assert classes(result) == {"answered": REQUESTS - 2, "lost": 2}
    assert result.loss == pytest.approx(0.01) and not result.good


def test_second_replies_are_duplicates() -> None:
    result = ask(lambda asked: right(asked) * (2 if asked.number % 50 == 0 else 1))
    assert classes(result) == {"answered": REQUESTS, "duplicate": 4}
    assert not result.good


def _neighbours(asked: Asked) -> list[tuple[float, bytes]]:
    return [(0.0, asked.reply(address=FIRST_ADDRESS + asked.host + 1))]


def _strangers(asked: Asked) -> list[tuple[float, bytes]]:
    reply = bytearray(asked.reply())
    reply[33] ^= 1
    return [(0.0, bytes(reply))]


def _unfinished(asked: Asked) -> list[tuple[float, bytes]]:
    return [(0.0, asked.reply()[:-1])]


def _without_lease(asked: Asked) -> list[tuple[float, bytes]]:
    return [(0.0, asked.reply().replace(bytes([51, 4, 0, 0, 14, 16]), bytes(6)))]


def _without_82(asked: Asked) -> list[tuple[float, bytes]]:
    asked.options.pop(82, None)
    return right(asked)


WRONG: tuple[tuple[Behaviour, str], ...] = (
    (_neighbours, "address"),
    (lambda asked: [(0.0, asked.reply(kind=6))], "type"),
    (_strangers, "mac"),
    (_unfinished, "malformed"),
    (_without_lease, "options"),
    (_without_82, "options"),
)


def test_wrong_replies_are_wrong() -> None:
    """Each kind once, to hosts of their own: whatever is taken for another kind, or for none, shows in the sums."""
    kinds = {60 + host: behaviour for host, (behaviour, _fault) in enumerate(WRONG)}
    result = ask(lambda asked: kinds.get(asked.number, right)(asked), circuit=True, tail_s=4.0)
    assert classes(result) == {"answered": REQUESTS - len(WRONG), "wrong": len(WRONG)}
    assert result.faults == dict(Counter(fault for _behaviour, fault in WRONG))
    told = {
        asked: fault
        for fault, asked in (re.findall(r"^wrong (\w+): asked by ([0-9a-f:]+)", line)[0] for line in result.examples)
    }
    by_host = {mac_bytes(FIRST_MAC + host).hex(":"): fault for host, (_behaviour, fault) in enumerate(WRONG)}
    assert len(told) == 5 and told.items() <= by_host.items(), "so many examples are kept"


def test_a_right_and_a_wrong_reply_is_wrong() -> None:
    result = ask(lambda asked: right(asked) + (_neighbours(asked) if asked.number == 60 else []), tail_s=4.0)
    assert classes(result) == {"answered": REQUESTS - 1, "wrong": 1, "duplicate": 1}


def test_two_hosts_with_one_address_are_both_wrong() -> None:
    def same(asked: Asked) -> list[tuple[float, bytes]]:
        return [(0.0, asked.reply(address=FIRST_ADDRESS + min(asked.host, HOSTS - 2)))]

    result = ask(same, known=False)
    assert classes(result) == {"answered": REQUESTS - 2 * REQUESTS // HOSTS, "wrong": 2 * REQUESTS // HOSTS}
    assert result.faults == {"shared": 1}
    assert result.examples == [f"{IPv4Address(FIRST_ADDRESS + HOSTS - 2)} was given to 2 hosts"]


def test_late_replies_are_answered_and_late() -> None:
    result = ask(lambda asked: [(0.6 if asked.number == REQUESTS - 1 else 0.0, asked.reply())])
    assert classes(result) == {"answered": REQUESTS}
    assert result.late >= 1 and result.late_after_send >= 1  # a starved machine makes more
    assert result.latency.percentile(100) >= 0.6
    assert sum(late for *_, late, _worst in result.timeline) == result.late


def test_replies_to_nothing_are_stray() -> None:
    def stray(asked: Asked) -> list[tuple[float, bytes]]:
        reply = bytearray(asked.reply())
        reply[4:8] = (int.from_bytes(reply[4:8], "big") + REQUESTS).to_bytes(4, "big")
        return [*right(asked), *([(0.0, bytes(reply)), (0.0, b"noise")] if asked.number == 3 else [])]

    assert classes(ask(stray)) == {"answered": REQUESTS, "stray": 2}


def test_silence_is_right_where_it_is_wanted() -> None:
    with responder(lambda asked: [] if asked.host else right(asked)) as port:
        target = Target("127.0.0.1", ("127.0.0.1",), port=port, own_port=0)
        result = load.start(target, people(), RATE, HOSTS, forms=[form(RELEASE)], tail_s=4.0).wait()
    assert (result.silent, result.wrong, result.faults) == (HOSTS - 1, 1, {"unexpected": 1})


def test_open_loop_a_stall_is_not_hidden() -> None:
    """One stall of 0.3 s: everything that was due meanwhile is late, not only the request that met it."""
    with responder(lambda asked: [(0.3 if asked.number == 20 else 0.0, asked.reply())]) as port:
        target = Target("127.0.0.1", ("127.0.0.1",), port=port, own_port=0)
        result = load.start(target, people(), 1000.0, 400, limit_s=0.05).wait()
    assert result.answered == result.offered == 400
    assert result.late >= 200  # 0.25 s of requests at 1,000 a second waited longer than 0.05 s


def test_stop_ends_it_early_and_what_was_sent_is_accounted_for() -> None:
    with responder(right) as port:
        target = Target("127.0.0.1", ("127.0.0.1",), port=port, own_port=0)
        under_way = load.start(target, people(), 1000.0, 60_000)
        result = under_way.wait(lambda sent: under_way.stop() if sent > 100 else None)
    assert 100 < result.offered < 60_000
    assert result.answered == result.offered


def test_run_is_the_library_call() -> None:
    with pytest.raises(ValueError, match="giaddrs"):
        load.run("127.0.0.1", [FIRST_MAC], 10, 1)
    with pytest.raises(ValueError, match="2 addresses for 1 MACs"):
        load.run("127.0.0.1", [FIRST_MAC], 10, 1, giaddr="127.0.0.1", addresses=[1, 2])
    assert mac_bytes("02-00-00-00-00-01") == mac_bytes(0x020000000001) == bytes([2, 0, 0, 0, 0, 1])


def _trial(rate: float, limit: float, generator: float) -> Result:
    sent = min(rate, generator)
    lost = int(max(0.0, sent - limit))
    empty = Histogram([])
    return Result(
        asked_rate=rate, offered=int(sent) + 1, answered=int(sent) + 1 - lost, wrong=0, lost=lost, silent=0,
        duplicate=0, stray=0, late=0, late_after_send=0,
        limit_s=0.005, seconds=1.0, latency=empty, service=empty, lateness=empty,
        timeline=[], faults={}, examples=[],
        own_drops=0, send_errors=0, backlog=lost, stalled_s=0.0, generator_cpu_s=0.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    "server, generator, limit",
    [pytest.param(40_000, 900_000, "server", id="server"), pytest.param(900_000, 40_000, "generator", id="generator")],
)
def test_the_search_finds_the_limit_and_whose_it_is(server: float, generator: float, limit: str) -> None:
    found = load.highest(lambda rate: _trial(rate, server, generator), 1000.0, 30)
    assert found.limit == limit
    assert found.best is not None and 0.93 * 40_000 < found.best.asked_rate <= 41_000


def test_a_search_on_a_machine_that_stands_still_blames_neither() -> None:
    found = load.highest(lambda rate: replace(_trial(rate, 4000, 900_000), stalled_s=0.4), 1000.0, 30)
    assert found.limit == "others"


def test_percentiles_are_within_a_sixty_fourth() -> None:
    histogram = Histogram([(1_000_000, 98), (2_000_000, 1), (64_000_000, 1)])
    assert histogram.percentile(50) == histogram.percentile(98) == 0.001
    assert (histogram.percentile(99), histogram.percentile(100), histogram.above(0.0015)) == (0.002, 0.064, 2)
