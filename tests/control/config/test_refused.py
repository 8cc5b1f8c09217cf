"""What `bootstorm check` once called good, and a process of ours then died of."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from control.cli.command_line import main
from control.config import checks
from control.config.config import Config, ConfigFaults, parse
from control.discovery.coordinator import JOURNAL
from control.discovery.traps import identity
from control.fleet.process.disk import DELTA_FILE, STATE_FILE
from control.plan import classes, contexts, networks
from control.service.machines import hosts
from control.table.file import TableStore

FILE = Path("services.conf")
LONG = 64 * "a"


def parsed(section: str, key: str, value: Any) -> Config:
    return parse(json.dumps({section: {key: value}}).encode(), FILE)


def faults_of(section: str, key: str, value: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigFaults) as caught:
        parsed(section, key, value)
    for line in caught.value.faults:
        assert line.startswith("services.conf: ") and line.isprintable() and len(line) < 700, line
    return caught.value.faults


@pytest.mark.parametrize("host", ["a..b", "a." + LONG, LONG])
@pytest.mark.parametrize(
    "section, key, form",
    [("http", "bind_address", "{}"), ("metrics", "bind", "{}:9100"), ("dhcp", "api_url", "http://{}")],
)
def test_a_host_name_that_no_name_server_can_be_asked_for(section: str, key: str, form: str, host: str) -> None:
    (line,) = faults_of(section, key, form.format(host))
    assert line.startswith(f"services.conf: {section}.{key}: found ")
    long = "a host name with a label of 64 characters; wanted at most 63 between two dots"
    assert (long if LONG in host else "take out the dot that has no label before it") in line


def test_a_host_name_that_can_be_asked_for() -> None:
    name = 63 * "a" + ".example"
    assert parsed("metrics", "bind", name + ":9100").metrics.bind == (name, 9100)
    assert parsed("dhcp", "api_url", "http://host.example.:9996/").dhcp.api_url == "http://host.example.:9996"
    assert parsed("dhcp", "api_url", "http://[::1]:9996/").dhcp.api_url == "http://[::1]:9996"


# --- half a character ------------------------------------------------------------------------------------------------

HALF = "wrong-\ud800-password"
TEXTS: list[tuple[str, str, Any, str]] = [
    ("snmp", "users", [{"name": "u", "auth": "sha", "auth_password": HALF}], "snmp.users[0].auth_password"),
    ("snmp", "users", [{"name": "u", "auth": "sha", HALF: "x"}], "snmp.users[0]"),
    ("snmp", "communities", ["public", HALF], "snmp.communities[1]"),
    ("snmp", "rackfactory", f"/{HALF}.py", "snmp.rackfactory"),
    ("dhcp", "api_token", HALF, "dhcp.api_token"),
    ("dhcp", "state_dir", f"/{HALF}", "dhcp.state_dir"),
    ("dhcp", "extra_options", {"150": HALF}, "dhcp.extra_options.150"),
    ("dhcp", "bmc_rules", [{"vendor_class": HALF}], "dhcp.bmc_rules[0].vendor_class"),
    ("control", "socket", f"/{HALF}", "control.socket"),
]


@pytest.mark.parametrize("section, key, value, where", TEXTS, ids=[where for *_, where in TEXTS])
def test_a_text_that_no_process_can_be_given(section: str, key: str, value: Any, where: str) -> None:
    """The receiver of traps ended at each start, when it encoded a password."""
    (line,) = faults_of(section, key, value)
    assert line.startswith(f"services.conf: {where}: found ")
    assert "with half a character, the 7. of it; wanted whole characters" in line or "the 8. of it" in line
    assert ("password-" not in line and "wrong-" not in line) or section == "dhcp" or key in ("rackfactory", "socket")


def test_both_halves_of_a_character_are_one() -> None:
    password = "\U0001f600-password"
    (user,) = parsed("snmp", "users", [{"name": "u", "auth": "sha", "auth_password": password}]).snmp.users
    assert user.auth_password == password


# --- names that are the service's own --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["enabled", "Enabled", "proxy", "overload", "always-broadcast", "bootfile_url", "shared"]
)
def test_an_extra_option_that_would_hide_what_the_service_reads(name: str) -> None:
    """Every host was disabled by {"150": "enabled"}."""
    (line,) = faults_of("dhcp", "extra_options", {"150": name})
    assert f'dhcp.extra_options["150"]: found "{name}", which is an attribute that the service itself reads' in line


def test_every_attribute_that_the_service_reads_is_one() -> None:
    alone = {contexts.ENABLED, contexts.PROXY, contexts.BOOT_PORTS, contexts.BOOT_ENDS}
    ours = {*alone, classes.URL_KEY, *contexts.SWITCHES, networks.SHARED}
    assert {name.replace("-", "_") for name in ours} == set(checks.OWN_ATTRIBUTES)


def own_files() -> list[str]:
    store = TableStore(Path("/s"))
    paths = store.base_path, store.delta_path, store.pin_path
    twice = [
        name + end for name in (JOURNAL, identity.FILE, hosts.FILE, STATE_FILE, DELTA_FILE) for end in ("", ".new")
    ]
    return ["lock", *twice, *(path.name for path in paths)]


@pytest.mark.parametrize("socket", ["/s", "/s/", "/s/../s", "/", *(f"/s/{name}" for name in own_files()), "/s/table.x"])
def test_a_control_socket_in_the_place_of_something_else(socket: str) -> None:
    content = {"dhcp": {"state_dir": "/s"}, "control": {"socket": socket}}
    with pytest.raises(ConfigFaults) as caught:
        parse(json.dumps(content).encode(), FILE)
    (line,) = caught.value.faults
    assert line.startswith("services.conf: control.socket: found ") and line.endswith('; write "/s/control.sock"')


@pytest.mark.parametrize("socket", ["/s/control.sock", "/s/ctl", "/run/lock", "/s/below/lock"])
def test_a_control_socket_in_a_place_of_its_own(socket: str) -> None:
    content = {"dhcp": {"state_dir": "/s"}, "control": {"socket": socket}}
    assert str(parse(json.dumps(content).encode(), FILE).control.socket) == socket


def checked(folder: Path, **sections: Any) -> tuple[int, str]:
    (folder / "services.conf").write_text(json.dumps(sections))
    result = CliRunner().invoke(main, ["check", "-c", str(folder / "services.conf")])
    return result.exit_code, result.output


def test_check_sees_what_stands_in_the_place_of_the_state_folder_or_the_socket(tmp_path: Path) -> None:
    state, file = tmp_path / "state", tmp_path / "file"
    file.touch()
    for path, found in ((file, "a plain file"), (file / "below", "a path below a file")):
        code, said = checked(tmp_path, dhcp={"state_dir": str(path)}, control={"socket": str(tmp_path / "ctl")})
        assert code == 2 and f'dhcp.state_dir: found "{path}", {found}; wanted a folder, or nothing yet; remove' in said
    for path, found in ((file, "a plain file"), (tmp_path, "a folder")):
        code, said = checked(tmp_path, dhcp={"state_dir": "/nowhere/state"}, control={"socket": str(path)})
        assert code == 2 and f'control.socket: found "{path}", {found}; wanted a socket, or nothing yet; remove' in said
    assert checked(tmp_path, dhcp={"state_dir": str(state)})[0] == 0
    state.mkdir()
    os.symlink("nowhere", state / "control.sock")
    assert checked(tmp_path, dhcp={"state_dir": str(state)})[0] == 0


@pytest.mark.parametrize("said, want", [([2, 1], (2, 1)), ([1], (1,)), ("all", "all")])
def test_boot_ports(said: Any, want: Any) -> None:
    assert parse(json.dumps({"dhcp": {"boot_ports": said}}).encode(), Path("f")).dhcp.boot_ports == want


@pytest.mark.parametrize(
    "said, complaint",
    [
        ([0], "found 0; wanted"),
        (["1"], 'found "1"; wanted'),
        ([1, 1], "a second time"),
        ([], "name at least one"),
        ("every", 'wanted a list of numbers of Ethernet ports such as [1, 2], or "all"'),
        (None, "wanted a list"),
    ],
)
def test_boot_ports_that_are_none(said: Any, complaint: str) -> None:
    with pytest.raises(ConfigFaults, match=re.escape(complaint)):
        parse(json.dumps({"dhcp": {"boot_ports": said}}).encode(), Path("f"))
