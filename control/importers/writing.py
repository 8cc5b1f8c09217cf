"""Rows -> the text of a host file, and files that are written whole or not at all.

One line a host, as people write them, and for speed: PyYAML's representer takes a minute for what takes a second here.
What is no plain word is written as JSON, which is YAML as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from control.importers.build import Rows

# Of these no YAML makes anything but a text: no number, no date, no yes or null, no sign of its own.
_PLAIN: Final = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*(?: [A-Za-z0-9_./-]+)*")
_ADDRESS: Final = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}")
_WORDS: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
LINE_CHARS_MAX: Final = 116
LINE_OPTIONS_MAX: Final = 3


def lines_of(rows: Rows, head: Iterable[str] = ()) -> Iterator[str]:
    """head: lines of a comment."""
    for line in head:
        yield f"# {line}\n"
    for name, items in (("networks", rows.networks), ("pools", rows.pools), ("hosts", rows.hosts)):
        yield f"{name}:\n" if items else f"{name}: []\n"
        for item in items:
            yield row(item)


def row(fields: Mapping[str, Any]) -> str:
    dhcp = fields.get("dhcp", ())
    if len(dhcp) <= LINE_OPTIONS_MAX:
        text = f"- {flow(fields)}\n"
        if len(text) <= LINE_CHARS_MAX or not dhcp:
            return text
    inner = {name: value for name, value in fields.items() if name != "dhcp"}
    lines = [f"{name}: {flow(value)}\n" for name, value in inner.items()]
    lines += ["dhcp:\n", *(f"  {scalar(name)}: {flow(value)}\n" for name, value in dhcp.items())]
    return "- " + "  ".join(lines)


def flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join([f"{scalar(name)}: {flow(each)}" for name, each in value.items()]) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join([flow(each) for each in value]) + "]"
    return scalar(value)


def scalar(value: Any) -> str:
    return _text(value) if isinstance(value, str) else json.dumps(value)


@lru_cache(maxsize=4_096)
def _text(value: str) -> str:
    if _ADDRESS.fullmatch(value) or (_PLAIN.fullmatch(value) and value.lower() not in _WORDS):
        return value
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else "".join(each if each.isprintable() else _escaped(each) for each in text)


def _escaped(letter: str) -> str:
    """As YAML has it: JSON writes what is beyond 16 bits as two halves, which YAML does not join."""
    code = ord(letter)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def write_whole(path: Path, lines: Iterable[str], *, force: bool) -> None:
    """Raises FileExistsError where there is one and force is not given, OSError for what cannot be written."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent or Path())
    try:
        with open(descriptor, "w", encoding="utf-8") as stream:
            stream.writelines(lines)
            stream.flush()
            os.fchmod(stream.fileno(), 0o666 & ~_umask())
            os.fsync(stream.fileno())
        if force:
            os.replace(name, path)
        else:
            os.link(name, path)  # fails where a file of the name is, also one that came meanwhile
            os.unlink(name)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
