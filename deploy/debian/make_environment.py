"""The service below /opt: `make_environment.py ROOT`, in an unpacked sdist, with the Python that it is to run with.

Of Debian's own Python libraries several are too old.  dh-virtualenv would lay the same environment; it was left out
because it builds from a setup.py without the isolation that pyproject.toml asks for, and keeps pip and scripts that
name the place of the build.
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from pathlib import Path

HOME = Path("opt/bootstorm")
EXTRAS = "board"
BESIDES = ("psycopg>=3.2",)  # PostgreSQL for the embedded inventory, with Debian's libpq5
SCRIPTS = {"bootstorm", "python", "python3", f"python{sys.version_info[0]}.{sys.version_info[1]}"}
TOOLS, WHEELS, SHARE = Path("build/tools"), Path("build/wheels"), Path("build/share")


def run(*argv: object, **more: str) -> None:
    words = [str(word) for word in argv]
    print("+", *words, flush=True)
    subprocess.run(words, check=True, env=dict(**more) or None)


def lay(environment: Path) -> None:
    """A virtual environment with the service, and without pip."""
    run(sys.executable, "-m", "venv", TOOLS)
    pip = [TOOLS / "bin/pip", "--quiet", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--wheel-dir", WHEELS, ".")
    (wheel,) = WHEELS.glob("bootstorm-*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    here = environment.resolve() / "bin/python3"
    run(*pip, "--python", here, "install", "--no-compile", "--no-warn-script-location", f"{wheel}[{EXTRAS}]", *BESIDES)
    run(*pip, "install", "--no-deps", "--no-compile", "--target", TOOLS / "more", "click-man>=0.5")


def settle(environment: Path, home: str) -> None:
    """What names the place of the build names `home` instead, or goes."""
    for script in (environment / "bin").iterdir():
        if script.name not in SCRIPTS:
            script.unlink()
    command = environment / "bin/bootstorm"
    text = command.read_text(encoding="utf-8").partition("\n")[2]
    command.write_text(f"#!{home}/bin/python3\n{text}", encoding="utf-8")
    settings = (environment / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    kept = [line for line in settings if not line.startswith(("executable", "command"))]
    (environment / "pyvenv.cfg").write_text("\n".join(kept) + "\n", encoding="utf-8")
    for path in environment.glob("lib/*/site-packages/*.dist-info/direct_url.json"):
        path.unlink()
    for path in sorted((environment / "share").rglob("*"), reverse=True):  # of pages and documents: dh lays them out
        path.rmdir() if path.is_dir() else path.unlink()
    (environment / "lib64").unlink(missing_ok=True)
    for path in sorted(environment.rglob("*"), reverse=True):
        if path.name == ".DS_Store":
            path.unlink()
        elif path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
            path.rmdir()
    for record in environment.glob("lib/*/site-packages/*.dist-info/RECORD"):
        record.write_text("".join(f"{line}\n" for line in records(record)), encoding="utf-8")


def records(record: Path) -> list[str]:
    """Of what is still there; with a new hash, where it was changed."""
    found = []
    for line in record.read_text(encoding="utf-8").splitlines():
        name = line.rsplit(",", 2)[0].strip('"')
        path = record.parents[1] / name
        if path.exists() and name.endswith("bin/bootstorm"):
            digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).decode().rstrip("=")
            found.append(f"{name},sha256={digest},{path.stat().st_size}")
        elif path.exists():
            found.append(line)
    return found


def copies(environment: Path) -> list[str]:
    """Name, version and licence of every project of the environment, a line each."""
    from email.parser import HeaderParser

    found = []
    for path in sorted(environment.glob("lib/*/site-packages/*.dist-info/METADATA")):
        about = HeaderParser().parsestr(path.read_text(encoding="utf-8"))
        classified = [line.rpartition(" :: ")[2] for line in about.get_all("Classifier", []) if "License ::" in line]
        said = about["License-Expression"] or ", ".join(classified) or (about["License"] or "").split("\n")[0]
        if about["Name"] != "bootstorm":
            found.append(f"  {about['Name']} {about['Version']}: {said or 'see its METADATA'}\n")
    return found


def main(root: Path) -> None:
    environment = root / HOME
    lay(environment)
    settle(environment, f"/{HOME}")
    python = environment.resolve() / "bin/python3"
    paths = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str((TOOLS / "more").resolve()), "PYTHONDONTWRITEBYTECODE": "1"}
    run(python, "deploy/share/make_share.py", SHARE, LC_ALL="C.UTF-8", **paths)
    # By the hash of the source: dpkg-deb sets times back, and without bytecode each process compiles for itself.
    compiling = ["-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "-s", root, "-p", "/"]
    run(python, *compiling, environment / "lib")
    with open("debian/copyright", "a", encoding="utf-8") as file:
        file.writelines(copies(environment))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
