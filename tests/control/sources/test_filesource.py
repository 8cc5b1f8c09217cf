"""control/sources/filesource.py: a file says what it says once it is loaded and read over HTTP, or nothing at all."""

from __future__ import annotations

import gc
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ext.table import STATES, Generation, Pair

from control.clusto.errors import InventoryDown
from control.clusto.server.httpd import application
from control.clusto.server.loading import load_file
from control.config.bmc import ROLE_BIT
from control.config.config import Config, Dhcp
from control.plan.compile import Assembled, Compilation, Compiler
from control.plan.contexts import Faults
from control.plan.plan import plan_hosts
from control.planner.planner import Planner
from control.sources import filesource
from control.sources.by_url import open_source
from control.sources.fetch import Fetcher
from control.sources.filesource import FileSource
from control.sources.model import Inventory, Source, Thing, name_of
from fastpath.protocol import close_all
from tests.control.clusto.support import new_store
from tests.control.readings import sealed, states
from tests.control.spoiling import spoiling

NETWORKS = """
networks:
- {base: 10.1.0.0, mask: 255.255.255.0, gateway: 10.1.0.1}
- {base: 10.2.0.0, mask: 255.255.255.0, gateway: 10.2.0.1, name: other}
- {base: 10.3.0.0, mask: 255.255.0.0}
"""
YAML = f"""{NETWORKS}
pools:
- {{name: racks, pool: everybody, dhcp: {{enabled: 1, tftp_server: 10.1.0.2, tftp_filename: /pxelinux.0}}}}
- {{name: gpu, driver: unique_pool, dhcp: {{lease_time: 7200, tftp_filename: /gpu.0}}}}
- {{name: everybody, dhcp: {{domain: exämple.org, name_server: [10.1.0.3, 10.1.0.4]}}}}
containers:
- {{name: dc1, driver: basicdatacenter, dhcp: {{NTP_server: 10.1.0.9}}}}
- {{name: r1, driver: basicrack, container: dc1, dhcp: {{tftp_filename: /rack.0, enabled: 1}}}}
hosts:
- {{name: a, mac: "02:00:00:00:00:0A", address: 10.1.0.11, pool: racks}}
- {{name: b, mac: 02-00-00-00-00-0B, addresses: [10.1.0.12, 10.3.7.12], pools: [racks, gpu], driver: penguinserver}}
- {{name: c.example.org, mac: "02:00:00:00:00:0c", address: 10.1.0.13, pool: racks, hostname: sea}}
- {{name: d, mac: "02:00:00:00:00:0d", rack: r1, ru: 7, pool: only-named, dhcp: {{domain: own.example}},
   addresses: [{{address: 10.2.0.14, osportname: ipmi}}, {{address: 10.2.0.15, osportname: eth0}}]}}
- {{name: e, mac: "02:00:00:00:00:0e", address: 10.1.0.16, dhcp: {{enabled: 1, lease_time: abc, nonsense: x}}}}
- {{name: f, mac: "02:00:00:00:00:0f", address: 10.1.0.17, pool: racks, dhcp: {{enabled: 0}}}}
- {{name: g, mac: "02:00:00:00:00:10", pool: racks}}
- {{name: sw1, driver: basicnetworkswitch, address: 10.1.0.18}}
- {{name: h, mac: "02:00:00:00:00:11", address: 10.1.0.255, pool: racks}}
- {{name: i, mac: "02:00:00:00:00:12", address: 10.1.0.19, pool: racks,
   dhcp: {{name_server: [{{number: 4, value: 10.1.0.5}}, {{number: 2, value: 10.1.0.6}}], option-150: 10.1.0.7}}}}
"""
SHORT_YAML = """
networks: [{base: 10.1.0.0, mask: 255.255.255.0, gateway: 10.1.0.1}]
pools:
- {name: racks, dhcp: {enabled: 1, lease_time: 7200, tftp_filename: /pxelinux.0}}
- {name: gpu, pool: racks, dhcp: {domain: gpu.example}}
hosts:
- {name: a, mac: "02:00:00:00:00:0a", address: 10.1.0.11, pool: racks}
- {name: b, mac: "02:00:00:00:00:0b", addresses: [10.1.0.12, 10.1.0.13], pools: [gpu, more], dhcp: {domain: "b, b"}}
- {name: c, mac: "02:00:00:00:00:0c"}
"""
SHORT_CSV = """base,mask,gateway
10.1.0.0,255.255.255.0,10.1.0.1

name,pool,dhcp.enabled,dhcp.lease_time,dhcp.tftp_filename,dhcp.domain
racks,,1,7200,/pxelinux.0,
gpu,racks,,,,gpu.example

name,mac,address,pool,dhcp.domain
a,02:00:00:00:00:0A,10.1.0.11,racks,
b,02-00-00-00-00-0b,10.1.0.12 10.1.0.13,gpu more,"b, b"
c,02:00:00:00:00:0c
"""
CONFIG = Dhcp(update_ipmi=True, ipmi_port_name="ipmi")


