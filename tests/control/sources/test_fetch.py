"""control/sources/fetch.py: reads what is there as a plain reader of every object would, or says what went wrong."""

import gc
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from ext.leases import LeaseState as State
from werkzeug.wrappers import Request, Response

from control.clusto.errors import InventoryDown
from control.clusto.server.httpd import application
from control.clusto.server.store import Store
from control.config.config import Dhcp
from control.plan.plan import plan_hosts
from control.sources import asking, fetch
from control.sources.fetch import CONNECTIONS, SINGLES, Fetcher, covering
from control.sources.model import Inventory, PartLost, parse_attributes, parse_show
from tests.control.clusto.support import load_fixture, new_store
from tests.control.inventories import At, Site, attribute
from tests.control.spoiling import Spoiling, http, spoiling


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    made = new_store(tmp_path_factory.mktemp("inventory"))
    yield made
    made.close()


def datacenter() -> Site:
    """All ways in which a host is found: in bulk, one by one, as a container; and odd names."""
    site = Site()
    site.network("net.dotted", "10.2.0.0/24", "10.2.0.1")
    site.pool("all", domain="all.example")
    site.pool("boot", pools=["all"], enabled=1)
    site.pool("dc", type_="datacenter", NTP_server="10.1.0.3")
    site.pool("rack", type_="rack", pools=["dc"], lease_time=7200)
    site.pool("pair", enabled=1)
    site.pool("empty")
    for number in range(5):
        site.host(f"boot{number}", f"10.1.0.{10 + number}", pools=["boot", "rack"], dhcp={})
    for number in range(2):
        site.host(f"pair{number}", f"10.1.0.{20 + number}", pools=["pair"], dhcp={})
    site.host("alone", "10.1.0.30")
    site.host("alone.in.dots", At("10.2.0.31", "net.dotted"))
    site.host("alone/with/slashes", "10.1.0.32")
    site.host("chassis", "10.1.0.40", pools=["boot"], dhcp={"domain": "chassis.example"})
    site.host("blade", "10.1.0.41", pools=["chassis"], dhcp={})
    site.host("nobody", "10.1.0.50", mac=(), pools=["boot"])
    site.host("sw", "10.1.0.60", mac=(), type_="networkswitch", pools=["rack"], dhcp={})
    return site


