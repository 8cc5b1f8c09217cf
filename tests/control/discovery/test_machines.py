"""The coordinator's books without inventory and clock: repeats, hubs, loops, rates, fairness and bounds."""

from __future__ import annotations

import pytest

from control.discovery import machines as module
from control.discovery.jobs import Outcome
from control.discovery.machines import SETTLE_S, Machine, Machines
from control.discovery.trapseen import Port, TrapSeen


def trap(mac: int, port: Port = 1, switch: str = "10.0.0.1", learnt: bool = True, vlan: int = 1) -> TrapSeen:
    text = mac.to_bytes(6, "big").hex(":")
    return TrapSeen(switch=switch, mac=text, port=port, vlan=vlan, learnt=learnt, boottime_s=0.0)


def done(machine: Machine, state: str = "registered", **named: object) -> Outcome:
    return Outcome(mac=machine.mac, state=state, **named)  # type: ignore[arg-type]


def test_a_machine_s_turn_comes_once_its_port_has_settled() -> None:
    books = Machines(8)
    assert books.take(trap(1), 100.0) is not None
    assert books.next(100.0, ()) is None and books.wakes_in(100.0) == SETTLE_S
    assert books.take(trap(1), 100.5) is None and books.counts["repeated"] == 1
    machine = books.next(100.0 + SETTLE_S, ())
    assert machine is not None and machine.work().places == [["10.0.0.1", 1, 1]]
    assert books.next(200.0, ()) is None
    books.settle(machine, done(machine), 102.0)
    assert books.take(trap(1), 103.0) is None, "the same trap again"
    assert books.take(trap(1), 102.0 + module.REPEAT_S) is not None, "but not for ever"


def test_a_port_with_more_macs_than_allowed_is_left_out_and_so_are_those_on_it() -> None:
    books = Machines(3)
    for mac in range(4):
        books.take(trap(mac, 48), 100.0)
    books.take(trap(9, 1), 100.0)
    assert books.counts["on_uplinks"] == 1
    ready = [books.next(110.0, ()), books.next(110.0, ())]
    assert [machine and machine.mac for machine in ready] == [trap(9).mac, None]
    states = {machine.state for machine in books.of_mac.values() if machine.mac != trap(9).mac}
    assert states == {"uplink"}
    one = books.of_mac[trap(0).mac]
    books.put_back(one, 111.0)
    assert list(one.places) == [("10.0.0.1", 48)], "a person may say that it belongs there all the same"
    assert books.take(trap(50, 48), 120.0) is None and trap(50).mac not in books.of_mac
    assert books.take(trap(50, 48), 100.0 + module.UPLINK_S + 1) is not None, "it is looked at again some day"


def test_macs_that_left_do_not_make_an_uplink() -> None:
    books = Machines(3)
    for mac in range(10):
        books.take(trap(mac, 48), 100.0 + mac)
        books.take(trap(mac, 48, learnt=False), 100.5 + mac)
    for mac in range(10, 20):  # a switch that says only what it learns: they age
        books.take(trap(mac, 47), 100.0 + mac * module.MACS_AGE_S)
    assert not books.uplinks


def test_a_mac_on_an_uplink_and_on_its_own_port_is_offered_with_both() -> None:
    books = Machines(8)
    books.take(trap(1, 48, "10.0.0.2"), 100.0)
    books.take(trap(1, 7), 100.2)
    machine = books.next(102.0, ())
    assert machine is not None and machine.work().places == [["10.0.0.1", 7, 1], ["10.0.0.2", 48, 1]]
    books.settle(machine, done(machine, uplinks=[["10.0.0.2", 48]]), 102.0)
    assert books.take(trap(2, 48, "10.0.0.2"), 103.0) is None and books.counts["on_uplinks"] == 1


def test_one_that_moves_is_offered_with_its_new_place_alone() -> None:
    books = Machines(8)
    books.take(trap(1, 7), 100.0)
    machine = books.next(102.0, ())
    assert machine is not None
    books.settle(machine, done(machine), 102.0)
    books.take(trap(1, 9), 200.0)
    machine = books.next(202.0, ())
    assert machine is not None and machine.work().places == [["10.0.0.1", 9, 1]]


def test_one_that_a_trap_moves_is_at_its_new_port_alone_and_at_once() -> None:
    books = Machines(8)
    books.take(trap(1, 5), 100.0)
    for port, learnt in ((7, True), (5, False)):  # as the receiver hands a move on
        books.take(trap(1, port, learnt=learnt), 100.5)
    machine = books.next(102.0, ())
    assert machine is not None and machine.work().places == [["10.0.0.1", 7, 1]]
    assert trap(1).mac not in books.of_port[("10.0.0.1", 5)]


def test_a_port_by_another_numbering_is_counted_kept_and_marked_as_any_other() -> None:
    books, port = Machines(3), "ifIndex 10105 (refused)"
    books.take(trap(1, port), 100.0)
    machine = books.next(102.0, ())
    assert machine is not None and machine.work().places == [["10.0.0.1", port, 1]]
    machine.bmc_at = (("10.0.0.1", port), 100.0)
    again = Machine.of_record(machine.record() | {"mac": machine.mac}, 102.0)
    assert again.work() == machine.work() and again.bmc_at == machine.bmc_at
    books.settle(machine, done(machine, uplinks=[["10.0.0.1", port]]), 102.0)
    assert books.take(trap(2, port), 103.0) is None and books.counts["on_uplinks"] == 1
    for mac in range(10, 14):
        books.take(trap(mac, "portId 4"), 104.0)
    assert ("10.0.0.1", "portId 4") in books.uplinks


