"""The checks of section `fleet`: servers of the engine, its TLS, public keys, names of machines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from control.config import shapes
from control.config.checks import PATH, Check, Wrong, list_of, nullable, show, take_host_port, text
from control.config.shapes import takes

_SCHEMES: Final = ("nats", "tls")
_FILES: Final = ("ca", "cert", "key")
_REPLICAS: Final = (1, 3, 5)


@takes(shapes.text(rf"(?:nats|tls)://(?:{shapes.HOST_PORT})"))
def _take_server(value: Any) -> str:
    """As the engine's client takes it."""
    scheme, slashes, place = value.partition("://") if isinstance(value, str) else ("", "", "")
    if not slashes and isinstance(value, str) and re.fullmatch(r"[^/@]+:[0-9]+", value):
        raise Wrong(step=f"write nats://{value}")
    if "@" in place:
        raise Wrong("a URL with a user or password in it", step="take them out and set fleet.credentials")
    if scheme not in _SCHEMES:
        raise Wrong()
    host, port = take_host_port(place)
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """ca: who signed the servers' certificates, None: those whom this machine trusts.  cert, key: our own."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


@takes(
    {
        "type": "object",
        "additionalProperties": False,
        "properties": dict.fromkeys(_FILES, PATH.shape),
        "dependencies": {"cert": ["key"], "key": ["cert"]},
    }
)
def _take_tls(value: Any) -> Tls:
    if not isinstance(value, dict):
        raise Wrong()
    wrong: list[Wrong] = []
    found: dict[str, Path] = {}
    for name, path in value.items():
        try:
            if name not in _FILES:
                raise Wrong(f"the field {show(name)}", f"an object of {', '.join(_FILES)}")
            found[name] = PATH.take(path)
        except Wrong as fault:
            at = f".{name}" if name in _FILES else ""
            wrong.append(Wrong(fault.found or show(path), fault.wanted or PATH.wanted, fault.step, at))
    if not wrong and ("cert" in found) != ("key" in found):
        wrong.append(Wrong("only one of cert and key", "both, or neither"))
    if wrong:
        raise ExceptionGroup("tls", wrong)
    return Tls(**found)


@takes({"type": "array", "minItems": 1, "items": shapes.shape_of(_take_server), "uniqueItems": True})
def _take_servers(value: Any) -> tuple[str, ...]:
    taken: tuple[str, ...] = list_of(Check(_SERVER, _take_server)).take(value)
    if not taken:
        raise Wrong(step="name at least one, or remove the section: without it every server is on its own")
    return taken


@takes(shapes.text(r"[0-9A-Fa-f]{64}"))
def _take_public_key(value: Any) -> bytes:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9A-Fa-f]{64}", value):
        raise Wrong(step="`bootstorm fleet-key FILE` makes a key and prints this of it")
    return bytes.fromhex(value)


_SERVER: Final = "a URL such as nats://127.0.0.1:4222 or tls://nats1.example.org:4222"
SERVERS: Final = Check(f"a list, each element {_SERVER}", _take_servers)
TLS: Final = nullable(Check("an object of ca, cert, key, each an absolute path", _take_tls))
PUBLIC_KEYS: Final = list_of(Check("a public key, 64 hexadecimal digits", _take_public_key))
SHARD: Final = text("1 to 32 of A-Z a-z 0-9 _ -", r"[A-Za-z0-9_-]{1,32}")
_MACHINE: Final = r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"
MACHINE: Final = text("a machine's name, 1 to 63 of A-Z a-z 0-9 _ - .", _MACHINE)
CANARIES_MAX: Final = 16
DOMAIN: Final = text("a JetStream domain, 1 to 32 of A-Z a-z 0-9 _ -", r"[A-Za-z0-9_-]{1,32}")


@takes({"type": "integer", "enum": list(_REPLICAS)})
def _take_replicas(value: Any) -> int:
    """An even number of nodes bears the loss of no more of them than the odd one below it."""
    if type(value) is not int or value not in _REPLICAS:
        raise Wrong()
    return value


REPLICAS: Final = Check("1, 3 or 5", _take_replicas)


@takes(list_of(MACHINE).shape | {"maxItems": CANARIES_MAX})
def _take_canary(value: Any) -> tuple[str, ...]:
    taken: tuple[str, ...] = list_of(MACHINE).take(value)
    if len(taken) > CANARIES_MAX:
        raise Wrong(step="name fewer: they are all in each head")
    return taken


CANARY: Final = Check(f"a list of at most {CANARIES_MAX}, each element {MACHINE.wanted}", _take_canary)
