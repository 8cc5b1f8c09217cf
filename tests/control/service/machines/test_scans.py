"""control/service/machines/scans.py: sums by pool, rack and relay, one count for all who ask, and what a pool tells of
a machine at its first boot."""

from __future__ import annotations

import asyncio
import os
from array import array
from pathlib import Path
from typing import Any

import pytest
from ext.classify import ClientClass
from ext.ledger import create_ledger
from ext.roll import PROGRESS, STAGES
from ext.table import Pair
from ext.verdict import Verdict

from control.service.machines import scans, whereabouts
from control.service.machines.hosts import Hosts
from control.service.machines.whereabouts import POOL, RACK, Whereabouts
from tests.ext.test_ledger import REQUEST, paired

ROM, LOADER = int(ClientClass.UEFI_X64), int(ClientClass.IPXE_HTTP)
RELAY = 0x0A0100FE


class Site:
    """Hosts 1, 2, ... in the groups of the report that it was given last."""

    def __init__(self, folder: Path, many: int) -> None:
        fd = create_ledger()
        self.hosts = Hosts(fd, folder, Whereabouts())
        os.close(fd)
        self.pair: Pair = paired([(n, b"h%d" % n, "served", 0x0A010000 + n) for n in range(1, many + 1)])
        self.xid = 0

    def place(self, groups: list[list[str]], of: list[int]) -> None:
        """of: the group of each host, in order; groups are counted from 1."""
        placed = array("I", [0]) * (len(of) + 1)
        for host, group in enumerate(of, 1):
            placed[self.pair.number_of(host)] = group
        told = [[paths, ""] for paths in groups]
        self.hosts.whereabouts.take({"groups": told, "placed": placed.tobytes()})

    def boot(self, host: int, *clients: int, ago_s: int = 100, took_s: int = 20, relay: int = 0) -> None:
        """Has its address in each of these phases, in the first of them so many seconds ago."""
        for at, client in enumerate(clients):
            self.xid += 1
            then_s = self.hosts.ledger.now_s() - ago_s + at * took_s
            self.hosts.ledger.note(self.pair, host, 0, int(Verdict.ACKED), client, self.xid, then_s, REQUEST, relay)

    def sums(self, kind: str) -> Any:
        return asyncio.run(self.hosts.scans.sums(self.pair, kind))["of"]

    def overview(self) -> Any:
        return asyncio.run(self.hosts.scans.overview(self.pair))

    def look(self) -> None:
        """Another count, as control has it every 5 s."""
        self.hosts.scans.last = None
        self.overview()

    def host(self, number: int) -> dict[str, Any]:
        page = asyncio.run(self.hosts.page(self.pair, {"name": f"h{number}"}, lambda _mac: None))
        (found,) = page["hosts"]
        return dict(found)


GROUPS = [["/pool/web", "/basicrack/r1", "/pool/all"], ["/pool/web", "/rack/r2", "/pool/all"], ["/pool/db"]]


def test_sums_by_pool_rack_and_relay(tmp_path: Path) -> None:
    site = Site(tmp_path, 6)
    site.place(GROUPS, [1, 1, 2, 3, 0, 0])
    site.boot(1, ROM, LOADER, relay=RELAY)
    site.boot(2, ROM, relay=RELAY)
    site.boot(5, ROM)
    pools, racks, relays = (site.sums(kind) for kind in ("pool", "rack", "relay"))
    assert {name: (each["never"], each["unknown"]) for name, each in pools.items()} == {
        "": (1, 1), "web": (1, 2), "all": (1, 2), "db": (1, 0),
    }  # fmt: skip
    assert {name: sum(each[word] for word in PROGRESS) for name, each in racks.items()} == {"": 3, "r1": 2, "r2": 1}
    assert {name: each["unknown"] for name, each in relays.items()} == {"10.1.0.254": 2, "": 1}
    assert list(pools["web"]) == [*PROGRESS, "stages"] and tuple(pools["web"]["stages"]) == STAGES
    assert (pools["web"]["stages"]["rom-answered"], pools["web"]["stages"]["loader-answered"]) == (1, 1)


def test_the_overview_is_all_of_it_at_once_and_one_count_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scans, "TOTALS_S", 600.0)
    site = Site(tmp_path, 4)
    site.place(GROUPS, [1, 2, 3, 0])
    site.boot(1, ROM, relay=RELAY)
    found = site.overview()
    assert set(found) == {"since_s", "now_s", "generation", "totals", "by", "cut"} and found["generation"] == 1
    assert found["by"] == {kind: site.sums(kind) for kind in ("pool", "rack", "relay")}
    assert found["cut"] == {"pool": 0, "rack": 0, "relay": 0}
    assert sum(found["totals"]["progress"].values()) == 4 == sum(map(sum_of, found["totals"]["states"].values()))
    assert found["totals"]["stages"]["rom-answered"] == 1
    site.boot(2, ROM)
    assert site.overview() is found, "for as long as a count is good"
    site.hosts.scans.last = None
    assert site.overview()["totals"]["stages"]["rom-answered"] == 2
    nobody = asyncio.run(site.hosts.scans.overview(None))
    assert set(nobody) == set(found) and nobody["by"] == {"pool": {}, "rack": {}, "relay": {}}


def sum_of(counts: dict[str, int]) -> int:
    return sum(counts.values())


def test_many_who_ask_at_once_share_a_count(tmp_path: Path) -> None:
    site = Site(tmp_path, 4)

    async def ask() -> list[Any]:
        ours = site.hosts.scans
        return await asyncio.gather(*(ours.overview(site.pair) for _ in range(20)))

    found = asyncio.run(ask())
    assert all(each is found[0] for each in found)


