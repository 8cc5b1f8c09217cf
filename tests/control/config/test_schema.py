"""control/config/schema.py: the schema and the parser agree about every key, where a schema can know."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from control.cli.command_line import main
from control.config import config, shapes
from control.config.config import ConfigFaults
from control.config.schema import DIALECT, document, sections
from tests.control.config.test_config import GOOD, KEYS, ORIGINAL, WRONG

FILE = Path("services.conf")
DOCUMENT = document()
NAMES = [f"{section}.{key.name}" for section, key in KEYS]
# What the parser refuses and no schema of one key can: (section, key, value as JSON) -> why.
BEYOND = {
    ("http", "bind_port", "67.0"): "67.0 is a whole number in JSON Schema",
    ("dhcp", "api_url", '"http://host:99999"'): "a port of six digits, within a URL",
    ("dhcp", "api_url", '"http://[::1"'): "brackets in pairs",
    ("dhcp", "extra_options", '{"66": "tftp_server", "150": "TFTP-server"}'): "one name in two spellings",
    ("dhcp", "relays", '["10.0.0.1/8"]'): "host bits",
    ("dhcp", "state_dir", f'"/{"x" * 120}"'): "control.socket, which follows from it, gets too long",
    ("dhcp", "io", '"xdp"'): "dhcp.interfaces is missing",
}


def as_python(shape: Any) -> Any:
    """`$` is the end in ECMA; in Python a line's end before it, too."""
    if isinstance(shape, dict):
        return {
            name: re.sub(r"(?<!\\)\$(?=\)|\Z)", r"\\Z", value) if name == "pattern" else as_python(value)
            for name, value in shape.items()
        }
    return [as_python(each) for each in shape] if isinstance(shape, list) else shape


VALIDATOR = Draft7Validator(as_python(DOCUMENT))


def is_parsed(content: Any) -> bool:
    try:
        config.parse(json.dumps(content).encode(), FILE)
    except ConfigFaults:
        return False
    return True


def patterns(shape: Any) -> Iterator[str]:
    if isinstance(shape, dict):
        for name, value in shape.items():
            if name == "pattern":
                yield value
            else:
                yield from patterns(value)
    elif isinstance(shape, list):
        for each in shape:
            yield from patterns(each)


def test_it_is_a_schema_and_its_patterns_are_read_alike_by_python_and_editors() -> None:
    Draft7Validator.check_schema(DOCUMENT)
    assert DOCUMENT["$schema"] == DIALECT
    found = set(patterns(DOCUMENT))
    assert len(found) > 15
    for pattern in found:
        assert pattern.startswith("^(?:") and pattern.endswith(")$"), pattern
        assert not re.search(r"\\[wWdDsSbBAZ]|\(\?[^:!=]", pattern), f"not the same in ECMA 262: {pattern}"


def test_every_key_is_in_it_with_its_meaning() -> None:
    assert [name for name, _ in sections()] == list(config._SECTIONS)
    for section, key in KEYS:
        said = DOCUMENT["properties"][section]["properties"][key.name]
        assert said["description"].startswith(key.metadata["doc"])
        assert ("restart" in said["description"]) == bool(key.metadata["restart"]), said["description"]
        assert "default" in said or (section, key.name) == ("control", "socket"), "it follows from dhcp.state_dir"


@pytest.mark.parametrize(("section", "key"), KEYS, ids=NAMES)
def test_every_check_says_what_it_takes(section: str, key: Any) -> None:
    """A check without @takes has an empty shape, and editors would take anything."""
    assert key.metadata["check"].shape, f"decorate the function of {section}.{key.name}'s check with @takes"
    assert not VALIDATOR.is_valid({section: {key.name: {"no such": {}}}})


@pytest.mark.parametrize(("section", "key"), KEYS, ids=NAMES)
def test_the_default_is_good(section: str, key: Any) -> None:
    said = DOCUMENT["properties"][section]["properties"][key.name]
    if "default" in said:
        assert VALIDATOR.is_valid({section: {key.name: said["default"]}})


@pytest.mark.parametrize(("section", "key", "value", "want"), GOOD, ids=[f"{r[0]}.{r[1]}={r[2]}" for r in GOOD])
def test_what_the_parser_takes(section: str, key: str, value: Any, want: Any) -> None:
    assert [error.message for error in VALIDATOR.iter_errors({section: {key: value}})] == []


