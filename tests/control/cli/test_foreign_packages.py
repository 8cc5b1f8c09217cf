"""bootstorm.py: another project's package in the place of one of ours is told in a line, and never imported."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastpath.process.build import BUILD_NAME
from tests.deploy.support import ROOT

STEP = "; install bootstorm into an environment of its own (python3 -m venv)\n"
# As python-control's begins, and as a traceback would show: never to be run.
FOREIGN = '"""The Python Control Systems Library."""\nfrom .statesp import *\n'


def run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`bootstorm` with a folder in front of all others that Python looks in."""
    environment = os.environ | {"PYTHONPATH": str(site)}
    argv = [sys.executable, "-P", "-m", "bootstorm", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, env=environment, cwd=site, timeout=120)


def installed(site: Path) -> Path:
    """Our packages as pip lays them beside each other; `control` is a folder of its own."""
    shutil.copy(ROOT / "bootstorm.py", site)
    for name in ("ext", "fastpath", "bench"):
        (site / name).symlink_to(ROOT / name)
    (site / "control").mkdir()
    for path in (ROOT / "control").iterdir():
        (site / "control" / path.name).symlink_to(path)
    return site / "control/__init__.py"


def test_ours_alone_is_run(tmp_path: Path) -> None:
    installed(tmp_path)
    ran = run(tmp_path, "--version")
    assert (ran.stdout, ran.stderr, ran.returncode) == (f"bootstorm {BUILD_NAME}\n", "", 0)


@pytest.mark.parametrize("name", ["control", "bench"])
def test_one_that_is_found_before_ours(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    theirs = tmp_path / name / "__init__.py"
    theirs.write_text(FOREIGN)
    ran = run(tmp_path, "--version")
    assert ran.stderr == f"bootstorm: the package `{name}` is not bootstorm's: {theirs} is of another project{STEP}"
    assert (ran.stdout, ran.returncode) == ("", 1)


def test_one_that_was_written_over_ours_is_called_by_its_name(tmp_path: Path) -> None:
    theirs = installed(tmp_path)
    theirs.unlink()
    theirs.write_text(FOREIGN)
    about = tmp_path / "control-0.10.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: control\nVersion: 0.10.2\n")
    (about / "RECORD").write_text("control/__init__.py,,\ncontrol-0.10.2.dist-info/METADATA,,\n")
    ran = run(tmp_path, "serve", "-c", "/no/such")
    whose = f"{theirs} is of the distribution control"
    assert ran.stderr == f"bootstorm: the package `control` is not bootstorm's: {whose}{STEP}"
    assert (ran.stdout, ran.returncode) == ("", 1)


def test_a_folder_that_a_removal_has_left(tmp_path: Path) -> None:
    """pip removes what another project had written over ours, and `control` is a namespace without a file."""
    ours = installed(tmp_path)
    ours.unlink()
    ran = run(tmp_path, "--version")
    assert ran.stderr == (
        f"bootstorm: the package `control` has no {ours}: half installed, or removed with another project's{STEP}"
    )
    assert (ran.stdout, ran.returncode) == ("", 1)


def test_half_of_an_installation_is_told_with_the_module_that_is_missing(tmp_path: Path) -> None:
    """As between the files of a package that is being unpacked."""
    cli = installed(tmp_path).parent / "cli"
    cli.unlink()
    cli.mkdir()
    for path in (ROOT / "control/cli").glob("*.py"):
        if path.name != "shared.py":
            (cli / path.name).symlink_to(path)
    ran = run(tmp_path, "ctl", "status")
    assert ran.stderr == (
        "bootstorm: half installed: there is no module control.cli.shared; wait until the installation has ended, or "
        "install it again\n"
    )
    assert (ran.stdout, ran.returncode) == ("", 1)
