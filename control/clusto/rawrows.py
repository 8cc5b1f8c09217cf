"""YAML or CSV -> rows as they stand there, one by one, with limits; hostfile.py knows what they mean.  Pure.

A file is foreign text: 460 bytes of aliases to aliases are a gigabyte when somebody writes them out, and one line
without end is a row without end.  Limits name the line.
"""

import codecs
import csv
import os
import re
import reprlib
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TextIO
from weakref import WeakKeyDictionary

import yaml
from yaml.composer import Composer
from yaml.constructor import ConstructorError, SafeConstructor
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import Resolver
from yaml.scanner import Scanner

KINDS: Final = ("networks", "pools", "containers", "hosts")
FILE_BYTES_MAX: Final = 1 << 30
ROW_CHARS_MAX: Final = 4 << 20  # of text, until a row of CSV or an event of YAML is complete
VALUES_MAX: Final = 20_000  # of one row in YAML, with what its aliases stand for
DEPTH_MAX: Final = 32
ALIASED_MAX: Final = 1_000_000  # values that aliases stand for in a whole file, and ALIASED_PER_VALUE for each written
ALIASED_PER_VALUE: Final = 50
ANCHORS_MAX: Final = 10_000  # what is anchored stays in memory to the file's end

MERGE_TAG: Final = "tag:yaml.org,2002:merge"
TELL_EVERY_CHARS: Final = 1 << 16

Heard = Callable[[int], None]
"""Called with the characters that were read, every TELL_EVERY_CHARS, also while nothing in them is asked for."""

_INTEGER: Final = re.compile(r"-?\d{1,18}", re.ASCII)

_NONE: Final[Mapping[str, int]] = MappingProxyType({})
RawRow = tuple[str, str, dict[str, Any]]
"""(kind, where, fields)."""

SHOWN_BITS_MAX: Final = 128


class _Short(reprlib.Repr):
    def repr_int(self, value: int, level: int) -> str:
        """Python refuses to write out an integer of more than 4,300 digits, and YAML has them in hexadecimal."""
        bits = value.bit_length()
        return f"a number of {bits} bits" if bits > SHOWN_BITS_MAX else super().repr_int(value, level)


_short: Final = _Short()
_short.maxstring = _short.maxother = _short.maxlong = 100
_short.maxlevel = 2


class Unreadable(ValueError):
    """The file as a whole is none of ours (no YAML, no mapping, no UTF-8); nothing may be concluded from it."""


class Where(str):
    """The place of a row, in words.  line: where it begins; 0: not known.  options: subkey -> line, of those of its
    `dhcp` attributes that stand on another one.  subject: the row's name, as far as it can be told.  id: what tells the
    object apart from others of its name; "": its name does."""

    __slots__ = ("id", "line", "options", "subject")

    def __new__(
        cls, text: str, line: int = 0, options: Mapping[str, int] = _NONE, subject: str = "", told_apart: str = ""
    ) -> "Where":
        made = super().__new__(cls, text)
        made.line, made.options, made.subject, made.id = line, options, subject, told_apart
        return made

    line: int
    options: Mapping[str, int]
    subject: str
    id: str


@dataclass(frozen=True, slots=True)
class Fault:
    """One line that names a bad row or option, or what is wrong with the whole file.

    where: of the row; a Where knows more.  kind, name, driver: of a row that is lost with it, if it says them."""

    text: str
    where: str = ""
    kind: str = ""
    name: str = ""
    driver: str = ""


def shown(value: Any) -> str:
    """For a message: the beginning, however large or deep the whole."""
    return _short.repr(value)[:120]


def check_file(stream: TextIO, name: str) -> None:
    """Raises Unreadable for what has no end, or is too long to be a site's file."""
    found = os.fstat(stream.fileno())
    if not stat.S_ISREG(found.st_mode):
        raise Unreadable(f"{name}: no regular file")
    if found.st_size > FILE_BYTES_MAX:
        raise Unreadable(f"{name}: {found.st_size} bytes; wanted at most {FILE_BYTES_MAX}")
    begin: bytes = stream.buffer.peek(4)[:4]  # type: ignore[attr-defined]
    if begin.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in begin:
        raise Unreadable(f"{name}: line 1: UTF-16 or UTF-32; wanted UTF-8: save it as that")


