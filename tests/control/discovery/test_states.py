"""control/discovery/states.py: the table of moves, and that Machines makes no other."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.discovery.jobs import Outcome
from control.discovery.machines import Machines
from control.discovery.states import (
    AGAIN,
    FORGETTABLE,
    KEPT,
    OUTCOMES,
    TRANSITIONS,
    WAITING,
    Event,
    State,
    done,
    moved,
)
from control.discovery.trapseen import TrapSeen

MACS = [f"02:00:00:00:00:{number:02x}" for number in range(3)]


def test_every_event_has_a_row_and_every_state_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(Event)
    assert {target for _sources, target in TRANSITIONS.values()} | OUTCOMES == set(State)


def test_a_state_is_kept_on_disk_or_may_be_forgotten() -> None:
    assert set(State) == KEPT | FORGETTABLE and not KEPT & FORGETTABLE
    assert WAITING | AGAIN <= OUTCOMES


def test_what_nothing_leads_out_of_is_left_by_news_or_a_person() -> None:
    for state in State:
        events = {event for event, (sources, _target) in TRANSITIONS.items() if state in sources}
        assert state is State.WORKING or Event.ADOPT in events
        assert state in (State.WORKING, State.IGNORED) or Event.NEWS in events


def test_a_move_that_is_not_in_the_table_is_told_and_not_made(caplog: pytest.LogCaptureFixture) -> None:
    assert moved(State.WORKING, Event.TAKEN) is State.WORKING
    assert "a machine that is working cannot be moved by taken" in caplog.text


def test_an_outcome_of_whom_a_person_ignored_meanwhile_is_old() -> None:
    assert done(State.WORKING, State.KNOWN) is State.KNOWN
    assert done(State.IGNORED, State.KNOWN) is State.IGNORED
    assert done(State.SEEN, State.KNOWN) is State.SEEN, "ignored, and adopted after that"


def trap(mac: str, port: int, learnt: bool = True) -> TrapSeen:
    return TrapSeen(switch="sw", port=port, mac=mac, vlan=1, learnt=learnt, boottime_s=0.0)


Step = Callable[[Machines, float], object]


def steps() -> st.SearchStrategy[Step]:
    """Whatever may come to the books, in any order."""
    macs = st.sampled_from(MACS)
    traps = st.builds(
        lambda mac, port, learnt: lambda books, now: books.take(trap(mac, port, learnt), now),
        macs, st.integers(1, 3), st.booleans(),
    )  # fmt: skip

    def settle(mac: str, state: State) -> Step:
        def step(books: Machines, now: float) -> None:
            machine = books.of_mac.get(mac)
            if machine is not None and machine.state is State.WORKING:
                books.settle(machine, Outcome(mac=mac, state=state), now)

        return step

    def person(mac: str, event: Event) -> Step:
        def step(books: Machines, now: float) -> None:
            machine = books.of_mac.get(mac)
            if machine is None:
                return
            if event is Event.IGNORE:
                machine.move(event)
            elif machine.state is not State.WORKING:
                books.start(machine, now, event)

        return step

    take: st.SearchStrategy[Step] = st.just(lambda books, now: books.next(now, ()))
    return st.one_of(
        traps,
        take,
        st.builds(settle, macs, st.sampled_from(sorted(OUTCOMES))),
        st.builds(person, macs, st.sampled_from((Event.IGNORE, Event.ADOPT))),
    )


@given(st.lists(st.tuples(steps(), st.sampled_from((0.0, 0.5, 2.0, 61.0, 400.0))), max_size=60))
def test_the_books_make_no_other_move(done_there: list[tuple[Step, float]]) -> None:
    faults: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: faults.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("bootstorm.discovery")
    logger.addHandler(handler)
    try:
        books, now = Machines(max_macs=2), 1000.0
        for step, later in done_there:
            now += later
            step(books, now)
            for machine in books.of_mac.values():
                assert machine.due_s is None or machine.state is not State.WORKING
    finally:
        logger.removeHandler(handler)
    assert not faults
