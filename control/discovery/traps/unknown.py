"""Traps that no decoder knows, by sender and OID: a bounded table in the queue's memfd, which outlives the receiver.

One process writes, any may read.  An entry is 64 octets: how often, who sent it, whether the log has named it, and the
first 48 octets of its OID.  In a full table a new pair takes the place of the one that was not seen for longest.
"""

from __future__ import annotations

import socket
import struct
from collections import OrderedDict
from typing import NamedTuple

from control.discovery.traps.ber import dotted

OID_OCTETS_MAX = 48
_TIMES = struct.Struct("<Q")
_WHAT = struct.Struct(f"<IBBxx{OID_OCTETS_MAX}s")  # sender, octets of the OID (one more: it is cut), named, OID
_ENTRY = _TIMES.size + _WHAT.size
_NAMED_AT = _TIMES.size + 5
_TRIES = 4  # to read an entry that is being replaced
Pair = tuple[int, bytes]


class UnknownTrap(NamedTuple):
    """trap: as oid_text() has it."""

    sender: str
    trap: str
    times: int


def oid_text(trap: bytes) -> str:
    """Of content octets that may be cut after OID_OCTETS_MAX; "" where the sender named no trap."""
    return dotted(trap[:OID_OCTETS_MAX]) + ("..." if len(trap) > OID_OCTETS_MAX else "")


class UnknownTraps:
    """room: zeros at first; as much of it is used as holds whole entries."""

    def __init__(self, room: memoryview) -> None:
        self.room = room
        self.most = len(room) // _ENTRY
        self.at: OrderedDict[Pair, int] = OrderedDict()  # -> number of its entry; the longest unseen first
        self.free: list[int] = []

    # --- for everybody -----------------------------------------------------------------------------------------------

    def rows(self) -> list[UnknownTrap]:
        """The most frequent first."""
        found = [row for number in range(self.most) if (row := self._row(number * _ENTRY)) is not None]
        return sorted(found, key=lambda row: (-row.times, row.sender, row.trap))

    def _row(self, at: int) -> UnknownTrap | None:
        """None while it is free, or is being replaced."""
        for _turn in range(_TRIES):
            what = bytes(self.room[at + _TIMES.size : at + _ENTRY])
            (times,) = _TIMES.unpack_from(self.room, at)
            if what == self.room[at + _TIMES.size : at + _ENTRY]:
                break
        else:
            return None
        sender, length, _named, octets = _WHAT.unpack(what)
        if not times:
            return None
        trap = octets[:length] + bytes(length > OID_OCTETS_MAX)  # one octet more says that it is cut
        return UnknownTrap(socket.inet_ntoa(sender.to_bytes(4, "big")), oid_text(trap), times)

    # --- for the receiver --------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Take over what a predecessor left."""
        self.at.clear()
        self.free = []
        for number in reversed(range(self.most)):
            (times,) = _TIMES.unpack_from(self.room, number * _ENTRY)
            if times:
                sender, length, _named, octets = _WHAT.unpack_from(self.room, number * _ENTRY + _TIMES.size)
                self.at[sender, octets[: min(length, OID_OCTETS_MAX)]] = number
            else:
                self.free.append(number)

    def add(self, sender: int, trap: bytes, times: int) -> bool:
        """Whether the log should name it: it has not, since this pair is in the table."""
        pair = (sender, trap[:OID_OCTETS_MAX])
        number = self.at.pop(pair, None)
        if number is None:
            number = self.free.pop() if self.free else self.at.popitem(last=False)[1]
            at = number * _ENTRY
            _TIMES.pack_into(self.room, at, 0)  # nobody's, until all of it is there
            _WHAT.pack_into(self.room, at + _TIMES.size, sender, min(len(trap), OID_OCTETS_MAX + 1), 0, pair[1])
        self.at[pair] = number
        at = number * _ENTRY
        (before,) = _TIMES.unpack_from(self.room, at)
        _TIMES.pack_into(self.room, at, before + times)
        return not self.room[at + _NAMED_AT]

    def named(self, sender: int, trap: bytes) -> None:
        """The log has named what was just added."""
        self.room[self.at[sender, trap[:OID_OCTETS_MAX]] * _ENTRY + _NAMED_AT] = 1
