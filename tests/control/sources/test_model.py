"""control/sources/model.py: what the original said, as recorded, and what it never says."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control.clusto.errors import InventoryDown
from control.sources.model import (
    Address,
    Attribute,
    Batch,
    Inventory,
    InventoryMalformed,
    PartLost,
    Reading,
    Thing,
    dotted,
    name_of,
    parse_attributes,
    parse_members,
    parse_parents,
    parse_paths,
    parse_show,
)

RECORDINGS = Path(__file__).parents[2] / "data" / "clusto-recordings"
NET = "/resourcemanager/net-192-168-1"


def recorded(number: int) -> Any:
    (path,) = RECORDINGS.glob(f"{number:03}-*.json")
    return json.loads(json.loads(path.read_text(encoding="utf-8"))["response"]["body"])


def row(key: str, subkey: str | None, value: Any, number: int | None = None) -> Attribute:
    return Attribute(key, subkey, number, value, "string")


# --- recorded answers ------------------------------------------------------------------------------------------------


def test_members_of_a_pool() -> None:
    """Recording 085: get_by_name of a pool with prefetched attributes."""
    things = {thing.path: thing for thing in parse_members(recorded(85), "085")}
    assert list(things) == ["/server/ex0000", "/server/ex0001", "/server/ex0003"]
    first = things["/server/ex0000"]
    assert (first.name, first.mac(), first.host_name()) == ("ex0000", ["00:11:22:33:44:55"], "ex0000")
    assert first.addresses() == [Address(0, "192.168.1.50", NET, "eth0", "192.168.1.50")]
    third = things["/server/ex0003"]
    assert third.mac() == ["00:11:22:33:44:58"], "its second port has a MAC as well"
    assert third.addresses() == [
        Address(6, "192.168.1.53", NET, "eth0", "192.168.1.53"),
        Address(7, "8.20.30.53", "/resourcemanager/net-public", "eth1", "8.20.30.53"),
    ]
    assert third.first("dhcp", "domain") == "own.example.org"


@pytest.mark.parametrize("number", range(105, 111))
def test_prefetched_attributes_as_get_from_pools_gives_them(number: int) -> None:
    """Recordings 105-110: the same documents in a plain list."""
    body = recorded(number)
    things = list(parse_members({"contents": body}, f"{number}"))
    assert [thing.path for thing in things] == [path for item in body for path in item]
    for thing, item in zip(things, body, strict=True):
        assert [a._asdict() for a in thing.attributes] == item[thing.path]["attrs"]


@pytest.mark.parametrize(
    "number, path, contents",
    [
        (10, "/server/ex0001", []),
        (12, "/pool/pxeboot-servers", ["/server/ex0000", "/server/ex0002", "/server/ex0003", "/server/ex0004"]),
        (13, "/datacenter/dc1", ["/rack/dc1-r001"]),
        (14, "/rack/dc1-r001", ["/networkswitch/dc1-r001-sw1", "/server/ex0001"]),
        (16, NET, []),
        (82, "/server/ex0000", []),
        (196, "/server/foo.example.org", []),
    ],
)
def test_show_documents(number: int, path: str, contents: list[str]) -> None:
    thing, inside = parse_show(recorded(number), f"{number}")
    assert (thing.path, inside) == (path, contents)
    assert all(isinstance(a, Attribute) for a in thing.attributes)


def test_a_relation_is_told_from_text_by_its_datatype() -> None:
    thing, _contents = parse_show(recorded(19), "019")
    kinds = {str(a.subkey): (a.datatype, a.value) for a in thing.attributes if a.key == "v"}
    assert kinds["relation"] == ("relation", "/pool/pxeboot-servers")
    assert kinds["string"] == ("string", "text") and kinds["none"] == ("string", None)
    assert kinds["list"] == ("json", '[1, "a"]')


def test_paths_of_get_entities() -> None:
    assert parse_paths(recorded(54), "054") == ["/server/ex0000"]
    assert parse_paths(recorded(59), "059") == []


# --- meaning ---------------------------------------------------------------------------------------------------------


def test_only_the_mac_of_port_1_counts() -> None:
    attributes = (
        row("port-nic-eth", "mac", "two", 2),
        row("port-nic-eth", "mac", "none"),
        row("port-nic-eth", "mac", None, 1),
        row("port-nic-eth", "ipmi-mac", "card", 1),
        row("port-pwr-nema-5", "mac", "power", 1),
        row("bootstrap", "mac", "seen"),
        row("port-nic-eth", "mac", "one", 1),
    )
    assert Thing("/server/a", attributes).mac() == ["one"]


@pytest.mark.parametrize(
    "attributes, want",
    [
        pytest.param([], "a", id="name"),
        pytest.param([row("hostname", None, "alias")], "alias", id="attribute"),
        pytest.param([row("hostname", "x", "one"), row("hostname", None, "two")], "one", id="first-with-any-subkey"),
        pytest.param([row("hostname", None, ""), row("hostname", None, "two")], "two", id="empty-is-none"),
        pytest.param([row("hostname", None, 7)], "7", id="number"),
    ],
)
def test_host_name(attributes: list[Attribute], want: str) -> None:
    assert Thing("/server/a", tuple(attributes)).host_name() == want


def test_addresses_are_groups_in_the_order_of_their_numbers() -> None:
    attributes = (
        row("ip", "osportname", "eth1", 9),
        row("ip", "ipstring", "10.0.0.9", 9),
        row("ip", None, 0x0A000002 - (1 << 31), 2),
        row("ip", "manager", "/resourcemanager/n", 2),
        row("ip", "cidr", "10.0.0.3/24", 3),
        row("ip", "ipstring", "10.0.0.4"),
        row("ip", "ipstring", "10.0.0.11", 11),
        row("ip", None, 0x0A00000C - (1 << 31), 11),
        row("ip", "ipstring", "10.0.0.13", 11),
    )
    assert Thing("/server/a", attributes).addresses() == [
        Address(2, "10.0.0.2", "/resourcemanager/n", None),
        Address(9, "10.0.0.9", None, "eth1"),
        Address(11, "10.0.0.11", None, None, "10.0.0.12"),
    ], "number 3 has no address, one has no number; text and number that disagree are both kept"


@pytest.mark.parametrize(
    "number, want",
    [
        (0, "0.0.0.0"),
        (0xC0A80132, "192.168.1.50"),
        (0xFFFFFFFF, "255.255.255.255"),
        (1 << 32, str(1 << 32)),
        (-1, "-1"),
    ],
)
def test_dotted(number: int, want: str) -> None:
    assert dotted(number) == want


@pytest.mark.parametrize(
    "path, want", [("/server/a", "a"), ("/server/a.b.c", "a.b.c"), ("/server/a/b", "a/b"), ("/server/", "")]
)
def test_name_of(path: str, want: str) -> None:
    assert name_of(path) == want


@pytest.mark.parametrize(
    "parents, want",
    [
        pytest.param({}, [], id="none"),
        pytest.param({"/s/a": ["/p/z", "/r/b"]}, [["/r/b", "/p/z"]], id="one-level-by-name-not-by-type"),
        pytest.param({"/s/a": ["/p/x"], "/p/x": ["/p/y"]}, [["/p/x"], ["/p/y"]], id="two-levels"),
        pytest.param({"/s/a": ["/p/x", "/p/y"], "/p/x": ["/p/y"]}, [["/p/x", "/p/y"]], id="each-once-on-its-nearest"),
        pytest.param({"/s/a": ["/p/x", "/p/x"]}, [["/p/x"]], id="twice-in-one-rack"),
        pytest.param({"/s/a": ["/p/x"], "/p/x": ["/p/x"]}, [["/p/x"]], id="in-itself"),
        pytest.param(
            {"/s/a": ["/p/x"], "/p/x": ["/p/y"], "/p/y": ["/p/x"]}, [["/p/x"], ["/p/y"]], id="cycle-of-containers"
        ),
        pytest.param({"/s/a": ["/p/x"], "/p/x": ["/s/a"]}, [["/p/x"], ["/s/a"]], id="cycle-through-itself"),
    ],
)
def test_levels(parents: dict[str, list[str]], want: list[list[str]]) -> None:
    assert list(Inventory(parents=parents).levels("/s/a")) == want


def test_the_levels_above_are_the_same_for_all_who_have_these_parents() -> None:
    inventory = Inventory(parents={"/s/a": ["/p/x"], "/p/x": ["/p/y"], "/p/y": ["/s/a"]})
    assert list(inventory.levels_above(("/p/x",))) == [["/p/x"], ["/p/y"], ["/s/a"]] == list(inventory.levels("/s/a"))
    assert list(inventory.levels_above(())) == []


def test_a_frame_is_what_a_look_up_needs() -> None:
    """Containers with their parents, and managers; not the parents of a million hosts."""
    things = {path: Thing(path, ()) for path in ("/pool/p", "/pool/q", "/resourcemanager/n")}
    parents = {"/server/a": ("/pool/p",), "/pool/p": ("/pool/q",)}
    whole = Inventory(things, parents, ["/server/a"], ["/resourcemanager/n"])
    assert whole.frame() == Inventory(things, {"/pool/p": ("/pool/q",)}, [], ["/resourcemanager/n"])


# --- a reading -------------------------------------------------------------------------------------------------------


def server(name: str, *rows: Attribute) -> Thing:
    return Thing(f"/server/{name}", (row("port-nic-eth", "mac", f"mac-{name}", 1), *rows))


def batch(key: str, names: str, *given: Thing) -> Batch:
    return Batch(key, [f"/server/{name}" for name in names], key.encode(), lambda: given)


def test_a_whole_reading() -> None:
    """What comes along without having been asked for is left out; who is listed and not given is not there."""
    pool, switch = Thing("/pool/p", ()), Thing("/networkswitch/s", ())
    frame = Inventory({"/pool/p": pool}, {"/server/a": ("/pool/p",)}, [], [])
    second = Batch("q", ["/server/b", "/networkswitch/s"], b"", lambda: [switch, server("b")])
    whole = Reading(frame, iter([batch("p", "ac", server("a"), server("x")), second])).whole()
    assert whole.hosts == ["/server/a", "/server/b"]
    assert sorted(whole.things) == ["/networkswitch/s", "/pool/p", "/server/a", "/server/b"]
    assert whole.parents == frame.parents and frame.things == {"/pool/p": pool}, "the frame itself stays one"


def test_a_whole_reading_knows_parents_that_are_there_with_their_batch_only() -> None:
    """As filesource.py gives them: a million hosts' parents would be as large as the hosts."""
    frame = Inventory({"/pool/p": Thing("/pool/p", ())})

    def batches() -> Iterator[Batch]:
        for name in "ab":
            frame.parents[f"/server/{name}"] = ("/pool/p",)
            yield batch(name, name, server(name))
            del frame.parents[f"/server/{name}"]

    assert Reading(frame, batches()).whole().parents == {"/server/a": ("/pool/p",), "/server/b": ("/pool/p",)}


