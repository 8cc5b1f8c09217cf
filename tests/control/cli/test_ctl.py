"""control/cli/ctl.py and the command line around it: what a person reads, and with which exit code."""

import contextlib
import json
import os
import pty
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

from control.cli.command_line import main
from control.cli.ctl import (
    RENDER,
    CallFailed,
    Client,
    not_found,
    render_lookup,
    render_recent,
    render_status,
    render_workers,
)

WORKER = {"slot": 0, "pid": 4711, "generation": 12, "rx": 1234567, "tx": 1234000, "recovered": 0, "frames_lost": 0}
STATUS: dict[str, Any] = {
    "generation": 12, "base": 9, "digest": "00ff00ff00ff00ff", "hosts": 10000, "quarantined": 3, "table_age_s": 41.6,
    "table_bytes": 1048576, "inventory": "ok", "inventory_reason": None,
    "doubts": [], "kept_hosts": 0, "pinned_s": None,
    "refresh": {
        "stage": None, "done": 0, "total": 0, "last_seconds": 1.5, "stages_s": {}, "parts": 3, "kept_parts": 2,
        "outcomes": {"published": 4, "shrunk": 1},
    },
    "workers": [WORKER], "restarts": {}, "counters": {"ACKED": 5, "OFFERED": 7}, "send_errors": {},
    "warnings_suppressed": 0, "lookups": {"asked": 0}, "faults": {}, "faults_total": 0, "control_up_s": 60.0,
    "identities": {"seen": 12, "cloned": 0, "loops": 0, "clones": []}, "other_servers": {},
    "traps": {"state": "off", "reason": "services.conf has no section snmp"},
}  # fmt: skip
LATENCY: dict[str, Any] = {
    "window_s": 61.7, "bounds_s": [1e-6, 8.388608],
    "wait": {"count": 12345, "p50_s": 3.2e-5, "p99_s": 0.001024, "max_bucket_s": 2.097152},
    "answer": {"count": 7, "p50_s": 0.131072, "p99_s": None, "max_bucket_s": None},
}  # fmt: skip
LOOKUP: dict[str, Any] = {
    "mac": "00:11:22:33:44:55", "host": "ex0000", "state": "served", "reason": None,
    "leases": [
        {
            "address": "192.168.1.50", "prefix": 24, "lease_s": 3600, "renewal_s": 1600, "rebinding_s": 3150,
            "siaddr": "192.168.1.1", "file": "/pxelinux.0", "options": {"1": "ffffff00", "66": "61"},
            "classes": {"http-boot": {"file": "", "option 66": None}},
        }
    ],
    "seen": [],
}  # fmt: skip
CLONE = {"client_id": "image", "machines": 18, "shown": [{"mac": "M", "host": "a"}, {"mac": "N", "host": None}]}
SEEN = {
    "class": "ipxe", "role": "host", "client_id": "Ethernet 02:00:00:00:00:01", "other_mac": None, "shared_with": [],
    "vendor_class": "PXEClient", "seconds_ago": 12.3,
}  # fmt: skip
FIGURES = {"generation": 12, "hosts": 10, "added": 1, "changed": 2, "removed": 3, "quarantined": 4, "seconds": 0.123}
DIFF: dict[str, Any] = {
    "generation": 12, "origin": "inventory", "total": 3, "changes": [
        {"mac": "02:00:00:00:00:01", "host": "new", "old": None, "new": {"state": "disabled"}},
        {"mac": "02:00:00:00:00:02", "host": "h2", "old": {"address": "10.1.0.2/24", "option 6": "0a"},
         "new": {"address": "10.1.0.3/24"}},
        {"mac": "02:00:00:00:00:03", "host": "gone", "old": {"state": "served"}, "new": None},
    ],
}  # fmt: skip
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
        "identities  12 machines seen, 0 client-ids of several, 0 in a boot loop",
    ]