def _no_utf8(stream: TextIO, name: str) -> Unreadable:
    """The line is looked for anew: the text layer reads ahead of whoever asks for lines."""
    stream.buffer.seek(0)
    decoder = codecs.getincrementaldecoder("utf-8")()
    number = 1
    while line := stream.buffer.readline(TELL_EVERY_CHARS):
        try:
            decoder.decode(line)
        except UnicodeDecodeError as error:
            found = f"byte 0x{error.object[error.start]:02x} is not UTF-8 (perhaps Latin-1 or Windows-1252)"
            return Unreadable(f"{name}: line {number}: {found}; wanted UTF-8: save it as that")
        number += line.endswith(b"\n")
    return Unreadable(f"{name}: line {number}: ends within a character of UTF-8; wanted a whole file")


# YAML -----------------------------------------------------------------------------------------------------------------


class _Counting:
    def __init__(self, stream: TextIO, name: str, heard: Heard) -> None:
        self.stream = stream
        self.name = name
        self.heard = heard
        self.total = self.told = self.line = 0
        self.since = 0  # characters that came since the parser made something of them

    def count(self, text: str) -> None:
        self.since += len(text)
        self.total += len(text)
        if self.total - self.told >= TELL_EVERY_CHARS:
            self.told = self.total
            self.heard(self.total)


class _Text(_Counting):
    """What the YAML parser reads from."""

    def read(self, size: int) -> str:
        text = self.stream.read(size)
        self.count(text)
        if self.since > ROW_CHARS_MAX:
            raise Unreadable(f"{self.name}: a value of more than {ROW_CHARS_MAX} characters; no row is that long")
        return text


class _PythonParser(Reader, Scanner, Parser):
    """Where PyYAML was built without libyaml."""

    def __init__(self, stream: Any) -> None:
        Reader.__init__(self, stream)
        Scanner.__init__(self)
        Parser.__init__(self)


_Events: Any = getattr(getattr(yaml, "cyaml", None), "CParser", _PythonParser)


