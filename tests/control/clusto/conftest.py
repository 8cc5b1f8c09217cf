"""Fixtures of the clusto tests: `url` is an empty inventory, `fixture_url` the recordings' one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.control.clusto.support import load_fixture, new_store, running


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with running(new_store(tmp_path)) as address:
        yield address


@pytest.fixture
def fixture_url(tmp_path: Path) -> Iterator[str]:
    store = new_store(tmp_path)
    load_fixture(store)
    with running(store) as address:
        yield address
