"""Each fault of a plan knows its kind, from where it arises."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from control.sources.reasons import KINDS, Reason, clipped, reason_of
from tests.control.inventories import At, Site, attribute

HUGE = {str(code): "x" * 1_300 for code in range(130, 210) if code not in (144, 150, 162, 175, 176, 177, 208)}
CASES: dict[str, tuple[str, str, Callable[[Site], None]]] = {
    "unknown-option": ("unknown-option", "domian", lambda s: s.host("a", "10.1.0.9", dhcp={"enabled": 1, "domian": 1})),
    "value": ("bad-value", "router", lambda s: s.host("a", "10.1.0.9", dhcp={"enabled": 1, "router": "x"})),
    "url": ("bad-value", "bootfile_url", lambda s: s.host("a", "10.1.0.9", dhcp={"enabled": 1, "bootfile_url": "x"})),
    "switch": ("bad-value", "overload", lambda s: s.host("a", "10.1.0.9", dhcp={"enabled": 1, "overload": "x"})),
    "enabled": ("bad-value", "enabled", lambda s: s.host("a", "10.1.0.9", dhcp={"enabled": "x"})),
    "hostname": (
        "bad-value", "hostname", lambda s: s.host("a", "10.1.0.9", extra=[attribute("hostname", None, "a\nb")]),
    ),
    "no-mac": ("bad-mac", "", lambda s: s.host("a", "10.1.0.9", mac="junk")),
    "macs": ("bad-mac", "", lambda s: s.host("a", "10.1.0.9", mac=("02:00:00:00:00:01", "02:00:00:00:00:02"))),
    "text": ("bad-address", "", lambda s: s.host("a", "fe80::1.2")),
    "broadcast": ("bad-address", "", lambda s: s.host("a", "10.1.0.255")),
    "gateway": ("gateway-address", "", lambda s: s.host("a", "10.1.0.1")),
    "outside": ("no-network", "", lambda s: s.host("a", "10.2.0.1")),
    "none": ("no-network", "", lambda s: s.host("a", At("10.2.0.1", ""))),
    "second": ("second-address", "", lambda s: s.host("a", "10.1.0.9", "10.1.0.10")),
    "manager": ("bad-network", "", lambda s: s.network("a", None)),
    "size": ("too-large", "", lambda s: s.host("a", "10.1.0.9", dhcp={"enabled": 1} | HUGE)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_fault_knows_its_kind_and_its_attribute(name: str) -> None:
    kind, about, add = CASES[name]
    site = Site()
    add(site)
    plan = site.plan()
    assert list(plan.faults) == ["a"], plan.faults
    found = {(reason.kind, reason.about) for reason in plan.faults["a"]}
    assert (kind, about) in found and kind in KINDS, found


def test_a_conflict_has_one_text_however_many_share_it() -> None:
    site = Site()
    for name in "abc":
        site.host(name, "10.1.0.9")
    faults = site.plan().faults
    reasons = [faults[name][0] for name in "abc"]
    assert {reason.kind for reason in reasons} == {"conflict"} and len({id(reason) for reason in reasons}) == 1


def test_a_tie_is_of_the_one_that_does_not_count() -> None:
    site = Site()
    site.pool("p", enabled=1, domain="one")
    site.pool("q", domain="two")
    site.host("a", "10.1.0.9", pools=["p", "q"], dhcp={})
    faults = site.plan().faults
    assert [(name, reason.kind, reason.about) for name in faults for reason in faults[name]] == [("q", "tie", "domain")]


@pytest.mark.parametrize(
    "value, said",
    [("1h", "1h is 3600 seconds"), (" 90 m", "90 m is 5400 seconds"), ("2D", "2D is 172800 seconds"), ("1.5h", ""),
     ("1h 5m", ""), ("x", "")],
)  # fmt: skip
def test_a_time_with_a_unit_is_told_in_seconds(value: str, said: str) -> None:
    site = Site()
    site.host("a", "10.1.0.9", dhcp={"enabled": 1, "lease_time": value})
    (reason,) = site.plan().faults["a"]
    assert reason.endswith(f"; {said}") if said else "seconds" not in reason


def test_a_reason_is_its_text() -> None:
    made = Reason("why", "tie", "domain", 7)
    assert made == "why" and repr(made) == "'why'" and reason_of(made, "conflict") is made
    assert (reason_of("why").kind, reason_of("why", "tie").kind) == ("other", "tie")
    assert clipped("x" * 50, 50) == "x" * 50 and len(clipped("x" * 5_000, 100)) < 100
