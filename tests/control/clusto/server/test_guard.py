"""The embedded inventory against browsers, clients that drip, and text that a terminal would obey."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from werkzeug.test import Client
from werkzeug.wrappers import Response

from control.clusto.errors import plain
from control.clusto.server import connections
from control.clusto.server import httpd as server_module
from control.clusto.server.connections import PIPELINED_MAX, Channel, Server
from control.clusto.server.guard import Guard
from control.clusto.server.httpd import application
from control.clusto.server.store import Store
from tests.control.clusto.support import new_store, running, serving

OURS = "127.0.0.1:9996"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    made = new_store(tmp_path_factory.mktemp("inventory"))
    yield made
    made.close()


def status(store: Store, path: str = "/pool", method: str = "GET", names: tuple[str, ...] = (), **headers: str) -> int:
    sent = {name.replace("_", "-"): value for name, value in ({"Host": OURS} | headers).items()}
    return Client(application(store, names=names)).open(path, method=method, headers=sent).status_code


# --- browsers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host, want",
    [
        (OURS, 200), ("127.0.0.1", 200), ("[::1]:9996", 200), ("192.0.2.7:80", 200), ("localhost:9996", 200),
        ("LOCALHOST.", 200), (socket.gethostname() + ":9996", 200), ("evil.example", 403), ("evil.example:9996", 403),
        ("127.0.0.1.evil.example", 403), ("localhost.evil.example", 403), ("", 403), ("[evil]", 403),
        ("inventory.example:9996", 403),
    ],
)  # fmt: skip
def test_a_foreign_host_is_refused(store: Store, host: str, want: int) -> None:
    """A name that somebody else lets point here; nobody can do that with an address."""
    assert status(store, Host=host) == want
    assert status(store, Host=host, names=("*",)) == 200
    assert (status(store, "/pool/p", "POST", Host=host) == 403) == (want == 403)


def test_names_are_given_to_it(store: Store) -> None:
    names = ("Inventory.Example", "other")
    assert status(store, Host="inventory.example:9996", names=names) == 200
    assert status(store, Host="evil.example", names=names) == 403
    assert status(store, Host=OURS, Origin="https://inventory.example", names=names) == 200


def test_http_1_0_has_no_host() -> None:
    Guard().check(None, None)


@pytest.mark.parametrize(
    "origin, want",
    [
        (f"http://{OURS}", 200), (f"https://{OURS}", 200), ("http://127.0.0.1:8080", 403), ("null", 403), ("", 403),
        ("http://evil.example", 403), (f"http://{OURS}.evil.example", 403), (f"file://{OURS}", 403), ("http://[", 403),
    ],
)  # fmt: skip
def test_a_foreign_origin_is_refused(store: Store, origin: str, want: int) -> None:
    assert status(store, Origin=origin) == want


def test_a_change_that_another_site_asks_for_is_refused(store: Store) -> None:
    """A link or a picture sends no Origin; the browser says this much."""
    status(store, "/pool/changed", "POST")
    change = "/pool/changed/addattr?key=a&value=b"
    assert status(store, change, Sec_Fetch_Site="cross-site") == 403
    assert status(store, "/pool/changed", "DELETE", Sec_Fetch_Site="cross-site") == 403
    assert b"attrs" in Client(application(store)).get("/pool/changed", headers={"Sec-Fetch-Site": "cross-site"}).data
    assert b'"key"' not in Client(application(store)).get("/pool/changed").data
    assert status(store, change, Sec_Fetch_Site="same-origin") == 200 == status(store, change)


EVIL, FIREFOX = "http://evil.example/a", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"


@pytest.mark.parametrize(
    "path", ["/pool/asked/addattr?key=a&value=b", "/pool/asked?callback=f"], ids=["change", "JSONP"]
)
@pytest.mark.parametrize(
    "headers, names, want",
    [
        pytest.param({}, (), 200, id="a-program"),
        pytest.param({"User-Agent": "curl/8.5.0"}, (), 200, id="curl"),
        pytest.param({"User-Agent": FIREFOX}, (), 403, id="a-browser-that-names-no-page"),
        pytest.param({"User-Agent": FIREFOX}, ("*",), 200, id="any-name"),
        pytest.param({"User-Agent": FIREFOX, "Referer": EVIL}, (), 403, id="a-foreign-page"),
        pytest.param({"Referer": EVIL}, (), 403, id="a-foreign-page-in-whatever"),
        pytest.param({"Referer": "http://["}, (), 403, id="a-page-that-is-none"),
        pytest.param({"User-Agent": FIREFOX, "Referer": f"http://{OURS}/pool"}, (), 200, id="a-page-of-ours"),
        pytest.param({"User-Agent": FIREFOX, "Referer": EVIL}, ("evil.example",), 200, id="a-page-of-a-name-of-ours"),
        pytest.param({"Sec-Fetch-Site": "cross-site"}, (), 403, id="cross-site"),
        pytest.param({"Sec-Fetch-Site": "cross-site", "Referer": f"http://{OURS}/"}, (), 403, id="cross-site-of-ours"),
        pytest.param({"Sec-Fetch-Site": "cross-site", "Referer": EVIL}, ("evil.example",), 200, id="cross-site-named"),
        pytest.param({"Sec-Fetch-Site": "same-site"}, (), 403, id="another-port-of-this-host"),
        pytest.param({"Sec-Fetch-Site": "none", "User-Agent": FIREFOX}, (), 200, id="typed-by-a-person"),
        pytest.param({"Sec-Fetch-Site": "same-origin", "Referer": "https://proxy.example/"}, (), 200, id="by-a-proxy"),
    ],
)  # fmt: skip
def test_who_asks_for_what_a_foreign_page_could_ask_for(
    store: Store, path: str, headers: dict[str, str], names: tuple[str, ...], want: int
) -> None:
    client = Client(application(store, names=names))
    client.post("/pool/asked")
    answer = client.get(path, headers={"Host": OURS} | headers)
    assert answer.status_code == want, answer.text
    assert client.get("/pool/asked", headers={"Host": OURS, "User-Agent": FIREFOX}).status_code == 200


@pytest.mark.parametrize(
    "path, method, headers",
    [
        pytest.param("/?callback=<script>", "GET", {}, id="callback"),
        pytest.param("/", "GET", {"Host": "<script>"}, id="Host"),
        pytest.param("/", "GET", {"Origin": "<script>"}, id="Origin"),
        pytest.param("/pool/x/addattr", "GET", {"Referer": "<script>"}, id="Referer"),
        pytest.param('/pool/x/together?steps=[{"path":"<script>","action":"addattr"}]', "GET", {}, id="path-of-a-step"),
        pytest.param('/pool/x/together?steps=[{"path":"/a/b","action":"<script>"}]', "GET", {}, id="action-of-a-step"),
        pytest.param("/query/get_by_name?name=<script>", "GET", {}, id="name"),
        pytest.param("/pool/x/setattr?key=<script>", "GET", {}, id="key"),
    ],
)  # fmt: skip
def test_foreign_text_in_an_error_is_no_markup(store: Store, path: str, method: str, headers: dict[str, str]) -> None:
    client = Client(application(store))
    client.post("/pool/x")
    answer = client.open(path, method=method, headers={"Host": OURS} | headers)
    assert answer.status_code >= 400 and answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.mimetype == "text/plain" or (answer.mimetype == "text/html" and "<" not in answer.text)
    assert client.get("/pool").headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "callback, want",
    [
        ("f", 200), ("a.b_c.$d9", 200), ("jQuery1234_5678", 200), ("", 400), ("f(1);g", 400), ("<script>", 400),
        ("a..b", 400), ("9a", 400), ("a\n", 400), ("x" * 129, 400), ("é", 400), ("f/**/", 400),
    ],
)  # fmt: skip
def test_a_callback_is_a_name(store: Store, callback: str, want: int) -> None:
    client = Client(application(store))
    answer = client.get("/pool", query_string={"callback": callback}, headers={"Host": OURS})
    assert answer.status_code == want
    assert (
        answer.data.startswith(f"{callback}(".encode()) if want == 200 else callback.encode() + b"(" not in answer.data
    )


def test_a_callback_that_is_refused_changes_nothing(store: Store) -> None:
    client = Client(application(store))
    client.post("/pool/untouched")
    assert client.get("/pool/untouched/addattr?key=a&value=b&callback=x(1)").status_code == 400
    assert b'"key"' not in client.get("/pool/untouched").data


@pytest.mark.parametrize("char", ["\x1b", "\n", "\u202e", "\u2028", "\x9b", "\x7f"])
def test_what_a_terminal_obeys_is_written_out(store: Store, char: str) -> None:
    client = Client(application(store))
    for path, query in (("/query/get_by_name", {"name": f"a{char}b"}), ("/pool", {"callback": f"a{char}b"})):
        answer = client.get(path, query_string=query)
        assert answer.status_code in (400, 500)
        text = answer.get_data(as_text=True)
        assert char not in text.removesuffix("\n").replace("400 Bad Request\n", "", 1), text
    assert plain(f"é{char}") == "é" + char.encode("unicode_escape").decode() and plain("é ü") == "é ü"


# --- clients that drip -----------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LOOK_EVERY_S", 0.1)
    monkeypatch.setattr(connections, "REQUEST_S", 0.6)
    monkeypatch.setattr(connections, "TAKE_S", 0.6)
    monkeypatch.setattr(connections, "CROWDED_S", 0.2)


def connected(url: str) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((address.hostname, address.port), timeout=20)


def is_closed(connection: socket.socket, within_s: float) -> bool:
    connection.settimeout(within_s)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


@pytest.mark.parametrize(
    "head", [b"GET /pool HTTP/1.1\r\nX: ", b"POST /query/get_entities HTTP/1.1\r\nContent-Length: 9999\r\n\r\n"],
    ids=["head", "body"],
)  # fmt: skip
def test_a_request_that_drips_is_closed(
    tmp_path: Path, quick: None, caplog: pytest.LogCaptureFixture, head: bytes
) -> None:
    with running(new_store(tmp_path)) as url, connected(url) as dripping:
        dripping.sendall(head)
        began = time.monotonic()
        while time.monotonic() - began < 20:
            try:
                dripping.sendall(b"x")
            except ConnectionError:
                break
            if is_closed(dripping, 0.1):
                break
        assert 0.5 < time.monotonic() - began < 15
        assert status_line(url) == b"HTTP/1.1 200 OK"
    assert "since the start 1 that were slow, 0 to make room" in caplog.text


def status_line(url: str) -> bytes:
    with connected(url) as connection:
        connection.sendall(b"GET /pool HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return connection.makefile("rb").readline().rstrip()


def test_when_all_places_are_taken_the_idle_ones_make_room(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "CONNECTIONS_MAX", 20)
    caught: list[Server] = []
    monkeypatch.setattr(
        server_module, "create", lambda *a, **more: caught.append(connections.create(*a, **more)) or caught[0]
    )
    with running(new_store(tmp_path)) as url, ExitStack() as held:
        for number in range(30):
            connection = held.enter_context(connected(url))
            connection.sendall(b"GET /" if number % 2 else b"")
        began = time.monotonic()
        assert status_line(url) == b"HTTP/1.1 200 OK"
        assert time.monotonic() - began < 15
    assert caught[0].closed["crowded"] > 0


def test_an_answer_that_is_taken_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the clock that it is given: 4 KiB/s over a minute keep the connection, less does not."""
    channel = Channel.__new__(Channel)
    channel.requests, channel.request = [], None
    channel.total_outbufs_len = 10_000_000
    assert not channel.is_slow(0.0)
    channel.total_outbufs_len -= 60 * 4096
    assert not channel.is_slow(59.0) and not channel.is_slow(60.0)
    channel.total_outbufs_len -= 60 * 4096 - 1
    assert channel.is_slow(120.0)
    channel.total_outbufs_len = 0
    assert not channel.is_slow(200.0) and channel.left is None


