"""control/sources/contract: changes since a cursor, an ETag, look-ups by MAC; they end where a full read ends."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control.clusto.errors import InventoryDown
from control.config.config import Config
from control.plan.compile import Compiler
from control.planner.planner import Planner
from control.sources import rowreading
from control.sources.contract import source as contract_source
from control.sources.contract import state
from control.sources.contract.source import HostsSource
from control.sources.model import Inventory, TooMany
from fastpath.protocol import close_all
from tests.control.readings import sealed
from tests.control.sources.contract.hosts_server import NETWORK, POOL, SITE, Row, Server, end, host, ok, serving
from tests.control.sources.contract.test_contract_reading import compiled, opened, table
from tests.control.sources.test_filesource import CONFIG, hosts_of

PLACE = {"id": "place1", "kind": "container", "name": "dc1", "driver": "basicdatacenter", "dhcp": {"domain": "a.b"}}


def shown(server: Server) -> list[str]:
    """The requests since the last time, with CURSOR in place of what the server makes up."""
    found = [re.sub("[0-9a-f]{8}-[0-9]+", "CURSOR", target) for target in server.targets]
    server.targets.clear()
    return found


def content(found: state.State | None) -> Any:
    assert found is not None
    return {each: tuple(entry) for each, entry in found.frame.items()}, [part.packed for part in found.parts]


# --- since a cursor --------------------------------------------------------------------------------------------------


def test_only_what_changed_is_asked_for_and_planned_again() -> None:
    with serving(*SITE) as server:
        source, compiler = opened(server.url), Compiler(CONFIG)
        compiled(source, compiler)
        assert shown(server) == ["/hosts"]
        done = compiled(source, compiler)
        assert (done.kept_segments, done.planned) == (6, 0)
        server.rows.put(host(5, address="10.1.0.55"), host(9))
        del server.rows.now["3"]
        done = compiled(source, compiler)
        assert (done.kept_segments, done.planned, done.hosts) == (4, 2, 6)
        assert shown(server) == ["/hosts?since=CURSOR"] * 2
        assert content(source.state) == content(read_anew(server))
        server.rows.put(POOL | {"dhcp": {"enabled": 0}})
        assert compiled(source, compiler).planned == 6


def test_rows_that_did_not_change_are_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(*SITE, host(9, pool="only-named")) as server:
        source, compiler = opened(server.url), Compiler(CONFIG)
        compiled(source, compiler)
        server.rows.put(host(5, address="10.1.0.55"))
        true, parsed = source.rows, []

        def rows(entries: Any) -> Any:
            return true(parsed.append(entry.id) or entry for entry in entries)

        monkeypatch.setattr(source, "rows", rows)
        done = compiled(source, compiler)
        assert sorted(parsed) == ["5", "net1", "p1"] and done.planned == 1
        parsed.clear()
        server.rows.put(NETWORK | {"gateway": "10.1.0.1"})
        assert compiled(source, compiler).planned == 7 and len(parsed) == 9, "planned anew, of the same rows"
        monkeypatch.undo()
        assert {batch.where("h5") for batch in source.read().batches} >= {f"{source.title}: host 5 (h5)"}


def test_what_is_wrong_with_rows_that_did_not_change_is_told_when_it_begins_and_not_when_it_ends() -> None:
    with serving(*SITE, host(9, container="dc1"), PLACE) as server:
        source, compiler = opened(server.url), Compiler(CONFIG)
        for there in (True, False, True, True):
            server.rows.now.pop("place1", None)
            server.rows.put(*[PLACE] * there)
            made = compiled(source, compiler).assemble(None, set())
            fresh = compiled(opened(server.url)).assemble(None, set())
            assert sealed(made).digest == sealed(fresh).digest and made.faults == fresh.faults
            assert ("h9" in made.faults) is not there


def test_a_bad_row_stays_a_fault_when_those_beside_it_are_planned_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "PARTS", 1)
    with serving(*SITE, host(9, mac="junk")) as server:
        source, compiler = opened(server.url), Compiler(CONFIG)
        for domain in ("a.b", "a.b", "c.d"):
            server.rows.put(POOL | {"dhcp": {"enabled": 1, "domain": domain}})
            assert "h9" in compiled(source, compiler).assemble(None, set()).faults


def read_anew(server: Server) -> state.State | None:
    fresh = opened(server.url)
    fresh.read()
    return fresh.state


@pytest.mark.parametrize("tells", [("cursor", "total"), ("cursor",)])
def test_an_unknown_cursor_is_read_from_the_beginning(tells: tuple[str, ...]) -> None:
    with serving(*SITE) as server:
        server.rows.tells = tells
        source = opened(server.url)
        source.read()
        server.rows.run = "0badcafe"
        server.rows.put(host(9))
        made, _ = table(source)
        assert made.host_count == 7 and shown(server) == ["/hosts", "/hosts?since=CURSOR", "/hosts"]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(ok(host(9), end(1, total=8)), id="total"),
        pytest.param(ok(host(9), {"end": True, "hosts": 1}), id="no-cursor"),
        pytest.param(ok(*(host(number) for number in range(20, 40)), end(20)), id="too-many"),
    ],
)
def test_changes_that_cannot_be_all_are_not_believed(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract_source, "CHANGES_MAX", 10)
    with serving(*SITE) as server:
        source = opened(server.url)
        source.read()
        before = content(source.state)
        server.spoil = lambda target: answer if "since" in target else None
        source.read()
        assert content(source.state) == before and shown(server)[-2:] == ["/hosts?since=CURSOR", "/hosts"]


@pytest.mark.parametrize(
    "answer, said",
    [
        pytest.param(ok(host(9)), "ends after line 1 without", id="no-end"),
        pytest.param(ok(host(9), host(9), end(2)), "line 2: id 9 stands twice", id="id-twice"),
        pytest.param(
            ok({"id": "9", "deleted": True}, host(9), end(1)), "line 2: id 9 stands twice", id="gone-and-there"
        ),
        pytest.param(ok({"id": "2", "deleted": True}, end(1)), "its end line says 1 hosts, and 0 lines", id="count"),
        pytest.param(ok(host(9), end(1))[:-20], "cut off in the middle", id="cut"),
        pytest.param(b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>", "status 502", id="502"),
    ],
)
def test_bad_changes_change_nothing(answer: bytes, said: str) -> None:
    """And are not taken for a reason to read everything: the next poll asks again."""
    with serving(*SITE) as server:
        source = opened(server.url)
        source.read()
        before = source.state
        server.rows.put(host(9))
        server.spoil = lambda _target: answer
        with pytest.raises(InventoryDown, match=said):
            source.read()
        assert source.state is before
        server.spoil = lambda _target: None
        assert table(source)[0].host_count == 7
        assert shown(server) == ["/hosts", *["/hosts?since=CURSOR"] * 2]


def test_a_connection_that_was_idle_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its server may be about to close it: that would be a read that failed."""
    with serving(*SITE) as server:
        source = opened(server.url)
        for kept_s, connections in ((60.0, 1), (60.0, 1), (-1.0, 2), (60.0, 2)):
            monkeypatch.setattr(contract_source, "KEPT_S", kept_s)
            source.read()
            assert server.connections == connections