def plainly(url: str) -> Inventory:
    """Every object by itself: what a reader without any shortcut knows."""

    def get(query: str, **parameters: str) -> Any:
        answer = requests.get(f"{url}/query/{query}", params=parameters, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    made = Inventory()
    for path in get("get_entities"):
        document = get("get_by_name", name=path.split("/", 2)[2])
        thing, contents = parse_show(document, path)
        made.things[path] = thing
        for member in contents:
            made.parents[member] = [*made.parents.get(member, ()), path]
        if document["driver"] == "ipmanager":
            made.managers.append(path)
        if thing.mac():
            made.hosts.append(path)
    made.hosts.sort()
    made.managers.sort()
    return made


def parents(inventory: Inventory) -> dict[str, list[str]]:
    return {path: sorted(found) for path, found in inventory.parents.items()}


@pytest.mark.parametrize("content", ["datacenter", "recordings"])
def test_the_same_as_a_plain_reader(store: Store, content: str) -> None:
    if content == "datacenter":
        datacenter().store_in(store)
    else:
        load_fixture(store)
    with spoiling(application(store)) as server:
        want = plainly(server.url)
        server.targets.clear()
        got = Fetcher(server.url + "/").read().whole()
        assert len(server.targets) < len(want.things), "fewer requests than objects"
    assert (got.hosts, got.managers) == (want.hosts, want.managers) and got.hosts
    assert parents(got) == parents(want)
    for path, thing in got.things.items():
        whole = want.things[path].attributes
        some = [a for a in whole if a.subkey == "property"]
        assert list(thing.attributes) in ([*whole], some if path in got.managers else [*whole]), path
    needed = {*got.hosts, *got.managers, *(path for host in got.hosts for level in want.levels(host) for path in level)}
    assert needed <= got.things.keys()
    assert plan_hosts(got, Dhcp()).rows == plan_hosts(want, Dhcp()).rows
    assert plan_hosts(got, Dhcp()).faults == plan_hosts(want, Dhcp()).faults


def test_everybody_in_the_datacenter_is_served(store: Store) -> None:
    """So that the comparison above does not compare nothing."""
    datacenter().store_in(store)
    with spoiling(application(store)) as server:
        plan = plan_hosts(Fetcher(server.url).read().whole(), Dhcp())
    assert plan.faults.keys() == {"alone/with/slashes"}, "which is no host name"
    assert [row.name for row in plan.rows if row.state is not State.SERVED] == []
    assert len(plan.rows) == 12


def test_a_manager_that_is_a_host_or_a_container_keeps_its_attributes(store: Store) -> None:
    site = Site()
    site.things["/resourcemanager/net"] += [attribute("dhcp", "enabled", 1), attribute("dhcp", "domain", "net.example")]
    site.things["/resourcemanager/net"].append(attribute("port-nic-eth", "mac", "00:11:22:33:44:99", 1))
    for number in range(3):
        site.host(f"h{number}", f"10.1.0.1{number}", pools=["net"], dhcp={})
    site.store_in(store)
    with spoiling(application(store)) as server:
        got = Fetcher(server.url).read().whole()
    assert got.things["/resourcemanager/net"].first("dhcp", "domain") == "net.example"
    assert [row.state for row in plan_hosts(got, Dhcp()).rows] == [State.SERVED] * 3 + [State.NO_ADDRESS]


def test_an_empty_inventory_is_one(store: Store) -> None:
    """A new site has no hosts; whether an empty answer may take hosts away is the shrink guard's to say."""
    _empty(store)
    with spoiling(application(store)) as server:
        assert Fetcher(server.url).read().whole() == Inventory()


def _empty(store: Store) -> None:
    site = Site()
    site.things = {"/pool/p": []}
    site.store_in(store)


def test_at_most_four_connections_are_open_and_all_are_used(store: Store) -> None:
    """Three for the reading, one for a look-up meanwhile, which need not wait."""
    datacenter().store_in(store)
    together = threading.Barrier(CONNECTIONS)
    waited = threading.Semaphore(CONNECTIONS)

    def hold(target: str) -> None:
        if "get_by_name" in target and waited.acquire(blocking=False):
            together.wait(30)

    with spoiling(application(store), hold) as server:
        fetcher = Fetcher(server.url)
        with ThreadPoolExecutor(1) as other:
            looked_up = other.submit(fetcher.read_hosts, [], ["alone"], Inventory())
            assert len(fetcher.read().whole().hosts) == 12
            assert looked_up.result(30).hosts == ["/server/alone"]
        assert server.most == CONNECTIONS == 4
        assert len(server.targets) > 2 * CONNECTIONS, "connections are kept"


def test_progress_is_told_by_stage(store: Store) -> None:
    datacenter().store_in(store)
    told: list[tuple[str, int, int]] = []
    with spoiling(application(store)) as server:
        Fetcher(server.url, None, lambda *step: told.append(step)).read().whole()
    assert sum(step[0] == "bytes" for step in told) >= 4, "after each answer"
    told = [step for step in told if step[0] != "bytes"]
    assert list(dict.fromkeys(stage for stage, _done, _total in told)) == ["list", "containers", "managers", "hosts"]
    for stage in ("containers", "managers"):
        steps = [(done, total) for name, done, total in told if name == stage]
        assert steps == [(done, len(steps) - 1) for done in range(len(steps))] and len(steps) > 1
    dones = [done for stage, done, total in told if stage == "hosts" and total == 13]
    assert dones == sorted(dones) and (dones[0], dones[-1]) == (0, 13) and len(dones) > 2


def test_the_token_is_shown(store: Store) -> None:
    _empty(store)
    with spoiling(application(store, "secret")) as server:
        assert Fetcher(server.url, "secret").read().whole() == Inventory()
        with pytest.raises(InventoryDown, match="status 401, wanted 200"):
            Fetcher(server.url, "guess").read()


@pytest.fixture(scope="module")
def remembered(store: Store) -> Any:
    """A small site's answers without the work of making them."""
    site = Site()
    site.pool("rack", type_="rack")
    for number in range(3):
        site.host(f"h{number}", f"10.1.0.1{number}", pools=["rack"])
    site.host("alone", "10.1.0.30")
    site.store_in(store)
    live = application(store)
    answers: dict[str, Response] = {}

    def answer(environ: dict[str, Any], start: Any) -> Any:
        url = Request(environ).url
        if url not in answers:
            answers[url] = Response.from_app(live, environ, buffered=True)
        return answers[url](environ, start)

    with spoiling(answer) as server:
        Fetcher(server.url).read().whole()
        for number in range(3):  # asked for when a container cannot be read
            assert requests.get(f"{server.url}/query/get_by_name?name=h{number}", timeout=30).status_code == 200
        host = server.url
    known = {url.removeprefix(host): response for url, response in answers.items()}

    def repeat(environ: dict[str, Any], start: Any) -> Any:
        return known["/" + Request(environ).url.split("/", 3)[3]](environ, start)

    return repeat


# --- garbage ---------------------------------------------------------------------------------------------------------

REQUESTS = {
    "list": "/query/get_entities",
    "container": "/query/get_by_name?name=rack",
    "members": "/query/get_by_name?name=rack&prefetch_attrs=[{}]",
    "single-host": "/query/get_by_name?name=alone",
    "manager": "/resourcemanager/net/attrs",
}
TRACEBACK = 'Traceback (most recent call last):\n  File "x", line 1\nLookupError: no such thing\n'
HTTP = ("list", "single-host")  # what is wrong below the JSON's shape is one function's affair, whatever was asked
ANY = tuple(REQUESTS)
DOCUMENTS = ("container", "members", "single-host", "manager")


@pytest.mark.parametrize(
    "raw, reason, which",
    [
        pytest.param(b"", "", HTTP, id="closed-without-an-answer"),
        pytest.param(b"hello\r\n\r\n", "", HTTP, id="no-HTTP"),
        pytest.param(http('{"object": "/po', length=5000), "", HTTP, id="cut-in-the-middle"),
        pytest.param(http('["/server/a", "/ser'), "no JSON (", ANY, id="invalid-JSON-in-the-middle"),
        pytest.param(http(b'["\xff\xfe"'), "no usable JSON", HTTP, id="no-UTF-8"),
        pytest.param(http(""), "no JSON (Expecting value at 0", HTTP, id="empty-body"),
        pytest.param(http("[" * 100_000), "no usable JSON", HTTP, id="nested-without-end"),
        pytest.param(http("1" * 10_000), "no usable JSON", HTTP, id="number-without-end"),
        pytest.param(
            http(TRACEBACK, "500 Internal Server Error"), "status 500, wanted 200: LookupError", ANY, id="traceback"
        ),
        pytest.param(http("", "302 Found", None, "Location: /x"), "status 302, wanted 200", HTTP, id="redirect"),
        pytest.param(http("<p>" + "x" * 100_000, "503 Busy"), "status 503, wanted 200: <p>xxx", HTTP, id="long-page"),
        pytest.param(http("null"), "found ", ANY, id="null"),
        pytest.param(http('"text"'), "found ", ANY, id="text"),
        pytest.param(http("{}"), "found ", ("list", "container", "single-host", "manager"), id="empty-object"),
        pytest.param(http("[]"), "found ", DOCUMENTS, id="empty-list"),
        pytest.param(http('["server"]'), "wanted a list of paths", ("list",), id="no-paths"),
        pytest.param(http('{"object": "/pool/x", "attrs": []}'), "found /pool/x", ("container",), id="another-object"),
        pytest.param(http('{"contents": ["/server/a"]}'), "wanted {path", ("members",), id="attributes-missing"),
        pytest.param(http('{"attrs": [5]}'), "[0]: found 5", ("manager",), id="attribute-is-a-number"),
    ],
)  # fmt: skip
def test_garbage(remembered: Any, raw: bytes, reason: str, which: tuple[str, ...]) -> None:
    """Any garbage at any request: one short line that names the request; never half an inventory.

    In a list it costs all, in a container or a manager what depends on it, in a bulk answer that part, in one host's
    record that host; an answer that is not even
    HTTP costs all, for then nobody knows what else is wrong."""
    spoiled = ""
    with spoiling(remembered, lambda target: raw if matches(target, spoiled) else None) as server:
        for name in which:
            spoiled = REQUESTS[name]
            cost, said = cost_of(Fetcher(server.url))
            assert cost == ("down" if not raw.startswith(b"HTTP") else COSTS.get(name, "down")), name
            assert reason in said, name
            assert names_the_request(said, spoiled), said
            assert len(said) < 600 and said.isprintable()


def test_half_a_letter_in_a_name_costs_that_object(remembered: Any) -> None:
    """Nobody can ask for it; here it is a container, so everybody is asked what contains him."""

    def spoil(target: str) -> bytes | None:
        if target.startswith('/query/get_entities?attrs=[{"key": "_contains"}]'):
            return http('["/rack/rack", "/server/\\ud800"]')
        return None

    with spoiling(remembered, spoil) as server:
        reading = Fetcher(server.url).read()
        assert {name.name for batch in reading.batches for name in batch.things()} == {"h0", "h1", "h2", "alone"}
    assert list(reading.frame.unread) == ["/server/\ud800"] and "no text" in reading.frame.unread["/server/\ud800"]
    assert reading.frame.parents["/server/h0"] == ("/rack/rack",)


COSTS = {"members": "part", "single-host": "host", "container": "/rack/rack", "manager": "/resourcemanager/net"}


def cost_of(fetcher: Fetcher) -> tuple[str, str]:
    """What could not be read, and why; what else there is has to come."""
    came: set[str] = set()
    cost = reason = ""
    try:
        reading = fetcher.read()
        if reading.frame.unread:
            ((cost, reason),) = reading.frame.unread.items()
            assert cost not in reading.frame.things
        for batch in reading.batches:
            try:
                came.update(thing.name for thing in batch.things())
            except PartLost as lost:
                cost, reason = "part", str(lost)
                assert fetcher.url in reason or "get_by_name rack" in reason
            for name, (fault,) in batch.faults.items():
                cost, reason = "host", fault
                assert name == "alone"
    except InventoryDown as down:
        assert fetcher.url in str(down)
        return "down", str(down)
    assert came == {"part": {"alone"}, "host": {"h0", "h1", "h2"}}.get(cost, {"h0", "h1", "h2", "alone"})
    return cost, reason


def matches(target: str, spoiled: str) -> bool:
    return target.startswith(spoiled) if spoiled == REQUESTS["list"] else target == spoiled


def names_the_request(said: str, spoiled: str) -> bool:
    path = spoiled.partition("?")[0]
    return path in said or path.rpartition("/")[2] in said or "get_by_name" in said


def test_nobody_listens() -> None:
    with spoiling(None) as server:
        url = server.url
    with pytest.raises(InventoryDown, match=f"GET {url}/query/get_entities: cannot connect"):
        Fetcher(url).read()


def test_no_answer_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "FIRST_S", 0.1)
    done = threading.Event()

    def hold(_target: str) -> bytes:
        done.wait(30)
        return b""

    with spoiling(None, hold) as server:
        with pytest.raises(InventoryDown, match="/query/get_entities: no answer within 0 s"):
            Fetcher(server.url).read()
        done.set()


