"""Our own files in dhcp.state_dir: read as what they are after a crash, a full disk or a hand, which may be anything;
and made anew, whatever stands there."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any


def read_file(path: Path, most: int, flags: int = 0) -> bytes:
    """Up to `most` octets of a regular file.  Raises OSError, FileNotFoundError among them, and for a pipe in its
    place, which would be waited for, too.  flags: more of open(2)."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(0, "it is no regular file", str(path))
        chunks, left = [], most
        while left > 0 and (chunk := os.read(fd, min(left, 1 << 20))):
            chunks.append(chunk)
            left -= len(chunk)
    finally:
        os.close(fd)
    return b"".join(chunks)


def open_new(path: Path, flags: int = 0) -> int:
    """An empty file, to be written to.  What stands there is removed, never written into: it may be a pipe, which would
    be waited for, or another name of something else.  Raises OSError, which names the file."""
    path.unlink(missing_ok=True)
    flags |= os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return os.open(path, flags, 0o640)


def write_all(fd: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def json_object(text: bytes) -> dict[str, Any]:
    """Raises ValueError, which says what was found, for whatever is no JSON object: brackets without end, numbers of
    thousands of digits, octets that are no UTF-8."""
    try:
        found = json.loads(text)
    except RecursionError as deep:
        raise ValueError("brackets in brackets without end") from deep
    if not isinstance(found, dict):
        raise ValueError(f"{type(found).__name__} {str(found)[:40]!r}")
    return found
