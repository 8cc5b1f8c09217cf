"""Fixtures of the clusto tests: `dsn` on either database, `url` an empty inventory, `fixture_url` the recordings'."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from control.clusto.server.store import Store
from tests.control.clusto import postgres
from tests.control.clusto.support import load_fixture, running, sqlite_dsn


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[URL]:
    with postgres.server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def dsn(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database, once on each of the two; PostgreSQL is skipped, with the reason, when it is not there."""
    if request.param == "sqlite":
        yield sqlite_dsn(tmp_path)
    else:
        with postgres.schema(request.getfixturevalue("postgres_url")) as private:
            yield private


@pytest.fixture
def store(dsn: str) -> Iterator[Store]:
    made = Store(dsn)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def url(store: Store) -> Iterator[str]:
    with running(store) as address:
        yield address


@pytest.fixture
def fixture_url(store: Store) -> Iterator[str]:
    load_fixture(store)
    with running(store) as address:
        yield address
