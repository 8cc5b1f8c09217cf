"""Laboratories: private hosts on private wires, gone without a trace when the run that made them ends.

`make demo`, tests/netns and the benches build networks with it; processes.py keeps the commands that run in them,
clients.py runs DHCP clients on its hosts.

How it is built, and why so.  A `Lab` is one shell that holds a PID and a mount namespace (and, for an ordinary user,
the user namespace over both); a `Host` is one shell that holds a network, a mount and a host-name namespace below it.
Commands enter with nsenter.  No namespace has a name, so parallel runs can't collide and no `ip netns` leftovers exist.
Each shell ends when our end of its standard input closes, which the kernel does for us even after SIGKILL; the end of a
PID namespace's first process kills every process in it, daemons that detached themselves too.

A network namespace protects no files: the stock hooks of DHCP clients overwrite /etc/resolv.conf.  So every host has
/etc read-only, /etc/resolv.conf and /etc/hosts of its own, an empty /run, empty client state folders and its own host
name.  `guard` checks from outside that this held.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bench.lab.processes import CLOSE_S, SEARCH_PATH, CommandFailed, LabError, Process, children, kill, which

__all__ = ["CommandFailed", "Host", "HostTouched", "Lab", "LabError", "Process", "Segment", "guard", "which"]

_NEEDED = {"unshare": "util-linux", "nsenter": "util-linux", "setpriv": "util-linux", "ip": "iproute2"}

# First process of the lab.  While it waits for cat it reaps the orphans that it inherits (`read` would end at the first
# one).  At the end of input it kills whatever is left in its PID namespace, so that nothing writes into the scratch
# folder that it then removes.
_LAB_SCRIPT = """
echo ready
cat
kill -KILL -1 2>&1 || :
exec rm -rf --one-file-system "$1"
"""

# Shell of one host.  /etc turns read-only before the two private files are laid over it.  They are plain files, never
# /dev/null: a stock hook that does chmod on it would change the machine's own (seen with dhcpcd's).
_HOST_SCRIPT = """
hostname "$2"
mount -t tmpfs tmpfs /run
for state in /var/lib/dhcp /var/lib/dhcpcd /var/lib/misc; do
    [ ! -d "$state" ] || mount -t tmpfs tmpfs "$state"
done
mount --bind /etc /etc
mount -o remount,bind,ro /etc
for file in resolv.conf hosts; do
    [ ! -e "/etc/$file" ] || mount --bind "$1/etc-$file" "/etc/$file"
done
mount -t sysfs -o ro sysfs /sys || :
for scope in all default lo; do
    [ ! -e "/proc/sys/net/ipv6/conf/$scope" ] || echo 1 > "/proc/sys/net/ipv6/conf/$scope/disable_ipv6"
done
ip link set lo up
echo ready
read -r _ || :
"""


class HostTouched(AssertionError):
    """Something changed the real machine's own settings from inside a laboratory."""


