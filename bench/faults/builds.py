"""Other builds of this very tree, to upgrade to and from: the packages copied aside, changed, compiled where need be.

An upgrade between two builds is tried by a service whose PYTHONPATH names a symbolic link (`Installed`) that is flipped
from one tree to another, as `pip install` replaces an environment's code under a running service.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build" / "builds"
PACKAGES = ("ext", "fastpath", "control")
BESIDES = ("pyproject.toml", "setup.py", "README.md", "LICENSE")
COMPILE_S = 1800.0


class CannotChange(Exception):
    """A change does not find its place in the source any more: this file has to follow."""


def replace(path: Path, pattern: str, new: str) -> None:
    text, count = re.subn(pattern, new, path.read_text(), count=1, flags=re.MULTILINE)
    if count != 1:
        raise CannotChange(f"{path.relative_to(path.parents[1])} has no {pattern!r}")
    path.write_text(text)


def other_page(tree: Path) -> None:
    """Another layout of the pages: a word more among the counters."""
    replace(tree / "ext/page.pxd", r"PAGE_VERSION = \d+", "PAGE_VERSION = 103")
    replace(tree / "ext/page.pxd", r"^    uint64_t tx$", "    uint64_t of_another_build\n    uint64_t tx")


def other_table(tree: Path) -> None:
    """Tables that this build cannot read, and that does not read this build's."""
    replace(tree / "ext/leases.pxd", r"TABLE_VERSION = \d+", "TABLE_VERSION = 105")


def other_pool(tree: Path) -> None:
    """Another layout of the pools of AF_XDP."""
    replace(tree / "ext/xsk.pxd", r"POOL_VERSION = \d+", "POOL_VERSION = 101")


def other_messages(tree: Path) -> None:
    """Messages, settings and kept descriptors with a field more."""
    for name in ("Settings", "Assign", "Load", "Publish", "Begin"):
        replace(
            tree / "fastpath/protocol.py",
            rf"^(class {name}:\n(?:.*\n)*?)(?=\n\n|\n@)",
            r"\1    of_another_build: int = 7\n",
        )
    replace(
        tree / "fastpath/supervisor/descriptors.py",
        r"^(    io_reason: str = .*\n)",
        r"\1    of_another_build: int = 7\n",
    )


def broken_control(tree: Path) -> None:
    """Code that does not load: half of an edit in control."""
    with open(tree / "control/service/service.py", "a", encoding="utf-8") as file:
        file.write("\n\ndef half(of: an: edit\n")


def slow_to_load(tree: Path) -> None:
    """Code that takes a minute to load."""
    replace(
        tree / "control/service/service.py",
        r"^import asyncio$",
        "import asyncio\nimport time as _time\n\n_time.sleep(60.0)",
    )


CHANGES: dict[str, tuple[Callable[[Path], None], ...]] = {
    "same": (),
    "page": (other_page,),
    "table": (other_table,),
    "pool": (other_pool,),
    "messages": (other_messages,),
    "all": (other_page, other_table, other_pool, other_messages),
    "broken": (broken_control,),
    "slow": (slow_to_load,),
}
COMPILED = ("page", "table", "pool", "all")


