"""deploy/container: no engine builds it here, so its parts are held to what they name; `make test-deb` starts the
service by its very command."""

from __future__ import annotations

import re

import pytest

from tests.deploy.containerfile import instructions, words_of
from tests.deploy.support import ROOT
from tests.deploy.test_units import unit
from tests.test_docs import text

KNOWN = {"FROM", "RUN", "WORKDIR", "COPY", "VOLUME", "STOPSIGNAL", "ENTRYPOINT", "CMD"}


def copied() -> list[str]:
    """Of the tree."""
    found = [said.split() for name, said in instructions() if name == "COPY" and not said.startswith("--from=")]
    return [source for *sources, _to in found for source in sources]


def test_only_instructions_that_every_engine_has() -> None:
    assert {name for name, _said in instructions()} == KNOWN
    assert [name for name, _said in instructions()].count("FROM") == 2


def test_what_it_copies_is_there_and_is_all_that_a_build_needs() -> None:
    assert [source for source in copied() if not (ROOT / source).exists()] == []
    ours = {"ext", "fastpath", "control", "bench", "deploy", "docs", "tests"}
    files = re.findall(r"^include (.*)$", text("MANIFEST.in"), re.MULTILINE)[0].split()
    needed = ours | set(files) | {"MANIFEST.in", "README.md", "bootstorm.py", "pyproject.toml", "setup.py"}
    assert set(copied()) == needed


def test_the_package_comes_from_where_make_deb_puts_it() -> None:
    (source,) = [said.split()[0:2] for name, said in instructions() if name == "COPY" and said.startswith("--from=")]
    assert source == ["--from=build", "/src/build/deb/*.deb"]
    assert ("RUN", "make deb") in instructions() and ("WORKDIR", "/src") in instructions()
    assert re.search(r"^deb:.*\n(?:\t.*\n)*\t.* build/deb$", text("Makefile"), re.MULTILINE)


@pytest.mark.parametrize("path", ["deploy/debian/packages.txt"])
def test_it_installs_what_the_package_is_built_with(path: str) -> None:
    wanted = {line.split("#")[0].strip() for line in text(path).splitlines()} - {""}
    (run,) = [said for name, said in instructions() if name == "RUN" and "make build-essential" in said]
    assert wanted <= set(run.split())


def test_it_runs_as_the_unit_runs_it() -> None:
    """The same command, user and capabilities; never as root."""
    service = unit("bootstorm.service")["Service"]
    entry, command = words_of("ENTRYPOINT"), words_of("CMD")
    assert " ".join([entry[-1], *command]) == service["ExecStart"]
    assert f"--reuid={service['User']}" in entry and f"--regid={service['Group']}" in entry
    assert {"--clear-groups", "--no-new-privs"} < set(entry)
    capabilities = {name.removeprefix("CAP_").lower() for name in service["CapabilityBoundingSet"].split()}
    for option in ("--inh-caps=", "--ambient-caps=", "--bounding-set="):
        (said,) = [word.removeprefix(option) for word in entry if word.startswith(option)]
        assert said.split(",")[0] == "-all" and {each[1:] for each in said.split(",")[1:]} == capabilities


def test_the_document_has_its_commands() -> None:
    section = text("docs/operations.md").partition("## In a container\n")[2].partition("\n## ")[0]
    for words in ("-f deploy/container/Containerfile", "--network host", "/etc/clusto", "/var/lib/bootstorm"):
        assert words in section, words
    added = set(re.findall(r"--cap-add[= ](\w+)", section))
    assert added == {"NET_BIND_SERVICE", "NET_RAW", "NET_ADMIN", "SETUID", "SETGID", "SETPCAP"}, "and no more"
    assert "--cap-drop all" in section
