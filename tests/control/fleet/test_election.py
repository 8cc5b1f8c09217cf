"""Who leads, step by step: the lease as the engine has it, and a clock that the test turns."""

from __future__ import annotations

from control.fleet import election
from control.fleet.actions import Lead, ReadLease, StepDown, WriteLease
from control.fleet.election import Election, leads, time_left
from control.fleet.messages import Lease, decode, encode

FREE = encode(Lease(holder="", session=bytes(16), beat=0))
OTHERS = encode(Lease(holder="b", session=b"b" * 16, beat=1))


def fresh() -> Election:
    return Election(host="a", session=b"a" * 16)


def look(state: Election, value: bytes | None, revision: int, now: int) -> election.Step:
    return election.lease_read(state, now, value, revision, now)


def takes(actions: tuple[object, ...]) -> bool:
    return any(isinstance(action, WriteLease) for action in actions)


def taken(revision: int = 5, now: int = 1_000) -> Election:
    state, actions = look(fresh(), FREE, revision - 1, now)
    assert isinstance(actions[0], WriteLease)
    state, actions = election.lease_written(state, actions[0].beat, revision, now + 10)
    assert actions == (Lead(revision),) and leads(state, now + 10)
    return state


def test_a_free_lease_is_taken_by_compare_and_set() -> None:
    _state, actions = look(fresh(), FREE, 4, 1_000)
    assert isinstance(actions[0], WriteLease)
    assert (actions[0].last, decode(Lease, actions[0].value).holder) == (4, "a")


def test_it_is_believed_from_the_sending_on_and_for_less_than_others_wait() -> None:
    state = taken(now=1_000)
    assert time_left(state, 1_010) == 7_990
    assert leads(state, 8_999) and not leads(state, 9_000)
    state, actions = election.tick(state, 9_000)
    assert isinstance(actions[0], StepDown) and state.held == 0


def test_an_answer_that_is_too_late_makes_no_leader() -> None:
    state, actions = look(fresh(), FREE, 4, 1_000)
    state, actions = election.lease_written(state, state.beat, 5, 9_000)
    assert actions == () and not leads(state, 9_000)


def test_another_s_lease_is_free_after_it_stood_still_for_ttl() -> None:
    state, actions = look(fresh(), OTHERS, 7, 1_000)
    assert not takes(actions)
    for now in range(2_000, 11_000, 1_000):
        state, actions = look(state, OTHERS, 7, now)
        assert not takes(actions)
    _state, actions = look(state, OTHERS, 7, 11_000)
    assert isinstance(actions[0], WriteLease) and actions[0].last == 7


def test_a_renewal_begins_the_waiting_anew() -> None:
    state, _ = look(fresh(), OTHERS, 7, 1_000)
    state, _ = look(state, encode(Lease(holder="b", session=b"b" * 16, beat=2)), 8, 10_000)
    _state, actions = look(state, encode(Lease(holder="b", session=b"b" * 16, beat=2)), 8, 11_500)
    assert not takes(actions)


def test_what_was_read_before_a_stop_decides_nothing() -> None:
    """Stopped for a minute: the lease may be another's by now, also at the same revision of a store that was wiped."""
    state, _ = look(fresh(), OTHERS, 7, 1_000)
    _state, actions = election.tick(state, 61_000)
    assert actions == (ReadLease(61_000),)


def test_a_missing_lease_makes_no_leader_before_all_that_was_is_over() -> None:
    """The store was wiped, or nobody made it: who held the lease may believe in it for a while."""
    state, actions = look(fresh(), None, 0, 1_000)
    assert isinstance(actions[0], WriteLease) and actions[0].last == 0
    state, actions = election.lease_written(state, state.beat, 1, 1_010)
    quiet_until = 1_010 + state.timing.quiet_ms
    now, revision = 1_010, 1
    while now < quiet_until - 1_000:
        assert actions == () or not isinstance(actions[-1], Lead)
        now += 1_000
        state, actions = election.tick(state, now)
        assert not leads(state, now)
        for action in actions:
            if isinstance(action, ReadLease):
                state, actions = look(state, encode(Lease(holder="a", session=b"a" * 16, beat=1)), revision, now + 5)
                assert isinstance(actions[0], WriteLease) and actions[0].last == revision
                revision += 1
                state, actions = election.lease_written(state, actions[0].beat, revision, now + 10)
    state, actions = election.tick(state, quiet_until)
    assert Lead(1) in actions and leads(state, quiet_until)


