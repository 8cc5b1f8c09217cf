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

from fastpath.privileges.confine import worker_program
from fastpath.process.turns import KINDS as TURNING
from fastpath.process.turns import Turns
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
    UnknownKind,
    close_all,
)
from fastpath.supervisor import briefing
from fastpath.supervisor import children as processes
from fastpath.supervisor.briefing import Named
from fastpath.supervisor.children import (
    KINDS,
    LAYOUTS,
    SIGNALS,
    TRIAL,
    Child,
    Deaths,
    KernelRefuses,
    is_starved,
    is_stopped,
    printable,
    received,
    spawn,
    table_layout,
)
from fastpath.supervisor.descriptors import Kept
from fastpath.supervisor.last_table import serve_last_table
from fastpath.supervisor.manager import Manager
from fastpath.supervisor.reload import PendingReload
from fastpath.supervisor.slot_watch import SlotWatch
from fastpath.supervisor.upgrade import write_state
from fastpath.supervisor.upgrading import Upgrades

log = logging.getLogger("bootstorm.supervisor")

TICK_S = 0.05
HUNG_S = 0.2  # a worker without heartbeat for this long: killed and replaced
STUCK_S = 3.0  # control, trap receiver, observer without a turn of their loops
LOADING_S = 30.0  # these before their first turn, and a spare before it is ready; STUCK_S if they are stopped
LATE_S = 1.0  # these: from here on their CPU time is counted, of which they may use as much as the limits say
WAKING_S = 0.5  # these, when the machine itself stood still
STOP_S = 2.0  # after Stop; then SIGKILL
TRIAL_S = 10.0
FIRST_TABLE_S = 5.0  # after a start: so long requests wait for the first table, which mostly comes from the disk
CONTROL_WAITS_S = 2.0  # after a start with a table: the processor is for the workers, who answer from it
COMPLAIN_S = 10.0  # between two lines about the same fault of our own


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
        self.slot_watch = SlotWatch(self.kept)
        self.confinement = worker_program()
        self.wake, self.wake_write = socket.socketpair()
        self.wake.setblocking(False)
        self.wake_write.setblocking(False)
        self.selector.register(self.wake, selectors.EVENT_READ, self.on_signals)
        self.last_tick_s = self.awake_s = time.monotonic()
        self.unreaped: set[int] = set()  # pids of children that were never watched, killed and not dead yet
        self.complained: dict[str, float] = {}
        self.reload = PendingReload()
        self.upgrades = Upgrades(self)
        self.manager = Manager(self)
        self.table_due_s = self.last_tick_s + FIRST_TABLE_S
        self.control_due_s = self.last_tick_s

    def begin(self) -> None:
        """The first start: while the spares load their libraries, the table that was served last is looked at."""
        now = time.monotonic()
        self.start_spares(now)
        if serve_last_table(self.settings, self.kept):
            self.control_due_s = now + CONTROL_WAITS_S

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
            self.upgrades.refused(f"the trial of the new code cannot be started: {fault}")
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
        workers_first = now < self.control_due_s and self.free_slots()
        if not workers_first and self.lacks("control", now) and (control := self.start("control")):
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
        was_use = self.is_use(child)
        self.unwatch(child.pidfd)
        self.unwatch(child.channel.fileno())
        child.close()
        if child in self.children:
            self.children.remove(child)
        if child.kind == "worker" and child.head is None:
            self.pages[child.slot].pid = 0
        if child.kind not in self.deaths:
            self.upgrades.on_trial_ended(child, how)
        elif not self.stopping and not child.stopping_s:
            self.upgrades.installed.note_death(child, was_use)
            self.deaths[child.kind].note(now - child.started_s, now)
            log.warning("%s %d (slot %d) ended by %s; replaced", child.kind, child.pid, child.slot, how)
            self.tell("control", Restarted(restarts=self.restarts()))

    def hear_last_words(self, child: Child) -> None:
        """What a dead process had sent still counts: a table that control published in its last breath is a table."""
        while self.on_message(child):
            pass

    def is_use(self, child: Child) -> bool:
        """It has got so far as to do its work, at least once."""
        if child.kind == "worker":
            return self.last_turn(child)[0] > child.since_s
        return child.ready if child.kind == "spare" else child.kind in TURNING and self.turns.last_s(child.kind) > 0

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
            elif not is_starved(child, 0.0 if child.kind == "worker" else limit_s) and late_s > limit_s:
                self.end_hung(child, late_s)

    def end_hung(self, child: Child, late_s: float) -> None:
        if child.kind != TRIAL:
            log.warning(
                "%s %d (slot %d): no turn of its loop for %.2f s: killed", child.kind, child.pid, child.slot, late_s
            )
            self.kill(child)
        elif not child.stopping_s:
            self.upgrades.refused(f"the trial of the new code took over {TRIAL_S:.0f} s")
            self.end(child)

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
            too_much = child.kind != "control" and child.talks_too_much(time.monotonic())
            if too_much or not self.upgrades.installed.excuses(child, unknown):
                self.refuse(child, unknown)
                return False
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
            child.hear_build(message.build, message.layouts)
            self.upgrades.installed.note_ready(child)
            self.send_load(child)
        elif isinstance(message, Loaded) and child.kind in ("spare", "worker"):
            child.loaded = message.generation
        elif isinstance(message, Publish) and child.kind == "control":
            self.on_publish(child, message, fds)
        elif isinstance(message, Accepted) and child.kind == "control":
            self.tell("traps", message, {"config": fds.one("config")})
            old, self.kept.config = self.kept.config, fds.keep("config")
            close_all([old])
            self.survive(self.manager.changed)
        elif isinstance(message, Rejected) and child.kind in ("spare", "worker"):
            reason = printable(message.reason)
            log.error("worker %d (slot %d): %s", child.pid, child.slot, reason)
            self.tell("control", Rejected(generation=message.generation, reason=reason, slot=child.slot))
        elif isinstance(message, Finished) and child.kind == "worker":
            if child.head is not None:
                self.pages[child.slot].carry(message.counters)
        elif isinstance(message, Tried) and child.kind == TRIAL:
            self.upgrades.on_tried(child, message)
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
        self.survive(self.manager.changed)
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
                self.reload.ask()
                self.manager.reload_begins()
                self.pass_reload()
            elif number == signal.SIGUSR2 and not self.stopping:
                self.upgrades.ask()

    def pass_reload(self) -> None:
        for child in self.children:
            lives = child.kind == "control" and not child.stopping_s
            if lives and self.reload.is_for(child, self.turns.last_s("control")):
                self.send(child, Reload())

    def state(self) -> bytes:
        told, wanted = self.manager.told(), self.reload.wanted
        return write_state(self.settings, self.kept, self.children, self.restarts(), self.pages, wanted, told)

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
        self.upgrades.look(now)
        for child in self.children:
            if child.behind:
                self.send_load(child)
        self.reap()
        self.pass_reload()
        self.slot_watch.look(now, self.children)
        self.manager.look(now)

    def stop_all(self) -> None:
        self.survive(self.manager.stop)
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
        self.survive(self.manager.last_words)
        try:
            os.unlink(self.settings.console_path)
        except OSError as error:  # its folder may belong to root, whom we are not any more
            log.info("%s stays behind: %s", self.settings.console_path, error.strerror)

    def await_deaths(self, deadline: float) -> None:
        while self.children and time.monotonic() < deadline:
            self.survive(self.wait_and_react)
            self.manager.offer(time.monotonic())