def test_a_failure_ends_the_reading_at_once(store: Store) -> None:
    """What was not asked for yet is not asked any more: a daemon that fails is spared."""
    site = Site()
    for number in range(60):
        site.pool(f"p{number:02}")
        site.host(f"h{number:02}", pools=[f"p{number:02}"])
    site.store_in(store)

    def spoil(target: str) -> bytes | None:
        return http("", "500 No") if "get_by_name" in target else None

    with spoiling(application(store), spoil) as server:
        with pytest.raises(InventoryDown, match="status 500"):
            Fetcher(server.url).read()
        assert len(server.targets) < 45, "of 124: 4 lists, 9 containers twice, and what the readers had begun meanwhile"


# --- parts -----------------------------------------------------------------------------------------------------------


def small() -> Site:
    site = Site()
    site.pool("rack", type_="rack", enabled=1)
    for number in range(3):
        site.host(f"h{number}", f"10.1.0.1{number}", pools=["rack"], dhcp={})
    site.host("alone", "10.1.0.30")
    return site


def digests(url: str) -> dict[str, bytes]:
    return {batch.key: batch.digest for batch in Fetcher(url).read().batches}


def test_a_part_has_the_same_name_and_digest_at_every_read_until_its_content_changes(store: Store) -> None:
    site = small()
    site.store_in(store)
    with spoiling(application(store)) as server:
        first = digests(server.url)
        assert sorted(first) == ["/rack/rack", "single hosts from /server/alone"] and all(first.values())
        assert digests(server.url) == first
        site.things["/server/h1"].append(attribute("dhcp", "domain", "x.example"))
        site.store_in(store)
        second = digests(server.url)
    assert {key for key in first if first[key] != second[key]} == {"/rack/rack"}


