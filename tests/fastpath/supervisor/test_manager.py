"""What a supervisor says to its service manager, and gives it to keep; a manager that is deaf costs nothing."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastpath.supervisor import manager as manager_module
from fastpath.supervisor.fdstore import is_spare, roles
from fastpath.supervisor.upgrade import read_state
from tests.fastpath.supervisor.listening import Listener, listened_to, until_said
from tests.fastpath.supervisor.world import WORKERS, World, open_fds, settled_world

Scene = tuple[World, Listener]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    with listened_to(tmp_path, monkeypatch) as made:
        yield made


def begin(scene: Scene) -> list[str]:
    """Until it is ready; the stand-ins show no generation, so the test does."""
    world, listener = scene
    for page in world.supervisor.pages:
        page.generation = 1
    return until_said(world, listener, lambda words: words == "READY=1", "it is ready")


def store_changed(world: World, listener: Listener, role: str, before: str) -> list[str]:
    return until_said(
        world, listener, lambda words: words == f"FDSTOREREMOVE=1\nFDNAME={before}", f"the {role} before is removed"
    )


def test_ready_when_the_workers_answer_and_the_manager_has_everything(scene: Scene) -> None:
    world, listener = scene
    until_said(world, listener, lambda words: words.startswith("STATUS="), "a status")
    for _ in range(5):
        world.supervisor.turn()
    assert "READY=1" not in listener.said, "no worker has shown that it answers from a table"
    said = begin(scene)
    assert "BARRIER=1" in said and said.index("BARRIER=1") < said.index("READY=1")
    status = next(words for words in reversed(listener.said) if words.startswith("STATUS="))
    assert "\n" not in status
    until_said(world, listener, lambda words: f"{WORKERS} of {WORKERS} workers answer" in words, "it says so")
    kept = roles(world.supervisor.kept)
    assert listener.roles().keys() == {"state", *kept}
    for role, name in listener.roles().items():
        if role != "state":
            assert os.fstat(listener.store[name]).st_ino == os.fstat(kept[role]).st_ino, role
    state = json.loads(os.pread(listener.store[listener.roles()["state"]], 1 << 20, 0))
    assert state["roles"] == [role for role in kept if not is_spare(role)]


def test_ready_without_the_manager_s_word_after_a_while(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(manager_module, "BARRIER_S", 0.3)
    scene[1].answers_barriers = False
    begin(scene)
    assert "ready without its word" in caplog.text


def test_one_worker_that_answers_is_a_service_in_the_end(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    world, listener = scene
    monkeypatch.setattr(manager_module, "PARTLY_S", 0.3)
    world.supervisor.pages[0].generation = 1
    until_said(world, listener, lambda words: words == "READY=1", "it is ready")


def test_a_reload_is_told_from_its_beginning_to_its_end(scene: Scene) -> None:
    world, listener = scene
    begin(scene)
    before_us = time.monotonic_ns() // 1000
    world.supervisor.wake_write.send(bytes([signal.SIGHUP, signal.SIGHUP]))
    said = until_said(world, listener, lambda words: words == "READY=1", "it is ready again")
    reloading = [words for words in said if words.startswith("RELOADING=1\n")]
    assert len(reloading) == 1 and said.index(reloading[0]) < said.index("READY=1")
    assert before_us <= int(reloading[0].partition("MONOTONIC_USEC=")[2]) <= time.monotonic_ns() // 1000
    assert not world.supervisor.reload.wanted


def test_a_new_table_and_a_new_configuration_are_stored_before_the_old_ones_go(scene: Scene) -> None:
    world, listener = scene
    begin(scene)
    old = listener.roles()
    world.supervisor.wake_write.send(bytes([signal.SIGHUP]))  # the stand-in accepts
    said = store_changed(world, listener, "config", old["config"])
    new = listener.roles()["config"]
    assert said.index(f"FDSTORE=1\nFDNAME={new}\nFDPOLL=0") < said.index(f"FDSTOREREMOVE=1\nFDNAME={old['config']}")
    os.kill(world.of("control")[0].pid, signal.SIGKILL)  # the next one publishes another table
    said = store_changed(world, listener, "base", old["base"])
    new = listener.roles()["base"]
    assert said.index(f"FDSTORE=1\nFDNAME={new}\nFDPOLL=0") < said.index(f"FDSTOREREMOVE=1\nFDNAME={old['base']}")
    _base, generation, layout, _serial = new.split(".")
    kept = world.supervisor.kept
    assert (int(generation), int(layout)) == (kept.base_generation, kept.table_layout)
    assert all(listener.roles()[role] == old[role] for role in old if role not in ("config", "base"))


def test_nobody_but_the_service_speaks_to_the_manager(scene: Scene) -> None:
    world, _listener = scene
    sock = world.supervisor.manager.sock
    assert sock is not None
    ours = os.readlink(f"/proc/self/fd/{sock.sock.fileno()}")
    for child in world.supervisor.children:
        environment = Path(f"/proc/{child.pid}/environ").read_bytes()
        assert b"STANDIN_TABLE_VERSION" in environment and b"NOTIFY_SOCKET" not in environment
        assert ours not in {os.readlink(path) for path in Path(f"/proc/{child.pid}/fd").iterdir()}


def test_a_clean_stop_takes_everything_back_the_state_first(scene: Scene) -> None:
    world, listener = scene
    begin(scene)
    state = listener.roles()["state"]
    world.supervisor.stopping = True
    before = len(listener.said)
    with listener.hearing():
        world.supervisor.stop_all()
    said = listener.said[before:]
    assert listener.store == {}
    removals = [words for words in said if words.startswith("FDSTOREREMOVE=1")]
    assert removals[0] == f"FDSTOREREMOVE=1\nFDNAME={state}"
    assert said[0] == "STOPPING=1\nSTATUS=stopping"


def test_a_manager_that_hears_nothing_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its queue is full from the beginning, then it reads: everything arrives, once, in order."""
    monkeypatch.setattr(manager_module, "COMPLAIN_S", 0.1)
    monkeypatch.setattr(manager_module, "BARRIER_S", 0.2)
    caplog.set_level(logging.INFO)
    with listened_to(tmp_path, monkeypatch) as (world, listener):
        for page in world.supervisor.pages:
            page.generation = 1
        world.until(lambda: world.supervisor.manager.told_refusal, "it is said")
        world.stir()
        world.settle()
        for page in world.supervisor.pages:
            page.generation = 1
        until_said(world, listener, lambda words: words == "READY=1", "it is ready")
        until_said(world, listener, lambda words: words.startswith("STATUS="), "the rest")
        assert listener.roles().keys() == {"state", *roles(world.supervisor.kept)}
        assert caplog.text.count("takes nothing") == 1 and "takes what it is told again" in caplog.text


