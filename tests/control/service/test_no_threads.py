"""Control where the machine starts no thread just now, for a limit on processes that is full."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from control.discovery.journal import Journal, JournalFailed
from control.planner.child import PlannerProcess

MAC = "02:00:00:00:00:01"


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    return monkeypatch


def test_a_journal_without_a_thread_keeps_nobody_from_starting_and_is_written_later(
    tmp_path: Path, refused: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "journal")
    assert journal.load(lambda record: record) == []
    journal.put(MAC, {"stage": "seen"})
    with pytest.raises(JournalFailed, match="can't start new thread"):
        asyncio.run(journal.flush())
    refused.undo()
    asyncio.run(journal.flush())
    journal.close()
    assert Journal(tmp_path / "journal").load(lambda record: record["stage"]) == ["seen"]


@pytest.mark.usefixtures("refused")
def test_a_planner_is_ended_without_a_thread() -> None:
    planner = PlannerProcess()
    try:
        asyncio.run(planner.end())
    finally:
        planner.channel.close()
