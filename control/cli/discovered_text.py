"""How the answers of `ctl discovered`, `adopt`, `ignore` and `unignore` look to a person."""

from __future__ import annotations

from typing import Any


def render_machine(row: dict[str, Any]) -> list[str]:
    places = [f"{p['switch']} port {p['port']} VLAN {p['vlan']}" for p in row["places"]]
    where = f"{row['switch']} port {row['port']}" if row["switch"] else ", ".join(places) or "seen by DHCP only"
    roles = f", asks as {' and '.join(row['roles'])}" if row["roles"] else ""
    lines = [f"{row['mac']}  {row['state']:<10}  {row['server'] or '-'}  {where}{roles}"]
    if row["reason"]:
        lines.append(f"    {row['reason']}")
    lines += [f"    done: {step}" for step in row["did"]]
    lines += [f"    note: {note}" for note in row["notes"]]
    if row["again_in_s"] is not None:
        lines.append(f"    looked at again in {row['again_in_s']:.0f} s")
    return lines


def render_discovered(found: dict[str, Any]) -> list[str]:
    states = ", ".join(f"{count} {state}" for state, count in sorted(found["states"].items()))
    lines = [f"{found['total']} machines" + (f": {states}" if states else "")]
    for row in found["machines"]:
        lines += render_machine(row)
    lines += [f"uplink  {switch} port {port}: what is behind it is left out" for switch, port in found["uplinks"]]
    return lines
