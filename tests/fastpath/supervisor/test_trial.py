"""The trial by its real process, of installations that are not as they have to be."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from control.service import trial
from fastpath.process.build import fingerprint
from fastpath.protocol import Channel, ChannelClosed, Tried, Try, memfd
from fastpath.supervisor.children import TRIAL, Child, commands, spawn
from fastpath.supervisor.supervisor import TRIAL_S
from fastpath.supervisor.upgrade import CodeChanged, check_unchanged
from tests.fastpath.supervisor.world import STANDIN, World, settled_world

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
        os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOWAIT)  # it may have more to print
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


@pytest.mark.parametrize("change", ["written", "of another time", "added", "removed", "flipped", "gone"])
def test_code_that_changes_after_its_trial_is_seen(tmp_path: Path, change: str) -> None:
    """By the supervisor that would execute it."""
    link = tmp_path / "installed"
    for name in ("one", "two"):
        (tmp_path / name / "fastpath").mkdir(parents=True)
        (tmp_path / name / "fastpath" / "worker.py").write_text("pass")
    link.symlink_to("one")
    folders = [str(link / "fastpath")]
    word = Tried(folders=folders, fingerprint=fingerprint(folders))
    check_unchanged(word)
    file = link / "fastpath" / "worker.py"
    if change == "written":
        file.write_text("pass\n")
    elif change == "of another time":
        os.utime(file, (1, 1))
    elif change == "added":
        (link / "fastpath" / "more.py").touch()
    elif change == "removed":
        file.unlink()
    elif change == "flipped":
        link.unlink()
        link.symlink_to("two")
    else:
        link.unlink()
    with pytest.raises(CodeChanged):
        check_unchanged(word)
    check_unchanged(Tried())  # a build that does not say is believed, as before


def test_code_that_changes_under_each_trial_is_refused_after_some(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once it stands still it is executed."""
    executed: list[str] = []

    def execute(path: str, _argv: list[str]) -> None:
        executed.append(path)
        raise OSError(errno.ENOENT, "not in a test")

    monkeypatch.setattr(os, "execv", execute)
    caplog.set_level(logging.INFO)
    upgrades = world.supervisor.upgrades
    said = iter(range(100))
    real = upgrades.on_tried

    def on_tried(child: Child, message: Tried) -> None:
        word = "of before" if next(said) < 4 else fingerprint([str(tmp_path)])
        real(child, replace(message, folders=[str(tmp_path)], fingerprint=word))

    monkeypatch.setattr(upgrades, "on_tried", on_tried)
    world.supervisor.wake_write.send(bytes([signal.SIGUSR2]))
    world.until(lambda: "the installed code changes while it is tried" in caplog.text, "refused")
    assert caplog.text.count("has changed since its trial") == 2 and not executed
    world.settle()
    world.supervisor.wake_write.send(bytes([signal.SIGUSR2]))
    world.until(lambda: bool(executed), "it is tried twice, and executed")
    assert caplog.text.count("has changed since its trial") == 3
    world.settle()


def test_a_trial_tells_what_it_has_loaded(world: World, tree: Path) -> None:
    word = tried(world, tree / "services.conf")
    assert word is not None
    assert word.folders == [str(tree / name) for name in ("ext", "fastpath", "control")]
    check_unchanged(word)
    (tree / "control" / "more.py").touch()
    with pytest.raises(CodeChanged):
        check_unchanged(word)


# --- of whose time it is ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state, refused", [("R", False), ("S", True)], ids=["ready to run", "waits for something"])
def test_a_trial_that_gets_no_cpu_is_not_late(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, state: str, refused: bool
) -> None:
    supervisor = world.supervisor
    supervisor.commands[TRIAL] = [*STANDIN, "mute"]
    supervisor.upgrades.ask()
    (child,) = world.of(TRIAL)
    monkeypatch.setattr("fastpath.supervisor.children.look_at", lambda _pid: (state, 5))
    monkeypatch.setattr(supervisor, "last_turn", lambda each: (0.0, TRIAL_S if each is child else math.inf))
    supervisor.awake_s = 0.0
    for now in (TRIAL_S + 1.0, TRIAL_S + 1.01, TRIAL_S + 1.02):
        supervisor.last_tick_s = now - 0.01
        supervisor.check_turns(now)
    assert ("took over 10 s" in caplog.text) == refused
    monkeypatch.undo()
    supervisor.end(child)


@pytest.mark.parametrize("urgent, nice", [(True, 0), (False, 5)])
def test_only_a_trial_that_somebody_asked_for_lets_others_run_first(
    monkeypatch: pytest.MonkeyPatch, urgent: bool, nice: int
) -> None:
    added: list[int] = []
    monkeypatch.setattr(os, "nice", added.append)
    monkeypatch.setattr(trial, "try_out", lambda *_: [])
    monkeypatch.setattr(trial, "say", lambda *_: None)
    ours, theirs = Channel.pair()
    ours.send(Try(config_path="x", urgent=urgent))
    trial.main(theirs.sock.detach())
    assert sum(added) == nice
    ours.close()


def test_the_trial_of_an_upgrade_that_nobody_asked_for_is_urgent(world: World) -> None:
    upgrades = world.supervisor.upgrades
    assert not upgrades.what_to_try().urgent
    upgrades.unasked = True
    assert upgrades.what_to_try().urgent


# --- what is printed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["control/observer/replay.py", "fastpath/__main__.py"])
@pytest.mark.parametrize("quiet", [False, True])
def test_a_quiet_trial_prints_nothing(
    world: World, tree: Path, capfd: pytest.CaptureFixture[str], module: str, quiet: bool
) -> None:
    (tree / module).write_text("def half(of: an: edit\n")
    word = tried(world, tree / "services.conf", quiet=quiet)
    assert word is None or "SyntaxError" in word.fault
    printed = capfd.readouterr().err
    assert ("SyntaxError" in printed) == (not quiet), printed


def test_each_reason_is_printed_once_while_nobody_asks(world: World) -> None:
    upgrades = world.supervisor.upgrades
    quiet = []
    for why in ("one", "one", "one", "two", "two", "two"):
        quiet.append(upgrades.what_to_try().quiet)
        upgrades.refused(why)
    assert quiet == [False, True, True, True, False, True]
    upgrades.ask()
    assert not upgrades.what_to_try().quiet
