"""ext/scan.pyx: all rows counted, what most of a pool do, and what is new since the look before."""

from __future__ import annotations

import time
from array import array
from typing import Any

import pytest
from ext.builder import Builder
from ext.ledger import Ledger
from ext.roll import PROGRESS, STAGES, Roll
from ext.rows import Numbers
from ext.scan import FINDINGS, Scan, Watch
from ext.table import STATES, Pair
from ext.verdict import Verdict

from control.service.machines.scans import ROWS_AT_ONCE
from tests.ext.test_ledger import (
    DISCOVER,
    LOADER,
    ONE,
    REQUEST,
    ROM,
    START_S,
    SYSTEM,
    Machine,
    filled,
    paired,
    progress,
    sealed,
)

MILLION = 1_000_000
SCAN_S, PIECE_S = 0.2, 0.02  # of processor time, on a slow machine; docs/performance.md has the figures


def scanned(roll: Roll, now_s: int = START_S, piece: int = 1000, **more: Any) -> Scan:
    scan = Scan(roll, now_s, **more)
    while scan.step(piece):
        pass
    return scan


def rows(many: int) -> list[tuple[int, bytes, str, int]]:
    return [(n, b"h%d" % n, "served", n) for n in range(1, many + 1)]


def groups(pair: Pair, of: dict[int, int]) -> bytes:
    """of: MAC -> group."""
    found = array("I", [0]) * 64
    for mac, group in of.items():
        found[pair.number_of(mac, 0)] = group
    return found.tobytes()


def some(counts: dict[str, Any]) -> dict[str, Any]:
    return {name: many for name, many in counts.items() if many}


@pytest.mark.parametrize("piece", [1, 2, 100])
def test_totals_add_up_to_the_rows_that_count(ledger: Ledger, piece: int) -> None:
    base = [*rows(7), (8, b"h8", "conflict", 0)]
    pair = paired(base, [(2, b"h2", "disabled", 0), (9, b"h9", "served", 9)], gone=[3])
    Machine(ledger, pair, 1).boot(ROM)
    Machine(ledger, pair, 9).boot(SYSTEM)
    states, stages = scanned(Roll(pair, ledger), piece=piece).totals()
    assert {state: sum(found.values()) for state, found in states.items() if any(found.values())} == {
        "served": 6, "disabled": 1, "conflict": 1,
    }  # fmt: skip
    assert states["served"] == {"never": 4, "booting": 0, "stuck": 0, "done": 1, "unknown": 1, "refused": 0}
    assert some(stages) == {"rom-answered": 1, "system-answered": 1} and tuple(stages) == STAGES
    assert sum(map(len, states.values())) == len(PROGRESS) * (len(STATES) - 1)


def test_containers_are_sums_of_their_groups(ledger: Ledger) -> None:
    """Group 1 in containers 1 and 2, group 2 in 2, group 3 in none: container 0."""
    pair = paired(rows(6))
    for mac in (1, 2, 4):
        Machine(ledger, pair, mac).boot(ROM)
    roll = Roll(pair, ledger, groups(pair, {1: 1, 2: 1, 3: 2, 4: 2, 5: 3}))
    scan = scanned(roll, group_count=4)
    first, members = array("I", [0, 1, 3, 4, 5]).tobytes(), array("I", [0, 1, 2, 2, 0]).tobytes()
    sums = scan.summed(first, members, 3)
    told = [Scan.told(sums, place) for place in range(3)]
    assert [(each["never"], each["unknown"]) for each in told] == [(2, 0), (0, 2), (1, 3)]
    assert [some(each["stages"]) for each in told] == [{}, {"rom-answered": 2}, {"rom-answered": 3}]
    assert Scan.scores(sums) == [2, 2, 4]
    late = Scan.scores(scanned(roll, START_S + 99, group_count=4).summed(first, members, 3))
    assert late == [2, 2, 4], "an address in the ROM alone makes nobody stuck"
    with pytest.raises(IndexError):
        Scan.told(sums, 3)
    with pytest.raises(ValueError, match="for 4 groups"):
        scan.summed(first[:-4], members, 3)
    assert scanned(roll, group_count=2).totals() == scan.totals(), "what is in no known group counts all the same"


