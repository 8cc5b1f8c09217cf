"""bench.storm: machines boot through their stages with real timers, and every retransmission is somebody's."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from bench.engine.storms import STEPS

from bench.engine.firmware import IPXE, OS, ROM, Firmware
from bench.engine.target import Target, population
from bench.storm.running import NOWHERE, Outcome, Running, Scene, _without_own, starts
from tests.bench.responders import FIRST_ADDRESS, FIRST_MAC, Asked, Behaviour, responder, right

HOSTS = 20
OFF = -1
PATIENT = (5.0, 5.0)  # longer than a starved machine stands still
QUICK_ROM = replace(ROM, discover_s=PATIENT, request_s=PATIENT, collect_s=0.1)
QUICK_OS = replace(OS, discover_s=PATIENT, request_s=PATIENT, wait_s=(0.01, 0.05))


def storm(
    behaviour: Behaviour,
    *stages: Firmware,
    bmc: bool = False,
    spread_s: float = 0.0,
    ends: dict[int, int] | None = None,
) -> Outcome:
    """ends: host -> where it hangs, OFF: it has no power."""
    people = population(range(FIRST_MAC, FIRST_MAC + HOSTS), range(FIRST_ADDRESS, FIRST_ADDRESS + HOSTS))
    ends = ends or {}
    power = [-1.0 if ends.get(i) == OFF else at for i, at in enumerate(starts(HOSTS, spread_s, 1, 0.0, 1))]
    octets = bytes(NOWHERE if ends.get(i, OFF) == OFF else ends[i] for i in range(HOSTS))
    scene = Scene(stages, bmc, power, ends=octets if ends else b"")
    with responder(behaviour) as port:
        target = Target("127.0.0.1", ("127.0.0.1",), port=port, own_port=0)
        return Running(target, people, scene, core=None, seed=3).wait()


def reached(outcome: Outcome, step: str) -> int:
    return outcome.funnel[step][-1][1] if outcome.funnel[step] else 0


def test_every_machine_goes_through_every_stage() -> None:
    asked: Counter[int] = Counter()

    def counting(request: Asked) -> list[tuple[float, bytes]]:
        asked[request.options[53][0]] += 1
        return right(request)

    outcome = storm(counting, QUICK_ROM, QUICK_OS)
    assert outcome.all_right and outcome.tally["up"] == HOSTS
    assert asked == {1: 2 * HOSTS, 3: 2 * HOSTS}  # nobody asked twice
    assert [reached(outcome, f"{stage} {step}") for stage in ("rom", "os") for step in ("DISCOVER", "ACK")] == [20] * 4
    assert sum(outcome.retransmissions(whose) for whose in ("ours", "client", "generator", "machine")) == 0
    assert outcome.histograms["boot"].percentile(1) >= 0.1  # the ROM collects offers
    assert f"retransmissions of ours: {outcome.ours}" in outcome.lines()


def test_cards_boot_beside_their_machines() -> None:
    outcome = storm(right, QUICK_OS, bmc=True)
    assert outcome.tally["up"] == HOSTS
    assert (reached(outcome, "os ACK"), reached(outcome, "bmc ACK")) == (HOSTS // 2, HOSTS // 2)


def test_a_lost_request_is_asked_again_and_is_the_server_s() -> None:
    """The timers are as long as a starved machine's stalls are not, so nobody else is to blame."""
    seen: set[int] = set()

    def first_lost(asked: Asked) -> list[tuple[float, bytes]]:
        if asked.host < 3 and asked.host not in seen:
            seen.add(asked.host)
            return []
        return right(asked)

    outcome = storm(first_lost, replace(QUICK_OS, discover_s=(1.5, 5.0)))
    assert outcome.tally["up"] == HOSTS
    assert sum(outcome.blamed["os"].values()) >= 3
    assert outcome.ours + outcome.retransmissions("machine") >= 3
    assert outcome.tally["wasted"] == outcome.tally["duplicate"] == 0


def test_who_gets_no_answer_stays_dark_and_is_named() -> None:
    hasty = replace(QUICK_OS, discover_s=(0.2, 0.2), request_s=(5.0,))
    outcome = storm(lambda asked: [] if asked.host == 7 else right(asked), hasty)
    assert "02:00:00:00:00:07 (os)" in outcome.dark
    assert outcome.tally["up"] + outcome.tally["dark"] == HOSTS and not outcome.all_right
    assert sum(outcome.blamed["os"].values()) >= 1


def test_ipxe_s_second_discover_is_its_own_habit() -> None:
    # Between the habit and the REQUEST lies more time than a starved machine stands still.
    ipxe = replace(IPXE, discover_s=(0.3, 2.0, 5.0), request_s=(5.0,), collect_s=2.2)
    outcome = storm(right, ipxe)
    assert outcome.tally["up"] == HOSTS
    assert outcome.retransmissions("client") == outcome.tally["wasted"] == HOSTS
    assert outcome.tally["duplicate"] == 0


