"""`--version`, `--help` and completion answer at once: they load click and the commands' names, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import sys, time
from control.__main__ import main
try:
    main()
finally:
    sys.stderr.write(f"{time.process_time()} {' '.join(sys.modules)}")
"""
# Each costs 10 ms or more, and is for commands that do something.
HEAVY = {
    "control.config.config", "control.cli.ctl", "logging", "asyncio", "socket", "requests", "sqlalchemy", "msgpack",
    "yaml", "pyroute2", "ext.table", "dataclasses", "json",
}  # fmt: skip


@pytest.mark.parametrize(
    "words, said, complete",
    [
        (["--version"], "bootstorm ", ""),
        (["--help"], "Examples:", ""),
        (["ctl", "--help"], "Examples:", ""),
        (["ctl", "status", "--help"], "--wait SECONDS", ""),
        ([], "plain,status", "bootstorm ctl sta"),
    ],
    ids=["version", "help", "help-of-ctl", "help-of-status", "completion"],
)
def test_nothing_heavy_is_loaded(words: list[str], said: str, complete: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if complete:
        environment |= {"_BOOTSTORM_COMPLETE": "bash_complete", "COMP_WORDS": complete, "COMP_CWORD": "2"}
    # -S: what this environment's site-packages load for themselves (an editable install, pytest's) is not ours.
    paths = os.pathsep.join([str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))])
    argv = [sys.executable, "-S", "-P", "-c", PROGRAM, *words]
    started = time.monotonic()
    done = subprocess.run(
        argv, env=environment | {"PYTHONPATH": paths}, capture_output=True, text=True, timeout=120, check=False
    )
    took = time.monotonic() - started
    cpu, *modules = done.stderr.split()
    print(f"{' '.join(words)}: {float(cpu) * 1e3:.0f} ms of CPU, {took * 1e3:.0f} ms")
    assert done.returncode == 0 and said in done.stdout, done.stdout
    assert not HEAVY & set(modules)
