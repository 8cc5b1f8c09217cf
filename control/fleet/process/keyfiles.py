"""The files that section `fleet` names: secrets that nobody else may read, and what is said of one that is wrong."""

from __future__ import annotations

import os
import re
import ssl
import stat
from pathlib import Path
from typing import Final

from control.config.fleet import Tls
from control.fleet.process import nkeys
from control.fleet.signing import Ed25519Signer

SECRET_BYTES_MAX: Final = 64 << 10
_CREDS: Final = re.compile(
    rb"-----BEGIN NATS USER JWT-----\s+[\w-]+\.[\w-]+\.[\w-]+\s+-----+END NATS USER JWT-----+\s"
    rb".*-----BEGIN USER NKEY SEED-----\s+SU[A-Z2-7]{56}\s+-----+END USER NKEY SEED-----+",
    re.DOTALL,
)
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


def read_credentials(path: Path) -> dict[str, str]:
    """As the engine's client takes them: user and password, an nkey's seed, or the path of one of NATS' own .creds
    files.  Raises KeyFault."""
    text = read_secret(path).strip()
    if text.startswith(b"-----BEGIN NATS USER JWT-----"):
        if _CREDS.match(text):
            return {"user_credentials": str(path)}
        raise KeyFault(f"{path}: found the beginning of a .creds file, and no token and seed; wanted what nsc writes")
    if text.startswith(b"SU") and b":" not in text:
        if nkeys.is_seed(text):
            return {"nkeys_seed_str": text.decode()}
        raise KeyFault(f"{path}: found an nkey's seed with a mistake in it; wanted 58 characters, the first SU")
    found = re.fullmatch(rb"([!-9;-~]+):([!-~]+)", text)
    if found is None:
        wanted = "a line USER:PASSWORD, the seed of an nkey, or what NATS' nsc writes (.creds)"
        raise KeyFault(f"{path}: found none of them; wanted {wanted}")
    return {"user": found[1].decode(), "password": found[2].decode()}


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Of the files as they are now.  Raises KeyFault."""
    try:
        context = ssl.create_default_context(cafile=str(tls.ca) if tls.ca is not None else None)
    except OSError as error:  # as all of ssl's
        wanted = "wanted certificates of authorities, as PEM"
        raise KeyFault(f"{tls.ca}: cannot be used ({error.strerror or error}); {wanted}") from error
    if tls.cert is None or tls.key is None:
        return context
    read_secret(tls.key)
    try:
        context.load_cert_chain(tls.cert, tls.key, password=lambda: "")  # else it asks a terminal for one
    except OSError as error:
        wanted = "wanted a certificate and its key without a password, as PEM"
        raise KeyFault(f"{tls.cert}, {tls.key}: cannot be used ({error.strerror or error}); {wanted}") from error
    return context


def make_key(path: Path) -> str:
    """Writes a new key; its public half as services.conf wants it.  Raises OSError, also where the file is there."""
    seed = os.urandom(32)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="ascii") as file:
        file.write(f"{seed.hex()}\n")
        file.flush()
        os.fsync(fd)
    return Ed25519Signer(seed).public.hex()
