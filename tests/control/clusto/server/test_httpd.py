"""Our server as a service: token, connections, many clients at once, and the differences that no recording shows."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote_plus, urlsplit

import pytest
import requests

from control.clusto.errors import Refused
from control.clusto.server.differences import DIFFERENCES
from control.clusto.server.httpd import BODY_BYTES_MAX, TARGET_BYTES_MAX, listen, serve
from control.clusto.server.store import Store, attributes
from control.clusto.server.writing import Value, add_attr, create_entity, driver_named
from tests.control.clusto.support import load_fixture, new_store, running

ROOT = Path(__file__).parents[4]
TIMEOUT_S = 20


def ask(url: str, method: str = "GET", **named: object) -> requests.Response:
    return requests.request(method, url, timeout=TIMEOUT_S, allow_redirects=False, **named)  # type: ignore[arg-type]


def make(url: str, *paths: str) -> None:
    for path in paths:
        assert ask(f"{url}/{path}", "POST").status_code == 201, path


# The service ----------------------------------------------------------------------------------------------------------


def test_every_difference_has_a_name_and_a_reason() -> None:
    assert len({difference.name for difference in DIFFERENCES}) == len(DIFFERENCES)
    assert all(difference.ours and difference.reason for difference in DIFFERENCES)


@pytest.mark.parametrize(
    "header, status",
    [
        pytest.param(None, 401, id="none"),
        pytest.param("Bearer wrong", 401, id="wrong"),
        pytest.param("Basic s3cret", 401, id="basic"),
        pytest.param("Bearer s3cret", 200, id="right"),
    ],
)
def test_token(tmp_path: Path, header: str | None, status: int) -> None:
    with running(new_store(tmp_path), token="s3cret") as url:
        for method, path in (("GET", "/pool"), ("GET", "/query/get_entities"), ("POST", "/search?q=x")):
            answer = ask(url + path, method, headers={} if header is None else {"Authorization": header})
            assert answer.status_code == status
        if status == 401:
            assert ask(f"{url}/pool/p", "POST").status_code == 401
            assert ask(f"{url}/pool/p", "DELETE").status_code == 401


def test_two_requests_on_one_connection(fixture_url: str) -> None:
    """HTTP/1.1 keep-alive, both requests sent before the first answer is read."""
    address = urlsplit(fixture_url)
    request = b"GET /search?q=ex0001 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection((address.hostname, address.port), timeout=TIMEOUT_S) as connection:
        connection.sendall(request * 2)
        received = b""
        while received.count(b'["/server/ex0001"]') < 2:
            chunk = connection.recv(65536)
            assert chunk, received
            received += chunk
    assert received.count(b"HTTP/1.1 200 OK") == 2


def test_a_silent_client_blocks_nobody(fixture_url: str) -> None:
    address = urlsplit(fixture_url)
    silent = [socket.create_connection((address.hostname, address.port)) for _ in range(30)]
    try:
        assert ask(f"{fixture_url}/pool").status_code == 200
    finally:
        for connection in silent:
            connection.close()


def test_big_requests_are_refused_and_the_next_one_is_not(fixture_url: str) -> None:
    assert ask(f"{fixture_url}/search?q={'x' * (TARGET_BYTES_MAX + 1)}").status_code == 414
    address = urlsplit(fixture_url)
    head = f"POST /query/get_entities HTTP/1.1\r\nHost: localhost\r\nContent-Length: {BODY_BYTES_MAX + 1}\r\n\r\n"
    with socket.create_connection((address.hostname, address.port), timeout=TIMEOUT_S) as connection:
        connection.sendall(head.encode())
        assert b" 413 " in connection.recv(4096).partition(b"\r\n")[0]
    assert ask(f"{fixture_url}/search?q=ex0001").json() == ["/server/ex0001"]


def test_a_long_form_is_read(fixture_url: str) -> None:
    names = [f"nosuch{number:06}" for number in range(60_000)] + ["ex0001"]
    answer = ask(f"{fixture_url}/query/get_entities", "POST", data={"names": json.dumps(names)})
    assert (answer.status_code, answer.json()) == (200, ["/server/ex0001"])


def test_twenty_threads_read_and_write(url: str) -> None:
    make(url, "pool/p", *(f"basicserver/s{number}" for number in range(20)))
    bad: list[str] = []

    def work(number: int) -> None:
        with requests.Session() as session:
            for step in range(4):
                for path in (
                    f"/server/s{number}/setattr?key=k&value={step}",
                    f"/pool/p/addattr?key=k{number}&value={step}&number={step}",
                    "/query/get_by_name?name=p&prefetch_attrs=[{}]",
                    f"/server/s{number}/attrs?key=k&merge_container_attrs=1",
                ):
                    answer = session.get(url + path, timeout=TIMEOUT_S)
                    if answer.status_code != 200:
                        bad.append(f"{path}: {answer.status_code} {answer.text}")
            answer = session.get(f"{url}/pool/p/insert?object=/server/s{number}", timeout=TIMEOUT_S)
            if answer.status_code != 200:
                bad.append(answer.text)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bad == []
    pool = ask(f"{url}/pool/p").json()
    assert (len(pool["contents"]), len(pool["attrs"])) == (20, 80)
    numbers = [attr["number"] for attr in ask(f"{url}/pool/p/attrs?key=_contains").json()["attrs"]]
    assert sorted(numbers) == list(range(20))


def test_one_name_made_by_many_at_once(url: str) -> None:
    """The original makes duplicates, and every look-up of the name fails from then on (CLUSTO-HTTPD 1.1)."""
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(ask(f"{url}/basicserver/s", "POST").status_code))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [201, *[409] * 7]


def test_serve_in_a_process(tmp_path: Path) -> None:
    """Says where it listens, keeps what it was told, ends on SIGTERM."""
    command = [sys.executable, "-m", "control.clusto.server.httpd"]
    command += ["--dsn", f"sqlite:///{tmp_path / 'x.db'}", "--bind", "127.0.0.1:0"]
    for status in (201, 409):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ})
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert line.startswith("inventory: listening on http://127.0.0.1:")
            assert ask(f"{line.split()[-1]}/pool/p", "POST").status_code == status
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT_S) == 0
        finally:
            process.kill()
            process.wait()
            process.stderr.close()


def test_wrong_addresses_and_databases_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bind 'nowhere'; wanted HOST:PORT"):
        listen(lambda _environ, _start: [], "nowhere")
    with pytest.raises(ValueError, match="keeps nothing on disk; wanted sqlite:///PATH"):
        serve("sqlite://", "127.0.0.1:0", None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
            serve(f"sqlite:///{tmp_path / 'x.db'}", f"127.0.0.1:{port}", None)


# Differences that no recording shows ----------------------------------------------------------------------------------


@pytest.fixture
def ring_url(fixture_url: str) -> Iterator[str]:
    """ex0000 in a, a in b, b in c, c in a."""
    make(fixture_url, "pool/a", "pool/b", "pool/c")
    for member, container in (("server/ex0000", "a"), ("pool/a", "b"), ("pool/b", "c"), ("pool/c", "a")):
        assert ask(f"{fixture_url}/pool/{container}/insert?object=/{member}").status_code == 200
    for name in ("a", "b", "c"):
        assert ask(f"{fixture_url}/pool/{name}/setattr?key=ring&value={name}").status_code == 200
    yield fixture_url


def test_merging_a_container_cycle_ends(ring_url: str) -> None:
    def merged(path: str) -> list[str]:
        attrs = ask(f"{ring_url}/{path}/attrs?key=ring&merge_container_attrs=1").json()["attrs"]
        return [attr["value"] for attr in attrs]

    assert merged("server/ex0000") == ["a", "b", "c"]
    assert merged("pool/a") == ["a", "b", "c"]
    members = ask(f"{ring_url}/query/get_from_pools?pools=b").json()
    assert sorted(members) == ["/pool/a", "/pool/b", "/pool/c", "/server/ex0000"]
    prefetch = {"pools": "b", "prefetch_attrs": '[{"key": "ring", "merge_container_attrs": true}]'}
    assert ask(f"{ring_url}/query/get_from_pools", params=prefetch).status_code == 200


def test_a_container_on_two_levels_counts_on_both(url: str) -> None:
    """CLUSTO-HTTPD 2: duplicates, not merged ones."""
    make(url, "basicserver/s", "pool/inner", "pool/outer")
    for member, container in (("server/s", "inner"), ("server/s", "outer"), ("pool/inner", "outer")):
        ask(f"{url}/pool/{container}/insert?object=/{member}")
    ask(f"{url}/pool/outer/setattr?key=k&value=outer")
    attrs = ask(f"{url}/server/s/attrs?key=k&merge_container_attrs=1").json()["attrs"]
    assert [attr["value"] for attr in attrs] == ["outer", "outer"]


def test_allocate_by_post(fixture_url: str) -> None:
    allocate = f"{fixture_url}/resourcemanager/servernames/allocate"
    for name in ("s0001", "s0002"):
        answer = ask(allocate, "POST", data={"driver": "penguinserver"})
        assert (answer.status_code, answer.json()["object"]) == (201, f"/server/{name}")
    make(fixture_url, "pool/s0003")
    for _ in range(2):
        answer = ask(allocate, "POST", data={"driver": "penguinserver"})
        assert (answer.status_code, answer.text) == (
            500,
            "NameException: servernames would allocate s0003, which exists; rename or delete that one\n",
        )
    assert ask(f"{fixture_url}/pool/s0003", "DELETE").status_code == 200
    assert ask(allocate, "POST", data={"driver": "basicserver"}).json()["driver"] == "basicserver"
    assert ask(allocate, "POST").status_code == 400
    assert ask(f"{fixture_url}/pool/production/allocate", "POST", data={"driver": "pool"}).status_code == 400
    assert ask(f"{allocate}?driver=basicserver").status_code == 404


def test_delattr_by_subkey_and_number(fixture_url: str) -> None:
    def left(query: str) -> list[str]:
        attrs = ask(f"{fixture_url}/server/ex0003/delattr?{query}").json()["attrs"]
        return [attr["value"] for attr in attrs if attr["key"] == "port-nic-eth"]

    assert left("key=port-nic-eth&subkey=mac&number=1") == ["00:11:22:33:44:59"]
    assert left("key=port-nic-eth&number=1") == ["00:11:22:33:44:59"]
    assert left("key=port-nic-eth&subkey=mac") == []


def test_a_number_that_is_none_is_refused(fixture_url: str) -> None:
    answer = ask(f"{fixture_url}/server/ex0000/addattr?key=k&value=v&number=abc")
    assert (answer.status_code, answer.text) == (500, "ValueError: invalid literal for int() with base 10: 'abc'\n")


# Values ---------------------------------------------------------------------------------------------------------------


def test_null_values(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    load_fixture(store)
    with running(store) as url:
        attrs = ask(f"{url}/pool/odd-values/attrs?key=v&subkey=none").json()["attrs"]
        assert attrs == [{"datatype": "string", "key": "v", "number": None, "subkey": "none", "value": None}]
        query = {"attrs": '[{"key": "v", "value": null}]'}
        assert ask(f"{url}/query/get_entities", params=query).json() == ["/pool/odd-values"]
        query = {"name": "production", "prefetch_attrs": '[{"key": "ip", "subkey": null, "number": 0}]'}
        contents = ask(f"{url}/query/get_by_name", params=query).json()["contents"]
        assert [len(attrs["attrs"]) for member in contents for attrs in member.values()] == [1, 0, 0]
        assert ask(f"{url}/pool/odd-values/setattr?key=v&subkey=none&value=x").status_code == 200


@pytest.mark.parametrize("value", ["café", "日本", "\N{GRINNING FACE}", "a%2Bb", "+"])
def test_non_ascii_and_url_letters(fixture_url: str, value: str) -> None:
    changed = ask(f"{fixture_url}/server/ex0000/setattr", params={"key": "k", "value": value}).json()
    assert [attr["value"] for attr in changed["attrs"] if attr["key"] == "k"] == [value]
    same = ask(f"{fixture_url}/server/ex0000/attrs", params={"key": "k", "value": value}).json()
    assert len(same["attrs"]) == 1


NONSENSE = (
    "/server/ex0000/setattr?key=k&datatype=int&value=9223372036854775808",
    "/server/ex0000/addattr?key=k&value=v&number=99999999999999999999",
    "/query/get_entities?attrs=[1]",
    "/query/get_entities?attrs={}",
    '/query/get_entities?attrs=[{"key":"k","value":"%25ud800"}]',
    '/query/get_entities?attrs=[{"key":"k","number":[]}]',
    "/query/get_by_name?name=ex0000&prefetch_attrs=[[]]",
    '/query/get_by_name?name=production&prefetch_attrs=[{"regex":true,"key":"("}]',
    "/rack/dc1-r001/insert?object=/server/ex0004&ru=x",
)


def test_nonsense_is_answered_and_changes_nothing(fixture_url: str) -> None:
    before = ask(f"{fixture_url}/server/ex0000").json()
    for path in NONSENSE:
        answer = ask(fixture_url + path)
        assert answer.status_code == 500 or answer.json() == [], path
        assert ask(f"{fixture_url}/server/ex0000").json() == before, path


DEEP = "[" * 20 + "]" * 20


WRONG_VALUES = (
    f"[{'9' * 5_000}]", "[" * 7_000, "[" * 3_500 + "]" * 3_500, DEEP, '[{"a": {}}]', "[[]]", "[1e999]", "[NaN]",
    f'[{{"key": {DEEP}}}]', '[{"key": {}}]', '[{"key": [1]}]', '[{"number": 1e999}]', '[{"number": {}}]',
    '[{"value": {"a": []}}]', '[{"subkey": [{}]}]', "{}", '"text"', "[null]", "[true]",
)  # fmt: skip
WRONG_ENTRIES = (
    '{"key": {}}', '{"key": [1]}', '{"key": 5, "regex": 1}', '{"key": "(", "regex": 1}', '{"subkey": {}}',
    '{"subkey": [], "regex": 1}', '{"value": {}}', '{"value": [1], "regex": 1}', '{"clusto_types": 5}',
    '{"clusto_types": [{}]}', '{"clusto_drivers": {"a": 1}}', '{"clusto_drivers": [[]]}', '{"number": 1e999}',
    '{"number": ' + "9" * 4_000 + "}", "5", DEEP,
)  # fmt: skip


@pytest.mark.parametrize("parameter", ["names", "clusto_types", "clusto_drivers", "attrs"])
def test_what_a_client_gets_wrong_is_no_fault_of_ours(
    fixture_url: str, parameter: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A traceback in our log, which anybody could fill."""
    for value in WRONG_VALUES:
        answer = ask(f"{fixture_url}/query/get_entities", params={parameter: value})
        assert answer.status_code in (200, 500) and "see the log" not in answer.text, value[:100]
        assert not [record for record in caplog.records if record.name == "bootstorm.inventory"], value[:100]