@pytest.mark.parametrize(
    "change, line",
    [
        pytest.param({"table_age_s": None}, "table age   never confirmed", id="never-confirmed"),
        pytest.param({"inventory": "down", "inventory_reason": "why"}, "inventory   down: why", id="down"),
        pytest.param(
            {"refresh": {"stage": "members", "done": 3, "total": 9}}, "refreshing  members 3/9", id="under-way"
        ),
        pytest.param(
            {"pinned_s": 61.4}, "PINNED      for 61 s by ctl rollback; ctl refresh --force ends that", id="pinned"
        ),
        pytest.param({"doubts": ["one", "two"]}, "in doubt    two", id="in-doubt"),
        pytest.param({"send_errors": {"ENOBUFS": 1500}}, "         1,500  not sent: ENOBUFS", id="send-errors"),
        pytest.param(
            {"faults": {"ex1": ["one", "two"]}, "faults_total": 1}, "  ex1: one; two", id="faults-of-the-inventory"
        ),
        pytest.param(
            {"identities": {"seen": 2, "cloned": 1, "loops": 0, "clones": [CLONE]}},
            "  image: a, N and 16 more",
            id="clones",
        ),
        pytest.param(
            {"other_servers": {"10.0.0.2": {"requests": 3, "host": "M (a)", "place": "eth0"}}},
            "other server 10.0.0.2: named in 3 requests, the last of M (a) on eth0",
            id="other-server",
        ),
        pytest.param(
            {"slowed_down_ns": [150000, 0]},
            "SLOWED DOWN for a bench: 150,000 ns an answer, 0 ns any other datagram; restart it",
            id="slowed-down",
        ),
        pytest.param(
            {"strangers": {"state": "", "dropped": 12345, "passed": 6}},
            "strangers   12,345 dropped by the kernel, 6 passed",
            id="strangers",
        ),
        pytest.param(
            {"strangers": {"state": "failed", "reason": "no"}}, "strangers   NOT DROPPED: no", id="strangers-stay"
        ),
        pytest.param({"health": {"ready": False, "reason": "why"}}, "NOT READY   why", id="not-ready"),
        pytest.param(
            {"latency": LATENCY},
            "waits       12,345 in 62 s: p50 32 us, p99 1.02 ms, longest 2.1 s",
            id="waits",
        ),
        pytest.param(
            {"latency": LATENCY},
            "answers     7 in 62 s: p50 131 ms, p99 over 8.39 s, longest over 8.39 s",
            id="answers-that-took-long",
        ),
        pytest.param(
            {"latency": LATENCY | {"wait": LATENCY["wait"] | {"count": 0}}}, "waits       0 in 62 s", id="nothing-came"
        ),
    ],
)
def test_status_says_what_is_wrong(change: dict[str, Any], line: str) -> None:
    assert line not in render_status(STATUS)
    assert line in render_status(STATUS | change)


TRAPS = {
    "state": "receiving", "received": 20007, "decoded": 20000, "queued": 2, "unknown": 3, "discoveries": 0,
    "unanswered": 0, "seen": 20001, "repeated": 0, "dropped": {"community": 1500, "kernel": 2}, "skipped": {"cut": 1},
}  # fmt: skip


def test_status_of_traps() -> None:
    lines = render_status(STATUS | {"traps": TRAPS})
    assert lines[-4:] == [
        "traps       20,007 received, 20,000 decoded, 3 unknown, 2 queued; 20,001 MAC addresses",
        "         1,500  dropped: community",
        "             2  dropped: kernel",
        "             1  addresses skipped: cut",
    ]
    failed = {"state": "failed", "reason": "cannot receive traps"}
    assert render_status(STATUS | {"traps": failed})[-1] == "traps       NONE: cannot receive traps"


def test_workers() -> None:
    assert render_workers([WORKER | {"pid": 0, "recovered": 64, "frames_lost": 3}]) == [
        "0: pid -, generation 12, received 1,234,567, sent 1,234,000, recovered 64, LOST 3 for want of room"
    ]


def test_lookup() -> None:
    assert render_lookup(LOOKUP) == [
        "00:11:22:33:44:55  ex0000  served",
        "  192.168.1.50/24  lease 3600 s",
        "    next server 192.168.1.1, boot file /pxelinux.0",
        "    option   1 = ffffff00",
        "    option  66 = 61",
        "    but for http-boot: file = -, option 66 = -",
    ]
    silent = LOOKUP | {"state": "disabled", "reason": "dhcp enabled is off (pool)", "leases": []}
    assert render_lookup(silent) == ["00:11:22:33:44:55  ex0000  disabled: dhcp enabled is off (pool)"]


