"""control/service/load/losses.py: the kernel's count, whatever it looks like."""

from __future__ import annotations

from pathlib import Path

import pytest

from control.service.load.losses import losses, rcvbuf_errors

SNMP = """Ip: Forwarding DefaultTTL
Ip: 1 64
Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors
Udp: 1183 7 40 1190 33 0 7
UdpLite: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors
UdpLite: 0 0 0 0 5 0
"""


@pytest.mark.parametrize(
    "content, want",
    [
        pytest.param(SNMP, 33, id="as-it-is"),
        pytest.param(SNMP.replace("RcvbufErrors", "Other"), None, id="without-it"),
        pytest.param(SNMP.replace(" 33 ", " x "), None, id="no-number"),
        pytest.param(SNMP.replace(" 33 ", " "), None, id="fewer-values-than-names"),
        pytest.param("Udp: RcvbufErrors\n", None, id="names-alone"),
        pytest.param("", None, id="empty"),
    ],
)
def test_datagrams_that_found_a_queue_full(tmp_path: Path, content: str, want: int | None) -> None:
    path = tmp_path / "snmp"
    path.write_text(content)
    assert rcvbuf_errors(path) == want


def test_where_it_cannot_be_read(tmp_path: Path) -> None:
    assert rcvbuf_errors(tmp_path / "nothing") is None
    assert losses(None, 2)["queues"] == []
    found = losses(None, 2)["udp_rcvbuf_errors"]
    assert found is None or found >= 0
