"""What can happen to a service, one table for `make test-faults` and the soak: how to do it, how to undo it, what it
may cost.

A fault's limit is the longest wait of a request that was sent meanwhile.  CALM: not longer than when nothing happens.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bench.faults import tracing
from bench.faults.builds import ROOT, CannotChange, other_build
from bench.faults.trouble import LOOK_S, NotRecovered, await_that
from bench.faults.watched import ADOPT_S, Change, Watched

CALM = 0.0
WORKER_S, UPGRADE_S, LAYOUT_S, SUPERVISOR_S = 0.3, 0.3, 0.5, 1.5
BACK_S = 15.0  # in which every process is there again
BATCH_S = 2.0  # in which a worker has something to do
STOPPED_S = 6.0  # in which a stopped process is noticed: 3 s are the limit of a turn
TURN_S = 0.5  # of watching before and after
DAY_S = 86400.0
OTHER = "all"  # layouts are others in the build that is upgraded to
SHORT_LISTS = ("half", "empty")  # asked of one machine, such an inventory says that it is gone, and that is its word
Act = Callable[[Watched], None]


def nothing(_watched: Watched) -> None: ...


@dataclass(frozen=True, slots=True)
class Fault:
    """inflict: returns when the damage is done; heal: undoes it, once `held_s` are over; both raise NotRecovered when
    the service does not do what it should.  limit_s: CALM or the longest wait.  short: part of `make test`."""

    name: str
    inflict: Act
    heal: Act = nothing
    limit_s: float = CALM
    held_s: float = 0.0
    short: bool = False
    needs: Callable[[Watched], str] = field(default=lambda _watched: "")  # why it cannot be done here

    def run(self, watched: Watched) -> None:
        """All of it, until the service is whole again.  NotRecovered."""
        try:
            self.inflict(watched)
            time.sleep(self.held_s)  # that is the fault: it lasts
        finally:
            self.heal(watched)
        recovered(watched)


def recovered(watched: Watched) -> None:
    """All processes are there and serve, and a change that waited is adopted.  NotRecovered."""
    site = watched.site
    await_that(partial(site.whole, watched.workers), bool, f"{watched.workers} workers, a spare and control", BACK_S)
    try:
        watched.catch_up()
    except (OSError, RuntimeError) as error:
        raise NotRecovered(f"a refresh afterwards: {error}; status: {brief(site.status())}") from error


def brief(status: dict[str, Any]) -> str:
    names = ("generation", "hosts", "inventory", "inventory_reason", "restarts", "doubts")
    return str({name: status[name] for name in names if name in status})


# --- processes -----------------------------------------------------------------------------------------------------


def one_of(watched: Watched, kind: str) -> int:
    """pid of a process of this kind; `spare` is the worker without a slot."""
    look = watched.site.spares if kind == "spare" else watched.site.serving
    if kind not in ("spare", "worker"):
        return int(await_that(watched.site.by_kind, lambda found: found.get(kind), f"a {kind}", BACK_S)[kind][0])
    return int(watched.dice.choice(await_that(look, bool, f"a {kind}", BACK_S)))


def kill(kind: str, watched: Watched) -> None:
    pid = one_of(watched, kind)
    watched.say(f"SIGKILL to {kind} {pid}")
    os.kill(pid, signal.SIGKILL)
    await_gone(pid, kind, BACK_S)


def await_gone(pid: int, kind: str, limit_s: float) -> None:
    def there() -> bool:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
        return False

    await_that(there, lambda alive: not alive, f"{kind} {pid} is gone", limit_s)


def stop(kind: str, watched: Watched) -> None:
    """SIGSTOP: it is noticed, ended and replaced.  SIGCONT in the end, so that it does no more harm."""
    pid = one_of(watched, kind)
    watched.say(f"SIGSTOP to {kind} {pid}")
    os.kill(pid, signal.SIGSTOP)
    try:
        await_gone(pid, f"the stopped {kind}", STOPPED_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def kill_amid_a_batch(watched: Watched) -> None:
    """A worker that has received requests and not looked at them: they are in no socket any more."""
    pid = one_of(watched, "worker")
    watched.say(f"SIGKILL to worker {pid}, behind recvmmsg")
    if not tracing.kill_with_datagrams(pid, BATCH_S):
        raise NotRecovered(f"worker {pid} received nothing within {BATCH_S:g} s")
    await_gone(pid, "worker", BACK_S)


def pause(kind: str, watched: Watched) -> None:
    """SIGSTOP of a process that has nothing to do: nobody can notice, and nobody needs to."""
    pid = one_of(watched, kind)
    watched.say(f"SIGSTOP to {kind} {pid}, then SIGCONT")
    os.kill(pid, signal.SIGSTOP)
    time.sleep(1.0)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def during_refresh(act: Act, watched: Watched) -> None:
    """Something happens to the planner while it reads; the refresh fails or not, a later one works."""
    watched.site.order(mode="hang")
    try:
        with contextlib.suppress(OSError, RuntimeError):
            watched.site.ask("refresh", answer_s=0.2, wait=False)
        act(watched)
    finally:
        watched.site.order(mode="good")
    retry_refresh(watched)


def retry_refresh(watched: Watched, limit_s: float = BACK_S) -> None:
    """A refresh works within the limit.  NotRecovered with the last word of the service."""
    deadline, said = time.monotonic() + limit_s, ""
    while time.monotonic() < deadline:
        try:
            watched.site.ask("refresh", answer_s=ADOPT_S, wait=True, force=True)
            return
        except (OSError, RuntimeError) as error:
            said = str(error)
            time.sleep(0.1)
    raise NotRecovered(f"no refresh within {limit_s:g} s; the last one: {said}")


def restart_supervisor(watched: Watched) -> None:
    """SIGKILL to the one process that nothing replaces but the system's service manager, which starts it at once; what
    was changed before is on disk."""
    site = watched.site
    change = watched.swap(False)
    with contextlib.suppress(OSError, RuntimeError):  # the inventory may be down
        watched.adopt(change)
    pid = one_of(watched, "supervisor")
    watched.say(f"SIGKILL to supervisor {pid}")
    watched.ledger.open_deaf(time.monotonic_ns() - int(0.02e9))  # what waits in its sockets dies with them
    try:
        os.kill(pid, signal.SIGKILL)
        await_gone(pid, "supervisor", BACK_S)
        deadline = time.monotonic() + BACK_S
        site.serve()
        while not (site.serves() and site.holds_port()):
            assert site.server is not None
            if not site.server.running():
                site.serve()  # its orphans hold the lock still: Restart=always
            if time.monotonic() > deadline:
                raise NotRecovered(f"nobody holds port 67 {BACK_S:g} s after the supervisor's death")
            time.sleep(LOOK_S / 5)
    finally:
        watched.ledger.close_deaf(time.monotonic_ns())
    site.await_answering(watched.hosts, BACK_S)
    site.enclose()


def upgrade(watched: Watched) -> None:
    """SIGUSR2: in the end every process is another, but the supervisor's pid."""
    site = watched.site
    before = site.by_kind()
    old = {pid for kind, pids in before.items() if kind not in ("supervisor", "registrar") for pid in pids}
    mark, counted = len(site.pipe.log()), site.counters()
    watched.say("SIGUSR2 to the supervisor")
    os.kill(before["supervisor"][0], signal.SIGUSR2)

    def left() -> set[int]:
        if "not upgraded" in (said := site.pipe.log()[mark:]):
            raise NotRecovered(said[said.index("not upgraded") :].splitlines()[0])
        return old & {pid for pids in site.by_kind().values() for pid in pids}

    await_that(left, lambda found: not found, "every process was replaced", BACK_S)
    if site.by_kind().get("supervisor") != before["supervisor"]:
        raise NotRecovered(f"the supervisor was {before['supervisor']}, is {site.by_kind().get('supervisor')}")
    now = await_that(site.counters, bool, "counters", BACK_S)
    if lost := {name: (count, now.get(name)) for name, count in counted.items() if now.get(name, 0) < count}:
        raise NotRecovered(f"counters went back: {lost}")


