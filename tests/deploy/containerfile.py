"""deploy/container/Containerfile, as its instructions."""

from __future__ import annotations

import json
import re

from tests.deploy.support import ROOT

PATH = ROOT / "deploy/container/Containerfile"


def instructions() -> list[tuple[str, str]]:
    """(instruction, its words) in order; lines that go on are joined, comments left out."""
    lines = [line for line in PATH.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    found = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    return [(words[0], words[2]) for words in (line.partition(" ") for line in found)]


def words_of(name: str) -> list[str]:
    """Of ENTRYPOINT or CMD."""
    (text,) = [text for instruction, text in instructions() if instruction == name]
    return [str(word) for word in json.loads(text)]
