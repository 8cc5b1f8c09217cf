"""control/service/events.py: one warning a host and reason, then a count; whatever strangers send, one harmless
line."""

import asyncio
import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest
from ext.page import WorkerPage, create_worker_page
from ext.sighted import Sighted
from ext.verdict import Verdict

from control.explain.sentences import WORDS, sentence
from control.service.events import (
    HOSTS_MAX,
    LINES_BURST,
    MESSAGES,
    RECENT_MAX,
    REPEAT_S,
    REST_S,
    SERVERS_MAX,
    SLICE,
    STRANGERS_BURST,
    STRANGERS_PER_S,
    Warnings,
)

MAC, OTHER = "02:00:00:00:00:01", "02:00:00:00:00:02"
NAMES = {MAC: "alice"}


class Page:
    """As ext.page.WorkerPage: a ring of events."""

    def __init__(self, events: list[dict[str, Any]] | None = None) -> None:
        self.events = events or []
        self.drained: list[int] = []

    def drain(self, most: int, sighted: Sighted, everything: bool) -> list[dict[str, Any]]:
        taken, self.events = self.events[:most], self.events[most:]
        self.drained.append(len(taken))
        return taken


class Table:
    def __init__(self, *pages: Any) -> None:
        self.pages = list(pages)

    def name_of(self, mac: str) -> str | None:
        return NAMES.get(mac)

    def row(self, mac: int, role: int = 0) -> dict[str, Any] | None:
        template = {"file": b"snponly.efi", "siaddr": 0x0A140002, "options": b""}
        return (
            {"leases": [{"address": 0x0A14000B, "template": template}]} if (mac, role) == (0x020000000001, 0) else None
        )


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def event(mac: str = MAC, verdict: str = "IGNORED_UNKNOWN_MAC", **fields: Any) -> dict[str, Any]:
    plain = {
        "boottime_ns": 5_000_000_000, "verdict": verdict, "message_type": 1, "mac": mac, "xid": 0xABC, "ifindex": 2,
        "giaddr": 0, "ciaddr": 0, "requested": 0, "server_id": 0, "source": 0, "htype": 1, "vendor_class": b"",
        "class": "OS", "role": "host", "repeats": 0, "state": None, "client_id": b"", "relay_agent": b"", "news": None,
    }  # fmt: skip
    return plain | fields


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bell() -> Iterator[int]:
    fd = os.eventfd(0)
    yield fd
    os.close(fd)


def warnings(clock: Clock, *pages: Any, bell: int = -1, reasons: dict[str, str] | None = None) -> Warnings:
    table: Any = Table(*pages)
    return Warnings(table, bell, lambda index: f"eth{index}", (reasons or {}).get, clock)


@pytest.fixture(autouse=True)
def _lines_of_every_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def recent(seen: Warnings) -> list[dict[str, Any]]:
    return [*seen.hosts.recent, *seen.strangers.recent]


def told(seen: Warnings) -> set[tuple[str, str]]:
    return {*seen.hosts.seen, *seen.strangers.seen}


# --- one line a host and reason --------------------------------------------------------------------------------------


