"""What a trial says of a fault that the service did not get over."""

from __future__ import annotations

from typing import Any

from bench.faults.faults import Fault
from bench.faults.trial import attempt
from bench.faults.trouble import NotRecovered


class Deaf:
    def say(self, _sentence: str) -> None:
        """Nobody listens."""


def late(what: str) -> Any:
    def act(_watched: object) -> None:
        raise NotRecovered(what)

    return act


def test_what_went_wrong_first_is_told_when_healing_fails_after_it() -> None:
    both = attempt(Deaf(), Fault("x", late("not upgraded"), late("no spare")))  # type: ignore[arg-type]
    assert both.failure == "not upgraded; and then no spare"
    assert attempt(Deaf(), Fault("x", late("not upgraded"))).failure == "not upgraded"  # type: ignore[arg-type]
