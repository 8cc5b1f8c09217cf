"""The trap receiver's queue and counters, in memory that outlives the receiver: a ring of datagrams in a memfd.

Datagrams are received straight into the ring and are in it as soon as `head` says so; they leave it when a commit says
so, after what they said has been handed on.  So a receiver that is killed takes at most the one datagram with it that
it was about to note, its successor repeats at most one batch, and the memory is bounded by construction.

One process writes; any may read the counters (control does, for `ctl status`).  Layout, in words of 64 bits:

    0     magic with the layout's number            1  head: octets ever written, a multiple of 8
    2     which of the two states counts            3  tail at the last careful try     4  number of such tries
    64    state 0                                   128  state 1: tail, queued datagrams, then the counters
    192   unknown traps by sender (unknown.py)
    1024  ring: records of 24 octets, then the datagram, padded to 8
"""

from __future__ import annotations

import mmap
import os
import struct
from collections import Counter
from dataclasses import dataclass

from control.discovery.traps.notification import SKIPS
from control.discovery.traps.unknown import UnknownTraps

# What became of a datagram that was no trap to believe -> what that means to a person.
DROPS = {
    "malformed": "no readable SNMP: cut, or with lengths that lie",
    "version": "a version of SNMP that does not exist",
    "pdu": "SNMP, but no trap and no inform",
    "too_large": "more than pysnmp is given to read: 2,048 octets or 64 variable bindings",
    "community": "a community that snmp.communities does not have",
    "user": "an SNMPv3 user or engine that snmp.users does not have",
    "level": "less security than the user has to have",
    "digest": "a wrong SNMPv3 digest: another password, or forged",
    "window": "outside the time window of SNMPv3: replayed, or a clock that went back",
    "cipher": "SNMPv3 that cannot be deciphered",
    "forwarder": "forwarded for an address that is no switch's",
    "sender": "from a port 0 or an address that nobody can have",
    "sender_share": "its sender's traps fill half of the queue already",
    "abandoned": "it ended three receivers",
    "unbelieved": "nobody is believed: snmp.communities is empty",
    "costly": "more informs, v1 and v3 messages than pysnmp is given time for",
}
OUTCOMES = ("decoded", "unknown", "discovery", *DROPS)  # of every datagram that was received, exactly one
# In their places in the memfd, which a build before and after this one may have written: new ones go to the end.
LATER = ("unbelieved", "costly", "mac_length", "two_ports")
COUNTERS = (
    *(name for name in (*OUTCOMES, "kernel", "unanswered", "seen", "repeated", *SKIPS) if name not in LATER),
    *LATER,
)
CONTENT_MAX = 65536
TRIES_MAX = 3

_MAGIC = 0x7472617073000001
_MAGIC_AT, _HEAD, _CHOICE, _TRIED, _TRIES = range(5)
_STATES, _STATE_WORDS = (64, 128), 64
_UNKNOWN_AT, _RING_AT = 192 * 8, 8192
_RECORD = struct.Struct("<QIIIHxx")  # boottime ns, length, source, destination, source port
_ROOM = _RECORD.size + CONTENT_MAX  # contiguous octets that the next datagram may need
assert 2 + len(COUNTERS) <= _STATE_WORDS


@dataclass(frozen=True, slots=True)
class Datagram:
    """source, destination: addresses as numbers in host order; destination: ours, as the sender wrote it."""

    boottime_ns: int
    source: int
    source_port: int
    destination: int
    content: bytes


