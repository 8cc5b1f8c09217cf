"""Fixtures of the discovery tests: `site` is one rack in an inventory of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from control.clusto.server.store import Store
from tests.control.discovery.support import inventory, make_site


class Inventory(NamedTuple):
    store: Store
    url: str


@pytest.fixture(scope="session")
def made_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a site's database, to be copied: making it takes a hundred requests."""
    folder = tmp_path_factory.mktemp("site")
    with inventory(folder):
        make_site()
    return folder


@pytest.fixture
def site(made_site: Path, tmp_path: Path) -> Iterator[Inventory]:
    for file in made_site.glob("inventory.db*"):
        shutil.copy(file, tmp_path)
    with inventory(tmp_path) as (store, url):
        yield Inventory(store, url)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: some tests commit thousands of times."""
    place = Path("/dev/shm")
    if not os.access(place, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=place) as folder:
        yield Path(folder)