def test_a_reading_with_a_part_lost_is_not_whole() -> None:
    def lost() -> Iterator[Thing]:
        raise PartLost("status 500")

    with pytest.raises(PartLost, match="status 500"):
        Reading(Inventory(), iter([batch("p", "a", server("a")), Batch("q", ["/server/b"], b"", lost)])).whole()


def test_an_inventory_that_falls_silent_in_the_middle_is_down() -> None:
    def batches() -> Iterator[Batch]:
        yield batch("p", "a", server("a"))
        raise InventoryDown("no answer")

    with pytest.raises(InventoryDown, match="no answer"):
        Reading(Inventory(), batches()).whole()


# --- what is not clusto ----------------------------------------------------------------------------------------------

GOOD = {"key": "k", "subkey": None, "number": None, "value": 1, "datatype": "int"}


@pytest.mark.parametrize(
    "rows, place",
    [
        pytest.param(None, "here: found NoneType", id="null"),
        pytest.param({}, "here: found dict", id="object"),
        pytest.param([GOOD, 5], "here[1]", id="number-as-attribute"),
        pytest.param([GOOD, GOOD, "text"], "here[2]", id="text-as-attribute"),
        pytest.param([{"key": "k"}], "here[0]", id="fields-missing"),
        pytest.param([GOOD | {"key": None}], "here[0]: key and subkey", id="no-key"),
        pytest.param([GOOD | {"subkey": 5}], "here[0]: key and subkey", id="subkey-is-a-number"),
        pytest.param([GOOD | {"number": "5"}], "here[0]: number", id="number-is-text"),
        pytest.param(["x" * (1 << 20)], "here[0]", id="1-MB"),
    ],
)
def test_malformed_attributes(rows: Any, place: str) -> None:
    with pytest.raises(InventoryMalformed) as caught:
        parse_attributes(rows, "here")
    assert str(caught.value).startswith(place) and len(str(caught.value)) < 300


