"""What an inventory said last, row by row: small enough for a million hosts, and never changed, only followed by
another.  So a reading goes on with the one that it began with, whatever look-ups bring meanwhile.  Pure.

Hosts are in PARTS parts by a hash of their ids, packed, so that a change touches one part and the others are known to
be as they were.  Words (names, MACs, addresses) are indexed by part.
"""

from __future__ import annotations

import json
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from control.clusto.answers import AnswerSpoiled
from control.clusto.hostfile import normal_mac
from control.sources.contract.stream import DELETED, HOST, Entry

PARTS: Final = 256
CHUNK_BYTES: Final = 1 << 16  # of a part's text before it is packed, while it comes
PACK_LEVEL: Final = 1  # a million rows in seconds
PACKED_BYTES_MAX: Final = 256 << 20  # of all parts; a million hosts take 30 to 60 MB
MAC_CHARS_MIN: Final = 12
FRAME_MAX: Final = 100_000  # networks, pools and containers: those are in memory as they are


@dataclass(frozen=True, slots=True)
class Part:
    """packed: a line `id TAB fields` for each host, sorted by id.  words: hashes of all that they say, sorted."""

    packed: bytes
    count: int
    words: array[int]

    def entries(self) -> dict[str, Entry]:
        """By id."""
        found = {}
        for line in zlib.decompress(self.packed).decode().splitlines():
            told_apart, _, text = line.partition("\t")
            found[told_apart] = Entry(told_apart, HOST, text)
        return found

    def has(self, hashes: Iterable[int]) -> bool:
        words, size = self.words, len(self.words)
        return any((at := bisect_left(words, each)) < size and words[at] == each for each in hashes)


NOBODY: Final = Part(zlib.compress(b""), 0, array("I"))


@dataclass(frozen=True, slots=True)
class State:
    """frame: networks, pools, containers, and rows of kinds that nobody knows, by id.  parts: the hosts.

    cursor: from which changes may be asked for; None: the inventory tells none.  etag: of the answer that brought us
    here."""

    frame: Mapping[str, Entry] = field(default_factory=dict)
    parts: tuple[Part, ...] = (NOBODY,) * PARTS
    cursor: str | None = None
    etag: str | None = None

    @property
    def hosts(self) -> int:
        return sum(part.count for part in self.parts)

    def entries(self, words: Collection[str]) -> Iterator[Entry]:
        """Of the hosts at least those that say one of these words."""
        hashes = {hash_of(word) for word in words}
        for part in self.parts:
            if part.count and part.has(hashes):
                yield from part.entries().values()

    def changed(self, entries: Iterable[Entry], cursor: str | None, etag: str | None) -> State:
        """After these changes; each id once."""
        frame, parts = dict(self.frame), list(self.parts)
        touched: dict[int, list[Entry]] = {}
        for entry in entries:
            frame.pop(entry.id, None)
            if entry.kind not in (HOST, DELETED):
                frame[entry.id] = entry
            touched.setdefault(place_of(entry.id), []).append(entry)
        for place, some in touched.items():
            parts[place] = changed(parts[place], some)
        check_size(frame, parts)
        return State(frame, tuple(parts), cursor, etag)


def changed(part: Part, entries: list[Entry]) -> Part:
    """Words that nobody says any more stay in the index: they cost a look, and go with the next read of everything."""
    known = part.entries()
    if all(entry.kind != HOST and entry.id not in known for entry in entries):
        return part  # pools and the like, whose ids belong here as well
    words = array("I", part.words)
    for entry in entries:
        known.pop(entry.id, None)
        if entry.kind == HOST:
            known[entry.id] = entry
            words.extend(map(hash_of, words_of(json.loads(entry.text))))
    if not known:
        return NOBODY
    lines = sorted(line_of(entry) for entry in known.values())
    return Part(packed("".join(lines)), len(lines), array("I", sorted(set(words))))


