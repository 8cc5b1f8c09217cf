"""control/board/command.py: what keeps the board from being served, each in one line that says what to do."""

from __future__ import annotations

import dataclasses
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from control.board import command
from control.board.command import CannotServe
from control.config.config import Config
from control.config.sections import Board


def config(folder: Path, **board: Any) -> Config:
    made = Config()
    control = dataclasses.replace(made.control, socket=folder / "control.sock")
    return dataclasses.replace(made, board=Board(**board), control=control)


def file_with(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "token"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_off_loopback_it_wants_a_token(tmp_path: Path) -> None:
    with pytest.raises(CannotServe, match=r"board\.bind is 0\.0\.0\.0:1, .* wanted board\.token_file"):
        command.run(config(tmp_path, bind=("0.0.0.0", 1)))


@pytest.mark.parametrize(
    "content, mode, words",
    [
        (b"short\n", 0o600, "found 5 characters"),
        (b"", 0o600, "found 0 characters"),
        (b"two lines that are\nlong enough\n", 0o600, "wanted one line"),
        (b"\xff" * 40, 0o600, "visible ASCII"),
        (b"x" * 5_000, 0o600, "wanted one line"),
        (b"0123456789abcdef", 0o604, "everybody may read it"),
    ],
)
def test_a_token_that_is_none(tmp_path: Path, content: bytes, mode: int, words: str) -> None:
    with pytest.raises(CannotServe, match=words):
        command.read_token(file_with(tmp_path, content, mode))


def test_a_token_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CannotServe, match="No such file"):
        command.read_token(tmp_path / "none")
    with pytest.raises(CannotServe, match="directory"):
        command.read_token(tmp_path)


def test_a_token(tmp_path: Path) -> None:
    assert command.read_token(file_with(tmp_path, b"0123456789abcdef\n", 0o640)) == "0123456789abcdef"


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with command.listen("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CannotServe, match=rf"board\.bind 127\.0\.0\.1:{port}: Address already in use"):
            command.listen("127.0.0.1", port)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody")
class TestRoot:
    def test_needs_a_user(self) -> None:
        with pytest.raises(CannotServe, match=r"wanted board\.user"):
            command.become(None)
        with pytest.raises(CannotServe, match="there is no such user"):
            command.become("nobody-of-that-name")
        with pytest.raises(CannotServe, match="this is root"):
            command.become("root")

    def test_becomes_it_for_good(self) -> None:
        script = (
            "import os; from control.board.command import become; become('nobody')\n"
            "found = os.getresuid(), os.getresgid(), os.getgroups()\n"
            "try: os.setuid(0)\n"
            "except PermissionError: print(found)"
        )
        said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        nobody = pwd.getpwnam("nobody")
        ids = (nobody.pw_uid,) * 3, (nobody.pw_gid,) * 3, []
        assert said.stdout.strip() == str(ids)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can become anybody")
def test_another_user_than_the_one_that_is_named() -> None:
    with pytest.raises(CannotServe, match="only root can become that"):
        command.become("nobody-of-that-name")
    command.become(pwd.getpwuid(os.geteuid()).pw_name)
