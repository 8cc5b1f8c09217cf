"""`macs` of a host file: what is read, what is refused, what goes into a store and comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from control.clusto.hostfile import HostRow, parse, render
from control.clusto.server.loading import dump_file, load_file
from control.sources.filesource import FileSource
from tests.control.clusto.support import new_store

A, B, C = (f"02:00:00:00:00:0{number}" for number in (1, 2, 3))
HEAD = "networks: [{base: 10.1.0.0, mask: 255.255.255.0}]\nhosts:\n"


def row(fields: str) -> HostRow:
    found = parse(f"hosts:\n- {{name: a, {fields}}}\n", "hosts.yaml")
    assert found.errors == []
    return found.hosts[0]


@pytest.mark.parametrize(
    "fields, want, names",
    [
        (f'mac: "{A}"', {1: A}, {}),
        (f'macs: ["{A}", "{B}"]', {1: A, 2: B}, {}),
        (f'macs: "{A} {B.replace(":", "-")}"', {1: A, 2: B}, {}),
        (f'macs: {{2: "{B}", 7: "{C}"}}', {2: B, 7: C}, {}),
        (f'mac: "{A}", macs: {{2: "{B}"}}', {1: A, 2: B}, {}),
        (f'macs: {{1: {{mac: "{A}", osportname: en0}}, 2: {{mac: "{B}"}}}}', {1: A, 2: B}, {1: "en0"}),
        ("macs: []", {}, {}),
        ("macs: null", {}, {}),
    ],
)
def test_what_a_row_says(fields: str, want: dict[int, str], names: dict[int, str]) -> None:
    found = row(fields)
    assert (found.cards, found.portnames, found.mac) == (want, names, want.get(1))
    again = parse(render(parse(f"hosts:\n- {{name: a, {fields}}}\n", "h.yaml")), "h.yaml").hosts[0]
    assert (again.cards, again.portnames) == (want, names)


@pytest.mark.parametrize(
    "fields, said",
    [
        (f'macs: {{0: "{A}"}}', "port 0; wanted a number from 1 to 65535"),
        (f'macs: {{"2": "{A}"}}', "port '2'; wanted a number"),
        (f'macs: {{eth1: "{A}"}}', "port 'eth1'; wanted a number"),
        (f'macs: {{true: "{A}"}}', "wanted a number from 1"),
        (f'macs: {{70000: "{A}"}}', "port 70000"),
        (f'macs: ["{A}", "{A}"]', f"mac {A} at two ports; wanted it at one"),
        (f'mac: "{A}", macs: {{2: "{A}"}}', "at two ports"),
        (f'mac: "{A}", macs: ["{B}"]', "wanted port 1 in one of them"),
        ("macs: [x]", "mac 'x'; wanted six octets"),
        ("macs: 7", "macs 7; wanted a list of MACs"),
        (f'macs: {{2: {{mac: "{A}", name: x}}}}', "field 'name'"),
        ("macs: {2: {osportname: eth1}}", "mac None; wanted six octets"),
    ],
)
def test_what_is_no_list_of_cards(fields: str, said: str) -> None:
    found = parse(f"hosts:\n- {{name: a, {fields}}}\n", "hosts.yaml")
    assert not found.hosts and said in found.errors[0]


def test_csv_takes_several_in_a_field() -> None:
    found = parse(f"name,macs,address\na,{A} {B},10.1.0.9\nb,{C},\n", "hosts.csv")
    assert found.errors == [] and [each.cards for each in found.hosts] == [{1: A, 2: B}, {1: C}]


FILE = f"""{HEAD}- name: a
  macs: {{1: "{A}", 2: {{mac: "{B}", osportname: fast0}}}}
  addresses: [10.1.0.8, 10.1.0.9]
- {{name: b, macs: {{3: "{C}"}}}}
"""


def test_a_store_takes_them_and_gives_them_back(tmp_path: Path) -> None:
    path, dumped = tmp_path / "hosts.yaml", tmp_path / "dump.yaml"
    path.write_text(FILE)
    store = new_store(tmp_path)
    lost: list[str] = []
    assert load_file(store, path).errors == []
    assert load_file(store, path).unchanged == 3
    dump_file(store, dumped, lost.append)
    assert lost == []
    before, after = (parse(each.read_text(), each.name).hosts for each in (path, dumped))
    assert [(each.cards, each.portnames) for each in after] == [(each.cards, each.portnames) for each in before]
    path.write_text(f'{HEAD}- {{name: a, mac: "{A}"}}\n')
    load_file(store, path)
    dump_file(store, dumped, lost.append)
    assert parse(dumped.read_text(), "d.yaml").hosts[0].cards == {1: A, 2: B}, "it said nothing of port 2"


@pytest.mark.parametrize("theirs", [f'mac: "{B}"', f'macs: {{5: "{B.upper()}"}}'])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_card_of_two_hosts_is_refused_and_named(tmp_path: Path, theirs: str, at_once: bool) -> None:
    store, path = new_store(tmp_path), tmp_path / "hosts.yaml"
    rows = [f'- {{name: a, macs: ["{A}", "{B}"]}}\n', f"- {{name: b, {theirs}}}\n"]
    for text in ["".join(rows)] if at_once else rows:
        path.write_text(HEAD + text)
        report = load_file(store, path)
    (error,) = report.errors
    assert f"mac {B}" in error and ("is also of a" if at_once else "belongs to a") in error


def test_a_file_as_a_source_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_text(FILE)
    source = FileSource(f"file://{path}")
    whole: Any = source.read().whole()
    assert whole.things["/server/a"].macs() == [(1, A), (2, B)]
    assert list(whole.things["/server/a"].of_ports("osportname")) == [(2, "fast0")]
    before = next(iter(source.read().batches)).digest
    path.write_text(FILE.replace("fast0", "fast1"))
    assert next(iter(source.read().batches)).digest != before
