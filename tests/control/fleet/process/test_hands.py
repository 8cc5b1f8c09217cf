"""Whatever a decision wants done, the process has a hand for; what the decisions say to each other never reaches it."""

from __future__ import annotations

from control.fleet import actions
from control.fleet.actions import Action, Lead, Resign, Say, Write
from control.fleet.process.node import HANDS


def test_each_action_has_a_hand() -> None:
    made = {each for each in vars(actions).values() if isinstance(each, type) and issubclass(each, Action)}
    assert made - {Action, Say, Write, Lead, Resign} == HANDS.keys() and len(HANDS) > 15
