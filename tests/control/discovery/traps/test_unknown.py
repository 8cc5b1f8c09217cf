"""control/discovery/traps/unknown.py: what nobody decodes is counted by sender and OID, named once, bounded."""

from __future__ import annotations

import logging
import struct

import pytest

from control.discovery.traps.ber import oid
from control.discovery.traps.complaints import LINES_BURST, Complaints
from control.discovery.traps.queue import _RING_AT, _STATE_WORDS, _STATES, _UNKNOWN_AT
from control.discovery.traps.unknown import OID_OCTETS_MAX, UnknownTrap, UnknownTraps, oid_text

LINK_UP, LINK_DOWN = oid("1.3.6.1.6.3.1.1.5.4"), oid("1.3.6.1.6.3.1.1.5.3")
SENDER = (10 << 24) + 9


def table(entries: int = 4) -> UnknownTraps:
    made = UnknownTraps(memoryview(bytearray(64 * entries + 63)))
    made.open()
    return made


def test_counted_by_sender_and_oid_and_named_once() -> None:
    found = table()
    assert found.rows() == []
    assert found.add(SENDER, LINK_UP, 3)
    found.named(SENDER, LINK_UP)
    assert not found.add(SENDER, LINK_UP, 2), "it was named"
    assert found.add(SENDER + 1, LINK_UP, 1) and found.add(SENDER, LINK_DOWN, 1)
    assert found.add(SENDER, LINK_DOWN, 1), "nobody has named it yet"
    assert found.rows() == [
        UnknownTrap("10.0.0.9", "1.3.6.1.6.3.1.1.5.4", 5),
        UnknownTrap("10.0.0.9", "1.3.6.1.6.3.1.1.5.3", 2),
        UnknownTrap("10.0.0.10", "1.3.6.1.6.3.1.1.5.4", 1),
    ]


def test_a_successor_goes_on_and_names_nothing_again() -> None:
    first = table()
    first.add(SENDER, LINK_UP, 3)
    first.named(SENDER, LINK_UP)
    first.add(SENDER, LINK_DOWN, 1)
    second = UnknownTraps(first.room)
    second.open()
    assert second.rows() == first.rows()
    assert (second.add(SENDER, LINK_UP, 1), second.add(SENDER, LINK_DOWN, 1)) == (False, True)
    assert [row.times for row in first.rows()] == [4, 2]
    for number in range(2):
        assert second.add(SENDER, oid(f"1.3.{number}"), 1)
    assert len(second.rows()) == 4, "the free entries were found"


def test_a_full_table_keeps_who_is_heard() -> None:
    found = table(entries=3)
    for number in range(3):
        found.add(SENDER + number, LINK_UP, 10)
    found.add(SENDER, LINK_UP, 1)
    for number in range(100):
        assert found.add(SENDER, oid(f"1.3.6.1.4.1.99999.{number}"), 1)
        found.add(SENDER, LINK_UP, 1)
    rows = found.rows()
    assert (len(rows), len(found.at)) == (3, 3)
    assert rows[0] == UnknownTrap("10.0.0.9", "1.3.6.1.6.3.1.1.5.4", 111)
    assert found.add(SENDER + 1, LINK_UP, 1), "it was forgotten, and is new"


@pytest.mark.parametrize("octets", [OID_OCTETS_MAX, OID_OCTETS_MAX + 1, 128])
def test_an_oid_has_a_place_and_no_more(octets: int) -> None:
    found, trap = table(), b"\x2b" + b"\6" * (octets - 1)
    found.add(SENDER, trap, 1)
    found.add(SENDER, trap, 1)
    cut = octets > OID_OCTETS_MAX
    shown = "1.3" + ".6" * (min(octets, OID_OCTETS_MAX) - 1) + ("..." if cut else "")
    assert [(row.trap, row.times) for row in found.rows()] == [(shown, 2)]
    assert oid_text(trap) == shown


def test_no_snmp_trap_oid_is_counted_too() -> None:
    found = table()
    found.add(SENDER, b"", 7)
    assert found.rows() == [UnknownTrap("10.0.0.9", "", 7)]


def test_who_dies_while_it_replaces_an_entry_leaves_a_free_one() -> None:
    found = table(entries=1)
    found.add(SENDER, LINK_UP, 3)
    struct.pack_into("<Q", found.room, 0, 0)
    found.open()
    assert found.rows() == [] and found.add(SENDER, LINK_DOWN, 1)


def test_its_room_is_nobody_else_s() -> None:
    assert 8 * (max(_STATES) + _STATE_WORDS) <= _UNKNOWN_AT and _UNKNOWN_AT % 64 == 0 and _RING_AT > _UNKNOWN_AT


def test_what_is_said_once_is_said_later_where_there_were_too_many_lines(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints()
    with caplog.at_level(logging.WARNING):
        said = [complaints.once((SENDER, b"%d" % number), f"trap {number}", 100.0) for number in range(200)]
    assert said == [True] * int(LINES_BURST) + [False] * (200 - int(LINES_BURST))
    assert len(caplog.records) == LINES_BURST
    assert complaints.once((SENDER, b"199"), "trap 199", 101.0) and complaints.once((SENDER, b"0"), "no", 102.0)
    assert caplog.messages[-1] == "trap 199"


def test_more_pairs_than_the_table_has_are_named_once_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Two hundred switches whose links go up and down."""
    found, complaints = table(entries=104), Complaints()
    monkeypatch.setattr("control.discovery.traps.complaints.SENDERS_MAX", 500)
    for turn in range(3):
        for number in range(400):
            pair = (SENDER + number, LINK_UP)
            assert found.add(*pair, 1), "it was evicted since"
            assert complaints.once(pair, f"{number}", 1000.0 * turn + number)
    assert len(caplog.records) == len(complaints.told) == 400
    for number in range(600):
        complaints.once((number, LINK_DOWN), "", 1e6 + number)
    assert len(complaints.told) == 500
