"""What a scrape says: one status, the same that `ctl status` gives, as Prometheus' metrics.  Pure.

Every series is there from the start with 0, also where what it counts is switched off: a rate of a series that appears
with its first event does not see that event, and an alert on one that is not there yet never fires.  But a site without
a fleet has no series of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any, NamedTuple

from ext.page import LATENCY_BOUNDS_S, SEND_ERROR_NAMES
from ext.roll import PROGRESS
from ext.roll import STAGES as BOOT_STAGES
from ext.verdict import Verdict
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from control.discovery import coordinator, machines
from control.discovery.traps.notification import SKIPS
from control.discovery.traps.queue import DROPS
from control.service.doors import console
from control.service.doors.door import REASONS
from control.service.inventory_state import INVENTORY_STATES, OUTCOMES, STAGES
from control.service.machines import override_book
from control.sources import reasons

PREFIX = "bootstorm_"
METRICS_REFUSALS = ("all_taken", *REASONS)  # of connections to metrics.bind
METRICS_COUNTED = ("served", "bad", "timed_out", "not_taken")  # of requests to it
Path = tuple[str, ...]
Status = Mapping[str, Any]


class Counted(NamedTuple):
    """A family of which the status has a dict at `path`.  names: the keys that it may have, all of which are shown."""

    name: str
    words: str
    label: str
    path: Path
    names: Iterable[str]


KINDS = ("worker", "spare", "control", "observer", "traps")  # that the supervisor keeps running
VERDICTS = tuple(verdict.name for verdict in Verdict if verdict.name != "GO_ON")
COUNTERS = (
    Counted("verdicts", "Datagrams by what became of them (docs/protocol.md).", "verdict", ("counters",), VERDICTS),
    Counted("send_errors", "Replies that the kernel did not take.", "errno", ("send_errors",), SEND_ERROR_NAMES),
    Counted(
        "refreshes", "Readings of the inventory by how they ended.", "outcome", ("refresh", "outcomes"), OUTCOMES
    ),
    Counted("restarts", "Processes that ended and were replaced.", "kind", ("restarts",), KINDS),
    Counted(
        "lookups", "Strangers' MACs looked up in the inventory.", "outcome", ("lookups",),
        ("asked", "found", "unknown", "over_budget", "failed"),
    ),
    Counted(
        "discovery", "What discovery saw and did (docs/discovery.md).", "what", ("discovery", "counters"),
        (*machines.COUNTS, *coordinator.COUNTS),
    ),
    Counted(
        "control_refused", "Refused connections to the control socket.", "reason", ("limits", "control", "refused"),
        console.REFUSALS,
    ),
    Counted(
        "control_requests", "Requests on the control socket.", "what", ("limits", "control", "requests"),
        console.COUNTED,
    ),
    Counted(
        "metrics_refused", "Refused connections to this endpoint.", "reason", ("limits", "metrics", "refused"),
        METRICS_REFUSALS,
    ),
    Counted(
        "metrics_requests", "Requests to this endpoint.", "what", ("limits", "metrics", "requests"), METRICS_COUNTED
    ),
    Counted("traps_dropped", "Traps that were dropped.", "reason", ("traps", "dropped"), (*DROPS, "kernel")),
    Counted(
        "trap_tuples_skipped", "MAC addresses in traps that were passed over.", "reason", ("traps", "skipped"), SKIPS
    ),
)  # fmt: skip
GAUGES_BY = (
    Counted(
        "overrides", "Overrides of operators in force (ctl overrides).", "kind", ("overrides", "kinds"),
        override_book.KINDS,
    ),
    Counted("inventory_faults", "Faults of the inventory (ctl faults).", "kind", ("fault_kinds",), reasons.KINDS),
    Counted(
        "refresh_stage_seconds", "Duration of each stage of the last refresh that succeeded.", "stage",
        ("refresh", "stages_s"), STAGES,
    ),
)  # fmt: skip
# (name, help, its place in a worker's dict)
OF_WORKERS = (
    ("received", "Datagrams taken from the socket.", "rx"),
    ("sent", "Replies given to the kernel.", "tx"),
    ("recovered", "Datagrams answered for a worker that had died.", "recovered"),
    ("frames_lost", "Requests that XDP lost for want of room.", "frames_lost"),
    ("events_lost", "Refusals for which the ring to control had no room.", "events_lost"),
    ("sightings_lost", "Sightings of answered hosts for which it had none.", "sightings_lost"),
    ("records_left_out", "Datagrams of strangers that the flight recorder left out.", "records_left_out"),
)
# (name, help, where)
GAUGES: tuple[tuple[str, str, Path], ...] = (
    ("generation", "Number of the table that is served.", ("generation",)),
    ("hosts", "Hosts that are answered.", ("hosts",)),
    ("quarantined_hosts", "Records of the inventory that are not usable.", ("quarantined",)),
    ("kept_hosts", "Hosts that stay as they were because their record is in doubt.", ("kept_hosts",)),
    ("table_bytes", "Memory of the table, shared by all workers.", ("table_bytes",)),
    ("pinned_seconds", "Since a rollback holds the table; 0 while none does.", ("pinned_s",)),
    ("refresh_seconds", "Duration of the last reading of the inventory.", ("refresh", "last_seconds")),
    ("refresh_cpu_seconds", "Processor time of the last refresh that succeeded.", ("refresh", "stages_s", "cpu")),
    ("refresh_interval_seconds", "Between two readings of the inventory.", ("refresh", "interval_s")),
    ("control_up_seconds", "Since the control process was started.", ("control_up_s",)),
    ("ready", "1 while at least one worker answers from a table (ctl health).", ("health", "ready")),
    ("workers", "Slots of workers, dhcp.workers.", ("health", "workers")),
    ("workers_answering", "Workers that answer from a table.", ("health", "answering")),
    ("seen_machines", "Machines that were answered and are remembered.", ("identities", "seen")),
    ("cloned_client_ids", "Client-ids that several machines share.", ("identities", "cloned")),
    ("looping_machines", "Machines in a boot loop just now.", ("identities", "loops")),
    ("traps_queued", "Traps that wait to be read.", ("traps", "queued")),
    ("discovery_due", "Machines that wait to be registered.", ("discovery", "due")),
    ("discovery_machines", "Machines that discovery knows.", ("discovery", "machines")),
    ("discovery_journal_records", "Machines in the journal of discovery.", ("discovery", "journal", "records")),
)
# The same where the status has a list or a dict, of which the length is told.
LENGTHS: tuple[tuple[str, str, Path], ...] = (
    ("inventory_doubts", "What the last refresh could not read or did not believe.", ("doubts",)),
    ("other_servers", "Server ids of others that hosts of the inventory name.", ("other_servers",)),
    ("refused_keys", "Keys that this build refuses and the one before it took.", ("config_refused",)),
    ("discovery_paused_switches", "Switches whose rack factory hung.", ("discovery", "paused_switches")),
)
TOTALS: tuple[tuple[str, str, Path], ...] = (
    ("warnings_suppressed", "Log lines that were held back.", ("warnings_suppressed",)),
    ("log_lines_lost", "Log lines of control that nobody took.", ("log_lines_lost",)),
    ("strangers_dropped", "Datagrams of strangers that the kernel dropped.", ("strangers", "dropped")),
    ("strangers_passed", "Datagrams of strangers that it passed.", ("strangers", "passed")),
    ("traps_received", "Traps taken from the socket.", ("traps", "received")),
    ("traps_decoded", "Traps of which the MAC addresses were read.", ("traps", "decoded")),
    ("traps_unknown", "Traps that no decoder knows.", ("traps", "unknown")),
)
QUEUES = (
    ("bytes", "Memory of the requests that wait in a socket (docs/operations.md, Receive buffers)."),
    ("peak_bytes", "The same at its highest within the last 30 to 60 s."),
    ("limit_bytes", "Memory at which the kernel drops further requests; 0: the socket is not open."),
)
# (name, help, its place in the status' totals)
LATENCIES = (
    ("queue_wait_seconds", "From a request's arrival until a worker has read it and the rest of its batch.", "wait"),
    ("answer_seconds", "From then until the kernel has the replies of that batch.", "answer"),
)


def at(status: Status, path: Path) -> Any:
    """None where the status has no such place: traps are off, no table yet."""
    found: Any = status
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def failed_parts(status: Status) -> dict[str, bool]:
    """What services.conf asks for and the machine does not give, or not any more; DHCP is served all the same."""
    return {
        "boot_port": at(status, ("boot_port", "state")) == "failed",
        "discovery_journal": bool(at(status, ("discovery", "journal", "fault"))),
        "strangers": at(status, ("strangers", "state")) == "failed",
        "traps": at(status, ("traps", "state")) == "failed",
        "xdp": bool(at(status, ("io_reason",))),
    }


def families(status: Status) -> Iterator[Metric]:
    """Every metric of one status."""
    for some in FAMILIES:
        yield from some(status)


def infos(status: Status) -> Iterator[Metric]:
    said = {name: str(status.get(name) or "unknown") for name in ("version", "build", "supervisor_build")}
    yield InfoMetricFamily(PREFIX + "build", "Of control and of the supervisor.", said)
    served = {"digest": str(status["digest"]), "mode": str(status["mode"])}
    yield InfoMetricFamily(PREFIX + "table", "What is served.", served)


def plain(status: Status) -> Iterator[Metric]:
    for name, words, path in GAUGES:
        yield GaugeMetricFamily(PREFIX + name, words, float(at(status, path) or 0))
    for name, words, path in LENGTHS:
        yield GaugeMetricFamily(PREFIX + name, words, len(at(status, path) or ()))
    for name, words, path in TOTALS:
        yield CounterMetricFamily(PREFIX + name, words, at(status, path) or 0)
    age_s = status.get("table_age_s")
    words = "Since the inventory last confirmed the table; +Inf: nobody knows."
    yield GaugeMetricFamily(PREFIX + "table_age_seconds", words, math.inf if age_s is None else age_s)


def by_label(status: Status) -> Iterator[Metric]:
    for row in COUNTERS:
        counter = CounterMetricFamily(PREFIX + row.name, row.words, labels=[row.label])
        for name, count in (dict.fromkeys(row.names, 0) | (at(status, row.path) or {})).items():
            counter.add_metric([name], count)
        yield counter
    for row in GAUGES_BY:
        gauge = GaugeMetricFamily(PREFIX + row.name, row.words, labels=[row.label])
        found = at(status, row.path) or {}
        for name in row.names:
            gauge.add_metric([name], found.get(name, 0))
        yield gauge
    inventory = GaugeMetricFamily(PREFIX + "inventory", "1 for the state that it is in.", labels=["state"])
    for state in INVENTORY_STATES:
        inventory.add_metric([state], int(status["inventory"] == state))
    yield inventory
    words = "1 for what is configured and does not work (docs/operations.md, Metrics)."
    parts = GaugeMetricFamily(PREFIX + "part_failed", words, labels=["part"])
    for part, failed in failed_parts(status).items():
        parts.add_metric([part], int(failed))
    yield parts


def of_workers(status: Status) -> Iterator[Metric]:
    workers = status["workers"]
    for name, words, key in OF_WORKERS:
        counter = CounterMetricFamily(PREFIX + name, words, labels=["worker"])
        for worker in workers:
            counter.add_metric([str(worker["slot"])], worker.get(key, 0))
        yield counter
    generation = GaugeMetricFamily(PREFIX + "worker_generation", "What a worker answers from.", labels=["worker"])
    up = GaugeMetricFamily(PREFIX + "worker_up", "0 between two processes of a slot.", labels=["worker"])
    words = "Since the last turn of a worker's loop; 0 before the first."
    beat = GaugeMetricFamily(PREFIX + "worker_heartbeat_age_seconds", words, labels=["worker"])
    for worker in workers:
        slot = [str(worker["slot"])]
        generation.add_metric(slot, worker["generation"])
        up.add_metric(slot, int(worker["pid"] != 0))
        beat.add_metric(slot, worker.get("heartbeat_age_s", 0.0))
    yield from (generation, up, beat)


def of_losses(status: Status) -> Iterator[Metric]:
    """What is lost before a worker reads it, and what is about to be."""
    errors = at(status, ("losses", "udp_rcvbuf_errors"))
    if errors is not None:
        words = "Datagrams of any program on this machine that found a socket's queue full."
        yield CounterMetricFamily(PREFIX + "host_udp_rcvbuf_errors", words, errors)
    for figure, words in QUEUES:
        queues = GaugeMetricFamily(PREFIX + f"receive_queue_{figure}", words, labels=["worker", "queue"])
        for queue in at(status, ("losses", "queues")) or ():
            queues.add_metric([str(queue["worker"]), queue["queue"]], queue[figure])
        yield queues


def of_boots(status: Status) -> Iterator[Metric]:
    """How far machines' boots are, as `ctl hosts` says it of each."""
    progress, stages = at(status, ("boots", "progress")) or {}, at(status, ("boots", "stages")) or {}
    words = "Rows of the table by the progress of their machines (ctl hosts)."
    machines_ = GaugeMetricFamily(PREFIX + "machines", words, labels=["progress"])
    for word in PROGRESS:
        machines_.add_metric([word], progress.get(word, 0))
    words = "Machines heard, by the furthest stage of their present boot."
    reached = GaugeMetricFamily(PREFIX + "stage_machines", words, labels=["stage"])
    for stage in BOOT_STAGES:
        reached.add_metric([stage], stages.get(stage, 0))
    words = "Machines heard, by the relay of their last request: the 64 with the most, direct for none, other."
    by_relay = GaugeMetricFamily(PREFIX + "relay_machines", words, labels=["relay", "progress"])
    relays: dict[str, dict[str, int]] = {"": {}, "other": {}} | (at(status, ("boots", "relays")) or {})
    for relay, counts in relays.items():
        for word in PROGRESS[1:]:  # never is said of nobody who was heard
            by_relay.add_metric([relay or "direct", word], counts.get(word, 0))
    yield from (machines_, reached, by_relay)


def of_latency(status: Status) -> Iterator[Metric]:
    """Of all workers together: a series a bound and worker would be most of a scrape."""
    bounds = [*map(repr, LATENCY_BOUNDS_S), "+Inf"]
    for name, words, key in LATENCIES:
        told = at(status, ("latency", "totals", key)) or {"counts": [0] * len(bounds), "sum_s": 0.0}
        histogram = HistogramMetricFamily(PREFIX + name, words)
        histogram.add_metric([], list(zip(bounds, accumulate(told["counts"]), strict=True)), told["sum_s"])
        yield histogram


def of_fleet(status: Status) -> Iterator[Metric]:
    """Nothing where there is no section `fleet`."""
    if status.get("fleet") is not None:
        from control.service.doors import fleet_families

        yield from fleet_families.families(status["fleet"])


# What else the packet path comes to tell gets a line of its own.
FAMILIES: tuple[Callable[[Status], Iterator[Metric]], ...] = (
    infos,
    plain,
    by_label,
    of_workers,
    of_losses,
    of_latency,
    of_boots,
    of_fleet,
)
