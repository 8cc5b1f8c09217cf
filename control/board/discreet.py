"""Explanations and packets without what does not belong on a screen that hangs on a wall.  Pure.

Boot files, URLs, vendor options and keys are named and measured, never shown: whoever reads the board needs to know
that they are there.  Shown are the values of a list of options; one that is not on it is not shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from control.explain.recent import line_of
from control.explain.wording import purpose_of

SHOWN: Final = frozenset(  # options whose values are addresses, times and kinds
    {1, 3, 26, 28, 50, 51, 53, 54, 57, 58, 59, 61, 93, 94}
)


NOT_SHOWN: Final = "(not shown here)"
# As repr() and control.plan.networks.quote() write a value; one that was cut has no end, and takes more along.
_VALUE: Final = re.compile(r"""'(?:[^'\\]|\\.)*(?:'|\\?$)|"(?:[^"\\]|\\.)*(?:"|\\?$)""", re.DOTALL)
_FOUND: Final = re.compile(r"\bfound .*(?=[;,] wanted)|\bfound .*", re.DOTALL)
_OF_OPTIONS: Final = re.compile(r"\bdhcp\b|\boption\b")
# Of a boot loop (control/service/machines/identities.py: loop_words): file and server, up to what is to be looked at.
_LOOK_AT: Final = r"; (?:does (?:that server|it get the file)|its firmware is given) .*(?:\?|to its script)$"
_GIVEN: Final = re.compile(rf"\bgiven the boot file (?:.*(?={_LOOK_AT})|.*)", re.DOTALL)


def reason(said: Any) -> Any:
    """A reason, a fault or a warning without what the inventory has as a value: its key is enough to find it.  Behind
    `found` all goes that may be a value, up to the last `wanted`; of options, whatever is quoted, too."""
    if not isinstance(said, str):
        return said
    said = _GIVEN.sub(f"given the boot file {NOT_SHOWN}", said)
    if _OF_OPTIONS.search(said):
        return _VALUE.sub(NOT_SHOWN, _FOUND.sub(f"found {NOT_SHOWN}", said))
    if (at := said.find("found ")) >= 0:
        return said[:at] + _VALUE.sub(NOT_SHOWN, said[at:])
    return said


def option_row(option: Mapping[str, Any]) -> dict[str, Any]:
    code = option["code"]
    value = option["value"] if code in SHOWN else f"{len(option['value'])} characters, not shown here"
    return {"code": code, "name": option["name"], "plain": purpose_of(code)[2], "value": value}


def reply_row(reply: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if reply is None:
        return None
    return {
        "message": reply["message"],
        "address": reply["address"],
        "route": f"{reply['destination']}, port {reply['port']}"
        + (f", to {reply['to_mac']}" if reply["to_mac"] else ""),
        "bytes": reply["bytes"],
        "has_boot_file": bool(reply["boot_file"]),
        "options": [option_row(option) for option in reply["options"]],
    }


def machine(explained: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of `explain`: [{"network", "by", "groups": [{"classes", "verdict", "meaning", "advice", "reply"}]}]."""
    return [
        {
            "network": network["network"],
            "by": network["by"],
            "groups": [
                {
                    "classes": group["classes"],
                    "verdict": group["explained"]["verdict"],
                    "meaning": group["explained"]["meaning"],
                    "advice": group["explained"]["advice"],
                    "reply": reply_row(group["explained"]["reply"]),
                }
                for group in network["groups"]
            ],
        }
        for network in explained["networks"]
    ]


def packets(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """[{"time", "line"}] of what the flight recorders have, oldest first: who, what, from where, what became of it."""
    return [
        {
            "time": datetime.fromtimestamp(record["time_ns"] / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z",
            "line": line_of(dict(record)),
        }
        for record in records
    ]
