"""The supervisor while every system call that it makes may fail, and children say what they like: it goes on."""

from __future__ import annotations

import builtins
import contextlib
import errno
import gc
import logging
import os
import random
import selectors
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from fastpath.process.build import BUILD, VERSION
from fastpath.protocol import MessageRefused, Reload, Tried, unpack
from fastpath.supervisor.children import LAYOUTS, TRIAL, Child, is_starved
from tests.fastpath.supervisor.world import (
    COMMANDS,
    STANDIN,
    WORKERS,
    World,
    open_fds,
    other_build_installed,
    own_children,
    settled_world,
)

ROUNDS = (4, pytest.param(10, marks=pytest.mark.long))  # the nth call fails, n up to this
# call -> (where it is looked up, its name, how it may fail)
CALLS: dict[str, tuple[Any, str, tuple[int, ...]]] = {
    "posix_spawn": (os, "posix_spawn", (errno.EAGAIN, errno.ENOENT, errno.ENOMEM, errno.EACCES)),
    "pidfd_open": (os, "pidfd_open", (errno.EMFILE, errno.ENFILE, errno.ENOMEM)),
    "socketpair": (socket, "socketpair", (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)),
    "sendmsg": (
        socket.socket,
        "sendmsg",
        (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS, errno.EPIPE, errno.ECONNRESET),
    ),
    "recvmsg": (socket.socket, "recvmsg", (errno.ENOMEM, errno.ECONNRESET, errno.EAGAIN)),
    "recv": (socket.socket, "recv", (errno.ENOMEM, errno.EAGAIN)),
    "waitpid": (os, "waitpid", (errno.ECHILD, errno.EINVAL)),
    "pidfd_send_signal": (signal, "pidfd_send_signal", (errno.EPERM, errno.ESRCH, errno.EMFILE)),
    "memfd_create": (os, "memfd_create", (errno.EMFILE, errno.ENOMEM)),
    "write": (os, "write", (errno.ENOSPC, errno.ENOMEM)),
    "pread": (os, "pread", (errno.EIO, errno.ENOMEM)),
    "fstat": (os, "fstat", (errno.ENOMEM,)),
    "open": (os, "open", (errno.EMFILE, errno.ENOENT)),
    "read /proc": (builtins, "open", (errno.EMFILE, errno.ENOENT)),
    "close": (os, "close", (errno.EIO, errno.EINTR)),
    "register": (selectors.EpollSelector, "register", (errno.ENOMEM, errno.ENOSPC)),
    "select": (selectors.EpollSelector, "select", (errno.ENOMEM, errno.EBADF)),
    "set_inheritable": (os, "set_inheritable", (errno.EBADF, errno.ENOMEM)),
    "execv": (os, "execv", (errno.ENOENT, errno.E2BIG, errno.ENOMEM)),
}


class Faults:
    """One call that fails: the nth from now on, or each until it is healed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.calls = self.fired = 0
        self.fails: Callable[[int], bool] = lambda _call: False
        self.errno = 0

    def watch(self, name: str) -> None:
        """Call it instead of the real one from now on."""
        owner, attribute, _errnos = CALLS[name]
        real = getattr(owner, attribute)

        def perhaps(*arguments: Any, **more: Any) -> Any:
            self.calls += 1
            failing = self.fails(self.calls)
            if failing and name == "close":  # the kernel closes it, whatever it says
                real(*arguments, **more)
            if failing:
                self.fired += 1
                raise OSError(self.errno, os.strerror(self.errno))
            return real(*arguments, **more)

        self.monkeypatch.setattr(owner, attribute, perhaps)

    def arm(self, fails: Callable[[int], bool], number: int) -> None:
        self.calls = self.fired = 0
        self.fails, self.errno = fails, number

    def heal(self) -> None:
        self.fails = lambda _call: False


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with settled_world(tmp_path, monkeypatch) as made:
        yield made


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("name", CALLS)
def test_the_nth_call_fails(world: World, name: str, rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round, another call of it fails, in each way in turn; everybody is back afterwards and nothing is left."""
    faults, errnos = Faults(monkeypatch), CALLS[name][2]
    world.stir()
    world.settle()
    gc.collect()  # what other tests left
    fds, others = open_fds(), own_children() - {child.pid for child in world.supervisor.children}
    faults.watch(name)
    fired = 0
    for number in range(1, rounds + 1):
        faults.arm(lambda call, number=number: call == number, errnos[number % len(errnos)])  # type: ignore[misc]
        hung = world.stir()
        world.until(lambda: not world.settled(), "something happens")
        if name == "read /proc":  # at which only those who are late are looked
            world.until(
                lambda hung=hung: not set(map(id, hung)) & set(map(id, world.supervisor.children)), "it is gone"
            )  # type: ignore[misc]
        world.settle()
        fired += faults.fired
        if fired and not faults.fired:
            break
    faults.heal()
    world.settle()
    assert fired >= 1, f"{name} is never called: its row tests nothing"
    assert not world.supervisor.stopping
    assert open_fds() == fds
    assert own_children() == others | {child.pid for child in world.supervisor.children}