def test_everything_is_read_again_after_an_hour() -> None:
    with serving(*SITE) as server:
        source = opened(server.url)
        source.read()
        source.whole_s -= contract_source.WHOLE_EVERY_S
        source.read()
        source.read()
        assert shown(server) == ["/hosts", "/hosts", "/hosts?since=CURSOR"]


def test_an_id_that_becomes_something_else_is_that_alone() -> None:
    with serving(*SITE) as server:
        source = opened(server.url)
        source.read()
        server.rows.put({"id": "2", "kind": "pool", "name": "gpu"}, host(9) | {"id": "p1"})
        server.rows.put({"id": "p2", **{key: POOL[key] for key in ("kind", "name", "dhcp")}})
        assert table(source)[0].host_count == 6
        assert content(source.state) == content(read_anew(server))
        del server.rows.now["2"]
        source.read()
        assert content(source.state) == content(read_anew(server)) and source.state.frame.keys() == {"net1", "p2"}


# --- an ETag ---------------------------------------------------------------------------------------------------------


def test_an_inventory_without_cursors_says_by_its_etag_that_nothing_changed() -> None:
    with serving(*SITE) as server:
        server.rows.tells = ()
        source, compiler = opened(server.url), Compiler(CONFIG)
        compiled(source, compiler)
        known = source.state
        assert compiled(source, compiler).kept_segments == 6 and source.state is known, "304"
        server.rows.put(host(9))
        assert compiled(source, compiler).planned == 1
        server.rows.has_etag = False
        known = source.state
        source.read()
        assert source.state is not known and content(source.state) == content(known)
        assert shown(server) == ["/hosts"] * 4