@pytest.mark.parametrize("port", ["5", "ifIndex", "ifIndex -1", "ifIndex 5 (refused) ", "other 5", "ifIndex ٥", True])
def test_a_record_with_a_port_that_no_trap_has_is_none(port: object) -> None:
    record = Machine(trap(1).mac).record() | {"mac": trap(1).mac, "places": [["10.0.0.1", port, 1]]}
    with pytest.raises(ValueError, match="place"):
        Machine.of_record(record, 0.0)


def test_a_loop_waits() -> None:
    books = Machines(8)
    for number in range(40):
        books.take(trap(1, 7 + number % 2, f"10.0.0.{1 + number % 2}"), 100.0 + number * 40)
    assert books.counts["looping"] == 0
    for number in range(40):
        books.take(trap(1, number), 2000.0 + number / 10)
    machine = books.of_mac[trap(1).mac]
    assert machine.state == "waits" and "a loop?" in machine.reason
    assert books.next(2010.0, ()) is None


def test_a_trap_while_it_is_worked_on_is_not_lost() -> None:
    books = Machines(8)
    books.take(trap(1, 7), 100.0)
    machine = books.next(102.0, ())
    assert machine is not None
    books.take(trap(1, 9), 102.1)
    books.settle(machine, done(machine), 102.2)
    assert machine.state == "seen" and books.next(104.0, ()) is machine


def test_what_waits_and_what_failed_come_again_by_themselves_less_and_less_often() -> None:
    for state, first, most in (("waits", 300.0, 3600.0), ("down", 0.5, 60.0), ("retry", 0.5, 60.0)):
        books = Machines(8)
        books.take(trap(1), 0.0)
        now, pauses = 2.0, []
        for _ in range(15):
            machine = books.next(now, ())
            assert machine is not None, state
            books.settle(machine, done(machine, state), now)
            assert machine.due_s is not None
            pauses.append(machine.due_s - now)
            now = machine.due_s
        assert pauses[0] == first and pauses[-1] == most and pauses == sorted(pauses)


def test_a_lane_may_stay_with_its_switch() -> None:
    books = Machines(8)
    for number in range(6):
        books.take(trap(number, number, f"10.0.0.{1 + number % 2}"), 100.0)
    served = [books.next(102.0, (), stay="10.0.0.2") for _turn in range(6)]
    assert [machine and machine.queue for machine in served] == ["10.0.0.2"] * 3 + ["10.0.0.1"] * 3
    assert books.next(102.0, (), stay="10.0.0.2") is None


def test_switches_take_turns_and_one_has_a_rate() -> None:
    books = Machines(8)
    for number in range(1000):
        books.take(trap(number, number % 500, "10.0.0.1"), 100.0)
    for number in range(1000, 1010):
        books.take(trap(number, number, "10.0.0.2"), 100.5)
    served = []
    while (machine := books.next(102.0, ())) is not None:
        served.append(machine.queue)
        books.settle(machine, done(machine, "known"), 102.0)
    assert served[:20].count("10.0.0.2") == 10, "those of the quiet switch do not wait for the busy one"
    assert served.count("10.0.0.1") == module.PER_SWITCH_BURST
    more = 0
    while (machine := books.next(103.0, ())) is not None:
        more += 1
        books.settle(machine, done(machine, "known"), 103.0)
    assert more == module.PER_SWITCH_PER_S


def test_a_switch_that_is_busy_or_paused_is_passed_over() -> None:
    books = Machines(8)
    for switch in ("10.0.0.1", "10.0.0.2"):
        books.take(trap(int(switch[-1]), 1, switch), 100.0)
    books.pace("10.0.0.2").paused_s = 500.0
    assert books.next(102.0, {"10.0.0.1"}) is None
    machine = books.next(102.0, ())
    assert machine is not None and machine.queue == "10.0.0.1"
    assert books.next(200.0, ()) is None
    machine = books.next(501.0, ())
    assert machine is not None and machine.queue == "10.0.0.2"


def test_memory_is_bounded_and_what_does_not_fit_is_counted() -> None:
    books = Machines(8, most=100)
    for number in range(300):
        books.take(trap(number, number), 100.0)
    assert len(books.of_mac) == 100 and books.counts["dropped_full"] == 200
    while (machine := books.next(300.0, ())) is not None:
        books.settle(machine, done(machine, "known"), 300.0)
    for number in range(300, 390):
        assert books.take(trap(number, number), 301.0) is not None
    assert len(books.of_mac) == 100 and books.counts["dropped_full"] == 200
    assert len(books.due) <= 4 * 100 + 1


def test_records_come_back_as_they_were() -> None:
    books = Machines(8)
    books.take(trap(1, 7, vlan=12), 100.0)
    machine = books.of_mac[trap(1).mac]
    machine.roles, machine.name, machine.adopted, machine.server = frozenset({"bmc"}), "s1", True, "s1"
    again = Machine.of_record(machine.record() | {"mac": machine.mac}, 5.0)
    assert again.work() == machine.work() and again.record() == machine.record()
    for broken in ({}, {"mac": "m", "state": "seen"}, machine.record() | {"mac": "m", "places": [["x"]]}):
        with pytest.raises((KeyError, TypeError, ValueError)):
            Machine.of_record(broken, 0.0)
