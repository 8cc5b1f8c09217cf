"""Networks of a host file with their `dhcp`, and what stands there of IPv6: the same as loaded and read over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest
from ext.leases import LeaseState as State

from control.clusto.hostfile import HostFile, parse, render
from control.config.config import Dhcp
from control.plan.networks import group_number
from control.plan.plan import Rules, plan_hosts
from control.sources.model import Source
from tests.control.sources.test_filesource import over_http, source_of

YAML = """
networks:
- {name: a, base: 10.1.0.0, mask: 255.255.255.0, gateway: 10.1.0.1,
   dhcp: {shared: v, NTP_server: [10.1.0.3, 10.1.0.4]}}
- {name: b, base: 10.2.0.0, mask: 255.255.255.0, dhcp: {shared: v, tftp_filename--uefi-x64: b.efi, lease_time: 600}}
- {name: alone, base: 198.51.100.7, mask: 255.255.255.255, gateway: 10.1.0.1}
- {name: six, base: "2001:db8::", mask: 64, gateway: "2001:db8::1", dhcp: {domain: six.example}}
- {name: six-too, base: "2001:db8:1::", mask: "ffff:ffff:ffff::"}
pools: [{name: p, dhcp: {enabled: 1}}]
hosts:
- {name: one, mac: "02:00:00:00:00:01", addresses: ["2001:db8::11", 10.1.0.11, 10.2.0.11], pool: p}
- {name: two, mac: "02:00:00:00:00:02", address: 10.2.0.12, pool: p}
- {name: vm, mac: "02:00:00:00:00:03", addresses: [198.51.100.7, {address: "2001:db8::7", osportname: eth0}], pool: p}
- {name: only6, mac: "02:00:00:00:00:04", address: "2001:db8::4", pool: p}
"""
CSV = """base,mask,gateway,name,dhcp.shared,dhcp.name_server
10.1.0.0,255.255.255.0,10.1.0.1,a,v,10.1.0.3
10.2.0.0,255.255.255.0,,b,v,
2001:db8::,64,,six,,

name,mac,address,dhcp.enabled
one,02:00:00:00:00:01,2001:db8::11 10.1.0.11,1
"""


def write(folder: Path, text: str, name: str = "hosts.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def rules_of(source: Source) -> Rules:
    return Rules(source.read().whole(), Dhcp())


def test_a_file_and_what_was_loaded_from_it_say_the_same(tmp_path: Path) -> None:
    path = write(tmp_path, YAML)
    read = rules_of(source_of(path))
    with over_http(tmp_path, path) as fetcher:
        loaded = rules_of(fetcher)
        told = plan_hosts(fetcher.read().whole(), Dhcp())
    assert (read.shared, sorted(read.networks)) == (loaded.shared, sorted(loaded.networks))
    assert {group for _first, _last, group in read.shared} == {group_number("v")} and len(read.shared) == 2
    plan = plan_hosts(source_of(path).read().whole(), Dhcp())
    rows = {row.name: row for row in plan.rows}
    assert {row.name: row[:5] for row in told.rows} == {name: row[:5] for name, row in rows.items()}
    assert plan.faults == told.faults == {}
    assert rows["only6"].state is State.NO_ADDRESS
    assert [lease[1] for lease in rows["vm"].leases] == [32]
    first, second = rows["one"].leases
    assert bytes((42, 8, 10, 1, 0, 3, 10, 1, 0, 4)) in first[2].options and second[2].lease_s == 600


def test_csv_has_columns_for_the_options_of_a_network(tmp_path: Path) -> None:
    rules = rules_of(source_of(write(tmp_path, CSV, "hosts.csv")))
    assert len(rules.shared) == 2 and rules.all_faults() == {}
    plan = plan_hosts(source_of(tmp_path / "hosts.csv").read().whole(), Dhcp())
    assert [row.state for row in plan.rows] == [State.SERVED]


@pytest.mark.parametrize(
    "row, wanted",
    [
        ("{base: 10.1.0.0, mask: 255.255.255.0, gateway: 10.9.0.1}", "wanted one inside 10.1.0.0/24"),
        ("{base: 10.1.0.0, mask: 255.255.255.0, gateway: '2001:db8::1'}", "wanted an IPv4 address"),
        ("{base: 10.1.0.0, mask: '2001:db8::'}", "wanted a network's first address and mask"),
        ("{base: 10.1.0.0, mask: 255.255.255.0, dhcp: x}", "wanted a mapping of option to value"),
        (
            "{base: 10.1.0.0, mask: 255.255.255.0, shared: v}",
            "field 'shared'; wanted only name, base, mask, gateway, dhcp",
        ),
        ("{base: '2001:db8::g', mask: 64}", "wanted a network's first address and mask"),
    ],
)
def test_a_bad_row_of_a_network_is_named(row: str, wanted: str) -> None:
    found = parse(f"networks: [{row}]", "hosts.yaml")
    assert found.networks == [] and len(found.errors) == 1 and wanted in found.errors[0]


def test_a_written_file_reads_back_alike() -> None:
    found = parse(YAML, "hosts.yaml")
    assert found.errors == [] and [row.name for row in found.networks] == ["a", "b", "alone"]
    again = parse(render(found), "hosts.yaml")

    def comparable(file: HostFile) -> list[object]:
        return [(row.name, row.network, row.gateway, dict(row.dhcp)) for row in file.networks]

    assert comparable(again) == comparable(found)


def test_two_rows_of_a_network_that_say_other_options(tmp_path: Path) -> None:
    """Either may be right: hosts that depend on it stay as they are served."""
    second = "- {name: a, base: 10.1.0.0, mask: 255.255.255.0, gateway: 10.1.0.1, dhcp: {shared: w}}\npools:"
    frame = source_of(write(tmp_path, YAML.replace("pools:", second, 1))).read().frame
    assert list(frame.unread) == ["/resourcemanager/a"]
