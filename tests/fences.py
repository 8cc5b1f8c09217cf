"""The fenced blocks of README.md and docs/, and which of them are commands: tests/test_docs_fences.py reads them,
tests/netns/test_docs_run.py runs them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


class Fence(NamedTuple):
    """line: of the file, where it begins."""

    file: str
    line: int
    language: str
    text: str
    section: str

    @property
    def name(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def first(self) -> str:
        return self.text.partition("\n")[0]


class Command(NamedTuple):
    """shown: the lines that the document has below it, as its output."""

    line: str
    shown: list[str]


def fences() -> list[Fence]:
    found = []
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        for match in re.finditer(r"^```([a-z]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            headings = re.findall(r"^#+ (.*)$", text[: match.start()], re.MULTILINE)
            line = text.count("\n", 0, match.start()) + 1
            found.append(Fence(path.name, line, match[1], match[2], headings[-1] if headings else ""))
    return found


def commands(fence: Fence) -> list[Command]:
    """Of a `sh` fence every line, of another those that begin with `$`, with their output."""
    if fence.language == "sh":
        joined = fence.text.replace("\\\n", " ")
        return [Command(line, []) for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    found: list[Command] = []
    for line in fence.text.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:], []))
        elif found:
            found[-1].shown.append(line)
    return found


def programs(line: str) -> Iterator[list[str]]:
    """The words of each program of a line of the shell, without sudo, assignments and the folder of the program."""
    words = shlex.split(line, comments=True)
    while words:
        end = next((at for at, word in enumerate(words) if word in ("&&", "||", "&", "|", ";", ">", "2>")), len(words))
        program, words = words[:end], words[end + 1 :]
        while program and (program[0] == "sudo" or re.fullmatch(r"[A-Z_]+=.*", program[0])):
            program = program[1:]
        if program:
            yield [program[0].removeprefix(".venv/bin/"), *program[1:]]


# Commands that no test runs, by the first line of their fence: why not.  tests/test_docs_fences.py holds this list to
# what is there, and to twenty.
NOT_RUN = {
    "make demo     #": "each is a run by itself: tests/bench runs the demo, and this is a part of `make test`",
    "BOOTSTORM_GOLDEN=write": "writes the golden files anew, for a person to review",
    ".venv/bin/python -m pytest -p tests.netns.under_load": "one of the faults that `make test-faults` runs",
    "make fuzz FUZZ_RUNS": "minutes: `make fuzz`",
    "bootstorm bench load": "the benches take minutes each: `make bench`; here their options are read",
    "BOOTSTORM_RACKS=50": "minutes: parts of `make test`, larger",
    "journalctl -u bootstorm -p": "needs systemd's journal; the fields are tests/fastpath/process/test_journald.py's",
    "sudo useradd --system --shell /usr/sbin/nologin bootstorm": "makes a user, and a unit, of this machine",
    "sudo bootstorm serve --try": "tests/control/cli/test_trial.py runs it",
    "pip install 'bootstorm[board]'": "makes a user of this machine; tests/control/board starts the board",
    "# on the old server, a lease time before": "stops another server of a site; `make test-import` asks both",
    "systemctl stop bootstorm": "needs systemd",
    "make deb ": "installs a package; minutes: `make test-deb`",
    "make wheel ": "minutes: `make test-packages`",
    "podman build": "no engine here; tests/deploy/test_container.py, and `make test-deb` runs the image's command",
    "sudo cp deploy/systemd/sysusers.d": "writes into this machine's systemd; the units: tests/deploy/test_units.py",
}
# Examples of files that no program of ours reads.
NOT_READ = {
    "rule_files: [alerts.yml]": "Prometheus' own; `promtool test rules` reads the alerts, where it is there",
    "[Service]": "systemd's own, a drop-in",
    "from bench.rig import load": "starts a bench of minutes; tests/bench/test_rig.py's",
    "pools: [{name: lab, dhcp": "a part of a host file; tests/control/plan/test_proxy.py's",
}
