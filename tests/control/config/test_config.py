"""control/config/config.py: clusto's own files, every default, every fault, the search path, restarts, the docs."""

import dataclasses
import json
import os
import pickle
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control.config import config
from control.config.bmc import Rule
from control.config.classes import SiteClass
from control.config.config import Config, ConfigFaults, Dhcp, SnmpUser, changes_needing_restart, load, load_first
from tests.control.config import fleet_rows

FILE = Path("services.conf")
ORIGINAL = {
    "http": {"bind_address": "0.0.0.0", "bind_port": 9996},
    "dhcp": {
        "api_url": "http://localhost:9996",
        "update_ipmi": True,
        "extra_options": {
            "66": "tftp_server",
            "67": "tftp_filename",
            "208": "pxelinux-magic",
            "209": "pxelinux-configfile",
            "210": "pxelinux-pathprefix",
            "211": "pxelinux-reboottime",
        },
    },
    "snmp": {},
}
KEYS = [(section, key) for section, key in config._keys()]


def parse(content: Any) -> Config:
    return config.parse(content if isinstance(content, bytes) else json.dumps(content).encode(), FILE)


def faults_of(content: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigFaults) as caught:
        parse(content)
    assert str(caught.value) == "\n".join(caught.value.faults)
    for line in caught.value.faults:
        assert line.startswith("services.conf: ") and line.isprintable() and len(line) < 700, line
    return caught.value.faults


# --- good files ------------------------------------------------------------------------------------------------------


def test_an_original_file_works_unchanged() -> None:
    got = parse(ORIGINAL)
    assert (got.http.bind_address, got.http.bind_port) == ("0.0.0.0", 9996)
    assert got.dhcp.api_url == "http://localhost:9996" and got.dhcp.update_ipmi is True
    assert got.dhcp.extra_options == ORIGINAL["dhcp"]["extra_options"]
    assert got.path == FILE
    assert dataclasses.replace(got.dhcp, update_ipmi=False, extra_options={}) == Dhcp()


@pytest.mark.parametrize("content", [{}, {"dhcp": {}}, {name: {} for name in config._SECTIONS}], ids=str)
def test_every_key_has_a_default(content: Any) -> None:
    got = parse(content)
    assert got.receives_traps == ("snmp" in content), "an empty section is enough, as in clusto's own file"
    assert dataclasses.replace(got, path=None, receives_traps=False, in_fleet=False) == Config()


def test_defaults_that_others_rely_on() -> None:
    dhcp = Dhcp()
    assert (dhcp.workers, dhcp.port, dhcp.refresh_interval, dhcp.server_id) == ("auto", 67, None, None)
    assert (dhcp.interfaces, dhcp.server_ids, dhcp.relays) == ((), (), ())
    assert (dhcp.max_shrink, dhcp.max_nak_age, dhcp.state_dir) == (0.2, 86400.0, Path("/var/lib/bootstorm"))
    assert (dhcp.io, dhcp.mode, dhcp.bootp, dhcp.user, dhcp.ipmi_port_name) == ("socket", "serve", False, None, "ipmi")
    assert Config().snmp.bind_port == 162
    assert Config().control == config.Control(socket=Path("/var/lib/bootstorm/control.sock"), allow_uids=())
    assert Config().metrics.bind is None


@pytest.mark.parametrize(("section", "key"), KEYS, ids=[f"{section}.{key.name}" for section, key in KEYS])
def test_a_default_written_out_is_accepted(section: str, key: Any) -> None:
    default = getattr(getattr(Config(), section), key.name)
    got = parse(f'{{"{section}": {{"{key.name}": {config._plain(default)}}}}}'.encode())
    assert getattr(getattr(got, section), key.name) == default


