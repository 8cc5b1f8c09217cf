"""What the recordings leave out of HTTP: encodings, prefixes, redirects, forms, limits, slow and wrong clients."""

import json
import socket
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote, quote_plus, urlsplit

import pytest
import requests

from control.clusto.client.api import Api, ClustoError
from control.clusto.server.httpd import BODY_BYTES_MAX, HEADER_BYTES_MAX, TARGET_BYTES_MAX, THREADS
from control.clusto.server.store import Store, attributes
from control.clusto.server.writing import create_entity, driver_named, insert_rows
from tests.control.clusto.support import new_store, running

TIMEOUT_S = 20
ENTITIES = 26  # of the fixture


def ask(url: str, method: str = "GET", **named: object) -> requests.Response:
    return requests.request(method, url, timeout=TIMEOUT_S, allow_redirects=False, **named)  # type: ignore[arg-type]


def connected(url: str) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((address.hostname, address.port), timeout=TIMEOUT_S)


def status_line(connection: socket.socket) -> bytes:
    return connection.recv(4096).partition(b"\r\n")[0]


@pytest.mark.parametrize("value", ["a+b", "100%25", "a%2Bb", "50% off", "x&y=z"])
def test_get_entities_decodes_twice(fixture_url: str, value: str) -> None:
    assert ask(f"{fixture_url}/server/ex0000/setattr", params={"key": "k", "value": value}).status_code == 200
    wanted = json.dumps([{"key": "k", "value": value}])
    assert ask(f"{fixture_url}/query/get_entities?attrs={quote_plus(quote_plus(wanted))}").json() == ["/server/ex0000"]
    once = ask(f"{fixture_url}/query/get_entities?attrs={quote_plus(wanted)}")
    assert once.status_code == 500 or once.json() == ([] if "+" in value or "%2" in value else ["/server/ex0000"])


def test_names_match_by_their_start(fixture_url: str) -> None:
    for path in ("/server/ex0000.example.org", "/server/ex0000%20b", "/server/ex0000/show/more", "/server/ex0000/"):
        assert ask(fixture_url + path).json()["object"] == "/server/ex0000", path
    assert ask(f"{fixture_url}/server/ex0000.example.org/attrs").json()["object"] == "/server/ex0000"
    assert ask(f"{fixture_url}/basicserver/ex0000.example.org", "POST").status_code == 201
    assert ask(f"{fixture_url}/server/ex0000.example.org").json()["object"] == "/server/ex0000"
    named = ask(f"{fixture_url}/query/get_by_name", params={"name": "ex0000.example.org"}).json()
    assert named["object"] == "/server/ex0000.example.org"


def test_a_redirect_loses_the_query(fixture_url: str) -> None:
    answer = ask(f"{fixture_url}/pool/ex0000/setattr?key=k&value=v")
    assert (answer.status_code, answer.headers["Location"]) == (302, f"{fixture_url}/server/ex0000/setattr")
    assert "k" not in {attr["key"] for attr in ask(f"{fixture_url}/server/ex0000").json()["attrs"]}
    assert ask(f"{fixture_url}/pool/ex0000").headers["Location"] == f"{fixture_url}/server/ex0000/"


@pytest.mark.parametrize("path", ["/", "/pool", "/server/ex0000", "/query/get?name=ex0000", "/search?q=ex"])
def test_jsonp_is_the_same_json(fixture_url: str, path: str) -> None:
    plain = ask(fixture_url + path)
    script = ask(fixture_url + path + ("&" if "?" in path else "?") + "callback=f")
    assert script.headers["Content-Type"].startswith("text/javascript")
    assert script.text == f"f({plain.text})"
    assert int(script.headers["Content-Length"]) == len(script.content)


def test_forms(fixture_url: str) -> None:
    everything = ask(f"{fixture_url}/query/get_entities").json()
    query = f"{fixture_url}/query/get_entities"
    named = {"names": quote('["ex0000"]')}
    assert ask(query, "POST", data=named).json() == ["/server/ex0000"]
    assert ask(query, "POST", params=named).json() == ["/server/ex0000"]
    assert ask(query, "POST", json={"names": ["ex0000"]}).json() == everything
    assert ask(query, "GET", data=named).json() == everything
    both = ask(query, "POST", data={"clusto_types": '["server"]'}, params=named)
    assert both.json() == ["/server/ex0000"]


@pytest.mark.parametrize(
    "path, status", [("/", 200), ("/pool", 200), ("/query/get_entities", 200), ("/server/ex0000", 501)]
)
def test_head_has_no_body(fixture_url: str, path: str, status: int) -> None:
    with requests.Session() as session:
        for _ in range(2):
            answer = session.head(fixture_url + path, timeout=TIMEOUT_S)
            assert (answer.status_code, answer.content) == (status, b"")


