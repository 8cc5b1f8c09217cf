"""What a scrape says of a fleet, made of the status' `fleet`.  Pure.

Loaded, and said, only where services.conf has the section: a site without one has none of these series.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from control.fleet.wire import Reason

PREFIX: Final = "bootstorm_fleet_"
# (name, help, the key of what the fleet process says last)
GAUGES: Final = (
    ("connected", "1 while the message engine is connected.", "connected"),
    ("follows", "1 while the table that is served is the fleet's.", "follows"),
    ("lags", "1 while the head names another table for this machine than it serves.", "lags"),
    ("refusing", "1 while a head, a blob or a table of the fleet is refused here (ctl fleet says why).", "refused"),
    ("machines", "Machines of the shard heard of within 15 s; 0 but on who leads.", "machines"),
    ("machines_behind", "Those that are silent or do not serve what they should; 0 but on who leads.", "behind"),
    ("head_timestamp_seconds", "When the head that counts here was written, since 1970; 0 without one.", "head_s"),
)  # fmt: skip
MARK: Final = ("incarnation", "revision", "generation")
HEAD_STATES: Final = ("held", "pinned", "trial", "dropped")


def families(fleet: Mapping[str, Any]) -> Iterator[Metric]:
    """fleet: as control.service.fleet.link.FleetLink.status."""
    state, shard = fleet["state"] or {}, fleet["shard"]
    for name, words, key in GAUGES:
        value = state.get(key) or 0
        yield GaugeMetricFamily(PREFIX + name, words, float(bool(value) if isinstance(value, str) else value))
    yield GaugeMetricFamily(PREFIX + "alone", "1 while this machine reads the inventory for itself.", fleet["alone"])
    leads = GaugeMetricFamily(PREFIX + "leads", "1 on the machine that leads the shard.", labels=["shard"])
    leads.add_metric([shard], int(state.get("leads", False)))
    yield leads
    who = {"shard": shard, "leader": state.get("leader") or "nobody"}
    yield InfoMetricFamily("bootstorm_fleet", "Who leads, as far as this machine knows.", who)
    mark = GaugeMetricFamily(PREFIX + "head", "The mark of the newest head that was accepted.", labels=["part"])
    for part, number in zip(MARK, state.get("mark") or (0, 0, 0), strict=True):
        mark.add_metric([part], number)
    yield mark
    words = "1 for what the head says: held or pinned by an order, a trial by the canaries, one that was dropped."
    said = GaugeMetricFamily(PREFIX + "head_state", words, labels=["shard", "state"])
    for name in HEAD_STATES:
        said.add_metric([shard, name], int(state.get(name, False)))
    yield said
    refused = CounterMetricFamily(PREFIX + "refused", "What was refused (docs/fleet.md).", labels=["reason"])
    for name, count in (dict.fromkeys(map(str, Reason), 0) | (state.get("refusals") or {})).items():
        refused.add_metric([name], count)
    yield refused
    words = "Messages and actions of the fleet process that found no room."
    yield CounterMetricFamily(PREFIX + "lost", words, state.get("lost", 0))
    yield CounterMetricFamily(
        PREFIX + "process_deaths", "Fleet processes that ended and were replaced.", fleet["deaths"]
    )
