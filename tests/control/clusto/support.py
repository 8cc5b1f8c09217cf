"""What the clusto tests share: a store with the recordings' fixture, and our server running on a free port."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, text
from waitress import wasyncore

from control.clusto.server.httpd import application, listen
from control.clusto.server.store import Store, attributes, counters, entities

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

RECORDINGS = Path(__file__).parents[2] / "data" / "clusto-recordings"

STOP_POLL_S = 0.05

COLUMN_OF = {"int": "int_value", "string": "string_value", "json": "string_value"}


def sqlite_dsn(folder: Path) -> str:
    return f"sqlite:///{folder / 'inventory.db'}"


def new_store(folder: Path) -> Store:
    return Store(sqlite_dsn(folder))


def load_fixture(store: Store) -> None:
    """FIXTURE.json with its ids, in place of what a new store holds."""
    fixture = json.loads((RECORDINGS / "FIXTURE.json").read_text(encoding="utf-8"))
    id_of = {entity["name"]: entity["id"] for entity in fixture["entities"]}
    with store.write() as db:
        for table in (counters, attributes, entities):
            db.execute(delete(table))
        db.execute(insert(entities), fixture["entities"])
        for attribute in fixture["attributes"]:
            db.execute(insert(attributes).values(**_row(attribute, id_of)))
        for counter in fixture["counters"]:
            row = {"entity_id": id_of[counter["entity"]], "key": counter["key"], "value": counter["value"]}
            db.execute(insert(counters).values(**row))
        if db.dialect.name == "postgresql":
            # Its sequences do not see ids that are given.
            for table in ("entities", "attributes"):
                db.execute(text(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}"))


def _row(attribute: dict[str, Any], id_of: dict[str, int]) -> dict[str, Any]:
    row = {name: attribute[name] for name in ("id", "key", "subkey", "number", "datatype")}
    row["entity_id"] = id_of[attribute["entity"]]
    value = attribute["value"]
    if attribute["datatype"] == "relation":
        row["relation_id"] = id_of[value.rpartition("/")[2]]
    elif attribute["datatype"] == "datetime":
        row["datetime_value"] = datetime.fromisoformat(value)
    else:
        row[COLUMN_OF[attribute["datatype"]]] = value
    return row


@contextmanager
def running(store: Store, token: str | None = None, port: int = 0) -> Iterator[str]:
    """The server's url; it runs on a thread of this process."""
    with serving(application(store, token), port) as url:
        yield url
    store.close()


@contextmanager
def serving(app: "WSGIApplication", port: int = 0) -> Iterator[str]:
    """The same for any application."""
    server: Any = listen(app, f"127.0.0.1:{port}")
    stop = threading.Event()

    def run() -> None:
        # Closed by the thread that selects on it: neither may find the other's descriptors gone.
        while not stop.is_set():
            wasyncore.loop(timeout=STOP_POLL_S, map=server._map, count=1)
        wasyncore.close_all(server._map, ignore_all=True)

    thread = threading.Thread(target=run, name="inventory", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.effective_port}"
    finally:
        stop.set()
        thread.join()
        server.task_dispatcher.shutdown()
