"""Text of foreign origin (names of the inventory, what clients and switches say) as one may print it.

Wherever text leaves for a terminal or a log, it goes through here, and nowhere before: what is kept and what is
compared stays as it came.
"""

from __future__ import annotations

import logging
import traceback
from typing import Any

_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def shown(text: str, most: int | None = None) -> str:
    """One line without anything that a terminal obeys: control characters, line and paragraph separators, spaces other
    than the plain one, bidirectional and other format characters, and halves of surrogate pairs are written out, as
    \\x1b or \\u202e.  Letters of every script stay.  most: characters of the text; what is more is counted."""
    more = "" if most is None or len(text) <= most else f"... ({len(text)} characters)"
    text = text if not more else text[:most]
    if not text.isprintable():
        text = "".join(character if character.isprintable() else _escaped(character) for character in text)
    return text + more


def _escaped(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shown_all(value: Any) -> Any:
    """A value as JSON has it, with every text in it, names of fields included, as shown() says."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, dict):
        return {shown_all(name): shown_all(each) for name, each in value.items()}
    if isinstance(value, list):
        return [shown_all(each) for each in value]
    if isinstance(value, tuple):
        parts = [shown_all(each) for each in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


class LineFormatter(logging.Formatter):
    """One line a message, whatever is in it; the lines of a traceback each begin with `  | `, so that none of them can
    pass for a message."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = shown(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        text = "".join(traceback.format_exception(*ei)).rstrip("\n")
        return "\n".join(f"  | {shown(line)}" for line in text.split("\n"))

    def formatStack(self, stack_info: str) -> str:
        return "\n".join(f"  | {shown(line)}" for line in stack_info.split("\n"))