EMPTY_PARAMETERS: tuple[tuple[str, int, object], ...] = (
    ("/server/ex0000/attrs?key=", 200, {"attrs": []}),
    ("/server/ex0000/attrs?value=", 200, {"attrs": []}),
    ("/query/get_entities?names=[]", 200, ENTITIES),
    ("/query/get_entities?attrs=[]", 200, ENTITIES),
    ('/query/get_entities?names=["nosuch"]', 200, []),
    ("/query/get_entities?names=", 500, None),
    ("/query/get?name=", 404, None),
    ("/query/get_by_name?name=", 500, None),
    ("/query/get_from_pools?pools=", 500, None),
    ("/query/get_from_pools?pools=production&types=", 500, None),
    ("/query/get_ip_manager?ip=", 404, None),
    ("/search?q=", 200, ENTITIES),
    ("/search?q=%25", 200, []),
    ("/search?q=EX0000", 200, []),
    ("/server/ex0000/insert?object=", 500, None),
    ("/server/ex0000/set_port_attr?porttype=nic-eth&portnum=&key=k&value=v", 400, None),
    ("/server/ex0000/setattr?key=&value=v", 500, None),
    ("/query/", 500, None),
)


def test_empty_parameters(fixture_url: str) -> None:
    for path, status, found in EMPTY_PARAMETERS:
        answer = ask(fixture_url + path)
        assert answer.status_code == status, (path, answer.text)
        if status == 200:
            assert answer.json() == found or len(answer.json()) == found, path


def test_the_longest_request_line(fixture_url: str) -> None:
    room = TARGET_BYTES_MAX - len("/search") - len("q=")
    assert ask(f"{fixture_url}/search?q={'x' * room}").json() == []
    assert ask(f"{fixture_url}/search?q={'x' * (room + 1)}").status_code == 414
    with connected(fixture_url) as connection:
        connection.sendall(b"GET /search?q=" + b"x" * (HEADER_BYTES_MAX + 1) + b" HTTP/1.1\r\nHost: [::]\r\n\r\n")
        assert b" 431 " in status_line(connection)
    assert ask(f"{fixture_url}/pool").status_code == 200


def test_a_body_without_a_length_has_the_same_limit(fixture_url: str) -> None:
    chunk = b"%x\r\n" % (1024 * 1024) + b"x" * 1024 * 1024 + b"\r\n"
    with connected(fixture_url) as connection:
        connection.sendall(b"POST /query/get_entities HTTP/1.1\r\nHost: [::]\r\nTransfer-Encoding: chunked\r\n\r\n")
        answered = False
        for _ in range(BODY_BYTES_MAX // (1024 * 1024) + 1):
            try:
                connection.sendall(chunk)
            except (ConnectionResetError, BrokenPipeError):
                answered = True
                break
        assert answered or b" 413 " in status_line(connection)
    assert ask(f"{fixture_url}/pool").status_code == 200


def big_store(store: Store) -> None:
    """One pool whose answer, 24 MB, is more than sockets' buffers take and a server that waits for them bears."""
    with store.write() as db:
        pool = create_entity(db, driver_named("pool"), "big")
        rows = [(pool.id, "k", "s", number, "string", "x" * 4000) for number in range(6_000)]
        insert_rows(db, attributes, ("entity_id", "key", "subkey", "number", "datatype", "string_value"), rows)


def test_clients_that_do_not_read_block_nobody(tmp_path: Path) -> None:
    """More of them than the server has threads, each with an answer that waits for it."""
    store = new_store(tmp_path)
    big_store(store)
    with running(store) as url, ExitStack() as slow:
        connections = [slow.enter_context(connected(url)) for _ in range(THREADS + 1)]
        for connection in connections:
            connection.sendall(b"GET /pool/big HTTP/1.1\r\nHost: [::]\r\n\r\n")
        for connection in connections:
            # The answer has begun, so a thread has been given to this client.
            assert b" 200 " in status_line(connection)
        assert ask(f"{url}/pool").json() == ["/pool/big"]
        received = 0
        while received < 24_000_000:
            chunk = connections[0].recv(1 << 20)
            assert chunk, f"the answer ended after {received} bytes"
            received += len(chunk)


def test_a_request_that_dribbles_in_blocks_nobody(fixture_url: str) -> None:
    with ExitStack() as slow:
        connections = [slow.enter_context(connected(fixture_url)) for _ in range(THREADS + 2)]
        for connection in connections:
            connection.sendall(b"POST /query/get_entities HTTP/1.1\r\nHost: [::]\r\nContent-Length: 100\r\n\r\nname")
        assert ask(f"{fixture_url}/pool").status_code == 200


def test_a_wrong_token_on_the_client_s_side(tmp_path: Path) -> None:
    with running(new_store(tmp_path), token="right") as url:
        assert Api(url, "right").json("types", "/")[0] == "/appliance"
        for token in (None, "wrong-and-secret", "Right"):
            with pytest.raises(ClustoError, match="401") as failed:
                Api(url, token).json("types", "/")
            assert "secret" not in str(failed.value)
        assert ask(f"{url}/pool", headers={"Authorization": "right"}).status_code == 401
        assert ask(f"{url}/pool", headers={"Authorization": "Bearer"}).status_code == 401


def test_nul_does_not_break_anything(fixture_url: str) -> None:
    for path in ("/search?q=%00", "/query/get?name=%00", "/server/ex0000/setattr?key=k&value=a%00b"):
        assert ask(fixture_url + path).status_code in (200, 404, 500)
    assert ask(f"{fixture_url}/pool").status_code == 200
