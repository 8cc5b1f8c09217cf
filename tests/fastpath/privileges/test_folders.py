"""What root opens where the service's user may write: nothing of root's is cut off, removed or given away.

Every attack here is one that `dhcp.user` can make between two starts, or while a start is under way."""

import json
import os
import pwd
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fastpath.privileges.folders import Untrusted, check_folder, is_real_root, opened_folder
from fastpath.sockets import sockets
from fastpath.sockets.sockets import SocketsFailed, open_console
from fastpath.supervisor.descriptors import StartFailed, lock_state
from tests.control.service.test_service import content
from tests.control.serving import serving
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
SECRET = "root's own\n"
root_only = pytest.mark.skipif(not is_real_root(), reason="gives files away, which only root can")


@pytest.fixture
def owner() -> tuple[int, int]:
    entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "shadow"
    path.write_text(SECRET)
    path.chmod(0o600)
    return path


@pytest.fixture
def state(tmp_path: Path, owner: tuple[int, int]) -> Path:
    path = tmp_path / "state"
    path.mkdir(0o751)
    if os.geteuid() == 0:
        os.chown(path, *owner)
    return path


def untouched(path: Path) -> bool:
    found = path.stat()
    return (path.read_text(), found.st_uid, stat.S_IMODE(found.st_mode)) == (SECRET, os.geteuid(), 0o600)


# --- the lock --------------------------------------------------------------------------------------------------------


def soft(lock: Path, secret: Path) -> None:
    lock.symlink_to(secret)


def hard(lock: Path, secret: Path) -> None:
    lock.hardlink_to(secret)


def moved(lock: Path, secret: Path) -> None:
    """As a hard link whose other name is gone."""
    os.link(secret, lock)
    secret.unlink()
    os.link(lock, lock.with_name("kept"))
    os.unlink(lock.with_name("kept"))


def pipe(lock: Path, _secret: Path) -> None:
    os.mkfifo(lock)


def folder(lock: Path, _secret: Path) -> None:
    lock.mkdir()


@root_only
@pytest.mark.parametrize("attack", [soft, hard, pipe, folder])
def test_a_lock_that_is_something_else(
    attack: Callable[[Path, Path], None], state: Path, secret: Path, owner: tuple[int, int]
) -> None:
    attack(state / "lock", secret)
    with pytest.raises(StartFailed) as refused:
        lock_state(str(state), owner)
    assert str(state / "lock") in str(refused.value) and "remove" in str(refused.value)
    assert untouched(secret)


@root_only
def test_a_lock_that_holds_something_else_is_not_cut_off(state: Path, secret: Path, owner: tuple[int, int]) -> None:
    moved(state / "lock", secret)
    with pytest.raises(StartFailed, match="holds something else than a pid"):
        lock_state(str(state), owner)
    assert untouched(state / "lock")


@root_only
def test_a_lock_of_somebody_else(state: Path, owner: tuple[int, int]) -> None:
    lock = state / "lock"
    lock.touch()
    os.chown(lock, 4321, 4321)
    with pytest.raises(StartFailed, match="belongs to uid 4321"):
        lock_state(str(state), owner)
    assert lock.stat().st_uid == 4321


@root_only
def test_a_usual_start_gives_folder_and_lock_to_the_user(tmp_path: Path, owner: tuple[int, int]) -> None:
    path = tmp_path / "a" / "state"
    for _start in range(2):  # the second finds both as the first left them
        fd = lock_state(str(path), owner)
        assert (path.stat().st_uid, (path / "lock").stat().st_uid) == (owner[0], owner[0])
        assert stat.S_IMODE(path.stat().st_mode) & ~0o751 == 0
        assert (path / "lock").read_text() == f"{os.getpid()}\n"
        os.close(fd)


def test_two_at_once(tmp_path: Path) -> None:
    fd = lock_state(str(tmp_path / "state"))
    with pytest.raises(StartFailed, match=rf"another bootstorm \(pid {os.getpid()}\)"):
        lock_state(str(tmp_path / "state"))
    os.close(fd)


# --- the folder ------------------------------------------------------------------------------------------------------


