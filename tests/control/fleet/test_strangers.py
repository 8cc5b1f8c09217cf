"""Look-ups by way of the leader: asked again, given up, shared, within budgets, one question at a time."""

from __future__ import annotations

from control.fleet import strangers
from control.fleet.actions import Action, Actions, Answer, AskLeader, Learnt, LookInto
from control.fleet.messages import LookedUp, LookUp, decode, encode
from control.fleet.strangers import Answering, Asking, Found

SESSION = b"s" * 16


def mac(number: int) -> bytes:
    return number.to_bytes(6, "big")


def asking() -> Asking:
    return Asking("dc1", "b", SESSION)


def wish(number: int = 1, host: str = "b", macs: tuple[bytes, ...] = (mac(1),), asked: bool = False) -> LookUp:
    return LookUp(shard="dc1", host=host, session=SESSION, number=number, macs=macs, names=(), asked=asked)


def leader() -> Answering:
    return Answering("dc1", "a")


def given(actions: Actions) -> list[LookedUp]:
    return [decode(LookedUp, action.value) for action in actions if isinstance(action, Answer)]


def only(actions: Actions) -> Action:
    (action,) = actions
    return action


def test_it_is_asked_again_until_it_is_answered() -> None:
    state, actions = strangers.ask(asking(), [mac(1)], [], False, 1_000)
    first = only(actions)
    assert isinstance(first, AskLeader) and decode(LookUp, first.value) == wish()
    assert strangers.tick(state, 1_999) == (state, ())
    state, actions = strangers.tick(state, 2_000)
    assert only(actions) == first
    said = LookedUp(host="b", session=SESSION, number=1, missing=(mac(1),))
    state, actions = strangers.answered(state, said)
    assert only(actions) == Learnt(said) and not state.under_way
    assert strangers.answered(state, said) == (state, ()), "doubled"


def test_it_is_given_up_with_a_reason() -> None:
    """A person waits for longer than a stranger, who asks again by himself."""
    for asked, limit_ms in ((False, strangers.LIMIT_MS), (True, strangers.ASKED_LIMIT_MS)):
        state, _actions = strangers.ask(asking(), [mac(1)], [], asked, 0)
        for now in range(1_000, limit_ms, 1_000):
            state, actions = strangers.tick(state, now)
            assert isinstance(only(actions), AskLeader)
        state, actions = strangers.tick(state, limit_ms)
        ended = only(actions)
        assert isinstance(ended, Learnt) and not state.under_way
        assert ended.said.fault == f"no leader of the fleet answered within {limit_ms // 1000} s"


def test_an_answer_to_another_is_nobody_s() -> None:
    state, _actions = strangers.ask(asking(), [mac(1)], [], False, 0)
    for said in (
        LookedUp(host="c", session=SESSION, number=1),
        LookedUp(host="b", session=b"t" * 16, number=1),
        LookedUp(host="b", session=SESSION, number=2),
    ):
        assert strangers.answered(state, said) == (state, ())


def test_so_many_wait_and_no_more() -> None:
    state = asking()
    for _ in range(strangers.UNDER_WAY_MAX):
        state, _actions = strangers.ask(state, [mac(1)], [], False, 0)
    state, actions = strangers.ask(state, [mac(1)], [], False, 0)
    refused = only(actions)
    assert isinstance(refused, Learnt) and "8 look-ups wait" in refused.said.fault
    assert refused.said.number == state.number and len(state.under_way) == strangers.UNDER_WAY_MAX


def test_the_leader_asks_once_and_answers_each_as_often_as_he_asks() -> None:
    state, actions = strangers.heard(leader(), wish(macs=(mac(1), mac(2))), 0)
    assert only(actions) == LookInto(1, (mac(1), mac(2)), (), False)
    assert strangers.heard(state, wish(macs=(mac(1), mac(2))), 5) == (state, ()), "again, while it is looked up"
    found = Found(missing=(mac(2), mac(9)), digest=b"d" * 32, counts=(7, 1, 0, 0, 0))
    state, actions = strangers.looked(state, 1, found, 10)
    (said,) = given(actions)
    assert (said.missing, said.digest, said.counts, said.fault) == ((mac(2),), b"d" * 32, (7, 1, 0, 0, 0), "")
    state, actions = strangers.heard(state, wish(macs=(mac(1), mac(2))), 20)
    assert given(actions) == [said], "the answer was lost"
    assert strangers.looked(state, 1, found, 30) == (state, ()), "an answer that is late"