def test_the_etag_of_changes_counts_for_the_next_poll() -> None:
    with serving(*SITE) as server:
        source = opened(server.url)
        source.read()
        server.rows.put(host(9))
        source.read()
        known = source.state
        server.spoil = lambda target: b"HTTP/1.1 304 Not Modified\r\n\r\n" if "since" in target else None
        source.read()
        assert source.state is known


# --- any edits, by any way -------------------------------------------------------------------------------------------

IDS = st.integers(2, 12)
EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), IDS, st.integers(2, 12), st.integers(2, 12), st.sampled_from(["racks", "gpu"])),
        st.tuples(st.just("delete"), IDS),
        st.tuples(st.just("pool"), st.sampled_from(["racks", "gpu"]), st.integers(0, 1)),
        st.tuples(st.just("read")),
    ),
    max_size=20,
)


@pytest.mark.property
@settings(max_examples=15, deadline=None)
@given(edits=EDITS)
def test_changes_in_any_order_end_where_a_full_read_ends(edits: list[Any]) -> None:
    """Hosts come, go, swap names, MACs and addresses; reads fall anywhere between.  Also the table is the same."""
    with serving(*SITE) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "PARTS", 2)  # or nearly every host would be alone in its part
        source, compiler = opened(server.url), Compiler(CONFIG)
        compiled(source, compiler)
        for kind, *said in edits:
            if kind == "read":
                compiled(source, compiler)
                assert content(source.state) == content(read_anew(server))
            else:
                edit(server, kind, *said)
        made = compiled(source, compiler).assemble(None, set())
        fresh = compiled(opened(server.url)).assemble(None, set())
        assert content(source.state) == content(read_anew(server))
        assert sealed(made).digest == sealed(fresh).digest
        assert (made.faults, made.reasons) == (fresh.faults, fresh.reasons)


def edit(server: Server, kind: str, *said: Any) -> None:
    if kind == "put":
        told_apart, name, address, pool = said
        row = host(name, address=f"10.1.0.{address}", pool=pool)
        server.rows.put(row | {"id": str(told_apart)})
    elif kind == "delete":
        server.rows.now.pop(str(said[0]), None)
    else:
        server.rows.put(
            {"id": "p1" if said[0] == "racks" else "p2", "kind": "pool", "name": said[0], "dhcp": {"enabled": said[1]}}
        )


# --- look-ups --------------------------------------------------------------------------------------------------------


def macs(*numbers: int) -> list[str]:
    return [f"02:00:00:00:00:{number:02x}" for number in numbers]


def names_of(found: Inventory) -> list[str]:
    return sorted(thing.name for thing in hosts_of(found))


def looking(server: Server) -> HostsSource:
    source = opened(server.url)
    source.read()
    shown(server)
    return source


def test_a_stranger_is_one_request() -> None:
    with serving(*SITE) as server:
        source = looking(server)
        server.rows.put(host(9), host(10))
        found = source.read_hosts(macs(9, 99), [], Inventory())
        assert names_of(found) == ["h9"] and found.parents["/server:9/h9"] == ("/pool/racks",)
        assert shown(server) == ["/hosts?" + "&".join(f"mac=02%3A00%3A00%3A00%3A00%3A{each}" for each in ("09", "63"))]
        assert names_of(source.read_hosts(macs(98), [], Inventory())) == [] and len(shown(server)) == 1


def test_the_second_question_of_a_look_up_reads_the_changes() -> None:
    """It is about who else has something of those that were found: nothing of what was known counts any more."""
    with serving(*SITE) as server:
        source = looking(server)
        first = source.read_hosts(macs(2), [], Inventory())
        assert names_of(source.read_hosts(macs(3), [], first)) == ["h3"]
        assert [target.partition("=")[0] for target in shown(server)] == ["/hosts?mac", "/hosts?since"]


