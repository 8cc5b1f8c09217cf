"""The board in Debian's Chromium beside a service that 10,000 machines ask, of which 37 stand still: `make test-board`.

BOOTSTORM_PICTURES=FOLDER keeps the screenshots.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.control.board.asking import boarding, opened
from tests.control.serving import Running, may_serve, serving
from tests.ext.packets import message, tlv
from tests.ports import free_port

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test-board")

pytestmark = [pytest.mark.browser]
CHROMIUM = Path("/usr/bin/chromium")
HOSTS, RACKS = 10_000, 50
FIRST_MAC, FIRST_ADDRESS = 0x020000000000, (10 << 24) + (1 << 16)
GIADDR = "10.1.255.254"
DISCOVER, REQUEST = 1, 3
PXE, IPXE = tlv(60, b"PXEClient:Arch:00007:UNDI:003016") + tlv(93, b"\0\7"), tlv(77, b"iPXE") + tlv(175, b"\xb1\1\1")
WAIT_S = 240.0  # who hangs is stuck a minute, and what its pool took, after the last stage
STUCK_S = 60.0  # the ledger's patience
HUNG = {  # number of the machine -> where it stands; every 270th of them, 37 in all
    number: ("rom-asked", "rom-offered", "loader-offered")[(number // 270) % 3] for number in range(5, HOSTS - 10, 270)
}
"""rom-asked: its record has no address."""


def name(number: int) -> str:
    return f"node{number:05}"


def site(folder: Path) -> Path:
    rows = [
        {"name": name(number), "mac": f"{FIRST_MAC + number:012x}", "pool": f"rack{number % RACKS:02}"}
        | ({} if HUNG.get(number) == "rom-asked" else {"addresses": [dotted(FIRST_ADDRESS + number + 1)]})
        for number in range(HOSTS)
    ]
    racks = [{"name": f"rack{number:02}", "dhcp": {"enabled": 1, "tftp_filename": "a"}} for number in range(RACKS)]
    networks = [{"base": "10.1.0.0", "mask": "255.255.0.0", "gateway": GIADDR}]
    path = folder / "hosts.yaml"
    path.write_text(json.dumps({"networks": networks, "pools": racks, "hosts": rows}))
    return path


def dotted(address: int) -> str:
    return socket.inet_ntoa(address.to_bytes(4, "big"))


def exchange(number: int, client: bytes, xid: int, steps: int) -> list[bytes]:
    """DISCOVER and REQUEST, or the first only."""
    address = FIRST_ADDRESS + number + 1
    ask: dict[str, Any] = {"giaddr": GIADDR, "xid": xid}
    wanted = client + tlv(50, address.to_bytes(4, "big"))
    found = [message(DISCOVER, FIRST_MAC + number, options=client, **ask)]
    return found + [message(REQUEST, FIRST_MAC + number, options=wanted, **ask)][: steps - 1]


def boot(number: int) -> list[bytes]:
    """All that a machine sends: ROM, iPXE, system; or as far as it gets."""
    where = HUNG.get(number)
    if where in ("rom-asked", "rom-offered"):
        return exchange(number, PXE, number, 1)
    sent = exchange(number, PXE, number, 2)
    if where == "loader-offered":
        return sent + exchange(number, IPXE, HOSTS + number, 1)
    return sent + exchange(number, IPXE, HOSTS + number, 2) + exchange(number, b"", 2 * HOSTS + number, 2)


def switch_on(port: int, running: Running) -> int:
    """Packets sent, no faster than they are read."""
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port))
        for stage in range(6):
            for number in range(HOSTS):
                packets = boot(number)
                if stage < len(packets):
                    client.send(packets[stage])
                    sent += 1
                if number % 500 == 0:
                    await_read(running, sent)
    await_read(running, sent)
    return sent


def await_read(running: Running, sent: int) -> None:
    deadline = time.monotonic() + WAIT_S
    while sum(worker["rx"] for worker in running.ctl("workers", {})) < sent:
        assert time.monotonic() < deadline, "the service does not read"


@contextmanager
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not there: make test-board")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        try:
            yield chromium
        finally:
            chromium.close()


def page_of(chromium: Any, faults: list[str], **context: Any) -> Any:
    """Whose errors, refused scripts and dialogs are faults."""
    page = chromium.new_context(**context).new_page()
    page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: faults.append(f"a dialog: {dialog.message}"))
    page.set_default_timeout(WAIT_S * 1000)
    return page


def picture(page: Any, what: str, **options: Any) -> None:
    if folder := os.environ.get("BOOTSTORM_PICTURES"):
        page.screenshot(path=str(Path(folder) / f"{what}.png"), **options)


def tile(page: Any, word: str) -> int:
    return int(page.locator(f".tile.p-{word} b").inner_text().replace(",", ""))


def await_tile(page: Any, word: str, many: int) -> None:
    """Without a reload: the page is live."""
    page.wait_for_selector(f".tile.p-{word} b:text-is('{many:,}')")


def await_updates(page: Any, section: str, many: int) -> None:
    """Until the live page has replaced a section's content so often."""
    page.evaluate(
        """([section, many]) => new Promise((done) => new MutationObserver((_, observer) => {
            if (--many <= 0) { observer.disconnect(); done(); }
        }).observe(document.getElementById(section), {childList: true}))""",
        [section, many],
    )