def test_of_many_racks_those_with_the_most_stuck_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scans, "CONTAINERS_TOLD", 3)
    monkeypatch.setattr(scans, "RELAYS_TOLD", 1)
    monkeypatch.setattr(whereabouts, "GROUPS_AT_ONCE", 2)
    site = Site(tmp_path, 8)
    site.place([[f"/rack/r{n}"] for n in range(1, 6)], [1, 1, 1, 2, 2, 3, 4, 5])
    for host in (7, 8):
        site.hosts.ledger.note(
            site.pair, host, 0, int(Verdict.OFFERED), ROM, host, site.hosts.ledger.now_s() - 90, giaddr=RELAY + host
        )
    found = site.overview()
    assert list(found["by"]["rack"]) == ["r4", "r5", "r1"] and found["cut"] == {"pool": 0, "rack": 2, "relay": 1}
    assert found["by"]["rack"]["r4"]["stuck"] == 1 and len(site.sums("rack")) == 5, "a person sees all"
    assert [each["stuck"] for each in found["by"]["relay"].values()] == [1, 1]
    assert list(found["by"]["relay"])[1] == "other"


# --- what a pool tells of a machine at its first boot -----------------------------------------------------------------


def web(folder: Path) -> Site:
    """Three of pool web went on to iPXE within 20 s, h4 has not for an hour."""
    site = Site(folder, 9)
    site.place(GROUPS, [1, 1, 2, 2, 3, 3, 3, 3, 3])
    for host in (1, 2, 3):
        site.boot(host, ROM, LOADER)
    site.boot(4, ROM, ago_s=3600)
    return site


def test_who_does_not_do_what_most_of_its_pool_did_is_stuck_and_the_reason_names_the_pool(tmp_path: Path) -> None:
    site = web(tmp_path)
    assert site.host(4)["progress"] == "unknown"
    site.look()
    host = site.host(4)
    assert host["progress"] == "stuck" and not {"habit", "habit_s", "ends", "group"} & set(host)
    assert host["reason"] == (
        "its ROM has its address, and what it boots has not asked yet; most machines of its pool (web) went on to "
        "iPXE, nine of ten within 31 s"
    )
    site.look()
    assert site.sums("pool")["web"]["stuck"] == 1


def test_what_a_pool_does_is_known_over_another_report_of_the_inventory(tmp_path: Path) -> None:
    """Another planner counts groups otherwise; nobody is unknown for that, or as somebody else would be."""
    site = web(tmp_path)
    site.look()
    site.place([GROUPS[2], GROUPS[1], ["/pool/new"], GROUPS[0]], [4, 4, 2, 2, 1, 1, 1, 1, 3])
    site.boot(9, ROM, ago_s=3600)
    assert (site.host(4)["progress"], site.host(9)["progress"]) == ("stuck", "unknown")


def test_the_nearest_pool_counts_and_without_any_the_same_containers(tmp_path: Path) -> None:
    site = Site(tmp_path, 8)
    site.place([["/rack/r1", "/datacenter/a"], ["/pool/small", "/pool/all"]], [1, 1, 1, 1, 2, 2, 2, 2])
    for host in (1, 2, 3, 5, 6):
        site.boot(host, ROM, LOADER)
    for host in (4, 7, 8):
        site.boot(host, ROM, ago_s=3600)
    site.look()
    assert "most machines of r1, a went on to iPXE" in site.host(4)["reason"]
    assert site.host(7)["progress"] == "unknown", "half of its pool are not most"


def test_where_boots_end_by_the_inventory_the_reason_says_so(tmp_path: Path) -> None:
    site = Site(tmp_path, 1)
    site.place([["/pool/p"]], [1])
    site.hosts.whereabouts.take({"groups": [[["/pool/p"], "system"]]})
    site.boot(1, ROM, ago_s=3600)
    assert site.host(1)["progress"] == "stuck" and site.host(1)["reason"].endswith(
        "by boot_ends it goes on to a system"
    )


def test_containers_have_their_numbers_whatever_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whereabouts, "GROUPS_AT_ONCE", 1)
    known = Whereabouts()
    known.take({"groups": [[paths, ""] for paths in GROUPS]})

    async def changed() -> None:
        asked = asyncio.create_task(known.indexed())
        await asyncio.sleep(0)
        known.take({"groups": [[paths, ""] for paths in GROUPS[:2]]})
        index = await asked
        assert index.groups is known.groups and len(index.companies) == 3

    asyncio.run(changed())
    index = known.index
    assert index.names == {POOL: ["", "web", "all"], RACK: ["", "r1", "r2"]}
    assert list(index.first[POOL]) == [0, 1, 3, 5] and list(index.members[POOL]) == [0, 1, 2, 1, 2]
    assert list(index.companies) == [0, 1, 1] and index.company_name(2) == "web" and index.company_name(99) == ""


def test_a_filter_of_many_racks_leaves_the_loop_its_turns_and_is_worked_out_once() -> None:
    known = Whereabouts()
    known.take({"groups": [[[f"/basicrack/r{rack:05d}", "/pool/web"], ""] for rack in range(25_000)]})

    async def asked() -> tuple[bytes, int]:
        index = await known.indexed()
        finding, turns = asyncio.create_task(index.fitting(RACK, "r0000[0-3]")), 0
        while not finding.done():
            await asyncio.sleep(0)
            turns += 1
        assert await index.fitting(RACK, "r0000[0-3]") is finding.result(), "each page asks for it"
        for rack in range(100):
            await index.fitting(RACK, f"x{rack}")
        assert len(index.found) <= whereabouts.FOUND_MAX
        return finding.result(), turns

    found, turns = asyncio.run(asked())
    assert len(found) == 25_001 and [at for at, fits in enumerate(found) if fits] == [1, 2, 3, 4]
    assert turns >= 50, "a thousand names or racks at once"
