"""`make demo-fleet`, as it is told; and what it says where there is no engine to run it with."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench.lab.lab import Lab, guard
from bench.lab.site import ROOT
from tests.fleet.rig.nats import PROGRAM

pytestmark = pytest.mark.fleet


def test_it_tells_what_becomes_of_a_fleet_and_touches_nothing_of_the_machine() -> None:
    if PROGRAM is None:
        pytest.skip("nats-server is not installed")
    if reason := Lab.available():
        pytest.skip(reason)
    with guard():
        argv = [sys.executable, "-m", "bench", "demo-fleet"]
        ran = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for words in ("leads, and has published", "machines answer from it", "loses its power", "FLEET DOWN", "comes back"):
        assert words in ran.stdout, ran.stdout
