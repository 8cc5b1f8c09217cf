"""`ctl hold`, `once`, `release` and `overrides` as a terminal shows them, and what other views say of them.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from control.explain.sentences import lasting


def render_overrides(found: Mapping[str, Any]) -> list[str]:
    """A line for each, and what is not as it should be."""
    lines = [line for each in found["overrides"] for line in render_override(each)] or ["no overrides"]
    return lines + faults(found)


def render_changed(found: Mapping[str, Any]) -> list[str]:
    lines = [line for each in found["overrides"] for line in render_override(each)]
    return lines + faults(found)


def render_released(found: Mapping[str, Any]) -> list[str]:
    names = (f"{each['host']}{' (BMC)' if each['role'] == 'bmc' else ''}" for each in found["overrides"])
    return [f"released: {name}" for name in names] + faults(found)


def render_override(each: Mapping[str, Any]) -> list[str]:
    host = each["host"] + (" (BMC)" if each["role"] == "bmc" else "")
    left_s = each["left_s"]
    forever = "until it is released" if each["kind"] == "hold" else "for its next boot"
    until = forever if left_s is None else f"{lasting(left_s)} left"
    since = f"{datetime.fromtimestamp(each['made_s'], UTC):%Y-%m-%d %H:%M:%SZ}"
    who = f"{each['number']}  {each['kind']}  {host}  {', '.join(each['macs'])}"
    line = f"{who}  uid {each['uid']} since {since}, {until}"
    lines = [line + (f": {each['because']}" if each["because"] else "")]
    lines += [f"   {name}={value}" for name, value in each["options"]]
    lines += [f"   until its class is {each['until']}"] if each["until"] else []
    return lines + (["   the inventory does not have it now"] if each["absent"] else [])


def render_once(overrides: Iterable[Mapping[str, Any]]) -> list[str]:
    """Lines of `ctl lookup`, for what the next boot gets."""
    return [
        f"  for one boot, by uid {each['uid']}: {' '.join(f'{name}={value}' for name, value in each['options'])}"
        for each in overrides
        if each["options"]
    ]


def faults(found: Mapping[str, Any]) -> list[str]:
    lines = [f"A RESTART UNDOES IT: {found['unsaved']}"] if found["unsaved"] else []
    return lines + ([f"NOT IN FORCE YET: {found['unlaid']}; it is tried again"] if found["unlaid"] else [])


def render_status(overrides: Mapping[str, Any]) -> list[str]:
    """Lines of `ctl status`; none where nothing is overridden."""
    if not overrides.get("total"):
        return []
    lines = [f"OVERRIDES   {overrides['total']:,} in force; all of them: ctl overrides"]
    lines += [f"  {each}" for each in overrides["first"]]
    return lines + [f"  {line}" for line in faults(overrides)]
