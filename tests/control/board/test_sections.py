"""control/board/site.py: a service of another build, which says less or otherwise, costs a section, no page."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from control.board.gate import Token, host_names
from control.board.site import Site
from control.board.watcher import Watcher
from tests.control.board.asking import ask
from tests.control.board.faked import host, overview, status


def page(folder: Path, **said: Any) -> str:
    watcher = Watcher(str(folder / "none"))
    watcher.status, watcher.overview = status(), overview()
    watcher.taken_s = watcher.looked_s = time.time()
    watcher.failure = ""
    for name, value in said.items():
        setattr(watcher, name, value)
    found = ask(Site(watcher, Token(None), "t").app(host_names(("127.0.0.1", 9970), ())), "/")
    assert found.status == 200
    return found.text


def test_all_fields_are_there(tmp_path: Path) -> None:
    assert "another build" not in page(tmp_path)


@pytest.mark.parametrize("field", sorted(status()))
def test_a_field_of_the_status_that_is_not_there_costs_its_section(tmp_path: Path, field: str) -> None:
    left = {name: value for name, value in status().items() if name != field}
    assert page(tmp_path, status=left).count("another build") <= 3


@pytest.mark.parametrize("field", ["since_s", "totals", "by", "cut"])
def test_a_field_of_the_overview_that_is_not_there_costs_its_section(tmp_path: Path, field: str) -> None:
    left = {name: value for name, value in overview().items() if name != field}
    found = page(tmp_path, overview=left)
    assert found.count("another build") <= 3 and "Serving" in found and "What happened" in found


@pytest.mark.parametrize("field", ["mac", "stage", "reason"])
def test_a_field_of_a_stuck_host_that_is_not_there(tmp_path: Path, field: str) -> None:
    left = {name: value for name, value in host(1).items() if name != field}
    assert page(tmp_path, stuck=[left]).count("another build") == 1


@pytest.mark.parametrize("value", ["text", None, [], {}, 5])
@pytest.mark.parametrize("field", ["workers", "doubts", "identities", "other_servers", "refresh", "losses", "health"])
def test_a_field_of_another_kind(tmp_path: Path, field: str, value: Any) -> None:
    assert "What happened" in page(tmp_path, status=status(**{field: value}))


def test_events_that_are_not_followed_are_told(tmp_path: Path) -> None:
    assert "it is tried again: why" in page(tmp_path, events_failure="why")
