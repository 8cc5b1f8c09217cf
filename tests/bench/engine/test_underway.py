"""A run under way: what goes wrong in its thread is raised where it is waited for, and an impatient look stops it."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from bench.engine.underway import UnderWay


class Engine:
    """Runs until it is stopped, or fails at once."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault, self.stopped, self.core = fault, threading.Event(), set[int]()

    def run(self) -> None:
        self.core = os.sched_getaffinity(0)
        if self.fault is not None:
            raise self.fault
        assert self.stopped.wait(60)

    def stop(self) -> None:
        self.stopped.set()


def begun(engine: Engine, core: int | None = None) -> tuple[UnderWay, socket.socket]:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    return UnderWay("test", engine, sock, core), sock


def test_it_ends_when_it_is_stopped_and_closes_its_socket() -> None:
    engine = Engine()
    run, sock = begun(engine)
    assert run.running
    assert run.await_end(run.stop) == 0
    assert not run.running and sock.fileno() == -1


def test_its_thread_has_the_core_and_nobody_else() -> None:
    before, core = os.sched_getaffinity(0), min(os.sched_getaffinity(0))
    engine = Engine()
    run, _sock = begun(engine, core)
    run.await_end(run.stop)
    assert engine.core == {core} and os.sched_getaffinity(0) == before


def test_what_the_engine_raises_is_raised_again() -> None:
    run, sock = begun(Engine(OSError("no buffer")))
    with sock, pytest.raises(OSError, match="no buffer"):
        run.await_end()


def test_a_look_that_raises_stops_it() -> None:
    def look() -> None:
        raise KeyboardInterrupt

    engine = Engine()
    run, sock = begun(engine)
    with sock, pytest.raises(KeyboardInterrupt):
        run.await_end(look)
    assert engine.stopped.is_set()
