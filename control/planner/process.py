"""The planner's process: takes control's messages one after the other; also while a refresh waits for the inventory."""

from __future__ import annotations

import gc
import logging
import math
import os
import select
import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from ext.table import TABLE_LAYOUT

from control.config.config import MAX_FILE_BYTES, parse_accepted
from control.planner.foreign import Foreign, NoStore
from control.planner.jobs import (
    KINDS,
    READY,
    CheckTable,
    FindOrigins,
    Lay,
    ListChanges,
    LookUp,
    PlanBegin,
    Refresh,
    Relink,
    Relinked,
    Rollback,
    ServeTable,
)
from control.planner.overrides import obey
from control.planner.planner import Planner
from control.planner.questions import find_origins, list_changes
from fastpath.process.logs import configure_logging, leave
from fastpath.protocol import Channel, ChannelClosed, close_all

log = logging.getLogger("bootstorm.planner")

NICE = 10  # the workers answer first, also where they share a core with us; not before they have a table
SAVE_AGAIN_S = 0.5  # while the disk does not take the table: what is there would be served after a restart
JOBS: dict[type, str] = {
    Refresh: "refresh", LookUp: "hosts", Rollback: "refresh", ListChanges: "changes", CheckTable: "check",
    ServeTable: "fleet", Lay: "overrides",
}  # fmt: skip


def main(fd: int) -> None:
    """The process.  fd: its channel to control."""
    configure_logging()
    gc.disable()  # a refresh makes millions of tuples and no cycles: walking them took half of its time
    try:
        run(Channel.of_fd(fd, KINDS))
    except ChannelClosed:  # control is gone, or wants another one
        leave()


def run(channel: Channel) -> None:
    """Serve control until it closes the channel."""
    begin, fds = channel.receive()
    if not isinstance(begin, PlanBegin):
        raise TypeError(f"planner: the first message is {type(begin).__name__}, wanted PlanBegin")
    config_fd, *table_fds = fds
    text = os.pread(config_fd, MAX_FILE_BYTES, 0)
    config, _refused = parse_accepted(text, Path(begin.config_path), Path(begin.state_dir))  # control told
    bell = os.eventfd(0, os.EFD_CLOEXEC)
    planner = Planner(config, begin.links, channel.send)
    if not begin.keeps:
        planner.store = NoStore(config.dhcp.state_dir)
    foreign = Foreign(planner)
    poll = select.poll()  # select() ends at 1,024 descriptors, and the inventory's connections are ours, too
    poll.register(channel.fileno(), select.POLLIN)
    poll.register(bell, select.POLLIN)

    def wait(future: Future[Any]) -> None:
        future.add_done_callback(lambda _: os.eventfd_write(bell, 1))
        while not future.done():
            ready = {fd for fd, _events in poll.poll()}
            if bell in ready:
                os.eventfd_read(bell)
            if channel.fileno() in ready:
                handle(planner, channel, foreign)

    planner.wait = wait
    planner.served.number = begin.generation
    planner.overlay.set(begin.holds, begin.onces)
    planner.known_onces = {each[0] for each in begin.onces if each[3]}
    planner.pinned_s = planner.pinned_s or begin.pinned_s
    if table_fds and planner.take_over(table_fds):
        finish_rollback(planner)
        planner.relink(begin.links)  # the configuration may be another one, too
    elif begin.keeps:
        planner.load_from_disk()
    channel.send(replace(READY, table_layout=TABLE_LAYOUT))
    os.nice(NICE)
    again = SaveAgain(planner)
    asked = select.poll()
    asked.register(channel.fileno(), select.POLLIN)
    while True:
        if not asked.poll(again.wait_ms()):
            again.save()
            continue
        try:
            handle(planner, channel, foreign)
        except ChannelClosed:
            leave()  # whatever the reader's thread still waits for


class SaveAgain:
    """When the table is to be written that the disk did not take: soon, however much control asks meanwhile."""

    def __init__(self, planner: Planner) -> None:
        self.planner = planner
        self.due_s: float | None = None  # CLOCK_MONOTONIC; None: the disk has it

    def wait_ms(self) -> int | None:
        """Of what control says, until save() is due; None: for ever."""
        if not self.planner.store.fault:
            self.due_s = None
            return None
        now_s = time.monotonic()
        if self.due_s is None:
            self.due_s = now_s + SAVE_AGAIN_S
        elif now_s >= self.due_s:
            self.save()
            return self.wait_ms()
        return math.ceil(1000 * (self.due_s - now_s))

    def save(self) -> None:
        self.planner.save()
        self.due_s = None


def finish_rollback(planner: Planner) -> None:
    """A planner before us may have been ended between the pin and its word to control: then the disk has the table that
    is meant, and we were given the one that somebody went away from."""
    if not planner.pinned_s or planner.store.left() != planner.served.shown_name():
        return
    loaded = planner.store.load()
    if loaded is None:
        planner.unpin()
        return
    close_all([fd for fd in loaded[:2] if fd >= 0])
    log.warning("the rollback that a planner before this one had on disk is served: it ended before anybody heard")
    planner.served.drop()
    planner.load_from_disk()


def handle(planner: Planner, channel: Channel, foreign: Foreign) -> None:
    """One message.  During a refresh control sends look-ups and relinks only.

    What an inventory says may hit a fault of ours: that is the job's outcome, and the planner goes on."""
    message, fds = channel.receive()
    try:
        work(planner, message, foreign, fds)
    except ChannelClosed:
        raise
    except Exception as bug:
        log.exception("%s failed", type(message).__name__)
        job = JOBS.get(type(message))
        if job is None:
            raise
        planner.fail("internal", f"internal fault, its traceback is in the log: {type(bug).__name__}: {bug}"[:500], job)
    finally:
        close_all(fds)


def work(planner: Planner, message: Any, foreign: Foreign, fds: list[int]) -> None:
    if isinstance(message, Refresh):
        planner.refresh(message.force)
        gc.collect()
    elif isinstance(message, LookUp):
        planner.look_up(message.macs, message.names, message.asked)
    elif isinstance(message, Relink):
        planner.relink(message.links)
        planner.send(Relinked())
    elif isinstance(message, Rollback):
        planner.rollback()
    elif isinstance(message, CheckTable):
        foreign.check(fds, message.digest)
    elif isinstance(message, ServeTable):
        foreign.serve(message.digest)
    elif isinstance(message, ListChanges):
        list_changes(planner, message.offset, message.limit)
    elif isinstance(message, FindOrigins):
        find_origins(planner, [(mac, address) for mac, address in message.leases])
    elif isinstance(message, Lay):
        obey(planner, message)
