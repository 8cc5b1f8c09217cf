"""`metrics.bind`: the status in Prometheus' form for whoever scrapes it, and /healthz and /readyz for probes.

As much of HTTP as these need, in control's own loop, behind a door with limits: anybody may connect.  What is said is
made from one status, the same that `ctl status` gives, so that the two can never differ.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from control.service.doors.commands import SECONDS
from control.service.doors.door import Door, Refused
from control.service.doors.families import families

log = logging.getLogger("bootstorm.metrics")

CONNECTIONS_MAX = 32
REQUEST_BYTES_MAX = 8_192  # request line and headers
SHARED_S = 0.25  # one answer for all who ask within that time: making it costs milliseconds, and anybody may ask
REQUEST_S = 5.0  # for the request to come
DRAINED_MAX = 16  # times as much, after the answer
REPLY_S = 10.0  # for the reply to be taken
RESOLVE_S = 10.0  # for a name server to say which address a name has
Address = tuple[int, int, int, str, Any]  # as getaddrinfo says it
Status = Callable[[], Coroutine[Any, Any, dict[str, Any]]]
Health = Callable[[float | None], dict[str, Any]]


class OneStatus(Collector):
    """Of one scrape."""

    def __init__(self, status: dict[str, Any]) -> None:
        self.status = status

    def collect(self) -> Iterator[Metric]:
        yield from families(self.status)


def encode(status: dict[str, Any], encoder: Callable[[CollectorRegistry], bytes]) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(OneStatus(status))
    return encoder(registry)


# The two forms that there are.  The library takes any version that a scraper names for a form of its own.
OPENMETRICS, TEXT = "application/openmetrics-text; version=1.0.0", "text/plain; version=0.0.4"
METRICS, HEALTHZ, READYZ = ("/metrics", "/"), "/healthz", "/readyz"
HINT = "GET /metrics, /healthz or /readyz[?max_age=SECONDS]"


class BadRequest(Exception):
    """Not to be answered with what is there; status: code and words of the answer."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


class Request(NamedTuple):
    """accept: what it takes; max_age_s: of /readyz."""

    method: str
    path: str
    accept: str
    max_age_s: float | None = None


def read_request(head: bytes) -> Request:
    """A GET or HEAD of one of our paths.  Raises BadRequest."""
    line, *fields = head.decode("latin-1").split("\r\n")
    words = line.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequest("400 Bad Request")
    if words[0] not in ("GET", "HEAD"):
        raise BadRequest("405 Method Not Allowed")
    path, _, query = words[1].partition("?")
    if path not in (*METRICS, HEALTHZ, READYZ):
        raise BadRequest("404 Not Found")
    accepts = [value.strip() for name, _, value in (each.partition(":") for each in fields) if name.lower() == "accept"]
    return Request(words[0], path, ",".join(accepts), read_max_age(query) if path == READYZ else None)


def read_max_age(query: str) -> float | None:
    """Raises BadRequest, also for what is misspelt: a probe would take its silence for consent."""
    found = parse_qsl(query, keep_blank_values=True)
    if not found:
        return None
    try:
        ((name, value),) = found
        seconds = float(value)
    except ValueError:
        raise BadRequest("400 Bad Request") from None
    if name != "max_age" or not SECONDS.fits(seconds):
        raise BadRequest("400 Bad Request")
    return seconds


