"""`ctl ignore`, and how a person takes it back."""

from __future__ import annotations

from pathlib import Path

from control.discovery.coordinator import Coordinator
from tests.control.discovery.conftest import Inventory
from tests.control.discovery.support import MACS, servers, snapshot
from tests.control.discovery.test_coordinator import at_the_desk, configured, trap, until


def test_who_is_ignored_no_longer_has_its_turn_like_a_new_one(site: Inventory, tmp_path: Path) -> None:
    config = configured(tmp_path, site.url)

    async def first(coordinator: Coordinator) -> None:
        assert coordinator.unignore(MACS[0]) is None, "nobody ignores it"
        assert coordinator.ignore(MACS[0]) is not None and coordinator.ignore(MACS[2]) is not None
        coordinator.take([trap(MACS[0], 1), trap(MACS[1], 2)])
        await until(coordinator, MACS[1], "registered")
        assert (await until(coordinator, MACS[0], "ignored"))["reason"] == "by ctl ignore"
        row = coordinator.unignore(MACS[0])
        assert row is not None and (row["state"], row["reason"], row["adopted"]) == ("seen", None, False)
        await until(coordinator, MACS[0], "registered")  # it was seen meanwhile, and needs no further trap

    async def after_a_restart(coordinator: Coordinator) -> None:
        assert (await until(coordinator, MACS[2], "ignored"))["reason"] == "by ctl ignore"
        assert coordinator.unignore(MACS[2]) is not None
        assert MACS[2] not in coordinator.machines.of_mac, "nobody has ever seen it"
        coordinator.take([trap(MACS[2], 3)])
        await until(coordinator, MACS[2], "registered")

    async def after_another(coordinator: Coordinator) -> None:
        assert coordinator.unignore(MACS[0]) is None and coordinator.unignore(MACS[2]) is None

    for scenario in (first, after_a_restart, after_another):
        at_the_desk(config, scenario)
    assert servers(snapshot(site.store)) == ["s0001", "s0002", "s0003"]
