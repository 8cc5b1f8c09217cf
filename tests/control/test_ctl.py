"""control/ctl.py and the command line around it: what a person reads, and with which exit code."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
from click.testing import CliRunner, Result

from control.cli import main
from control.ctl import RENDER, CallFailed, Client, render_lookup, render_recent, render_status, render_workers

WORKER = {"slot": 0, "pid": 4711, "generation": 12, "rx": 1234567, "tx": 1234000, "recovered": 0, "events_lost": 0}
STATUS: dict[str, Any] = {
    "generation": 12, "base": 9, "digest": "00ff00ff00ff00ff", "hosts": 10000, "quarantined": 3, "table_age_s": 41.6,
    "table_bytes": 1048576, "inventory": "ok", "inventory_reason": None,
    "refresh": {"stage": None, "done": 0, "total": 0, "last_seconds": 1.5, "stages_s": {}},
    "workers": [WORKER], "restarts": {}, "counters": {"ACKED": 5, "OFFERED": 7}, "send_errors": {},
    "warnings_suppressed": 0, "faults": {}, "faults_total": 0, "control_up_s": 60.0,
}  # fmt: skip
LOOKUP: dict[str, Any] = {
    "mac": "00:11:22:33:44:55", "host": "ex0000", "state": "served", "reason": None,
    "leases": [
        {
            "address": "192.168.1.50", "prefix": 24, "lease_s": 3600, "renewal_s": 1600, "rebinding_s": 3150,
            "siaddr": "192.168.1.1", "file": "/pxelinux.0", "options": {"1": "ffffff00", "66": "61"},
        }
    ],
}  # fmt: skip
FIGURES = {"generation": 12, "hosts": 10, "added": 1, "changed": 2, "removed": 3, "quarantined": 4, "seconds": 0.123}
RECENT = {
    "seconds_ago": 2.25, "mac": "02:00:00:00:00:01", "host": None, "message": "DISCOVER",
    "reason": "not in the inventory", "verdict": "IGNORED_UNKNOWN_MAC", "detail": None, "interface": "eth0",
    "relay": None, "source": None, "ciaddr": None, "requested": None, "server_id": None, "vendor_class": "",
    "xid": "00000001",
}  # fmt: skip


# --- what a person reads ---------------------------------------------------------------------------------------------


def test_status() -> None:
    assert render_status(STATUS) == [
        "generation  12 (base 9, digest 00ff00ff00ff00ff)",
        "hosts       10000 answered, 3 quarantined, 1,048,576 bytes",
        "inventory   ok",
        "table age   42 s",
        "workers",
        "  0: pid 4711, generation 12, received 1,234,567, sent 1,234,000",
        "counters",
        "             7  OFFERED",
        "             5  ACKED",
    ]


@pytest.mark.parametrize(
    "change, line",
    [
        pytest.param({"table_age_s": None}, "table age   never confirmed", id="never-confirmed"),
        pytest.param({"inventory": "down", "inventory_reason": "why"}, "inventory   down: why", id="down"),
        pytest.param(
            {"refresh": {"stage": "members", "done": 3, "total": 9}}, "refreshing  members 3/9", id="under-way"
        ),
        pytest.param({"send_errors": {"ENOBUFS": 1500}}, "         1,500  not sent: ENOBUFS", id="send-errors"),
        pytest.param(
            {"faults": {"ex1": ["one", "two"]}, "faults_total": 1}, "  ex1: one; two", id="faults-of-the-inventory"
        ),
    ],
)
def test_status_says_what_is_wrong(change: dict[str, Any], line: str) -> None:
    assert line not in render_status(STATUS)
    assert line in render_status(STATUS | change)


def test_workers() -> None:
    assert render_workers([WORKER | {"pid": 0, "recovered": 64}]) == [
        "0: pid -, generation 12, received 1,234,567, sent 1,234,000, recovered 64"
    ]


def test_lookup() -> None:
    assert render_lookup(LOOKUP) == [
        "00:11:22:33:44:55  ex0000  served",
        "  192.168.1.50/24  lease 3600 s",
        "    next server 192.168.1.1, boot file /pxelinux.0",
        "    option   1 = ffffff00",
        "    option  66 = 61",
    ]
    silent = LOOKUP | {"state": "disabled", "reason": "dhcp enabled is off (pool)", "leases": []}
    assert render_lookup(silent) == ["00:11:22:33:44:55  ex0000  disabled: dhcp enabled is off (pool)"]


def test_recent() -> None:
    assert render_recent([]) == ["nothing"]
    assert render_recent([RECENT]) == [
        "      2.2 s ago  DISCOVER from 02:00:00:00:00:01 on eth0 not answered: not in the inventory"
    ]


def test_refresh() -> None:
    want = "generation 12: 10 hosts, 1 added, 2 changed, 3 removed, 4 quarantined, 0.12 s"
    assert RENDER["refresh"](FIGURES) == [want]


# --- a call ----------------------------------------------------------------------------------------------------------


@contextmanager
def answering(folder: Path, *replies: bytes) -> Iterator[tuple[str, list[Any]]]:
    """A socket that reads one request and says these octets; the requests it saw."""
    path, seen = str(folder / "control.sock"), []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(60)

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                seen.append(msgpack.unpackb(peer.recv(1 << 16)))
                for reply in replies:
                    peer.sendall(reply)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield path, seen
        thread.join(60)


def reply(**fields: Any) -> bytes:
    packed: bytes = msgpack.packb({"id": 1} | fields)
    return packed


def test_a_call_gives_the_result(tmp_path: Path) -> None:
    whole = reply(ok=True, result={"long": "x" * 200_000})
    with answering(tmp_path, whole[:7], whole[7:]) as (path, seen):
        assert Client(path).call("lookup", {"mac": "m"}) == {"long": "x" * 200_000}
    assert seen == [{"id": 1, "cmd": "lookup", "args": {"mac": "m"}}]


@pytest.mark.parametrize(
    "answer, said",
    [
        pytest.param(reply(ok=False, error="not today"), "^not today$", id="the-service's-word"),
        pytest.param(b"", "closed without an answer", id="closed"),
        pytest.param(reply(ok=True, result=1)[:-1], "closed without an answer", id="cut"),
        pytest.param(b"\xc1", "no answer of bootstorm's", id="no-msgpack"),
        pytest.param(msgpack.packb(5), "no answer of bootstorm's", id="a-number"),
        pytest.param(reply(ok=True), "no answer of bootstorm's", id="without-a-result"),
    ],
)
def test_a_call_that_failed(tmp_path: Path, answer: bytes, said: str) -> None:
    with answering(tmp_path, answer) as (path, _seen), pytest.raises(CallFailed, match=said):
        Client(path).call("status", {})


@pytest.mark.parametrize(
    "make, said",
    [
        pytest.param(lambda folder: folder / "nowhere", "No such file", id="nothing-there"),
        pytest.param(lambda folder: folder / ("x" * 200), "too long", id="path-too-long-for-a-socket"),
        pytest.param(lambda folder: abandoned(folder / "old"), "Connection refused", id="nobody-listens"),
    ],
)
def test_a_service_that_is_not_there(tmp_path: Path, make: Callable[[Path], Path], said: str) -> None:
    path = make(tmp_path)
    with pytest.raises(CallFailed) as caught:
        Client(str(path)).call("status", {})
    line = str(caught.value)
    assert line.startswith(f"control socket {path}: ") and said in line and "bootstorm serve" in line


def abandoned(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    return path


# --- the command line ------------------------------------------------------------------------------------------------


def bootstorm(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize(
    "arguments, cmd, args, result, said",
    [
        (["status"], "status", {}, STATUS, "inventory   ok"),
        (["workers"], "workers", {}, [WORKER], "pid 4711"),
        (["lookup", "M"], "lookup", {"mac": "M"}, LOOKUP, "192.168.1.50/24"),
        (["recent", "--most", "3"], "recent", {"most": 3, "mac": None}, [], "nothing"),
        (
            ["refresh", "--wait", "--force"], "refresh",
            {"wait": True, "force": True, "mac": None, "host": None}, FIGURES, "generation 12: 10 hosts",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_commands(
    tmp_path: Path, arguments: list[str], cmd: str, args: dict[str, Any], result: Any, said: str, as_json: bool
) -> None:
    with answering(tmp_path, reply(ok=True, result=result)) as (path, seen):
        ran = bootstorm("ctl", "--socket", path, *(["--json"] if as_json else []), *arguments)
    assert (ran.exit_code, ran.stderr) == (0, "")
    assert seen == [{"id": 1, "cmd": cmd, "args": args}]
    assert (json.loads(ran.stdout) == result) if as_json else (said in ran.stdout)


def test_a_command_that_failed_is_one_line_and_exit_1(tmp_path: Path) -> None:
    with answering(tmp_path, reply(ok=False, error="not today")) as (path, _seen):
        ran = bootstorm("ctl", "--socket", path, "status")
    assert (ran.exit_code, ran.stdout, ran.stderr) == (1, "", "bootstorm: not today\n")


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["ctl", "--socket", "s", "nosuch"], id="unknown-command"),
        pytest.param(["ctl", "--socket", "s", "lookup"], id="argument-missing"),
        pytest.param(["ctl", "--socket", "s", "recent", "--most", "many"], id="no-number"),
        pytest.param(["ctl", "--socket", "s", "refresh", "--full", "--mac", "m"], id="options-that-contradict"),
        pytest.param(["nosuch"], id="no-such-thing"),
        pytest.param(["check", "-c", "/nowhere/services.conf"], id="no-such-file"),
        pytest.param(["ctl", "-c", "/nowhere/services.conf", "status"], id="no-such-file-for-ctl"),
    ],
)
def test_wrong_usage_is_exit_2(arguments: list[str]) -> None:
    ran = bootstorm(*arguments)
    assert (ran.exit_code, ran.stdout) == (2, "") and ran.stderr


def test_check_lists_every_fault(tmp_path: Path) -> None:
    path = tmp_path / "services.conf"
    path.write_text('{"dhcp": {"port": 0, "workesr": 2}}')
    ran = bootstorm("check", "-c", str(path))
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert sorted(line.split(":")[0] for line in ran.stderr.splitlines()) == ["bootstorm", "bootstorm"]
    assert "dhcp.port" in ran.stderr and "did you mean dhcp.workers?" in ran.stderr


def test_check_says_that_all_is_well(tmp_path: Path) -> None:
    path = tmp_path / "services.conf"
    path.write_text(json.dumps({"dhcp": {"api_url": "http://10.0.0.1:9996/", "state_dir": str(tmp_path)}}))
    ran = bootstorm("check", "-c", str(path))
    assert (ran.exit_code, ran.stderr) == (0, "")
    assert ran.stdout == f"{path}: good; inventory http://10.0.0.1:9996, state in {tmp_path}\n"


def test_the_socket_is_that_of_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "services.conf"
    path.write_text(json.dumps({"dhcp": {"state_dir": str(tmp_path)}}))
    with answering(tmp_path, reply(ok=True, result=[])) as (_path, seen):
        ran = bootstorm("ctl", "-c", str(path), "recent")
    assert (ran.exit_code, ran.stdout) == (0, "nothing\n") and len(seen) == 1


def test_the_real_thing_without_a_service(tmp_path: Path) -> None:
    argv = [sys.executable, "-P", "-m", "control", "ctl", "--socket", str(tmp_path / "s"), "status"]
    ran = subprocess.run(argv, capture_output=True, text=True, env=os.environ, timeout=120, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.count("\n") == 1 and ran.stderr.startswith(f"bootstorm: control socket {tmp_path / 's'}: ")
