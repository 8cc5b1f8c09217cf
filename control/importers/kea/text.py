"""Kea's JSON: with comments (#, //, /* */), with `<?include "FILE"?>`, and with the place of everything in it.

Python's json knows none of the three.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from control.importers.reading import Files, Unreadable
from control.importers.site import Notes, Place, Unfit

DEPTH_MAX: Final = 64
TELL_EVERY: Final = 1 << 16
_TOKEN: Final = re.compile(
    r"""(?P<space>(?:\s++|\#[^\n]*+|//[^\n]*+|/\*(?:[^*]++|\*(?!/))*+\*/)++)
      | (?P<text>"(?:[^"\\]++|\\.)*+")
      | (?P<mark>[{}\[\]:,])
      | <\?include\s+"(?P<include>[^"\n]+)"\s*\?>
      | (?P<word>[-+.\w]++)
      | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_WORDS: Final = {"true": True, "false": False, "null": None}
_INTEGER: Final = re.compile(r"-?\d{1,18}")


class NoJson(Exception):
    """Where it ends to be any, in words."""


class Map(dict[str, Any]):
    """place: where it begins; places: of its keys."""

    __slots__ = ("place", "places")

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.places: dict[str, Place] = {}


class Token(NamedTuple):
    kind: str
    text: str
    place: Place


def tokens(path: Path, files: Files, notes: Notes) -> Iterator[Token]:
    """Of a file and those that it includes.  Raises Unreadable, Unfit."""
    with files.opened(path) as text:
        line, told, at = 1, 0, 0
        name, end = str(path), len(text)
        while at < end:
            found = _TOKEN.match(text, at)
            assert found is not None, "the last alternative takes any character"
            at = found.end()
            kind = found.lastgroup or ""
            said = found[kind]
            if kind == "include":
                yield from _included(files.beside(said), files, notes, Place(name, line))
            elif kind != "space":
                yield Token(kind, said, Place(name, line))
            if "\n" in said:
                line += said.count("\n")
            if at - told >= TELL_EVERY:
                told = at
                files.heard(path.name, at, end)


def _included(path: Path, files: Files, notes: Notes, place: Place) -> Iterator[Token]:
    try:
        yield from tokens(path, files, notes)
    except (Unfit, Unreadable) as error:
        notes.lost(place, f'<?include "{path}"?>', str(error))


class Parser:
    def __init__(self, found: Iterator[Token]) -> None:
        self.rest = found
        self.end = Token("end", "end of file", Place("", 0))
        self.next = next(found, self.end)

    def take(self) -> Token:
        token = self.next
        self.next = next(self.rest, self.end)
        return token

    def is_mark(self, mark: str) -> bool:
        return self.next.kind == "mark" and self.next.text == mark

    def value(self, depth: int = 0) -> Any:
        """Raises NoJson."""
        token = self.take()
        if depth > DEPTH_MAX:
            raise NoJson(f"{token.place.file}:{token.place.line}: {DEPTH_MAX} deep")
        if token.kind == "mark" and token.text == "{":
            return self._map(token.place, depth)
        if token.kind == "mark" and token.text == "[":
            return self._list(depth)
        if token.kind == "text":
            return text_of(token)
        if token.kind == "word":
            if token.text in _WORDS:
                return _WORDS[token.text]
            try:
                return int(token.text) if _INTEGER.fullmatch(token.text) else float(token.text)
            except ValueError:
                pass
        raise wrong(token, "a value")

    def _map(self, place: Place, depth: int) -> Map:
        found = Map(place)
        while not self.is_mark("}"):
            key = self.take()
            if key.kind != "text":
                raise wrong(key, "a name within quotation marks, or }")
            colon = self.take()
            if (colon.kind, colon.text) != ("mark", ":"):
                raise wrong(colon, "a colon")
            name = text_of(key)
            found.places[name] = key.place
            found[name] = self.value(depth + 1)
            if not self._comma("}"):
                break
        self.take()
        return found

    def _list(self, depth: int) -> list[Any]:
        found = []
        while not self.is_mark("]"):
            found.append(self.value(depth + 1))
            if not self._comma("]"):
                break
        self.take()
        return found

    def _comma(self, end: str) -> bool:
        """Whether there is more; a comma before the end is let pass, as newer Keas do."""
        if self.is_mark(end):
            return False
        comma = self.take()
        if (comma.kind, comma.text) != ("mark", ","):
            raise wrong(comma, f"a comma or {end}")
        return True


def wrong(token: Token, wanted: str) -> NoJson:
    return NoJson(f"{token.place.file}:{token.place.line}: found {token.text[:40]}; wanted {wanted}")


def text_of(token: Token) -> str:
    """Raises NoJson."""
    if "\\" not in token.text:
        return token.text[1:-1]
    try:
        return str(json.loads(token.text, strict=False))
    except ValueError:
        raise wrong(token, "a text as JSON has it") from None


def read_json(path: Path, files: Files, notes: Notes) -> Any:
    """Raises Unreadable."""
    parser = Parser(tokens(path, files, notes))
    try:
        found = parser.value()
    except NoJson as error:
        raise Unreadable(f"{error}; it is not Kea's JSON") from error
    if parser.next.kind != "end":
        place = parser.next.place
        raise Unreadable(f"{place.file}:{place.line}: something stands behind the end")
    return found
