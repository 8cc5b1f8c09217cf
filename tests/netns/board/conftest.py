"""A storm of 10,000 emulated machines of which 37 hang, against a running service, and what the service says of it.

The laboratory stands until the last test of this folder has run.  Whoever wants to look at it as it is when those that
hang are stuck asks for `storm` in a file that comes before test_storm.py: its last tests restart the service.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bench.faults.trouble import Skew
from bench.lab.lab import Lab, LabError
from bench.lab.site import ENVIRONMENT
from bench.report.machine import pinned
from bench.storm.boot import Boot, Pace, boot, usual_pace
from bench.storm.racks import HANGS, Machine, Row, Site, even_rows, gateway_of, site_of, with_hangs
from bench.storm.standing import Standing, standing

SEED = 14
METRICS = "127.0.0.1:9100"
KNOWN_ROWS = 8  # rows 0 to 7: of their machines an earlier boot is known
FRESH, FRESH_AND_TOLD = 8, 9  # rows that get power for the first time at the boot at which some of them hang
ENDS = {"boot_ends": "os"}
KNOWN_HANGS, FRESH_HANGS = 29, 4  # in all of the known rows, and in each of the fresh ones: 37
AFTER_AN_ACK = ("no-boot-file", "ipxe-no-boot-file")
STUCK_S = 240.0  # the patience of the ledger is 60 s, and what the boots before took; the rest is for a slow machine
LATER_S = 600.0  # and a first boot's is 300 s: the wall clock is put forward for that

PHASES = {"rom": "rom", "ipxe": "loader", "os": "system"}  # a client's words -> the ledger's
STEPS = {"DISCOVER": "asked", "OFFER": "offered", "ACK": "answered"}


@dataclass(slots=True)
class Told:
    """What the service said right after the last boot (status, metrics, hosts, stuck_at_once), and when those that hang
    were stuck.  hosts, stuck: of `ctl hosts --json` by name."""

    status: dict[str, Any] = field(default_factory=dict)
    metrics: dict[tuple[str, str], float] = field(default_factory=dict)
    hosts: dict[str, dict[str, Any]] = field(default_factory=dict)
    stuck_at_once: set[str] = field(default_factory=set)
    stuck: dict[str, dict[str, Any]] = field(default_factory=dict)
    never: set[str] = field(default_factory=set)
    by_pool: dict[str, dict[str, int]] = field(default_factory=dict)
    by_rack: dict[str, dict[str, int]] = field(default_factory=dict)
    by_relay: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Later:
    """The same ten minutes later, after a clean stop and a start."""

    hosts: dict[str, dict[str, Any]]
    stuck: set[str]


@dataclass(slots=True)
class Storm:
    place: Standing
    boots: list[Boot]
    told: Told

    @property
    def site(self) -> Site:
        return self.place.site

    def stage_of(self, machine: Machine) -> str:
        """In the ledger's words, by what the machine knows of itself."""
        where = self.boots[-1].where[machine.number]
        return "" if where is None else f"{PHASES[where[0]]}-{STEPS[where[1]]}"

    def relay_of(self, machine: Machine) -> str | None:
        row = self.site.link_of(machine)
        return gateway_of(row) if row else None

    def hung(self, *kinds: str) -> set[str]:
        return {machine.name for machine in self.site.machines if machine.hang in (kinds or HANGS)}

    def hosts(self, *filters: str) -> dict[str, dict[str, Any]]:
        """`ctl hosts --json` by name."""
        return {host["name"]: host for host in self.place.service.ctl("hosts", *filters)["hosts"]}


def planned() -> Site:
    rows = even_rows(9_000, KNOWN_ROWS)
    rows += [Row("fresh", 500, first_boot=2), Row("fresh-and-told", 500, first_boot=2, dhcp=ENDS)]
    site = with_hangs(site_of(rows), KNOWN_HANGS, SEED, rows=range(KNOWN_ROWS))
    for row in (FRESH, FRESH_AND_TOLD):
        site = with_hangs(site, FRESH_HANGS, SEED + row, AFTER_AN_ACK, rows=(row,))
    return site


def expected(machine: Machine) -> str:
    """The progress of a machine once every patience but that of a first boot is over."""
    if machine.hang in ("", "off", "disabled"):
        return {"": "done", "off": "never", "disabled": "refused"}[machine.hang]
    return "booting" if machine.row == FRESH_AND_TOLD else "stuck"


def scraped(place: Standing) -> dict[tuple[str, str], float]:
    """(name of a sample, values of its labels) -> value."""
    ask = f"import urllib.request as u; print(u.urlopen('http://{METRICS}/metrics', timeout=60).read().decode())"
    text = place.service.host.run([sys.executable, "-c", ask], timeout=90.0, env=ENVIRONMENT).stdout
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def await_stuck(storm: Storm, wanted: set[str]) -> dict[str, dict[str, Any]]:
    """Each question is a process and paces the loop."""
    deadline = time.monotonic() + STUCK_S
    while True:
        found = storm.hosts("--stuck")
        if found.keys() >= wanted:
            return found
        if time.monotonic() > deadline:
            raise LabError(f"not stuck within {STUCK_S:g} s: {sorted(wanted - found.keys())}")


@pytest.fixture(scope="session")
def later(storm: Storm) -> Later:
    """A clean stop, and a start by a wall clock that is ahead: what the ledger keeps counts on."""
    service = storm.place.service
    assert service.server is not None
    service.server.stop(timeout=30.0)
    skew = Skew(service.host.scratch)
    skew.set(LATER_S)
    service.environment |= skew.environment
    with pinned(storm.place.cores[0]):
        service.serve(storm.site.served)
    service.ctl("refresh", "--wait")
    return Later(storm.hosts(), set(storm.hosts("--stuck")))


def ask_all(storm: Storm) -> None:
    service, told = storm.place.service, storm.told
    told.status, told.metrics, told.hosts = service.ctl("status"), scraped(storm.place), storm.hosts()
    told.stuck_at_once = set(storm.hosts("--stuck"))
    stuck = {machine.name for machine in storm.site.machines if expected(machine) == "stuck"}
    told.stuck = await_stuck(storm, stuck)
    told.never = set(storm.hosts("--never-seen"))
    told.by_pool, told.by_rack, told.by_relay = (
        service.ctl("hosts", "--by", kind)["of"] for kind in ("pool", "rack", "relay")
    )


@pytest.fixture(scope="session")
def storm() -> Iterator[Storm]:
    if reason := Lab.available():
        pytest.skip(reason)
    pace: Pace = usual_pace()
    with standing(planned(), metrics={"bind": METRICS}) as place:
        boots = [
            boot(place.site, place.parts, pace, core=place.cores[1], seed=SEED, number=number, last=number == 2)
            for number in (1, 2)
        ]
        found = Storm(place, boots, Told())
        ask_all(found)
        yield found
