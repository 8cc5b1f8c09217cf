"""The observer and control's end of it: real sockets on the loopback interface, real channels, and their words."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import click
import pytest
from ext.builder import Builder, Surroundings
from ext.page import SiteWords, create_site_page

from control.cli.ctl import Client
from control.cli.observed_text import only_kind, render_observed, status_line
from control.observer import observer as observer_module
from control.observer.differences import NOT_ASKED
from control.observer.link import KINDS, ObserverLink, ObserverSilent
from control.observer.observer import LINES_BURST, REPEAT_S, Observer, SparingLog
from control.observer.vlans import Interface, Tag, Vlans
from fastpath.protocol import Channel, Load, Stop
from fastpath.sockets.sniffer import channel_ends, open_tap
from tests.control.explain.test_explain import frame
from tests.ext.packets import DISCOVER, OFFER, ip, message, tlv

HOST, STRANGER, SILENT, TRUNK = (0x02B5A0000001 + number for number in range(4))
HOST_NAME, STRANGER_NAME, TRUNK_NAME = "02:b5:a0:00:00:01", "02:b5:a0:00:00:02", "02:b5:a0:00:00:04"
LIMIT_S = 60.0


def table() -> int:
    builder = Builder()
    builder.add_host(HOST, name=b"one", leases=((ip("127.1.0.1"), 8, builder.add_template()),))
    template = builder.add_template()
    leases = ((ip("127.1.0.4"), 8, template), (ip("10.7.0.4"), 24, template))
    builder.add_host(TRUNK, name=b"trunk", leases=leases)
    around = Surroundings(
        networks=((ip("127.0.0.0"), ip("127.255.255.255")), (ip("10.7.0.0"), ip("10.7.0.255"))),
        links=((1, ip("127.0.0.1"), 8, 65535, True), (77, ip("10.7.0.1"), 24, 1500, True)),
    )
    return builder.seal(1, around, created_s=5)


class Running:
    """An observer in a thread; `link_end` is control's end of the channel."""

    def __init__(self, only: list[str]) -> None:
        self.channel, theirs = Channel.pair()
        observer_end, self.link_end = channel_ends()
        site = create_site_page()
        self.tap = socket.socket(fileno=open_tap(["lo"]))
        self.observer = Observer(theirs, self.tap, SiteWords(site), Channel.of_fd(observer_end, KINDS), only)
        os.close(site)
        fd = table()
        self.channel.send(Load(generation=1, base=1), {"base": fd})
        os.close(fd)
        self.thread = threading.Thread(target=self.observer.run, daemon=True)

    def stop(self) -> None:
        self.channel.send(Stop())
        self.thread.join(LIMIT_S)
        assert not self.thread.is_alive()


def may() -> None:
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0).close()
    except PermissionError:
        pytest.skip("no CAP_NET_RAW for a packet socket; run as root, or inside `unshare -rn`")


@pytest.fixture
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    may()
    made = Running(getattr(request, "param", []))
    made.thread.start()
    yield made
    made.stop()


@pytest.fixture
def small_queue() -> Iterator[Running]:
    """Not started yet; the kernel keeps a few datagrams for it."""
    may()
    made = Running([])
    made.tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    yield made
    made.stop()