class _Loader(Composer, _Events, SafeConstructor, Resolver):  # type: ignore[misc]
    """The parser in C, whose events the composer of Python takes item by item instead of a document at once."""

    def __init__(self, stream: TextIO, name: str, heard: Heard) -> None:
        self.text = _Text(stream, name, heard)
        self.name = name
        self.values = self.first = 0  # of the item under way, and where it began
        self.written = self.aliased = 0  # in the whole file
        self.depth = 0
        self.node: Any = None  # of the last item
        self.sizes: dict[str, int] = {}  # anchor -> values
        self.doubled: WeakKeyDictionary[Any, str] = WeakKeyDictionary()  # mapping -> the key, and where
        _Events.__init__(self, self.text)
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)

    def item(self) -> Any:
        """The next key, value or list item.  Raises BadItem for what cannot be made of it."""
        self.values = 0
        self.node = node = self.compose_node(None, None)  # type: ignore[arg-type]
        try:
            return self.construct_document(node)
        except Exception as error:  # PyYAML's constructors raise whatever Python does: `!!bool x` is a KeyError
            self.constructed_objects = {}
            self.recursive_objects = {}
            self.state_generators = []
            self.deep_construct = False
            reason = getattr(error, "problem", None) or f"{type(error).__name__}: {error}"
            raise BadItem(f"line {node.start_mark.line + 1}: {reason[:200]}", texts_of(node)) from error

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        self.text.since = 0
        alias = isinstance(event, yaml.AliasEvent)
        anchor: Any = getattr(event, "anchor", None)
        before = self.values
        if alias:
            if anchor in self.anchors and anchor not in self.sizes:
                self.refuse(event, f"*{anchor} stands within itself")
            self.values += self.sizes.get(anchor, 0)
            self.aliased += self.sizes.get(anchor, 0)
        else:
            self.values += 1
            self.written += 1
        if self.values > VALUES_MAX:
            self.refuse(event, f"a row of more than {VALUES_MAX} values, what its aliases stand for counted")
        if self.aliased > ALIASED_MAX + ALIASED_PER_VALUE * self.written:
            self.refuse(event, f"aliases stand for {self.aliased} values in a file of {self.written}")
        self.depth += 1
        if self.depth > DEPTH_MAX:
            self.refuse(event, f"lists and mappings {self.depth} deep; wanted at most {DEPTH_MAX}")
        node = super().compose_node(parent, index)
        self.depth -= 1
        if anchor is not None and not alias:
            self.sizes[anchor] = self.values - before
            if len(self.sizes) > ANCHORS_MAX:
                self.refuse(event, f"more than {ANCHORS_MAX} anchors")
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Notes a key that stands twice; what is raised here would leave the parser in the middle of an item."""
        node: Any = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE_TAG:
                line = key.start_mark.line + 1
                first = lines.get((key.tag, key.value))
                if first is not None:
                    self.doubled[node] = f"key {shown(key.value)} stands twice, on lines {first} and {line}"
                lines[key.tag, key.value] = line
        return node

    def flatten_mapping(self, node: Any) -> None:
        """Of every mapping that is constructed, and of those that are merged into it."""
        if node in self.doubled:
            raise ConstructorError(None, None, f"{self.doubled[node]}; wanted each key once", node.start_mark)
        super().flatten_mapping(node)

    def refuse(self, event: Any, reason: str) -> None:
        raise Unreadable(f"{self.name}: line {event.start_mark.line + 1}: {reason}")

    def skip(self) -> None:
        """Past the next item, but for what is anchored in it: a later item may refer to that."""
        depth = 0
        self.values = 0
        while True:
            self.text.since = 0
            if not self.check_event(yaml.AliasEvent) and getattr(self.peek_event(), "anchor", None) is not None:
                self.values = 0
                self.compose_node(None, None)
                if depth == 0:
                    return
                continue
            event = self.get_event()
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth == 0:
                return


class BadItem(ValueError):
    """An item that is YAML and still nothing: an unknown tag, a date that is none, a number without end.

    fields: its own texts, by key."""

    def __init__(self, text: str, fields: dict[str, str]) -> None:
        super().__init__(text)
        self.fields = fields


def texts_of(node: Any) -> dict[str, str]:
    """What stands in a mapping without further lists and mappings, whatever else is wrong with it."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return {
        key.value: value.value
        for key, value in pairs
        if isinstance(key, yaml.ScalarNode) and isinstance(value, yaml.ScalarNode)
    }


def lost(text: str, where: str, kind: str, fields: dict[str, Any]) -> Fault:
    """The fault of a row that cannot be taken at all."""
    name, driver = fields.get("name"), fields.get("driver")
    return Fault(text, where, kind, name if isinstance(name, str) else "", driver if isinstance(driver, str) else "")


def yaml_rows(stream: TextIO, name: str, kinds: Collection[str], heard: Heard) -> Iterator[RawRow | Fault]:
    """Raises Unreadable."""
    try:
        loader = _Loader(stream, name, heard)
        while not loader.check_event(yaml.StreamEndEvent):
            if isinstance(loader.get_event(), yaml.DocumentStartEvent):
                break
        if not loader.check_event(yaml.MappingStartEvent):
            raise Unreadable(f"{name}: no mapping; wanted one with {', '.join(KINDS)}")
        loader.get_event()
        while not loader.check_event(yaml.MappingEndEvent):
            yield from _yaml_list(loader, name, kinds)
        # What stands behind is read as well: it may be no YAML.
        while not loader.check_event(yaml.StreamEndEvent):
            loader.text.since = 0
            if isinstance(loader.get_event(), yaml.DocumentStartEvent):
                raise Unreadable(f"{name}: several documents; wanted one")
    except UnicodeDecodeError as error:
        raise _no_utf8(stream, name) from error
    except (yaml.YAMLError, UnicodeError, RecursionError) as error:
        raise Unreadable(f"{name}: not YAML: {' '.join(str(error).split())[:500]}") from error


