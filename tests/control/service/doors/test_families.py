"""control/service/doors/families.py: every series is there from the start, in a scrape that costs little."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from ext.page import LATENCY_BOUNDS_S, SEND_ERROR_NAMES
from ext.roll import PROGRESS, STAGES
from ext.verdict import Verdict
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest

from control.discovery import coordinator, machines
from control.discovery.states import OUTCOMES
from control.fleet.wire import Reason
from control.service.doors import console, families, metrics
from control.service.doors.families import KINDS, PREFIX, at
from control.sources import reasons
from fastpath.process.slot_words import QUEUES
from fastpath.supervisor import children
from tests.control.service.doors.fleet_status import fleet_status
from tests.control.service.doors.test_metrics import STATUS

ROOT = Path(__file__).resolve().parents[4]
SCRAPE_S = 0.035  # 20 ms on a machine of its own (docs/performance.md): here other tests run on the same cores
NOTHING: dict[str, Any] = {"digest": None, "mode": "serve", "inventory": "down", "workers": []}


def labels_of(found: Iterable[Metric], name: str) -> set[str]:
    return {
        value for family in found if family.name == PREFIX + name for s in family.samples for value in s.labels.values()
    }


@pytest.mark.parametrize("status", [NOTHING, STATUS], ids=["nothing-yet", "some"])
@pytest.mark.parametrize(
    "name, wanted",
    [
        ("verdicts", {verdict.name for verdict in Verdict if verdict.name != "GO_ON"}),
        ("send_errors", set(SEND_ERROR_NAMES)),
        ("refreshes", {"published", "unchanged", "doubtful", "down", "shrunk", "contested", "pinned", "internal"}),
        ("restarts", set(children.KINDS)),
        ("lookups", {"asked", "found", "unknown", "over_budget", "failed"}),
        ("discovery", {"learnt", "sightings", *OUTCOMES}),
        ("control_refused", {"no_right", "all_taken", "uid_limit", "readers_limit", "gone", "EMFILE", "ENFILE"}),
        ("control_requests", {"served", "bad", "unknown", "forbidden", "timed_out", "not_taken"}),
        ("metrics_refused", {"all_taken", "gone", "EMFILE", "ENFILE"}),
        ("metrics_requests", {"served", "bad", "timed_out", "not_taken"}),
        ("traps_dropped", {"community", "kernel", "costly"}),
        ("trap_tuples_skipped", {"cut", "vlan"}),
        ("inventory_faults", set(reasons.KINDS)),
        ("refresh_stage_seconds", {"fetch", "parse", "plan", "build", "pack", "publish", "ack"}),
        ("part_failed", {"traps", "boot_port", "strangers", "xdp", "discovery_journal"}),
        ("inventory", {"ok", "stale", "down"}),
        ("machines", {"never", "booting", "stuck", "done", "unknown", "refused"}),
        ("stage_machines", set(STAGES)),
        ("relay_machines", {"direct", "other", "booting", "stuck", "done", "unknown", "refused"}),
    ],
)
def test_every_name_is_there_from_the_start(status: dict[str, Any], name: str, wanted: set[str]) -> None:
    assert wanted <= labels_of(families.families(status), name)


def test_what_is_counted_has_a_series_from_the_start() -> None:
    """Of each module that counts by name, the names in its source."""
    counted = {
        "control/discovery/machines.py": machines.COUNTS,
        "control/discovery/coordinator.py": coordinator.COUNTS,
        "control/service/doors/console.py": console.COUNTED,
        "control/service/doors/metrics.py": families.METRICS_COUNTED,
    }
    for path, names in counted.items():
        found = set(re.findall(r'\.counts\["(\w+)"\]', (ROOT / path).read_text()))
        assert found and found <= set(names), path
    refused = set(re.findall(r'Refused\("(\w+)"', (ROOT / "control/service/doors/console.py").read_text()))
    assert refused <= set(console.REFUSALS) and len(refused) == 4
    assert set(KINDS) == set(children.KINDS)


def test_a_name_that_nobody_listed_is_shown_all_the_same() -> None:
    """Of a supervisor of another build, or an errno of accept() that is rare."""
    status = STATUS | {"restarts": {"another": 4}, "limits": {"control": {"refused": {"EPERM": 2}}}}
    assert "another" in labels_of(families.families(status), "restarts")
    assert "EPERM" in labels_of(families.families(status), "control_refused")


FAILED = {
    "traps": {"traps": {"state": "failed", "reason": "x"}},
    "boot_port": {"boot_port": {"state": "failed", "port": 4011, "reason": "x"}},
    "strangers": {"strangers": {"state": "failed", "reason": "x"}},
    "xdp": {"io": "socket", "io_reason": "x"},
    "discovery_journal": {"discovery": {"journal": {"fault": "disk full", "records": 0, "left_out": 0}}},
}


@pytest.mark.parametrize("part, change", FAILED.items())
def test_what_is_configured_and_does_not_work_is_told(part: str, change: dict[str, Any]) -> None:
    assert not any(families.failed_parts(STATUS).values())
    assert [name for name, failed in families.failed_parts(STATUS | change).items() if failed] == [part]


def test_losses_as_the_status_has_them() -> None:
    queue = {"worker": 1, "queue": "urgent", "bytes": 7, "peak_bytes": 8, "limit_bytes": 9}
    status = STATUS | {"losses": {"udp_rcvbuf_errors": 5, "queues": [queue]}}
    said = {
        (s.name, s.labels.get("worker"), s.labels.get("queue")): s.value
        for family in families.families(status)
        for s in family.samples
    }
    assert said["bootstorm_host_udp_rcvbuf_errors_total", None, None] == 5
    figures = [
        said[f"bootstorm_receive_queue_{name}", "1", "urgent"] for name in ("bytes", "peak_bytes", "limit_bytes")
    ]
    assert figures == [7, 8, 9]
    unread = STATUS | {"losses": {"udp_rcvbuf_errors": None, "queues": []}}
    assert labels_of(families.families(unread), "receive_queue_bytes") == set()
    assert PREFIX + "host_udp_rcvbuf_errors" not in {family.name for family in families.families(unread)}


def test_machines_as_the_status_has_them() -> None:
    counts = dict.fromkeys(PROGRESS, 0)
    boots = {
        "progress": counts | {"never": 4, "stuck": 3},
        "stages": dict.fromkeys(STAGES, 0) | {"rom-offered": 3},
        "relays": {"10.1.0.254": counts | {"stuck": 2}, "": counts | {"stuck": 1}},
    }
    said = {
        (s.name, *s.labels.values()): s.value for f in families.families(STATUS | {"boots": boots}) for s in f.samples
    }
    assert said["bootstorm_machines", "never"] == 4 and said["bootstorm_machines", "stuck"] == 3
    assert said["bootstorm_stage_machines", "rom-offered"] == 3
    stuck = [said["bootstorm_relay_machines", relay, "stuck"] for relay in ("10.1.0.254", "direct", "other")]
    assert stuck == [2, 1, 0]
    assert list(families.of_boots(STATUS | {"boots": None})), "of a supervisor without a ledger"


@pytest.mark.parametrize("status", [NOTHING, STATUS], ids=["nothing-yet", "some"])
@pytest.mark.parametrize("name", ["queue_wait_seconds", "answer_seconds"])
def test_histograms_are_there_from_the_start(status: dict[str, Any], name: str) -> None:
    (family,) = (family for family in families.families(status) if family.name == PREFIX + name)
    assert family.type == "histogram" and {s.value for s in family.samples} == {0}
    assert [s.labels["le"] for s in family.samples[:-2]][-1] == "+Inf"
    assert [float(s.labels["le"]) for s in family.samples[:-3]] == list(LATENCY_BOUNDS_S)
    assert [s.name.removeprefix(family.name) for s in family.samples[-2:]] == ["_count", "_sum"]


def test_a_histogram_s_buckets_have_all_that_is_within_them() -> None:
    counts = [*range(len(LATENCY_BOUNDS_S)), 5]
    totals = {"wait": {"counts": counts, "sum_s": 2.5}, "answer": {"counts": [0] * len(counts), "sum_s": 0.0}}
    said = {
        (s.name.removeprefix(PREFIX), s.labels.get("le")): s.value
        for family in families.families(STATUS | {"latency": {"totals": totals}})
        for s in family.samples
    }
    assert [said["queue_wait_seconds_bucket", le] for le in ("1e-06", "2e-06", "4e-06", "8e-06")] == [0, 1, 3, 6]
    assert said["queue_wait_seconds_bucket", "0.524288"] == sum(range(20))
    assert said["queue_wait_seconds_bucket", "+Inf"] == said["queue_wait_seconds_count", None] == sum(counts)
    assert said["queue_wait_seconds_sum", None] == 2.5 and said["answer_seconds_count", None] == 0


def test_a_fleet_as_the_status_has_it() -> None:
    def said(status: dict[str, Any]) -> dict[tuple[str, ...], float]:
        found = families.families(STATUS | {"fleet": status})
        return {
            (s.name.removeprefix("bootstorm_fleet_"), *s.labels.values()): s.value for f in found for s in f.samples
        }

    leads = said(fleet_status(behind=2, refusals={"blob-wrong": 4, "of-a-later-build": 1}, dropped=True, lost=9))
    assert leads["leads", "main"] == leads["connected",] == leads["follows",] == 1 and leads["alone",] == 0
    assert leads["machines",] == 3 and leads["machines_behind",] == 2 and leads["info", "main", "dhcp1"] == 1
    assert [leads["head", part] for part in ("incarnation", "revision", "generation")] == [5, 3, 7]
    assert leads["head_state", "main", "dropped"] == 1 and leads["head_state", "main", "held"] == 0
    assert leads["refused_total", "blob-wrong"] == 4 and leads["refused_total", "of-a-later-build"] == 1
    assert {reason for name, *labels in leads if name == "refused_total" for reason in labels} >= {*map(str, Reason)}
    assert leads["lost_total",] == 9 and leads["process_deaths_total",] == 1
    assert leads["head_timestamp_seconds",] == 1_796_048_927
    assert said(fleet_status(refused="guarded: 9 of 10"))["refusing",] == 1 and leads["refusing",] == 0
    away = said(fleet_status() | {"state": None})
    assert away["connected",] == away["leads", "main"] == 0 and away["info", "main", "nobody"] == 1
    assert away.keys() >= {key for key in leads if key[0] not in ("info", "refused_total")}, "whatever was said last"


def test_a_site_without_a_fleet_has_no_series_of_one() -> None:
    for status in (NOTHING, STATUS, STATUS | {"fleet": None}):
        assert not [family.name for family in families.families(status) if "fleet" in family.name]


def test_each_name_stands_for_one_thing_and_says_what() -> None:
    found = list(families.families(STATUS | {"fleet": fleet_status()}))
    assert [name for name, count in Counter(family.name for family in found).items() if count > 1] == []
    assert [family.name for family in found if not family.documentation.endswith(".")] == []
    assert not {label for family in found for s in family.samples for label in s.labels} & {"mac", "host", "address"}


def metrics_table() -> str:
    """Of docs/operations.md: every series, its labels, its help text."""
    status = STATUS | {
        "fleet": fleet_status(),
        "losses": {
            "udp_rcvbuf_errors": 0,
            "queues": [{"worker": 0, "queue": "plain", "bytes": 0, "peak_bytes": 0, "limit_bytes": 0}],
        },
    }
    lines = ["| series | labels | what |", "| --- | --- | --- |"]
    for family in sorted(families.families(status), key=lambda family: family.name):
        labels = ", ".join(f"`{label}`" for label in family.samples[0].labels)
        lines.append(
            f"| `{family.samples[0].name}` | {labels} | {family.documentation.rstrip('.')} |".replace("|  |", "| |")
        )
    return "\n".join(lines)


def test_the_table_of_metrics_is_the_code_s() -> None:
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- metrics:begin -->\n(.*?)<!-- metrics:end -->", text, re.DOTALL)
    assert found is not None and found[1].strip() == metrics_table(), (
        'write it anew: .venv/bin/python -c "from tests.control.service.doors.test_families import metrics_table; '
        'print(metrics_table())"'
    )


def largest() -> dict[str, Any]:
    """A status of 64 workers and as many relays as are told; of the hosts none has a series, however many there are."""
    worker = STATUS["workers"][0] | {"frames_lost": 1, "records_left_out": 0, "heartbeat_age_s": 0.01}
    queues = [
        {"worker": slot, "queue": queue, "bytes": 12345, "peak_bytes": 67890, "limit_bytes": 1 << 28}
        for slot in range(64)
        for queue in QUEUES
    ]
    return STATUS | {
        "hosts": 1_000_000,
        "workers": [worker | {"slot": slot} for slot in range(64)],
        "losses": {"udp_rcvbuf_errors": 1, "queues": queues},
        "boots": {"relays": {f"10.1.{n}.254": dict.fromkeys(PROGRESS, 12345) for n in range(64)}},
    }


@pytest.mark.parametrize("workers", [2, 64])
def test_a_scrape_costs_little(workers: int) -> None:
    """Processor time of all that is made of a status.  The best of some: other tests run beside this one."""
    status = largest()
    status["workers"] = status["workers"][:workers]
    status["losses"]["queues"] = status["losses"]["queues"][: workers * len(QUEUES)]
    tries = []
    for _ in range(9):
        since = time.process_time()
        content = metrics.encode(status, generate_latest)
        tries.append(time.process_time() - since)
    print(f"{workers} workers: {len(content):,} bytes, {min(tries) * 1e3:.1f} ms")
    assert min(tries) < SCRAPE_S and content.count(b"\n") > 300


def test_the_library_takes_all_of_it() -> None:
    registry = CollectorRegistry(auto_describe=True)
    registry.register(metrics.OneStatus(STATUS))
    assert at(STATUS, ("no", "such", "place")) is None and registry.get_sample_value("bootstorm_hosts") == 3
