"""A configuration that the running code accepted, read by code that is stricter: it costs the key, not the process."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from control.config import config
from control.config.config import Config, ConfigFaults, Dhcp, parse, parse_accepted
from tests.control.service.test_service import content
from tests.control.serving import may_serve, serving
from tests.ports import free_port

FILE = Path("services.conf")
GOOD: dict[str, Any] = {"dhcp": {"port": 1067, "max_nak_age": 7200}, "snmp": {"max_macs_per_port": 5}}


def read(found: Any) -> tuple[Config, list[str]]:
    return parse_accepted(found if isinstance(found, bytes) else json.dumps(found).encode(), FILE)


def test_what_is_good_is_the_same_both_ways() -> None:
    text = json.dumps(GOOD).encode()
    assert parse_accepted(text, FILE) == (parse(text, FILE), [])


CASES: dict[str, tuple[Any, Callable[[Config], object], object, str]] = {
    "value": ({"dhcp": {"max_nak_age": -1, "port": 1067}}, lambda c: (c.dhcp.max_nak_age, c.dhcp.port),
              (Dhcp().max_nak_age, 1067), "dhcp.max_nak_age: found -1"),
    "element": ({"dhcp": {"relays": ["10.0.0.0/8", "x"]}}, lambda c: c.dhcp.relays, (), "dhcp.relays[1]"),
    "one-port-for-two": ({"dhcp": {"port": 1067, "boot_port": 1067}}, lambda c: c.dhcp.port, 1067,
                         "dhcp.boot_port: found 1067, which is dhcp.port"),
    "key": ({"dhcp": {"gone": 1, "port": 1067}}, lambda c: c.dhcp.port, 1067, "dhcp.gone: unknown key"),
    "section": ({"gone": {}, "dhcp": {"port": 1067}}, lambda c: c.dhcp.port, 1067, "gone: unknown key"),
    "section-kind": ({"snmp": 5, "dhcp": {"port": 1067}}, lambda c: (c.dhcp.port, c.receives_traps), (1067, True),
                     "snmp: found 5"),
    "twice": (b'{"dhcp": {"port": 1067, "port": 1068}}', lambda c: c.dhcp.port, 1068, "dhcp.port: found twice"),
    "together": ({"dhcp": {"io": "xdp", "port": 1067}}, lambda c: c.dhcp.port, 1067, "dhcp.io"),
    "socket": ({"control": {"socket": "x" * 200}}, lambda c: c.control.socket.name, "control.sock", "control.socket"),
    "secret": ({"dhcp": {"api_token": "\u00e4", "port": 1067}}, lambda c: (c.dhcp.api_token, c.dhcp.port), (None, 1067),
               "(not shown)"),
    "no-object": (b"[1]", lambda c: c.dhcp, Dhcp(), "wanted an object"),
    "no-json": (b"{", lambda c: c.dhcp, Dhcp(), "not JSON"),
    "no-text": (b"\xff", lambda c: c.dhcp, Dhcp(), "UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_refused_costs_itself(case: str) -> None:
    found, look, want, said = CASES[case]
    got, refused = read(found)
    assert look(got) == want
    assert len(refused) == 1 and said in refused[0], refused
    assert got.text == (found if isinstance(found, bytes) else json.dumps(found).encode()), "a newer build may take it"
    with pytest.raises(ConfigFaults):  # as `check` and a cold start say it
        parse(got.text, FILE)


def test_the_state_folder_is_the_one_in_force() -> None:
    got, refused = parse_accepted(b'{"dhcp": {"state_dir": 5}}', FILE, Path("/srv/state"))
    assert got.dhcp.state_dir == Path("/srv/state") and "dhcp.state_dir" in refused[0]


def test_an_object_of_faults_is_counted_only() -> None:
    _got, refused = read({"dhcp": {f"k{number}": 1 for number in range(10_000)}})
    assert len(refused) == config.MAX_FAULTS + 1


STRICTER = """
import os
if os.path.exists({marker!r}):
    from control.config import checks
    number, integer = checks.number, checks.integer
    checks.number = lambda low, high: number(low, 3600 if high == 2678400 else high)
    checks.integer = lambda low, high: integer(low, 4 if high == 4096 else high)
"""


def test_a_stricter_build_starts_with_what_was_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same service, whose processes are replaced by ones with stricter checks."""
    may_serve()
    hosts, marker, hook = tmp_path / "hosts.csv", tmp_path / "stricter", tmp_path / "hook"
    hosts.write_text(content(1))
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(STRICTER.format(marker=str(marker)))
    monkeypatch.setenv("PYTHONPATH", f"{hook}:{os.environ.get('PYTHONPATH', '')}".rstrip(":"))
    snmp = {"bind_address": "127.0.0.1", "bind_port": free_port(), "max_macs_per_port": 5}
    with serving(tmp_path, f"file://{hosts}", snmp=snmp, max_nak_age=7200) as running:
        running.wait_for(r"generation 1: 1 hosts")
        running.wait_for(r"receiving traps")  # it starts behind the first table
        assert running.status()["config_refused"] == []
        marker.touch()
        for kind in ("run", "traps"):
            os.kill(running.child(kind), signal.SIGKILL)
        running.wait_for(r"refused now, its default counts: .*dhcp.max_nak_age: found 7200; wanted a number 0..3600")
        running.wait_for(r"generation \d+: 1 hosts")
        running.at = 0
        for _life in range(2):
            running.wait_for(r"receiving traps")
        refused = running.status()["config_refused"]
        assert [re.search(r"(\w+\.\w+): found", line)[1] for line in refused] == [  # type: ignore[index]
            "dhcp.max_nak_age", "snmp.max_macs_per_port",
        ]  # fmt: skip
        conf = tmp_path / "services.conf"
        argv = [sys.executable, "-P", "-m", "control"]
        checked = subprocess.run([*argv, "check", "-c", str(conf)], capture_output=True, text=True, check=False)
        assert checked.returncode == 2 and "dhcp.max_nak_age" in checked.stderr
        running.process.send_signal(signal.SIGHUP)
        running.wait_for(r"not reloaded: .*max_nak_age")
        assert len(running.status()["config_refused"]) == 2
        conf.write_text(conf.read_text().replace("7200", "3600").replace('"max_macs_per_port": 5', '"dry_run": true'))
        running.process.send_signal(signal.SIGHUP)
        running.wait_for(r"configuration reloaded")
        assert running.status()["config_refused"] == []
