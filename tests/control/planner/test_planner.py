"""control/planner/planner.py: how an inventory becomes a base, a delta or nothing new, and what is refused."""

import fcntl
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest

from control.clusto.rawrows import TELL_EVERY_CHARS
from control.config.config import Config, Dhcp
from control.planner import planner as planner_module
from control.planner import report as report_module
from control.planner import served as served_module
from control.planner.foreign import Foreign
from control.planner.jobs import KINDS, Failed, LookUp, OriginsFound, PlanBegin, Planned, Progress, Refresh, Relink
from control.planner.planner import Planner
from control.planner.process import handle, run
from control.planner.questions import find_origins
from control.planner.report import write_report
from control.sources.model import name_of
from fastpath.protocol import Channel, ChannelClosed, close_all, memfd
from tests.control.inventories import At, Site
from tests.control.planning import (
    LINKS,
    OTHER_LINKS,
    Control,
    Inventory,
    config,
    end,
    figures,
    mac,
    number,
    open_memfds,
    refresh,
    site,
    text,
)
from tests.control.spoiling import http

# --- who said what ---------------------------------------------------------------------------------------------------


def test_origins_of_single_hosts_publish_nothing(planner: Planner, control: Control, inventory: Inventory) -> None:
    asked = [(mac(1), 0x0A01000B), (mac(99), 0x0A0100FE)]
    find_origins(planner, asked)
    assert control.last == OriginsFound(failed="the inventory has not been read as a whole yet")
    planner.refresh(False)
    published = number(planner)
    site(changed={1}).store_in(inventory.store)
    find_origins(planner, asked)
    assert control.last == OriginsFound() and number(planner) == published
    rows = {(mac, client): said for mac, _address, client, said in control.unpacked()}
    assert rows[mac(1), 0][15] == "pool boot, domain" and rows[mac(1), 0][12] == "name of server h1"
    assert {tuple(said) for (each, _client), said in rows.items() if each == mac(99)} == {()}, "nobody has that"
    inventory.down = http("Traceback\nKeyError: 'x'", "500 Oops")
    find_origins(planner, asked)
    assert "500" in control.last.failed and number(planner) == published


# --- refresh ---------------------------------------------------------------------------------------------------------


def test_the_first_refresh_publishes_a_base(planner: Planner, control: Control) -> None:
    planner.refresh(False)
    assert isinstance(control.last, Planned)
    assert (control.last.origin, control.last.published) == ("inventory", True)
    assert control.last.generation == control.last.base == 1
    assert figures(control.last) == (6, 6, 0, 0)
    assert [name for name in control.last.stages_s if name != "cpu"] == ["fetch", "parse", "plan", "build", "pack"]
    pair = control.pair()
    pair.base.verify()
    assert pair.delta is None and pair.base.networks == ((0x0A010000, 0x0A0100FF),)
    row = pair.lookup(mac(3))
    assert row is not None and (row["name"], row["leases"][0]["address"]) == (b"h3", 0x0A01000D)


def test_progress_says_every_stage(planner: Planner, control: Control) -> None:
    planner.refresh(False)
    stages = [message.stage for message in control.sent if isinstance(message, Progress)]
    assert list(dict.fromkeys(stages)) == ["list", "containers", "managers", "hosts", "build"]


