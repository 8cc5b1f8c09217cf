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