# NaN and Infinity are no JSON: an editor underlines them without a schema.
JSON = [row for row in WRONG if not (isinstance(row[2], float) and not math.isfinite(row[2]))]


@pytest.mark.parametrize(("section", "key", "value", "says"), JSON, ids=[f"{r[0]}.{r[1]}={r[2]!r:.30}" for r in JSON])
def test_what_the_parser_refuses(section: str, key: str, value: Any, says: str) -> None:
    known = (section, key, json.dumps(value)) not in BEYOND
    assert VALIDATOR.is_valid({section: {key: value}}) != known


@pytest.mark.parametrize("case", BEYOND, ids=lambda case: f"{case[0]}.{case[1]}={case[2]:.30}")
def test_what_only_the_parser_knows_is_said_there(case: tuple[str, str, str]) -> None:
    section, key, value = case
    assert any((section, key, value) == (row[0], row[1], json.dumps(row[2])) for row in WRONG), "test_config.py has it"


# Values that the tables of test_config.py lack: both have to give the same verdict.
MORE: list[tuple[str, str, Any]] = [
    ("http", "bind_address", "a-.b"), ("http", "bind_address", "a..b"), ("http", "bind_address", "a-"),
    ("http", "bind_address", "fe80::1%eth0"), ("http", "bind_address", "1.2.3"), ("http", "bind_address", 64 * "a"),
    ("http", "bind_address", "a\n"), ("http", "bind_address", 254 * "a"), ("http", "bind_address", "256.1.1.1"),
    ("dhcp", "api_url", "file:///etc/hosts.yaml"), ("dhcp", "api_url", "FILE:/etc/hosts.yaml"),
    ("dhcp", "api_url", "file://etc/hosts.yaml"), ("dhcp", "api_url", "file:///etc/"),
    ("dhcp", "api_url", "HTTPS://a/b@c"), ("dhcp", "api_url", "http://u:p@a"), ("dhcp", "api_url", "http://a#b"),
    ("dhcp", "api_url", "http://:80"), ("dhcp", "api_url", "/etc/hosts.yaml"), ("dhcp", "api_url", "http://a:1/x?"),
    ("dhcp", "extra_options", {"254": "a"}), ("dhcp", "extra_options", {"01": "a"}),
    ("dhcp", "server_id", "223.255.255.255"), ("dhcp", "server_id", "01.2.3.4"), ("dhcp", "server_id", "127.0.0.1"),
    ("dhcp", "relays", ["0.0.0.0/0"]), ("dhcp", "relays", ["10.0.0.0/255.0.0.0"]), ("dhcp", "relays", ["10.0.0.0/08"]),
    ("dhcp", "relays", ["10.0.0.0/"]), ("dhcp", "user", None), ("dhcp", "user", "web$"), ("dhcp", "user", "7up"),
    ("dhcp", "boot_ports", "all"), ("dhcp", "boot_ports", []), ("dhcp", "boot_ports", [1, 1]),
    ("dhcp", "boot_ports", [1, 65535]), ("dhcp", "boot_port", 0), ("dhcp", "workers", True),
    ("dhcp", "bmc_rules", [{"role": "bmc"}]), ("dhcp", "bmc_rules", [{"other_mac": False}]),
    ("dhcp", "bmc_rules", [{"client_id": "0"}]), ("dhcp", "bmc_rules", [{"requested_options": []}]),
    ("snmp", "bind_address", "0.0.0.0"), ("snmp", "bind_address", "::"), ("snmp", "communities", ["a", "a"]),
    ("snmp", "traps", ["cisco-mac-move"]), ("snmp", "traps", ["cisco-mac-moves"]), ("snmp", "traps", "cisco-mac-move"),
    ("snmp", "rackfactory", "a.b.c"), ("snmp", "rackfactory", "modül"), ("snmp", "rackfactory", "a..b"),
    ("snmp", "rackfactory", "/a b.py"), ("snmp", "users", [{"name": "a", "auth": "none"}]),
    ("snmp", "users", [{"name": "a", "auth": "none", "auth_password": "12345678"}]),
    ("snmp", "users", [{"name": "a", "auth_password": "12345678"}]),
    ("snmp", "users", [{"name": "a", "privacy": "aes", "privacy_password": "12345678", "auth": "none"}]),
    ("snmp", "users", [{"name": "a", "auth": "sha", "auth_password": "12345678",
                        "privacy": "aes", "privacy_password": "12345678"}]),
    ("snmp", "users", [{"name": "a", "auth": "sha", "auth_password": "1234567"}]),
    ("metrics", "bind", "a.example:00080"), ("metrics", "bind", "a:65536"), ("metrics", "bind", "[a]:80"),
    ("metrics", "bind", "-a:80"), ("metrics", "bind", "a-:80"), ("metrics", "bind", "10.0.0:80"),
    ("control", "socket", None), ("control", "read_gids", [2**32 - 2]), ("control", "read_gids", [2**32 - 1]),
]  # fmt: skip
CLASS = {"name": "a", "match": {"architecture": 1}}
MORE += [
    ("dhcp", "classes", value)
    for value in (
        [], [CLASS], CLASS, [CLASS | {"name": "os"}], [CLASS | {"name": "a--b"}], [CLASS | {"name": 33 * "a"}],
        [CLASS | {"parent": "bmc"}], [CLASS | {"parent": "ipxe"}], [CLASS | {"match": {}}], [CLASS | {"more": 1}],
        [{"name": "a"}],
        *([CLASS | {"match": {key: value}}] for key, value in (
            ("vendor_class", "a*"), ("vendor_class", "a*b"), ("vendor_class", "*"), ("vendor_class", ""),
            ("vendor_class", "hex:00:ff*"), ("vendor_class", "hex:zz"), ("vendor_class", "é"), ("vendor_class", []),
            ("vendor_class", ["a", "b*"]), ("user_class", 7), ("client_id", "hex:"), ("machine_guid", "a\n"),
            ("architecture", 65536), ("architecture", [0, 1]), ("enterprise", 2**32), ("has_option", 0),
            ("has_option", [1, 254]), ("oui", "00:1b:21"), ("oui", "00:1b"), ("oui", "001b.21a0"), ("oui", "00:1b:2"),
            ("relay", "10.0.0.0/24"), ("link", ["10.0.0.1", "x"]), ("no-such", "a"),
        )),
    )
]  # fmt: skip


