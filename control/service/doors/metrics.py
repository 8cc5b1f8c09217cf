"""`metrics.bind`: the status in Prometheus' form, for whoever scrapes it.

As much of HTTP as a scrape needs, in control's own loop, behind a door with limits: anybody may connect.  What is said
is made from one status, the same that `ctl status` gives, so that the two can never differ.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from control.service.doors.door import Door, Refused
from control.service.inventory_state import INVENTORY_STATES

log = logging.getLogger("bootstorm.metrics")

CONNECTIONS_MAX = 32
REQUEST_BYTES_MAX = 8_192  # request line and headers
SHARED_S = 0.25  # one answer for all who ask within that time: making it costs milliseconds, and anybody may ask
REQUEST_S = 5.0  # for the request to come
DRAINED_MAX = 16  # times as much, after the answer
REPLY_S = 10.0  # for the reply to be taken
RESOLVE_S = 10.0  # for a name server to say which address a name has
PREFIX = "bootstorm_"
Address = tuple[int, int, int, str, Any]  # as getaddrinfo says it
Status = Callable[[], Coroutine[Any, Any, dict[str, Any]]]

# (name, help, label) of a counter of which the status has a dict; where it stands there.
COUNTED: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("verdicts", "Datagrams by what became of them (docs/protocol.md).", "verdict", ("counters",)),
    ("send_errors", "Replies that the kernel did not take.", "errno", ("send_errors",)),
    ("refreshes", "Readings of the inventory by how they ended.", "outcome", ("refresh", "outcomes")),
    ("restarts", "Processes that ended and were replaced.", "kind", ("restarts",)),
    ("lookups", "Strangers' MACs looked up in the inventory.", "outcome", ("lookups",)),
    ("discovery", "What discovery saw and did (docs/discovery.md).", "what", ("discovery", "counters")),
    ("control_refused", "Refused connections to the control socket.", "reason", ("limits", "control", "refused")),
    ("control_requests", "Requests on the control socket.", "what", ("limits", "control", "requests")),
    ("metrics_refused", "Refused connections to this endpoint.", "reason", ("limits", "metrics", "refused")),
    ("metrics_requests", "Requests to this endpoint.", "what", ("limits", "metrics", "requests")),
    ("traps_dropped", "Traps that were dropped.", "reason", ("traps", "dropped")),
    ("trap_tuples_skipped", "MAC addresses in traps that were passed over.", "reason", ("traps", "skipped")),
)
# (name, help, its place in a worker's dict)
OF_WORKERS = (
    ("received", "Datagrams taken from the socket.", "rx"),
    ("sent", "Replies given to the kernel.", "tx"),
    ("recovered", "Datagrams answered for a worker that had died.", "recovered"),
    ("events_lost", "Refusals for which the ring to control had no room.", "events_lost"),
    ("sightings_lost", "Sightings of answered hosts for which it had none.", "sightings_lost"),
)
# (name, help, where)
PLAIN: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("generation", "Number of the table that is served.", ("generation",)),
    ("hosts", "Hosts that are answered.", ("hosts",)),
    ("quarantined_hosts", "Records of the inventory that are not usable.", ("quarantined",)),
    ("kept_hosts", "Hosts that stay as they were because their record is in doubt.", ("kept_hosts",)),
    ("table_age_seconds", "Since the inventory last confirmed the table.", ("table_age_s",)),
    ("table_bytes", "Memory of the table, shared by all workers.", ("table_bytes",)),
    ("refresh_seconds", "Duration of the last reading of the inventory.", ("refresh", "last_seconds")),
    ("control_up_seconds", "Since the control process was started.", ("control_up_s",)),
    ("cloned_client_ids", "Client-ids that several machines share.", ("identities", "cloned")),
    ("looping_machines", "Machines in a boot loop just now.", ("identities", "loops")),
    ("traps_queued", "Traps that wait to be read.", ("traps", "queued")),
    ("discovery_due", "Machines that wait to be registered.", ("discovery", "due")),
)
TOTALS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("warnings_suppressed", "Log lines that were held back.", ("warnings_suppressed",)),
    ("traps_received", "Traps taken from the socket.", ("traps", "received")),
    ("traps_decoded", "Traps of which the MAC addresses were read.", ("traps", "decoded")),
)


def at(status: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """None where the status has no such place: traps are off, no table yet."""
    found: Any = status
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def families(status: Mapping[str, Any]) -> Iterator[Metric]:
    """Every metric of one status."""
    yield InfoMetricFamily(
        PREFIX + "table", "What is served.", {"digest": str(status["digest"]), "mode": str(status["mode"])}
    )
    for name, words, path in PLAIN:
        if at(status, path) is not None:
            yield GaugeMetricFamily(PREFIX + name, words, at(status, path))
    for name, words, path in TOTALS:
        if at(status, path) is not None:
            yield CounterMetricFamily(PREFIX + name, words, at(status, path))
    inventory = GaugeMetricFamily(PREFIX + "inventory", "1 for the state that it is in.", labels=["state"])
    for state in INVENTORY_STATES:
        inventory.add_metric([state], int(status["inventory"] == state))
    yield inventory
    for name, words, label, path in COUNTED:
        counter = CounterMetricFamily(PREFIX + name, words, labels=[label])
        for what, count in (at(status, path) or {}).items():
            counter.add_metric([what], count)
        yield counter
    yield from of_workers(status["workers"])


def of_workers(workers: list[dict[str, Any]]) -> Iterator[Metric]:
    for name, words, key in OF_WORKERS:
        counter = CounterMetricFamily(PREFIX + name, words, labels=["worker"])
        for worker in workers:
            counter.add_metric([str(worker["slot"])], worker[key])
        yield counter
    generation = GaugeMetricFamily(PREFIX + "worker_generation", "What a worker answers from.", labels=["worker"])
    up = GaugeMetricFamily(PREFIX + "worker_up", "0 between two processes of a slot.", labels=["worker"])
    for worker in workers:
        generation.add_metric([str(worker["slot"])], worker["generation"])
        up.add_metric([str(worker["slot"])], int(worker["pid"] != 0))
    yield generation
    yield up


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


class BadRequest(Exception):
    """Not to be answered with metrics; status: code and words of the answer."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


