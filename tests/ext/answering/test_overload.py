"""ext/overload.pxd: requests that their clients have given up, and the shares of relays that want more than there
is."""

import pytest
from ext.codec import Overload, fair_share
from ext.verdict import Verdict
from hypothesis import given
from hypothesis import strategies as st

from tests.ext.packets import discover, request, tlv
from tests.ext.sites import ALICE, STRANGER, ask, one_host

NO_LIMIT = 0xFFFFFFFF
MS = 1_000_000
PXE = tlv(60, b"PXEClient:Arch:00007:UNDI:003016")
IPXE = PXE + tlv(77, b"iPXE")


@pytest.mark.parametrize(
    "packet, patience_ms",
    [
        pytest.param(discover(ALICE, options=IPXE), 900, id="ipxe-discover-asks-again-after-1s"),
        pytest.param(request(ALICE, requested="10.1.0.50", options=IPXE), 225, id="ipxe-request-after-250ms"),
        pytest.param(discover(ALICE, options=PXE), 3200, id="rom-after-3.6s"),
        pytest.param(request(ALICE, requested="10.1.0.50", options=PXE), 3200, id="rom-request"),
        pytest.param(discover(ALICE), 1800, id="system-after-2s"),
    ],
)
def test_late_is_what_the_client_has_given_up(packet: bytes, patience_ms: int) -> None:
    pair = one_host()
    assert ask(pair, packet, waited_ns=0).verdict <= Verdict.ACKED
    assert ask(pair, packet, waited_ns=patience_ms * MS).verdict <= Verdict.ACKED
    assert ask(pair, packet, waited_ns=patience_ms * MS + 1).verdict == Verdict.IGNORED_LATE


def test_late_strangers_are_not_even_looked_up() -> None:
    assert ask(one_host(), discover(STRANGER), waited_ns=10_000 * MS).verdict == Verdict.IGNORED_LATE


@pytest.mark.parametrize(
    "wanted, capacity, level",
    [
        ([], 100, NO_LIMIT),
        ([10, 20], 100, NO_LIMIT),
        ([50, 50], 100, NO_LIMIT),
        ([1000, 20], 100, 80),
        ([1000, 1000], 100, 50),
        ([1000, 1000, 10], 100, 45),
        ([1000, 40, 40, 40], 100, 25),
        ([1000] * 200, 100, 1),
    ],
)
def test_fair_share(wanted: list[int], capacity: int, level: int) -> None:
    assert fair_share(wanted, capacity) == level


@pytest.mark.property
@given(st.lists(st.integers(0, 100_000), max_size=1024), st.integers(1024, 1_000_000))
def test_a_share_is_max_min_fair(wanted: list[int], capacity: int) -> None:
    """Nobody gets more than there is; what is left over is less than one more for each that wants more."""
    level = fair_share(wanted, capacity)
    given_away = sum(min(want, level) for want in wanted)
    unsatisfied = [want for want in wanted if want > level]
    assert given_away <= capacity
    if unsatisfied:
        assert capacity - given_away < len(unsatisfied)
    else:
        assert sum(wanted) <= capacity or level == max(wanted)


TURN_MS, PRESSING_MS = 5, 75


def busy(overload: Overload, ms: int, begin_ms: int = 1000) -> int:
    """Turns of a loop that never reaches the end of its queues, for so long; when the last one was."""
    for now_ms in range(begin_ms, begin_ms + ms + 1, TURN_MS):
        overload.turn(now_ms * MS, more_urgent=True, more_plain=True)
    return begin_ms + ms // TURN_MS * TURN_MS


def test_nothing_has_waited_longer_than_we_have_worked_without_an_end() -> None:
    """A successor finds a queue of 400 ms: it answers, for until now there was nobody who could not keep up."""
    overload = Overload()
    assert overload.waited(400 * MS) == 0
    now_ms = busy(overload, 50)
    assert overload.waited(400 * MS) == overload.waited(400 * MS, urgent=True) == 50 * MS
    assert overload.waited(30 * MS) == 30 * MS
    overload.turn((now_ms + TURN_MS) * MS, more_urgent=False, more_plain=True)
    assert overload.waited(400 * MS) == (50 + TURN_MS) * MS
    overload.turn((now_ms + 2 * TURN_MS) * MS, more_urgent=False, more_plain=True)
    assert overload.waited(400 * MS, urgent=True) == TURN_MS * MS, "the end of the REQUESTs was seen a turn ago"


