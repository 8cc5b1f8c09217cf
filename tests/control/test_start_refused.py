"""What the system refuses at the start of `bootstorm serve` is one line that says what to do."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.control.serving import may_serve
from tests.control.test_interrupted import configured


@pytest.mark.parametrize(
    "limit, most, wanted",
    [
        (resource.RLIMIT_NOFILE, 8, "found a limit of 8 (hard 8); wanted at least 48 for 1 workers; raise"),
        (resource.RLIMIT_NOFILE, 16, "found a limit of 16 (hard 16); wanted at least 48 for 1 workers; raise"),
        (resource.RLIMIT_FSIZE, 1000, "found a limit of 1000 bytes for a file, wanted none; lift it"),
        (resource.RLIMIT_FSIZE, 1_000_000, "found a limit of 1000000 bytes for a file, wanted none; lift it"),
    ],
)
def test_a_limit_that_is_too_low(limit: int, most: int, wanted: str, tmp_path: Path) -> None:
    may_serve()
    argv = [sys.executable, "-P", "-m", "control", "serve", "-c", str(configured(tmp_path))]
    argv = ["prlimit", f"--{'nofile' if limit == resource.RLIMIT_NOFILE else 'fsize'}={most}", *argv]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60.0, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("bootstorm: ") and wanted in done.stderr
