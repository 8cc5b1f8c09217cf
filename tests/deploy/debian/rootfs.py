"""A clean Debian of its own on a host of a laboratory: made once by debootstrap, unpacked anew for each run.

dpkg runs in it as on a machine; the service runs below the stand-in of systemd (tests/service_manager.py), by the very
command of deploy/container.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

from bench.lab.lab import Host, Process
from tests.deploy.containerfile import words_of
from tests.deploy.support import ROOT

KEPT = ROOT / "build/rootfs"
MANAGER = ROOT / "tests/service_manager.py"
INCLUDED = ("python3", "libseccomp2", "systemd-standalone-sysusers")  # what the package depends on
MAKE_S, RUN_S = 900.0, 300.0
ENVIRONMENT = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"]
# What dpkg, ldconfig and the tools for users keep for themselves: of every package, installed or gone.
NOBODY_S = re.compile(
    r"var/lib/dpkg/(?!info/bootstorm).*|var/log/.*|var/cache/.*|etc/ld\.so\.cache|etc/\.pwd\.lock"
    r"|etc/(passwd|group|shadow|gshadow|subuid|subgid)-|(dev|proc|sys|tmp)/.*"
)


def release() -> tuple[str, str]:
    """(name of this machine's Debian, where its packages come from), as apt has it."""
    name = re.findall(r"^VERSION_CODENAME=(\w+)$", Path("/etc/os-release").read_text(), re.MULTILINE)[0]
    asked = ["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Identifier: Packages"]
    for line in subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines():
        suite, _, address = line.partition(" ")
        if suite == name:
            return name, address
    raise RuntimeError(f"apt has no packages of {name}: apt-get update")


def pristine() -> Path:
    """A tar of it; kept until what it includes changes."""
    name, address = release()
    digest = hashlib.sha256(repr(INCLUDED).encode()).hexdigest()[:8]
    path = KEPT / f"{name}-{digest}.tar"
    if path.exists():
        return path
    making = KEPT / "making"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(INCLUDED)}", name, str(making), address]
    said = subprocess.run(command, capture_output=True, text=True, timeout=MAKE_S, check=False)
    if said.returncode != 0:
        raise RuntimeError(f"debootstrap: exit {said.returncode}\n{said.stdout[-3000:]}{said.stderr[-3000:]}")
    shutil.rmtree(making / "var/cache/apt", ignore_errors=True)
    subprocess.run(["tar", "-C", making, "-cf", f"{path}.new", "."], check=True)
    os.rename(f"{path}.new", path)
    shutil.rmtree(making)
    return path


Listing = dict[str, tuple[int | str, ...]]


def listing(root: Path) -> Listing:
    """Every file, link and folder, without what NOBODY_S: mode, owner, and content."""
    found: Listing = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            inner = os.path.relpath(path, root)
            if NOBODY_S.fullmatch(inner):
                continue
            about = os.lstat(path)
            content = ""
            if stat.S_ISLNK(about.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(about.st_mode):
                with open(path, "rb") as file:
                    content = hashlib.file_digest(file, "blake2b").hexdigest()
            found[inner] = (about.st_mode, about.st_uid, about.st_gid, content)
    return found


def changes(before: Listing, after: Listing) -> list[str]:
    """What is new, gone or another; of what is new in a new folder, only the folder."""
    new = sorted(after.keys() - before.keys())
    tops = [path for path in new if os.path.dirname(path) not in new]
    gone = sorted(before.keys() - after.keys())
    other = sorted(path for path in before.keys() & after.keys() if before[path] != after[path])
    return [f"+ {path}" for path in tops] + [f"- {path}" for path in gone] + [f"~ {path}" for path in other]


class Debian:
    """root: where it was unpacked; its mounts are the host's, and gone with it."""

    def __init__(self, host: Host, root: Path) -> None:
        self.host, self.root = host, root
        root.mkdir()
        subprocess.run(["tar", "-C", root, "-xpf", pristine(), "--numeric-owner"], check=True)
        host.run(["mount", "--bind", "/dev", str(root / "dev")])
        host.run(["mount", "-t", "proc", "proc", str(root / "proc")])

    def run(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.host.run(["chroot", str(self.root), *ENVIRONMENT, *argv], timeout=RUN_S, check=check)

    def dpkg(self, *words: str, check: bool = True) -> str:
        """What it said.  Without waiting for the disk: nothing of this outlives a power cut."""
        ran = self.run("dpkg", "--force-unsafe-io", *words, check=check)
        return ran.stdout + ran.stderr

    def put(self, path: Path) -> str:
        """A package is within reach; where, for dpkg."""
        shutil.copy(path, self.root / "tmp" / path.name)
        return f"/tmp/{path.name}"

    def start(self) -> Process:
        """The service, below the stand-in; StateDirectory= is systemd's."""
        self.run("install", "-d", "-o", "bootstorm", "-g", "bootstorm", "-m", "0751", "/var/lib/bootstorm")
        service = [*ENVIRONMENT[:1], *ENVIRONMENT[2:], "PYTHONUNBUFFERED=1", *words_of("ENTRYPOINT"), *words_of("CMD")]
        manager = [sys.executable, "-I", str(MANAGER), f"@{self.root}"]  # a path would be another one in there
        return self.host.popen([*manager, "chroot", str(self.root), *service])
