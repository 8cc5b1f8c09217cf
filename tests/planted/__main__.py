"""`make test-planted`: plants each fault in a copy of the tree and demands that its test fails, and for that reason.

First the test has to pass on the copy as it is.  Exit 1 when a fault is not found, or no longer has its place.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.planted.faults import PLANTED, Moved, Planted, Spot

ROOT = Path(__file__).resolve().parents[2]
TREE = ROOT / "build" / "planted" / "tree"
LOGS = ROOT / "build" / "planted"
COPIED = ("ext", "fastpath", "control", "bench", "tests", "docs")
BESIDES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "packages.txt", "Makefile")
TEST_S, COMPILE_S = 300.0, 900.0
TRIES = 2  # of a test that has to notice a matter of chance
HEAD = ("fault", "found by", "result", "seconds")


@dataclass(frozen=True, slots=True)
class Outcome:
    code: int
    said: str


def copy_tree() -> None:
    """With everything that is compiled, without what Python keeps: it goes by seconds and sizes."""
    shutil.rmtree(TREE, ignore_errors=True)
    skip = shutil.ignore_patterns("__pycache__", "results")
    for name in COPIED:
        shutil.copytree(ROOT / name, TREE / name, ignore=skip)
    for name in BESIDES:
        shutil.copy(ROOT / name, TREE / name)


def environment(more: Sequence[tuple[str, str]] = ()) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(TREE), "PYTHONDONTWRITEBYTECODE": "1", **dict(more)}


def run(argv: Sequence[str], limit_s: float, more: Sequence[tuple[str, str]] = ()) -> Outcome:
    try:
        done = subprocess.run(
            argv, cwd=TREE, env=environment(more), capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired as late:
        return Outcome(-1, f"no end within {limit_s:g} s\n{(late.stdout or b'').decode(errors='replace')}")
    return Outcome(done.returncode, done.stdout + done.stderr)


def try_test(planted: Planted) -> Outcome:
    if planted.soak:
        argv = [sys.executable, "-m", "bench", "soak", "--seed", "5", *shlex.split(planted.test)]
    else:
        argv = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", planted.test]
    return run(argv, TEST_S, planted.environment)


def log_name(planted: Planted) -> str:
    return re.sub(r"[^a-z0-9]+", "-", planted.name.lower())


def compile_modules(modules: Sequence[str]) -> None:
    """Only these, in place.  SystemExit when the planted text is no code."""
    setup = TREE / "setup_some.py"  # a build with another layout needs the whole one
    text = (ROOT / "setup.py").read_text()
    kept = re.sub(
        r'^ *"((?:ext|bench)\.[\w.]+)",\n', lambda line: line[0] if line[1] in modules else "", text, flags=re.MULTILINE
    )
    setup.write_text(kept)
    outcome = run([sys.executable, setup.name, "--quiet", "build_ext", "--inplace"], COMPILE_S)
    if outcome.code:
        raise SystemExit(f"{', '.join(modules)} do not compile:\n{outcome.said[-4000:]}")


@contextmanager
def planted_in(spot: Spot, modules: Sequence[str]):  # type: ignore[no-untyped-def]
    """The tree with the fault; afterwards as it was, compiled files too."""
    kept = {TREE / each.path: (TREE / each.path).read_bytes() for each in (spot, *spot.more)}
    for module in modules:
        for binary in (TREE / module.replace(".", "/")).parent.glob(f"{module.rpartition('.')[2]}.*.so"):
            kept[binary] = binary.read_bytes()
    for each in (spot, *spot.more):
        file = TREE / each.path
        file.write_text(file.read_text().replace(each.old, each.new))
    try:
        if modules:
            compile_modules(modules)
        yield
    finally:
        for path, content in kept.items():
            path.unlink()  # it may be mapped by somebody who still ends
            path.write_bytes(content)


def demand(planted: Planted, passed: dict[tuple[str, tuple[tuple[str, str], ...]], bool]) -> str:
    """ "found", or what is wrong."""
    if planted.wants and not (TREE / planted.wants).exists():
        return f"left out: {planted.wants} is not there yet"
    try:
        spot = planted.spot(TREE)
    except Moved as moved:
        return f"MOVED: {moved}"
    key = (planted.test, planted.environment)
    if key not in passed:
        passed[key] = False
        for _ in range(TRIES):
            outcome = try_test(planted)
            (LOGS / f"{log_name(planted)}.healthy.log").write_text(outcome.said)
            if outcome.code == 0:
                passed[key] = True
                break
    if not passed[key]:
        return "the test fails without the fault as well: nothing is proved"
    with planted_in(spot, planted.modules):
        outcome = Outcome(0, "")
        for _ in range(TRIES):
            outcome = try_test(planted)
            (LOGS / f"{log_name(planted)}.log").write_text(outcome.said)
            if outcome.code == 1 and re.search(planted.says, outcome.said):
                return "found"
    return f"NOT FOUND: exit {outcome.code}, nothing said of {planted.says!r}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.planted", description=__doc__)
    parser.add_argument("--only", action="append", default=[], help="faults whose names hold this; again for more")
    arguments = parser.parse_args()
    chosen = [p for p in PLANTED if not arguments.only or any(word in p.name for word in arguments.only)]
    copy_tree()
    where = run([sys.executable, "-c", "import ext.pump, control, fastpath; print(ext.pump.__file__)"], 60.0)
    if not where.said.startswith(str(TREE)):
        raise SystemExit(f"the copy is not what is imported, but {where.said}; wanted something below {TREE}")
    rows, passed = [], {}  # type: ignore[var-annotated]
    for planted in chosen:
        started = time.monotonic()
        result = demand(planted, passed)
        test = f"soak {planted.test}" if planted.soak else planted.test.rpartition("::")[2]
        rows.append((planted.name, test, result, f"{time.monotonic() - started:.0f}"))
        sys.stderr.write("  ".join(rows[-1]) + "\n")
    widths = [max(len(row[column]) for row in (HEAD, *rows)) for column in range(2)]
    for name, test, result, seconds in (HEAD, *rows):
        sys.stdout.write(f"{name.ljust(widths[0])}  {test.ljust(widths[1])}  {seconds:>7}  {result}\n")
    found, planted_ones = (sum(row[2].startswith(word) for row in rows) for word in ("found", ""))
    left_out = sum(row[2].startswith("left out") for row in rows)
    sys.stdout.write(f"{found} of {planted_ones - left_out} faults were found, {left_out} left out\n")
    return 0 if found + left_out == planted_ones else 1


if __name__ == "__main__":
    sys.exit(main())
