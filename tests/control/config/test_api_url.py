"""dhcp.api_url of a file: a path that was written as people write paths is told the URL that it should be; and of an
inventory by docs/contract.md."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from control.config.config import ConfigFaults, Dhcp, parse
from control.config.schema import document
from control.sources.by_url import open_source
from control.sources.contract.source import HostsSource
from control.sources.filesource import FileSource
from tests.control.config.test_schema import as_python


def parsed(url: str) -> str:
    return parse(json.dumps({"dhcp": {"api_url": url}}).encode(), Path("services.conf")).dhcp.api_url


@pytest.mark.parametrize(
    "url, taken",
    [
        ("file:///etc/bootstorm/hosts.csv", "file:///etc/bootstorm/hosts.csv"),
        ("file:///a%20b", "file:///a%20b"),
        ("file:///etc/a%23b.yaml", "file:///etc/a%23b.yaml"),
        ("file:/etc/hosts.csv", "file:///etc/hosts.csv"),
        ("FILE:///etc/hosts.csv", "file:///etc/hosts.csv"),
    ],
)
def test_a_file(url: str, taken: str) -> None:
    assert parsed(url) == taken
    assert isinstance(open_source(Dhcp(api_url=taken), lambda *_: None), FileSource)


@pytest.mark.parametrize(
    "url, said",
    [
        ("file:hosts.csv", "the URL of a file, file:///PATH; write file:///PATH, such as file:///etc/bootstorm/hosts.csv"),
        ("file://etc/hosts.csv", "write file:///etc/hosts.csv"),
        ("file:///etc/a#b.csv", "write file:///etc/a%23b.csv"),
        ("file:///etc/", "wanted the URL of a file, file:///PATH"),
        ("file:///etc/a%00", "wanted the URL of a file, file:///PATH"),
        ("/etc/hosts.csv", "write file:///etc/hosts.csv"),
        ("hosts.YAML", "write file:///PATH, such as file:///etc/bootstorm/hosts.YAML"),
        ("./hosts", "write file:///PATH, such as file:///etc/bootstorm/hosts"),
    ],
)  # fmt: skip
def test_no_file(url: str, said: str) -> None:
    with pytest.raises(ConfigFaults) as caught:
        parsed(url)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "url, taken, asked",
    [
        ("http+hosts://127.0.0.1:8080/a/", "http+hosts://127.0.0.1:8080/a", "http://127.0.0.1:8080/a"),
        ("HTTPS+Hosts://inventory.example.org", "https+hosts://inventory.example.org", "https://inventory.example.org"),
        ("https+hosts://[::1]:443/", "https+hosts://[::1]:443", "https://[::1]:443"),
    ],
)
def test_an_inventory_by_the_contract(url: str, taken: str, asked: str) -> None:
    assert parsed(url) == taken
    source = open_source(Dhcp(api_url=taken), lambda *_: None)
    assert isinstance(source, HostsSource) and source.url == asked
    assert Draft7Validator(as_python(document())).is_valid({"dhcp": {"api_url": url}})


@pytest.mark.parametrize(
    "url, said",
    [
        ("http+hosts://a/?b=1", "wanted a URL"),
        ("http+hosts://", "wanted a URL"),
        ("http+hosts://user:word@host", "set dhcp.api_token"),
        ("http+rows://localhost", "of docs/contract.md"),
    ],
)
def test_no_inventory_by_the_contract(url: str, said: str) -> None:
    with pytest.raises(ConfigFaults, match=said):
        parsed(url)
    assert not Draft7Validator(as_python(document())).is_valid({"dhcp": {"api_url": url}})