@root_only
def test_a_folder_that_the_user_moved_elsewhere(tmp_path: Path, owner: tuple[int, int]) -> None:
    """He owns its parent, and puts a link to a folder of root's there."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    ours.mkdir()
    os.chown(theirs, *owner)
    (theirs / "state").symlink_to(ours)
    with pytest.raises(StartFailed, match="is a symbolic link in a folder that others than root can write to"):
        lock_state(str(theirs / "state"), owner)
    (theirs / "between").symlink_to(ours)
    with pytest.raises(StartFailed, match="between is a symbolic link"):
        lock_state(str(theirs / "between" / "state"), owner)
    assert ours.stat().st_uid == 0 and not list(ours.iterdir())


def test_a_link_of_root_s_is_followed(tmp_path: Path) -> None:
    """As systemd makes one for DynamicUser=, or an administrator to another disk."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "state").symlink_to("disk")
    (tmp_path / "round").symlink_to("../" + tmp_path.name + "/round")
    os.close(lock_state(str(tmp_path / "state")))
    assert (tmp_path / "disk" / "lock").exists()
    with pytest.raises(StartFailed, match="Too many levels of symbolic links"):
        lock_state(str(tmp_path / "round"))


@pytest.mark.parametrize("mode, good", [(0o750, True), (0o700, True), (0o757, False), (0o777, False), (0o1777, False)])
def test_who_may_write_there(tmp_path: Path, mode: int, good: bool) -> None:
    path = tmp_path / "state"
    path.mkdir()
    path.chmod(mode)
    with opened_folder(str(path)) as fd:
        if good:
            check_folder(fd, str(path), None)
            return
        with pytest.raises(Untrusted, match=f"mode {mode:04o}"):
            check_folder(fd, str(path), None)


@root_only
def test_a_folder_of_somebody_else(tmp_path: Path, owner: tuple[int, int]) -> None:
    path = tmp_path / "state"
    path.mkdir()
    os.chown(path, 4321, 4321)
    with pytest.raises(StartFailed, match="belongs to uid 4321; wanted 0 or"):
        lock_state(str(path), owner)
    os.chown(path, 0, 4321)
    path.chmod(0o775)
    with pytest.raises(StartFailed, match="mode 0775 and gid 4321"):
        lock_state(str(path), owner)


# --- the control socket ----------------------------------------------------------------------------------------------


def test_the_socket_has_its_mode_from_its_birth(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    before = os.umask(0o077)
    try:
        for _start in range(2):  # over the stale one
            fd = open_console(str(path), None)
            assert stat.S_IMODE(path.stat().st_mode) == 0o666
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
            os.close(fd)
    finally:
        assert os.umask(before) == 0o077


@root_only
def test_the_socket_is_the_user_s(state: Path, owner: tuple[int, int], secret: Path) -> None:
    path = state / "c.sock"
    path.symlink_to(secret)  # a link makes room; what it points to stays
    os.close(open_console(str(path), owner))
    assert (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) == (owner[0], 0o666)
    assert untouched(secret)


def test_a_file_in_its_place_stays(tmp_path: Path, secret: Path) -> None:
    with pytest.raises(SocketsFailed, match="a file that is no socket is there"):
        open_console(str(secret), None)
    assert untouched(secret)
    with pytest.raises(SocketsFailed, match="too long"):
        open_console(str(tmp_path / ("x" * 120)), None)


@root_only
@pytest.mark.parametrize("attack", [soft, hard])
def test_a_socket_that_is_exchanged_under_root_s_hands(
    attack: Callable[[Path, Path], None], state: Path, secret: Path, owner: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Between bind and chown, which the folder's owner wins now and then."""
    path, plain = state / "c.sock", sockets.bind_below

    def exchanged(sock: socket.socket, folder: int, name: str, shown: str) -> None:
        plain(sock, folder, name, shown)
        path.unlink()
        attack(path, secret)

    monkeypatch.setattr(sockets, "bind_below", exchanged)
    with pytest.raises(SocketsFailed, match="somebody put something else there"):
        open_console(str(path), owner)
    assert untouched(secret)


# --- a whole start ---------------------------------------------------------------------------------------------------


@root_only
def test_a_start_as_root_names_the_link_and_touches_nothing(state: Path, secret: Path, tmp_path: Path) -> None:
    (state / "lock").symlink_to(secret)
    conf = tmp_path / "services.conf"
    conf.write_text(json.dumps({"dhcp": {"state_dir": str(state), "user": "nobody", "port": free_port()}}))
    argv = [sys.executable, "-P", "-m", "control", "serve", "-c", str(conf)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert f"{state}/lock is a symbolic link" in line
    assert untouched(secret)


@root_only
def test_a_start_as_root_without_a_user_warns(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts.csv"
    hosts.write_text(content(1))
    with serving(tmp_path, f"file://{hosts}") as running:
        assert "set dhcp.user" in running.wait_for("running as root, since dhcp.user is not set")
