"""The documentation against the code: keys, verdicts, warnings, commands, make targets and files are the real ones."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest
from ext.classify import ClientClass
from ext.site_classes import PARENTS
from ext.verdict import Verdict

from control.cli import command_line
from control.config import classes, config
from control.discovery.traps import notification, queue
from control.discovery.traps.ber import dotted, oid
from control.discovery.traps.decoders import FAMILIES, Decoders
from control.explain import lint, sentences, wording
from control.plan.classes import NAMES
from control.service import event_ring
from control.sources import reasons
from ext import codec
from tests.ext import packets

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
FILES = [ROOT / "README.md", *DOCS]
OURS = ("ext", "fastpath", "control", "bench", "tests", "docs", "deploy")
ROOT_FILES = {path.name for path in ROOT.iterdir() if path.is_file()}


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def between(name: str, marker: str) -> str:
    """What stands between <!-- marker:begin --> and <!-- marker:end -->, without the blank lines around it."""
    found = re.search(rf"<!-- {marker}:begin -->\n(.*?)<!-- {marker}:end -->", text(name), re.DOTALL)
    assert found is not None, f"{name} has no markers {marker}:begin and {marker}:end"
    return found[1].strip()


def rows(name: str, marker: str) -> dict[str, list[str]]:
    """Rows of a marked table whose first cell is a name in backticks -> its other cells."""
    found = {}
    for line in between(name, marker).splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if match := re.fullmatch(r"`(\w+)`", cells[0]):
            assert match[1] not in found, f"{name}: {match[1]} stands there twice"
            found[match[1]] = cells[1:]
    return found


def fences(path: Path) -> list[str]:
    return re.findall(r"^```[a-z]*\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def spans(path: Path) -> list[str]:
    """Inline code, fenced blocks left out."""
    prose = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", prose)


def paths_of(span: str) -> list[str]:
    """The files of ours that a piece of inline code names: by folder, or by a name that only our sources end in."""
    named = []
    for word in span.split():
        word = word.partition("::")[0].rstrip(".,;:")
        top = word.partition("/")[0]
        source = re.fullmatch(r"[\w/.-]+\.(py|pyx|pxd|md)", word) is not None and not word.startswith(("/", "."))
        if re.fullmatch(r"[\w/.*-]+", word) and ((top in OURS and "/" in word) or source):
            named.append(word)
    return named


def test_the_table_of_keys_is_the_code_s() -> None:
    assert between("docs/configuration.md", "keys") == config.describe().strip(), (
        'write it anew: .venv/bin/python -c "from control.config import config; print(config.describe())"'
    )


def classes_table() -> str:
    """Of docs/protocol.md: every built-in class, its parent, the types of option 93 that are its own, what it is."""
    types: dict[ClientClass, list[str]] = {}
    for number in range(0x100):
        said = packets.tlv(60, b"PXEClient:Arch:%05d:UNDI:003016" % number) + packets.tlv(93, number.to_bytes(2, "big"))
        types.setdefault(codec.parse(packets.discover(1, options=said))["client_class"], []).append(str(number))
    types[ClientClass.PXE] = ["any other"]
    lines = ["| class | parent | architecture (93) | what |", "| --- | --- | --- | --- |"]
    for client in ClientClass:
        name, parent = NAMES[client], NAMES[ClientClass(PARENTS[client])]
        shown = f"`{parent}`" if client else ""
        lines.append(f"| `{name}` | {shown} | {', '.join(types.get(client, []))} | {wording.CLASSES[name]} |")
    return "\n".join(line.replace("  ", " ") for line in lines)


def test_the_table_of_client_classes_is_the_code_s() -> None:
    assert between("docs/protocol.md", "classes") == classes_table(), (
        'write it anew: .venv/bin/python -c "from tests.test_docs import classes_table; print(classes_table())"'
    )


def test_every_key_of_a_class_s_match_is_explained() -> None:
    section = text("docs/protocol.md").partition("### Classes of the site\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(classes.FIELDS)


def test_keys_in_the_text_exist() -> None:
    known = {line.split("`")[1] for line in config.describe().splitlines()[2:]}
    sections = {key.partition(".")[0] for key in known}
    known.add("control.sock")  # a file
    unknown = []
    for path in FILES:
        for span in spans(path):
            match = re.fullmatch(r"([a-z]+)\.[a-z_]+", span)
            if match and match[1] in sections and span not in known:
                unknown.append(f"{path.name}: {span}")
    assert not unknown


def test_every_verdict_is_explained() -> None:
    verdicts = [verdict.name for verdict in Verdict if verdict.name != "GO_ON"]
    explained = rows("docs/protocol.md", "verdicts")
    assert list(explained) == verdicts, "one row each, in the order of ext/verdict.pxd"
    warned = {name for name, cells in explained.items() if cells[-1] == "yes"}
    assert warned == set(sentences.WORDS), "the last column says which verdicts become warnings"


def test_every_warning_is_explained_in_its_own_words() -> None:
    explained = rows("docs/operations.md", "warnings")
    assert {name: cells[0] for name, cells in explained.items()} == sentences.WORDS
    assert all(len(cells) == 2 and cells[1] for cells in explained.values()), "each says what to do"


def test_every_finding_is_explained_in_its_own_words() -> None:
    explained = rows("docs/operations.md", "findings")
    assert {name: cells[0] for name, cells in explained.items()} == sentences.FINDINGS


def test_every_reason_of_the_trap_receiver_is_explained_in_its_own_words() -> None:
    explained = rows("docs/operations.md", "traps")
    assert {name: cells[0] for name, cells in explained.items()} == queue.DROPS | notification.SKIPS
    assert all(len(cells) == 2 and cells[1] for cells in explained.values()), "each says what to do"


def test_every_trap_that_is_read_is_listed() -> None:
    listed = re.findall(r"\| `([\w-]+)` \| \w+ \| ([\d.]+) \|", between("docs/discovery.md", "switches"))
    found = [(family, Decoders((family,)).of(oid(trap))) for family, trap in listed]
    assert None not in {decoder for _family, decoder in found}, "a trap that its family does not read"
    assert {(family, id(decoder)) for family, decoder in found} == {
        (family, id(decoder)) for family, traps in FAMILIES.items() for decoder in traps.values()
    }
    every = {dotted(trap) for traps in FAMILIES.values() for trap in traps}
    assert {trap for _family, trap in listed} == {
        trap + ".2.0.1" if trap == "1.3.6.1.4.1.9.9.215" else trap for trap in every if ".1.1.0." not in trap
    }, "v1's spelling of Dell's left out"


def test_every_kind_of_fault_is_explained_in_its_own_words() -> None:
    table = between("docs/operations.md", "faults")
    assert dict(re.findall(r"^\| `([\w-]+)` \| (.*) \|$", table, re.MULTILINE)) == reasons.KINDS
    table += "\n" + between("docs/operations.md", "lint")
    assert dict(re.findall(r"^\| `([\w-]+)` \| (.*) \|$", table, re.MULTILINE)) == lint.LINT_KINDS


def test_every_kind_of_event_is_explained_in_its_own_words() -> None:
    explained = dict(re.findall(r"^\| `([\w-]+)` \| (.*) \|$", between("docs/operations.md", "events"), re.MULTILINE))
    assert explained == {kind: meaning for kind, (_place, meaning) in event_ring.KINDS.items()}


def test_every_control_command_is_explained() -> None:
    headings = set(re.findall(r"^### `ctl (\w+)", text("docs/operations.md"), re.MULTILINE))
    assert headings == set(command_line.ctl.commands)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_make_targets_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    named = {word for code in (*spans(path), *fences(path)) for word in re.findall(r"\bmake ([a-z][a-z-]*)", code)}
    assert named <= targets


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_exist(path: Path) -> None:
    missing = []
    for span in spans(path):
        for word in paths_of(span):
            places = (ROOT, path.parent, ROOT / "docs")
            if word not in ROOT_FILES and not any(any(place.glob(word.rstrip("/"))) for place in places):
                missing.append(word)
    assert not missing


def test_every_question_leads_to_a_file() -> None:
    """The table `Where do I look?`: each row names files, by their whole paths."""
    section = text("docs/development.md").partition("## Where do I look?\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][2:]
    assert len(lines) >= 10
    for line in lines:
        _question, answer = line.strip("| ").split(" | ")
        named = [span for span in re.findall(r"`([^`]+)`", answer) if "/" in span]
        assert named and all((ROOT / name).is_file() for name in named), line


def test_every_room_is_explained() -> None:
    """The table of rooms in docs/design.md has every folder of sources."""
    explained = between("docs/design.md", "rooms")
    folders = {path.parent for top in ("control", "fastpath", "bench") for path in (ROOT / top).rglob("__init__.py")}
    names = {f"{path.relative_to(ROOT)}/" for path in folders if path.parent != ROOT} - {"control/clusto/"}
    assert {name for name in names if f"`{name}`" not in explained} == set()


def named_tests(content: str) -> list[tuple[str, str]]:
    """(file, function) of every `tests/...py::...` in a text."""
    return [
        (file, rest.split("::")[-1])
        for file, rest in re.findall(r"`(tests/[\w/]+\.py)::([\w:]+)(?:\[.*?\])?`", content)
    ]


@functools.cache
def functions(file: str) -> set[str]:
    """Of a test file, those in classes too, but no helpers."""
    found = ast.walk(ast.parse(text(file)))
    return {node.name for node in found if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_named_tests_exist(path: Path) -> None:
    missing = [f"{file}::{name}" for file, name in named_tests(path.read_text()) if name not in functions(file)]
    assert not missing


def test_every_standard_has_its_proof() -> None:
    """What is had, in part or whole, names a test function; what is not, names none."""
    lines = [line for line in between("docs/protocol.md", "standards").splitlines() if re.match(r"\| \d", line)]
    assert len(lines) > 20
    for line in lines:
        rfc, _about, here, proof = (cell.strip() for cell in line.strip("|").split(" | "))
        word = re.match(r"has|partly|no", here)
        assert word is not None, f"RFC {rfc}: begins with {here!r}, wanted has, partly or no"
        assert bool(named_tests(proof)) == (word[0] != "no"), f"RFC {rfc}: {here!r} is proved by {proof!r}"
        assert len(named_tests(proof)) == proof.count("`") // 2, f"RFC {rfc}: each proof is FILE::FUNCTION"


def test_every_habit_has_its_proof() -> None:
    lines = between("docs/protocol.md", "field").splitlines()[2:]
    assert [line for line in lines if not named_tests(line.split(" | ")[-1])] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_documents_stand_alone(path: Path) -> None:
    content = path.read_text(encoding="utf-8")
    assert not re.findall(r"\.\./(?!README|docs)\w+|/(?:work|root)/|DESIGN section|FIELD\b|CLUSTO-HTTPD", content)


def test_readme_leads_to_every_document() -> None:
    assert [path.name for path in DOCS if f"docs/{path.name}" not in text("README.md")] == []
