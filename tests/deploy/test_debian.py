"""deploy/debian: what can be seen without building it.  `make deb` builds it, `make test-deb` installs it."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib

import pytest

from tests.deploy.support import ROOT
from tests.deploy.test_units import UNITS, unit
from tests.test_docs import text

DEBIAN = ROOT / "deploy/debian"
SCRIPTS = ("bootstorm.postinst", "bootstorm.prerm", "bootstorm.postrm", "build.sh")


def test_its_version_is_that_of_the_project() -> None:
    version = tomllib.loads(text("pyproject.toml"))["project"]["version"]
    newest = re.match(r"bootstorm \(([\d.]+)-\d+\) \w+; urgency=\w+\n", text("deploy/debian/changelog"))
    assert newest is not None and newest[1] == version, "a release has an entry in deploy/debian/changelog"


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_shell_reads_it(name: str) -> None:
    ran = subprocess.run(["sh", "-n", DEBIAN / name], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = (DEBIAN / name).read_text().splitlines()
    assert lines[0] == "#!/bin/sh" and any(line.startswith("set -e") for line in lines)


@pytest.mark.parametrize("name", SCRIPTS[:3])
def test_debhelper_s_own_part_has_its_place(name: str) -> None:
    assert (DEBIAN / name).read_text().count("#DEBHELPER#") == 1


def test_users_and_units_are_there_before_the_service_is_upgraded() -> None:
    script = text("deploy/debian/bootstorm.postinst")
    assert script.index("#DEBHELPER#") < script.rindex("\n    upgrade\n")
    order = ["daemon-reload", "try-restart", "is-active bootstorm.service", "--signal=USR2 bootstorm.service"]
    assert [script.index(words) for words in order] == sorted(script.index(words) for words in order)


def test_every_unit_and_user_is_thought_of() -> None:
    stopped = text("deploy/debian/bootstorm.prerm")
    purged = text("deploy/debian/bootstorm.postrm")
    for name in UNITS:
        assert name in stopped and unit(name)["Service"]["User"] in text("deploy/debian/bootstorm.postinst")
        assert re.search(rf"\b{unit(name)['Service']['User']}\b", purged)
    folders = {unit(name)["Service"].get("StateDirectory") for name in UNITS} - {None}
    assert {folder for folder in folders if f"/var/lib/{folder}" not in purged} == set()


def test_every_override_has_its_reason() -> None:
    """A line of comment before each block of them."""
    blocks = text("deploy/debian/bootstorm.lintian-overrides").strip().split("\n\n")
    assert blocks and [block for block in blocks if not re.match(r"# .*\n(# .*\n)*bootstorm: [a-z]", block)] == []


@pytest.mark.skipif(shutil.which("dpkg-parsechangelog") is None, reason="no dpkg-dev")
def test_dpkg_reads_the_changelog() -> None:
    ran = subprocess.run(
        ["dpkg-parsechangelog", "-l", DEBIAN / "changelog"], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
