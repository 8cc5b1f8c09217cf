"""Reads the whole inventory over HTTP: containers once, members once, merged on our side.

model.py parses what comes, plan.py draws conclusions.  The order of requests is what the real
daemon bears (docs/inventory.md): it is single-threaded, stalls for seconds
with more than a few connections, and takes an hour to merge 10,000 servers by itself, 16 s to hand them out in bulk.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import quote

import requests

from control.clusto.model import (
    Inventory,
    InventoryMalformed,
    Thing,
    name_of,
    parse_attributes,
    parse_members,
    parse_parents,
    parse_paths,
    parse_show,
)

CONNECTIONS = 4  # its listen queue is 5; a sixth connection waits for whole seconds
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 120.0  # one bulk request blocks the real daemon for 15 s at 10,000 hosts
_ADDRESSABLE = re.compile(r"[A-Za-z0-9_-]+\Z")  # other names are cut off in a path, and another object answers
Progress = Callable[[str, int, int], None]
T = TypeVar("T")


class InventoryDown(Exception):
    """The inventory cannot be read: unreachable, too slow, or answering garbage.  The last table serves on."""


class Fetcher:
    """One reader of one clusto-httpd.  progress(stage, done, total) is called from its threads."""

    def __init__(self, api_url: str, token: str | None = None, progress: Progress = lambda *_: None) -> None:
        self.url = api_url.rstrip("/")
        self.token = token
        self.progress = progress
        self.local = threading.local()

    def get(self, path: str, **parameters: str) -> Any:
        """The JSON of one answer.  Raises InventoryDown naming the request and what came back."""
        if not hasattr(self.local, "session"):
            self.local.session = requests.Session()
            self.local.session.trust_env = False  # neither a proxy of the shell's nor a .netrc in place of our token
            if self.token:
                self.local.session.headers["Authorization"] = f"Bearer {self.token}"
        try:
            answer = self.local.session.get(
                self.url + path, params=parameters, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S), allow_redirects=False
            )
        except requests.RequestException as error:
            raise InventoryDown(f"GET {self.url}{path}: {_reason(error)}") from error
        except UnicodeError as error:  # half a letter in a name that the inventory gave
            raise InventoryDown(f"GET {self.url}{path} {ascii(parameters)[:200]}: no text") from error
        if answer.status_code != 200:
            last = answer.text.strip().rpartition("\n")[2][:200]
            raise InventoryDown(f"GET {self.url}{path}: status {answer.status_code}, wanted 200: {last}")
        try:
            return answer.json()
        except requests.JSONDecodeError as error:
            raise InventoryDown(
                f"GET {self.url}{path}: no JSON ({error.msg} at {error.pos} of {len(answer.text)} characters)"
            ) from error
        except (ValueError, RecursionError) as error:  # a number of thousands of digits; nesting without end
            raise InventoryDown(f"GET {self.url}{path}: no usable JSON ({str(error)[:200]})") from error

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

    def members(self, path: str) -> list[Thing]:
        """Own attributes of all direct members, in one request."""
        name = name_of(path)
        body = self.get("/query/get_by_name", name=name, prefetch_attrs="[{}]")
        return list(parse_members(body, f"get_by_name {name}"))

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
            wanted = [{"key": "port-nic-eth", "subkey": "mac", "number": 1, "value": text} for text in spellings]
            paths = self.entities(attrs=wanted) if wanted else []
            names = list(names)
            paths += self.entities(names=names) if names else []
            self._add_hosts(inventory, paths)
            addresses = {address.text for path in inventory.hosts for address in inventory.things[path].addresses()}
            if addresses:
                claims = [{"key": "ip", "subkey": "ipstring", "value": text} for text in sorted(addresses)]
                self._add_hosts(inventory, self.entities(attrs=claims))
        except InventoryMalformed as error:
            raise InventoryDown(f"{self.url}: {error}") from error
        return inventory

    def _add_hosts(self, inventory: Inventory, paths: Iterable[str]) -> None:
        for path in paths:
            if path not in inventory.things:
                self._add_with_containers(inventory, path)
            if inventory.things[path].mac() and path not in inventory.hosts:
                inventory.hosts.append(path)

    def _add_with_containers(self, inventory: Inventory, path: str) -> None:
        """A thing, and those of its containers, up to the top, that nobody has read yet."""
        todo = [path]
        while todo:
            at = todo.pop()
            name = at.rpartition("/")[2]
            body = self.get("/query/get_by_name", name=name)
            inventory.things[at] = parse_show(body, f"get_by_name {name}")[0]
            parents = sorted(parse_parents(body, f"get_by_name {name}"))
            inventory.parents[at] = parents
            todo += [parent for parent in parents if parent not in inventory.things]

    def read(self) -> Inventory:
        """Everything that a plan needs.  Raises InventoryDown; never returns half an inventory."""
        try:
            with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="fetch") as pool:
                return self._read(pool)
        except InventoryMalformed as error:
            raise InventoryDown(f"{self.url}: {error}") from error

    def _read(self, pool: ThreadPoolExecutor) -> Inventory:
        self.progress("list", 0, 3)
        containers, hosts, managers = pool.map(
            lambda filters: self.entities(**filters),
            (
                {"attrs": [{"key": "_contains"}]},
                {"attrs": [{"key": "port-nic-eth", "subkey": "mac", "number": 1}]},
                {"clusto_drivers": ["ipmanager"]},
            ),
        )
        inventory = Inventory(hosts=sorted(set(hosts)), managers=sorted(managers))
        contents: dict[str, list[str]] = {}
        for thing, inside in self._all(pool, "containers", self.show, containers):
            inventory.things[thing.path] = thing
            contents[thing.path] = inside
            for path in inside:
                inventory.parents.setdefault(path, []).append(thing.path)
        wanted = set(hosts) - set(containers)
        cover = covering(contents, wanted)
        for things in self._all(pool, "members", self.members, cover):
            inventory.things.update((thing.path, thing) for thing in things if thing.path not in contents)
        left = sorted(wanted - inventory.things.keys())
        for thing, _contents in self._all(pool, "single hosts", self.show, left):
            inventory.things[thing.path] = thing
        unread = [path for path in inventory.managers if path not in inventory.things]
        for thing in self._all(pool, "managers", self.manager, unread):
            inventory.things[thing.path] = thing
        return inventory

    def _all(self, pool: ThreadPoolExecutor, stage: str, work: Callable[[str], T], paths: Iterable[str]) -> list[T]:
        todo = list(paths)
        done = []
        self.progress(stage, 0, len(todo))
        for result in pool.map(work, todo):
            done.append(result)
            self.progress(stage, len(done), len(todo))
        return done


def covering(contents: dict[str, list[str]], wanted: set[str]) -> list[str]:
    """Containers whose members, read in bulk, cover the wanted things; greedy, largest first.

    What only a container of one or two would add is left to single requests."""
    left = {path: wanted.intersection(inside) for path, inside in contents.items()}
    chosen = []
    while left:
        best = max(left, key=lambda path: (len(left[path]), path))
        gained = left.pop(best)
        if len(gained) < 3:
            break
        chosen.append(best)
        for path in list(left):
            left[path] -= gained
    return chosen


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
