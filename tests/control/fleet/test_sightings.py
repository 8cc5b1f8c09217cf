"""Traps and sightings in a `seen`: as they were, in messages that are not too long; everything else is refused."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.fleet.messages import SEEN_BYTES_MAX
from control.fleet.sightings import ROWS_MAX, Sighting, Trap, grouped, row_bytes, rows_of, sighting_row
from control.fleet.wire import Reason, Refused

TRAP = Trap("10.0.0.1", "00:11:22:33:44:55", 7, 10, True)
SIGHTING = Sighting(
    "00:11:22:33:44:55", "BIOS_PXE", "bmc", "IGNORED_UNKNOWN_MAC", "10.0.0.254", b"\x01" * 64, b"v" * 64, b"c" * 64
)


def test_they_are_read_as_they_were_in_their_order() -> None:
    by_index, direct = TRAP._replace(learnt=False, port="ifIndex 10105"), SIGHTING._replace(giaddr="", client_id=b"")
    rows = [TRAP, SIGHTING, by_index, direct] * 50
    groups = list(grouped(rows))
    assert [row for raw in groups for row in rows_of(raw)] == rows
    assert all(len(raw) <= SEEN_BYTES_MAX for raw in groups) and len(groups) < 50
    assert max(len(rows_of(raw)) for raw in grouped([TRAP] * 500)) in range(30, ROWS_MAX + 1)
    assert list(grouped([])) == []


def test_a_sighting_of_a_worker_s_event_fits() -> None:
    said = {
        "mac": TRAP.mac, "class": "x" * 99, "role": "host", "verdict": "ACKED", "giaddr": "", "ifindex": 3,
        "client_id": b"i" * 99, "vendor_class": b"", "circuit_id": b"", "boottime_s": 1.0,
    }  # fmt: skip
    (raw,) = grouped([sighting_row(said)])
    (row,) = rows_of(raw)
    assert isinstance(row, Sighting) and (row.client, row.client_id) == ("x" * 32, b"i" * 64)


def changed(row: Trap | Sighting, at: int, value: Any) -> bytes:
    fields = msgpack.unpackb(row_bytes(row))
    fields[at] = value
    return bytes(msgpack.packb([msgpack.packb(fields)]))


@pytest.mark.parametrize("row", [TRAP, SIGHTING], ids=["trap", "sighting"])
def test_no_field_may_be_of_another_type(row: Trap | Sighting) -> None:
    for at in range(1, len(row) + 1):
        for odd in (-1, 1 << 60, 1.5, None, {"a": 1}, [[]], "\x1b[2J", "x" * 500, b"x" * 500):
            with pytest.raises(Refused):
                rows_of(changed(row, at, odd))
    for kind in (2, -1, True, "0", None):
        with pytest.raises(Refused):
            rows_of(changed(row, 0, kind))


@pytest.mark.parametrize(
    "raw, reason",
    [
        (b"", Reason.NOT_MSGPACK), (b"\xc1", Reason.NOT_MSGPACK), (b"\x80", Reason.NOT_A_RECORD),
        (b"\x91\x01", Reason.NOT_MSGPACK), (b"x" * 3_000, Reason.TOO_LONG), (b"\x91\xc4\x01\x90", Reason.NOT_A_RECORD),
        (b"\x91\xc4\x02\x91\x00", Reason.MISSING_FIELD), (msgpack.packb([b""] * 65), Reason.NOT_A_RECORD),
    ],
)  # fmt: skip
def test_what_is_none_is_refused(raw: bytes, reason: Reason) -> None:
    with pytest.raises(Refused) as fault:
        rows_of(raw)
    assert fault.value.reason is reason


@pytest.mark.property
@given(st.binary(max_size=200) | st.lists(st.binary(max_size=40), max_size=4).map(msgpack.packb))
def test_whatever_comes_is_read_or_refused(raw: bytes) -> None:
    try:
        rows_of(raw)
    except Refused:
        return
