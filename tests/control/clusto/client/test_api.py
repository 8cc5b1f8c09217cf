"""control/clusto/client/api.py: whatever an inventory sends, who asked has an error soon, or the answer as it was
before."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from control.clusto.client import api as api_module
from control.clusto.client.api import Api, ClustoError
from tests.control.clusto.support import new_store, running
from tests.control.sources.test_answers import HEAD, body, saying

MIB = 1 << 20
BLANKS = gzip.compress(b"[" + b" " * 32 * MIB + b"]")


def bomb() -> Iterator[bytes]:
    yield HEAD + b"Content-Encoding: gzip\r\n\r\n" + BLANKS


def bomb_that_redirects() -> Iterator[bytes]:
    packed = b"".join(bomb())
    yield packed.replace(b"200 OK\r\n", b"302 Found\r\nLocation: /elsewhere\r\n")


def long() -> Iterator[bytes]:
    yield HEAD + b"\r\n["
    for _ in range(4):
        yield b" " * MIB
    yield b"]"


def traceback_without_end() -> Iterator[bytes]:
    yield b"HTTP/1.1 500 Oh\r\n\r\n"
    for _ in range(4):
        yield b"x" * MIB


def dripping() -> Iterator[bytes]:
    """Each byte comes soon enough for a limit on silence."""
    yield HEAD + b"\r\n["
    for _ in range(60):
        time.sleep(0.05)
        yield b" "
    yield b"]"


@pytest.mark.parametrize(
    "attack, fault",
    [
        (bomb, "no inventory is packed that densely"),
        (bomb_that_redirects, "more than 1 MiB"),
        (long, "more than 2 MiB"),
        (traceback_without_end, "more than 1 MiB"),
        (dripping, "not complete after 0 s"),
        (lambda: body("[" * 5_000), "wanted JSON"),
        (lambda: body("[" + "[]," * MIB + "0]"), "too many for an inventory's answer"),
        (lambda: body("9" * 5_000), "wanted JSON"),
    ],
)
def test_an_answer_has_limits(
    monkeypatch: pytest.MonkeyPatch, attack: Callable[[], Iterator[bytes]], fault: str
) -> None:
    """The gzip unpacked to whatever it liked, and each recv() had a time limit of its own."""
    monkeypatch.setattr(api_module, "LIST_BYTES_MAX", 2 * MIB if attack is long else 40 * MIB)
    monkeypatch.setattr("control.clusto.answers.OBJECTS_BYTES_MAX", 64 * MIB)
    with saying(lambda _target: attack()) as url, pytest.raises(ClustoError, match=fault) as caught:
        Api(url, timeout=(1.0, 0.4 if attack is dripping else 20.0)).json("it", "/it")
    assert f"{url}/it" in str(caught.value)


def test_half_a_letter_in_a_name_is_an_error_of_that_request() -> None:
    with pytest.raises(ClustoError, match="no text"):
        Api("http://127.0.0.1:9").json("it", "/it", {"name": "\ud800"})


def test_a_packed_answer_and_a_redirect_are_given_as_they_came() -> None:
    packed = gzip.compress('["Käse"]'.encode())
    with saying(lambda _target: iter([HEAD + b"Content-Encoding: gzip\r\n\r\n" + packed])) as url:
        answer = Api(url).request("GET", "/it")
        assert (answer.json(), answer.text) == (["Käse"], '["Käse"]')
    with saying(lambda _target: iter([b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 2\r\n\r\nno"])) as url:
        redirect = Api(url).request("GET", "/it")
        assert (redirect.status_code, redirect.text, redirect.headers["Location"]) == (302, "no", "/x")


def test_the_connection_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(new_store(tmp_path)) as url:
        api = Api(url)
        api.request("GET", "/server")
        monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a second connection"))
        assert isinstance(api.request("GET", "/server"), requests.Response)
