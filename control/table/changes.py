"""What a refresh changed, host by host, as an operator reads it.  Pure."""

from __future__ import annotations

from typing import Any

from ext.table import Changes, Pair

from control.table.rows import describe_row


def describe_changes(old: Pair, new: Pair, changes: Changes, offset: int, limit: int) -> list[dict[str, Any]]:
    """[{"mac", "host", "old", "new"}] from the offset-th on: added, then changed, then removed hosts.

    old and new hold what differs, everything where the other is None; None where there was no such host."""
    keys = [key for part in (changes.added, changes.changed, changes.removed) for key in part]
    found = []
    for mac, role in keys[offset : offset + limit]:
        before, after = old.lookup(mac, role), new.lookup(mac, role)
        was = flat(before) if before is not None else None
        now = flat(after) if after is not None else None
        if was is not None and now is not None:
            same = {word for word in was.keys() & now.keys() if was[word] == now[word]}
            was = {word: value for word, value in was.items() if word not in same}
            now = {word: value for word, value in now.items() if word not in same}
        row = after or before
        found.append(
            {
                "mac": mac.to_bytes(6, "big").hex(":"),
                "host": (row["name"].decode("utf-8", "replace") if row is not None else "") + " (BMC)" * role,
                "old": was,
                "new": now,
            }
        )
    return found


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """describe_row with one level: the words of the first lease, of a further one with its number."""
    described = describe_row(row)
    words = {"host": described["host"], "state": described["state"]}
    for number, lease in enumerate(described["leases"], 1):
        mark = "" if number == 1 else f" {number}"
        if lease["address"] is not None:
            words[f"address{mark}"] = f"{lease['address']}/{lease['prefix']}"
            words |= {f"{word}{mark}": lease[word] for word in ("lease_s", "renewal_s", "rebinding_s")}
        words |= {f"{word}{mark}": lease[word] for word in ("file", "siaddr")}
        words |= {f"option {code}{mark}": value for code, value in lease["options"].items()}
        for name, said in lease["classes"].items():
            words |= {f"{word}{mark} for {name}": value for word, value in said.items()}
    return words
