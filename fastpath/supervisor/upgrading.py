"""The supervisor's side of an upgrade: the trial of the new code, what becomes of its word, and the exec."""

from __future__ import annotations

import logging
import signal
import time
import weakref
from typing import TYPE_CHECKING

from fastpath.process.logs import flush_logs
from fastpath.protocol import Tried, Try
from fastpath.supervisor.children import SIGNALS, TRIAL, Child, printable
from fastpath.supervisor.installed import Installed
from fastpath.supervisor.upgrade import CodeChanged, become, trial_fds

if TYPE_CHECKING:
    from fastpath.supervisor.supervisor import Supervisor

log = logging.getLogger("bootstorm.supervisor")

CHANGES_MAX = 3  # so many trials in a row whose code was written to before it could be executed; then it is refused


class Upgrades:
    """of: who is upgraded.  unasked: nobody has asked for the trial that runs.  changes: how often in a row the code
    was another one after the trial."""

    def __init__(self, of: Supervisor) -> None:
        self.of: Supervisor = weakref.proxy(of)  # a cycle would keep the descriptors of its maps until collected
        self.installed = Installed()
        self.unasked = False
        self.changes = 0
        self.told = ""  # why it was refused
        self.quiet = False  # the trial that refused it for that has printed what it had to

    def ask(self) -> None:
        """SIGUSR2 came: it is answered, whatever was told before."""
        self.told, self.quiet, self.unasked, self.changes = "", False, False, 0
        self.begin_trial()

    def begin_trial(self) -> None:
        """Does the new code load, and can it go on from what we are?  A child finds out, on copies; we go on meanwhile.

        One that is still at it is ended: the code may have changed under it."""
        for child in self.of.children:
            if child.kind == TRIAL:
                self.of.end(child)
        trial = self.of.start(TRIAL)
        if trial is None:
            return
        try:
            with trial_fds(self.of.state(), self.of.kept) as fds:
                self.of.send(trial, self.what_to_try(), fds)
        except OSError as error:
            self.refused(f"the trial of the new code cannot be told what to try: {error}")
            self.of.end(trial)

    def what_to_try(self) -> Try:
        return Try(config_path=self.of.settings.config_path, urgent=self.unasked, quiet=self.quiet)

    def need(self) -> str:
        return self.installed.need(self.of.children, self.of.turns, bool(self.of.free_slots()))

    def look(self, now: float) -> None:
        """At each turn: as by SIGUSR2, where that is late; and what does not go with us is exchanged."""
        for child in self.installed.replaceable(self.of.children, now):
            if child.kind == "spare":
                self.of.end(child)
            else:
                self.of.ask_to_stop(child)
        trying = any(child.kind == TRIAL for child in self.of.children)
        if not trying and self.installed.is_due(self.need(), now):
            self.unasked, self.changes = True, 0
            self.begin_trial()

    def on_tried(self, trial: Child, message: Tried) -> None:
        if trial.stopping_s:
            return
        trial.stopping_s = time.monotonic()
        for note in message.notes[:50]:
            log.warning("upgrade: %s", printable(str(note)))
        if message.fault:
            self.refused(f"the new code does not fit this service ({printable(message.fault)})")
        elif not self.of.stopping and (not self.unasked or self.need()):
            self.become_new(message)

    def on_trial_ended(self, trial: Child, how: str) -> None:
        if not trial.stopping_s and not self.of.stopping:
            self.refused(f"the trial of the new code ended by {how} without its word; what it printed stands above")

    def refused(self, why: str) -> None:
        """Told once for each reason where nobody asked for the upgrade; what its trial prints, too."""
        if why != self.told:
            log.error("not upgraded: %s", why)
        self.quiet = why == self.told or not self.quiet  # a reason that a quiet trial has found is to be printed yet
        self.told = why

    def try_again(self, change: CodeChanged) -> None:
        self.changes += 1
        if self.changes >= CHANGES_MAX:
            self.refused("the installed code changes while it is tried; once its installation is complete, try again")
            return
        log.warning("the installed code has changed since its trial (%s): tried again", printable(str(change)))
        self.begin_trial()

    def become_new(self, tried: Tried) -> None:
        """Returns where it cannot be; then everything goes on as before."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # what comes from now on waits for the new image
        try:
            self.of.on_signals()  # what came before it would go with us
            if self.of.stopping:
                return
            log.info("upgrading in place")
            heads = [child.head.fd for child in self.of.children if child.head is not None]
            channels = [child.channel.fileno() for child in self.of.children]
            flush_logs()
            become(self.of.state(), [*self.of.kept.fds(), *heads, *channels], tried)
        except CodeChanged as change:
            self.try_again(change)
        except OSError as error:
            self.refused(f"the new code cannot be executed: {error}; restart instead")
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
