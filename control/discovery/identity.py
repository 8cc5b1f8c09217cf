"""Who we are to senders of SNMPv3, kept over restarts: engine id, number of starts, and the clocks of other engines.

Without it every restart would look like another receiver to those who send informs, and messages that were recorded
before it could be played back (RFC 3414 sections 2.2 and 2.3).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from control.discovery.engine import Clocks

FILE = "snmp-engine"  # in dhcp.state_dir
_FORM = bytes.fromhex("80004fb805")  # RFC 3411 section 5: pysnmp's enterprise number, then octets of our own
_BOOTS_MAX = 2**31 - 2


class Identity:
    """now_s: the even clock that `clocks` goes by.  Raises OSError for a file that cannot be read, and ValueError,
    which names it, for a damaged one: a new identity in its place would open the time windows of all senders."""

    def __init__(self, folder: Path, now_s: float) -> None:
        self.path = folder / FILE
        self.engine_id, self.boots, self.clocks = _FORM + os.urandom(8), 0, Clocks()
        if self.path.exists():
            self._read(now_s)

    def _read(self, now_s: float) -> None:
        text = self.path.read_text(encoding="ascii")
        try:
            kept = json.loads(text)
            self.engine_id, self.boots = bytes.fromhex(kept["id"]), int(kept["boots"])
            for engine, (boots, engine_time) in kept["clocks"].items():
                self.clocks.latest[bytes.fromhex(engine)] = (int(boots), int(engine_time), now_s)
        except (ValueError, TypeError, KeyError, AttributeError) as damage:
            raise ValueError(
                f"{self.path}: found {text[:40]!r} ({damage}); wanted the identity that this service once wrote; "
                "delete the file, and senders of SNMPv3 informs will discover a new one"
            ) from damage

    def next_boots(self) -> int:
        """For one new engine.  Raises OSError where it cannot be written: then it must not be used either."""
        self.boots = min(self.boots + 1, _BOOTS_MAX)
        self.save()
        return self.boots

    def save(self) -> None:
        clocks = {engine.hex(): latest[:2] for engine, latest in self.clocks.latest.items()}
        text = json.dumps({"id": self.engine_id.hex(), "boots": self.boots, "clocks": clocks})
        aside = self.path.with_name(FILE + ".new")
        aside.write_text(text, encoding="ascii")
        os.replace(aside, self.path)
        self.clocks.moved = False
