"""The board beside a running service: equal figures, hostile names, a service that goes and comes, many who look."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from control.board.figures import PROGRESS
from control.board.gate import Token, host_names
from control.board.site import Site
from control.board.watcher import Watcher
from tests.control.board.asking import Board, ask, boarding, opened
from tests.control.cli.test_ctl import CLONE, STATUS
from tests.control.serving import Running, children, may_serve, serving
from tests.ext.packets import discover
from tests.ports import free_port

WAIT_S = 60.0
NASTY = "<script>alert(1)</script>&\"'\x1b[2J\u202e"
HEALTH = {"ready": True, "reason": None, "answering": 1, "workers": 1}
SECRETS = ("secret-4711", "hunter2")
SITE = {
    "networks": [{"base": "10.1.0.0", "mask": "255.255.255.0", "gateway": "10.1.0.1"}],
    "pools": [
        {
            "name": "racks",
            "dhcp": {"enabled": 1, "tftp_filename": "https://boot.example/secret-4711.efi", "root_path": "hunter2"},
        }
    ],
    "hosts": [
        {
            "name": f"node{number}",
            "mac": f"02:00:00:00:00:0{number}",
            "addresses": [f"10.1.0.{10 + number}"],
            "pool": "racks",
        }
        for number in (1, 2, 3)
    ]
    + [{"name": "twin", "mac": "02:00:00:00:00:02", "addresses": ["10.1.0.40"], "pool": "racks"}],
}


def read(url: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


@contextmanager
def boarded(folder: Path, **board: Any) -> Iterator[tuple[Running, Board]]:
    """A service of SITE and its board."""
    may_serve()
    hosts = folder / "hosts.yaml"
    hosts.write_text(json.dumps(SITE))
    port = free_port()
    user = {"user": "nobody"} if os.geteuid() == 0 else {}
    section = {"bind": f"127.0.0.1:{port}", "title": "the site"} | user | board
    reads = {"read_uids": [65534]} if os.geteuid() == 0 else {}
    with serving(folder, f"file://{hosts}", interfaces=[], board=section, control=reads) as running:
        running.wait_for(r"generation 1: ")
        opened(folder)
        (folder / "services.conf").chmod(0o644)
        with boarding(folder / "services.conf", port) as found:
            yield running, found


def asked_by(port: int, *macs: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for mac in macs:
            client.sendto(discover(mac, giaddr="10.1.0.1"), ("127.0.0.1", port))


def dhcp_port(folder: Path) -> int:
    return int(json.loads((folder / "services.conf").read_text())["dhcp"]["port"])


def live(url: str) -> Iterator[dict[str, Any]]:
    """What a page is told, piece by piece."""
    with urllib.request.urlopen(f"{url}/live", timeout=WAIT_S) as answer:
        for line in answer:
            if line.startswith(b"data: "):
                yield json.loads(line[6:])


def until(found: Any, what: str) -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (said := found()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return said


def soiled(value: Any) -> Any:
    """With markup behind each of its texts, and much of it."""
    if isinstance(value, str):
        return value + NASTY + "x" * 1_000_000
    if isinstance(value, dict):
        return {name: soiled(each) for name, each in value.items()}
    return [soiled(each) for each in value] if isinstance(value, list) else value


def test_what_others_say_is_escaped_and_cut(tmp_path: Path) -> None:
    """Names of clusto may be anything, of 1 MB."""
    watcher = Watcher(str(tmp_path / "none"))
    app = Site(watcher, Token(None), "site").app(host_names(("127.0.0.1", 9970), ()))
    progress = dict.fromkeys(PROGRESS, 1)
    group = progress | {"stages": {"rom-asked": 1}}
    watcher.status = STATUS | {
        "inventory_reason": soiled("down"), "doubts": [soiled("p")], "restarts": {}, "lookups": {}, "health": HEALTH,
        "other_servers": {"10.0.0.9": {"requests": 1, "host": soiled("h"), "place": soiled("eth0")}},
        "identities": {"seen": 1, "cloned": 1, "loops": 0, "clones": [soiled(CLONE) | {"machines": 2}]},
        "version": "1", "build": "b", "control_up_s": 1.0, "fault_kinds": {"conflict": 1}, "strangers": {},
        "losses": {"udp_rcvbuf_errors": 0, "queues": []}, "refresh": STATUS["refresh"] | {"interval_s": 300.0},
        "workers": [STATUS["workers"][0] | {"heartbeat_age_s": 0.1}],
    }  # fmt: skip
    watcher.overview = {
        "since_s": 1, "totals": {"states": {"served": progress}, "stages": {}},
        "by": {"pool": {NASTY + "x" * 1_000_000: group}}, "cut": {},
    }  # fmt: skip
    host = {"mac": "02:00:00:00:00:01", "role": "host", "stage": "rom-asked", "stage_s": 1, "requests": 1}
    watcher.stuck = [host | {"name": soiled(""), "reason": soiled("why")}]
    watcher.conflicts = [{"object": soiled("o"), "reason": soiled("r")}]
    event = {
        "number": 1,
        "time_s": 1.0,
        "kind": "stranger-seen",
        "object": soiled(""),
        "mac": None,
        "reason": soiled(""),
    }
    watcher.events.append(event)
    watcher.looked_s = watcher.taken_s = time.time()
    page = ask(app, "/").text
    assert "another build" not in page
    assert page.count("&lt;script&gt;") > 8 and "<script>alert" not in page
    assert "\x1b" not in page and "\u202e" not in page and "x" * 400 not in page
    assert len(page) < 60_000


@pytest.mark.waits
def test_the_board_beside_a_service(tmp_path: Path) -> None:
    """One service and one board for all of this, since their start is what takes long."""
    with boarded(tmp_path) as (running, board):
        asked_by(dhcp_port(tmp_path), 0x020000000001, 0x020000000003, 0x0200000000AA)
        until(lambda: heard(running, 2), "nobody was heard")
        say_the_same_as_the_status(board.url, running)
        secrets_are_not_shown(board.url)
        a_machine_in_three_clicks(board.url)
        the_live_page_goes_on(board.url, dhcp_port(tmp_path))
        many_may_look(board.url)
        odd_questions_have_an_answer(board.url)
        board_says_who_does_not_answer(running, board)


def heard(running: Running, wanted: int) -> bool:
    return sum(running.status()["boots"]["stages"].values()) == wanted


def say_the_same_as_the_status(url: str, running: Running) -> None:
    """Each has the figures of a moment of its own, which may be before the last packet's."""

    def page_that_agrees() -> str | None:
        page, status = read(url)[1], running.status()
        progress: Counter[str] = Counter()
        for counts in status["boots"]["states"].values():
            progress.update(counts)
        wanted = [f'href="/hosts?progress={word}"><b>{many:,}</b>' for word, many in progress.items()]
        wanted.append(f"<td>{sum(worker['rx'] for worker in status['workers'])}</td>")
        return page if all(piece in page for piece in wanted) else None

    page = until(page_that_agrees, "the board's figures never were the status's")
    assert "the site" in page
    assert "1 conflicts of the inventory" in page or "2 conflicts of the inventory" in page


