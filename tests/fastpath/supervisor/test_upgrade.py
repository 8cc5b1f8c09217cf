"""From one image of the supervisor to the next: what is written is read by any build, and memory is laid out anew."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ext.ledger import is_ledger
from ext.page import WorkerPage

from control.service.trial import load_everything
from fastpath.process.build import BUILD, BUILD_NAME, VERSION
from fastpath.protocol import Assign, MessageRefused, Settings, Tried, Try, known, memfd, pack, unpack
from fastpath.supervisor import serving, upgrade
from fastpath.supervisor import supervisor as supervisor_module
from fastpath.supervisor.children import LAYOUTS, TRIAL, commands, spawn
from fastpath.supervisor.upgrade import read_state, trial_fds
from tests.fastpath.supervisor.world import COMMANDS, WORKERS, World, open_fds, settled_world

LIMIT_S = 60.0


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with settled_world(tmp_path, monkeypatch) as made:
        yield made


def test_a_ledger_of_another_layout_is_replaced_and_a_missing_one_made(world: World, tmp_path: Path) -> None:
    told = json.loads(world.supervisor.state())
    for kept in (told["kept"]["ledger"], -1):
        told["kept"]["ledger"] = kept
        state = read_state(json.dumps(told).encode())
        upgrade.lay_out_anew(state)
        assert is_ledger(state.kept.ledger) and (state.kept.ledger == kept) == (kept >= 0)
    other = os.memfd_create("other", os.MFD_CLOEXEC)
    told["kept"]["ledger"] = other
    state = read_state(json.dumps(told).encode())
    upgrade.lay_out_anew(state)
    assert is_ledger(state.kept.ledger)


# --- known fields ----------------------------------------------------------------------------------------------------


def test_what_another_build_tells_is_read_by_known_fields(world: World) -> None:
    told = json.loads(world.supervisor.state())
    for part in (told, told["settings"], told["kept"], told["kept"]["slots"][0], told["children"][0], told["site"]):
        part["of_another_build"] = {"what": [1, 2]}
    for part, field in (("kept", "turns"), ("kept", "table_layout"), ("settings", "io"), ("settings", "boot_port")):
        del told[part][field]
    del told["counters"]
    state = read_state(json.dumps(told).encode())
    assert (state.kept.turns, state.settings.io, state.counters) == (-1, "socket", [])
    assert state.kept.slots == world.supervisor.kept.slots
    assert {heir.pid for heir in state.children} == {child.pid for child in world.supervisor.children}


@pytest.mark.parametrize("part, field", [("settings", "workers"), ("kept", "slots"), ("kept", "site_page")])
def test_what_nobody_can_do_without_is_named(world: World, part: str, field: str) -> None:
    told = json.loads(world.supervisor.state())
    del told[part][field]
    with pytest.raises((MessageRefused, KeyError), match=field):
        read_state(json.dumps(told).encode())


def test_a_message_of_another_build_is_read_by_known_fields() -> None:
    more = pack(Assign(slot=1, port=67)).replace(b"\xa4slot", b"\xa4slat", 1)
    with pytest.raises(MessageRefused, match="slot"):
        unpack(more)
    assert known(Assign, {"slot": 3, "port": 67, "of_another_build": 1}) == Assign(slot=3, port=67)


# --- another image ---------------------------------------------------------------------------------------------------


def next_image(world: World, told: dict[str, Any]) -> None:
    """What exec does, in this process: the old object is forgotten, descriptors and children stay."""
    old = world.supervisor
    old.selector.close()
    old.wake.close()
    old.wake_write.close()
    channels = [child.channel.sock.detach() for child in old.children]
    assert len(channels) == len(told["children"])
    for child in old.children:
        os.close(child.pidfd)
        if child.head is not None:
            child.head.map.close()
    world.supervisor = serving.restore(read_state(json.dumps(told).encode()))
    world.supervisor.commands = dict(COMMANDS)


def rolled(world: World) -> bool:
    return world.settled() and not any(child.outdated for child in world.supervisor.children)


def roll(world: World) -> None:
    """Until all are of the new image.  At each moment somebody has a slot, and no two go at once."""
    deadline = time.monotonic() + LIMIT_S
    while not rolled(world):
        assert time.monotonic() < deadline, world.supervisor.children
        world.supervisor.turn()
        assert len(world.of("worker")) >= WORKERS - 1
        assert sum(child.stopping_s > 0 and child.kind == "worker" for child in world.supervisor.children) <= 1


@pytest.mark.parametrize("others", [(), ("page",), ("table",), ("page", "table", "pool")], ids="+".join)
def test_all_are_replaced_and_what_was_counted_goes_on(world: World, others: tuple[str, ...]) -> None:
    """others: layouts that the old build had otherwise."""
    supervisor = world.supervisor
    supervisor.pages[1].carry({"totals": {"rx": 70, "tx": 60}, "verdicts": {"ACKED": 50}, "send_errors": {"EPERM": 3}})
    told = json.loads(supervisor.state())
    told["layouts"] |= dict.fromkeys(others, 99)
    told["site"]["confirmed_boottime_s"] = 4711
    for heir in told["children"]:
        heir["layouts"] = told["layouts"]
    if "table" in others:
        told["kept"]["table_layout"] = 99
    before, restarts, fds = {child.pid for child in supervisor.children}, supervisor.restarts(), open_fds()
    next_image(world, told)
    roll(world)
    supervisor = world.supervisor
    assert not before & {child.pid for child in supervisor.children}
    assert supervisor.restarts() == restarts, "nobody died of it"
    page = supervisor.pages[1]
    assert (page.totals()["rx"], page.verdicts()["ACKED"], page.send_errors()) == (70, 50, {"EPERM": 3})
    assert open_fds() == fds, "what was laid out otherwise is closed"
    assert not [os.readlink(f"/proc/self/fd/{fd}") for fd in supervisor.kept.fds() if os.get_inheritable(fd)]


def test_control_goes_first_and_workers_wait_for_a_table_that_they_can_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        supervisor_module, "HUNG_S", LIMIT_S
    )  # a stand-in that a busy machine leaves out for 0.2 s serves on
    told = json.loads(world.supervisor.state())
    told["layouts"]["table"] = told["kept"]["table_layout"] = 99
    for heir in told["children"]:
        heir["layouts"] = told["layouts"]
    next_image(world, told)
    supervisor = world.supervisor
    supervisor.commands["control"] = [*COMMANDS["control"][:-1], "mute"]  # it has no table for a long while
    old = {child.pid for child in world.of("worker")}
    ends_s = time.monotonic() + 1.0
    while time.monotonic() < ends_s:
        supervisor.turn()
    assert {child.pid for child in world.of("worker")} == old, "they serve on"
    assert not any(child.outdated for child in world.of("control"))
    os.kill(world.of("worker")[0].pid, signal.SIGKILL)
    world.until(lambda: len(world.of("worker")) == 1, "one dies meanwhile")
    for _ in range(5):
        supervisor.turn()
    assert len(world.of("worker")) == 1, "its queue waits for one that could answer"
    supervisor.commands["control"] = COMMANDS["control"]
    os.kill(world.of("control")[0].pid, signal.SIGKILL)
    roll_on(world)


def roll_on(world: World) -> None:
    world.until(lambda: rolled(world), "everybody is of the new image")


@pytest.mark.parametrize("table", [True, False], ids=["table of the old layout", "no table yet"])
def test_a_free_slot_at_the_exec_does_not_hold_up_control(world: World, table: bool) -> None:
    """The slot waits for a table of the new layout, which only the new control makes."""
    for child in world.of("worker") + world.of("spare"):
        os.kill(child.pid, signal.SIGKILL)
    world.until(lambda: not world.of("worker"), "all are gone")
    told = json.loads(world.supervisor.state())
    told["layouts"]["table"] = 99
    told["kept"] |= {"table_layout": 99} if table else {"generation": 0, "base_generation": 0, "base": -1}
    for heir in told["children"]:
        heir["layouts"] = told["layouts"]
    base = world.supervisor.kept.base
    next_image(world, told)
    if not table:
        os.close(base)
    old = world.of("control")
    roll_on(world)
    assert old and not set(map(id, old)) & set(map(id, world.of("control")))


def test_a_worker_tells_its_last_counters_to_the_next_image(world: World) -> None:
    told = json.loads(world.supervisor.state())
    told["layouts"]["page"] = 99
    for heir in told["children"]:
        heir["layouts"] = told["layouts"]
    next_image(world, told)
    supervisor = world.supervisor
    (worker,) = (child for child in world.of("worker") if child.slot == 0)
    assert worker.head is not None, "its page is not that of the slot any more"
    message, fds = unpack(b"\x93\xa8Finished\x81\xa8counters\x81\xa6totals\x81\xa2rx\x2a\x90")
    supervisor.take(worker, message, fds)
    assert supervisor.pages[0].totals()["rx"] == 42


def test_a_sighup_that_nobody_has_obeyed_goes_with_the_upgrade(world: World) -> None:
    (control,) = world.of("control")
    os.kill(control.pid, signal.SIGSTOP)
    world.supervisor.obey([signal.SIGHUP])
    told = json.loads(world.supervisor.state())
    next_image(world, told)
    roll_on(world)
    world.until(lambda: not world.supervisor.reload.wanted, "the new control has obeyed")
    assert os.pread(world.supervisor.kept.config, 100, 0) == b'{"reloaded": true}'


def test_memory_is_laid_out_anew_or_not_at_all(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    told = json.loads(world.supervisor.state())
    told["layouts"]["page"] = 99
    state = read_state(json.dumps(told).encode())
    before, pages = open_fds(), list(state.kept.pages)

    def fail() -> int:
        raise OSError(12, "no memory")

    monkeypatch.setattr(upgrade, "create_site_page", fail)
    with pytest.raises(OSError, match="no memory"):
        upgrade.lay_out_anew(state)
    assert open_fds() == before and state.kept.pages == pages


# --- the trial -------------------------------------------------------------------------------------------------------


def test_a_trial_gets_copies_and_nothing_that_reaches_the_service(world: World) -> None:
    supervisor = world.supervisor
    with trial_fds(supervisor.state(), supervisor.kept) as fds:
        assert set(fds) == {"state", "config", "base"}
        assert not any(stat.S_ISSOCK(os.fstat(fd).st_mode) for fd in fds.values())
        assert os.fstat(fds["config"]).st_ino != os.fstat(supervisor.kept.config).st_ino
        with pytest.raises(OSError):
            os.write(fds["base"], b"x")
        kept = {os.fstat(fd).st_ino for fd in supervisor.kept.pages}
        assert not kept & {os.fstat(fd).st_ino for fd in fds.values()}


def tried(world: World, config: bytes, path: Path) -> Tried:
    """By the real process."""
    child = spawn(TRIAL, commands()[TRIAL])
    try:
        child.channel.sock.settimeout(LIMIT_S)
        state = json.loads(world.supervisor.state())
        state["kept"]["generation"] = 0  # the stand-in's table is none
        with memfd("state", json.dumps(state).encode()) as text, memfd("config", config) as conf:
            child.channel.send(Try(config_path=str(path)), {"state": text, "config": conf})
        message, _fds = child.channel.receive()
        assert isinstance(message, Tried)
        return message
    finally:
        child.kill()
        os.waitpid(child.pid, 0)
        child.close()


def test_this_code_passes_its_own_trial(world: World, tmp_path: Path) -> None:
    assert tried(world, b'{"dhcp": {"api_url": "http://127.0.0.1:9"}}', tmp_path / "services.conf").fault == ""


def test_a_configuration_that_cannot_be_read_at_all_fails_the_trial(world: World, tmp_path: Path) -> None:
    assert "services.conf" in tried(world, b"[", tmp_path / "services.conf").fault


def test_a_trial_loads_every_module_of_the_service() -> None:
    """Those that processes import when they start, and those that they import later."""
    load_everything()
    wanted = {
        "control.service.service", "control.planner.process", "control.observer.observer",
        "control.discovery.traps.receiver", "control.discovery.registrar.registrar", "control.service.doors.metrics",
        "control.service.explaining", "control.sources.fetch", "control.sources.filesource",
        "fastpath.supervisor.supervisor", "fastpath.supervisor.serving", "fastpath.worker",
    }  # fmt: skip
    assert wanted <= sys.modules.keys()


# --- a child's life --------------------------------------------------------------------------------------------------

PARENT = """
import os, signal, subprocess, sys
from fastpath.protocol import Channel
ours, theirs = Channel.pair()
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(theirs.fileno())], pass_fds=[theirs.fileno()])
print(child.pid, flush=True)
ours.sock.recv(1)
os.kill(child.pid, signal.SIGSTOP)
print("stopped", flush=True)
signal.pause()
"""
CHILD = """
import os, signal, sys
from fastpath.process.lifeline import die_with_parent
die_with_parent(int(sys.argv[1]))
os.write(int(sys.argv[1]), b"x")
while True: signal.pause()
"""


def test_a_stopped_child_dies_with_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert parent.stdout.readline() == "stopped\n"
    pidfd = os.pidfd_open(child)
    try:
        parent.kill()
        parent.wait()
        signal.pidfd_send_signal(pidfd, 0)
    except ProcessLookupError:
        return
    finally:
        parent.stdout.close()
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        try:
            signal.pidfd_send_signal(pidfd, 0)
            with open(f"/proc/{child}/stat", encoding="ascii") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return  # dead; whoever inherits it reaps it
        except (ProcessLookupError, FileNotFoundError):
            return
        time.sleep(0.01)
    raise AssertionError("the child outlives its parent")


def test_a_child_inherits_its_channel_and_nothing_else(world: World) -> None:
    """In none of them does an old table stay in memory because of a descriptor that it knows nothing of."""
    for child in world.supervisor.children:
        os.kill(child.pid, signal.SIGKILL)
    world.until(lambda: not world.settled(), "they are gone")
    world.settle()
    for child in world.of("spare"):
        theirs = {int(fd): os.readlink(f"/proc/{child.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{child.pid}/fd")}
        assert not [link for link in theirs.values() if "memfd" in link], theirs
        same = [
            fd
            for fd in world.supervisor.kept.fds()
            if fd in theirs and theirs[fd] == os.readlink(f"/proc/self/fd/{fd}")
        ]
        assert not same, theirs
        assert sum(link.startswith("socket:") for link in theirs.values()) == 1, theirs


def test_a_child_whose_parent_was_quicker_ends_at_once() -> None:
    """Its channel was made by another process than its parent."""
    middle = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', *sys.argv[1:]], close_fds=False))"
    from fastpath.protocol import Channel

    ours, theirs = Channel.pair()
    os.set_inheritable(theirs.fileno(), True)
    argv = [sys.executable, "-c", middle, CHILD, str(theirs.fileno())]
    done = subprocess.run(argv, close_fds=False, timeout=LIMIT_S, check=False)
    assert done.returncode == 1
    ours.close()
    theirs.close()


# --- the build's name ------------------------------------------------------------------------------------------------


def test_the_build_has_a_name() -> None:
    """Recorded by setup.py, without git: a version and 12 digits of a hash."""
    assert len(BUILD) == 12 and int(BUILD, 16) >= 0
    done = subprocess.run(
        [sys.executable, "-m", "control", "--version"], capture_output=True, text=True, timeout=LIMIT_S, check=True
    )
    assert done.stdout == f"bootstorm {VERSION}, build {BUILD}\n" == f"bootstorm {BUILD_NAME}\n"


def test_an_upgrade_tells_which_build_it_came_from(world: World) -> None:
    assert read_state(world.supervisor.state()).build == BUILD_NAME
    assert read_state(world.supervisor.state()).layouts == LAYOUTS
    assert isinstance(read_state(world.supervisor.state()).settings, Settings)
    assert all(isinstance(page, WorkerPage) for page in world.supervisor.pages)
