"""Which decoder reads which trap, by the families that snmp.traps has; the decoders are a file a vendor in vendors/."""

from __future__ import annotations

from collections.abc import Iterable

from control.config.sections import TRAPS
from control.discovery.traps.notification import Decoder, Found, Notification
from control.discovery.traps.vendors import cisco, dell, gbn, juniper

FAMILIES: dict[str, dict[bytes, Decoder]] = {
    "cisco-mac-notification": {cisco.MAC_NOTIFICATION_MIB: cisco.changed},
    "cisco-mac-move": cisco.MOVES,
    "cisco-port-security": cisco.PORT_SECURITY,
    "gbn-mac-notification": gbn.TRAPS,
    "juniper-mac-notification": juniper.TRAPS,
    "dell-mac-notification": dell.TRAPS,
}
"""Name of a family -> its traps: snmpTrapOID (content octets) -> decoder.  Cisco's history is read in any trap of its
MIB."""

# Of traps that no decoder reads: those that a site meets first.
NAMES = {
    "1.3.6.1.6.3.1.1.5.1": "coldStart",
    "1.3.6.1.6.3.1.1.5.2": "warmStart",
    "1.3.6.1.6.3.1.1.5.3": "linkDown",
    "1.3.6.1.6.3.1.1.5.4": "linkUp",
    "1.3.6.1.6.3.1.1.5.5": "authenticationFailure",
    "1.3.6.1.4.1.9.9.215.2.0.3": "cmnMacThresholdExceedNotif",
    "1.3.6.1.4.1.2636.3.48.1.0.1": "jnxl2aldRoutingInstMacLimit",
    "1.3.6.1.4.1.2636.3.48.1.0.2": "jnxl2aldInterfaceMacLimit",
    "1.3.6.1.4.1.2636.3.48.1.0.3": "jnxl2aldGlobalMacLimit",
    "1.3.6.1.4.1.2636.3.48.1.0.4": "jnxl2aldMacMoveThreshold",
    "1.3.6.1.4.1.2636.3.48.1.0.6": "jnxl2aldMacPinningdiscard",
}


class Decoders:
    """names: of FAMILIES, those that are read."""

    def __init__(self, names: Iterable[str] = TRAPS) -> None:
        self.of_trap = {trap: decoder for name in names for trap, decoder in FAMILIES[name].items()}

    def of(self, trap: bytes) -> Decoder | None:
        decoder = self.of_trap.get(trap)
        # The octets of an OID begin with those of its parents, and of nobody else.
        if decoder is None and trap.startswith(cisco.MAC_NOTIFICATION_MIB):
            decoder = self.of_trap.get(cisco.MAC_NOTIFICATION_MIB)
        return decoder

    def decode(self, notification: Notification) -> Found | None:
        """What the trap says, or None when nobody knows it."""
        decoder = self.of(notification.trap)
        return decoder(notification) if decoder is not None else None


def known_as(trap: str) -> str:
    """A trap that was not decoded, as a person finds it: its OID, and its name where we know it."""
    return (f"{trap} ({NAMES[trap]})" if trap in NAMES else trap) or "without snmpTrapOID"
