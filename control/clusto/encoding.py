"""Answers -> JSON text; reading.py encodes the long lists piece by piece, server.py the rest.

Ten thousand members at once are 100 MB of rows and dicts; a thousand at a time reuse the same few.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class JsonItems:
    """A JSON list whose items are encoded already, several in a piece."""

    pieces: list[str] = field(default_factory=list)

    def extend(self, items: Sequence[Any]) -> None:
        if items:
            self.pieces.append(_text(items)[1:-1])


def encode(answer: Any) -> str:
    """Keys are sorted as in the original, for every document is made in that order."""
    if isinstance(answer, JsonItems):
        return f"[{','.join(answer.pieces)}]"
    if isinstance(answer, Mapping) and any(isinstance(value, JsonItems) for value in answer.values()):
        return "{" + ",".join(f"{_text(key)}:{encode(value)}" for key, value in answer.items()) + "}"
    return _text(answer)


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