def test_standing_still_is_no_work() -> None:
    overload = Overload()
    now_ms = busy(overload, 50)
    overload.turn((now_ms + 5000) * MS, more_plain=True)
    assert overload.waited(5000 * MS) == 70 * MS


def test_a_clock_that_steps_refuses_nobody() -> None:
    overload = Overload()
    busy(overload, 10)
    assert overload.waited(3600 * 1000 * MS) == 10 * MS
    assert overload.waited(-3600 * 1000 * MS) == 0


def test_waits_are_looked_at_while_no_end_is_seen_and_for_a_second_after() -> None:
    overload = Overload()
    now_ms = busy(overload, 20)
    assert not overload.turn((now_ms + 1) * MS)
    now_ms = busy(overload, 25, now_ms + 1)
    assert overload.turn((now_ms + 1) * MS), "25 ms of full batches"
    assert overload.turn((now_ms + 900) * MS)
    assert not overload.turn((now_ms + 1100) * MS)


CAPACITY = 200  # a window


class Loop:
    """A worker that answers CAPACITY datagrams a window, and takes out what it refuses at a hundredth of that cost."""

    def __init__(self, wanted: dict[int, int]) -> None:
        self.overload = Overload()
        self.queue: list[tuple[int, int]] = []  # (relay, window that it came in)
        self.number = 20
        self.wanted = wanted

    def window(self, waited_ms: int | None = None) -> dict[int, int]:
        """How many of each relay were answered.  waited_ms: of all, whatever the queue is."""
        step, spent, answered = 50 * MS, 0.0, dict.fromkeys(self.wanted, 0)
        self.number += 1
        self.overload.turn(self.number * step, more_plain=True)
        each = max(1, *self.wanted.values())
        self.queue += [
            (relay, self.number)
            for n in range(each)
            for relay, count in self.wanted.items()
            if n * count // each < (n + 1) * count // each
        ]
        while self.queue and spent < CAPACITY:
            relay, came = self.queue.pop(0)
            waited = (self.number - came) * step if waited_ms is None else waited_ms * MS
            if self.overload.refuses(relay, waited):
                spent += 0.01
            else:
                spent, answered[relay] = spent + 1, answered[relay] + 1
        return answered


@pytest.mark.parametrize("waited_ms", [0, PRESSING_MS])
def test_nobody_is_refused_while_waits_are_short(waited_ms: int) -> None:
    """Whatever the batches look like."""
    loop = Loop({1: 1000, 2: 10})
    assert all(sum(loop.window(waited_ms).values()) == CAPACITY for _ in range(20))


def test_a_flood_leaves_the_others_their_answers() -> None:
    """One relay wants three times what there is, nine want a tenth each: within a second they get it."""
    loop = Loop({1: 3 * CAPACITY} | dict.fromkeys(range(2, 11), CAPACITY // 10 - 2))
    for _ in range(20):
        loop.window()
    windows = [loop.window() for _ in range(40)]
    for relay in range(2, 11):
        assert sum(answered[relay] for answered in windows) >= 0.95 * 40 * (CAPACITY // 10 - 2)
    assert sum(answered[1] for answered in windows) >= 40 * CAPACITY // 10 / 2, "and it gets what they leave"
    assert len(loop.queue) < 3 * sum(loop.wanted.values()), "what waits is what came in three windows"


def test_a_storm_of_two_seconds_is_waited_out() -> None:
    """All relays alike, at once, more than can be answered in a second: nobody is refused for a share."""
    loop = Loop(dict.fromkeys(range(40), 30 * CAPACITY // 40))
    answered = loop.window()
    loop.wanted = dict.fromkeys(range(40), 0)
    for _ in range(29):
        for relay, count in loop.window().items():
            answered[relay] += count
    assert set(answered.values()) == {30 * CAPACITY // 40}


def test_a_queue_that_stands_is_kept_short() -> None:
    """All alike want three times what there is, for long: what is answered waited little, and is as many."""
    loop = Loop(dict.fromkeys(range(1, 10), 3 * CAPACITY // 9))
    for _ in range(60):
        loop.window()
    assert sum(sum(loop.window().values()) for _ in range(40)) >= 0.85 * 40 * CAPACITY
    assert len(loop.queue) < 4 * sum(loop.wanted.values())


def test_one_relay_alone_is_held_to_no_share() -> None:
    overload = Overload()
    for number in range(20, 30):
        overload.turn(number * 50 * MS, more_plain=True)
        assert not any(overload.refuses(7, 500 * MS) for _ in range(1000))