def _yaml_list(loader: _Loader, name: str, kinds: Collection[str]) -> Iterator[RawRow | Fault]:
    try:
        kind = loader.item()
    except BadItem as error:
        raise Unreadable(f"{name}: {error}; wanted lists named {', '.join(KINDS)}") from error
    if not isinstance(kind, str) or kind not in KINDS or not loader.check_event(yaml.SequenceStartEvent):
        try:
            value = loader.item()
        except BadItem as error:
            yield Fault(f"{name}: {error}", Where(name, _line_of(loader.node)))
            return
        if value is not None or kind not in KINDS:
            said = f"{name}: {shown(kind)}; wanted lists named {', '.join(KINDS)}"
            yield Fault(said, Where(name, _line_of(loader.node)))
        return
    if kind not in kinds:
        loader.skip()
        return
    loader.get_event()
    number = 0
    while not loader.check_event(yaml.SequenceEndEvent):
        number += 1
        try:
            row = loader.item()
        except BadItem as error:
            where = f"{name}: {kind} {number}"
            yield lost(f"{where}: {error}", Where(where, _line_of(loader.node)), kind, error.fields)
            continue
        if isinstance(row, dict):
            called = row.get("name", row.get("base", "?"))
            said = f"{name}: {kind} {number} ({called if isinstance(called, str) else shown(called)})"[:300]
            subject = called if isinstance(called, str) and "name" in row else ""
            yield kind, Where(said, _line_of(loader.node), _lines_of_options(loader.node), subject), row
        else:
            where = f"{name}: {kind} {number}"
            yield Fault(f"{where}: {shown(row)}; wanted a mapping", Where(where, _line_of(loader.node)))
    loader.get_event()


def _line_of(node: Any) -> int:
    return int(node.start_mark.line) + 1


def _lines_of_options(node: Any) -> Mapping[str, int]:
    """Of a row's mapping, those that stand on another line than it begins on."""
    lines = {
        option.value: _line_of(option)
        for key, value in node.value
        if key.value == "dhcp" and isinstance(value, yaml.MappingNode)
        for option, _ in value.value
        if isinstance(option, yaml.ScalarNode) and _line_of(option) != _line_of(node)
    }
    return lines or _NONE


# CSV ------------------------------------------------------------------------------------------------------------------


class _Lines(_Counting):
    """What the csv module reads from."""

    def __iter__(self) -> Iterator[str]:
        while text := self.stream.readline(ROW_CHARS_MAX + 1):
            self.line += 1
            self.count(text)
            if self.since > ROW_CHARS_MAX:
                raise Unreadable(
                    f"{self.name}: line {self.line}: a row of more than {ROW_CHARS_MAX} characters; no row is that long"
                )
            yield text


class _Table:
    """What a header says of the rows below it.  fault: why none of them is read."""

    def __init__(self, cells: Sequence[str], line: int) -> None:
        self.line = line
        self.header = [_folded(cell) for cell in cells]
        is_host = not {"mac", "macs", "address", "addresses"}.isdisjoint(self.header)
        self.kind = "networks" if "base" in self.header else "hosts" if is_host else "pools"
        self.rows = 0
        self.parted = False  # by a blank line, from the rows that may still come
        self.fault = ""
        called = [column for column in self.header if column]
        twice = next((column for column in called if called.count(column) > 1), None)
        if KEYS.isdisjoint(called):
            hint = "; wanted commas between the columns" if len(cells) == 1 and re.search("[;\t]", cells[0]) else ""
            self.fault = f"found {_quoted(cells)}, wanted a header with a column name or base{hint}"
        elif twice is not None:
            self.fault = f"column {shown(twice)} stands twice; wanted each once"

    @property
    def lost(self) -> str:
        """A header that nobody knows, with nothing below it, was perhaps a row."""
        unknown = [cell for cell in self.header if cell and not _is_known(cell)]
        if self.rows or self.fault or not unknown:
            return ""
        return f"column {shown(unknown[0])} of a table without rows; wanted only {', '.join(_KNOWN)}, dhcp.OPTION"


KEYS: Final = frozenset(("name", "base"))
_KEYS_AS_WRITTEN: Final = frozenset(form for key in KEYS for form in (key, key.title(), key.upper()))
_KNOWN: Final = (
    *("name", "base", "mask", "gateway", "driver", "mac", "macs", "address", "addresses", "pool", "pools"),
    *("hostname", "container", "containers", "rack", "ru"),
)
_OPTION_PREFIX: Final = "dhcp."
_ROWS_WITHIN: Final = re.compile(r"[\r\n][^\r\n]*,")  # a quote that is not closed takes in the lines behind it
_ANY_MAC: Final = re.compile(r"[0-9a-f]{2}([:-][0-9a-f]{2}){5}|([0-9a-f]{4}\.){2}[0-9a-f]{4}", re.ASCII | re.IGNORECASE)


