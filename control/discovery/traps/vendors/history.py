"""MAC notifications as several vendors write them: tuples in octet strings, each a row of a history table."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from control.discovery.traps.ber import OCTET_STRING
from control.discovery.traps.notification import Found, Notification, Sighting, wrong

END, LEARNT, REMOVED, UPDATED = range(4)
Fields = tuple[int, bytes, int]  # VLAN, MAC, dot1dBasePort


@dataclass(frozen=True, slots=True)
class History:
    """A decoder.  message: the column; tuples: of what a tuple has behind its operation; fields: these in our order.

    learnt: operations after which the MAC is at the port; another is REMOVED, or none of the MIB's."""

    message: bytes
    tuples: struct.Struct
    fields: Callable[..., Fields]
    learnt: frozenset[int] = frozenset({LEARNT})

    def __call__(self, notification: Notification) -> Found | None:
        messages = [value for _index, (_name, tag, value) in notification.column(self.message) if tag == OCTET_STRING]
        return self.read(messages) if messages else None

    def read(self, messages: Sequence[bytes]) -> Found:
        """Up to an operation of 0 or the end of each value."""
        size = 1 + self.tuples.size
        for message in messages:
            for at in range(0, len(message), size):
                operation = message[at]
                if operation == END:
                    break
                if len(message) - at < size:
                    yield "cut"
                    break
                vlan, mac, port = self.fields(*self.tuples.unpack_from(message, at + 1))
                if operation != REMOVED and operation not in self.learnt:
                    yield "operation"
                elif reason := wrong(mac, vlan, port):
                    yield reason
                else:
                    yield Sighting(mac.hex(":"), port, vlan, operation != REMOVED)
