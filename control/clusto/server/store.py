"""Entities, attributes and counters in a database (SQLite, or PostgreSQL by DSN); queries.py reads, actions.py writes.

One Store per database; `with store.read() as db` and `with store.write() as db` are one transaction each, that is one
request each.  Writers are serial, readers never wait for them.
"""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    ColumnElement,
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
    any_,
    bindparam,
    create_engine,
    event,
    func,
    insert,
    literal_column,
    select,
    text,
)
from sqlalchemy.engine import make_url

META: Final = MetaData()

# SQLite only counts ids up for us when the column is exactly INTEGER.
ID_TYPE: Final = BigInteger().with_variant(Integer, "sqlite")

NAME_CHARS_MAX: Final = 128
KEY_CHARS_MAX: Final = 256
SCHEMA_VERSION: Final = 3
BUSY_TIMEOUT_MS: Final = 10_000
# A connection's own; each of the server's threads has one, and the kernel keeps the file's pages once for all.
CACHE_KIB: Final = 16_384
# The indexes of a million hosts do not fit into that, and each row lands somewhere else in them.
BULK_CACHE_KIB: Final = 262_144
CONNECTIONS_KEPT: Final = 16
_WRITE_LOCK_KEY: Final = 0x626F6F74


def _name(chars: int) -> String:
    """Ordered and compared byte by byte, as SQLite does by itself and PostgreSQL only when told."""
    return String(chars).with_variant(String(chars, collation="C"), "postgresql")


entities: Final = Table(
    "entities",
    META,
    Column("id", ID_TYPE, primary_key=True),
    Column("name", _name(NAME_CHARS_MAX), nullable=False, unique=True),
    Column("type", String(32), nullable=False, index=True),
    Column("driver", String(32), nullable=False, index=True),
)

attributes: Final = Table(
    "attributes",
    META,
    Column("id", ID_TYPE, primary_key=True),
    Column("entity_id", ID_TYPE, ForeignKey("entities.id"), nullable=False),
    Column("key", _name(KEY_CHARS_MAX), nullable=False),
    Column("subkey", _name(KEY_CHARS_MAX)),
    Column("number", BigInteger),
    Column("datatype", String(16), nullable=False),
    Column("int_value", BigInteger),
    Column("string_value", Text),
    Column("relation_id", ID_TYPE, ForeignKey("entities.id")),
    Column("datetime_value", DateTime),
)

Index("attributes_of_entity", attributes.c.entity_id, attributes.c.key)
# With the entity: "everything with a MAC on port 1" is answered without a look into a million rows.
Index("attributes_named", attributes.c.key, attributes.c.subkey, attributes.c.number, attributes.c.entity_id)
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
# Values outgrow a row of a PostgreSQL btree (2.7 kB); a hash index takes ever longer for a value that all hosts have.
_START_CHARS: Final = 200
_string_start: Final = func.substr(
    attributes.c.string_value, literal_column("1"), literal_column(str(_START_CHARS)), type_=Text()
)
Index(
    "attributes_string_start",
    _string_start,
    attributes.c.key,
    attributes.c.subkey,
    attributes.c.number,
    postgresql_where=attributes.c.string_value.is_not(None),
).ddl_if(dialect="postgresql")

counters: Final = Table(
    "counters",
    META,
    Column("entity_id", ID_TYPE, ForeignKey("entities.id"), primary_key=True),
    Column("key", _name(KEY_CHARS_MAX), primary_key=True),
    Column("value", BigInteger, nullable=False),
)


class Store:
    """One database with clusto's tables, made when they are missing."""

    def __init__(self, dsn: str) -> None:
        url = make_url(dsn)
        self.is_sqlite = url.get_backend_name() == "sqlite"
        if self.is_sqlite and url.database in (None, "", ":memory:"):
            raise ValueError(f"inventory: dsn {dsn!r} keeps nothing on disk; wanted sqlite:///PATH or postgresql://...")
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
        # Pinged: a restarted PostgreSQL must not cost the next requests a 500 each.
        self.engine: Engine = create_engine(
            url,
            pool_size=CONNECTIONS_KEPT,
            max_overflow=CONNECTIONS_KEPT,
            pool_use_lifo=True,
            pool_pre_ping=not self.is_sqlite,
        )
        self._write_lock = threading.Lock()
        if self.is_sqlite:
            _tune_sqlite(self.engine)
        with self.write() as db:
            META.create_all(db)
            _write_meta(db)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One snapshot for one request."""
        with self.engine.connect() as plain:
            db = plain if self.is_sqlite else plain.execution_options(isolation_level="REPEATABLE READ")
            with db.begin():
                yield db

    @contextmanager
    def write(self, *, bulk: bool = False) -> Iterator[Connection]:
        """One transaction, alone among the writers: look-before-write rules (CLUSTO-HTTPD 1.1, 1.2) hold.

        PostgreSQL takes its snapshots a statement each (READ COMMITTED): the first one waits for the lock, so all that
        follow see what the writer before left, and none has to be repeated.  bulk: millions of rows, worth the memory.
        """
        with self._write_lock, self.engine.connect() as plain:
            db = plain.execution_options(inventory_write=True)
            with db.begin():
                if not self.is_sqlite:
                    db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _WRITE_LOCK_KEY})
                elif bulk:
                    db.exec_driver_sql(f"PRAGMA cache_size=-{BULK_CACHE_KIB}")
                yield db
            if self.is_sqlite and bulk:
                db.exec_driver_sql(f"PRAGMA cache_size=-{CACHE_KIB}")

    def close(self) -> None:
        self.engine.dispose()


def string_is(text: str) -> ColumnElement[bool]:
    """The attribute's string is this one, by either database's index."""
    return (attributes.c.string_value == text) & (_string_start == text[:_START_CHARS])


def string_among(db: Connection, texts: Sequence[str]) -> ColumnElement[bool]:
    """The attribute's string is one of these, by either database's index; a few hundred at most."""
    if db.dialect.name == "postgresql":
        return attributes.c.string_value.in_(texts) & _string_start.in_([text[:_START_CHARS] for text in texts])
    return attributes.c.string_value.in_(texts)


def among(db: Connection, column: ColumnElement[Any], values: Sequence[int] | Sequence[str]) -> ColumnElement[bool]:
    """`column IN values` with one parameter for all of them: PostgreSQL takes 65,535, and parsing each costs time."""
    if db.dialect.name == "postgresql":
        return column == any_(bindparam(None, list(values), type_=ARRAY(column.type)))
    return column.in_(select(func.json_each(json.dumps(list(values))).table_valued("value").c.value))


def _tune_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connected(dbapi_connection: Any, _record: object) -> None:
        # The driver's own BEGIN comes too late for one snapshot a request: `begun` says it instead.
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")  # what was answered survives a power cut
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
