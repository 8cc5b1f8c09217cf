"""control/sources/contract: what is read as a whole means what it means in a host file; a bad answer costs nothing."""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ext.table import Generation

from control.clusto import answers
from control.clusto.errors import InventoryDown
from control.config.config import Dhcp
from control.sources.by_url import open_source
from control.sources.contract import source as contract_source
from control.sources.contract import state, stream
from control.sources.contract.source import HostsSource
from control.sources.filesource import FileSource
from tests.control.readings import states
from tests.control.sources.contract.hosts_server import NETWORK, POOL, SITE, Fault, Row, end, host, ok, serving
from tests.control.sources.test_filesource import BAD, YAML, compiled, joined, table, write


def opened(url: str, token: str | None = None) -> HostsSource:
    source = open_source(Dhcp(api_url=url, api_token=token), lambda *_: None)
    assert isinstance(source, HostsSource)
    return source


def rows_of_yaml(text: str) -> list[Row]:
    """A host file's rows as the contract has them."""
    found = yaml.safe_load(text)
    return [
        {"id": f"{kind}:{number}", "kind": kind.removesuffix("s")} | row
        for kind, rows in found.items()
        for number, row in enumerate(rows or ())
        if isinstance(row, dict)
    ]


def served(made: Generation) -> dict[Any, Any]:
    """But for the identities, which are ids here and names there, and numbers, which follow them."""
    rows = {}
    for key in made.keys():  # noqa: SIM118
        row = made.lookup(*key)
        rows[key] = {name: value for name, value in row.items() if name not in ("identity", "number", "index")}
    return rows


def test_the_same_rows_make_the_same_table_as_in_a_file(tmp_path: Path) -> None:
    """Good ones and bad ones, and their faults."""
    text = joined(YAML, BAD)
    read, said = table(FileSource(f"file://{write(tmp_path, text)}"))
    with serving(*rows_of_yaml(text)) as server:
        made, told = table(opened(server.url))
    assert states(made) == states(read) and len(states(made)) > 10
    assert {key: row["state"] for key, row in served(made).items()} == {
        key: row["state"] for key, row in served(read).items()
    }
    for key, row in served(read).items():
        assert [lease["address"] for lease in served(made)[key]["leases"]] == [
            lease["address"] for lease in row["leases"]
        ]
        assert served(made)[key]["own"] == row["own"]
    assert told.faults.keys() >= {"odd", "no-mac", "homeless", "far", "option"} and told.quarantined == said.quarantined
    assert "host hosts:12 (odd): mac" not in str(told.faults) and "(odd): address '10.1.0.400'" in told.faults["odd"][0]


def test_names_are_no_identities() -> None:
    """Two hosts of one name are two; one id under another name, with another MAC, is one."""
    with serving(*SITE, host(20, name="h2")) as server:
        source = opened(server.url)
        made, told = table(source)
        assert states(made)[b"h2"] == "served" and made.host_count == 7 and told.faults == {}
        server.rows.put(host(20, name="other", mac="02:00:00:00:00:aa"))
        made, told = table(source)
        assert made.lookup(0x0200000000AA)["name"] == b"other" and made.lookup(0x020000000014) is None
        assert made.host_count == 7 and told.faults == {}


def test_a_token_is_shown() -> None:
    with serving(*SITE) as server:
        server.token = "s3cret"
        assert table(opened(server.url, "s3cret"))[0].host_count == 6
        for token, said in ((None, "set dhcp.api_token, its token"), ("x", "correct dhcp.api_token, which it refuses")):
            with pytest.raises(InventoryDown, match=f"GET http://[0-9.:]+/hosts: status 401, wanted 200: ; {said}"):
                opened(server.url, token).read()


def test_a_path_in_front_is_kept() -> None:
    with serving(*SITE) as server:
        server.spoil = lambda target: None if target == "/hosts" else ok(*SITE, end(6))
        assert table(opened(f"{server.url}/site/dc1"))[0].host_count == 6
    assert server.targets == ["/site/dc1/hosts"]


# --- what makes a read fail ------------------------------------------------------------------------------------------


GOOD = ok(*SITE, end(6))
HTML = b"HTTP/1.1 200 OK\r\n\r\n<html><body>502 Bad Gateway</body></html>\n"


def endless() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n\r\n"
    while True:
        yield b'{"id": "1", "kind": "host", "name": "' + b"x" * (1 << 20)


def bomb() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    for _ in range(50):
        yield packer.compress(b"\n" * (1 << 20))
    yield packer.flush()


