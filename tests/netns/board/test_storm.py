"""10,000 emulated machines boot, 37 hang: `ctl hosts` names exactly those, each with stage and reason, and every count
of the service is the client's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address

import pytest

from bench.storm.racks import HANGS, SITE, Machine
from tests.netns.board.conftest import AFTER_AN_ACK, FRESH, FRESH_AND_TOLD, Later, Storm, expected

pytestmark = [pytest.mark.netns, pytest.mark.long, pytest.mark.timeout(1200)]

PROGRESS = ("never", "booting", "stuck", "done", "unknown", "refused")
TOOK = "what it boots has not asked yet; the boots before took {took} s"
REASONS = {
    "no-offer": "its ROM was offered its address and does not take it",
    "no-boot-file": f"its ROM has its address, and {TOOK}",
    "conflict": "address {address} belongs to {both}",
    "no-address": "no address bound",
    "ipxe-no-offer": "iPXE was offered its address and does not take it",
    "ipxe-no-boot-file": f"iPXE has its address, and {TOOK}",
    "os-no-offer": "a system was offered its address and does not take it",
    "unusable": "enabled",
    "elsewhere": "its ROM has no answer: none of its addresses fits where it asks from",
}
IGNORED = {
    "conflict": "IGNORED_CONFLICT", "no-address": "IGNORED_NO_ADDRESS", "disabled": "IGNORED_DISABLED",
    "unusable": "IGNORED_QUARANTINED", "elsewhere": "IGNORED_OTHER_LINK",
}  # fmt: skip


def test_the_machines_did_as_they_were_to(storm: Storm) -> None:
    assert sum(bool(machine.hang) for machine in storm.site.machines) == 37
    assert {machine.hang for machine in storm.site.machines} == {"", *HANGS}, "every kind of it"
    for boot in storm.boots:
        assert boot.all_right, boot.lines()
        assert boot.own_drops == 0 and boot.total("dark") == 0


def test_stuck_are_exactly_those_that_hang(storm: Storm) -> None:
    wanted = {machine.name for machine in storm.site.machines if expected(machine) == "stuck"}
    known = {machine.name for machine in storm.site.machines if machine.hang and machine.row < FRESH}
    assert set(storm.told.stuck) == wanted >= known - storm.hung("off", "disabled")
    unusable = storm.hung("conflict", "no-address", "unusable")
    assert unusable <= storm.told.stuck_at_once <= unusable | storm.hung("elsewhere"), "which asks since the first boot"


def fresh(storm: Storm, *rows: int) -> set[str]:
    return {machine.name for machine in storm.site.machines if machine.hang and machine.row in rows}


def reason(storm: Storm, machine: Machine, took_s: int | None) -> str:
    """What of it has to be said: of a conflict the address that one had before, and the names of both."""
    if machine.row == FRESH:
        return "most machines of its pool (fresh) went on to "
    rival = storm.site.machines[machine.rival] if machine.rival is not None else machine
    address = IPv4Address(min(machine, rival, key=lambda each: each.number).address)
    both = " and ".join(sorted((machine.name, rival.name)))
    return REASONS[machine.hang].format(took=took_s, address=address, both=both)


def test_each_with_its_stage_its_relay_and_the_reason(storm: Storm) -> None:
    for machine in storm.site.machines:
        host = storm.told.stuck.get(machine.name)
        if host is None:
            continue
        assert (host["stage"], host["relay"]) == (storm.stage_of(machine), storm.relay_of(machine)), machine
        took_s = host["took_s"][0 if host["stage"].startswith("rom") else 1] if host["took_s"] else None
        assert reason(storm, machine, took_s) in host["reason"], (machine, host["reason"])
        if machine.hang in AFTER_AN_ACK and machine.row < FRESH:
            assert 1 <= took_s <= 30, "of the boot before"


def test_never_seen_are_exactly_those_without_power(storm: Storm) -> None:
    assert storm.told.never == storm.hung("off")


def test_sums_by_pool_rack_and_relay_fit(storm: Storm) -> None:
    def summed(names: Callable[[Machine], Iterable[str]]) -> dict[str, Counter[str]]:
        found: dict[str, Counter[str]] = {}
        for machine in storm.site.machines:
            for name in names(machine):
                found.setdefault(name, Counter())[expected(machine)] += 1
        return found

    def told(sums: Mapping[str, Mapping[str, int]]) -> dict[str, Counter[str]]:
        return {
            name: Counter({each: counts[each] for each in PROGRESS if counts[each]}) for name, counts in sums.items()
        }

    assert told(storm.told.by_pool) == summed(lambda machine: (SITE, storm.site.rows[machine.row].name))
    assert told(storm.told.by_rack) == summed(lambda machine: (machine.rack,))
    heard = summed(lambda machine: () if machine.hang == "off" else (storm.relay_of(machine) or "",))
    assert told(storm.told.by_relay) == heard


def test_every_machine_stands_where_it_knows_itself_to_be(storm: Storm) -> None:
    hosts = storm.told.hosts
    assert hosts.keys() == {machine.name for machine in storm.site.machines}
    for machine in storm.site.machines:
        host = hosts[machine.name]
        asked = sum(boot.asked[machine.number][0] for boot in storm.boots)
        heard = sum(boot.asked[machine.number][1] for boot in storm.boots)
        found = (host["mac"], host["stage"], host["requests"], host["silent"])
        assert found == (machine.mac_text, storm.stage_of(machine), asked, asked - heard), machine


def test_the_client_s_counts_are_the_status_s(storm: Storm) -> None:
    status = storm.told.status
    datagrams = Counter[str]()
    silent = Counter[str]()
    for boot in storm.boots:
        for steps in boot.datagrams.values():
            datagrams.update(steps)
        for machine, (asked, _heard) in zip(boot.machines, boot.asked, strict=True):
            if machine.hang in IGNORED:
                silent[IGNORED[machine.hang]] += asked
    counters = {name: count for name, count in status["counters"].items() if count}
    assert counters == {"OFFERED": datagrams["OFFER"], "ACKED": datagrams["ACK"], **silent}
    sent = datagrams["DISCOVER"] + datagrams["REQUEST"]
    assert sent == sum(boot.total("sent") for boot in storm.boots) == sum(worker["rx"] for worker in status["workers"])
    assert sum(worker["tx"] for worker in status["workers"]) == datagrams["OFFER"] + datagrams["ACK"]


def test_the_client_s_stages_are_the_status_s_and_the_metrics(storm: Storm) -> None:
    stages = {stage: many for stage, many in storm.told.status["boots"]["stages"].items() if many}
    own = Counter(stage for machine in storm.site.machines if (stage := storm.stage_of(machine)))
    scraped = {stage: many for (what, stage), many in storm.told.metrics.items() if what == "bootstorm_stage_machines"}
    assert stages == own == {stage: many for stage, many in scraped.items() if many}
    states = storm.told.status["boots"]["states"]
    assert sum(sum(progress.values()) for progress in states.values()) == len(storm.site.machines)
    assert sum(states["served"].values()) == storm.site.served == storm.told.status["hosts"]


def test_metrics_are_the_status_s(storm: Storm) -> None:
    metrics, status = storm.told.metrics, storm.told.status
    verdicts = {name: int(value) for (what, name), value in metrics.items() if what == "bootstorm_verdicts_total"}
    assert verdicts.items() >= status["counters"].items()
    assert sum(verdicts.values()) == sum(status["counters"].values())
    for worker in status["workers"]:
        slot = str(worker["slot"])
        assert metrics["bootstorm_received_total", slot] == worker["rx"]
        assert metrics["bootstorm_sent_total", slot] == worker["tx"]
    assert metrics["bootstorm_hosts", ""] == storm.site.served


def test_a_first_boot_is_judged_by_boot_ends(storm: Storm, later: Later) -> None:
    """Kept over a clean stop; nobody is late by the ten minutes in which nobody answered."""
    told, names = storm.told, fresh(storm, FRESH_AND_TOLD)
    assert {told.hosts[name]["progress"] for name in names} == {"booting"}
    answered = {name for name in told.stuck if told.hosts[name]["state"] in ("served", "proxied")}
    assert {later.hosts[name]["progress"] for name in names} == {"booting"}
    assert not answered & later.stuck
    assert told.stuck.keys() - answered <= later.stuck
    assert {host["progress"] for name, host in later.hosts.items() if name not in storm.hung()} == {"done"}
    for name, host in told.hosts.items():
        for what in ("stage", "requests", "silent", "boots"):
            assert later.hosts[name][what] == host[what], (name, what)
