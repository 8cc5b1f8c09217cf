"""Twelve emulated machines with real firmware boot twice, and at the second boot two of them hang: `ctl hosts` names
these two, with stage and reason.

A ROM that finds no boot file tries its next boot option, as real ones do; the machine that is to hang is frozen then.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from bench.lab.client import Unsupported, deaf
from bench.lab.emulated import BIOS_IPXE, UEFI_PXE, Machine
from bench.lab.lab import Lab, LabError
from tests.netns.clients.boot import BESIDE_S, BOOT_S, POOL, BootServers, machine
from tests.netns.clients.scene import Site, standing
from tests.netns.clients.servers import Known

pytestmark = [pytest.mark.netns, pytest.mark.long, pytest.mark.timeout(3600)]

BY_BIOS = [machine(40 + number, f"bios{number}") for number in range(8)]
BY_UEFI = [machine(50 + number, f"uefi{number}") for number in range(3)]
GONE = "gone.efi"
FILELESS = machine(53, "fileless", tftp_filename__uefi_x64=GONE)
DEAF = BY_BIOS[5]
MACHINES = [*BY_BIOS, *BY_UEFI, FILELESS]
PATIENCE_S = 60  # of the ledger
ENDS = {key: value for key, value in POOL.items() if "http" not in key} | {"boot_ends": "ipxe"}


@dataclass(frozen=True, slots=True)
class Twelve:
    site: Site
    servers: BootServers

    def on(self, power: ExitStack, known: Known) -> Machine:
        firmware = BIOS_IPXE if known in BY_BIOS else UEFI_PXE
        return power.enter_context(Machine(self.site.near, known.mac, firmware))

    def hosts(self, *filters: str) -> dict[str, dict[str, Any]]:
        return {host["name"]: host for host in self.servers.site.ctl("hosts", *filters)["hosts"]}


@pytest.fixture(scope="module")
def twelve() -> Iterator[Twelve]:
    if reason := Lab.available():
        pytest.skip(reason)
    servers = BootServers(MACHINES, ENDS)
    try:
        with standing(servers) as site:
            servers.files.needs("snponly.efi")
            (servers.files.folder / GONE).write_bytes((servers.files.folder / "snponly.efi").read_bytes())
            yield Twelve(site, servers)
    except Unsupported as lost:
        pytest.skip(str(lost))


def await_ends(running: Sequence[Machine]) -> None:
    until = time.monotonic() + BOOT_S + BESIDE_S * len(running)
    for each in running:
        each.ends(until - time.monotonic())


def boot_all(twelve: Twelve) -> None:
    with ExitStack() as power:
        await_ends([twelve.on(power, known) for known in MACHINES])


def boot_and_hang(twelve: Twelve, power: ExitStack) -> None:
    """All that boot have booted, and the two hang with their power on."""
    files = twelve.servers.files
    (files.folder / GONE).unlink()
    since = files.mark()
    hanging = twelve.on(power, DEAF)
    power.enter_context(deaf(twelve.site.near.switch, hanging.tap))
    fileless = twelve.on(power, FILELESS)
    running = [twelve.on(power, known) for known in MACHINES if known not in (DEAF, FILELESS)]
    files.await_missing(GONE, since, BOOT_S)
    fileless.freeze()
    await_ends(running)


def await_stuck(twelve: Twelve, limit_s: float) -> dict[str, dict[str, Any]]:
    """Until as many hang as are to; each question is a process and paces the loop."""
    deadline = time.monotonic() + limit_s
    while len(found := twelve.hosts("--stuck")) < 2:
        if time.monotonic() > deadline:
            raise LabError(f"stuck after {limit_s:g} s: {found}; all: {twelve.hosts()}")
    return found


def test_two_of_twelve_hang(twelve: Twelve) -> None:
    boot_all(twelve)
    first = twelve.hosts()
    assert {(host["stage"], host["progress"]) for host in first.values()} == {("loader-answered", "done")}
    took_s = first[FILELESS.name]["took_s"][0]
    assert took_s > 0 and {host["boots"] for host in first.values()} == {1}
    with ExitStack() as power:
        boot_and_hang(twelve, power)
        stuck = await_stuck(twelve, 2 * PATIENCE_S + took_s)
    assert {name: host["stage"] for name, host in stuck.items()} == {
        DEAF.name: "loader-offered",
        FILELESS.name: "rom-answered",
    }
    assert stuck[DEAF.name]["reason"].startswith("iPXE was offered its address and does not take it")
    assert stuck[FILELESS.name]["reason"] == (
        f"its ROM has its address, and what it boots has not asked yet; the boots before took {took_s} s"
    )
    well = {name: host for name, host in twelve.hosts().items() if name not in stuck}
    assert {(host["stage"], host["progress"]) for host in well.values()} == {("loader-answered", "done")}
    # A ROM that is iPXE says so from its first word on: whether it boots again or loaded another iPXE, nobody can tell.
    assert {well[known.name]["boots"] for known in BY_UEFI} == {2}
    assert len(well) == 10 and twelve.hosts("--never-seen") == {}
