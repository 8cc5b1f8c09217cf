"""The supervisor is killed under load below a service manager: what waited in its sockets' queues is answered."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.lab.lab import Host, Lab
from bench.lab.site import RunningSite, many_hosts, running_site
from tests.netns.under_load.test_faults import (
    FIRST_ADDRESS,
    HOSTS,
    NETWORK,
    RELAY,
    SERVER,
    Load,
    account,
    refresh_works,
)

pytestmark = [pytest.mark.faults, pytest.mark.long]

MANAGER = Path(__file__).resolve().parents[2] / "service_manager.py"
KILLS = 3
RATE = 3000
LEAST = KILLS * RATE // 4  # a restart takes a third of a second on a fast machine
TAIL_S = 90.0  # on a busy machine a worker may come long after the first; it ends when all is answered
STEP_S = 60.0
assert FIRST_ADDRESS == "10.88.1.0"


@contextmanager
def managed(*options: str) -> Iterator[tuple[RunningSite, Host]]:
    if reason := Lab.available():
        pytest.skip(reason)
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        lab.wire(server, client, a_if="sv", b_if="cl", a_addr=f"{SERVER}/16", b_addr=f"{RELAY}/16")
        first = (10 << 24) + (88 << 16) + (1 << 8)
        within = [sys.executable, "-I", str(MANAGER), *options, str(server.scratch / "notify")]
        hosts = many_hosts(HOSTS, NETWORK, first, 0x020000000000)
        with running_site(server, hosts, HOSTS, within=within) as running:
            assert running.server is not None
            running.server.wait_for("^manager: says READY=1", STEP_S)
            yield running, client


def kill(running: RunningSite, number: int = signal.SIGKILL) -> str:
    """The supervisor dies; what was said until its successor is ready."""
    assert running.server is not None
    mark = running.server.mark()
    os.kill(running.supervisor(), number)
    running.server.wait_for("^manager: says READY=1", STEP_S, since=mark)
    return running.server.log(since=mark)


def sending(client: Host, most: int = 1_000_000) -> Load:
    return Load(client, most, RATE, TAIL_S)


def account_of_service(running: RunningSite, figures: dict[str, Any]) -> None:
    """As account(); where something is missing, it says what the service knows of it."""
    if figures["unanswered"]:
        status = running.ctl("status")
        print({name: status[name] for name in ("counters", "send_errors", "losses", "workers")})
    account(figures, LEAST)


def test_requests_unanswered_0() -> None:
    with managed() as (running, client):
        load = sending(client)
        try:
            said = [kill(running) for _ in range(KILLS)]
        finally:
            figures = load.end()
        account_of_service(running, figures)
        for each in said:
            assert "manager: ended by signal 9" in each and "going on with them" in each
            assert re.search(r"manager: started \d+ with [1-9]\d", each)
        refresh_works(running)


def test_a_table_that_changed_under_load_is_gone_on_with() -> None:
    """A delta, and a configuration that was read again, between the kills."""
    with managed() as (running, client):
        load = sending(client)
        try:
            for number in range(KILLS):
                running.ctl("refresh", "--wait", "--host", f"node{number:06d}")
                generation = running.ctl("status")["generation"]
                running.ctl("reload")
                kill(running)
                assert running.ctl("status")["generation"] >= generation
        finally:
            figures = load.end()
        account_of_service(running, figures)
        refresh_works(running)


def test_a_store_that_was_full_costs_what_waited_and_nothing_more() -> None:
    """All that is there is refused and given up before the port is opened again: nobody gets the old sockets' share."""
    with managed("--store", "7") as (running, client):
        said = kill(running)
        assert "refused: " in said and "FileDescriptorStoreMax" in said and "starting anew" in said
        assert re.search(r"manager: started \d+ with 7", said)
        load = sending(client, 2 * RATE)
        account(load.figures())
        refresh_works(running)


def test_a_supervisor_that_hangs_is_ended_by_the_watchdog_and_nothing_is_lost() -> None:
    with managed("--watchdog", "2000000") as (running, client):
        load = sending(client)
        try:
            said = kill(running, signal.SIGSTOP)
        finally:
            figures = load.end()
        assert "manager: watchdog" in said and "manager: ended by signal 6" in said
        account_of_service(running, figures)