def upgrade_to_other(watched: Watched) -> None:
    """To a build with other layouts of table, pages and messages; heal goes back."""
    watched.site.installed.switch(other_build(OTHER))
    upgrade(watched)


def upgrade_back(watched: Watched) -> None:
    watched.site.installed.switch(ROOT)
    recovered(watched)
    upgrade(watched)


# --- what processes need -------------------------------------------------------------------------------------------


def full_pipe(watched: Watched) -> None:
    """Nobody reads standard error, and there is something to say: a spare dies and is replaced."""
    watched.say("standard error is full")
    watched.site.pipe.fill()
    kill("spare", watched)
    with contextlib.suppress(OSError, RuntimeError):
        watched.site.ask("refresh", answer_s=2.0, wait=False, force=True)
    recovered(watched)


def drain(watched: Watched) -> None:
    watched.site.pipe.drain()


def full_pids(watched: Watched) -> None:
    """No process can be started; a spare dies meanwhile."""
    freeze(watched)
    os.kill(one_of(watched, "spare"), signal.SIGKILL)


def thaw_pids(watched: Watched) -> None:
    watched.site.pids_limit.thaw()


def both(first: Act, second: Act, watched: Watched) -> None:
    """Something happens while another thing is as it should not be."""
    first(watched)
    second(watched)