GOOD: list[tuple[str, str, Any, Any]] = [
    ("http", "bind_address", "::1", "::1"),
    ("http", "bind_address", "localhost", "localhost"),
    ("dhcp", "api_url", "http://localhost:9996/", "http://localhost:9996"),
    ("dhcp", "api_url", "https://clusto.example.org/api/", "https://clusto.example.org/api"),
    ("dhcp", "api_url", "http://[::1]:9996", "http://[::1]:9996"),
    ("dhcp", "extra_options", {"150": "tftp_address", "1": "x"}, {"150": "tftp_address", "1": "x"}),
    ("dhcp", "interfaces", ["eth0", "bond0.100", "br-lan@if3"], ("eth0", "bond0.100", "br-lan@if3")),
    ("dhcp", "workers", 64, 64),
    ("dhcp", "refresh_interval", 12.5, 12.5),
    ("dhcp", "refresh_interval", 60, 60.0),
    ("dhcp", "server_id", "192.0.2.1", IPv4Address("192.0.2.1")),
    ("dhcp", "server_ids", ["192.0.2.2"], (IPv4Address("192.0.2.2"),)),
    ("dhcp", "relays", ["192.0.2.0/24", "10.0.0.1"], (IPv4Network("192.0.2.0/24"), IPv4Network("10.0.0.1/32"))),
    ("dhcp", "max_shrink", 1, 1.0),
    ("dhcp", "max_nak_age", 0, 0.0),
    ("dhcp", "state_dir", "/srv/boot", Path("/srv/boot")),
    ("dhcp", "user", "dhcp", "dhcp"),
    ("dhcp", "bootp", True, True),
    ("dhcp", "bmc_rules", [{"vendor_class": "ACME"}], (Rule("vendor_class", "bmc", b"ACME"),)),
    ("dhcp", "bmc_rules", [{"role": "host", "user_class": "x"}], (Rule("user_class", "host", b"x"),)),
    ("dhcp", "bmc_rules", [{"client_id": "00:1F"}], (Rule("client_id", "bmc", b"\0\x1f"),)),
    ("dhcp", "bmc_rules", [{"requested_options": [1, 3]}], (Rule("requested_options", "bmc", b"\1\3"),)),
    ("dhcp", "bmc_rules", [{"other_mac": True, "role": "host"}], (Rule("other_mac", "host", b""),)),
    ("dhcp", "api_token", "s3cret", "s3cret"),
    ("snmp", "communities", ["public"], ("public",)),
    ("snmp", "users", [{"name": "sw1"}], (SnmpUser(name="sw1"),)),
    ("snmp", "rackfactory", "rackfactory", "rackfactory"),
    ("snmp", "rackfactory", "/var/lib/clusto/rackfactory.py", "/var/lib/clusto/rackfactory.py"),
    ("snmp", "dry_run", True, True),
    ("control", "socket", "/run/b.sock", Path("/run/b.sock")),
    ("control", "allow_uids", [0, 1000], (0, 1000)),
    ("metrics", "bind", "127.0.0.1:9100", ("127.0.0.1", 9100)),
    ("metrics", "bind", "[::1]:9100", ("::1", 9100)),
    *fleet_rows.GOOD,
]


@pytest.mark.parametrize(("section", "key", "value", "want"), GOOD, ids=[f"{r[0]}.{r[1]}={r[2]}" for r in GOOD])
def test_good_values(section: str, key: str, value: Any, want: Any) -> None:
    got = getattr(getattr(parse({section: {key: value}}), section), key)
    assert got == want and type(got) is type(want)


def test_a_full_snmp_user() -> None:
    fields = {"name": "sw1", "auth": "sha256", "auth_password": "authpass12", "privacy": "aes"}
    fields |= {"privacy_password": "privpass12", "engine_id": "8000000001020304"}
    (user,) = parse({"snmp": {"users": [fields]}}).snmp.users
    assert dataclasses.asdict(user) == fields