def test_what_a_client_gets_wrong_in_a_prefetch_is_no_fault_of_ours(
    fixture_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    for entry in WRONG_ENTRIES:
        for path in ("get_by_name?name=production", "get_from_pools?pools=production"):
            answer = ask(f"{fixture_url}/query/{path}", params={"prefetch_attrs": f"[{entry}]"})
            assert answer.status_code in (200, 400, 500) and "see the log" not in answer.text, (entry, answer.text)
        assert not [record for record in caplog.records if record.name == "bootstorm.inventory"], entry[:100]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    """One request is one transaction."""
    store = Store(f"sqlite:///{tmp_path / 'x.db'}")
    with pytest.raises(Refused), store.write() as db:
        entity = create_entity(db, driver_named("pool"), "p")
        add_attr(db, entity, "k", Value.of("v"))
        add_attr(db, entity, "not a key", Value.of("v"))
    with store.read() as db:
        assert db.execute(attributes.select().where(attributes.c.key == "k")).all() == []
    store.close()


# Changes together -----------------------------------------------------------------------------------------------------


def together(url: str, *steps: dict[str, str]) -> requests.Response:
    return ask(f"{url}/server/s1/together", params={"steps": json.dumps(steps)})


def attrs(url: str, path: str) -> list[tuple[str, object]]:
    rows = ask(f"{url}{path}/attrs", params={"ignore_hidden": ""}).json()["attrs"]
    return [(row["key"], row["value"]) for row in rows]


def test_together_is_all_or_nothing(tmp_path: Path) -> None:
    with running(new_store(tmp_path)) as url:
        make(url, "basicserver/s1", "basicserver/s2", "pool/p", "basicrack/r")
        put = {"path": "/server/s1", "action": "setattr", "key": "a", "value": "x"}
        insert = {"path": "/rack/r", "action": "insert", "object": "/server/s1", "ru": "3"}
        relation = {
            "path": "/server/s2",
            "action": "addattr",
            "key": "b",
            "value": "/server/s1",
            "datatype": "relation",
        }
        done = together(url, put, insert, {**insert, "path": "/pool/p"}, relation)
        assert (done.status_code, done.content) == (200, b"")
        assert attrs(url, "/server/s1") == [("a", "x")] and attrs(url, "/server/s2") == [("b", "/server/s1")]
        assert ("_contains", "/server/s1") in attrs(url, "/rack/r") and attrs(url, "/pool/p")[0][1] == "/server/s1"
        changed = {**put, "value": "y"}
        for step, status in (
            ({**insert, "object": "/server/s2"}, 500),  # the unit is taken
            ({**relation, "value": "/server/none"}, 400),
            ({**put, "path": "/server/none"}, 404),
            ({**put, "action": "delattr"}, 400),
            ({**put, "number": 3}, 400),
        ):
            answer = together(url, changed, step)  # type: ignore[arg-type]
            assert answer.status_code == status and "Invalid action" not in answer.text, answer.text
            assert attrs(url, "/server/s1") == [("a", "x")], "nothing of it was done"
        assert ask(f"{url}/server/s1/together", params={"steps": "{"}).status_code == 400


def test_a_claim_never_replaces(tmp_path: Path) -> None:
    with running(new_store(tmp_path)) as url:
        make(url, "basicserver/s1")
        claim = {"path": "/server/s1", "action": "claimattr", "key": "a", "value": "x"}
        assert [together(url, claim).status_code for _ in range(2)] == [200, 200], "its own, again"
        refused = together(url, {**claim, "value": "y"})
        assert refused.status_code == 409 and "/server/s1: a None None is something else" in refused.text
        assert attrs(url, "/server/s1") == [("a", "x")]
        assert together(url, {**claim, "action": "setattr", "value": ""}, claim).status_code == 200, (
            "an empty one is none"
        )
        assert attrs(url, "/server/s1") == [("a", "x")]


def test_many_texts_of_one_kind_are_found_together(fixture_url: str) -> None:
    """More than fit into one statement, with an entry of another kind between them."""
    entries: list[dict[str, object]] = [
        {"subkey": "ipstring", "value": f"10.0.{n >> 8}.{n & 255}"} for n in range(1200)
    ]
    alone = ask(
        f"{fixture_url}/query/get_entities", "POST", data={"attrs": quote_plus(json.dumps([{"key": "ip"}]))}
    ).json()
    entries.insert(600, {"key": "ip"})
    found = ask(f"{fixture_url}/query/get_entities", "POST", data={"attrs": quote_plus(json.dumps(entries))}).json()
    assert found == alone and found
