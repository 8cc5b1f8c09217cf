"""A registrar that dies after any single request: taken up again, the inventory ends as if nothing had happened."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.control.discovery.support import MACS, Hands, Killed, Snapshot, attribute, inventory, servers, snapshot

BMC, HOST, SECOND = MACS[:3]
# A machine as it comes up: its BMC first, then its first NIC on the same port, then its second on another.
STEPS = ((BMC, 7, ("bmc",)), (HOST, 7, ("boot",)), (SECOND, 27, ("host",)))
PARTS = 4  # so that no test takes long, and several processes may share them


def run(hands: Hands, first: int = 0) -> int:
    """Does the steps from one on; the number of the one that it died in, len(STEPS) when it lived."""
    for number, (mac, port, roles) in enumerate(STEPS[first:], first):
        hands.step = number
        try:
            outcome = hands.register(mac, port, roles=roles)
        except Killed:
            return number
        assert outcome.state in ("registered", "confirmed", "known"), outcome
    return len(STEPS)


class Moment(NamedTuple):
    """What is left when a registrar dies: the inventory as it is, the names in the journal, the step it was at."""

    folder: Path
    names: dict[str, str]
    step: int


def copied(source: Path, target: Path) -> Path:
    target.mkdir()
    for file in source.glob("inventory.db*"):
        shutil.copy(file, target)
    return target


def moments(made_site: Path, folder: Path, in_one: bool) -> tuple[list[Moment], Snapshot]:
    """One whole story, with a copy of everything after each of its requests; and how the inventory ends."""
    found: list[Moment] = []
    with inventory(copied(made_site, folder / "whole")) as (store, url):
        hands = Hands(url, in_one=in_one)

        def keep(calls: int) -> None:
            copy = copied(folder / "whole", folder / f"after{calls}")
            found.append(Moment(copy, dict(hands.names), hands.step))

        hands.api.on_answer = keep
        assert run(hands) == len(STEPS)
        return found, snapshot(store)


def taken_up(moment: Moment, *, in_one: bool, dies_at: int | None = None, again: bool = False) -> Snapshot | Moment:
    """A successor at a moment of somebody's death: the inventory when it is through, or the moment of its own death."""
    with inventory(moment.folder) as (store, url):
        heir = Hands(url, in_one=in_one, dies_at=dies_at)
        heir.names = dict(moment.names)
        reached = run(heir, moment.step)
        if reached < len(STEPS):
            return Moment(moment.folder, dict(heir.names), reached)
        if again:
            assert run(heir) == len(STEPS)  # all traps once more
        return snapshot(store)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.long) for part in range(1, PARTS))])
@pytest.mark.parametrize("in_one", [True, False], ids=["embedded-inventory", "as-with-the-original"])
def test_death_after_each_request_in_turn(made_site: Path, memory: Path, in_one: bool, part: int) -> None:
    deaths, wanted = moments(made_site, memory, in_one)
    assert servers(wanted) == ["s0001"]
    assert attribute(wanted, "s0001", "port-nic-eth", "mac", 1) == [HOST]
    tried = 0
    for number, moment in list(enumerate(deaths, 1))[part::PARTS]:
        tried += 1
        found = taken_up(moment, in_one=in_one, again=tried % 4 == 0)
        assert found == wanted, f"killed after request {number} of {len(deaths)}, in step {moment.step}"
    way = "many attributes in one request" if in_one else "one attribute in one request"
    print(f"killed after {tried} of {len(deaths)} requests ({way}): {tried} times the same inventory")


@pytest.mark.timeout(1800)
def test_two_deaths_in_one_story(made_site: Path, memory: Path) -> None:
    """The successor dies as well."""
    deaths, wanted = moments(made_site, memory, True)
    tried = 0
    for number, moment in enumerate(deaths[3::6]):
        second = taken_up(moment, in_one=True, dies_at=1 + number * 3 % 17)
        if isinstance(second, Moment):
            tried += 1
            assert taken_up(second, in_one=True) == wanted, f"killed in step {moment.step}, again in {second.step}"
    assert tried > 5
    print(f"killed twice, {tried} times: the same inventory")
