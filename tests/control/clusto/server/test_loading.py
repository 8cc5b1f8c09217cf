"""Files into the store and back: nothing changes at the second load, every bad row is named, nothing is half done."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control.clusto.client import BasicServer, IPManager, Pool, connect, get, get_by_name
from control.clusto.hostfile import HostFile, HostRow, Numbered, numbered, parse, render
from control.clusto.server.loading import dump_file, load_file
from control.clusto.server.store import Store, entities
from control.clusto.server.writing import create_entity, driver_named
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


def test_what_is_taken_in_another_spelling_is_taken(tmp_path: Path, store: Store) -> None:
    """Two hosts with one MAC or one address were loaded, and the service answered neither."""
    load_file(store, write(tmp_path, "networks.yaml", "networks: [{base: 10.88.0.0, mask: 255.255.255.0}]"))
    with running(store) as url:
        connect(url)
        for number, spelling in enumerate(("02-00-00-00-00-01", "0200.0000.0002", "02:00:00:00:00:0A"), 1):
            BasicServer(f"mac{number}").set_port_attr("nic-eth", 1, "mac", spelling)
        card = BasicServer("card")
        card.set_port_attr("nic-eth", 1, "ipmi-mac", "02:00:00:00:00:04")
        card.set_port_attr("nic-eth", 1, "mac", "02:00:00:00:00:05")
        BasicServer("dashed").set_port_attr("nic-eth", 1, "ipmi-mac", "02-00-00-00-00-06")
        BasicServer("text").set_attr("ip", "10.88.0.7", subkey="ipstring", number=0)
        own = BasicServer("own")
        own.set_port_attr("nic-eth", 1, "mac", "02-00-00-00-00-08")
        own.set_attr("ip", "10.88.0.8", subkey="ipstring", number=0)
    rows = [f"{{name: n{at}, mac: '02:00:00:00:00:0{at}'}}" for at in (1, 2, "a", 4, 6)]
    rows += ["{name: n7, addresses: [10.88.0.7]}"]
    report = load_file(store, write(tmp_path, "taken.yaml", f"hosts: [{', '.join(rows)}]"))
    assert [line.partition(" ")[2].partition(": ")[2] for line in report.errors] == [
        "mac 02:00:00:00:00:04 belongs to card as its ipmi-mac; wanted a free one",
        "mac 02:00:00:00:00:01 belongs to mac1; wanted a free one",
        "mac 02:00:00:00:00:02 belongs to mac2; wanted a free one",
        "mac 02:00:00:00:00:0a belongs to mac3; wanted a free one",
        "mac 02:00:00:00:00:06 belongs to dashed as its ipmi-mac; wanted a free one",
        "address 10.88.0.7 belongs to text; wanted a free one",
    ]
    good = """hosts:
  - {name: own, mac: "02:00:00:00:00:08", addresses: [10.88.0.8]}
  - {name: card, mac: "02:00:00:00:00:04"}
  - {name: text, addresses: [10.88.0.9]}
  - {name: free, mac: "02:00:00:00:00:05", addresses: [10.88.0.7]}
