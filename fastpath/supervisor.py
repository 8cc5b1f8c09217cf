"""The supervisor, `bootstorm serve` itself: opens and keeps every socket, page, channel and the current generation;
starts, watches and replaces all others; reads nothing that comes from the network.

Any other process may die by SIGKILL at any moment: its successor gets the same fds.  An upgrade is a re-exec of this
process with all fds inherited (SIGUSR2), after which the others are replaced one by one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from ext.page import PAGE_LAYOUT as PAGE_VERSION
from ext.page import WorkerPage
from ext.table import TABLE_LAYOUT as TABLE_VERSION
from ext.xsk import POOL_LAYOUT as POOL_VERSION

from fastpath.confine import worker_program
from fastpath.kept import Kept, StartFailed, open_all
from fastpath.logs import begin_writing, flush_logs
from fastpath.protocol import (
    Accepted,
    Assign,
    Begin,
    Channel,
    ChannelClosed,
    Confine,
    Listen,
    Load,
    Message,
    Publish,
    Ready,
    Rejected,
    Reload,
    Restarted,
    Settings,
    Stop,
    Watch,
    close_all,
)
from fastpath.traps import TrapFds

log = logging.getLogger("bootstorm.supervisor")

TICK_S = 0.05
HUNG_S = 0.2  # no heartbeat for this long: killed and replaced
STOP_S = 2.0  # after Stop; then SIGKILL
BACKOFF_S = (0.0, 0.0, 0.0, 0.1, 0.2, 0.5, 1.0)  # before the next start of a kind that keeps dying young
YOUNG_S = 1.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)

INTERRUPT = (signal.SIGINT,)  # blocked in all children: Ctrl-C goes to all of a terminal's, and we end them in order

KINDS = ("worker", "spare", "control", "observer", "traps")  # of children
TRIAL_S = 10.0
LAYOUT = (
    f"page {PAGE_VERSION}, table {TABLE_VERSION}, pool {POOL_VERSION}"  # what a new image has to share with the old one
)


@dataclass(slots=True)
class Child:
    """A process of ours.  kind: one of KINDS; slot: -1 but for workers."""

    kind: str
    pid: int
    channel: Channel
    started_s: float
    slot: int = -1
    ready: bool = False
    outdated: bool = False  # started before the last upgrade
    stopping_s: float = 0.0  # when Stop was sent
    pidfd: int = -1
    ran_ns: int = -1  # CPU time at the last look, to tell hung from starved
    since_s: float = 0.0  # of the assignment: a new worker's heartbeat counts from here


def spawn(kind: str, command: list[str]) -> Child:
    """Start `python -m command... FD` with one end of a new channel as its only fd."""
    ours, theirs = Channel.pair()
    os.set_inheritable(theirs.fileno(), True)
    argv = [sys.executable, "-P", "-m", *command, str(theirs.fileno())]
    pid = os.posix_spawn(sys.executable, argv, os.environ, setsigmask=INTERRUPT, setsigdef=SIGNALS)
    theirs.close()
    ours.sock.setblocking(False)
    return Child(kind, pid, ours, time.monotonic(), pidfd=os.pidfd_open(pid))


def cpu_ns(pid: int) -> int:
    """CPU time of all threads so far; -1 when the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return -1
    return (int(fields[11]) + int(fields[12])) * 10_000_000


@dataclass(slots=True)
class Deaths:
    """How often a kind of process died young in a row, and when the next one may start."""

    young: int = 0
    next_s: float = 0.0
    total: int = 0

    def note(self, age_s: float, now_s: float) -> None:
        self.total += 1
        self.young = self.young + 1 if age_s < YOUNG_S else 0
        self.next_s = now_s + BACKOFF_S[min(self.young, len(BACKOFF_S) - 1)]


