"""The process of `bootstorm serve`: the first start, and the first steps of a new image after an upgrade."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from fastpath.process.build import BUILD_NAME
from fastpath.process.logs import begin_writing, flush_logs
from fastpath.process.notify import NotifySocket, forget_handed_back, handed_back
from fastpath.process.oom import spare
from fastpath.protocol import Channel, Settings, Tried, known
from fastpath.supervisor.children import KINDS, table_layout
from fastpath.supervisor.descriptors import StartFailed, open_all, refused
from fastpath.supervisor.supervisor import TICK_S, Supervisor
from fastpath.supervisor.upgrade import State, adopt, forget_pools, kill_heir, lay_out_anew, read_state

log = logging.getLogger("bootstorm.supervisor")


def restore(state: State) -> Supervisor:
    """After an upgrade's re-exec: the same fds, the same children, all of them outdated.  Raises OSError."""
    lay_out_anew(state)
    forget_pools(state)
    if state.kept.generation and not state.kept.table_layout:
        state.kept.table_layout = table_layout(state.kept.base)
    supervisor = Supervisor(state.settings, state.kept)
    supervisor.reload.wanted = state.reload_wanted
    supervisor.manager.restore(state.manager)
    for kind, total in state.totals.items():
        supervisor.deaths[kind].total = total
    for heir in state.children:
        try:
            child = adopt(heir, state.layouts)
        except OSError as error:
            log.error("%s %d cannot be watched any more (%s): killed", heir.kind, heir.pid, error)
            kill_heir(heir)
            supervisor.unreaped.add(heir.pid)
            continue
        os.set_inheritable(heir.fd, False)
        try:
            supervisor.watch(child)
        except OSError as error:
            log.error("%s %d cannot be watched any more (%s): killed", heir.kind, heir.pid, error)
            supervisor.give_up(child)
            continue
        supervisor.children.append(child)
        if child.kind not in KINDS:  # a trial that was begun in the last moment, or what only that build has
            supervisor.end(child)
    for fd in (*supervisor.kept.fds(), *(child.head.fd for child in supervisor.children if child.head is not None)):
        os.set_inheritable(fd, False)
    return supervisor


def restored(text: bytes) -> Supervisor:
    """restore(), until it succeeds: the old image is gone, and children that serve wait for a supervisor."""
    state = read_state(text)
    log.info("this is %s, after %s", BUILD_NAME, state.build)
    told, manager = "", NotifySocket.of(os.environ)
    while True:
        try:
            return restore(state)
        except OSError as error:
            if manager is not None:
                manager.beat(time.monotonic())
            if str(error) != told:
                told = str(error)
                log.error("cannot go on yet: %s; tried again until it can", error)
            time.sleep(TICK_S)


def answer_probe(probe: dict[str, Any]) -> None:
    """A trial asks whether this entry loads: all that is wanted is its word, from here."""
    Channel.of_fd(probe["channel"]).send(known(Tried, probe["tried"]))


def first_start(settings: Settings, config_fd: int) -> Supervisor:
    """Raises StartFailed."""
    try:
        supervisor = Supervisor(settings, open_all(settings, config_fd))
        os.set_inheritable(config_fd, False)
    except OSError as error:
        raise refused(error) from error
    return supervisor


def go_on_with_handed_back(again: list[str]) -> Supervisor:
    """A start with what the service manager kept of the supervisor before, which was killed.  Where that cannot be used
    it is given up, and `again` is executed, which starts with nothing.

    Raises StartFailed."""
    from fastpath.supervisor.handed_back import Refused, go_on, release  # no other start pays for it

    handed = handed_back(os.environ)
    forget_handed_back(os.environ)
    try:
        settings, kept, store = go_on(handed)
        supervisor = Supervisor(settings, kept)
    except Refused as why:
        log.error("the service manager handed back %d descriptors, refused: %s; starting anew", len(handed), why)
    except OSError as error:
        raise refused(error) from error
    else:
        supervisor.manager.store = store
        return supervisor
    release(handed, NotifySocket.of(os.environ))
    flush_logs()
    try:
        os.execv(again[0], again)
    except OSError as error:
        raise StartFailed(f"{again[0]} cannot be executed: {error.strerror}; install bootstorm anew") from error


def main(state_fd: int) -> int:
    """state_fd: a memfd with JSON, {"settings": ...} at the first start, everything else too after an upgrade;
    {"again": argv} where a service manager has handed descriptors back; {"probe": ...} of a trial."""
    with os.fdopen(state_fd, "rb") as file:
        file.seek(0)
        text = file.read()
    told: dict[str, Any] = json.loads(text)
    if "probe" in told:
        answer_probe(told["probe"])
        return 0
    first: Callable[[], None] | None = None
    try:
        if "kept" in told:
            supervisor = restored(text)
        elif "again" in told:
            spare()
            supervisor = go_on_with_handed_back(told["again"])
        else:
            settings = known(Settings, told["settings"])
            spare()  # while we may
            supervisor = first_start(settings, told["config_fd"])
            first = supervisor.begin
    except StartFailed as failure:
        sys.stderr.write(f"bootstorm: {failure}\n")
        return 1
    begin_writing()  # not before privileges are gone: a thread would keep them
    doing = "observing, nothing is sent on" if supervisor.settings.mode == "observe" else "serving"
    if supervisor.kept.xdp:
        log.info("requests on %s come by XDP", ", ".join(supervisor.settings.interfaces))
    log.info("%s UDP port %d with %d workers", doing, supervisor.settings.port, supervisor.settings.workers)
    if first is not None:
        supervisor.survive(first)
    supervisor.run()
    return 0
