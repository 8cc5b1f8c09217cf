"""docs/contract.md, its schema and its example server: what they say is what the source takes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from control.cli.command_line import main
from control.clusto.drivers import POOL_DRIVERS
from control.clusto.hostfile import CONTAINER_DRIVERS, HOST_DRIVERS
from control.clusto.rawrows import Fault
from control.config.config import Config, Dhcp
from control.explain.named import look
from control.sources.contract.source import HostsSource
from control.sources.contract.stream import End, Entry, parse, parse_end, parse_entry
from tests.control.sources.contract.hosts_server import EXAMPLE_FILE, POOL, SITE, end, host, serving
from tests.control.sources.contract.test_contract_reading import opened, table
from tests.fences import fences

SCHEMA = json.loads((EXAMPLE_FILE.parent / "row.schema.json").read_text())
VALIDATOR = Draft7Validator(SCHEMA)
TEXT = "".join(fence.text for fence in fences() if (fence.file, fence.language) == ("contract.md", ""))
LINES = [line for line in TEXT.splitlines() if line.startswith("{")]
SOURCE = HostsSource("http+hosts://inventory:1")


def is_taken(fields: dict[str, Any]) -> bool:
    """Whether the line is good, and the row too."""
    line = json.dumps(fields).encode()
    try:
        said = parse(line)
        entry: Entry | End = parse_end(said) if "end" in said else parse_entry(said, deletions=True)
    except Exception as error:
        assert type(error).__name__ == "AnswerSpoiled", line
        return False
    rows = [] if isinstance(entry, End) or not entry.kind else list(SOURCE.rows([entry]))
    return not any(isinstance(row, Fault) for row in rows)


# --- the page --------------------------------------------------------------------------------------------------------


def test_the_lines_of_the_page_keep_to_the_schema_and_are_taken() -> None:
    assert len(LINES) == 7
    for line in LINES:
        fields = json.loads(line)
        assert not [error.message for error in VALIDATOR.iter_errors(fields)], line
        assert is_taken(fields), line


# --- the schema ------------------------------------------------------------------------------------------------------


def test_it_is_a_schema_and_knows_the_drivers() -> None:
    Draft7Validator.check_schema(SCHEMA)
    kinds = {"pool": POOL_DRIVERS, "container": CONTAINER_DRIVERS, "host": HOST_DRIVERS}
    for kind, drivers in kinds.items():
        assert SCHEMA["definitions"][kind]["properties"]["driver"]["enum"] == sorted(drivers)


def of(kind: str, **fields: Any) -> dict[str, Any]:
    return {"id": "1", "kind": kind} | fields


WRONG: list[dict[str, Any]] = [
    of("host", name="a", id=""), of("host", name="a", id="a b"), of("host", name="a", id=None), of("phone", name="a"),
    {"id": "1", "name": "a"}, of("host"), host(1, name="a b"), host(1, mac="02:00"), host(1, mac=5), host(1, macs="x"),
    host(1, mac=None, macs={"0": "02:00:00:00:00:01"}), host(1, macs=["02:00:00:00:00:02"]), host(1, address=5),
    host(1, address="10.1.0.256"), host(1, addresses=["10.1.0.1"]), host(1, pools=["racks"]), host(1, rack="r1"),
    host(1, ru=5), host(1, rack="r1", ru=[1, 1]), host(1, unknown=1), host(1, driver="pool"), host(1, dhcp=[1]),
    host(1, dhcp={"a b": 1}), host(1, dhcp={"a": 1.5}), host(1, hostname="\0"), host(1, dhcp={"a": [{"value": None}]}),
    of("network", base="10.0.0.0"), of("network", base="10.0.0.x", mask="255.0.0.0"), POOL | {"driver": "x"},
    of("container", name="a"), {"end": False, "hosts": 1}, {"end": True}, end(1, cursor=""), end(1, cursor=5), end(-1),
    end(1, total="x"),
]  # fmt: skip
BEYOND: list[dict[str, Any]] = [
    of("network", base="10.0.0.1", mask="255.0.0.0"),
    of("network", base="10.0.0.0", mask="255.0.255.0"),
    of("network", base="10.0.0.0", mask="255.255.255.0", gateway="10.9.0.1"),
    host(1, mac=None, macs=["02:00:00:00:00:01", "02-00-00-00-00-01"]),
]


def without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


@pytest.mark.parametrize("fields", [without_none(fields) for fields in WRONG], ids=json.dumps)
def test_what_is_not_taken_does_not_keep_to_it(fields: dict[str, Any]) -> None:
    assert not is_taken(fields) and not VALIDATOR.is_valid(fields)


@pytest.mark.parametrize("fields", [without_none(fields) for fields in BEYOND], ids=json.dumps)
def test_what_no_schema_can_say(fields: dict[str, Any]) -> None:
    assert not is_taken(fields) and VALIDATOR.is_valid(fields)


MACS = st.sampled_from(["02:00:00:00:00:01", "02-00-00-00-00-0B", "0200.0000.000c", "0200000000aa", "02:00", 5, ["x"]])
NAMED = {"address": "10.1.0.2", "osportname": "eth0"}
ADDRESSES = st.sampled_from(["10.1.0.1", "10.1.0.01", "10.1.0", "fd00::1", NAMED, NAMED | {"x": 1}, 7])
NAMES = st.sampled_from(["a", "a.b_c-d", "", "a b", "x" * 129, 5])
VALUES = st.sampled_from(
    [1, "x", True, 1.5, "a\0", [1, "x"], [{"number": 2, "value": "x"}], [{"value": 1, "x": 2}], {}]
)
PORTS = st.sampled_from(["1", "2", "0", "x"])
ROWS = st.fixed_dictionaries(
    {"id": st.sampled_from(["1", 7, -1, "a/b", "", "ü"]), "kind": st.just("host"), "name": NAMES},
    optional={
        "mac": MACS,
        "macs": st.one_of(st.lists(MACS, max_size=2, unique_by=str), st.dictionaries(PORTS, MACS, max_size=1)),
        "address": ADDRESSES,
        "addresses": st.lists(ADDRESSES, max_size=2),
        "pool": NAMES,
        "pools": st.lists(NAMES, max_size=2),
        "container": NAMES,
        "rack": NAMES,
        "ru": st.sampled_from([1, [1, 2], [1, 1], "x", 1.5]),
        "hostname": st.text(max_size=3),
        "driver": st.sampled_from(["basicserver", "pool", 5]),
        "dhcp": st.dictionaries(st.sampled_from(["enabled", "239", "a b", "x--y"]), VALUES, max_size=2),
    },
)


@pytest.mark.property
@settings(max_examples=60, deadline=None)
@given(fields=ROWS)
def test_what_keeps_to_the_schema_is_taken(fields: dict[str, Any]) -> None:
    assert is_taken(fields) or not VALIDATOR.is_valid(fields)


# --- the example server ----------------------------------------------------------------------------------------------


@contextmanager
def example(folder: Path, *lines: str, token: str = "") -> Iterator[str]:
    """The program as a person starts it; its port is of its own choice."""
    rows = folder / "rows.jsonl"
    rows.write_text("".join(f"{line}\n" for line in lines))
    code = EXAMPLE_FILE.read_text().replace(
        "server.serve_forever()", "print(server.server_port, flush=True)\n    \\g<0>"
    )
    program = folder / "server.py"
    program.write_text(code.replace("\\g<0>", "server.serve_forever()"))
    argv = [sys.executable, str(program), str(rows), "127.0.0.1:0", *([token] if token else [])]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        assert child.stdout is not None
        try:
            yield f"http+hosts://127.0.0.1:{int(child.stdout.readline())}"
        finally:
            child.kill()


def test_the_example_serves_the_rows_of_the_page_and_their_changes(tmp_path: Path) -> None:
    rows = [line for line in LINES if '"kind"' in line]
    with example(tmp_path, *rows, token="s3cret") as url:
        source = opened(url, "s3cret")
        made, told = table(source)
        assert made.host_count == 2 and told.faults == {}
        (tmp_path / "rows.jsonl").write_text("\n".join(rows[:-1]) + "\n")
        assert table(source)[0].host_count == 1
        config = tmp_path / "services.conf"
        config.write_text(json.dumps({"dhcp": {"api_url": url, "api_token": "s3cret", "state_dir": str(tmp_path)}}))
        ran = CliRunner().invoke(main, ["lint", "-c", str(config)])
        assert ran.exit_code == 0, ran.output
        ran = CliRunner().invoke(main, ["check", "-c", str(config)])
        assert ran.exit_code == 0 and "good" in ran.output and "warning" not in ran.output, ran.output


# --- check and lint --------------------------------------------------------------------------------------------------


def test_lint_names_rows_by_kind_and_id() -> None:
    with serving(*SITE, host(9, mac="junk"), host(10, pool="rack")) as server:
        ran = CliRunner().invoke(main, ["lint", server.url, "--json"])
    found = {each["object"]: each for each in json.loads(ran.output)["findings"]}
    assert ran.exit_code == 1 and "host 9 (h9): mac 'junk'" in found["h9"]["reason"]
    assert "did you mean racks?" in found["rack"]["reason"] and "host 10 (h10)" in found["rack"]["reason"]


@pytest.mark.parametrize(
    "url, told",
    [
        ("http+hosts://127.0.0.1:1", False), ("http+hosts://[::1]:1", False), ("http+hosts://localhost:1", False),
        ("http+hosts://192.0.2.1:1", True), ("http+hosts://inventory.invalid:1", True),
        ("https+hosts://192.0.2.1:1", False),
    ],
)  # fmt: skip
def test_check_tells_of_what_goes_in_the_clear(url: str, told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control.explain.named.hosts_of", lambda _source: [])
    found = [each for each in look(Config(dhcp=Dhcp(api_url=url))) if each.key == "dhcp.api_url"]
    assert [each.fault for each in found] == [False] * told
    assert not told or "go in the clear" in found[0].text


def test_check_tells_of_bad_rows_and_of_a_server_that_does_not_answer() -> None:
    with serving(*SITE, host(9, mac="junk")) as server:
        (found,) = [each for each in look(Config(dhcp=Dhcp(api_url=server.url))) if each.key == "dhcp.api_url"]
        assert not found.fault and found.text.startswith("1 of 9 rows are bad, the first: 127.0.0.1:")
        server.spoil = lambda _target: b"HTTP/1.1 502 Bad Gateway\r\n\r\n"
        (found,) = [each for each in look(Config(dhcp=Dhcp(api_url=server.url))) if each.key == "dhcp.api_url"]
        assert not found.fault and "status 502" in found.text
