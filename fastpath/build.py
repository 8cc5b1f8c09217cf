"""Which build this is: the version, and a hash of the sources that setup.py recorded when it built the extensions.

By the text that stands beside the extensions, so that it works without git and tells two installs of one version apart.
"""

from __future__ import annotations

from pathlib import Path

import ext

UNKNOWN = ("unknown", "unknown")


def version_and_build() -> tuple[str, str]:
    """("0.1.0", "1f3a90c2b7de"); both "unknown" where setup.py has recorded nothing."""
    try:
        version, build = (Path(ext.__path__[0]) / "build.txt").read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return UNKNOWN
    return version, build


def build_name() -> str:
    """As people read it: "0.1.0, build 1f3a90c2b7de"."""
    version, build = version_and_build()
    return f"{version}, build {build}"
