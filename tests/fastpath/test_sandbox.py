"""What is left of a process's privileges, in the kernel's own words."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
GIVE_UP = """
import sys
from fastpath.sandbox import drop_privileges
drop_privileges(None)
sys.stdout.write(open("/proc/self/status").read())
"""


def test_no_capability_is_left() -> None:
    said = subprocess.run(
        [sys.executable, "-c", GIVE_UP], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
    ).stdout
    status = {name: value.strip() for name, _, value in (line.partition(":") for line in said.splitlines())}
    assert [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [0, 0, 0, 0]
    assert status["NoNewPrivs"] == "1"
    if os.geteuid() == 0:
        assert int(status["CapBnd"], 16) == 0
