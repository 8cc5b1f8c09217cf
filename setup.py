"""The list of extensions and the four ways of building them; everything else is in pyproject.toml.

BOOTSTORM_BUILD = release (default) | debug (asserts abort, bounds checked) | asan (address and undefined-behaviour
sanitizers) | trace (line tracing for coverage) | none (no extension: for pip in `make setup`, which would compile all
of them in a folder of its own, only for `make build` to compile them in place once more).
"""

import hashlib
import multiprocessing
import os
import shlex
import subprocess
import sysconfig
import tomllib
from pathlib import Path

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup

MODE = os.environ.get("BOOTSTORM_BUILD", "release")
COMPILER = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")


def is_clang():
    """Whose link-time optimisation wants a linker of its own."""
    try:
        said = subprocess.run([COMPILER[0], "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:  # it is told of when it is needed
        return False
    return "clang" in said


# A hundredth of the packet path's instructions, and a third of the compiler's time: there alone.
LTO = [] if is_clang() or MODE != "release" else ["-flto=auto"]
PACKET_PATH = ("ext.codec", "ext.pump", "bench.engine.core")
COMPILE = {
    "release": ["-O3", "-g1"],  # lines for gdb and perf, no variables
    "debug": ["-O1", "-g", "-UNDEBUG", "-DBOOTSTORM_DEBUG"],
    "asan": [
        "-Og",  # and no more than lines of debugging: half of the compiler's time
        "-g1",
        "-UNDEBUG",
        "-DBOOTSTORM_DEBUG",
        "-fno-wrapv",
        "-fno-omit-frame-pointer",
        "-fno-var-tracking-assignments",  # reports name lines, not variables: a third of the compiler's time
        "-fsanitize=address,undefined",
    ],
    "trace": ["-O0", "-g", "-DCYTHON_TRACE_NOGIL=1"],
    "none": [],
}
LINK = {"asan": ["-fsanitize=address,undefined"]}
if MODE not in COMPILE:
    raise SystemExit(f"BOOTSTORM_BUILD={MODE}: want one of {', '.join(COMPILE)}")

Options.warning_errors = True
checked = MODE in ("debug", "asan")
WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Wno-unused-parameter",
    "-Wno-unused-function",
    "-Wno-missing-field-initializers",
    "-Wno-sign-compare",
]
if checked or os.environ.get("CI"):  # a newer compiler's new warning must not keep a site from building
    WARNINGS.append("-Werror")
extensions = [
    Extension(
        name,
        [name.replace(".", "/") + ".pyx"],
        extra_compile_args=COMPILE[MODE] + WARNINGS + (LTO if name in PACKET_PATH else []),
        extra_link_args=LINK.get(MODE, []) + (COMPILE[MODE] + LTO if name in PACKET_PATH else []),
    )
    for name in (
        "ext.verdict",
        "ext.classify",
        "ext.leases",
        "ext.ledger",
        "ext.site_classes",
        "ext.surroundings",
        "ext.table",
        "ext.rows",
        "ext.roll",
        "ext.scan",
        "ext.builder",
        "ext.addresses",
        "ext.layout5",
        "ext.mapping",
        "ext.page",
        "ext.sighted",
        "ext.mac_bloom",
        "ext.codec",
        "ext.xsk",
        "ext.pump",
        "bench.engine.wire",
        "bench.engine.blast",
        "bench.engine.core",
        "bench.engine.echo",
        "bench.engine.ledger",
        "bench.engine.storms",
    )
    if MODE != "none" and (name.startswith("ext.") or MODE != "asan")  # the sanitizers watch the packet path
]


def record_build():
    """ext/build.txt, which fastpath/process/build.py reads: version, and hash of the sources of the service."""
    digest = hashlib.sha256()
    for path in sorted(path for name in ("ext", "fastpath", "control") for path in Path(name).rglob("*")):
        if path.suffix in (".py", ".pyx", ".pxd"):
            digest.update(f"{path.as_posix()}\0".encode() + path.read_bytes() + b"\0")
    version = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    text = f"{version} {digest.hexdigest()[:12]}\n"
    place = Path("ext/build.txt")
    if not place.exists() or place.read_text(encoding="utf-8") != text:
        place.write_text(text, encoding="utf-8")


record_build()
CORES = len(os.sched_getaffinity(0))
multiprocessing.set_start_method("fork", force=True)  # cythonize's helpers inherit Options
setup(
    options={"build_ext": {"parallel": CORES}},
    ext_modules=cythonize(
        extensions,
        nthreads=CORES,
        build_dir=f"build/cython-{MODE}",
        emit_linenums=checked,
        compiler_directives={
            "language_level": 3,
            "boundscheck": checked,
            "wraparound": False,
            "initializedcheck": False,
            "cdivision": True,
            "embedsignature": True,
            "linetrace": MODE == "trace",
        },
    ),
)
