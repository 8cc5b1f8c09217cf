"""Ctrl-C and early stops: whatever a command is at, it ends, without a traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.control.service.test_service import content
from tests.control.serving import children, may_serve
from tests.ports import free_port

# The process signals itself when it begins to import a module: at an early, a middle and a late time of each command.
HOOK = """
import importlib.abc, os, signal, sys
name, _, number = os.environ.get("INTERRUPT_AT", "").partition(":")
class Interrupting(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path, target=None):
        if fullname == name:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), int(number))
        return None
if name:
    sys.meta_path.insert(0, Interrupting())
"""
WAIT_S = 60.0


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """A shell gives its background jobs an ignored SIGINT, which all that they start inherit."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def hooked(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "hook"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HOOK)
    return {**os.environ, "PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}".rstrip(":")}


def configured(folder: Path) -> Path:
    hosts, conf = folder / "hosts.csv", folder / "services.conf"
    hosts.write_text(content(1))
    dhcp = {"api_url": f"file://{hosts}", "state_dir": str(folder / "state"), "workers": 1, "port": free_port(),
            "boot_port": 0, "interfaces": ["lo"]}  # fmt: skip
    conf.write_text(json.dumps({"dhcp": dhcp}))
    return conf


@pytest.mark.parametrize(
    "command, module",
    [
        ("check", "control.cli.command_line"), ("check", "control.config.checks"),
        ("ctl --socket x status", "control.cli.ctl"), ("explain 02:00:00:00:00:01", "control.explain.command"),
        ("inventory --bind 127.0.0.1:0", "sqlalchemy.exc"),
        ("inventory --bind 127.0.0.1:0", "waitress"), ("inventory load {hosts}", "control.clusto.server.store"),
        ("inventory dump {dump}", "control.clusto.server.store"), ("bench load", "bench.growth"), ("serve", "click"),
    ],
)  # fmt: skip
def test_ctrl_c_at_whatever_it_is(command: str, module: str, hooked: dict[str, str], tmp_path: Path) -> None:
    conf = configured(tmp_path)
    words = command.format(hosts=tmp_path / "hosts.csv", dump=tmp_path / "dump.yaml").split()
    if words[0] in ("check", "serve", "explain"):
        words += ["-c", str(conf)]
    argv = [sys.executable, "-P", "-m", "control", *words]
    env = hooked | {"INTERRUPT_AT": f"{module}:{signal.SIGINT:d}"}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=WAIT_S, cwd=tmp_path, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode in (1, 130), (done.returncode, done.stdout, done.stderr)
    assert done.stderr.strip() in ("", "Aborted!")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", ["fastpath.supervisor.supervisor", "ext.page", "fastpath.privileges.confine"])
def test_a_stop_while_it_starts_ends_it_in_order(
    module: str, number: signal.Signals, hooked: dict[str, str], tmp_path: Path
) -> None:
    """Before its loop: it waits for that, and then nothing is left of it."""
    may_serve()
    conf = configured(tmp_path)
    argv = [sys.executable, "-P", "-m", "control", "serve", "-c", str(conf)]
    env = hooked | {"INTERRUPT_AT": f"{module}:{number:d}"}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert "stopping" in done.stderr and not (tmp_path / "state" / "control.sock").exists()


@pytest.mark.parametrize(
    "number, obeyed", [(signal.SIGHUP, "configuration reloaded"), (signal.SIGUSR2, "not upgraded: the trial")]
)
@pytest.mark.parametrize("module", ["control.cli"])
def test_what_ends_nothing_ends_no_service_that_starts(
    module: str, number: signal.Signals, obeyed: str, hooked: dict[str, str], tmp_path: Path
) -> None:
    """It is obeyed when it runs; other commands end, as when their terminal is closed."""  # the hook ends the trial
    may_serve()
    conf = configured(tmp_path)
    argv = [sys.executable, "-P", "-m", "control"]
    env = hooked | {"INTERRUPT_AT": f"{module}:{number:d}"}
    told = ["env", "--default-signal=HUP,USR2"]  # whoever runs the tests with nohup has them ignored
    checking = [*told, *argv, "check", "-c", str(conf)]
    done = subprocess.run(checking, env=env, capture_output=True, timeout=WAIT_S, check=False)
    assert done.returncode == -number
    with subprocess.Popen([*argv, "serve", "-c", str(conf)], env=env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said: list[str] = []
        for line in process.stderr:
            said.append(line)
            if obeyed in line:
                process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0 and any(obeyed in line for line in said), said


def test_ctrl_c_of_a_terminal_goes_to_all_of_them(tmp_path: Path) -> None:
    """The supervisor ends the others in order; none of them hears it first."""
    may_serve()
    conf = configured(tmp_path)
    argv = [sys.executable, "-P", "-m", "control", "serve", "-c", str(conf)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        deadline = time.monotonic() + WAIT_S
        while {"run", "worker"} - set(children(process.pid)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for wait_s in (0.0, 0.3):  # while they load, and for who presses it twice
            time.sleep(wait_s)
            os.killpg(process.pid, signal.SIGINT)
        assert process.stderr is not None
        said = process.stderr.read()
        assert process.wait(WAIT_S) == 0
    assert "Traceback" not in said and "KeyboardInterrupt" not in said and "stopping" in said, said


@pytest.mark.parametrize("closed", ["2>&-", "0<&- 2>&-", "0<&- 1>&- 2>&-"])
def test_a_closed_standard_descriptor_is_no_place_for_ours(closed: str, tmp_path: Path) -> None:
    """The accepted configuration was opened there, and the log was written into it."""
    program = """
import json, os, sys
import control.__main__ as entry
def run():
    with open(sys.argv[1], "w") as file:
        json.dump([os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)], file)
entry.run = run
entry.main()
"""
    argv = [sys.executable, "-P", "-c", program, str(tmp_path / "found")]
    subprocess.run(["sh", "-c", f'exec "$0" "$@" {closed}', *argv], check=True)
    found = json.loads((tmp_path / "found").read_text())
    assert all(found[int(word[0])] == "/dev/null" for word in closed.split()), found
