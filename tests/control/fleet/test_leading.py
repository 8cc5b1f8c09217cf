"""What a leader writes, in which order, and what it makes of the answers."""

from __future__ import annotations

from dataclasses import replace

from control.fleet import election, leading
from control.fleet.actions import Announce, Build, PutBlobs, ReadHead, Resign, WriteHead
from control.fleet.canary import Canary
from control.fleet.heads import Site, read_head, sealed_head
from control.fleet.leading import Leading, Phase
from control.fleet.messages import NOWHERE, Announcement, Blob, Content, Have, Head, Mark, Order, Verb, decode, encode
from control.fleet.signing import sealed
from tests.fleet.keys import LEADERS, OPERATORS, STRANGER

SITE = Site(host="a", shard="dc1", signer=LEADERS, keys=LEADERS, operators=OPERATORS, layout=6, canary=Canary())
WALL_S = 1_800_000_000


def content(name: str) -> Content:
    octets = name.encode()
    return Content(6, octets * 32, 10, b"", Blob(octets * 32, 1, 1), None)


ONE, TWO = content("1"), content("2")
HEAD = Head(shard="dc1", mark=Mark(5, 3, 7), leader="b", created_s=0, stable=ONE)


def begun(site: Site = SITE, own: Content | None = ONE, newest: Head | None = HEAD, revision: int = 9) -> Leading:
    state, actions = leading.begin(Leading(site=site, wall_s=WALL_S), revision, own, newest, 0)
    assert actions == (ReadHead(True, 0),)
    return state


def written(actions: tuple[object, ...]) -> Head:
    return read_head(SITE, next(action.value for action in actions if isinstance(action, WriteHead)))


def have(head: Head, refused: str = "") -> Have:
    return Have(shard="dc1", host="c", mark=head.mark, serves=head.stable.digest, refused=refused, served_s=0,
                restarts=0, abandoned=0, proof=sealed_head(SITE, head))  # fmt: skip


def leader(site: Site = SITE) -> Leading:
    state, actions = leading.head_read(begun(site), 0, sealed_head(SITE, HEAD), 40, 1)
    state, actions = leading.head_written(state, state.generation, 41, 2)
    assert state.phase is Phase.LEADS and isinstance(actions[0], Announce)
    return state


def test_the_head_is_claimed_before_anything_else() -> None:
    state, actions = leading.head_read(begun(), 0, sealed_head(SITE, HEAD), 40, 1)
    assert isinstance(actions[0], WriteHead) and actions[0].last == 40
    claim = written(actions)
    assert (claim.mark, claim.stable, claim.leader) == (Mark(5, 9, 1), ONE, "a")
    lease = election.Election(host="a", session=b"a" * 16, held=9, until_ms=8_000)
    assert not leading.may_write(lease, state, 1, 100)
    state, actions = leading.head_written(state, 1, 41, 2)
    assert decode(Announcement, actions[0].value).mark == claim.mark  # type: ignore[attr-defined]
    assert leading.may_write(lease, state, 2, 7_997) and not leading.may_write(lease, state, 2, 7_998)


def test_a_conflict_is_read_and_an_earlier_leader_s_late_head_is_written_over() -> None:
    state, _ = leading.head_read(begun(), 0, sealed_head(SITE, HEAD), 40, 1)
    state, actions = leading.head_written(state, 1, 0, 2)
    assert actions == (ReadHead(True, 2),)
    late = replace(HEAD, mark=Mark(5, 3, 8), stable=TWO)
    state, actions = leading.head_read(state, 2, sealed_head(SITE, late), 41, 3)
    claim = written(actions)
    assert claim.mark == Mark(5, 9, 2) and claim.stable == TWO


def test_a_head_of_ours_whose_answer_was_lost_is_found() -> None:
    state, actions = leading.head_read(begun(), 0, sealed_head(SITE, HEAD), 40, 1)
    value = next(action.value for action in actions if isinstance(action, WriteHead))
    state, actions = leading.tick(state, WALL_S, 2_001)
    assert actions == (ReadHead(True, 2_001),)
    state, actions = leading.head_read(state, 2_001, value, 41, 2_010)
    assert state.phase is Phase.LEADS and state.head_revision == 41


