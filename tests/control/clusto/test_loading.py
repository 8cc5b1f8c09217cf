"""Files into the store and back: nothing changes at the second load, every bad row is named, nothing is half done."""

from pathlib import Path

import pytest

from control.clusto.client import BasicServer, IPManager, Pool, connect, get, get_by_name
from control.clusto.loading import dump_file, load_file
from control.clusto.store import Store
from tests.control.clusto.support import load_fixture, new_store, running

YAML = """
networks:
  - {base: 10.88.0.0, mask: 255.255.255.0, gateway: 10.88.0.1}
  - {base: 10.77.0.0, mask: 255.255.255.0, name: other}
pools:
  - {name: boot, pools: [all], dhcp: {enabled: 1, tftp_server: 10.88.0.1}}
  - {name: all, dhcp: {domain: exämple.org, enabled: true}}
hosts:
  - {name: a, mac: "02:E2:E0:00:00:11", addresses: [10.88.0.11, 10.77.0.11], pool: boot}
  - {name: b, mac: 52-54-00-e2-00-01, addresses: [10.88.0.21], pools: [boot, spare], driver: penguinserver,
     dhcp: {lease_time: 7200}}
  - {name: c}
"""

CSV = """base,mask,gateway
10.88.0.0,255.255.255.0,10.88.0.1

name,mac,address,pool,dhcp.enabled,dhcp.domain
a,02:e2:e0:00:00:11,10.88.0.11 10.88.0.12,boot,1,example.org
b,02:e2:e0:00:00:12,10.88.0.13,,,
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return new_store(tmp_path)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def counted(report: object) -> tuple[int, int, int]:
    return report.added, report.changed, report.unchanged  # type: ignore[attr-defined]


def test_yaml_twice_then_over_http(tmp_path: Path, store: Store) -> None:
    path = write(tmp_path, "hosts.yaml", YAML)
    dry = load_file(store, path, dry_run=True)
    assert (counted(dry), dry.errors, dry.written) == ((8, 0, 0), [], False)
    report = load_file(store, path)
    assert (counted(report), report.errors, report.written) == ((8, 0, 0), [], True)
    assert counted(load_file(store, path)) == (0, 0, 8)
    with running(store) as url:
        connect(url)
        a, boot = get_by_name("a"), get_by_name("boot")
        assert isinstance(a, BasicServer)
        assert (a.get_port_attr("nic-eth", 1, "mac"), a.get_ips()) == (
            "02:e2:e0:00:00:11",
            ["10.88.0.11", "10.77.0.11"],
        )
        assert get("10.77.0.11") == [a]
        assert IPManager.get_ip_manager("10.88.0.7").name == "net-10-88-0-0"
        assert a.attr_values("dhcp", subkey="domain", merge_container_attrs=True) == ["exämple.org"]
        assert [member.name for member in boot.contents()] == ["a", "b"]
        Pool("boot").insert(get_by_name("c"))
        assert [attr.number for attr in boot.attrs("_contains")] == [0, 1, 2]
        a.bind_ip("10.88.0.12")


def test_csv(tmp_path: Path, store: Store) -> None:
    path = write(tmp_path, "hosts.csv", CSV)
    assert counted(load_file(store, path)) == (4, 0, 0)
    assert counted(load_file(store, path)) == (0, 0, 4)
    moved = CSV.replace("10.88.0.11 10.88.0.12", "10.88.0.12 10.88.0.13").replace("12,10.88.0.13", "12,10.88.0.11")
    assert counted(load_file(store, write(tmp_path, "moved.csv", moved))) == (0, 2, 2)
    with running(store) as url:
        connect(url)
        assert get_by_name("a").attr_values("ip", subkey="ipstring") == ["10.88.0.12", "10.88.0.13"]
        assert get_by_name("a").attr_value("dhcp", subkey="enabled") == 1
        assert [server.name for server in get("10.88.0.11")] == ["b"]


def test_every_bad_row_is_named_and_nothing_is_written(tmp_path: Path, store: Store) -> None:
    text = """
networks: [{base: 10.0.0.1, mask: 255.0.0.0}, {base: 10.0.0.0, mask: 255.0.0.0, gateway: 11.0.0.1}]
hosts:
  - {name: a b}
  - {name: c, mac: 1}
  - {name: d, addresses: [10.0.0.256]}
  - {name: e, dhcp: {x: 1.5}}
  - {name: f, colour: red}
  - {name: g, driver: pool}
  - h
racks: []
"""
    report = load_file(store, write(tmp_path, "bad.yaml", text))
    assert (len(report.errors), report.written) == (10, False)
    assert any(line.startswith("bad.yaml: hosts 2 (c): mac 1; wanted six octets") for line in report.errors)
    assert load_file(store, write(tmp_path, "worse.yaml", "{")).errors[0].startswith("worse.yaml: not YAML")


def test_conflicts_are_named(tmp_path: Path, store: Store) -> None:
    load_fixture(store)
    text = """
hosts:
  - {name: n1, mac: "00:11:22:33:44:55", addresses: [192.168.1.51]}
  - {name: n2, mac: "00:00:00:00:00:01", addresses: [9.9.9.9]}
  - {name: n3, mac: "00:00:00:00:00:01", addresses: [192.168.1.77]}
  - {name: n3}
  - {name: production}
"""
    report = load_file(store, write(tmp_path, "hosts.yaml", text))
    said = "\n".join(report.errors)
    for wanted in (
        "(n1): mac 00:11:22:33:44:55 belongs to ex0000",
        "(n1): address 192.168.1.51 belongs to ex0001",
        "(n2): address 9.9.9.9 is in networks: none",
        "(n3): mac 00:00:00:00:00:01 is also of n2",
        "(n3): name n3 is also at",
        "(production): /pool/production exists; wanted a server",
    ):
        assert wanted in said
    assert not report.written


def test_what_is_dumped_loads_into_the_same(tmp_path: Path, store: Store) -> None:
    load_fixture(store)
    dumped = tmp_path / "dump.yaml"
    assert dump_file(store, dumped) == 5 + 5 + 8
    assert counted(load_file(store, dumped)) == (0, 0, 18)
    (tmp_path / "other").mkdir()
    other = new_store(tmp_path / "other")
    assert load_file(other, dumped).errors == []
    again = tmp_path / "again.yaml"
    dump_file(other, again)
    assert again.read_text(encoding="utf-8") == dumped.read_text(encoding="utf-8")
    other.close()
