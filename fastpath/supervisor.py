"""The supervisor, `bootstorm serve` itself: opens and keeps every socket, page, channel and the current generation;
starts, watches and replaces all others; reads nothing that comes from the network.

Any other process may die by SIGKILL at any moment: its successor gets the same fds.  An upgrade is a re-exec of this
process with all fds inherited (SIGUSR2), after which the others are replaced one by one.

Nobody replaces this one, so it ends by SIGTERM and SIGINT only.  Whatever a child says costs that child; whatever the
kernel refuses is tried again.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ext.page import WorkerPage

from fastpath import briefing, build
from fastpath import children as processes
from fastpath.briefing import Named
from fastpath.children import (
    KINDS,
    LAYOUTS,
    SIGNALS,
    TRIAL,
    Child,
    Deaths,
    differing,
    is_starved,
    is_stopped,
    spawn,
    table_layout,
)
from fastpath.confine import worker_program
from fastpath.kept import Kept
from fastpath.logs import flush_logs
from fastpath.protocol import (
    GENERATION_MAX,
    Accepted,
    ChannelClosed,
    Confine,
    Fds,
    Finished,
    Load,
    Loaded,
    Message,
    MessageRefused,
    Publish,
    Ready,
    Rejected,
    Reload,
    Restarted,
    Settings,
    Stop,
    Tried,
    Try,
    UnknownKind,
    close_all,
)
from fastpath.turns import KINDS as TURNING
from fastpath.turns import Turns
from fastpath.upgrade import become, trial_fds, write_state

log = logging.getLogger("bootstorm.supervisor")

TICK_S = 0.05
HUNG_S = 0.2  # a worker without heartbeat for this long: killed and replaced
STUCK_S = 3.0  # control, trap receiver, observer without a turn of their loops
LOADING_S = 30.0  # these before their first turn, and a spare before it is ready; STUCK_S if they are stopped
LATE_S = 1.0  # these: from here on their CPU time is counted, of which they may use as much as the limits say
WAKING_S = 0.5  # these, when the machine itself stood still
STOP_S = 2.0  # after Stop; then SIGKILL
TRIAL_S = 10.0
UPGRADE_PAUSES_S = (2.0, 5.0, 10.0, 30.0, 60.0)  # between trials that nobody asked for
FOREIGN_S = 10.0  # so long a spare that no slot can be given to may stay where other code is installed by now
FIRST_TABLE_S = 5.0  # after a start: so long requests wait for the first table, which mostly comes from the disk
UNFIT = 2  # so many of a kind in a row died before their first turn: one may have been killed by a person
RELOADS_MAX = 3  # controls that die of one SIGHUP, before it is given up
COMPLAIN_S = 10.0  # between two lines about the same fault of our own


class KernelRefuses(Exception):
    """For want of memory or the like; what is to be received stays where it is."""


def printable(text: str) -> str:
    """One line of the log at most, whatever a child has said."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:500])


def received(child: Child) -> tuple[Message, Fds]:
    """As Channel.receive()."""
    try:
        return child.channel.receive()
    except BlockingIOError:
        raise
    except OSError as error:
        raise KernelRefuses(str(error)) from error


