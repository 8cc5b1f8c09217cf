"""The planner is of the code that is installed: what control does where that makes tables that it cannot read."""

import asyncio
import os
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import msgpack
import pytest
from ext.table import TABLE_LAYOUT, TableInvalid

from control.config.config import Config
from control.planner.child import PlannerProcess
from control.planner.jobs import KINDS, READY, Failed, PlanBegin, Planned, Progress
from control.service import refresh
from control.service.refresh import Refresher
from fastpath.protocol import Channel, memfd


def unreadable(*_: Any) -> None:
    raise TableInvalid("another version of the layout")


async def heard(message: Any, fds: list[int]) -> tuple[list[str], Any]:
    """What control is told, and what a refresh is answered, where its planner says this."""
    told: list[str] = []
    table: Any = SimpleNamespace(generation=1)
    refresher = Refresher(Config(), table, unreadable, 1, outlived=told.append)
    refresher.channel, theirs = Channel.pair(KINDS)
    waiting = refresher.waiting["refresh"] = asyncio.get_running_loop().create_future()
    theirs.send(message, fds)
    refresher.on_message()
    theirs.close()
    answer = waiting.result() if waiting.done() else None
    refresher.drop_channel()
    return told, answer


@pytest.mark.parametrize("layout", [0, TABLE_LAYOUT, TABLE_LAYOUT + 1])
@pytest.mark.parametrize("installed", [True, False], ids=["another build is installed", "the old one is back"])
def test_a_planner_of_another_layout_ends_control_where_the_next_would_be_as_well(
    monkeypatch: pytest.MonkeyPatch, layout: int, installed: bool
) -> None:
    """0: of a build that does not say."""
    monkeypatch.setattr(refresh, "another_is_installed", lambda: installed)
    told, answer = asyncio.run(heard(replace(READY, table_layout=layout), []))
    foreign = layout > TABLE_LAYOUT
    assert bool(told) == (foreign and installed)
    assert isinstance(answer, Failed) == foreign


@pytest.mark.parametrize("installed", [True, False], ids=["another build is installed", "a damaged table"])
def test_so_does_its_table_where_it_has_not_said_its_layout(monkeypatch: pytest.MonkeyPatch, installed: bool) -> None:
    monkeypatch.setattr(refresh, "another_is_installed", lambda: installed)
    report = msgpack.packb({"faults": {}, "reasons": {}, "faults_total": 0, "answered": []})
    planned = Planned(origin="links", generation=2, base=2, published=True, confirmed_s=1.0, hosts=1)
    with memfd("report", report) as report_fd, memfd("table", b"") as table_fd:
        told, answer = asyncio.run(heard(planned, [report_fd, table_fd]))
    assert isinstance(answer, Failed) and "another version of the layout" in answer.reason
    assert bool(told) == installed


def test_a_planner_says_its_layout(tmp_path: Any) -> None:
    process = PlannerProcess()
    try:
        process.channel.sock.settimeout(60.0)
        begin = PlanBegin(config_path=str(tmp_path / "services.conf"), state_dir=str(tmp_path), links=[])
        with memfd("config", b'{"dhcp": {"api_url": "http://127.0.0.1:9"}}') as config:
            process.channel.send(begin, [config])
        message, _fds = process.channel.receive()
        assert message == Progress(stage="begin", done=0, total=0, table_layout=TABLE_LAYOUT)
    finally:
        process.channel.close()
        os.kill(process.pid, 9)
        asyncio.run(process.end())
