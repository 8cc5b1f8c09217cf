"""ext/ledger.pxd, ledger.pyx, roll.pyx: what a machine's requests make of its entry, and rows looked for beside it."""

from __future__ import annotations

import os
import struct
from typing import Any

import pytest
from ext.builder import Builder, Surroundings
from ext.classify import ClientClass
from ext.ledger import Ledger, create_ledger, is_ledger
from ext.roll import IN_DOUBT_BIT, PROGRESS, Roll
from ext.rows import Numbers
from ext.table import STATES, Generation, Pair
from ext.verdict import Verdict

ALL = (1 << 16) - 1
START_S = 1_700_000_000
ROM, LOADER, SYSTEM = int(ClientClass.UEFI_X64), int(ClientClass.IPXE_HTTP), int(ClientClass.OS)
DISCOVER, REQUEST, DECLINE, RELEASE = 1, 3, 4, 7
STATE = {name: number for number, name in enumerate(STATES)}


def sealed(builder: Builder, number: int, numbers: Numbers | None) -> Generation:
    fd = builder.seal(number, Surroundings(), created_s=1, numbers=numbers)
    try:
        return Generation(fd)
    finally:
        os.close(fd)


def filled(builder: Builder, rows: Any) -> Builder:
    """rows: (MAC or key, name, state, address)."""
    template, boots = builder.add_template(), builder.add_template(flags=4)
    for key, name, state, address in rows:
        leases = [(address, 24, template)] if state == "served" else []
        leases = [(0, 32, boots)] if state == "proxied" else leases
        builder.add_host(key, state=STATE[state], name=name, leases=leases)
    return builder


def paired(base_rows: Any, delta_rows: Any = None, gone: Any = ()) -> Pair:
    base = sealed(filled(Builder(), base_rows), 1, Numbers([]))
    if delta_rows is None:
        return Pair(base)
    builder = filled(Builder(base), delta_rows)
    for key in gone:
        builder.add_tombstone(key)
    return Pair(base, sealed(builder, 2, Numbers([base], base)))


def new_ledger() -> Ledger:
    fd = create_ledger()
    try:
        return Ledger(fd)
    finally:
        os.close(fd)


class Machine:
    """Its requests, one after the other, each with a transaction of its own unless it repeats the last."""

    def __init__(self, ledger: Ledger, pair: Pair, mac: int = 1) -> None:
        self.ledger, self.pair, self.mac = ledger, pair, mac
        self.xid, self.now_s = 1, START_S

    def say(
        self, client: int, verdict: Verdict, after_s: int = 1, message: int = DISCOVER, again: bool = False
    ) -> None:
        self.xid += not again
        self.now_s += after_s
        self.ledger.note(self.pair, self.mac, 0, int(verdict), client, self.xid, self.now_s, message)

    def boot(self, client: int, after_s: int = 5) -> None:
        self.say(client, Verdict.OFFERED, after_s)
        self.say(client, Verdict.ACKED, 1, REQUEST, again=True)

    def row(self, later_s: int = 0) -> dict[str, Any]:
        roll = Roll(self.pair, self.ledger)
        now_s = self.now_s + later_s
        _more, places = roll.look(0, 1 << 24, now_s, ALL, ALL)
        (found,) = [row for row in (roll.row(place, now_s) for place in places) if row["mac"] == self.mac]
        return found


ONE = [(1, b"a", "served", 7)]


def test_a_machine_goes_from_stage_to_stage(ledger: Ledger) -> None:
    machine = Machine(ledger, paired(ONE))
    assert (machine.row()["stage"], machine.row()["progress"], machine.row()["last_s"]) == ("", "never", None)
    seen = []
    for client in (ROM, LOADER, SYSTEM):
        machine.say(client, Verdict.OFFERED)
        seen.append(machine.row()["stage"])
        machine.say(client, Verdict.ACKED, message=REQUEST, again=True)
        seen.append(machine.row()["stage"])
    assert seen == [
        "rom-offered",
        "rom-answered",
        "loader-offered",
        "loader-answered",
        "system-offered",
        "system-answered",
    ]
    row = machine.row()
    assert (row["requests"], row["silent"], row["boots"], row["class"]) == (6, 0, 1, "OS")
    assert row["last_s"] - row["first_s"] == 5 and row["progress"] == "done"


