"""A site's own rack factories: the module of `snmp.rackfactory`, by the contract of the original.

    get_factory(rack_name) -> an object, or None       get_driver(switchport) -> a driver class of control.clusto.client
    add_server(server, switchport)                     get_server(switchport) -> a server or None; may be left out

It runs in a registrar, a process that the coordinator ends when it hangs; whatever it raises is one machine's reason to
wait.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeVar

from control.clusto.client.api import ClustoError, NoSuchObject
from control.clusto.client.objects import get_by_name
from control.discovery.jobs import Waits
from control.discovery.registrar import asclusto
from control.discovery.registrar.building import Declared, Reserving, layout_of, nothing_reserved
from control.discovery.registrar.facts import Facts
from control.discovery.registrar.inventory import Entity, Inventory, name_of

FOLDER: Final = "/var/lib/clusto"  # where the original looks for it
DRIVERS: Final = ("penguinserver", "basicserver")
OURS: Final = ("control", "ext", "fastpath")
INSTALLED: Final = tuple({sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")})
T = TypeVar("T")


class Site:
    """The factory object of one rack.  stage: told what is called, for the case that it hangs."""

    def __init__(self, factory: Any, rack: str, module: str, stage: Callable[[str], None]) -> None:
        self.factory = factory
        self.rack = rack
        self.what = f"the factory of rack {rack} ({module})"
        self.stage = stage

    def nic(self, _switch: str, _port: int) -> int:
        """0: only the factory knows."""
        return 0

    def drivers(self, _switch: str, port: int) -> tuple[str, ...]:
        if not hasattr(self.factory, "get_driver"):
            return DRIVERS
        chosen = called(self.what, f"get_driver({port})", lambda: self.factory.get_driver(port), self.stage)
        name = chosen if isinstance(chosen, str) else getattr(chosen, "driver", None)
        if chosen is None:
            return DRIVERS
        if not isinstance(name, str):
            raise Waits(f"{self.what}: get_driver({port}) gave {chosen!r}; wanted a class such as PenguinServer")
        return (name,)

    def occupant(self, _switch: str, port: int) -> str:
        if not hasattr(self.factory, "get_server"):
            return ""
        found = called(self.what, f"get_server({port})", lambda: self.factory.get_server(port), self.stage)
        return "" if found is None else str(found.path)

    def check(self, _switch: str, port: int) -> None:
        if not callable(getattr(self.factory, "add_server", None)):
            raise Waits(f"{self.what} has no add_server(server, switchport), for port {port}; add it to the module")

    def would(self, _switch: str, port: int) -> list[str]:
        return [f"add_server(server, {port}) of {self.what}"]

    def add(self, server: str, _switch_path: str, port: int) -> list[str]:
        made = get_by_name(name_of(server))
        called(self.what, f"add_server({made.name}, {port})", lambda: self.factory.add_server(made, port), self.stage)
        return [f"add_server of {self.what}"]


Builder = Declared | Site


class Factories:
    """The builder of each rack: the site's factory where its module gives one, else the declared layout."""

    def __init__(
        self,
        inventory: Inventory,
        facts: Facts,
        named: str | None,
        stage: Callable[[str], None],
        reserved: Reserving = nothing_reserved,
    ) -> None:
        self.reserved = reserved
        self.inventory = inventory
        self.facts = facts
        self.named = named
        self.stage = stage
        self.module: Loaded | None = None

    def of(self, rack: Entity) -> Builder:
        """Raises Waits when the rack has neither."""
        factory = self.site_factory(rack.name) if self.named is not None else None
        if factory is not None and self.named is not None:
            return Site(factory, rack.name, self.named, self.stage)
        layout = layout_of(self.facts, rack)
        if layout is not None:
            return Declared(self.inventory, self.facts, rack, layout, self.reserved)
        site = f"snmp.rackfactory {self.named} has none for it" if self.named else "snmp.rackfactory is not set"
        raise Waits(f"rack {rack.name} has no factory: {site}, and the rack no racklayout ru_map; give it one")

    def site_factory(self, rack: str) -> Any:
        assert self.named is not None
        what = f"snmp.rackfactory {self.named}"
        named = self.named
        if self.module is None or self.module.is_old():
            self.module = None
            self.module = called(what, "import", lambda: Loaded(named), self.stage)
        get_factory = getattr(self.module.module, "get_factory", None)
        if not callable(get_factory):
            raise Waits(f"{what} has no get_factory(rack_name); add it to the module")
        return called(what, f"get_factory({rack!r})", lambda: get_factory(rack), self.stage)


class Loaded:
    """A site's module and what of its own it imports, until one of these files is another."""

    def __init__(self, named: str) -> None:
        """By name, from Python's path or the original's folder; or a .py file by its absolute path."""
        asclusto.install()
        sys.dont_write_bytecode = True  # that goes by whole seconds, and a repair may come within one
        importlib.invalidate_caches()
        before = set(sys.modules)
        self.own: dict[str, str] = {}
        try:
            self.module = load_module(named)
        except BaseException:
            self.own = own_files(set(sys.modules) - before)
            self.forget()  # what it had imported may be what has to be repaired
            raise
        self.own = own_files(set(sys.modules) - before)
        self.stamps = {file: stamp_of(file) for file in {file_of(self.module), *self.own.values()} if file}

    def is_old(self) -> bool:
        """True: forgotten, to be loaded again."""
        if all(stamp_of(file) == stamp for file, stamp in self.stamps.items()):
            return False
        self.forget()
        return True

    def forget(self) -> None:
        for name in self.own:
            sys.modules.pop(name, None)


def own_files(names: Iterable[str]) -> dict[str, str]:
    """Of these modules the site's own, with their files: neither Python's, nor installed, nor ours."""
    files = {name: file_of(sys.modules.get(name)) for name in names if name.partition(".")[0] not in OURS}
    return {name: file for name, file in files.items() if file and not file.startswith(INSTALLED)}


def file_of(module: ModuleType | None) -> str:
    return str(getattr(module, "__file__", None) or "")


def stamp_of(file: str) -> tuple[int, int, int]:
    """Zeros for one that is gone."""
    try:
        found = os.stat(file)
    except OSError:
        return 0, 0, 0
    return found.st_mtime_ns, found.st_size, found.st_ino


def load_module(named: str) -> ModuleType:
    if not named.startswith("/"):
        if FOLDER not in sys.path:
            sys.path.append(FOLDER)
        return importlib.import_module(named)
    spec = importlib.util.spec_from_file_location(Path(named).stem, named)
    if spec is None or spec.loader is None:
        raise ImportError(f"{named} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def called(what: str, call: str, function: Callable[[], T], stage: Callable[[str], None]) -> T:
    """The site's code.  Raises Waits with its exception and line; an inventory that is down stays that."""
    stage(f"{what}: {call}")
    try:
        return function()
    except NoSuchObject as error:
        raise Waits(f"{what}: {call} found nothing: {error}") from error
    except ClustoError as error:
        if error.status is None:
            raise
        raise Waits(f"{what}: {call} raised {error}") from error
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        at = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
        raise Waits(f"{what}: {call} raised {type(error).__name__}: {str(error)[:300]} at {at}") from error
    finally:
        stage("")