def test_a_table_whose_head_came_to_nothing_is_published_again() -> None:
    """Once: also where it is in the store after all."""
    state, _ = leading.built(leader(), TWO, 1, 10)
    state, actions = leading.blobs_put(state, TWO.digest, True, 20)
    lost = next(action.value for action in actions if isinstance(action, WriteHead))
    before = state.attempts[-2]
    waiting, _ = leading.tick(state, WALL_S, 2_021)
    state, actions = leading.head_read(waiting, 2_021, before, 41, 2_030)
    assert written(actions).stable == TWO
    state, actions = leading.head_written(state, state.generation, 42, 2_040)
    assert not [action for action in actions if isinstance(action, WriteHead)] and state.wants is None
    state, actions = leading.head_read(waiting, 2_021, lost, 42, 2_030)
    assert not [action for action in actions if isinstance(action, WriteHead)] and state.wants is None


def test_a_number_is_used_once() -> None:
    state, actions = leading.head_read(begun(), 0, sealed_head(SITE, HEAD), 40, 1)
    first = written(actions)
    state, _ = leading.tick(state, WALL_S, 2_001)
    state, actions = leading.head_read(state, 2_001, sealed_head(SITE, HEAD), 40, 2_010)
    assert written(actions).mark.generation == first.mark.generation + 1


def test_a_head_above_ours_ends_the_lead() -> None:
    state, _ = leading.tick(leader(), WALL_S, 6_000)
    above = replace(HEAD, mark=Mark(5, 10, 1))
    state, actions = leading.head_read(state, 6_000, sealed_head(SITE, above), 50, 6_001)
    assert isinstance(actions[0], Resign) and state.phase is Phase.IDLE


def test_a_forged_head_in_the_store_is_written_over() -> None:
    state, _ = leading.tick(leader(), WALL_S, 6_000)
    forged = sealed(encode(replace(HEAD, mark=Mark(9, 9, 9), stable=TWO)), STRANGER)
    state, actions = leading.head_read(state, 6_000, forged, 50, 6_001)
    assert decode(Announcement, actions[0].value).mark == NOWHERE  # type: ignore[attr-defined]
    state, actions = leading.tick(state, WALL_S, 8_001)
    assert actions == (PutBlobs(ONE),)
    state, actions = leading.blobs_put(state, ONE.digest, True, 8_002)
    assert written(actions).stable == ONE and actions[0].last == 50  # type: ignore[attr-defined]


def test_an_older_head_that_somebody_puts_back_is_written_over() -> None:
    """One of ours, or of the leader before: neither is what the store ought to have."""
    first = leader()
    state, _actions = leading.built(first, TWO, 10_000, 100)
    state, actions = leading.blobs_put(state, TWO.digest, True, 200)
    newer, raw = written(actions), first.attempts[-1]
    state, _actions = leading.head_written(state, newer.mark.generation, 42, 300)
    for older in (raw, sealed_head(SITE, HEAD)):
        looks, (ask,) = leading.tick(state, WALL_S, 6_000)
        _state, actions = leading.head_read(looks, ask.asked_ms, older, 43, 6_010)
        assert isinstance(actions[0], WriteHead) and actions[0].last == 43
        again = written(actions)
        assert again.stable == TWO and again.mark > newer.mark


def test_in_an_empty_store_the_epoch_goes_on_above_all_that_anybody_proves() -> None:
    state = begun(revision=1)
    state, actions = leading.head_read(state, 0, None, 0, 1)
    assert decode(Announcement, actions[0].value).mark == NOWHERE, "tell me"  # type: ignore[attr-defined]
    newer = replace(HEAD, mark=Mark(2 * WALL_S, 3, 7), orders=4, failed=b"f" * 32)
    state, _ = leading.have_heard(state, have(newer), 2)
    state, actions = leading.tick(state, WALL_S, 2_001)
    assert actions == (PutBlobs(ONE),)
    state, actions = leading.blobs_put(state, ONE.digest, True, 2_002)
    head = written(actions)
    assert head.mark.epoch == (2 * WALL_S + 1, 1) and (head.orders, head.failed) == (4, b"f" * 32)


def test_a_mark_without_proof_counts_nothing() -> None:
    state = leader()
    lie = replace(have(HEAD), mark=Mark(1 << 50, 1, 1), proof=sealed(encode(HEAD), STRANGER))
    assert leading.have_heard(state, lie, 3) == (state, ())