@dataclass
class Supervisor:
    settings: Settings
    kept: Kept
    children: list[Child] = field(default_factory=list)
    deaths: dict[str, Deaths] = field(default_factory=lambda: {kind: Deaths() for kind in KINDS})
    stopping: bool = False

    def __post_init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.pages = [WorkerPage(fd) for fd in self.kept.pages]
        self.confinement = worker_program()
        self.wake, wake_write = socket.socketpair()
        self.wake.setblocking(False)
        wake_write.setblocking(False)
        self.wake_write = wake_write
        self.selector.register(self.wake, selectors.EVENT_READ, self.on_signals)
        for child in self.children:
            self.watch(child)
        self.last_tick_s = time.monotonic()

    # --- processes -----------------------------------------------------------------------------------------------

    def watch(self, child: Child) -> None:
        self.selector.register(child.pidfd, selectors.EVENT_READ, lambda: self.on_death(child))
        self.selector.register(child.channel.fileno(), selectors.EVENT_READ, lambda: self.on_message(child))

    def forget(self, child: Child) -> None:
        self.selector.unregister(child.pidfd)
        if child.channel.fileno() in self.selector.get_map():
            self.selector.unregister(child.channel.fileno())
        child.channel.close()
        os.close(child.pidfd)
        self.children.remove(child)

    def start(self, kind: str, command: list[str]) -> Child:
        child = spawn(kind, command)
        self.children.append(child)
        self.watch(child)
        return child

    def start_missing(self) -> None:
        """One control, one worker a slot, one spare, an observer and a trap receiver where they are wanted; and after
        an upgrade, one outdated process at a time goes."""
        now = time.monotonic()
        if self.lacks("control", now):
            self.send_begin(self.start("control", ["control", "run"]))
        if self.kept.tap >= 0 and self.lacks("observer", now):
            self.send_watch(self.start("observer", ["control", "observer"]))
        if self.kept.traps and self.lacks("traps", now):
            self.send_listen(self.start("traps", ["control", "traps"]), self.kept.traps)
        spares = [child for child in self.children if child.kind == "spare"]
        for slot in self.free_slots():
            taker = next((child for child in spares if child.ready), None)
            if taker is None:
                break
            spares.remove(taker)
            self.assign(taker, slot)
        wanted = len(self.free_slots()) + 1
        if len(spares) < wanted and now >= max(self.deaths["worker"].next_s, self.deaths["spare"].next_s):
            spare = self.start("spare", ["fastpath", "worker"])
            if self.confinement:
                self.send(spare, Confine(program=self.confinement))
        self.roll_on()

    def lacks(self, kind: str, now: float) -> bool:
        """There is none, and the next one may be started."""
        return not any(child.kind == kind for child in self.children) and now >= self.deaths[kind].next_s

    def free_slots(self) -> list[int]:
        taken = {child.slot for child in self.children if child.kind == "worker"}
        return [slot for slot in range(self.settings.workers) if slot not in taken]

    def roll_on(self) -> None:
        """The next step of an upgrade: with a new spare standing by, one old process is asked to finish."""
        if any(child.stopping_s for child in self.children) or self.free_slots():
            return
        old = [child for child in self.children if child.outdated]
        fresh = any(child.kind == "spare" and child.ready and not child.outdated for child in self.children)
        for child in old:
            if child.kind != "worker" or fresh:
                self.ask_to_stop(child)
                return

    def assign(self, child: Child, slot: int) -> None:
        child.kind, child.slot, child.since_s = "worker", slot, time.monotonic()
        settings = self.settings
        assign = Assign(
            slot=slot,
            port=settings.port,
            boot_port=settings.boot_port if self.kept.slots[slot].boot >= 0 else 0,
            observe=settings.mode == "observe",
            brake_ns=settings.brake_ns,
            pools=len(self.kept.xdp.pools) if self.kept.xdp else 0,
        )
        self.send(child, assign, self.kept.slot_fds(slot))

    def ask_to_stop(self, child: Child) -> None:
        child.stopping_s = time.monotonic()
        self.send(child, Stop())

    def send(self, child: Child, message: Message, fds: list[int] | tuple[int, ...] = ()) -> None:
        """A child that is dead or does not read its channel is ended; on_death() does the rest."""
        try:
            child.channel.send(message, fds)
        except (ChannelClosed, BlockingIOError) as error:
            log.warning("%s %d does not take %s (%s): killed", child.kind, child.pid, type(message).__name__, error)
            self.kill(child)

    def kill(self, child: Child) -> None:
        with contextlib.suppress(ProcessLookupError):  # it was quicker
            signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)

    def on_death(self, child: Child) -> None:
        _pid, status = os.waitpid(child.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        now = time.monotonic()
        self.hear_last_words(child)
        self.forget(child)
        if child.kind == "worker":
            self.pages[child.slot].pid = 0
        if not self.stopping and not child.stopping_s:
            self.deaths[child.kind].note(now - child.started_s, now)
            how = f"signal {-code}" if code < 0 else f"exit {code}"
            log.warning("%s %d (slot %d) ended by %s; replaced", child.kind, child.pid, child.slot, how)
            self.tell("control", Restarted(restarts=self.restarts()))

    def hear_last_words(self, child: Child) -> None:
        """What a dead process had sent still counts: a table that control published in its last breath is a table."""
        while self.on_message(child):
            pass

    def restarts(self) -> dict[str, int]:
        return {kind: deaths.total for kind, deaths in self.deaths.items()}

    def check_heartbeats(self, now: float) -> None:
        """A worker that had the CPU and did not turn its loop is hung; one that had none is starved, and killing it
        would not help.  After a late tick of our own nothing is judged: then the machine itself stood still."""
        late = now - self.last_tick_s > 2 * TICK_S
        self.last_tick_s = now
        for child in self.children:
            if child.stopping_s and now - child.stopping_s > STOP_S:
                log.warning("%s %d did not stop in %.0f s: killed", child.kind, child.pid, STOP_S)
                self.kill(child)
            if child.kind != "worker" or late:
                continue
            beat_s = max(self.pages[child.slot].heartbeat_ns / 1e9, child.since_s)
            if now - beat_s <= HUNG_S:
                child.ran_ns = -1
                continue
            ran_ns, before_ns = cpu_ns(child.pid), child.ran_ns
            child.ran_ns = ran_ns
            starved = self.state_of(child.pid) == "R" and before_ns in (-1, ran_ns)
            if not starved and now - beat_s > HUNG_S + TICK_S:
                log.warning("worker %d (slot %d): no heartbeat for %.2f s: killed", child.pid, child.slot, now - beat_s)
                self.kill(child)

    @staticmethod
    def state_of(pid: int) -> str:
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                return file.read().rpartition(")")[2].split()[0]
        except OSError:
            return "X"

    # --- messages ------------------------------------------------------------------------------------------------

    def send_begin(self, control: Child) -> None:
        kept = self.kept
        fds = [kept.config, kept.console, kept.site_page, kept.adopted_bell, kept.event_bell]
        fds += [kept.known] if kept.known >= 0 else []
        fds += [kept.traps.queue, kept.traps.control] if kept.traps else []
        fds += [*kept.pages, *([kept.control_end] if kept.control_end >= 0 else []), *kept.table()]
        begin = Begin(
            settings=self.settings,
            generation=kept.generation,
            base=kept.base_generation,
            restarts=self.restarts(),
            traps=kept.traps is not None,
            traps_fault=kept.traps_fault,
            boot_fault=kept.boot_fault,
            known=kept.known >= 0,
            known_fault=kept.known_fault,
            io="xdp" if kept.xdp else "socket",
            io_reason=kept.io_reason,
        )
        self.send(control, begin, fds)

    def send_watch(self, observer: Child) -> None:
        kept = self.kept
        self.send(observer, Watch(interfaces=self.settings.interfaces), [kept.tap, kept.site_page, kept.observer_end])
        if kept.generation:
            self.send(observer, self.load_message(), kept.table())

    def send_listen(self, receiver: Child, traps: TrapFds) -> None:
        listen = Listen(config_path=self.settings.config_path, state_dir=self.settings.state_dir)
        self.send(receiver, listen, [self.kept.config, traps.udp, traps.queue, traps.receiver])

    def tell(self, kind: str, message: Message, fds: list[int] | tuple[int, ...] = ()) -> None:
        for child in self.children:
            if child.kind == kind:
                self.send(child, message, fds)

    def on_message(self, child: Child) -> bool:
        """Take one message; False when there is none."""
        try:
            message, fds = child.channel.receive()
        except BlockingIOError:
            return False
        except ChannelClosed:
            if child.channel.fileno() in self.selector.get_map():
                self.selector.unregister(child.channel.fileno())  # its death comes by the pidfd
            return False
        if isinstance(message, Ready):
            child.ready = True
            if self.kept.generation:
                self.send(child, self.load_message(), self.kept.table())
        elif isinstance(message, Publish) and child.kind == "control":
            self.on_publish(message, fds)
        elif isinstance(message, Accepted) and child.kind == "control":
            os.close(self.kept.config)
            (self.kept.config,) = fds
            self.tell("traps", message, fds)
        elif isinstance(message, Rejected):
            log.error("worker %d (slot %d): %s", child.pid, child.slot, message.reason)
            self.tell("control", message)
        else:
            log.error("%s %d sent an unexpected %s", child.kind, child.pid, type(message).__name__)
            close_all(fds)
        return True

    def load_message(self) -> Load:
        return Load(generation=self.kept.generation, base=self.kept.base_generation)

    def on_publish(self, message: Publish, fds: list[int]) -> None:
        close_all(self.kept.table())
        self.kept.base, self.kept.delta = fds[0], fds[1] if len(fds) > 1 else -1
        self.kept.generation, self.kept.base_generation = message.generation, message.base
        for child in self.children:
            listens = child.ready or child.kind == "observer"
            if child.kind != "control" and listens and not child.stopping_s:
                self.send(child, self.load_message(), self.kept.table())

    # --- signals -------------------------------------------------------------------------------------------------

    def on_signals(self) -> None:
        for number in self.wake.recv(64):
            if number in (signal.SIGTERM, signal.SIGINT):
                log.info("stopping")
                self.stopping = True
            elif number == signal.SIGHUP:
                self.tell("control", Reload())
            elif number == signal.SIGUSR2 and not self.stopping:
                self.upgrade()

    def upgrade(self) -> None:
        """Become the new code.  Unassigned spares and whoever is not ready hold nothing and are simply ended."""
        trial = [sys.executable, "-P", "-m", "fastpath", "try", str(LAYOUT)]
        tried = subprocess.run(trial, stdin=subprocess.DEVNULL, capture_output=True, timeout=TRIAL_S, check=False)
        if tried.returncode != 0:
            said = (tried.stderr or tried.stdout).decode(errors="replace").strip().rpartition("\n")[2]
            log.error("not upgraded: the new code does not fit this service (%s); restart instead", said)
            return
        log.info("upgrading in place")
        for child in list(self.children):
            if child.kind == "spare":
                self.kill(child)
                self.on_death_expected(child)
        signal.pthread_sigmask(
            signal.SIG_BLOCK, SIGNALS
        )  # the default action would end the new image before it listens
        heirs = [
            {"kind": c.kind, "pid": c.pid, "fd": c.channel.fileno(), "slot": c.slot, "ready": c.ready}
            for c in self.children
        ]
        state = {
            "settings": asdict(self.settings),
            "kept": asdict(self.kept),
            "children": heirs,
            "totals": self.restarts(),
        }
        fd = os.memfd_create("bootstorm-upgrade", 0)
        os.write(fd, json.dumps(state).encode())
        for kept_fd in (*self.kept.fds(), *(child.channel.fileno() for child in self.children)):
            os.set_inheritable(kept_fd, True)
        flush_logs()
        os.execv(sys.executable, [sys.executable, "-P", "-m", "fastpath", "supervise", str(fd)])

    def on_death_expected(self, child: Child) -> None:
        os.waitpid(child.pid, 0)
        self.forget(child)

    # --- the loop ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        signal.set_wakeup_fd(self.wake_write.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        while not self.stopping:
            self.start_missing()
            for key, _events in self.selector.select(TICK_S):
                if key.fileobj in self.selector.get_map() and not self.stopping:  # an earlier one may have ended it
                    key.data()
            self.check_heartbeats(time.monotonic())
        self.stop_all()

    def stop_all(self) -> None:
        for child in self.children:
            self.ask_to_stop(child)
        deadline = time.monotonic() + STOP_S
        while self.children and time.monotonic() < deadline:
            for key, _events in self.selector.select(TICK_S):
                if key.fileobj in [child.pidfd for child in self.children]:
                    key.data()
        for child in list(self.children):
            log.warning("%s %d did not stop in %.0f s: killed", child.kind, child.pid, STOP_S)
            self.kill(child)
            self.on_death_expected(child)
        try:
            os.unlink(self.settings.console_path)
        except OSError as error:  # its folder may belong to root, whom we are not any more
            log.info("%s stays behind: %s", self.settings.console_path, error.strerror)


def restore(state: dict[str, Any]) -> Supervisor:
    """After an upgrade's re-exec: the same fds, the same children, all of them outdated."""
    kept = Kept.restore(state["kept"])
    children = []
    for heir in state["children"]:
        channel = Channel.of_fd(heir["fd"])
        channel.sock.setblocking(False)
        now = time.monotonic()
        pidfd = os.pidfd_open(heir["pid"])
        child = Child(heir["kind"], heir["pid"], channel, now, heir["slot"], heir["ready"], True, 0.0, pidfd, -1, now)
        children.append(child)
    supervisor = Supervisor(Settings(**state["settings"]), kept, children)
    for fd in (*supervisor.kept.fds(), *(child.channel.fileno() for child in children)):
        os.set_inheritable(fd, False)
    for kind, total in state["totals"].items():
        supervisor.deaths[kind].total = total
    return supervisor


def main(state_fd: int) -> int:
    """state_fd: a memfd with JSON, {"settings": ...} at the first start, everything else too after an upgrade."""
    with os.fdopen(state_fd, "rb") as file:
        file.seek(0)
        state = json.load(file)
    try:
        if "kept" in state:
            supervisor = restore(state)
        else:
            settings = Settings(**state["settings"])
            supervisor = Supervisor(settings, open_all(settings, state["config_fd"]))
            os.set_inheritable(state["config_fd"], False)
    except StartFailed as failure:
        sys.stderr.write(f"bootstorm: {failure}\n")
        return 1
    begin_writing()  # not before privileges are gone: a thread would keep them
    doing = "observing, nothing is sent on" if supervisor.settings.mode == "observe" else "serving"
    if supervisor.kept.xdp:
        log.info("requests on %s come by XDP", ", ".join(supervisor.settings.interfaces))
    log.info("%s UDP port %d with %d workers", doing, supervisor.settings.port, supervisor.settings.workers)
    supervisor.run()
    return 0