def test_an_object_as_value_becomes_its_json_text_as_in_the_original() -> None:
    (found,) = parse_attributes([GOOD | {"value": {"a": [1]}, "datatype": "json"}], "here")
    assert found.value == '{"a": [1]}'


@pytest.mark.parametrize(
    "body", [None, [], "text", 5, {}, {"object": 5}, {"object": "/s/a"}, {"object": "/s/a", "attrs": {}}]
)
def test_malformed_show_documents(body: Any) -> None:
    with pytest.raises(InventoryMalformed, match=r"^here"):
        parse_show(body, "here")


@pytest.mark.parametrize("parents", ["text", {}, [5], [None], ["no-slash"], [["/pool/p"]]], ids=str)
def test_malformed_parents(parents: Any) -> None:
    assert parse_parents({"parents": ["/pool/p"]}, "here") == ["/pool/p"]
    with pytest.raises(InventoryMalformed, match=r"^here.parents: found .*, wanted a list of paths"):
        parse_parents({"parents": parents}, "here")


@pytest.mark.parametrize("contents", [None, "text", {}, [5], [None]])
def test_malformed_contents(contents: Any) -> None:
    with pytest.raises(InventoryMalformed, match=r"^here.contents: wanted a list of paths"):
        parse_show({"object": "/s/a", "attrs": [], "contents": contents}, "here")


@pytest.mark.parametrize(
    "body",
    [
        None, [], "text", {"contents": None}, {"contents": {}}, {"contents": ["/server/a"]}, {"contents": [{}]},
        {"contents": [{"/server/a": None}]}, {"contents": [{"/server/a": []}]}, {"contents": [{"/server/a": {}}]},
        {"contents": [{"/server/a": {"attrs": []}, "/server/b": {"attrs": []}}]},
    ],
    ids=str,
)  # fmt: skip
def test_malformed_members(body: Any) -> None:
    with pytest.raises(InventoryMalformed, match=r"^here"):
        list(parse_members(body, "here"))


@pytest.mark.parametrize("body", [None, {}, "text", [5], ["no-slash"], ["/one"], [["/server/a"]]], ids=str)
def test_malformed_paths(body: Any) -> None:
    with pytest.raises(InventoryMalformed, match=r"^here"):
        parse_paths(body, "here")
