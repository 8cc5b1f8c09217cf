"""Writes the Grafana dashboard bootstorm.json from the list of panels below: python3 deploy/grafana/make_dashboard.py

A new panel is an element of ROWS.  tests/deploy/test_dashboard.py compares the file with the list, and every expression
with a running server's scrape.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).with_name("bootstorm.json")
CHOSEN = 'instance=~"$instance"'  # stands where an expression says @
RATE = "[$__rate_interval]"
HALF, MOST = 0.5, 0.99  # of the requests, in what is shown of a histogram
WIDTH = 24  # of the page, in Grafana's units
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


class Panel(NamedTuple):
    """queries: (expression, legend).  kind, unit: as Grafana names them; width: of WIDTH.

    bad: from which value on a single figure is red; where it is negative, below which."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    bad: float | None = None
    about: str = ""


def figure(title: str, expression: str, legend: str, bad: float | None = None, unit: str = "short") -> Panel:
    return Panel(title, ((expression, legend),), unit, "stat", 4, bad)


def quantile(share: float, histogram: str) -> str:
    return f"histogram_quantile({share}, sum by (instance, le) (rate({histogram}_bucket{{@}}{RATE})))"


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Is DHCP served?",
        (
            figure("Ready", "bootstorm_ready{@}", "{{instance}}", -1),
            figure("Workers that answer", "bootstorm_workers_answering{@}", "{{instance}}", -1),
            figure("Hosts answered", "bootstorm_hosts{@}", "{{instance}}"),
            figure("Age of the table", "bootstorm_table_age_seconds{@}", "{{instance}}", 3600, "s"),
            figure("Faults of the inventory", "sum by (instance) (bootstorm_inventory_faults{@})", "{{instance}}", 1),
            figure("Machines in a boot loop", "bootstorm_looping_machines{@}", "{{instance}}", 1),
        ),
    ),
    (
        "Requests and replies",
        (
            Panel(
                "Received and sent",
                (
                    (f"sum by (instance) (rate(bootstorm_received_total{{@}}{RATE}))", "{{instance}} received"),
                    (f"sum by (instance) (rate(bootstorm_sent_total{{@}}{RATE}))", "{{instance}} sent"),
                ),
                "pps",
            ),
            Panel(
                "Answers",
                (
                    (
                        f'sum by (verdict) (rate(bootstorm_verdicts_total{{@, verdict=~"OFFERED|OFFERED_PROXY|ACKED|'
                        f'ACKED_BOOT|ACKED_INFORM|ANSWERED_BOOTP|NAKED"}}{RATE}))',
                        "{{verdict}}",
                    ),
                ),
                "pps",
            ),
            Panel(
                "Not answered",
                (
                    (
                        f'sum by (verdict) (rate(bootstorm_verdicts_total{{@, verdict=~"IGNORED_.*"}}{RATE})) > 0',
                        "{{verdict}}",
                    ),
                ),
                "pps",
            ),
        ),
    ),
    (
        "Boots",
        (
            Panel(
                "Machines by progress",
                (('bootstorm_machines{@, progress!="never"} > 0', "{{instance}} {{progress}}"),),
                about="Rows of the table, cards and BMCs; those that were not heard are left out.",
            ),
            Panel(
                "Furthest stage of the present boot",
                (("bootstorm_stage_machines{@} > 0", "{{instance}} {{stage}}"),),
            ),
            Panel(
                "Stuck, by relay",
                (('bootstorm_relay_machines{@, progress="stuck"} > 0', "{{instance}} {{relay}}"),),
            ),
        ),
    ),
    (
        "How long it takes",
        (
            Panel(
                "Waiting to be read",
                (
                    (quantile(HALF, "bootstorm_queue_wait_seconds"), "{{instance}} half within"),
                    (quantile(MOST, "bootstorm_queue_wait_seconds"), "{{instance}} 99 % within"),
                ),
                "s",
                width=12,
                about="iPXE repeats a REQUEST after 0.25 s, a DISCOVER after 1 s; ROMs after 4 s.",
            ),
            Panel(
                "From reading to the reply",
                (
                    (quantile(HALF, "bootstorm_answer_seconds"), "{{instance}} half within"),
                    (quantile(MOST, "bootstorm_answer_seconds"), "{{instance}} 99 % within"),
                ),
                "s",
                width=12,
            ),
        ),
    ),
    (
        "Losses and load",
        (
            Panel(
                "Receive queues, highest within a minute",
                (
                    (
                        "max by (instance, queue) (bootstorm_receive_queue_peak_bytes{@}) "
                        "/ max by (instance, queue) (bootstorm_receive_queue_limit_bytes{@} > 0)",
                        "{{instance}} {{queue}}",
                    ),
                ),
                "percentunit",
            ),
            Panel(
                "Lost before reading",
                (
                    (
                        f"rate(bootstorm_host_udp_rcvbuf_errors_total{{@}}{RATE})",
                        "{{instance}} queue full (any program)",
                    ),
                    (f"sum by (instance) (rate(bootstorm_frames_lost_total{{@}}{RATE}))", "{{instance}} XDP"),
                ),
                "pps",
            ),
            Panel(
                "Refused under overload, not sent",
                (
                    (
                        f'sum by (instance, verdict) (rate(bootstorm_verdicts_total{{@, verdict=~"IGNORED_LATE|'
                        f'IGNORED_SHARE"}}{RATE}))',
                        "{{instance}} {{verdict}}",
                    ),
                    (
                        f"sum by (instance, errno) (rate(bootstorm_send_errors_total{{@}}{RATE})) > 0",
                        "{{instance}} {{errno}}",
                    ),
                ),
                "pps",
            ),
            Panel(
                "Strangers",
                (
                    (f"rate(bootstorm_strangers_dropped_total{{@}}{RATE})", "{{instance}} dropped by the kernel"),
                    (f"rate(bootstorm_strangers_passed_total{{@}}{RATE})", "{{instance}} passed by it"),
                    (
                        f'sum by (instance) (rate(bootstorm_verdicts_total{{@, verdict="IGNORED_UNKNOWN_MAC"}}{RATE}))',
                        "{{instance}} ignored by workers",
                    ),
                ),
                "pps",
            ),
            Panel(
                "Look-ups of strangers",
                ((f"sum by (outcome) (rate(bootstorm_lookups_total{{@}}{RATE}))", "{{outcome}}"),),
                "ops",
            ),
            Panel(
                "Events, sightings and log lines lost",
                (
                    (f"sum by (instance) (rate(bootstorm_events_lost_total{{@}}{RATE}))", "{{instance}} events"),
                    (f"sum by (instance) (rate(bootstorm_sightings_lost_total{{@}}{RATE}))", "{{instance}} sightings"),
                    (f"rate(bootstorm_log_lines_lost_total{{@}}{RATE})", "{{instance}} log lines"),
                ),
                "ops",
            ),
        ),
    ),
    (
        "Inventory and table",
        (
            Panel("Generation", (("bootstorm_generation{@}", "{{instance}}"),), "none"),
            Panel("Refresh by stage", (("bootstorm_refresh_stage_seconds{@}", "{{instance}} {{stage}}"),), "s"),
            Panel(
                "Refreshes by outcome",
                (("sum by (outcome) (increase(bootstorm_refreshes_total{@}[1h]))", "{{outcome}}"),),
            ),
            Panel(
                "Faults by kind",
                (("max by (kind) (bootstorm_inventory_faults{@}) > 0", "{{kind}}"),),
                about="Of the server that knows the most.",
            ),
            Panel(
                "Hosts in doubt, quarantined",
                (
                    ("bootstorm_kept_hosts{@}", "{{instance}} in doubt"),
                    ("bootstorm_quarantined_hosts{@}", "{{instance}} quarantined"),
                ),
            ),
            Panel(
                "State of the inventory",
                (("bootstorm_inventory{@} == 1", "{{instance}} {{state}}"),),
            ),
        ),
    ),
    (
        "Fleet",
        (
            figure("Leads", "bootstorm_fleet_leads{@}", "{{instance}}"),
            figure("Engine connected", "bootstorm_fleet_connected{@}", "{{instance}}", -1),
            figure("Machines, as who leads hears them", "bootstorm_fleet_machines{@} > 0", "{{instance}}"),
            figure("Behind or silent", "bootstorm_fleet_machines_behind{@}", "{{instance}}", 1),
            figure("Refuses what the fleet serves", "bootstorm_fleet_refusing{@}", "{{instance}}", 1),
            figure("Reads the inventory for itself", "bootstorm_fleet_alone{@}", "{{instance}}", 1),
            Panel(
                "Generation of the head",
                (('bootstorm_fleet_head{@, part="generation"}', "{{instance}}"),),
                "none",
                about="Counted from 1 by each leader; the same on all machines that are not behind.",
            ),
            Panel("What the head says", (("bootstorm_fleet_head_state{@} == 1", "{{instance}} {{shard}} {{state}}"),)),
            Panel(
                "Refusals",
                (
                    (
                        f"sum by (instance, reason) (rate(bootstorm_fleet_refused_total{{@}}{RATE})) > 0",
                        "{{instance}} {{reason}}",
                    ),
                ),
                "ops",
            ),
        ),
    ),
    (
        "Processes",
        (
            Panel(
                "Restarts",
                (("sum by (instance, kind) (increase(bootstorm_restarts_total{@}[1h])) > 0", "{{instance}} {{kind}}"),),
            ),
            Panel(
                "Heartbeat", (("max by (instance) (bootstorm_worker_heartbeat_age_seconds{@})", "{{instance}}"),), "s"
            ),
            Panel("What does not work", (("bootstorm_part_failed{@} == 1", "{{instance}} {{part}}"),)),
            Panel("Builds", (("bootstorm_build_info{@}", "{{instance}} {{version}} {{build}}"),), "none"),
            Panel(
                "Traps",
                (
                    (f"rate(bootstorm_traps_received_total{{@}}{RATE})", "{{instance}} received"),
                    (
                        f"sum by (instance, reason) (rate(bootstorm_traps_dropped_total{{@}}{RATE})) > 0",
                        "{{instance}} {{reason}}",
                    ),
                ),
                "ops",
            ),
            Panel("Discovery: machines due", (("bootstorm_discovery_due{@}", "{{instance}}"),)),
        ),
    ),
)


