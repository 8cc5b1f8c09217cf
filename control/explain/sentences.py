"""Warnings in words: what each verdict that is worth one means, and one line that says it.  Pure.

service/events.py makes warnings of the workers' events, cli/ctl.py shows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OTHER_SERVER = "IGNORED_OTHER_SERVER"

WORDS = {
    "IGNORED_GIADDR": "giaddr can be no relay",
    "IGNORED_RELAY": "relay is not in dhcp.relays",
    "IGNORED_UNKNOWN_MAC": "not in the inventory",
    "IGNORED_DISABLED": "DHCP is not enabled",
    "IGNORED_OTHER_PORT": "a network card that is not served",
    "IGNORED_HELD": "an operator holds it",
    "IGNORED_NO_ADDRESS": "no address is bound",
    "IGNORED_CONFLICT": "MAC or address belongs to two objects",
    "IGNORED_QUARANTINED": "its record is not usable",
    "IGNORED_BMC": "an IPMI card that shares the host's MAC, and no address is bound to the card",
    "IGNORED_OTHER_LINK": "none of its addresses fits where it asks from",
    OTHER_SERVER: "two servers answer with different ids",
    "IGNORED_CIADDR": "it uses an address that is not its own",
    "IGNORED_BOOT_PORT": "asks at PXE's port 4011 for nothing that is answered there, or from another address",
    "IGNORED_NAK_UNKNOWN_LINK": "asks for a wrong address on a link that no IP manager contains",
    "IGNORED_NAK_STALE_TABLE": "asks for another address, and the table is older than dhcp.max_nak_age",
    "IGNORED_NO_SERVER_ID": "this machine has no address on the interface to answer with; set dhcp.server_id",
    "IGNORED_NO_ROOM": "the mandatory options exceed what it takes",
    "NAKED": "asked for an address that is not its own here",
    "NOTED_DECLINE": "declined: somebody else uses its address",
    "ABANDONED": "its packet ended three workers",
}

# What answered hosts give rise to.
FINDINGS = {
    "BOOT_LOOP": "boot loop",
    "CLONED_CLIENT_ID": "one client-id from several machines",
    "SHARED_ADDRESS": "one address at several cards of a host",
}


def asked(words: Mapping[str, Any]) -> str:
    """The message, of a REQUEST with the state of its client (RFC 2131 section 4.3.2): "REQUEST (RENEWING)"."""
    return f"{words['message']} ({words['state']})" if words.get("state") else str(words["message"])


def sentence(words: Mapping[str, Any]) -> str:
    """One line: who, what, where, why."""
    verdict = words["verdict"]
    if verdict in ("CLONED_CLIENT_ID", "SHARED_ADDRESS", OTHER_SERVER):  # not about one card
        return f"{words['reason']}: {words['text']}" if verdict in FINDINGS else str(words["text"])
    parts = ["boot loop:", words["mac"]] if verdict == "BOOT_LOOP" else [f"{asked(words)} from {words['mac']}"]
    if words["host"]:
        parts.append(f"({words['host']})")
    parts.append(f"on {words['interface']}")
    if words["relay"]:
        parts.append(f"by relay {words['relay']}")
    if verdict == "BOOT_LOOP":
        return " ".join([*parts, words["text"]])
    parts.append("was refused:" if verdict == "NAKED" else "not answered:")
    parts.append(words["reason"])
    if words["detail"]:
        parts.append(f"[{words['detail']}]")
    parts += [f"{name}={words[name]}" for name in ("ciaddr", "requested", "vendor_class") if words[name]]
    if words.get("relay_agent"):
        parts.append(f"option 82: {words['relay_agent']}")
    return " ".join(parts)


def lasting(seconds: float) -> str:
    """Such as 1 h 58 min, 40 s."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return " ".join(part for part in (f"{hours} h" if hours else "", f"{minutes} min" if minutes else "") if part)