def write(folder: Path, text: str | bytes, name: str = "hosts.yaml") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def source_of(path: Path) -> FileSource:
    return FileSource(f"file://{path}")


def compiled(source: Source, compiler: Compiler | None = None) -> Compilation:
    reading = source.read()
    compiler = compiler or Compiler(CONFIG)
    done = compiler.begin(reading.frame)
    for batch in reading.batches:
        done.add(batch)
    compiler.keep(done)
    return done


def table(source: Source) -> tuple[Generation, Assembled]:
    made = compiled(source).assemble(None, set())
    return sealed(made), made


@contextmanager
def over_http(folder: Path, path: Path) -> Iterator[Fetcher]:
    """The same file, loaded into the embedded inventory."""
    store = new_store(folder)
    report = load_file(store, path)
    assert report.errors == [] and report.written
    try:
        with spoiling(application(store)) as server:
            yield Fetcher(server.url)
    finally:
        store.close()


# --- the same, whichever way it was read -----------------------------------------------------------------------------


def test_a_file_and_what_was_loaded_from_it_make_one_table(tmp_path: Path) -> None:
    path = write(tmp_path, YAML)
    with over_http(tmp_path, path) as fetcher:
        loaded, said = table(fetcher)
    read, told = table(source_of(path))
    assert states(read) == states(loaded) == {
        b"a": "served", b"b": "served", b"c.example.org": "served", b"d": "served", b"e": "served", b"i": "served",
        b"f": "disabled", b"g": "no-address", b"h": "quarantined",
    }  # fmt: skip
    for mac, role in loaded.keys():  # noqa: SIM118
        assert read.lookup(mac, role) == loaded.lookup(mac, role)
    assert read.digest == loaded.digest
    assert (told.faults, told.reasons, told.quarantined) == (said.faults, said.reasons, said.quarantined)


def test_yaml_and_csv_make_one_table(tmp_path: Path) -> None:
    path = write(tmp_path, SHORT_CSV, "hosts.CSV")
    yaml_table, _ = table(source_of(write(tmp_path, SHORT_YAML)))
    csv_table, told = table(source_of(path))
    with over_http(tmp_path, path) as fetcher:
        loaded, _ = table(fetcher)
    assert yaml_table.digest == csv_table.digest == loaded.digest and csv_table.host_count == 2
    assert told.faults.keys() == {"b"}, "its second address in the same network"


@pytest.mark.parametrize("rows_a_batch", [1, 2, 3, 100])
def test_however_many_rows_a_part_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_a_batch: int) -> None:
    whole, _ = table(source_of(write(tmp_path, YAML)))
    monkeypatch.setattr(filesource, "ROWS_A_BATCH", rows_a_batch)
    made, _ = table(source_of(tmp_path / "hosts.yaml"))
    assert made.digest == whole.digest


def test_whoever_can_afford_it_may_have_it_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesource, "ROWS_A_BATCH", 2)
    source = source_of(write(tmp_path, YAML))
    want, said = table(source)
    plan = plan_hosts(source.read().whole(), CONFIG)
    assert [row.key for row in plan.rows] == sorted(role * ROLE_BIT | mac for mac, role in want.keys())  # noqa: SIM118
    for row in plan.rows:
        found = want.lookup(row.key)
        assert (row.name.encode(), STATES[row.state], row.own) == (found["name"], found["state"], found["own"])
        assert [address for address, _prefix, _template in row.leases] == [at["address"] for at in found["leases"]]
    assert [row.name for row in plan.rows].count("d") == 2, "the host and its BMC"
    assert plan.faults == said.faults