def _is_known(cell: str) -> bool:
    return cell.lower() in _KNOWN or cell.lower().startswith(_OPTION_PREFIX)


def _folded(column: str) -> str:
    """Spreadsheets like capitals; what follows `dhcp.` has rules of its own."""
    size = len(_OPTION_PREFIX) if column.lower().startswith(_OPTION_PREFIX) else len(column)
    return column[:size].lower() + column[size:] if _is_known(column) else column


def _quoted(cells: Sequence[str]) -> str:
    text = ",".join(cells)
    return repr(text if len(text) <= 80 else f"{text[:80]}...")


def _is_header(cells: Sequence[str], table: _Table | None) -> bool:
    """Whether a line begins a table.  A row must not be taken for a header, nor a header for a row: both lose hosts.

    A pool may be called `rack`, so that one known word makes no header; but rows of hosts and networks are checked
    whole, those of pools are not."""
    if table is not None and not table.parted and _KEYS_AS_WRITTEN.isdisjoint(cells):
        return False
    said = [cell for cell in cells if cell]
    known = sum(map(_is_known, said))
    has_key = not KEYS.isdisjoint(map(str.lower, said))
    if has_key and len(said) > 1 and known == len(said):
        return True  # also without a blank line above it
    if table is not None and not table.parted:
        return False
    if table is None or (has_key and (said[0].lower() in KEYS or known * 2 >= len(said))):
        return True
    return known * 2 > len(said) > 1


def csv_rows(stream: TextIO, name: str, kinds: Collection[str], heard: Heard) -> Iterator[RawRow | Fault]:
    """Raises Unreadable."""
    table: _Table | None = None
    begin = 1  # of the row under way
    lines = _Lines(stream, name, heard)
    reader = csv.reader(lines)
    try:
        for values in reader:
            lines.since = 0
            cells = [value.strip() for value in values]
            line, begin = begin, reader.line_num + 1
            where = f"{name}: line {reader.line_num}"
            if reader.line_num > line and any(map(_ROWS_WITHIN.search, cells)):
                raise Unreadable(
                    f"{where}: rows of line {line} and on stand within quotes; wanted those of {line} closed"
                )
            if not any(cells):
                if table is not None:
                    table.parted = True
                continue
            if _is_header(cells, table):
                if table is not None and table.lost:
                    yield Fault(f"{name}: line {table.line}: {table.lost}", Where(name, table.line))
                table = _Table(cells, line)
                if table.fault:
                    yield Fault(f"{where}: {table.fault}; no row below it is read", Where(name, line))
                continue
            assert table is not None
            table.rows += 1
            if table.fault:
                continue
            if table.parted and table.kind == "pools" and any(map(_ANY_MAC.fullmatch, cells)):
                if "hosts" in kinds:
                    said = f"{where}: a MAC in the table of line {table.line}; wanted a header above the hosts"
                    yield Fault(said, Where(where, line))
            elif table.kind in kinds:
                fields = _csv_fields(table.header, cells)
                yield table.kind, Where(where, line, subject=str(fields.get("name", ""))), fields
        if table is not None and table.lost:
            yield Fault(f"{name}: line {table.line}: {table.lost}", Where(name, table.line))
    except UnicodeDecodeError as error:
        raise _no_utf8(stream, name) from error
    except csv.Error as error:
        raise Unreadable(f"{name}: line {begin}: no CSV: {error}") from error


def _csv_fields(header: Sequence[str], values: Sequence[str]) -> dict[str, Any]:
    """Empty fields are left out; an option of digits alone is an integer, for CSV cannot tell."""
    fields: dict[str, Any] = {}
    if len(values) > len(header):
        fields[f"column {len(header) + 1}"] = values[len(header)]
    for column, value in zip(header, values, strict=False):
        if column.startswith(_OPTION_PREFIX):
            if value:
                option = int(value) if _INTEGER.fullmatch(value) else value
                fields.setdefault("dhcp", {})[column.removeprefix(_OPTION_PREFIX)] = option
        elif value:
            fields[column] = value
    return fields
