"""The endpoint of `metrics.bind`: the status as Prometheus reads it, from the running service."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from control.service.doors import families, metrics
from tests.control.service.test_service import content
from tests.control.serving import may_serve, serving
from tests.ports import free_port

STATUS: dict[str, Any] = {
    "generation": 7, "digest": 99, "mode": "serve", "hosts": 3, "quarantined": 1, "kept_hosts": 0, "table_age_s": 1.5,
    "table_bytes": 4096, "inventory": "stale", "control_up_s": 9.0, "warnings_suppressed": 2,
    "refresh": {"last_seconds": 0.2, "outcomes": {"published": 4, "down": 1}},
    "workers": [
        {"slot": 0, "pid": 9, "generation": 7, "rx": 5, "tx": 4, "recovered": 0, "events_lost": 0, "sightings_lost": 0},
        {"slot": 1, "pid": 0, "generation": 6, "rx": 6, "tx": 6, "recovered": 1, "events_lost": 2, "sightings_lost": 3},
    ],
    "counters": {"OFFERED": 8, "IGNORED_UNKNOWN_MAC": 1}, "send_errors": {"ENOBUFS": 1}, "restarts": {"worker": 1},
    "lookups": {"asked": 1}, "identities": {"cloned": 1, "loops": 0}, "traps": {"state": "off", "reason": "none"},
    "discovery": {"due": 0, "counters": {}},
}  # fmt: skip


def no_health(_max_age_s: float | None) -> dict[str, Any]:
    raise AssertionError("nobody asks for it here")


def samples(found: Any) -> dict[tuple[str, tuple[str, ...]], float]:
    return {(sample.name, tuple(sample.labels.values())): sample.value for family in found for sample in family.samples}


def test_every_figure_of_a_status() -> None:
    said = samples(families.families(STATUS))
    assert said["bootstorm_hosts", ()] == 3 and said["bootstorm_table_age_seconds", ()] == 1.5
    assert said["bootstorm_verdicts_total", ("OFFERED",)] == 8
    assert said["bootstorm_received_total", ("1",)] == 6 and said["bootstorm_sightings_lost_total", ("1",)] == 3
    assert [said["bootstorm_worker_up", (slot,)] for slot in "01"] == [1, 0]
    assert [said["bootstorm_inventory", (state,)] for state in ("ok", "stale", "down")] == [0, 1, 0]
    assert said["bootstorm_table_info", ("99", "serve")] == 1
    assert said["bootstorm_traps_received_total", ()] == 0, "none are received, and the series is there"


def test_before_the_first_table() -> None:
    said = samples(families.families(STATUS | {"table_age_s": None, "digest": None, "counters": {}}))
    assert said["bootstorm_table_age_seconds", ()] == math.inf, "so that a comparison with it holds"


@pytest.mark.parametrize(
    "accept, form",
    [
        ("", "text/plain; version=0.0.4"), ("*/*", "text/plain; version=0.0.4"), ("text/plain;q=x", "text/plain; "),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.2", "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text; version=x", "application/openmetrics-text; version=1.0.0"),
        ("Application/OpenMetrics-Text; version=\u00e9", "application/openmetrics-text; version=1.0.0"),
    ],
)  # fmt: skip
def test_what_a_scraper_accepts_chooses_one_of_two_forms(accept: str, form: str) -> None:
    """Any version was a form of its own, made anew and kept; one that is no number was a traceback."""

    async def scenario() -> None:
        async def status() -> dict[str, Any]:
            return STATUS

        with socket.create_server(("127.0.0.1", 0)) as listener:
            endpoint = metrics.Endpoint(listener, status, no_health)
            said, content_type = await endpoint.content(accept)
            assert content_type.startswith(form) and b"bootstorm_hosts 3" in said
            for number in range(50):
                await endpoint.content(f"application/openmetrics-text; version=1.0.{number}")
            assert len(endpoint.made) <= 2

    asyncio.run(scenario())


@pytest.mark.parametrize("fault", ["hangs", "idna", "gai", "thread"])
def test_a_name_that_cannot_be_resolved_costs_the_metrics_and_no_turn_of_the_loop(
    fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It was asked for before anything else, in the loop: the supervisor ended control for it, time after time."""
    answered = threading.Event()

    def ask(_host: str, _port: int, _family: int = 0, type: int = 0, _proto: int = 0, flags: int = 0) -> Any:
        if fault == "idna":
            raise UnicodeError("label empty or too long")
        if flags != socket.AI_NUMERICHOST and fault == "hangs":
            answered.wait(30)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def scenario() -> None:
        async def status() -> dict[str, Any]:
            return STATUS

        opening = asyncio.get_running_loop().create_task(metrics.serve(("host.example", 9100), status, no_health))
        turns = 0
        while not opening.done():
            turns += 1
            await asyncio.sleep(0.01)
        answered.set()
        told = await opening
        monkeypatch.undo()
        assert isinstance(told, str) and "metrics.bind host.example:9100: " in told
        says = {"hangs": "no name server answered for host.example within 0.2 s", "idna": "label empty",
                "gai": "Name or service not known", "thread": "can't start new thread"}  # fmt: skip
        assert says[fault] in told and caplog.text.count("no metrics") == 1
        assert turns > 10 or fault != "hangs"

    monkeypatch.setattr(metrics, "RESOLVE_S", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", ask)
    if fault == "thread":
        monkeypatch.setattr(threading.Thread, "start", start)
    asyncio.run(scenario())


def write_inventory(folder: Path) -> str:
    path = folder / "hosts.csv"
    path.write_text(content(1, 2))
    return f"file://{path}"


@pytest.fixture(autouse=True)
def _may() -> None:
    may_serve()


def test_the_running_service_is_scraped_and_says_what_ctl_says(tmp_path: Path) -> None:
    port = free_port()
    with serving(tmp_path, write_inventory(tmp_path), metrics={"bind": f"127.0.0.1:{port}"}) as running:
        running.wait_for(r"generation 1: 2 hosts")
        running.ctl("refresh", {"wait": True})  # a worker answers by then
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            said = samples(text_string_to_metric_families(answer.read().decode()))
        status = running.status()
    assert said["bootstorm_hosts", ()] == status["hosts"] == 2
    assert said["bootstorm_generation", ()] == status["generation"]
    assert ("bootstorm_received_total", ("0",)) in said and status["metrics"] == "serving"
    assert said["bootstorm_ready", ()] == 1 and status["health"]["ready"]
    (built,) = (labels for name, labels in said if name == "bootstorm_build_info")
    assert set(built) == {status["version"], status["build"], status["supervisor_build"]}
    limits = {queue["queue"]: queue["limit_bytes"] for queue in status["losses"]["queues"]}
    assert limits["plain"] == said["bootstorm_receive_queue_limit_bytes", ("plain", "0")] > 0
    if (errors := status["losses"]["udp_rcvbuf_errors"]) is not None:
        assert 0 <= said["bootstorm_host_udp_rcvbuf_errors_total", ()] <= errors


def test_a_port_that_is_taken_costs_the_metrics_and_not_the_service(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        bind = f"127.0.0.1:{other.getsockname()[1]}"
        with serving(tmp_path, write_inventory(tmp_path), metrics={"bind": bind}) as running:
            line = running.wait_for("no metrics")
            running.wait_for(r"generation 1: 2 hosts")
            assert f"metrics.bind {bind}" in line and bind in running.status()["metrics"], json.dumps(line)


def test_a_name_that_nobody_knows_costs_the_metrics_and_not_the_service(tmp_path: Path) -> None:
    with serving(tmp_path, write_inventory(tmp_path), metrics={"bind": "nobody.invalid:9100"}) as running:
        running.wait_for(r"generation 1: 2 hosts")
        assert running.status()["metrics"].startswith("metrics.bind nobody.invalid:9100: ")


def test_an_ipv6_address_stands_in_brackets(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    port = free_port()

    async def never() -> dict[str, Any]:
        return {}

    async def run() -> None:
        for host in ("::1", "2001:db8::1"):  # there, and not
            opened = await metrics.serve((host, port), never, no_health)
            if not isinstance(opened, str):
                await opened.door.close()

    asyncio.run(run())
    assert f"[::1]:{port}" in caplog.text and f"metrics.bind [2001:db8::1]:{port}: " in caplog.text