def test_progress_is_said_by_the_work_itself(control: Control, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of a file as they are read, rows as they are planned: no stage of a large site is silent."""
    monkeypatch.setattr(planner_module, "PROGRESS_EVERY_S", 0.0)
    hosts = tmp_path / "hosts.csv"
    lines = [f"h{n},02:00:00:00:{n >> 8:02x}:{n & 255:02x},10.1.{n >> 8}.{n & 255}" for n in range(3000)]
    hosts.write_text("\n".join(["name,mac,address", *lines]))
    made = Planner(Config(dhcp=Dhcp(api_url=f"file://{hosts}", state_dir=tmp_path)), LINKS, control.send)
    made.refresh(False)
    end(made)
    told = [message for message in control.sent if isinstance(message, Progress)]
    size = hosts.stat().st_size
    assert size - TELL_EVERY_CHARS <= max(at.bytes for at in told) <= size and any(0 < at.bytes < size for at in told)
    assert {1000, 2000, 3000} <= {at.rows for at in told}
    assert [at.done for at in told if at.stage == "build"] == [0, 1, 2, 3, 4]


def test_one_changed_host_is_a_delta_on_the_same_base(planner: Planner, control: Control, inventory: Inventory) -> None:
    planner.refresh(False)
    refresh(planner, inventory, site(changed={2}))
    assert (control.last.generation, control.last.base, control.last.published) == (2, 1, True)
    assert figures(control.last) == (6, 0, 1, 0)
    pair = control.pair()
    assert pair.delta is not None and list(pair.delta.keys()) == [(mac(2), 0)]
    assert pair.lookup(mac(2))["leases"][0]["address"] == 0x0A010070
    assert pair.lookup(mac(1))["leases"][0]["address"] == 0x0A01000B


def test_a_host_that_left_is_a_tombstone(planner: Planner, control: Control, inventory: Inventory) -> None:
    planner.refresh(False)
    refresh(planner, inventory, site(gone={2}))
    assert figures(control.last) == (5, 0, 0, 1)
    pair = control.pair()
    assert pair.delta.lookup(mac(2))["state"] == "tombstone"
    assert pair.lookup(mac(2)) is None and pair.top.host_count == 5


def test_a_delta_is_cumulative_over_its_base(planner: Planner, control: Control, inventory: Inventory) -> None:
    planner.refresh(False)
    refresh(planner, inventory, site(changed={2}))
    refresh(planner, inventory, site(changed={2, 3}, gone={4}))
    assert figures(control.last) == (5, 0, 1, 1), "the figures are those since the last generation"
    pair = control.pair()
    assert (pair.base.number, pair.top.number) == (1, 3)
    assert sorted(pair.delta.keys()) == [(mac(2), 0), (mac(3), 0), (mac(4), 0)]
    refresh(planner, inventory, site())
    assert list(control.pair().delta.keys()) == [], "all as in the base again"
    assert control.pair().top.digest == control.pair().base.digest


def test_a_delta_and_a_new_base_have_one_content(
    planner: Planner, control: Control, inventory: Inventory, tmp_path: Path
) -> None:
    planner.refresh(False)
    refresh(planner, inventory, site(7, changed={2}, gone={3}))
    other = Control()
    fresh = Planner(config(inventory, tmp_path / "other"), LINKS, other.send)
    fresh.refresh(False)
    assert other.pair().top.digest == control.pair().top.digest
    assert sorted(other.pair().keys()) == sorted(control.pair().keys())
    other.close()
    end(fresh)


def test_many_changes_are_a_new_base(
    planner: Planner, control: Control, inventory: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_module, "DELTA_ROWS_MAX", 2)
    planner.refresh(False)
    refresh(planner, inventory, site(changed={1, 2}))
    assert (control.last.generation, control.last.base) == (2, 1)
    refresh(planner, inventory, site(changed={1, 2, 3}))
    assert (control.last.generation, control.last.base) == (3, 3)
    assert control.pair().delta is None and figures(control.last) == (6, 0, 1, 0)


def test_no_change_publishes_nothing_and_confirms(planner: Planner, control: Control, inventory: Inventory) -> None:
    planner.refresh(False)
    before = control.last
    refresh(planner, inventory, site())
    assert (control.last.published, control.last.generation, figures(control.last)) == (False, 1, (6, 0, 0, 0))
    assert len(control.fds[-1]) == 1, "the report alone"
    assert control.last.confirmed_s >= before.confirmed_s
    refresh(planner, inventory, site(changed={1}))
    assert control.last.generation == 2, "numbers have no gaps for nothing"


def test_new_networks_alone_are_published(planner: Planner, control: Control, inventory: Inventory) -> None:
    """They decide where a wrong address is refused."""
    planner.refresh(False)
    content = site()
    content.network("new", "10.9.0.0/24")
    refresh(planner, inventory, content)
    assert control.last.published and figures(control.last) == (6, 0, 0, 0)
    assert control.pair().top.networks == ((0x0A010000, 0x0A0100FF), (0x0A090000, 0x0A0900FF))


def test_the_report_says_who_is_silent_and_why(planner: Planner, control: Control, inventory: Inventory) -> None:
    content = site()
    content.host("odd", mac="02:00:00:00:00:63", pools=["boot"], dhcp={"nonsense": 1})
    content.host("bad", "10.1.0.255", mac="02:00:00:00:00:64", pools=["boot"], dhcp={})
    refresh(planner, inventory, content)
    assert control.last.quarantined == 1
    report = control.report()
    assert report["reasons"]["02:00:00:00:00:63"] == "no address bound"
    assert "broadcast" in report["reasons"]["02:00:00:00:00:64"]
    assert (sorted(report["faults"]), report["faults_total"]) == (["bad"], 1)


def unpacked(fd: int) -> Any:
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        return msgpack.unpack(file)


def test_an_empty_report() -> None:
    assert unpacked(write_report({}, {})) == {"faults": {}, "reasons": {}, "faults_total": 0, "answered": []}


def test_a_report_is_bounded_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "REPORT_LINES_MAX", 2)
    names = [f"h{at}" for at in range(5)]
    report = unpacked(write_report({name: ["why"] for name in names}, dict.fromkeys(names, "why")))
    assert (list(report["faults"]), list(report["reasons"]), report["faults_total"]) == (names[:2], names[:2], 5)


def test_half_a_letter_in_a_name_harms_nothing(planner: Planner, control: Control, inventory: Inventory) -> None:
    """JSON can say it; neither the table nor msgpack nor a URL can: that host is not readable, the others are."""
    raw = http(
        '["/server/h1", "/server/h2", "/server/h3", "/server/h4", "/server/h5", "/server/h6", "/server/x\\ud800"]'
    )
    inventory.spoiled = {'get_entities?attrs=[{"key": "port-nic-eth"': raw}
    for _again in range(2):
        planner.refresh(False)
        assert isinstance(control.last, Planned) and control.last.hosts == 6
        assert len(control.last.doubts) == 1 and "1 objects of single hosts" in control.last.doubts[0]
    assert unpacked(write_report({"h\ud800": ["\ud800"]}, {}))["faults"] == {"h\\ud800": ["\\ud800"]}


def test_a_list_of_bad_records_costs_only_those(planner: Planner, control: Control, inventory: Inventory) -> None:
    """Through JSON and HTTP, beside hosts that are well: who is well is answered as if they were not there."""
    refresh(planner, inventory, site())
    well = control.pair()
    content = site()
    content.network("open", "10.7.0.0/24")
    content.pool("one", pools=[], enabled=1)
    content.pool("two", pools=["one"], lease_time="7200")
    content.put("one", "two")
    odd: dict[str, tuple[Any, dict[str, Any]]] = {
        "number-as-text": ("10.1.0.50", {"lease_time": "7200"}),
        "letters-as-number": ("10.1.0.51", {"lease_time": "abc"}),
        "name.with.dots": ("10.1.0.52", {}),
        "outside": (At("10.9.0.1"), {}),
        "no-gateway": (At("10.7.0.9", "open"), {}),
        "IPv6": ("fe80::1", {}),
        "NULL": ("10.1.0.53", {"domain": None}),
        "huge": ("10.1.0.54", {"domain": "x" * (1 << 20)}),
        "in-a-cycle": ("10.1.0.55", {}),
    }
    for at, (name, (address, dhcp)) in enumerate(odd.items(), 100):
        pools = ["two"] if name == "in-a-cycle" else []
        content.host(name, address, mac=text(at), pools=pools, dhcp=dhcp if pools else {"enabled": 1} | dhcp)
    content.host("dashes", "10.1.0.56", mac="02-00-00-00-00-C8", dhcp={"enabled": 1})
    refresh(planner, inventory, content)
    pair = control.pair()
    for key in well.keys():  # noqa: SIM118
        assert pair.lookup(*key) == well.lookup(*key)
    rows = {row["name"].decode(): row for row in (pair.lookup(*key) for key in pair.keys())}  # noqa: SIM118
    assert {name for name, row in rows.items() if row["state"] != "served"} == {"outside", "IPv6"}
    assert rows["number-as-text"]["leases"][0]["template"]["lease_s"] == 7200
    assert rows["letters-as-number"]["leases"][0]["template"]["lease_s"] == 3600
    assert rows["in-a-cycle"]["leases"][0]["template"]["lease_s"] == 7200
    assert rows["dashes"]["mac"] == 0x0200000000C8
    report = control.report()
    assert report["faults"].keys() == {"letters-as-number", "outside", "NULL", "huge"}
    assert max(len(reason) for reasons in report["faults"].values() for reason in reasons) < 300


def test_fds_do_not_pile_up(planner: Planner, control: Control, inventory: Inventory) -> None:
    planner.refresh(False)
    control.close()
    control.fds.clear()
    counts = []
    for turn in range(5):
        refresh(planner, inventory, site(changed={turn + 1}))
        planner.relink(LINKS if turn % 2 else OTHER_LINKS)
        control.close()
        control.fds.clear()
        counts.append(open_memfds())
    assert counts[1] == counts[-1] <= counts[0] + 1, f"{counts}: the pair, the one before it, and no more"


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "max_shrink, before, after, refused",
    [
        pytest.param(0.2, site(6), site(6, gone={1}), False, id="one-of-six"),
        pytest.param(0.2, site(5), site(5, gone={1}), False, id="exactly-the-share"),
        pytest.param(0.2, site(6), site(6, gone={1, 2}), True, id="two-of-six"),
        pytest.param(0.2, site(6), site(6, off=True), True, id="disabled-is-gone-too"),
        pytest.param(0.0, site(6), site(6, gone={1}), True, id="none-at-all"),
        pytest.param(1.0, site(6), site(0), False, id="all"),
        pytest.param(0.2, site(0), site(6), False, id="from-nothing"),
        pytest.param(0.2, site(6, off=True), site(0), False, id="nobody-was-answered"),
        pytest.param(0.2, site(6), site(6, changed={1, 2, 3, 4, 5, 6}), False, id="changed-is-not-gone"),
        pytest.param(0.2, site(6), site(12, gone={1, 2, 3, 4, 5, 6}), True, id="as-many-new-ones-are-no-excuse"),
    ],
)
def test_shrinking(
    inventory: Inventory, control: Control, tmp_path: Path, max_shrink: float, before: Site, after: Site, refused: bool
) -> None:
    made = Planner(config(inventory, tmp_path, max_shrink=max_shrink), LINKS, control.send)
    refresh(made, inventory, before)
    refresh(made, inventory, after)
    assert isinstance(control.last, Failed if refused else Planned)
    if refused:
        assert control.last.kind == "shrunk"
        assert "hosts would no longer be answered (" in control.last.reason
        assert "generation 1 serves on" in control.last.reason and "--force" in control.last.reason
        assert number(made) == 1
        made.refresh(True)
        assert isinstance(control.last, Planned) and control.last.published
        assert control.last.hosts == control.pair().top.host_count
    end(made)


def test_an_inventory_that_is_down_changes_nothing(planner: Planner, control: Control, inventory: Inventory) -> None:
    planner.refresh(False)
    inventory.down = http("Traceback\nKeyError: 'x'", "500 Oops")
    planner.refresh(False)
    assert isinstance(control.last, Failed) and control.last.kind == "down"
    assert "status 500" in control.last.reason and control.fds[-1] == []
    assert number(planner) == 1
    inventory.down = None
    refresh(planner, inventory, site(changed={1}))
    assert isinstance(control.last, Planned) and control.last.generation == 2


# --- single hosts ----------------------------------------------------------------------------------------------------


def test_a_look_up_before_a_whole_read_is_refused(planner: Planner, control: Control) -> None:
    planner.look_up([text(1)], [])
    assert control.last == Failed(kind="unread", reason="the inventory has not been read as a whole yet", job="hosts")


@pytest.mark.parametrize("by", ["mac", "name"])
def test_a_look_up_publishes_the_host_and_nothing_else(
    planner: Planner, control: Control, inventory: Inventory, by: str
) -> None:
    planner.refresh(False)
    site(7, changed={2}).store_in(inventory.store)
    planner.look_up(*(([text(7)], []) if by == "mac" else ([], ["h7"])))
    assert (control.last.origin, control.last.published, control.last.missing) == ("hosts", True, [])
    assert figures(control.last) == (7, 1, 0, 0) and control.last.base == 1
    assert control.pair().lookup(mac(7))["leases"][0]["address"] == 0x0A010011
    assert control.pair().lookup(mac(2))["leases"][0]["address"] == 0x0A01000C, "nobody asked for that one"
    planner.refresh(False)
    assert figures(control.last) == (7, 0, 1, 0), "a whole read finds the rest"


def test_a_look_up_of_what_is_as_it_was_publishes_nothing(planner: Planner, control: Control) -> None:
    planner.refresh(False)
    planner.look_up([text(1), text(99)], [])
    assert (control.last.published, control.last.generation) == (False, 1)
    assert control.last.missing == [text(99)]
    planner.look_up([], ["h1", "nobody", "boot", "net", "Nobody"])
    assert (control.last.published, control.last.missing_names) == (False, ["Nobody", "nobody"])


@pytest.mark.parametrize("by", ["mac", "name"])
def test_a_look_up_of_a_host_that_left_removes_it(
    planner: Planner, control: Control, inventory: Inventory, by: str
) -> None:
    planner.refresh(False)
    site(gone={2}).store_in(inventory.store)
    planner.look_up(*(([text(2)], []) if by == "mac" else ([], ["h2"])))
    assert figures(control.last) == (5, 0, 0, 1) and control.pair().lookup(mac(2)) is None
    assert control.last.missing_names == ([] if by == "mac" else ["h2"])


def test_a_look_up_that_finds_somebody_s_address_silences_both(
    planner: Planner, control: Control, inventory: Inventory
) -> None:
    planner.refresh(False)
    content = site()
    content.host("thief", "10.1.0.11", mac=text(50), pools=["boot"], dhcp={})
    content.store_in(inventory.store)
    planner.look_up([text(50)], [])
    assert [control.pair().lookup(mac(host))["state"] for host in (1, 50)] == ["conflict", "conflict"]
    assert control.report()["faults"].keys() == {"h1", "thief"}


def test_a_look_up_does_not_make_the_table_on_disk_look_fresh(
    planner: Planner, control: Control, inventory: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its age is that of the last whole read: the other hosts were not confirmed."""
    monkeypatch.setattr(planner_module.time, "time", lambda: 1_000_000.0)  # type: ignore[attr-defined]
    planner.refresh(False)
    monkeypatch.undo()
    site(7).store_in(inventory.store)
    planner.look_up([text(7)], [])
    assert control.last.published
    cold = Planner(planner.config, LINKS, control.send)
    cold.load_from_disk()
    assert (control.last.confirmed_s, control.last.hosts) == (1_000_000.0, 7)
    end(cold)


# --- interfaces ------------------------------------------------------------------------------------------------------


def test_a_relink_keeps_hosts_and_delta(planner: Planner, control: Control, inventory: Inventory) -> None:
    planner.refresh(False)
    refresh(planner, inventory, site(changed={2}, gone={3}))
    before = control.pair()
    planner.relink(OTHER_LINKS)
    after = control.pair()
    assert (control.last.origin, control.last.generation, control.last.base) == ("links", 3, 1)
    assert control.report() == {"faults": {}, "reasons": {}, "faults_total": 0, "answered": []}
    assert after.top.digest == before.top.digest and after.top.networks == before.top.networks
    assert after.top.created_s == before.top.created_s
    assert sorted(after.delta.keys()) == sorted(before.delta.keys())
    assert after.lookup(mac(3)) is None and after.lookup(mac(2)) == before.lookup(mac(2))
    refresh(planner, inventory, site(changed={2}, gone={3}))
    assert control.last.published is False


def test_a_relink_before_any_table_says_nothing(planner: Planner, control: Control) -> None:
    planner.relink(OTHER_LINKS)
    assert control.sent == [] and planner.links == OTHER_LINKS


def test_surroundings_say_which_interfaces_are_served(inventory: Inventory, tmp_path: Path) -> None:
    every = Planner(config(inventory, tmp_path), LINKS, print).surroundings((), ())
    some = Planner(config(inventory, tmp_path, interfaces=("eth1",)), LINKS, print).surroundings((), ())
    assert [link[4] for link in every.links] == [True, True] and not every.interfaces_limited
    assert [link[4] for link in some.links] == [False, True] and some.interfaces_limited
    assert [link[:4] for link in some.links] == [(2, 0x0A010002, 24, 1500), (3, 0x0A020002, 24, 9000)]


# --- starts ----------------------------------------------------------------------------------------------------------


def test_a_cold_start_serves_what_the_disk_has(
    planner: Planner, control: Control, inventory: Inventory, tmp_path: Path
) -> None:
    planner.refresh(False)
    refresh(planner, inventory, site(changed={2}))
    before = control.pair()
    confirmed_s = control.last.confirmed_s
    inventory.down = http("", "500 Down")
    cold = Planner(config(inventory, tmp_path), OTHER_LINKS, control.send)
    cold.load_from_disk()
    assert (control.last.origin, control.last.base, control.last.hosts) == ("disk", 1, 6)
    assert control.last.generation == before.top.number + 1 and control.last.published
    assert control.last.confirmed_s == pytest.approx(confirmed_s, abs=30)
    assert control.pair().top.digest == before.top.digest
    cold.refresh(False)
    assert isinstance(control.last, Failed)
    inventory.down = None
    cold.refresh(False)
    assert control.last.published is False, "the inventory says the same as the disk"
    refresh(cold, inventory, site(gone={2, 3}))
    assert isinstance(control.last, Failed) and control.last.kind == "shrunk", "the guard counts from the disk's table"
    end(cold)


def test_a_cold_start_without_a_disk_says_nothing(planner: Planner, control: Control) -> None:
    planner.load_from_disk()
    assert control.sent == [] and planner.served.pair is None


def test_a_restart_takes_over_what_is_served(
    planner: Planner, control: Control, inventory: Inventory, tmp_path: Path
) -> None:
    planner.refresh(False)
    refresh(planner, inventory, site(changed={2}))
    _report, base, delta = control.fds[-1]
    next_one = Planner(config(inventory, tmp_path), LINKS, control.send)
    next_one.served.number = 40
    next_one.adopt(os.dup(base), os.dup(delta))
    next_one.relink(LINKS)
    assert (control.last.origin, control.last.generation, control.last.base) == ("links", 41, 1)
    next_one.refresh(False)
    assert (control.last.published, control.last.generation) == (False, 41)
    end(next_one)


# --- the process's loop ----------------------------------------------------------------------------------------------


@contextmanager
def process(inventory: Inventory, folder: Path, fds: list[int] | None = None, at_least: int = 0) -> Iterator[Channel]:
    """A planner process that has heard its beginning; when the channel is closed it ends, whatever it waits for.

    at_least: number of its channel's descriptor, and there are as many open below."""
    ours, theirs = Channel.pair(KINDS)
    ours.sock.settimeout(60)
    below = [os.open(os.devnull, os.O_RDONLY) for _ in range(at_least)]
    theirs_fd = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, at_least)
    argv = [sys.executable, "-P", "-m", "control", "planner", str(theirs_fd)]
    with subprocess.Popen(argv, pass_fds=[theirs_fd, *below]) as running:
        theirs.close()
        close_all([theirs_fd, *below])
        content = f'{{"dhcp": {{"api_url": "{inventory.server.url}", "state_dir": "{folder}"}}}}'
        with memfd("config", content.encode()) as config_fd:
            begin = PlanBegin(config_path="services.conf", state_dir=str(folder), links=LINKS, generation=5)
            ours.send(begin, [config_fd, *(fds or [])])
        try:
            yield ours
        finally:
            ours.close()
            assert running.wait(60) == 0