def test_control_socket_lives_beside_the_state() -> None:
    assert parse({"dhcp": {"state_dir": "/srv/b"}}).control.socket == Path("/srv/b/control.sock")
    assert parse({"control": {"socket": None}}).control.socket == config.Control().socket
    both = parse({"dhcp": {"state_dir": "/srv/b"}, "control": {"socket": "/run/c"}})
    assert both.control.socket == Path("/run/c")


def test_a_byte_order_mark_is_tolerated() -> None:
    assert parse(b"\xef\xbb\xbf{}").path == FILE


def test_config_is_frozen_pickles_and_keeps_secrets_out_of_its_repr() -> None:
    user = {"name": "sw1", "auth": "sha", "auth_password": "auth-secret"}
    content = {"dhcp": {"api_token": "token-secret"}, "snmp": {"communities": ["comm-secret"], "users": [user]}}
    got = parse(content)
    with pytest.raises(dataclasses.FrozenInstanceError):
        got.dhcp.port = 6767  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(got)) == got
    assert hash(got) == hash(parse(content))
    assert "secret" not in repr(got) and "secret" not in repr(got.snmp.users)


# --- faults ----------------------------------------------------------------------------------------------------------

_NAN, _INF = float("nan"), float("inf")
WRONG: list[tuple[str, str, Any, str]] = [
    ("http", "bind_address", "10.0.0.256", "an IP address or host name"),
    ("http", "bind_address", "", "an IP address or host name"),
    ("http", "bind_port", "9996", "write 9996 without quotes"),
    ("http", "bind_port", 0, "1..65535"),
    ("http", "bind_port", 65536, "1..65535"),
    ("http", "bind_port", True, "found true; wanted a whole number"),
    ("http", "bind_port", 67.0, "found 67.0"),
    ("http", "bind_port", 10**100, "a number of 333 bits"),
    ("dhcp", "api_url", "localhost:9996", "write http://localhost:9996"),
    ("dhcp", "api_url", "ftp://localhost", "use http:// or https://"),
    ("dhcp", "api_url", "http://", "wanted a URL"),
    ("dhcp", "api_url", "http://host:99999", "wanted a URL"),
    ("dhcp", "api_url", "http://[::1", "wanted a URL"),
    ("dhcp", "api_url", "http://host/?a=b", "wanted a URL"),
    ("dhcp", "api_url", "http://a b", "wanted a URL"),
    ("dhcp", "api_url", "", "wanted a URL"),
    ("dhcp", "api_url", None, "found null"),
    ("dhcp", "update_ipmi", 1, "wanted true or false; write true or false without quotes"),
    ("dhcp", "update_ipmi", "true", "without quotes"),
    ("dhcp", "extra_options", ["66"], "found a list of 1; wanted an object"),
    ("dhcp", "extra_options", {"0": "a"}, "1..254"),
    ("dhcp", "extra_options", {"255": "a"}, "1..254"),
    ("dhcp", "extra_options", {"x": "a"}, "1..254"),
    ("dhcp", "extra_options", {"٣": "a"}, "1..254"),
    ("dhcp", "extra_options", {"66": 5}, "wanted a name of letters"),
    ("dhcp", "extra_options", {"66": ""}, "wanted a name of letters"),
    ("dhcp", "extra_options", {"66": "tftp_server", "150": "TFTP-server"}, "which option 66 is called already"),
    ("dhcp", "interfaces", "eth0", "put it in brackets"),
    ("dhcp", "interfaces", ["eth0", "eth0"], 'dhcp.interfaces[1]: found "eth0" a second time'),
    ("dhcp", "interfaces", ["a/b"], "wanted an interface name"),
    ("dhcp", "interfaces", ["abcdefghijklmnop"], "wanted an interface name"),
    ("dhcp", "interfaces", [".."], "wanted an interface name"),
    ("dhcp", "workers", 0, "1..64"),
    ("dhcp", "workers", 65, "1..64"),
    ("dhcp", "workers", "4", "write 4 without quotes"),
    ("dhcp", "workers", "many", '"auto" or a whole number 1..64'),
    ("dhcp", "port", -1, "1..65535"),
    ("dhcp", "refresh_interval", 0, "1..604800, or null"),
    ("dhcp", "refresh_interval", _NAN, "found NaN"),
    ("dhcp", "refresh_interval", _INF, "found Infinity"),
    ("dhcp", "refresh_interval", True, "found true"),
    ("dhcp", "server_id", "2001:db8::1", "an IPv4 address"),
    ("dhcp", "server_id", "0.0.0.0", "no host's address"),
    ("dhcp", "server_id", "255.255.255.255", "no host's address"),
    ("dhcp", "server_id", "224.0.0.1", "no host's address"),
    ("dhcp", "server_id", 3221225985, "an IPv4 address"),
    ("dhcp", "server_ids", ["192.0.2.1", "x"], 'dhcp.server_ids[1]: found "x"'),
    ("dhcp", "relays", ["10.0.0.1/8"], "clear the host bits"),
    ("dhcp", "relays", ["10.0.0.0/33"], "dhcp.relays[0]"),
    ("dhcp", "relays", None, "found null"),
    ("dhcp", "max_shrink", 1.1, "a number 0..1"),
    ("dhcp", "max_shrink", "0.2", "a number 0..1"),
    ("dhcp", "max_nak_age", -1, "a number 0..2678400"),
    ("dhcp", "state_dir", "var/lib", "an absolute path"),
    ("dhcp", "state_dir", "/a\0b", "an absolute path"),
    ("dhcp", "state_dir", "/" + "x" * 120, "control.socket: found"),
    ("dhcp", "user", "a b", "a user name, or null"),
    ("dhcp", "io", "xdp", 'found "xdp" without dhcp.interfaces'),
    ("dhcp", "io", "dpdk", 'wanted "socket" or "xdp"'),
    ("dhcp", "mode", "watch", 'found "watch"; wanted "serve" or "observe"'),
    ("dhcp", "mode", None, 'found null; wanted "serve" or "observe"'),
    ("dhcp", "bootp", None, "true or false"),
    ("dhcp", "bmc_rules", [{"vendor_class": "x", "role": "card"}], 'found "card"; wanted "host" or "bmc"'),
    ("dhcp", "bmc_rules", [{"vendor_class": "x" * 30}], "at most 29"),
    ("dhcp", "bmc_rules", [{"vendor": "x"}], 'an object of "vendor"'),
    ("dhcp", "bmc_rules", [{"vendor_class": "x", "user_class": "y"}], "one of vendor_class"),
    ("dhcp", "bmc_rules", [{"requested_options": [0]}], "requested_options"),
    ("dhcp", "bmc_rules", ["iDRAC"], "an object such as"),
    ("dhcp", "api_token", "a\nb", "a str (not shown)"),
    ("dhcp", "ipmi_port_name", "", "a port name"),
    ("snmp", "bind_port", None, "1..65535"),
    ("snmp", "communities", "public", "a str (not shown)"),
    ("snmp", "users", [{}], "snmp.users[0]: found no name"),
    ("snmp", "users", [{"auth": "sha"}], "no name"),
    ("snmp", "users", ["sw1"], "wanted an object of name"),
    ("snmp", "users", [{"name": "a", "pass": "b"}], 'the field "pass"'),
    ("snmp", "users", [{"name": "a", "auth": "rot13"}], "snmp.users[0].auth"),
    ("snmp", "users", [{"name": "a", "auth": "sha"}], "only one of protocol and password"),
    ("snmp", "users", [{"name": "a", "privacy": "aes", "privacy_password": "12345678"}], "auth as well"),
    ("snmp", "users", [{"name": "a", "engine_id": "xyz"}], "snmp.users[0].engine_id"),
    ("snmp", "proxies", [1], "snmp.proxies[0]: found 1"),
    ("snmp", "rackfactory", "a-b", "a Python module name"),
    ("snmp", "max_macs_per_port", 0, "1..4096"),
    ("snmp", "dry_run", "yes", "true or false"),
    ("control", "socket", "/" + "x" * 107, "at most 107 bytes"),
    ("control", "allow_uids", ["root"], "control.allow_uids[0]"),
    ("control", "allow_uids", [-1], "0..4294967294"),
    ("metrics", "bind", "9100", "an address and port"),
    ("metrics", "bind", "::1:9100", "in brackets"),
    ("metrics", "bind", "127.0.0.1:0", "an address and port"),
    ("metrics", "bind", 9100, "an address and port"),
    *fleet_rows.WRONG,
]


