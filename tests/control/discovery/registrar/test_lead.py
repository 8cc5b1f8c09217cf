"""Exactly one writer: each request that writes is asked for, and a lead that was lost between two of them ends the
registration there, for another machine to go on."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from control.clusto.client.api import NotSent
from control.clusto.server.actions import ACTIONS
from control.discovery.coordinator import IDLE_S, Coordinator
from control.discovery.registrar.lead import TIMEOUT_MS, WRITE_TIMEOUT_S, Lead, writes
from control.fleet.election import Timing
from control.fleet.process.page import PLACES, LeadPage, new_page
from tests.control.discovery.conftest import Inventory
from tests.control.discovery.support import MAC, MACS, Hands, Snapshot, inventory, servers, snapshot
from tests.control.discovery.test_coordinator import at_the_desk, configured, trap, until


class Clock:
    """Turned by who waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100_000
        monkeypatch.setattr(LeadPage, "now_ms", lambda _page: self.now)

    def wait(self, seconds: float) -> None:
        self.now += round(seconds * 1000)


def lead(page: LeadPage, clock: Clock, place: int = 0) -> Lead:
    return Lead(page, place, clock.wait)


def test_what_writes_is_what_the_inventory_says_of_its_actions() -> None:
    for name, action in ACTIONS.items():
        assert writes("GET", f"/server/s0001/{name}") == action.writes, name
    assert not any(writes("GET", path) for path in ("/server", "/server/s0001", "/search", "/query/get_entities"))
    assert not writes("POST", "/query/get_entities"), "a query that is long"
    assert writes("POST", "/penguinserver/s0001") and writes("DELETE", "/server/s0001")
    assert writes("GET", "/resourcemanager/names/allocate") and writes("GET", "/server/s0001/whatever_comes")


def test_a_request_needs_more_than_its_own_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    page, clock = LeadPage(new_page()), Clock(monkeypatch)
    asked = lead(page, clock)
    with pytest.raises(NotSent, match="does not lead its fleet any more"):
        asked.permit("DELETE", "/server/s0001")
    assert asked.permit("GET", "/server/s0001") is None, "who reads may always"
    page.until_ms = clock.now + TIMEOUT_MS + 1
    assert asked.permit("DELETE", "/server/s0001") == WRITE_TIMEOUT_S
    page.until_ms = clock.now + TIMEOUT_MS
    with pytest.raises(NotSent, match=r"lasts for 0.9 s, the request may take 2.9 s"):
        asked.permit("DELETE", "/server/s0001")
    assert clock.now == 102_000, "it waited for a renewal"


def test_a_renewal_that_is_due_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    page, clock = LeadPage(new_page()), Clock(monkeypatch)
    page.until_ms = clock.now + 1_000

    def renewed(seconds: float) -> None:
        clock.wait(seconds)
        if clock.now >= 100_500:
            page.until_ms = clock.now + 8_000

    assert Lead(page, 0, renewed).permit("DELETE", "/server/s0001") == WRITE_TIMEOUT_S
    assert clock.now == 100_500


def test_it_is_less_than_a_lease_has_left_that_is_renewed_in_time() -> None:
    timing = Timing()
    assert timing.believed_ms - timing.renew_ms - timing.poll_ms > TIMEOUT_MS


def test_a_request_that_may_be_under_way_is_seen_by_who_gives_the_lease_back(monkeypatch: pytest.MonkeyPatch) -> None:
    fd = new_page()
    page, theirs, clock = LeadPage(fd), LeadPage(fd), Clock(monkeypatch)
    page.until_ms = clock.now + 8_000
    assert theirs.until_ms == clock.now + 8_000 and page.busy_ms == 0
    lead(theirs, clock, PLACES - 1).permit("DELETE", "/server/s0001")
    assert page.busy_ms == clock.now + TIMEOUT_MS
    page.until_ms = 0
    with pytest.raises(NotSent):
        lead(theirs, clock, 0).permit("DELETE", "/server/s0001")
    assert page.busy_ms == clock.now + TIMEOUT_MS, "who was not allowed is not under way"


