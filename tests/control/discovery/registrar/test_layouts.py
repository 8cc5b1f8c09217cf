"""Maps and layouts as texts: what they mean, and what is said of those that are wrong."""

from __future__ import annotations

import pytest

from control.discovery.registrar.layouts import LayoutFault, parse_layout
from control.discovery.registrar.maps import MapFault, parse_map


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("1=7", {1: (7,)}),
        ("1-3=1-3", {1: (1,), 2: (2,), 3: (3,)}),
        ("1-3=40-38", {1: (40,), 2: (39,), 3: (38,)}),
        ("3-1=1-3", {3: (1,), 2: (2,), 1: (3,)}),
        ("1-2=1-4/2", {1: (1, 2), 2: (3, 4)}),
        ("1-2=4-1/2", {1: (3, 4), 2: (1, 2)}),
        ("1=1, 2=5;3=9\n4=2", {1: (1,), 2: (5,), 3: (9,), 4: (2,)}),
    ],
)
def test_maps(text: str, wanted: dict[int, tuple[int, ...]]) -> None:
    assert parse_map(text) == wanted


@pytest.mark.parametrize(
    "text, named, fault",
    [
        ("", {}, "found ''"),
        ("1-20", {}, "found '1-20'"),
        ("a=b", {}, "found 'a=b'"),
        ("1-3=1-2", {}, "found 3 on the left, 2 on the right"),
        ("1-2=1-4/3", {}, "wanted 3 for each"),
        ("1=1/0", {}, "wanted 1 or more"),
        ("1=1,1=2", {}, "1 is on the left twice"),
        ("1=1,2=1", {}, "1 is on the right twice"),
        ("1=1-2/2", {"single": True}, "found 2 for each; wanted 1"),
        ("1-999999=1-999999", {}, "more than 10000"),
        ("١=١", {}, "found"),
    ],
)
def test_maps_that_are_wrong(text: str, named: dict[str, bool], fault: str) -> None:
    with pytest.raises(MapFault, match=fault.replace("(", r"\(")):
        parse_map(text, **named)


def test_a_port_map_may_lead_two_numbers_to_one_port() -> None:
    assert parse_map("1-2=1-2,101-102=1-2", single=True, shared=True)[102] == (2,)


def test_seats() -> None:
    said = {
        "ru_map": "1-10=1-20/2",
        "pwr_map": "1-10=1-10",
        "power": "{rack}-a,{rack}-b",
        "console_map": "1-10=11-20",
        "nic2": "21-30=1-10",
        "switch2": "{rack}-sw2",
        "address": "1-10=101-110",
    }
    layout = parse_layout("r7", said)
    seat = layout.seat("r7-sw1", 3)
    assert (seat.nic, seat.units, seat.console, seat.bindings[0].address) == (1, (5, 6), 13, 103)
    assert layout.strips(seat) == [("r7-a", 3), ("r7-b", 3)]
    assert (layout.seat("r7-sw1", 23).nic, layout.seat("r7-sw1", 23).units) == (2, (5, 6))
    assert (layout.seat("r7-sw2", 3).nic, layout.seat("r7-sw2", 3).first_port) == (2, 3)
    for switch, port, fault in (("r8-sw1", 3, "its layout knows r7-sw1, r7-sw2"), ("r7-sw1", 11, "no switch port 11")):
        with pytest.raises(LayoutFault, match=fault):
            layout.seat(switch, port)


def test_one_strip_with_two_outlets_for_each_server() -> None:
    layout = parse_layout("r1", {"ru_map": "1-2=1-2", "pwr_map": "1-2=1-4/2"})
    assert layout.strips(layout.seat("r1-sw1", 2)) == [("r1-pwr1", 3), ("r1-pwr1", 4)]


@pytest.mark.parametrize(
    "said, fault",
    [
        ({}, "ru_map: missing"),
        ({"ru_map": "1=1", "pwr_mapp": "1=1"}, "pwr_mapp: unknown; did you mean pwr_map"),
        ({"ru_map": "1=1", "switch": "{rck}-sw1"}, r"switch: found \{rck\}; wanted \{rack\}"),
        ({"ru_map": "1-4=1-4", "nic2": "3-4=1-2"}, "port 3 is in ru_map as a first NIC, too"),
        ({"ru_map": "1-4=1-4", "nic2": "21=9"}, "port 9 on the right is not in ru_map"),
        ({"ru_map": "1=1", "address": "fre"}, "address: found 'fre'"),
        ({"ru_map": "1=1", "ipmanager": "a,b"}, "ipmanager: found 2 names; wanted one"),
    ],
)
def test_layouts_that_are_wrong(said: dict[str, str], fault: str) -> None:
    with pytest.raises(LayoutFault, match=f"layout of rack r1: .*{fault}"):
        parse_layout("r1", said)


def test_all_faults_at_once() -> None:
    with pytest.raises(LayoutFault) as caught:
        parse_layout("r1", {"ru_map": "1=", "pwr_map": "x", "colour": "red"})
    assert str(caught.value).count(";") >= 2 and "colour" in str(caught.value) and "pwr_map" in str(caught.value)
