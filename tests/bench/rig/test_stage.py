"""The generator against our own server in a laboratory: behind relays and on the segment itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from click.testing import CliRunner

from bench.__main__ import main
from bench.engine.target import Target
from bench.lab.lab import Lab
from bench.rig import load
from bench.rig.stage import SERVER, Stage, invented, own_site

HOSTS, RELAYS = 30, 3

pytestmark = [
    pytest.mark.netns,
    pytest.mark.alone,
    pytest.mark.skipif(Lab.available() is not None, reason=str(Lab.available())),
]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with own_site(invented(HOSTS), RELAYS) as running:
        yield running


def test_behind_relays_every_request_is_answered_rightly(stage: Stage) -> None:
    result = load.start(stage.target, invented(HOSTS, RELAYS), 2000.0, 600).wait()
    assert result.answered == result.offered == 600
    assert result.good and result.stray == 0, result.lines()


def test_on_the_segment_every_request_is_answered_rightly(stage: Stage) -> None:
    target = Target(SERVER, ifname="cl", host=stage.client)
    result = load.start(target, invented(HOSTS), 2000.0, 600).wait()
    assert result.answered == result.offered == 600
    assert result.good and result.stray == 0, result.lines()


def test_strangers_get_nothing(stage: Stage) -> None:
    people = invented(HOSTS + 2)
    known = replace(people, addresses=[0] * len(people.macs))
    result = load.start(stage.target, known, 2000.0, HOSTS + 2, tail_s=4.0).wait()
    assert (result.answered, result.lost, result.wrong) == (HOSTS, 2, 0)


def test_the_library_call(stage: Stage) -> None:
    people = invented(HOSTS)
    result = load.run(
        SERVER, people.macs, 1000, 0.3, giaddr=stage.target.giaddrs, addresses=people.addresses, host=stage.client
    )
    assert result.answered == result.offered == 300


def test_a_capture_that_has_nothing_of_ours_in_it_is_traffic() -> None:
    """Another client's requests to another server, by its own 200 machines, who are not in our numbering."""
    capture = "tests/data/pcaps/perfdhcp-200.pcap"
    command = ["load", "--pcap", capture, "--rate", "400", "--seconds", "1"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "with 200 hosts" in done.output
    assert "answered 400, lost 0, wrong 0, duplicate 0, stray 0" in done.output