@pytest.mark.parametrize("requests", [[], [object()]], ids=["the-last", "more-are-asked-for"])
def test_who_asks_for_more_has_no_longer_time_to_take_an_answer(requests: list[object]) -> None:
    channel = Channel.__new__(Channel)
    channel.requests, channel.request, channel.total_outbufs_len = requests, None, 10_000_000
    assert not channel.is_slow(0.0) and not channel.is_slow(59.0) and channel.is_slow(60.0)


REQUEST = b"GET /pool HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_the_next_answer_is_made_when_the_one_before_is_taken() -> None:
    """124 requests fit into 8 KiB: their answers would wait in memory, 1 MiB of each."""
    made: list[str] = []
    size = 8 << 20  # more than sockets hold

    def answer(environ: dict[str, Any], start: Any) -> Any:
        made.append(environ["PATH_INFO"])
        return Response(b"x" * (size if environ["PATH_INFO"] == "/large" else 1))(environ, start)

    with serving(answer) as url, connected(url) as greedy:
        greedy.sendall(REQUEST.replace(b"pool", b"large") * 5)
        assert greedy.recv(15) == b"HTTP/1.1 200 OK"
        for _ in range(20):
            assert status_line(url) == b"HTTP/1.1 200 OK"
        assert made.count("/large") == 1
        answers, taken = greedy.makefile("rb"), 0
        for _ in range(5):
            while answers.readline().strip():
                pass
            assert len(answers.read(size)) == size
            taken += 1
        assert made.count("/large") == taken == 5
        greedy.sendall(REQUEST)
        assert answers.readline() == b"HTTP/1.1 200 OK\r\n", "the connection is kept"


