"""The supervisor's word to the service manager, where NOTIFY_SOCKET names one: ready, reloading, stopping, its status,
its heartbeat; and what the manager is to keep (fdstore.py).

Nothing here waits, and nothing here is needed to serve: what the manager does not take is offered again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import time
import weakref
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastpath.process.notify import NotifySocket
from fastpath.protocol import close_all
from fastpath.supervisor.fdstore import Store

if TYPE_CHECKING:
    from fastpath.supervisor.supervisor import Supervisor

log = logging.getLogger("bootstorm.manager")

AGAIN_S = 0.05  # before the next try where the manager took nothing
COMPLAIN_S = 5.0  # for so long it has taken nothing; told once
STATUS_S = 1.0  # between two lines of status
PARTLY_S = 5.0  # some workers answer, the others do not come: ready all the same
BARRIER_S = 5.0  # for the manager to say that it has everything; then we are ready without
LAST_WORDS_S = 0.5  # at the end
WORDS_MAX = 16  # that wait; then no reload is told of


class Manager:
    """of: whose word it is.  sock: None where there is no manager; then nothing happens at all."""

    def __init__(self, of: Supervisor) -> None:
        self.of: Supervisor = weakref.proxy(of)  # a cycle would keep the descriptors of its maps until collected
        self.sock = NotifySocket.of(os.environ)
        self.store = Store()
        self.words: deque[str] = deque()
        self.is_ready = self.is_reloading = self.told_refusal = False
        self.status = self.told_status = ""
        self.status_s = 0.0
        self.partly_s = self.refused_since_s = self.next_s = 0.0
        self.barrier, self.barrier_s = -1, 0.0

    # --- what happens --------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """What is kept is another one now.  At once, and before a worker has it: so that what a killed supervisor is
        started again with is never older than what was answered from."""
        if self.sock is not None and not self.of.stopping:
            self.store.is_due = True
            self.offer(time.monotonic())

    def reload_begins(self) -> None:
        """SIGHUP came."""
        if self.is_ready and not self.is_reloading and len(self.words) < WORDS_MAX:
            self.is_reloading = True
            self.words.append(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def look(self, now_s: float) -> None:
        """At every turn of the loop."""
        if self.sock is None:
            return
        self.sock.beat(now_s)
        answering = self.answering()
        if not self.is_ready and self.may_be_ready(now_s, answering):
            self.is_ready = True
            self.words.append("READY=1")
        if self.is_reloading and not self.of.reload.wanted:
            self.is_reloading = False
            self.words.append("READY=1")
        if now_s - self.status_s >= STATUS_S:
            self.status, self.status_s = self.in_a_line(answering), now_s
        self.offer(now_s)
        if self.is_ready and self.store.tries:
            self.store.proven()

    def stop(self) -> None:
        """The stop begins.  Who starts anew after a clean stop begins with nothing of ours: dhcp.workers may be others
        by then."""
        if self.sock is None:
            return
        self.words.clear()
        self.words.append("STOPPING=1\nSTATUS=stopping")
        self.told_status = self.status
        self.store.give_up()
        self.store.is_due = False
        self.offer(time.monotonic())

    def last_words(self) -> None:
        """What is left to say, for a moment; then the process ends."""
        deadline = time.monotonic() + LAST_WORDS_S
        while self.sock is not None and (self.words or self.store.obsolete) and time.monotonic() < deadline:
            self.offer(self.next_s)
            if self.words or self.store.obsolete:
                time.sleep(AGAIN_S)  # a full queue of another process: nothing tells when there is room

    # --- over an upgrade -----------------------------------------------------------------------------------------

    def told(self) -> dict[str, Any]:
        return self.store.told() | {"ready": self.is_ready}

    def restore(self, told: Mapping[str, Any]) -> None:
        """From told() of the image before; whatever it is, we go on."""
        if not told:
            return
        try:
            self.store.restore(told)
            self.is_reloading = bool(told["ready"]) and self.of.reload.wanted
        except (LookupError, TypeError, ValueError) as fault:
            log.warning("what the service manager keeps of the build before is not known (%r): it is left there", fault)

    # --- to the manager ------------------------------------------------------------------------------------------

    def offer(self, now_s: float) -> None:
        """Everything that the manager has to know, as far as it takes it now."""
        if self.sock is None or now_s < self.next_s:
            return
        try:
            while self.words:
                self.sock.send(self.words[0])
                self.words.popleft()
            if self.store.is_due:
                self.store.sync(self.of.settings, self.of.kept, self.sock.send)
            self.store.forget(self.sock.send)
            if self.status != self.told_status:
                self.sock.send(f"STATUS={self.status}")
                self.told_status = self.status
        except OSError as error:
            self.next_s = now_s + AGAIN_S
            self.refused_since_s = self.refused_since_s or now_s
            if now_s - self.refused_since_s >= COMPLAIN_S and not self.told_refusal:
                self.told_refusal = True
                log.error("the service manager takes nothing (NOTIFY_SOCKET: %s); tried again until it does", error)
            return
        if self.told_refusal:
            log.info("the service manager takes what it is told again")
        self.refused_since_s, self.told_refusal = 0.0, False

    def may_be_ready(self, now_s: float, answering: int) -> bool:
        """The workers answer, and the manager has what it is to keep."""
        if not answering:
            self.partly_s = 0.0
            return False
        self.partly_s = self.partly_s or now_s
        if answering < self.of.settings.workers and now_s - self.partly_s < PARTLY_S:
            return False
        return self.has_everything(now_s)

    def has_everything(self, now_s: float) -> bool:
        """By its own word, or because it gives none."""
        assert self.sock is not None
        if not self.barrier_s:
            self.barrier_s = now_s
        if self.barrier < 0 and not self.store.is_due and not self.store.obsolete:
            with contextlib.suppress(OSError):
                self.barrier = self.sock.barrier()
        done = self.barrier >= 0 and hung_up(self.barrier)
        if not done and now_s - self.barrier_s < BARRIER_S:
            return False
        if not done:
            log.warning("the service manager does not say that it has what it was given; ready without its word")
        self.end_barrier()
        return True

    def end_barrier(self) -> None:
        if self.barrier >= 0:
            close_all([self.barrier])
        self.barrier = -1

    # --- what is seen --------------------------------------------------------------------------------------------

    def answering(self) -> int:
        """Workers that answer from a table, by what they show of themselves."""
        of, count = self.of, 0
        for child in of.children:
            if child.kind == "worker":
                head = child.head  # of another layout: it answers as it did before the upgrade
                turned = (head or of.pages[child.slot]).heartbeat_ns / 1e9 > child.since_s
                count += turned and (head is not None or of.pages[child.slot].generation > 0)
        return count

    def in_a_line(self, answering: int) -> str:
        """As `systemctl status` shows it."""
        settings, kept = self.of.settings, self.of.kept
        doing = "observing" if settings.mode == "observe" else "serving"
        words = f"{answering} of {settings.workers} workers answer"
        if not kept.generation:
            return f"starting: {words}, there is no table yet (bootstorm ctl status says why)"
        by = ", by XDP" if kept.xdp else ""
        return f"{doing} UDP port {settings.port}{by}: {words}, generation {kept.generation}"

    def close(self) -> None:
        self.end_barrier()
        self.store.close()
        if self.sock is not None:
            self.sock.close()


def hung_up(barrier: int, wait_s: float = 0.0) -> bool:
    """The manager has closed its end of NotifySocket.barrier().  Raises OSError."""
    poll = select.poll()
    poll.register(barrier, 0)
    return bool(poll.poll(wait_s * 1000))
