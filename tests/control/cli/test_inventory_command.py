"""`bootstorm inventory load` and `dump`: what is not there is told in a line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from control.cli.command_line import main


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


def test_a_driver_that_is_not_installed(tmp_path: Path, hosts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    ran = inventory("postgresql+psycopg2://host/x", "load", str(hosts))
    assert ran.exit_code == 1 and "its driver installed" in ran.stderr.splitlines()[-1]