@dataclass
class Supervisor:
    """commands: argv of each kind of process, to which the fd of its channel is appended."""

    settings: Settings
    kept: Kept
    children: list[Child] = field(default_factory=list)
    deaths: dict[str, Deaths] = field(default_factory=lambda: {kind: Deaths() for kind in KINDS})
    stopping: bool = False
    commands: dict[str, list[str]] = field(default_factory=processes.commands)

    def __post_init__(self) -> None:
        """Raises OSError."""
        self.selector = selectors.DefaultSelector()
        self.pages = [WorkerPage(fd) for fd in self.kept.pages]
        self.turns = Turns(self.kept.turns)
        self.confinement = worker_program()
        self.wake, self.wake_write = socket.socketpair()
        self.wake.setblocking(False)
        self.wake_write.setblocking(False)
        self.selector.register(self.wake, selectors.EVENT_READ, self.on_signals)
        self.last_tick_s = self.awake_s = time.monotonic()
        self.unreaped: set[int] = set()  # pids of children that were never watched, killed and not dead yet
        self.complained: dict[str, float] = {}
        self.reload_wanted = False  # until a control has obeyed SIGHUP, and lives on
        self.reload_told: Child | None = None  # who was told of it
        self.reload_read_s, self.reloads = 0.0, 0  # when that one had read it; how many were told
        self.unfit: dict[str, int] = {}  # kind -> how many in a row died before their first turn
        self.told_foreign = self.told_need = self.told_refusal = ""  # each is told once
        self.tries, self.next_try_s = 0, 0.0  # of upgrades that nobody asked for
        self.unasked = False  # the trial that runs
        self.table_due_s = self.last_tick_s + FIRST_TABLE_S

    # --- processes -----------------------------------------------------------------------------------------------

    def watch(self, child: Child) -> None:
        """Raises OSError, with nothing watched."""
        self.selector.register(child.pidfd, selectors.EVENT_READ, lambda: self.on_death(child))
        try:
            self.selector.register(child.channel.fileno(), selectors.EVENT_READ, lambda: self.on_message(child))
        except OSError:
            self.unwatch(child.pidfd)
            raise

    def unwatch(self, fd: int) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self.selector.unregister(fd)

    def start(self, kind: str) -> Child | None:
        """A new child, watched; None where the machine does not start one now: tried again, with pauses."""
        try:
            child = spawn(kind, self.commands[kind])
        except OSError as error:
            self.not_started(kind, error)
            return None
        try:
            self.watch(child)
        except OSError as error:
            self.give_up(child)
            self.not_started(kind, error)
            return None
        if kind in self.deaths and self.deaths[kind].fault:
            log.info("%s: started again", kind)
            self.deaths[kind].fault = ""
        if kind in TURNING:
            self.turns.forget(kind)
        self.children.append(child)
        return child

    def not_started(self, kind: str, error: OSError) -> None:
        """As a death at once; told once for each reason."""
        fault = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
        if kind == TRIAL:
            self.not_upgraded(f"the trial of the new code cannot be started: {fault}")
            return
        deaths = self.deaths[kind]
        now = time.monotonic()
        deaths.delay(0.0, now)
        if deaths.fault != fault:
            deaths.fault = fault
            log.error("%s cannot be started: %s; tried again until it can, at least once a second", kind, fault)

    def give_up(self, child: Child) -> None:
        """One that cannot be watched."""
        child.kill()
        self.unreaped.add(child.pid)
        child.close()

    def reap(self) -> None:
        for pid in list(self.unreaped):
            try:
                gone, _status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                gone = pid
            if gone:
                self.unreaped.discard(pid)

    def start_missing(self) -> None:
        """One control, one worker a slot, one spare, an observer and a trap receiver where they are wanted; and after
        an upgrade, one outdated process at a time goes."""
        now = time.monotonic()
        if self.lacks("control", now) and (control := self.start("control")):
            self.send(control, *briefing.for_control(self.settings, self.kept, self.restarts()))
        if self.kept.tap >= 0 and self.lacks("observer", now) and (observer := self.start("observer")):
            self.send(observer, *briefing.for_observer(self.settings, self.kept))
            self.send_load(observer)
        serving = self.kept.generation or now >= self.table_due_s
        # Traps wait in their socket: until the first table is there the processor is for those who bring it.
        if self.kept.traps and serving and self.lacks("traps", now) and (receiver := self.start("traps")):
            self.send(receiver, *briefing.for_receiver(self.settings, self.kept))
        for slot in self.free_slots():
            taker = self.taker()
            if taker is None:
                break
            self.assign(taker, slot)
        self.start_spares(now)
        self.roll_on()

    def start_spares(self, now: float) -> None:
        """All that are wanted at once; where they die young, one after the other."""
        spares = sum(child.kind == "spare" and not child.outdated for child in self.children)
        for _ in range(len(self.free_slots()) + 1 - spares):
            if now < max(self.deaths["worker"].next_s, self.deaths["spare"].next_s):
                return
            spare = self.start("spare")
            if spare is None:
                return
            if self.confinement:
                self.send(spare, Confine(program=self.confinement))
            if self.deaths["worker"].young or self.deaths["spare"].young:
                return

    def taker(self, fresh: bool = False) -> Child | None:
        """The spare that can serve a slot soonest; fresh: of this build, and with the present table mapped."""
        if not self.readable() if self.kept.generation else time.monotonic() < self.table_due_s:
            return None  # what waits for the slot is better off in its queue
        ready = [child for child in self.children if child.kind == "spare" and child.ready and not child.stopping_s]
        if fresh:
            ready = [child for child in ready if not child.outdated and child.loaded == self.kept.generation]
        ready = [child for child in ready if child.layouts == LAYOUTS]
        return max(ready, key=lambda child: (child.loaded, not child.outdated), default=None)

    def lacks(self, kind: str, now: float) -> bool:
        """There is none, and the next one may be started."""
        return not any(child.kind == kind for child in self.children) and now >= self.deaths[kind].next_s

    def free_slots(self) -> list[int]:
        taken = {child.slot for child in self.children if child.kind == "worker"}
        return [slot for slot in range(self.settings.workers) if slot not in taken]

    def roll_on(self) -> None:
        """The next step of an upgrade: one old process is asked to finish.

        Control first: where tables are laid out otherwise it has the one made that new workers read.  A worker only
        while its successor stands by with the table."""
        successor = self.taker(fresh=True)
        for child in self.children:
            if child.kind == "spare" and child.outdated and (successor or child.layouts != LAYOUTS):
                self.end(child)
        if any(child.stopping_s for child in self.children):
            return
        old = [child for child in self.children if child.outdated and child.kind != "spare"]
        for child in sorted(old, key=lambda child: child.kind == "worker"):
            # A free slot may be waiting for the table that only the next control makes: it holds up workers alone.
            if child.kind != "worker" or (successor and not self.free_slots()):
                self.ask_to_stop(child)
                return

    def assign(self, child: Child, slot: int) -> None:
        child.kind, child.slot, child.since_s = "worker", slot, time.monotonic()
        self.send(child, *briefing.for_worker(self.settings, self.kept, slot))

    def ask_to_stop(self, child: Child) -> None:
        child.stopping_s = time.monotonic()
        self.send(child, Stop())

    def end(self, child: Child) -> None:
        """One that holds nothing."""
        child.stopping_s = child.stopping_s or time.monotonic()
        self.kill(child)

    def send(self, child: Child, message: Message, fds: Named | None = None) -> None:
        """A child that is dead, does not read its channel or cannot be told is ended; on_death() does the rest."""
        try:
            child.channel.send(message, fds or {})
        except Exception as error:
            if isinstance(message, Load) and isinstance(error, OSError) and not isinstance(error, BlockingIOError):
                child.behind = True  # the kernel has no room just now: it serves what it has until it can be told
                self.complain("load", f"{child.kind} {child.pid} cannot be told of the new table yet: {error}")
                return
            log.warning("%s %d does not take %s (%s): killed", child.kind, child.pid, type(message).__name__, error)
            self.kill(child)

    def kill(self, child: Child) -> None:
        try:
            child.kill()
        except OSError as error:
            self.complain("kill", f"{child.kind} {child.pid} cannot be killed: {error}")

    def on_death(self, child: Child) -> None:
        try:
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            how = f"signal {-code}" if code < 0 else f"exit {code}"
        except ChildProcessError as error:
            how = f"something that we cannot see ({error.strerror})"
            self.unreaped.add(child.pid)
        now = time.monotonic()
        self.hear_last_words(child)
        self.unwatch(child.pidfd)
        self.unwatch(child.channel.fileno())
        child.close()
        if child in self.children:
            self.children.remove(child)
        if child.kind == "worker" and child.head is None:
            self.pages[child.slot].pid = 0
        if child.kind not in self.deaths:
            self.on_trial_ended(child, how)
        elif not self.stopping and not child.stopping_s:
            self.note_unfit(child)
            self.deaths[child.kind].note(now - child.started_s, now)
            log.warning("%s %d (slot %d) ended by %s; replaced", child.kind, child.pid, child.slot, how)
            self.tell("control", Restarted(restarts=self.restarts()))

    def hear_last_words(self, child: Child) -> None:
        """What a dead process had sent still counts: a table that control published in its last breath is a table."""
        while self.on_message(child):
            pass

    def restarts(self) -> dict[str, int]:
        return {kind: deaths.total for kind, deaths in self.deaths.items()}

    # --- who hangs -----------------------------------------------------------------------------------------------

    def check_turns(self, now: float) -> None:
        """A process that had the CPU and did not turn its loop is hung; one that had none is starved, and killing it
        would not help.  After a late tick of our own nobody is judged who had no time since: the machine itself stood
        still."""
        late = now - self.last_tick_s > 2 * TICK_S
        self.awake_s = now if late else self.awake_s
        self.last_tick_s = now
        for child in self.children:
            if child.stopping_s and now - child.stopping_s > STOP_S:
                log.warning("%s %d did not stop in %.0f s: killed", child.kind, child.pid, STOP_S)
                self.kill(child)
            last_s, limit_s = self.last_turn(child)
            late_s = now - last_s
            if limit_s == LOADING_S and late_s > STUCK_S and is_stopped(child):
                limit_s = STUCK_S
            if late_s <= min(limit_s - TICK_S, LATE_S) or limit_s == math.inf:  # a look before it counts
                child.ran_ns = -1
            elif late or (child.kind != "worker" and now - self.awake_s < WAKING_S):
                continue
            elif child.kind == TRIAL:
                if late_s > limit_s and not child.stopping_s:
                    self.not_upgraded(f"the trial of the new code took over {limit_s:.0f} s")
                    self.end(child)
            elif not is_starved(child, 0.0 if child.kind == "worker" else limit_s) and late_s > limit_s:
                log.warning(
                    "%s %d (slot %d): no turn of its loop for %.2f s: killed", child.kind, child.pid, child.slot, late_s
                )
                self.kill(child)

    def last_turn(self, child: Child) -> tuple[float, float]:
        """(CLOCK_MONOTONIC of the last turn of its loop, how long that may be ago), in seconds."""
        if child.kind == "worker":
            page = child.head or self.pages[child.slot]
            return max(page.heartbeat_ns / 1e9, child.since_s), HUNG_S
        if child.kind in TURNING:
            last_s = self.turns.last_s(child.kind)
            return (last_s, STUCK_S) if last_s else (child.started_s, LOADING_S)
        if child.kind == "spare" and not child.ready:
            return child.started_s, LOADING_S
        return child.started_s, TRIAL_S if child.kind == TRIAL else math.inf

    # --- messages ------------------------------------------------------------------------------------------------

    def send_load(self, child: Child) -> None:
        """The present table, to a child of a build that can read it."""
        kept = self.kept
        child.behind = False
        if kept.generation and child.layouts.get("table") == kept.table_layout:
            self.send(child, *briefing.of_table(kept))

    def readable(self) -> bool:
        """The present table is laid out as this build's workers read it."""
        return self.kept.table_layout == LAYOUTS["table"]

    def tell(self, kind: str, message: Message, fds: Named | None = None) -> None:
        for child in self.children:
            if child.kind == kind:
                self.send(child, message, fds)

    def on_message(self, child: Child) -> bool:
        """Take one message; False when there is none.  What it says may cost that child, and nobody else."""
        if child.deaf:
            return False
        fds = Fds()
        try:
            message, fds = received(child)
            if child.kind != "control" and child.talks_too_much(time.monotonic()):
                raise MessageRefused(f"more than {processes.MESSAGES_MAX} messages within a second")
            self.take(child, message, fds)
        except BlockingIOError:
            return False
        except ChannelClosed:
            self.stop_listening(child)
            if not child.stopping_s:  # it is dying, or nothing can be said to it any more; its death comes by the pidfd
                self.kill(child)
            return False
        except KernelRefuses as error:
            self.complain("receive", f"nothing can be taken from {child.kind} {child.pid} now: {error}")
            return False
        except UnknownKind as unknown:
            if not child.outdated:
                self.refuse(child, unknown)
                return False
            log.info("%s %d of another build: %s; ignored", child.kind, child.pid, unknown)
        except Exception as error:
            self.refuse(child, error)
            return False
        finally:
            close_all(fds)
        return True

    def stop_listening(self, child: Child) -> None:
        child.deaf = True
        self.unwatch(child.channel.fileno())

    def refuse(self, child: Child, error: Exception) -> None:
        log.error("%s %d says what it must not (%s: %s): killed", child.kind, child.pid, type(error).__name__, error)
        self.stop_listening(child)
        self.kill(child)

    def take(self, child: Child, message: Message, fds: Fds) -> None:
        """Raises whatever a message causes that is not as it has to be; fds that are kept are taken out of `fds`."""
        if isinstance(message, Ready) and child.kind == "spare":
            child.ready = True
            child.hear_build(printable(message.build), message.layouts)
            self.tell_foreign(child)
            self.send_load(child)
        elif isinstance(message, Loaded) and child.kind in ("spare", "worker"):
            child.loaded = message.generation
        elif isinstance(message, Publish) and child.kind == "control":
            self.on_publish(child, message, fds)
        elif isinstance(message, Accepted) and child.kind == "control":
            self.tell("traps", message, {"config": fds.one("config")})
            old, self.kept.config = self.kept.config, fds.keep("config")
            close_all([old])
        elif isinstance(message, Rejected) and child.kind in ("spare", "worker"):
            reason = printable(message.reason)
            log.error("worker %d (slot %d): %s", child.pid, child.slot, reason)
            self.tell("control", Rejected(generation=message.generation, reason=reason, slot=child.slot))
        elif isinstance(message, Finished) and child.kind == "worker":
            if child.head is not None:
                self.pages[child.slot].carry(message.counters)
        elif isinstance(message, Tried) and child.kind == TRIAL:
            self.on_tried(child, message)
        else:
            raise MessageRefused(f"an unexpected {type(message).__name__}")

    def on_publish(self, publisher: Child, message: Publish, fds: Fds) -> None:
        kept = self.kept
        if not 0 < message.base <= message.generation < GENERATION_MAX:
            raise MessageRefused(f"generation {message.generation} on base {message.base}")
        layout = table_layout(fds.one("base"))
        if fds.perhaps("delta") >= 0 and table_layout(fds.one("delta")) != layout:
            raise MessageRefused("base and delta of different layouts")
        old = list(kept.table_by_name().values())
        kept.delta = fds.keep("delta") if fds.perhaps("delta") >= 0 else -1
        kept.base = fds.keep("base")
        close_all(old)
        kept.generation, kept.base_generation, kept.table_layout = message.generation, message.base, layout
        publisher.layouts = publisher.layouts | {"table": layout}
        for child in list(self.children):
            listens = child.ready or child.kind == "observer"
            if child.kind not in ("control", TRIAL) and listens and not child.stopping_s:
                self.send_load(child)

    # --- signals and upgrades ------------------------------------------------------------------------------------

    def on_signals(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while numbers := self.wake.recv(64):
                self.obey(numbers)

    def obey(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if number in (signal.SIGTERM, signal.SIGINT):
                log.info("stopping")
                self.stopping = True
            elif number == signal.SIGHUP:
                self.reload_wanted, self.reload_told, self.reloads = True, None, 0
                self.pass_reload()
            elif number == signal.SIGUSR2 and not self.stopping:
                self.told_refusal, self.unasked = "", False
                self.begin_trial()

    def pass_reload(self) -> None:
        """SIGHUP, to one control after the other until one has turned its loop after it: any may be dying or stopping,
        and none says that it has refused a file."""
        control = next((child for child in self.children if child.kind == "control" and not child.stopping_s), None)
        if not self.reload_wanted or control is None:
            return
        if control is not self.reload_told and self.reloads == RELOADS_MAX:
            self.reload_wanted = False
            log.error("not reloaded: %d control processes ended over it; mend services.conf, then SIGHUP", RELOADS_MAX)
        elif control is not self.reload_told:
            self.reload_told, self.reload_read_s = control, 0.0
            self.reloads += 1
            self.send(control, Reload())
        elif not self.reload_read_s:
            self.reload_read_s = time.monotonic() if control.channel.is_read() else 0.0
        elif self.turns.last_s("control") > self.reload_read_s:
            self.reload_wanted, self.reload_told = False, None

    def state(self) -> bytes:
        return write_state(self.settings, self.kept, self.children, self.restarts(), self.pages, self.reload_wanted)

    def begin_trial(self) -> None:
        """Does the new code load, and can it go on from what we are?  A child finds out, on copies; we go on meanwhile.

        One that is still at it is ended: the code may have changed under it."""
        for child in self.children:
            if child.kind == TRIAL:
                self.end(child)
        trial = self.start(TRIAL)
        if trial is None:
            return
        try:
            with trial_fds(self.state(), self.kept) as fds:
                self.send(trial, Try(config_path=self.settings.config_path), fds)
        except OSError as error:
            self.not_upgraded(f"the trial of the new code cannot be told what to try: {error}")
            self.end(trial)

    def on_tried(self, trial: Child, message: Tried) -> None:
        if trial.stopping_s:
            return
        trial.stopping_s = time.monotonic()
        for note in message.notes[:50]:
            log.warning("upgrade: %s", printable(str(note)))
        if message.fault:
            self.not_upgraded(f"the new code does not fit this service ({printable(message.fault)})")
        elif not self.stopping and (not self.unasked or self.need_of_upgrade()):
            self.become_new()

    def on_trial_ended(self, trial: Child, how: str) -> None:
        if not trial.stopping_s and not self.stopping:
            self.not_upgraded(f"the trial of the new code ended by {how}; what it said stands above")

    def not_upgraded(self, why: str) -> None:
        """Told once for each reason where nobody asked for the upgrade."""
        if why != self.told_refusal:
            log.error("not upgraded: %s", why)
        self.told_refusal = why

    def become_new(self) -> None:
        """Returns where it cannot be; then everything goes on as before."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # what comes from now on waits for the new image
        try:
            self.on_signals()  # what came before it would go with us
            if self.stopping:
                return
            log.info("upgrading in place")
            heads = [child.head.fd for child in self.children if child.head is not None]
            channels = [child.channel.fileno() for child in self.children]
            flush_logs()
            become(self.state(), [*self.kept.fds(), *heads, *channels])
        except OSError as error:
            self.not_upgraded(f"the new code cannot be executed: {error}; restart instead")
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    # --- installed code that does not go with this image ---------------------------------------------------------

    def tell_foreign(self, spare: Child) -> None:
        """Once for each build that is installed."""
        if spare.outdated:
            return
        if not spare.is_foreign:
            self.told_foreign = ""
        elif self.told_foreign != (other := spare.build or "unknown build"):
            self.told_foreign = other
            names = differing(spare.layouts) or ["memory"]
            log.error(
                "the installed code (%s) has another layout of %s than this service (%s), which can start no worker "
                "any more: finish the upgrade with SIGUSR2 or put the old code back",
                other,
                ", ".join(names),
                build.BUILD_NAME,
            )

    def note_unfit(self, child: Child) -> None:
        """It may be of other code, which finds our memory laid out otherwise; it cannot say so any more."""
        if child.kind in TURNING:
            turned = self.turns.last_s(child.kind)
            self.unfit[child.kind] = 0 if turned else self.unfit.get(child.kind, 0) + 1

    def need_of_upgrade(self) -> str:
        """Why hosts stay silent, or without what is new, until the installed code takes over; "" where they do not."""
        foreign = [child for child in self.children if child.is_foreign and not child.stopping_s]
        spares = [child for child in self.children if child.kind == "spare" and child.ready and not child.stopping_s]
        others = build.installed_name() != build.BUILD_NAME
        if others and any(child.kind == "control" for child in foreign):
            return "control is of the installed code and makes tables that no worker of ours can read"
        if self.free_slots() and spares and all(child.is_foreign for child in spares):
            return "a worker is missing, and the installed code has none that this supervisor can use"
        unfit = sorted(kind for kind, deaths in self.unfit.items() if deaths >= UNFIT and not self.turns.last_s(kind))
        if others and unfit:
            return f"{', '.join(unfit)} of the installed code cannot start beside this supervisor"
        return ""

    def upgrade_unasked(self, now: float) -> None:
        """As by SIGUSR2, which is late: what is missing can be had from the installed code alone."""
        need = self.need_of_upgrade()
        if not need:
            self.told_need, self.tries, self.next_try_s = "", 0, 0.0
        elif now >= self.next_try_s and not any(child.kind == TRIAL for child in self.children):
            if need != self.told_need:
                log.error("%s: upgrading without having been asked to", need)
            self.told_need, self.unasked = need, True
            self.next_try_s = now + UPGRADE_PAUSES_S[min(self.tries, len(UPGRADE_PAUSES_S) - 1)]
            self.tries += 1
            self.begin_trial()

    def retire_foreign(self, now: float) -> None:
        """The old code may have been put back: then there are others to be had, with which we can go on."""
        installed = ""
        for child in self.children:
            if not child.is_foreign or child.stopping_s or now - child.started_s <= FOREIGN_S:
                continue
            installed = installed or build.installed_name()
            if child.kind == "spare" and child.build != installed:
                self.end(child)
            elif child.kind == "control" and installed == build.BUILD_NAME:
                self.ask_to_stop(child)

    # --- the loop ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        signal.set_wakeup_fd(self.wake_write.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        while not self.stopping:
            self.turn()
        self.stop_all()

    def turn(self) -> None:
        """One of the loop, which takes TICK_S where nothing happens."""
        for step in (self.start_missing, self.wait_and_react, self.look_after):
            self.survive(step)

    def survive(self, step: Callable[[], None]) -> None:
        """Whatever it is, the next turn may be better; and there has to be a next turn."""
        try:
            step()
        except Exception as fault:
            self.complain(f"{step.__name__}: {type(fault).__name__}", f"in {step.__name__}: {fault!r}", fault)
            time.sleep(TICK_S)  # the fault may be there at once again: not a loop without a pause

    def complain(self, kind: str, sentence: str, fault: Exception | None = None) -> None:
        now = time.monotonic()
        if now - self.complained.get(kind, -COMPLAIN_S) >= COMPLAIN_S:
            self.complained[kind] = now
            log.error("%s", sentence, exc_info=fault)

    def wait_and_react(self) -> None:
        try:
            ready = [key.fileobj for key, _events in self.selector.select(TICK_S)]
        except OSError as error:
            self.complain("select", f"cannot wait for events: {error}; everything is looked at instead")
            time.sleep(TICK_S)
            ready = [key.fileobj for key in self.selector.get_map().values()]
        for fileobj in ready:
            key = self.selector.get_map().get(fileobj)  # an earlier one may have ended it
            if key is not None:
                self.survive(key.data)

    def look_after(self) -> None:
        now = time.monotonic()
        self.check_turns(now)
        self.retire_foreign(now)
        self.upgrade_unasked(now)
        for child in self.children:
            if child.behind:
                self.send_load(child)
        self.reap()
        self.pass_reload()

    def stop_all(self) -> None:
        for child in self.children:
            if child.kind in ("spare", TRIAL):
                self.end(child)
            else:
                self.ask_to_stop(child)
        self.await_deaths(time.monotonic() + STOP_S)
        for child in self.children:
            log.warning("%s %d did not stop in %.0f s: killed", child.kind, child.pid, STOP_S)
            self.kill(child)
        self.await_deaths(time.monotonic() + STOP_S)
        try:
            os.unlink(self.settings.console_path)
        except OSError as error:  # its folder may belong to root, whom we are not any more
            log.info("%s stays behind: %s", self.settings.console_path, error.strerror)

    def await_deaths(self, deadline: float) -> None:
        while self.children and time.monotonic() < deadline:
            self.survive(self.wait_and_react)
