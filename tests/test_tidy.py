"""The house rules, read from the source: who may import whom, what must not stand anywhere, how long things get."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ext", "fastpath", "control", "bench", "tests")
FILE_LINES_MAX, FUNCTION_LINES_MAX = 500, 70
LONG = {  # with their reasons
    "ext/table.pyx": "one layout: what writes it, what checks it and what reads it back stay in one place",
    "tests/control/plan/test_plan.py": "one table of rules, grouped by rule",
    "tests/control/service/test_refresh.py": "one real planner process, whatever becomes of it",
}

# Who may import what of ours: folders, and files of a top folder.
MAY_IMPORT = {
    "ext": {"ext"},
    "fastpath": {"ext", "fastpath"},
    "control": {"ext", "control", "fastpath.protocol", "fastpath.process", "fastpath.trial"},
    "control.clusto": {"control.clusto"},  # the embedded inventory is a process of its own, its client anybody's
    "control.fleet": {"control.fleet"},  # decisions
    "control.fleet.process": {"ext", "control", "fastpath.protocol", "fastpath.process"},  # what carries them out
    "control.fleet.setup": {"control"},  # what writes its first configuration
    "control.clusto.server": {"control.clusto.server", "control.clusto.drivers", "control.clusto.errors",
                              "control.clusto.hostfile", "control.clusto.rawrows"},
    "bench": {"ext", "bench", "control.messages"},  # one reader of captures
    "tests": set(PACKAGES),
}  # fmt: skip
ONE_FILE = {  # library -> the file that knows it
    "pyroute2": "control/service/links.py", "waitress": "control/clusto/server/connections.py",
    "pysnmp": "control/discovery/traps/engine.py", "nats": "control/fleet/process/engine.py",
}  # fmt: skip
# .pxd files in the order in which they may see each other.
PXD_ORDER = [
    "rfc2131", "wire", "verdict", "net", "mapping", "packet", "request", "classify", "parse", "overload", "places",
    "leases", "placing", "admit", "roles", "judge", "site_classes", "encode", "frames", "answer", "latency", "record",
    "page", "sighted", "outbox", "xsk", "ledger", "sightings", "loop", "by_sockets", "by_xdp", "table", "rows", "roll",
]  # fmt: skip
# Who may ask what time it is: processes and what a terminal shows, the talk with clusto, a stopwatch, a file's date, a
# certificate's.
CLOCKS = (
    "control/service/", "control/board/", "control/planner/planner.py", "control/planner/process.py",
    "control/planner/child.py", "control/observer/",
    "control/discovery/traps/receiver.py", "control/cli/ctl.py", "control/cli/health.py", "control/clusto/",
    "control/sources/", "control/plan/compile.py", "control/table/file.py", "control/fleet/process/",
    "control/fleet/setup/first_day.py",
)  # fmt: skip


def python_files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def cython_files(package: str = "ext") -> list[Path]:
    return sorted([*(ROOT / package).rglob("*.pyx"), *(ROOT / package).rglob("*.pxd")])


def all_cython_files() -> list[Path]:
    """With the native engines of the benches."""
    return cython_files() + cython_files("bench")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def cimports(path: Path) -> Iterator[str]:
    for line in path.read_text().splitlines():
        if found := re.match(r"\s*from\s+([\w.]+)\s+c?import\b|\s*c?import\s+([\w.]+)", line):
            yield found[1] or found[2]


def heads(name: str) -> set[str]:
    """a.b.c -> a, a.b, a.b.c"""
    words = name.split(".")
    return {".".join(words[:length]) for length in range(1, len(words) + 1)}


def test_imports_go_one_way() -> None:
    """Of a folder within another in MAY_IMPORT, its own line counts."""
    faults = []
    for package, allowed in MAY_IMPORT.items():
        within = tuple(other.replace(".", "/") + "/" for other in MAY_IMPORT if other.startswith(f"{package}."))
        for path in python_files(package.replace(".", "/")):
            if within and named(path).startswith(within):
                continue
            for name in imports(path):
                if name.partition(".")[0] in PACKAGES and not heads(name) & allowed:
                    faults.append(f"{named(path)} imports {name}")
    assert not faults


def test_no_comment_was_torn_off_its_line_by_the_formatter() -> None:
    """It puts `name: (` around a long one; the comment belongs above the field then."""
    torn = re.compile(r": \(\n\s+\w+  # ")
    faults = [named(path) for package in PACKAGES for path in python_files(package) if torn.search(path.read_text())]
    assert not faults


def test_ext_imports_nothing_of_ours_but_ext() -> None:
    faults = [
        f"{named(path)}: {name}"
        for path in cython_files()
        for name in cimports(path)
        if name.partition(".")[0] in PACKAGES and not name.startswith("ext")
    ]
    assert not faults


def test_native_benches_import_ext_and_bench_only() -> None:
    faults = [
        f"{named(path)}: {name}"
        for path in cython_files("bench")
        for name in cimports(path)
        if name.partition(".")[0] in PACKAGES and name.partition(".")[0] not in MAY_IMPORT["bench"]
    ]
    assert not faults


def test_pxd_files_see_only_earlier_ones() -> None:
    assert sorted(PXD_ORDER) == sorted(path.stem for path in (ROOT / "ext").glob("*.pxd"))
    faults = []
    for path in (ROOT / "ext").glob("*.pxd"):
        for name in cimports(path):
            if name.startswith("ext.") and PXD_ORDER.index(name[4:]) >= PXD_ORDER.index(path.stem):
                faults.append(f"{named(path)} cimports {name}")
    assert not faults


@pytest.mark.parametrize("library, home", ONE_FILE.items())
def test_one_library_one_file(library: str, home: str) -> None:
    users = {
        named(path)
        for package in PACKAGES[:4]
        for path in python_files(package)
        if any(name.split(".")[0] == library for name in imports(path))
    }
    assert users <= {home}


BANNED = {
    r"(?<![\w.])print\(": "log, or write to a stream that somebody chose",
    r"except (Base)?Exception:\s*\n\s*pass": "a swallowed error",
    r"multiprocessing\.shared_memory": "its tracker unlinks segments of living processes (cpython#82300): memfd",
    r"asyncio\.wait_for\(": "before Python 3.12 it can swallow a cancellation (cpython#86296): asyncio.timeout",
    r"\bTODO(?!\(\w+\))": "a TODO names who does it",
}


@pytest.mark.parametrize("pattern, why", BANNED.items())
def test_banned(pattern: str, why: str) -> None:
    files = [path for package in PACKAGES[:4] for path in python_files(package)] + all_cython_files()
    assert [named(path) for path in files if re.search(pattern, path.read_text())] == [], why


def test_the_clock_is_read_at_the_edges_only() -> None:
    users = {
        named(path)
        for path in python_files("control")
        if re.search(r"\btime\.(time|monotonic|clock_gettime)\(|datetime\.now\(", path.read_text())
    }
    assert [path for path in users if not path.startswith(CLOCKS)] == []


def test_no_file_is_too_long() -> None:
    files = [path for package in PACKAGES for path in python_files(package)] + all_cython_files()
    lines = {named(path): len(path.read_text().splitlines()) for path in files}
    assert {path for path, length in lines.items() if length > FILE_LINES_MAX * 1.2} <= LONG.keys()


def test_no_function_is_too_long() -> None:
    long = []
    for package in PACKAGES[:4]:
        for path in python_files(package):
            for node in ast.walk(tree_of(path)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    length = (node.end_lineno or 0) - node.lineno
                    if length > FUNCTION_LINES_MAX:
                        long.append(f"{named(path)}: {node.name} has {length} lines")
    assert not long


def test_every_module_says_its_one_job() -> None:
    files = [path for package in PACKAGES for path in python_files(package)]
    trees = {named(path): tree_of(path) for path in files}
    silent = [path for path, tree in trees.items() if tree.body and not ast.get_docstring(tree)]
    assert not silent
    mute = [named(path) for path in all_cython_files() if not path.read_text().startswith('"""')]
    assert not mute


def test_the_packet_path_never_takes_the_gil() -> None:
    """Every inline function of the .pxd files runs without it; the compiler sees to it that Pump.run() calls nothing
    else."""
    for path in (ROOT / "ext").glob("*.pxd"):
        for line in re.findall(r"^cdef inline [^:]*:", path.read_text(), re.MULTILINE):
            assert "noexcept nogil" in line, f"{named(path)}: {line}"
