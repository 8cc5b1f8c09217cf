"""The decisions stand alone: no engine, clock, chance or descriptor in them; a site without a fleet loads none."""

from __future__ import annotations

import subprocess
import sys

from tests.house import ROOT, files_of, imports_of

HERE = ROOT / "control/fleet"
# What a decision is made of: data, hashes and signatures.
ALLOWED = {"__future__", "collections", "control", "cryptography", "dataclasses", "enum", "functools", "hashlib",
           "msgpack", "re", "typing"}  # fmt: skip


def test_a_decision_has_no_hands() -> None:
    files = [path for path in files_of(HERE) if path.parent == HERE]
    used = {name.partition(".")[0] for path in files for name in imports_of(path)}
    assert len(files) > 10 and used <= ALLOWED


def test_a_site_without_a_fleet_loads_none_of_it() -> None:
    """Control, planner, trial and the command line, as they are when a site without the section runs them."""
    modules = "control.service.service, control.planner.process, control.service.trial, control.cli.command_line"
    code = f"import sys, {modules}; print([n for n in sys.modules if n.startswith(('control.fleet', 'nats', 'nkeys'))])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    others = [*files_of(ROOT / "fastpath"), *files_of(ROOT / "bench"), ROOT / "bootstorm.py"]
    assert [path for path in others if "control.fleet" in path.read_text()] == []
