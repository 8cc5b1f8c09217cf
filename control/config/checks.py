"""The checks of config.py's keys: a JSON value -> the value of the field, or Wrong with what was wanted.  Pure.

What a check takes is said a second time as JSON Schema (shapes.py), for editors.
"""

import ipaddress
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from control.config import bmc, shapes
from control.config.bmc import Rule
from control.config.shapes import Shape, shape_of, takes

MAX_WORKERS = 64
ANY_COMMUNITY = "*"  # of snmp.communities
_UNIX_PATH_MAX = 107  # sun_path of unix(7), less its NUL
_LABEL_MAX = 63  # RFC 1035 2.3.4


class Wrong(Exception):
    """A value that a check refuses; empty texts mean: what was found as such, what the check wants, the usual step."""

    def __init__(self, found: str = "", wanted: str = "", step: str = "", at: str = "") -> None:
        super().__init__(found)
        self.found, self.wanted, self.step, self.at = found, wanted, step, at


@dataclass(frozen=True, slots=True)
class Check:
    """wanted: what the operator is told to write.  take: raises Wrong, or an ExceptionGroup of them for a list."""

    wanted: str
    take: Callable[[Any], Any]

    @property
    def shape(self) -> Shape:
        """JSON Schema of what it takes, as far as that can be said there."""
        return shape_of(self.take)


def show(value: object, secret: bool = False) -> str:
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


