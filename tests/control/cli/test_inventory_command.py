"""`bootstorm inventory load` and `dump`: what is not there is told in a line."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from control.cli.command_line import main
from control.clusto.server import dumping


def inventory(dsn: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["inventory", "--dsn", dsn, *arguments])


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    path = tmp_path / "hosts.csv"
    path.write_text("name,mac\na,0200.0000.0003\n")
    return path


def test_there_and_back(tmp_path: Path, hosts: Path) -> None:
    dsn = f"sqlite:///{tmp_path}/site.db"
    assert inventory(dsn, "load", str(hosts)).exit_code == 0
    dumped = inventory(dsn, "dump", str(tmp_path / "all.yaml"))
    assert (dumped.exit_code, dumped.stdout) == (0, f"{tmp_path}/all.yaml: 1 networks, pools and hosts\n")
    assert "mac: 02:00:00:00:00:03" in (tmp_path / "all.yaml").read_text().replace("'", "")


@pytest.mark.parametrize("command", ["load", "dump"])
@pytest.mark.parametrize(
    "dsn, said",
    [
        ("sqlite:////nosuch/site.db", "database sqlite:////nosuch/site.db: unable to open database file"),
        ("sqlite:///{}/hosts.csv", "hosts.csv: file is not a database"),
        ("nonsense", "database nonsense: Could not parse SQLAlchemy URL"),
        ("nosuch://me:hush@host/x", "database nosuch://me:***@host/x: "),
        ("postgresql+nosuch://host/x", "wanted an SQLAlchemy URL such as sqlite:///site.db, and its driver installed"),
    ],
)
def test_a_database_that_is_none(tmp_path: Path, hosts: Path, command: str, dsn: str, said: str) -> None:
    ran = inventory(dsn.format(tmp_path), command, str(hosts if command == "load" else tmp_path / "x.yaml"))
    assert ran.exit_code == 1 and isinstance(ran.exception, SystemExit), ran.exception
    line = ran.stderr.splitlines()[-1]
    assert line.startswith(f"Error: {command} {tmp_path}/") and said in line and "hush" not in ran.stderr


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    ran = inventory(f"sqlite:///{tmp_path}/site.db", "dump", "/nosuch/x.yaml")
    assert ran.exit_code == 1 and isinstance(ran.exception, SystemExit), ran.exception
    wanted = f"database sqlite:///{tmp_path}/site.db: /nosuch/x.yaml: No such file or directory"
    assert ran.stderr == f"Error: dump /nosuch/x.yaml, {wanted}\n"


def test_a_dump_that_fails_leaves_the_file_that_was_there(
    tmp_path: Path, hosts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk left half of a file in the place of the last good one."""
    dsn, file = f"sqlite:///{tmp_path}/site.db", tmp_path / "out" / "all.yaml"
    assert inventory(dsn, "load", str(hosts)).exit_code == 0
    file.parent.mkdir()
    file.write_text("before")

    def full(_dump: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(dumping._Dump, "_hidden", full)
        ran = inventory(dsn, "dump", str(file))
    assert ran.exit_code == 1 and "No space left on device" in ran.stderr
    assert [path.name for path in file.parent.iterdir()] == ["all.yaml"] and file.read_text() == "before"


def test_a_dump_takes_the_place_of_a_file_with_its_rights_and_goes_through_links_and_pipes(
    tmp_path: Path, hosts: Path
) -> None:
    dsn, file, link = f"sqlite:///{tmp_path}/site.db", tmp_path / "out" / "all.yaml", tmp_path / "link.yaml"
    assert inventory(dsn, "load", str(hosts)).exit_code == 0
    file.parent.mkdir()
    file.write_text("before")
    file.chmod(0o640)
    link.symlink_to(file)
    assert inventory(dsn, "dump", str(link)).exit_code == 0
    assert link.is_symlink() and file.stat().st_mode & 0o777 == 0o640 and "name: a" in file.read_text()
    assert [path.name for path in file.parent.iterdir()] == ["all.yaml"]
    command = [sys.executable, "-P", "-m", "control", "inventory", "--dsn", dsn, "dump", "/dev/stdout"]
    assert b"name: a" in subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    with (tmp_path / "redirected.yaml").open("wb") as stream:
        subprocess.run(command, stdout=stream, check=True)
    assert "name: a" in (tmp_path / "redirected.yaml").read_text() and os.path.exists("/dev/stdout")


def test_a_driver_that_is_not_installed(tmp_path: Path, hosts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    ran = inventory("postgresql+psycopg2://host/x", "load", str(hosts))
    assert ran.exit_code == 1 and "its driver installed" in ran.stderr.splitlines()[-1]
