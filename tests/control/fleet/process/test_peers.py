"""control/fleet/process/peers.py: what a leader knows of the machines, and how it travels."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from control.fleet.messages import Blob, Content, Have, Head, Mark, encode
from control.fleet.process import asking
from control.fleet.process.asking import NotDone, all_serve, behind
from control.fleet.process.node import now_ms
from control.fleet.process.peers import FORGOTTEN_MS, PEERS_MAX, Peers, rows_of
from control.fleet.wire import Refused

HAVE = Have(shard="dc1", host="a", mark=Mark(1, 2, 3), serves=b"s" * 32, refused="", served_s=9, restarts=0,
            abandoned=0, proof=b"")  # fmt: skip


def test_who_was_heard_is_told() -> None:
    peers = Peers("dc1")
    more = {"adopted": b"s" * 32, "requests_s": 12, "replies_s": 11, "age_s": 40, "version": "0.1.0 abc"}
    peers.heard(encode(replace(HAVE, **more)), 1_000)
    peers.heard(encode(replace(HAVE, shard="dc2", host="b")), 1_000)
    peers.heard(b"\xc1", 1_000)
    (row,) = rows_of(peers.packed(3_000))
    assert row == {"host": "a", "mark": [1, 2, 3], "serves": (b"s" * 32).hex(), "refused": "", "served_s": 9,
                   "restarts": 0, "abandoned": 0, "heard_ms": 2_000, "requests_s": 12, "replies_s": 11, "age_s": 40,
                   "version": "0.1.0 abc", "lag_ms": 0, "adopted": (b"s" * 32).hex()}  # fmt: skip
    assert rows_of(peers.packed(2_000 + FORGOTTEN_MS)) == []


def test_no_flood_of_names_fills_the_memory() -> None:
    peers = Peers("dc1")
    for number in range(PEERS_MAX + 10):
        peers.heard(encode(replace(HAVE, host=f"m{number}")), 0)
    assert len(peers.known) == PEERS_MAX
    peers.heard(encode(replace(HAVE, host="m5")), 7)
    assert peers.known["m5"][0] == 7


@pytest.mark.parametrize("raw", [b"", b"\xc1", b"\x91\x01", b"\x91\x91\x01", b"x" * (2 << 20)])
def test_an_answer_that_is_none(raw: bytes) -> None:
    with pytest.raises(Refused):
        rows_of(raw)


def table(name: bytes) -> Content:
    return Content(6, name * 32, 1, b"", Blob(name * 32, 1, 1), None)


HEAD = Head(shard="dc1", mark=Mark(1, 1, 1), leader="x", created_s=0, stable=table(b"s"))


def test_why_a_machine_is_behind() -> None:
    def row(**more: Any) -> dict[str, Any]:
        serves = (b"s" * 32).hex()
        return {"host": "a", "serves": serves, "adopted": serves, "refused": "", "heard_ms": 0} | more

    assert behind(HEAD, row()) == ""
    assert behind(HEAD, row(heard_ms=20_000)) == "not heard of for 20 s"
    assert behind(HEAD, row(serves="")) == "it serves another table"
    assert behind(HEAD, row(adopted="")) == "not all of its workers answer from the table"
    assert behind(HEAD, row(serves="", refused="blob-wrong")) == "blob-wrong"
    assert behind(None, row()) == "there is no head"
    trial = replace(HEAD, trial=table(b"t"), canary=("a",))
    assert behind(trial, row()) == "it serves another table" and behind(trial, row(host="b")) == ""
    assert behind(replace(trial, held=True), row()) == ""


def test_for_how_long_a_machine_has_not_served_what_it_should() -> None:
    peers, newer = Peers("dc1"), replace(HEAD, stable=table(b"n"))
    peers.heard(encode(HAVE), 0)
    peers.heard(encode(replace(HAVE, host="b", serves=b"n" * 32, adopted=b"n" * 32)), 0)
    for now in (1_000, 2_000, 3_000):
        peers.look(newer, now)
    assert [(row["host"], row["lag_ms"]) for row in peers.rows(4_500)] == [("a", 3_500), ("b", 0)]
    assert peers.counts(4_500) == (2, 1) and peers.counts(20_000) == (0, 2), "who is silent is behind as well"
    peers.heard(encode(replace(HAVE, serves=b"n" * 32, adopted=b"n" * 32)), 5_000)
    peers.look(newer, 5_000)
    assert [row["lag_ms"] for row in peers.rows(6_000)] == [0, 0] and peers.counts(6_000) == (2, 0)
    peers.look(newer, FORGOTTEN_MS)
    assert set(peers.known) == {"a"}


def node_of(peers: Peers, head: Head = HEAD) -> Any:
    responder = SimpleNamespace(head=head)
    return SimpleNamespace(peers=peers, news=asyncio.Event(), member=SimpleNamespace(responder=responder))


def test_waiting_for_all_ends_when_the_last_one_s_workers_have_it() -> None:
    peers, now = Peers("dc1"), now_ms()
    node = node_of(peers)

    def tells(host: str, adopted: bytes, ago_ms: int = 0, **more: Any) -> None:
        peers.heard(encode(replace(HAVE, host=host, adopted=adopted, **more)), now_ms() - ago_ms)
        node.news.set()

    async def scene() -> None:
        tells("a", b"s" * 32)
        tells("b", b"")
        tells("gone", b"", ago_ms=20_000)
        waiting = asyncio.ensure_future(all_serve(node, b"s" * 32))
        await asyncio.sleep(0.01)
        assert not waiting.done(), "b serves it, says its control; but not all workers of b answer from it"
        tells("b", b"s" * 32)
        assert await waiting == {"machines": 2, "silent": ["gone"]}
        tells("b", b"", bad=b"t" * 32, refused="guarded: 9 of 10 hosts")
        tells("a", b"t" * 32)
        with pytest.raises(NotDone, match=r"not served by all machines of the shard: b: guarded: 9 of 10 hosts$"):
            await all_serve(node, b"t" * 32)

    asyncio.run(scene())
    assert now_ms() - now < 5_000, "who refuses is not waited for"


def test_waiting_for_all_is_bounded_and_says_who_waits_for_the_canaries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "SERVED_S", 0.05)
    peers = Peers("dc1")
    peers.heard(encode(HAVE), now_ms())
    with pytest.raises(NotDone, match="of the shard: a: not within 0 s"):
        asyncio.run(all_serve(node_of(peers), b"t" * 32))
    trial = replace(HEAD, trial=table(b"t"), canary=("c",))
    with pytest.raises(NotDone, match="of the shard: a: it waits for the canaries"):
        asyncio.run(all_serve(node_of(peers, trial), b"t" * 32))
