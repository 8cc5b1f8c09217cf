"""Our own clusto-httpd: routes a request (CLUSTO-HTTPD 3, 4), runs it in one transaction, answers in JSON.

queries.py and actions.py make the answers, store.py keeps the data, differences.py lists where we answer otherwise.
`python -m control.clusto.server.httpd --dsn sqlite:///x.db --bind 127.0.0.1:9996` runs it alone.
"""

import gc
import hmac
import html
import logging
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import quote

import click
from sqlalchemy.exc import DataError, SQLAlchemyError
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request, Response

from control.clusto.drivers import TYPES, known_type
from control.clusto.errors import Answered, NoSuchEntity, Refused, Taken, plain
from control.clusto.server.actions import EMPTY, action_named, allocate, writes
from control.clusto.server.connections import create
from control.clusto.server.encoding import encode
from control.clusto.server.guard import Guard, check_callback
from control.clusto.server.queries import QUERIES, search
from control.clusto.server.reading import find_by_name, get_by_name, paths_where, show
from control.clusto.server.store import Store, entities
from control.clusto.server.writing import create_entity, delete_entity, driver_named

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("bootstorm.inventory")

TARGET_BYTES_MAX: Final = 64 * 1024
HEADER_BYTES_MAX: Final = 256 * 1024
BODY_BYTES_MAX: Final = 8 * 1024 * 1024
THREADS: Final = 8
IDLE_S: Final = 60
CONNECTIONS_MAX: Final = 500
# What a client has not taken yet waits in memory up to here, beyond in a file; no thread ever waits for a client.
ANSWER_BYTES_IN_MEMORY: Final = 1024 * 1024
ANSWER_BYTES_WAITING_MAX: Final = 2**40
# A bulk answer makes 100,000 dicts and no garbage; Python's 700 would look through all of them again and again.
GC_THRESHOLD: Final = 50_000
# A look-up of one host waits so long for a bulk answer at each of its rows; Python's 5 ms add up to a second.
SWITCH_INTERVAL_S: Final = 0.0005

_HTML: Final = "text/html; charset=UTF-8"
_PLAIN: Final = "text/plain; charset=UTF-8"
_SCRIPT: Final = "text/javascript; charset=UTF-8"

# Not anchored at the end, as the original's: /server/ex0000.example.org is ex0000 (CLUSTO-HTTPD 4).
_QUERY_PATH: Final = re.compile(r"/query/([a-z_]+)")
_ACTION_PATH: Final = re.compile(r"/(\w+)/([\w-]+)/(\w+)", re.ASCII)
_ENTITY_PATH: Final = re.compile(r"/(\w+)/([\w-]+)", re.ASCII)
_TYPE_PATH: Final = re.compile(r"/(\w+)", re.ASCII)


class _Request(Request):
    max_content_length = BODY_BYTES_MAX
    max_form_memory_size = BODY_BYTES_MAX


