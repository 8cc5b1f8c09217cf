"""A serving site that can be hurt in every way that bench/faults/faults.py knows, and the tools to hurt it from
outside.

Nothing here knows how the service works inside: processes are found by their command lines, the state by the control
socket, the port by /proc/net/udp.  The inventory is reached through a proxy that fails on command (meddler.py),
standard error is a FIFO that can be left unread, state_dir a small tmpfs, the wall clock one that jumps for the service
alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.faults.builds import Installed
from bench.faults.meddler import PROXY
from bench.lab.console import ask
from bench.lab.lab import Host, Lab, LabError, Process
from bench.lab.site import ENVIRONMENT, RunningSite, many_hosts
from bench.report.machine import ROOT, members, pinned
from bench.rig.stage import FIRST_ADDRESS, FIRST_MAC, NETWORK, SERVER, Stage, two_hosts

KINDS = {
    ("fastpath", "supervise"): "supervisor",
    ("fastpath", "worker"): "worker",
    ("control", "run"): "control",
    ("control", "planner"): "planner",
    ("control", "observer"): "observer",
    ("control", "traps"): "receiver",
    ("control", "registrar"): "registrar",
}
STEP_S, LOOK_S = 15.0, 0.01
STATE_BYTES = 32 << 20
LOG_BYTES = 4 << 20
PIPE_BYTES = 4096
LOADED_S = 3.0  # a process that old has loaded, where no filter says so
ASK_S = 5.0
FIRST_SPARE_MAC = 0x020000F00000
ADDRESS_BIAS = 1 << 31  # the inventory keeps addresses as signed numbers


class NotRecovered(AssertionError):
    """The service did not come back in time; the message says what was waited for and what was there."""


def await_that(look: Callable[[], Any], good: Callable[[Any], bool], what: str, limit_s: float = STEP_S) -> Any:
    """Polls /proc and the status, which have no events to wait for; NotRecovered after limit_s."""
    deadline = time.monotonic() + limit_s
    while True:
        seen = look()
        if good(seen):
            return seen
        if time.monotonic() > deadline:
            raise NotRecovered(f"not within {limit_s:g} s: {what}; last seen: {str(seen)[:400]}")
        time.sleep(LOOK_S)


class StallingPipe:
    """A FIFO for the service's standard error: read all the time, or left full.  What was read is kept in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)  # also a writer: it never ends
        fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._said = bytearray()
        self._reading = threading.Event()
        self._reading.set()
        self._closed = False
        threading.Thread(target=self._drain, name="standard error", daemon=True).start()

    def _drain(self) -> None:
        while not self._closed:
            self._reading.wait()
            if select.select([self._fd], [], [], 0.1)[0] and self._reading.is_set():
                with contextlib.suppress(BlockingIOError):
                    self._said += os.read(self._fd, 65536)
                    del self._said[:-LOG_BYTES]

    def fill(self) -> None:
        """Nothing more is read, and there is no room left."""
        self._reading.clear()
        time.sleep(0.15)  # the thread may be inside select() still
        writer = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
        try:
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(writer, b"\n")
        finally:
            os.close(writer)

    def drain(self) -> None:
        self._reading.set()

    def log(self) -> str:
        return self._said.decode(errors="replace")

    def close(self) -> None:
        self._closed = True
        self._reading.set()


class Skew:
    """A wall clock for the service that jumps on command (skew.c)."""

    def __init__(self, folder: Path) -> None:
        self.library, path = folder / "skew.so", folder / "skew"
        source = ROOT / "bench/faults/skew.c"
        command = ["cc", "-O2", "-shared", "-fPIC", "-o", str(self.library), str(source), "-ldl"]
        subprocess.run(command, check=True, timeout=60)
        path.write_bytes(bytes(24))
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 24)
        self.environment = {"LD_PRELOAD": str(self.library), "BOOTSTORM_SKEW": str(path)}

    def set(self, seconds: float) -> None:
        """The service's wall clock is ahead by so much from now on."""
        now = struct.unpack_from("q", self._shared, 8)[0]
        self._shared[:] = struct.pack("qqq", now, int(seconds * 1e9), time.clock_gettime_ns(time.CLOCK_REALTIME))


