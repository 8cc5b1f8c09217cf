"""Whose word about an inventory's certificate counts: dhcp.api_ca, else this machine's authorities."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from control.clusto.errors import InventoryDown
from control.config.config import parse
from control.explain.named import authorities
from control.fleet.setup.certificates import new_authority, new_certificate, pem_of
from control.sources.asking import Asker
from tests.borrowed import beside

NOW = datetime.now(UTC)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"[]")

    def log_message(self, *_: Any) -> None:
        """Nothing."""


class Site:
    """An inventory over TLS whose authority is the site's own."""

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        authority = new_authority("inventory", NOW)
        self.ca = folder / f"{host}.ca"
        self.ca.write_text(pem_of(authority.cert))
        cert, key = new_certificate(authority, host, NOW)
        (folder / "cert").write_text(cert + key)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "cert")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://127.0.0.1:{self.server.server_port}"

    def answer(self, ca: Path | None) -> bytes:
        return bytes(Asker(self.url, ca=ca).get_raw("/query/get_entities"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("tls"))
    with beside(made.server):
        yield made


def why(site: Site, ca: Path | None) -> str:
    with pytest.raises(InventoryDown) as down:
        site.answer(ca)
    return str(down.value)


def test_an_authority_that_nobody_knows(site: Site) -> None:
    said = why(site, None)
    assert "its certificate is not believed (" in said and "name that's certificate in dhcp.api_ca" in said


def test_an_authority_that_is_named(site: Site) -> None:
    assert site.answer(site.ca) == b"[]"


def test_an_authority_that_this_machine_trusts(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `update-ca-certificates` does it; certifi alone counted, and no inventory of a site's own could be https."""
    monkeypatch.setenv("SSL_CERT_FILE", str(site.ca))
    assert site.answer(None) == b"[]"


def test_whom_this_machine_trusts_does_not_count_beside_a_named_one(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(site.ca))
    other = tmp_path / "other.ca"
    other.write_text(pem_of(new_authority("another", NOW).cert))
    assert "is not believed" in why(site, other)


def test_a_certificate_of_another_name(tmp_path: Path) -> None:
    other = Site(tmp_path, "inventory.example.org")
    with beside(other.server):
        assert "IP address mismatch" in why(other, other.ca)


def test_a_file_that_is_not_there(site: Site, tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in why(site, tmp_path / "nowhere")


@pytest.mark.parametrize(
    "content, url, said",
    [
        (None, "https://inventory.example.org", "cannot be read (No such file or directory)"),
        ("no certificate", "https://inventory.example.org", "wanted certificates in PEM"),
        ("good", "http://inventory.example.org", "dhcp.api_url is no https URL"),
        ("good", "https://inventory.example.org", ""),
    ],
)
def test_check_looks_at_the_file(tmp_path: Path, site: Site, content: str | None, url: str, said: str) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(site.ca.read_text() if content == "good" else content)
    config = parse(json.dumps({"dhcp": {"api_url": url, "api_ca": str(path)}}).encode(), tmp_path / "services.conf")
    found = authorities(config, None)
    assert (found[0].text.endswith(said) or said in found[0].text) if said else found == []