@pytest.mark.parametrize(("section", "key", "value", "says"), WRONG, ids=[f"{r[0]}.{r[1]}={r[2]!r:.30}" for r in WRONG])
def test_wrong_values(section: str, key: str, value: Any, says: str) -> None:
    (line,) = faults_of({section: {key: value}})
    assert says in line
    assert "found " in line and "; wanted " in line and line.count("; ") >= 2
    if "control.socket" not in says:
        assert line.startswith(f"services.conf: {section}.{key}")


def test_every_key_refuses_every_wrong_json_type() -> None:
    for section, key in KEYS:
        for value in (None, True, 1.5, "\0", [], {}, [[]], [None], {"": 0}):
            try:
                parse({section: {key.name: value}})
            except ConfigFaults as caught:
                assert all(f"{section}.{key.name}" in line for line in caught.faults)


@pytest.mark.parametrize(
    "content",
    [
        {"dhcp": {"api_token": "hush \u00e9"}},
        {"dhcp": {"api_token": ["hush"]}},
        {"dhcp": {"api_url": "http://me:hush@host"}},
        {"snmp": {"communities": "hush"}},
        {"snmp": {"communities": ["hush", "hush"]}},
        {"snmp": {"communities": ["hu sh", "hush\n"]}},
        {"snmp": {"users": "hush"}},
        {"snmp": {"users": ["hush"]}},
        {"snmp": {"users": [{"name": "a", "auth": "sha", "auth_password": "hush"}]}},
    ],
    ids=str,
)
def test_faults_never_quote_a_secret(content: Any) -> None:
    assert "hush" not in "".join(faults_of(content))