def test_what_is_listed_twice_or_came_uninvited_is_in_one_part_only(store: Store) -> None:
    """Hosts of two racks are read with the first one; who is no host and has no address is not asked for."""
    site = Site()
    for rack in ("r1", "r2"):
        site.pool(rack, type_="rack")
    for number in range(8):
        site.host(f"h{number}", f"10.1.0.1{number}", pools=["r1", "r2"] if number < 4 else ["r2"])
    site.store_in(store)
    with spoiling(application(store)) as server:
        batches = list(Fetcher(server.url).read().batches)
    assert [(batch.key, len(batch.paths)) for batch in batches] == [("/rack/r2", 8)]


@pytest.mark.parametrize("spoiled", [1, 2, 3], ids=["once", "twice", "for-ever"])
@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(http('{"contents": [', length=5000), id="cut-in-the-middle"),
        pytest.param(http("busy", "503 Busy"), id="status"),
        pytest.param(http('{"contents": [{"/server'), id="no-JSON"),
    ],
)
def test_a_spoiled_bulk_answer_is_asked_for_once_more(store: Store, raw: bytes, spoiled: int) -> None:
    small().store_in(store)
    left = threading.Semaphore(spoiled)

    def spoil(target: str) -> bytes | None:
        return raw if "prefetch_attrs" in target and left.acquire(blocking=False) else None

    with spoiling(application(store), spoil) as server:
        reading = Fetcher(server.url).read()
        if spoiled == 1:
            assert len(reading.whole().hosts) == 4
        else:
            with pytest.raises(PartLost, match="get_by_name"):
                reading.whole()
        assert len([target for target in server.targets if "prefetch_attrs" in target]) == 2