def test_many_strangers_are_asked_for_in_several_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract_source, "MACS_A_REQUEST", 2)
    with serving(*SITE) as server:
        source = looking(server)
        assert names_of(source.read_hosts(macs(2, 3, 4), [], Inventory())) == ["h2", "h3", "h4"]
        assert len(shown(server)) == 2


@pytest.mark.parametrize(
    "change, asked, want",
    [
        pytest.param([host(9, pool="gpu"), {"id": "p2", "kind": "pool", "name": "gpu"}], 9, ["h9"], id="new-pool"),
        pytest.param([host(9, container="dc1"), PLACE], 9, ["h9"], id="new-container"),
        pytest.param([host(9, address="10.2.0.9"), NETWORK | {"id": "n2", "name": "n2", "base": "10.2.0.0"}], 9, ["h9"],
                     id="new-network"),
        pytest.param([host(9, address="10.1.0.2")], 9, ["h2", "h9"], id="address-of-another"),
        pytest.param([host(9, address="10.1.0.2"), host(2, address="10.1.0.99")], 9, ["h9"], id="address-moved"),
        pytest.param([host(9, mac=macs(2)[0]), host(2, mac=macs(88)[0])], 2, ["h9"], id="mac-moved"),
        pytest.param([host(2, mac=macs(88)[0])], 2, [], id="mac-gone"),
    ],
)  # fmt: skip
def test_a_look_up_that_touches_others_reads_what_changed(change: list[Row], asked: int, want: list[str]) -> None:
    with serving(*SITE) as server:
        source = looking(server)
        server.rows.put(*change)
        found = source.read_hosts(macs(asked), [], Inventory())
        assert names_of(found) == want and not found.unread
        assert [target.partition("=")[0] for target in shown(server)] == ["/hosts?mac", "/hosts?since"]


def test_a_container_that_comes_with_the_answer_counts() -> None:
    """And is of this answer alone, until it is read with everything else."""
    gpu = {"id": "p2", "kind": "pool", "name": "gpu", "dhcp": {"enabled": 1}}
    with serving(*SITE) as server:
        source = looking(server)
        server.spoil = lambda target: ok(host(9, pool="gpu"), gpu, end(1)) if "mac" in target else None
        found = source.read_hosts(macs(9), [], Inventory())
        assert found.things["/pool/gpu"].first("dhcp", "enabled") == 1 and len(shown(server)) == 1
        assert source.state is not None and "p2" not in source.state.frame


def test_names_are_looked_up_in_what_is_read_of_changes_and_twins_are_all_found() -> None:
    with serving(*SITE) as server:
        source = looking(server)
        server.rows.put(host(9, name="h2"))
        assert names_of(source.read_hosts([], ["h2"], Inventory())) == ["h2", "h2"]
        assert names_of(source.read_hosts([], ["racks"], Inventory())) == ["h2", "h2", *(f"h{n}" for n in range(3, 8))]
        assert names_of(source.read_hosts([], ["nobody"], Inventory())) == []
        assert shown(server) == ["/hosts?since=CURSOR"] * 3


def test_too_many_below_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rowreading, "BELOW_MAX", 20)
    with serving(NETWORK, POOL) as server:
        server.rows.put(*({"id": str(n), "kind": "host", "name": f"x{n}", "pool": "racks"} for n in range(21)))
        source = looking(server)
        with pytest.raises(TooMany):
            source.read_hosts([], ["racks"], Inventory())


@pytest.mark.parametrize(
    "answer, said",
    [
        pytest.param(b"HTTP/1.1 404 Not Found\r\n\r\n", "status 404, wanted 200", id="404"),
        pytest.param(b"HTTP/1.1 410 Gone\r\n\r\n", "status 410, wanted 200", id="410"),
        pytest.param(ok(host(9)), "ends after line 1 without", id="no-end"),
    ],
)
def test_a_look_up_that_fails_says_so(answer: bytes, said: str) -> None:
    with serving(*SITE) as server:
        source = looking(server)
        server.spoil = lambda _target: answer
        with pytest.raises(InventoryDown, match=said):
            source.read_hosts(macs(9), [], Inventory())


