"""Reads and checks services.conf, clusto's JSON file with our keys beside its own; service/service.py and the CLI use
it.

A key is one field of sections.py: name, type, default, check (checks.py), meaning and whether a change needs a restart
stand in one place, and `load`, `changes_needing_restart` and `describe` all go by it.  Only `_read` touches the file
system.
"""

import dataclasses
import difflib
import errno
import json
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from control.config import checks
from control.config.checks import MAX_WORKERS as MAX_WORKERS
from control.config.checks import SnmpUser as SnmpUser
from control.config.comments import without_comments
from control.config.places import clash
from control.config.sections import MAX_AUTO_WORKERS, STATE_SOCKET, Board, Fleet, Http, Log, Metrics
from control.config.sections import NOBODY_BELIEVED as NOBODY_BELIEVED
from control.config.sections import Control as Control
from control.config.sections import Dhcp as Dhcp
from control.config.sections import Snmp as Snmp

MAX_FILE_BYTES = 1 << 20
MAX_FAULTS = 100
LEAST_REFRESH_INTERVAL_S = 300.0


class ConfigFaults(Exception):
    """Everything that is wrong with a file, one line each: file, key, found, wanted, next step."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One whole services.conf.  path: the file that it came from, None for the defaults."""

    http: Http = field(default_factory=Http)
    dhcp: Dhcp = field(default_factory=Dhcp)
    snmp: Snmp = field(default_factory=Snmp)
    control: Control = field(default_factory=Control)
    metrics: Metrics = field(default_factory=Metrics)
    board: Board = field(default_factory=Board)
    log: Log = field(default_factory=Log)
    fleet: Fleet = field(default_factory=Fleet)
    receives_traps: bool = False  # there is a section snmp
    in_fleet: bool = False  # there is a section fleet
    path: Path | None = None
    text: bytes = field(
        default=b"", repr=False, compare=False
    )  # as accepted: a restarted process takes this, not a file edited since


_SECTIONS: Mapping[str, type] = {
    "http": Http, "dhcp": Dhcp, "snmp": Snmp, "control": Control, "metrics": Metrics, "board": Board, "log": Log,
    "fleet": Fleet,
}  # fmt: skip


def _keys() -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    for section, kind in _SECTIONS.items():
        for key in dataclasses.fields(kind):
            yield section, key


def _as_json(item: object) -> object:
    return list(item) if isinstance(item, tuple) else item.hex() if isinstance(item, bytes) else str(item)


def _plain(value: object) -> str:
    """A field's value as services.conf writes it."""
    return json.dumps(value, default=_as_json)


def _default(section: str, key: dataclasses.Field[Any]) -> str:
    return str(key.metadata["default_shown"]) or f"`{_plain(getattr(_SECTIONS[section](), key.name))}`"


# --- reading ---------------------------------------------------------------------------------------------------------


class _Missing(ConfigFaults):
    """There is no such file: no fault on the search path."""


class _Unparsable(ConfigFaults):
    """Not a readable JSON file: reported, and passed over on the search path."""


