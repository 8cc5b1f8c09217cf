"""A bad option, or a bad row of a container, in a host file: what it costs whom, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from control.sources.model import Inventory, name_of
from tests.control.readings import states
from tests.control.sources.test_filesource import YAML, compiled, source_of, table, write

SPOILT = """
networks:
- {base: 10.1.0.0, mask: 255.255.255.0}
pools:
- {name: racks, dhcp: {enabled: 1, domain: wide.example, lease_time: 1.5, 239: x, "no name": y}}
- {name: odd, dhcp: {enabled: 1.5}}
hosts:
- {name: a, mac: "02:00:00:00:00:0a", address: 10.1.0.11, pool: racks}
- {name: b, mac: "02:00:00:00:00:0b", address: 10.1.0.12, pool: racks, dhcp: {domain: [b, 1.5], router: 10.1.0.1}}
- {name: c, mac: "02:00:00:00:00:0c", address: 10.1.0.13, pool: odd}
"""


def test_a_bad_option_costs_that_option_on_that_object_and_its_members(tmp_path: Path) -> None:
    """No wider value takes its place, and it is told once, with its row."""
    made, told = table(source_of(write(tmp_path, SPOILT)))
    assert told.faults == {
        "racks": [
            "hosts.yaml: pools 1 (racks): dhcp option lease_time: 1.5; wanted text or an integer, or a list of them",
            "hosts.yaml: pools 1 (racks): dhcp option 'no name'; wanted a name like tftp_server, or a number",
        ],
        "odd": ["hosts.yaml: pools 2 (odd): dhcp option enabled: 1.5; wanted text or an integer, or a list of them"],
        "b": ["hosts.yaml: hosts 2 (b): dhcp option domain: 1.5; wanted text or an integer, or a list of them"],
        "c": ["dhcp enabled = a value that cannot be used of odd: wanted 1, true, yes or 0, false, no"],
    }
    rows = {name: made.lookup(0x020000000000 + name, 0) for name in (0x0A, 0x0B)}
    templates = {name: row["leases"][0]["template"] for name, row in rows.items()}
    assert [template["lease_s"] for template in templates.values()] == [3600, 3600]
    options = {name: templates[name]["options"] + rows[name]["own"] for name in rows}
    assert b"wide.example" in options[0x0A] and b"\xef\1x" in options[0x0A]
    assert b"wide.example" not in options[0x0B] and b"\xef\1x" in options[0x0B]
    assert b"\3\4\x0a\1\0\1" in options[0x0B]
    assert states(made)[b"c"] == "quarantined"


@pytest.mark.parametrize(
    "row",
    [
        "{name: racks, dhcp: 5}",
        "{name: racks, colour: red}",
        "{name: racks, pool: p, pools: [q]}",
        "{name: racks, dhcp: {enabled: 1, enabled: 0}}",
        "{name: racks, dhcp: {enabled: !!bool perhaps}}",
        "{name: racks, driver: nothing}",
    ],
)
def test_who_depends_on_a_container_whose_row_is_lost_stays_as_he_is_served(tmp_path: Path, row: str) -> None:
    whole = "{name: racks, pool: everybody, dhcp: {enabled: 1, tftp_server: 10.1.0.2, tftp_filename: /pxelinux.0}}"
    assert whole in YAML
    source = source_of(write(tmp_path, YAML.replace(whole, row)))
    done = compiled(source)
    told = done.assemble(None, set())
    named = [reason for name in ("racks", "hosts.yaml: pools 1") for reason in told.faults.get(name, [])]
    assert sum("pools 1" in reason for reason in named) == 1, "by its name, or its place where that cannot be read"
    assert {name_of(path)[:1] for path in done.lost} >= set("abcfghi") and len(done.doubts) == 1
    assert source.read_hosts([], ["a"], Inventory()).unread.keys() == done.below.keys()
