"""control/planner.py: how an inventory becomes a base, a delta or nothing new, and what is refused."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from ext.builder import Surroundings
from ext.table import Generation, Pair

from control import planner as planner_module
from control.clusto.server import application
from control.clusto.store import Store
from control.config import Config, Dhcp
from control.plan import Plan, Row, State
from control.planner import (
    KINDS,
    Failed,
    PlanBegin,
    Planned,
    Planner,
    Progress,
    Refresh,
    Relink,
    build,
    run,
    write_report,
)
from fastpath.protocol import Channel, ChannelClosed, close_all, memfd
from tests.control.clusto.support import new_store
from tests.control.inventories import Site
from tests.control.spoiling import Spoiling, http, spoiling

LINKS: list[list[int | str]] = [[2, "eth0", 0x0A010002, 24, 1500], [3, "eth1", 0x0A020002, 24, 9000]]
OTHER_LINKS: list[list[int | str]] = [[2, "eth0", 0x0A010003, 24, 1500]]


def mac(number: int) -> int:
    return 0x020000000000 + number


def site(hosts: int = 6, *, gone: set[int] | None = None, changed: set[int] | None = None, off: bool = False) -> Site:
    """Hosts h1, h2, ... in one pool; those of `changed` have an address 100 higher."""
    made = Site()
    made.pool("boot", enabled=0 if off else 1, domain="x.example")
    for number in sorted(set(range(1, hosts + 1)) - (gone or set())):
        address = f"10.1.0.{number + 10 + (100 if number in (changed or ()) else 0)}"
        made.host(f"h{number}", address, mac=mac(number).to_bytes(6, "big").hex(":"), pools=["boot"], dhcp={})
    return made


class Inventory:
    """The embedded inventory behind HTTP.  down: what it says instead of the truth."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.down: bytes | None = None
        self.server: Spoiling

    def spoil(self, _target: str) -> bytes | None:
        return self.down


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inventory]:
    store = new_store(tmp_path_factory.mktemp("inventory"))
    made = Inventory(store)
    with spoiling(application(store), made.spoil) as server:
        made.server = server
        yield made
    store.close()


@pytest.fixture
def inventory(served: Inventory) -> Inventory:
    served.down = None
    site().store_in(served.store)
    return served