def test_those_with_the_most_stuck_come_first(ledger: Ledger) -> None:
    pair = paired(rows(5))
    ledger.note(pair, 1, 0, int(Verdict.OFFERED), ROM, 1, START_S)
    scan = scanned(Roll(pair, ledger, groups(pair, {1: 1, 2: 2, 3: 2, 4: 2})), START_S + 61, group_count=3)
    scores = Scan.scores(scan.summed(array("I", [0, 1, 2, 3]).tobytes(), array("I", [0, 1, 2]).tobytes(), 3))
    assert sorted(range(3), key=scores.__getitem__, reverse=True) == [1, 2, 0]


def test_relays_with_the_most_machines_and_the_others_together(ledger: Ledger) -> None:
    """More relays than are told apart: those beyond are counted as one."""
    many = 1100
    pair = paired(rows(many))
    for mac in range(1, many + 1):
        relay = 0 if mac <= 3 else 0x0A000001 if mac <= 9 else 0x0B000000 + mac
        ledger.note(pair, mac, 0, int(Verdict.OFFERED), ROM, mac, START_S, DISCOVER, relay)
    found, others, cut = scanned(Roll(pair, ledger)).by_relay(4)
    assert [(relay, each["booting"]) for relay, each in found.items()][:2] == [(0x0A000001, 6), (0, 3)]
    assert list(found)[2:] == [0x0B00000A, 0x0B00000B], "of as many the lowest address"
    assert others["booting"] == others["stages"]["rom-offered"] == many - 9 - 2
    assert cut == 1024 - 4 + 1
    found, others, cut = scanned(Roll(pair, ledger)).by_relay(5000)
    assert len(found) == 1024 and cut == 1 and others["booting"] == 1 + many - 9 - 1023


def test_who_is_not_heard_has_no_relay(ledger: Ledger) -> None:
    assert scanned(Roll(paired(rows(3)), ledger)).by_relay(64)[0] == {}


# --- what most of a pool do -------------------------------------------------------------------------------------------


