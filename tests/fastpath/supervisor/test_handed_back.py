"""A supervisor was killed, and the next one starts with what the manager kept of it, or refuses it as a whole."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ext.ledger import is_ledger
from ext.page import SiteWords, WorkerPage

from fastpath.process.notify import Handed, NotifySocket
from fastpath.protocol import close_all
from fastpath.supervisor import handed_back
from fastpath.supervisor.children import LAYOUTS
from fastpath.supervisor.descriptors import Kept, StartFailed
from fastpath.supervisor.fdstore import FORM, roles
from fastpath.supervisor.handed_back import TRIES_MAX, Refused, go_on, release
from fastpath.supervisor.supervisor import Supervisor
from tests.fastpath.supervisor.listening import Listener, listened_to, until_said
from tests.fastpath.supervisor.world import COMMANDS, WORKERS, World, open_fds

Killed = tuple[World, Listener]


@pytest.fixture(autouse=True)
def _privileged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handed_back, "drop_privileges", lambda _owner: None)  # of the test's own process


@contextmanager
def killed_world(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Killed]:
    """It was ready, from generation 1 of its workers' pages on; all its processes are gone."""
    with socket.socket(socket.AF_UNIX) as console, listened_to(folder, monkeypatch) as (world, listener):
        console.bind(str(folder / "control.sock"))
        for page in world.supervisor.pages:
            page.generation = 1
        until_said(world, listener, lambda words: words == "READY=1", "it is ready")
        world.kill_all()
        yield world, listener


