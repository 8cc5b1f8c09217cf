"""control/discovery/sighting.py: what a worker noted, as discovery wants it."""

from typing import Any

import pytest

from control.discovery.sighting import circuit_id, sighting_of

EVENT: dict[str, Any] = {
    "boottime_ns": 5_500_000_000, "verdict": "ACKED", "message_type": 3, "mac": "02:00:00:00:00:01", "xid": 7,
    "ifindex": 2, "giaddr": 0x0A090001, "ciaddr": 0, "requested": 0, "server_id": 0, "source": 0, "htype": 1,
    "vendor_class": b"PXE", "class": "IPXE", "role": "host", "repeats": 0, "state": None,
    "client_id": b"\1abcdef", "relay_agent": b"\2\1x\1\5eth 7",
}  # fmt: skip


def test_every_field() -> None:
    assert sighting_of(EVENT) == {
        "mac": "02:00:00:00:00:01", "class": "IPXE", "role": "host", "verdict": "ACKED", "giaddr": "10.9.0.1",
        "ifindex": 2, "client_id": b"\1abcdef", "vendor_class": b"PXE", "circuit_id": b"eth 7", "boottime_s": 5.5,
    }  # fmt: skip
    assert sighting_of(EVENT | {"giaddr": 0})["giaddr"] == ""


@pytest.mark.parametrize("cut", [b"", b"\1", b"\2\1x", b"\1\5eth", b"\2\7x\1\1a", b"\1\0"])
def test_no_circuit_id_but_a_whole_one(cut: bytes) -> None:
    assert circuit_id(cut) == b""
