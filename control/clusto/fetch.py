"""Reads the inventory over HTTP: containers once, members once in bulk, merged on our side.

model.py parses what comes, plan.py draws conclusions.  The order of requests is what the real
daemon bears (docs/inventory.md): it is single-threaded, stalls for seconds
with more than a few connections, and takes an hour to merge 10,000 servers by itself, 16 s to hand them out in bulk.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from typing import Any, TypeVar
from urllib.parse import quote

import requests

from control.clusto.model import (
    CLUSTO_INT_OFFSET,
    Batch,
    Inventory,
    InventoryDown,
    InventoryMalformed,
    PartLost,
    Reading,
    Thing,
    name_of,
    parse_attributes,
    parse_members,
    parse_parents,
    parse_paths,
    parse_show,
)

CONNECTIONS = 4  # its listen queue is 5; a sixth connection waits for whole seconds
READERS = CONNECTIONS - 1  # of a full read; one is left for look-ups meanwhile, and for what is asked twice
CONNECT_TIMEOUT_S = 5.0
AHEAD = 2  # bulk answers of 12 MB each that wait to be parsed
SINGLES = 200  # hosts in no container of size: so many make a batch
READ_TIMEOUT_S = 120.0  # one bulk request blocks the real daemon for 15 s at 10,000 hosts
_ADDRESSABLE = re.compile(r"[A-Za-z0-9_-]+\Z")  # other names are cut off in a path, and another object answers
_BY_NAME = "/query/get_by_name"
Progress = Callable[[str, int, int], None]
T = TypeVar("T")


class AnswerSpoiled(InventoryDown):
    """It answered, and the answer is none: cut off, no JSON, another status.  Others may be good."""


class Fetcher:
    """One reader of one clusto-httpd.  progress(stage, done, total) is called from its threads; stage "bytes" after
    each answer, in whatever stage that is."""

    def __init__(self, api_url: str, token: str | None = None, progress: Progress = lambda *_: None) -> None:
        self.url = api_url.rstrip("/")
        self.token = token
        self.progress = progress
        self.local = threading.local()

    def get(self, path: str, **parameters: str) -> Any:
        """The JSON of one answer.  Raises InventoryDown naming the request and what came back."""
        return self.decode(path, self.get_raw(path, **parameters))

    def get_raw(self, path: str, **parameters: str) -> bytes:
        if not hasattr(self.local, "session"):
            self.local.session = requests.Session()
            self.local.session.trust_env = False  # neither a proxy of the shell's nor a .netrc in place of our token
            if self.token:
                self.local.session.headers["Authorization"] = f"Bearer {self.token}"
        try:
            answer = self.local.session.get(
                self.url + path, params=parameters, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S), allow_redirects=False
            )
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError) as error:
            raise AnswerSpoiled(f"GET {self.url}{path}: cut off in the middle ({error})") from error
        except requests.RequestException as error:
            raise InventoryDown(f"GET {self.url}{path}: {_reason(error)}") from error
        except UnicodeError as error:  # half a letter in a name that the inventory gave
            raise AnswerSpoiled(f"GET {self.url}{path} {ascii(parameters)[:200]}: no text") from error
        if answer.status_code != 200:
            last = answer.text.strip().rpartition("\n")[2][:200]
            raise AnswerSpoiled(f"GET {self.url}{path}: status {answer.status_code}, wanted 200: {last}")
        content: bytes = answer.content
        self.progress("bytes", len(content), 0)
        return content

    def decode(self, path: str, content: bytes) -> Any:
        try:
            return json.loads(content)
        except json.JSONDecodeError as error:
            raise AnswerSpoiled(
                f"GET {self.url}{path}: no JSON ({error.msg} at {error.pos} of {len(content)} characters)"
            ) from error
        except (ValueError, RecursionError) as error:  # a number of thousands of digits; nesting without end
            raise AnswerSpoiled(f"GET {self.url}{path}: no usable JSON ({str(error)[:200]})") from error

    def entities(self, **filters: Any) -> list[str]:
        # clusto-httpd decodes the JSON text a second time
        encoded = {name: quote(json.dumps(value)) for name, value in filters.items()}
        return parse_paths(self.get("/query/get_entities", **encoded), f"get_entities {filters}")

    def show(self, path: str) -> tuple[Thing, list[str]]:
        name = name_of(path)
        thing, contents = parse_show(self.get("/query/get_by_name", name=name), f"get_by_name {name}")
        if thing.path != path:
            raise InventoryMalformed(f"get_by_name {name}: found {thing.path}, wanted {path}")
        return thing, contents

    def manager(self, path: str) -> Thing:
        """Its properties alone: a show document of a manager costs a hundred times as much."""
        if not _ADDRESSABLE.match(name_of(path)):
            return self.show(path)[0]
        body = self.get(f"{path}/attrs", subkey="property")
        rows = body.get("attrs") if isinstance(body, dict) else None
        return Thing(path, parse_attributes(rows, f"{path}/attrs"))

    def read_hosts(self, macs: Iterable[str], names: Iterable[str], frame: Inventory) -> Inventory:
        """Single hosts, by MAC (any spelling in the inventory) or by name, in the frame of the last full read.

        Who else has one of their addresses is read too, so that a conflict shows.  What does not exist is not in the
        answer.  Raises InventoryDown."""
        try:
            inventory = Inventory(dict(frame.things), dict(frame.parents), [], frame.managers)
            spellings = [text for mac in macs for text in (mac, mac.upper(), *_dashed(mac))]
            wanted = [
                {"key": "port-nic-eth", "subkey": subkey, "number": 1, "value": text}
                for subkey in ("mac", "ipmi-mac")
                for text in spellings
            ]
            paths = self.entities(attrs=wanted) if wanted else []
            names = list(names)
            paths += self.entities(names=names) if names else []
            self._add_hosts(inventory, paths)
            addresses = {address.text for path in inventory.hosts for address in inventory.things[path].addresses()}
            if addresses:
                claims: list[dict[str, Any]] = [
                    {"key": "ip", "subkey": "ipstring", "value": text} for text in sorted(addresses)
                ]
                numbers = filter(None, map(_as_number, sorted(addresses)))
                claims += [{"key": "ip", "subkey": None, "value": number} for number in numbers]
                self._add_hosts(inventory, self.entities(attrs=claims))
        except InventoryMalformed as error:
            raise InventoryDown(f"{self.url}: {error}") from error
        return inventory

    def _add_hosts(self, inventory: Inventory, paths: Iterable[str]) -> None:
        for path in paths:
            if path not in inventory.things:
                self._add_with_containers(inventory, path)
            if inventory.things[path].has_mac() and path not in inventory.hosts:
                inventory.hosts.append(path)

    def _add_with_containers(self, inventory: Inventory, path: str) -> None:
        """A thing, and those of its containers, up to the top, that nobody has read yet."""
        todo = [path]
        while todo:
            at = todo.pop()
            name = name_of(at)
            body = self.get("/query/get_by_name", name=name)
            inventory.things[at] = parse_show(body, f"get_by_name {name}")[0]
            parents = sorted(parse_parents(body, f"get_by_name {name}"))
            inventory.parents[at] = parents
            todo += [parent for parent in parents if parent not in inventory.things]

    def read(self) -> Reading:
        """Everything that a plan needs, the hosts in parts.  Raises InventoryDown; never gives half a frame."""
        try:
            return self._read()
        except InventoryMalformed as error:
            raise InventoryDown(f"{self.url}: {error}") from error

    def _read(self) -> Reading:
        with ThreadPoolExecutor(READERS, thread_name_prefix="fetch") as pool:
            self.progress("list", 0, 3)
            containers, listed, managers = pool.map(
                lambda filters: self.entities(**filters),
                (
                    {"attrs": [{"key": "_contains"}]},
                    {"attrs": [{"key": "port-nic-eth", "subkey": "mac", "number": 1}, {"key": "ip"}]},
                    {"clusto_drivers": ["ipmanager"]},
                ),
            )
            frame = Inventory(managers=sorted(managers))
            wanted = {path: path for path in listed}
            inside: dict[str, list[str]] = {}
            tuples: dict[tuple[tuple[str, ...], str], tuple[str, ...]] = {}
            for thing, contents in self._all(pool, "containers", self.show, sorted(containers)):
                frame.things[thing.path] = thing
                inside[thing.path] = [wanted[path] for path in contents if path in wanted]
                for path in contents:
                    # A million hosts share a few hundred tuples, and each path is kept once.
                    before = tuple(frame.parents.get(path, ()))
                    after = tuples.setdefault((before, thing.path), (*before, thing.path))
                    frame.parents[wanted.get(path, path)] = after
            unread = [path for path in frame.managers if path not in frame.things]
            for thing in self._all(pool, "managers", self.manager, unread):
                frame.things[thing.path] = thing
        parts = list(covering(inside, [path for path in wanted if path not in frame.things]))
        themselves = [path for path in wanted if path in frame.things]
        return Reading(frame, self._batches(parts, [frame.things[path] for path in themselves]))

    def _batches(self, parts: list[_Part], containers: list[Thing]) -> Iterator[Batch]:
        """In order, some ahead of who takes them.  The containers that are hosts themselves are read already."""
        if containers:
            digest = _digest(repr(containers).encode("utf-8", "backslashreplace"))
            yield Batch("containers", [thing.path for thing in containers], digest, lambda: containers)
        total, done = sum(len(part.paths) for part in parts), 0
        self.progress("hosts", 0, total)
        pool = ThreadPoolExecutor(READERS, thread_name_prefix="fetch")
        try:
            ahead: deque[tuple[_Part, Future[list[bytes]]]] = deque()
            todo = iter(parts)
            while True:
                for part in todo:
                    ahead.append((part, pool.submit(self._twice, part)))
                    if len(ahead) >= (AHEAD if part.container else READERS):
                        break
                if not ahead:
                    return
                part, answer = ahead.popleft()
                yield self._batch(part, answer)
                done += len(part.paths)
                self.progress("hosts", done, total)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _twice(self, part: _Part) -> list[bytes]:
        """The answers of a part; a spoiled one is asked for twice."""
        try:
            return self._content(part)
        except AnswerSpoiled:
            return self._content(part)

    def _content(self, part: _Part) -> list[bytes]:
        """Single hosts: b"" for each that is not to be had."""
        if part.container is not None:
            return [self.get_raw(_BY_NAME, name=name_of(part.container), prefetch_attrs="[{}]")]
        return [self._single(path) for path in part.paths]

    def _single(self, path: str) -> bytes:
        try:
            return self.get_raw(_BY_NAME, name=name_of(path))
        except AnswerSpoiled:
            return b""

    def _batch(self, part: _Part, answer: Future[list[bytes]]) -> Batch:
        content: list[bytes] = []
        lost: AnswerSpoiled | None = None
        try:
            content = answer.result()
        except AnswerSpoiled as error:
            lost = error
        faults: dict[str, list[str]] = {}

        def things() -> Iterator[Thing]:
            if lost is not None:
                raise PartLost(str(lost)) from lost
            if part.container is None:
                yield from self._singles(part.paths, content, faults)
                return
            try:
                body = self._decoded(part, content)
                yield from parse_members(body, f"get_by_name {name_of(part.container)}")
            except (InventoryMalformed, AnswerSpoiled) as error:
                raise PartLost(str(error)) from error

        key = part.container or f"single hosts from {part.paths[0]}"
        return Batch(key, part.paths, _digest(b"\0".join(content)) if lost is None else b"", things, faults)

    def _decoded(self, part: _Part, content: list[bytes]) -> Any:
        """What is no JSON may have been cut off: it is asked for twice."""
        try:
            return self.decode(_BY_NAME, content.pop())
        except AnswerSpoiled:
            return self.decode(_BY_NAME, self._content(part)[0])

    def _singles(self, paths: list[str], content: list[bytes], faults: dict[str, list[str]]) -> Iterator[Thing]:
        for path, text in zip(paths, content, strict=True):
            name = name_of(path)
            try:
                # Asked again where nothing came: now its reason counts.
                body = self.decode(_BY_NAME, text) if text else self.get(_BY_NAME, name=name)
                thing = parse_show(body, f"get_by_name {name}")[0]
            except (InventoryMalformed, AnswerSpoiled) as error:
                faults[name] = [f"cannot be read: {error}"]
                continue
            yield thing

    def _all(self, pool: ThreadPoolExecutor, stage: str, work: Callable[[str], T], paths: Iterable[str]) -> Iterator[T]:
        todo = list(paths)
        self.progress(stage, 0, len(todo))
        for done, result in enumerate(pool.map(work, todo), 1):
            yield result
            self.progress(stage, done, len(todo))


@dataclass(frozen=True, slots=True)
class _Part:
    """What one batch is made of.  container: whose members are read in bulk; None: each path by itself."""

    container: str | None
    paths: list[str]


def covering(inside: dict[str, list[str]], wanted: Iterable[str]) -> Iterator[_Part]:
    """Containers whose members, read in bulk, cover the wanted things, the largest first; each thing in one part.

    What only a container of one or two would add is left to single requests."""
    left = dict.fromkeys(wanted)
    for container in sorted(inside, key=lambda path: (-len(inside[path]), path)):
        gained = [path for path in inside[container] if path in left]
        if len(gained) >= 3:
            for path in gained:
                del left[path]
            yield _Part(container, gained)
    singles = sorted(left)
    for at in range(0, len(singles), SINGLES):
        yield _Part(None, singles[at : at + SINGLES])


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _as_number(text: str) -> int | None:
    """As clusto keeps an address: minus 2147483648.  None for what is no address."""
    try:
        return int(IPv4Address(text)) - CLUSTO_INT_OFFSET
    except AddressValueError:
        return None


def _dashed(mac: str) -> tuple[str, str]:
    dashed = mac.replace(":", "-")
    return dashed, dashed.upper()


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {CONNECT_TIMEOUT_S:.0f} s"
    if isinstance(error, requests.ReadTimeout):
        return f"no answer within {READ_TIMEOUT_S:.0f} s"
    if isinstance(error, requests.ConnectionError):
        return f"cannot connect ({type(error.args[0]).__name__ if error.args else error})"
    return f"{type(error).__name__}: {error}"
