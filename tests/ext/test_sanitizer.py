"""The other tests of this folder once more, against the build with AddressSanitizer and UBSan.

The objects stay in build/asan, so that only what changed is compiled again: all of it takes about two minutes of CPU.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "asan"
pytestmark = pytest.mark.sanitizer


def runtime(name: str) -> str:
    """The path of one of gcc's sanitizer libraries; skips where there is none."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("no gcc")
    found = subprocess.run([gcc, f"-print-file-name={name}"], check=True, capture_output=True, text=True).stdout.strip()
    if not Path(found).is_absolute():
        pytest.skip(f"gcc has no {name}")
    return str(Path(found).resolve())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """Build, lay out a project of ext and its tests alone, run those."""
    preload = f"{runtime('libasan.so')} {runtime('libubsan.so')}"
    build = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext",
         "--build-lib", str(BUILD / "lib"), "--build-temp", str(BUILD / "temp")],
        cwd=ROOT, env={**os.environ, "BOOTSTORM_BUILD": "asan"}, capture_output=True, text=True,
    )  # fmt: skip
    assert build.returncode == 0, build.stdout + build.stderr
    project = tmp_path_factory.mktemp("asan")
    shutil.copytree(BUILD / "lib" / "ext", project / "ext")
    shutil.copy(ROOT / "ext" / "__init__.py", project / "ext")
    shutil.copy(ROOT / "pyproject.toml", project)
    shutil.copytree(ROOT / "tests" / "ext", project / "tests" / "ext", ignore=shutil.ignore_patterns("__pycache__"))
    (project / "tests" / "data").symlink_to(ROOT / "tests" / "data")
    (project / "tests" / "fuzz").symlink_to(
        ROOT / "tests" / "fuzz"
    )  # the corpus is replayed by recorded/test_fuzz_corpus.py
    return subprocess.run(
        [sys.executable, "-m", "pytest", "tests/ext", "-q", "--capture=no", "-p", "no:cacheprovider",
         "--ignore", "tests/ext/test_sanitizer.py",
         # The answers that test_golden asks for as well; what differs is scapy reading them, in Python.
         "--deselect", "tests/ext/recorded/test_exchanges.py::test_scapy_reads_the_same",
         # A limit on time; small tables go the same ways.
         "--deselect", "tests/ext/test_scan.py::test_all_rows_cost_little_and_no_piece_is_long"],
        cwd=project, capture_output=True, text=True,
        env={
            **os.environ,
            "LD_PRELOAD": preload,
            "ASAN_OPTIONS": "detect_leaks=0",
            # Go on after a report: reports() counts them all, and pytest still tells how the tests ended.
            "UBSAN_OPTIONS": "halt_on_error=0:print_stacktrace=1",
            "PYTHONMALLOC": "malloc",  # without it an over-read of a bytes object passes unseen
            "BOOTSTORM_EXAMPLES": os.environ.get("BOOTSTORM_EXAMPLES", "30"),
            "PYTHONPATH": "",
        },
    )  # fmt: skip


def reports(run: subprocess.CompletedProcess[str]) -> set[str]:
    """UBSan's findings without line numbers."""
    found = re.findall(r"(ext/\w+\.\w+):\d+:\d+: runtime error: (.*)", run.stdout + run.stderr)
    return {f"{file}: {what}" for file, what in found}


def test_the_tests_pass_with_asan(run: subprocess.CompletedProcess[str]) -> None:
    assert "AddressSanitizer" not in run.stdout + run.stderr
    assert run.returncode == 0, (run.stdout + run.stderr)[-5000:]
    assert re.search(r"\d{3} passed", run.stdout)


def test_nothing_undefined(run: subprocess.CompletedProcess[str]) -> None:
    assert reports(run) == set()
