"""The other machines of a shard, as their `have` says: kept by who leads, told to whoever asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from control.fleet.messages import HOST_BYTES_MAX, VERSION_BYTES_MAX, Have, Head, decode, mark_check
from control.fleet.wire import Reason, Refused, maybe, packed, several, text, unpacked, whole

PEERS_MAX: Final = 4096
SILENT_MS: Final = 15_000  # three times between two of them
FORGOTTEN_MS: Final = 24 * 3600 * 1000
_FIELDS: Final = {
    "host": text(HOST_BYTES_MAX, 1), "mark": mark_check, "serves": text(64), "refused": text(),
    "served_s": whole(), "restarts": whole(), "abandoned": whole(), "heard_ms": whole(),
    "requests_s": whole(), "replies_s": whole(), "age_s": maybe(whole()), "version": text(VERSION_BYTES_MAX),
    "lag_ms": whole(), "adopted": text(64),
}  # fmt: skip
OTHER_TABLE: Final = "it serves another table"
NOT_ADOPTED: Final = "not all of its workers answer from the table"


class Peers:
    """late: since when a machine does not serve what the head names for it."""

    def __init__(self, shard: str) -> None:
        self.shard = shard
        self.known: dict[str, tuple[int, Have]] = {}
        self.late: dict[str, int] = {}

    def heard(self, raw: bytes, now: int) -> None:
        """What is no `have` of this shard is counted elsewhere."""
        try:
            said = decode(Have, raw)
        except Refused:
            return
        if said.shard != self.shard or (said.host not in self.known and len(self.known) >= PEERS_MAX):
            return
        self.known[said.host] = now, said

    def look(self, head: Head | None, now: int) -> None:
        """Once a second, and before it is told; who was not heard of for a day is forgotten."""
        self.known = {host: found for host, found in self.known.items() if now - found[0] < FORGOTTEN_MS}
        self.late = {
            host: self.late.get(host, now)
            for host, (_heard, said) in self.known.items()
            if lacking(head, host, said.serves.hex(), said.adopted.hex(), said.refused)
        }

    def rows(self, now: int) -> list[dict[str, Any]]:
        """One a machine that was heard of within a day, by name; heard_ms: ago; lag_ms: for how long it has not served
        what it should, 0 where it does."""
        return [
            {
                "host": host, "mark": list(said.mark), "serves": said.serves.hex(), "refused": said.refused,
                "served_s": said.served_s, "restarts": said.restarts, "abandoned": said.abandoned,
                "heard_ms": now - heard, "requests_s": said.requests_s, "replies_s": said.replies_s,
                "age_s": said.age_s, "version": said.version, "lag_ms": now - self.late.get(host, now),
                "adopted": said.adopted.hex(),
            }
            for host, (heard, said) in sorted(self.known.items())
            if now - heard < FORGOTTEN_MS
        ]  # fmt: skip

    def counts(self, now: int) -> tuple[int, int]:
        """(machines that were heard of lately, machines that are behind or silent)"""
        silent = {host for host, (heard, _said) in self.known.items() if now - heard > SILENT_MS}
        return len(self.known) - len(silent), len(silent | self.late.keys())

    def without(self, digest: bytes, head: Head | None, now: int) -> tuple[dict[str, str], list[str]]:
        """({machine: why not all of its workers answer from that table}, those that are silent and not waited for)"""
        late, silent = {}, []
        for host, (heard, said) in sorted(self.known.items()):
            if now - heard > SILENT_MS:
                silent.append(host)
            elif said.adopted != digest:
                tried = head is not None and head.trial is not None and head.trial.digest == digest
                waits = "it waits for the canaries" if tried and head is not None and host not in head.canary else ""
                late[host] = (said.refused if said.bad == digest else "") or waits
        return late, silent

    def packed(self, now: int) -> bytes:
        return packed([[row[name] for name in _FIELDS] for row in self.rows(now)])


def lacking(head: Head | None, host: str, serves: str, adopted: str, refused: str) -> str:
    """Why that machine does not serve what the head names for it, or nothing.  serves, adopted: hexadecimal digests."""
    if head is None:
        return "there is no head"
    trial = head.trial if host in head.canary else None
    if serves == (trial or head.stable).digest.hex() or (head.held and serves):
        return "" if adopted == serves else NOT_ADOPTED
    return refused or OTHER_TABLE


def rows_of(raw: bytes) -> list[dict[str, Any]]:
    """Of another machine's packed().  Raises Refused."""
    found = several(_row, PEERS_MAX)(unpacked(raw, 1 << 20))
    return list(found)


def _row(value: Any) -> Mapping[str, Any]:
    if type(value) is not list or len(value) < len(_FIELDS):
        raise Refused(Reason.NOT_A_RECORD, f"wanted {len(_FIELDS)} fields")
    row = {name: check(each) for (name, check), each in zip(_FIELDS.items(), value, strict=False)}
    return row | {"mark": list(row["mark"])}
