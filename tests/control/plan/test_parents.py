"""What one host gets follows its containers when it alone is read, from HTTP and from a file; MACs in any spelling."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control.config.config import Config, Dhcp
from control.mac import parse_mac
from control.planner.jobs import Failed, Planned
from control.planner.planner import Planner
from control.planner.questions import find_origins
from control.sources import rowreading, singles
from control.sources.fetch import Fetcher
from control.sources.model import Inventory as Frame
from control.sources.singles import spellings
from tests.control.inventories import Site, attribute
from tests.control.planning import LINKS, Control, Inventory, end, mac, text

DOMAIN = 15


class Place:
    """A site that a planner has read as a whole, and that then changes.  kind: how it is read."""

    def __init__(self, kind: str, inventory: Inventory, folder: Path) -> None:
        self.kind, self.inventory, self.file = kind, inventory, folder / "hosts.yaml"
        self.control = Control()
        url = inventory.server.url if kind == "http" else self.file.as_uri()
        self.write(Tree())
        config = Config(dhcp=Dhcp(api_url=url, state_dir=folder, max_shrink=1.0))
        self.planner = Planner(config, LINKS, self.control.send)
        self.planner.refresh(False)
        assert isinstance(self.last, Planned) and self.last.hosts == 4

    def write(self, tree: Tree) -> None:
        if self.kind == "http":
            tree.site().store_in(self.inventory.store)
        else:
            self.file.write_text(tree.yaml())

    @property
    def last(self) -> Any:
        return self.control.last

    def domain(self, number: int) -> bytes | None:
        """What the host with that MAC is told as option 15; None when it is not answered."""
        row = self.control.pair().lookup(mac(number))
        if row is None or row["state"] != "served":
            return None
        options = row["leases"][0]["template"]["options"]
        at = 0
        while at < len(options):
            code, length = options[at], options[at + 1]
            if code == DOMAIN:
                return bytes(options[at + 2 : at + 2 + length])
            at += 2 + length
        return b""


class Tree:
    """Hosts 1 and 2 in pool boot in pool all, 3 in pool deep in boot, 4 in pool quiet, 5 in none."""

    def __init__(self) -> None:
        self.pools: dict[str, dict[str, Any]] = {
            "all": {}, "boot": {"enabled": 1, "domain": "old.example"}, "deep": {}, "quiet": {"enabled": 0},
        }  # fmt: skip
        self.inside = {"boot": "all", "deep": "boot"}
        self.hosts = {1: "boot", 2: "boot", 3: "deep", 4: "quiet", 5: ""}

    def own(self, number: int) -> dict[str, Any]:
        return {} if self.hosts[number] else {"enabled": 1}

    def site(self) -> Site:
        made = Site()
        for name, dhcp in self.pools.items():
            made.pool(name, pools=[self.inside[name]] if name in self.inside else [], **dhcp)
        for number, pool in self.hosts.items():
            pools = [pool] if pool else []
            made.host(f"h{number}", f"10.1.0.{number + 10}", mac=text(number), pools=pools, dhcp=self.own(number))
        return made

    def yaml(self) -> str:
        lines = ["networks: [{name: net, base: 10.1.0.0, mask: 255.255.255.0, gateway: 10.1.0.1}]", "pools:"]
        for name, dhcp in self.pools.items():
            inside = f"pool: {self.inside[name]}, " if name in self.inside else ""
            lines.append(f"- {{name: {name}, {inside}dhcp: {dhcp}}}")
        lines.append("hosts:")
        for number, pool in self.hosts.items():
            where = f"pool: {pool}, " if pool else ""
            lines.append(
                f'- {{name: h{number}, mac: "{text(number)}", address: 10.1.0.{number + 10}, {where}'
                f"dhcp: {self.own(number)}}}"
            )
        return "\n".join(lines) + "\n"


@pytest.fixture(params=["http", "file"])
def place(request: pytest.FixtureRequest, inventory: Inventory, tmp_path: Path) -> Iterator[Place]:
    made = Place(request.param, inventory, tmp_path)
    yield made
    end(made.planner)
    made.control.close()


@pytest.mark.parametrize("by", ["mac", "name"])
def test_a_pool_s_change_is_seen(place: Place, by: str) -> None:
    assert [place.domain(number) for number in (1, 2, 3)] == [b"old.example"] * 3
    tree = Tree()
    tree.pools["boot"]["domain"] = "new.example"
    place.write(tree)
    place.planner.look_up([text(1)] if by == "mac" else [], ["h1"] if by == "name" else [])
    assert [place.domain(number) for number in (1, 2, 3)] == [b"new.example", b"old.example", b"old.example"]


def test_a_change_two_levels_up_is_seen(place: Place) -> None:
    tree = Tree()
    del tree.pools["boot"]["domain"]
    tree.pools["all"]["domain"] = "all.example"
    place.write(tree)
    place.planner.look_up([text(3)], [])
    assert place.domain(3) == b"all.example"


def test_a_new_host_in_a_pool_that_was_switched_on_since(place: Place) -> None:
    tree = Tree()
    tree.pools["quiet"] = {"enabled": 1, "domain": "on.example"}
    tree.pools["newer"] = {"enabled": 1, "domain": "newer.example"}
    tree.hosts |= {6: "quiet", 7: "newer"}
    place.write(tree)
    place.planner.look_up([text(6), text(7)], [])
    assert (place.domain(6), place.domain(7), place.domain(4)) == (b"on.example", b"newer.example", None)


def test_who_said_it_is_said_of_this_moment(place: Place) -> None:
    tree = Tree()
    del tree.pools["boot"]["domain"]
    tree.pools["all"]["domain"] = "all.example"
    place.write(tree)
    find_origins(place.planner, [(mac(1), 0x0A01000B)])
    ((_mac, _address, _client, said), *_others) = place.control.unpacked()
    assert said[DOMAIN] == "pool all, domain"


@pytest.mark.parametrize(
    "name, seen", [("boot", {1, 2, 3}), ("deep", {3}), ("all", {1, 2, 3}), ("quiet", set())], ids=str
)  # fmt: skip
def test_a_container_by_name_reads_what_hangs_below(place: Place, name: str, seen: set[int]) -> None:
    tree = Tree()
    tree.pools["all"]["tftp_server"] = "10.1.0.2"
    tree.pools["boot"]["domain"] = "new.example"
    tree.hosts |= {6: "boot", 7: "deep"}
    place.write(tree)
    place.planner.look_up([], [name])
    assert isinstance(place.last, Planned)
    came = {6, 7} if name in ("boot", "all") else {7} if name == "deep" else set()
    assert {number for number in (*range(1, 6), 6, 7) if place.domain(number) == b"new.example"} == seen | came
    assert place.domain(5) == b"", "who is not below is left alone"


def test_the_second_question_of_a_job_is_about_objects_alone(place: Place) -> None:
    """Who has a word in what the first one found may be a container, and nobody asked for what is in it."""
    first = place.planner.source.read_hosts([text(5)], [], Frame())
    assert first.hosts == ["/server/h5"] and first.fresh
    again = place.planner.source.read_hosts([text(4)], ["boot"], first)
    assert again.hosts == ["/server/h4"] and "/pool/boot" in again.things


def test_what_hangs_below_a_container_is_read_with_progress(inventory: Inventory) -> None:
    Tree().site().store_in(inventory.store)
    told: list[tuple[str, int, int]] = []
    Fetcher(inventory.server.url, None, lambda *step: told.append(step)).read_hosts([], ["all"], Frame())
    told = [step for step in told if step[0] != "bytes"]
    assert told[0] == ("hosts", 0, 1) and told[-1] == ("hosts", 5, 5)
    assert [done for _stage, done, _total in told] == sorted(done for _stage, done, _total in told)


def test_below_a_container_there_may_be_too_many(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (singles, rowreading):
        monkeypatch.setattr(module, "BELOW_MAX", 2)
    place.planner.look_up([], ["deep"])
    assert isinstance(place.last, Planned)
    place.planner.look_up([], ["all"])
    assert isinstance(place.last, Failed) and "hang below what was asked for" in place.last.reason


# --- over HTTP alone -------------------------------------------------------------------------------------------------


def test_parents_are_read_once_a_job(inventory: Inventory) -> None:
    Tree().site().store_in(inventory.store)
    fetcher = Fetcher(inventory.server.url)
    inventory.server.targets.clear()
    found = fetcher.read_hosts([text(number) for number in range(1, 17)], [], Frame())
    assert sorted(found.hosts) == [f"/server/h{number}" for number in range(1, 6)]
    asked = [target for target in inventory.server.targets if "get_by_name" in target or "/attrs" in target]
    assert len(asked) == len(set(asked)) == 5 + 4 + 1, "hosts, pools, the network"
    inventory.server.targets.clear()
    again = fetcher.read_hosts([text(1)], ["h2"], found)
    assert sorted(again.hosts) == ["/server/h1", "/server/h2"] and "/pool/boot" in again.things
    assert not [target for target in inventory.server.targets if "get_entities" not in target]


def test_a_network_s_gateway_is_that_of_this_moment(inventory: Inventory) -> None:
    Tree().site().store_in(inventory.store)
    fetcher = Fetcher(inventory.server.url)
    frame = fetcher.read().frame.frame()
    site = Tree().site()
    rows = site.things["/resourcemanager/net"]
    site.things["/resourcemanager/net"] = [row for row in rows if row.key != "gateway"]
    site.things["/resourcemanager/net"].append(attribute("gateway", "property", "10.1.0.254"))
    site.store_in(inventory.store)
    found = fetcher.read_hosts([text(1)], [], frame)
    assert found.things["/resourcemanager/net"].first("gateway", "property") == "10.1.0.254"
    assert frame.things["/resourcemanager/net"].first("gateway", "property") == "10.1.0.1", "the frame stays as it was"


SPELLINGS = [
    "02:ab:cd:00:0e:0f", "02:AB:CD:00:0E:0F", "02-ab-cd-00-0e-0f", "02-AB-CD-00-0E-0F", "02abcd000e0f",
    "02ABCD000E0F", "02ab.cd00.0e0f", "02AB.CD00.0E0F", "02ab-cd00-0e0f", "02AB-CD00-0E0F", "02abcd-000e0f",
    "02ABCD-000E0F",
]  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("subkey", ["mac", "ipmi-mac"])
def test_a_mac_in_any_spelling_is_found_at_the_first_look_up(inventory: Inventory, spelling: str, subkey: str) -> None:
    site = Site()
    site.host("odd", "10.1.0.10", mac=(), extra=[attribute("port-nic-eth", subkey, spelling, 1)])
    site.store_in(inventory.store)
    inventory.server.targets.clear()
    macs = [text(number) for number in range(15)]
    found = Fetcher(inventory.server.url).read_hosts([*macs, "02:ab:cd:00:0e:0f"], [], Frame())
    assert found.hosts == ["/server/odd"]
    lists = [target for target in inventory.server.targets if "get_entities" in target]
    assert len(lists) <= 6 and max(map(len, lists)) < 20_000, "bounded, and far below a request line's 64 KiB"


def test_spellings_are_of_that_mac() -> None:
    found = list(spellings("02:ab:cd:00:0e:0f"))
    assert sorted(found) == sorted(SPELLINGS) and len(set(found)) == 12
    assert {parse_mac(each) for each in found} == {0x02ABCD000E0F}
    assert len(list(spellings("00:11:22:33:44:55"))) == 6