class _Object(dict[str, Any]):
    """A JSON object that still knows which keys it had twice."""

    twice: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    made = _Object(pairs)
    if len(made) < len(pairs):
        made.twice = tuple(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
    return made


def _read(path: Path) -> bytes:
    """The whole file.  O_NONBLOCK: a pipe in its place is a fault, not a wait for ever."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            mode = os.fstat(fd).st_mode
            if not stat.S_ISREG(mode):
                found = "a directory" if stat.S_ISDIR(mode) else "a device, pipe or socket"
                raise _Unparsable([f"{path}: found {found}; wanted a JSON file; name the file itself"])
            content = os.read(fd, MAX_FILE_BYTES + 1)
        finally:
            os.close(fd)
    except (OSError, ValueError) as fault:  # ValueError: a NUL in the path
        reason = (fault.strerror if isinstance(fault, OSError) else None) or str(fault)
        missing = isinstance(fault, OSError) and fault.errno in (errno.ENOENT, errno.ENOTDIR)
        step = "create it, or name another with -c" if missing else "let the user that starts bootstorm read it"
        raise (_Missing if missing else _Unparsable)([f"{path}: can't be read ({reason}); {step}"]) from None
    if len(content) > MAX_FILE_BYTES:
        limit = f"wanted at most {MAX_FILE_BYTES} bytes"
        raise _Unparsable([f"{path}: found a larger file; {limit}; check that it is the right one"])
    return content


def _parse_json(content: bytes, path: Path) -> Any:
    try:
        return json.loads(without_comments(content.decode("utf-8-sig")), object_pairs_hook=_object)
    except UnicodeDecodeError as fault:
        line = content.count(b"\n", 0, fault.start) + 1
        found = f"line {line}: found byte 0x{content[fault.start]:02x}"
        raise _Unparsable([f"{path}: {found}; wanted UTF-8; save the file as UTF-8"]) from None
    except json.JSONDecodeError as fault:
        where = f"line {fault.lineno} column {fault.colno}"
        raise _Unparsable([f"{path}: {where}: not JSON ({fault.msg}); correct the file there"]) from None
    except (ValueError, RecursionError) as fault:  # a number of thousands of digits; nesting without end
        raise _Unparsable([f"{path}: not usable JSON ({fault}); correct the file"]) from None


class _Faults:
    """Collects the lines; beyond MAX_FAULTS it only counts, so that a hostile file costs no time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[str] = []
        self.left_out = 0

    def add(self, line: str) -> None:
        if len(self.lines) < MAX_FAULTS:
            self.lines.append(f"{self.path}: {line}")
        else:
            self.left_out += 1

    def add_unknown_and_double(self, section: str, found: _Object, known: Sequence[str]) -> None:
        for name in found:
            if name not in known and len(self.lines) < MAX_FAULTS:
                near = _nearest(section, name)
                guess = f"did you mean {near}?" if near else f"wanted one of {', '.join(known)}; remove it"
                self.add(f"{_dotted(section, name)}: unknown key; {guess}")
            elif name not in known:
                self.left_out += 1
        self.add_double(section, found)

    def add_double(self, where: str, found: _Object) -> None:
        for name in found.twice:
            self.add(f"{_dotted(where, name)}: found twice; wanted once; remove one")

    def add_wrong(self, section: str, key: dataclasses.Field[Any], found: Any, wrong: checks.Wrong) -> None:
        shown = checks.show(found, key.metadata["secret"])
        wanted = wrong.wanted or key.metadata["check"].wanted
        step = wrong.step or f"correct it, or remove the key for the default {_default(section, key)}"
        self.add(f"{section}.{key.name}{wrong.at}: found {wrong.found or shown}; wanted {wanted}; {step}")

    def all(self) -> list[str]:
        more = [f"{self.path}: and {self.left_out} more faults; correct these first"] if self.left_out else []
        return self.lines + more


def _dotted(section: str, name: str) -> str:
    shown = name if re.fullmatch(r"[\w.-]{1,60}", name) else checks.show(name)
    return f"{section}.{shown}" if section else shown


def _nearest(section: str, name: str) -> str | None:
    """The key that an unknown one was meant to be: alike here, the same elsewhere, similar here, similar elsewhere."""
    plain = name[:64].lower().replace("-", "_")
    full = [f"{where}.{key.name}" for where, key in _keys()]
    here = [key for key in full if key.startswith(f"{section}.")] if section else list(_SECTIONS)
    for keys, cutoff in ((here, 1.0), (full, 1.0), (here, 0.6), (full, 0.6)):
        leaves = {key.rpartition(".")[2]: key for key in reversed(keys)}
        close = difflib.get_close_matches(plain, leaves, n=1, cutoff=cutoff)
        if close:
            return leaves[close[0]]
    return None


_REFUSED = object()


def _take(faults: _Faults, section: str, key: dataclasses.Field[Any], found: Any) -> Any:
    """_REFUSED: with its faults noted."""
    if isinstance(found, _Object):
        faults.add_double(f"{section}.{key.name}", found)
    try:
        checks.check_encodable(found, key.metadata["secret"])
        return key.metadata["check"].take(found)
    except checks.Wrong as wrong:
        faults.add_wrong(section, key, found, wrong)
    except ExceptionGroup as group:
        for each in group.exceptions:
            assert isinstance(each, checks.Wrong)
            faults.add_wrong(section, key, found, each)
    return _REFUSED


def parse(content: bytes, path: Path) -> Config:
    """A file's content -> Config; path only for messages and Config.path.  Raises ConfigFaults with every fault."""
    config, faults = _parse(content, path)
    if faults:
        raise ConfigFaults(faults)
    return config


def parse_accepted(content: bytes, path: Path, state_dir: Path | None = None) -> tuple[Config, list[str]]:
    """What the running code accepted, read by code that may be stricter -> Config and what is refused now.

    What is refused costs itself: a key has its default, what is not known is passed over.  A service that was upgraded
    must not stay down for a check that is newer than its configuration.  state_dir: in force, whatever is said."""
    try:
        config, faults = _parse(content, path)
    except ConfigFaults as unusable:
        config, faults = Config(path=path, text=content), list(unusable.faults)
    if state_dir is not None:
        config = dataclasses.replace(config, dhcp=dataclasses.replace(config.dhcp, state_dir=state_dir))
    return config, faults


def _parse(content: bytes, path: Path) -> tuple[Config, list[str]]:
    """With the default of each key that is refused, and the faults.  Raises ConfigFaults for what is no JSON object."""
    whole = _parse_json(content, path)
    if not isinstance(whole, _Object):
        raise ConfigFaults(
            [f"{path}: found {checks.show(whole)}; wanted an object; begin the file with {{ and a section"]
        )
    faults = _Faults(path)
    if not isinstance(named := whole.pop("$schema", ""), str):
        faults.add(f"$schema: found {checks.show(named)}; wanted where `bootstorm schema` was written to; remove it")
    faults.add_unknown_and_double("", whole, list(_SECTIONS))
    taken: dict[str, dict[str, Any]] = {}
    for section, kind in _SECTIONS.items():
        taken[section] = {}
        found = whole.get(section, _Object())
        if not isinstance(found, _Object):
            faults.add(f"{section}: found {checks.show(found)}; wanted an object; write {{}} or remove it")
            continue
        keys = {key.name: key for key in dataclasses.fields(kind)}
        faults.add_unknown_and_double(section, found, list(keys))
        values = {name: _take(faults, section, keys[name], found[name]) for name in found if name in keys}
        taken[section] = {name: value for name, value in values.items() if value is not _REFUSED}
    if taken["control"].get("socket") is None:  # beside the state, wherever that is
        key = next(key for key in dataclasses.fields(Control) if key.name == "socket")
        beside = (taken["dhcp"].get("state_dir") or Dhcp().state_dir) / STATE_SOCKET
        socket = _take(faults, "control", key, str(beside))
        taken["control"]["socket"] = beside if socket is _REFUSED else socket
    else:
        state_dir = taken["dhcp"].get("state_dir") or Dhcp().state_dir
        if found := clash(taken["control"]["socket"], state_dir):
            shown, beside = _plain(taken["control"]["socket"]), state_dir / STATE_SOCKET
            faults.add(f"control.socket: found {shown}, {found}; wanted a place of its own; write {_plain(beside)}")
            taken["control"]["socket"] = beside
    if taken["dhcp"].get("io") == "xdp" and not taken["dhcp"].get("interfaces"):
        faults.add(
            'dhcp.io: found "xdp" without dhcp.interfaces; wanted the interfaces to take requests from; name them'
        )
    port = taken["dhcp"].get("port", Dhcp().port)
    if taken["dhcp"].get("boot_port", Dhcp().boot_port) == port:
        faults.add(f"dhcp.boot_port: found {port}, which is dhcp.port; wanted another, or 0 for none; change one")
    sections = {section: kind(**taken[section]) for section, kind in _SECTIONS.items()}
    receives_traps, in_fleet = "snmp" in whole, "fleet" in whole
    return Config(path=path, text=content, receives_traps=receives_traps, in_fleet=in_fleet, **sections), faults.all()


def load(path: str | os.PathLike[str]) -> Config:
    """The file that `-c` names.  Raises ConfigFaults, also when it is missing or unreadable."""
    return parse(_read(Path(path)), Path(path))


def search_path(home: str | None) -> tuple[Path, ...]:
    """Where clusto looks, in its order; home: $HOME."""
    user = [Path(home, ".clusto", "services.conf")] if home else []
    return (Path("/etc/clusto/services.conf"), *user, Path("services.conf"))


def load_first(paths: Sequence[Path]) -> tuple[Config, tuple[str, ...]]:
    """The first file that exists and is JSON, and what was wrong with those passed over, as clusto does it.

    Raises ConfigFaults when there is none, and for faults in the file that was taken: those are never passed over.
    """
    passed_over: list[str] = []
    for path in paths:
        try:
            return load(path), tuple(passed_over)
        except _Missing:
            continue
        except _Unparsable as fault:
            passed_over += fault.faults
    places = ", ".join(str(path) for path in paths)
    step = "`bootstorm init` writes one, -c names another"
    raise ConfigFaults([*passed_over, f"services.conf: no usable file at {places}; {step}"])


# --- meaning ---------------------------------------------------------------------------------------------------------


def resolve_workers(workers: int | Literal["auto"], usable_cpus: int) -> int:
    """dhcp.workers as a number; usable_cpus: those that the process may run on."""
    return min(max(usable_cpus, 1), MAX_AUTO_WORKERS) if workers == "auto" else workers


def resolve_refresh_interval(refresh_interval: float | None, last_duration_s: float) -> float:
    """dhcp.refresh_interval in seconds; a full read blocks the original clusto-httpd, hence the factor of 20."""
    return max(LEAST_REFRESH_INTERVAL_S, 20 * last_duration_s) if refresh_interval is None else refresh_interval


def changes_needing_restart(old: Config, new: Config) -> list[str]:
    """One sentence for each changed key that a running server can't adopt; SIGHUP refuses a file that has any."""
    sentences = []
    for section, key in _keys():
        before, after = (getattr(getattr(config, section), key.name) for config in (old, new))
        if key.metadata["restart"] and before != after:
            change = f"{section}.{key.name}: a change from {_plain(before)} to {_plain(after)} needs a restart"
            sentences.append(f"{change}: {key.metadata['restart']}")
    if old.receives_traps != new.receives_traps:
        change = "a section that was not there" if new.receives_traps else "taking the section away"
        sentences.append(f"snmp: {change} needs a restart: the trap socket is opened at the start")
    return sentences


def describe() -> str:
    """All keys as a Markdown table, for the documentation."""
    lines = ["| key | value | default | restart | meaning |", "| --- | --- | --- | --- | --- |"]
    for section, key in _keys():
        restart = "yes" if key.metadata["restart"] else ""
        cells = (key.metadata["check"].wanted, _default(section, key), restart, key.metadata["doc"])
        lines.append(" | ".join([f"| `{section}.{key.name}`", *(cell.replace("|", "\\|") for cell in cells)]) + " |")
    return "\n".join(lines) + "\n"