def final_digest(source: str, folder: Path, change: Any, looks: list[tuple[list[str], list[str]]]) -> tuple[str, str]:
    """After a refresh, a change and these look-ups; and after a refresh of everything in their place."""
    sent: list[Any] = []
    folder.mkdir()
    config = Config(dhcp=replace(CONFIG, api_url=source, state_dir=folder, max_shrink=1.0))
    planner = Planner(config, [], lambda message, _fds=(): sent.append(message))
    planner.refresh(False)
    change()
    for macs, names in looks:
        planner.look_up(macs, names)
        assert sent[-1].origin == "hosts", sent[-1]
    assert planner.served.pair is not None
    looked_up = planner.served.pair.top.digest
    planner.refresh(False)
    assert sent[-1].published is False, "the look-ups had found it all"
    digest = planner.served.pair.top.digest
    close_all(planner.served.fds())
    return looked_up, digest


def test_single_look_ups_end_where_a_refresh_of_everything_ends(tmp_path: Path) -> None:
    """A host that changes, one that goes, one that comes; of the file, and of the same over HTTP."""
    path = write(tmp_path, YAML)
    changed = re.sub(r"- \{name: f,.*\n", "", YAML.replace("10.1.0.11", "10.1.0.99"))
    changed += '- {name: new, mac: "02:00:00:00:00:20", address: 10.1.0.20, pool: racks}\n'
    looks = [(["02:00:00:00:00:0a"], []), (["02:00:00:00:00:0f"], []), ([], ["new"])]
    from_file = final_digest(f"file://{path}", tmp_path / "file", lambda: write(tmp_path, changed), looks)
    path = write(tmp_path, YAML)
    store = new_store(tmp_path)
    load_file(store, path)

    def load_changed() -> None:
        fresh = tmp_path / "fresh"
        fresh.mkdir()
        other = new_store(fresh)
        assert load_file(other, write(fresh, changed)).errors == []
        server.client_of = other_client(other)

    with spoiling(application(store)) as server:
        over = final_digest(server.url, tmp_path / "http", load_changed, looks)
    store.close()
    assert from_file[0] == from_file[1] == over[0] == over[1]
    assert over[0] == table(source_of(write(tmp_path, changed)))[0].digest


def other_client(store: Any) -> Any:
    from werkzeug.test import Client

    app = application(store)
    return lambda: Client(app)


# --- parts -----------------------------------------------------------------------------------------------------------


def digests(path: Path) -> dict[str, bytes]:
    return {batch.key: batch.digest for batch in source_of(path).read().batches}


def test_unchanged_rows_keep_their_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesource, "ROWS_A_BATCH", 3)
    first = digests(write(tmp_path, YAML))
    assert digests(write(tmp_path, YAML)) == first and len(first) == 4
    changed = digests(write(tmp_path, YAML.replace("10.1.0.17", "10.1.0.27")))
    assert [key for key in first if first[key] != changed[key]] == ["rows from 4"]


HOST = '- {{name: x, mac: "02:00:00:00:00:30", {0}}}\n'


@pytest.mark.parametrize(
    "before, after",
    [
        pytest.param("address: 10.1.0.50, dhcp: {enabled: 1}", "address: 10.1.0.51, dhcp: {enabled: 1}", id="address"),
        pytest.param(
            "addresses: [10.1.0.50, 10.2.0.50], dhcp: {enabled: 1}",
            "addresses: [10.2.0.50, 10.1.0.50], dhcp: {enabled: 1}",
            id="order-of-addresses",
        ),
        pytest.param(
            "dhcp: {enabled: 1}, addresses: [{address: 10.1.0.50, osportname: ipmi}, 10.1.0.51]",
            "dhcp: {enabled: 1}, addresses: [10.1.0.50, {address: 10.1.0.51, osportname: ipmi}]",
            id="which-address-is-the-IPMI-card's",
        ),
        pytest.param("address: 10.1.0.50, pool: racks", "address: 10.1.0.50, pool: gpu, dhcp: {enabled: 1}", id="pool"),
        pytest.param("address: 10.1.0.50, pool: racks", "address: 10.1.0.50, pool: everybody", id="pool-alone"),
        pytest.param("address: 10.1.0.50, pool: racks", "address: 10.1.0.50, pool: racks, hostname: y", id="hostname"),
        pytest.param(
            "address: 10.1.0.50, dhcp: {enabled: 1, domain: a}",
            "address: 10.1.0.50, dhcp: {enabled: 1, domain: b}",
            id="option",
        ),
        pytest.param(
            "address: 10.1.0.5, dhcp: {enabled: 1, router: [{number: 1, value: 1.1.1.1}, {number: 2, value: 2.2.2.2}]}",
            "address: 10.1.0.5, dhcp: {enabled: 1, router: [{number: 2, value: 1.1.1.1}, {number: 1, value: 2.2.2.2}]}",
            id="order-of-an-option",
        ),
        pytest.param("address: 10.1.0.50, pool: racks", "pool: racks", id="no-address-any-more"),
    ],
)
def test_whatever_a_row_changes_is_seen_by_who_knew_the_row_before(tmp_path: Path, before: str, after: str) -> None:
    compiler = Compiler(CONFIG)
    old = sealed(compiled(source_of(write(tmp_path, YAML + HOST.format(before))), compiler).assemble(None, set()))
    path = write(tmp_path, YAML + HOST.format(after))
    again = sealed(compiled(source_of(path), compiler).assemble(None, set()))
    assert again.digest == table(source_of(path))[0].digest
    assert again.digest != old.digest


