"""The lines of dnsmasq's files: options with their values, what they include, and the parts between commas."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from control.importers.dnsmasq.words import LETTERS
from control.importers.reading import Files, Unreadable, files_in
from control.importers.site import Notes, Place, Unfit

TELL_EVERY_LINES: Final = 1_000
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "e": "\x1b"}


class Line(NamedTuple):
    """name: of the option, long; value: what stands behind the =; None: nothing does."""

    name: str
    value: str | None
    place: Place

    @property
    def text(self) -> str:
        return self.name if self.value is None else f"{self.name}={self.value}"


class Quoted(str):
    """A part that stood within quotation marks: a text, whatever it looks like."""

    __slots__ = ()


def plain_lines(files: Files, path: Path) -> Iterator[tuple[str, Place]]:
    """Without comments and empty ones.  Raises Unreadable, Unfit."""
    with files.opened(path) as text:
        name, done = str(path), 0
        for number, line in enumerate(text.split("\n"), 1):
            done += len(line) + 1
            if number % TELL_EVERY_LINES == 0:
                files.heard(path.name, done, len(text))
            if "#" in line:
                line = without_comment(line)
            line = line.strip()
            if line:
                yield line, Place(name, number)


def without_comment(line: str) -> str:
    """A # begins one at the beginning of a line and behind a blank, outside of quotation marks."""
    quoted, blank, at = False, True, 0
    while at < len(line):
        letter = line[at]
        if letter == '"':
            quoted = not quoted
        elif quoted and letter == "\\":
            at += 1
        elif letter == "#" and blank and not quoted:
            return line[:at]
        blank = letter in " \t"
        at += 1
    return line


def options_in(files: Files, path: Path, notes: Notes) -> Iterator[Line]:
    """Of a configuration, with those of the files that it includes in their places.  Raises Unreadable, Unfit."""
    for line, place in plain_lines(files, path):
        name, found, value = line.partition("=")
        name = name.strip().removeprefix("--")
        option = Line(LETTERS.get(name, name), value.strip() if found else None, place)
        if option.name not in ("conf-file", "conf-dir"):
            yield option
            continue
        try:
            for each in included(files, option):
                yield from options_in(files, each, notes)
        except (Unfit, Unreadable) as error:
            notes.lost(place, option.text, str(error))


def included(files: Files, option: Line) -> list[Path]:
    """Raises Unreadable, Unfit."""
    if not option.value:
        raise Unfit("wanted the name of a file")
    name, *extensions = split(option.value)
    path = files.beside(name)
    if option.name == "conf-file":
        return [path]
    kept = [each[1:] for each in extensions if each.startswith("*")]
    skipped = tuple(each for each in extensions if not each.startswith("*"))
    return [
        each
        for each in files_in(path)
        if not each.name.startswith((".", "#"))
        and not each.name.endswith(("~", *skipped))
        and (not kept or each.name.endswith(tuple(kept)))
    ]


def split(value: str) -> list[str]:
    """At commas outside of quotation marks; blanks around the parts go."""
    if '"' not in value:
        return [part.strip() for part in value.split(",")]
    parts: list[str] = []
    part, quoted, was_quoted, at = "", False, False, 0
    while at < len(value):
        letter = value[at]
        if letter == '"':
            quoted, was_quoted = not quoted, True
        elif letter == "\\" and quoted and at + 1 < len(value):
            at += 1
            part += _ESCAPES.get(value[at], value[at])
        elif letter == "," and not quoted:
            parts.append(Quoted(part.strip()) if was_quoted else part.strip())
            part, was_quoted = "", False
        else:
            part += letter
        at += 1
    return [*parts, Quoted(part.strip()) if was_quoted else part.strip()]


def tags_of(parts: list[str], *words: str) -> tuple[list[str], list[str]]:
    """Those that stand in front with one of these words (`set:`, `tag:`), and the other parts."""
    tags: list[str] = []
    rest = list(parts)
    while rest and rest[0].startswith(words):
        tags.append(rest.pop(0).partition(":")[2])
    return tags, rest