UNKNOWN: list[tuple[Any, str]] = [
    ({"dhcp": {"bind_port": 67}}, "dhcp.bind_port: unknown key; did you mean http.bind_port?"),
    ({"dhcp": {"prot": 67}}, "dhcp.prot: unknown key; did you mean dhcp.port?"),
    ({"dhcp": {"API-URL": ""}}, "dhcp.API-URL: unknown key; did you mean dhcp.api_url?"),
    ({"snmp": {"allow_uids": []}}, "snmp.allow_uids: unknown key; did you mean control.allow_uids?"),
    ({"snmp": {"max_shrnk": 1}}, "snmp.max_shrnk: unknown key; did you mean dhcp.max_shrink?"),
    ({"dhpc": {}}, "dhpc: unknown key; did you mean dhcp?"),
    ({"api_url": "http://x"}, "api_url: unknown key; did you mean dhcp.api_url?"),
    ({"qqqq": {}}, "qqqq: unknown key; wanted one of http, dhcp, snmp, control, metrics, board, log, fleet; remove it"),
    ({"metrics": {"qqqq": {}}}, "metrics.qqqq: unknown key; wanted one of bind; remove it"),
    ({"dhcp": {"": 1}}, 'dhcp."": unknown key; wanted one of api_url'),
    ({"dhcp": {"a\nb": 1}}, 'dhcp."a\\nb": unknown key'),
    ({"dhcp": {"x" * 90000: 1}}, "(90002 characters): unknown key"),
]


@pytest.mark.parametrize(("content", "says"), UNKNOWN, ids=[row[1][:50] for row in UNKNOWN])
def test_unknown_keys(content: Any, says: str) -> None:
    (line,) = faults_of(content)
    assert says in line