def other_build(kind: str) -> Path:
    """The folder of another build, for PYTHONPATH; kept under build/ until a source changes.

    kind, one of CHANGES: "same" is the same code under another name; page, table, pool, messages: that layout is
    another one, compiled anew (minutes, once); all: all of these; broken and slow do not load, not in time."""
    tree = KEPT / f"{kind}-{sources_hash('.py', '.pyx', '.pxd')}"
    KEPT.mkdir(parents=True, exist_ok=True)
    with open(KEPT / f"{kind}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several tests may want the same one
        if tree.exists():
            return tree
        for old in KEPT.glob(f"{kind}-*"):
            shutil.rmtree(old)
        making = KEPT / f"{kind}.making"
        copy_changed(making, kind)
        if kind in COMPILED:
            for library in compiled(kind).glob("ext/*.so"):
                shutil.copy(library, making / "ext" / library.name)
        (making / "ext" / "build.txt").write_text(f"0.1.0+{kind} {kind}\n")
        compile_bytecode(making)
        os.rename(making, tree)
    return tree


def compiled(kind: str) -> Path:
    """A tree with the extensions of a kind, which outlives changes of Python code."""
    tree = KEPT / f"compiled-{kind}-{sources_hash('.pyx', '.pxd')}"
    if not tree.exists():
        for old in KEPT.glob(f"compiled-{kind}-*"):
            shutil.rmtree(old)
        making = KEPT / f"compiled-{kind}.making"
        copy_changed(making, kind)
        compile_in(making)
        os.rename(making, tree)
    return tree


def build_of(commit: str) -> Path:
    """The folder of the build of another commit of this repository, as other_build(); kept until somebody removes it.

    Raises CannotChange for what is no commit here, or does not compile with these tools."""
    found = subprocess.run(
        ["git", "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if found.returncode != 0:
        raise CannotChange(f"{commit} is no commit of this repository")
    name = found.stdout.strip()[:12]
    tree, making = KEPT / f"commit-{name}", KEPT / f"commit-{name}.making"
    if tree.exists():
        return tree
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    archive = making / "archive.tar"
    command = ["git", "archive", "--output", str(archive), name, *PACKAGES, *BESIDES]
    subprocess.run(command, cwd=ROOT, check=True)
    shutil.unpack_archive(archive, making, filter="data")
    archive.unlink()
    compile_in(making)
    (making / "ext" / "build.txt").write_text(f"0.1.0+{name} {name}\n")
    compile_bytecode(making)
    os.rename(making, tree)
    return tree


def copy_changed(tree: Path, kind: str) -> None:
    shutil.rmtree(tree, ignore_errors=True)
    skip = shutil.ignore_patterns("__pycache__", *(("*.so",) if kind in COMPILED else ()))
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tree / name, ignore=skip)
    for name in BESIDES:
        shutil.copy(ROOT / name, tree / name)
    for change in CHANGES[kind]:
        change(tree)


def sources_hash(*suffixes: str) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*")):
        if path.suffix in suffixes:
            digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    digest.update((ROOT / "setup.py").read_bytes() + Path(__file__).read_bytes())
    return digest.hexdigest()[:12]


def compile_in(tree: Path) -> None:
    """The extensions of the packet path, without what takes the compiler long; the benches' own are not part of the
    service."""
    setup = tree / "setup.py"
    text = re.sub(r'^\s*"bench\.[\w.]+",\n', "", setup.read_text(), flags=re.MULTILINE)
    setup.write_text(text.replace('"release": ["-O3", "-g1"]', '"release": ["-O1"]').replace('["-flto=auto"]', "[]"))
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=COMPILE_S, check=False)
    if done.returncode != 0:
        raise CannotChange(f"{tree.name} does not compile:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    shutil.rmtree(tree / "build")


def compile_bytecode(tree: Path) -> None:
    """As an installed build has it: a process of a tree without it waits for the compiler at every start."""
    command = [sys.executable, "-m", "compileall", "-q", *PACKAGES]
    subprocess.run(command, cwd=tree, stdout=subprocess.DEVNULL, check=False)  # of a build that is broken, what is not


class Installed:
    """What is installed, as a service sees it: a symbolic link to the tree of a build, for its PYTHONPATH."""

    def __init__(self, link: Path, tree: Path = ROOT) -> None:
        self.link = link
        compile_bytecode(tree)
        self.switch(tree)

    def switch(self, tree: Path) -> None:
        """From now on new processes load that build; at no moment is there none."""
        aside = self.link.with_name(self.link.name + ".new")
        aside.symlink_to(tree)
        os.rename(aside, self.link)

    @property
    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self.link), "PYTHONDONTWRITEBYTECODE": "1"}
