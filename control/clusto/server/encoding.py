"""JSON parameters -> values, and answers -> JSON; reading.py and queries.py encode the long lists piece by piece,
httpd.py the rest.

Ten thousand members at once are 100 MB of rows; a thousand at a time reuse the same few, and go out as they are.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii
from typing import Any, Final

from control.clusto.errors import Refused

_SMALL_BYTES: Final = 4_096
_DEPTH_MAX: Final = 16  # a list of filters with lists in them has three


@dataclass(slots=True)
class JsonItems:
    """A JSON list whose items are encoded already, several in a piece."""

    pieces: list[bytes] = field(default_factory=list)

    def extend(self, items: str) -> None:
        """items: JSON texts with commas between; an empty text adds none."""
        if items:
            self.pieces.append(items.encode())

    def parts(self) -> Iterator[bytes]:
        yield b"["
        for number, piece in enumerate(self.pieces):
            if number:
                yield b","
            yield piece
        yield b"]"


def from_json(text: str) -> Any:
    """Of a parameter.  Raises Refused, too, for numbers and depths that are JSON's and beyond Python's limits."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise Refused("ValueError", "No JSON object could be decoded") from error
    except (ValueError, RecursionError) as error:
        raise Refused(
            "ValueError", f"JSON with a number of thousands of digits, or nested too deep ({error})"
        ) from error
    if _is_deeper(value, _DEPTH_MAX):
        raise Refused("ValueError", f"JSON nested deeper than {_DEPTH_MAX} levels")
    return value


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    items = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in items)


def encode(answer: Any) -> list[bytes]:
    """The parts of one JSON text.  Keys are sorted as in the original, for every document is made in that order."""
    if isinstance(answer, JsonItems):
        return list(answer.parts())
    if isinstance(answer, Mapping) and any(isinstance(value, JsonItems) for value in answer.values()):
        parts: list[bytes] = []
        for number, (key, value) in enumerate(answer.items()):
            parts += [b"," if number else b"{", json_text(key).encode(), b":", *encode(value)]
        return [*_joined(parts), b"}"]
    if isinstance(answer, list) and answer and isinstance(answer[0], Mapping):
        parts = [part for item in answer for part in (b",", *encode(item))]
        return [*_joined([b"[", *parts[1:]]), b"]"]
    return [json.dumps(answer, separators=(",", ":")).encode()]


def _joined(parts: list[bytes]) -> Iterator[bytes]:
    """Small neighbours in one: every part is a write of the server."""
    small: list[bytes] = []
    for part in parts:
        if len(part) < _SMALL_BYTES:
            small.append(part)
            continue
        yield b"".join(small)
        small.clear()
        yield part
    yield b"".join(small)


def json_text(value: Any) -> str:
    """One value; the common kinds without the encoder's detours."""
    if type(value) is str:
        return encode_basestring_ascii(value)
    if type(value) is int:
        return str(value)
    return json.dumps(value, separators=(",", ":"))
