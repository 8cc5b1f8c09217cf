"""What the soak concludes: rows, growth, an inventory that fails as it was told to."""

from __future__ import annotations

import gzip
import json

import pytest

from bench.faults.faults import FAULTS
from bench.faults.meddler import MODES, spoiled
from bench.faults.trial import Row, render
from bench.soak import Sample, growths


def row(**changes: object) -> Row:
    made = {
        "fault": "worker killed", "times": 1, "requests": 1000, "lost": 0, "wrong": 0, "twice": 0, "unheard": 0,
        "wait_s": 0.2, "limit_s": 0.3, "stalled_s": 0.0, "failure": "",
    }  # fmt: skip
    return Row(**(made | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes, said",
    [
        ({}, []),
        ({"lost": 2}, ["2 lost"]),
        ({"wrong": 1, "twice": 1}, ["1 wrong", "1 twice"]),
        ({"wait_s": 0.4}, ["waited 0.400 s, limit 0.300 s"]),
        ({"wait_s": 0.4, "stalled_s": 0.2}, []),  # the machine stood still
        ({"wait_s": 9.0, "limit_s": 0.0}, []),
        ({"failure": "no spare"}, ["no spare"]),
        ({"requests": 0}, ["nothing was asked meanwhile"]),
    ],
)
def test_a_row_says_what_is_wrong(changes: dict[str, object], said: list[str]) -> None:
    assert row(**changes).faults == said
    assert render([row(**changes)])[1].endswith("; ".join(said) or "good")


def test_every_fault_has_a_name_of_its_own() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names)
    assert any(fault.short for fault in FAULTS)


@pytest.mark.parametrize(
    "column, more, flat",
    [("fds", 8, True), ("fds", 9, False), ("memfds", 7, False), ("rss_kb", 8000, True), ("rss_kb", 20_000, False)],
)
def test_growth(column: str, more: int, flat: bool) -> None:
    base = {"rss_kb": 20_000, "fds": 20, "memfds": 5}
    samples = [Sample(float(at), "worker", **base) for at in range(10)]
    samples += [Sample(90.0 + at, "worker", **(base | {column: base[column] + more})) for at in range(10)]
    samples += [Sample(50.0, "registrar", **base)]  # seen in neither quarter
    (grown,) = growths(samples, 100.0)
    assert (grown.kind, grown.flat, "GROWS" in grown.line()) == ("worker", flat, not flat)


HEAD, BODY = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17", b'["a", "b", "c"]  '


@pytest.mark.parametrize("mode", MODES)
def test_an_inventory_that_fails(mode: str) -> None:
    head, _, body = spoiled(HEAD, BODY, mode).partition(b"\r\n\r\n")
    length = int(next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length")).split(b":")[1])
    if mode == "errors":
        assert head.startswith(b"HTTP/1.1 500 ")
    elif mode == "cut":
        assert (length, body) == (len(BODY), BODY[: len(BODY) // 2])
    elif mode in ("half", "empty"):
        assert json.loads(body) == (["a"] if mode == "half" else []) and length == len(body)
    elif mode == "garbage":
        with pytest.raises(OSError):
            gzip.decompress(body)
    elif mode == "bomb":
        assert len(body) < 100_000 < 64 << 20 < len(gzip.decompress(body))
    else:
        assert body == BODY