def freeze(watched: Watched) -> None:
    watched.say("no more processes")
    watched.site.pids_limit.freeze()


def upgrade_without_processes(watched: Watched) -> None:
    """SIGUSR2 while no process can be started: upgraded later or not, the service goes on."""
    freeze(watched)
    os.kill(one_of(watched, "supervisor"), signal.SIGUSR2)


def code_away(watched: Watched) -> None:
    """The environment is being replaced: there is no code to start; a spare dies meanwhile."""
    watched.say("the code is away")
    watched.site.installed.link.rename(watched.site.installed.link.with_suffix(".away"))
    os.kill(one_of(watched, "spare"), signal.SIGKILL)


def code_back(watched: Watched) -> None:
    watched.site.installed.link.with_suffix(".away").rename(watched.site.installed.link)


def full_disk(watched: Watched) -> None:
    watched.say("state_dir is full")
    watched.site.fill_disk()
    change = watched.swap(False)
    with contextlib.suppress(OSError, RuntimeError):
        watched.adopt(change)


def empty_disk(watched: Watched) -> None:
    watched.site.empty_disk()


def jump(seconds: float, watched: Watched) -> None:
    watched.say(f"the wall clock jumps to {seconds:+g} s")
    watched.site.skew.set(seconds)
    watched.adopt(watched.swap(False))


def clock_back(watched: Watched) -> None:
    watched.site.skew.set(0.0)


# --- interfaces ----------------------------------------------------------------------------------------------------


def addresses(watched: Watched) -> None:
    """Addresses come and go on the interface that is served; what was changed before stays changed."""
    watched.adopt(watched.swap(False))
    watched.say("addresses come and go")
    for i in range(8):
        watched.site.host.ip(f"address add 10.111.0.{i + 1}/32 dev sv")
    for i in range(8):
        watched.site.host.ip(f"address del 10.111.0.{i + 1}/32 dev sv")


def new_interface(watched: Watched) -> None:
    """An interface comes, gets an address, goes down and up."""
    watched.say("an interface comes")
    watched.site.host.ip(
        "link add x0 type veth peer name x1",
        "address add 10.111.1.1/24 dev x0",
        "link set x0 up",
        "link set x1 up",
        "link set x0 down",
        "link set x0 up",
    )


def gone_interface(watched: Watched) -> None:
    watched.site.host.ip("link del x0")


# --- the inventory and what it says --------------------------------------------------------------------------------


def bad_inventory(mode: str, watched: Watched) -> None:
    """A refresh while the inventory fails so; whatever it says, the service goes on with what it knows."""
    watched.say(f"the inventory: {mode}")
    watched.site.order(mode=mode)
    with contextlib.suppress(OSError, RuntimeError):
        watched.site.ask("refresh", answer_s=2.0, wait=True)
    if mode not in SHORT_LISTS:
        with contextlib.suppress(OSError, RuntimeError):
            watched.site.ask("refresh", answer_s=2.0, wait=True, mac=watched.mac(watched.card_of[0]))


def good_inventory(watched: Watched) -> None:
    watched.site.order(mode="good")
    retry_refresh(watched, 60.0)


def edit(make: Callable[[Watched], Change], watched: Watched) -> None:
    """Addresses move; from the moment that the service says so, only the new answers are right."""
    watched.adopt(make(watched))
    watched.rounds(3)


def contest(lookup: bool, watched: Watched) -> None:
    """An address that two machines have is nobody's, and then each has its own again."""
    contested = watched.contest()
    watched.adopt(contested)
    watched.rounds(3)
    watched.adopt(watched.settle(contested, lookup))
    watched.rounds(3)


def rollback(watched: Watched) -> None:
    watched.back_and_forth()
    watched.rounds(3)


def amid_refresh(watched: Watched) -> None:
    """A refresh has read everything, then a machine is changed and looked up: the younger word stays."""
    site = watched.site
    site.ask("refresh", answer_s=ADOPT_S, wait=True)  # a planner of just now: a look-up waits for its first read
    site.order(mode="hold")
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(site.ask, "refresh", answer_s=ADOPT_S, wait=True)
        try:
            held(watched)
            watched.adopt(watched.swap(True))
        finally:
            site.order(mode="good")
        watched.say(f"the refresh that was held: {slow.result()}")
    watched.rounds(3)


def held(watched: Watched) -> None:
    """Until the meddler holds an answer back."""
    await_that(lambda: watched.site.order(held=True)["held"], bool, "a large answer of the inventory is held", BACK_S)


def tracing_needed(_watched: Watched) -> str:
    return tracing.available()


def registrar_needed(watched: Watched) -> str:
    return "" if "registrar" in watched.site.by_kind() else "no registrar runs"


