"""bench/demo/fleet.py where a program is missing; with all of them, tests/fleet/real/test_demo.py runs it."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from bench.demo import fleet


@pytest.mark.parametrize(
    "lacks, says",
    [("nats-server", "Debian package nats-server"), ("dhcrelay", "Debian package isc-dhcp-relay")],
)
def test_it_names_the_package_and_ends_with_2(lacks: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "which", lambda program: None if program == lacks else "/usr/sbin/there")
    monkeypatch.setattr("bench.lab.client.which", lambda program: None if program == lacks else "/usr/sbin/there")
    ran = CliRunner().invoke(fleet.main)
    assert ran.exit_code == 2 and says in ran.output
