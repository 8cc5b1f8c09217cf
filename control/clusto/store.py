"""Entities, attributes and counters in a database (SQLite, or PostgreSQL by DSN); queries.py reads, actions.py writes.

One Store per database; `with store.read() as db` and `with store.write() as db` are one transaction each, that is one
request each.  Writers are serial, readers never wait for them.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Engine,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    insert,
    select,
    text,
)
from sqlalchemy.engine import make_url

META: Final = MetaData()

# SQLite only counts ids up for us when the column is exactly INTEGER.
_ID: Final = BigInteger().with_variant(Integer, "sqlite")

NAME_CHARS_MAX: Final = 128
SCHEMA_VERSION: Final = 3
BUSY_TIMEOUT_MS: Final = 10_000
CACHE_KIB: Final = 65_536
_WRITE_LOCK_KEY: Final = 0x626F6F74

entities: Final = Table(
    "entities",
    META,
    Column("id", _ID, primary_key=True),
    Column("name", String(NAME_CHARS_MAX), nullable=False, unique=True),
    Column("type", String(32), nullable=False, index=True),
    Column("driver", String(32), nullable=False, index=True),
)

attributes: Final = Table(
    "attributes",
    META,
    Column("id", _ID, primary_key=True),
    Column("entity_id", _ID, ForeignKey("entities.id"), nullable=False),
    Column("key", String(256), nullable=False),
    Column("subkey", String(256)),
    Column("number", BigInteger),
    Column("datatype", String(16), nullable=False),
    Column("int_value", BigInteger),
    Column("string_value", Text),
    Column("relation_id", _ID, ForeignKey("entities.id")),
    Column("datetime_value", DateTime),
)

Index("attributes_of_entity", attributes.c.entity_id, attributes.c.key)
Index("attributes_named", attributes.c.key, attributes.c.subkey, attributes.c.number)
Index(
    "attributes_relation",
    attributes.c.relation_id,
    attributes.c.key,
    sqlite_where=attributes.c.relation_id.is_not(None),
    postgresql_where=attributes.c.relation_id.is_not(None),
)
# The value comes first: a MAC or an address is asked for with and without subkey and number (CLUSTO-HTTPD 6).
Index(
    "attributes_int",
    attributes.c.int_value,
    attributes.c.key,
    attributes.c.subkey,
    attributes.c.number,
    sqlite_where=attributes.c.int_value.is_not(None),
    postgresql_where=attributes.c.int_value.is_not(None),
)
Index(
    "attributes_string",
    attributes.c.string_value,
    attributes.c.key,
    attributes.c.subkey,
    attributes.c.number,
    sqlite_where=attributes.c.string_value.is_not(None),
).ddl_if(dialect="sqlite")
# Values outgrow a row of a PostgreSQL btree (2.7 kB); its hash index has no such limit and serves equality.
Index("attributes_string_hash", attributes.c.string_value, postgresql_using="hash").ddl_if(dialect="postgresql")

counters: Final = Table(
    "counters",
    META,
    Column("entity_id", _ID, ForeignKey("entities.id"), primary_key=True),
    Column("key", String(256), primary_key=True),
    Column("value", BigInteger, nullable=False),
)


class Store:
    """One database with clusto's tables, made when they are missing."""

    def __init__(self, dsn: str) -> None:
        url = make_url(dsn)
        self.is_sqlite = url.get_backend_name() == "sqlite"
        if self.is_sqlite and url.database in (None, "", ":memory:"):
            raise ValueError(f"inventory: dsn {dsn!r} keeps nothing on disk; wanted sqlite:///PATH or postgresql://...")
        self.engine: Engine = create_engine(url, pool_size=16, max_overflow=16)
        self._write_lock = threading.Lock()
        if self.is_sqlite:
            _tune_sqlite(self.engine)
        META.create_all(self.engine)
        with self.write() as db:
            _write_meta(db)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One snapshot for one request."""
        with self.engine.connect() as db, db.begin():
            yield db

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, alone among the writers: look-before-write rules (CLUSTO-HTTPD 1.1, 1.2) hold."""
        with self._write_lock, self.engine.connect() as plain:
            db = plain.execution_options(inventory_write=True)
            with db.begin():
                if not self.is_sqlite:
                    db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _WRITE_LOCK_KEY})
                yield db

    def close(self) -> None:
        self.engine.dispose()


def _tune_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connected(dbapi_connection: Any, _record: object) -> None:
        # The driver's own BEGIN comes too late for one snapshot a request: `begun` says it instead.
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        cursor.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begun(db: Connection) -> None:
        # A reader that turns writer fails at once when another wrote meanwhile, whatever the busy timeout.
        writes = db.get_execution_options().get("inventory_write", False)
        db.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _write_meta(db: Connection) -> None:
    """clustometa is an entity like any other and the first one (CLUSTO-HTTPD 1.9)."""
    if db.execute(select(entities.c.id).limit(1)).first() is not None:
        return
    result = db.execute(insert(entities).values(name="clustometa", type="clustometa", driver="clustometa"))
    meta_id = result.inserted_primary_key[0] if result.inserted_primary_key else None
    db.execute(
        insert(attributes).values(
            entity_id=meta_id, key="schemaversion", subkey="property", datatype="int", int_value=SCHEMA_VERSION
        )
    )