@pytest.mark.parametrize(("section", "key", "value"), MORE, ids=[f"{r[0]}.{r[1]}={r[2]!r:.60}" for r in MORE])
def test_both_give_the_same_verdict(section: str, key: str, value: Any) -> None:
    content = {section: {key: value}}
    assert VALIDATOR.is_valid(content) == is_parsed(content)


@pytest.mark.parametrize(("section", "key"), KEYS, ids=NAMES)
def test_both_take_the_same_types(section: str, key: Any) -> None:
    for value in (None, True, False, -1, 1.5, "", "\0", [], {}, [[]], [None], [{}], {"": 0}, {"1": []}):
        content = {section: {key.name: value}}
        assert VALIDATOR.is_valid(content) == is_parsed(content), value


@pytest.mark.parametrize(
    "content",
    [{}, ORIGINAL, {"$schema": "a.json"}, {"$schema": 1}, {"dhcp": []}, {"dhpc": {}}, {"dhcp": {"prot": 1}}, []],
    ids=str,
)
def test_both_know_the_sections(content: Any) -> None:
    assert VALIDATOR.is_valid(content) == is_parsed(content)


_words = st.text(alphabet="aZ0159.:/-%[]*#?@ \n$_é", max_size=12)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 70_000) | _words | st.sampled_from([row[2] for row in GOOD]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner, max_size=2),
    max_leaves=4,
)


@pytest.mark.property
@settings(max_examples=200, deadline=None)
@given(key=st.sampled_from(KEYS), value=_json)
def test_no_editor_underlines_what_the_parser_takes(key: Any, value: Any) -> None:
    content = {key[0]: {key[1].name: value}}
    if is_parsed(content):
        assert VALIDATOR.is_valid(content), list(VALIDATOR.iter_errors(content))


def test_a_wrong_schema_of_the_file_itself_is_told() -> None:
    with pytest.raises(ConfigFaults) as caught:
        config.parse(b'{"$schema": ["x"]}', FILE)
    assert caught.value.faults == (
        "services.conf: $schema: found a list of 1; wanted where `bootstorm schema` was written to; remove it",
    )


def test_shapes_of_combined_checks() -> None:
    assert shapes.nullable({"type": "string"}) == {"type": ["string", "null"]}
    assert shapes.nullable({"enum": ["a"]}) == {"anyOf": [{"enum": ["a"]}, {"type": "null"}]}


def test_the_command_prints_it() -> None:
    ran = CliRunner().invoke(main, ["schema"])
    assert ran.exit_code == 0 and json.loads(ran.stdout) == DOCUMENT