def test_double_replies_are_not_wasted_but_double() -> None:
    slow = replace(QUICK_OS, wait_s=(1.0, 1.2))  # both ACKs of the first stage are there before the second begins
    outcome = storm(lambda asked: right(asked) * 2, replace(QUICK_OS, name="first"), slow)
    assert outcome.tally["duplicate"] == 4 * HOSTS and outcome.tally["wasted"] == 0
    assert not outcome.all_right


def test_wrong_replies_are_wrong() -> None:
    once: set[int] = set()

    def neighbour(asked: Asked) -> list[tuple[float, bytes]]:
        if asked.host == 4 and 4 not in once:
            once.add(4)
            return [(0.0, asked.reply(address=FIRST_ADDRESS + 5)), *right(asked)]
        return right(asked)

    outcome = storm(neighbour, QUICK_OS)
    assert (outcome.tally["wrong"], outcome.faults) == (1, {"address": 1})
    assert outcome.examples[0].startswith("wrong address: asked by 02:00:00:00:00:04")


def at(stage: int, step: str) -> int:
    return stage * len(STEPS) + STEPS.index(step)


def test_who_hangs_goes_no_further_and_asks_on_as_its_firmware_does() -> None:
    impatient = replace(QUICK_ROM, discover_s=(0.3, 0.3, 5.0), collect_s=1.0)
    ends = {2: at(0, "OFFER"), 5: at(0, "ACK"), 6: at(1, "OFFER"), 9: OFF, 11: at(1, "ACK")}
    outcome = storm(right, impatient, QUICK_OS, ends=ends)
    places = {i: outcome.where[i] for i in ends}
    assert places == {2: ("rom", "OFFER"), 5: ("rom", "ACK"), 6: ("os", "OFFER"), 9: None, 11: ("os", "ACK")}
    assert {place for i, place in enumerate(outcome.where) if i not in ends} == {("os", "ACK")}
    assert (outcome.tally["up"], outcome.tally["hung"], outcome.tally["dark"]) == (HOSTS - 5, 5, 0)
    assert outcome.all_right and outcome.dark == []
    assert outcome.asked[2] == (3, 3) and outcome.asked[9] == (0, 0)
    rom, system = outcome.datagrams["rom"], outcome.datagrams["os"]
    assert rom["DISCOVER"] == rom["OFFER"] >= HOSTS - 1 + 2, "a starved machine has others repeat theirs, too"
    assert (rom["REQUEST"], rom["ACK"]) == (HOSTS - 2, HOSTS - 2)
    assert system == {"DISCOVER": HOSTS - 3, "OFFER": HOSTS - 3, "REQUEST": HOSTS - 4, "ACK": HOSTS - 4}
    asked, heard = (sum(each[i] for each in outcome.asked) for i in (0, 1))
    assert asked == outcome.tally["sent"] == sum(rom.values()) + sum(system.values()) - heard


def test_a_host_without_an_answer_to_get_has_none_and_one_is_wrong() -> None:
    silent = {3, 4}
    outcome = storm(lambda asked: [] if asked.host == 3 else right(asked), QUICK_OS, ends=dict.fromkeys(silent, 0))
    assert [outcome.where[i] for i in (3, 4)] == [("os", "DISCOVER")] * 2
    assert (outcome.tally["hung"], outcome.tally["wrong"], outcome.faults) == (2, 1, {"unexpected": 1})
    assert not outcome.all_right and outcome.asked[3] == (1, 0)


@pytest.mark.parametrize("end", [at(0, "REQUEST"), at(1, "ACK")])
def test_a_host_hangs_at_a_step_that_there_is(end: int) -> None:
    with pytest.raises(ValueError, match=f"host 1 ends at {end}"):
        storm(right, QUICK_OS, ends={1: end})


def test_own_drops_are_not_the_server_s() -> None:
    stage = {"ours": 3, "client": 0, "generator": 0, "machine": 0}
    assert _without_own({"rom": stage, "os": stage}, 4) == {
        "rom": stage | {"ours": 0, "generator": 3},
        "os": stage | {"ours": 2, "generator": 1},
    }


def test_racks_follow_each_other() -> None:
    assert starts(4, 0.0, 2, 1.5, 1) == [0.0, 1.5, 0.0, 1.5]
    assert all(0 <= at <= 2 for at in starts(100, 2.0, 1, 0.0, 1)) and len(set(starts(100, 2.0, 1, 0.0, 1))) == 100


@pytest.mark.parametrize("count", [0, 9])
def test_a_firmware_needs_timers(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} and 2 timers"):
        storm(right, replace(QUICK_OS, discover_s=(1.0,) * count))
