"""What becomes of a head by a trial and by orders."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control.fleet import canary, orders
from control.fleet.canary import Canary, Verdict, Watch
from control.fleet.messages import Blob, Content, Have, Head, Mark, Order, Verb
from control.fleet.wire import Reason, Refused

MARK = Mark(1, 1, 1)
CANARY = Canary(hosts=("c1", "c2"), wait_ms=60_000, rows=100)


def content(name: bytes, base: bytes = b"b") -> Content:
    return Content(6, name * 32, 10, b"", Blob(base * 32, 1, 1), None)


HEAD = Head(shard="dc1", mark=MARK, leader="a", created_s=0, stable=content(b"s"))


def have(host: str, serves: bytes, served_s: int = 0, restarts: int = 0, bad: bytes = b"") -> Have:
    return Have(shard="dc1", host=host, mark=MARK, serves=serves * 32, refused="guarded" if bad else "",
                served_s=served_s, restarts=restarts, abandoned=0, proof=b"", bad=bad * 32)  # fmt: skip


def hear(*said: Have) -> Verdict:
    watch = Watch(b"t" * 32)
    for each in said:
        watch = canary.heard(watch, CANARY, CANARY.hosts, each)
    return canary.verdict(watch, CANARY.hosts)


@pytest.mark.parametrize(
    "base, changed, hosts, wanted",
    [(b"n", 0, ("c",), True), (b"b", 101, ("c",), True), (b"b", 100, ("c",), False), (b"n", 500, (), False)],
)
def test_new_bases_and_large_changes_are_tried_first(base: bytes, changed: int, hosts: tuple[str, ...],
                                                     wanted: bool) -> None:  # fmt: skip
    site = Canary(hosts=hosts, rows=100)
    assert canary.needs_trial(site, HEAD.stable, content(b"n", base), changed) is wanted


def test_all_canaries_have_to_have_served_it_for_the_whole_wait() -> None:
    """By their own count: silence and a time out of service are no good news."""
    assert hear() is Verdict.WAIT
    assert hear(have("c1", b"t", 100)) is Verdict.WAIT
    assert hear(have("c1", b"t", 60), have("c2", b"t", 59)) is Verdict.WAIT
    assert hear(have("c1", b"t", 60), have("c2", b"s", 600)) is Verdict.WAIT
    assert hear(have("c1", b"t", 60), have("c2", b"t", 1), have("c2", b"t", 60)) is Verdict.PROMOTE


def test_a_restart_or_a_refusal_of_a_canary_drops_the_trial() -> None:
    assert hear(have("c1", b"t", restarts=1)) is Verdict.DROP
    assert hear(have("c1", b"t", 60), have("c2", b"t", 60), have("c1", b"t", 61, restarts=1)) is Verdict.DROP
    assert hear(have("c1", b"s", bad=b"t")) is Verdict.DROP
    assert hear(have("c1", b"s", restarts=9)) is Verdict.WAIT, "by the table before"
    assert hear(have("x", b"t", restarts=9)) is Verdict.WAIT, "no canary"


def test_what_can_be_gone_back_to() -> None:
    head = HEAD
    for name in b"123456":
        head = orders.with_table(head, content(bytes([name])), ())
    assert [each.digest[:1] for each in (head.stable, *head.kept)] == [b"6", b"5", b"4", b"3"]
    head = orders.with_table(head, content(b"5"), ())
    assert [each.digest[:1] for each in (head.stable, *head.kept)] == [b"5", b"6", b"4", b"3"]


def test_a_trial_is_promoted_or_dropped() -> None:
    tried = orders.with_table(HEAD, content(b"t"), ("c1",))
    assert (tried.stable, tried.trial, tried.canary) == (HEAD.stable, content(b"t"), ("c1",))
    promoted = orders.promoted(tried)
    assert (promoted.stable, promoted.trial, promoted.canary) == (content(b"t"), None, ())
    assert promoted.kept == (HEAD.stable,)
    dropped = orders.dropped(tried)
    assert (dropped.stable, dropped.trial, dropped.failed) == (HEAD.stable, None, b"t" * 32)


def obey(head: Head, verb: Verb, number: int = 1, digest: bytes = b"") -> Head:
    return orders.obeyed(head, Order(shard="dc1", number=number, verb=verb, digest=digest))


def test_orders() -> None:
    tried = orders.with_table(replace(HEAD, kept=(content(b"k"),)), content(b"t"), ("c1",))
    held = obey(tried, Verb.HOLD)
    assert held.held and held.orders == 1
    released = obey(replace(held, pinned=True, failed=b"f" * 32), Verb.RELEASE, 2)
    assert not released.held and not released.pinned and released.failed == b""
    assert obey(tried, Verb.PROMOTE, digest=b"t" * 32).stable == content(b"t")
    back = obey(tried, Verb.ROLLBACK, digest=b"k" * 32)
    assert (back.stable, back.trial, back.pinned, back.failed) == (content(b"k"), None, True, b"t" * 32)


@pytest.mark.parametrize(
    "verb, number, digest, reason",
    [
        (Verb.HOLD, 2, b"", Reason.OLD_ORDER), (Verb.HOLD, 4, b"", Reason.OLD_ORDER),
        (Verb.PROMOTE, 3, b"t" * 32, Reason.NO_TARGET), (Verb.ROLLBACK, 3, b"x" * 32, Reason.NO_TARGET),
    ],
)  # fmt: skip
def test_orders_for_another_head_are_refused(verb: Verb, number: int, digest: bytes, reason: Reason) -> None:
    with pytest.raises(Refused) as fault:
        obey(replace(HEAD, orders=2), verb, number, digest)
    assert fault.value.reason is reason
