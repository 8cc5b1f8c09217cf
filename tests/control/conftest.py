"""Fixtures of the planner's tests: an inventory over HTTP, what control hears, a planner between the two."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from control.clusto.server.httpd import application
from control.planner.planner import Planner
from tests.control.clusto.support import new_store
from tests.control.planning import LINKS, Control, Inventory, config, end, site
from tests.control.spoiling import spoiling


@pytest.fixture(scope="module")
def inventory_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inventory]:
    store = new_store(tmp_path_factory.mktemp("inventory"))
    made = Inventory(store)
    with spoiling(application(store), made.spoil) as server:
        made.server = server
        yield made
    store.close()


@pytest.fixture
def inventory(inventory_server: Inventory) -> Inventory:
    inventory_server.forget()
    site().store_in(inventory_server.store)
    return inventory_server


@pytest.fixture
def control() -> Iterator[Control]:
    made = Control()
    yield made
    made.close()


@pytest.fixture
def planner(inventory: Inventory, control: Control, tmp_path: Path) -> Iterator[Planner]:
    made = Planner(config(inventory, tmp_path), LINKS, control.send)
    yield made
    end(made)
