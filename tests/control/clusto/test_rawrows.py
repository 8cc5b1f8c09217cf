"""control/clusto/rawrows.py: whatever stands in a host file costs a row, or the file by line; never the reader."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from control.clusto import rawrows
from control.clusto.errors import InventoryDown
from control.clusto.hostfile import HostRow, parse
from control.sources.filesource import FileSource

MEMORY_BYTES_MAX = 700 << 20
CHILD = f"""
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY_BYTES_MAX}, {MEMORY_BYTES_MAX}))
from control.clusto.errors import InventoryDown
from control.sources.filesource import FileSource
from pathlib import Path
names, faults = [], []
try:
    for batch in FileSource(Path(sys.argv[1]).as_uri()).read().batches:
        names += [thing.name for thing in batch.things()]
        faults += [fault for some in batch.faults.values() for fault in some]
    said = "read"
except InventoryDown as down:
    said = str(down)
sys.stdout.write(json.dumps([said, names[:9], faults[:9]]))
"""
GOOD = 'hosts:\n- {name: good, mac: "02:00:00:00:00:01", address: 10.1.0.1}\n'
LAUGHS = "x: &a0 [1,2,3,4,5,6,7,8,9]\n" + "".join(
    f"y{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)
MERGED = "x: &a0 {k: 1}\n" + "".join(f"y{n}: &a{n} {{<<: [{','.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 9))


def read(tmp_path: Path, text: str, name: str = "hosts.yaml") -> tuple[str, list[str], list[str]]:
    """What the source says, the hosts, the faults; in a child with little memory."""
    path = tmp_path / name
    path.write_text(text)
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert child.returncode == 0, child.stderr[-2000:]
    said, names, faults = json.loads(child.stdout)
    assert all(len(line) < 800 for line in (said, *faults))
    return said, names, faults


@pytest.mark.parametrize(
    "text, said",
    [
        pytest.param(LAUGHS + GOOD, r"hosts.yaml: line 5: a row of more than 20000 values", id="aliases-of-aliases"),
        pytest.param(MERGED + GOOD, r"hosts.yaml: line 5: a row of more than 20000 values", id="merged"),
        pytest.param("hosts:\n- &a [*a]\n", "hosts.yaml: line 2: *a stands within itself", id="within-itself"),
        pytest.param("hosts:\n- " + "[" * 50_000, "maximum nesting depth in \"hosts.yaml\", line 2", id="brackets"),
        pytest.param("hosts:\n- " + "{a: " * 50_000, "maximum nesting depth in \"hosts.yaml\", line 2", id="braces"),
        pytest.param("hosts:\n- " + "[" * 40 + "]" * 40, "line 2: lists and mappings 33 deep", id="deep"),
        pytest.param("hosts:\n- name: " + "x" * 60_000_000, "a value of more than 4194304 characters", id="one-value"),
        pytest.param("#" + "x" * 60_000_000, "a value of more than 4194304 characters", id="one-comment"),
        pytest.param("hosts:\n- [" + "1," * 300_000 + "1]", "line 2: a row of more than 20000 values", id="one-row"),
        pytest.param(
            "hosts:\n" + "".join(f"- &a{n} x\n" for n in range(20_000)), "line 10002: more than 10000 anchors",
            id="anchors",
        ),
        pytest.param(
            "pools: [{name: &b " + "[" + "1," * 15_000 + "1]}]\nhosts:\n" + "- *b\n" * 50_000, "aliases stand for",
            id="one-alias-in-every-row",
        ),
    ],
)  # fmt: skip
def test_a_file_that_would_not_end_is_refused_by_its_line(tmp_path: Path, text: str, said: str) -> None:
    assert said in read(tmp_path, text)[0]


def test_csv_has_limits_too(tmp_path: Path) -> None:
    head = "name,mac,address\n"
    assert "line 2: a row of more than" in read(tmp_path, head + "a," * 30_000_000, "hosts.csv")[0]
    assert "line 2: no CSV" in read(tmp_path, head + "x" * 200_000, "hosts.csv")[0]
    assert "a row of more than" in read(tmp_path, head + '"x\n",' * 5_000_000, "hosts.csv")[0]


@pytest.mark.parametrize(
    "row, said",
    [
        ("9" * 5000, "hosts 1: line 2: ValueError: Exceeds the limit"),
        ("{mac: 2026-99-99}", "hosts 1: line 2: ValueError: month must be"),
        ("!!python/object:os.system {a: b}", "hosts 1: line 2: could not determine a constructor"),
        ("{[a]: b}", "hosts 1: line 2: found unhashable key"),
        ("!!bool nonsense", "hosts 1: line 2: KeyError"),
        ("!!timestamp nonsense", "hosts 1: line 2: "),
        ("{name: a, driver: [x]}", "hosts 1 (a): driver ['x']; wanted"),
        ("{name: [a, [b]]}", "hosts 1 (['a', ['b']]): name ['a', ['b']]; wanted"),
        ("{name: a, mac: [1]}", "mac [1]; wanted six octets"),
        ("{name: a, mac: 1}", "mac 1; wanted six octets"),
        ("[a]", "hosts 1: ['a']; wanted a mapping"),
    ],
)
def test_a_bad_row_costs_that_row(tmp_path: Path, row: str, said: str) -> None:
    whole, names, faults = read(tmp_path, f"hosts:\n- {row}\n" + GOOD.partition("\n")[2])
    assert (whole, names) == ("read", ["good"])
    assert len(faults) == 1 and said in faults[0], faults


def test_aliases_as_people_use_them(tmp_path: Path) -> None:
    rows = "".join(f'- {{<<: *std, name: h{n}, mac: "02:00:00:00:{n >> 8:02x}:{n & 255:02x}"}}\n' for n in range(2000))
    text = "pools:\n- &std {name: p, dhcp: {enabled: 1, domain: x.example, NTP_server: [10.0.0.1, 10.0.0.2]}}\nhosts:\n"
    said, names, faults = read(tmp_path, text + rows)
    assert said == "read" and len(names) == 9 and not faults


@pytest.mark.parametrize("kind", ["fifo", "device", "directory"])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "hosts.yaml"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(InventoryDown, match=r"no regular file|Is a directory"):
        FileSource(path.as_uri()).read()


@pytest.mark.parametrize("name", ["hosts.yaml", "hosts.csv"])
def test_who_watches_hears_of_a_long_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Also while the pass for pools and networks goes over the hosts, which it does not ask for."""
    monkeypatch.setattr(rawrows, "TELL_EVERY_CHARS", 20_000)
    macs = [f"02:00:00:00:{n >> 8:02x}:{n & 255:02x}" for n in range(2000)]
    if name.endswith("csv"):
        text = "name,mac,address\n" + "".join(f"h{n},{mac},10.1.0.1\n" for n, mac in enumerate(macs))
    else:
        text = "hosts:\n" + "".join(f'- {{name: h{n}, mac: "{mac}"}}\n' for n, mac in enumerate(macs))
    (tmp_path / name).write_text(text)
    told: list[tuple[str, int, int]] = []
    source = FileSource((tmp_path / name).as_uri(), lambda *step: told.append(step))
    reading = source.read()
    assert len([step for step in told if step[0] == "bytes"]) >= 2, "the frame alone"
    assert sum(len(batch.paths) for batch in reading.batches) == 2000
    assert [step for step in told if step[0] == "hosts"]


def test_a_file_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rawrows, "FILE_BYTES_MAX", 10)
    (tmp_path / "hosts.yaml").write_text(GOOD)
    with pytest.raises(InventoryDown, match=r"hosts.yaml: 67 bytes; wanted at most 10"):
        FileSource((tmp_path / "hosts.yaml").as_uri()).read()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from(["10.1.0.1", "a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = (
    "name", "driver", "mac", "address", "addresses", "pool", "pools", "dhcp", "hostname", "container", "containers",
    "rack", "ru", "base", "mask", "gateway",
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(rawrows.KINDS), st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=5))
def test_any_value_in_any_field_is_a_row_or_a_fault(kind: str, fields: dict[str, Any]) -> None:
    text = yaml.safe_dump({kind: [{"name": "a"} | fields], "hosts" if kind != "hosts" else "pools": [{"name": "b"}]})
    found = parse(text, "hosts.yaml")
    rows = [*found.networks, *found.pools, *found.containers, *found.hosts]
    lost = [fault for fault in found.errors if f"{kind} 1 " in fault and ": dhcp option " not in fault]
    assert len(rows) + len(lost) == 2, "each row is there, or named"
    assert all(isinstance(row, HostRow) for row in found.hosts)
