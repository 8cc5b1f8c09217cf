"""Configurations of other servers imported, and what a machine is answered from the host file that comes of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import yaml

from control.config.config import Dhcp, parse
from control.explain.classes import discover, said_by_firmware
from control.explain.offline import plan_file
from control.importers.command import Imported, Wish, import_file
from control.importers.writing import lines_of
from control.plan.classes import CLASSES
from control.sources.filesource import FileSource
from tests.control.explain.test_public_cases import Answer

SITES = Path(__file__).parents[2] / "data/import"


def imported(path: Path, **said: Any) -> Imported:
    return import_file(Wish(path, **said))


def of_text(folder: Path, text: str | bytes, name: str = "dhcpd.conf", **said: Any) -> Imported:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return imported(path, **said)


def written(folder: Path, found: Imported) -> Path:
    path = folder / "imported.yaml"
    path.write_text("".join(lines_of(found.rows)))
    return path


def rows(folder: Path, found: Imported) -> dict[str, Any]:
    """As YAML says them: networks and hosts by base and name."""
    said = yaml.safe_load(written(folder, found).read_text())
    named: dict[str, Any] = {kind: {each["name"]: each for each in said[kind]} for kind in ("pools", "hosts")}
    return named | {"networks": {each["base"]: each for each in said["networks"]}}


def lost(found: Imported) -> list[str]:
    """`FILE:LINE TEXT` of what was not carried over, files without their folders."""
    return [f"{Path(note.place.file).name}:{note.place.line} {note.text}" for note in found.notes if note.lost]


def reasons(found: Imported) -> str:
    return "\n".join(note.line() for note in found.notes)


def faults(hosts: Path, config: Dhcp | None = None) -> dict[str, list[str]]:
    planned = plan_file(FileSource(f"file://{hosts}"), config or Dhcp())
    return {name: [str(each) for each in found] for name, found in planned.faults.items()}


def ask(
    hosts: Path, mac: str, kind: str, relay: str = "", config: Dhcp | None = None, says: bytes | None = None
) -> Answer:
    """What a machine of a built-in class is answered.  says: options of its request, in place of the class's."""
    giaddr = int(IPv4Address(relay)) if relay else 0
    options = says if says is not None else said_by_firmware(CLASSES[kind])
    return Answer(hosts, discover(int(mac.replace(":", ""), 16), options, giaddr), config)


def addresses(answer: Answer, code: int) -> list[str]:
    octets = answer.options.get(code, b"")
    return [str(IPv4Address(octets[at : at + 4])) for at in range(0, len(octets), 4)]


def configuration(found: Imported, **said: Any) -> Dhcp:
    text: Mapping[str, Any] = found.configuration(None)
    return parse(json.dumps({"dhcp": {**text["dhcp"], **said}}).encode(), Path("services.conf")).dhcp
