"""bench core measures what it says: every packet is answered, at a table of the size that is named."""

from __future__ import annotations

import pytest
from bench.engine.echo import Echo

from bench import core


def test_every_packet_is_answered() -> None:
    point = core.measure(500, 40, 3)
    assert point["hosts"] == 500
    assert 0 < point["least_ns"] <= point["median_ns"] <= point["p99_ns"]


def test_packets_that_nobody_answers_are_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "table", lambda hosts, _table=core.table, **more: _table(hosts // 2, **more))
    with pytest.raises(core.WrongVerdict, match="IGNORED_UNKNOWN_MAC"):
        core.measure(500, 40, 3)


def test_an_echo_of_impossible_size_is_refused() -> None:
    with pytest.raises(ValueError, match="replies of 9000 bytes"):
        Echo(0, bare=True, reply_bytes=9000)
