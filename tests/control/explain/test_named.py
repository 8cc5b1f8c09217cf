"""`bootstorm check`: what services.conf names is looked at, and a fault is what the service could not use."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from control.cli.command_line import main
from control.explain import named

HOSTS = 'hosts:\n- {name: a, mac: "02:00:00:00:00:01"}\n'
NOBODY = "bootstorm-nobody"


def checked(folder: Path, dhcp: dict[str, Any] | None = None, *options: str, **sections: Any) -> Result:
    conf = folder / "services.conf"
    conf.write_text(json.dumps({"dhcp": {"state_dir": str(folder)} | (dhcp or {}), **sections}))
    return CliRunner().invoke(main, ["check", "-c", str(conf), *options])


def url_of(path: Path, content: str | None = HOSTS) -> dict[str, str]:
    if content is not None:
        path.write_text(content)
    return {"api_url": f"file://{path}"}


def test_a_host_file_that_is_well(tmp_path: Path) -> None:
    ran = checked(tmp_path, url_of(tmp_path / "hosts.yaml"))
    assert (ran.exit_code, ran.stderr) == (0, "") and ": good; inventory file://" in ran.stdout


@pytest.mark.parametrize(
    "content, said",
    [
        pytest.param(None, "hosts.yaml: cannot be read (No such file or directory)", id="missing"),
        pytest.param("[a]\n", "no mapping; wanted one with networks", id="no-host-file"),
        pytest.param("hosts: [", "not YAML", id="no-yaml"),
    ],
)
def test_a_host_file_that_the_service_could_not_use(tmp_path: Path, content: str | None, said: str) -> None:
    dhcp = url_of(tmp_path / "hosts.yaml", content)
    ran = checked(tmp_path, dhcp)
    assert (ran.exit_code, ran.stdout) == (2, "") and "dhcp.api_url: " in ran.stderr and said in ran.stderr
    assert checked(tmp_path, dhcp, "--file-only").exit_code == 0


def test_bad_rows_are_a_warning(tmp_path: Path) -> None:
    """The service serves the others."""
    ran = checked(tmp_path, url_of(tmp_path / "hosts.yaml", f"{HOSTS}- {{name: b, mac: junk}}\n- 5\n"))
    assert ran.exit_code == 0 and "good" in ran.stdout
    assert "warning: dhcp.api_url: 2 of 3 rows are bad, the first: hosts.yaml: hosts 2 (b): mac 'junk'" in ran.stderr
    assert "bootstorm lint" in ran.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_host_file_is_read_as_the_user_of_the_service(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yaml"
    dhcp = url_of(path) | {"user": "nobody"}
    path.chmod(0o600)
    ran = checked(tmp_path, dhcp)
    assert ran.exit_code == 2 and "cannot be read by nobody (Permission denied)" in ran.stderr
    assert named.unreadable(path, None) == "", "by ourselves"
    assert named.unreadable(Path("/dev/null"), pwd.getpwnam("nobody")) == ""


def test_a_user_that_does_not_exist(tmp_path: Path) -> None:
    ran = checked(tmp_path, {"user": NOBODY})
    assert ran.exit_code == 2 and f"dhcp.user: found '{NOBODY}', no such user; create it" in ran.stderr
    assert checked(tmp_path, {"user": NOBODY}, "--file-only").exit_code == 0


def test_an_interface_may_come_later(tmp_path: Path) -> None:
    ran = checked(tmp_path, {"interfaces": ["lo", "bond77"]})
    assert ran.exit_code == 0 and "warning: dhcp.interfaces: found 'bond77', which this machine has not" in ran.stderr
    assert "'lo'" not in ran.stderr


@pytest.mark.parametrize(
    "code, said",
    [
        pytest.param("def get_factory(rack):\n    return None\n", "", id="good"),
        pytest.param("import nonsense_of_nobody\n", "ModuleNotFoundError: No module named", id="import"),
        pytest.param("def get_factory(:\n", "SyntaxError", id="syntax"),
        pytest.param("import os\nos._exit(7)\n", "exit 7", id="ends"),
        pytest.param(None, "FileNotFoundError", id="missing"),
    ],
)
def test_a_rack_factory_is_imported(tmp_path: Path, code: str | None, said: str) -> None:
    path = tmp_path / "factory.py"
    if code is not None:
        path.write_text(code)
    ran = checked(tmp_path, snmp={"rackfactory": str(path), "communities": ["c"]})
    assert ran.exit_code == (2 if said else 0), ran.stderr
    assert not said or ("snmp.rackfactory: " in ran.stderr and said in ran.stderr)


def test_a_rack_factory_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "IMPORT_S", 0.5)
    path = tmp_path / "factory.py"
    path.write_text("import signal\nsignal.pause()\n")
    ran = checked(tmp_path, snmp={"rackfactory": str(path), "communities": ["c"]})
    assert ran.exit_code == 2 and "has not ended" in ran.stderr