@contextmanager
def a_board(folder: Path) -> Iterator[tuple[Running, Any, str, int]]:
    may_serve()
    port, dhcp_port = free_port(), free_port()
    user = {"user": "nobody"} if os.geteuid() == 0 else {}
    section = {"bind": f"127.0.0.1:{port}", "title": "datacenter 1"} | user
    reads = {"read_uids": [65534]} if os.geteuid() == 0 else {}
    hosts = site(folder)
    with serving(
        folder, f"file://{hosts}", interfaces=[], board=section, control=reads, port=dhcp_port, workers=2
    ) as running:
        running.wait_for(r"generation 1: ")
        opened(folder)
        (folder / "services.conf").chmod(0o644)
        with boarding(folder / "services.conf", port) as board:
            yield running, board, f"http://127.0.0.1:{port}", dhcp_port


def test_a_storm_on_the_page(tmp_path: Path) -> None:
    faults: list[str] = []
    with a_board(tmp_path) as (running, _board, url, port), browser() as chromium:
        page = page_of(chromium, faults, viewport={"width": 1600, "height": 1000}, color_scheme="dark")
        page.goto(url)
        await_tile(page, "never", HOSTS)
        sent = switch_on(port, running)
        done = HOSTS - len(HUNG)
        await_tile(page, "done", done)
        assert tile(page, "never") == 0
        picture(page, "storm")
        await_updates(page, "traffic", 4)  # points of the curves
        await_tile(page, "stuck", len(HUNG))
        the_page_says_what_the_service_says(page, running, sent)
        exactly_those_are_stuck(page, running)
        picture(page, "board", full_page=True)
        three_clicks_to_the_packets(page)
        others_see_it_too(chromium, faults, url)
        with_the_keyboard(chromium, faults, url)
        assert not faults, faults
        says_who_does_not_answer(page, running, url)


def the_page_says_what_the_service_says(page: Any, running: Running, sent: int) -> None:
    status = running.status()
    counts: dict[str, int] = {}
    for words in status["boots"]["states"].values():
        for word, many in words.items():
            counts[word] = counts.get(word, 0) + many
    assert {word: tile(page, word) for word in counts} == counts
    assert sum(worker["rx"] for worker in status["workers"]) == sent, "the client's own count"
    cells = page.locator("#service tbody tr").all_inner_texts()
    assert sum(int(row.split("\t")[3].replace(",", "")) for row in cells) == sent
    stages = page.locator(".stages tbody td").all_inner_texts()
    assert sum(int(cell.replace(",", "")) for cell in stages) == HOSTS


def exactly_those_are_stuck(page: Any, running: Running) -> None:
    listed = dict(zip(page.locator("#stuck tbody th").all_inner_texts(),
                      page.locator("#stuck tbody tr").all_inner_texts(), strict=True))  # fmt: skip
    assert set(listed) == {name(number) for number in HUNG}
    for number, where in HUNG.items():
        row = listed[name(number)]
        words = {"rom-asked": "no address", "rom-offered": "does not take it", "loader-offered": "iPXE was offered"}
        assert words[where] in row, row
    rack = page.locator("#funnel tbody tr").first
    assert int(rack.locator("td").first.inner_text()) > 0, "racks with stuck machines come first"


def three_clicks_to_the_packets(page: Any) -> None:
    stuck = next(number for number, where in HUNG.items() if where == "rom-offered")
    page.get_by_role("link", name=name(stuck), exact=True).first.click()
    page.wait_for_selector("h1")
    assert page.locator("h1").inner_text() == name(stuck)
    assert "does not take it" in page.locator("main").inner_text()
    picture(page, "machine", full_page=True)
    page.get_by_role("link", name="Its last packets").click()
    page.wait_for_selector("h1:has-text('Last packets')")
    assert page.url.endswith("/packets")


def others_see_it_too(chromium: Any, faults: list[str], url: str) -> None:
    """A phone, a bright screen, a wall, and who has no JavaScript."""
    for what, options in {
        "phone": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "color_scheme": "light"},
        "light": {"viewport": {"width": 1600, "height": 1000}, "color_scheme": "light"},
        "wall": {"viewport": {"width": 3840, "height": 2160}, "color_scheme": "dark"},
        "plain": {"viewport": {"width": 1200, "height": 900}, "java_script_enabled": False},
    }.items():
        page = page_of(chromium, faults, **options)
        page.goto(url + ("?by=relay" if what == "plain" else ""))
        assert page.locator(".tile.p-stuck b").inner_text() == str(len(HUNG)), what
        if what != "plain":
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{what}: the page itself does not scroll sideways"
        picture(page, what)
        page.context.close()


def with_the_keyboard(chromium: Any, faults: list[str], url: str) -> None:
    page = page_of(chromium, faults, viewport={"width": 1200, "height": 900})
    page.goto(url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    link = page.locator("#stuck tbody a").first
    link.focus()
    focused = page.evaluate("document.activeElement.id")
    await_updates(page, "stuck", 2)  # which replace the list below the focus
    assert page.evaluate("document.activeElement.id") == focused, "an update takes the focus away"
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:has-text('node')")
    page.goto(url)
    page.get_by_role("button", name="Pause").click()
    assert "Paused" in page.locator("#paused").inner_text()
    assert page.get_by_role("heading", name="Machines").count() == 1
    page.context.close()


def says_who_does_not_answer(page: Any, running: Running, url: str) -> None:
    page.goto(url)
    stopped = [running.process.pid, running.child("run")]  # the supervisor first, or it replaces control
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        page.wait_for_selector("#headline .state.bad:has-text('No answer')")
        page.wait_for_selector(".age.stale")
        picture(page, "silent")
    finally:
        for pid in reversed(stopped):
            os.kill(pid, signal.SIGCONT)
    page.wait_for_selector("#headline .state.good")