def test_a_host_s_reason_is_logged_once_and_then_counted(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    seen = warnings(clock)
    for _ in range(5):
        seen.take(event())
    clock.now += REPEAT_S - 1
    seen.take(event())
    assert len(caplog.messages) == 1 and "more since" not in caplog.messages[0]
    clock.now += 1
    seen.take(event())
    assert len(caplog.messages) == 2 and caplog.messages[1].endswith("(5 more since the last line)")
    clock.now += REPEAT_S
    seen.take(event())
    assert "more since" not in caplog.messages[2], "counted from the last line on"
    assert seen.suppressed == 0 and len(recent(seen)) == 8


def test_another_host_or_another_reason_has_its_own_line(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    seen = warnings(clock)
    for mac in (MAC, OTHER):
        for verdict in ("IGNORED_UNKNOWN_MAC", "IGNORED_DISABLED"):
            seen.take(event(mac, verdict))
            seen.take(event(mac, verdict))
    assert len(caplog.messages) == 4
    assert all(record.name == "bootstorm.dhcp" for record in caplog.records)


def strangers(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [event((0x020000010000 + first + i).to_bytes(6, "big").hex(":")) for i in range(count)]


def test_a_flood_of_strangers_is_a_bounded_number_of_lines(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    seen = warnings(clock)
    for each in strangers(1000):
        seen.take(each)
    assert len(caplog.messages) == STRANGERS_BURST and seen.suppressed == 1000 - STRANGERS_BURST
    clock.now += 2
    for each in strangers(1000, 5000):
        seen.take(each)
    assert len(caplog.messages) == STRANGERS_BURST + 2 * STRANGERS_PER_S
    clock.now += 1e6
    for each in strangers(1000, 9000):
        seen.take(each)
    assert len(caplog.messages) == 2 * STRANGERS_BURST + 2 * STRANGERS_PER_S, (
        "a long silence saves up one burst, not more"
    )


def test_a_known_host_s_decline_is_told_and_stays_beside_2000_strangers_a_second(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """It had neither a line nor, half a second later, a place."""
    seen = warnings(clock)
    for number in range(20_000):
        clock.now += 1 / 2_000
        seen.take(strangers(1, number)[0])
        if number == 5_000:
            seen.take(event(verdict="NOTED_DECLINE", message_type=4))
        if number in (6_000, 7_000):
            seen.take(event(verdict="IGNORED_CONFLICT"))
    lines = [line for line in caplog.messages if "alice" in line]
    assert len(lines) == 2 and "declined" in lines[0] and "two objects" in lines[1]
    assert [words["verdict"] for words in seen.newest(10, MAC)] == ["IGNORED_CONFLICT"] * 2 + ["NOTED_DECLINE"]
    clock.now += REPEAT_S
    seen.take(event(verdict="IGNORED_CONFLICT"))
    assert caplog.messages[-1].endswith("(1 more since the last line)"), "strangers push no host's count out"


def test_what_the_flood_kept_back_is_counted_later(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    seen = warnings(clock)
    for _ in range(4):
        seen.take(event())
    clock.now += REPEAT_S
    seen.hosts.budget = seen.hosts.burst = 0.0
    seen.take(event())
    seen.hosts.burst = LINES_BURST
    assert not any("more since" in line for line in caplog.messages) and seen.suppressed == 1
    clock.now += 1
    seen.take(event())
    assert caplog.messages[-1].endswith("(4 more since the last line)"), "three repeats, and the one that had no room"


def test_memory_is_bounded(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    seen = warnings(clock)
    for each in strangers(HOSTS_MAX + 10):
        clock.now += 1
        seen.take(each)
    assert len(seen.strangers.seen) == HOSTS_MAX and len(recent(seen)) == RECENT_MAX
    assert strangers(1)[0]["mac"] not in {mac for mac, _verdict in seen.strangers.seen}, "the oldest is forgotten"


# --- the sentence ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields, reasons, want",
    [
        pytest.param(
            {"mac": OTHER}, {}, f"DISCOVER from {OTHER} on eth2 not answered: not in the inventory", id="stranger"
        ),
        pytest.param(
            {"verdict": "IGNORED_DISABLED"},
            {MAC: "dhcp enabled is off (pool)"},
            f"DISCOVER from {MAC} (alice) on eth2 not answered: DHCP is not enabled [dhcp enabled is off (pool)]",
            id="host-with-detail",
        ),
        pytest.param(
            {
                "message_type": 3,
                "state": "INIT-REBOOT",
                "giaddr": 0x0A090001,
                "requested": 0x0A010063,
                "verdict": "NAKED",
            },
            {},
            f"REQUEST (INIT-REBOOT) from {MAC} (alice) on eth2 by relay 10.9.0.1 was refused: asked for an address "
            "that is not its own here requested=10.1.0.99",
            id="refused-by-relay",
        ),
        pytest.param(
            {"message_type": 8, "ciaddr": 0x0A010063, "vendor_class": b"PXEClient", "verdict": "IGNORED_CIADDR"},
            {},
            f"INFORM from {MAC} (alice) on eth2 not answered: it uses an address that is not its own ciaddr=10.1.0.99 "
            "vendor_class=PXEClient",
            id="ciaddr-and-vendor-class",
        ),
        pytest.param(
            {"mac": OTHER, "message_type": 77, "verdict": "IGNORED_NEW"},
            {},
            f"77 from {OTHER} on eth2 not answered: IGNORED_NEW",
            id="what-has-no-words-yet",
        ),
    ],
)
def test_sentences(clock: Clock, fields: dict[str, Any], reasons: dict[str, str], want: str) -> None:
    assert sentence(warnings(clock, reasons=reasons).describe(event(**fields))) == want


@pytest.mark.parametrize("vendor", [b"a\nFORGED line", b"\x1b[2J", b"\x00\x07\r", b"\xff\xfe", bytes(range(18)), b"\\"])
def test_a_stranger_cannot_write_lines_of_its_own(clock: Clock, vendor: bytes) -> None:
    line = sentence(warnings(clock).describe(event(vendor_class=vendor)))
    assert line.isascii() and line.isprintable()


def test_the_relay_s_note_stands_in_the_line(clock: Clock) -> None:
    agent = b"\1\6Eth1/3\2\6\0\x1b\x21\0\0\1"
    words = warnings(clock).describe(event(verdict="IGNORED_OTHER_LINK", giaddr=0x0A090001, relay_agent=agent))
    assert words["relay_agent"] == 'circuit-id "Eth1/3", remote-id 0x001b21000001'
    assert sentence(words).endswith(' option 82: circuit-id "Eth1/3", remote-id 0x001b21000001')
    assert warnings(clock).describe(event())["relay_agent"] is None


@pytest.mark.parametrize(
    "agent, want",
    [
        (b"\1\4Eth1\2\x20" + b"x" * 22, 'circuit-id "Eth1", remote-id "' + "x" * 22 + '"...'),  # as an event has it
        (b"\1\3a\nb", "circuit-id 0x610a62"),
        (b'\1\3a"b', "circuit-id 0x612262"),
        (b"\1\4\xc3\xa4\x1b[", "circuit-id 0xc3a41b5b"),
        (b"\5\4\x0a\x14\0\1\x96\4\x0a\x14\0\2\x98\0", "link-selection 10.20.0.1, link-selection-(Cisco) 10.20.0.2, "
         "virtual-subnet-control (empty)"),
        (b"\x63\1\1", "sub-option-99 0x01"),
        (b"\1", "0x01"),
    ],
)  # fmt: skip
def test_option_82_as_a_line(clock: Clock, agent: bytes, want: str) -> None:
    said = warnings(clock).describe(event(relay_agent=agent))["relay_agent"]
    assert said == want and said.isascii() and said.isprintable()


def test_every_word_is_a_verdict() -> None:
    assert WORDS.keys() <= {verdict.name for verdict in Verdict}
    assert MESSAGES[1] == "DISCOVER"


# --- sightings and what they give rise to ----------------------------------------------------------------------------


def sight(seen: Warnings, mac: str = MAC, **fields: Any) -> None:
    """An ACKED event, as ext.page.WorkerPage.drain() would give it."""
    told = event(mac, "ACKED", message_type=3, **fields)
    seen.take(told | {"news": seen.identities.sighted.hear(told)})


def test_a_sighting_is_no_warning(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    seen = warnings(clock)
    sight(seen, vendor_class=b"PXEClient", **{"class": "BIOS_PXE"})
    sight(seen, vendor_class=b"udhcp")
    assert not caplog.messages and not recent(seen) and not told(seen)
    assert seen.identity_counts()["seen"] == 1
    assert {each["vendor_class"] for each in seen.seen_as(MAC)} == {"PXEClient", "udhcp"}


def test_a_boot_loop_is_one_warning(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    seen = warnings(clock)
    for repeats in (0, 4, 8, 16):
        sight(seen, repeats=repeats, requested=0x0A14000B, **{"class": "UEFI_X64"})
    (line,) = caplog.messages
    assert line.startswith(
        f"boot loop: {MAC} (alice) on eth2 asked 4 times in a row within a minute of each other as uefi-x64"
    )
    assert "boot file snponly.efi from 10.20.0.2" in line
    sight(seen, repeats=4, **{"class": "IPXE"})
    assert len(caplog.messages) == 2, "another stage is another fault"
    (newest, first) = seen.newest(10, MAC)
    assert (first["verdict"], sentence(first)) == ("BOOT_LOOP", line) and "as ipxe" in sentence(newest)
    clock.now += REPEAT_S
    sight(seen, repeats=4, **{"class": "UEFI_X64"})
    assert caplog.messages[-1].endswith("(2 more since the last line)")


def test_a_bmc_s_loop_is_not_given_the_host_s_file(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    sight(warnings(clock), repeats=4, role="bmc", **{"class": "UEFI_X64"})
    assert "snponly" not in caplog.text and "no boot file" in caplog.text


def test_a_clone_is_one_warning(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    seen = warnings(clock)
    for mac in (MAC, OTHER, MAC, OTHER):
        sight(seen, mac, client_id=b"\0golden-image")
    (line,) = caplog.messages
    assert line.startswith(f"one client-id from several machines: {MAC} (alice) and {OTHER}")
    assert [sentence(words) for words in seen.newest(10)] == [line]


@pytest.mark.parametrize("repeats", [0, 4])
def test_what_the_log_has_no_room_for_is_still_shown(
    clock: Clock, caplog: pytest.LogCaptureFixture, repeats: int
) -> None:
    caplog.set_level(logging.ERROR)
    seen = warnings(clock)
    for each in strangers(int(LINES_BURST)):
        seen.take(each)
    for mac in (MAC, OTHER):
        sight(seen, mac, client_id=b"\0golden-image", repeats=repeats)
    shown = [words["verdict"] for words in seen.newest(3)]
    assert "CLONED_CLIENT_ID" in shown and shown.count("BOOT_LOOP") == (2 if repeats else 0)


def test_subscribers_hear_everything_and_one_that_fails_costs_nobody_else(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    seen, heard = warnings(clock), []

    def broken(_event: Any) -> None:
        raise RuntimeError("it is broken")

    seen.subscribers += [broken, lambda each: heard.append((each["verdict"], each["mac"]))]
    sight(seen)
    seen.take(event(OTHER))
    assert heard == [("ACKED", MAC), ("IGNORED_UNKNOWN_MAC", OTHER)]
    failures = [record for record in caplog.records if "a subscriber of DHCP events failed" in record.message]
    assert [str(record.exc_info[1]) for record in failures if record.exc_info] == ["it is broken"] * 2
    assert len(recent(seen)) == 1
    for each in strangers(1000):
        seen.take(each)
    assert len(caplog.records) <= LINES_BURST, "and its failures are no flood either"


# --- other servers ---------------------------------------------------------------------------------------------------


def other_server(mac: str = MAC, server_id: int = 0x0A140003, **fields: Any) -> dict[str, Any]:
    return event(mac, "IGNORED_OTHER_SERVER", message_type=3, server_id=server_id, **fields)


def test_another_server_is_one_warning_whoever_names_it(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    seen = warnings(clock)
    seen.server_id = {2: "10.20.0.2"}.get
    for mac in (MAC, OTHER, MAC):
        seen.take(other_server(mac))
    (line,) = caplog.messages
    assert line == (
        "two servers answer with different ids: ours 10.20.0.2, the other's 10.20.0.3 (REQUEST of 02:00:00:00:00:01 "
        "(alice) on eth2; 1 such so far); list 10.20.0.3 in dhcp.server_ids if it is a replica or a VIP of ours, else "
        "somebody else serves DHCP on this segment"
    )
    seen.take(other_server(server_id=0x0A140004, giaddr=0x0A090001, ifindex=7))
    assert "ours is not known, the other's 10.20.0.4" in caplog.messages[1]
    assert "on eth7 by relay 10.9.0.1" in caplog.messages[1] and len(recent(seen)) == 2
    assert seen.other_servers()["10.20.0.3"] == {"requests": 3, "place": "eth2", "host": f"{MAC} (alice)"}
    clock.now += REPEAT_S
    seen.take(other_server(OTHER))
    assert caplog.messages[-1].endswith("(2 more since the last line)") and "4 such so far" in caplog.messages[-1]


def test_forged_server_ids_take_no_memory(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    seen = warnings(clock)
    for number in range(10 * SERVERS_MAX):
        seen.take(other_server(server_id=0x0A140000 + number))
    assert len(seen.servers) == SERVERS_MAX


# --- rings -----------------------------------------------------------------------------------------------------------


def test_a_turn_takes_a_bounded_share_of_each_ring_and_comes_back(clock: Clock) -> None:
    first, second = Page(strangers(600)), Page(strangers(10, 5000))
    seen = warnings(clock, first, second)

    async def turns() -> list[tuple[int, ...]]:
        seen.drain()
        after_one = (len(first.events), len(second.events))
        while first.events:
            await asyncio.sleep(0)
        return [after_one]

    assert asyncio.run(turns()) == [(600 - SLICE // 2, 0)]
    assert first.drained == [SLICE // 2] * 4 + [88] and second.drained == [10, 0, 0, 0, 0]
    assert len(recent(seen)) == 610


def test_the_bell_makes_it_read(clock: Clock, bell: int) -> None:
    page = Page(strangers(1))

    async def ring() -> None:
        seen = warnings(clock, page, bell=bell)
        seen.watch()
        assert not page.events, "what waited while there was no control"
        read = asyncio.Event()
        seen.take = lambda _event: read.set()  # type: ignore[method-assign]
        page.events = strangers(1, 7)
        os.eventfd_write(bell, 1)
        await asyncio.wait_for(read.wait(), 30)
        asyncio.get_running_loop().remove_reader(bell)

    asyncio.run(ring())
    os.set_blocking(bell, False)
    with pytest.raises(BlockingIOError):
        os.eventfd_read(bell)


def test_a_bell_that_rings_on_wakes_it_fifty_times_a_second_at_most(clock: Clock, bell: int) -> None:
    page = Page()

    async def ring() -> float:
        loop = asyncio.get_running_loop()
        seen = warnings(clock, page, bell=bell)
        seen.watch()
        read = asyncio.Event()
        seen.take = lambda _event: read.set()  # type: ignore[method-assign]
        since = loop.time()
        for _ in range(11):
            page.events = strangers(1)
            os.eventfd_write(bell, 1)
            await asyncio.wait_for(read.wait(), 30)
            read.clear()
        loop.remove_reader(bell)
        return loop.time() - since

    assert asyncio.run(ring()) >= 10 * REST_S


def test_an_empty_page_of_the_real_kind(clock: Clock) -> None:
    fd = create_worker_page(0)
    try:
        seen = warnings(clock, WorkerPage(fd))
    finally:
        os.close(fd)
    seen.drain()
    assert not recent(seen) and not told(seen)


# --- levels, fields and events ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "verdict, level",
    [
        ("IGNORED_UNKNOWN_MAC", logging.INFO), ("IGNORED_DISABLED", logging.INFO), ("IGNORED_OTHER_PORT", logging.INFO),
        ("IGNORED_RELAY", logging.INFO), ("IGNORED_CONFLICT", logging.WARNING), ("NAKED", logging.WARNING),
        ("NOTED_DECLINE", logging.WARNING), ("IGNORED_NO_SERVER_ID", logging.ERROR), ("ABANDONED", logging.ERROR),
    ],
)  # fmt: skip
def test_a_line_has_the_level_of_its_verdict_and_says_what_it_is_about(
    clock: Clock, caplog: pytest.LogCaptureFixture, verdict: str, level: int
) -> None:
    warnings(clock).take(event(verdict=verdict, giaddr=0x0A090001))
    (record,) = caplog.records
    known: Any = record
    assert record.levelno == level
    assert known.about == {"mac": MAC, "host": "alice", "verdict": verdict, "relay": "10.9.0.1"}


def noting(clock: Clock) -> tuple[Warnings, list[tuple[str, str | None, str | None, str]]]:
    seen, noted = warnings(clock), []
    seen.note = lambda *event: noted.append(event)
    return seen, noted


def test_what_happens_to_a_host_is_an_event_once_in_five_minutes_whatever_the_log_has_room_for(clock: Clock) -> None:
    seen, noted = noting(clock)
    seen.hosts.budget = -1e6
    for _ in range(5):
        seen.take(event(verdict="IGNORED_DISABLED", giaddr=0x0A090001))
        seen.take(event(verdict="NAKED", message_type=3))
    assert noted == [
        ("not-answered", "alice", MAC, "DISCOVER on eth2 by relay 10.9.0.1: DHCP is not enabled"),
        ("refused", "alice", MAC, "REQUEST on eth2: asked for an address that is not its own here"),
    ]
    clock.now += REPEAT_S
    seen.take(event(verdict="NAKED"))
    assert len(noted) == 3


def test_a_stranger_is_an_event_the_first_time_and_strangers_take_no_host_s_place(clock: Clock) -> None:
    seen, noted = noting(clock)
    seen.take(event(verdict="IGNORED_DISABLED"))
    for each in strangers(2 * HOSTS_MAX):
        seen.take(each)
    seen.take(event(verdict="IGNORED_DISABLED"))
    clock.now += 1e6
    seen.take(strangers(1, 2 * HOSTS_MAX - 1)[0])
    kinds = [kind for kind, _host, _mac, _reason in noted]
    assert kinds == ["not-answered"] + ["stranger-seen"] * 2 * HOSTS_MAX
    assert len(seen.strangers.noted) == HOSTS_MAX and noted[1][1:3] == (None, "02:00:00:01:00:00")


def test_findings_are_events(clock: Clock) -> None:
    seen, noted = noting(clock)
    for repeats in (4, 8):
        sight(seen, repeats=repeats, requested=0x0A14000B, **{"class": "UEFI_X64"})
    for mac in (MAC, OTHER):
        sight(seen, mac, client_id=b"\0golden-image")
    seen.take(other_server())
    assert [kind for kind, _host, _mac, _reason in noted] == ["boot-loop", "cloned-client-id", "other-server"]
    assert noted[0][1:3] == ("alice", MAC) and noted[0][3].startswith("asked 4 times in a row")


# --- ctl recent ------------------------------------------------------------------------------------------------------


def test_the_newest_first_also_of_one_host(clock: Clock) -> None:
    seen = warnings(clock)
    for second, mac in enumerate([MAC, OTHER, MAC]):
        seen.take(event(mac, boottime_ns=second * 1_000_000_000, xid=second))
    assert [words["xid"] for words in seen.newest(10)] == ["00000002", "00000001", "00000000"]
    assert [words["xid"] for words in seen.newest(10, MAC)] == ["00000002", "00000000"]
    assert [words["xid"] for words in seen.newest(1, MAC)] == ["00000002"]
    ages = [words["seconds_ago"] for words in seen.newest(3)]
    assert ages == sorted(ages) and round(ages[2] - ages[0]) == 2
    assert "boottime_s" not in seen.newest(1)[0]


# --- several cards of a host -----------------------------------------------------------------------------------------


def test_a_card_that_is_not_served_is_a_host_s_and_asks_the_inventory_nothing(clock: Clock) -> None:
    asked: list[Any] = []
    table: Any = Table()
    reasons = {MAC: "port-nic-eth 2 of node1 is not one of its boot_ports"}
    seen = Warnings(
        table, -1, lambda index: f"eth{index}", reasons.get, clock, on_unknown=lambda *who: asked.append(who)
    )
    seen.take(event(verdict="IGNORED_OTHER_PORT"))
    seen.take(event(OTHER))
    assert [mac for mac, _interface, _relay in asked] == [OTHER]
    (words,) = [words for words in recent(seen) if words["verdict"] == "IGNORED_OTHER_PORT"]
    assert words["reason"] == "a network card that is not served" and words["detail"] == reasons[MAC]


def test_two_cards_with_one_address_are_one_line_in_five_minutes(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    table: Any = Table()
    table.row = lambda _mac, role=0: {"identity": 7, "leases": [{"address": 1, "template": {"lease_s": 3600}}]}
    seen = Warnings(table, -1, lambda index: f"eth{index}", lambda _mac: None, clock)
    for at_s, mac in enumerate([MAC, OTHER] * 5, 1):
        sight(seen, mac, requested=0x0A14000B, boottime_ns=at_s * 1_000_000_000)
    lines = [line for line in caplog.messages if "10.20.0.11" in line]
    assert len(lines) == 1 and lines[0].startswith("one address at several cards of a host: ")
    assert [words["verdict"] for words in recent(seen)] == ["SHARED_ADDRESS"]
