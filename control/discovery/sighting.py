"""A worker's event (ext/page.pxd: Event) -> a DHCP sighting as discovery joins it with traps.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Any, Final

CIRCUIT_ID: Final = 1  # sub-option of option 82 (RFC 3046 section 3.1)
HOST, BOOT, BMC = "host", "boot", "bmc"  # what a machine's own DHCP says it is; BOOT: a host's firmware


def sighting_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """mac, class, role, verdict, giaddr ("" without), ifindex, client_id, vendor_class, circuit_id, boottime_s."""
    giaddr = event["giaddr"]
    return {
        "mac": event["mac"],
        "class": event["class"],
        "role": event["role"],
        "verdict": event["verdict"],
        "giaddr": str(IPv4Address(giaddr)) if giaddr else "",
        "ifindex": event["ifindex"],
        "client_id": event["client_id"],
        "vendor_class": event["vendor_class"],
        "circuit_id": circuit_id(event["relay_agent"]),
        "boottime_s": event["boottime_ns"] / 1e9,
    }


def circuit_id(relay_agent: bytes) -> bytes:
    """Of option 82, which may have been cut off; empty without one, or where it was cut."""
    at = 0
    while at + 2 <= len(relay_agent):
        code, length = relay_agent[at], relay_agent[at + 1]
        if code == CIRCUIT_ID:
            found = relay_agent[at + 2 : at + 2 + length]
            return found if len(found) == length else b""
        at += 2 + length
    return b""
