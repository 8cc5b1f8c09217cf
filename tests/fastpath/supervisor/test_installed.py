"""Code that is installed and not upgraded to, and whose processes cannot live beside this supervisor."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastpath.process.build import BUILD, VERSION
from tests.fastpath.supervisor.world import COMMANDS, STANDIN, World, other_build_installed, settled_world


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with settled_world(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def upgrades(world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> list[float]:
    return other_build_installed(monkeypatch, caplog)


def turn_for(world: World, time_s: float) -> None:
    ends_s = time.monotonic() + time_s
    while time.monotonic() < ends_s:
        world.supervisor.turn()


@pytest.mark.parametrize("role, kind", [("fail", "spare"), ("deaf", "worker")])
def test_a_slot_that_no_process_of_the_installed_code_lives_to_take_begins_the_upgrade(
    world: World, upgrades: list[float], caplog: pytest.LogCaptureFixture, role: str, kind: str
) -> None:
    """They die before they are ready, or of what they are assigned."""
    world.supervisor.commands["spare"] = [*STANDIN, role]
    for child in world.of("spare") + world.of("worker")[:1]:
        os.kill(child.pid, signal.SIGKILL)
    world.until(lambda: len(upgrades) == 1, "it is tried")
    assert f"{kind} of the installed code cannot start beside this supervisor: upgrading" in caplog.text
    world.supervisor.commands["spare"] = COMMANDS["spare"]
    world.settle()
    assert world.supervisor.upgrades.need() == ""


@pytest.mark.parametrize("slot_free", [True, False])
def test_spares_that_die_are_no_reason_while_nobody_waits_or_nothing_else_is_installed(
    world: World, upgrades: list[float], monkeypatch: pytest.MonkeyPatch, slot_free: bool
) -> None:
    if slot_free:
        monkeypatch.setattr("fastpath.process.build.recorded", lambda: (VERSION, BUILD))
    world.supervisor.commands["spare"] = [*STANDIN, "fail"]
    for child in world.of("spare") + world.of("worker")[: int(slot_free)]:
        os.kill(child.pid, signal.SIGKILL)
    world.until(lambda: world.supervisor.deaths["spare"].total > 4, "they die")
    assert not upgrades and world.supervisor.upgrades.need() == ""


@pytest.mark.parametrize("kind", ["spare", "control"])
def test_words_of_the_installed_build_that_this_one_does_not_know_are_ignored(
    world: World, upgrades: list[float], caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """Each is told once."""
    world.supervisor.commands[kind] = [*STANDIN, "greet", kind]
    for child in world.of(kind):
        os.kill(child.pid, signal.SIGKILL)
    world.until(lambda: "unknown kind 'Greeting'" in caplog.text, "it has spoken")
    world.settle()
    turn_for(world, 0.3)
    assert caplog.text.count("Greeting") == 1 and "says what it must not" not in caplog.text
    assert not upgrades


@pytest.mark.parametrize("kind", ["spare", "control"])
def test_who_is_of_our_own_build_and_says_what_nobody_knows_is_killed(
    world: World, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    good, world.supervisor.commands[kind] = world.supervisor.commands[kind], [*STANDIN, "greet", kind]
    for child in world.of(kind):
        os.kill(child.pid, signal.SIGKILL)
    world.until(lambda: "says what it must not (UnknownKind" in caplog.text, "killed")
    world.supervisor.commands[kind] = good
    world.settle()