def test_a_look_up_while_a_reading_is_under_way_leaves_it_as_it_began() -> None:
    with serving(*SITE) as server:
        source = looking(server)
        batches = source.read().batches
        first = next(batches)
        server.rows.put(*(host(number, address=f"10.1.0.{number + 100}") for number in range(2, 8)))
        assert len(names_of(source.read_hosts([], ["racks"], Inventory()))) == 6
        things = [thing for batch in (first, *batches) for thing in batch.things()]
        assert {address.text for thing in things for address in thing.addresses()} == {
            f"10.1.0.{n}" for n in range(2, 8)
        }


# --- with the planner ------------------------------------------------------------------------------------------------


def planner_of(server: Server, folder: Path) -> tuple[Planner, list[Any]]:
    sent: list[Any] = []
    config = Config(dhcp=replace(CONFIG, api_url=server.url, state_dir=folder, max_shrink=1.0))
    return Planner(config, [], lambda message, _fds=(): sent.append(message)), sent


CHANGES: list[Any] = [
    pytest.param(lambda rows: rows.put(host(5, address="10.1.0.55")), (macs(5), []), id="address"),
    pytest.param(lambda rows: rows.put(host(5, mac=macs(55)[0])), (macs(55), []), id="new-card"),
    pytest.param(lambda rows: rows.put(host(5, mac=macs(55)[0])), ([], ["h5"]), id="new-card-by-name"),
    pytest.param(lambda rows: rows.put(host(5, name="h55")), (macs(5), []), id="renamed"),
    pytest.param(lambda rows: rows.put(host(5, name="h55")), ([], ["h55"]), id="renamed-by-name"),
    pytest.param(lambda rows: rows.now.pop("5"), (macs(5), []), id="gone"),
    pytest.param(lambda rows: rows.put(host(9)), (macs(9), []), id="new"),
    pytest.param(lambda rows: rows.put(host(9, address="10.1.0.5")), (macs(9), []), id="conflict"),
    pytest.param(
        lambda rows: rows.put(host(5, address="10.1.0.6"), host(6, address="10.1.0.5")), (macs(5), []), id="swap"
    ),
    pytest.param(lambda rows: rows.put(host(5) | {"id": "50"}) or rows.now.pop("5"), (macs(5), []), id="new-id"),
]  # fmt: skip


@pytest.mark.parametrize("change, asked", CHANGES)
def test_a_look_up_ends_where_a_refresh_ends(
    tmp_path: Path, change: Callable[[Any], None], asked: tuple[list[str], list[str]]
) -> None:
    with serving(*SITE) as server:
        planner, sent = planner_of(server, tmp_path)
        planner.refresh(False)
        change(server.rows)
        planner.look_up(*asked)
        assert sent[-1].origin == "hosts" and sent[-1].published, sent[-1]
        planner.refresh(False)
        assert sent[-1].origin == "inventory" and sent[-1].published is False, "the look-up had found it all"
        close_all(planner.served.fds())


def test_a_refusal_of_the_guard_is_no_change_that_is_forgotten(tmp_path: Path) -> None:
    """Most hosts deleted: refused as often as it is read, also when nothing changes any more, until somebody forces."""
    with serving(*SITE) as server:
        planner, sent = planner_of(server, tmp_path)
        planner.config = Config(dhcp=replace(planner.config.dhcp, max_shrink=0.2))
        planner.refresh(False)
        for number in range(3, 8):
            del server.rows.now[str(number)]
        for _ in range(2):
            planner.refresh(False)
            assert sent[-1].kind == "shrunk"
        planner.refresh(True)
        assert sent[-1].published and sent[-1].hosts == 1
        close_all(planner.served.fds())


def test_an_empty_answer_of_a_proxy_is_down_and_not_shrunk(tmp_path: Path) -> None:
    with serving(*SITE) as server:
        planner, sent = planner_of(server, tmp_path)
        planner.refresh(False)
        server.spoil = lambda _target: b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        planner.refresh(True)
        assert sent[-1].kind == "down" and "ends after line 0 without" in sent[-1].reason
        close_all(planner.served.fds())
