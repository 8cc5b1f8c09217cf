"""Which build this is: the version, and a hash of the sources that setup.py recorded when it built the extensions.

By the text that stands beside the extensions, so that it works without git and tells two installs of one version apart.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence

import ext

UNKNOWN = ("unknown", "unknown")
CODE = (".py", ".so")
FILES_MAX = 10_000  # of the folders together; this build has some 300


def recorded() -> tuple[str, str]:
    """("0.1.0", "1f3a90c2b7de"); both "unknown" where setup.py has recorded nothing."""
    try:
        with open(os.path.join(ext.__path__[0], "build.txt"), encoding="utf-8") as file:
            version, build = file.read().split()
    except (OSError, ValueError):
        return UNKNOWN
    return version, build


def named(version: str, build: str) -> str:
    """As people read it."""
    return f"{version}, build {build}"


def installed_name() -> str:
    """Of what a process loads that is started now."""
    return named(*recorded())


def another_is_installed() -> bool:
    """False also where nobody knows: in the midst of an installation, or for want of a descriptor."""
    return recorded() not in (UNKNOWN, (VERSION, BUILD))


def fingerprint(folders: Sequence[str]) -> str:
    """Of the code in these folders: which files, how long, when written.  Takes some ms; the same in every build, since
    one compares what another has made.  Raises OSError where it cannot be seen as a whole, or is no such code."""
    digest = hashlib.sha256()
    seen = 0
    for at, folder in enumerate(folders):
        for path in code_below(folder):
            seen += 1
            if seen > FILES_MAX:
                raise OSError(f"over {FILES_MAX} files of code")
            found = os.stat(path)
            told = (at, os.path.relpath(path, folder), found.st_size, found.st_mtime_ns, found.st_ino)
            digest.update(repr(told).encode(errors="surrogateescape"))
    return digest.hexdigest()


def code_below(folder: str) -> Iterator[str]:
    """In order.  Raises OSError."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False) and entry.name != "__pycache__":
            yield from code_below(entry.path)
        elif entry.name.endswith(CODE):
            yield entry.path


VERSION, BUILD = recorded()  # of what is being loaded: what is installed later is another build
BUILD_NAME = named(VERSION, BUILD)
