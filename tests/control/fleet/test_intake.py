"""A trap stays with who received it until the leader's journal has it; what is remembered has bounds."""

from __future__ import annotations

from control.fleet import intake
from control.fleet.actions import Confirm, Journal, PassOn
from control.fleet.intake import Intake, Spool
from control.fleet.messages import Journaled, Seen, decode

SPOOL = b"12345678"


def spool() -> Spool:
    return Spool(host="b", spool=SPOOL, waiting={})


def said(number: int = 1, host: str = "b") -> Seen:
    return Seen(host=host, spool=SPOOL, number=number, what=b"trap")


def leader() -> Intake:
    return intake.started(())


def test_it_is_passed_on_at_once_and_again_until_it_is_confirmed() -> None:
    state, actions = intake.kept(spool(), 1, b"trap")
    (passed,) = actions
    assert isinstance(passed, PassOn) and decode(Seen, passed.value) == said()
    state, again = intake.tick(state, 5_000)
    assert again == actions and intake.tick(state, 9_999) == (state, ())
    for other in (
        Journaled(host="c", spool=SPOOL, numbers=(1,)),
        Journaled(host="b", spool=b"another.", numbers=(1,)),
        Journaled(host="b", spool=SPOOL, numbers=(2,)),
    ):
        assert intake.confirmed(state, other) == (state, ())
    state, gone = intake.confirmed(state, Journaled(host="b", spool=SPOOL, numbers=(1, 2)))
    assert gone == (1,) and not state.waiting and intake.tick(state, 60_000) == (state, ())


def test_a_spool_has_an_end() -> None:
    full = Spool(host="b", spool=SPOOL, waiting=dict.fromkeys(range(intake.WAITING_MAX), b""))
    assert not intake.has_room(full) and intake.has_room(spool())


def test_the_leader_confirms_what_is_in_its_journal_and_nothing_before() -> None:
    state, actions = intake.seen(leader(), said(), 0)
    assert actions == (Journal(("b", SPOOL, 1), b"trap"),)
    assert intake.seen(state, said(), 100) == (state, ()), "again, while it is written"
    state, actions = intake.journaled(state, ("b", SPOOL, 1))
    (told,) = actions
    assert isinstance(told, Confirm) and told.host == "b"
    assert decode(Journaled, told.value) == Journaled(host="b", spool=SPOOL, numbers=(1,))
    assert intake.seen(state, said(), 200) == (state, actions), "the confirmation was lost"
    assert intake.seen(intake.started([("b", SPOOL, 1)]), said(), 0)[1] == actions, "after a restart"


def test_what_the_journal_did_not_take_is_taken_again() -> None:
    state, _actions = intake.seen(leader(), said(), 0)
    assert intake.seen(state, said(), intake.UNDER_WAY_MS - 1)[1] == ()
    assert intake.seen(state, said(), intake.UNDER_WAY_MS)[1] == (Journal(("b", SPOOL, 1), b"trap"),)
    assert intake.seen(intake.end(state), said(), 1)[1] == (Journal(("b", SPOOL, 1), b"trap"),), "in another lead"


def test_what_is_remembered_has_bounds() -> None:
    state = leader()
    for number in range(intake.UNDER_WAY_MAX + 10):
        state, _actions = intake.seen(state, said(number), 0)
    assert len(state.under_way) == intake.UNDER_WAY_MAX, "the others stay in their spool"
    state = Intake(dict.fromkeys(("b", SPOOL, number) for number in range(intake.KEYS_MAX)), {})
    state, _actions = intake.journaled(state, ("b", SPOOL, 1 << 40))
    assert len(state.journal) == intake.KEYS_MAX and ("b", SPOOL, 0) not in state.journal
