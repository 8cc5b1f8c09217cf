"""control/board/discreet.py: what stands in options is in no reason that the board shows."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from control.board.discreet import reason
from control.board.gate import Token, host_names
from control.board.site import Site
from control.board.watcher import Watcher
from control.options.table import NO_SPACE, Kind, Option
from control.options.values import OptionRejected
from control.plan.networks import quote
from control.service.machines.identities import Loop, loop_words
from tests.control.board.asking import ask
from tests.control.board.faked import host, overview, status

NASTY = (
    "hunter2", "ftp://deploy:hunter2@boot.example/x.efi", "a'hunter2", "a'b\"hunter2", "x; wanted hunter2",
    "found hunter2, wanted", "hunter2" * 40, "'" * 30 + "hunter2" * 20, "\\'hunter2", "... (9 characters) hunter2",
)  # fmt: skip


def reasons(value: str) -> list[str]:
    """As they are made for a value."""
    option = Option(43, "vendor", Kind.TEXT, NO_SPACE)
    return [
        str(OptionRejected(option, quote(value), "octets")), str(OptionRejected(option, value, "octets")),
        f"dhcp bootfile_url: found {quote(value)}, wanted http:// or https://",
        f"dhcp enabled = {quote(value)} of pool 'racks': wanted 1, true, yes or 0, false, no",
        f"dhcp shared has 2 values: {quote([value, value])}; wanted one group",
        f"dhcp shared = {quote(value)}: wanted the name of a group", f"found {quote(value)}, no such thing",
    ]  # fmt: skip


@pytest.mark.parametrize("value", NASTY)
def test_no_value_is_in_a_reason(value: str) -> None:
    for said in reasons(value):
        assert "hunter2" not in reason(said), said
        if value.startswith("x; wanted"):
            continue  # a reason that is cut within it has nothing that tells it from the true one
        cut = said[: said.index("hunter2") + 8]
        assert "hunter2" not in reason(cut), cut


@pytest.mark.parametrize("cut", [None, 170])
@pytest.mark.parametrize(
    "value", [b"/secret-4711.0", b"http://s/secret-4711; does it; its own 4711", b"a 'secret-4711 from"]
)
@pytest.mark.parametrize("client", ["BIOS_PXE", "IPXE", "HTTP_BOOT"])
def test_the_file_of_a_boot_loop_is_not_shown(client: str, value: bytes, cut: int | None) -> None:
    template = {"options": bytes((66, 4)) + b"4711", "file": value, "siaddr": 0}
    leases = [{"address": 1, "prefix": 24, "template": template}]
    said = loop_words(Loop("02:00:00:00:00:01", "host", client, 8), {"leases": leases}, (0, 1))
    assert "4711" in said
    found = reason(said[:cut])
    assert "4711" not in found and "was given the boot file (not shown here)" in found
    assert cut is not None or found.endswith("?") or "set dhcp tftp_filename" in found


def test_what_it_names_stays() -> None:
    assert reason("dhcp bootfile_url: found 'x', wanted http:// or https://") == (
        "dhcp bootfile_url: found (not shown here), wanted http:// or https://"
    )
    for said in ("10.1.0.12 is of node2 and of twin", "no manager contains 'eth0'", None, "it's the worker's"):
        assert reason(said) == said


def test_every_reason_on_the_first_page_goes_through_it(tmp_path: Path) -> None:
    said = "dhcp option vendor (43): found 'hunter2'; wanted octets"
    watcher = Watcher(str(tmp_path / "none"))
    watcher.status = status(
        doubts=[said], inventory_reason=said, config_refused=[said], io_reason=said, fault_kinds={"conflict": 1},
        health={"ready": False, "reason": said, "answering": 1, "workers": 1},
    )  # fmt: skip
    watcher.overview, watcher.stuck, watcher.conflicts = overview(), [host(1, reason=said)], [host(2, object="o")]
    watcher.conflicts[0] |= {"reason": said}  # type: ignore[operator]
    watcher.events.append({"number": 1, "time_s": 1.0, "kind": "k", "object": "o", "mac": None, "reason": said})
    watcher.taken_s = watcher.looked_s = time.time()
    watcher.failure = ""
    site = Site(watcher, Token(None), "t")
    page = ask(site.app(host_names(("127.0.0.1", 9970), ())), "/").text
    assert "another build" not in page and "hunter2" not in page
    assert page.count("not shown here") == 9