@pytest.mark.parametrize(
    "change, line",
    [
        ({}, "  seen 12 s ago as ipxe, PXEClient, client-id Ethernet 02:00:00:00:00:01"),
        ({"client_id": None, "vendor_class": "", "role": "bmc"}, "  seen 12 s ago as ipxe (BMC), without client-id"),
        (
            {"other_mac": "M"},
            "  seen 12 s ago as ipxe, PXEClient, client-id Ethernet 02:00:00:00:00:01 (another card's, M)",
        ),
        (
            {"shared_with": ["M", "N"], "client_id": "x"},
            "  seen 12 s ago as ipxe, PXEClient, client-id x (of M, N, too)",
        ),
    ],
)
def test_what_a_machine_was_seen_as(change: dict[str, Any], line: str) -> None:
    assert render_lookup(LOOKUP | {"seen": [SEEN | change]})[-1] == line


def test_recent() -> None:
    assert render_recent([]) == ["nothing"]
    assert render_recent([RECENT]) == [
        "      2.2 s ago  DISCOVER from 02:00:00:00:00:01 on eth0 not answered: not in the inventory"
    ]


def test_refresh() -> None:
    want = "generation 12: 10 hosts, 1 added, 2 changed, 3 removed, 4 quarantined, 0.12 s"
    assert RENDER["refresh"](FIGURES) == [want]
    assert not_found(FIGURES) == not_found(FIGURES | {"removed": 0}) == []
    assert not_found(FIGURES | {"missing": ["gone"]}) == [], "it was in the table, and is removed"
    (said,) = not_found(FIGURES | {"removed": 0, "missing": ["nob\x1b"]})
    assert said.startswith("NOT FOUND: nob\\x1b is neither in the inventory nor in the table; ")


def test_diff() -> None:
    assert RENDER["diff"](DIFF) == [
        "generation 12 (inventory) changed 3 hosts",
        "+ 02:00:00:00:00:01  new",
        "    state: - -> disabled",
        "~ 02:00:00:00:00:02  h2",
        "    address: 10.1.0.2/24 -> 10.1.0.3/24",
        "    option 6: 0a -> -",
        "- 02:00:00:00:00:03  gone",
        "    state: served -> -",
    ]


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
    assert seen == [{"id": 1, "cmd": "lookup", "args": {"mac": "m"}, "progress": False}]


def test_progress_on_the_way_to_the_result(tmp_path: Path) -> None:
    step = {"stage": "hosts", "done": 1, "total": 2}
    told: list[dict[str, Any]] = []
    whole = reply(progress=step) + reply(progress=step | {"done": 2}) + reply(ok=True, result="done")
    with answering(tmp_path, whole[:9], whole[9:]) as (path, seen):
        assert Client(path).call("refresh", {}, told.append) == "done"
    assert told == [step, step | {"done": 2}] and seen[0]["progress"] is True


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
        (["rollback"], "rollback", {}, FIGURES, "generation 12: 10 hosts"),
        (["diff"], "diff", {"offset": 0, "limit": 1000}, DIFF, "changed 3 hosts"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_commands(
    tmp_path: Path, arguments: list[str], cmd: str, args: dict[str, Any], result: Any, said: str, as_json: bool
) -> None:
    with answering(tmp_path, reply(ok=True, result=result)) as (path, seen):
        ran = bootstorm("ctl", "--socket", path, *(["--json"] if as_json else []), *arguments)
    assert (ran.exit_code, ran.stderr) == (0, "")
    assert seen == [{"id": 1, "cmd": cmd, "args": args, "progress": False}], "no terminal, no bar"
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
        pytest.param(["ctl", "--socket", "s", "refresh", "--force", "--mac", "m"], id="force-without-effect"),
        pytest.param(
            ["ctl", "--socket", "s", "refresh", "--force", "--host", "h"], id="force-without-effect-on-a-host"
        ),
        pytest.param(["ctl", "--socket", "s", "refresh", "--here"], id="here-without-wait"),
        pytest.param(["nosuch"], id="no-such-thing"),
        pytest.param(["check", "-c", "/nowhere/services.conf"], id="no-such-file"),
        pytest.param(["ctl", "-c", "/nowhere/services.conf", "status"], id="no-such-file-for-ctl"),
    ],
)
def test_wrong_usage_is_exit_2(arguments: list[str]) -> None:
    ran = bootstorm(*arguments)
    assert (ran.exit_code, ran.stdout) == (2, "") and ran.stderr


