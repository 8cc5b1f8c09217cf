"""An inventory that speaks the contract of docs/contract.md: read as a whole, followed by its changes, asked for MACs.

Whatever was read lies packed in a State; a Reading is made of that, so nothing is planned before an answer's end line
was there.  Rows mean what they mean in a host file; an object is told apart by its id, whatever its name.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from control.clusto.answers import FIRST_S, LIST_BYTES_MAX, SINGLE_BYTES_MAX, Answers, AnswerSpoiled
from control.clusto.hostfile import HostRow, rows_in
from control.clusto.rawrows import FILE_BYTES_MAX, Fault, Where, shown
from control.sources.contract.state import NOBODY, PARTS, Gathering, Part, State, said_twice
from control.sources.contract.stream import KIND_OF, End, Entry, read_answer
from control.sources.fetch import Progress
from control.sources.hosts_url import plain_url
from control.sources.model import Batch, Inventory, Reading
from control.sources.rowreading import BAD_ROWS_NAMED, Outline, Row, RowReading, above_of, path_of_host

log = logging.getLogger("bootstorm.contract")

PATH: Final = "/hosts"
WHOLE_BYTES_MAX: Final = FILE_BYTES_MAX  # unpacked, as of a host file
WHOLE_EVERY_S: Final = 3600.0  # also where changes are told: whatever got lost on the way is found then
CHANGES_MAX: Final = 100_000  # in one answer; more are read as a whole, which is packed while it comes
KEPT_S: Final = 1.0  # a connection; servers close one that is idle after 2 s, 5 s, ..., just when the next poll is due
MACS_A_REQUEST: Final = 64  # 1.5 kB of a URL
ROWS_TOLD: Final = 1_000  # between two words of progress
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
_ETAG: Final = re.compile(r'(?:W/)?"[!#-~]{0,1000}"')


class NotFromThere(Exception):
    """Changes cannot be had: the cursor is unknown there, or they are too many."""


class HostsSource:
    """progress(stage, done, total) is called from the threads that read.

    url: as dhcp.api_url has it.  ca: as of Answers.  last: the last reading of everything."""

    def __init__(
        self, url: str, token: str | None = None, progress: Progress = lambda *_: None, ca: Path | None = None
    ) -> None:
        self.url = plain_url(url)
        self.token, self.ca = token, ca
        self.progress = progress
        self.title = urlsplit(self.url).netloc
        self.local = threading.local()
        self.bad_rows_named = BAD_ROWS_NAMED
        self.last = RowReading(self.title, BAD_ROWS_NAMED)
        self.state: State | None = None
        self.outlines: list[tuple[Part, Outline | None]] = [(NOBODY, None)] * PARTS
        self.syncing = threading.Lock()
        self.whole_s = 0.0  # CLOCK_MONOTONIC of the last read of everything

    # --- the whole -----------------------------------------------------------------------------------------------

    def read(self) -> Reading:
        """As model.Source says."""
        state = self.brought_up_to_date()
        reading, frame = self.read_frame(state)
        self.last = reading
        return Reading(frame, self.batches(reading, state, frame))

    def read_frame(self, state: State) -> tuple[RowReading, Inventory]:
        reading = RowReading(self.title, self.bad_rows_named)
        return reading, reading.read_frame(self.rows(state.frame[each] for each in sorted(state.frame)))

    def batches(self, reading: RowReading, state: State, frame: Inventory) -> Iterator[Batch]:
        """The parents of a batch's hosts are in the frame for as long as the batch is the last one."""
        yield from reading.batch_of_frame()
        done, total = 0, state.hosts
        self.progress("hosts", 0, total)
        for number, part in enumerate(state.parts):
            if not part.count:
                continue
            batch = self.batch(reading, number, part, frame)
            yield batch
            reading.forget(batch, frame)
            done += part.count
            self.progress("hosts", done, total)

    def batch(self, reading: RowReading, number: int, part: Part, frame: Inventory) -> Batch:
        key = f"hosts, part {number}"
        before, outline = self.outlines[number]
        if before is part and outline is not None:
            batch = reading.batch_again(key, outline, lambda: self.rows(part.entries().values()), frame)
            if batch is not None:
                return batch
        batch = reading.batch(key, self.rows(part.entries().values()), frame)
        self.outlines[number] = part, reading.outline
        return batch

    def rows(self, entries: Iterable[Entry]) -> Iterator[Row]:
        for entry in entries:
            fields = json.loads(entry.text)
            called = fields.get("name", fields.get("base"))
            name = called if isinstance(called, str) else ""
            said = f"{self.title}: {entry.kind} {entry.id} ({name if name else shown(called)})"[:300]
            kind = KIND_OF.get(entry.kind)
            where = Where(said, subject=name if "name" in fields else "", told_apart=quote(entry.id, safe=":"))
            if kind is None:
                yield Fault(f"{where}: kind {shown(entry.kind)}; wanted {', '.join(KIND_OF)}", where)
            else:
                yield from rows_in(kind, where, with_numbers(fields))

    def host_rows(self, state: State, words: Iterable[str]) -> Iterator[HostRow]:
        """At least those that say one of these words."""
        for row in self.rows(state.entries(set(words))):
            if isinstance(row, HostRow):
                yield row

    # --- what was said last --------------------------------------------------------------------------------------

    def brought_up_to_date(self) -> State:
        """As the inventory is now.  One thread at a time asks.  Raises InventoryDown."""
        with self.syncing:
            self.state = self.followed(self.state)
            return self.state

    def followed(self, before: State | None) -> State:
        now = time.monotonic()
        if before is not None and before.cursor is None:
            return self.whole(before)
        if before is not None and now - self.whole_s < WHOLE_EVERY_S:
            try:
                return self.changes_since(before)
            except NotFromThere as why:
                log.info("%s%s: %s; everything is read", self.url, PATH, why)
        state = self.whole()
        self.whole_s = now
        return state

    def whole(self, before: State | None = None) -> State:
        """before: with an ETag it may be said that nothing has changed."""
        gathering = Gathering()
        etag = before.etag if before is not None else None
        known = self.state.hosts if self.state is not None else 0

        def take(entry: Entry) -> None:
            gathering.add(entry)
            if not gathering.count % ROWS_TOLD:
                self.progress("list", gathering.count, max(gathering.count, known))

        said = self.get([], take, WHOLE_BYTES_MAX, etag)
        if said is None:
            assert before is not None
            return before
        try:
            state = gathering.state(said[0].cursor, said[1])
            if said[0].total not in (None, state.hosts):
                raise AnswerSpoiled(f"its end line says {said[0].total} hosts in all, and {state.hosts} came")
        except AnswerSpoiled as error:
            raise AnswerSpoiled(f"GET {self.url}{PATH}: {error}") from error
        return state

    def changes_since(self, before: State) -> State:
        """Raises NotFromThere."""
        assert before.cursor is not None
        entries: dict[str, Entry] = {}

        def take(entry: Entry) -> None:
            put(entries, entry)
            if len(entries) > CHANGES_MAX:
                raise NotFromThere(f"more than {CHANGES_MAX} changes")

        said = self.get([("since", before.cursor)], take, LIST_BYTES_MAX, before.etag, since=True)
        if said is None:
            return before
        end, etag = said
        if end.cursor is None:
            raise NotFromThere("its answer has no cursor to go on from")
        state = before.changed(entries.values(), end.cursor, etag)
        if end.total not in (None, state.hosts):
            raise NotFromThere(
                f"its end line says {end.total} hosts in all, and with its changes there are {state.hosts}"
            )
        return state

    # --- single hosts --------------------------------------------------------------------------------------------

    def read_hosts(self, macs: Iterable[str], names: Iterable[str], frame: Inventory) -> Inventory:
        """As model.Source says.  MACs alone are one request, as long as what that says touches nothing else."""
        asked = set(macs), set(names)
        if self.state is not None and not names and not frame.fresh:
            found = self.asked_for(self.state, asked[0], frame)
            if found is not None:
                return found
        state = self.brought_up_to_date()
        reading, own_frame = self.read_frame(state)
        return reading.find_hosts(lambda words: self.host_rows(state, words), asked, own_frame, below=not frame.fresh)

    def asked_for(self, state: State, macs: set[str], frame: Inventory) -> Inventory | None:
        """None: it is not enough; some other host is touched, or a container or network that nobody has told of."""
        entries: dict[str, Entry] = {}
        for some in chunks(sorted(macs), MACS_A_REQUEST):
            self.get([("mac", mac) for mac in some], lambda entry: put(entries, entry), SINGLE_BYTES_MAX)
        if not entries and not any(state.entries(macs)):
            return Inventory(dict(frame.things), dict(frame.parents), [], list(frame.managers))
        state = state.changed(entries.values(), None, None)
        reading, own_frame = self.read_frame(state)
        around, known = set(own_frame.things), set(reading.containers)
        rows = [row for row in self.rows(entries.values()) if isinstance(row, HostRow)]
        for row in rows:
            if not known.issuperset(above_of(row)):
                return None
            if any(len(reading.networks.containing(int(address))) != 1 for address in row.addresses or ()):
                return None
        found = reading.find_hosts(lambda words: self.host_rows(state, words), (macs, set()), own_frame, below=True)
        others = {*found.things, *found.claimed} - around - set(map(path_of_host, rows))
        return None if others else found

    # --- requests ------------------------------------------------------------------------------------------------

    def get(
        self,
        parameters: Sequence[tuple[str, str]],
        take: Callable[[Entry], None],
        bytes_max: int,
        etag: str | None = None,
        since: bool = False,
    ) -> tuple[End, str | None] | None:
        """The end of a good answer and its ETag, its lines before that to take(); None: as of that ETag.

        Raises InventoryDown, and NotFromThere of `since`."""
        answers = self.answers()
        headers = {"If-None-Match": etag} if etag else {}
        with answers.answered(PATH, parameters, bytes_max, FIRST_S, headers) as answer:
            if answer.status_code == 304 and etag:
                answers.unpacked(answer, SINGLE_BYTES_MAX)  # nothing; then the connection is free again
                self.local.used_s = time.monotonic()
                return None
            if answer.status_code == 410 and since:
                raise NotFromThere("the cursor is unknown there")
            if answer.status_code != 200:
                answers.refuse(answer)
            end = read_answer(answers.pieces(answer, bytes_max), take, deletions=since)
            told = answer.headers.get("ETag", "")
            self.local.used_s = time.monotonic()
            return end, told if _ETAG.fullmatch(told) else None

    def answers(self) -> Answers:
        """This thread's, with its connection if that was used just now."""
        if not hasattr(self.local, "answers"):
            self.local.answers = Answers(self.url, self.token, self.heard, self.ca)
            self.local.used_s = 0.0
        answers: Answers = self.local.answers
        if time.monotonic() - self.local.used_s > KEPT_S:
            answers.session.close()
        return answers

    def heard(self, count: int) -> None:
        """While an answer is under way."""
        self.progress("bytes", count, 0)


def with_numbers(fields: dict[str, Any]) -> dict[str, Any]:
    """Of ports: a key of JSON is text, where a host file has a number."""
    cards = fields.get("macs")
    if isinstance(cards, dict):
        numbered = {int(port) if _PORT.fullmatch(port) else port: card for port, card in cards.items()}
        return fields | {"macs": numbered}
    return fields


def put(entries: dict[str, Entry], entry: Entry) -> None:
    """Raises AnswerSpoiled for an id that stands twice."""
    if entry.id in entries:
        raise AnswerSpoiled(said_twice(entry.id))
    entries[entry.id] = entry


def chunks(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for at in range(0, len(items), size):
        yield items[at : at + size]
