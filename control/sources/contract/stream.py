"""An answer of `GET /hosts`, line by line: rows, deletions, and the end line without which nothing of it counts.  Pure.

What is wrong with an object of the inventory costs that object, later, by the host file's own parser.  What is wrong
here is wrong with the answer: AnswerSpoiled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

from control.clusto.answers import AnswerSpoiled
from control.clusto.errors import plain
from control.clusto.hostfile import KINDS
from control.sources.model import shown

LINE_BYTES_MAX: Final = 1 << 20  # a host file's row has at most 4 MiB with its aliases; here there are none
KIND_OF: Final = {kind.removesuffix("s"): kind for kind in KINDS}  # host -> hosts
HOST: Final = "host"
DELETED: Final = ""  # in place of a kind
WANTED_END: Final = '{"end": true, "cursor": "...", "hosts": N}'
_ID: Final = re.compile(r"[!-~]{1,200}")
_CURSOR: Final = re.compile(r"[!-~]{1,1000}")


class Entry(NamedTuple):
    """One line.  kind: `host`, `pool`, ..., as it came, or DELETED.  text: the row's fields as JSON, in one order."""

    id: str
    kind: str
    text: str


class End(NamedTuple):
    """hosts: lines of hosts in this answer; total: hosts of the whole inventory, None where it does not say."""

    cursor: str | None
    hosts: int
    total: int | None


def read_answer(pieces: Iterable[bytes | bytearray], take: Callable[[Entry], None], deletions: bool = False) -> End:
    """Every line to `take`, which may raise AnswerSpoiled as well; and its end.

    deletions: they may stand in this answer.  Raises AnswerSpoiled naming the line."""
    end: End | None = None
    hosts = number = 0
    for number, line in enumerate(lines_of(pieces), 1):
        if not line or line.isspace():
            continue
        try:
            check_length(line)
            if end is not None:
                raise AnswerSpoiled("stands behind the end line; wanted nothing there")
            fields = parse(line)
            if "end" in fields:
                end = parse_end(fields)
                continue
            entry = parse_entry(fields, deletions)
            hosts += entry.kind == HOST
            take(entry)
        except AnswerSpoiled as error:
            raise AnswerSpoiled(f"line {number}: {error}") from error
    if end is None:
        raise AnswerSpoiled(f"ends after line {number} without {WANTED_END}: it was cut off, or is no list of hosts")
    if end.hosts != hosts:
        raise AnswerSpoiled(f"its end line says {end.hosts} hosts, and {hosts} lines of hosts came")
    return end


def lines_of(pieces: Iterable[bytes | bytearray]) -> Iterator[bytes | bytearray]:
    """Without their ends.  Raises AnswerSpoiled for one that has no end, before it is in memory."""
    rest = bytearray()
    for piece in pieces:
        *whole, last = piece.split(b"\n")
        if whole:
            rest += whole[0]
            yield rest
            yield from whole[1:]
            rest = bytearray(last)
        else:
            rest += last
        check_length(rest)
    if rest:
        yield rest


def check_length(line: bytes | bytearray) -> None:
    if len(line) > LINE_BYTES_MAX:
        raise AnswerSpoiled(f"a line of more than {LINE_BYTES_MAX >> 20} MiB: {begin_of(line)}")


def begin_of(line: bytes | bytearray) -> str:
    return repr(plain(bytes(line[:60]).decode("utf-8", "replace")))


def parse(line: bytes | bytearray) -> dict[str, Any]:
    try:
        fields = _decode(line.decode())
    except (ValueError, RecursionError) as error:
        page = "; is that the page of a proxy?" if line.lstrip()[:1] == b"<" else ""
        raise AnswerSpoiled(f"found {begin_of(line)}, wanted a JSON object ({str(error)[:100]}){page}") from error
    if not isinstance(fields, dict):
        raise AnswerSpoiled(f"found {shown(fields)}, wanted a JSON object")
    return fields


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Which of two values of a key was meant, nobody knows.  Raises ValueError."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r:.80} stands twice")
    return fields


def refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_decode: Final = json.JSONDecoder(object_pairs_hook=once, parse_constant=refuse_constant).decode
_encode: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def parse_entry(fields: dict[str, Any], deletions: bool) -> Entry:
    told_apart = fields.pop("id", None)
    if isinstance(told_apart, int) and not isinstance(told_apart, bool) and 0 <= told_apart < 1 << 64:
        told_apart = str(told_apart)
    if not isinstance(told_apart, str) or not _ID.fullmatch(told_apart):
        raise AnswerSpoiled(f"id {shown(told_apart)}, wanted 1 to 200 visible ASCII characters, or a whole number")
    if fields.pop("deleted", False) is not False:
        if not deletions:
            raise AnswerSpoiled(f"id {told_apart} is deleted; wanted that in answers to `since` alone")
        return Entry(told_apart, DELETED, "")
    kind = fields.pop("kind", None)
    if not isinstance(kind, str) or not kind:
        raise AnswerSpoiled(f"id {told_apart}: kind {shown(kind)}, wanted {', '.join(KIND_OF)}")
    return Entry(told_apart, kind, _encode(fields))


def parse_end(fields: dict[str, Any]) -> End:
    cursor, hosts, total = fields.get("cursor"), fields.get("hosts"), fields.get("total")
    good = fields["end"] is True and is_count(hosts) and (total is None or is_count(total))
    if not good or not (cursor is None or (isinstance(cursor, str) and _CURSOR.fullmatch(cursor))):
        raise AnswerSpoiled(f"found {shown(fields)}, wanted {WANTED_END}")
    return End(cursor, hosts, total)  # type: ignore[arg-type]


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
