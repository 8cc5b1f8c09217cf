"""The board beside a running service: equal figures, hostile names, a service that goes and comes, many who look."""

from __future__ import annotations

import html
import json
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.control.board.asking import Board, boarding
from tests.control.serving import Running, may_serve, serving
from tests.ext.packets import discover
from tests.ports import free_port

WAIT_S = 60.0
NASTY = "<script>alert(1)</script>&\"'\x1b[2J\u202e"
SECRETS = ("secret-4711", "hunter2")
NAMES = {"02:00:00:00:00:01": NASTY, "02:00:00:00:00:02": "node2", "02:00:00:00:00:03": "long" + "x" * 2_000}
SITE = {
    "networks": [{"base": "10.1.0.0", "mask": "255.255.255.0", "gateway": "10.1.0.1"}],
    "pools": [
        {
            "name": f"pool{NASTY}",
            "dhcp": {"enabled": 1, "tftp_filename": "https://boot.example/secret-4711.efi", "vendor_opts": "hunter2"},
        }
    ],
    "hosts": [
        {"name": name, "mac": mac, "addresses": [f"10.1.0.{11 + at}"], "pool": f"pool{NASTY}"}
        for at, (mac, name) in enumerate(NAMES.items())
    ]
    + [{"name": "twin", "mac": "02:00:00:00:00:02", "addresses": ["10.1.0.40"], "pool": f"pool{NASTY}"}],
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
        for parent in (folder, *folder.parents[:2]):
            parent.chmod(0o755)  # pytest's folders are their user's, and the board is another
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


def test_the_board_beside_a_service(tmp_path: Path) -> None:
    """One service and one board for all of this, since their start is what takes long."""
    with boarded(tmp_path) as (running, board):
        asked_by(dhcp_port(tmp_path), 0x020000000001, 0x020000000003, 0x0200000000AA)
        status = until(lambda: heard(running, 2), "nobody was heard")
        say_the_same_as_the_status(board.url, status)
        names_are_escaped_and_cut(board.url)
        secrets_are_not_shown(board.url)
        a_machine_in_three_clicks(board.url)
        the_live_page_goes_on(board.url, dhcp_port(tmp_path))
        many_may_look(board.url)
        odd_questions_have_an_answer(board.url)
        board_says_who_does_not_answer(running, board)


def heard(running: Running, wanted: int) -> dict[str, Any] | None:
    status = running.status()
    return status if sum(status["boots"]["stages"].values()) == wanted else None


def say_the_same_as_the_status(url: str, status: dict[str, Any]) -> None:
    found, page = read(url)
    assert found == 200 and "the site" in page
    progress: dict[str, int] = {}
    for counts in status["boots"]["states"].values():
        for word, many in counts.items():
            progress[word] = progress.get(word, 0) + many
    for word, many in progress.items():
        tile = page.partition(f'href="/hosts?progress={word}"><b>')[2].partition("</b>")[0]
        assert tile == f"{many:,}", word
    assert "1 conflicts of the inventory" in page or "2 conflicts of the inventory" in page
    requests = sum(worker["rx"] for worker in status["workers"])
    assert f"<td>{requests}</td>" in page


def names_are_escaped_and_cut(url: str) -> None:
    for path in (
        "/",
        "/hosts",
        "/host/02:00:00:00:00:01",
        "/host/02:00:00:00:00:01/packets",
        "/host/02:00:00:00:00:03",
    ):
        found, page = read(url + path)
        assert found == 200, path
        assert "<script>alert" not in page and "\x1b" not in page and "\u202e" not in page, path
        assert "x" * 400 not in page, path
    assert html.escape(NASTY[:9]) in read(f"{url}/hosts")[1].replace("&#34;", "&quot;")


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
    os.kill(control, 19)
    try:
        page = until(lambda: "No answer" in (said := read(board.url)[1]) and said, "nobody said that it is silent")
        assert "ago" in page or "Status of" in page
    finally:
        os.kill(control, 18)
    until(lambda: "Serving" in read(board.url)[1], "it does not recover")
    os.kill(control, 9)
    until(lambda: running.child("run") != control, "control is not replaced")
    until(lambda: "Serving" in read(board.url)[1], "it does not recover")
    assert not [line for line in board.lines if "Traceback" in line or "ERROR" in line], board.lines