class PidsLimit:
    """A cgroup around the service whose number of processes can be frozen.  reason: why there is none, else empty."""

    def __init__(self) -> None:
        self.folder, self.reason = Path(), "no cgroup with a pids controller is mounted"
        for base in map(Path, ("/sys/fs/cgroup/pids", "/sys/fs/cgroup")):
            if not (base / "cgroup.procs").exists():
                continue
            try:
                self.folder = Path(tempfile.mkdtemp(prefix="bootstorm-", dir=base))
            except OSError as error:
                self.reason = f"{base}: {error.strerror}"
                return
            if (self.folder / "pids.max").exists():
                self.reason = ""
            else:
                self.folder.rmdir()
                self.reason = f"{base} has no pids controller for new groups"
            return

    def enclose(self, pids: list[int]) -> None:
        """These processes, and what they start from now on."""
        for pid in pids if not self.reason else ():
            with contextlib.suppress(ProcessLookupError):
                (self.folder / "cgroup.procs").write_text(str(pid))

    def freeze(self) -> None:
        """Not one process or thread more; those that are there stay."""
        (self.folder / "pids.max").write_text("0")

    def thaw(self) -> None:
        (self.folder / "pids.max").write_text("max")

    def close(self) -> None:
        """When its processes have ended; the last may take a moment."""
        if self.reason:
            return
        await_that(lambda: (self.folder / "cgroup.procs").read_text(), lambda pids: not pids, f"{self.folder} is empty")
        self.folder.rmdir()


