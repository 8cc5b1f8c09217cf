"""control/planner/closure.py: one's card and another's BMC, which are two rows of one MAC."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.control.moving import Machine, check, fresh, mac_text, rows_of
from tests.control.planner.test_closure import moving
from tests.control.planning import Control


@pytest.mark.parametrize("seen", ["mac", "name"])
def test_a_card_that_became_another_s_bmc(control: Control, tmp_path: Path, seen: str) -> None:
    """Whoever is looked up, both are silent in the very delta that knows of it, and answered once it is over."""
    machines = {"a": Machine(1, [20]), "b": Machine(2, [21], bmc_mac=11, bmc_address=23)}
    with moving(control, tmp_path, update_ipmi=True, **machines) as (planner, inventory):

        def states_now() -> set[tuple[int, str]]:
            return {(key & 15 | key >> 48 << 4, row["state"]) for key, row in rows_of(control.pair()).items()}

        calm = states_now()
        assert {state for _key, state in calm} == {"served"} and len(calm) == 4
        inventory.hosts["b"].bmc_mac = 1
        planner.look_up(*(([mac_text(1)], []) if seen == "mac" else ([], ["b"])))
        check(control.pair())
        assert {(1, "conflict"), (1 | 16, "conflict"), (2, "served")} <= states_now()
        assert rows_of(control.pair()) == fresh(inventory, planner.config.dhcp)
        inventory.hosts["b"].bmc_mac = 11
        planner.look_up(*(([mac_text(1)], []) if seen == "mac" else ([], ["b"])))
        assert states_now() == calm


def test_a_card_that_a_host_got_which_is_read_for_the_sake_of_another(control: Control, tmp_path: Path) -> None:
    """It is read by the second question, and nobody asks who else has its new MAC, in either role."""
    machines = {"c": Machine(4, [22]), "d": Machine(2, [21])}
    with moving(control, tmp_path, update_ipmi=True, **machines) as (planner, inventory):
        inventory.hosts["c"].mac, inventory.hosts["c"].bmc_address = 2, 24
        planner.look_up([mac_text(4)], [])
        check(control.pair())
        assert rows_of(control.pair()) == fresh(inventory, planner.config.dhcp)


def test_a_bmc_at_a_card_that_is_not_served(control: Control, tmp_path: Path) -> None:
    machines = {"c": Machine(4, [22], bmc_mac=11, bmc_address=24), "d": Machine(2, [21], enabled=False)}
    with moving(control, tmp_path, update_ipmi=True, **machines) as (planner, inventory):
        inventory.hosts["c"].mac, inventory.hosts["c"].bmc_mac = 5, 2
        planner.look_up([mac_text(4)], [])
        check(control.pair())


@pytest.mark.parametrize("by", ["mac", "name"])
def test_a_bmc_at_the_card_of_who_cannot_be_read(control: Control, tmp_path: Path, by: str) -> None:
    machines = {"b": Machine(2, [21], bmc_mac=11, bmc_address=23), "c": Machine(3, [22], enabled=False)}
    with moving(control, tmp_path, update_ipmi=True, **machines) as (planner, inventory):
        inventory.hosts["b"].bmc_mac = 3
        inventory.unreadable = {"/server/c"}
        planner.look_up(*(([mac_text(3)], []) if by == "mac" else ([], ["b"])))
        check(control.pair())


def test_a_card_at_the_bmc_of_who_cannot_be_read(control: Control, tmp_path: Path) -> None:
    machines = {"b": Machine(2, [21]), "c": Machine(3, [22], enabled=False, bmc_mac=12, bmc_address=25)}
    with moving(control, tmp_path, update_ipmi=True, **machines) as (planner, inventory):
        inventory.hosts["b"].mac = 12
        inventory.unreadable = {"/server/c"}
        planner.look_up([], ["b"])
        check(control.pair())