def test_who_asks_again_is_where_he_was(ledger: Ledger) -> None:
    machine = Machine(ledger, paired(ONE))
    machine.say(ROM, Verdict.OFFERED)
    since = machine.row()["stage_s"]
    for _ in range(3):
        machine.say(ROM, Verdict.OFFERED, 4)
    row = machine.row()
    assert (row["stage"], row["stage_s"], row["boots"], row["requests"]) == ("rom-offered", since, 1, 4)
    machine.say(ROM, Verdict.ACKED, message=REQUEST)
    machine.say(ROM, Verdict.ACKED, message=REQUEST, again=True)
    machine.say(ROM, Verdict.OFFERED, again=True)
    assert (machine.row()["stage"], machine.row()["boots"]) == ("rom-answered", 1), "a late copy of its DISCOVER"


def test_a_boot_begins_with_an_earlier_phase_and_remembers_how_far_the_last_one_came(ledger: Ledger) -> None:
    machine = Machine(ledger, paired(ONE))
    for client in (ROM, LOADER, SYSTEM):
        machine.boot(client, 20)
    machine.boot(ROM, 600)
    row = machine.row()
    assert (row["boots"], row["stage"], row["reached"], row["took_s"]) == (
        2,
        "rom-answered",
        "system-answered",
        [20, 20],
    )
    assert row["boot_s"] > row["first_s"]


def test_a_rom_that_has_one_xid_for_ever_boots_again(ledger: Ledger) -> None:
    machine = Machine(ledger, paired(ONE))
    for _day in range(3):
        machine.say(ROM, Verdict.OFFERED, 86_400, again=True)
        machine.say(ROM, Verdict.ACKED, 1, REQUEST, again=True)
        machine.say(ROM, Verdict.OFFERED, 64, again=True)
        assert machine.row()["stage"] == "rom-answered", "a copy that came late is no boot"
    assert (machine.row()["boots"], machine.row()["progress"]) == (3, "done")
    machine.say(ROM, Verdict.OFFERED, 86_400, again=True)
    assert progress(machine, 1, 61) == ["booting", "stuck"], "and it hangs this time"


def test_a_virtual_machine_that_has_one_xid_for_rom_and_ipxe_boots_again_within_seconds(ledger: Ledger) -> None:
    """A BIOS of qemu is up again after 16 s; it hung in its second boot, and nobody saw it."""
    machine = Machine(ledger, paired(ONE))
    for client in (ROM, LOADER):
        machine.say(client, Verdict.OFFERED, 1, again=True)
        machine.say(client, Verdict.ACKED, 1, REQUEST, again=True)
    machine.say(ROM, Verdict.OFFERED, 4, again=True)
    assert (machine.row()["stage"], machine.row()["boots"]) == ("loader-answered", 1), "a copy that came late"
    machine.say(ROM, Verdict.OFFERED, 12, again=True)
    assert (machine.row()["stage"], machine.row()["boots"]) == ("rom-offered", 2)
    assert progress(machine, 1, 61) == ["booting", "stuck"]


def test_renewing_is_no_boot(ledger: Ledger) -> None:
    machine = Machine(ledger, paired(ONE))
    machine.boot(SYSTEM)
    for _ in range(3):
        machine.say(SYSTEM, Verdict.ACKED, 1800, REQUEST)
    assert (machine.row()["boots"], machine.row()["progress"]) == (1, "done")


def test_who_is_offered_and_does_not_take_it_is_stuck_after_its_patience(ledger: Ledger) -> None:
    machine = Machine(ledger, paired(ONE))
    machine.say(ROM, Verdict.OFFERED)
    assert [machine.row(later)["progress"] for later in (0, 60, 61)] == ["booting", "booting", "stuck"]


