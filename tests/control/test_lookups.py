"""Look-ups of strangers: coalesced, remembered, and no place may use up the others' share."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from control.lookups import BATCH, PLACE_BURST, RETRY_S, UNKNOWN_S, WAITING_MAX, Lookups
from control.refresh import RefreshFailed


class Inventory:
    """Answers look-ups from a set of MACs and keeps what was asked."""

    def __init__(self, *known: str) -> None:
        self.known = set(known)
        self.asked: list[list[str]] = []
        self.down = False
        self.now = 0.0
        self.lookups = Lookups(self.look_up, clock=lambda: self.now)

    async def look_up(self, macs: list[str]) -> tuple[dict[str, Any], list[str]]:
        self.asked.append(macs)
        if self.down:
            raise RefreshFailed("down")
        return {}, [mac for mac in macs if mac not in self.known]

    def drain(self) -> None:
        """Run until nobody waits any more."""

        async def until_idle() -> None:
            task = asyncio.create_task(self.lookups.run())
            while self.lookups.waiting:
                await asyncio.sleep(0)
            task.cancel()

        asyncio.run(until_idle())


def mac(number: int) -> str:
    return number.to_bytes(6, "big").hex(":")


def test_the_same_stranger_is_asked_for_once() -> None:
    inventory = Inventory()
    for _again in range(5):
        inventory.lookups.ask(mac(1), "relay")
    inventory.drain()
    inventory.lookups.ask(mac(1), "relay")
    inventory.drain()
    assert inventory.asked == [[mac(1)]]
    inventory.now = UNKNOWN_S + 1
    inventory.lookups.ask(mac(1), "relay")
    inventory.drain()
    assert len(inventory.asked) == 2


def test_who_was_found_may_be_asked_for_again_at_once() -> None:
    """It may be taken out and put in again; the table, not this memory, says that it is known."""
    inventory = Inventory(mac(1))
    for _time in range(2):
        inventory.lookups.ask(mac(1), "relay")
        inventory.drain()
    assert len(inventory.asked) == 2
    assert inventory.lookups.counts["found"] == 2


def test_questions_are_batched() -> None:
    inventory = Inventory()
    for number in range(BATCH + 3):
        inventory.lookups.ask(mac(number), "relay")
    inventory.drain()
    assert [len(macs) for macs in inventory.asked] == [BATCH, 3]


def test_a_room_of_strangers_leaves_the_others_their_share() -> None:
    inventory = Inventory(mac(9999))
    for number in range(500):
        inventory.lookups.ask(mac(number), "noisy")
    inventory.lookups.ask(mac(9999), "quiet")
    assert len(inventory.lookups.waiting) == PLACE_BURST + 1
    assert mac(9999) in inventory.lookups.waiting
    inventory.drain()
    assert inventory.lookups.counts["over_budget"] == 500 - PLACE_BURST
    assert inventory.lookups.counts["found"] == 1


def test_the_queue_is_bounded() -> None:
    inventory = Inventory()
    for number in range(3 * WAITING_MAX):
        inventory.lookups.ask(mac(number), f"place {number}")
    assert len(inventory.lookups.waiting) == WAITING_MAX


@pytest.mark.parametrize("later_s, asks", [(RETRY_S / 2, 1), (RETRY_S + 0.1, 2)])
def test_a_failure_is_tried_again_a_little_later(later_s: float, asks: int) -> None:
    inventory = Inventory(mac(1))
    inventory.down = True
    inventory.lookups.ask(mac(1), "relay")
    inventory.drain()
    inventory.down, inventory.now = False, later_s
    inventory.lookups.ask(mac(1), "relay")
    inventory.drain()
    assert len(inventory.asked) == asks