def test_progress_is_told_in_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesource, "ROWS_A_BATCH", 3)
    told: list[tuple[str, int, int]] = []
    source = FileSource(f"file://{write(tmp_path, YAML)}", lambda *step: told.append(step))
    list(source.read().batches)
    told = [step for step in told if step[0] != "bytes"]
    assert {stage for stage, _done, _total in told} == {"hosts"}
    dones = [done for _stage, done, _total in told]
    assert dones == sorted(dones) and len(dones) > 3 and dones[0] == 0
    assert all(done <= total for _stage, done, total in told)


def test_the_url_names_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, SHORT_YAML, "our hosts.yaml")
    source = open_source(Dhcp(api_url=f"file://{tmp_path}/our%20hosts.yaml"), lambda *_: None)
    assert isinstance(source, FileSource) and source.path == path
    assert table(source)[0].host_count == 2
    assert isinstance(open_source(Dhcp(api_url="http://127.0.0.1:1"), lambda *_: None), Fetcher)


# --- bad rows --------------------------------------------------------------------------------------------------------

BAD = """
networks:
- {base: 10.9.0.1, mask: 255.0.0.0}
pools:
- {name: "bad name"}
hosts:
- {name: no-mac, mac: junk, address: 10.1.0.60}
- {name: odd, mac: "02:00:00:00:00:40", address: 10.1.0.400}
- 5
- {name: good, mac: "02:00:00:00:00:41", address: 10.1.0.61, dhcp: {enabled: 1}}
- {name: homeless, mac: "02:00:00:00:00:42", address: 10.1.0.62, container: nowhere, dhcp: {enabled: 1}}
- {name: far, mac: "02:00:00:00:00:43", address: 10.66.0.1, dhcp: {enabled: 1}}
- {name: option, mac: "02:00:00:00:00:44", address: 10.1.0.63, dhcp: {enabled: 1, lease_time: 1.5}}
racks: []
"""


def joined(*texts: str) -> str:
    """Files in one: each list once."""
    lists: dict[str, str] = {}
    for text in texts:
        for kind, body in re.findall(r"^(\w+):(.*\n(?:[- ].*\n|\n)*)", text, re.MULTILINE):
            lists[kind] = lists.get(kind, "") + body.removeprefix(" []").strip("\n") + "\n"
    return "".join(f"{kind}:{body if body.startswith(chr(10)) else chr(10) + body}" for kind, body in lists.items())