class Inventory:
    """The WSGI application over one store."""

    def __init__(self, store: Store, token: str | None = None, names: Iterable[str] = ()) -> None:
        self.store = store
        self.guard = Guard(names)
        self._token = None if token is None else f"Bearer {token}".encode()

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        answer = self._answer(_Request(environ))
        answer.headers["X-Content-Type-Options"] = "nosniff"
        return answer(environ, start_response)

    def _answer(self, request: Request) -> Response:
        """Every refusal has its status here; what is left over is a fault of ours and is logged as one."""
        try:
            return self._route(request)
        except Answered as answered:
            return _html(answered.body, answered.status)
        except Refused as refused:
            return Response(f"{refused.last_line}\n", 500, content_type=_PLAIN)
        except Taken as taken:
            return _html(f"409 Conflict\n{plain(str(taken))}\n", 409)
        except HTTPException as error:
            return _html(f"{error.code} {error.name}\n", error.code)
        except DataError as error:
            # PostgreSQL takes no NUL in a text; SQLite does.
            return Response(f"DataError: {plain(str(error.orig))}\n", 500, content_type=_PLAIN)
        except (SQLAlchemyError, ArithmeticError, LookupError, TypeError, ValueError, RecursionError) as error:
            path = plain(request.path)
            log.exception("inventory: %s %s failed", plain(request.method), path)
            return Response(f"{type(error).__name__}: {path} failed, see the log\n", 500, content_type=_PLAIN)

    def _route(self, request: Request) -> Response:
        path = request.path
        if len(request.environ.get("QUERY_STRING", "")) + len(path) > TARGET_BYTES_MAX:
            raise Answered(414)
        self.guard.check(request.headers.get("Host"), request.headers.get("Origin"))
        self._authorize(request)
        callback = request.args.get("callback")
        check_callback(callback)
        if callback is not None:
            self.guard.check_page(request.headers, "JSONP")
        if request.method not in ("GET", "HEAD"):
            self._allow_change(request)
        if path.startswith("/favicon.ico"):
            return _html("", 404)
        if path.startswith("/search"):
            return self._read(request, lambda db: search(db, _parameters(request)))
        if match := _QUERY_PATH.match(path):
            return self._query(request, match[1])
        if match := _ACTION_PATH.match(path):
            return self._entity(request, match[1], match[2], match[3])
        if match := _ENTITY_PATH.match(path):
            return self._entity(request, match[1], match[2], "")
        if match := _TYPE_PATH.match(path):
            return self._list(request, known_type(match[1]))
        return _json(request, [f"/{name}" for name in TYPES])

    def _authorize(self, request: Request) -> None:
        if self._token is None:
            return
        given = request.headers.get("Authorization", "").encode("utf-8", "replace")
        if not hmac.compare_digest(given, self._token):
            raise Answered(401, "Wanted a header Authorization: Bearer TOKEN")

    def _allow_change(self, request: Request) -> None:
        self.guard.check_page(request.headers, "a change")

    def _read(self, request: Request, read: Callable[[Any], Any]) -> Response:
        with self.store.read() as db:
            answer = read(db)
        return _json(request, answer)

    def _list(self, request: Request, type_: str) -> Response:
        return self._read(request, lambda db: paths_where(db, entities.c.type == type_))

    def _query(self, request: Request, name: str) -> Response:
        query = QUERIES.get(name)
        if query is None:
            raise Answered(400, "There is no such query")
        return self._read(request, lambda db: query(db, _parameters(request)))

    def _entity(self, request: Request, type_: str, name: str, action_name: str) -> Response:
        if request.method == "POST":
            return self._create(request)
        if request.method == "DELETE":
            return self._delete(request)
        if request.method != "GET":
            raise Answered(501)
        parameters = _parameters(request)
        if writes(action_name):
            self._allow_change(request)
        with self.store.write() if writes(action_name) else self.store.read() as db:
            entity = find_by_name(db, name)
            if entity is None:
                raise Answered(404)
            if entity.type != type_:
                # The query string is lost in the original, too (recording 141).
                location = f"{request.host_url.rstrip('/')}{quote(entity.path)}/{action_name}"
                return _html("", 302, Location=location)
            answer = action_named(action_name or "show", entity).run(db, entity, parameters)
        return _html("", 200) if answer is EMPTY else _json(request, answer)

    def _create(self, request: Request) -> Response:
        """POST /<driver>/<name>, or POST /<type>/<manager>/allocate."""
        parts = request.path.strip("/").split("/")
        if len(parts) == 3 and parts[2] == "allocate":
            return self._allocate(request, parts[1])
        if len(parts) != 2:
            raise Answered(400, "You may only create objects, not types or actions")
        driver_name, name = parts
        with self.store.write() as db:
            if find_by_name(db, name) is not None:
                raise Answered(409, "Object already exists")
            answer = show(db, create_entity(db, driver_named(driver_name), name), ports=False)
        return _json(request, answer, 201)

    def _allocate(self, request: Request, manager_name: str) -> Response:
        with self.store.write() as db:
            manager = find_by_name(db, manager_name)
            if manager is None:
                raise Answered(404)
            answer = show(db, allocate(db, manager, _parameters(request)), ports=False)
        return _json(request, answer, 201)

    def _delete(self, request: Request) -> Response:
        """DELETE /<anything>/<name>: the type is not compared (recording 248)."""
        parts = request.path.strip("/").split("/")
        if len(parts) != 2:
            raise Answered(400, "You may only delete objects, not types or actions")
        with self.store.write() as db:
            try:
                delete_entity(db, get_by_name(db, parts[1]))
            except NoSuchEntity as error:
                raise Answered(404) from error
        return _html("200 OK\nObject deleted\n", 200)


