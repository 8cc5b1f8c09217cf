"""control/fleet/process/peers.py: what a leader knows of the machines, and how it travels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from control.fleet.messages import Blob, Content, Have, Head, Mark, encode
from control.fleet.process.asking import behind
from control.fleet.process.peers import FORGOTTEN_MS, PEERS_MAX, Peers, rows_of
from control.fleet.wire import Refused

HAVE = Have(shard="dc1", host="a", mark=Mark(1, 2, 3), serves=b"s" * 32, refused="", served_s=9, restarts=0,
            abandoned=0, proof=b"")  # fmt: skip


def test_who_was_heard_is_told() -> None:
    peers = Peers("dc1")
    peers.heard(encode(HAVE), 1_000)
    peers.heard(encode(replace(HAVE, shard="dc2", host="b")), 1_000)
    peers.heard(b"\xc1", 1_000)
    (row,) = rows_of(peers.packed(3_000))
    assert row == {"host": "a", "mark": [1, 2, 3], "serves": (b"s" * 32).hex(), "refused": "", "served_s": 9,
                   "restarts": 0, "abandoned": 0, "heard_ms": 2_000}  # fmt: skip
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


def test_why_a_machine_is_behind() -> None:
    def table(name: bytes) -> Content:
        return Content(6, name * 32, 1, b"", Blob(name * 32, 1, 1), None)

    def row(**more: Any) -> dict[str, Any]:
        return {"host": "a", "serves": (b"s" * 32).hex(), "refused": "", "heard_ms": 0} | more

    head = Head(shard="dc1", mark=Mark(1, 1, 1), leader="x", created_s=0, stable=table(b"s"))
    assert behind(head, row()) == ""
    assert behind(head, row(heard_ms=20_000)) == "not heard of for 20 s"
    assert behind(head, row(serves="")) == "it serves another table"
    assert behind(head, row(serves="", refused="blob-wrong")) == "blob-wrong"
    assert behind(None, row()) == "there is no head"
    trial = replace(head, trial=table(b"t"), canary=("a",))
    assert behind(trial, row()) == "it serves another table" and behind(trial, row(host="b")) == ""
    assert behind(replace(trial, held=True), row()) == ""