def test_all_faults_come_at_once() -> None:
    lines = faults_of(
        b'{"http": [], "dhcp": {"port": "67", "prot": 1, "workers": 99, "relays": ["x", "10.0.0.0/8", "y"],'
        b' "port": 1e999,'
        b' "extra_options": {"66": "a", "66": "b", "999": "c"}}, "dhcp2": 1, "metrics": {"bind": NaN}}'
    )
    starts = [line.removeprefix("services.conf: ").partition(": ")[0] for line in lines]
    want = "http dhcp2 dhcp.prot dhcp.port dhcp.port dhcp.workers dhcp.relays[0] dhcp.relays[2] metrics.bind "
    want += 'dhcp.extra_options["999"] dhcp.extra_options.66'
    assert sorted(starts) == sorted(want.split())
    assert "services.conf: dhcp.port: found twice; wanted once; remove one" in lines


def test_a_hostile_file_costs_neither_many_lines_nor_many_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    guessed: list[str] = []
    monkeypatch.setattr(config, "_nearest", lambda section, name: guessed.append(name))
    lines = faults_of({"dhcp": {f"port{n}": n for n in range(50_000)}})
    assert len(lines) == config.MAX_FAULTS + 1
    assert lines[-1] == "services.conf: and 49900 more faults; correct these first"
    assert len(guessed) == config.MAX_FAULTS


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "line 1 column 1: not JSON"),
        (b'{"dhcp":\n {"port" 67}}', "line 2 column 10: not JSON"),
        (b"{'dhcp': {}}", "line 1 column 2: not JSON"),
        (b"[]", "found a list of 0; wanted an object"),
        (b'"dhcp"', 'found "dhcp"; wanted an object'),
        (b"null", "found null; wanted an object"),
        (b"NaN", "found NaN; wanted an object"),
        (b'{\n"dhcp": "k\xf6ln"}', "line 2: found byte 0xf6; wanted UTF-8"),
        (b"\xff\xfe{\0}\0", "line 1: found byte 0xff; wanted UTF-8"),
        (b"[" * 100_000, "not usable JSON"),
        (b'{"dhcp": {"port": ' + b"9" * 5000 + b"}}", "not usable JSON"),
        (b'{"dhcp": {}, "dhcp": {}}', "dhcp: found twice; wanted once"),
        (b'{"dhcp": null}', "dhcp: found null; wanted an object"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_files_that_are_no_config(content: bytes, says: str) -> None:
    (line,) = faults_of(content)
    assert says in line


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_section = st.dictionaries(st.sampled_from([key.name for _, key in KEYS]), _json, max_size=5)


@pytest.mark.property
@settings(max_examples=300, deadline=None)
@given(content=st.dictionaries(st.sampled_from([*config._SECTIONS, "other"]), _section | _json, max_size=4))
def test_any_json_gives_a_config_or_faults(content: Any) -> None:
    try:
        assert parse(content).path == FILE
    except ConfigFaults as caught:
        assert caught.faults and all(line.isprintable() for line in caught.faults)


@pytest.mark.property
@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=60))
def test_any_bytes_give_a_config_or_faults(content: bytes) -> None:
    try:
        assert parse(content).path == FILE
    except ConfigFaults as caught:
        assert caught.faults


# --- files and the search path ---------------------------------------------------------------------------------------


def _conf(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def test_load(tmp_path: Path) -> None:
    path = _conf(tmp_path / "services.conf", ORIGINAL)
    assert load(path) == load(str(path)) == dataclasses.replace(parse(ORIGINAL), path=path)


def _missing(path: Path) -> None:
    pass


def _big(path: Path) -> None:
    path.write_bytes(b" " * 10_000_000)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_missing, "can't be read (No such file or directory); create it"),
        (Path.mkdir, "found a directory; wanted a JSON file"),
        (os.mkfifo, "found a device, pipe or socket; wanted a JSON file"),
        (_big, "found a larger file; wanted at most 1048576 bytes"),
        (lambda path: path.symlink_to(path), "can't be read (Too many levels of symbolic links)"),
    ],
    ids=["missing", "directory", "pipe", "10MB", "loop"],
)
def test_load_refuses(tmp_path: Path, make: Callable[[Path], object], says: str) -> None:
    path = tmp_path / "x.conf"
    make(path)
    with pytest.raises(ConfigFaults) as caught:
        load(path)
    (line,) = caught.value.faults
    assert line.startswith(f"{path}: ") and says in line


