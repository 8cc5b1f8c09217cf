"""What `make wheel` built, in an environment of its own: complete, serving, and clear about another project's files."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

from tests.control.service.test_service import content
from tests.control.serving import Running, may_serve
from tests.deploy.support import ROOT
from tests.ports import free_port

pytestmark = pytest.mark.packages
OURS = ("ext", "fastpath", "control", "bench")
DIST = ROOT / "build/dist"


def one(pattern: str) -> Path:
    found = list(DIST.glob(pattern))
    if len(found) != 1:
        pytest.skip(f"{DIST}/{pattern}: {len(found)} files; run make wheel")
    return found[0]


@pytest.fixture(scope="module")
def wheel() -> Path:
    return one("*.whl")


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bin/ of a fresh one with the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin/pip", "install", "--quiet", wheel], check=True)
    return folder / "bin"


def sources() -> set[str]:
    """Of the tree: every file of our packages that a build has not left there."""
    files = {
        str(path.relative_to(ROOT))
        for name in OURS
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".so", ".c")
    }
    return {file for file in files if not file.startswith("bench/results/")} | {"bootstorm.py", "bench/faults/skew.c"}


def test_the_wheel_has_every_source_and_every_extension(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert sources() - names - {"bench/peers/packages.txt"} == set()
    modules = {path.relative_to(ROOT).with_suffix("") for name in OURS for path in (ROOT / name).rglob("*.pyx")}
    built = {name.partition(".")[0] for name in names if name.endswith(".so")}
    assert built == {str(module) for module in modules}
    assert any(name.endswith("share/doc/bootstorm/CHANGELOG.md") for name in names)
    assert {name for name in names if name.endswith((".c", ".pyc"))} == {"bench/faults/skew.c"}
    assert not [name for name in names if name.startswith(("tests/", "build/", "docs/"))]


def test_the_sdist_has_what_a_packager_needs(wheel: Path) -> None:
    with tarfile.open(one("*.tar.gz")) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert sources() - names == set()
    wanted = {"CHANGELOG.md", "LICENSE", "Makefile", "setup.py", "docs/operations.md", "tests/conftest.py"}
    assert wanted | {"deploy/share/make_share.py", "packages.txt"} <= names
    assert not [
        name for name in names if name.endswith((".so", ".pyc")) or name.startswith((".git", ".venv", "build/"))
    ]


def test_its_metadata_names_no_machine(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        (name,) = [name for name in packed.namelist() if name.endswith("dist-info/METADATA")]
        text = packed.read(name).decode()
    found = HeaderParser().parsestr(text)
    assert (found["Name"], found["License-Expression"], found["Requires-Python"]) == ("bootstorm", "MIT", ">=3.11")
    assert found["Keywords"] and "Operating System :: POSIX :: Linux" in found.get_all("Classifier", [])
    assert str(ROOT) not in text and "/home/" not in text and "localhost/" not in text


def test_it_is_the_build_of_the_tree(environment: Path) -> None:
    """By way of the sdist: not a source is missing there, or the hash of them was another."""
    ran = subprocess.run([environment / "bootstorm", "--version"], capture_output=True, text=True, check=True, cwd="/")
    version, build = (ROOT / "ext/build.txt").read_text().split()
    assert ran.stdout == f"bootstorm {version}, build {build}\n"


def test_it_serves(environment: Path, tmp_path: Path) -> None:
    may_serve()
    (tmp_path / "hosts.csv").write_text(content(1, 2))
    conf = tmp_path / "services.conf"
    dhcp = {"api_url": f"file://{tmp_path}/hosts.csv", "state_dir": str(tmp_path / "state"), "port": free_port()}
    dhcp |= {"interfaces": ["lo"], "workers": 1, "boot_port": 0}
    conf.write_text(json.dumps({"dhcp": dhcp, "control": {"socket": str(tmp_path / "control.sock")}}))

    def bootstorm(*words: str) -> str:
        ran = subprocess.run([environment / "bootstorm", *words], capture_output=True, text=True, cwd="/")
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    assert "good; inventory" in bootstorm("check", "-c", str(conf))
    argv = [str(environment / "bootstorm"), "serve", "-c", str(conf)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, cwd="/") as process:
        running = Running(process, str(tmp_path / "control.sock"))
        try:
            running.wait_for(r"generation 1: 2 hosts")
            bootstorm("ctl", "-c", str(conf), "refresh", "--wait")
            assert bootstorm("ctl", "-c", str(conf), "health").startswith("ready: 1 of 1 workers answer")
            assert running.status()["build"] == (ROOT / "ext/build.txt").read_text().split()[1]
        finally:
            process.terminate()
            assert process.wait(60) == 0


def foreign_wheel(folder: Path) -> Path:
    """Of a project called `control` that has a package of this name, as python-control has."""
    about = "control-0.10.2.dist-info"
    files = {
        "control/__init__.py": "from .statesp import *\n",
        "control/config.py": "defaults = {}\n",
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: control\nVersion: 0.10.2\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        record += f"{name},sha256={digest},{len(text)}\n"
    path = folder / "control-0.10.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as packed:
        for name, text in (files | {f"{about}/RECORD": f"{record}{about}/RECORD,,\n"}).items():
            packed.writestr(name, text)
    return path


def test_a_project_that_is_installed_over_it_is_told_and_so_is_its_removal(environment: Path, tmp_path: Path) -> None:
    """The last test of this environment, which it leaves broken."""

    def said() -> str:
        ran = subprocess.run([environment / "bootstorm", "check"], capture_output=True, text=True, cwd=tmp_path)
        assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (1, "", 1)
        return ran.stderr

    pip = [environment / "pip", "--quiet"]
    subprocess.run([*pip, "install", "--no-deps", foreign_wheel(tmp_path)], check=True)
    assert "control/__init__.py is of the distribution control; install bootstorm into an" in said()
    subprocess.run([*pip, "uninstall", "--yes", "control"], check=True)
    assert "half installed, or removed with another project's; install bootstorm into an" in said()