@pytest.mark.parametrize("asked", [PIPELINED_MAX, 5 * PIPELINED_MAX])
def test_who_pipelines_too_much_is_told_where_it_ends(tmp_path: Path, asked: int) -> None:
    """The others are asked for again, over another connection: RFC 9112, 9.3.2."""
    with running(new_store(tmp_path)) as url, connected(url) as greedy:
        greedy.sendall(REQUEST * asked)
        came = b""
        while block := b"" if asked == PIPELINED_MAX == came.count(b"\r\n\r\n[]") else greedy.recv(65536):
            came += block
    assert came.count(b"HTTP/1.1 200 OK\r\n") == came.count(b"\r\n\r\n[]") == PIPELINED_MAX
    assert came.count(b"Connection: close\r\n") == (asked > PIPELINED_MAX)


def test_a_fast_client_with_a_large_request_is_not_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = Channel.__new__(Channel)
    channel.requests, channel.request, channel.begun_s = [], object(), 0.0
    channel.came = 320 * 1024
    assert not channel.is_slow(29.0) and channel.is_slow(31.0)


def test_the_log_is_not_in_the_way(caplog: pytest.LogCaptureFixture, store: Store) -> None:
    """What the inventory itself says of a fault names the path without its control characters."""
    caplog.set_level(logging.ERROR)
    Client(application(store)).get("/query/get_entities", query_string={"names": '{"a\x1b": 1}'})
    assert "\x1b" not in caplog.text