def test_load_of_a_path_that_no_file_can_have() -> None:
    for path in ("a\0b", "x" * 5000):
        with pytest.raises(ConfigFaults, match="can't be read"):
            load(path)


def test_permission_denied_is_a_fault_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ConfigFaults, match=r"services.conf: can't be read \(Permission denied\); let the user"):
        load(FILE)


def test_search_path_is_clustos() -> None:
    etc, here = Path("/etc/clusto/services.conf"), Path("services.conf")
    assert config.search_path("/home/op") == (etc, Path("/home/op/.clusto/services.conf"), here)
    assert config.search_path(None) == config.search_path("") == (etc, here)


def test_first_existing_file_is_taken(tmp_path: Path) -> None:
    paths = [tmp_path / name / "services.conf" for name in "abc"]
    _conf(paths[1], {"dhcp": {"port": 1067}})
    _conf(paths[2], {"dhcp": {"port": 2067}})
    got, passed_over = load_first(paths)
    assert (got.dhcp.port, got.path, passed_over) == (1067, paths[1], ())


def test_an_unparsable_file_is_reported_and_the_next_taken(tmp_path: Path) -> None:
    paths = [_conf(tmp_path / "a", b"{"), tmp_path / "b", _conf(tmp_path / "c", {})]
    paths[1].mkdir()
    got, passed_over = load_first(paths)
    assert got.path == paths[2]
    assert [line.partition(": ")[0] for line in passed_over] == [str(paths[0]), str(paths[1])]


def test_a_faulty_file_is_never_passed_over(tmp_path: Path) -> None:
    paths = [_conf(tmp_path / "a", {"dhcp": {"port": 0}}), _conf(tmp_path / "b", {})]
    with pytest.raises(ConfigFaults, match=r"dhcp\.port: found 0"):
        load_first(paths)


def test_no_file_at_all(tmp_path: Path) -> None:
    paths = [_conf(tmp_path / "a", b"{"), tmp_path / "b"]
    with pytest.raises(ConfigFaults) as caught:
        load_first(paths)
    assert len(caught.value.faults) == 2
    assert "no usable file at" in caught.value.faults[1] and str(paths[1]) in caught.value.faults[1]


# --- meaning ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "cpus", "want"), [("auto", 2, 2), ("auto", 96, 16), ("auto", 0, 1), (5, 2, 5)])
def test_resolve_workers(workers: Any, cpus: int, want: int) -> None:
    assert config.resolve_workers(workers, cpus) == want


@pytest.mark.parametrize(("setting", "last", "want"), [(None, 1.0, 300.0), (None, 20.0, 400.0), (60.0, 20.0, 60.0)])
def test_resolve_refresh_interval(setting: float | None, last: float, want: float) -> None:
    assert config.resolve_refresh_interval(setting, last) == want


