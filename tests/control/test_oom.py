"""fastpath/process/oom.py: when memory ends the planner dies, and nothing else."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.cli.ctl import CallFailed
from tests.control.service.doors.test_metrics import write_inventory
from tests.control.service.test_service import HOSTS
from tests.control.serving import Running, may_serve, serving

MEMORY = Path("/sys/fs/cgroup/memory")  # cgroup v1
UNIFIED = Path("/sys/fs/cgroup")  # v2
ROOM = 24 << 20


def family(running: Running) -> dict[str, list[int]]:
    """Kind of process -> pids, of everything below the supervisor."""
    parents, kinds = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            pid = int(folder.name)
            parents[pid] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            words = (folder / "cmdline").read_bytes().decode().split("\0")
            kinds[pid] = words[-3] if len(words) > 3 else ""
    found: dict[str, list[int]] = {"supervise": [running.process.pid]}
    below = {running.process.pid}
    for _ in range(3):
        below |= {pid for pid, parent in parents.items() if parent in below}
    for pid in sorted(below - {running.process.pid}):
        found.setdefault(kinds[pid], []).append(pid)
    return found


def scores(pids: list[int]) -> set[int]:
    return {int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in pids}


@pytest.fixture(autouse=True)
def _may() -> None:
    may_serve()


def test_the_planner_dies_before_control_and_control_before_the_workers(tmp_path: Path) -> None:
    ours = int(Path("/proc/self/oom_score_adj").read_text())
    with serving(tmp_path, write_inventory(tmp_path)) as running:
        running.wait_for(r"generation 1: 2 hosts")
        found = family(running)
        (supervisor,) = scores(found["supervise"])
        assert supervisor in (ours, -900)
        assert scores(found["worker"]) == {supervisor}
        assert scores(found["run"]) == {min(1000, supervisor + 100)}
        assert scores(found["planner"]) == {min(1000, supervisor + 100 + 700)}


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of our own, whose memory can be limited."""
    parent = MEMORY if MEMORY.is_dir() else UNIFIED
    folder = parent / f"bootstorm-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as refused:
        pytest.skip(f"no control group for memory: {refused}")
    if not limit_file(folder).exists():
        folder.rmdir()
        pytest.skip("the memory controller is not enabled")
    yield folder
    with contextlib.suppress(OSError):
        for pid in (folder / "cgroup.procs").read_text().split():
            (parent / "cgroup.procs").write_text(pid)
        folder.rmdir()


def limit_file(folder: Path) -> Path:
    return folder / ("memory.limit_in_bytes" if folder.parent == MEMORY else "memory.max")


def used(folder: Path) -> int:
    return int((folder / ("memory.usage_in_bytes" if folder.parent == MEMORY else "memory.current")).read_text())


@pytest.mark.waits
def test_a_refresh_that_takes_all_memory_costs_the_planner_alone(tmp_path: Path, group: Path) -> None:
    path = tmp_path / "hosts.csv"
    with serving(tmp_path, write_inventory(tmp_path), max_shrink=1) as running:
        running.wait_for(r"generation 1: 2 hosts")
        before = family(running)
        for pid in (pid for pids in before.values() for pid in pids):
            (group / "cgroup.procs").write_text(str(pid))
        limit_file(group).write_text(str(used(group) + ROOM))
        rows = (f"h{n},02:00:00:{n >> 16:02x}:{n >> 8 & 255:02x}:{n & 255:02x},,1\n" for n in range(100_000))
        path.write_text(HOSTS + "".join(rows))
        running.wait_for(r"refresh failed: the planner ended")
        with pytest.raises(CallFailed, match="the planner ended"):
            running.ctl("refresh", {})
        after = family(running)
        status = running.status()
        limit_file(group).write_text(str(1 << 40) if group.parent == MEMORY else "max")
    assert {kind: after[kind] for kind in ("supervise", "run", "worker")} == {
        kind: before[kind] for kind in ("supervise", "run", "worker")
    }
    assert sum(status["restarts"].values()) == 0 and status["hosts"] == 2
