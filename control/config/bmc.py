"""Which requests come from a server's BMC (IPMI card) and not from the server: the rules, in order.  Pure.

A BMC may share the first network card of its server, MAC address included; then only what it says of itself tells the
two apart.  Workers go by these rules for each packet (ext/roles.pxd); the site's own, `dhcp.bmc_rules`, come first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

HOST, BMC = "host", "bmc"
ROLE_BIT: Final = 1 << 48  # of a row's key: set for the BMC's row


class Rule(NamedTuple):
    """kind: of ext.builder.RULES.  role: of ext.builder.ROLES.  text: what the option begins with (or is, for 55)."""

    kind: str
    role: str
    text: bytes


# Signatures of firmware in the field.  "udhcp 1." is not among them: installers on the servers themselves say that.
_VENDOR_CLASSES: Final = (
    b"udhcp 0.9.",  # AMI MegaRAC, Supermicro; clusto's own rule was 0.9.9-pre
    b"iDRAC",
    b"CPQRIB",  # HPE iLO 3 and later
    b"NVIDIA/BF/BMC",
    b"NVIDIA/BMC",
    b"OpenBMC",
    b"Supermicro BMC",
    b"SUPERMICRO IPMI",
    b"Lenovo XCC",
    b"IBM IMM",
    b"Cisco CIMC",
)
USUAL: Final = (
    *(Rule("vendor_class", BMC, text) for text in _VENDOR_CLASSES),
    # The document's rule: a client identifier made of type 1 and the card's own MAC, in a request with the server's.
    Rule("other_mac", BMC, b""),
)


def rules(update_ipmi: bool, extra: Sequence[Rule]) -> tuple[Rule, ...]:
    """For ext.builder.Surroundings; none while BMCs are not told apart."""
    return (*extra, *USUAL) if update_ipmi else ()