FAULTS: list[Any] = [
    pytest.param(GOOD[:-200], "cut off in the middle", id="cut"),
    pytest.param(GOOD.replace(b"Content-Length", b"X-Length")[:-150], "found '{.*wanted a JSON object", id="cut-line"),
    pytest.param(ok(*SITE), 'ends after line 8 without {"end": true', id="no-end"),
    pytest.param(ok(), 'ends after line 0 without {"end": true', id="nothing"),
    pytest.param(ok(*SITE, end(7)), "its end line says 7 hosts, and 6 lines of hosts came", id="wrong-count"),
    pytest.param(ok(*SITE, end(6, total=5)), "says 5 hosts in all, and 6 came", id="wrong-total"),
    pytest.param(ok(*SITE, end(6), end(6)), "line 10: stands behind the end line", id="two-ends"),
    pytest.param(ok(end(6), *SITE), "line 2: stands behind the end line", id="end-first"),
    pytest.param(ok({"end": 1, "hosts": 0}), "wanted {", id="end-is-no-true"),
    pytest.param(ok({"end": True}), "wanted {", id="end-without-hosts"),
    pytest.param(ok({"end": True, "hosts": 0, "cursor": 5}), "wanted {", id="cursor-is-no-text"),
    pytest.param(HTML, "line 1: found '<html>.*is that the page of a proxy", id="html"),
    pytest.param(b"HTTP/1.1 502 Bad Gateway\r\n\r\nno upstream", "status 502, wanted 200: no upstream", id="502"),
    pytest.param(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "status 302, wanted 200", id="302"),
    pytest.param(b"HTTP/1.1 304 Not Modified\r\n\r\n", "status 304, wanted 200", id="304-unasked"),
    pytest.param(b"HTTP/1.1 410 Gone\r\n\r\n", "status 410, wanted 200", id="410-unasked"),
    pytest.param(ok(*SITE, host(2), end(7)), "id 2 stands twice", id="id-twice"),
    pytest.param(ok(*SITE, POOL, end(6)), "line 9: id p1 stands twice", id="id-of-a-pool-twice"),
    pytest.param(ok(*SITE, host(8) | {"id": "p1"}, end(7)), "id p1 stands twice", id="id-of-a-pool-and-a-host"),
    pytest.param(ok({"kind": "host", "name": "a"}, end(1)), "line 1: id None, wanted", id="no-id"),
    pytest.param(ok(host(1) | {"id": "a b"}, end(1)), "line 1: id 'a b', wanted", id="blank-in-an-id"),
    pytest.param(ok(host(1) | {"id": True}, end(1)), "line 1: id True, wanted", id="id-is-no-text"),
    pytest.param(ok({"id": "1", "name": "a"}, end(1)), "id 1: kind None, wanted network, pool, ", id="kind"),
    pytest.param(ok({"id": "1", "deleted": True}, end(0)), "line 1: id 1 is deleted", id="deleted"),
    pytest.param(ok('{"id": "1", "kind": "host", "mac": 1, "mac": 2}', end(1)), "key 'mac' stands twice", id="key"),
    pytest.param(ok('{"id": "1", "kind": "host", "ru": NaN}', end(1)), "NaN is no JSON", id="nan"),
    pytest.param(ok("[1]", end(0)), r"line 1: found \[1\], wanted a JSON object", id="list"),
    pytest.param(ok('{"id": "1", "kind": "host", "ru": ' + "9" * 5000 + "}"), "wanted a JSON object", id="digits"),
    pytest.param(ok("[" * 100_000, end(0)), "wanted a JSON object", id="brackets"),
    pytest.param(ok('{"id": "\udce9"}'.encode("utf-8", "surrogateescape").decode("latin-1")), "wanted", id="latin-1"),
]  # fmt: skip


@pytest.mark.parametrize("raw, said", FAULTS)
def test_a_bad_answer_is_no_empty_site(raw: bytes, said: str) -> None:
    """Neither at first, nor after a good one: what was known stays, and the next good answer counts."""
    with serving(*SITE) as server:
        server.spoil = lambda _target: raw
        source = opened(server.url)
        with pytest.raises(InventoryDown, match=f"GET http://[0-9.:]+/hosts: .*{said}"):
            source.read()
        assert source.state is None
        server.spoil = lambda _target: None
        before = source.read().frame, source.state
        server.spoil = lambda _target: None if "since" in _target else raw
        source.whole_s -= contract_source.WHOLE_EVERY_S
        with pytest.raises(InventoryDown, match=said):
            source.read()
        assert source.state is before[1]
        server.spoil = lambda _target: None
        assert table(source)[0].host_count == 6