def read_request(head: bytes) -> tuple[str, str]:
    """(method, what it accepts) of a GET or HEAD of /metrics or /.  Raises BadRequest."""
    line, *fields = head.decode("latin-1").split("\r\n")
    words = line.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequest("400 Bad Request")
    if words[0] not in ("GET", "HEAD"):
        raise BadRequest("405 Method Not Allowed")
    if words[1].partition("?")[0] not in ("/metrics", "/"):
        raise BadRequest("404 Not Found")
    accepts = [value.strip() for name, _, value in (each.partition(":") for each in fields) if name.lower() == "accept"]
    return words[0], ",".join(accepts)


def reply(status: str, content: bytes, content_type: str, *, body: bool = True) -> bytes:
    """One answer, after which the connection ends.  Nothing of the request stands in it."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(content)}\r\n"
    head += "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    return head.encode("ascii") + (content if body else b"")


class Endpoint:
    """Serves one listening socket.  status: as `ctl status` gives it."""

    def __init__(self, listener: socket.socket, status: Status) -> None:
        self.ask = status
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
            method, accept = read_request(head)
            content, content_type = await self.content(accept)
            self.counts["served"] += 1
            answer = reply("200 OK", content, content_type, body=method == "GET")
        except BadRequest as bad:
            self.counts["bad"] += 1
            answer = reply(bad.status, f"{bad.status}: GET /metrics is all there is\n".encode(), "text/plain")
        try:
            async with asyncio.timeout(REPLY_S):
                await loop.sock_sendall(sock, answer)
                sock.shutdown(socket.SHUT_WR)
                for _ in range(DRAINED_MAX):  # what is left unread would cut off our answer, by a reset
                    if not await loop.sock_recv(sock, REQUEST_BYTES_MAX):
                        break
        except TimeoutError:
            self.counts["not_taken"] += 1

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


async def serve(bind: tuple[str, int], status: Status) -> Endpoint | str:
    """Open the endpoint, in the loop that `status` runs in; or why it cannot be opened: machines need addresses whether
    somebody watches or not."""
    host, port = bind
    at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        endpoint = Endpoint(listen(await resolve(host, port)), status)
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
