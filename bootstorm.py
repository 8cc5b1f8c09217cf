"""The command `bootstorm`: makes sure that our packages are ours before the first of them is imported.

`control` and `bench` are names that other projects have, too.  In an environment with such a project, whichever was
installed last has written over the other's files, and an import would end in a traceback from the middle of foreign
code.  Nothing of ours and no library is imported up here.
"""

from __future__ import annotations

import os
import sys

OURS = ("ext", "fastpath", "control", "bench")
MARK = b"bootstorm"  # in the first lines of the __init__.py of each
STEP = "install bootstorm into an environment of its own (python3 -m venv)"
AGAIN = "wait until the installation has ended, or install it again"
FAILED = 1


def main() -> None:
    for name in OURS:
        if fault := fault_of(name):
            sys.stderr.write(f"bootstorm: {fault}; {STEP}\n")
            sys.exit(FAILED)
    try:
        from control.__main__ import main as run

        run()
    except ModuleNotFoundError as lost:
        if (lost.name or "").partition(".")[0] not in OURS:
            raise
        sys.stderr.write(f"bootstorm: half installed: there is no module {lost.name}; {AGAIN}\n")
        sys.exit(FAILED)


def fault_of(name: str) -> str:
    """What stands in the place of a package of ours, or nothing."""
    ours = os.path.join(os.path.dirname(os.path.abspath(__file__)), name, "__init__.py")
    spec = next((spec for finder in sys.meta_path if (spec := finder.find_spec(name, None))), None)
    found = spec.origin if spec else None
    if found is None:
        return f"the package `{name}` has no {ours}: half installed, or removed with another project's"
    if os.path.realpath(found) == os.path.realpath(ours) and is_marked(found):
        return ""
    return f"the package `{name}` is not bootstorm's: {found} is {owner(name)}"


def is_marked(path: str) -> bool:
    with open(path, "rb") as file:
        return MARK in file.read(400)


def owner(name: str) -> str:
    """Whose it is, as far as what is installed here tells."""
    from importlib.metadata import distributions

    files = {os.path.join(name, "__init__.py"), f"{name}.py"}
    having = {each.metadata["Name"] for each in distributions() if any(str(file) in files for file in each.files or ())}
    others = sorted(having - {"bootstorm"})
    return f"of the distribution {' and '.join(others)}" if others else "of another project"


if __name__ == "__main__":
    main()
