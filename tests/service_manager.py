"""A small stand-in for systemd, as one of its units has it: notifications, the store of descriptors, restarts.

`service_manager.py [--store N] [--watchdog USEC] [--deaf] SOCKET COMMAND...` says on standard error, between the lines
of the service, what happens: `manager: started PID with N`, `says WORDS`, `stored NAME`, `full NAME`, `same NAME`,
`dropped NAME`, `removed N of NAME`, `barrier`, `stranger PID`, `ended by HOW`.  SIGTERM stops the service, SIGUSR1
restarts it as `systemctl restart` does.  It keeps the rules of systemd 252:

- only the main process may notify (NotifyAccess=main);
- the watchdog waits for it once it is ready;
- a descriptor that the store has already is not stored again, under whatever name it comes;
- without FDPOLL=0, one that shows POLLHUP or POLLERR is dropped;
- one more than the store may hold is closed, and nobody is told but the log;
- at most 253 descriptors come with a message;
- the store lives through a restart and is given up when the unit stops.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import ctypes
import fcntl
import os
import select
import signal
import socket
import struct
import time
from dataclasses import dataclass

FDS_MAX = 253  # SCM_MAX_FD
RESTART_S = 0.1
FIRST_FD = 3
_PR_SET_PDEATHSIG, _KCMP, _KCMP_FILE = 1, 312, 0
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class Entry:
    name: str
    fd: int
    is_polled: bool


def is_same(one: int, other: int) -> bool:
    """The same open file; by its inode, where kcmp(2) may not be used and inodes tell files apart."""
    found = _libc.syscall(_KCMP, os.getpid(), os.getpid(), _KCMP_FILE, one, other)
    if found >= 0:
        return bool(found == 0)
    if os.readlink(f"/proc/self/fd/{one}").startswith("anon_inode:"):
        return False
    return os.path.sameopenfile(one, other)


class ServiceManager:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.store: list[Entry] = []
        self.pid = 0
        self.heard_s = 0.0
        self.is_ready = False
        self.stopping = self.restarting = False
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        path = arguments.socket
        self.sock.bind("\0" + path[1:] if path.startswith("@") else path)
        self.wake_read, self.wake = socket.socketpair()
        for end in (self.wake_read, self.wake):
            end.setblocking(False)
        signal.set_wakeup_fd(self.wake.fileno())
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)

    def say(self, line: str) -> None:
        os.write(2, f"manager: {line}\n".encode())

    # --- the service ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.is_ready = False
        manager = os.getpid()
        self.pid = os.fork()
        if not self.pid:
            self.become(manager)
        self.say(f"started {self.pid} with {len(self.store)}")

    def become(self, manager: int) -> None:
        """In the child: descriptors from 3 on, and what is said of them."""
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != manager:
            os._exit(1)
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        end = FIRST_FD + len(self.store)
        high = [fcntl.fcntl(entry.fd, fcntl.F_DUPFD_CLOEXEC, end + 64) for entry in self.store]
        for at, fd in enumerate(high):
            os.dup2(fd, FIRST_FD + at, inheritable=True)
        environment = dict(os.environ) | {"NOTIFY_SOCKET": self.arguments.socket}
        if self.arguments.watchdog:
            environment |= {"WATCHDOG_USEC": str(self.arguments.watchdog), "WATCHDOG_PID": str(os.getpid())}
        if self.store:
            names = ":".join(entry.name for entry in self.store)
            environment |= {
                "LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(self.store)), "LISTEN_FDNAMES": names,
            }  # fmt: skip
        try:
            os.execvpe(self.arguments.command[0], self.arguments.command, environment)
        finally:
            os._exit(203)

    def reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                while not self.arguments.deaf and select.select([self.sock], [], [], 0)[0]:
                    self.receive()  # what it said before it ended
                code = os.waitstatus_to_exitcode(status)
                self.pid = 0
                self.say(f"ended by {f'signal {-code}' if code < 0 else f'exit {code}'}")
                self.after(code)

    def after(self, code: int) -> None:
        """Restart=on-failure."""
        if self.restarting or (code and not self.stopping):
            self.restarting = False
            time.sleep(RESTART_S)
            self.start()
        else:
            self.stopping = True

    # --- what it says --------------------------------------------------------------------------------------------

    def receive(self) -> None:
        room = socket.CMSG_SPACE(FDS_MAX * 4) + socket.CMSG_SPACE(12)
        data, ancillary, flags, _ = self.sock.recvmsg(1 << 16, room, socket.MSG_CMSG_CLOEXEC)
        fds, sender = array.array("i"), 0
        for _level, kind, content in ancillary:
            if kind == socket.SCM_RIGHTS:
                fds.frombytes(content)
            elif kind == socket.SCM_CREDENTIALS:
                sender = struct.unpack("3i", content)[0]
        if sender != self.pid:
            self.say(f"stranger {sender}")
        elif flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            self.say("cut")
        else:
            self.heard_s = time.monotonic()
            self.obey(data.decode().splitlines(), list(fds))
            return
        for fd in fds:
            os.close(fd)

    def obey(self, lines: list[str], fds: list[int]) -> None:
        words = dict(line.partition("=")[::2] for line in lines)
        name = words.get("FDNAME", "stored")
        if "FDSTORE" in words:
            for fd in fds:
                self.keep(name, fd, words.get("FDPOLL") != "0")
            return
        for fd in fds:
            os.close(fd)
        if "FDSTOREREMOVE" in words:
            gone = [entry for entry in self.store if entry.name == name]
            for entry in gone:
                self.forget(entry)
            self.say(f"removed {len(gone)} of {name}")
        elif "BARRIER" in words:
            self.say("barrier")
        elif words != {"WATCHDOG": "1"}:
            self.is_ready = self.is_ready or "READY" in words
            self.say("says " + " ".join(lines))

    def keep(self, name: str, fd: int, is_polled: bool) -> None:
        if any(is_same(entry.fd, fd) for entry in self.store):
            self.say(f"same {name}")
        elif len(self.store) >= self.arguments.store:
            self.say(f"full {name}")
        else:
            self.store.append(Entry(name, os.dup(fd), is_polled))
            self.say(f"stored {name}")
        os.close(fd)

    def forget(self, entry: Entry) -> None:
        os.close(entry.fd)
        self.store.remove(entry)

    # --- the loop ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        self.start()
        while self.pid:
            poll = select.poll()
            poll.register(self.wake_read, select.POLLIN)
            if not self.arguments.deaf:
                poll.register(self.sock, select.POLLIN)
            polled = {entry.fd: entry for entry in self.store if entry.is_polled}
            for fd in polled:
                poll.register(fd, 0)
            ready = dict(poll.poll(self.left_ms()))
            if self.wake_read.fileno() in ready:
                self.on_signals(self.wake_read.recv(64))
            if self.sock.fileno() in ready:
                self.receive()
            for fd in polled.keys() & ready.keys():
                if polled[fd] in self.store:
                    self.say(f"dropped {polled[fd].name}")
                    self.forget(polled[fd])
            self.watch()

    def left_ms(self) -> float | None:
        if not self.arguments.watchdog or not self.is_ready:
            return None
        return max(0.0, (self.heard_s - time.monotonic()) * 1e3 + self.arguments.watchdog / 1e3)

    def watch(self) -> None:
        if self.pid and not self.stopping and self.left_ms() == 0.0:
            self.say("watchdog")
            self.heard_s = time.monotonic()
            os.kill(self.pid, signal.SIGABRT)
            os.kill(self.pid, signal.SIGCONT)  # as systemd does: it may be stopped

    def on_signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGCHLD:
                self.reap()
            elif self.pid:
                self.stopping, self.restarting = number == signal.SIGTERM, number == signal.SIGUSR1
                os.kill(self.pid, signal.SIGTERM)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", type=int, default=1024)
    parser.add_argument("--watchdog", type=int, default=0)
    parser.add_argument("--deaf", action="store_true")
    parser.add_argument("socket")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    ServiceManager(parser.parse_args()).run()


if __name__ == "__main__":
    main()
