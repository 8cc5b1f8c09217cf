"""Who we are to senders of SNMPv3, kept over restarts: engine id, number of starts, and the clocks of other engines.

Without it every restart would look like another receiver to those who send informs, and messages that were recorded
before it could be played back (RFC 3414 sections 2.2 and 2.3).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from control.discovery.statefile import json_object, open_new, read_file, write_all
from control.discovery.traps.engine import ENGINES_MAX, Clocks

FILE = "snmp-engine"  # in dhcp.state_dir
FILE_BYTES_MAX = 16 << 20
_FORM = bytes.fromhex("80004fb805")  # RFC 3411 section 5: pysnmp's enterprise number, then octets of our own
_BOOTS_MAX = 2**31 - 2


class Identity:
    """now_s: the even clock that `clocks` goes by.  Raises OSError for a file that cannot be read, and ValueError,
    which names it, for a damaged one: a new identity in its place would open the time windows of all senders."""

    def __init__(self, folder: Path, now_s: float) -> None:
        self.path = folder / FILE
        self.engine_id, self.boots, self.clocks = _FORM + os.urandom(8), 0, Clocks()
        try:
            text = read_file(self.path, FILE_BYTES_MAX)
        except FileNotFoundError:
            return
        try:
            self._take(json_object(text), now_s)
        except ValueError as damage:
            raise ValueError(
                f"{self.path}: found {text[:40]!r} ({str(damage)[:200]}); wanted the identity that this service once "
                "wrote; delete the file, and senders of SNMPv3 informs will discover a new one"
            ) from damage

    def _take(self, kept: dict[str, Any], now_s: float) -> None:
        """Raises ValueError; then nothing of it counts."""
        engine_id, boots, clocks = octets(kept.get("id")), whole(kept.get("boots")), kept.get("clocks")
        if not isinstance(clocks, dict) or len(clocks) > ENGINES_MAX:
            raise ValueError("clocks that are no object, or too many")
        latest = {}
        for engine, said in clocks.items():
            if not isinstance(said, list) or len(said) != 2:
                raise ValueError(f"a clock that is {str(said)[:40]!r}")
            latest[octets(engine, 0)] = (whole(said[0]), whole(said[1]), now_s)
        self.engine_id, self.boots = engine_id, boots
        self.clocks.latest.update(latest)

    def next_boots(self) -> int:
        """For one new engine.  Raises OSError where it cannot be written: then it must not be used either."""
        self.boots = min(self.boots + 1, _BOOTS_MAX)
        self.save()
        return self.boots

    def save(self) -> None:
        clocks = {engine.hex(): latest[:2] for engine, latest in self.clocks.latest.items()}
        text = json.dumps({"id": self.engine_id.hex(), "boots": self.boots, "clocks": clocks})
        aside = self.path.with_name(FILE + ".new")
        fd = open_new(aside)
        try:
            write_all(fd, text.encode("ascii"))
        finally:
            os.close(fd)
        os.replace(aside, self.path)
        self.clocks.moved = False


def octets(engine_id: object, least: int = 5) -> bytes:
    """Of an SnmpEngineID (RFC 3411 section 5); those of others are as they said them.  Raises ValueError."""
    found = bytes.fromhex(engine_id) if isinstance(engine_id, str) else None
    if found is None or not least <= len(found) <= (32 if least else 255):
        raise ValueError(f"an engine id that is {str(engine_id)[:80]!r}; wanted hexadecimal digits")
    return found


def whole(number: object) -> int:
    """Of boots or an engine's time (RFC 3414 section 2.2).  Raises ValueError."""
    if type(number) is not int or not 0 <= number < 2**31:
        raise ValueError(f"a number that is {str(number)[:40]!r}; wanted 0 to {2**31 - 1}")
    return number