def test_a_connection_that_is_lost_in_the_middle_of_the_hosts_is_an_inventory_that_is_down(store: Store) -> None:
    small().store_in(store)
    with spoiling(application(store), lambda target: b"" if "prefetch_attrs" in target else None) as server:
        reading = Fetcher(server.url).read()
        with pytest.raises(InventoryDown, match="cannot connect"):
            list(reading.batches)


def test_who_gives_a_reading_up_asks_for_no_more(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "SINGLES", 2)
    site = Site()
    for number in range(40):
        site.host(f"h{number:02}")
    site.store_in(store)
    with spoiling(application(store)) as server:
        reading = Fetcher(server.url).read()
        batch = next(reading.batches)
        assert len(batch.paths) == 2 and not batch.faults
        reading.batches.close()  # type: ignore[attr-defined]
        assert next(reading.batches, None) is None
        assert len([target for target in server.targets if "name=h" in target]) < 30


@pytest.mark.parametrize("looking_up", [False, True])
def test_there_are_never_more_than_four_connections(
    store: Store, monkeypatch: pytest.MonkeyPatch, looking_up: bool
) -> None:
    """Its listen queue holds five; also between the frame and the hosts, also with a look-up meanwhile, and also when
    nobody collects garbage: the planner does not."""
    monkeypatch.setattr(fetch, "SINGLES", 2)
    site = datacenter()
    for number in range(40):
        site.host(f"single{number}", mac=f"02:00:00:00:00:{number:02x}")
    site.store_in(store)
    gc.disable()
    try:
        with spoiling(application(store)) as server:
            fetcher = Fetcher(server.url)
            reading = fetcher.read()
            for batch in reading.batches:
                list(batch.things())
                if looking_up:
                    fetcher.read_hosts(["00:11:22:33:44:01"], [], reading.frame.frame())
            assert 1 < server.most <= CONNECTIONS
    finally:
        gc.enable()