RESTART = {f"dhcp.{key}" for key in ["workers", "port", "state_dir", "user", "io", "mode", "drop_strangers"]}
RESTART |= {"control.socket", "dhcp.boot_port", "snmp.bind_address", "snmp.bind_port", "metrics.bind", "log.format"}
# One changed value for each key; a new key has to be added here, and its author to decide about restarts.
CHANGED: dict[str, Any] = {
    "http.bind_address": "::1",
    "http.bind_port": 1,
    "dhcp.api_url": "https://x",
    "dhcp.update_ipmi": True,
    "dhcp.extra_options": {"240": "a"},
    "dhcp.interfaces": ("eth0",),
    "dhcp.workers": 4,
    "dhcp.port": 1067,
    "dhcp.refresh_interval": 5.0,
    "dhcp.server_id": IPv4Address("192.0.2.1"),
    "dhcp.server_ids": (IPv4Address("192.0.2.1"),),
    "dhcp.relays": (IPv4Network("192.0.2.0/24"),),
    "dhcp.max_shrink": 0.5,
    "dhcp.max_nak_age": 5.0,
    "dhcp.state_dir": Path("/srv"),
    "dhcp.user": "dhcp",
    "dhcp.io": "xdp",
    "dhcp.mode": "observe",
    "dhcp.boot_port": 0,
    "dhcp.drop_strangers": True,
    "dhcp.bootp": True,
    "dhcp.api_token": "hush",
    "dhcp.api_ca": Path("/etc/ca.pem"),
    "dhcp.boot_ports": "all",
    "dhcp.bmc_rules": (Rule("vendor_class", "bmc", b"x"),),
    "dhcp.classes": (SiteClass("onie", "os", (("vendor_class", ((b"onie", True),)),)),),
    "dhcp.ipmi_port_name": "bmc",
    "snmp.bind_address": "::",
    "snmp.bind_port": 1162,
    "snmp.communities": ("hush",),
    "snmp.users": (SnmpUser(name="a"),),
    "snmp.proxies": (IPv4Network("192.0.2.0/24"),),
    "snmp.traps": ("cisco-mac-notification",),
    "snmp.rackfactory": "factory",
    "snmp.max_macs_per_port": 2,
    "snmp.name_manager": "names",
    "snmp.dry_run": True,
    "control.socket": Path("/run/c"),
    **dict.fromkeys(("control.allow_uids", "control.read_uids", "control.read_gids"), (7,)),
    "metrics.bind": ("127.0.0.1", 9100),
    "board.bind": ("127.0.0.1", 9971),
    "board.user": "board",
    "board.token_file": Path("/etc/token"),
    "board.names": ("board.example",),
    "board.title": "dc1",
    "log.format": "json",
    **fleet_rows.CHANGED,
}


@pytest.mark.parametrize(("section", "key"), KEYS, ids=[f"{section}.{key.name}" for section, key in KEYS])
def test_changes_needing_restart(section: str, key: Any) -> None:
    full = f"{section}.{key.name}"
    old = Config()
    new = dataclasses.replace(old, **{section: dataclasses.replace(getattr(old, section), **{key.name: CHANGED[full]})})
    sentences = changes_needing_restart(old, new)
    assert len(sentences) == (full in RESTART)
    for sentence in sentences:
        assert sentence.startswith(f"{full}: a change from ") and " needs a restart: " in sentence
    assert changes_needing_restart(new, new) == []


def test_a_restart_sentence_in_full() -> None:
    old, new = parse({}), parse({"dhcp": {"workers": 4}})
    assert changes_needing_restart(old, new) == [
        'dhcp.workers: a change from "auto" to 4 needs a restart: '
        "the kernel spreads requests over sockets that are made once, at the start"
    ]


@pytest.mark.parametrize("old, new", [({}, {"snmp": {}}), ({"snmp": {}}, {})], ids=["added", "taken away"])
def test_the_trap_receiver_comes_and_goes_with_a_restart(old: Any, new: Any) -> None:
    (sentence,) = changes_needing_restart(parse(old), parse(new))
    assert sentence.startswith("snmp: ") and "needs a restart" in sentence


@pytest.mark.parametrize("address", ["::", "localhost", "224.0.0.1", "10.0.0.256", ""])
def test_traps_are_received_on_ipv4(address: str) -> None:
    with pytest.raises(ConfigFaults, match=r"snmp\.bind_address: found .*; wanted an IPv4 address of this"):
        parse({"snmp": {"bind_address": address}})
