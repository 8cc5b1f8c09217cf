"""control/service/machines/boot_events.py: who is stuck, goes on or comes further, as events; a storm as numbers."""

from __future__ import annotations

import asyncio
import time
from array import array
from pathlib import Path
from typing import Any

import pytest
from ext.classify import ClientClass
from ext.table import Pair
from ext.verdict import Verdict

from control.mac import show_mac
from control.service.event_ring import BOOTS, HOSTS, EventRing
from control.service.machines.boot_events import REACHED, STUCK, UNSTUCK, BootEvents
from control.service.machines.hosts import Hosts
from tests.control.service.machines.test_hosts import MACS, known, rack
from tests.ext.test_ledger import REQUEST, paired

ROM, IPXE = int(ClientClass.UEFI_X64), int(ClientClass.IPXE_HTTP)


class Looking:
    """A pair and its ledger, looked at again and again; time goes on by what is noted in the past."""

    def __init__(self, folder: Path, pair: Pair) -> None:
        self.hosts: Hosts = known(folder)
        self.pair: Pair | None = pair
        self.ring = EventRing()
        self.ours = BootEvents(self.hosts, lambda: self.pair, lambda _mac: "MAC belongs to two", self.ring.note)

    def note(self, mac: int, verdict: Verdict, ago_s: int, message: int = 1, xid: int = 1, relay: int = 0) -> None:
        now_s = self.hosts.ledger.now_s()
        self.hosts.ledger.note(self.pair, mac, 0, int(verdict), ROM, xid, now_s - ago_s, message, relay)

    def look(self) -> list[tuple[str, str | None, str]]:
        """(kind, object, reason) of what is new."""
        before = self.ring.newest
        asyncio.run(self.ours.look())
        told, _at = self.ring.page(before)
        return [(event["kind"], event["object"], event["reason"]) for event in told]


def test_a_machine_that_is_stuck_is_told_once_with_the_reason_and_when_it_goes_on(tmp_path: Path) -> None:
    looking = Looking(tmp_path, rack())
    assert looking.look() == []
    looking.note(MACS[0], Verdict.OFFERED, 100, relay=0x0A0100FE)
    (told,) = looking.look()
    assert told == (
        STUCK, "r1-n1", "rom-offered by relay 10.1.0.254: its ROM was offered its address and does not take it: the "
        "offer does not arrive, or does not please it",
    )  # fmt: skip
    assert looking.look() == []
    looking.note(MACS[0], Verdict.ACKED, 50, REQUEST, relay=0x0A0100FE)
    assert looking.look() == [(UNSTUCK, "r1-n1", "rom-answered by relay 10.1.0.254, boot 1")]
    events = [event for event in looking.ring.places[HOSTS] if event.mac == show_mac(MACS[0])]
    assert [event.kind for event in events] == [STUCK, UNSTUCK]


def test_a_row_that_is_not_answered_is_stuck_by_the_inventory_s_reason(tmp_path: Path) -> None:
    looking = Looking(tmp_path, rack())
    looking.look()
    looking.note(MACS[6], Verdict.IGNORED_CONFLICT, 5)
    ((kind, _named, reason),) = looking.look()
    assert kind == STUCK and reason == "rom-asked: MAC belongs to two"


def test_a_stage_is_told_when_its_second_is_over(tmp_path: Path) -> None:
    looking = Looking(tmp_path, rack())
    looking.look()
    looking.note(MACS[1], Verdict.OFFERED, 0)
    deadline = time.monotonic() + 30
    while not (told := looking.look()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert told == [(REACHED, "r1-n2", "rom-offered, boot 1")] and looking.look() == []
    assert len(looking.ring.places[BOOTS]) == 1


def test_who_was_stuck_before_control_looked_is_a_number(tmp_path: Path) -> None:
    looking = Looking(tmp_path, rack())
    for mac in MACS[:3]:
        looking.note(mac, Verdict.OFFERED, 100)
    assert looking.look() == [(STUCK, None, "3 machines were stuck when control began to look")]
    assert looking.look() == []


def test_who_is_stuck_by_the_measure_of_a_pool_that_is_known_late_is_a_number(tmp_path: Path) -> None:
    """Which pools machines are in is known some time after control's start, and makes nothing new of what was."""
    looking = Looking(tmp_path, rack())
    for mac in MACS[:4]:
        looking.note(mac, Verdict.ACKED, 4000, REQUEST, xid=1)
    for mac in MACS[:3]:
        now_s = looking.hosts.ledger.now_s()
        looking.hosts.ledger.note(looking.pair, mac, 0, int(Verdict.ACKED), IPXE, 2, now_s - 3990, REQUEST)
    assert looking.look() == [] == looking.look()
    placed = array("I", [1] * 9).tobytes()
    looking.hosts.whereabouts.take({"groups": [[["/pool/web"], ""]], "placed": placed})
    assert looking.look() == [(STUCK, None, "1 machines were stuck when control began to look")]
    assert looking.look() == []
    looking.note(MACS[4], Verdict.OFFERED, 100)
    assert [told[:2] for told in looking.look()] == [(STUCK, "r1-n5")]


@pytest.mark.parametrize("verdict, kind", [(Verdict.OFFERED, STUCK), (Verdict.ACKED, UNSTUCK)])
def test_of_very_many_at_once_the_number_is_told(tmp_path: Path, verdict: Verdict, kind: str) -> None:
    rows: Any = [(n, b"h%d" % n, "served", n) for n in range(1, 1001)]
    looking = Looking(tmp_path, paired(rows))
    looking.look()
    for mac in range(1, 1001):
        looking.note(mac, Verdict.OFFERED, 100)
    if verdict is Verdict.ACKED:
        looking.look()
        for mac in range(1, 1001):
            looking.note(mac, verdict, 80, REQUEST)
    told = looking.look()
    assert [each[0] for each in told] == [kind] * 101 and len({each[1] for each in told}) == 101
    assert told[-1] == (kind, None, "and 900 more within 5 s")


def test_a_storm_s_stages_are_told_with_their_sums(tmp_path: Path) -> None:
    rows: Any = [(n, b"h%d" % n, "served", n) for n in range(1, 1001)]
    looking = Looking(tmp_path, paired(rows))
    looking.look()
    for mac in range(1, 1001):
        looking.note(mac, Verdict.OFFERED if mac % 10 else Verdict.ACKED, 0)
    time.sleep(1.1)  # the second in which they came has to end: nothing tells that but the clock
    told = looking.look()
    assert len(told) == 101
    assert told[-1] == (REACHED, None, "and 900 more within 5 s; in all 900 rom-offered, 100 rom-answered")


def test_without_a_table_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    looking = Looking(tmp_path, rack())
    looking.pair = None
    assert looking.look() == []