@pytest.mark.parametrize(
    "attack, said",
    [
        pytest.param(endless, "a line of more than 1 MiB", id="endless-line"),
        pytest.param(bomb, "no inventory is packed that densely", id="gzip-bomb"),
    ],
)
def test_what_has_no_end_is_given_up(attack: Callable[[], Fault], said: str) -> None:
    with serving(*SITE) as server:
        server.spoil = lambda _target: attack()
        with pytest.raises(InventoryDown, match=said):
            opened(server.url).read()


def test_rows_without_end_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract_source, "WHOLE_BYTES_MAX", 1 << 20)
    monkeypatch.setattr(state, "FRAME_MAX", 100)

    def rows(kind: str) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        number = 0
        while True:
            number += 1
            yield (json.dumps({"id": str(number), "kind": kind, "name": "x" * 999}) + "\n").encode()

    with serving() as server:
        server.spoil = lambda _target: rows("host")
        with pytest.raises(InventoryDown, match="more than 1 MiB"):
            opened(server.url).read()
        server.spoil = lambda _target: rows("pool")
        with pytest.raises(InventoryDown, match="line 101: more than 100 networks, pools and containers"):
            opened(server.url).read()


def test_an_answer_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract_source, "FIRST_S", 0.2)
    monkeypatch.setattr(answers, "SLICE_S", 0.05)
    over = threading.Event()

    def drip() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        while not over.wait(0.02):
            yield b"\n"

    with serving() as server:
        server.spoil = lambda _target: drip()
        with pytest.raises(InventoryDown, match="not complete after 0 s"):
            opened(server.url).read()
        over.set()


def test_a_bad_row_of_any_kind_costs_itself() -> None:
    odd = [
        {"id": "x1", "kind": "phone", "name": "px"},
        {"id": "x2", "kind": "host", "name": "nomac", "mac": 5},
        {"id": "x3", "kind": "host", "mac": "02:00:00:00:00:99", "unknown": 1},
        {"id": "x4", "kind": "network", "base": "10.9.0.1", "mask": "255.255.0.0"},
    ]
    with serving(*SITE, *odd) as server:
        made, told = table(opened(server.url))
    assert made.host_count == 6
    said = "\n".join(reason for reasons in told.faults.values() for reason in reasons)
    for wanted in (
        "phone x1 (px): kind 'phone'; wanted network, pool, container, host", "host x2 (nomac): mac 5",
        "host x3 (None): field 'unknown'", "network x4 (10.9.0.1): base '10.9.0.1'",
    ):  # fmt: skip
        assert wanted in said


# --- memory ----------------------------------------------------------------------------------------------------------


def test_hosts_are_packed_while_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "CHUNK_BYTES", 500)
    monkeypatch.setattr(state, "PARTS", 4)
    gathering = state.Gathering()
    for number in range(400):
        gathering.add(stream.Entry(str(number), "host", json.dumps({"name": f"h{number}", "mac": "0" * 12})))
    assert max(gathering.sizes) <= 500 and sum(map(len, gathering.chunks)) > 20
    made = gathering.state("c", None)
    assert made.hosts == 400 and sum(len(part.packed) for part in made.parts) < 400 * 30
    assert {entry.id for part in made.parts for entry in part.entries().values()} == set(map(str, range(400)))
    assert [entry.id for entry in made.entries(["h7"]) if json.loads(entry.text)["name"] == "h7"] == ["7"]
    monkeypatch.setattr(state, "PACKED_BYTES_MAX", 1000)
    with pytest.raises(answers.AnswerSpoiled, match="hosts of more than 0 MiB, packed"):
        for number in range(400, 1400):
            gathering.add(stream.Entry(str(number), "host", json.dumps({"name": f"h{number}"})))


def test_progress_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract_source, "ROWS_TOLD", 2)
    told: list[tuple[str, int, int]] = []
    with serving(*SITE) as server:
        list(HostsSource(server.url, None, lambda *step: told.append(step)).read().batches)
    assert [done for stage, done, _ in told if stage == "list"] == [2, 4, 6, 8]
    assert [step for step in told if step[0] == "hosts"][-1] == ("hosts", 6, 6)


def test_a_network_described_twice_is_believed_in_neither(tmp_path: Path) -> None:
    with serving(*SITE, NETWORK | {"id": "net2", "gateway": "10.1.0.1"}) as server:
        done = compiled(opened(server.url))
    assert len(done.lost) == 6 and "wanted one row" in done.doubts[0] and "network net2 (n1)" in done.doubts[0]
