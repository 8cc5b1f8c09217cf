"""fastpath/process/slot_words.py: what the supervisor shows of each slot beside the turns, and when it says nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from fastpath.process.slot_words import OLD_S, QUEUES, SLOTS_MAX, SlotWords
from fastpath.process.turns import KINDS, Turns, create_turns
from fastpath.protocol import close_all


@pytest.fixture
def fd() -> Iterator[int]:
    made = create_turns()
    yield made
    close_all([made])


def test_what_one_maps_the_other_reads(fd: int) -> None:
    supervisor, control = SlotWords(fd), SlotWords(fd)
    last = SLOTS_MAX - 1
    supervisor.show_queue(last, QUEUES.index("boot"), (1, 2, 1 << 40))
    supervisor.show_heartbeat(last, 77)
    supervisor.show_looked()
    queues = control.queues(SLOTS_MAX)
    assert len(queues) == SLOTS_MAX * len(QUEUES)
    want = {"worker": last, "queue": "boot", "bytes": 1, "peak_bytes": 2, "limit_bytes": (1 << 32) - 1}
    assert queues[-1] == want and queues[0]["limit_bytes"] == 0
    assert control.heartbeat_ns(last) == 77 and control.heartbeat_ns(0) == 0


def test_the_turns_keep_their_words(fd: int) -> None:
    turns, words = Turns(fd), SlotWords(fd)
    for kind in KINDS:
        turns.show(kind)
    before = [turns.last_s(kind) for kind in KINDS]
    for slot in range(SLOTS_MAX):
        words.show_heartbeat(slot, (1 << 64) - 1)
        for queue in range(len(QUEUES)):
            words.show_queue(slot, queue, (9, 9, 9))
    words.show_looked()
    assert [turns.last_s(kind) for kind in KINDS] == before and all(before)


def test_a_supervisor_that_shows_nothing_or_nothing_more_is_not_believed(
    fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another build, or hung."""
    words = SlotWords(fd)
    words.show_heartbeat(0, time.monotonic_ns())
    assert words.queues(2) == [] and words.heartbeat_ns(0) == 0
    words.show_looked()
    assert len(words.queues(2)) == 6 and words.heartbeat_ns(0)
    later_ns = time.monotonic_ns() + int((OLD_S + 1) * 1e9)
    monkeypatch.setattr(time, "monotonic_ns", lambda: later_ns)
    assert words.queues(2) == [] and words.heartbeat_ns(0) == 0


def test_the_layout_is_that_of_every_build(fd: int) -> None:
    """Control of one build reads what the supervisor of another has written."""
    words = SlotWords(fd)
    words.show_queue(1, 2, (11, 12, 13))
    words.show_heartbeat(1, 14)
    words.show_looked()
    content = os.pread(fd, 4096, 0)
    assert int.from_bytes(content[1024:1032], "little") > 0
    assert int.from_bytes(content[1096:1104], "little") == 14
    at = 1600 + (1 * 3 + 2) * 3 * 4
    assert [content[at], content[at + 4], content[at + 8]] == [11, 12, 13]