def check_encodable(value: Any, secret: bool = False, at: str = "") -> None:
    """Raises Wrong for a text that is none: JSON can write half a character ("\\ud800"), and no file, process or packet
    can have it."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as fault:
            shown = "a text (not shown)" if secret else f"{show(value)}, a text"
            found = f"{shown} with half a character, the {fault.start + 1}. of it"
            step = "write the character itself, or both halves of its \\u form"
            raise Wrong(found, "whole characters", step, at) from None
    elif isinstance(value, list):
        for number, item in enumerate(value):
            check_encodable(item, secret, f"{at}[{number}]")
    elif isinstance(value, dict):
        for name, item in value.items():
            check_encodable(name, secret, at)
            check_encodable(item, secret, f"{at}.{name}" if re.fullmatch(r"[\w-]{1,60}", name) else at)


def integer(low: int, high: int) -> Check:
    @takes({"type": "integer", "minimum": low, "maximum": high})
    def take(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value.strip()):
            raise Wrong(step=f"write {int(value)} without quotes")
        if type(value) is not int or not low <= value <= high:  # type(): true is no number here
            raise Wrong()
        return value

    return Check(f"a whole number {low}..{high}", take)


def number(low: float, high: float) -> Check:
    @takes({"type": "number", "minimum": low, "maximum": high})
    def take(value: Any) -> float:
        # isfinite first: json reads NaN, and nan compares false with every limit
        if type(value) not in (int, float) or not low <= value <= high or not math.isfinite(value):
            raise Wrong()
        return float(value)

    return Check(f"a number {low:.10g}..{high:.10g}", take)


@takes({"type": "boolean"})
def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Wrong(step="write true or false without quotes")
    return value


def text(wanted: str, pattern: str) -> Check:
    @takes(shapes.text(pattern))
    def take(value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise Wrong()
        return value

    return Check(wanted, take)


def nullable(check: Check) -> Check:
    @takes(shapes.nullable(check.shape))
    def take(value: Any) -> Any:
        return None if value is None else check.take(value)

    return Check(f"{check.wanted}, or null", take)


def list_of(check: Check, secret: bool = False) -> Check:
    @takes({"type": "array", "items": check.shape, "uniqueItems": True})
    def take(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise Wrong(step="put it in brackets: [...]" if isinstance(value, (str, int)) else "")
        taken: dict[Any, None] = {}
        wrong: list[Wrong] = []
        for at, item in enumerate(value):
            try:
                element = check.take(item)
                if element in taken:
                    raise Wrong(f"{show(item, secret)} a second time", "each once")
                taken[element] = None
            except Wrong as fault:
                found, wanted = fault.found or show(item, secret), fault.wanted or check.wanted
                wrong.append(Wrong(found, wanted, fault.step, f"[{at}]{fault.at}"))
        if wrong:
            raise ExceptionGroup("list", wrong)
        return tuple(taken)

    return Check(f"a list, each element {check.wanted}", take)


def one_of(*words: str) -> Check:
    @takes({"enum": list(words)})
    def take(value: Any) -> str:
        if not isinstance(value, str) or value not in words:
            raise Wrong()
        return value

    return Check(" or ".join(f'"{word}"' for word in words), take)


@takes(shapes.text(shapes.HOST_ADDRESS))
def _take_ipv4(value: Any) -> IPv4Address:
    if not isinstance(value, str):
        raise Wrong()
    try:
        address = IPv4Address(value)
    except ValueError:
        raise Wrong() from None
    if address.is_unspecified or address.is_multicast or address.is_reserved:
        raise Wrong(step=f"{address} is no host's address")
    return address


@takes(shapes.text(rf"0\.0\.0\.0|{shapes.HOST_ADDRESS}"))
def _take_listen(value: Any) -> str:
    return "0.0.0.0" if value == "0.0.0.0" else str(_take_ipv4(value))


@takes(shapes.text(shapes.NETWORK))
def _take_network(value: Any) -> IPv4Network:
    if not isinstance(value, str):
        raise Wrong()
    try:
        return IPv4Network(value)
    except ValueError as fault:
        raise Wrong(step="clear the host bits" if "host bits" in str(fault) else "") from None


@takes(shapes.text(shapes.HOST) | {"maxLength": 253})
def _take_host(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 253:
        raise Wrong()
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        # all digits and dots is a mistyped address, never a name
        if re.fullmatch(r"[0-9.]*", value) or not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?", value):
            raise Wrong() from None
    _check_labels(value)
    return value


def _check_labels(name: str) -> None:
    """Of a host name: what no name server can be asked, Python refuses with an error of its own."""
    labels = name.split(".")
    if "" in labels:
        raise Wrong(step="take out the dot that has no label before it")
    if (longest := max(map(len, labels))) > _LABEL_MAX:
        raise Wrong(f"a host name with a label of {longest} characters", f"at most {_LABEL_MAX} between two dots")


@takes(shapes.text(shapes.HOST_PORT))
def take_host_port(value: Any) -> tuple[str, int]:
    host, colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise Wrong()
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed != (":" in host):
        raise Wrong(step="write an IPv6 address in brackets, as [::1]:9100")
    return _take_host(host[1:-1] if bracketed else host), int(port)


_SERVER_SCHEMES = ("http", "https", "http+hosts", "https+hosts")
_SCHEMES_SAID = "http:// or https:// of a clusto-httpd, http+hosts:// or https+hosts:// of docs/contract.md"
FILE_ENDINGS = (".csv", ".yaml", ".yml")


def _file_url(path: str) -> str:
    """As it is to be written; where its folder is not said, only the form."""
    if path.startswith("/"):
        return f"file://{quote(path)}"
    return f"file:///PATH, such as file:///etc/bootstorm/{quote(path.rpartition('/')[2]) or 'hosts.yaml'}"


def _take_file_url(value: str, parts: SplitResult) -> str:
    path = unquote(parts.path)
    if "\0" in path or path.endswith("/"):
        raise Wrong(wanted="the URL of a file, file:///PATH")
    if parts.netloc or parts.query or parts.fragment or not path.startswith("/"):
        # A # or ? in a path has to be written as %23 or %3F, and what looks like a host is most often a folder.
        left = value.partition(":")[2]
        absolute = f"/{left.lstrip('/')}" if left.startswith("/") else left
        raise Wrong(wanted="the URL of a file, file:///PATH", step=f"write {_file_url(unquote(absolute))}")
    return f"file://{parts.path}"  # of file:/PATH and FILE:///PATH, too: who reads it looks at how it begins


@takes(shapes.text(shapes.URL) | {"maxLength": 2000})
def take_url(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[!-~]{1,2000}", value):
        raise Wrong()
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as fault:
        raise Wrong(step=f"correct it: {fault}") from None
    if parts.username is not None or parts.password is not None:
        raise Wrong("a URL with a user or password in it", step="take them out and set dhcp.api_token")
    if parts.scheme == "file":
        return _take_file_url(value, parts)
    if not parts.scheme and (value.startswith((".", "~", "/")) or value.lower().endswith(FILE_ENDINGS)):
        raise Wrong(wanted="a URL", step=f"write {_file_url(value)}")
    if parts.scheme not in _SERVER_SCHEMES:
        raise Wrong(step=f"write http://{value}" if "//" not in value else f"use {_SCHEMES_SAID}")
    if not parts.hostname or port == 0 or parts.query or parts.fragment or value.endswith(("?", "#")):
        raise Wrong()
    if ":" not in parts.hostname:  # no IPv6 address
        _check_labels(parts.hostname.removesuffix("."))
    return f"{parts.scheme}{value[len(parts.scheme) :]}".rstrip("/")  # who reads it looks at how it begins


@takes(shapes.text(shapes.PATH) | {"maxLength": 4000})
def _take_absolute_path(value: Any) -> Path:
    if not isinstance(value, str) or not value.startswith("/") or not value.isprintable() or len(value) > 4000:
        raise Wrong()
    return Path(value)


@takes(shapes.text(shapes.PATH) | {"maxLength": _UNIX_PATH_MAX})
def _take_socket_path(value: Any) -> Path:
    path = _take_absolute_path(value)
    if len(os.fsencode(path)) > _UNIX_PATH_MAX:
        raise Wrong(wanted=f"at most {_UNIX_PATH_MAX} bytes (the kernel's limit)", step="choose a shorter path")
    return path


@takes({"anyOf": [{"const": "auto"}, integer(1, MAX_WORKERS).shape]})
def take_workers(value: Any) -> Any:
    return value if value == "auto" else integer(1, MAX_WORKERS).take(value)


# Subkeys of key `dhcp` that say how a host is answered (control/plan/contexts.py): an option of that name hides it.
OWN_ATTRIBUTES = (
    "enabled",
    "proxy",
    "boot_ports",
    "boot_ends",
    "overload",
    "always_broadcast",
    "bootfile_url",
    "shared",
)


@takes({"anyOf": [{"const": "all"}, list_of(integer(1, 65535)).shape | {"minItems": 1}]})
def _take_boot_ports(value: Any) -> tuple[int, ...] | str:
    if value == "all":
        return "all"
    ports: tuple[int, ...] = list_of(integer(1, 65535)).take(value)
    if not ports:
        raise Wrong(step="name at least one; a host that shall not be answered has dhcp enabled = 0 in the inventory")
    return ports


BOOT_PORTS = Check('a list of numbers of Ethernet ports such as [1, 2], or "all"', _take_boot_ports)


@takes(
    {
        "type": "object",
        "propertyNames": {"pattern": shapes.whole(shapes.OPTION)},
        "additionalProperties": shapes.text(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"),
    }
)
def take_extra_options(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise Wrong()
    wrong: list[Wrong] = []
    codes: dict[str, str] = {}
    by_name: dict[str, str] = {}
    for code, name in value.items():
        at = f"[{show(code)}]"
        same = "" if not isinstance(name, str) else name.strip().lower().replace("-", "_")
        if not re.fullmatch(r"[1-9][0-9]{0,2}", code) or int(code) > 254:
            wrong.append(Wrong(f"the key {show(code)}", "a decimal option number 1..254 as text", at=at))
        elif not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
            wrong.append(Wrong(show(name), "a name of letters, digits, '_', '-' and '.'", at=at))
        elif same in OWN_ATTRIBUTES:
            found = f"{show(name)}, which is an attribute that the service itself reads"
            wrong.append(Wrong(found, f"another name than {', '.join(OWN_ATTRIBUTES)}", at=at))
        elif same in by_name:
            found = f"{show(name)}, which option {by_name[same]} is called already"
            wrong.append(Wrong(found, "another name ('-' and '_', capitals and small letters are the same)", at=at))
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
USER_FIELDS: Mapping[str, str] = {
    "name": r"[!-~]{1,32}",
    "auth": "none|md5|sha|sha224|sha256|sha384|sha512",
    "auth_password": _PASSWORD,
    "privacy": "none|des|aes|aes192|aes256",
    "privacy_password": _PASSWORD,
    "engine_id": r"(?:0x)?(?:[0-9a-fA-F]{2}){5,32}",  # RFC 3411 section 5: 5..32 octets
}


@takes(shapes.snmp_user(USER_FIELDS))
def take_user(value: Any) -> SnmpUser:
    wanted = f"an object of {', '.join(USER_FIELDS)}"
    if not isinstance(value, dict) or "name" not in value:
        raise Wrong("no name" if isinstance(value, dict) else "", wanted)
    for name, found in value.items():
        form = USER_FIELDS.get(name)
        if form is None:
            raise Wrong(f"the field {show(name)}", wanted)
        if not isinstance(found, str) or not re.fullmatch(form, found):
            secret = form is _PASSWORD
            found = "an unusable password (not shown)" if secret else show(found)
            raise Wrong(found, "8 to 128 characters" if secret else f"text of the form {form}", at=f".{name}")
    user = SnmpUser(**value)
    for protocol, password in ((user.auth, user.auth_password), (user.privacy, user.privacy_password)):
        if (protocol == "none") != (password is None):
            raise Wrong(f"user {show(user.name)} with only one of protocol and password", "both, or neither")
    if user.privacy != "none" and user.auth == "none":
        raise Wrong(f"user {show(user.name)} with privacy but no auth", "auth as well (RFC 3414 knows no other way)")
    return user


_RULE_KINDS = ("vendor_class", "user_class", "client_id", "requested_options", "other_mac")


@takes(shapes.BMC_RULE)
def _take_bmc_rule(value: Any) -> Rule:
    """One sign and the role that it stands for, as an object."""
    if not isinstance(value, dict):
        raise Wrong()
    kinds = [name for name in value if name in _RULE_KINDS]
    unknown = [name for name in value if name not in (*_RULE_KINDS, "role")]
    if len(kinds) != 1 or unknown:
        raise Wrong(f"an object of {', '.join(map(show, value)) or 'nothing'}")
    kind, role = kinds[0], value.get("role", bmc.BMC)
    if role not in (bmc.HOST, bmc.BMC):
        raise Wrong(show(role), f'"{bmc.HOST}" or "{bmc.BMC}"', at=".role")
    found = value[kind]
    if kind == "other_mac" and found is True:
        return Rule(kind, role, b"")
    if kind in ("vendor_class", "user_class") and isinstance(found, str) and re.fullmatch(r"[ -~]{1,29}", found):
        return Rule(kind, role, found.encode())
    if kind == "client_id" and isinstance(found, str) and re.fullmatch(r"(?:[0-9a-fA-F]{2}:?){1,29}", found):
        return Rule(kind, role, bytes.fromhex(found.replace(":", "")))
    codes = found if kind == "requested_options" and isinstance(found, list) else []
    if 1 <= len(codes) <= 29 and all(type(code) is int and 1 <= code <= 254 for code in codes):
        return Rule(kind, role, bytes(codes))
    raise Wrong(show(found), at=f".{kind}")


BMC_RULE = Check(
    'an object such as {"vendor_class": "iDRAC"}: one of vendor_class, user_class (what it begins with, at most 29 '
    "characters), client_id (what it begins with, hexadecimal), requested_options (the whole list, numbers), "
    'other_mac (true); and role, "bmc" unless said, or "host"',
    _take_bmc_rule,
)
PORT = integer(1, 65535)
BOOL = Check("true or false", _boolean)
IPV4 = Check("an IPv4 address such as 192.0.2.1", _take_ipv4)
LISTEN = Check("an IPv4 address of this machine, or 0.0.0.0", _take_listen)
NETWORK = Check("an IPv4 address or prefix such as 192.0.2.0/24", _take_network)
HOST = Check("an IP address or host name", _take_host)
PATH = Check("an absolute path", _take_absolute_path)
SOCKET = nullable(Check("an absolute path", _take_socket_path))
