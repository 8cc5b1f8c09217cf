"""The same machines in Kea and here, the same questions to both: every field that differs is a named difference."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import pytest

from bench.lab.lab import Host, Lab, which
from bench.lab.site import running_site
from tests.ext.exchanges import FAR, NEAR, PERF, WIRES
from tests.ext.packets import DECLINE, RELEASE, REQUEST
from tests.netns.asker import Asker, Heard, described
from tests.netns.kea.differences import DIFFERENCES, Case, Difference, explained, told
from tests.netns.kea.questions import Question, captured, generated
from tests.netns.kea.site import SENTINEL, configuration, serving, site

pytestmark = pytest.mark.netns

RELAYS = {NEAR: "10.88.0.2/24", FAR: "10.77.0.1/24", PERF: "10.96.255.2/16"}  # ours on each wire, as in the captures
SHOWN = 60


def wired(lab: Lab, name: str) -> tuple[Host, Host]:
    """A server and the asker's end of its wires."""
    server, client = lab.host(name), lab.host(f"{name}-asker")
    for wire in WIRES:
        ends = {"a_addr": f"{wire.address}/{wire.prefix}", "b_addr": RELAYS[wire]}
        lab.wire(server, client, a_if=wire.ifname, b_if=wire.ifname, **ends)
    server.route("default", "10.88.0.2")
    return server, client


def answer(asker: Asker, question: Question) -> Heard | None:
    """One reply, or none."""
    found = asker.ask(question.ifname, question.payload, question.source, question.source_port, question.destination)
    assert len(found) <= 1, f"{question.name}: {[described(each) for each in found]}"
    return found[0] if found else None


@pytest.fixture(scope="module")
def cases() -> Iterator[list[Case]]:
    """Everything is asked once; the tests look at what was said."""
    if reason := Lab.available():
        pytest.skip(reason)
    if which("kea-dhcp4") is None:
        pytest.skip("kea-dhcp4 is not installed (Debian package kea-dhcp4-server)")
    names = tuple(wire.ifname for wire in WIRES)
    with Lab() as lab:
        (ours, ours_asker), (kea, kea_asker) = wired(lab, "ours"), wired(lab, "kea")
        text, log = json.dumps(site()), kea.scratch / "kea.log"
        with (
            serving(kea, configuration(log), log),
            running_site(ours, text, len(site()["hosts"]), 1),
            Asker(ours_asker, ours, names, SENTINEL, NEAR.ifname) as one,
            Asker(kea_asker, kea, names, SENTINEL, NEAR.ifname) as other,
        ):
            yield list(asked(one, other))


def asked(one: Asker, other: Asker) -> Iterator[Case]:
    gone: dict[int, set[bytes]] = {DECLINE: set(), RELEASE: set()}
    for question in (*generated(), *captured()):
        ours, kea = (
            told(question, answer(asker, question), [way.mac for way in asker.ways.values()]) for asker in (one, other)
        )
        yield Case(question, ours, kea, frozenset(gone[DECLINE]), frozenset(gone[RELEASE]))
        machine, kind = question.payload[28:34], question.asked.kind
        if kind in gone:
            gone[kind].add(machine)
        elif kind == REQUEST and kea["kind"] == "ACK":
            gone[RELEASE].discard(machine)


def test_every_difference_is_deliberate(cases: list[Case]) -> None:
    found = [
        f"{case.question.name}: {name}: ours {case.ours.get(name)!r}, Kea's {case.kea.get(name)!r}"
        for case in cases
        for name in case.differing()
        if explained(case, name) is None
    ]
    assert not found, f"{len(found)} differences without a name:\n" + "\n".join(found[:SHOWN])


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda each: each.name)
def test_every_named_difference_is_there(cases: list[Case], difference: Difference) -> None:
    """One that nothing shows any more is to be taken off the list."""
    assert any(explained(case, name) is difference for case in cases for name in case.differing())


def test_the_questions_cover_what_they_should(cases: list[Case]) -> None:
    """Most are answered alike but for the listed differences, by both, and in every kind."""
    kinds = Counter((str(case.ours["kind"]), str(case.kea["kind"])) for case in cases)
    named = Counter(
        (each.name, name) for case in cases for name in case.differing() if (each := explained(case, name)) is not None
    )
    print(f"\n{len(cases)} questions; ours and Kea's answer, how often: {dict(kinds.most_common())}")
    print("\n".join(f"{count:5} {difference}: {name}" for (difference, name), count in sorted(named.items())))
    assert len(cases) >= 500
    for kind in ("OFFER", "ACK", "NAK", "silence"):
        assert kinds[kind, kind] >= 10, kinds
