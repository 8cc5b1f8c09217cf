"""deploy/systemd: systemd finds no fault with the units, and they hold what the service needs of them."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from control.cli import command_line
from control.config.config import Config
from fastpath.process.limits import FILES_A_WORKER, FILES_LEAST
from fastpath.supervisor import supervisor
from tests.test_docs import ROOT, text

FOLDER = ROOT / "deploy/systemd"
UNITS = sorted(path.name for path in FOLDER.glob("*.service"))
COMMAND = "/opt/bootstorm/bin/bootstorm"
EXPOSURE_MAX = 2.5
WORKERS_MAX = 64


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name}: apt install systemd")
    return found


def ran(*argv: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((FOLDER / name).read_text())
    return parser


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units, with a command that this machine has."""
    command = tmp_path / "bootstorm"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    for name in UNITS:
        (tmp_path / name).write_text((FOLDER / name).read_text().replace(COMMAND, str(command)))
    return tmp_path


@pytest.mark.parametrize("name", UNITS)
def test_systemd_finds_no_fault(name: str, installed: Path) -> None:
    analyze = tool("systemd-analyze")
    done = ran(analyze, "verify", "--man=no", f"./{name}", folder=installed)
    assert (done.returncode, name in done.stderr, done.stdout) == (0, False, ""), done.stderr
    (installed / name).write_text((installed / name).read_text().replace("[Service]", "[Service]\nBogus=1"))
    done = ran(analyze, "verify", "--man=no", f"./{name}", folder=installed)
    assert "Bogus" in done.stderr, "it would find one"


@pytest.mark.parametrize("name", UNITS)
def test_the_exposure_is_low(name: str, installed: Path) -> None:
    done = ran(
        tool("systemd-analyze"), "security", "--offline=yes", f"--threshold={EXPOSURE_MAX * 10:.0f}", f"./{name}",
        folder=installed,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stderr
    print(f"{name}: {found[1]}")
    assert float(found[1]) <= EXPOSURE_MAX and done.returncode == 0, done.stdout


def test_the_users_are_those_of_the_units(tmp_path: Path) -> None:
    users = {unit(name)["Service"]["User"] for name in UNITS}
    conf = FOLDER / "sysusers.d/bootstorm.conf"
    lines = [line.split() for line in conf.read_text().splitlines() if not line.startswith("#")]
    assert {words[1] for words in lines} == users and all(words[0] == "u" for words in lines)
    done = ran(tool("systemd-sysusers"), "--dry-run", str(conf), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for user in users:
        assert f"Creating user '{user}'" in done.stderr or f"{user}:" in Path("/etc/passwd").read_text()


def test_the_service_is_restarted_for_ever_and_waits_for_its_table_as_long_as_that_takes() -> None:
    shipped = unit("bootstorm.service")
    service = shipped["Service"]
    assert shipped["Unit"]["StartLimitIntervalSec"] == "0", "port 67 may be busy for a while"
    assert (service["Type"], service["Restart"], service["TimeoutStartSec"]) == ("notify", "on-failure", "infinity")
    assert service["ExecStartPre"].startswith("-"), "a broken file must not keep a killed service from going on"
    assert service["KillMode"] == "mixed" and service["OOMPolicy"] == "continue"
    assert int(service["TimeoutStopSec"]) > 2 * supervisor.STOP_S + 1
    assert int(service["WatchdogSec"]) >= 20 * supervisor.TICK_S


def test_the_store_and_the_limit_on_files_hold_what_the_most_workers_have() -> None:
    service = unit("bootstorm.service")["Service"]
    store = int(service["FileDescriptorStoreMax"])
    assert store >= WORKERS_MAX * 5 + 20
    assert int(service["LimitNOFILE"]) >= FILES_LEAST + FILES_A_WORKER * WORKERS_MAX + 2 * store


def test_who_may_use_the_control_socket_can_reach_it() -> None:
    """control.allow_uids and read_gids are of other users: they have to get through the folder, and their numbers have
    to be their own, as they are not in a user namespace of the unit's."""
    service = unit("bootstorm.service")["Service"]
    assert Path("/var/lib") / service["StateDirectory"] == Config().dhcp.state_dir == Config().control.socket.parent
    mode = int(service["StateDirectoryMode"], 8)
    assert mode & 0o001 and not mode & 0o022, "fastpath.privileges.folders refuses what others may write to"
    assert "PrivateUsers" not in service and "DynamicUser" not in service
    assert "AF_UNIX" in service["RestrictAddressFamilies"].split(), "names are asked of nss by it, too"


@pytest.mark.parametrize("name", UNITS)
def test_the_commands_exist(name: str) -> None:
    """As the unit has them, up to the point at which they need a file."""
    service = unit(name)["Service"]
    for key in ("ExecStartPre", "ExecStart", "ExecReload"):
        if key in service:
            command, *words = service[key].removeprefix("-").split()
            assert command == COMMAND
            if words[0] == "ctl":
                assert words[1] == "-c" and words[3:] == ["reload"] and "reload" in command_line.ctl.commands
                continue
            done = CliRunner().invoke(command_line.main, [*words, "--help"])
            assert done.exit_code == 0 and "Usage:" in done.output, done.output


def test_the_documents_name_the_files() -> None:
    operations = text("docs/operations.md")
    for path in sorted(FOLDER.rglob("*")):
        if path.is_file():
            assert str(path.relative_to(ROOT)) in operations, path
    assert "[Service]\nType=" not in operations, "the unit stands in its file, and nowhere else"
