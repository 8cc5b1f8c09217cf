"""The scrape of a running server that nobody has asked yet: alerts and dashboard have to find their series in it."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

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
            return str(answer.read().decode())
