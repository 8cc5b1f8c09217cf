"""When the options of one boot are over, by what the boot ledger shows: never at the ACK itself, but once the machine
has come further, or 120 s after it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from ext.classify import ClientClass
from ext.ledger import Ledger, create_ledger
from ext.verdict import Verdict

from control.mac import show_mac
from control.service.machines.once import AFTER_ACK_S, needed, over, phase_of, snapshot
from control.service.machines.override_book import ONCE, Override
from tests.ext.test_ledger import LOADER, ONE, REQUEST, ROM, SYSTEM, Machine, paired


@pytest.fixture
def machine() -> Iterator[Machine]:
    fd = create_ledger()
    ledger = Ledger(fd)
    os.close(fd)
    yield Machine(ledger, paired(ONE))


def once(machine: Machine, *options: str, until: str = "") -> Override:
    """Made now, by the clock of the machine's requests."""
    said = [list(each.partition("=")[::2]) for each in options or ("tftp_filename=/install.0",)]
    return Override(
        number=1, kind=ONCE, identity=1, role=0, name="a", uid=0, made_s=0.0, options=said, until=until,
        seen={show_mac(machine.mac): snapshot(machine.row())},
    )  # fmt: skip


def clock(machine: Machine) -> int:
    """As the ledger's rows tell times: since 1970, by the clock as it stands; CLOCK_BOOTTIME is the same here."""
    return machine.now_s + machine.ledger.behind_s()


def looked(override: Override, machine: Machine, later_s: float = 0) -> str:
    return over(override, [machine.row()], 0.0, clock(machine) + later_s)


def test_an_ack_alone_ends_nothing_and_a_later_stage_does(machine: Machine) -> None:
    made = once(machine)
    assert not looked(made, machine)
    machine.boot(ROM)
    assert not looked(made, machine) and made.acked_phase == 1
    machine.say(LOADER, Verdict.OFFERED, 20)
    assert not looked(made, machine), "its ACK may still be lost"
    machine.say(LOADER, Verdict.ACKED, 1, REQUEST, again=True)
    assert looked(made, machine) == "iPXE was answered"


def test_without_a_later_stage_it_ends_120_s_after_its_ack(machine: Machine) -> None:
    made = once(machine)
    machine.boot(ROM)
    assert not looked(made, machine, 119) and looked(made, machine, AFTER_ACK_S) == "its ROM was answered 120 s ago"


def test_an_ack_that_was_lost_is_asked_for_again_and_answered_with_the_same(machine: Machine) -> None:
    made = once(machine)
    machine.boot(ROM)
    assert not looked(made, machine)
    machine.say(ROM, Verdict.ACKED, 4, REQUEST, again=True)
    machine.say(ROM, Verdict.ACKED_BOOT, 1, REQUEST)
    assert not looked(made, machine), "port 4011 comes behind the ACK"
    machine.boot(ROM, 30)
    assert not looked(made, machine) and looked(made, machine, 100), "the first ACK counts, or a loop would never end"


def test_a_control_that_looked_at_nothing_for_minutes_finds_it_over(machine: Machine) -> None:
    made = once(machine)
    machine.boot(ROM)
    assert not looked(made, machine)
    for client in (LOADER, SYSTEM, ROM):
        machine.boot(client, 60)
    assert looked(made, machine) == "its ROM was answered 120 s ago", "and the next boot of it is a usual one"


def test_options_of_a_class_wait_for_the_stage_of_that_class(machine: Machine) -> None:
    made = once(machine, "tftp_filename--ipxe=http://x/install.ipxe")
    assert needed(made) == 2
    machine.boot(ROM)
    assert not looked(made, machine, 3_000), "the ROM may load iPXE for as long as it likes"
    machine.boot(LOADER, 300)
    assert not looked(made, machine, 119)
    machine.boot(SYSTEM, 30)
    assert looked(made, machine) == "a system was answered"


def test_until_a_class_is_answered_whatever_comes_before(machine: Machine) -> None:
    made = once(machine, until="os")
    machine.boot(ROM)
    machine.boot(LOADER, 300)
    assert not looked(made, machine, 3_000)
    machine.boot(ROM, 60)
    assert not looked(made, machine, 3_000), "a reset on the way: the next try is the same boot"
    machine.boot(LOADER)
    machine.say(SYSTEM, Verdict.OFFERED, 9)
    assert not looked(made, machine)
    machine.say(SYSTEM, Verdict.ACKED, 1, REQUEST, again=True)
    assert looked(made, machine) == "a system was answered"