def _parameters(request: Request) -> dict[str, str]:
    """Query string and form body, the last of equal names; a body of another type is not read (recording 075)."""
    form = dict(request.form.items(multi=True)) if request.method == "POST" else {}
    return form | dict(request.args.items(multi=True))


def _html(text: str, status: int | None, **headers: str) -> Response:
    """The original's type for what is no JSON; of foreign text in it a browser would run scripts."""
    return Response(html.escape(text, quote=False), status, headers, content_type=_HTML)


def _json(request: Request, answer: Any, status: int = 200) -> Response:
    parts = encode(answer)
    callback = request.args.get("callback")
    if callback is not None:
        return Response([f"{callback}(".encode(), *parts, b")"], status, content_type=_SCRIPT)
    return Response(parts, status, content_type="application/json")


def application(store: Store, token: str | None = None, names: Iterable[str] = ()) -> "WSGIApplication":
    """The WSGI application; token: what a client has to send as a bearer token, None for nobody has to.

    names: hosts of which a browser may ask, see guard.py."""
    return Inventory(store, token, names)


class RunningServer(Protocol):
    """What we use of waitress's server object."""

    effective_host: str
    effective_port: str | int

    def run(self) -> None: ...

    def close(self) -> None: ...


def listen(app: "WSGIApplication", bind: str) -> RunningServer:
    """HTTP/1.1 with keep-alive, THREADS requests at a time; port 0 takes a free one."""
    host, colon, port = bind.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"inventory: bind {bind!r}; wanted HOST:PORT, for instance 127.0.0.1:9996")
    try:
        server: RunningServer = create(
            app,
            THREADS,
            host=host.strip("[]"),
            port=int(port),
            ident="bootstorm-inventory",
            connection_limit=CONNECTIONS_MAX,
            channel_timeout=IDLE_S,
            outbuf_overflow=ANSWER_BYTES_IN_MEMORY,
            outbuf_high_watermark=ANSWER_BYTES_WAITING_MAX,
            max_request_header_size=HEADER_BYTES_MAX,
            max_request_body_size=BODY_BYTES_MAX,
        )
    except OSError as error:
        raise OSError(error.errno, f"inventory: cannot listen on {bind}: {error.strerror}") from error
    return server


def serve(dsn: str, bind: str, token: str | None, names: Iterable[str] = ()) -> None:
    """Answers in the foreground until SIGTERM or SIGINT; says where it listens once it does."""
    store = Store(dsn)
    server = listen(application(store, token, names), bind)
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    log.setLevel(logging.INFO)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _stop)
    host = f"[{server.effective_host}]" if ":" in server.effective_host else server.effective_host
    log.info("inventory: listening on http://%s:%s", host, server.effective_port)
    try:
        server.run()
    finally:
        server.close()
        store.close()
    log.info("inventory: stopped")


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


@click.command()
@click.option("--dsn", required=True, help="Database, for instance sqlite:///inventory.db")
@click.option("--bind", default="127.0.0.1:9996", show_default=True, help="HOST:PORT; port 0 takes a free one")
@click.option("--token", default=None, envvar="BOOTSTORM_API_TOKEN", help="Bearer token that clients have to send")
@click.option("--name", "names", multiple=True, help="A name that it is reached under; * for any")
def main(dsn: str, bind: str, token: str | None, names: tuple[str, ...]) -> None:
    """The embedded inventory: clusto-httpd's answers from a database of our own."""
    try:
        serve(dsn, bind, token, names)
    except (OSError, SQLAlchemyError, ValueError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
