"""Look-ups of strangers: coalesced, remembered, and no place may use up the others' share."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address, IPv4Network
from random import Random
from typing import Any

import pytest

from control.planner.jobs import RefreshFailed
from control.service import lookups
from control.service.lookups import (
    AGAIN_S,
    BATCH,
    BATCH_OTHERS,
    PLACE_BURST,
    PLACE_KEPT,
    PLACE_PER_S,
    RETRY_S,
    TOTAL_BURST,
    TOTAL_KEPT,
    TOTAL_PER_S,
    UNKNOWN_MAX,
    UNKNOWN_S,
    Asked,
    Lookups,
)


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


def test_each_that_the_inventory_has_is_told() -> None:
    inventory, found = Inventory(mac(2), mac(3)), []
    inventory.lookups.on_found = found.append
    for number in range(1, 5):
        inventory.lookups.ask(mac(number), "relay")
    inventory.drain()
    assert found == [mac(2), mac(3)]


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


def test_a_giaddr_that_nobody_lists_has_no_budget_of_its_own() -> None:
    """It is forged as easily as a MAC: 2,000 of them a second were 518 look-ups a second."""
    inventory = Inventory()
    for number in range(20_000):
        inventory.now = number / 2_000
        inventory.lookups.ask(mac(number), "eth0", str(IPv4Address(0x0A000000 + number)))
    assert len(inventory.lookups.waiting) <= PLACE_BURST + 10 * PLACE_PER_S
    inventory = Inventory()
    for number in range(20_000):
        inventory.now = number / 2_000
        inventory.lookups.ask(mac(number), f"vlan{number}", str(IPv4Address(0x0A000000 + number)))
    assert len(inventory.lookups.waiting) <= TOTAL_BURST + 10 * TOTAL_PER_S


def test_addresses_in_one_listed_network_are_one_relay() -> None:
    inventory = Inventory()
    inventory.lookups.relays = (IPv4Network("10.0.0.0/8"), IPv4Network("192.0.2.1/32"))
    for number in range(500):
        inventory.lookups.ask(mac(number), "eth0", str(IPv4Address(0x0A000000 + number)))
    assert len(inventory.lookups.ours) == PLACE_BURST
    inventory.lookups.ask(mac(9000), "eth0", "192.0.2.1")
    inventory.lookups.ask(mac(9001), "eth1", "10.0.0.1")
    assert inventory.lookups.waiting[-2:] == [mac(9000), mac(9001)], "who forges it elsewhere spends his own"


@pytest.mark.parametrize("how", ["maker", "relay"])
def test_a_new_host_is_looked_up_at_once_beside_2000_strangers_a_second(how: str) -> None:
    """It waited 37 s.  The inventory takes 0.1 s a question here; strangers forge MACs and giaddrs at random."""
    random, host = Random(5), "00:11:22:00:00:01"
    inventory = Inventory(host)
    inventory.lookups.familiar = lambda text: how == "maker" and text.startswith("00:11:22")
    inventory.lookups.relays = (IPv4Network("192.0.2.1/32"),)
    answered, asked_s, host_s = 0.0, 0.0, 10.0
    for number in range(2_000 * 20):
        inventory.now = number / 2_000
        inventory.lookups.ask(mac(random.getrandbits(46) << 2), "eth0", str(IPv4Address(random.getrandbits(31) + 1)))
        if inventory.now == host_s:
            inventory.lookups.ask(host, "eth0", "192.0.2.1" if how == "relay" else None)
        if inventory.lookups.waiting and inventory.now >= asked_s + 0.1:
            asked_s = inventory.now
            asyncio.run(inventory.lookups.take(inventory.lookups.next_batch()))
            answered = answered or inventory.now * (inventory.lookups.counts["found"] > 0)
    assert 0 < answered - host_s < 0.5, answered
    assert len(inventory.asked) and sum(map(len, inventory.asked)) <= TOTAL_BURST + 20 * TOTAL_PER_S + 1
    assert len(inventory.lookups.unknown) < UNKNOWN_MAX / 2, "who is not there is remembered for the whole minute"


@pytest.mark.parametrize("ours", [True, False], ids=["known-maker", "unknown-maker"])
def test_a_forged_maker_delays_a_new_host_to_its_second_discover(ours: bool) -> None:
    """2,000 made-up MACs a second with the site's own OUI kept it waiting for 40 s and more."""
    random, host = Random(5), "00:11:22:aa:00:01"
    inventory = Inventory(host)
    inventory.lookups.familiar = lambda _text: ours
    asked_s, found_s = 0.0, 0.0
    for number in range(2_000 * 30):
        inventory.now = number / 2_000
        inventory.lookups.ask(mac(0x001122000000 | random.getrandbits(24)), "eth0")
        if inventory.now in (10.0, 14.0, 22.0):  # RFC 2131 section 4.1
            inventory.lookups.ask(host, "eth0")
        if inventory.lookups.waiting and inventory.now >= asked_s + 0.8:  # as slow as it can keep up with
            asked_s = inventory.now
            asyncio.run(inventory.lookups.take(inventory.lookups.next_batch()))
            found_s = found_s or inventory.now * (inventory.lookups.counts["found"] > 0)
    assert 14.0 <= found_s < 15.0
    assert sum(map(len, inventory.asked)) <= PLACE_BURST + PLACE_KEPT + 30 * PLACE_PER_S


