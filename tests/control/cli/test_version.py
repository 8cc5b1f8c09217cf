"""`bootstorm --version`: the words of the command line, without its libraries, and quick enough for a prompt."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from control.cli.command_line import main
from tests.deploy.support import ROOT

COMMAND = [sys.executable, "-P", "-m", "control"]
TIMES = 5


def run(*argv: str, output: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, stdout=output, stderr=subprocess.PIPE, text=True, cwd=ROOT, timeout=60, check=False)


def cpu_s(*argv: str) -> float:
    """The least of some runs, which is what it costs when nobody disturbs it."""
    found = []
    for _ in range(TIMES):
        pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, 1, 0)])
        _pid, status, used = os.wait4(pid, 0)
        assert status == 0, argv
        found.append(used.ru_utime + used.ru_stime)
    return min(found)


def test_it_says_what_the_command_line_says() -> None:
    ran = run(*COMMAND, "--version")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == CliRunner().invoke(main, ["--version"]).output


def test_it_loads_no_library_but_python_s() -> None:
    ran = run(sys.executable, "-X", "importtime", *COMMAND[1:], "--version")
    loaded = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
    assert "fastpath.process.build" in loaded, ran.stderr
    assert {name for name in loaded if name.partition(".")[0] in ("click", "msgpack", "typing", "logging")} == set()
    assert "control.cli" not in loaded


def test_it_costs_less_than_the_import_of_click_alone() -> None:
    ours, clicks = cpu_s(*COMMAND, "--version"), cpu_s(sys.executable, "-P", "-c", "import click")
    print(f"--version {ours * 1e3:.0f} ms of CPU, import click {clicks * 1e3:.0f} ms")
    assert ours < clicks


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_an_output_that_cannot_be_written_is_told() -> None:
    with open("/dev/full", "w", encoding="ascii") as full:
        ran = run(*COMMAND, "--version", output=full.fileno())
    assert (ran.returncode, ran.stderr) == (1, "bootstorm: [Errno 28] No space left on device\n")


def test_a_reader_that_is_gone_is_not() -> None:
    read, write = os.pipe()
    os.close(read)
    ran = run(*COMMAND, "--version", output=write)
    os.close(write)
    assert (ran.returncode, ran.stderr) == (1, "")
