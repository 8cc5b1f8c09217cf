"""An inventory that is only read: what should be registered waits, and the reason says where to add it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from control.clusto.client.api import Api
from control.config.config import Config, Dhcp
from control.discovery.jobs import Work
from control.discovery.registrar import registrar
from control.discovery.states import State


@pytest.mark.parametrize(
    "url, said",
    [
        ("file:///etc/hosts.yaml", "a file that is only read; add the server to it by hand"),
        ("https+hosts://inventory.example.org", "an inventory that is only read; add the server there by hand"),
    ],
)
def test_a_machine_waits(url: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registrar, "connect", Api)
    made = registrar.Registrar(cast(Any, None), Config(dhcp=Dhcp(api_url=url)))
    outcome = made.outcome(Work(mac="02:00:00:00:00:01", places=[], roles=["host"]))
    assert (outcome.state, outcome.reason) == (State.WAITS, f"dhcp.api_url is {url}: {said}")