def test_a_system_that_runs_and_renews_is_no_boot(machine: Machine) -> None:
    for client in (ROM, LOADER, SYSTEM):
        machine.boot(client)
    made = once(machine)
    machine.say(SYSTEM, Verdict.ACKED, 1800, REQUEST)
    assert not looked(made, machine, 3_000) and not made.acked_phase
    machine.boot(ROM, 100)
    assert not looked(made, machine) and made.acked_phase == 1
    machine.boot(LOADER)
    assert looked(made, machine)


def test_a_machine_that_hangs_in_its_rom_and_is_switched_on_again(machine: Machine) -> None:
    """Of the ledger that is the same boot for an hour."""
    machine.boot(ROM)
    made = once(machine)
    assert not looked(made, machine) and not made.acked_phase, "what was answered before it was made does not count"
    machine.boot(ROM, 60)
    assert not looked(made, machine) and made.acked_phase == 1
    assert looked(made, machine, AFTER_ACK_S)


def test_a_machine_without_a_rom_that_asks_is_over_by_time(machine: Machine) -> None:
    made = once(machine)
    machine.boot(SYSTEM)
    assert not looked(made, machine) and made.acked_phase == 3
    assert looked(made, machine, AFTER_ACK_S) == "a system was answered 120 s ago"


def test_a_stage_that_was_never_looked_at_is_not_missed(machine: Machine) -> None:
    made = once(machine, "tftp_filename--pxe=/install.0")
    for client in (ROM, LOADER, SYSTEM):
        machine.boot(client, 2)
    assert looked(made, machine) == "a system was answered", "all of it between two looks"


def test_a_refusal_or_an_offer_is_no_answer(machine: Machine) -> None:
    made = once(machine)
    machine.say(ROM, Verdict.OFFERED)
    machine.say(ROM, Verdict.NAKED, 1, REQUEST, again=True)
    machine.say(ROM, Verdict.IGNORED_CONFLICT, 1)
    assert not looked(made, machine, 10_000) and not made.acked_phase


def test_all_of_it_within_one_second(machine: Machine) -> None:
    made = once(machine, until="os")
    for client in (ROM, LOADER, SYSTEM):
        machine.say(client, Verdict.OFFERED, 0)
        machine.say(client, Verdict.ACKED, 0, REQUEST, again=True)
    assert looked(made, machine) == "a system was answered", (
        "the ledger counts whole seconds, and nothing depends on them"
    )


def test_a_boot_that_had_begun_and_is_not_looked_at_before_its_end(machine: Machine) -> None:
    """It had asked in its ROM; of the ledger all that follows is that boot."""
    machine.say(ROM, Verdict.OFFERED)
    made = once(machine, until="os")
    for client in (ROM, LOADER, SYSTEM):
        machine.boot(client)
    assert looked(made, machine) == "a system was answered"


def test_a_system_that_is_being_answered_when_it_is_said_is_not_the_next_boot(machine: Machine) -> None:
    for client in (ROM, LOADER):
        machine.boot(client)
    machine.say(SYSTEM, Verdict.OFFERED)
    made = once(machine, until="os")
    machine.say(SYSTEM, Verdict.ACKED, 1, REQUEST, again=True)
    assert not looked(made, machine)
    machine.boot(ROM, 300)
    machine.boot(SYSTEM, 300)
    assert looked(made, machine) == "a system was answered"


def test_a_machine_that_nobody_has_heard(machine: Machine) -> None:
    assert over(once(machine), [], 0.0, 1e9) == "" and not looked(once(machine), machine, 1e6)


@pytest.mark.parametrize(
    ("name", "phase"),
    [("OS", 3), ("ipxe", 2), ("IPXE_HTTP", 2), ("UEFI_X64", 1), ("http-boot", 1), ("pxe", 1), ("gold", 0)],
)
def test_phases_of_classes(name: str, phase: int) -> None:
    assert phase_of(name) == phase


def test_every_class_of_a_request_has_a_phase() -> None:
    assert all(phase_of(each.name) for each in ClientClass)
