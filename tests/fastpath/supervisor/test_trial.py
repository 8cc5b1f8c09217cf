"""The trial by its real process, of installations that are not as they have to be."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastpath.protocol import ChannelClosed, Tried, Try, memfd
from fastpath.supervisor.children import TRIAL, commands, spawn
from tests.fastpath.supervisor.world import World, settled_world

LIMIT_S = 60.0
ROOT = Path(__file__).resolve().parents[3]
CONFIG = b'{"dhcp": {"api_url": "http://127.0.0.1:9"}}'


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with settled_world(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of this build, which is what is installed."""
    made = tmp_path / "installed"
    for name in ("ext", "fastpath", "control"):
        shutil.copytree(ROOT / name, made / name, ignore=shutil.ignore_patterns("__pycache__", "*.c", "*.cpp"))
    monkeypatch.setenv("PYTHONPATH", str(made))
    return made


def tried(world: World, path: Path, config: bytes = CONFIG, **more: bool) -> Tried | None:
    """By the real process; None where it ends without a word."""
    child = spawn(TRIAL, commands()[TRIAL])
    try:
        child.channel.sock.settimeout(LIMIT_S)
        state = json.loads(world.supervisor.state())
        state["kept"]["generation"] = 0  # the stand-in's table is none
        with memfd("state", json.dumps(state).encode()) as text, memfd("config", config) as conf:
            child.channel.send(Try(config_path=str(path), **more), {"state": text, "config": conf})
        try:
            message, _fds = child.channel.receive()
        except ChannelClosed:
            return None
        assert isinstance(message, Tried)
        return message
    finally:
        child.kill()
        os.waitpid(child.pid, 0)
        child.close()


@pytest.mark.parametrize("package", ["fastpath", "control"])
@pytest.mark.parametrize("content", ["", "def half(of: an: edit\n"], ids=["empty", "half of an edit"])
def test_an_entry_that_does_not_run_fails_the_trial(world: World, tree: Path, package: str, content: str) -> None:
    """Each module of the service loads; what is executed is not there."""
    (tree / package / "__main__.py").write_text(content)
    assert tried(world, tree / "services.conf") is None


def test_a_whole_installation_passes(world: World, tree: Path) -> None:
    word = tried(world, tree / "services.conf")
    assert word is not None and word.fault == ""
