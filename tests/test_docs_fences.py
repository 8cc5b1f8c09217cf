"""What the fenced blocks of README.md and docs/ say is true: commands and options exist, files are accepted, tables are
the code's.  tests/netns/test_docs_run.py runs the commands (`make test-docs`)."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from ext.roll import PROGRESS

from control.cli.command_line import main
from control.cli.ctl_commands import ctl
from control.config.config import parse
from control.config.places import STATE_FILES
from control.discovery.states import State
from fastpath.process.log_forms import priority
from tests.control.cli.test_ctl import FIGURES, STATUS, answering, reply
from tests.control.cli.test_exit_codes import OBSERVED
from tests.control.cli.test_health import NOT_READY, READY
from tests.fences import NOT_READ, NOT_RUN, ROOT, Fence, commands, fences, programs
from tests.test_docs import between

SKIPPED_MAX = 20
FENCES = fences()


def named(fence: Fence) -> str:
    return f"{fence.name}: {fence.first[:40]}"


def test_what_is_skipped_is_there_and_has_its_reason() -> None:
    skipped = NOT_RUN | NOT_READ
    assert len(skipped) <= SKIPPED_MAX and all(skipped.values())
    stale = [begin for begin in skipped if not any(fence.first.startswith(begin) for fence in FENCES)]
    assert not stale


def test_every_fence_has_a_language_that_something_here_reads() -> None:
    known = {"", "sh", "json", "yaml", "python", "ini"}
    assert {fence.language for fence in FENCES} <= known
    unread = [fence for fence in FENCES if fence.language == "ini" and not fence.first.startswith(tuple(NOT_READ))]
    assert not unread


# --- commands --------------------------------------------------------------------------------------------------------


def examples() -> Iterator[tuple[str, str]]:
    """(where, line) of every command in the documents and below --help."""
    for fence in FENCES:
        if "<<" not in fence.text:
            yield from ((named(fence), command.line) for command in commands(fence))
    todo: list[tuple[str, click.Command]] = [("bootstorm", main)]
    while todo:
        name, command = todo.pop()
        yield from ((f"{name} --help", line) for line in (command.epilog or "").splitlines()[2:])
        todo += [(f"{name} {below}", each) for below, each in getattr(command, "commands", {}).items()]


def check_options(words: list[str]) -> None:
    """Commands and options: click reads the whole line before it answers --help."""
    program = main
    if words[:1] == ["bench"]:
        from bench.__main__ import main as program

        words = words[1:]
    ran = CliRunner().invoke(program, [*words, "--help"])
    assert ran.exit_code == 0 and "Usage:" in ran.stdout, ran.stderr


@pytest.mark.parametrize("where, line", [pytest.param(*each, id=each[1][:60]) for each in examples()])
def test_commands_exist(where: str, line: str) -> None:
    for words in programs(line):
        if words[0] == "bootstorm":
            check_options(words[1:])
        elif words[0] == "python":
            for module in (word for flag, word in itertools.pairwise(words) if flag in ("-m", "-p")):
                assert importlib.util.find_spec(module) is not None, (where, module)
            files = [word for word in words if word.endswith(".py")]
            assert [file for file in files if not (ROOT / file).is_file()] == [], where
        elif words[0] == "make":
            targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
            assert {word for word in words[1:] if "=" not in word} <= targets, where
        else:
            assert where.partition(": ")[2].startswith(tuple(begin[:40] for begin in NOT_RUN)) or words[0] == "echo"


def test_the_command_that_writes_the_table_of_keys_does() -> None:
    (line,) = [each.line for fence in FENCES for each in commands(fence) if "config.describe()" in each.line]
    (words,) = programs(line)
    done = subprocess.run([sys.executable, *words[1:]], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == between("docs/configuration.md", "keys")


# --- files -----------------------------------------------------------------------------------------------------------


def of_language(language: str) -> list[Fence]:
    return [f for f in FENCES if f.language == language and not f.first.startswith(tuple(NOT_READ))]


@pytest.mark.parametrize("fence", of_language("json"), ids=named)
def test_configurations_are_accepted(fence: Fence) -> None:
    parse(fence.text.encode(), Path("services.conf"))


@pytest.mark.parametrize("fence", of_language("yaml"), ids=named)
def test_host_files_have_no_faults(fence: Fence, tmp_path: Path) -> None:
    """With the configuration that stands above it in its section, where there is one."""
    hosts, conf = tmp_path / "hosts.yaml", tmp_path / "services.conf"
    hosts.write_text(fence.text)
    here = [f for f in of_language("json") if (f.file, f.section) == (fence.file, fence.section)]
    above = [f for f in here if f.line < fence.line]
    conf.write_text(above[-1].text if above else "{}")
    ran = CliRunner().invoke(main, ["lint", str(hosts), "-c", str(conf)])
    assert ran.exit_code == 0, ran.stdout


@pytest.mark.parametrize("fence", of_language("python"), ids=named)
def test_python_compiles_and_what_it_imports_is_there(fence: Fence) -> None:
    """tests/control/discovery/test_document.py and tests/netns/test_docs_run.py run it."""
    compile(fence.text, fence.name, "exec")
    for module in re.findall(r"^from ([\w.]+) import", fence.text, re.MULTILINE):
        assert importlib.util.find_spec(module) is not None


# --- tables ----------------------------------------------------------------------------------------------------------


def table(head: str, name: str = "docs/operations.md") -> list[list[str]]:
    """The cells of the rows of the table that begins so."""
    lines = (ROOT / name).read_text(encoding="utf-8").partition(f"\n{head}\n")[2].splitlines()[1:]
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in lines[: next(at for at, line in enumerate(lines) if not line.startswith("|"))]
    ]


def ticked(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_how_far_a_boot_is() -> None:
    assert [ticked(row[0]) for row in table("| progress | what |")] == [[word] for word in PROGRESS]


def test_how_far_discovery_is() -> None:
    told = [word for row in table("| state | meaning |") for word in ticked(row[0])]
    assert sorted(told) == sorted(state for state in State if state is not State.UNKNOWN), "that one is never listed"


def test_levels_and_priorities() -> None:
    levels = {"error": 40, "warning": 30, "info": 20}
    told = {ticked(row[0])[0]: int(row[1]) for row in table("| level | priority | means |")}
    assert told == {name: priority(level) for name, level in levels.items()}


def test_files_of_the_state_folder() -> None:
    told = {name for row in table("| file | what |") for name in ticked(row[0])}
    assert set(STATE_FILES) - {name for name in STATE_FILES if name.endswith(".new")} <= told
    ours = {"control.sock", "discovery.journal.lost"}
    assert {name for name in told if not name.startswith("table.")} <= set(STATE_FILES) | ours


UNKNOWN_HOST = FIGURES | {"removed": 0, "missing": ["x"]}
CODES = {  # word of the table -> what shows it: words of ctl, the service's answer
    "the command was done": (["workers"], reply(ok=True, result=[])),
    "it failed": (["workers"], reply(ok=False, error="not today")),
    "`status`": (["status"], reply(ok=True, result=STATUS | {"health": NOT_READY})),
    "`refresh`": (["refresh", "--host", "x"], reply(ok=True, result=UNKNOWN_HOST)),
    "`observed`": (["observed", "--kind", "x"], reply(ok=True, result=OBSERVED)),
    "wrong usage": (["workers", "x"], b""),
    "wrong configuration": (["workers", "-c", "/"], b""),
}


def exit_code(folder: Path, words: list[str], answer: bytes) -> int:
    if not answer:
        return CliRunner().invoke(ctl, words).exit_code
    with answering(folder, answer) as (path, _seen):
        code = CliRunner().invoke(ctl, [*words, "--socket", path]).exit_code
    os.unlink(path)
    return code


def test_exit_codes_of_ctl(tmp_path: Path) -> None:
    rows = re.findall(r"^\| (\d) \| (.*) \|$", between("docs/operations.md", "exit-codes"), re.MULTILINE)
    found = {word: exit_code(tmp_path, *CODES[word]) for word in CODES}
    told = {word: int(code) for word in CODES for code, means in rows if word in means}
    assert told == found and len(rows) == 3
    assert {f"`{name}`" for _code, means in rows for name in ticked(means) if name in ctl.commands} <= CODES.keys()


def test_exit_codes_of_health(tmp_path: Path) -> None:
    shown = {"ready;": READY, "not ready;": NOT_READY}
    rows = {int(row[0]): row[1] for row in health_rows()}
    for word, result in shown.items():
        code = exit_code(tmp_path, ["health"], reply(ok=True, result=result))
        assert rows[code].startswith(word)
    assert CliRunner().invoke(ctl, ["health", "--wait", "0", "--socket", str(tmp_path / "x")]).exit_code == 2
    assert rows[2].startswith("nobody said")


def health_rows() -> list[list[str]]:
    section = (ROOT / "docs/operations.md").read_text().partition("### `ctl health`")[2].partition("\n### ")[0]
    return [list(row) for row in re.findall(r"^\| (\d) \| (.*) \|$", section, re.MULTILINE)]


def test_json_in_the_documents_is_json() -> None:
    for fence in of_language("json"):
        json.loads(fence.text)