def cgroup_needed(watched: Watched) -> str:
    return watched.site.pids_limit.reason


def other_build_needed(_watched: Watched) -> str:
    """It is compiled here, before anything is measured."""
    try:
        other_build(OTHER)
    except (CannotChange, OSError) as error:
        return str(error)
    return ""


FAULTS: tuple[Fault, ...] = (
    Fault("worker killed", partial(kill, "worker"), limit_s=WORKER_S, short=True),
    Fault("worker killed amid a batch", kill_amid_a_batch, limit_s=WORKER_S, needs=tracing_needed),
    Fault("worker stopped", partial(stop, "worker"), limit_s=WORKER_S),
    Fault("spare killed", partial(kill, "spare")),
    Fault("spare stopped", partial(pause, "spare")),
    Fault("control killed", partial(kill, "control")),
    Fault("control stopped", partial(stop, "control")),
    Fault("planner killed", partial(during_refresh, partial(kill, "planner")), short=True),
    Fault("planner stopped", partial(during_refresh, partial(pause, "planner"))),
    Fault("receiver killed", partial(kill, "receiver")),
    Fault("receiver stopped", partial(stop, "receiver")),
    Fault("registrar killed", partial(kill, "registrar"), needs=registrar_needed),
    Fault("supervisor killed", restart_supervisor, limit_s=SUPERVISOR_S, short=True),
    Fault("upgrade, same build", upgrade, limit_s=UPGRADE_S),
    Fault(
        "upgrade, other layout", upgrade_to_other, upgrade_back, limit_s=LAYOUT_S, held_s=0.5, needs=other_build_needed
    ),
    Fault("stderr full", full_pipe, drain, short=True),
    Fault("pids limit", full_pids, thaw_pids, held_s=2.0, short=True, needs=cgroup_needed),
    Fault(
        "pids limit, worker killed",
        partial(both, freeze, partial(kill, "worker")),
        thaw_pids,
        limit_s=WORKER_S,
        held_s=1.0,
        needs=cgroup_needed,
    ),
    Fault("pids limit, upgrade", upgrade_without_processes, thaw_pids, UPGRADE_S, held_s=1.0, needs=cgroup_needed),
    Fault("stderr full, worker killed", partial(both, full_pipe, partial(kill, "worker")), drain, WORKER_S),
    Fault("stderr full, upgrade", partial(both, full_pipe, upgrade), drain, UPGRADE_S),
    Fault("code away", code_away, code_back, held_s=1.0),
    Fault("disk full, control killed", partial(both, full_disk, partial(kill, "control")), empty_disk),
    Fault(
        "inventory down, supervisor killed",
        partial(both, partial(bad_inventory, "down"), restart_supervisor),
        good_inventory,
        SUPERVISOR_S,
    ),
    Fault(
        "inventory down, control killed",
        partial(both, partial(bad_inventory, "down"), partial(kill, "control")),
        good_inventory,
    ),
    Fault("disk full", full_disk, empty_disk, short=True),
    Fault("clock forward", partial(jump, 400 * DAY_S), clock_back, held_s=0.5),
    Fault("clock back", partial(jump, -400 * DAY_S), clock_back, held_s=0.5, short=True),
    Fault("addresses come and go", addresses, held_s=0.5, short=True),
    Fault("interface comes and goes", new_interface, gone_interface, held_s=0.5),
    Fault("inventory down", partial(bad_inventory, "down"), good_inventory),
    Fault("inventory resets", partial(bad_inventory, "reset"), good_inventory),
    Fault("inventory says 500", partial(bad_inventory, "errors"), good_inventory),
    Fault("inventory hangs", partial(bad_inventory, "hang"), good_inventory),
    Fault("inventory cut off", partial(bad_inventory, "cut"), good_inventory),
    Fault("inventory, half lists", partial(bad_inventory, "half"), good_inventory),
    Fault("inventory, empty lists", partial(bad_inventory, "empty"), good_inventory),
    Fault("inventory, false gzip", partial(bad_inventory, "garbage"), good_inventory),
    Fault("inventory, gzip bomb", partial(bad_inventory, "bomb"), good_inventory),
    Fault("addresses exchanged", partial(edit, lambda w: w.swap(False))),
    Fault("addresses exchanged, look-up", partial(edit, lambda w: w.swap(True)), short=True),
    Fault("look-up amid a refresh", amid_refresh),
    Fault("new card", partial(edit, lambda w: w.recard("full"))),
    Fault("new card, look-up", partial(edit, lambda w: w.recard("mac")), short=True),
    Fault("new card asks", partial(edit, lambda w: w.recard("asks"))),
    Fault("one address for two", partial(contest, False), short=True),
    Fault("one address for two, look-up", partial(contest, True)),
    Fault("rolled back", rollback),
)
