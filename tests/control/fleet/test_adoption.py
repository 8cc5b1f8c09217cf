"""What a responder accepts, fetches, serves and refuses, message by message."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control.fleet import adoption, intake
from control.fleet.actions import CheckTable, KeepMark, ReadBlob, ReadHead, ReadInventory, Serve, Tell
from control.fleet.adoption import Responder
from control.fleet.canary import Canary
from control.fleet.election import Election
from control.fleet.heads import Site
from control.fleet.leading import Leading
from control.fleet.member import Member
from control.fleet.messages import NOWHERE, Announcement, Blob, Content, Have, Head, Mark, decode, encode
from control.fleet.signing import sealed
from control.fleet.strangers import Answering, Asking
from control.fleet.wire import Reason, Refused
from tests.fleet.keys import LEADERS, OPERATORS, STRANGER, Secret

SITE = Site(host="a", shard="dc1", signer=LEADERS, keys=LEADERS, operators=OPERATORS, layout=6, canary=Canary())


def content(name: str) -> Content:
    octets = name.encode()
    return Content(6, octets * 32, 10, b"", Blob(octets * 32, 1, 1), None)


ONE, TWO = content("1"), content("2")
HEAD = Head(shard="dc1", mark=Mark(5, 3, 7), leader="b", created_s=0, stable=ONE)


def signed(head: Head, by: Secret = LEADERS) -> bytes:
    return sealed(encode(head), by)


def serving(head: Head = HEAD) -> Responder:
    return adoption.started(SITE, signed(head), head.mark, head.stable, 0)


def said(actions: tuple[object, ...]) -> Have:
    return next(decode(Have, action.value) for action in actions if isinstance(action, Tell))


def test_from_a_head_to_the_table() -> None:
    state = adoption.started(SITE, b"", NOWHERE, None, 0)
    state, actions = adoption.head_read(state, signed(HEAD), 1)
    assert actions == (KeepMark(HEAD.mark, signed(HEAD)), ReadBlob(ONE.base, False)), "on disk first"
    state, actions = adoption.blob_read(state, ONE.base.sha256, None, 2)
    assert actions == (CheckTable(ONE),)
    state, actions = adoption.table_checked(state, ONE.digest, None, 3)
    assert actions[0] == Serve(ONE) and said(actions).serves == ONE.digest and said(actions).mark == HEAD.mark


def test_a_delta_on_the_base_that_is_here_is_all_that_is_fetched() -> None:
    delta = ONE._replace(digest=b"3" * 32, delta=Blob(b"d" * 32, 1, 1))
    _state, actions = adoption.head_read(serving(), signed(replace(HEAD, mark=Mark(5, 3, 8), stable=delta)), 1)
    assert [action.blob for action in actions if isinstance(action, ReadBlob)] == [delta.delta]


@pytest.mark.parametrize(
    "raw, reason",
    [
        pytest.param(signed(replace(HEAD, mark=Mark(5, 3, 6), stable=TWO)), Reason.BEHIND, id="generation"),
        pytest.param(signed(replace(HEAD, mark=Mark(5, 2, 99), stable=TWO)), Reason.BEHIND, id="epoch"),
        pytest.param(signed(replace(HEAD, mark=Mark(4, 9, 99), stable=TWO)), Reason.BEHIND, id="incarnation"),
        pytest.param(signed(replace(HEAD, stable=TWO)), Reason.FORKED, id="another of the same mark"),
        pytest.param(signed(replace(HEAD, mark=Mark(6, 1, 1)), STRANGER), Reason.UNKNOWN_KEY, id="a stranger's"),
        pytest.param(signed(replace(HEAD, mark=Mark(6, 1, 1)), OPERATORS), Reason.UNKNOWN_KEY, id="an operator's"),
        pytest.param(signed(replace(HEAD, mark=Mark(6, 1, 1), shard="dc2")), Reason.OTHER_SHARD, id="shard"),
        pytest.param(b"\xc1", Reason.NOT_MSGPACK, id="garbage"),
    ],
)
def test_a_head_that_does_not_count_changes_nothing_and_is_said(raw: bytes, reason: Reason) -> None:
    before = serving()
    state, actions = adoption.head_read(before, raw, 1)
    assert (state.mark, state.head, state.serves, state.goal) == (before.mark, before.head, before.serves, None)
    assert len(actions) == 1 and said(actions).refused.startswith(reason)
    assert adoption.head_read(state, raw, 2)[1] == (), "once"


def test_a_new_incarnation_counts_whatever_its_numbers() -> None:
    state, _ = adoption.head_read(serving(), signed(replace(HEAD, mark=Mark(6, 1, 1), stable=TWO)), 1)
    assert state.mark == Mark(6, 1, 1) and state.goal == TWO


def test_the_mark_counts_even_if_its_head_can_no_longer_be_believed() -> None:
    """The keys were exchanged."""
    state = adoption.started(SITE, signed(HEAD, STRANGER), HEAD.mark, ONE, 0)
    assert state.head is None and state.serves == ONE
    state, _ = adoption.head_read(state, signed(replace(HEAD, mark=Mark(5, 3, 6), stable=TWO)), 1)
    assert state.mark == HEAD.mark and state.refused.startswith(Reason.BEHIND)


def test_after_a_head_that_is_behind_the_hub_is_asked() -> None:
    state, _ = adoption.head_read(serving(), signed(replace(HEAD, mark=Mark(5, 3, 6))), 1)
    _state, actions = adoption.tick(state, 10_000)
    assert ReadHead(True, 10_000) in actions


@pytest.mark.parametrize("reason", [Reason.BLOB_MISSING, Reason.BLOB_WRONG])
def test_a_blob_that_is_not_there_or_wrong_is_asked_for_again_at_the_hub(reason: Reason) -> None:
    state, _ = adoption.head_read(serving(), signed(replace(HEAD, mark=Mark(5, 3, 8), stable=TWO)), 0)
    state, actions = adoption.blob_read(state, TWO.base.sha256, Refused(reason), 1)
    assert state.serves == ONE and said(actions).refused == reason
    state, actions = adoption.tick(state, 1_000)
    assert ReadBlob(TWO.base, True) in actions


def test_a_table_that_is_refused_leaves_the_last_good_one_and_is_tried_again_later() -> None:
    state, _ = adoption.head_read(serving(), signed(replace(HEAD, mark=Mark(5, 3, 8), stable=TWO)), 0)
    state, _ = adoption.blob_read(state, TWO.base.sha256, None, 1)
    state, actions = adoption.table_checked(state, TWO.digest, Refused(Reason.GUARDED, "half of the hosts"), 2)
    assert state.serves == ONE and said(actions).bad == TWO.digest and "half of the hosts" in said(actions).refused
    assert not any(isinstance(action, ReadBlob) for action in adoption.tick(state, 5_000)[1])
    assert ReadBlob(TWO.base, False) in adoption.tick(state, 60_002)[1]


def test_a_restart_between_the_head_and_its_table_goes_on_with_the_table() -> None:
    newer = replace(HEAD, mark=Mark(5, 3, 8), stable=TWO)
    state = adoption.started(SITE, signed(newer), newer.mark, ONE, 0)
    state, actions = adoption.tick(state, 1)
    assert ReadBlob(TWO.base, False) in actions
    assert not any(isinstance(action, ReadBlob) for action in adoption.tick(state, 2)[1]), "once a second"


def test_a_table_of_another_build_is_not_fetched() -> None:
    newer = replace(HEAD, mark=Mark(5, 3, 8), stable=TWO._replace(layout=7))
    state, actions = adoption.head_read(serving(), signed(newer), 0)
    assert state.goal is None and said(actions).refused.startswith(Reason.OTHER_LAYOUT)


def test_canaries_have_the_trial_and_the_others_do_not() -> None:
    head = replace(HEAD, trial=TWO, canary=("c",))
    assert adoption.goal_of(head, "c", ONE) == TWO and adoption.goal_of(head, "a", ONE) == ONE


def test_a_held_head_changes_no_table_but_gives_one() -> None:
    head = replace(HEAD, stable=TWO, held=True)
    assert adoption.goal_of(head, "a", ONE) == ONE and adoption.goal_of(head, "a", None) == TWO


def test_a_hold_that_comes_while_a_table_is_fetched_stops_it() -> None:
    state, _ = adoption.head_read(serving(), signed(replace(HEAD, mark=Mark(5, 3, 8), stable=TWO)), 0)
    held = replace(HEAD, mark=Mark(5, 3, 9), stable=TWO, held=True)
    state, _ = adoption.head_read(state, signed(held), 1)
    state, actions = adoption.blob_read(state, TWO.base.sha256, None, 2)
    assert state.goal is None and actions == ()


def test_an_announcement_is_a_hint_to_read_and_the_hub_is_asked_soon() -> None:
    newer = Announcement(shard="dc1", mark=Mark(5, 3, 8))
    state, actions = adoption.announced(serving(), newer, 1_000)
    assert actions == (ReadHead(False, 1_000),) and state.mark == HEAD.mark
    assert adoption.announced(state, newer, 1_001)[1] == (), "doubled"
    assert adoption.announced(state, replace(newer, mark=HEAD.mark), 1_001)[1] == ()
    assert adoption.announced(state, replace(newer, shard="dc2", mark=Mark(9, 9, 9)), 1_001)[1] == ()
    assert ReadHead(True, 1_200) in adoption.tick(state, 1_200)[1]
    assert said(adoption.announced(state, replace(newer, mark=NOWHERE), 1_001)[1]).mark == HEAD.mark


def test_without_a_table_and_without_a_head_the_inventory_is_read_by_ourselves() -> None:
    state = adoption.started(SITE, b"", NOWHERE, None, 0)
    assert not any(isinstance(action, ReadInventory) for action in adoption.tick(state, 4_000)[1])
    state, actions = adoption.tick(state, 5_000)
    assert ReadInventory() in actions
    state, actions = adoption.inventory_read(state, TWO, 6_000)
    assert actions[0] == Serve(TWO) and state.by_itself
    state, actions = adoption.head_read(state, signed(HEAD), 7_000)
    assert state.goal == ONE, "the fleet's as soon as there is one"


def test_what_is_refused_is_counted_by_reason_and_what_the_workers_have_is_told_at_once() -> None:
    member = Member(
        serving(), Election(host="a", session=b"s" * 16, may_lead=False), Leading(site=SITE),
        intake.Spool(host="a", spool=b"12345678", waiting={}), intake.started(()),
        Asking(SITE.shard, "a", b"s" * 16), Answering(SITE.shard, "a"),
    )  # fmt: skip
    old, new = signed(replace(HEAD, mark=Mark(5, 3, 6))), signed(replace(HEAD, mark=Mark(5, 3, 8), stable=TWO))
    member.head_read(False, 0, old, 1, 1)
    member.head_read(False, 0, old, 1, 2)
    member.head_read(False, 0, new, 2, 3)
    member.blob_read(TWO.base.sha256, Refused(Reason.BLOB_WRONG, "short"), 4)
    member.blob_read(TWO.base.sha256, None, 5)
    member.table_checked(TWO.digest, Refused(Reason.GUARDED, "9 of 10"), 6)
    assert member.refusals == {Reason.BEHIND: 2, Reason.BLOB_WRONG: 1, Reason.GUARDED: 1}
    assert said(member.adopted(ONE.digest, 7)).adopted == ONE.digest
    assert member.adopted(ONE.digest, 8) == (), "no news"


def test_have_tells_the_load_whatever_table_it_was_of() -> None:
    counted = adoption.Counted(b"x" * 32, 9, 1, 1, requests_s=12, replies_s=11, age_s=40)
    state = serving()._replace(counted=counted, site=replace(SITE, version="0.1.0 abc"))
    have = decode(Have, adoption.have_of(state))
    assert (have.served_s, have.restarts) == (0, 0), "of another table than is served"
    assert (have.requests_s, have.replies_s, have.age_s, have.version) == (12, 11, 40, "0.1.0 abc")


def test_what_was_read_by_ourselves_stays_while_the_head_is_held() -> None:
    """Found by the simulator: the fleet's table was on its way, and took its place."""
    state = adoption.started(SITE, b"", NOWHERE, None, 0)
    state, _actions = adoption.head_read(state, signed(replace(HEAD, held=True)), 1_000)
    assert state.goal == ONE
    state, _actions = adoption.inventory_read(state, TWO, 6_000)
    assert state.goal is None and state.serves == TWO
    state, actions = adoption.blob_read(state, ONE.base.sha256, None, 6_100)
    assert actions == () and not any(isinstance(action, ReadBlob) for action in adoption.tick(state, 7_000)[1])