PARTS = 10  # so that no run takes long
STEPS = ((MACS[0], 7, ("bmc",)), (MACS[1], 7, ("boot",)), (MACS[2], 27, ("host",)))


def registered(url: str, names: dict[str, str], allowed: int | None, in_one: bool) -> tuple[int, int]:
    """Steps until one that was not sent, with a lead that lasts for so many writes; and writes that were asked for."""
    hands, asked = Hands(url, in_one=in_one), 0
    hands.names = names

    def permit(method: str, path: str) -> tuple[float, float] | None:
        nonlocal asked
        asked += writes(method, path)
        if writes(method, path) and allowed is not None and asked > allowed:
            raise NotSent(f"{method} {path}: not sent: this machine does not lead its fleet any more")
        return None

    hands.api.permit = permit
    for number, (mac, port, roles) in enumerate(STEPS):
        outcome = hands.register(mac, port, roles=roles)
        if outcome.state == "retry":
            assert "not sent: this machine does not lead its fleet any more" in outcome.reason
            assert allowed is not None and asked == allowed + 1, "nothing more is tried"
            return number, asked
        assert outcome.state in ("registered", "confirmed", "known"), outcome
    return len(STEPS), asked


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.long) for part in range(1, PARTS))])
@pytest.mark.parametrize("in_one", [True, False], ids=["embedded-inventory", "as-with-the-original"])
def test_a_lead_lost_before_any_write_is_gone_on_with(made_site: Path, memory: Path, in_one: bool, part: int) -> None:
    """By the next machine, from what the journal says: the inventory ends as if nothing had happened."""

    def played(folder: Path, allowed: int | None) -> tuple[Snapshot, int]:
        folder.mkdir()
        for file in made_site.glob("inventory.db*"):
            shutil.copy(file, folder)
        with inventory(folder) as (store, url):
            names: dict[str, str] = {}
            through, asked = registered(url, names, allowed, in_one)
            if through < len(STEPS):
                assert registered(url, names, None, in_one)[0] == len(STEPS)
            return snapshot(store), asked

    wanted, writes_in_all = played(memory / "whole", None)
    assert servers(wanted) == ["s0001"] and writes_in_all >= 5
    for allowed in range(writes_in_all)[part::PARTS]:
        assert played(memory / f"after{allowed}", allowed)[0] == wanted, f"lost after {allowed} of {writes_in_all}"


def test_who_does_not_lead_registers_nobody_until_it_does(site: Inventory, tmp_path: Path) -> None:
    leading = False

    async def scenario(coordinator: Coordinator) -> None:
        nonlocal leading
        coordinator.take([trap(MAC, 7)])
        await until(coordinator, MAC, "seen")
        await asyncio.sleep(1.2)  # its time has come
        assert coordinator.wakes_in() == IDLE_S and not coordinator.working
        leading = True
        coordinator.ring()
        await until(coordinator, MAC, "registered")

    page = new_page()
    LeadPage(page).until_ms = 1 << 62
    at_the_desk(configured(tmp_path, site.url), scenario, may_work=lambda: leading, page=lambda: page)
    assert servers(snapshot(site.store)) == ["s0001"]


def test_a_registrar_whose_lead_is_over_writes_nothing_and_says_so(site: Inventory, tmp_path: Path) -> None:
    """The real process: it is asked in it, not only before."""
    page = new_page()

    async def scenario(coordinator: Coordinator) -> None:
        coordinator.take([trap(MAC, 7)])
        row = await until(coordinator, MAC, "retry")
        assert "this machine does not lead its fleet any more" in row["reason"]
        assert servers(snapshot(site.store)) == []
        LeadPage(page).until_ms = 1 << 62
        await until(coordinator, MAC, "registered")

    at_the_desk(configured(tmp_path, site.url), scenario, page=lambda: page)
    assert servers(snapshot(site.store)) == ["s0001"]