class _Holder:
    """A shell that keeps its namespaces alive until our end of its standard input closes."""

    def __init__(self, what: str, argv: Sequence[str], script: str, *arguments: str) -> None:
        self.what = what
        # A session of its own: Ctrl-C goes to us alone, and we still have the hosts while we clean up.
        self._process = subprocess.Popen(
            [*argv, "sh", "-ec", script, "sh", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PATH": SEARCH_PATH},
            start_new_session=True,
        )
        said = _read_until(self._process.stdout, b"ready\n", CLOSE_S)
        if not said.endswith(b"ready\n"):
            self.close()
            raise LabError(f"{what}: its shell said {said.decode(errors='replace')!r}, wanted 'ready'")

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(CLOSE_S)
        if self._process.stdout is not None:
            self._process.stdout.close()


def _read_until(stream: object, end: bytes, timeout: float) -> bytes:
    """Bytes of a pipe up to `end`, to its closing, or to the time limit."""
    fd = stream.fileno()  # type: ignore[attr-defined]
    deadline, said = time.monotonic() + timeout, b""
    while not said.endswith(end) and (left := deadline - time.monotonic()) > 0:
        if select.select([fd], [], [], left)[0]:
            chunk = os.read(fd, 4096)
            if not chunk:
                break
            said += chunk
    return said


class Host:
    """One machine of a lab: its own network, host name, /etc/resolv.conf, /run and scratch folder."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab, self.name = lab, name
        self.scratch = lab.scratch / name
        self.scratch.mkdir()
        (self.scratch / "etc-resolv.conf").touch()
        (self.scratch / "etc-hosts").write_text(f"127.0.0.1 localhost {name}\n")
        below = ["nsenter", *lab.user_entry, f"--mount=/proc/{lab.pid}/ns/mnt", "unshare", "--net", "--mount", "--uts"]
        self._holder = _Holder(f"host {name}", below, _HOST_SCRIPT, str(self.scratch), name)
        self._processes: list[Process] = []
        ns = f"/proc/{self._holder.pid}/ns"
        self._entry = ["nsenter", *lab.user_entry, f"--net={ns}/net", f"--mount={ns}/mnt", f"--uts={ns}/uts"]
        # The command must die with its nsenter, which is all that a SIGKILL of ours would reach.
        self._entry += [f"--pid=/proc/{lab.pid}/ns/pid", "--", "setpriv", "--pdeathsig", "KILL", "env"]

    @property
    def pid(self) -> int:
        """Process that holds the namespaces; for `ip link ... netns PID`."""
        return self._holder.pid

    def _command(self, argv: Sequence[str]) -> list[str]:
        # nsenter into a mount namespace forgets the working directory.
        return [*self._entry, f"--chdir={os.getcwd()}", "--", *argv]

    @staticmethod
    def _environment(env: Mapping[str, str] | None) -> dict[str, str]:
        return {**os.environ, "PATH": SEARCH_PATH, **(env or {})}

    def run(
        self,
        argv: Sequence[str],
        timeout: float = 10.0,
        check: bool = True,
        text_in: str = "",
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end.  CommandFailed on a time-out, and on a non-zero status unless `check` is False."""
        # Files, not pipes: a daemon that the command leaves behind would keep a pipe open for ever.
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            source.write(text_in.encode())
            source.seek(0)
            entered = self._command(argv)
            process = subprocess.Popen(
                entered, stdin=source, stdout=out, stderr=err, env=self._environment(env), start_new_session=True
            )
            late = False
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                late = True
            finally:
                kill(process)
            out.seek(0)
            err.seek(0)
            said, complained = out.read().decode(errors="replace"), err.read().decode(errors="replace")
        if late or (check and process.returncode != 0):
            how = f"no end within {timeout:g} s" if late else f"exit status {process.returncode}, wanted 0"
            raise CommandFailed(f"{self.name}: {' '.join(argv)}: {how}\n{said}{complained}")
        return subprocess.CompletedProcess(entered, process.returncode, said, complained)

    def popen(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Process:
        """Start a command that goes on; it is killed with its host or lab at the latest."""
        process = Process(f"{self.name}: {' '.join(argv)}", self._command(argv), self._environment(env))
        self._processes.append(process)
        return process

    def marks(self) -> dict[Process, int]:
        """How much its commands have said so far, for `logs`."""
        return {process: process.mark() for process in self._processes}

    def logs(self, since: Mapping[Process, int] | None = None) -> str:
        """What its commands have said since those marks, each under its name."""
        said = [(process.name, process.log((since or {}).get(process, 0))) for process in self._processes]
        return "\n".join(f"$ {name}\n{text}" for name, text in said if text)

    def read(self, path: str | Path) -> str:
        """A file as this host sees it."""
        return self.run(["cat", str(path)]).stdout

    def ip(self, *lines: str) -> None:
        """`ip` commands, one a line, in one process; a PID among them means what it means outside the lab."""
        command = ["nsenter", *self.lab.user_entry, f"--net=/proc/{self.pid}/ns/net", "ip", "-batch", "-"]
        done = subprocess.run(
            command, input="\n".join(lines), text=True, capture_output=True, env=self._environment(None), timeout=10
        )
        if done.returncode != 0:
            raise CommandFailed(f"{self.name}: ip {'; '.join(lines)}: {done.stdout}{done.stderr}")

    def address(self, ifname: str, cidr: str) -> None:
        self.ip(f"address add {cidr} dev {ifname}")

    def route(self, destination: str, via: str) -> None:
        self.ip(f"route replace {destination} via {via}")

    def sysctl(self, key: str, value: int | str) -> None:
        """Set a sysctl, written with slashes or dots (`net.ipv4.ip_forward`)."""
        path = f"/proc/sys/{key if '/' in key else key.replace('.', '/')}"
        self.run(["sh", "-c", f'echo "$1" > "{path}"', "sh", str(value)])

    def await_carrier(self, ifname: str) -> None:
        """Until then the kernel drops what is sent; it gets there a moment after both ends are up."""
        loop = 'until read -r state < "/sys/class/net/$1/operstate" && [ "$state" = up ]; do sleep 0.002; done'
        self.run(["sh", "-c", loop, "sh", ifname])

    def no_offload(self, *ifnames: str) -> None:
        """Let the sender compute checksums: a capture shows half-done ones otherwise, and raw readers see them."""
        if which("ethtool"):
            for ifname in ifnames:
                self.run(["ethtool", "-K", ifname, "tx", "off"], check=False)

    def _kill_detached(self) -> None:
        """Helpers that outlived their command: they would keep the network alive, and its MACs on the segment."""
        mine = os.readlink(f"/proc/{self.pid}/ns/net")
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended meanwhile, or is not ours to look at
                if int(entry.name) != self.pid and os.readlink(entry / "ns/net") == mine:
                    os.kill(int(entry.name), signal.SIGKILL)

    def close(self) -> None:
        """Kill its commands and give its namespaces up; its wires vanish with it.  Closing it again does nothing."""
        if self not in self.lab.hosts:
            return
        for process in self._processes:
            process.stop(signal.SIGKILL)
        self._processes.clear()
        self._kill_detached()
        self._holder.close()
        self.lab.forget(self)


@dataclass(slots=True)
class Segment:
    """An Ethernet segment for any number of hosts: a bridge on a host of its own."""

    switch: Host
    ports: int = 0

    def plug(self, host: Host, ifname: str, address: str | None = None, mac: str | None = None) -> None:
        """Give `host` an interface on this segment; unplugged when the host closes."""
        self.ports += 1
        port = f"p{self.ports}"
        self.switch.lab.wire(host, self.switch, a_if=ifname, b_if=port, a_addr=address, a_mac=mac)
        self.switch.ip(f"link set {port} master br0")

    def tap(self) -> str:
        """A port for an emulated machine that runs on `switch`: the name of its tap device."""
        self.ports += 1
        port = f"p{self.ports}"
        self.switch.ip(f"tuntap add {port} mode tap", f"link set {port} master br0 up")
        return port


class Lab:
    """A private network laboratory, as a context manager: `with Lab() as lab: server = lab.host("server")`."""

    def __init__(self) -> None:
        self.scratch = Path()
        self.hosts: list[Host] = []
        self.pid = 0
        self.user_entry: list[str] = []
        self._holder: _Holder | None = None
        self._wires = 0

    @staticmethod
    @functools.cache
    def available() -> str | None:
        """None when laboratories work here, else the reason why not (for skips)."""
        for program, package in _NEEDED.items():
            if which(program) is None:
                return f"{program} is not installed (Debian package {package})"
        if not Path("/proc/self/task", str(os.getpid()), "children").exists():
            return "the kernel lists no children in /proc (CONFIG_PROC_CHILDREN)"
        trial = "mount -t tmpfs tmpfs /run && ip link set lo up && ip link add bs0 type veth peer name bs1"
        try:
            done = subprocess.run(
                [*_new_lab(), "--net", "sh", "-c", trial],
                env={**os.environ, "PATH": SEARCH_PATH},
                capture_output=True,
                text=True,
                timeout=10,
            )
        except subprocess.TimeoutExpired:
            return "a trial of network namespaces did not end within 10 s"
        return None if done.returncode == 0 else f"network namespaces are refused here: {done.stderr.strip()}"

    def __enter__(self) -> Lab:
        if reason := self.available():
            raise LabError(reason)
        self.scratch = Path(tempfile.mkdtemp(prefix="bootstorm-lab-"))
        self.scratch.chmod(0o755)  # a server that gave up root still reaches its own folder in here
        self._holder = _Holder("lab", _new_lab(), _LAB_SCRIPT, str(self.scratch))
        self.pid = children(self._holder.pid)[0]
        if os.geteuid() != 0:
            self.user_entry = [f"--user=/proc/{self.pid}/ns/user", "--preserve-credentials"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._holder is not None
        try:
            for host in reversed(self.hosts[:]):
                host.close()
        finally:
            self._holder.close()
            shutil.rmtree(self.scratch, ignore_errors=True)

    def host(self, name: str) -> Host:
        if (self.scratch / name).exists():
            raise LabError(f"lab: host {name!r} exists already, wanted a name not used before")
        host = Host(self, name)
        self.hosts.append(host)
        return host

    def forget(self, host: Host) -> None:
        """A closed host leaves; its folder goes too, so that the name can be used again."""
        self.hosts.remove(host)
        shutil.rmtree(host.scratch, ignore_errors=True)

    def wire(
        self,
        a: Host,
        b: Host,
        *,
        a_if: str,
        b_if: str,
        a_addr: str | None = None,
        b_addr: str | None = None,
        a_mac: str | None = None,
        b_mac: str | None = None,
    ) -> None:
        """Connect two hosts by a cable, both ends up, checksum offload off."""
        # Interface numbers: when both ends have the same, the kernel may take a second to call the link up.
        self._wires += 1
        a_end, b_end = f"{a_if} index {2 * self._wires + 100}", f"{b_if} index {2 * self._wires + 101}"
        a_end, b_end = a_end + (f" address {a_mac}" if a_mac else ""), b_end + (f" address {b_mac}" if b_mac else "")
        a.ip(f"link add {a_end} type veth peer name {b_end} netns {b.pid}")
        for host, ifname, address in ((a, a_if, a_addr), (b, b_if, b_addr)):
            host.no_offload(ifname)
            host.ip(*([f"address add {address} dev {ifname}"] if address else []), f"link set {ifname} up")
        for host, ifname in ((a, a_if), (b, b_if)):
            host.await_carrier(ifname)

    def bridge(self, name: str = "switch") -> Segment:
        """A segment; hosts join it with `plug`."""
        switch = self.host(name)
        switch.ip("link add br0 type bridge forward_delay 0 mcast_snooping 0", "link set br0 up")
        return Segment(switch)


def _new_lab() -> list[str]:
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


def _machine_state() -> dict[str, object]:
    state: dict[str, object] = {"host name": socket.gethostname()}
    for path in map(Path, ("/etc/resolv.conf", "/etc/hosts", "/dev/null")):
        if path.exists():
            state[str(path)] = oct(path.stat().st_mode), path.resolve(), path.read_bytes() if path.is_file() else b""
    return state


@contextlib.contextmanager
def guard() -> Iterator[None]:
    """Fail loudly when the machine's own resolv.conf, hosts, /dev/null or host name differ afterwards."""
    before = _machine_state()
    try:
        yield
    finally:
        after = _machine_state()
        changed = [w for w in sorted({*before, *after}) if before.get(w) != after.get(w)]
        if changed:
            lines = [f"{what}: was {before.get(what)!r}, is {after.get(what)!r}" for what in changed]
            raise HostTouched("a laboratory changed this machine; put back:\n" + "\n".join(lines))