def answer(channel: Channel) -> Any:
    while True:
        message, fds = channel.receive()
        close_all(fds)
        if not isinstance(message, Progress):
            return message


def test_a_planner_answers_until_the_channel_is_closed(inventory: Inventory, tmp_path: Path) -> None:
    with process(inventory, tmp_path) as channel:
        channel.send(Refresh())
        planned = answer(channel)
        assert (planned.origin, planned.generation, planned.hosts) == ("inventory", 6, 6)
        channel.send(Relink(links=OTHER_LINKS))
        assert answer(channel).origin == "links"


def test_a_planner_with_more_than_1024_descriptors(inventory: Inventory, tmp_path: Path) -> None:
    """select() ends there, with ValueError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4_000:
        pytest.skip("needs 4,000 descriptors of its own")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4_000), hard))
    try:
        with process(inventory, tmp_path, at_least=1_100) as channel:
            channel.send(Refresh())
            assert answer(channel).origin == "inventory"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_run_wants_its_beginning_first() -> None:
    ours, theirs = Channel.pair(KINDS)
    ours.send(Refresh())
    with pytest.raises(TypeError, match="the first message is Refresh, wanted PlanBegin"):
        run(theirs)
    ours.close()
    with pytest.raises(ChannelClosed):
        run(theirs)
    theirs.close()


@pytest.mark.parametrize("bug", [KeyError("/server/x"), RecursionError("too deep"), MemoryError()], ids=repr)
def test_a_fault_of_ours_is_an_outcome_and_not_the_end(
    inventory: Inventory, tmp_path: Path, caplog: pytest.LogCaptureFixture, bug: Exception
) -> None:
    """Of a refresh and of a look-up: who asked hears of it, the log has the traceback, and the next job is done."""
    ours, theirs = Channel.pair(KINDS)
    made = Planner(config(inventory, tmp_path), LINKS, theirs.send)

    def ask(message: Any) -> Any:
        ours.send(message)
        handle(made, theirs, Foreign(made))
        answer, fds = ours.receive()
        while isinstance(answer, Progress):
            answer, fds = ours.receive()
        close_all(fds)
        return answer

    try:
        assert isinstance(ask(Refresh()), Planned)
        with pytest.MonkeyPatch.context() as patch:

            def fails(*_: Any) -> Any:
                raise bug

            patch.setattr(made.compiler, "begin", fails)
            patch.setattr(made.source, "read_hosts", fails)
            for message, job in ((Refresh(), "refresh"), (LookUp(macs=[text(1)], names=[]), "hosts")):
                answer = ask(message)
                assert isinstance(answer, Failed) and (answer.kind, answer.job) == ("internal", job)
                assert type(bug).__name__ in answer.reason and "Traceback" in caplog.text
        assert isinstance(ask(LookUp(macs=[text(1)], names=[])), Planned)
        assert isinstance(ask(Refresh()), Planned)
    finally:
        end(made)
        ours.close()
        theirs.close()


def test_a_network_is_no_host_and_holds_none(planner: Planner, control: Control) -> None:
    planner.refresh(False)
    assert planner.frame is not None
    name = name_of(planner.frame.managers[0])
    planner.look_up([], ["h1", name], asked=True)
    wanted = "wanted a host or a container; `ctl refresh` reads all networks with their hosts"
    assert control.last == Failed(kind="network", reason=f"{name} is a network; {wanted}", job="hosts")
