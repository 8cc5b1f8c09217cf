"""A worker process: says that it is ready, keeps the newest generation mapped, takes a slot, answers till the end.

The main thread runs the pump without the GIL.  The helper thread owns the channel: it takes the slot, maps and unmaps
generations, so that the loop never pays for it.
"""

from __future__ import annotations

import logging
import threading

from ext.mapping import GenerationRejected
from ext.page import WorkerPage
from ext.pump import Pump, confine

from fastpath.logs import begin_writing, leave
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

log = logging.getLogger("bootstorm.worker")


class Worker:
    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.pump = Pump()
        self.slot = -1
        self.page: WorkerPage | None = None
        self.assigned = threading.Event()  # or told to stop before

    def run(self) -> None:
        """Until Stop, or until the supervisor is gone."""
        self.channel.send(Ready())
        message, fds = self.first_message()
        # While this is a spare: a machine at its limit of processes must not keep it from taking a slot over.
        threading.Thread(target=self.follow, args=(message, fds), name="generations", daemon=True).start()
        self.assigned.wait()
        if self.slot >= 0:
            self.pump.run()
            self.say_goodbye()
        # The helper may sit in a system call for ever: nothing is left to save, so leave without joining it.
        leave()

    def first_message(self) -> tuple[object, Fds]:
        """After Confine: a thread that was started before would keep its system calls."""
        while True:
            message, fds = self.channel.receive()
            if not isinstance(message, Confine):
                return message, fds
            confine(message.program)

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
            observe=message.observe,
            brake_ns=message.brake_ns,
        )
        for pool in zip(memories, fds.all("pool_plain"), fds.all("pool_urgent"), strict=True):
            self.pump.assign_pool(*pool, message.slot)
        self.page = WorkerPage(page)
        close_all((page, site, *memories))
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

    def follow(self, message: object, fds: Fds) -> None:
        """The helper thread.  The supervisor's end of the channel is its life line: without it nobody replaces us."""
        try:
            while not isinstance(message, Stop):
                if isinstance(message, Assign):
                    self.take(message, fds)
                    self.assigned.set()
                else:
                    self.handle(message, fds)
                message, fds = self.channel.receive()
        except ChannelClosed as gone:
            log.error("worker %d: the supervisor is gone (%s); stopping", self.slot, gone)
        finally:
            self.pump.stop()
            self.assigned.set()

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