def say(payload: bytes, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.2", 0))
        sock.sendto(payload, ("127.0.0.1", port))


def exchange(mac: int, address: str) -> None:
    say(message(DISCOVER, mac), 67)
    say(message(OFFER, mac, tlv(54, "127.0.0.2") + tlv(51, "0.0.14.16"), op=2, yiaddr=address), 68)


async def told(link: ObserverLink, mac: str | None, after: str = "", hosts: int = 1) -> dict[str, Any]:
    """Asked again until it has seen what was sent: the wire has no event for that."""
    for _ in range(2000):
        found = await link.ask(mac, after, 10)
        if len(found["hosts"]) >= hosts:
            return found
    raise AssertionError(f"wanted {hosts} hosts, found {found}")


def asking(running: Running, question: Any) -> Any:
    async def ask() -> Any:
        link = ObserverLink(os.dup(running.link_end))
        link.watch()
        return await asyncio.wait_for(question(link), LIMIT_S)

    return asyncio.run(ask())


def test_from_the_wire_to_control(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        exchange(HOST, "127.1.0.9")
        exchange(STRANGER, "127.1.0.2")

        async def question(link: ObserverLink) -> dict[str, Any]:
            found = await told(link, None, hosts=2)
            assert [host["mac"] for host in found["hosts"]] == [HOST_NAME, STRANGER_NAME]
            assert [host["mac"] for host in (await told(link, None, after=HOST_NAME))["hosts"]] == [STRANGER_NAME]
            (host,) = (await told(link, HOST_NAME))["hosts"]
            assert (await link.ask("02:b5:a0:00:00:99", "", 10))["hosts"] == []
            while link.status() is None:
                await asyncio.sleep(0)  # the tally comes once a second
            return dict(host)

        host = asking(running, question)
    (stage,) = host["stages"]
    assert (host["host"], stage["stage"], stage["result"]) == ("one", "DISCOVER of os on lo", "different")
    address = next(each for each in stage["differences"] if each["kind"] == "address")
    assert (address["theirs"], address["ours"]) == ("127.1.0.9", "127.1.0.1")
    assert f"{HOST_NAME} (one), DISCOVER of os on lo: address: they say 127.1.0.9, we say 127.1.0.1" in caplog.text
    assert f"{STRANGER_NAME}, DISCOVER of os on lo: they OFFER 127.1.0.2, we would be silent: " in caplog.text


def tagged_exchange(mac: int, address: str) -> None:
    """In VLAN 7.  Over the loopback interface the kernel takes the tag off as on any other."""
    asked = frame(message(DISCOVER, mac), vlan=True)
    reply = message(OFFER, mac, tlv(54, "127.0.0.2") + tlv(51, "0.0.14.16"), op=2, yiaddr=address)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind(("lo", 0))
        sock.send(asked)
        sock.send(frame(reply, "127.0.0.2", (67, 68), vlan=True))


def only_stage(found: dict[str, Any]) -> tuple[str, str, dict[str, str]]:
    """(stage, result, the first difference)."""
    ((stage,),) = [host["stages"] for host in found["hosts"]]
    return stage["stage"], stage["result"], stage["differences"][0]


def test_a_tag_that_this_machine_has_no_interface_for(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    """Its untagged address on that link says nothing; the other server's reply does, as on a mirror port."""
    running.observer.vlans = Vlans(lambda: [Interface(1, "lo")])
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            tagged_exchange(TRUNK, "10.7.0.9")
        found = asking(running, lambda link: told(link, TRUNK_NAME))
        tagged_exchange(STRANGER, "10.7.0.2")
        (stranger,) = asking(running, lambda link: told(link, STRANGER_NAME))["hosts"]
    stage, result, address = only_stage(found)
    assert (stage, result) == ("DISCOVER of os on lo, VLAN 7", "different")
    assert (address["ours"], address["theirs"]) == ("10.7.0.4", "10.7.0.9")
    assert stranger["stages"][0]["stage"] == "DISCOVER of os on lo, VLAN 7"
    assert list(found["totals"]["tagged"]) == ["lo, VLAN 7"] and found["totals"]["tagged"]["lo, VLAN 7"] >= 2
    assert caplog.text.count("frames on lo carry the tag of VLAN 7, and this machine has no interface for it") == 1


def test_a_tag_is_judged_on_the_interface_of_its_vlan(running: Running) -> None:
    """Whatever the reply says: where its client stands is known before."""
    own = Interface(77, "lo.7", "vlan", 1, 0, Tag(0x8100, 7))
    running.observer.vlans = Vlans(lambda: [Interface(1, "lo"), own])
    tagged_exchange(TRUNK, "10.99.0.9")
    found = asking(running, lambda link: told(link, TRUNK_NAME))
    stage, result, address = only_stage(found)
    assert (stage, result) == ("DISCOVER of os on lo.7", "different")
    assert (address["ours"], address["theirs"]) == ("10.7.0.4", "10.99.0.9") and found["totals"]["tagged"] == {}


def test_with_a_table_come_news_of_the_interfaces(running: Running) -> None:
    """Not only once the time is over for which a tag that nobody has is not looked for again."""
    interfaces = [Interface(1, "lo")]
    running.observer.vlans = Vlans(lambda: interfaces, clock=lambda: 1.0)
    tagged_exchange(TRUNK, "10.7.0.9")
    asking(running, lambda link: told(link, TRUNK_NAME))
    interfaces.append(Interface(77, "lo.7", "vlan", 1, 0, Tag(0x8100, 7)))
    fd = table()
    running.channel.send(Load(generation=2, base=2), {"base": fd})
    os.close(fd)
    for _ in range(2000):  # the observer says nothing when it has adopted a table
        if not running.observer.vlans.interfaces:
            break
        asking(running, lambda link: link.ask(None, "", 10))
    tagged_exchange(STRANGER, "10.7.0.9")
    (stranger,) = asking(running, lambda link: told(link, STRANGER_NAME))["hosts"]
    assert [stage["stage"] for stage in stranger["stages"]] == ["DISCOVER of os on lo.7"]


@pytest.mark.parametrize("strict", [False, True])
def test_what_is_set_aside_is_asked_for(running: Running, strict: bool) -> None:
    asked = message(DISCOVER, HOST, tlv(55, b"\1"))
    say(asked, 67)
    times = tlv(51, (3600).to_bytes(4, "big")) + tlv(58, (1600).to_bytes(4, "big")) + tlv(59, (3150).to_bytes(4, "big"))
    say(message(OFFER, HOST, tlv(54, "127.0.0.2") + times + tlv(42, "1.1.1.1"), op=2, yiaddr="127.1.0.1"), 68)

    async def question(link: ObserverLink) -> dict[str, Any]:
        await told(link, HOST_NAME)
        return await link.ask(None, "", 10, strict)

    found = asking(running, question)
    assert [host["mac"] for host in found["hosts"]] == ([HOST_NAME] if strict else [])
    assert found["totals"]["hosts"]["different"] == strict and found["totals"]["set_aside"] == {NOT_ASKED: 1}


@pytest.mark.parametrize("running", [["eth77"]], indirect=True)
def test_interfaces_that_are_not_named_are_passed_over(running: Running) -> None:
    exchange(STRANGER, "127.1.0.2")

    async def question(link: ObserverLink) -> dict[str, Any]:
        for _ in range(2000):
            found = await link.ask(None, "", 10)
            if found["totals"]["passed_over"] >= 4:  # loopback shows each datagram twice
                return found
        raise AssertionError(found)

    found = asking(running, question)
    assert found["hosts"] == [] and found["totals"]["counts"]["requests"] == 0


def test_a_generation_that_is_none_leaves_the_old_one(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    fd = os.memfd_create("junk")
    os.write(fd, bytes(4096))
    with caplog.at_level(logging.ERROR):
        running.channel.send(Load(generation=2, base=2), {"base": fd})
        os.close(fd)
        exchange(HOST, "127.1.0.9")
        asking(running, lambda link: told(link, HOST_NAME))
    assert "generation 2 is not adopted" in caplog.text


def test_a_burst_that_does_not_fit_is_counted(small_queue: Running) -> None:
    for number in range(200):
        say(message(DISCOVER, SILENT, xid=number), 67)
    small_queue.thread.start()

    async def question(link: ObserverLink) -> dict[str, Any]:
        for _ in range(2000):
            found = await link.ask(None, "", 10)
            if found["totals"]["dropped"] and found["totals"]["counts"]["requests"]:
                return found
        raise AssertionError(found)

    totals = asking(small_queue, question)["totals"]
    assert totals["dropped"] + totals["counts"]["requests"] >= 400  # loopback shows each datagram twice
    assert small_queue.observer.shadow.gap_s[1] > 0


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control.observer.link.ANSWER_S", 0.05)
    one, two = channel_ends()

    async def ask() -> None:
        link = ObserverLink(one)
        link.watch()
        with pytest.raises(ObserverSilent, match="does not answer within"):
            await link.ask(None, "", 10)
        assert link.waiting == {} and link.status() is None

    asyncio.run(ask())
    os.close(two)


def test_one_line_a_host_and_kind_and_a_budget_for_all(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    spare = SparingLog(lambda: now[0])
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            spare.note("a", "address", "first")
        spare.note("a", "message", "another kind")
        now[0] = REPEAT_S + 1
        spare.note("a", "address", "again")
    assert [record.message for record in caplog.records] == ["first", "another kind", "again"]
    assert spare.held_back == 2
    for number in range(1000):
        spare.note(f"h{number}", "address", "x")
    assert len(spare.spoken) <= LINES_BURST + 2 and spare.held_back >= 800


def test_the_log_s_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observer_module, "SPOKEN_MAX", 10)
    now = [0.0]
    spare = SparingLog(lambda: now[0])
    for number in range(50):
        now[0] += 1
        spare.note(f"h{number}", "address", "x")
    assert len(spare.spoken) == 10


# --- what a person reads ---------------------------------------------------------------------------------------------

COUNTS = {
    "requests": 12034, "repeats": 34, "replies": 11876, "stray replies": 2, "no table": 0, "other order": 7,
    "other server id": 900, "told by requests": 0, "not watched": 0, "not noted": 0, "proxied": 0, "same": 11702,
    "different": 120, "only they": 54, "only we": 3, "both silent": 155, "not seen": 0,
}  # fmt: skip
TOTALS = {
    "counts": COUNTS, "kinds": {"lease time": 98, "address": 12}, "servers": {"10.88.0.1": 11876}, "dropped": 0,
    "hosts": {"same": 9860, "different": 12, "only they": 3, "only we": 1, "without comparison": 4}, "waiting": 0,
}  # fmt: skip
STAGE = {
    "stage": "DISCOVER of uefi-x64 on eth1", "result": "different", "verdict": "OFFERED", "server": "10.88.0.1",
    "by": "reply", "seen_s": 88.0, "times": 3, "differences": [
        {"kind": "address", "what": "address", "ours": "10.88.0.99", "theirs": "10.88.0.12"},
        {"kind": "lease time", "what": "option 51 lease_time", "ours": "1 h", "theirs": "2 h"},
    ],
}  # fmt: skip
SILENCE = STAGE | {
    "stage": "REQUEST of os by relay 10.9.0.1", "result": "only they", "by": "request", "times": 1, "differences": [
        {"kind": "silence", "what": "address", "ours": "DHCP is not enabled", "theirs": "10.9.0.7"},
    ],
}  # fmt: skip
TOLD = {
    "totals": TOTALS, "mac": None, "now_s": 100.0, "more": False, "hosts": [
        {"mac": "02:00:00:00:00:07", "host": "node7", "stages": [STAGE], "reason": None},
        {"mac": "02:00:00:00:00:08", "host": None, "stages": [SILENCE], "reason": "dhcp enabled is off (racks)"},
    ],
}  # fmt: skip


def test_what_was_observed() -> None:
    plain = [line.replace("\x1b", "") for line in render_observed(TOLD)]
    assert [line for line in plain if "[" not in line] == [
        "seen        12,034 requests (34 of them again), 11,876 replies, 0 dropped",
        "servers     10.88.0.1 (11,876)",
        "exchanges   11,702 same, 120 different, 54 only they, 3 only we, 155 both silent, 0 not seen",
        "differences 98 lease time, 12 address",
        "hosts       9,860 same, 12 different, 3 only they, 1 only we, 4 without comparison",
        "besides     900 replies under another server id (54), 7 with options in another order, "
        "2 replies without a request",
        "",
        "      address: they say 10.88.0.12, we say 10.88.0.99",
        "      option 51 lease_time: they say 2 h, we say 1 h",
        "",
        "      they gave it 10.9.0.7, we would be silent: DHCP is not enabled",
        "      why: dhcp enabled is off (racks)",
    ]
    assert any("(3 times, last 12 s ago, server 10.88.0.1)" in line for line in plain)
    assert any("(once, last 12 s ago, server 10.88.0.1, by what the client says)" in line for line in plain)


ASIDE = {
    "kind": "option 42 NTP_server",
    "what": "option 42 NTP_server",
    "ours": "1.1.1.1",
    "theirs": "-",
    "why": NOT_ASKED,
}


def test_what_was_set_aside() -> None:
    totals = TOTALS | {"set_aside": {"b": 9, NOT_ASKED: 1200}, "tagged": {"eth1, VLAN 7": 1200}}
    host = {"mac": "02:00:00:00:00:07", "host": None, "reason": None, "stages": [STAGE | {"set_aside": [ASIDE]}]}
    told = TOLD | {"totals": totals, "hosts": [host]}
    lines = [click.unstyle(line) for line in render_observed(told)]
    at = lines.index("set aside   1,200 not asked for (option 55)")
    assert lines[at + 1] == "            9 b"
    assert "tagged      eth1, VLAN 7 (1,200): this machine has no interface for that" in lines
    assert lines[-1] == "      1 more set aside (--strict)"
    many = render_observed(told | {"totals": totals | {"tagged": {f"eth1, VLAN {each}": 1 for each in range(25)}}})
    (links,) = [line for line in many if line.startswith("tagged")]
    assert links.count("VLAN") == 20 and links.endswith("(1) and 5 more: this machine has no interface for that")
    sentence = "option 42 NTP_server: they say -, we say 1.1.1.1 (not asked for (option 55))"
    lines = [click.unstyle(line) for line in render_observed(told | {"mac": host["mac"]})]
    assert lines[-1] == f"      set aside: {sentence}"
    host["stages"] = [STAGE | {"differences": [ASIDE], "set_aside": []}]
    assert click.unstyle(render_observed(told)[-1]) == f"      {sentence}"
    assert only_kind(told, "address")["hosts"] == []


def test_one_kind_and_one_machine() -> None:
    narrowed = only_kind(TOLD, "address")
    assert [host["mac"] for host in narrowed["hosts"]] == ["02:00:00:00:00:07"]
    assert [each["kind"] for each in narrowed["hosts"][0]["stages"][0]["differences"]] == ["address"]
    assert render_observed(TOLD | {"mac": "02:00:00:00:00:09", "hosts": []}) == [
        "02:00:00:00:00:09: nothing was seen of it"
    ]


def test_the_line_of_the_status() -> None:
    assert status_line(TOTALS) == (
        "observing   12,034 requests, 11,876 replies of others: 11,702 the same, 120 different, 54 only they, "
        "3 only we; 9,860 hosts the same, 16 not"
    )
    assert status_line(TOTALS | {"dropped": 1200}).endswith("16 not; 1,200 dropped")


def test_all_hosts_are_fetched_in_as_many_answers_as_it_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[dict[str, Any]] = []
    names = [f"02:00:00:00:00:{number:02}" for number in range(5)]

    def call(_client: Client, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        assert command == "observed"
        asked.append(arguments)
        rest = [name for name in names if name > arguments.get("after", "")]
        hosts = [{"mac": name, "host": None, "stages": [STAGE], "reason": None} for name in rest[:2]]
        return TOLD | {"hosts": hosts, "more": len(hosts) == 2}

    monkeypatch.setattr(Client, "call", call)
    Client("unused", as_json=True).show_observed(None, "address")
    assert [host["mac"] for host in json.loads(capsys.readouterr().out)["hosts"]] == names
    assert asked == [{"mac": None}, {"mac": None, "after": names[1]}, {"mac": None, "after": names[3]}]
    asked.clear()
    Client("unused", as_json=True).show_observed(None, None, strict=True)
    assert [arguments.get("strict") for arguments in asked] == [True] * 3, "each of them"