def test_a_bad_row_is_named_and_costs_only_itself(tmp_path: Path) -> None:
    clean, _ = table(source_of(write(tmp_path, YAML)))
    made, told = table(source_of(write(tmp_path, joined(YAML, BAD))))
    for mac, role in clean.keys():  # noqa: SIM118
        assert made.lookup(mac, role) == clean.lookup(mac, role)
    assert {name: state for name, state in states(made).items() if name not in states(clean)} == {
        b"good": "served",
        b"homeless": "served",
        b"far": "quarantined",
        b"option": "served",
    }
    rows = {name: reasons for name, reasons in told.faults.items() if reasons[0].kind == "bad-row"}
    said = "\n".join(reason for reasons in rows.values() for reason in reasons)
    for wanted in (
        "networks 4 (10.9.0.1): base", "pools 4 (bad name): name", "(no-mac): mac 'junk'",
        "(odd): address '10.1.0.400'",
        "hosts 13: 5; wanted a mapping", "(option): dhcp option lease_time", "'racks'; wanted lists named",
    ):  # fmt: skip
        assert wanted in said
    assert len(rows) == 7 and rows.keys() >= {"odd", "hosts.yaml: hosts 13", "hosts.yaml"}, "by object, or place"
    lines = (tmp_path / "hosts.yaml").read_text().splitlines()
    assert "odd" in lines[rows["odd"][0].line - 1] and "- 5" in lines[rows["hosts.yaml: hosts 13"][0].line - 1]
    assert "container nowhere: wanted one that has a row" in told.faults["homeless"][0]
    assert told.faults["far"] == ["address 10.66.0.1 has no manager, and 0 managers contain it; wanted 1"]


