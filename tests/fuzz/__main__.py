"""`make fuzz`: builds harness.pyx with clang and runs it over the corpus, or shows what of the packet path it reaches.

What it finds and the inputs that it keeps lie under build/fuzz; the corpus in the tree is never written by it.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension

from tests.fuzz.population import CORPUS, Place, write_dictionary, write_sites

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "fuzz"
FOUND, DICTIONARY = BUILD / "found", BUILD / "dhcp.dict"
KNOWN, GUIDES = Path(__file__).parent / "known.txt", Path(__file__).parent / "guides.txt"
DATAGRAM_BYTES_MAX = 8192
FLAGS = [
    "-O2", "-g", "-DBOOTSTORM_DEBUG", "-UNDEBUG", "-fno-wrapv", "-fno-omit-frame-pointer",
    "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=undefined",
    # A third of the time, for words that the dictionary has: from one input it reaches no more in the same time.
    "-fno-sanitize-coverage=trace-cmp", f"-fsanitize-coverage-allowlist={GUIDES}",
]  # fmt: skip
# The packet path allocates nothing; what is freed is libFuzzer's copy of each input, 256 MB of which ASan would keep.
ASAN_OPTIONS = "quarantine_size_mb=1:malloc_context_size=0"
COVERAGE = ["-fprofile-instr-generate", "-fcoverage-mapping"]
PATH = (
    "answer",
    "parse",
    "classify",
    "leases",
    "roles",
    "judge",
    "site_classes",
    "encode",
    "wire",
)  # modules of the packet path
# Reported function: name, then regions, lines and branches, each as count, missed, percent.
ROW = re.compile(r"__pyx_f_3ext_\d+(" + "|".join(PATH) + r")_(\w+)\s+" + r"(\d+)\s+(\d+)\s+[\d.]+%\s+" * 3)


class Unusable(Exception):
    """Why the fuzzer cannot be built or run here, and what to do."""


def tool(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Unusable(f"{name} is missing; install it: sudo apt-get install --no-install-recommends {package}")
    return found


def run(command: list[str], **settings: object) -> str:
    """Its standard output.  Raises Unusable with what it said when it fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **settings)  # type: ignore[call-overload]
    if done.returncode != 0:
        raise Unusable(f"{command[0]} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return str(done.stdout)


def build(target: Path, flags: Sequence[str] = ()) -> Path:
    """The fuzzer's executable, made anew in some seconds."""
    clang = tool("clang", "clang libclang-rt-dev")
    os.chdir(ROOT)  # cythonize finds ext's .pxd files from here
    (made,) = cythonize(
        [Extension("harness", ["tests/fuzz/harness.pyx"])],
        build_dir=str(BUILD / "cython"),
        emit_linenums=not set(COVERAGE) & set(flags),  # llvm-cov reads the C file; a finding should name the .pxd
        force=True,
        quiet=True,
        compiler_directives={"language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True},
    )
    source = Path(made.sources[0])
    library, folder = sysconfig.get_config_var("VERSION"), sysconfig.get_config_var("LIBDIR")
    # The module's own start-up, which nobody calls, refers to libpython.
    run(
        [clang, *FLAGS, *flags, f"-I{sysconfig.get_path('include')}", str(source),
         f"-L{folder}", f"-Wl,-rpath,{folder}", f"-lpython{library}", "-o", str(target)]
    )  # fmt: skip
    return target


def prepare() -> None:
    FOUND.mkdir(parents=True, exist_ok=True)
    write_sites(BUILD / "sites")
    write_dictionary(DICTIONARY)


def fuzz(runs: int, seed: int) -> int:
    """libFuzzer's exit code: 0, nothing found."""
    target = build(BUILD / "fuzzer", [f"-fsanitize-ignorelist={KNOWN}"])
    command = [
        str(target), f"-runs={runs}", f"-seed={seed}", f"-max_len={Place.FORM.size + DATAGRAM_BYTES_MAX}", "-timeout=5",
        "-reload=0", "-rss_limit_mb=1024", f"-dict={DICTIONARY}", f"-artifact_prefix={BUILD}/", "-print_final_stats=1",
        str(FOUND), str(CORPUS),
    ]  # fmt: skip
    ended = subprocess.run(command, cwd=ROOT, check=False, env={"ASAN_OPTIONS": ASAN_OPTIONS, **os.environ}).returncode
    if ended != 0:
        sys.stderr.write(
            f"fuzz: a finding, the input is in {BUILD}; once more: {target} FILE; "
            f"it belongs into {CORPUS} under a name that says what happens\n"
        )
    return ended


def show_coverage() -> int:
    """Branches of the packet path that the corpus and what earlier runs kept reach together, by function."""
    profile, merged = BUILD / "coverage.raw", BUILD / "coverage.merged"
    target = build(BUILD / "fuzzer-coverage", [*COVERAGE, f"-fsanitize-ignorelist={KNOWN}"])
    run([str(target), "-runs=0", str(FOUND), str(CORPUS)], env={**os.environ, "LLVM_PROFILE_FILE": str(profile)})
    run([tool("llvm-profdata", "llvm"), "merge", "-sparse", str(profile), "-o", str(merged)])
    report = run(
        [tool("llvm-cov", "llvm"), "report", str(target), f"-instr-profile={merged}", "--show-functions",
         "--show-branch-summary", "--show-region-summary", str(BUILD / "cython/tests/fuzz/harness.c")]
    )  # fmt: skip
    total = reached = 0
    for found in ROW.finditer(report):
        module, function, *counts = found.groups()
        branches, missed = int(counts[4]), int(counts[5])
        total, reached = total + branches, reached + branches - missed
        sys.stdout.write(f"{module:10} {function:24} {branches - missed:4} of {branches:4} branches\n")
    if total == 0:
        raise Unusable(f"llvm-cov names no function of ext:\n{report[:1000]}")
    sys.stdout.write(f"{'all':10} {'':24} {reached:4} of {total:4} branches, {100 * reached / total:.1f} %\n")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs to try, default %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="of libFuzzer's chance, default %(default)s")
    parser.add_argument("--coverage", action="store_true", help="show the branches that are reached, do not search")
    wanted = parser.parse_args()
    try:
        prepare()
        return show_coverage() if wanted.coverage else fuzz(wanted.runs, wanted.seed)
    except Unusable as fault:
        sys.stderr.write(f"fuzz: {fault}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