def test_who_has_no_answer_is_stuck(ledger: Ledger) -> None:
    machine = Machine(ledger, paired(ONE))
    machine.say(ROM, Verdict.IGNORED_OTHER_LINK)
    row = machine.row(100)
    assert (row["progress"], row["stage"], row["verdict"], row["silent"]) == (
        "stuck",
        "rom-asked",
        "IGNORED_OTHER_LINK",
        1,
    )


def test_who_went_further_before_is_stuck_when_it_takes_longer(ledger: Ledger) -> None:
    machine = Machine(ledger, paired(ONE))
    machine.boot(ROM)
    assert machine.row(10_000)["progress"] == "unknown", "perhaps that is all it boots"
    machine.boot(LOADER, 100)
    machine.boot(SYSTEM, 30)
    machine.boot(ROM, 9_999)
    assert [machine.row(later)["progress"] for later in (1, 160, 161)] == ["booting", "booting", "stuck"]
    machine.boot(LOADER, 200)
    assert machine.row()["progress"] == "booting"


def progress(machine: Machine, *later_s: int) -> list[str]:
    return [machine.row(each)["progress"] for each in later_s]


def test_the_first_reboot_since_the_ledger_began_has_its_five_minutes(ledger: Ledger) -> None:
    """Of a machine that ran when the ledger began, the system alone is known: nobody knows how long its ROM takes."""
    machine = Machine(ledger, paired(ONE))
    machine.say(SYSTEM, Verdict.ACKED, message=REQUEST)
    machine.boot(ROM, 3600)
    assert progress(machine, 1, 120, 300, 301) == ["booting", "booting", "booting", "stuck"]


def test_a_boot_that_goes_by_ipxe_for_the_first_time_has_its_five_minutes(ledger: Ledger) -> None:
    machine = Machine(ledger, paired(ONE))
    for client in (ROM, SYSTEM):
        machine.boot(client, 90)
    machine.boot(ROM, 3600)
    machine.boot(LOADER, 20)
    assert progress(machine, 1, 120, 300, 301) == ["booting", "booting", "booting", "stuck"]


def test_where_boot_ends_is_said_the_first_reboot_has_its_five_minutes(ledger: Ledger) -> None:
    """docs/inventory.md: stuck after 5 minutes, also at its first boot."""
    pair = paired(ONE)
    machine = Machine(ledger, pair)
    machine.say(SYSTEM, Verdict.ACKED, message=REQUEST)
    machine.boot(ROM, 3600)
    groups = bytearray(4 * (pair.number_of(1) + 1))
    groups[4 * pair.number_of(1)] = 1
    roll = Roll(pair, ledger, bytes(groups), b"\0\3")
    assert [roll.row(0, machine.now_s + later)["progress"] for later in (1, 120, 301)] == [
        "booting",
        "booting",
        "stuck",
    ]


def test_a_proxied_machine_may_take_as_long_as_it_took_before(ledger: Ledger) -> None:
    """Its ACK is another server's, and is never seen here."""
    machine = Machine(ledger, paired([(1, b"a", "proxied", 0)]))
    for _ in range(3):
        machine.say(ROM, Verdict.OFFERED_PROXY, 3600)
        machine.say(SYSTEM, Verdict.IGNORED_PROXY, 100)
    machine.say(ROM, Verdict.OFFERED_PROXY, 3600)
    assert progress(machine, 1, 90, 301) == ["booting", "booting", "stuck"]


def test_who_gives_its_address_back_is_not_stuck(ledger: Ledger) -> None:
    """systemd-networkd does so when a machine is shut down; the ledger may have begun after its last renewal."""
    machine = Machine(ledger, paired(ONE))
    machine.say(SYSTEM, Verdict.NOTED_RELEASE, message=RELEASE)
    assert progress(machine, 3600) == ["done"]


def test_a_rom_that_declines_is_still_a_rom(ledger: Ledger) -> None:
    """RFC 2131, table 5: a DECLINE and a RELEASE must not have option 60, so that they look like a system's."""
    machine = Machine(ledger, paired(ONE))
    machine.boot(ROM)
    machine.say(SYSTEM, Verdict.NOTED_DECLINE, message=DECLINE)
    row = machine.row()
    assert (row["stage"], row["took_s"]) == ("rom-answered", [0, 0])