def test_it_is_quiet_as_well_if_the_answer_to_the_making_was_lost_or_the_request_came_twice() -> None:
    ours = encode(Lease(holder="a", session=b"a" * 16, beat=1))
    state, _ = look(fresh(), None, 0, 1_000)
    state, actions = election.lease_written(state, state.beat, 0, 1_010)
    assert actions == (ReadLease(1_010),), "the second copy met the first"
    state, actions = look(state, ours, 1, 1_010)
    assert isinstance(actions[0], WriteLease) and actions[0].last == 1
    state, actions = election.lease_written(state, actions[0].beat, 2, 1_020)
    assert actions == () and state.held == 2 and not leads(state, 1_020)
    assert state.quiet_until_ms == 1_020 + state.timing.quiet_ms


def test_a_renewal_looks_first() -> None:
    """After a loss of the store an old revision may fit another's lease."""
    state, actions = election.tick(taken(5), 4_000)
    assert actions == (ReadLease(4_000),)
    state, actions = look(state, encode(Lease(holder="a", session=b"a" * 16, beat=1)), 5, 4_000)
    assert isinstance(actions[0], WriteLease) and actions[0].last == 5
    state, actions = election.lease_written(state, actions[0].beat, 6, 4_010)
    assert actions == () and time_left(state, 4_010) == 7_990


def test_another_s_lease_in_the_place_of_ours_ends_the_lead_at_once() -> None:
    for value in (OTHERS, None):
        state, _ = election.tick(taken(5), 4_000)
        state, actions = look(state, value, 5, 4_000)
        assert isinstance(actions[0], StepDown) and not leads(state, 4_000)


def test_a_renewal_whose_answer_was_lost_is_found() -> None:
    state, _ = election.tick(taken(5), 4_000)
    state, actions = look(state, encode(Lease(holder="a", session=b"a" * 16, beat=1)), 5, 4_000)
    state, actions = election.tick(state, 6_500)
    assert actions == (ReadLease(6_500),)
    state, actions = look(state, encode(Lease(holder="a", session=b"a" * 16, beat=2)), 6, 6_500)
    assert isinstance(actions[0], WriteLease) and actions[0].last == 6 and leads(state, 6_500)


def test_an_earlier_process_of_this_host_is_waited_for() -> None:
    _state, actions = look(fresh(), encode(Lease(holder="a", session=b"before-before-be", beat=9)), 9, 1_000)
    assert not takes(actions)


def test_what_is_no_lease_is_waited_for_and_written_over() -> None:
    state, actions = look(fresh(), b"\xc1", 3, 1_000)
    assert not takes(actions)
    state, _ = look(state, b"\xc1", 3, 10_500)
    _state, actions = look(state, b"\xc1", 3, 11_500)
    assert isinstance(actions[0], WriteLease) and actions[0].last == 3


def test_who_may_not_lead_looks_and_writes_nothing() -> None:
    _state, actions = look(Election(host="a", session=b"a" * 16, may_lead=False), FREE, 4, 1_000)
    assert not takes(actions)


def test_an_orderly_end_leaves_the_lease_free() -> None:
    state, actions = election.release(taken(5), 0, 2_000)
    assert isinstance(actions[0], StepDown) and isinstance(actions[1], WriteLease)
    assert decode(Lease, actions[1].value).holder == "" and actions[1].last == 5 and not leads(state, 2_000)


def test_a_request_that_may_be_under_way_keeps_the_lease_until_it_runs_out() -> None:
    """The next leader begins after whatever the inventory still does with it."""
    state = taken(5)
    for busy_ms, now in ((4_900, 2_000), (4_900, 6_899)):
        assert election.release(state, busy_ms, now) == (state, ())
    _state, actions = election.release(state, 4_900, 6_900)
    assert isinstance(actions[1], WriteLease)


def test_a_lease_that_was_made_anew_is_not_given_back_before_it_was_led_by() -> None:
    """Found by the simulator: whoever took it then was not quiet, and the lost one was believed in still."""
    state, actions = look(fresh(), None, 0, 1_000)
    assert isinstance(actions[0], WriteLease)
    state, _actions = election.lease_written(state, actions[0].beat, 1, 1_010)
    assert state.held == 1 and election.release(state, 0, 2_000) == (state, ())