def thresholds(bad: float | None) -> dict[str, Any]:
    if bad is None:
        return {"mode": "absolute", "steps": [{"color": "text", "value": None}]}
    good_first = bad > 0
    steps = [
        {"color": "green" if good_first else "red", "value": None},
        {"color": "red" if good_first else "green", "value": abs(bad)},
    ]
    return {"mode": "absolute", "steps": steps}


def panel_json(number: int, panel: Panel, x: int, y: int) -> dict[str, Any]:
    targets = [
        {
            "datasource": SOURCE,
            "expr": expression.replace("@", CHOSEN),
            "legendFormat": legend,
            "refId": chr(ord("A") + at),
        }
        for at, (expression, legend) in enumerate(panel.queries)
    ]
    made: dict[str, Any] = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": 4 if panel.kind == "stat" else 8},
        "fieldConfig": {"defaults": {"unit": panel.unit, "thresholds": thresholds(panel.bad)}, "overrides": []},
        "targets": targets,
    }
    if panel.kind == "timeseries":
        made["fieldConfig"]["defaults"] |= {"min": 0, "custom": {"fillOpacity": 8, "showPoints": "never"}}
        made["options"] = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    else:
        made["options"] = {"colorMode": "value", "graphMode": "none", "reduceOptions": {"calcs": ["lastNotNull"]}}
    return made


def panels_json() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    y = 0
    for title, panels in ROWS:
        made.append({"id": len(made) + 1, "type": "row", "title": title, "collapsed": False, "panels": [],
                     "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1}})  # fmt: skip
        x, y = 0, y + 1
        for panel in panels:
            if x + panel.width > WIDTH:
                x, y = 0, y + made[-1]["gridPos"]["h"]
            made.append(panel_json(len(made) + 1, panel, x, y))
            x += panel.width
        y += made[-1]["gridPos"]["h"]
    return made


def dashboard() -> dict[str, Any]:
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    instance = {
        "name": "instance", "type": "query", "label": "Server", "datasource": SOURCE, "multi": True, "includeAll": True,
        "query": {"query": "label_values(bootstorm_ready, instance)", "refId": "instance"}, "refresh": 2, "sort": 1,
        "current": {"text": ["All"], "value": ["$__all"]},
    }  # fmt: skip
    return {
        "uid": "bootstorm",
        "title": "bootstorm",
        "description": "DHCP from the inventory; made by deploy/grafana/make_dashboard.py",
        "tags": ["dhcp"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [source, instance]},
        "annotations": {"list": []},
        "panels": panels_json(),
    }


def text() -> str:
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
