"""deploy/share: every command has a man page, every key stands in services.conf(5), groff warns of nothing, and the
shells complete."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

from control.cli.command_line import main
from control.config import config
from control.config.schema import document
from tests.deploy.support import ROOT

SCRIPT = ROOT / "deploy/share/make_share.py"
ENTRY = [sys.executable, "-P", "-m", "control"]
SHELLS = {"bash": "-n", "zsh": "-n", "fish": "--no-execute"}  # option that only reads a script


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_share", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


made = load_script()


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


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_commands_and_options(share: Path, tmp_path: Path) -> None:
    """In a real bash with the script loaded, `bootstorm` by its entry point."""
    command = tmp_path / "bootstorm"
    command.write_text(f'#!/bin/sh\nexec {" ".join(ENTRY)} "$@"\n')
    command.chmod(0o755)
    script = f"""source {share / made.COMPLETIONS["bash"]}
    complete -p bootstorm
    COMP_WORDS=(bootstorm ctl stat); COMP_CWORD=2; COMPREPLY=(); _bootstorm_completion bootstorm
    echo "${{COMPREPLY[@]}}"
    COMP_WORDS=(bootstorm ctl hosts --st); COMP_CWORD=3; COMPREPLY=(); _bootstorm_completion bootstorm
    echo "${{COMPREPLY[@]}}"
    """
    path = f"{tmp_path}:{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "--norc", "-c", script], capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PATH": path}
    )
    assert ran.stdout.splitlines() == [
        "complete -o nosort -F _bootstorm_completion bootstorm", "status", "--state --stuck",
    ]  # fmt: skip