class Control:
    """What control would see: messages in order, fds as sendmsg copies them."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.fds: list[list[int]] = []

    def send(self, message: Any, fds: list[int] | tuple[int, ...] = ()) -> None:
        if not isinstance(message, Progress):
            self.fds.append([os.dup(fd) for fd in fds])
        self.sent.append(message)

    @property
    def said(self) -> list[Any]:
        return [message for message in self.sent if not isinstance(message, Progress)]

    @property
    def last(self) -> Any:
        return self.said[-1]

    def report(self) -> dict[str, Any]:
        with os.fdopen(os.dup(self.fds[-1][0]), "rb") as file:
            file.seek(0)
            return dict(msgpack.unpack(file))

    def pair(self) -> Pair:
        _report, base, *delta = self.fds[-1]
        return Pair(Generation(base), Generation(delta[0]) if delta else None)

    def close(self) -> None:
        for fds in self.fds:
            close_all(fds)


@pytest.fixture
def control() -> Iterator[Control]:
    made = Control()
    yield made
    made.close()


def config(inventory: Inventory, folder: Path, **dhcp: Any) -> Config:
    return Config(dhcp=Dhcp(api_url=inventory.server.url, state_dir=folder, **dhcp))


@pytest.fixture
def planner(inventory: Inventory, control: Control, tmp_path: Path) -> Iterator[Planner]:
    made = Planner(config(inventory, tmp_path), LINKS, control.send)
    yield made
    close_all([fd for fd in (made.base_fd, made.delta_fd) if fd >= 0])


def figures(planned: Planned) -> tuple[int, int, int, int]:
    return planned.hosts, planned.added, planned.changed, planned.removed


def refresh(planner: Planner, inventory: Inventory, content: Site, force: bool = False) -> None:
    content.store_in(inventory.store)
    planner.refresh(force)


# --- refresh ---------------------------------------------------------------------------------------------------------


def test_the_first_refresh_publishes_a_base(planner: Planner, control: Control) -> None:
    planner.refresh(False)
    assert isinstance(control.last, Planned)
    assert (control.last.origin, control.last.published) == ("inventory", True)
    assert control.last.generation == control.last.base == 1
    assert figures(control.last) == (6, 6, 0, 0)
    assert list(control.last.stages_s) == ["fetch", "plan", "build", "pack"]
    pair = control.pair()
    pair.base.verify()
    assert pair.delta is None and pair.base.networks == ((0x0A010000, 0x0A0100FF),)
    row = pair.lookup(mac(3))
    assert row is not None and (row["name"], row["leases"][0]["address"]) == (b"h3", 0x0A01000D)


def test_progress_says_every_stage(planner: Planner, control: Control) -> None:
    planner.refresh(False)
    stages = [message.stage for message in control.sent if isinstance(message, Progress)]
    assert list(dict.fromkeys(stages))[-2:] == ["plan", "build"] and "containers" in stages


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
    os.close(fresh.base_fd)


def test_many_changes_are_a_new_base(
    planner: Planner, control: Control, inventory: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner_module, "DELTA_ROWS_MAX", 2)
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
    assert report["planned"] is True and report["reasons"]["02:00:00:00:00:63"] == "no address bound"
    assert "broadcast" in report["reasons"]["02:00:00:00:00:64"] and list(report["faults"]) == ["bad"]


def test_an_empty_report_of_what_was_not_planned() -> None:
    fd = write_report(None)
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        assert msgpack.unpack(file) == {"planned": False, "faults": {}, "reasons": {}}


def test_half_a_letter_in_a_name_harms_nothing() -> None:
    """JSON can say it; neither the table nor msgpack can."""
    plan = Plan(rows=[Row(mac(1), State.DISABLED, "h\ud800", b"", (), "why \ud800")], faults={"h\ud800": ["\ud800"]})
    table_fd, report_fd = build(plan, Surroundings(), 1, 1), write_report(plan)
    assert Generation(table_fd).lookup(mac(1))["name"] == b"h\\ud800"
    with os.fdopen(report_fd, "rb") as file:
        file.seek(0)
        assert msgpack.unpack(file)["faults"] == {"h\\ud800": ["\\ud800"]}
    os.close(table_fd)


def test_fds_do_not_pile_up(planner: Planner, control: Control, inventory: Inventory) -> None:
    planner.refresh(False)
    control.close()
    control.fds.clear()
    counts = []
    for turn in range(4):
        refresh(planner, inventory, site(changed={turn + 1}))
        planner.relink(LINKS if turn % 2 else OTHER_LINKS)
        control.close()
        control.fds.clear()
        counts.append(len([link for fd in os.listdir("/proc/self/fd") if "memfd" in (link := target(fd))]))
    assert counts[0] == counts[-1], counts


def target(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""


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
        assert "hosts would no longer be answered, dhcp.max_shrink allows" in control.last.reason
        assert "generation 1 serves on" in control.last.reason and "--force" in control.last.reason
        assert made.pair is not None and made.pair.top.number == 1
        made.refresh(True)
        assert isinstance(control.last, Planned) and control.last.published
        assert control.last.hosts == control.pair().top.host_count
    close_all([fd for fd in (made.base_fd, made.delta_fd) if fd >= 0])


def test_an_inventory_that_is_down_changes_nothing(planner: Planner, control: Control, inventory: Inventory) -> None:
    planner.refresh(False)
    inventory.down = http("Traceback\nKeyError: 'x'", "500 Oops")
    planner.refresh(False)
    assert isinstance(control.last, Failed) and control.last.kind == "down"
    assert "status 500" in control.last.reason and control.fds[-1] == []
    assert planner.pair is not None and planner.pair.top.number == 1
    inventory.down = None
    refresh(planner, inventory, site(changed={1}))
    assert isinstance(control.last, Planned) and control.last.generation == 2


# --- single hosts ----------------------------------------------------------------------------------------------------


def text(number: int) -> str:
    return mac(number).to_bytes(6, "big").hex(":")


def test_a_look_up_before_a_whole_read_is_refused(planner: Planner, control: Control) -> None:
    planner.look_up([text(1)], [])
    assert control.last == Failed(kind="down", reason="the inventory has not been read as a whole yet")


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


@pytest.mark.parametrize("by", ["mac", "name"])
def test_a_look_up_of_a_host_that_left_removes_it(
    planner: Planner, control: Control, inventory: Inventory, by: str
) -> None:
    planner.refresh(False)
    site(gone={2}).store_in(inventory.store)
    planner.look_up(*(([text(2)], []) if by == "mac" else ([], ["h2"])))
    assert figures(control.last) == (5, 0, 0, 1) and control.pair().lookup(mac(2)) is None


def test_a_look_up_that_finds_somebody_s_address_silences_both(
    planner: Planner, control: Control, inventory: Inventory
) -> None:
    planner.refresh(False)
    content = site()
    content.host("thief", "10.1.0.11", mac=text(50), pools=["boot"], dhcp={})
    content.store_in(inventory.store)
    planner.look_up([text(50)], [])
    assert [control.pair().lookup(mac(number))["state"] for number in (1, 50)] == ["conflict", "conflict"]
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
    close_all([cold.base_fd, cold.delta_fd])


# --- interfaces ------------------------------------------------------------------------------------------------------


def test_a_relink_keeps_hosts_and_delta(planner: Planner, control: Control, inventory: Inventory) -> None:
    planner.refresh(False)
    refresh(planner, inventory, site(changed={2}, gone={3}))
    before = control.pair()
    planner.relink(OTHER_LINKS)
    after = control.pair()
    assert (control.last.origin, control.last.generation, control.last.base) == ("links", 3, 1)
    assert control.report()["planned"] is False
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
    every = Planner(config(inventory, tmp_path), LINKS, print).surroundings(())
    some = Planner(config(inventory, tmp_path, interfaces=("eth1",)), LINKS, print).surroundings(())
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
    close_all([cold.base_fd, cold.delta_fd])


def test_a_cold_start_without_a_disk_says_nothing(planner: Planner, control: Control) -> None:
    planner.load_from_disk()
    assert control.sent == [] and planner.pair is None


def test_a_restart_takes_over_what_is_served(
    planner: Planner, control: Control, inventory: Inventory, tmp_path: Path
) -> None:
    planner.refresh(False)
    refresh(planner, inventory, site(changed={2}))
    _report, base, delta = control.fds[-1]
    next_one = Planner(config(inventory, tmp_path), LINKS, control.send)
    next_one.number = 40
    next_one.adopt(os.dup(base), os.dup(delta))
    next_one.relink(LINKS)
    assert (control.last.origin, control.last.generation, control.last.base) == ("links", 41, 1)
    next_one.refresh(False)
    assert (control.last.published, control.last.generation) == (False, 41)
    close_all([next_one.base_fd, next_one.delta_fd])


# --- the process's loop ----------------------------------------------------------------------------------------------


def test_run_answers_until_the_channel_is_closed(inventory: Inventory, tmp_path: Path) -> None:
    ours, theirs = Channel.pair(KINDS)
    ours.sock.settimeout(60)
    thread = threading.Thread(target=run, args=(theirs,), daemon=True)
    thread.start()

    def answer() -> Any:
        while True:
            message, fds = ours.receive()
            close_all(fds)
            if not isinstance(message, Progress):
                return message

    content = f'{{"dhcp": {{"api_url": "{inventory.server.url}", "state_dir": "{tmp_path}"}}}}'
    with memfd("config", content.encode()) as config_fd:
        ours.send(PlanBegin(config_path="services.conf", links=LINKS, generation=5), [config_fd])
    ours.send(Refresh())
    planned = answer()
    assert (planned.origin, planned.generation, planned.hosts) == ("inventory", 6, 6)
    ours.send(Relink(links=OTHER_LINKS))
    assert answer().origin == "links"
    ours.close()
    thread.join(30)
    assert not thread.is_alive()
    theirs.close()


def test_run_wants_its_beginning_first() -> None:
    ours, theirs = Channel.pair(KINDS)
    ours.send(Refresh())
    with pytest.raises(TypeError, match="the first message is Refresh, wanted PlanBegin"):
        run(theirs)
    ours.close()
    with pytest.raises(ChannelClosed):
        run(theirs)
    theirs.close()