def stands_by(pid: int) -> bool:
    """A spare that has loaded: it waits for messages under its filter of system calls, or is long there."""
    with contextlib.suppress(OSError):
        if re.search(r"^Seccomp:\s*2$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE):
            return True
        return time.time() - os.stat(f"/proc/{pid}").st_ctime > LOADED_S
    return False


class TroubledSite(RunningSite):
    """The service with all that can be done to it from outside."""

    def __init__(self, host: Host, core: int, workers: int = 2, *, snmp: dict[str, Any] | None = None) -> None:
        super().__init__(host, workers, snmp=snmp, api_url=f"http://{PROXY}")
        self.core = core  # of the service alone
        self.state = host.scratch / "state"
        self.state.mkdir(mode=0o755)
        host.run(["mount", "-t", "tmpfs", "-o", f"size={STATE_BYTES},mode=0755", "tmpfs", str(self.state)])
        self.pipe = StallingPipe(host.scratch / "stderr")
        self.skew = Skew(host.scratch)
        self.pids_limit = PidsLimit()
        self.installed = Installed(host.scratch / "code")  # what the next new process of the service loads
        self.environment |= self.installed.environment | self.skew.environment
        self.meddler: Process | None = None
        self._orders: socket.socket | None = None

    # --- starting and looking ------------------------------------------------------------------------------------

    def start_inventory(self) -> None:
        super().start_inventory()
        path = self.host.scratch / "meddler.sock"
        self.meddler = self.host.popen([sys.executable, "-m", "bench.faults.meddler", str(path)], env=ENVIRONMENT)
        self.meddler.wait_for("meddler: ready", STEP_S)
        self._orders = socket.socket(socket.AF_UNIX)
        self._orders.settimeout(30.0)
        self._orders.connect(str(path))

    def serve(self, hosts: int | None = None) -> None:
        script = 'exec 2>"$0"; exec "$@"'
        command = [sys.executable, "-P", "-m", "control", "serve", "-c", str(self.config)]
        with pinned(self.core):
            self.server = self.host.popen(["sh", "-c", script, str(self.pipe.path), *command], env=self.environment)
        if hosts is not None:
            self.await_answering(hosts)
            self.enclose()

    def enclose(self) -> None:
        """Put the service under the limit of processes."""
        self.pids_limit.enclose([pid for pids in self.by_kind().values() for pid in pids])

    def serves(self) -> bool:
        """There is a supervisor."""
        return "supervisor" in self.by_kind()

    def await_answering(self, hosts: int, limit_s: float = 60.0) -> None:
        """Every worker answers for so many hosts.  LabError with the service's words when it does not."""

        def answering(status: dict[str, Any]) -> bool:
            workers = status.get("workers", ())
            return status.get("hosts") == hosts and bool(workers) and all(w["generation"] for w in workers)

        try:
            await_that(self.status, answering, f"{hosts} hosts in every worker", limit_s)
        except NotRecovered as late:
            raise LabError(f"bootstorm serve: {late}; it said:\n{self.pipe.log()[-4000:]}") from None

    def status(self) -> dict[str, Any]:
        """{} while nobody answers."""
        try:
            return dict(self.ask("status"))
        except (OSError, RuntimeError, ValueError):
            return {}

    def ask(self, command: str, answer_s: float = ASK_S, **arguments: Any) -> Any:
        """A call of the control socket.  OSError when nobody answers, RuntimeError when it is refused."""
        return ask(str(self.console), command, answer_s=answer_s, **arguments)

    def by_kind(self) -> dict[str, list[int]]:
        """pids, as this process sees them, of the service's processes.

        A child of the supervisor's with its command line is none: between fork and exec, or a trial's last step."""
        found: dict[str, list[int]] = {}
        parents: dict[int, int] = {}
        for pid in sorted(members(self.host)):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
                state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
                if state in ("Z", "X") or "-m" not in words:
                    continue
                at = words.index("-m")
                if kind := KINDS.get((words[at + 1], words[at + 2])):
                    found.setdefault(kind, []).append(pid)
                    parents[pid] = int(parent)
        if heads := found.get("supervisor"):
            found["supervisor"] = [pid for pid in heads if parents[pid] not in heads]
        return found

    def pid_of(self, inner: int) -> int | None:
        """The pid that we see of the process that the laboratory knows as `inner`."""
        for pid in members(self.host):
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith("NSpid:") and line.split()[-1] == str(inner):
                        return pid
        return None

    def serving(self) -> list[int]:
        """pids of the workers that have a slot, in the slots' order."""
        slots = sorted((worker["slot"], worker["pid"]) for worker in self.status().get("workers", ()))
        return [pid for _slot, inner in slots if (pid := self.pid_of(inner)) is not None]

    def spares(self) -> list[int]:
        serving = self.serving()
        return [pid for pid in self.by_kind().get("worker", ()) if pid not in serving]

    def whole(self, workers: int) -> bool:
        """Every kind of process is there once, all workers serve, a spare stands by, and control answers."""
        found = self.by_kind()
        if len(found.get("worker", ())) != workers + 1 or len(found.get("supervisor", ())) != 1:
            return False
        status = self.status()
        alive = [self.pid_of(worker["pid"]) for worker in status.get("workers", ())]
        serve = len(alive) == workers and None not in alive and all(w["generation"] for w in status["workers"])
        return serve and all(stands_by(pid) for pid in found["worker"] if pid not in alive)

    def holds_port(self, port: int = 67) -> bool:
        """Somebody has a UDP socket on the port."""
        rows = Path(f"/proc/{self.host.pid}/net/udp").read_text().splitlines()[1:]
        return any(row.split()[1].endswith(f":{port:04X}") for row in rows)

    # --- hurting ---------------------------------------------------------------------------------------------------

    def counters(self) -> dict[str, int]:
        """{} while nobody answers."""
        return dict(self.status().get("counters", {}))

    def order(self, **what: Any) -> dict[str, Any]:
        """To the meddler, and what it says.  ValueError when it cannot."""
        assert self._orders is not None
        self._orders.sendall(json.dumps(what).encode() + b"\n")
        said = b""
        while not said.endswith(b"\n"):
            if not (chunk := self._orders.recv(65536)):
                raise LabError("the meddler has gone")
            said += chunk
        if "error" in (told := json.loads(said)):
            raise ValueError(told["error"])
        return dict(told)

    def fill_disk(self) -> None:
        self.host.run(["sh", "-c", 'cat /dev/zero > "$1/filler" 2>"$2" || :', "sh", str(self.state), "/dev/null"])

    def empty_disk(self) -> None:
        self.host.run(["rm", "-f", str(self.state / "filler")])
        note = str(self.state / "table.unsaved")  # docs/operations.md, files: begins with words while rows are noted

        def begins() -> str:
            return self.host.run(["head", "-c", "1", note], check=False).stdout.strip("\0")

        await_that(begins, lambda noted: not noted, "the disk has the table again")

    def signal_all(self, number: int) -> None:
        for pids in self.by_kind().values():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def stop(self) -> None:
        self.pipe.drain()
        if not self.pids_limit.reason:
            self.pids_limit.thaw()
        self.signal_all(signal.SIGCONT)
        super().stop()
        self.signal_all(signal.SIGKILL)  # orphans of a supervisor that died
        if self._orders is not None:
            self._orders.close()
        if self.meddler is not None:
            self.meddler.stop()
        self.pipe.close()
        self.pids_limit.close()


@contextlib.contextmanager
def troubled_stage(hosts: int, workers: int = 2) -> Iterator[tuple[Stage, TroubledSite]]:
    """A serving site on the first core of a laboratory, all else on the second: the inventory, the clients, and we."""
    with two_hosts() as stage, pinned(stage.cores[1]):
        site = TroubledSite(stage.server, stage.cores[0], workers, snmp={"communities": ["public"], "bind_port": 1162})
        network = f"{NETWORK.network_address}/{NETWORK.netmask}/{SERVER}"
        site.fill(many_hosts(hosts, network, FIRST_ADDRESS, FIRST_MAC))
        site.start_inventory()
        try:
            site.serve(hosts)
            yield stage, site
        finally:
            site.stop()


def available() -> str | None:
    """None when a troubled site can be made here, else the reason why not."""
    return Lab.available()
