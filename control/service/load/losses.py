"""What is lost before anybody reads it, as far as the kernel says: for the status and the metrics.

The kernel counts datagrams that found a socket's queue full for the whole network namespace.  Its count of each socket
is of no use here: it includes what the sockets' filters discard on purpose.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastpath.process.slot_words import SlotWords

SNMP = Path("/proc/net/snmp")


def losses(words: SlotWords | None, workers: int) -> dict[str, Any]:
    """{"udp_rcvbuf_errors": of this network namespace since it exists, None where it cannot be read; "queues": as
    SlotWords.queues()}."""
    return {
        "udp_rcvbuf_errors": rcvbuf_errors(),
        "queues": words.queues(workers) if words is not None else [],
    }


def rcvbuf_errors(path: Path = SNMP) -> int | None:
    """RcvbufErrors of the lines `Udp:`, the first of which has the names."""
    try:
        lines = [line.split() for line in path.read_text(encoding="ascii").splitlines() if line.startswith("Udp: ")]
        return int(dict(zip(*lines, strict=True))["RcvbufErrors"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