def twofold(app: Any) -> Any:
    """As clusto lists who takes two units of a rack: twice among its contents, and the rack twice among his parents."""

    def answer(environ: dict[str, Any], start: Any) -> Any:
        true = Response.from_app(app, environ, buffered=True)
        document = true.get_json(silent=True)
        if isinstance(document, dict):
            for key in ("contents", "parents"):
                document[key] = [item for item in document.get(key, ()) for _ in range(2)]
            true.set_data(json.dumps(document))
        return true(environ, start)

    return answer


@pytest.mark.parametrize("unread", [False, True], ids=["in-bulk", "one-by-one"])
def test_who_is_listed_twice_by_his_container_is_read_as_if_once(store: Store, unread: bool) -> None:
    """unread: with a container that cannot be read everybody says himself what he is in."""
    datacenter().store_in(store)
    raw = http("busy", "503 Busy")

    def read(app: Any) -> Any:
        told: list[tuple[str, int, int]] = []
        with spoiling(app, lambda target: raw if unread and target.endswith("name=pair") else None) as server:
            fetcher = Fetcher(server.url, None, lambda *step: told.append(step))
            reading = fetcher.read()
            batches = [(each.key, each.paths, [*dict.fromkeys(each.things())], each.faults) for each in reading.batches]
            found = fetcher.read_hosts(["00:00:00:00:00:01"], ["rack", "blade"], Inventory())
        reading.frame.unread = dict.fromkeys(reading.frame.unread, "the reason names the server's port")
        return reading.frame, batches, [step for step in told if step[0] != "bytes"], found

    frame, batches, told, found = read(application(store))
    assert (frame, batches, told, found) == read(twofold(application(store)))
    assert len(batches) > 1 and "/server/boot0" in found.things


# --- covering --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "contents, wanted, want",
    [
        pytest.param({}, {"a"}, [], id="nothing"),
        pytest.param({"p": ["a", "b", "c"]}, {"a", "b", "c"}, ["p"], id="one"),
        pytest.param({"p": ["a", "b", "c"]}, {"a", "b"}, [], id="fewer-than-three-are-read-one-by-one"),
        pytest.param({"p": list("abc"), "q": list("abcdef")}, set("abcdef"), ["q"], id="the-largest-first"),
        pytest.param({"p": list("abcd"), "q": list("cdefg")}, set("abcdefg"), ["q"], id="what-is-left-of-a-container"),
        pytest.param({"p": list("abcde"), "q": list("efgh")}, set("abcdefgh"), ["p", "q"], id="overlap"),
        pytest.param({"p": list("abc"), "q": list("abc")}, set("abc"), ["p"], id="equal-ones-are-read-once"),
        pytest.param({"p": list("abc"), "q": ["x"] * 90}, set("abc"), ["p"], id="only-wanted-members-count"),
    ],
)
def test_covering(contents: dict[str, list[str]], wanted: set[str], want: list[str]) -> None:
    parts = list(covering(contents, sorted(wanted)))
    assert [part.container for part in parts if part.container is not None] == want
    covered = [path for part in parts for path in part.paths]
    assert sorted(covered) == sorted(wanted), "each in one part, nobody forgotten"
    assert all(set(part.paths) <= set(contents[part.container]) for part in parts if part.container is not None)


def test_single_hosts_come_in_parts_of_so_many() -> None:
    parts = list(covering({}, [f"{number:04}" for number in range(2 * SINGLES + 1)]))
    assert [(part.container, len(part.paths)) for part in parts] == [(None, SINGLES), (None, SINGLES), (None, 1)]


def test_a_fake_that_says_the_truth_is_the_server(store: Store) -> None:
    """The harness itself: an unspoiled answer is the application's."""
    datacenter().store_in(store)
    with spoiling(application(store)) as server:
        assert isinstance(server, Spoiling)
        body = requests.get(f"{server.url}/resourcemanager/net/attrs", timeout=30).json()
    assert [a.key for a in parse_attributes(body["attrs"], "net")] == ["baseip", "gateway", "netmask"]