@pytest.mark.parametrize("name", CALLS)
def test_every_call_fails_for_a_while(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As at a full limit on processes or descriptors: nobody can be replaced, and then all are."""
    faults, errnos = Faults(monkeypatch), CALLS[name][2]
    fds = open_fds()
    faults.watch(name)
    for number in errnos:
        faults.arm(lambda _call: True, number)
        world.stir()
        for _ in range(10):
            world.supervisor.turn()
        faults.heal()
        world.stir()
        world.settle()
    assert not world.supervisor.stopping
    assert open_fds() == fds


def raw(kind: Any, fields: Any, names: Any = ()) -> bytes:
    return bytes(msgpack.packb([kind, fields, list(names)]))


SAID = {  # by whom, what, with how many descriptors
    "no msgpack": ("spare", b"\xc1", 0),
    "a number": ("spare", b"\x07", 0),
    "text": ("spare", b"\xa5hello", 2),
    "an empty list": ("spare", b"\x90", 0),
    "deeply nested": ("spare", b"\x91" * 20_000, 0),
    "cut": ("spare", raw("Ready", {})[:-3], 1),
    "too long": ("spare", b"\xc6" + struct.pack(">I", 70_000) + bytes(70_000), 0),
    "unknown kind": ("spare", raw("Surprise", {}), 1),
    "a kind that is no text": ("spare", raw(["Ready"], {}), 0),
    "fields that are no map": ("spare", raw("Ready", [1]), 0),
    "a field is missing": ("spare", raw("Loaded", {}), 0),
    "a field of another type": ("spare", raw("Loaded", {"generation": "7"}), 0),
    "what only control says": ("spare", raw("Publish", {"generation": 9, "base": 9}, [["base", 1]]), 1),
    "what only we say": ("spare", raw("Stop", {}), 3),
    "layouts that are none": ("spare", raw("Ready", {"layouts": {"page": "four"}}), 0),
    "names of nothing": ("spare", raw("Ready", {}, [["base", 2]]), 0),
    "a negative count": ("spare", raw("Ready", {}, [["a", -1], ["b", 3]]), 2),
    "names that are none": ("spare", raw("Ready", {}, [7]), 1),
    "all descriptors": ("spare", raw("Surprise", {"x": 1}, [["a", 150]]), 150),
    "counters that are none": ("spare", raw("Finished", {"counters": {"totals": 7}}), 0),
    "enclosed": ("spare", raw("Enclosed", {"size": 7}), 1),
    "a table without descriptor": ("control", raw("Publish", {"generation": 9, "base": 9}), 0),
    "two bases": ("control", raw("Publish", {"generation": 9, "base": 9}, [["base", 2]]), 2),
    "no table": ("control", raw("Publish", {"generation": 9, "base": 9}, [["base", 1]]), 1),
    "a negative number": ("control", raw("Publish", {"generation": -1, "base": -1}, [["base", 1]]), 1),
    "a huge number": ("control", raw("Publish", {"generation": 2**63, "base": 1}, [["base", 1]]), 1),
    "a configuration without descriptor": ("control", raw("Accepted", {}), 0),
    "a trial's word": ("control", raw("Tried", {}), 0),
    "notes that are no texts": ("trial", raw("Tried", {"notes": [7]}), 0),
}


@pytest.mark.parametrize("what", SAID)
def test_what_a_child_says_costs_that_child(
    world: World, what: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kind, content, fds = SAID[what]
    (tmp_path / "said").write_bytes(content)
    supervisor = world.supervisor
    before, generation = open_fds(), supervisor.kept.generation
    others = [child.pid for child in supervisor.children if child.kind != kind]
    good = supervisor.commands[kind if kind != "trial" else TRIAL]
    bad = [*STANDIN, "say", str(tmp_path / "said"), str(fds)]
    caplog.set_level(logging.INFO)
    if kind == "trial":
        supervisor.commands[TRIAL] = bad
        supervisor.wake_write.send(bytes([signal.SIGUSR2]))
        world.until(lambda: "not upgraded" in caplog.text, "the trial has said it")
        world.settle()
        supervisor.commands[TRIAL] = good
        return
    supervisor.commands[kind] = bad
    os.kill(world.of(kind)[0].pid, signal.SIGKILL)
    world.until(lambda: "says what it must not" in caplog.text, "it was refused")
    supervisor.commands[kind] = good
    world.settle()
    assert not supervisor.stopping
    assert [child.pid for child in supervisor.children if child.pid in others] == others, "nobody else was ended"
    assert open_fds() == before, "the descriptors of what was refused are closed"
    assert kind == "control" or supervisor.kept.generation == generation


def test_a_child_that_never_stops_talking_is_ended(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """By one that was taken over: a real worker's message, again and again."""
    spare = world.of("spare")[0]
    mouth = socket.socket(fileno=os.dup(peer_of(spare)))
    try:
        mouth.setblocking(False)
        rejected = raw("Rejected", {"generation": 1, "reason": "no", "slot": 0})

        def babble() -> bool:
            with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                mouth.send(rejected)
            return "200 messages" in caplog.text

        world.until(babble, "it was refused")
    finally:
        mouth.close()
    world.settle()


def peer_of(child: Child) -> int:
    """The child's own end of its channel, taken from it by pidfd_getfd(2)."""
    import ctypes

    with open(f"/proc/{child.pid}/cmdline", "rb") as file:
        number = int(file.read().split(b"\0")[-2])
    fd = ctypes.CDLL(None, use_errno=True).syscall(438, child.pidfd, number, 0)
    if fd < 0:
        pytest.skip(f"pidfd_getfd: {os.strerror(ctypes.get_errno())}")
    return int(fd)


@pytest.mark.property
def test_unpacking_refuses_and_never_raises_anything_else() -> None:
    """Octets at random, and messages with octets changed at random; seeded."""
    chance = random.Random(11)
    good = [
        raw("Publish", {"generation": 9, "base": 9}, [["base", 1]]),
        raw("Rejected", {"generation": 1, "reason": "x"}),
    ]
    for _ in range(20_000):
        content = bytearray(chance.choice(good) if chance.random() < 0.7 else chance.randbytes(chance.randrange(60)))
        for _ in range(chance.randrange(4)):
            if content:
                content[chance.randrange(len(content))] = chance.randrange(256)
        try:
            unpack(bytes(content), range(chance.randrange(3)))
        except MessageRefused:
            continue


def test_a_child_that_cannot_be_started_is_told_once(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As the limit on processes is full: with pauses, and one line in the log; then a line that it is well again."""
    monkeypatch.undo()
    monkeypatch.setenv("STANDIN_TABLE_VERSION", str(LAYOUTS["table"]))
    caplog.set_level(logging.INFO)
    faults = Faults(monkeypatch)
    faults.watch("posix_spawn")
    faults.arm(lambda _call: True, errno.EAGAIN)
    os.kill(world.of("control")[0].pid, signal.SIGKILL)
    ends_s = time.monotonic() + 1.5
    while time.monotonic() < ends_s:
        world.supervisor.turn()
    assert 3 <= faults.fired <= 8, "with growing pauses"
    assert caplog.text.count("control cannot be started: Resource temporarily unavailable") == 1
    faults.heal()
    world.settle()
    assert "control: started again" in caplog.text


def test_all_workers_start_at_once(world: World) -> None:
    """And the spare beside them, as one that dies takes the others' slots with it."""
    for child in world.of("worker") + world.of("spare"):
        os.kill(child.pid, signal.SIGKILL)
    world.until(lambda: not world.of("worker"), "all are gone")
    world.supervisor.start_missing()
    assert len(world.of("worker") + world.of("spare")) == WORKERS + 1, "one may be ready, and serve, already"


def test_requests_wait_for_the_first_table_but_not_for_ever(world: World) -> None:
    """A worker that has none would take them out of their queue and be silent."""
    world.settle()
    for child in world.of("worker") + world.of("spare"):
        os.kill(child.pid, signal.SIGKILL)
    supervisor = world.supervisor
    world.until(lambda: not world.of("worker"), "all are gone")
    supervisor.kept.generation, generation = 0, supervisor.kept.generation
    supervisor.table_due_s = time.monotonic() + 60.0
    world.until(lambda: len([child for child in world.of("spare") if child.ready]) > WORKERS, "spares stand by")
    assert supervisor.taker() is None and not world.of("worker")
    supervisor.kept.generation = generation
    assert supervisor.taker() is not None, "there is one"
    supervisor.kept.generation, supervisor.table_due_s = 0, time.monotonic()
    assert supervisor.taker() is not None, "or there is none in time"
    supervisor.kept.generation = generation


def test_a_signal_that_comes_while_new_code_is_executed_is_not_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came before signals were blocked is obeyed, what comes after waits for the new image."""
    supervisor, seen = world.supervisor, list[set[signal.Signals]]()

    def execute(_path: str, _argv: list[str]) -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGHUP)  # threads of other tests would let it end us
        seen.append(signal.sigpending())
        signal.sigwait([signal.SIGHUP])  # or the default action would end this process when the mask is taken back
        raise OSError(errno.ENOENT, "not this time")

    monkeypatch.setattr(os, "execv", execute)
    supervisor.upgrades.become_new(Tried())
    assert seen == [{signal.SIGHUP}]
    supervisor.wake_write.send(bytes([signal.SIGTERM]))
    supervisor.upgrades.become_new(Tried())
    assert len(seen) == 1 and supervisor.stopping, "it stops instead"


def reloaded(world: World) -> bool:
    """The stand-in of control says so by what it accepts, as control does."""
    return os.pread(world.supervisor.kept.config, 100, 0) == b'{"reloaded": true}'


@pytest.mark.parametrize("how", ["hangs", "stops", "is not there"])
def test_a_sighup_waits_for_a_control_that_lives(world: World, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    supervisor = world.supervisor
    (control,) = world.of("control")
    os.kill(control.pid, signal.SIGSTOP)
    if how == "stops":
        supervisor.ask_to_stop(control)
    if how == "is not there":
        monkeypatch.setattr(supervisor, "lacks", lambda *_: False)
        os.kill(control.pid, signal.SIGKILL)
        world.until(lambda: not world.of("control"), "it is gone")
    supervisor.wake_write.send(bytes([signal.SIGHUP]))
    for _ in range(10):
        supervisor.turn()
    assert supervisor.reload.wanted and not reloaded(world)
    monkeypatch.undo()
    monkeypatch.setenv("STANDIN_TABLE_VERSION", str(LAYOUTS["table"]))
    with contextlib.suppress(ProcessLookupError):
        os.kill(control.pid, signal.SIGKILL)
    world.until(lambda: reloaded(world), "its successor has obeyed")
    world.until(lambda: not supervisor.reload.wanted, "and lives on")
    os.kill(world.of("control")[0].pid, signal.SIGKILL)
    world.until(lambda: not reloaded(world), "the next one has not been told")
    world.settle()
    assert not reloaded(world)


def test_a_sighup_that_every_control_dies_of_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = world.supervisor

    send = supervisor.send

    def dies(child: Child, message: Any, *fds: Any) -> None:
        if isinstance(message, Reload):
            child.kill()
        else:
            send(child, message, *fds)

    monkeypatch.setattr(supervisor, "send", dies)
    supervisor.wake_write.send(bytes([signal.SIGHUP]))
    world.until(lambda: "3 control processes ended over it" in caplog.text, "given up")
    world.settle()
    assert not supervisor.reload.wanted


def test_a_stopped_control_is_replaced(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastpath.supervisor.supervisor.STUCK_S", 0.3)
    (control,) = world.of("control")
    os.kill(control.pid, signal.SIGSTOP)
    world.until(lambda: control not in world.supervisor.children, "it was noticed")
    world.settle()


@pytest.mark.parametrize("kind", ["control", "spare"])
def test_one_that_is_stopped_while_it_loads_is_replaced_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """One that loads on has the time that loading may take."""
    monkeypatch.setattr("fastpath.supervisor.supervisor.STUCK_S", 0.3)
    supervisor = world.supervisor
    supervisor.commands[kind] = [*STANDIN, "mute"]
    (old,) = world.of(kind)
    os.kill(old.pid, signal.SIGKILL)
    world.until(lambda: old not in world.of(kind) and len(world.of(kind)) == 1, "one that does not get ready")
    (child,) = world.of(kind)
    ends_s = time.monotonic() + 1.0
    while time.monotonic() < ends_s:
        supervisor.turn()
    assert world.of(kind) == [child]
    os.kill(child.pid, signal.SIGSTOP)
    supervisor.commands[kind] = [*STANDIN, kind]
    started = time.monotonic()
    world.until(lambda: child not in supervisor.children, "it was noticed")
    assert time.monotonic() - started < 10.0
    world.settle()


def test_a_spare_that_never_gets_ready_is_replaced(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastpath.supervisor.supervisor.LOADING_S", 0.3)
    supervisor = world.supervisor
    supervisor.commands["spare"] = [*STANDIN, "mute"]
    os.kill(world.of("spare")[0].pid, signal.SIGKILL)
    world.until(lambda: not world.settled() and len(world.of("spare")) == 1, "one that says nothing")
    supervisor.commands["spare"] = [*STANDIN, "spare"]
    world.settle()


# --- other code is installed and nobody has asked for an upgrade -----------------------------------------------------


@pytest.fixture
def upgrades(world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> list[float]:
    world.supervisor.commands["spare"] = [*STANDIN, "foreign"]
    return other_build_installed(monkeypatch, caplog)


def replace_the_spare(world: World) -> Child:
    """By what is installed."""
    (old,) = world.of("spare")
    os.kill(old.pid, signal.SIGKILL)
    world.until(lambda: old not in world.of("spare") and any(child.ready for child in world.of("spare")), "another")
    return world.of("spare")[0]


def test_a_spare_of_another_layout_is_told_once_and_takes_no_slot(
    world: World, upgrades: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """While all slots are taken; nothing is restarted in a loop."""
    foreign = replace_the_spare(world)
    for _ in range(20):
        world.supervisor.turn()
    assert world.of("spare") == [foreign] and not foreign.loaded
    assert caplog.text.count("finish the upgrade with SIGUSR2 or put the old code back") == 1
    assert "(0.2, build b) has another layout of page, table, pool than this" in caplog.text
    replace_the_spare(world)
    assert caplog.text.count("put the old code back") == 1
    assert world.supervisor.taker() is None and not upgrades


def test_a_free_slot_that_only_the_installed_code_can_fill_begins_the_upgrade(
    world: World, upgrades: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """With pauses; what refuses it is told once.  A SIGUSR2 is answered each time."""
    replace_the_spare(world)
    os.kill(world.of("worker")[0].pid, signal.SIGKILL)
    world.until(lambda: len(upgrades) == 3, "tried again")
    assert upgrades[2] - upgrades[0] >= 0.3, "two pauses, less what the first trial may have taken longer"
    assert caplog.text.count("a worker is missing") == 1
    assert caplog.text.count("not upgraded: the new code cannot be executed") == 1
    assert len(world.of("worker")) == WORKERS - 1, "nobody of the other build has its slot"
    world.supervisor.wake_write.send(bytes([signal.SIGUSR2]))
    world.until(lambda: len(upgrades) == 4, "as it was asked to")
    assert caplog.text.count("not upgraded: the new code cannot be executed") == 2


def test_where_the_old_code_is_put_back_it_serves(
    world: World, upgrades: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_the_spare(world)
    monkeypatch.setattr("fastpath.supervisor.installed.FOREIGN_S", 0.2)
    monkeypatch.setattr("fastpath.process.build.recorded", lambda: (VERSION, BUILD))
    world.supervisor.commands["spare"] = [*STANDIN, "spare"]
    world.settle()
    os.kill(world.of("worker")[0].pid, signal.SIGKILL)
    world.settle()
    assert not upgrades


@pytest.mark.parametrize("how", ["it cannot start", "it publishes tables of another layout"])
def test_a_control_that_only_goes_with_the_installed_supervisor_begins_the_upgrade(
    world: World, upgrades: list[float], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    supervisor = world.supervisor
    if how == "it cannot start":
        supervisor.commands["control"] = [*STANDIN, "fail"]
    else:
        monkeypatch.setenv("STANDIN_TABLE_VERSION", "99")
    os.kill(world.of("control")[0].pid, signal.SIGKILL)
    world.until(lambda: len(upgrades) == 1, "it is tried")
    assert caplog.text.count("upgrading without having been asked to") == 1
    monkeypatch.setattr("fastpath.supervisor.installed.FOREIGN_S", 0.0)
    monkeypatch.setattr("fastpath.process.build.recorded", lambda: (VERSION, BUILD))
    monkeypatch.setenv("STANDIN_TABLE_VERSION", str(LAYOUTS["table"]))
    supervisor.commands |= COMMANDS
    world.settle()
    assert supervisor.upgrades.need() == ""


def test_a_control_that_ends_in_the_midst_of_an_installation_begins_nothing(
    world: World, upgrades: list[float]
) -> None:
    """The next one starts: what the trial found is not needed any more."""
    supervisor = world.supervisor
    good, supervisor.commands["control"] = supervisor.commands["control"], [*STANDIN, "fail"]
    supervisor.commands[TRIAL] = [*STANDIN, "mute"]
    os.kill(world.of("control")[0].pid, signal.SIGKILL)
    world.until(lambda: len(world.of(TRIAL)) == 1, "a trial runs")
    supervisor.commands["control"] = good
    world.until(lambda: not supervisor.upgrades.need(), "control turns")
    (trial,) = world.of(TRIAL)
    supervisor.upgrades.on_tried(trial, Tried())
    assert not upgrades


@pytest.mark.parametrize(
    "looks, budget_s, starved",
    [
        ([("R", 5), ("R", 5), ("R", 5)], 0.0, [True, True, True]),
        ([("R", 5), ("R", 6), ("R", 6)], 0.0, [True, False, True]),
        ([("T", 5), ("S", 5)], 0.0, [False, False]),
        ([("R", 5), ("R", 2005), ("R", 3005), ("R", 3006)], 3.0, [True, True, True, False]),
        ([("R", 5), ("T", 6)], 3.0, [True, False]),
        ([None, ("R", 5), None], 0.0, [True, True, True]),
    ],
    ids=["no CPU", "some CPU", "not ready to run", "within its budget of CPU", "stopped", "nothing to be seen"],
)
def test_starved_is_not_hung(
    world: World,
    looks: list[tuple[str, int] | None],
    budget_s: float,
    starved: list[bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """looks: (state, ms of CPU) at each look while it is late."""
    child, seen = world.of("control")[0], iter(looks)

    def look_at(_pid: int) -> tuple[str, int] | None:
        look = next(seen)
        return None if look is None else (look[0], look[1] * 1_000_000)

    child.ran_ns = -1
    monkeypatch.setattr("fastpath.supervisor.children.look_at", look_at)
    assert [is_starved(child, budget_s) for _ in looks] == starved