@pytest.fixture
def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Killed]:
    with killed_world(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture(scope="module")
def dead(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    with pytest.MonkeyPatch.context() as monkeypatch, killed_world(tmp_path_factory.mktemp("w"), monkeypatch) as made:
        yield made


@pytest.fixture
def kept_of_dead(dead: Killed, tmp_path: Path) -> Iterator[Listener]:
    """What the manager has of one that is dead, for a test to spoil: memory is copied, as far as there is anything."""
    _world, original = dead
    listener = Listener(str(tmp_path / "notify"))
    listener.store = {name: copied(fd) for name, fd in original.store.items()}
    yield listener
    listener.close()


def copied(fd: int) -> int:
    found = os.fstat(fd)
    if stat.S_ISSOCK(found.st_mode):
        return os.dup(fd)
    copy = os.memfd_create("copy", os.MFD_CLOEXEC)
    os.ftruncate(copy, found.st_size)
    os.pwrite(copy, os.pread(fd, 4096, 0), 0)
    return copy


def found_again(world: World, kept: Kept) -> None:
    """Every descriptor is the same file as before."""
    before, after = roles(world.supervisor.kept), roles(kept)
    assert before.keys() == after.keys()
    for role, fd in after.items():
        assert os.fstat(fd).st_ino == os.fstat(before[role]).st_ino, role


def rename(listener: Listener, role: str, new: str) -> None:
    listener.store[new] = listener.store.pop(listener.roles()[role])


def lose(listener: Listener, role: str) -> None:
    os.close(listener.store.pop(listener.roles()[role]))


def replace(listener: Listener, role: str, content: bytes, size: int = 0) -> None:
    """Another memfd by the name."""
    fd = os.memfd_create("replaced", os.MFD_CLOEXEC)
    os.write(fd, content)
    os.ftruncate(fd, max(size, len(content)))
    name = listener.roles()[role]
    os.close(listener.store[name])
    listener.store[name] = fd


def add(listener: Listener, name: str, content: bytes) -> None:
    listener.store[name] = os.memfd_create("added", os.MFD_CLOEXEC)
    os.write(listener.store[name], content)


def state_of(listener: Listener) -> dict[str, Any]:
    fd = listener.store[listener.roles()["state"]]
    return dict(json.loads(os.pread(fd, 1 << 20, 0).partition(b"\n")[0]))


def test_everything_goes_on(killed: Killed, caplog: pytest.LogCaptureFixture) -> None:
    world, listener = killed
    old = world.supervisor
    generation = old.kept.generation
    old.pages[1].carry({"totals": {"rx": 70, "tx": 60}})
    SiteWords(old.kept.site_page).confirmed_boottime_s = 4711
    handed, names = listener.hand_back(), listener.roles()
    settings, kept, store = go_on(handed)
    assert settings == dataclasses.replace(old.settings, brake_ns=[0, 0])  # type: ignore[arg-type]  # JSON has lists
    found_again(world, kept)
    assert (kept.generation, kept.table_layout) == (generation, LAYOUTS["table"])
    assert [page.totals()["rx"] for page in map(WorkerPage, kept.pages)] == [0, 70]
    assert [(page.pid, page.generation) for page in map(WorkerPage, kept.pages)] == [(0, 0)] * WORKERS
    assert SiteWords(kept.site_page).confirmed_boottime_s == 4711
    assert os.pread(kept.lock, 20, 0) == f"{os.getpid()}\n".encode()
    assert not any(os.get_inheritable(fd) for fd in kept.fds())
    assert {role: stored.name for role, stored in store.stored.items()} == {
        role: name for role, name in names.items() if role != "state"
    }
    assert f"kept {len(handed) - 1} descriptors" in caplog.text
    # A supervisor on top of it stores only its own state, and serves.
    old.manager.close()
    old.selector.close()
    old.wake.close()
    old.wake_write.close()
    ours = {sock.fileno() for sock in world.sockets}
    close_all(fd for fd in old.kept.fds() if fd not in ours)
    world.supervisor = Supervisor(settings, kept, commands=dict(COMMANDS))
    world.supervisor.manager.store = store
    world.settle()
    for page in world.supervisor.pages:
        page.generation = 1
    before = len(listener.said)
    until_said(world, listener, lambda words: words == "READY=1", "it is ready")
    assert {role: name for role, name in listener.roles().items() if role not in ("state", "base", "config")} == {
        role: name for role, name in names.items() if role not in ("state", "base", "config")
    }
    assert sum(words.startswith("FDSTORE=1") for words in listener.said[before:]) <= 3
    text = os.pread(listener.store[listener.roles()["state"]], 1 << 20, 0)
    assert text.endswith(b"\n"), "it has served: no try any more"
    for sock in world.sockets:
        sock.close()
    world.sockets = []


def lose_urgent(listener: Listener) -> None:
    lose(listener, "urgent-1")


def lose_state(listener: Listener) -> None:
    lose(listener, "state")


def lose_config(listener: Listener) -> None:
    lose(listener, "config")


def torn_state(listener: Listener) -> None:
    replace(listener, "state", b'{"form": 1, "settings": {"work')


def empty_state(listener: Listener) -> None:
    replace(listener, "state", b"")


def another_form(listener: Listener) -> None:
    replace(listener, "state", json.dumps(state_of(listener) | {"form": FORM + 1, "build": "9.9, build f00"}).encode())


def other_settings(listener: Listener) -> None:
    replace(listener, "state", json.dumps(state_of(listener) | {"settings": {"workers": "two"}}).encode())


def more_workers(listener: Listener) -> None:
    told = state_of(listener)
    told["settings"] |= {"workers": 3}
    replace(listener, "state", json.dumps(told).encode())


def another_port(listener: Listener) -> None:
    told = state_of(listener)
    told["settings"] |= {"port": 67}
    replace(listener, "state", json.dumps(told).encode())


def a_file_for_a_socket(listener: Listener) -> None:
    replace(listener, "udp-0", b"not a socket")


def all_of_a_socket_unit(listener: Listener) -> None:
    for number, name in enumerate(list(listener.store)):
        listener.store[f"bootstorm.socket{number}"] = listener.store.pop(name)


REFUSED: dict[str, tuple[Callable[[Listener], None], str]] = {
    "a full store": (lose_urgent, r"1 of \d+ are missing, such as urgent-1; .*FileDescriptorStoreMax"),
    "no state": (lose_state, "state is missing"),
    "no configuration": (lose_config, "such as config"),
    "a torn state": (torn_state, "the state cannot be read"),
    "an empty state": (empty_state, "the state cannot be read"),
    "another form": (another_form, f"of 9.9, build f00, in form {FORM + 1}; wanted form {FORM}"),
    "settings that are none": (other_settings, "the settings cannot be read"),
    "more workers than sockets": (more_workers, "udp-2 is missing"),
    "another port": (another_port, "is at port 0, wanted 67"),
    "no socket": (a_file_for_a_socket, "udp-0 is no socket"),
    "a unit's own sockets": (all_of_a_socket_unit, "state is missing"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_gone_on_with_is_refused_as_a_whole(kept_of_dead: Listener, what: str) -> None:
    listener = kept_of_dead
    spoil, reason = REFUSED[what]
    spoil(listener)
    handed = listener.hand_back()
    with pytest.raises(Refused, match=reason):
        go_on(handed)
    close_all(each.fd for each in handed)


def test_a_start_that_never_serves_is_not_tried_for_ever(kept_of_dead: Listener) -> None:
    listener = kept_of_dead
    for _ in range(TRIES_MAX):
        _settings, kept, store = go_on(listener.hand_back())
        assert store.tries
        close_all(kept.fds())
    handed = listener.hand_back()
    with pytest.raises(Refused, match=f"{TRIES_MAX} starts in a row"):
        go_on(handed)
    close_all(each.fd for each in handed)


def memory_of(listener: Listener, role: str, spoil: str) -> None:
    if spoil == "another layout":
        fd = listener.store[listener.roles()[role]]
        os.pwrite(fd, struct.pack("<I", 99), 4)
    elif spoil == "empty":
        replace(listener, role, b"")
    else:
        lose(listener, role)


@pytest.mark.parametrize("spoil", ["another layout", "empty", "lost"])
@pytest.mark.parametrize("role", ["page-1", "site", "ledger"])
def test_memory_that_cannot_be_used_is_made_anew(
    kept_of_dead: Listener, role: str, spoil: str, caplog: pytest.LogCaptureFixture
) -> None:
    listener = kept_of_dead
    memory_of(listener, role, spoil)
    _settings, kept, store = go_on(listener.hand_back())
    assert [WorkerPage(fd).slot for fd in kept.pages] == list(range(WORKERS)) and is_ledger(kept.ledger)
    assert SiteWords(kept.site_page).dated_s == 0
    assert role not in store.stored
    assert (f"{role} is made anew" in caplog.text) == (spoil != "lost")
    # Without all pages nobody knows what was answered from last: then the table on disk, which is dated, serves.
    assert (kept.generation == 0) == (role == "page-1")
    if role == "page-1":
        assert "the table is not used: nobody knows" in caplog.text and "base" not in store.stored
        assert SiteWords(kept.site_page).confirmed_boottime_s < 0 and "site" not in store.stored
    close_all(kept.fds())


def test_a_table_older_than_what_was_answered_from_is_not_used(
    kept_of_dead: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    """The manager did not take the last one, and then the supervisor was killed: a host may have moved meanwhile."""
    listener = kept_of_dead
    _base, generation, *_rest = listener.roles()["base"].split(".")
    WorkerPage(listener.store[listener.roles()["page-1"]]).generation = int(generation) + 1
    _settings, kept, store = go_on(listener.hand_back())
    assert (kept.generation, kept.base, kept.delta) == (0, -1, -1) and "base" not in store.stored
    assert "from which a worker has answered" in caplog.text
    assert listener.roles()["base"] in store.obsolete
    close_all(kept.fds())


def table(layout: int) -> bytes:
    return struct.pack("<II", 0x74736F62, layout)


TABLES = {  # names beside base 10 -> what is gone on with: (generation, base)
    "a base alone": ([], (10, 10)),
    "a delta": (["delta.12.10.5"], (12, 10)),
    "a new base, and the old delta": (["delta.12.10.5", f"base.20.{LAYOUTS['table']}.6"], (20, 20)),
    "a new delta whose base is not there yet": (["delta.12.10.5", "delta.21.20.6"], (12, 10)),
    "a new delta, its base, and the old pair": (
        ["delta.12.10.5", "delta.21.20.6", f"base.20.{LAYOUTS['table']}.7"], (21, 20),
    ),
    "the old delta, and the new one": (["delta.12.10.5", "delta.13.10.6"], (13, 10)),
    "numbers that are none": (["delta.9.10.5", "base.0.1.6", "delta.12.5"], (10, 10)),
}  # fmt: skip


@pytest.mark.parametrize("what", TABLES)
def test_the_youngest_whole_table_is_gone_on_with(kept_of_dead: Listener, what: str) -> None:
    """Whenever the supervisor was killed between two messages to the manager."""
    listener = kept_of_dead
    lose(listener, "base")
    more, wanted = TABLES[what]
    for name in [f"base.10.{LAYOUTS['table']}.4", *more]:
        add(listener, name, table(LAYOUTS["table"]))
    _settings, kept, store = go_on(listener.hand_back())
    assert (kept.generation, kept.base_generation) == wanted
    assert (kept.delta >= 0) == (wanted[0] != wanted[1])
    used = {stored.name for role, stored in store.stored.items() if role in ("base", "delta")}
    assert {name for name in listener.store if name.startswith(("base", "delta"))} - used <= set(store.obsolete)
    close_all(kept.fds())


@pytest.mark.parametrize("layout, content", [(99, table(99)), (LAYOUTS["table"], b""), (LAYOUTS["table"], table(99))])
def test_a_table_of_another_layout_is_left_to_the_disk(
    kept_of_dead: Listener, layout: int, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    listener = kept_of_dead
    lose(listener, "base")
    add(listener, f"base.10.{layout}.4", content)
    _settings, kept, _store = go_on(listener.hand_back())
    assert kept.generation == 0 and kept.base == -1 and "the table is not used" in caplog.text
    close_all(kept.fds())


def test_what_is_none_of_ours_is_closed_and_told(kept_of_dead: Listener, caplog: pytest.LogCaptureFixture) -> None:
    listener = kept_of_dead
    for name in ("stored", "unknown", "udp-0", "config.x", "\x1b[31m"):
        add(listener, name, b"what")
    add(listener, "udp-0.1", b"an older one of a role that there is")
    fds, names = open_fds(), {name.partition(".")[0] for name in listener.store} - {"stored", "unknown", "state"}
    _settings, kept, store = go_on(listener.hand_back())
    assert {role for role in names if role.partition("-")[0].isalpha()} == store.stored.keys()
    assert {"stored", "unknown", "udp-0", "config.x", "udp-0.1"} <= set(store.obsolete)
    assert caplog.text.count("is none of ours: closed") == 5 and "\x1b" not in caplog.text
    close_all(kept.fds())
    assert open_fds() == fds


def test_a_control_socket_whose_path_is_gone_is_opened_anew(killed: Killed, tmp_path: Path) -> None:
    world, listener = killed
    os.unlink(tmp_path / "control.sock")
    _settings, kept, store = go_on(listener.hand_back())
    assert os.fstat(kept.console).st_ino != os.fstat(world.supervisor.kept.console).st_ino
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "control.sock"))
    assert "console" not in store.stored and listener.roles()["console"] in store.obsolete
    close_all(kept.fds())


def test_what_is_refused_is_given_up_by_the_manager_before_anything_is_opened(
    killed: Killed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or port 67 would have two groups of sockets, and the old ones, which nobody reads, would get the requests."""
    _world, listener = killed
    sock = NotifySocket.of({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    assert sock is not None
    with listener.hearing():
        release(listener.hand_back(), sock)
    assert listener.store == {}
    monkeypatch.setattr(handed_back, "RELEASE_S", 0.3)
    listener.answers_barriers = False
    for deaf in (sock, None):
        pipe = os.pipe()
        os.close(pipe[1])
        with pytest.raises(StartFailed, match="does not give them up"):
            release([Handed("udp-0.1", pipe[0])], deaf)
    sock.close()
