"""A limit on open files below what the service needs: one line, before anything is opened."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fastpath.process.limits import FILES_A_WORKER, FILES_LEAST, too_few_files


@pytest.mark.parametrize("limit", [12, 16, 24, 40])
def test_a_start_below_the_limit_is_told_in_a_line(tmp_path: Path, limit: int) -> None:
    """It ended with a traceback, or with workers that could not be started for ever."""
    conf = tmp_path / "services.conf"
    conf.write_text(json.dumps({"dhcp": {"state_dir": str(tmp_path / "state"), "workers": 1}}))
    command = [sys.executable, "-P", "-m", "control", "serve", "-c", str(conf)]
    ran = subprocess.run(["prlimit", f"--nofile={limit}:{limit}", *command], capture_output=True, text=True, timeout=60)
    (line,) = ran.stderr.splitlines()
    wanted = FILES_LEAST + FILES_A_WORKER
    assert line.startswith(f"bootstorm: open files: found a limit of {limit} (hard {limit}); wanted at least {wanted} ")
    assert ran.returncode == 1 and not (tmp_path / "state").exists()


def test_what_the_hard_limit_allows_is_taken() -> None:
    program = "import resource; from fastpath.process.limits import too_few_files; print(repr(too_few_files(2)))"
    program += "; print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    command = ["prlimit", "--nofile=30:200", sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "''\n(56, 200)\n"
    assert too_few_files(1) == ""
