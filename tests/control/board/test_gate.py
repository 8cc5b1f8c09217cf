"""control/board/gate.py: no foreign page, no foreign name and nobody without the token gets to see the board."""

from __future__ import annotations

import re
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from control.board.gate import COOKIE, Gate, Token, host_names, is_loopback, name_of
from control.board.site import Site
from control.board.watcher import Watcher
from tests.control.board.asking import HOST, ask

SECRET = "0123456789abcdef-a-token"


async def secret_page(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("the board")


def gate(token: str | None = None, names: tuple[str, ...] = (), bind: tuple[str, int] = ("127.0.0.1", 9970)) -> Any:
    inner = Starlette(routes=[Route(path, secret_page, methods=["GET", "POST"]) for path in ("/", "/hosts", "/login")])
    return Gate(inner, host_names(bind, names), Token(token))


@pytest.mark.parametrize("host", [HOST, "localhost:9970", "LOCALHOST", "[::1]:9970", "127.0.0.1", "board.example:80"])
def test_names_that_it_has(host: str) -> None:
    assert ask(gate(names=("board.example",)), "/", host=host).text == "the board"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9970", "", "127.0.0.1.evil.example", "localhost.evil"])
def test_a_name_that_somebody_else_points_at_us_is_refused(host: str) -> None:
    """DNS rebinding."""
    found = ask(gate(), "/", host=host)
    assert found.status == 421 and "the board" not in found.text


def test_off_loopback_an_address_is_a_name_of_ours() -> None:
    app = gate(SECRET, bind=("0.0.0.0", 9970))
    assert ask(app, "/", host="192.0.2.7:9970").status == 401
    assert ask(app, "/", host="[2001:db8::1]:9970").status == 401
    assert ask(app, "/", host="evil.example").status == 421
    assert ask(gate(), "/", host="192.0.2.7").status == 421


@pytest.mark.parametrize(
    "origin, status",
    [
        (f"http://{HOST}", 200), ("http://evil.example", 403), ("null", 403), ("http://127.0.0.1:1", 403),
        ("https://evil.example:9970", 403), ("garbage", 403), ("http://[", 403), ("http://[zz]/", 403),
        ("http://a]b", 403),
    ],
)  # fmt: skip
def test_a_page_of_another_site_is_refused(origin: str, status: int) -> None:
    assert ask(gate(), "/", origin=origin).status == status


def test_only_the_login_is_posted() -> None:
    assert ask(gate(), "/", "POST").status == 405
    assert ask(gate(), "/hosts", "PUT").status == 405
    assert ask(gate(), "/login", "POST").status == 200
    assert ask(gate(), "/login", "POST", sec_fetch_site="cross-site").status == 403


@pytest.mark.parametrize(
    "headers, status",
    [
        ({}, 401), ({"authorization": f"Bearer {SECRET}"}, 200), ({"authorization": f"bearer  {SECRET}"}, 200),
        ({"authorization": "Bearer wrong"}, 401), ({"authorization": f"Basic {SECRET}"}, 401),
        ({"cookie": f"{COOKIE}={SECRET}"}, 401), ({"cookie": f"{COOKIE}=;;;=\xff"}, 401),
        ({"cookie": f"other=1; {COOKIE}={Token(SECRET).cookie}"}, 200), ({"accept": "text/html"}, 303),
        ({"authorization": "Bearer \xe4\xf6"}, 401),
    ],
)  # fmt: skip
def test_the_token(headers: dict[str, str], status: int) -> None:
    found = ask(gate(SECRET), "/", **headers)
    assert found.status == status
    assert ("the board" in found.text) == (status == 200)


def test_a_token_in_a_url_is_refused_whatever_else_is_shown() -> None:
    found = ask(gate(SECRET), f"/?token={SECRET}", authorization=f"Bearer {SECRET}")
    assert found.status == 400 and "change it" in found.text


def test_what_every_answer_says_to_a_browser() -> None:
    for found in (ask(gate(), "/"), ask(gate(), "/", host="evil.example"), ask(gate(SECRET), "/"), ask(gate(), "/no")):
        policy = found.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert found.headers["x-content-type-options"] == "nosniff"
        assert found.headers["cache-control"] == "no-store"


def test_the_pages_hold_to_that_policy() -> None:
    """No script, style or handler of their own: a browser would not run it, and somebody else's would look alike."""
    site = Site(Watcher("/nowhere"), Token(None), "site")
    for path in site.pages.loader.list_templates() if site.pages.loader is not None else ():
        source, _file, _fresh = site.pages.loader.get_source(site.pages, path)  # type: ignore[union-attr]
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|<script(?! src=)|\|\s*safe", source), path


@pytest.mark.parametrize("host, want", [("[::1]:80", "::1"), ("A.b.:80", "a.b"), ("1.2.3.4", "1.2.3.4"), ("", "")])
def test_names(host: str, want: str) -> None:
    assert name_of(host) == want


def test_the_form_gives_the_cookie_to_who_knows_the_token() -> None:
    app = Site(Watcher("/nowhere"), Token(SECRET), "site").app(host_names(("127.0.0.1", 9970), ()))
    assert ask(app, "/login", accept="text/html").status == 200
    wrong = ask(app, "/login", "POST", b"token=wrong")
    assert wrong.status == 403 and "set-cookie" not in wrong.headers and "not the token" in wrong.text
    assert ask(app, "/login", "POST", b"token=" + b"x" * 10_000).status == 413
    assert ask(app, "/login", "POST", f"other={SECRET}".encode()).status == 403
    right = ask(app, "/login", "POST", f"token={SECRET}".encode(), origin=f"http://{HOST}")
    cookie = right.headers["set-cookie"]
    assert right.status == 303 and SECRET not in cookie and "HttpOnly" in cookie and "SameSite=strict" in cookie
    assert ask(app, "/host/x", cookie=cookie.partition(";")[0]).status == 503, "let in, and there is no service"


@pytest.mark.parametrize("other", ['x={"a":1}', "novalue", "name with space=1", "a/b=1", "expires=1", "x=a b"])
def test_another_program_s_cookie_on_this_host_does_not_lock_out(other: str) -> None:
    cookie = f"{COOKIE}={Token(SECRET).cookie}"
    assert ask(gate(SECRET), "/", cookie=f"{other}; {cookie}").status == 200
    assert ask(gate(SECRET), "/", cookie=f"{cookie}; {other}").status == 200
    assert ask(gate(SECRET), "/", cookie=other).status == 401


def test_what_a_page_of_another_site_loads_gets_403_and_a_link_is_followed() -> None:
    for mode, shown_as in (("no-cors", "image"), ("navigate", "iframe"), ("cors", "empty")):
        said = {"sec_fetch_site": "cross-site", "sec_fetch_mode": mode, "sec_fetch_dest": shown_as}
        assert ask(gate(), "/", **said).status == 403
    link = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert ask(gate(), "/", **link).status == 200
    assert ask(gate(), "/login", "POST", **link).status == 403


def test_what_is_loopback() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("127.0.0.1.example.com", "127.lan", "0.0.0.0", "")] == [False] * 4
