"""A bulk answer, member by member: 80,000 of them are 100 MB of JSON, and would be a gigabyte of objects.  Pure.

Only the document's outer shape is walked here; each member is parsed by the json module and forgotten.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from control.clusto.answers import check_density
from control.sources.model import InventoryMalformed, Thing, parse_member, shown

_space = re.compile(r"[ \t\n\r]*")
_decode = json.JSONDecoder().raw_decode


def scan_members(content: bytes | bytearray, where: str) -> Iterator[Thing]:
    """The `contents` of a show document with prefetched attributes -> things, as parse_members.

    Raises InventoryMalformed, ValueError and RecursionError in the middle: what came before is good."""
    check_density(content)
    text = content.decode()
    at = _past_space(text, 0)
    if text[at : at + 1] != "{":
        body, end = _decode(text, at)
        _check_end(text, end)
        raise InventoryMalformed(f"{where}: found {shown(body)}, wanted a show document")
    at = _past_space(text, at + 1)
    while text[at : at + 1] != "}":
        if text[at : at + 1] != '"':
            raise json.JSONDecodeError("Expecting property name enclosed in double quotes", "", at)
        key, at = _decode(text, at)
        at = _expect(text, at, ":")
        if key == "contents" and text[at : at + 1] == "[":
            at = _past_space(text, at + 1)
            while text[at : at + 1] != "]":
                item, at = _decode(text, at)
                yield parse_member(item, where)
                at = _next(text, at, "]")
            at += 1
        else:
            value, at = _decode(text, at)
            if key == "contents":
                raise InventoryMalformed(f"{where}.contents: found {shown(value)}, wanted a list")
        at = _next(text, at, "}")
    _check_end(text, at + 1)


def _past_space(text: str, at: int) -> int:
    found = _space.match(text, at)
    return found.end() if found is not None else at


def _expect(text: str, at: int, mark: str) -> int:
    at = _past_space(text, at)
    if text[at : at + 1] != mark:
        raise json.JSONDecodeError(f"Expecting {mark!r}", "", at)
    return _past_space(text, at + 1)


def _next(text: str, at: int, end: str) -> int:
    """Behind a comma, or at the end's mark."""
    at = _past_space(text, at)
    if text[at : at + 1] == end:
        return at
    at = _expect(text, at, ",")
    if text[at : at + 1] == end:
        raise json.JSONDecodeError("Expecting value", "", at)
    return at


def _check_end(text: str, at: int) -> None:
    if _past_space(text, at) != len(text):
        raise json.JSONDecodeError("Extra data", "", at)