def test_who_ended_there_before_is_done(ledger: Ledger) -> None:
    machine = Machine(ledger, paired(ONE))
    for _ in range(2):
        machine.boot(ROM, 4000)
    assert machine.row(10_000)["progress"] == "done"


@pytest.mark.parametrize("every_s", [3, 40, 900])
def test_a_rom_that_asks_again_since_its_boot_file_does_not_load_is_not_done(ledger: Ledger, every_s: int) -> None:
    machine = Machine(ledger, paired(ONE))
    for _ in range(4):
        machine.boot(ROM, every_s)
    assert (machine.row(400)["progress"], machine.row()["boots"]) == ("unknown", 1), "perhaps that is all it boots"
    known = Machine(ledger, paired([(2, b"b", "served", 8)]), 2)
    for client in (ROM, LOADER, SYSTEM):
        known.boot(client, 20)
    for _ in range(2000 // every_s):
        known.boot(ROM, every_s)
    assert (known.row(400)["progress"], known.row()["boots"]) == ("stuck", 2)
    known.boot(LOADER, 30)
    assert known.row()["took_s"][0] <= 60, "from the last time that it asked"


def test_a_machine_of_one_phase_that_boots_again_and_does_not_take_its_address_is_stuck(ledger: Ledger) -> None:
    """A virtual machine whose ROM is iPXE says LOADER from its first word on: no earlier phase tells that it boots."""
    pair = paired(ONE)
    machine = Machine(ledger, pair)
    roll = Roll(pair, ledger, struct.pack("<2I", 0, 1), b"\0\2")

    def told(*later_s: int) -> list[tuple[str, str]]:
        rows = [roll.row(0, machine.now_s + each) for each in later_s]
        return [(row["stage"], row["progress"]) for row in rows]

    machine.boot(LOADER)
    assert told(0) == [("loader-answered", "done")]
    machine.say(LOADER, Verdict.OFFERED, 70)
    began_s = machine.now_s
    machine.say(LOADER, Verdict.OFFERED, 40)
    assert told(0, 20, 21) == [("loader-answered", "done")] * 2 + [("loader-offered", "stuck")], "since the first"
    assert roll.row(0, machine.now_s + 21)["stage_s"] == began_s + ledger.behind_s()
    machine.say(LOADER, Verdict.ACKED, 30, REQUEST, again=True)
    machine.say(LOADER, Verdict.OFFERED, 5, again=True)
    assert told(0, 61) == [("loader-answered", "done")] * 2, "a copy of its DISCOVER that came late"


def test_a_rom_that_asks_again_and_again_is_stuck_at_each_moment(ledger: Ledger) -> None:
    machine = Machine(ledger, paired(ONE))
    for client in (ROM, LOADER, SYSTEM):
        machine.boot(client, 20)
    machine.boot(ROM, 600)
    for _ in range(50):
        machine.say(ROM, Verdict.OFFERED, 3)
        between = machine.row()
        machine.say(ROM, Verdict.ACKED, 1, REQUEST, again=True)
        assert (between["stage"], between["progress"]) == ("rom-answered", machine.row()["progress"])
    assert machine.row()["progress"] == "stuck"


def test_who_is_reset_again_and_again_on_its_way_is_not_done(ledger: Ledger) -> None:
    machine = Machine(ledger, paired(ONE))
    for client in (ROM, LOADER, SYSTEM):
        machine.boot(client, 20)
    for _ in range(6):  # by a watchdog, in iPXE
        machine.boot(ROM, 500)
        machine.boot(LOADER, 20)
    assert (machine.row(200)["progress"], machine.row()["reached"]) == ("stuck", "system-answered")


def test_who_hangs_twice_for_hours_still_has_further_to_go_and_the_third_time_is_believed(ledger: Ledger) -> None:
    machine = Machine(ledger, paired(ONE))
    for client in (ROM, LOADER, SYSTEM):
        machine.boot(client, 20)
    for _ in range(3):
        machine.boot(ROM, 8000)
        assert machine.row(1000)["progress"] == "stuck"
    machine.boot(ROM, 8000)
    assert machine.row(1000)["progress"] == "done", "it boots from its disk now"


def test_a_second_ipxe_that_the_first_one_loaded_is_of_the_same_boot(ledger: Ledger) -> None:
    machine = Machine(ledger, paired(ONE))
    for _ in range(2):
        for client in (ROM, LOADER, LOADER, SYSTEM):
            machine.boot(client, 15)
    assert machine.row()["boots"] == 2
    for client in (ROM, LOADER, LOADER):
        machine.boot(client, 15)
    assert progress(machine, 1, 400) == ["booting", "stuck"]


def test_a_hang_of_days_is_not_what_a_boot_takes(ledger: Ledger) -> None:
    machine = Machine(ledger, paired(ONE))
    for client, after_s in ((ROM, 5), (LOADER, 30), (SYSTEM, 30), (ROM, 9000), (LOADER, 300_000), (SYSTEM, 30)):
        machine.boot(client, after_s)
    assert machine.row()["took_s"] == [30, 30]
    machine.boot(ROM, 9000)
    assert progress(machine, 1, 100) == ["booting", "stuck"]


def test_who_is_refused_after_months_of_service_is_not_stuck_at_once(ledger: Ledger) -> None:
    machine = Machine(ledger, paired(ONE))
    machine.boot(SYSTEM)
    machine.say(SYSTEM, Verdict.NAKED, 90 * 86_400, REQUEST)
    assert progress(machine, 1, 60, 61) == ["booting", "booting", "stuck"]
    machine.say(SYSTEM, Verdict.NAKED, 50, REQUEST)
    assert progress(machine, 1, 11) == ["booting", "stuck"], "since the first of them"
    machine.boot(SYSTEM)
    machine.say(SYSTEM, Verdict.NAKED, 3600, REQUEST)
    assert progress(machine, 60) == ["booting"]


def test_who_takes_another_server_s_offer_goes_on_with_that(ledger: Ledger) -> None:
    """docs/moving.md: while a site switches, two servers answer."""
    machine = Machine(ledger, paired(ONE))
    machine.say(ROM, Verdict.OFFERED)
    machine.say(ROM, Verdict.IGNORED_OTHER_SERVER, message=REQUEST, again=True)
    assert progress(machine, 200) == ["unknown"]
    machine.say(SYSTEM, Verdict.OFFERED, 30)
    machine.say(SYSTEM, Verdict.IGNORED_OTHER_SERVER, message=REQUEST, again=True)
    assert progress(machine, 200) == ["done"]


def test_who_asked_while_its_row_was_disabled_is_not_stuck_once_that_is_enabled(ledger: Ledger) -> None:
    Machine(ledger, paired([(1, b"a", "disabled", 0)])).say(ROM, Verdict.IGNORED_DISABLED)
    machine = Machine(ledger, paired(ONE))
    assert progress(machine, 1, 10_000) == ["unknown", "unknown"]
    machine.say(ROM, Verdict.OFFERED, 20)
    assert progress(machine, 1, 61) == ["booting", "stuck"]


def test_a_clock_that_was_set_back_hides_nobody_who_hangs(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = paired(ONE)
    ledger.note(pair, 1, 0, int(Verdict.OFFERED), ROM, 1, ledger.now_s() + 86_400)
    content = ledger.saved()
    again = new_ledger()
    assert again.load(content) == 1
    roll = Roll(pair, again)
    assert [roll.row(0, again.now_s() + later)["progress"] for later in (0, 61)] == ["booting", "stuck"]


@pytest.mark.parametrize(
    "verdict, patience_s", [(Verdict.OFFERED, 60), (Verdict.IGNORED_CONFLICT, 60), (Verdict.ACKED, 300)]
)
def test_nobody_is_late_by_the_hours_in_which_the_service_was_down(
    ledger: Ledger, verdict: Verdict, patience_s: int
) -> None:
    pair = paired(ONE)
    ledger.note(pair, 1, 0, int(verdict), ROM, 1, ledger.now_s() - 5 * 3600)
    again = new_ledger()
    assert again.load(ledger.saved()) == 1
    roll = Roll(pair, again, struct.pack("<2I", 0, 1), b"\0\3")
    told = [roll.row(0, again.now_s() + later)["progress"] for later in (0, patience_s - 1, patience_s + 2)]
    assert told == ["booting", "booting", "stuck"]


def test_a_proxied_machine_needs_no_ack_of_ours(ledger: Ledger) -> None:
    machine = Machine(ledger, paired([(1, b"a", "proxied", 0)]))
    machine.say(ROM, Verdict.OFFERED_PROXY)
    assert machine.row(1000)["progress"] == "unknown"
    machine.say(SYSTEM, Verdict.IGNORED_PROXY)
    assert machine.row(1000)["progress"] == "done", "its system asks the other server"


@pytest.mark.parametrize("state, progress", [("disabled", "refused"), ("no-address", "stuck"), ("conflict", "stuck")])
def test_rows_that_are_not_answered(ledger: Ledger, state: str, progress: str) -> None:
    machine = Machine(ledger, paired([(1, b"a", state, 0)]))
    assert machine.row()["progress"] == "never"
    machine.say(ROM, Verdict.IGNORED_DISABLED)
    assert machine.row()["progress"] == progress


def test_a_row_that_gets_another_s_number_begins_anew(ledger: Ledger) -> None:
    """The number is that of a row of before, which no kept generation has any more."""
    Machine(ledger, paired(ONE)).boot(ROM)
    other = Machine(ledger, paired([(2, b"b", "served", 8)]), 2)
    assert other.row()["progress"] == "never"
    other.say(ROM, Verdict.OFFERED)
    assert (other.row()["requests"], other.row()["boots"]) == (1, 1)


def test_an_entry_outlives_generations(ledger: Ledger) -> None:
    base = [(n, b"h%d" % n, "served", n) for n in range(1, 6)]
    first = paired(base)
    Machine(ledger, first, 4).boot(ROM)
    delta = Pair(
        first.base,
        sealed(filled(Builder(first.base), [(4, b"h4", "served", 44)]), 2, Numbers([first.base], first.base)),
    )
    assert Machine(ledger, delta, 4).row()["stage"] == "rom-answered"


def test_rows_are_looked_for(ledger: Ledger) -> None:
    pair = paired([(n, b"h%d" % n, "served", n) for n in range(1, 6)], [(6, b"h6", "conflict", 0)], gone=[5])
    ledger.note(pair, 2, 0, int(Verdict.OFFERED), ROM, 1, START_S, DISCOVER, 0x0A000001)
    roll = Roll(pair, ledger)

    def found(states: int = ALL, progress: int = ALL, *more: Any) -> list[int]:
        on, places = roll.look(0, 100, START_S, states, progress, *more)
        assert on == 0, "there is no more"
        return [roll.row(place, START_S)["mac"] for place in places]

    assert found() == [1, 2, 3, 4, 6]
    assert found(1 << STATE["conflict"]) == [6]
    assert found(ALL, 1 << PROGRESS.index("booting")) == [2]
    assert found(ALL, ALL, 0x0A000001) == [2] and found(ALL, ALL, 0x0A000002) == []
    assert found(ALL, ALL, None, 3, 4) == [3, 4]
    on, some = roll.look(0, 3, START_S, ALL, ALL)
    assert [roll.row(at, START_S)["mac"] for at in some] == [1, 2] and roll.name(some[0]) == b"h1"
    assert on == roll.at(2) == 3 and roll.look(on, 100, START_S, ALL, ALL)[1][0] == 2, "the next page begins there"


@pytest.mark.parametrize("at_once", [1, 2, 3, 100])
def test_rows_without_numbers_are_looked_for_too(ledger: Ledger, at_once: int) -> None:
    """Of a table that an older build made: all its rows have number 0."""
    base = sealed(filled(Builder(), [(n, b"h%d" % n, "served", n) for n in range(1, 6)]), 1, None)
    delta = sealed(
        filled(Builder(base), [(9, b"h9", "served", 9), (3, b"h3", "conflict", 0)]), 2, Numbers([base], base)
    )
    roll = Roll(Pair(base, delta), ledger)
    begin, found = -1, []
    while begin:
        begin, places = roll.look(max(begin, 0), at_once, START_S, ALL, ALL)
        found += [roll.row(place, START_S)["mac"] for place in places]
    assert sorted(found) == [1, 2, 3, 4, 5, 9] and len(found) == 6


def test_rows_in_doubt_are_looked_for_beside_the_states(ledger: Ledger) -> None:
    pair = paired([(n, b"h%d" % n, "served", n) for n in range(1, 5)] + [(5, b"h5", "conflict", 0)])
    doubtful = bytearray(4 * 10)
    doubtful[4 * pair.number_of(3, 0)] = 1
    roll = Roll(pair, ledger, doubtful=bytes(doubtful))

    def found(states: int) -> list[int]:
        return [roll.row(place, START_S)["mac"] for place in roll.look(0, 100, START_S, states, ALL)[1]]

    assert found(IN_DOUBT_BIT) == [3] and found(IN_DOUBT_BIT | 1 << STATE["conflict"]) == [3, 5]
    assert [place for place in range(5) if roll.row(place, START_S)["in_doubt"]] == [2]
    assert Roll(pair, ledger).look(0, 100, START_S, IN_DOUBT_BIT, ALL)[1] == []


# --- over a restart ---------------------------------------------------------------------------------------------------


def test_what_is_saved_is_known_again(ledger: Ledger) -> None:
    pair = paired([(n, b"h%d" % n, "served", n) for n in range(1, 200)])
    for mac in (1, 77, 199):
        Machine(ledger, pair, mac).boot(ROM)
    again = new_ledger()
    assert not again.is_loaded and again.load(ledger.saved()) == 3 and again.is_loaded
    assert again.since_s == ledger.since_s
    for mac in (1, 77, 199):
        assert abs(Machine(again, pair, mac).row()["stage_s"] - Machine(ledger, pair, mac).row()["stage_s"]) <= 1
        assert Machine(again, pair, mac).row()["stage"] == "rom-answered"
    assert Machine(again, pair, 2).row()["progress"] == "never"


def test_what_a_worker_wrote_meanwhile_is_younger(ledger: Ledger) -> None:
    pair = paired(ONE)
    Machine(ledger, pair).boot(ROM)
    again = new_ledger()
    Machine(again, pair).boot(SYSTEM)
    assert again.load(ledger.saved()) == 0 and Machine(again, pair).row()["stage"] == "system-answered"


@pytest.mark.parametrize("spoil", ["cut", "changed", "empty", "other", "count"])
def test_a_damaged_file_is_not_believed(ledger: Ledger, spoil: str) -> None:
    pair = paired(ONE)
    Machine(ledger, pair).boot(ROM)
    content = ledger.saved()
    content = {
        "cut": content[:-9], "changed": content[:40] + b"x" + content[41:], "empty": b"", "other": b"x" * 200,
        "count": content[:27] + b"\xff" * 8 + content[35:],
    }[spoil]  # fmt: skip
    again = new_ledger()
    with pytest.raises(ValueError, match="it"):
        again.load(content)
    assert Machine(again, pair).row()["progress"] == "never"


def test_memory_is_taken_where_something_is_written(ledger: Ledger) -> None:
    assert os.fstat(ledger.fd).st_blocks * 512 <= 1 << 16
    assert ledger.extents() == [] or sum(many for _first, many in ledger.extents()) < 1 << 10


def test_a_ledger_of_another_layout_is_told_apart(ledger: Ledger) -> None:
    assert is_ledger(ledger.fd)
    fd = os.memfd_create("other")
    os.write(fd, b"x" * 100)
    assert not is_ledger(fd)
    with pytest.raises(ValueError, match="no boot ledger"):
        Ledger(fd)
    os.close(fd)