def reply(status: str, content: bytes, content_type: str, *, body: bool = True) -> bytes:
    """One answer, after which the connection ends.  Nothing of the request stands in it."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(content)}\r\n"
    head += "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    return head.encode("ascii") + (content if body else b"")


class Endpoint:
    """Serves one listening socket.  status: as `ctl status` gives it; health: as `ctl health` does."""

    def __init__(self, listener: socket.socket, status: Status, health: Health) -> None:
        self.ask = status
        self.health = health
        self.counts: Counter[str] = Counter()
        self.making = asyncio.Lock()
        self.made: dict[str, tuple[float, bytes]] = {}  # type -> when, content
        self.door = Door("metrics.bind", listener, self.admit, self.serve)

    def status(self) -> dict[str, Any]:
        """What the limits did."""
        return self.door.status() | {"requests": dict(self.counts)}

    def admit(self, _sock: socket.socket) -> None:
        if self.door.connections >= CONNECTIONS_MAX:
            raise Refused("all_taken")

    async def serve(self, sock: socket.socket, _guest: None) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(REQUEST_S):
                head = await self.read_head(sock)
        except TimeoutError:
            self.counts["timed_out"] += 1
            return
        try:
            if head is None:
                raise BadRequest("431 Request Header Fields Too Large")
            answer = await self.answer(read_request(head))
            self.counts["served"] += 1
        except BadRequest as bad:
            self.counts["bad"] += 1
            answer = reply(bad.status, f"{bad.status}: {HINT} is all there is\n".encode(), "text/plain")
        try:
            async with asyncio.timeout(REPLY_S):
                await loop.sock_sendall(sock, answer)
                sock.shutdown(socket.SHUT_WR)
                for _ in range(DRAINED_MAX):  # what is left unread would cut off our answer, by a reset
                    if not await loop.sock_recv(sock, REQUEST_BYTES_MAX):
                        break
        except TimeoutError:
            self.counts["not_taken"] += 1

    async def answer(self, request: Request) -> bytes:
        body = request.method == "GET"
        if request.path == HEALTHZ:
            return reply("200 OK", b"ok\n", "text/plain", body=body)
        if request.path == READYZ:
            found = self.health(request.max_age_s)
            if found["ready"]:
                words = "ready: {answering} of {workers} workers answer\n".format(**found)
                return reply("200 OK", words.encode(), "text/plain", body=body)
            words = f"not ready: {found['reason']}\n"
            return reply("503 Service Unavailable", words.encode(), "text/plain", body=body)
        content, content_type = await self.content(request.accept)
        return reply("200 OK", content, content_type, body=body)

    async def content(self, accept: str) -> tuple[bytes, str]:
        """(content, its type) in the form that the scraper asked for."""
        wanted = OPENMETRICS if OPENMETRICS.partition(";")[0] in accept.lower() else TEXT
        encoder, content_type = choose_encoder(wanted)
        now = asyncio.get_running_loop().time
        async with self.making:
            made_s, content = self.made.get(content_type, (0.0, b""))
            if not content or now() > made_s + SHARED_S:
                status = await self.ask()
                content = await asyncio.to_thread(encode, status, encoder)
                self.made[content_type] = now(), content
        return content, content_type

    async def read_head(self, sock: socket.socket) -> bytes | None:
        """Up to the empty line; None when it is too long.  Raises ConnectionError when it never comes."""
        loop = asyncio.get_running_loop()
        head = b""
        while b"\r\n\r\n" not in head:
            if len(head) > REQUEST_BYTES_MAX:
                return None
            data = await loop.sock_recv(sock, REQUEST_BYTES_MAX)
            if not data:
                raise ConnectionError("the request ended early")
            head += data
        return head.partition(b"\r\n\r\n")[0]


async def resolve(host: str, port: int) -> Address:
    """Raises OSError, among them TimeoutError; UnicodeError for what no name server can be asked."""
    with contextlib.suppress(socket.gaierror):  # an address needs neither a name server nor a thread
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0]
    async with asyncio.timeout(RESOLVE_S):
        loop = asyncio.get_running_loop()
        return (await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))[0]


def listen(found: Address) -> socket.socket:
    """Raises OSError."""
    family, kind, protocol, _name, address = found
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(socket.SOMAXCONN)  # those who are too many are shut out, and not left to try again
    except OSError:
        sock.close()
        raise
    return sock


async def serve(bind: tuple[str, int], status: Status, health: Health) -> Endpoint | str:
    """Open the endpoint, in the loop that both run in; or why it cannot be opened: machines need addresses whether
    somebody watches or not."""
    host, port = bind
    at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        endpoint = Endpoint(listen(await resolve(host, port)), status, health)
    except (OSError, UnicodeError, RuntimeError) as error:  # RuntimeError: no thread for the name
        why = getattr(error, "strerror", None) or str(error)
        if isinstance(error, TimeoutError):
            why = f"no name server answered for {host} within {RESOLVE_S:g} s"
        fault = f"metrics.bind {at}: {why}; name an address of this machine and a free port over 1023"
        log.error("no metrics: %s", fault)
        return fault
    endpoint.door.open()
    log.info("metrics at http://%s/metrics", at)
    return endpoint