class Pool:
    """Machines 1, 2, ... of one group."""

    def __init__(self, ledger: Ledger, many: int, ends: bytes = b"") -> None:
        self.ledger, self.pair = ledger, paired(rows(many))
        self.roll = Roll(self.pair, ledger, groups(self.pair, dict.fromkeys(range(1, many + 1), 1)), ends)
        self.now_s = START_S

    def boots(self, mac: int, *clients: int, after_s: int = 40) -> Machine:
        machine = Machine(self.ledger, self.pair, mac)
        for client in clients:
            machine.boot(client, after_s)
        self.now_s = max(self.now_s, machine.now_s)
        return machine

    def learn(self) -> None:
        companies = array("I", [0, 1]).tobytes()
        scan = scanned(self.roll, self.now_s, group_count=2, companies=companies, company_count=2)
        self.roll.learn(scan.habits())

    def row(self, mac: int, later_s: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = self.roll.row(mac - 1, self.now_s + later_s)
        assert found["mac"] == mac
        return found


def test_who_boots_first_is_expected_to_get_as_far_as_most(ledger: Ledger) -> None:
    pool = Pool(ledger, 6)
    for mac in (1, 2, 3):
        pool.boots(mac, ROM, LOADER)
    pool.boots(4, ROM)
    assert pool.row(4)["progress"] == "unknown", "nobody has looked yet"
    pool.learn()
    row = pool.row(4)
    assert (row["progress"], row["habit"], row["habit_s"]) == ("booting", "loader", 63), "40 s, up to a power of two"
    assert pool.row(4, 500)["progress"] == "stuck"
    assert pool.row(1)["progress"] == "unknown" and pool.row(1)["habit"] == "", "most have not gone on from there"


@pytest.mark.parametrize("late_s, progress", [(123, "booting"), (124, "stuck")])
def test_the_patience_is_what_nine_of_ten_took_and_a_minute(ledger: Ledger, late_s: int, progress: str) -> None:
    pool = Pool(ledger, 4)
    for mac in (1, 2, 3):
        pool.boots(mac, ROM, LOADER)
    machine = pool.boots(4, ROM)
    pool.learn()
    pool.now_s = machine.now_s
    assert pool.row(4, late_s)["progress"] == progress


def test_where_no_time_is_known_it_has_five_minutes(ledger: Ledger) -> None:
    """The others were first heard when they were further."""
    pool = Pool(ledger, 4)
    for mac in (1, 2, 3):
        pool.boots(mac, SYSTEM)
    machine = pool.boots(4, ROM)
    pool.learn()
    pool.now_s = machine.now_s
    assert pool.row(4)["habit"] == "system" and pool.row(4)["habit_s"] == 0
    assert [pool.row(4, later)["progress"] for later in (300, 301)] == ["booting", "stuck"]


@pytest.mark.parametrize("further, there, known", [(2, 1, False), (2, 2, False), (3, 2, True), (4, 0, True)])
def test_most_are_more_than_half_and_of_four_at_least(
    ledger: Ledger,
    further: int,
    there: int,
    known: bool,
) -> None:
    pool = Pool(ledger, 9)
    for mac in range(1, further + 1):
        pool.boots(mac, ROM, LOADER)
    for mac in range(further + 1, further + there + 1):
        pool.boots(mac, ROM)
    pool.learn()
    last = further + max(there, 1)
    if there:
        assert (pool.row(last)["progress"] == "booting") is known
    else:
        pool.boots(9, ROM)
        assert pool.row(9)["progress"] == "booting"


def test_who_has_booted_before_or_is_told_where_to_end_is_judged_by_that(ledger: Ledger) -> None:
    pool = Pool(ledger, 5)
    for mac in (1, 2, 3, 4):
        pool.boots(mac, ROM, LOADER)
    pool.boots(5, ROM, ROM, after_s=4000)
    pool.learn()
    assert pool.row(5, 9999)["progress"] == "done", "so did its boot before"
    told = Pool(ledger, 6, ends=bytes([0, 1]))  # the ROM
    told.roll.learn(pool.roll.habits)
    told.boots(6, ROM)
    assert told.row(6, 9999)["progress"] == "done" and told.row(6)["ends"] == "rom"


@pytest.mark.parametrize("state, refused", [("disabled", "refused"), ("quarantined", "stuck"), ("conflict", "stuck")])
def test_who_has_not_asked_since_its_row_was_spoiled_is_where_it_was(ledger: Ledger, state: str, refused: str) -> None:
    machine = Machine(ledger, paired(ONE))
    machine.boot(SYSTEM)
    machine.pair = paired([(1, b"a", state, 0)])
    assert progress(machine, 1, 90 * 86_400) == ["done", "done"]
    machine.say(SYSTEM, Verdict.IGNORED_CONFLICT, 90 * 86_400, REQUEST)
    assert progress(machine, 1) == [refused]


def test_bmcs_say_nothing_of_the_machines_of_a_pool(ledger: Ledger) -> None:
    """They are systems, and more than these."""
    bmcs: list[Any] = [(mac | 1 << 48, b"h", "served", 100 + mac) for mac in range(1, 9)]
    pair = paired([*rows(6), *bmcs])
    numbers = array("I", [0]) * 64
    for mac in range(1, 9):
        numbers[pair.number_of(mac, 1)] = 1
        ledger.note(pair, mac, 1, int(Verdict.ACKED), SYSTEM, mac, START_S, REQUEST)
    for mac in range(1, 7):
        numbers[pair.number_of(mac, 0)] = 1
        ledger.note(pair, mac, 0, int(Verdict.ACKED), ROM, mac, START_S, REQUEST)
    roll = Roll(pair, ledger, numbers.tobytes())
    roll.learn(scanned(roll, group_count=2, companies=array("I", [0, 1]).tobytes(), company_count=2).habits())
    assert scanned(roll, START_S + 999, group_count=2).totals()[0]["served"]["unknown"] == 6


# --- what is new ------------------------------------------------------------------------------------------------------


class Looked:
    """One look after the other; each says what is new, by names of rows."""

    def __init__(self, ledger: Ledger, pair: Pair) -> None:
        self.roll, self.watch = Roll(pair, ledger), Watch()

    def __call__(self, now_s: int) -> dict[str, list[bytes]]:
        found = scanned(self.roll, now_s, watch=self.watch).findings()
        assert all(len(found[name][0]) == found[name][1] for name in FINDINGS)
        return {name: [self.roll.name(place) for place in found[name][0]] for name in FINDINGS if found[name][1]}


def test_each_thing_is_found_once(ledger: Ledger) -> None:
    pair = paired(rows(4))
    look = Looked(ledger, pair)
    assert look(START_S - 5) == {}
    machine = Machine(ledger, pair, 2)
    machine.say(ROM, Verdict.OFFERED, 0)
    assert look(START_S) == {}, "the second is not over yet"
    assert look(START_S + 5) == {"reached": [b"h2"]} and look(START_S + 10) == {}
    assert look(START_S + 61) == {"stuck": [b"h2"]} and look(START_S + 66) == {}
    machine.say(ROM, Verdict.ACKED, 67, REQUEST, again=True)
    assert look(START_S + 70) == {"goes_on": [b"h2"], "reached": [b"h2"]} and look(START_S + 75) == {}


def test_of_a_row_that_has_another_s_number_nothing_is_told_of_that_one(ledger: Ledger) -> None:
    pair = paired(rows(1))
    look = Looked(ledger, pair)
    look(START_S)
    ledger.note(pair, 1, 0, int(Verdict.OFFERED), ROM, 1, START_S)
    assert look(START_S + 99)["stuck"] == [b"h1"]
    look.roll = Roll(paired([(2, b"other", "served", 2)]), ledger)
    assert look(START_S + 104) == {}


def test_a_storm_is_a_number(ledger: Ledger) -> None:
    pair = paired(rows(1000))
    watch = Watch()
    roll = Roll(pair, ledger)
    scanned(roll, START_S, watch=watch)
    for mac in range(1, 1001):
        ledger.note(pair, mac, 0, int(Verdict.OFFERED if mac % 4 else Verdict.ACKED), ROM, mac, START_S)
    found = scanned(roll, START_S + 5, watch=watch).findings()
    assert len(found["reached"][0]) == 100 and found["reached"][1] == 1000
    assert found["stages"] == {"rom-offered": 750, "rom-answered": 250}
    found = scanned(roll, START_S + 99, watch=watch).findings()
    assert len(found["stuck"][0]) == 100 and found["stuck"][1] == 750
    assert scanned(roll, START_S + 104, watch=watch).findings()["stuck"] == ([], 0)


# --- what it costs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("many", [200_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_all_rows_cost_little_and_no_piece_is_long(ledger: Ledger, many: int) -> None:
    """All heard, in 1,000 groups and by 100 relays."""
    builder = filled(Builder(), ((0x020000000000 + n, b"h", "served", n + 1) for n in range(many)))
    pair = Pair(sealed(builder, 1, Numbers([])))
    placed = array("I", [1 + place % 1000 for place in range(many + 1)])
    for n in range(many):
        ledger.note(pair, 0x020000000000 + n, 0, int(Verdict.ACKED), ROM, n, START_S, REQUEST, 0x0A000000 + n % 100)
    roll, companies = Roll(pair, ledger, placed.tobytes()), array("I", range(1001)).tobytes()
    watch, costs, pieces = Watch(), [], []
    for turn in range(5):
        scan = Scan(roll, START_S + 100 * turn, 1001, companies, 1001, watch)
        since_s, more = time.process_time(), True
        while more:
            at_s = time.process_time()
            more = scan.step(ROWS_AT_ONCE)
            pieces.append(time.process_time() - at_s)
        costs.append(time.process_time() - since_s)
    print(f"{many:,} rows: {min(costs) * 1e3:.1f} ms; of {len(pieces)} pieces the longest {max(pieces) * 1e3:.2f} ms")
    assert min(costs) < SCAN_S * many / MILLION and sorted(pieces)[len(pieces) * 9 // 10] < PIECE_S
    assert sum(sum(found.values()) for found in scan.totals()[0].values()) == many
