"""A worker process: says that it is ready, keeps the newest generation mapped, takes a slot, answers till the end.

The main thread runs the pump without the GIL.  The helper thread owns the channel: it maps and unmaps generations, so
that the loop never pays for it; a spare has it already.
"""

from __future__ import annotations

import logging
import threading

from ext.mapping import GenerationRejected
from ext.page import WorkerPage
from ext.pump import Pump, confine

from fastpath.process.build import BUILD_NAME
from fastpath.process.logs import begin_writing, leave
from fastpath.protocol import (
    Assign,
    Channel,
    ChannelClosed,
    Confine,
    Fds,
    Finished,
    Load,
    Loaded,
    Ready,
    Rejected,
    Stop,
    close_all,
)
from fastpath.supervisor.children import LAYOUTS

log = logging.getLogger("bootstorm.worker")


class Worker:
    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.pump = Pump()
        self.slot = -1
        self.page: WorkerPage | None = None
        self.helper: threading.Thread | None = None
        self.serving = threading.Event()

    def run(self) -> None:
        """Until Stop, or until the supervisor is gone."""
        self.channel.send(Ready(build=BUILD_NAME, layouts=LAYOUTS))
        if not self.wait_for_slot():
            return
        self.serving.set()
        self.pump.run()
        self.say_goodbye()
        # The helper may sit in a system call for ever: nothing is left to save, so leave without joining it.
        leave()

    def wait_for_slot(self) -> bool:
        """As a spare: load what comes, so that taking over costs no mapping.  False: told to stop."""
        while True:
            message, fds = self.channel.receive()
            if isinstance(message, Stop):
                return False
            if isinstance(message, Confine):
                confine(message.program)
            if self.helper is None:
                self.start_helper()
            if isinstance(message, Assign):
                self.take(message, fds)
                return True
            if not isinstance(message, Confine):
                self.handle(message, fds)

    def start_helper(self) -> None:
        """At the first message: confined by then, since Confine is the first where there is one, and long before a slot
        is free.  A spare stands by for the moment at which nothing can be started any more, threads among it."""
        self.helper = threading.Thread(target=self.follow, name="generations", daemon=True)
        try:
            self.helper.start()
        except RuntimeError as error:  # the limit on processes
            log.error("a spare cannot start its thread (%s): it ends", error)
            leave(1)

    def take(self, message: Assign, fds: Fds) -> None:
        page, site, memories = fds.one("page"), fds.one("site"), fds.all("pool_memory")
        self.pump.assign(
            udp_fd=fds.one("udp"),
            urgent_fd=fds.one("urgent"),
            packet_fd=fds.one("packet"),
            page_fd=page,
            site_fd=site,
            adopted_fd=fds.one("adopted"),
            bell_fd=fds.one("events"),
            port=message.port,
            boot_fd=fds.perhaps("boot"),
            boot_port=message.boot_port,
            ledger_fd=fds.perhaps("ledger"),
            observe=message.observe,
            brake_ns=message.brake_ns,
        )
        for pool in zip(memories, fds.all("pool_plain"), fds.all("pool_urgent"), strict=True):
            self.pump.assign_pool(*pool, message.slot)
        if self.pump.ledger_fault:
            log.error(
                "worker %d answers, and writes no boot ledger: %s; it wants 1 GiB of address space (LimitAS=, "
                "ulimit -v)",
                message.slot,
                self.pump.ledger_fault,
            )
        self.page = WorkerPage(page)
        close_all([fd for fd in (page, site, fds.perhaps("ledger"), *memories) if fd >= 0])
        begin_writing()  # confined by now: so is the thread
        self.slot = message.slot
        if any(message.brake_ns):
            log.warning(
                "worker %d SLOWED DOWN for a bench: %d ns an answer, %d ns a refusal", self.slot, *message.brake_ns
            )

    def say_goodbye(self) -> None:
        """What this slot has counted: a successor of another build cannot read our page."""
        assert self.page is not None
        try:
            self.channel.send(Finished(counters=self.page.counters()))
        except (ChannelClosed, OSError) as gone:
            log.info("worker %d: its last counters are not told (%s)", self.slot, gone)

    def follow(self) -> None:
        """The helper thread, from the assignment on.  The supervisor's end of the channel is its life line: without it
        nobody replaces us."""
        self.serving.wait()
        try:
            while True:
                message, fds = self.channel.receive()
                if isinstance(message, Stop):
                    break
                self.handle(message, fds)
        except ChannelClosed as gone:
            log.error("worker %d: the supervisor is gone (%s); stopping", self.slot, gone)
        finally:
            self.pump.stop()

    def handle(self, message: object, fds: Fds) -> None:
        if not isinstance(message, Load):
            raise TypeError(f"worker {self.slot}: unexpected {message!r}")
        try:
            self.pump.load(fds.one("base"), fds.perhaps("delta"))
            if self.slot < 0:
                self.channel.send(Loaded(generation=message.generation))
        except (GenerationRejected, OSError) as error:
            self.channel.send(Rejected(generation=message.generation, reason=str(error), slot=self.slot))
        finally:
            close_all(fds)
