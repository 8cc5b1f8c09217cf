"""Reads and checks services.conf, clusto's JSON file with our keys beside its own; service.py and the CLI use it.

A key is one field below: name, type, default, check, meaning and whether a change needs a restart stand in one place,
and `load`, `changes_needing_restart` and `describe` all go by it.  Only `_read` touches the file system.
"""

import dataclasses
import difflib
import errno
import ipaddress
import json
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

MAX_FILE_BYTES = 1 << 20
MAX_FAULTS = 100
MAX_WORKERS = 64
MAX_AUTO_WORKERS = 16
LEAST_REFRESH_INTERVAL_S = 300.0
_UNIX_PATH_MAX = 107  # sun_path of unix(7), less its NUL


class ConfigFaults(Exception):
    """Everything that is wrong with a file, one line each: file, key, found, wanted, next step."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


# --- checks: a JSON value -> the value of the field ------------------------------------------------------------------


class _Wrong(Exception):
    """A value that a check refuses; empty texts mean: what was found as such, what the check wants, the usual step."""

    def __init__(self, found: str = "", wanted: str = "", step: str = "", at: str = "") -> None:
        super().__init__(found)
        self.found, self.wanted, self.step, self.at = found, wanted, step, at


@dataclass(frozen=True, slots=True)
class _Check:
    """wanted: what the operator is told to write.  take: raises _Wrong, or an ExceptionGroup of them for a list."""

    wanted: str
    take: Callable[[Any], Any]


def _show(value: object, secret: bool = False) -> str:
    """A JSON value as an error message quotes it: one line, short."""
    if secret:
        return f"a {type(value).__name__.lstrip('_').lower()} (not shown)"
    if isinstance(value, dict):
        return "an object" if value else "an empty object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 128:
        return f"a number of {value.bit_length()} bits"
    text = json.dumps(value)
    return text if len(text) <= 70 else f"{text[:60]}... ({len(text)} characters)"


def _integer(low: int, high: int) -> _Check:
    def take(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value.strip()):
            raise _Wrong(step=f"write {int(value)} without quotes")
        if type(value) is not int or not low <= value <= high:  # type(): true is no number here
            raise _Wrong()
        return value

    return _Check(f"a whole number {low}..{high}", take)


def _number(low: float, high: float) -> _Check:
    def take(value: Any) -> float:
        # isfinite first: json reads NaN, and nan compares false with every limit
        if type(value) not in (int, float) or not low <= value <= high or not math.isfinite(value):
            raise _Wrong()
        return float(value)

    return _Check(f"a number {low:.10g}..{high:.10g}", take)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Wrong(step="write true or false without quotes")
    return value


def _text(wanted: str, pattern: str) -> _Check:
    def take(value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise _Wrong()
        return value

    return _Check(wanted, take)


def _nullable(check: _Check) -> _Check:
    return _Check(f"{check.wanted}, or null", lambda value: None if value is None else check.take(value))


def _list_of(check: _Check, secret: bool = False) -> _Check:
    def take(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _Wrong(step="put it in brackets: [...]" if isinstance(value, (str, int)) else "")
        taken: dict[Any, None] = {}
        wrong: list[_Wrong] = []
        for at, item in enumerate(value):
            try:
                element = check.take(item)
                if element in taken:
                    raise _Wrong(f"{_show(item, secret)} a second time", "each once")
                taken[element] = None
            except _Wrong as fault:
                found, wanted = fault.found or _show(item, secret), fault.wanted or check.wanted
                wrong.append(_Wrong(found, wanted, fault.step, f"[{at}]{fault.at}"))
        if wrong:
            raise ExceptionGroup("list", wrong)
        return tuple(taken)

    return _Check(f"a list, each element {check.wanted}", take)


def _choice(available: str, missing: str, key: str) -> _Check:
    def take(value: Any) -> str:
        if value == missing:
            raise _Wrong(f'"{missing}"', "", f'{key} = "{missing}" is not available in this version; use "{available}"')
        if value != available:
            raise _Wrong()
        return available

    return _Check(f'"{available}"', take)


def _take_ipv4(value: Any) -> IPv4Address:
    if not isinstance(value, str):
        raise _Wrong()
    try:
        address = IPv4Address(value)
    except ValueError:
        raise _Wrong() from None
    if address.is_unspecified or address.is_multicast or address.is_reserved:
        raise _Wrong(step=f"{address} is no host's address")
    return address


def _take_network(value: Any) -> IPv4Network:
    if not isinstance(value, str):
        raise _Wrong()
    try:
        return IPv4Network(value)
    except ValueError as fault:
        raise _Wrong(step="clear the host bits" if "host bits" in str(fault) else "") from None


def _take_host(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 253:
        raise _Wrong()
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        # all digits and dots is a mistyped address, never a name
        if re.fullmatch(r"[0-9.]*", value) or not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?", value):
            raise _Wrong() from None
        return value


def _take_host_port(value: Any) -> tuple[str, int]:
    host, colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise _Wrong()
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed != (":" in host):
        raise _Wrong(step="write an IPv6 address in brackets, as [::1]:9100")
    return _take_host(host[1:-1] if bracketed else host), int(port)


def _take_url(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[!-~]{1,2000}", value):
        raise _Wrong()
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as fault:
        raise _Wrong(step=f"correct it: {fault}") from None
    if parts.username is not None or parts.password is not None:
        raise _Wrong("a URL with a user or password in it", step="take them out and set dhcp.api_token")
    if parts.scheme not in ("http", "https"):
        raise _Wrong(step=f"write http://{value}" if "//" not in value else "use http:// or https://")
    if not parts.hostname or port == 0 or parts.query or parts.fragment or value.endswith(("?", "#")):
        raise _Wrong()
    return value.rstrip("/")


def _take_absolute_path(value: Any) -> Path:
    if not isinstance(value, str) or not value.startswith("/") or not value.isprintable() or len(value) > 4000:
        raise _Wrong()
    return Path(value)


def _take_socket_path(value: Any) -> Path:
    path = _take_absolute_path(value)
    if len(os.fsencode(path)) > _UNIX_PATH_MAX:
        raise _Wrong(wanted=f"at most {_UNIX_PATH_MAX} bytes (the kernel's limit)", step="choose a shorter path")
    return path


def _take_workers(value: Any) -> Any:
    return value if value == "auto" else _integer(1, MAX_WORKERS).take(value)


def _take_extra_options(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _Wrong()
    wrong: list[_Wrong] = []
    codes: dict[str, str] = {}
    by_name: dict[str, str] = {}
    for code, name in value.items():
        at = f"[{_show(code)}]"
        same = "" if not isinstance(name, str) else name.strip().lower().replace("-", "_")
        if not re.fullmatch(r"[1-9][0-9]{0,2}", code) or int(code) > 254:
            wrong.append(_Wrong(f"the key {_show(code)}", "a decimal option number 1..254 as text", at=at))
        elif not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
            wrong.append(_Wrong(_show(name), "a name of letters, digits, '_', '-' and '.'", at=at))
        elif same in by_name:
            found = f"{_show(name)}, which option {by_name[same]} is called already"
            wrong.append(_Wrong(found, "another name ('-' and '_', capitals and small letters are the same)", at=at))
        else:
            by_name[same], codes[code] = code, name
    if wrong:
        raise ExceptionGroup("extra_options", wrong)
    return codes


@dataclass(frozen=True, slots=True, kw_only=True)
class SnmpUser:
    """One SNMPv3 user (USM); engine_id is the sending switch's, which traps can't be decoded without."""

    name: str
    auth: str = "none"
    auth_password: str | None = field(default=None, repr=False)
    privacy: str = "none"
    privacy_password: str | None = field(default=None, repr=False)
    engine_id: str | None = None


_PASSWORD = r"[^\x00-\x1f\x7f]{8,128}"  # 8: the least that RFC 3414 11.2 allows
_USER_FIELDS: Mapping[str, str] = {
    "name": r"[!-~]{1,32}",
    "auth": "none|md5|sha|sha224|sha256|sha384|sha512",
    "auth_password": _PASSWORD,
    "privacy": "none|des|aes|aes192|aes256",
    "privacy_password": _PASSWORD,
    "engine_id": r"(?:0x)?(?:[0-9a-fA-F]{2}){5,32}",  # RFC 3411 section 5: 5..32 octets
}


def _take_user(value: Any) -> SnmpUser:
    wanted = f"an object of {', '.join(_USER_FIELDS)}"
    if not isinstance(value, dict) or "name" not in value:
        raise _Wrong("no name" if isinstance(value, dict) else "", wanted)
    for name, found in value.items():
        form = _USER_FIELDS.get(name)
        if form is None:
            raise _Wrong(f"the field {_show(name)}", wanted)
        if not isinstance(found, str) or not re.fullmatch(form, found):
            secret = form is _PASSWORD
            found = "an unusable password (not shown)" if secret else _show(found)
            raise _Wrong(found, "8 to 128 characters" if secret else f"text of the form {form}", at=f".{name}")
    user = SnmpUser(**value)
    for protocol, password in ((user.auth, user.auth_password), (user.privacy, user.privacy_password)):
        if (protocol == "none") != (password is None):
            raise _Wrong(f"user {_show(user.name)} with only one of protocol and password", "both, or neither")
    if user.privacy != "none" and user.auth == "none":
        raise _Wrong(f"user {_show(user.name)} with privacy but no auth", "auth as well (RFC 3414 knows no other way)")
    return user


_PORT = _integer(1, 65535)
_BOOL = _Check("true or false", _boolean)
_IPV4 = _Check("an IPv4 address such as 192.0.2.1", _take_ipv4)
_NETWORK = _Check("an IPv4 address or prefix such as 192.0.2.0/24", _take_network)
_HOST = _Check("an IP address or host name", _take_host)
_PATH = _Check("an absolute path", _take_absolute_path)
_SOCKET = _nullable(_Check("an absolute path", _take_socket_path))


# --- the keys --------------------------------------------------------------------------------------------------------


def _key(
    default: Any, check: _Check, doc: str, *, restart: str = "", secret: bool = False, default_shown: str = ""
) -> Any:
    """One key.  restart: why a change can't be adopted by a running server; secret: never quoted in a message."""
    about = {"check": check, "doc": doc, "restart": restart, "secret": secret, "default_shown": default_shown}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=about, repr=not secret, hash=False)
    return field(default=default, metadata=about, repr=not secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """Where `bootstorm inventory`, or the original clusto-httpd, listens."""

    bind_address: str = _key("127.0.0.1", _HOST, "address that the embedded inventory listens on")
    bind_port: int = _key(9996, _PORT, "its TCP port")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dhcp:
    """The DHCP server."""

    api_url: str = _key(
        "http://localhost:9996",
        _Check("a URL such as http://localhost:9996", _take_url),
        "base URL of clusto-httpd; a trailing slash is dropped",
    )
    update_ipmi: bool = _key(False, _BOOL, "tell a server's IPMI card from the server itself and record its MAC")
    extra_options: Mapping[str, str] = _key(
        {},
        _Check('an object such as {"150": "tftp_address"}', _take_extra_options),
        "further subkeys of key `dhcp`: decimal option number (1..254, as text) -> name",
    )
    interfaces: tuple[str, ...] = _key(
        (),
        _list_of(_text("an interface name", r"(?!\.{1,2}$)[!-.0-9;-~]{1,15}")),
        "interfaces whose requests are answered; empty: all",
    )
    workers: int | Literal["auto"] = _key(
        "auto",
        _Check(f'"auto" or a whole number 1..{MAX_WORKERS}', _take_workers),
        f"worker processes; auto: one a usable CPU, at most {MAX_AUTO_WORKERS}",
        restart="the kernel spreads requests over sockets that are made once, at the start",
    )
    port: int = _key(67, _PORT, "UDP port to serve on", restart="the sockets are bound at the start")
    refresh_interval: float | None = _key(
        None,
        _nullable(_number(1, 604800)),
        "seconds between two full reads of the inventory; null: 20 times the last one's duration, at least 300",
    )
    server_id: IPv4Address | None = _key(  # noqa: RUF009 (_key makes a field)
        None, _nullable(_IPV4), "option 54 of every reply; null: the address that the request reached us on"
    )
    server_ids: tuple[IPv4Address, ...] = _key(
        (), _list_of(_IPV4), "further server identifiers to answer to, such as those of a server that we replaced"
    )
    relays: tuple[IPv4Network, ...] = _key(
        (), _list_of(_NETWORK), "relay agents (giaddr) that are answered; empty: all"
    )
    max_shrink: float = _key(
        0.2, _number(0, 1), "share of the hosts that one refresh may remove without `ctl refresh --force`"
    )
    # A day: people move addresses in a static inventory by hand, at work, and hear of one that is down long before; a
    # NAK takes a running host off the net, while silence merely lets it ask again.
    max_nak_age: float = _key(
        86400.0,
        _number(0, 2678400),
        "age of the table, in seconds, beyond which no NAK is sent any more; 0: never a NAK",
    )
    state_dir: Path = _key(  # noqa: RUF009
        Path("/var/lib/bootstorm"),
        _PATH,
        "where the last good table, the lock and the journal are kept",
        restart="the running server holds its lock there",
    )
    user: str | None = _key(
        None,
        _nullable(_text("a user name", r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?")),
        "user to run as once the sockets are open; null: stay as started",
        restart="privileges are dropped at the start, for good",
    )
    io: str = _key(
        "socket",
        _choice("socket", "xdp", "dhcp.io"),
        "how packets are received and sent",
        restart="the workers' sockets are made at the start",
    )
    mode: str = _key("serve", _choice("serve", "observe", "dhcp.mode"), "whether replies are sent")
    bootp: bool = _key(False, _BOOL, "answer BOOTP requests (those without option 53) as well")
    api_token: str | None = _key(
        None,
        _nullable(_text("text of visible ASCII characters", r"[!-~]{1,4096}")),
        "bearer token for `api_url`",
        secret=True,
    )
    ipmi_port_name: str = _key(
        "ipmi", _text("a port name", r"[A-Za-z0-9_.-]{1,64}"), "port whose MAC and address are the IPMI card's"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Snmp:
    """The trap listener."""

    bind_address: str = _key(
        "0.0.0.0", _HOST, "address to receive traps on", restart="the trap socket is bound at the start"
    )
    bind_port: int = _key(162, _PORT, "its UDP port", restart="the trap socket is bound at the start")
    communities: tuple[str, ...] = _key(
        (),
        _list_of(_text("a community (visible ASCII characters)", r"[!-~]{1,255}"), secret=True),
        "SNMPv1/v2c communities that are believed; empty: any, as the original did",
        secret=True,
    )
    users: tuple[SnmpUser, ...] = _key(
        (),
        _list_of(_Check(f"an object of {', '.join(_USER_FIELDS)}", _take_user), secret=True),
        "SNMPv3 users",
        secret=True,
    )
    proxies: tuple[IPv4Network, ...] = _key(
        (), _list_of(_NETWORK), "trap forwarders whose word for the real sender (snmpTrapAddress) is believed"
    )
    rackfactory: str | None = _key(
        None,
        _nullable(
            _text("a Python module name or the absolute path of a .py file", r"/[ -~]+\.py|[A-Za-z_]\w*(\.\w+)*")
        ),
        "the site's rack factory (`get_factory(rack_name)`); null: none, new servers are only reported",
    )
    max_macs_per_port: int = _key(
        8, _integer(1, 4096), "more MACs than this on one switch port: an uplink, which registers nothing"
    )
    dry_run: bool = _key(False, _BOOL, "report what traps would change in the inventory, and change nothing")


_STATE_SOCKET = "control.sock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The socket of `bootstorm ctl`."""

    socket: Path = _key(  # noqa: RUF009
        Path("/var/lib/bootstorm") / _STATE_SOCKET,
        _SOCKET,
        "Unix socket of `bootstorm ctl`",
        restart="the socket is opened at the start",
        default_shown=f"`<dhcp.state_dir>/{_STATE_SOCKET}`",
    )
    allow_uids: tuple[int, ...] = _key(
        (), _list_of(_integer(0, 2**32 - 2)), "further users, by number, who may use it besides root and our own user"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """The Prometheus endpoint."""

    bind: tuple[str, int] | None = _key(
        None,
        _nullable(_Check("an address and port such as 127.0.0.1:9100", _take_host_port)),
        "where to serve metrics; null: nowhere",
        restart="the endpoint is opened at the start",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One whole services.conf.  path: the file that it came from, None for the defaults."""

    http: Http = field(default_factory=Http)
    dhcp: Dhcp = field(default_factory=Dhcp)
    snmp: Snmp = field(default_factory=Snmp)
    control: Control = field(default_factory=Control)
    metrics: Metrics = field(default_factory=Metrics)
    path: Path | None = None


_SECTIONS: Mapping[str, type] = {"http": Http, "dhcp": Dhcp, "snmp": Snmp, "control": Control, "metrics": Metrics}


def _keys() -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    for section, kind in _SECTIONS.items():
        for key in dataclasses.fields(kind):
            yield section, key


def _plain(value: object) -> str:
    """A field's value as services.conf writes it."""
    return json.dumps(value, default=lambda item: list(item) if isinstance(item, tuple) else str(item))


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
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=_object)
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

    def add_wrong(self, section: str, key: dataclasses.Field[Any], found: Any, wrong: _Wrong) -> None:
        shown = _show(found, key.metadata["secret"])
        wanted = wrong.wanted or key.metadata["check"].wanted
        step = wrong.step or f"correct it, or remove the key for the default {_default(section, key)}"
        self.add(f"{section}.{key.name}{wrong.at}: found {wrong.found or shown}; wanted {wanted}; {step}")

    def settle(self) -> None:
        if self.left_out:
            self.lines.append(f"{self.path}: and {self.left_out} more faults; correct these first")
        if self.lines:
            raise ConfigFaults(self.lines)


def _dotted(section: str, name: str) -> str:
    shown = name if re.fullmatch(r"[\w.-]{1,60}", name) else _show(name)
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


def _take(faults: _Faults, section: str, key: dataclasses.Field[Any], found: Any) -> Any:
    if isinstance(found, _Object):
        faults.add_double(f"{section}.{key.name}", found)
    try:
        return key.metadata["check"].take(found)
    except _Wrong as wrong:
        faults.add_wrong(section, key, found, wrong)
    except ExceptionGroup as group:
        for each in group.exceptions:
            assert isinstance(each, _Wrong)
            faults.add_wrong(section, key, found, each)
    return None


def parse(content: bytes, path: Path) -> Config:
    """A file's content -> Config; path only for messages and Config.path.  Raises ConfigFaults with every fault."""
    whole = _parse_json(content, path)
    if not isinstance(whole, _Object):
        raise ConfigFaults([f"{path}: found {_show(whole)}; wanted an object; begin the file with {{ and a section"])
    faults = _Faults(path)
    faults.add_unknown_and_double("", whole, list(_SECTIONS))
    taken: dict[str, dict[str, Any]] = {}
    for section, kind in _SECTIONS.items():
        taken[section] = {}
        found = whole.get(section, _Object())
        if not isinstance(found, _Object):
            faults.add(f"{section}: found {_show(found)}; wanted an object; write {{}} or remove it")
            continue
        keys = {key.name: key for key in dataclasses.fields(kind)}
        faults.add_unknown_and_double(section, found, list(keys))
        taken[section] = {name: _take(faults, section, keys[name], found[name]) for name in found if name in keys}
    if taken["control"].get("socket") is None:  # beside the state, wherever that is
        key = next(key for key in dataclasses.fields(Control) if key.name == "socket")
        beside = (taken["dhcp"].get("state_dir") or Dhcp().state_dir) / _STATE_SOCKET
        taken["control"]["socket"] = _take(faults, "control", key, str(beside))
    faults.settle()
    return Config(path=path, **{section: kind(**taken[section]) for section, kind in _SECTIONS.items()})


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
    raise ConfigFaults([*passed_over, f"services.conf: no usable file at {places}; create one, or name one with -c"])


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
    return sentences


def describe() -> str:
    """All keys as a Markdown table, for the documentation."""
    lines = ["| key | value | default | restart | meaning |", "| --- | --- | --- | --- | --- |"]
    for section, key in _keys():
        restart = "yes" if key.metadata["restart"] else ""
        cells = (key.metadata["check"].wanted, _default(section, key), restart, key.metadata["doc"])
        lines.append(" | ".join([f"| `{section}.{key.name}`", *(cell.replace("|", "\\|") for cell in cells)]) + " |")
    return "\n".join(lines) + "\n"
