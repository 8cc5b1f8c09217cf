"""The soak's model of a site: it goes on for as long as somebody wants."""

from __future__ import annotations

import random
from typing import Any

from bench.faults.watched import ASKING_ON, SPARE_MACS, Watched

HOSTS = 50


class Recorder:
    """In place of the ledger and of the inventory: what is done to cards, in order."""

    def __init__(self) -> None:
        self.did: list[tuple[str, int]] = []

    def set_object(self, card: int, _node: int) -> None:
        self.did.append(("plugged", card))

    def begin_change(self, changes: list[tuple[int, int]]) -> None:
        self.did += [("asks", card) for card, address in changes if address]

    def hush(self, cards: list[int]) -> None:
        self.did += [("quiet", card) for card in cards]

    def order(self, **_words: Any) -> None:
        """As the inventory's."""


def test_cards_never_run_out_and_come_back_only_after_a_long_silence() -> None:
    """An hour has a hundred new cards; one that comes back at once would be a stranger whom the service remembers."""
    watched = Watched(None, None, HOSTS, 2, 100.0, random.Random(1))  # type: ignore[arg-type]
    watched.ledger = watched.site = recorder = Recorder()  # type: ignore[assignment]
    for _turn in range(20 * SPARE_MACS):
        watched.recard("asks")
    assert sorted(watched.card_of + watched.free_cards + watched.retired) == list(range(HOSTS + SPARE_MACS))
    quiet: dict[int, int] = {}
    asked = 0
    for word, card in recorder.did:
        if word == "quiet":
            quiet[card] = asked
        elif word == "asks":
            asked += 1
            if card in quiet:
                assert asked - quiet.pop(card) >= SPARE_MACS - ASKING_ON
    assert asked == 20 * SPARE_MACS and len(quiet) == SPARE_MACS - ASKING_ON
