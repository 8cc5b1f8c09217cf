"""control/cli/fleet_text.py: a line for each machine of a fleet."""

from __future__ import annotations

from typing import Any

from control.cli.ctl import RENDER
from control.cli.fleet_text import render_machines
from tests.control.cli.test_ctl import FIGURES


def row(host: str, **more: Any) -> dict[str, Any]:
    return {
        "host": host, "mark": [1, 2, 1_796_048_927_004], "serves": "7c68d53fc0c0" + "0" * 52, "refused": "",
        "heard_ms": 1_200, "requests_s": 1_234, "replies_s": 1_230, "age_s": 41, "version": "0.1.0 abc", "lag_ms": 0,
        "behind": "",
    } | more  # fmt: skip


def test_each_machine_has_its_line() -> None:
    late = row("dhcp3", serves="", age_s=None, lag_ms=12_340, behind="guarded: 9 of 10 hosts", version="0.0.9 old")
    heading, good, behind, *builds = render_machines([row("dhcp1"), late])
    assert heading.split() == ["machine", "serves", "generation", "age", "requests/s", "replies/s", "lag", "heard",
                               "state"]  # fmt: skip
    assert good.split() == ["dhcp1", "7c68d53fc0c0", "1796048927004", "41", "s", "1,234", "1,230", "-", "1", "s",
                            "good"]  # fmt: skip
    assert behind.split() == ["dhcp3", "no", "table", "1796048927004", "unknown", "1,234", "1,230", "12.3", "s", "1",
                              "s", "BEHIND:", "guarded:", "9", "of", "10", "hosts"]  # fmt: skip
    assert builds == ["build     0.0.9 old: dhcp3", "build     0.1.0 abc: dhcp1"]
    assert render_machines([]) == [] and len(render_machines([row("a"), row("b")])) == 3


def test_a_refresh_says_who_serves_it() -> None:
    served = RENDER["refresh"](FIGURES | {"fleet": {"machines": 3, "silent": []}})
    assert list(served)[1:] == ["served by 3 machines of the shard"]
    silent = RENDER["refresh"](FIGURES | {"fleet": {"machines": 2, "silent": ["dhcp3"]}})
    assert list(silent)[1:] == ["served by 2 machines of the shard; not heard of, and not waited for: dhcp3"]
    assert RENDER["refresh"](FIGURES | {"fleet": {}}) == RENDER["refresh"](FIGURES)
