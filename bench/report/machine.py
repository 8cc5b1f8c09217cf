"""The machine that a figure was measured on: a record of it and of the build; and what its cores, processes and sockets
did meanwhile, read from outside the processes that are measured."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.lab.lab import Host, LabError

ROOT = Path(__file__).resolve().parents[2]
SO_RCVBUFFORCE = 33
PIDFD_GETFD = 438  # the same on every architecture
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
# setup.py compiles each way of building with an optimisation level of its own; the compiler writes it into the file.
_LEVELS = {b"-O3": "release", b"-O1": "debug", b"-O0": "trace"}


def _first(path: str, pattern: str, default: str = "unknown") -> str:
    """First group of a pattern in a file of /proc."""
    try:
        found = re.search(pattern, Path(path).read_text(), re.MULTILINE)
    except OSError:
        return default
    return found[1] if found else default


def machine_record() -> dict[str, Any]:
    """Processor, cores that we may use, memory, kernel, Python, and the load averages of this moment."""
    return {
        "cpu": _first("/proc/cpuinfo", r"^model name\s*: (.*)$"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_kb": int(_first("/proc/meminfo", r"^MemTotal:\s*(\d+) kB$", "0")),
        "virtual": "hypervisor" in _first("/proc/cpuinfo", r"^flags\s*: (.*)$", "").split(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def commit(root: Path = ROOT) -> str:
    """Commit of the work tree, with "-dirty" behind it when tracked files differ; "unknown" without git."""
    try:
        head = _git(root, "rev-parse", "HEAD")
        return head + ("-dirty" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def build_mode(extension: str = "ext.pump") -> str:
    """How the packet path was compiled (setup.py's BOOTSTORM_BUILD), read from the extension that would be loaded."""
    spec = find_spec(extension)
    if spec is None or spec.origin is None:
        return "unknown"
    return mode_of(Path(spec.origin).read_bytes())


def mode_of(binary: bytes) -> str:
    """Build mode by the compiler's own note (DW_AT_producer) of its options; "unknown" without debug information."""
    notes = re.findall(rb"GNU (?:C\d+|GIMPLE) [^\0]*", binary)
    if any(b"-fsanitize=address" in note for note in notes):
        return "asan"
    # Python's own options stand first in the note, ours last: the last one counts, as it does for the compiler.
    levels = {level for note in notes for level in re.findall(rb" (-O\d)", note)[-1:]}
    return _LEVELS.get(levels.pop(), "unknown") if len(levels) == 1 else "unknown"


@contextmanager
def pinned(*cores: int) -> Iterator[None]:
    """What is started inside stays on these cores, with all that it starts."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def datagram_sockets(pid: int) -> Iterator[socket.socket]:
    """Copies of a process's IPv4 UDP sockets and packet sockets.  Needs root."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        pidfd = os.pidfd_open(pid)
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:  # it has ended
        return
    try:
        for name in names:
            fd = libc.syscall(PIDFD_GETFD, pidfd, int(name), 0)
            if fd < 0:
                continue
            if not os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
                os.close(fd)
                continue
            with socket.socket(fileno=fd) as copy:
                udp = (copy.family, copy.type) == (socket.AF_INET, socket.SOCK_DGRAM)
                if udp or copy.family == socket.AF_PACKET:
                    yield copy
    finally:
        os.close(pidfd)


def widen(pid: int, size: int) -> int:
    """Give a process's UDP and packet sockets a receive buffer of `size` bytes; how many sockets it was."""
    count = 0
    for count, copy in enumerate(datagram_sockets(pid), 1):  # noqa: B007
        copy.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)
    return count


def receive_buffer(pid: int) -> int:
    """Largest receive buffer of a process's UDP and packet sockets, in bytes as the kernel counts them."""
    sizes = (copy.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) for copy in datagram_sockets(pid))
    return max(sizes, default=0)


def members(host: Host) -> list[int]:
    """Processes of a host, without the shell that holds it."""
    mine, found = os.stat(f"/proc/{host.pid}/ns/net").st_ino, []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "ns/net").stat().st_ino == mine and int(entry.name) != host.pid:
                found.append(int(entry.name))
        except OSError:  # it ended meanwhile
            continue
    return found


def cpu_s(host: Host) -> float:
    """CPU seconds that a host's processes have used."""
    ticks = 0
    for pid in members(host):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks * TICK_S


def idle_s(core: int) -> float:
    found = re.search(rf"^cpu{core} \d+ \d+ \d+ (\d+) (\d+)", Path("/proc/stat").read_text(), re.MULTILINE)
    return (int(found[1]) + int(found[2])) * TICK_S if found else 0.0


def dropped(host: Host) -> int:
    """Datagrams that found a receive buffer of the host full (Udp RcvbufErrors)."""
    names, values = re.findall(r"^Udp: (.*)$", Path(f"/proc/{host.pid}/net/snmp").read_text(), re.MULTILINE)
    return int(dict(zip(names.split(), values.split(), strict=True))["RcvbufErrors"])


def await_drained(host: Host, limit_s: float = 10.0) -> None:
    """Until no datagram waits in the host's sockets: what is left of one trial must not burden the next."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if not waiting(host):
            return
        time.sleep(0.01)  # /proc tells nobody that it has changed
    raise LabError(f"{host.name}: {waiting(host):,} bytes still wait in its sockets after {limit_s:g} s")


def waiting(host: Host) -> int:
    """Bytes of memory that datagrams hold in the receive buffers of the host's UDP and packet sockets."""
    udp = Path(f"/proc/{host.pid}/net/udp").read_text().splitlines()[1:]
    packet = Path(f"/proc/{host.pid}/net/packet").read_text().splitlines()[1:]
    return sum(int(row.split()[4].partition(":")[2], 16) for row in udp) + sum(int(row.split()[6]) for row in packet)


def check_pinned(host: Host, core: int) -> None:
    """LabError unless every process of the host is kept on this core."""
    for pid in members(host):
        try:
            allowed = os.sched_getaffinity(pid)
        except ProcessLookupError:
            continue
        if allowed != {core}:
            raise LabError(f"{host.name}: pid {pid} may run on cores {sorted(allowed)}, wanted {core} only")
