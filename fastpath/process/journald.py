"""systemd's journal by its own socket: entries with fields, one datagram each, and never a wait for it.

Where standard error leads to the journal, systemd says so in JOURNAL_STREAM, by device and inode.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from typing import Final

from fastpath.process.log_forms import OWN, journal_entry, made

PATH: Final = "/run/systemd/journal/socket"
PATH_VARIABLE: Final = "BOOTSTORM_JOURNAL_SOCKET"  # another one, for tests
SEND_BUFFER_BYTES: Final = 8 << 20  # as systemd's own library asks for; the kernel gives what net.core.wmem_max allows


def leads_to_journal(fd: int) -> bool:
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


class JournalSocket:
    """missed: messages that it did not take, because it is full or not there.  Not for two threads at once.

    Made before a process gives up what it may ask of the kernel: a worker may send, and open no socket."""

    def __init__(self) -> None:
        self.path = os.environ.get(PATH_VARIABLE) or PATH
        self.missed = self.told = 0
        self.sock: socket.socket | None = None
        with contextlib.suppress(OSError):  # no descriptor is left: it takes no message then
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.sock.setblocking(False)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def send(self, record: logging.LogRecord) -> bool:
        """False: the message has to go elsewhere."""
        if not self.put(record):
            self.missed += 1
            return False
        if self.missed > self.told:
            words = f"{self.missed - self.told} messages went to standard error: the journal's socket took none of them"
            if self.put(made(OWN, logging.WARNING, words)):
                self.told = self.missed
        return True

    def put(self, record: logging.LogRecord) -> bool:
        if self.sock is None:
            return False
        try:
            self.sock.sendto(journal_entry(record), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL, self.path)
        except OSError:  # also of a message that is too long for one datagram
            return False
        return True
