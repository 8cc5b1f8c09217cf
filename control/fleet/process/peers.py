"""The other machines of a shard, as their `have` says: kept by who leads, told to whoever asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from control.fleet.messages import HOST_BYTES_MAX, Have, decode, mark_check
from control.fleet.wire import Reason, Refused, packed, several, text, unpacked, whole

PEERS_MAX: Final = 4096
SILENT_MS: Final = 15_000  # three times between two of them
FORGOTTEN_MS: Final = 24 * 3600 * 1000
_FIELDS: Final = {
    "host": text(HOST_BYTES_MAX, 1), "mark": mark_check, "serves": text(64), "refused": text(),
    "served_s": whole(), "restarts": whole(), "abandoned": whole(), "heard_ms": whole(),
}  # fmt: skip


class Peers:
    def __init__(self, shard: str) -> None:
        self.shard = shard
        self.known: dict[str, tuple[int, Have]] = {}

    def heard(self, raw: bytes, now: int) -> None:
        """What is no `have` of this shard is counted elsewhere."""
        try:
            said = decode(Have, raw)
        except Refused:
            return
        if said.shard != self.shard or (said.host not in self.known and len(self.known) >= PEERS_MAX):
            return
        self.known[said.host] = now, said

    def rows(self, now: int) -> list[dict[str, Any]]:
        """One a machine that was heard of within a day, by name; heard_ms: ago."""
        self.known = {host: found for host, found in self.known.items() if now - found[0] < FORGOTTEN_MS}
        return [
            {
                "host": host, "mark": list(said.mark), "serves": said.serves.hex(), "refused": said.refused,
                "served_s": said.served_s, "restarts": said.restarts, "abandoned": said.abandoned,
                "heard_ms": now - heard,
            }
            for host, (heard, said) in sorted(self.known.items())
        ]  # fmt: skip

    def packed(self, now: int) -> bytes:
        return packed([[row[name] for name in _FIELDS] for row in self.rows(now)])


def rows_of(raw: bytes) -> list[dict[str, Any]]:
    """Of another machine's packed().  Raises Refused."""
    found = several(_row, PEERS_MAX)(unpacked(raw, 1 << 20))
    return list(found)


def _row(value: Any) -> Mapping[str, Any]:
    if type(value) is not list or len(value) < len(_FIELDS):
        raise Refused(Reason.NOT_A_RECORD, f"wanted {len(_FIELDS)} fields")
    row = {name: check(each) for (name, check), each in zip(_FIELDS.items(), value, strict=False)}
    return row | {"mark": list(row["mark"])}
