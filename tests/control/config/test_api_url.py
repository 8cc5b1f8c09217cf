"""dhcp.api_url of a file: a path that was written as people write paths is told the URL that it should be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from control.config.config import ConfigFaults, Dhcp, parse
from control.sources.by_url import open_source
from control.sources.filesource import FileSource


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
