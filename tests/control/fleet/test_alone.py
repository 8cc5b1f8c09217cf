"""The decisions stand alone: no engine, clock, chance or descriptor in them; and no service loads them yet."""

from __future__ import annotations

from tests.house import ROOT, files_of, house, imports_of

HERE = ROOT / "control/fleet"
# What a decision is made of: data, hashes and signatures.
ALLOWED = {"__future__", "collections", "control", "cryptography", "dataclasses", "enum", "functools", "hashlib",
           "msgpack", "re", "typing"}  # fmt: skip


def test_a_decision_has_no_hands() -> None:
    used = {name.partition(".")[0] for path in files_of(HERE) for name in imports_of(path)}
    assert used <= ALLOWED


def test_a_site_without_a_fleet_loads_none_of_it() -> None:
    found = house("control")
    assert "fleet" in found.rooms
    assert [arrow for arrow in found.arrows if "fleet" in arrow] == []
    others = [*files_of(ROOT / "fastpath"), *files_of(ROOT / "bench"), ROOT / "bootstorm.py"]
    assert [path for path in others if "control.fleet" in path.read_text()] == []
