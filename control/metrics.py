"""`metrics.bind`: the status in Prometheus' form, for whoever scrapes it.

The HTTP server has threads of its own; each scrape asks control's loop for one status, as `ctl status` does, and waits
for it with a limit.  What it says is made from that one dict, so that the two can never differ.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from control.refresh import INVENTORY_STATES

log = logging.getLogger("bootstorm.metrics")

ANSWER_S = 2.0  # control answers in milliseconds; a scraper that waits longer learns nothing
PREFIX = "bootstorm_"
Status = Callable[[], Coroutine[Any, Any, dict[str, Any]]]

# (name, help, label) of a counter of which the status has a dict; where it stands there.
COUNTED = (
    ("verdicts", "Datagrams by what became of them (docs/protocol.md).", "verdict", ("counters",)),
    ("send_errors", "Replies that the kernel did not take.", "errno", ("send_errors",)),
    ("refreshes", "Readings of the inventory by how they ended.", "outcome", ("refresh", "outcomes")),
    ("restarts", "Processes that ended and were replaced.", "kind", ("restarts",)),
    ("lookups", "Strangers' MACs looked up in the inventory.", "outcome", ("lookups",)),
    ("discovery", "What discovery saw and did (docs/discovery.md).", "what", ("discovery", "counters")),
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
PLAIN = (
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
TOTALS = (
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


class StatusCollector(Collector):
    """Called in a thread of the HTTP server, once a scrape."""

    def __init__(self, status: Status, loop: asyncio.AbstractEventLoop) -> None:
        self.status, self.loop = status, loop

    def collect(self) -> Iterator[Metric]:
        yield from families(asyncio.run_coroutine_threadsafe(self.status(), self.loop).result(ANSWER_S))


def serve(bind: tuple[str, int], status: Status) -> str:
    """Open the endpoint; from the loop that `status` runs in.  Returns why not, where it cannot be opened: machines
    need addresses whether somebody watches or not."""
    registry = CollectorRegistry()
    registry.register(StatusCollector(status, asyncio.get_running_loop()))
    host, port = bind
    try:
        start_http_server(port, host, registry)
    except OSError as error:
        fault = (
            f"metrics.bind {host}:{port}: {error.strerror}; name an address of this machine and a free port over 1023"
        )
        log.error("no metrics: %s", fault)
        return fault
    log.info("metrics at http://%s:%d/metrics", host, port)
    return ""