class Gathering:
    """An inventory that comes as a whole."""

    def __init__(self) -> None:
        self.frame: dict[str, Entry] = {}
        self.lines: list[list[str]] = [[] for _ in range(PARTS)]
        self.sizes = [0] * PARTS  # of lines
        self.chunks: list[list[bytes]] = [[] for _ in range(PARTS)]
        self.words: list[array[int]] = [array("I") for _ in range(PARTS)]
        self.count = self.packed_bytes = 0

    def add(self, entry: Entry) -> None:
        """Raises AnswerSpoiled."""
        self.count += 1
        if entry.kind != HOST:
            if entry.id in self.frame:
                raise AnswerSpoiled(said_twice(entry.id))
            self.frame[entry.id] = entry
            check_frame(self.frame)
            return
        place = place_of(entry.id)
        line = line_of(entry)
        self.lines[place].append(line)
        self.sizes[place] += len(line)
        self.words[place].extend(map(hash_of, words_of(json.loads(entry.text))))
        if self.sizes[place] > CHUNK_BYTES:
            self.pack(place)

    def pack(self, place: int) -> None:
        chunk = packed("".join(self.lines[place]))
        self.chunks[place].append(chunk)
        self.lines[place], self.sizes[place] = [], 0
        self.packed_bytes += len(chunk)
        check_packed(self.packed_bytes)

    def state(self, cursor: str | None, etag: str | None) -> State:
        """Raises AnswerSpoiled."""
        return State(self.frame, tuple(map(self.part, range(PARTS))), cursor, etag)

    def part(self, place: int) -> Part:
        chunks, self.chunks[place] = self.chunks[place], []
        lines = [line for chunk in chunks for line in zlib.decompress(chunk).decode().splitlines(keepends=True)]
        lines += self.lines[place]
        if not lines:
            return NOBODY
        ids = [line.partition("\t")[0] for line in lines]
        if len(set(ids)) != len(ids) or not self.frame.keys().isdisjoint(ids):
            twice = next(each for each in ids if each in self.frame or ids.count(each) > 1)
            raise AnswerSpoiled(said_twice(twice))
        words = array("I", sorted(set(self.words[place])))
        self.words[place], self.lines[place] = array("I"), []
        return Part(packed("".join(sorted(lines))), len(lines), words)


def said_twice(told_apart: str) -> str:
    return f"id {told_apart} stands twice; wanted each once"


def line_of(entry: Entry) -> str:
    return f"{entry.id}\t{entry.text}\n"


def packed(text: str) -> bytes:
    return zlib.compress(text.encode(), PACK_LEVEL)


def place_of(told_apart: str) -> int:
    return zlib.crc32(told_apart.encode()) % PARTS


def check_frame(frame: Mapping[str, Entry]) -> None:
    if len(frame) > FRAME_MAX:
        raise AnswerSpoiled(f"more than {FRAME_MAX} networks, pools and containers; wanted at most that")


def check_packed(size: int) -> None:
    if size > PACKED_BYTES_MAX:
        raise AnswerSpoiled(f"hosts of more than {PACKED_BYTES_MAX >> 20} MiB, packed; wanted at most that")


def check_size(frame: Mapping[str, Entry], parts: Iterable[Part]) -> None:
    check_frame(frame)
    check_packed(sum(len(part.packed) for part in parts))


def hash_of(word: str) -> int:
    return zlib.crc32(word.encode("utf-8", "surrogatepass"))


def words_of(value: Any) -> Iterator[str]:
    """All texts that stand anywhere in a row, but for its options; a MAC as normal_mac writes it."""
    if isinstance(value, str):
        yield word_of(value)
        words = value.split()
        if len(words) > 1:
            yield from map(word_of, words)
    elif isinstance(value, list):
        for item in value:
            yield from words_of(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key != "dhcp":
                yield from words_of(item)


def word_of(text: str) -> str:
    return text if len(text) < MAC_CHARS_MIN else normal_mac(text) or text
