"""`ctl hold` and `ctl once` on the wire: who is held hears nothing, and one boot is another one; with an ACK that gets
lost on the way, and the next boot as usual."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest

from bench.lab.lab import Host, Lab
from bench.lab.site import ENVIRONMENT, RunningSite, many_hosts, running_site
from tests.ext.packets import discover, request
from tests.ext.racks import BIOS, IPXE_HTTP

pytestmark = pytest.mark.netns

SERVER, NETWORK = "10.88.0.1", "10.88.0.0/255.255.0.0/10.88.0.1"
FIRST_MAC, FIRST_ADDRESS, BROADCAST = 0x020000000000, 0x0A580100, 0x8000


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[RunningSite, Host]]:
    if reason := Lab.available():
        pytest.skip(reason)
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        lab.wire(server, client, a_if="sv", b_if="cl", a_addr=f"{SERVER}/16", b_mac="02:00:00:00:00:00")
        with running_site(server, many_hosts(3, NETWORK, FIRST_ADDRESS, FIRST_MAC), 3) as running:
            yield running, client


def say(client: Host, *payloads: bytes, replies: int = 1) -> list[bytes]:
    """One after the other; the replies of all."""
    asked = [{"payload": each.hex(), "to": "255.255.255.255", "replies": replies} for each in payloads]
    argv = [sys.executable, "-m", "tests.netns.ask_alone", "cl"]
    done = client.run(argv, text_in=json.dumps(asked), timeout=60.0, env=ENVIRONMENT)
    return [bytes.fromhex(payload) for said in json.loads(done.stdout) for _source, payload in said]


def exchange(client: Host, number: int, stage: bytes, xid: int) -> tuple[bytes, bytes]:
    """The boot files of OFFER and ACK of one stage.  The ACK gets lost, so that the REQUEST comes twice."""
    mac, address = FIRST_MAC + number, FIRST_ADDRESS + number
    ask = discover(mac, options=stage, flags=BROADCAST, xid=xid)
    take = request(mac, requested=address, server_id=SERVER, options=stage, flags=BROADCAST, xid=xid)
    offer, lost, ack = say(client, ask, take, take)
    assert lost == ack, "who asks again gets the same"
    return file_of(offer), file_of(ack)


def file_of(reply: bytes) -> bytes:
    return reply[108:236].rstrip(b"\0")


def test_who_is_held_hears_nothing(site: tuple[RunningSite, Host]) -> None:
    running, client = site
    running.ctl("hold", "node000001", "--because", "a test")
    before = running.ctl("status")["counters"]
    asked = [discover(FIRST_MAC + 1, options=BIOS, flags=BROADCAST, xid=1000 + each) for each in range(3)]
    say(client, *asked, replies=0)
    held = before.get("IGNORED_HELD", 0) + 3
    status = running.await_status(lambda status: status["counters"].get("IGNORED_HELD", 0) == held)
    assert status["counters"].get("OFFERED", 0) == before.get("OFFERED", 0) and status["hosts"] == 2
    (row,) = running.ctl("hosts", "--state", "held")["hosts"]
    assert (row["progress"], row["verdict"]) == ("refused", "IGNORED_HELD") and "a test" in row["reason"]
    assert any(each["verdict"] == "IGNORED_HELD" and "a test" in each["detail"] for each in running.ctl("recent"))
    assert file_of(say(client, discover(FIRST_MAC + 2, options=BIOS, flags=BROADCAST, xid=7))[0]) == b"/pxelinux.0"
    running.ctl("release", "node000001")
    assert file_of(say(client, asked[0])[0]) == b"/pxelinux.0"


def test_one_boot_is_another_one_and_the_next_is_usual(site: tuple[RunningSite, Host]) -> None:
    running, client = site
    options = ["tftp_filename=/install.0", "tftp_filename--ipxe=/install.ipxe"]
    running.ctl("once", "node000002", *options, "--until-class", "os")
    assert exchange(client, 2, BIOS, 11) == (b"/install.0", b"/install.0")
    assert exchange(client, 2, IPXE_HTTP, 12) == (b"/install.ipxe", b"/install.ipxe")
    assert [row["kind"] for row in running.ctl("overrides")["overrides"]] == ["once"]
    exchange(client, 2, b"", 13)
    running.await_status(lambda status: not status["overrides"]["total"])
    assert exchange(client, 2, BIOS, 14) == (b"/pxelinux.0", b"/pxelinux.0")
