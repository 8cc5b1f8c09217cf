"""deploy/share: every command has a man page, every key stands in services.conf(5), groff warns of nothing, and the
shells complete."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from control.cli.command_line import main
from control.config import config
from control.config.schema import document
from tests.borrowed import loaded
from tests.deploy.support import ROOT

SCRIPT = ROOT / "deploy/share/make_share.py"
SHELLS = {"bash": "-n", "zsh": "-n", "fish": "--no-execute"}  # option that only reads a script


made = loaded(SCRIPT)


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("share")
    made.write(folder)
    return folder


def commands(group: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, f"{path}-{name}")


COMMANDS = dict(commands(main, "bootstorm"))


def test_every_command_has_a_page_with_its_options(share: Path) -> None:
    assert {path.stem for path in (share / "man/man1").iterdir()} == COMMANDS.keys()
    for name, command in COMMANDS.items():
        page = (share / f"man/man1/{name}.1").read_text(encoding="utf-8")
        assert f'"{made.VERSION}"' in page.splitlines()[0]
        assert re.fullmatch(r"bootstorm\S* \\- .{9,}[^.]", page.splitlines()[2]), "whole, as apropos shows it"
        words = set(re.sub(r"\\f[BP]|,", " ", page).replace("\\-", "-").split())
        options = [option for each in command.params if isinstance(each, click.Option) for option in each.opts]
        assert {option for option in options if option not in words} == set(), name


def test_every_key_stands_in_services_conf_5(share: Path) -> None:
    page = (share / "man/man5/services.conf.5").read_text(encoding="utf-8")
    keys = re.findall(r"^\.TP\n\\fB([\w.\\-]+)\\fP\n", page, re.MULTILINE)
    assert [key.replace("\\", "") for key in keys] == [
        line.split("`")[1] for line in config.describe().splitlines()[2:]
    ]
    for _section, key in config._keys():
        assert made.roff(key.metadata["check"].wanted) in page
        assert made.roff(key.metadata["restart"]) in page


def test_the_example_is_good(tmp_path: Path) -> None:
    config.parse(json.dumps(made.EXAMPLE).encode(), tmp_path)


@pytest.mark.skipif(shutil.which("man") is None or shutil.which("groff") is None, reason="no man-db or no groff")
def test_groff_warns_of_nothing(share: Path) -> None:
    """As lintian asks it."""
    pages = sorted(share.glob("man/man?/*"))
    assert len(pages) > 20
    environment = os.environ | {"LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "80"}
    running = [
        subprocess.Popen(
            ["man", "--warnings=w", "-E", "UTF-8", "-l", "-Tutf8", "-Z", "-"],
            stdin=page.open("rb"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment,
        )
        for page in pages
    ]  # fmt: skip
    warnings = {page.name: process.communicate()[1] for page, process in zip(pages, running, strict=True)}
    assert {name: text for name, text in warnings.items() if text} == {}
    assert [process.returncode for process in running] == [0] * len(pages)


def test_roff_takes_nothing_for_a_request() -> None:
    assert made.roff(".a `b-c`\n'd \\e") == "\\&.a \\fBb\\-c\\fP\n\\&'d \\ee"


def test_the_schema_is_the_command_s(share: Path) -> None:
    assert json.loads((share / made.SCHEMA).read_text()) == document()


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_reads_its_script(shell: str, share: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    ran = subprocess.run([shell, SHELLS[shell], share / made.COMPLETIONS[shell]], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")


CASES = {
    "bootstorm ctl stat": ["status"],
    "bootstorm ctl hosts --st": ["--state", "--stuck"],
    "bootstorm ctl -c status hosts --st": ["--state", "--stuck"],
    "bootstorm ctl events --kind zone": [],
    "bootstorm inv": ["inventory"],
    "bootstorm serve ": [],
    "bootstorm nonsense --vers": ["--version"],
}
FOLDS = 5


def bash(script: str) -> subprocess.CompletedProcess[str]:
    """In a real one, where no `bootstorm` is to be found."""
    path = {"PATH": "/nowhere"}
    return subprocess.run([BASH, "--norc", "-c", script], capture_output=True, text=True, env=path, check=False)


def typed(line: str) -> str:
    """What bash does at a TAB behind a line."""
    words = line.split(" ")
    return f"COMP_WORDS=({' '.join(words)} {chr(34) * 2 if not words[-1] else ''}); COMP_CWORD={len(words) - 1}; " + (
        'COMPREPLY=(); _bootstorm_completion bootstorm; echo "${COMPREPLY[@]}"\n'
    )


BASH = shutil.which("bash") or ""
needs_bash = pytest.mark.skipif(not BASH, reason="no bash")


@needs_bash
def test_bash_completes_commands_and_options(share: Path) -> None:
    """By its script alone: nothing of ours is executed at a TAB."""
    source = f"source {share / made.COMPLETIONS['bash']}\ncomplete -p bootstorm\n"
    ran = bash(source + "".join(map(typed, CASES)))
    assert ran.stderr == ""
    first, *lines = ran.stdout.splitlines()
    assert first == "complete -o bashdefault -o default -F _bootstorm_completion bootstorm"
    assert [line.split() for line in lines] == list(CASES.values())


@needs_bash
def test_bash_completes_what_click_would(share: Path) -> None:
    """Of every command: its commands, its options, and the values of a choice."""
    lines = [f"{path} {begin}" for path in made.tables()["options"] for begin in ("", "-")]
    lines += [f"{key} " for key in made.tables()["choices"]]
    assert len(lines) > 60
    source = f"source {share / made.COMPLETIONS['bash']}\n"
    said = bash(source + "".join(map(typed, lines))).stdout.splitlines()
    for line, found in zip(lines, said, strict=True):
        *args, incomplete = line.split(" ")[1:]
        clicks = ShellComplete(main, {}, "bootstorm", "").get_completions(args, incomplete)
        wanted = sorted(each.value for each in clicks if each.type == "plain")
        assert sorted(found.split()) == wanted, line


@needs_bash
def test_bash_completes_in_a_tenth_of_a_second(share: Path) -> None:
    """Without a process of ours; the slowest line of some."""
    source = f"source {share / made.COMPLETIONS['bash']}\n"
    began = os.times()
    ran = bash(source + "".join(typed(line) for line in CASES for _ in range(FOLDS)))
    ended = os.times()
    assert ran.stdout.count("\n") == FOLDS * len(CASES)
    used = ended.children_user + ended.children_system - began.children_user - began.children_system
    print(f"{used / FOLDS / len(CASES) * 1e3:.1f} ms of CPU a TAB")
    assert used / FOLDS / len(CASES) < 0.1