"""
    assert load_file(store, write(tmp_path, "good.yaml", good)).errors == []
    report = load_file(
        store, write(tmp_path, "twin.yaml", "hosts: [{name: mine, mac: '02:00:00:00:00:08'}, {name: own}]")
    )
    assert "(mine): mac 02:00:00:00:00:08 belongs to own; wanted a free one" in "".join(report.errors)
    both = "hosts: [{name: own, mac: '02:00:00:00:00:08'}, {name: mine, mac: '02:00:00:00:00:08'}]"
    report = load_file(store, write(tmp_path, "both.yaml", both))
    assert len(report.errors) == 1 and "mac 02:00:00:00:00:08 is also of own; wanted one host" in report.errors[0]


def test_what_is_dumped_loads_into_the_same(tmp_path: Path, store: Store) -> None:
    load_fixture(store)
    dumped, lost = tmp_path / "dump.yaml", []
    assert dump_file(store, dumped, lost.append) == 5 + 5 + 5 + 8
    assert counted(load_file(store, dumped)) == (0, 0, 23)
    assert [line.partition(": ")[2].partition(", port")[0] for line in lost] == [
        "2 objects are not in the file: simpleentitynamemanager (1), simplenamemanager (1)",
        "7 objects have attributes that the file does not hold: snmp/discovery (3)",
    ]
    loads_and_dumps_alike(tmp_path, dumped)


def loads_and_dumps_alike(folder: Path, dumped: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as name:
        other = new_store(Path(name))
        assert load_file(other, dumped).errors == []
        again, lost = Path(name) / "again.yaml", []
        dump_file(other, again, lost.append)
        other.close()
        assert lost == []
        assert again.read_text(encoding="utf-8") == dumped.read_text(encoding="utf-8")


EVERYTHING = """
networks:
- {base: 10.88.0.0, mask: 255.255.255.0, gateway: 10.88.0.1, dhcp: {name_server: [10.88.0.2, 10.88.0.3], shared: v}}
- {name: alone, base: 198.51.100.7, mask: 255.255.255.255, gateway: 10.88.0.1, dhcp: {lease_time: 600}}
pools: [{name: p, dhcp: {NTP_server: [10.0.0.1, 10.0.0.2]}}, {name: u, driver: unique_pool, containers: [dc1]}]
containers:
- {name: dc1, driver: basicdatacenter, dhcp: {enabled: 1}}
- {name: r1, driver: basicrack, container: dc1, pools: [p]}
hosts:
- {name: a, mac: "02:00:00:00:00:01", hostname: www, rack: r1, ru: 12, pools: [u, p],
   addresses: [{address: 10.88.0.11, osportname: eth0}, 10.88.0.12]}
- {name: b, driver: penguinserver2u, rack: r1, ru: [13, 14], container: dc1,
   dhcp: {router: [10.88.0.1], x: [{number: null, value: 1}, {number: 7, value: "0"}, {number: 7, value: ""}]}}
"""


def test_everything_that_the_format_says(tmp_path: Path, store: Store) -> None:
    path = write(tmp_path, "all.yaml", EVERYTHING)
    report = load_file(store, path)
    assert (counted(report), report.errors) == ((8, 0, 0), [])
    assert counted(load_file(store, path)) == (0, 0, 8)
    dumped, lost = tmp_path / "dump.yaml", []
    assert (dump_file(store, dumped, lost.append), lost) == (8, [])
    assert counted(load_file(store, dumped)) == (0, 0, 8)
    loads_and_dumps_alike(tmp_path, dumped)
    with running(store) as url:
        connect(url)
        rack = get_by_name("r1")
        units = [(attr.number, attr.subkey) for attr in rack.attrs("_contains")]
        assert sorted(units) == [(12, "ru"), (13, "ru"), (14, "ru")]
        assert [(attr.number, attr.value) for attr in get_by_name("p").attrs("dhcp")] == [
            (0, "10.0.0.1"),
            (1, "10.0.0.2"),
        ]
        a = get_by_name("a")
        assert a.attr_values("ip", subkey="osportname") == ["eth0"]
        assert a.attr_values("hostname") == ["www"]
        assert sorted(parent.name for parent in a.parents()) == ["p", "r1", "u"]
        values = [(attr.number, attr.value) for attr in get_by_name("b").attrs("dhcp", subkey="x")]
        assert sorted(values, key=repr) == [(7, ""), (7, "0"), (None, 1)]


def test_a_row_replaces_what_it_speaks_of(tmp_path: Path, store: Store) -> None:
    load_file(store, write(tmp_path, "all.yaml", EVERYTHING))
    text = """