def test_an_older_table_than_others_serve_is_not_published() -> None:
    """This machine was away; the store is empty: the inventory is read instead."""
    state, _ = leading.head_read(begun(revision=1), 0, None, 0, 1)
    state, _ = leading.have_heard(state, have(replace(HEAD, mark=Mark(5, 3, 8), stable=TWO)), 2)
    state, actions = leading.tick(state, WALL_S, 2_001)
    assert actions == (Build(),)


def test_in_an_empty_store_a_table_that_is_new_to_all_is_tried_first() -> None:
    """Who serves the stable one needs no blobs of it."""
    site = replace(SITE, canary=Canary(hosts=("c",)))
    state, _ = leading.head_read(begun(site, own=TWO, revision=1), 0, None, 0, 1)
    state, actions = leading.tick(state, WALL_S, 2_001)
    assert actions == (Build(),)
    state, actions = leading.built(state, TWO, 0, 2_002)
    assert actions == (PutBlobs(TWO),)
    state, actions = leading.blobs_put(state, TWO.digest, True, 2_003)
    head = written(actions)
    assert (head.stable, head.trial, head.canary) == (ONE, TWO, ("c",))


def test_blobs_are_in_the_store_before_the_head_names_them() -> None:
    state, actions = leading.built(leader(), TWO, 5, 10)
    assert actions == (PutBlobs(TWO),)
    state, actions = leading.blobs_put(state, TWO.digest, True, 20)
    head = written(actions)
    assert (head.stable, head.kept, head.trial) == (TWO, (ONE,), None)


def test_a_new_base_goes_to_the_canaries_first() -> None:
    site = replace(SITE, canary=Canary(hosts=("c",)))
    state, _ = leading.built(leader(site), TWO, 0, 10)
    state, actions = leading.blobs_put(state, TWO.digest, True, 20)
    head = written(actions)
    assert (head.stable, head.trial, head.canary) == (ONE, TWO, ("c",))


def test_a_table_that_the_inventory_confirms_is_dated_anew_once_a_minute() -> None:
    state = leader()
    dated = state.head.created_s if state.head else 0
    same, actions = leading.built(state._replace(wall_s=dated + 59), ONE, 0, 100)
    assert actions == () and same.wants is None
    for later in (dated + 60, dated - 60):  # whose clock was set, or another leader's was wrong
        _state, actions = leading.built(state._replace(wall_s=later), ONE, 0, 100)
        assert written(actions).created_s == later and written(actions).stable == ONE
    held = state._replace(head=replace(state.head, held=True)) if state.head else state
    assert leading.built(held._replace(wall_s=dated + 60), ONE, 0, 100)[1] == ()


def test_a_table_that_failed_is_not_tried_again() -> None:
    state = leader()
    assert state.head is not None
    state = state._replace(head=replace(state.head, failed=TWO.digest))
    assert leading.built(state, TWO, 5, 10)[1] == ()


def test_nothing_new_is_published_while_it_is_held_or_after_a_rollback() -> None:
    state = leader()
    assert state.head is not None
    for head in (replace(state.head, held=True), replace(state.head, pinned=True)):
        assert leading.built(state._replace(head=head), TWO, 5, 10)[1] == ()


def test_an_order_is_one_head() -> None:
    order = Order(shard="dc1", number=1, verb=Verb.HOLD, digest=b"")
    state, actions = leading.ordered(leader(), order, 10)
    assert written(actions).held and written(actions).orders == 1
    state, _ = leading.head_written(state, state.generation, 42, 11)
    state, actions = leading.ordered(state, order, 12)
    assert actions == () and state.refused.startswith("old-order")


def test_chunks_that_went_missing_are_put_again() -> None:
    state = leader()
    assert state.head is not None
    state, actions = leading.have_heard(state, have(state.head, "blob-missing: abc"), 10)
    assert actions == (PutBlobs(ONE),)
    state, actions = leading.blobs_put(state, ONE.digest, True, 11)
    assert actions == () and not state.missing


def test_without_the_lead_nothing_is_written() -> None:
    state = leading.end(leader())
    order = Order(shard="dc1", number=1, verb=Verb.HOLD, digest=b"")
    for step in (
        leading.built(state, TWO, 5, 10), leading.ordered(state, order, 10), leading.have_heard(state, have(HEAD), 10),
        leading.tick(state, WALL_S, 10), leading.head_read(state, 0, None, 0, 10),
        leading.blobs_put(state, b"", True, 1),
    ):  # fmt: skip
        assert step[1] == ()