def test_a_manager_that_is_gone_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    with settled_world(tmp_path, monkeypatch) as world:
        fds = open_fds()
        world.stir()
        world.settle()
        assert open_fds() == fds
        world.supervisor.stopping = True
        before = time.monotonic()
        world.supervisor.manager.stop()
        world.supervisor.manager.last_words()
        assert time.monotonic() - before < 10 * manager_module.LAST_WORDS_S


def test_without_a_manager_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    with settled_world(tmp_path, monkeypatch) as world:
        manager = world.supervisor.manager
        assert manager.sock is None and manager.store.state < 0 and not manager.store.stored and not manager.words


def test_the_next_image_knows_what_the_manager_has(scene: Scene) -> None:
    """Over an upgrade: only the state is stored anew, since it names the build."""
    world, listener = scene
    begin(scene)
    old = listener.roles()
    text = world.supervisor.state()
    state = read_state(text)
    assert {role for role, *_rest in state.manager["stored"]} == old.keys()
    manager = manager_module.Manager(world.supervisor)
    manager.restore(state.manager)
    manager.offer(time.monotonic())
    listener.hear()
    new = listener.roles()
    assert {role for role in old if old[role] != new[role]} == {"state"} and old.keys() == new.keys()
    manager.close()


@pytest.mark.parametrize("told", [{"stored": 7}, {"stored": [["udp-0"]]}, {"stored": [["udp-0", "x", "y", "z"]]}])
def test_what_another_image_tells_of_it_ends_nothing(
    scene: Scene, told: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    world, _listener = scene
    manager = manager_module.Manager(world.supervisor)
    manager.restore({"form": 1, "obsolete": [], "ready": True} | told)
    assert "it is left there" in caplog.text and not manager.store.stored
    manager.close()
