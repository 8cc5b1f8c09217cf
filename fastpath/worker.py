"""A worker process: says that it is ready, keeps the newest generation mapped, takes a slot, answers till the end.

The main thread runs the pump without the GIL.  The helper thread owns the channel: it maps and unmaps generations, so
that the loop never pays for it.
"""

from __future__ import annotations

import logging
import threading

from ext.mapping import GenerationRejected
from ext.pump import Pump, confine

from fastpath.logs import begin_writing, leave
from fastpath.protocol import Assign, Channel, ChannelClosed, Confine, Load, Ready, Rejected, Stop, close_all

log = logging.getLogger("bootstorm.worker")


class Worker:
    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.pump = Pump()
        self.slot = -1

    def run(self) -> None:
        """Until Stop, or until the supervisor is gone."""
        self.channel.send(Ready())
        if not self.wait_for_slot():
            return
        helper = threading.Thread(target=self.follow, name="generations", daemon=True)
        helper.start()
        self.pump.run()
        # The helper may sit in a system call for ever: nothing is left to save, so leave without joining it.
        leave()

    def wait_for_slot(self) -> bool:
        """As a spare: load what comes, so that taking over costs no mapping.  False: told to stop."""
        while True:
            message, fds = self.channel.receive()
            if isinstance(message, Assign):
                self.take(message, fds)
                return True
            if isinstance(message, Stop):
                return False
            if isinstance(message, Confine):
                confine(message.program)
                continue
            self.handle(message, fds)

    def take(self, message: Assign, fds: list[int]) -> None:
        udp, urgent, packet, page, site, adopted, bell, *more = fds
        boot, pools = (more[:1], more[1:]) if message.boot_port else ([], more)
        self.pump.assign(
            udp_fd=udp,
            urgent_fd=urgent,
            packet_fd=packet,
            page_fd=page,
            site_fd=site,
            adopted_fd=adopted,
            bell_fd=bell,
            port=message.port,
            boot_fd=boot[0] if boot else -1,
            boot_port=message.boot_port,
            observe=message.observe,
            brake_ns=message.brake_ns,
        )
        for at in range(0, 3 * message.pools, 3):
            self.pump.assign_pool(*pools[at : at + 3], message.slot)
        close_all((page, site, *pools[::3]))
        begin_writing()  # confined by now: so is the thread
        self.slot = message.slot
        if any(message.brake_ns):
            log.warning(
                "worker %d SLOWED DOWN for a bench: %d ns an answer, %d ns a refusal", self.slot, *message.brake_ns
            )

    def follow(self) -> None:
        """The helper thread.  The supervisor's end of the channel is its life line: without it nobody replaces us."""
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

    def handle(self, message: object, fds: list[int]) -> None:
        if not isinstance(message, Load):
            raise TypeError(f"worker {self.slot}: unexpected {message!r}")
        try:
            self.pump.load(*fds)
        except (GenerationRejected, OSError) as error:
            self.channel.send(Rejected(generation=message.generation, reason=str(error), slot=self.slot))
        finally:
            close_all(fds)
