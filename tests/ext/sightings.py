"""What answered machines say of themselves, as ext.page.WorkerPage.drain() gives it."""

from __future__ import annotations

from typing import Any

S = 1_000_000_000
DUID = bytes.fromhex("00020000ab11") + bytes(range(8))


def mac(number: int) -> str:
    return (0x020000000000 + number).to_bytes(6, "big").hex(":")


def duid(interface: int, content: bytes = DUID) -> bytes:
    return b"\xff" + interface.to_bytes(4, "big") + content


def own(number: int) -> bytes:
    return b"\1" + (0x020000000000 + number).to_bytes(6, "big")


def sighting(number: int = 1, client_id: bytes = b"", **fields: Any) -> dict[str, Any]:
    plain = {
        "boottime_ns": 1000 * S, "verdict": "ACKED", "message_type": 3, "mac": mac(number), "xid": 7, "ifindex": 2,
        "giaddr": 0, "ciaddr": 0, "requested": 0, "server_id": 0, "source": 0, "htype": 1, "vendor_class": b"",
        "class": "OS", "role": "host", "repeats": 0, "state": None, "client_id": client_id, "relay_agent": b"",
    }  # fmt: skip
    return plain | fields