def test_made_up_macs_that_come_twice_spend_no_more_than_the_budget() -> None:
    inventory = Inventory()
    for number in range(2_000 * 10):
        inventory.now = number / 2_000
        for of in (number, number - 2_000):
            inventory.lookups.ask(mac(max(of, 0)), f"eth{number % 9}")
    assert len(inventory.lookups.waiting) <= TOTAL_BURST + TOTAL_KEPT + 10 * TOTAL_PER_S


def test_one_discover_by_two_relays_is_not_asking_again() -> None:
    inventory = Inventory()
    ask = inventory.lookups.ask
    for number in range(3):
        ask(mac(number), "eth0")
    inventory.now = AGAIN_S / 2
    ask(mac(1), "eth1")
    assert inventory.lookups.waiting == [mac(0), mac(1), mac(2)]
    inventory.now = AGAIN_S
    ask(mac(2), "eth1")
    assert inventory.lookups.waiting == [mac(2), mac(0), mac(1)]


def test_who_had_a_look_up_is_no_more_than_anybody_a_minute_later() -> None:
    inventory = Inventory()
    inventory.lookups.ask(mac(1), "eth0")
    inventory.drain()
    inventory.now = UNKNOWN_S + 1
    inventory.lookups.ask(mac(2), "eth0")
    inventory.lookups.ask(mac(1), "eth0")
    assert inventory.lookups.waiting == [mac(2), mac(1)]


def test_the_memory_of_who_asked_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "ASKED_MAX", 100)
    asked = Asked()
    assert [asked.first_s(mac(number), float(number)) for number in range(1_000)] == list(range(1_000))
    assert len(asked.young) + len(asked.old) <= 200
    assert asked.first_s(mac(950), 2_000.0) == 950.0 and asked.first_s(mac(1), 2_000.0) == 2_000.0


def test_who_looks_like_ours_goes_first_and_leaves_the_others_a_share() -> None:
    inventory = Inventory()
    inventory.lookups.familiar = lambda text: text.startswith("00:00:00:00:01")
    for number in range(200):
        inventory.lookups.ask(mac(number), f"eth{number // 50}")
        inventory.lookups.ask(mac(0x100 + number % 0x100), f"eth{number // 50}")
    batch = inventory.lookups.next_batch()
    assert [text.startswith("00:00:00:00:01") for text in batch] == [True] * (BATCH - BATCH_OTHERS) + [False] * 4


def test_the_queues_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "WAITING_MAX", 50)
    inventory = Inventory()
    for number in range(1_000):
        inventory.lookups.ask(mac(number), f"place {number}")
    assert len(inventory.lookups.waiting) == 50


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