class TrapQueue:
    """Maps the memfd.  fd: borrowed; its size decides how much is queued.  Raises ValueError when that is too small."""

    def __init__(self, fd: int) -> None:
        size = os.fstat(fd).st_size
        if size < _RING_AT + 2 * _ROOM:
            raise ValueError(f"trap queue of {size} bytes: wanted at least {_RING_AT + 2 * _ROOM}")
        self.map = mmap.mmap(fd, size)
        self.bytes = memoryview(self.map)
        self.words = self.bytes[:_RING_AT].cast("Q")
        self.ring = self.bytes[_RING_AT:]
        self.unknown = UnknownTraps(self.bytes[_UNKNOWN_AT:_RING_AT])
        self.size = len(self.ring) & ~7

    # --- for everybody -----------------------------------------------------------------------------------------------

    def counters(self) -> dict[str, int]:
        """By name; "queued" and "received" besides.  Zeros before the first receiver started."""
        at = self._state()
        found = dict(zip(COUNTERS, self.words[at + 2 : at + 2 + len(COUNTERS)], strict=True))
        queued = self.words[at + 1]
        return {"received": queued + sum(found[name] for name in OUTCOMES), "queued": queued, **found}

    def _state(self) -> int:
        return _STATES[self.words[_CHOICE] & 1]

    # --- for the receiver --------------------------------------------------------------------------------------------

    def open(self) -> bool:
        """Take over what a predecessor left; False when its layout was another one and everything starts anew."""
        known = self.words[_MAGIC_AT] in (0, _MAGIC)
        if not known:
            self.bytes[:_RING_AT] = bytes(_RING_AT)
        self.words[_MAGIC_AT] = _MAGIC
        self.unknown.open()
        state = self._state()
        self.tail = self.words[state]
        if self.tail > self.words[_HEAD]:  # it was killed in `_rewind`: the ring is empty
            self.words[_HEAD] = self.tail
        self.head = self.words[_HEAD]
        self.at = self.tail
        self.counts = dict(zip(COUNTERS, self.words[state + 2 : state + 2 + len(COUNTERS)], strict=True))
        self.taken: list[tuple[int, int]] = []  # source, octets of the ring
        self.held: Counter[int] = Counter()  # source -> octets of the ring
        self.queued = 0
        at = self.tail
        while at < self.head:
            at = self._contiguous(at)
            _ns, length, source, *_rest = _RECORD.unpack_from(self.ring, at % self.size)
            at += _padded(length)
            self.held[source] += _padded(length)
            self.queued += 1
        return known

    def room(self) -> memoryview | None:
        """Where the next datagram's content may be received; None while the queue is full."""
        at = self._contiguous(self.head)
        if at + _ROOM - self.tail > self.size:
            return None
        start = at % self.size + _RECORD.size
        return self.ring[start : start + CONTENT_MAX]

    def holds(self, source: int) -> int:
        """Octets of the ring that a sender's datagrams take."""
        return self.held[source]

    def note(self, boottime_ns: int, length: int, source: int, destination: int, port: int) -> None:
        """What lies in `room` is a datagram of this length."""
        at = self._contiguous(self.head)
        _RECORD.pack_into(self.ring, at % self.size, boottime_ns, length, source, destination, port)
        taken = _padded(length)
        self.head = self.words[_HEAD] = at + taken
        self.queued += 1
        self.held[source] += taken

    def take(self) -> Datagram | None:
        """The next one that was not taken yet; it stays in the ring until `commit`."""
        if self.at >= self.head:
            return None
        at = self._contiguous(self.at)
        start = at % self.size
        boottime_ns, length, source, destination, port = _RECORD.unpack_from(self.ring, start)
        start += _RECORD.size
        self.at = at + _padded(length)
        self.taken.append((source, _padded(length)))
        return Datagram(boottime_ns, source, port, destination, bytes(self.ring[start : start + length]))

    def commit(self) -> None:
        """What was taken is done with: one store makes that and the counters so, all or nothing."""
        for source, octets in self.taken:
            self.held[source] -= octets
            if not self.held[source]:
                del self.held[source]
        self.queued -= len(self.taken)
        self.taken.clear()
        self.tail = self.at
        self.publish()
        if self.tail == self.head and self.head % self.size > 16 * CONTENT_MAX:
            self._rewind()

    def careful(self) -> bool:
        """Before the next datagram is taken where a predecessor may have died of it; False: it is to be given up."""
        if self.words[_TRIED] != self.tail:
            self.words[_TRIES] = 0
            self.words[_TRIED] = self.tail
        self.words[_TRIES] += 1
        return self.words[_TRIES] <= TRIES_MAX

    def publish(self) -> None:
        """The counters, and how far it was committed."""
        choice = self.words[_CHOICE] + 1
        at = _STATES[choice & 1]
        self.words[at] = self.tail
        self.words[at + 1] = self.queued
        for offset, name in enumerate(COUNTERS, 2):
            self.words[at + offset] = self.counts[name]
        self.words[_CHOICE] = choice

    def _rewind(self) -> None:
        """An empty ring starts again where its pages are warm; `open` knows what a death in here looks like."""
        self.at = self.tail = (self.head // self.size + 1) * self.size
        self.publish()
        self.head = self.words[_HEAD] = self.tail

    def _contiguous(self, at: int) -> int:
        """A record never wraps: too near to the end of the ring, it lies at the beginning."""
        return at if self.size - at % self.size >= _ROOM else (at // self.size + 1) * self.size


def _padded(length: int) -> int:
    return _RECORD.size + (length + 7 & ~7)