def secrets_are_not_shown(url: str) -> None:
    for path in ("/", "/host/02:00:00:00:00:01", "/host/02:00:00:00:00:01/packets"):
        page = read(url + path)[1]
        assert not [secret for secret in SECRETS if secret in page], path
    page = read(f"{url}/host/02:00:00:00:00:01")[1]
    assert "with a boot file" in page and "characters, not shown here" in page
    assert "255.255.255.0" in page, "a netmask may be read"


def a_machine_in_three_clicks(url: str) -> None:
    page = read(f"{url}/hosts?progress=booting")[1]
    assert "/host/02:00:00:00:00:03" in page and "/host/02:00:00:00:00:02" not in page
    page = read(f"{url}/host/02:00:00:00:00:03")[1]
    assert "ROM" in page or "system" in page
    assert 'href="/host/02:00:00:00:00:03/packets"' in page
    assert "DISCOVER" in read(f"{url}/host/02:00:00:00:00:03/packets")[1]


def the_live_page_goes_on(url: str, port: int) -> None:
    pieces = live(url)
    first = next(pieces)
    assert set(first["sections"]) >= {"headline", "machines", "funnel", "stuck"}
    asked_by(port, 0x020000000001)
    seen = (piece for piece in pieces if "traffic" in piece["sections"])
    assert "replies" in next(seen)["sections"]["traffic"]
    second = next(pieces)
    assert second["now_s"] > first["now_s"] and "notices" not in second["sections"], "only what has changed"
    pieces.close()


def many_may_look(url: str) -> None:
    with ExitStack() as stack:
        viewers = [stack.enter_context(urllib.request.urlopen(f"{url}/live", timeout=WAIT_S)) for _ in range(200)]
        for viewer in viewers:
            assert viewer.readline().startswith(b"retry")
        assert read(url)[0] == 200
        with pytest.raises(urllib.error.HTTPError, match="503"), ExitStack() as more:
            for _ in range(60):
                more.enter_context(urllib.request.urlopen(f"{url}/live", timeout=WAIT_S))
    until(lambda: read(f"{url}/")[0] == 200, "it does not recover")


def odd_questions_have_an_answer(url: str) -> None:
    for path, status in (
        ("/no", 404), ("/host/nope", 404), ("/host/%00%ff", 404), ("/hosts?progress=nonsense", 400),
        ("/hosts?after=-1", 200), ("/hosts?after=99999999999999999999", 200), ("/hosts?name=" + "*" * 2_000, 400),
        ("/?by=nonsense", 200), ("/static/../board.py", 404), ("/static/%2e%2e/site.py", 404),
    ):  # fmt: skip
        found, page = read(url + path)
        assert found == status, (path, page)
    assert read(url, host="evil.example")[0] == 421


def board_says_who_does_not_answer(running: Running, board: Board) -> None:
    """A control process that is killed is replaced; one that is stopped is told of, and what was known stays."""
    control = running.child("run")
    stopped = [running.process.pid, control]  # the supervisor first, or it replaces control
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        page = until(lambda: "No answer" in (said := read(board.url)[1]) and said, "nobody said that it is silent")
        assert "ago" in page or "Status of" in page
    finally:
        for pid in reversed(stopped):
            os.kill(pid, signal.SIGCONT)
    until(lambda: "Serving" in read(board.url)[1], "it does not recover")
    os.kill(control, signal.SIGKILL)
    until(lambda: children(running.process.pid).get("run") not in (None, control), "control is not replaced")
    until(lambda: "Serving" in read(board.url)[1], "it does not recover")
    assert not [line for line in board.lines if "Traceback" in line or "ERROR" in line], board.lines
