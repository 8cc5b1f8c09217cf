"""Every row of a host file is a row or a fault with its line, however the file was edited, saved or spread out."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from control.clusto.errors import InventoryDown
from control.clusto.hostfile import HostFile, parse
from control.clusto.server.dumping import dump_file
from control.clusto.server.loading import load_file
from control.sources.filesource import FileSource
from tests.control.clusto.support import new_store

NETWORKS = "base,mask,gateway\n10.20.0.0,255.255.255.0,10.20.0.1\n\n"
POOLS = "name,dhcp.enabled,dhcp.tftp_server,dhcp.tftp_filename\nracks,1,10.20.0.2,/a\n\n"
HEADER = "name,mac,address,pool\n"
NAMES = [f"node{n}" for n in range(1, 6)]
ROWS = [f"{name},02:00:00:00:00:0{n},10.20.0.1{n},racks\n" for n, name in enumerate(NAMES, 1)]
FRAME = NETWORKS + POOLS
MARK = b"\xef\xbb\xbf"


def hosts_and_faults(folder: Path, content: str | bytes, name: str = "hosts.csv") -> tuple[list[str], str]:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    hosts, faults = [], dict[str, None]()
    for batch in FileSource(path.as_uri()).read().batches:
        hosts += [thing.name for thing in batch.things()]
        faults |= dict.fromkeys(fault for some in batch.faults.values() for fault in some)
    return hosts, "\n".join(faults)


def names(found: HostFile) -> list[str]:
    return [row.name for rows in (found.networks, found.pools, found.hosts) for row in rows]


# --- CSV: what is a header -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["\n", ",,,\n", " , \n\n,\n", "\r\n"])
@pytest.mark.parametrize("before", range(5))
def test_a_blank_line_among_hosts_loses_nobody(tmp_path: Path, line: str, before: int) -> None:
    text = FRAME + HEADER + "".join(ROWS[:before]) + line + "".join(ROWS[before:])
    assert hosts_and_faults(tmp_path, text) == (NAMES, "")


def test_blank_lines_among_networks_and_pools_lose_none_either() -> None:
    text = NETWORKS + "10.30.0.0,255.255.255.0,\n\n" + POOLS + "gpu,1,,/b\n\nrack,,,\n\n" + HEADER + "".join(ROWS)
    found = parse(text, "hosts.csv")
    assert names(found) == ["net-10-20-0-0", "net-10-30-0-0", "racks", "gpu", "rack", *NAMES]
    assert not found.errors


@pytest.mark.parametrize("pool", ["name", "rack", "pool", "base", "mac"])
def test_a_pool_may_be_called_as_a_column_is(tmp_path: Path, pool: str) -> None:
    text = FRAME + HEADER + "".join(ROWS[:4]) + "\n" + ROWS[4].replace("racks", pool)
    assert hosts_and_faults(tmp_path, text) == (NAMES, "")


def test_a_table_needs_no_blank_line_above_it_and_may_be_written_in_capitals(tmp_path: Path) -> None:
    text = FRAME.replace("\n\n", "\n") + "Name,MAC,Address,Pool\n" + "".join(ROWS)
    assert hosts_and_faults(tmp_path, text) == (NAMES, "")


@pytest.mark.parametrize(
    "header, said",
    [
        pytest.param(
            "nmae,mac,address,pool\n", "line 7: found 'nmae,mac,address,pool', wanted a header", id="mistyped"
        ),
        pytest.param("hostname,mac,address,pool\n", "wanted a header with a column name or base", id="no-name"),
        pytest.param("", "line 7: a MAC in the table of line 4; wanted a header above the hosts", id="none"),
        pytest.param("Host,Ether,IP,Group\n", "line 8: a MAC in the table of line 4", id="unknown-words"),
        pytest.param("name,mac,mac,pool\n", "line 7: column 'mac' stands twice", id="a-column-twice"),
        pytest.param("name,mac,MAC,pool\n", "line 7: column 'mac' stands twice", id="a-column-twice-in-capitals"),
    ],
)
def test_hosts_below_a_header_that_is_none_are_not_lost_without_a_word(tmp_path: Path, header: str, said: str) -> None:
    hosts, faults = hosts_and_faults(tmp_path, FRAME + header + "".join(ROWS))
    assert hosts == [] and said in faults


@pytest.mark.parametrize(
    "text, said",
    [
        ("".join(ROWS), "line 1: found 'node1,02:00:00:00:00:01,10.20.0.11,racks', wanted a header"),
        ((HEADER + "".join(ROWS)).replace(",", ";"), "wanted commas between the columns"),
        (HEADER + "".join(ROWS) + "\nname,02:00:00:00:00:09,,racks\n", "column '02:00:00:00:00:09' of a table"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    assert said in hosts_and_faults(tmp_path, text)[1]


@pytest.mark.parametrize("end", ["", '"\n', '",racks\nnode9,,\n'])
def test_a_quote_that_is_not_closed_costs_nothing_and_names_the_line_that_opens_it(tmp_path: Path, end: str) -> None:
    text = "name,mac,hostname\nnode1,02:00:00:00:00:01,one\n" + 'node2,02:00:00:00:00:02,"two\n' + "node3,,\n" * 9
    with pytest.raises(InventoryDown, match=r"hosts.csv: line 1.: rows of line 3 and on stand within quotes; wanted"):
        hosts_and_faults(tmp_path, text + end)


def test_quotes_and_lines_as_spreadsheets_write_them() -> None:
    text = 'name,mac,addresses,hostname\n"a" ,"02:00:00:00:00:01\n","10.1.0.1\r\n10.1.0.2", "x"\nb,,,"y'
    a, b = parse(text, "x.csv").hosts
    assert (a.name, a.mac, len(a.addresses or ()), b.hostname) == ("a", "02:00:00:00:00:01", 2, "y")


# --- how it was saved ------------------------------------------------------------------------------------------------


def test_a_mark_of_utf8_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    text = (FRAME + HEADER + "".join(ROWS)).encode()
    assert hosts_and_faults(tmp_path, MARK + text) == hosts_and_faults(tmp_path, text) == (NAMES, "")
    store = new_store(tmp_path)
    (tmp_path / "marked.csv").write_bytes(MARK + text)
    report = load_file(store, tmp_path / "marked.csv")
    store.close()
    assert (report.errors, report.rows) == ([], 7)


@pytest.mark.parametrize("name", ["hosts.csv", "hosts.yaml"])
@pytest.mark.parametrize(
    "coding, said",
    [
        ("latin-1", r"line 1002: byte 0xf6 is not UTF-8 \(perhaps Latin-1"),
        ("utf-16", "line 1: UTF-16"),
        ("utf-16-le", "line 1: UTF-16"),
        ("utf-32", "line 1: UTF-16 or UTF-32"),
    ],
)
def test_another_encoding_is_named(tmp_path: Path, name: str, coding: str, said: str) -> None:
    rows = ["name,mac\n" if name.endswith("csv") else "hosts:\n"]
    rows += [f"node{n},\n" if name.endswith("csv") else f"- {{name: node{n}}}\n" for n in range(1000)]
    text = "".join([*rows, rows[1].replace("node0", "nöde")])
    with pytest.raises(InventoryDown, match=f"{name}: {said}.*wanted UTF-8"):
        hosts_and_faults(tmp_path, text.encode(coding), name)


# --- YAML ------------------------------------------------------------------------------------------------------------


GOOD = '- {name: good, mac: "02:00:00:00:00:01", address: 10.1.0.1}\n'
HUGE = "0x" + "F" * 5000


@pytest.mark.parametrize(
    "row",
    [
        f"- {{name: a, mac: {HUGE}}}",
        f"- {{name: {HUGE}}}",
        f"- {HUGE}",
        f"- {{name: a, ? {HUGE} : 1}}",
        f"- {{name: a, address: [[{HUGE}]]}}",
        f"- {{name: a, pool: {HUGE}}}",
        f"- {{name: a, rack: r, ru: {HUGE}}}",
    ],
)
def test_a_number_that_nobody_can_write_out_costs_its_row(tmp_path: Path, row: str) -> None:
    hosts, faults = hosts_and_faults(tmp_path, f"hosts:\n{row}\n{GOOD}", "hosts.yaml")
    assert hosts == ["good"] and "hosts 1" in faults and "a number of 20000 bits" in faults and len(faults) < 600


@pytest.mark.parametrize(
    "options, said, left",
    [
        (f"lease_time: {HUGE}", "dhcp option lease_time: a number of 20000 bits; wanted text", {"lease_time": None}),
        (
            f"lease_time: [{{number: {HUGE}, value: 1}}]",
            "dhcp option lease_time: number a number",
            {"lease_time": None},
        ),
        ("domain: [a, {value: b, colour: red}]", "dhcp option domain: field 'colour'", {"domain": None}),
        ("domain: [a, [b]]", "dhcp option domain: ['b']; wanted text", {"domain": None}),
        ("domain: null", "dhcp option domain: None; wanted text", {"domain": None}),
        (f"? {HUGE} : 1", "dhcp option a number of 20000 bits; wanted a name", {}),
        ("a b: 1", "dhcp option 'a b'; wanted a name like tftp_server, or a number", {}),
        ("no: 1", "dhcp option False; wanted a name", {}),
        ("239: x, '239': y", "dhcp option 239 stands twice; wanted it once, the first counts", {"239": "x"}),
    ],
)
@pytest.mark.parametrize("kind", ["hosts", "pools"])
def test_an_option_that_cannot_be_taken_costs_that_option(
    options: str, said: str, left: dict[str, str], kind: str
) -> None:
    """The row stays, with everything else that it says."""
    found = parse(f"{kind}:\n- {{name: a, dhcp: {{enabled: 1, {options}, router: 10.0.0.1}}}}\n", "hosts.yaml")
    (row,) = found.pools or found.hosts
    assert row.dhcp == {"enabled": 1, **left, "router": "10.0.0.1"}
    assert len(found.errors) == 1 and found.errors[0].startswith(f"hosts.yaml: {kind} 1 (a): {said}")


def test_a_bare_number_is_an_option_s_name(tmp_path: Path) -> None:
    yaml_text = "pools:\n- {name: p, dhcp: {239: x, '240': y, 241--ipxe: z}}\n"
    csv_text = "name,dhcp.239,dhcp.240,dhcp.241--ipxe\np,x,y,z\n"
    for text, name in ((yaml_text, "hosts.yaml"), (csv_text, "hosts.csv")):
        found = parse(text, name)
        assert not found.errors and found.pools[0].dhcp == {"239": "x", "240": "y", "241--ipxe": "z"}
    store = new_store(tmp_path)
    (tmp_path / "hosts.yaml").write_text(yaml_text)
    assert load_file(store, tmp_path / "hosts.yaml").written
    lost: list[str] = []
    dump_file(store, tmp_path / "all.yaml", lost.append)
    store.close()
    assert not lost
    assert parse((tmp_path / "all.yaml").read_text(), "all.yaml").pools[0].dhcp == found.pools[0].dhcp


@pytest.mark.parametrize(
    "text",
    [
        f"networks:\n- {{base: {HUGE}, mask: 255.0.0.0}}\n",
        f"networks:\n- {{base: 10.0.0.0, mask: {HUGE}}}\n",
        f"pools:\n- {{name: {HUGE}}}\n",
        f"? {HUGE}\n: 1\n",
    ],
)
def test_nor_does_it_elsewhere(tmp_path: Path, text: str) -> None:
    hosts, faults = hosts_and_faults(tmp_path, f"hosts:\n{GOOD}{text}", "hosts.yaml")
    assert hosts == ["good"] and "a number of 20000 bits" in faults and len(faults) < 600


@pytest.mark.parametrize(
    "row, said",
    [
        ('- {name: a, mac: "02:00:00:00:00:02", mac: "02:00:00:00:00:03"}', "key 'mac' stands twice, on lines 2 and 2"),
        ('- name: a\n  mac: "02:00:00:00:00:02"\n  "mac": x', "key 'mac' stands twice, on lines 3 and 4"),
        ("- {name: a, dhcp: {enabled: 1, enabled: 0}}", "key 'enabled' stands twice"),
        ("- &a {name: a, pool: p, pool: q}\n- {<<: *a, name: b}", "key 'pool' stands twice"),
        ("- {name: a, address: 10.1.0.2, addresses: [10.1.0.3]}", "address '10.1.0.2' and addresses ['10.1.0.3']"),
        ("- {name: a, pool: p, pools: [q]}", "pool 'p' and pools ['q']; wanted one"),
    ],
)  # fmt: skip
def test_what_is_said_twice_costs_its_row(tmp_path: Path, row: str, said: str) -> None:
    hosts, faults = hosts_and_faults(tmp_path, f"hosts:\n{row}\n{GOOD}", "hosts.yaml")
    assert hosts == ["good"] and said in faults


def test_a_merged_mapping_may_be_said_otherwise_as_often_as_it_is_used() -> None:
    rows = "".join(f"- {{<<: *a, name: n{n}, pool: q}}\n" for n in range(3))
    found = parse(
        f"hosts:\n- &a {{name: a, pool: p}}\n- &b {{<<: *a, name: b}}\n{rows}- {{<<: [*a, *b], name: c}}\n", "x"
    )
    assert names(found) == ["a", "b", "n0", "n1", "n2", "c"] and not found.errors


@pytest.mark.parametrize("mac", ["0200.0000.0003", "020000000003", "0200-0000-0003", "02-00-00-00-00-03"])
def test_a_mac_may_be_written_as_anywhere_else(mac: str) -> None:
    for text, name in (
        (f"name,mac\na,{mac}\n", "a.csv"),
        (yaml.safe_dump({"hosts": [{"name": "a", "mac": mac}]}), "a"),
    ):
        assert [row.mac for row in parse(text, name).hosts] == ["02:00:00:00:00:03"]