containers: [{name: dc2, driver: basicdatacenter}, {name: r2, driver: basicrack}]
pools: [{name: p, dhcp: {NTP_server: 10.0.0.3}}]
hosts:
- {name: a, rack: r2, ru: 1, addresses: [10.88.0.12]}
- {name: b, containers: [dc2], dhcp: {x: []}}
"""
    assert counted(load_file(store, write(tmp_path, "some.yaml", text))) == (2, 3, 0)
    dumped = tmp_path / "dump.yaml"
    dump_file(store, dumped)
    found = parse(dumped.read_text(encoding="utf-8"), "dump.yaml")
    pool = {row.name: row for row in found.pools}["p"]
    a, b = ({row.name: row for row in found.hosts}[name] for name in "ab")
    assert pool.dhcp == {"NTP_server": "10.0.0.3"}
    assert (a.rack, a.ru, a.pools, a.hostname) == ("r2", (1,), ("p", "u"), "www")
    assert [str(address) for address in a.addresses or ()] == ["10.88.0.12"]
    assert (b.containers, b.rack, list(b.dhcp)) == (("dc2",), "r1", ["router"])


def test_the_order_of_addresses_is_that_of_the_row(tmp_path: Path, store: Store) -> None:
    """Of two in one network the one with the lowest number counts."""
    load_file(store, write(tmp_path, "all.yaml", EVERYTHING))

    def load(name: str, *addresses: str) -> list[tuple[int, str, str | None]]:
        text = f"hosts: [{{name: a, addresses: [{', '.join(addresses)}]}}]"
        assert load_file(store, write(tmp_path, name, text)).written
        with running(store) as url:
            connect(url)
            a = get_by_name("a")
            names = {attr.number: attr.value for attr in a.attrs("ip", subkey="osportname")}
            found = [(attr.number, attr.value) for attr in a.attrs("ip", subkey="ipstring")]
        return [(number, address, names.get(number)) for number, address in sorted(found)]

    first = load("one.yaml", "10.88.0.21", "10.88.0.22")
    with running(store) as url:
        connect(url)
        get_by_name("a").add_attr("ip", number=first[0][0], subkey="osportname", value="eth7")
    same = load("two.yaml", "10.88.0.21", "10.88.0.22")
    assert [number for number, *_ in same] == [number for number, *_ in first]
    turned = load("three.yaml", "10.88.0.23", "10.88.0.22", "10.88.0.21")
    assert [each[1:] for each in turned] == [("10.88.0.23", None), ("10.88.0.22", None), ("10.88.0.21", "eth7")]
    assert load("four.yaml", "10.88.0.23", "10.88.0.22", "10.88.0.21") == turned


def test_rules_of_containers(tmp_path: Path, store: Store) -> None:
    load_file(store, write(tmp_path, "all.yaml", EVERYTHING))
    text = """