def test_a_name_twice_is_the_first_of_the_two_whoever_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also over the border between two parts, and for a look-up."""
    second = '- {name: a, mac: "02:00:00:00:00:50", address: 10.1.0.70, pool: racks}\n'
    path = write(tmp_path, YAML + second)
    for rows in (3, 100):
        monkeypatch.setattr(filesource, "ROWS_A_BATCH", rows)
        made, told = table(source_of(path))
        assert made.digest == table(source_of(write(tmp_path, YAML)))[0].digest
        assert [reason.partition(": ")[2] for reason in told.faults["a"]] == [
            "hosts 11 (a): this name stands twice in the file"
        ]
        path = write(tmp_path, YAML + second)
    for macs, names in (([], ["a"]), (["02:00:00:00:00:0a"], [])):
        found = source_of(path).read_hosts(macs, names, Inventory())
        assert [thing.mac() for thing in hosts_of(found)] == [["02:00:00:00:00:0a"]]
    assert hosts_of(source_of(path).read_hosts(["02:00:00:00:00:50"], [], Inventory())) == []


@pytest.mark.parametrize(
    "kind, row, lost",
    [
        pytest.param("pools", "{name: racks, dhcp: {enabled: 0}}", "abcfghi", id="pool"),
        pytest.param("containers", "{name: r1, driver: basicrack}", "d", id="rack"),
        pytest.param("containers", "{name: racks, driver: basicdatacenter}", "abcfghi", id="pool-and-place"),
        pytest.param("networks", "{base: 10.1.0.0, mask: 255.255.255.0}", "abcefhi", id="network"),
        pytest.param(
            "networks", "{base: 10.3.0.0, mask: 255.255.0.0, name: again}", "b", id="network-of-another-name"
        ),
        pytest.param("networks", "{base: 10.7.0.0, mask: 255.255.255.0, name: other}", "d", id="name-of-a-network"),
        pytest.param("pools", "{name: gpu, driver: unique_pool, dhcp: {lease_time: 7200, tftp_filename: /gpu.0}}", "",
                     id="the-same"),
    ],
)  # fmt: skip
def test_two_rows_of_one_pool_or_network_leave_who_depends_on_them_as_they_are(
    tmp_path: Path, kind: str, row: str, lost: str
) -> None:
    """Whichever of the two comes first, and to a look-up as to a refresh; `load` refuses the file."""
    second = f"{kind}:\n- {row}\n"
    for text in (joined(YAML, second), joined(second, YAML)):
        source = source_of(write(tmp_path, text))
        done = compiled(source)
        told = done.assemble(None, set())
        twice = [reason for reasons in told.faults.values() for reason in reasons if reason.kind == "twice"]
        assert ["is also at hosts.yaml: " in reason for reason in twice] == [True]
        assert {name_of(path)[:1] for path in done.lost} >= set(lost) and len(done.doubts) == bool(lost)
        assert all("cannot be read: " in doubt and "wanted one row" in doubt for doubt in done.doubts)
        assert source.read_hosts([], ["d"], Inventory()).unread.keys() == done.below.keys()
        if not lost:
            assert sealed(told).digest == table(source_of(write(tmp_path, YAML)))[0].digest
    store = new_store(tmp_path)
    assert not load_file(store, write(tmp_path, text)).written
    store.close()


def hosts_of(inventory: Inventory) -> list[Thing]:
    return [inventory.things[path] for path in inventory.hosts]


# --- no such file ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content, said",
    [
        pytest.param(b"{", "not YAML", id="no-YAML"),
        pytest.param(b"- a\n- b\n", "no mapping; wanted one with networks, pools", id="a-list"),
        pytest.param(b"", "no mapping", id="empty"),
        pytest.param(b"hosts: [\xff]", "line 1: byte 0xff is not UTF-8", id="no-UTF-8"),
        pytest.param(b"hosts: []\n---\nhosts: []\n", "several documents", id="two-documents"),
        pytest.param(YAML.encode()[:-30], "not YAML", id="cut-in-the-middle"),
    ],
)
def test_what_is_no_inventory_costs_nothing(tmp_path: Path, content: bytes, said: str) -> None:
    path = write(tmp_path, content)
    for read in (lambda: compiled(source_of(path)), lambda: source_of(path).read_hosts([], ["a"], Inventory())):
        with pytest.raises(InventoryDown) as caught:
            read()
        assert str(caught.value).startswith("hosts.yaml: ") and said in str(caught.value)


def test_a_file_that_grows_while_it_is_read_is_read_to_no_end(tmp_path: Path) -> None:
    path = tmp_path / "hosts.csv"
    path.write_text("name,mac,address,pool\n")

    def grow(*_step: object) -> None:
        assert path.stat().st_size < 20 << 20, "it is still read"
        with path.open("a") as file:
            file.write("h,02:00:00:00:00:01,10.0.0.1,p\n" * 10_000)

    with pytest.raises(InventoryDown, match="was written to while it was read"):
        list(FileSource(path.as_uri(), grow).read().batches)


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    for read in (source_of(tmp_path / "x").read, lambda: source_of(tmp_path / "x").read_hosts([], ["a"], Inventory())):
        with pytest.raises(InventoryDown, match=rf"{tmp_path}/x: No such file or directory"):
            read()


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InventoryDown, match="Is a directory"):
        source_of(tmp_path).read()


@pytest.mark.parametrize("how", ["in-place", "by-rename", "removed"])
def test_a_file_that_changes_while_it_is_read_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(filesource, "ROWS_A_BATCH", 2)
    path = write(tmp_path, YAML)
    batches = source_of(path).read().batches
    next(batches)
    change(path, how)
    with pytest.raises(InventoryDown, match=r"hosts\.yaml: (was written to while it was read|No such file|not YAML)"):
        list(batches)


@pytest.mark.parametrize("how", ["in-place", "by-rename", "removed"])
def test_a_file_that_changes_between_the_two_passes_costs_nothing(tmp_path: Path, how: str) -> None:
    """Networks of the one, hosts of the other would be half an inventory."""
    path = write(tmp_path, YAML)
    reading = source_of(path).read()
    change(path, how)
    with pytest.raises(InventoryDown, match=r"hosts\.yaml: (was written to while it was read|No such file)"):
        list(reading.batches)


@pytest.mark.parametrize("how", ["in-place", "by-rename", "removed"])
def test_a_file_that_changes_during_a_look_up_takes_no_host_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    path = write(tmp_path, YAML)
    source = source_of(path)
    true = source.read_frame

    def read_frame() -> Any:
        frame = true()
        change(path, how)
        return frame

    monkeypatch.setattr(source, "read_frame", read_frame)
    with pytest.raises(InventoryDown, match=r"hosts\.yaml: (was written to while it was read|No such file)"):
        source.read_hosts([], ["a"], Inventory())


def change(path: Path, how: str) -> None:
    """To a good file without hosts: nothing but the guard can tell."""
    if how == "removed":
        path.unlink()
        return
    target = path if how == "in-place" else path.with_name("aside")
    target.write_text(NETWORKS)
    if how == "by-rename":
        os.replace(target, path)


# --- single hosts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "macs, names, want",
    [
        pytest.param(["02:00:00:00:00:0a"], [], ["a"], id="by-MAC"),
        pytest.param([], ["c.example.org"], ["c.example.org"], id="by-name"),
        pytest.param(["02:00:00:00:00:0b"], ["a"], ["a", "b"], id="by-both"),
        pytest.param(["02:00:00:00:00:99"], ["nobody"], [], id="who-is-not-there"),
        pytest.param([], ["sw1"], [], id="who-is-no-host"),
        pytest.param([], [], [], id="nobody"),
    ],
)
def test_single_hosts(tmp_path: Path, macs: list[str], names: list[str], want: list[str]) -> None:
    """As plan_hosts makes them of a look-up over HTTP."""
    path = write(tmp_path, YAML)
    source = source_of(path)
    found = source.read_hosts(macs, names, source.read().frame.frame())
    assert sorted(thing.name for thing in hosts_of(found)) == want
    whole = {row.name: row for row in plan_hosts(source.read().whole(), CONFIG).rows}
    assert plan_hosts(found, CONFIG).rows == sorted(whole[name] for name in want)
    with over_http(tmp_path, path) as fetcher:
        same = fetcher.read_hosts(macs, names, fetcher.read().frame.frame())
    assert plan_hosts(same, CONFIG).rows == plan_hosts(found, CONFIG).rows


def test_who_has_the_same_address_comes_along(tmp_path: Path) -> None:
    thief = '- {name: thief, mac: "02:00:00:00:00:51", address: 10.1.0.11, pool: racks}\n'
    thief += "- {name: sw2, driver: basicnetworkswitch, address: 10.1.0.12}\n"
    source = source_of(write(tmp_path, YAML + thief))
    found = source.read_hosts(["02:00:00:00:00:0a"], ["b"], Inventory())
    plan = plan_hosts(found, CONFIG)
    assert {row.name: row.state.name for row in plan.rows} == {"a": "CONFLICT", "thief": "CONFLICT", "b": "CONFLICT"}
    assert plan.faults.keys() - {"racks"} == {"a", "thief", "b", "sw2"}
    served = Pair(table(source)[0])
    for row in plan.rows:
        assert served.lookup(row.mac)["state"] == "conflict"


def test_many_bad_rows_take_time_in_proportion_and_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesource, "BAD_ROWS_NAMED", 100)

    def seconds(rows: int) -> float:
        lines = (f"n{n},02:00:00:{n >> 16:02x}:{n >> 8 & 255:02x}:{n & 255:02x},,r1\n" for n in range(rows))
        text = "base,mask\n10.0.0.0,255.0.0.0\n\nname,mac,address,rack\n" + "".join(lines)
        gc.freeze()  # what other tests left is no part of it
        started = time.process_time()
        made = compiled(source_of(write(tmp_path, text, "hosts.csv"))).assemble(None, set())
        took = time.process_time() - started
        gc.unfreeze()
        assert ": rack 'r1' with ru None; wanted both" in made.faults["n7"][0] and len(made.faults) == 101
        assert len(made.faults["hosts.csv"]) == 101 and made.faults["hosts.csv"][-1] == f"... and {rows - 200} more"
        return took

    few = min(seconds(1_000) for _ in range(3))
    assert seconds(10_000) < 40 * few, "10 times in proportion; 100 times where each row meets each"


def test_reasons_that_come_by_several_ways_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control.plan.contexts.REASONS_MAX", 10)
    part, other, whole = Faults(), Faults(), Faults()
    for n in range(25):
        part.blame("a", f"reason {n}")
    other.include({"a": [f"other {n}" for n in range(12)], "b": ["once"]})
    for faults in (part, other, part, other, {"b": ["once"]}):
        whole.include(faults)
    assert whole["b"] == ["once"] and whole["a"] == [*(f"reason {n}" for n in range(10)), "... and 27 more"]


def test_another_address_of_who_was_read_for_one(tmp_path: Path) -> None:
    """x1 is read because a's address is also e's; who has e's other address is known by name, and is not read."""
    more = (
        "- {name: x1, mac: '02:00:00:00:00:71', addresses: [10.1.0.11, 10.1.0.31], pool: racks}\n"
        "- {name: x2, mac: '02:00:00:00:00:72', address: 10.1.0.31, pool: racks}\n"
    )
    path = write(tmp_path, YAML + more)
    for frame in (Inventory(), source_of(path).read().frame.frame()):
        found = source_of(path).read_hosts([], ["a"], frame)
        assert sorted(thing.name for thing in hosts_of(found)) == ["a", "x1"]
        assert dict(found.unheard()) == {"/server/x2": {0x0A01001F}}
        faults = plan_hosts(found, CONFIG).faults
        assert "address 10.1.0.31 belongs to x1 and x2" in faults["x1"]
    assert not source_of(path).read_hosts([], ["a", "x2"], Inventory()).claimed
