"""The fuzzer's executable over the corpus, under ASan and UBSan; and what `make fuzz` says where clang is missing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.__main__ import KNOWN, ROOT, build, prepare
from tests.fuzz.population import CORPUS

needs_clang = pytest.mark.skipif(shutil.which("clang") is None, reason="no clang")


def replay(target: Path, *inputs: Path) -> subprocess.CompletedProcess[str]:
    """One execution for each input."""
    return subprocess.run([target, *inputs], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """build() changes the working folder; the tests after this one must not notice."""
    monkeypatch.chdir(ROOT)
    prepare()


@pytest.mark.sanitizer
@needs_clang
def test_the_corpus_has_no_finding(folder: None, tmp_path: Path) -> None:
    ended = replay(build(tmp_path / "fuzzer", [f"-fsanitize-ignorelist={KNOWN}"]), *sorted(CORPUS.iterdir()))
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stderr.count("Executed ") == len(list(CORPUS.iterdir()))


@pytest.mark.sanitizer
@needs_clang
def test_ipxe_without_option_175(folder: None, tmp_path: Path) -> None:
    ended = replay(build(tmp_path / "fuzzer"), CORPUS / "classify-ipxe-without-175")
    assert "runtime error" not in ended.stderr
    assert ended.returncode == 0


def test_without_clang_it_says_what_to_install(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--runs", "1"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "PATH": str(tmp_path)},
    )  # fmt: skip
    assert ended.returncode == 1
    assert "sudo apt-get install --no-install-recommends clang libclang-rt-dev" in ended.stderr