def test_one_question_of_others_at_a_time_and_each_in_its_turn() -> None:
    """So that the leader's own machine waits behind one at most."""
    state, _first = strangers.heard(leader(), wish(host="b", macs=(mac(1),)), 0)
    for number, host in ((2, "b"), (3, "b"), (1, "c"), (1, "d")):
        macs = tuple(mac(1000 * ord(host) + 10 * number + n) for n in range(8))
        state, actions = strangers.heard(state, wish(number, host, macs), 1)
        assert actions == ()
    state, actions = strangers.looked(state, 1, Found(), 2)
    asked = actions[-1]
    assert isinstance(asked, LookInto) and len(asked.macs) == 16
    assert [said.host for said in state.at] == ["c", "d"], "b had its turn"
    state, _actions = strangers.looked(state, 2, Found(), 3)
    assert [said.host for said in state.at] == ["b"]


def test_who_asks_for_the_same_meanwhile_shares_the_answer() -> None:
    state, _actions = strangers.heard(leader(), wish(host="z", macs=(mac(9),)), 0)
    for host in ("b", "c", "d"):
        state, _actions = strangers.heard(state, wish(host=host, macs=(mac(1), mac(2))), 1)
    state, actions = strangers.looked(state, 1, Found(), 2)
    assert isinstance(actions[-1], LookInto) and actions[-1].macs == (mac(1), mac(2))
    state, actions = strangers.looked(state, 2, Found(missing=(mac(1),)), 3)
    assert {(said.host, said.missing) for said in given(actions)} == {(host, (mac(1),)) for host in "bcd"}


def test_who_is_not_there_is_not_asked_for_again_so_soon_but_by_a_person() -> None:
    state, _actions = strangers.heard(leader(), wish(), 0)
    state, _actions = strangers.looked(state, 1, Found(missing=(mac(1),)), 0)
    state, actions = strangers.heard(state, wish(host="c"), 50_000)
    assert given(actions)[0].missing == (mac(1),)
    _state, actions = strangers.heard(state, wish(2, asked=True), 50_000)
    assert isinstance(only(actions), LookInto)
    _state, actions = strangers.heard(state, wish(3), 60_000)
    assert isinstance(only(actions), LookInto)


def flooded(state: Answering, host: str, seconds: int, first: int = 0) -> tuple[Answering, int, set[str]]:
    """16 new MACs every 50 ms, each answered at once; how many the inventory was asked for, and what was said else."""
    asked, faults, number = 0, set[str](), first
    for now in range(0, seconds * 1000, 50):
        number += 1
        state, actions = strangers.heard(state, wish(number, host, tuple(mac(number * 16 + n) for n in range(16))), now)
        for action in actions:
            if isinstance(action, LookInto):
                asked += len(action.macs)
                state, _answers = strangers.looked(state, action.number, Found(), now)
        faults |= {said.fault for said in given(actions)}
    return state, asked, faults


def test_one_machine_has_its_budget_and_leaves_the_others_theirs() -> None:
    state, asked, faults = flooded(leader(), "b", 10)
    assert 280 <= asked <= strangers.HOST_BURST + 10 * strangers.HOST_PER_S
    assert faults == {"over the budget that the leader has for look-ups of b"}
    _state, actions = strangers.heard(state, wish(1, "c"), 10_000)
    assert isinstance(only(actions), LookInto), "another machine"
    _state, actions = strangers.heard(state, wish(10_000, "b", asked=True), 10_000)
    assert isinstance(only(actions), LookInto), "a person there"


def test_all_others_together_have_one_as_well() -> None:
    state, asked = leader(), 0
    for host in "bcdefgh":
        state, more, _faults = flooded(state, host, 1, first=1_000 * ord(host))
        asked += more
    assert asked <= strangers.TOTAL_BURST + 7 * strangers.TOTAL_PER_S


def test_a_planner_that_says_nothing_is_not_waited_for_for_ever() -> None:
    state, _actions = strangers.heard(leader(), wish(), 0)
    assert strangers.tick_leader(state, strangers.LOOK_MS - 1)[1] == ()
    state, actions = strangers.tick_leader(state, strangers.LOOK_MS)
    assert actions == () and not state.at
    _state, actions = strangers.heard(state, wish(2), strangers.LOOK_MS)
    assert only(actions) == LookInto(2, (mac(1),), (), False)


def test_who_waits_too_long_asks_somebody_else() -> None:
    """And the end of the lead is the end of what waits: the budgets stay."""
    state, _actions = strangers.heard(leader(), wish(1, "b"), 0)
    state, _actions = strangers.heard(state, wish(1, "c", (mac(5),)), 0)
    state, actions = strangers.looked(state, 1, Found(), strangers.LIMIT_MS)
    assert [type(action) for action in actions] == [Answer] and not state.waiting
    ended = strangers.end(state)
    assert not ended.given and not ended.at and ended.budgets == state.budgets


def test_another_shard_s_is_not_answered() -> None:
    other = LookUp(shard="dc2", host="b", session=SESSION, number=1, macs=(mac(1),), names=(), asked=False)
    assert strangers.heard(leader(), other, 0) == (leader(), ())


def test_a_fault_is_printable_and_short() -> None:
    said = strangers.failed(wish(), "Gr\u00f6\u00dfe " * 100)
    assert decode(LookedUp, encode(said)) == said
