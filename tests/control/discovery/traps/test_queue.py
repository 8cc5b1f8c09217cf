"""control/discovery/traps/queue.py: nothing that was noted is lost, whoever dies when; the memory is what it is."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control.discovery.traps import queue as trapqueue
from control.discovery.traps.queue import CONTENT_MAX, COUNTERS, OUTCOMES, TRIES_MAX, Datagram, TrapQueue

SIZE = 8192 + 4 * (CONTENT_MAX + 64)


@pytest.fixture
def fd() -> Iterator[int]:
    made = os.memfd_create("test-traps")
    os.ftruncate(made, SIZE)
    yield made
    os.close(made)


def opened(fd: int) -> TrapQueue:
    queue = TrapQueue(fd)
    assert queue.open()
    return queue


def put(queue: TrapQueue, content: bytes, source: int = 1) -> bool:
    room = queue.room()
    if room is None:
        return False
    room[: len(content)] = content
    queue.note(7, len(content), source, 2, 3)
    return True


def drain(queue: TrapQueue) -> list[bytes]:
    found = []
    while (datagram := queue.take()) is not None:
        found.append(datagram.content)
    return found


def test_in_order_with_everything_that_was_noted(fd: int) -> None:
    queue = opened(fd)
    assert queue.take() is None
    for content in (b"a", b"", b"c" * 65507):
        assert put(queue, content, source=0xFFFFFFFF)
    assert queue.take() == Datagram(7, 0xFFFFFFFF, 3, 2, b"a")
    assert drain(queue) == [b"", b"c" * 65507]
    assert queue.queued == 3, "until they are committed"
    queue.commit()
    assert (queue.queued, queue.holds(0xFFFFFFFF)) == (0, 0)


def test_a_successor_gets_what_was_not_committed(fd: int) -> None:
    first = opened(fd)
    for number in range(10):
        put(first, bytes((number,)), source=number)
    for _turn in range(4):
        first.take()
    first.counts["decoded"] += 4
    first.commit()
    first.take()
    first.counts["decoded"] += 1
    put(first, b"last")
    second = opened(fd)
    assert (second.queued, second.holds(0), second.holds(4)) == (7, 0, 32)
    assert drain(second) == [bytes((number,)) for number in range(4, 10)] + [b"last"]
    assert second.counts["decoded"] == 4, "nor what it counted"
    second.commit()
    assert opened(fd).queued == 0


def test_a_datagram_that_was_received_and_not_noted_is_what_a_death_costs(fd: int) -> None:
    first = opened(fd)
    room = first.room()
    assert room is not None
    room[:4] = b"gone"
    assert drain(opened(fd)) == []


def test_full_and_free_again(fd: int) -> None:
    queue = opened(fd)
    count = 0
    while put(queue, bytes(60_000)):
        count += 1
    assert count == 4, "of this ring, each with room for the largest datagram"
    assert queue.room() is None
    queue.take()
    queue.take()
    assert queue.room() is None, "taken is not committed"
    queue.commit()
    assert queue.room() is not None, "two of these make room for the largest, wherever the ring ends"


def test_counters_for_everybody(fd: int) -> None:
    reader = TrapQueue(fd)
    assert set(reader.counters().values()) == {0} and set(reader.counters()) == {"received", "queued", *COUNTERS}
    queue = opened(fd)
    for _turn in range(3):
        put(queue, b"x")
    queue.take()
    queue.counts["community"] += 1
    queue.counts["kernel"] = 9
    queue.commit()
    found = reader.counters()
    assert (found["received"], found["queued"], found["community"], found["kernel"]) == (3, 2, 1, 9)
    assert found["received"] == found["queued"] + sum(found[name] for name in OUTCOMES)


def test_another_layout_starts_anew_and_says_so(fd: int) -> None:
    queue = opened(fd)
    put(queue, b"x")
    os.pwrite(fd, struct.pack("Q", trapqueue._MAGIC + 1), 0)
    second = TrapQueue(fd)
    assert not second.open()
    assert (second.queued, second.take(), second.counters()["received"]) == (0, None, 0)
    assert opened(fd).queued == 0


def test_too_small() -> None:
    small = os.memfd_create("test-traps")
    os.ftruncate(small, 100_000)
    with pytest.raises(ValueError, match="trap queue of 100000 bytes: wanted at least"):
        TrapQueue(small)
    os.close(small)


def test_what_kills_again_and_again_is_given_up(fd: int) -> None:
    put(opened(fd), b"poison")
    for _life in range(TRIES_MAX):
        assert opened(fd).careful()
    last = opened(fd)
    assert not last.careful()
    assert last.take() is not None
    last.commit()
    put(last, b"next")
    assert opened(fd).careful(), "only that one"


def test_it_rewinds_when_it_is_empty(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    os.ftruncate(fd, 8192 + 64 * CONTENT_MAX)
    queue = opened(fd)
    for _turn in range(100):
        put(queue, bytes(60_000))
        drain(queue)
        queue.commit()
        assert queue.head % queue.size <= 18 * CONTENT_MAX, "the rest of the memory was never touched"
    monkeypatch.setattr(TrapQueue, "publish", interrupted(TrapQueue.publish))
    with pytest.raises(InterruptedError):
        for _turn in range(100):
            put(queue, bytes(60_000))
            drain(queue)
            queue.commit()
    monkeypatch.undo()
    heir = opened(fd)
    assert (heir.queued, heir.head, drain(heir)) == (0, heir.tail, [])
    assert put(heir, b"goes on") and drain(heir) == [b"goes on"]


def interrupted(publish):  # type: ignore[no-untyped-def]
    """Dies right after publishing an empty ring that starts again."""

    def wrapper(queue: TrapQueue) -> None:
        publish(queue)
        if queue.tail > queue.head:
            raise InterruptedError

    return wrapper


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.one_of(st.integers(0, 300), st.sampled_from([0, 8, 60_000, 65_507]))),
        st.tuples(st.sampled_from(["take", "commit", "die"]), st.just(0)),
    ),
    max_size=60,
)


@pytest.mark.property
@settings(max_examples=80, deadline=None)
@given(steps)
def test_against_a_list(steps: list[tuple[str, int]]) -> None:
    fd = os.memfd_create("test-traps")
    os.ftruncate(fd, SIZE)
    queue, model, taken, number = opened(fd), list[bytes](), 0, 0
    for step, size in steps:
        if step == "put":
            number += 1
            content = number.to_bytes(4, "big").ljust(size, b"x")
            if put(queue, content, source=number % 3):
                model.append(content)
        elif step == "take":
            datagram = queue.take()
            assert (None if datagram is None else datagram.content) == (model[taken] if taken < len(model) else None)
            taken += datagram is not None
        elif step == "commit":
            queue.commit()
            model, taken = model[taken:], 0
        else:
            queue, taken = opened(fd), 0
        assert queue.queued == len(model)
    assert drain(opened(fd)) == model
    os.close(fd)
