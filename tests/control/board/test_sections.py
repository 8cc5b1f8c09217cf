"""control/board/site.py: a service of another build, which says less or otherwise, costs a section, no page."""

from __future__ import annotations

import html
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from control.board.gate import Token, host_names
from control.board.site import Site
from control.board.watcher import Watcher
from tests.control.board.asking import ask
from tests.control.board.faked import GROUP, host, overview, status
from tests.control.service.doors.fleet_status import fleet_status


def page(folder: Path, path: str = "/", **said: Any) -> str:
    watcher = Watcher(str(folder / "none"))
    watcher.status, watcher.overview = status(), overview()
    watcher.taken_s = watcher.looked_s = time.time()
    watcher.failure = ""
    for name, value in said.items():
        setattr(watcher, name, value)
    found = ask(Site(watcher, Token(None), "t").app(host_names(("127.0.0.1", 9970), ())), path)
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


def test_a_fleet_has_its_line_and_none_is_there_without_one(tmp_path: Path) -> None:
    assert "Fleet" not in page(tmp_path)
    assert "Fleet: shard main, leads; head 5.3.7" in page(tmp_path, status=status(fleet=fleet_status()))
    found = page(tmp_path, status=status(fleet={"of": "another"}))
    assert found.count("another build") <= 3 and "What happened" in found


def test_events_that_are_not_followed_are_told(tmp_path: Path) -> None:
    assert "it is tried again: why" in page(tmp_path, events_failure="why")


def test_a_service_that_does_not_say_how_far_machines_are_still_serves(tmp_path: Path) -> None:
    found = page(tmp_path, looked_failure="there is no boot ledger", overview=None)
    assert "Serving" in found and "it does not say: there is no boot ledger" in found


def links(found: str) -> list[str]:
    return [html.unescape(each) for each in re.findall(r'href="(/hosts[^"]*)"', found)]


def test_links_are_of_that_pool_or_relay_alone(tmp_path: Path) -> None:
    """Names of clusto may be anything; what a link asks for is a pattern, and of relays an address."""
    long = "プール" * 40
    said = overview(by={"pool": {"a[1]*": GROUP, long: GROUP, "x" * 2_000: GROUP}, "relay": {"other": GROUP}})
    found = [parse_qs(urlsplit(each).query) for each in links(page(tmp_path, overview=said)) if "pool=" in each]
    assert [each["pool"] for each in found] == [["a[[]1][*]"], ["a[[]1][*]"], [long], [long]]
    assert "relay=other" not in page(tmp_path, "/?by=relay", overview=said)


def test_the_next_page_is_of_the_same_filter(tmp_path: Path) -> None:
    watcher = Watcher(str(tmp_path / "none"))

    async def answer(_command: str, _arguments: Any) -> Any:
        return {"hosts": [], "more": True, "after": 7, "generation": 1, "since_s": 1_700_000_000}

    watcher.call = answer  # type: ignore[method-assign]
    name = "å" * 200
    app = Site(watcher, Token(None), "t").app(host_names(("127.0.0.1", 9970), ()))
    found = ask(app, f"/hosts?name={quote(name)}").text
    (more,) = [each for each in links(found) if "after" in each]
    assert parse_qs(urlsplit(more).query) == {"name": [name], "after": ["7"]}
    assert "nothing is known of what was before 2023-11-14 22:13:20Z" in found