class Paged:
    """Answers `diff` from so many changes; the generation grows by `grows` with every answer."""

    def __init__(self, folder: Path, total: int, grows: int = 0) -> None:
        self.path = str(folder / "paged.sock")
        self.changes: list[dict[str, Any]] = [
            {"mac": f"{number}", "host": "h", "old": None, "new": {}} for number in range(total)
        ]
        self.grows = grows
        self.asked: list[tuple[int, int]] = []

    def __enter__(self) -> "Paged":
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()
        return self

    def serve(self) -> None:
        while True:
            peer, _ = self.listener.accept()
            with peer:
                request = msgpack.unpackb(peer.recv(1 << 16))
                if request["cmd"] == "end":
                    return
                offset, limit = request["args"]["offset"], request["args"]["limit"]
                self.asked.append((offset, limit))
                peer.sendall(
                    reply(
                        ok=True,
                        result={
                            "generation": 7 + self.grows * len(self.asked), "origin": "inventory",
                            "total": len(self.changes), "changes": self.changes[offset : offset + limit],
                        },
                    )
                )  # fmt: skip

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(self.path)
            last.sendall(msgpack.packb({"cmd": "end"}))
        self.thread.join(60)
        self.listener.close()


def test_a_diff_of_2500_changes_comes_in_pages(tmp_path: Path) -> None:
    with Paged(tmp_path, 2500) as paged:
        ran = bootstorm("ctl", "--socket", paged.path, "--json", "diff")
    assert [change["mac"] for change in json.loads(ran.stdout)["changes"]] == [f"{number}" for number in range(2500)]
    assert paged.asked == [(0, 1000), (1000, 1000), (2000, 1000)]


def test_a_diff_that_a_refresh_overtakes_is_no_mixture(tmp_path: Path) -> None:
    with Paged(tmp_path, 2500, grows=1) as paged:
        ran = bootstorm("ctl", "--socket", paged.path, "diff")
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert ran.stderr == "bootstorm: diff: another refresh came meanwhile; ask again\n"


def on_a_terminal(path: str, *arguments: str) -> tuple[str, str, int]:
    """What a person sees on stderr, a terminal; stdout; the exit code."""
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-P", "-m", "control", "ctl", "--socket", path, *arguments]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=theirs, text=True) as process:
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # EIO: the other end of a terminal was closed
            while data := os.read(ours, 4096):
                seen += data
        os.close(ours)
        assert process.stdout is not None
        said = process.stdout.read()
        return seen.decode(), said, process.wait(60)


STEPS = [{"stage": "hosts", "done": 5, "total": 10}, {"stage": "build", "done": 0, "total": 1}]


def test_a_refresh_on_a_terminal_shows_a_bar(tmp_path: Path) -> None:
    replies = [*(reply(progress=step) for step in STEPS), reply(ok=True, result=FIGURES)]
    with answering(tmp_path, *replies) as (path, seen):
        bar, said, code = on_a_terminal(path, "refresh")
    assert seen[0]["progress"] is True and code == 0
    assert "refresh: hosts" in bar and "50%" in bar and "refresh: build" in bar
    assert said == RENDER["refresh"](FIGURES)[0] + "\n", "the answer is not in the bar's way"


def test_a_refresh_with_json_on_a_terminal_shows_none(tmp_path: Path) -> None:
    with answering(tmp_path, reply(ok=True, result=FIGURES)) as (path, seen):
        bar, said, code = on_a_terminal(path, "--json", "refresh")
    assert (bar, json.loads(said), code, seen[0]["progress"]) == ("", FIGURES, 0, False)


def test_a_refresh_that_fails_on_a_terminal(tmp_path: Path) -> None:
    with answering(tmp_path, reply(progress=STEPS[0]), reply(ok=False, error="not today")) as (path, _seen):
        bar, said, code = on_a_terminal(path, "refresh")
    assert (said, code) == ("", 1) and "bootstorm: not today" in bar


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