pools: [{name: x, driver: exclusive_pool}, {name: u2, driver: unique_pool}, {name: x, pools: [p]}]
containers: [{name: dc2, driver: basicdatacenter}, {name: c, driver: pool}]
hosts:
- {name: n1, rack: r1, ru: 12}
- {name: n2, rack: r1, ru: 46}
- {name: n3, rack: nowhere, ru: 1}
- {name: n4, containers: [r1]}
- {name: n5, containers: [dc1, dc2]}
- {name: n6, pools: [x, p]}
- {name: n7, pools: [n1]}
- {name: a, pools: [u2]}
- {name: n8, rack: r1}
- {name: n9, rack: r1, ru: [1, 1]}
"""
    report = load_file(store, write(tmp_path, "bad.yaml", text))
    said = "\n".join(report.errors)
    for wanted in (
        "pools 3 (x): name x is also at bad.yaml: pools 1 (x)",
        "containers 2 (c): driver 'pool'; wanted one of apcrack, basiccage",
        "(n1): ru 12 of rack r1 is also of a",
        "(n2): ru 46 of rack r1; wanted 1 to 45",
        "(n3): container nowhere: there is none",
        "(n4): /rack/r1 exists; wanted a place",
        "(n5): container dc1 is one of several basicdatacenter",
        "(n6): in pools p, x; wanted x, an exclusive_pool, alone",
        "(n7): /server/n1 exists; wanted a pool",
        "(a): in pools u, u2; wanted one unique_pool",
        "(n8): rack 'r1' with ru None; wanted both, or neither",
        "(n9): ru [1, 1]; wanted a rack unit",
    ):
        assert wanted in said, said
    assert not report.written
    with store.read() as db:
        assert db.execute(entities.select().where(entities.c.name == "dc2")).all() == []


def test_what_the_file_cannot_say_is_named(tmp_path: Path, store: Store) -> None:
    load_file(store, write(tmp_path, "all.yaml", EVERYTHING))
    with running(store) as url:
        connect(url)
        a, b = get_by_name("a"), get_by_name("b")
        a.set_port_attr("nic-eth", 2, "mac", "02:00:00:00:00:02")
        a.add_attr("ip", number=9, subkey="ipstring", value="9.9.9.9")
        a.add_attr("dhcp", value="no subkey")
        b.add_attr("port-nic-eth", number=1, subkey="mac", value="no mac")
        b.add_attr("_hidden", value="x")
        a.insert(BasicServer("inside"))
    with store.write() as db:
        create_entity(db, driver_named("basicserver"), "with blank")
    dumped, lost = tmp_path / "dump.yaml", []
    assert dump_file(store, dumped, lost.append) == 9
    assert [line.removeprefix(f"{dumped}: ") for line in lost] == [
        "1 objects are not in the file: basicserver with such a name (1)",
        "3 objects have attributes that the file does not hold: _hidden (1), dhcp (1), port-nic-eth/mac (1)",
        "1 memberships are not in the file: in a server (1)",
        "1 addresses are not in the file: in no network of it, in several, or bound twice",
    ]
    loads_and_dumps_alike(tmp_path, dumped)


def test_what_a_dump_left_out_stays_when_it_is_loaded_again(tmp_path: Path, store: Store) -> None:
    load_file(store, write(tmp_path, "all.yaml", EVERYTHING))
    with running(store) as url:
        connect(url)
        a = get_by_name("a")
        a.add_attr("ip", number=9, subkey="ipstring", value="9.9.9.9")
        a.add_attr("ip", number=8, subkey="osportname", value="eth8")
        a.add_attr("ip", number=7, subkey="ipstring", value="2001:db8::7")
        said = sorted(map(str, a.attrs("ip")))
        dumped = tmp_path / "dump.yaml"
        dump_file(store, dumped)
        assert counted(load_file(store, dumped))[:2] == (0, 0)
        assert sorted(map(str, get_by_name("a").attrs("ip"))) == said
        more = "hosts: [{name: a, addresses: [10.88.0.13, '2001:db8::8']}]"
        report = load_file(store, write(tmp_path, "more.yaml", more))
        assert report.written, report.errors
        left = {(attr.number, attr.subkey): attr.value for attr in get_by_name("a").attrs("ip")}
    assert (left[9, "ipstring"], left[8, "osportname"]) == ("9.9.9.9", "eth8")
    texts = [value for (_number, subkey), value in left.items() if subkey == "ipstring"]
    assert sorted(texts) == ["10.88.0.13", "2001:db8::7", "9.9.9.9"]


def test_aliases_merges_and_any_order_of_lists(tmp_path: Path, store: Store) -> None:
    text = """
hosts:
- &a {name: a, dhcp: &options {lease_time: 60}, pool: p}
- {<<: *a, name: b, address: 10.0.0.1}
pools: [{name: p, dhcp: *options}]
networks: [{base: 10.0.0.0, mask: 255.0.0.0}]
"""
    report = load_file(store, write(tmp_path, "hosts.yaml", text))
    assert (counted(report), report.errors) == ((4, 0, 0), [])


@pytest.mark.property
@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,8}", fullmatch=True),
        st.lists(
            st.tuples(
                st.none() | st.integers(-(2**63), 2**63 - 1),
                st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(exclude_categories=["Cs"], min_codepoint=1)),
            ),
            min_size=1,
            max_size=4,
        ),
        max_size=4,
    )
)
def test_any_option_is_read_back(options: dict[str, list[tuple[int | None, str | int]]]) -> None:
    dhcp = {option: tuple(Numbered(*value) for value in values) for option, values in options.items()}
    text = render(HostFile(hosts=[HostRow(where="", name="h", dhcp=dhcp)]))
    found = parse(text, "x.yaml")
    assert found.errors == []
    assert {option: numbered(value) for option, value in found.hosts[0].dhcp.items()} == dhcp
