"""What `bootstorm check` once called good, and a process of ours then died of."""

import json
from pathlib import Path
from typing import Any

import pytest

from control.config.config import Config, ConfigFaults, parse

FILE = Path("services.conf")
LONG = 64 * "a"


def parsed(section: str, key: str, value: Any) -> Config:
    return parse(json.dumps({section: {key: value}}).encode(), FILE)


def faults_of(section: str, key: str, value: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigFaults) as caught:
        parsed(section, key, value)
    for line in caught.value.faults:
        assert line.startswith("services.conf: ") and line.isprintable() and len(line) < 700, line
    return caught.value.faults


@pytest.mark.parametrize("host", ["a..b", "a." + LONG, LONG])
@pytest.mark.parametrize(
    "section, key, form",
    [("http", "bind_address", "{}"), ("metrics", "bind", "{}:9100"), ("dhcp", "api_url", "http://{}")],
)
def test_a_host_name_that_no_name_server_can_be_asked_for(section: str, key: str, form: str, host: str) -> None:
    (line,) = faults_of(section, key, form.format(host))
    assert line.startswith(f"services.conf: {section}.{key}: found ")
    long = "a host name with a label of 64 characters; wanted at most 63 between two dots"
    assert (long if LONG in host else "take out the dot that has no label before it") in line


def test_a_host_name_that_can_be_asked_for() -> None:
    name = 63 * "a" + ".example"
    assert parsed("metrics", "bind", name + ":9100").metrics.bind == (name, 9100)
    assert parsed("dhcp", "api_url", "http://host.example.:9996/").dhcp.api_url == "http://host.example.:9996"
    assert parsed("dhcp", "api_url", "http://[::1]:9996/").dhcp.api_url == "http://[::1]:9996"
