"""Holds amid everything else that happens to a table: what is held is never answered, what is not held is as the
inventory says, and no refresh, look-up, rollback or restart loses a hold or brings one back."""

from __future__ import annotations

import pytest
from ext.table import row_key
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from control.planner.overrides import lay
from control.planner.planner import Planner
from tests.control.moving import check
from tests.control.planner.test_closure_property import Moves

ANSWERED = ("served", "proxied")


class Holds(Moves):
    """wanted: (identity, role), as an operator wants it."""

    def __init__(self) -> None:
        self.wanted: set[tuple[int, int]] = set()
        super().__init__()

    def started(self) -> Planner:
        made = super().started()
        made.overlay.set(self.wanted)
        return made

    @precondition(lambda self: self.planner.served.pair is not None)
    @rule(place=st.integers(0, 5))
    def hold(self, place: int) -> None:
        pair = self.planner.served.pair
        assert pair is not None
        rows = [pair.lookup(*key) for key in sorted(pair.keys())]
        if rows:
            row = rows[place % len(rows)]
            self.wanted.add((row["identity"], row["role"]))
            lay(self.planner, self.wanted)

    @precondition(lambda self: bool(self.wanted))
    @rule(place=st.integers(0, 5))
    def release(self, place: int) -> None:
        self.wanted.discard(sorted(self.wanted)[place % len(self.wanted)])
        lay(self.planner, self.wanted)

    @precondition(lambda self: self.planner.served.pair is not None)
    @rule(places=st.lists(st.integers(0, 5), min_size=1, max_size=3), kept=st.integers(0, 2))
    def hold_some_and_release_some(self, places: list[int], kept: int) -> None:
        """What many rules in turn come to rarely."""
        for place in places:
            self.hold(place)
            self.check_shown()
        while len(self.wanted) > kept:
            self.release(0)
            self.check_shown()

    @precondition(lambda self: bool(self.wanted) and self.planner.served.pair is not None)
    @rule()
    def release_while_the_planner_is_dead(self) -> None:
        self.wanted.pop()
        self.restart(False)

    @invariant()
    def check_published(self) -> None:
        sent = [fds for fds in self.control.fds if len(fds) > 1]
        if sent:
            pair = self.control.pair()
            check(pair, self.cards)
            for key in pair.keys():  # noqa: SIM118
                row = pair.lookup(*key)
                assert row["state"] not in ANSWERED or (row["identity"], row["role"]) not in self.wanted, row
        super().check_published()

    @invariant()
    def check_shown(self) -> None:
        served = self.planner.served
        if served.pair is None or served.shown is None:
            return
        for key in served.pair.keys():  # noqa: SIM118
            said, shown = served.pair.lookup(*key), served.shown.lookup(*key)
            if said["state"] in ANSWERED and (said["identity"], said["role"]) in self.wanted:
                assert shown["state"] == "held", shown
            else:
                assert shown == said
            assert served.shown.number_of(*key) == served.pair.number_of(*key), row_key(*key)


Holds.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestHolds = pytest.mark.property(Holds.TestCase)
