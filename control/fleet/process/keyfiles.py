"""The files that section `fleet` names: secrets that nobody else may read, and what is said of one that is wrong."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final

from control.fleet.signing import Ed25519Signer

SECRET_BYTES_MAX: Final = 64 << 10
NO_LIBRARY: Final = (
    "found the section, and the library nats-py is not installed; wanted: pip install 'bootstorm[fleet]', or no such "
    "section"
)


class KeyFault(Exception):
    """The file, what was found, what was wanted."""


def read_secret(path: Path) -> bytes:
    """Of a plain file that its owner alone may read.  Raises KeyFault."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            about = os.fstat(fd)
            if not stat.S_ISREG(about.st_mode):
                raise KeyFault(f"{path}: found no plain file; wanted a file of mode 0600")
            if about.st_mode & 0o077:
                raise KeyFault(f"{path}: found mode {about.st_mode & 0o7777:04o}; wanted 0600; chmod 0600 {path}")
            return file.read(SECRET_BYTES_MAX)
    except OSError as error:
        raise KeyFault(f"{path}: cannot be read ({error.strerror})") from error


def read_signing_key(path: Path) -> Ed25519Signer:
    """Raises KeyFault."""
    text = read_secret(path).strip()
    if not re.fullmatch(rb"[0-9a-f]{64}", text):
        raise KeyFault(f"{path}: found no key; wanted what `bootstorm fleet-key FILE` writes")
    return Ed25519Signer(bytes.fromhex(text.decode()))


def read_credentials(path: Path) -> tuple[str, str] | None:
    """User and password; None: it is one of NATS' own .creds files.  Raises KeyFault."""
    text = read_secret(path).strip()
    if text.startswith(b"-----BEGIN NATS USER JWT-----"):
        return None
    found = re.fullmatch(rb"([!-9;-~]+):([!-~]+)", text)
    if found is None:
        raise KeyFault(f"{path}: found neither; wanted one line USER:PASSWORD, or what NATS' nsc writes (.creds)")
    return found[1].decode(), found[2].decode()


def make_key(path: Path) -> str:
    """Writes a new key; its public half as services.conf wants it.  Raises OSError, also where the file is there."""
    seed = os.urandom(32)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="ascii") as file:
        file.write(f"{seed.hex()}\n")
        file.flush()
        os.fsync(fd)
    return Ed25519Signer(seed).public.hex()
