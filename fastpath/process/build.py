"""Which build this is: the version, and a hash of the sources that setup.py recorded when it built the extensions.

By the text that stands beside the extensions, so that it works without git and tells two installs of one version apart.
"""

from __future__ import annotations

from pathlib import Path

import ext

UNKNOWN = ("unknown", "unknown")


def recorded() -> tuple[str, str]:
    """("0.1.0", "1f3a90c2b7de"); both "unknown" where setup.py has recorded nothing."""
    try:
        version, build = (Path(ext.__path__[0]) / "build.txt").read_text(encoding="utf-8").split()
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


VERSION, BUILD = recorded()  # of what is being loaded: what is installed later is another build
BUILD_NAME = named(VERSION, BUILD)
