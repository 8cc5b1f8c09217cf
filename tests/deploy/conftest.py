"""The scrape of a running server that nobody has asked yet: alerts and dashboard have to find their series in it.

The server has no fleet, which would need an engine; what a fleet adds is made of a status that says what one does.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from control.service.doors import families
from tests.control.service.doors.fleet_status import fleet_status
from tests.control.service.test_service import content
from tests.control.serving import may_serve, serving
from tests.ports import free_port


@pytest.fixture(scope="session")
def scrape(tmp_path_factory: pytest.TempPathFactory) -> str:
    """In Prometheus' text form, of a server with two workers, with everything else off."""
    may_serve()
    folder: Path = tmp_path_factory.mktemp("scraped")
    (folder / "hosts.csv").write_text(content(1, 2))
    port = free_port()
    with serving(folder, f"file://{folder}/hosts.csv", metrics={"bind": f"127.0.0.1:{port}"}, workers=2) as running:
        running.wait_for(r"generation 1: 2 hosts")
        running.at = 0
        running.wait_for("metrics at")
        running.ctl("refresh", {"wait": True})
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            return str(answer.read().decode()) + of_a_fleet()


def of_a_fleet() -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(OfAFleet())
    return generate_latest(registry).decode()


class OfAFleet(Collector):
    def collect(self) -> Iterator[Metric]:
        yield from families.of_fleet({"fleet": fleet_status()})
