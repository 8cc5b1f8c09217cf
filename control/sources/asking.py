"""Questions to one clusto-httpd, each with its limits, and what their answers are: lists, documents, managers."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from control.clusto.answers import FIRST_S, LIST_BYTES_MAX, SINGLE_BYTES_MAX, Answers, AnswerSpoiled, check_density
from control.sources.model import (
    InventoryMalformed,
    Thing,
    name_of,
    parse_attributes,
    parse_parents,
    parse_paths,
    parse_show,
)

BY_NAME = "/query/get_by_name"
_ADDRESSABLE = re.compile(r"[A-Za-z0-9_-]+\Z")  # other names are cut off in a path, and another object answers
Progress = Callable[[str, int, int], None]


class Shown(NamedTuple):
    """A show document.  contents and parents: each path once, although clusto gives one for each of its records: a rack
    has one for every unit, so that a server of two units stands there twice."""

    thing: Thing
    contents: list[str]
    parents: list[str]


class Asker:
    """One reader of one clusto-httpd.  progress(stage, done, total) is called from its threads.  ca: as of Answers."""

    def __init__(
        self,
        api_url: str,
        token: str | None = None,
        progress: Progress = lambda *_: None,
        ca: Path | None = None,
    ) -> None:
        self.url = api_url.rstrip("/")
        self.token, self.ca = token, ca
        self.progress = progress
        self.local = threading.local()

    def get(self, path: str, bytes_max: int = LIST_BYTES_MAX, /, **parameters: str) -> Any:
        """The JSON of one answer.  Raises InventoryDown naming the request and what came back."""
        return self.decode(path, self.get_raw(path, bytes_max, **parameters))

    def get_raw(
        self, path: str, bytes_max: int = LIST_BYTES_MAX, first_s: float = 0.0, /, **parameters: str
    ) -> bytearray:
        if not hasattr(self.local, "answers"):
            self.local.answers = Answers(self.url, self.token, self.heard, self.ca)
        content: bytearray = self.local.answers.get(path, parameters, bytes_max, first_s or FIRST_S)
        self.heard(len(content))
        return content

    def heard(self, count: int) -> None:
        """After each answer, and while a long one is under way."""
        self.progress("bytes", count, 0)

    def decode(self, path: str, content: bytes | bytearray) -> Any:
        with self.reading_json(path, content):
            check_density(content)
            return json.loads(content)

    @contextmanager
    def reading_json(self, path: str, content: bytes | bytearray) -> Iterator[None]:
        """What goes wrong in an answer's JSON becomes AnswerSpoiled."""
        try:
            yield
        except json.JSONDecodeError as error:
            raise AnswerSpoiled(
                f"GET {self.url}{path}: no JSON ({error.msg} at {error.pos} of {len(content)} characters)"
            ) from error
        except InventoryMalformed:
            raise
        except (ValueError, RecursionError) as error:  # a number of thousands of digits; nesting without end
            raise AnswerSpoiled(f"GET {self.url}{path}: no usable JSON ({str(error)[:200]})") from error

    def entities(self, **filters: Any) -> list[str]:
        # clusto-httpd decodes the JSON text a second time
        encoded = {name: quote(json.dumps(value)) for name, value in filters.items()}
        return parse_paths(self.get("/query/get_entities", **encoded), f"get_entities {filters}")

    def show(self, path: str, bytes_max: int = LIST_BYTES_MAX) -> Shown:
        """Raises InventoryDown and InventoryMalformed."""
        name = name_of(path)
        body = self.get(BY_NAME, bytes_max, name=name)
        thing, contents = parse_show(body, f"get_by_name {name}")
        if thing.path != path:
            raise InventoryMalformed(f"get_by_name {name}: found {thing.path[:200]}, wanted {path}")
        return Shown(thing, list(dict.fromkeys(contents)), distinct_parents(body, f"get_by_name {name}"))

    def manager(self, path: str) -> Thing:
        """Its attributes alone: a show document of a manager costs a hundred times as much."""
        if not _ADDRESSABLE.match(name_of(path)):
            return self.show(path).thing
        body = self.get(f"{path}/attrs", SINGLE_BYTES_MAX)
        rows = body.get("attrs") if isinstance(body, dict) else None
        return Thing(path, parse_attributes(rows, f"{path}/attrs"))


def distinct_parents(body: Any, where: str) -> list[str]:
    """In one order at every read, each once: a server of two units says its rack twice.  Raises InventoryMalformed."""
    return sorted(set(parse_parents(body, where)))
