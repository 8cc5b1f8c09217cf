"""A row of the table in words, as `ctl lookup` and `ctl diff` show it.  Pure."""

from __future__ import annotations

from typing import Any

from ext.classify import ClientClass


def describe_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the table as people read it: host, state, and a lease for each address; one without address for a host
    whose address another server gives."""
    return {
        "host": row["name"].decode("utf-8", "replace"),
        "state": row["state"],
        "leases": [
            {
                "address": _dotted(lease["address"]) if lease["address"] else None,
                "prefix": lease["prefix"],
                "lease_s": lease["template"]["lease_s"],
                "renewal_s": lease["template"]["renewal_s"],
                "rebinding_s": lease["template"]["rebinding_s"],
                "siaddr": _dotted(lease["template"]["siaddr"]),
                "file": lease["template"]["file"].decode("utf-8", "replace"),
                "options": split_options(lease["template"]["options"] + row["own"]),
                "classes": {
                    (
                        client if isinstance(client, str) else ClientClass(client).name.lower().replace("_", "-")
                    ): describe_variant(lease["template"], variant)
                    for client, variant in lease["template"].get("variants", {}).items()
                },
            }
            for lease in row["leases"]
        ],
    }


def port_reason(row: dict[str, Any] | None) -> str | None:
    """Why a known card is not served; None for any other row.  It is said here, and not kept for each of a million."""
    if row is None or "port" not in row:
        return None
    return f"port-nic-eth {row['port']} of {row['name'].decode('utf-8', 'replace')} is not one of its boot_ports"


def describe_variant(everybody: dict[str, Any], variant: dict[str, Any]) -> dict[str, Any]:
    """What a client class gets otherwise than everybody; an option that it does not get is None."""
    found = {
        word: variant[word] for word in ("lease_s", "renewal_s", "rebinding_s") if variant[word] != everybody[word]
    }
    if variant["siaddr"] != everybody["siaddr"]:
        found["siaddr"] = _dotted(variant["siaddr"])
    if variant["file"] != everybody["file"]:
        found["file"] = variant["file"].decode("utf-8", "replace")
    before, now = split_options(everybody["options"]), split_options(variant["options"])
    return found | {
        f"option {code}": now.get(code) for code in before.keys() | now.keys() if before.get(code) != now.get(code)
    }


def split_options(blob: bytes) -> dict[str, str]:
    """Encoded options -> code -> hex."""
    options: dict[str, str] = {}
    at = 0
    while at + 1 < len(blob):
        code, length = str(blob[at]), blob[at + 1]
        options[code] = options.get(code, "") + blob[at + 2 : at + 2 + length].hex()
        at += 2 + length
    return options


def _dotted(address: int) -> str:
    return ".".join(str(address >> shift & 0xFF) for shift in (24, 16, 8, 0))
