"""`ctl health`: its line, its exit codes, and how long it waits."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import msgpack
import pytest

from control.cli.health import render_health
from tests.control.cli.test_ctl import abandoned, answering, bootstorm, reply

READY: dict[str, Any] = {
    "ready": True, "reason": None, "answering": 2, "workers": 3, "generation": 12, "table_age_s": 41.4,
}  # fmt: skip
NOT_READY = READY | {"ready": False, "reason": "none of 3 workers answers: 3 without a table", "answering": 0}


def test_its_line() -> None:
    assert render_health(READY) == "ready: 2 of 3 workers answer, generation 12, table age 41 s"
    assert render_health(READY | {"table_age_s": None}).endswith("table age unknown")
    assert render_health(NOT_READY) == "bootstorm: not ready: none of 3 workers answers: 3 without a table"


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("found, code", [(READY, 0), (NOT_READY, 1)], ids=["ready", "not-ready"])
def test_the_service_s_word_is_the_exit_code(tmp_path: Path, found: dict[str, Any], code: int, as_json: bool) -> None:
    with answering(tmp_path, reply(ok=True, result=found)) as (path, seen):
        ran = bootstorm("ctl", "--socket", path, "health", "--max-age", "900", *(["--json"] if as_json else []))
    assert ran.exit_code == code
    assert seen == [{"id": 1, "cmd": "health", "args": {"max_age": 900.0}, "progress": False}]
    if as_json:
        assert json.loads(ran.stdout) == found
    else:
        assert (ran.stderr if code else ran.stdout) == render_health(found) + "\n"


@pytest.mark.parametrize(
    "answer, said",
    [
        pytest.param(reply(ok=False, error="unknown command 'health'"), "unknown command", id="an-older-service"),
        pytest.param(reply(ok=False, error="uid 7 may not use this socket"), "may not use", id="no-right"),
        pytest.param(msgpack.packb(5), "no answer of bootstorm's", id="something-else-listens"),
    ],
)
def test_a_refusal_says_nothing_about_readiness(tmp_path: Path, answer: bytes, said: str) -> None:
    since = time.monotonic()
    with answering(tmp_path, answer) as (path, _seen):
        ran = bootstorm("ctl", "--socket", path, "health", "--wait", "60")
    assert (ran.exit_code, ran.stdout) == (2, "") and said in ran.stderr
    assert time.monotonic() - since < 30, "it is no use to ask again"


def test_nobody_there_is_exit_2(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", abandoned(tmp_path / "old")):
        ran = bootstorm("ctl", "--socket", str(path), "health", "--wait", "0")
        assert (ran.exit_code, ran.stdout) == (2, "") and ran.stderr.startswith(f"bootstorm: control socket {path}: ")


def test_a_service_that_takes_the_call_and_says_nothing_has_as_long_as_the_caller_waits(tmp_path: Path) -> None:
    """A control process that is stopped; the socket is the supervisor's, so that a connection is always taken."""
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        since = time.monotonic()
        ran = bootstorm("ctl", "--socket", str(path), "health", "--wait", "1")
    assert ran.exit_code == 2 and "timed out" in ran.stderr and 0.9 < time.monotonic() - since < 20


def test_a_control_that_ends_in_the_midst_of_the_call_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            for last in (False, False, True):
                peer, _ = listener.accept()
                with peer:
                    peer.recv(1 << 16)
                    if last:
                        peer.sendall(reply(ok=True, result=READY))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        ran = bootstorm("ctl", "--socket", str(path), "health")
        thread.join(60)
    assert ran.exit_code == 0 and ran.stdout.startswith("ready: ")


def test_a_service_that_comes_within_the_time_is_found(tmp_path: Path) -> None:
    service = answering(tmp_path, reply(ok=True, result=READY))
    coming = threading.Timer(0.3, service.__enter__)
    coming.start()
    ran = bootstorm("ctl", "--socket", str(tmp_path / "control.sock"), "health", "--wait", "60")
    coming.join()
    service.__exit__(None, None, None)
    assert ran.exit_code == 0


@pytest.mark.parametrize(
    "wrong", [["--wait", "x"], ["--wait", "nan"], ["--max-age", "-1"], ["--wait", "601"], ["more"]]
)
def test_wrong_usage_is_exit_2(tmp_path: Path, wrong: list[str]) -> None:
    ran = bootstorm("ctl", "--socket", str(tmp_path / "s"), "health", *wrong)
    assert (ran.exit_code, ran.stdout) == (2, "") and ran.stderr
