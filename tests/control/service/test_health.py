"""control/service/health.py and `ctl health`: who is ready, which no restart of control and no upgrade changes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from control.cli.ctl import Client
from control.cli.health import ask
from control.service.health import HEARTBEAT_S, heartbeat_age_s, judge_health
from tests.control.service.test_service import content
from tests.control.serving import Running, may_serve, serving
from tests.ports import free_port

WAIT_S = 60.0
PATIENCE_S = 30.0  # of who asks for the health: a machine that is busy with other tests starts a control in seconds
TRIALS = 5  # of new code: a busy machine needs over 10 s for one


def page(pid: int = 7, generation: int = 3, age_s: float = 0.1, slot: int = 0) -> Any:
    return SimpleNamespace(
        slot=slot, pid=pid, generation=generation, heartbeat_ns=time.monotonic_ns() - int(age_s * 1e9)
    )


def table(*pages: Any, age_s: float | None = 40.0) -> Any:
    words = "unknown (why)" if age_s is None else f"{age_s:.0f} s"
    return SimpleNamespace(pages=list(pages), generation=3, age_s=lambda: age_s, age_words=lambda: words)


def words(heartbeat_ns: int) -> Any:
    """Of the supervisor, about slot 0."""
    return SimpleNamespace(heartbeat_ns=lambda slot: heartbeat_ns if slot == 0 else 0)


@pytest.mark.parametrize(
    "pages, want",
    [
        pytest.param([{}], None, id="answers"),
        pytest.param([{"pid": 0}, {}], None, id="one-of-two"),
        pytest.param([{"pid": 0}], "1 without a process", id="no-process"),
        pytest.param([{"generation": 0}], "1 without a table", id="no-table"),
        pytest.param([{"age_s": HEARTBEAT_S + 1}], "1 without a turn for 2 s", id="hung"),
        pytest.param(
            [{"pid": 0}, {"generation": 0}, {"pid": 0}], "2 without a process, 1 without a table", id="each-its-fault"
        ),
    ],
)
def test_ready_is_that_a_worker_answers(pages: list[dict[str, Any]], want: str | None) -> None:
    found = judge_health(table(*(page(**fields) for fields in pages)), None)
    reason = None if want is None else f"none of {len(pages)} workers answers: {want}"
    assert (found["ready"], found["reason"]) == (want is None, reason)
    assert (found["workers"], found["generation"], found["table_age_s"]) == (len(pages), 3, 40.0)


@pytest.mark.parametrize(
    "age_s, max_age_s, reason",
    [
        (1e9, None, None), (None, None, None), (40.0, 40.0, None), (40.0, 1e6, None),
        (41.0, 40.0, "the table's age is 41 s, wanted at most 40 s"),
        (None, 1e6, "the table's age is unknown (why), wanted at most 1e+06 s"),
    ],
)  # fmt: skip
def test_the_age_of_the_table_counts_where_somebody_asks(
    age_s: float | None, max_age_s: float | None, reason: str | None
) -> None:
    """Two servers of one inventory would both step back when it is down."""
    found = judge_health(table(page(), age_s=age_s), None, max_age_s)
    assert (found["ready"], found["reason"]) == (reason is None, reason)


def test_a_worker_whose_page_another_build_laid_out_answers() -> None:
    empty = page(pid=0, generation=0)
    assert not judge_health(table(empty), words(0))["ready"]
    assert not judge_health(table(empty), words(time.monotonic_ns() - int(3e9)))["ready"]
    assert judge_health(table(empty), words(time.monotonic_ns()))["ready"]
    assert not judge_health(table(page(pid=0, slot=1)), words(time.monotonic_ns()))["ready"], "another slot's"


def test_the_age_of_a_heartbeat() -> None:
    assert heartbeat_age_s(page(age_s=1.5), None) == pytest.approx(1.5, abs=0.2)
    assert heartbeat_age_s(page(age_s=9), words(time.monotonic_ns())) == pytest.approx(0, abs=0.2)
    assert heartbeat_age_s(SimpleNamespace(slot=0, heartbeat_ns=0), None) == 0.0


# --- the running service ---------------------------------------------------------------------------------------------


@pytest.fixture
def _may() -> None:
    may_serve()


def ran(folder: Path, *arguments: str) -> tuple[int, str, str]:
    argv = [sys.executable, "-P", "-m", "control", "ctl", "--socket", str(folder / "control.sock"), "health"]
    found = subprocess.run([*argv, *arguments], capture_output=True, text=True, timeout=WAIT_S)
    return found.returncode, found.stdout, found.stderr


def probed(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=WAIT_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


@pytest.mark.usefixtures("_may")
def test_before_the_first_table_after_it_and_after_the_service(tmp_path: Path) -> None:
    port, hosts = free_port(), tmp_path / "hosts.csv"
    with serving(tmp_path, f"file://{hosts}", metrics={"bind": f"127.0.0.1:{port}"}) as running:
        running.wait_for("metrics at")
        assert probed(port, "/healthz") == (200, "ok\n")
        code, out, err = ran(tmp_path)
        assert (code, out) == (1, "") and err.startswith("bootstorm: not ready: none of 1 workers answers: 1 without ")
        status, text = probed(port, "/readyz")
        assert status == 503 and text.startswith("not ready: none of 1 workers answers: ")
        hosts.write_text(content(1))
        running.wait_for(r"generation 1: 1 hosts")
        running.ctl("refresh", {"wait": True})
        code, out, err = ran(tmp_path)
        assert (code, err) == (0, "") and out.startswith("ready: 1 of 1 workers answer, generation ")
        assert probed(port, "/readyz") == (200, "ready: 1 of 1 workers answer\n")
        assert probed(port, "/readyz?max_age=3600")[0] == 200
        assert ran(tmp_path, "--max-age", "3600")[0] == 0
        code, _out, err = ran(tmp_path, "--max-age", "0")
        assert code == 1 and "the table's age is " in err
        status, text = probed(port, "/readyz?max_age=0")
        assert status == 503 and "wanted at most 0 s" in text
        for wrong in ("max_age=", "max_age=x", "max_age=-1", "max_age=inf", "maxage=5", "max_age=1&max_age=2"):
            assert probed(port, f"/readyz?{wrong}")[0] == 400, wrong
    code, out, err = ran(tmp_path, "--wait", "0")
    assert (code, out) == (2, "") and "is `bootstorm serve` running" in err


@pytest.mark.usefixtures("_may")
def test_an_inventory_that_cannot_be_read_makes_nobody_unready(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts.csv"
    hosts.write_text(content(1))
    with serving(tmp_path, f"file://{hosts}") as running:
        running.wait_for(r"generation 1: 1 hosts")
        running.ctl("refresh", {"wait": True})
        hosts.write_bytes(b"base,mask\n\xff\n")
        running.wait_for("refresh failed")
        assert running.status()["inventory"] == "stale" and ran(tmp_path)[0] == 0


@contextlib.contextmanager
def asking_all_the_time(folder: Path) -> Iterator[list[Any]]:
    """What `ctl health` says meanwhile, again and again, in its own time: answers, and faults."""
    answers: list[Any] = []
    ended = threading.Event()

    def go() -> None:
        while not ended.is_set():
            try:
                answers.append(ask(Client(str(folder / "control.sock")), None, time.monotonic() + PATIENCE_S))
            except Exception as fault:
                answers.append(fault)

    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    try:
        yield answers
    finally:
        ended.set()
        thread.join(WAIT_S)


def replaced(running: Running, kind: str, old: int) -> None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(KeyError):  # there is none just now
            if running.child(kind) != old:
                return
        time.sleep(0.02)
    raise AssertionError(f"{kind} {old} was not replaced:\n" + "\n".join(running.lines))


def until_asked_again(answers: list[Any]) -> None:
    asked, deadline = len(answers), time.monotonic() + WAIT_S
    while len(answers) < asked + 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def bad(answers: list[Any]) -> list[Any]:
    return [answer for answer in answers if not (isinstance(answer, dict) and answer["ready"])]


@pytest.mark.usefixtures("_may")
def test_a_control_that_dies_is_not_noticed(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts.csv"
    hosts.write_text(content(1))
    with serving(tmp_path, f"file://{hosts}") as running:
        running.wait_for(r"generation 1: 1 hosts")
        running.ctl("refresh", {"wait": True})
        with asking_all_the_time(tmp_path) as answers:
            for _ in range(3):
                control = running.child("run")
                os.kill(control, signal.SIGKILL)
                replaced(running, "run", control)
                until_asked_again(answers)
        assert bad(answers) == []


@pytest.mark.alone
@pytest.mark.usefixtures("_may")
def test_an_upgrade_is_not_noticed(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts.csv"
    hosts.write_text(content(1))
    with serving(tmp_path, f"file://{hosts}", workers=2) as running:
        running.wait_for(r"generation 1: 1 hosts")
        running.ctl("refresh", {"wait": True})
        before = running.child("run"), {worker["pid"] for worker in running.status()["workers"]}
        with asking_all_the_time(tmp_path) as answers:
            for _ in range(TRIALS):
                running.process.send_signal(signal.SIGUSR2)
                if "not upgraded" not in running.wait_for(
                    r"this is .*, after |not upgraded: the trial of .* took over"
                ):
                    break
            replaced(running, "run", before[0])
            deadline = time.monotonic() + WAIT_S
            while before[1] & {worker["pid"] for worker in running.status()["workers"]}:
                assert time.monotonic() < deadline
            until_asked_again(answers)
        assert bad(answers) == []
