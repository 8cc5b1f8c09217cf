"""Newer versions of a Debian package: the same code under another version, each file written anew."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

from tests.deploy.support import ROOT

BUILT = ROOT / "build/deb"


def built() -> Path | None:
    """What `make deb` has built last."""
    found = sorted(BUILT.glob("bootstorm_*.deb"))
    return found[0] if len(found) == 1 else None


def build_text(tree: Path) -> Path:
    """Where an unpacked package or an installation has its version and build."""
    (path,) = tree.glob("opt/bootstorm/lib/python3*/site-packages/ext/build.txt")
    return path


def newer(deb: Path, folder: Path, version: str, build: str) -> Path:
    tree = folder / version
    subprocess.run(["dpkg-deb", "--raw-extract", deb, tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: .*", f"Version: {version}-1", control.read_text()))
    said = build_text(tree)
    said.write_text(f"{version} {build}\n")
    sums, name = tree / "DEBIAN/md5sums", str(said.relative_to(tree))
    digest = hashlib.md5(said.read_bytes(), usedforsecurity=False).hexdigest()
    sums.write_text(re.sub(rf"(?m)^\w+(?=  {re.escape(name)}$)", digest, sums.read_text()))
    path = folder / f"bootstorm_{version}-1.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, path], check=True)
    return path
