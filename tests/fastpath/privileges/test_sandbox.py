"""What is left of a process's privileges, in the kernel's own words."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
GIVE_UP = """
import sys
from fastpath.privileges.sandbox import drop_privileges
drop_privileges(None)
sys.stdout.write(open("/proc/self/status").read())
"""


def test_no_capability_is_left() -> None:
    said = subprocess.run(
        [sys.executable, "-c", GIVE_UP], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
    ).stdout
    status = {name: value.strip() for name, _, value in (line.partition(":") for line in said.splitlines())}
    assert [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [0, 0, 0, 0]
    assert status["NoNewPrivs"] == "1"
    if os.geteuid() == 0:
        assert int(status["CapBnd"], 16) == 0


CONFINED_LOG = """
import logging, sys
from ext.pump import confine
from fastpath.process import logs
from fastpath.privileges.confine import worker_program
program = worker_program()
if not program:
    sys.exit(77)
logs.configure_logging(at_once=False)
logging.warning("before")
confine(program)
logs.begin_writing()
logging.warning("confined")
logs.leave(0)
"""


def test_a_confined_worker_s_log_is_written() -> None:
    """By a thread that was started after it, and may no more than the rest."""
    done = subprocess.run([sys.executable, "-c", CONFINED_LOG], cwd=ROOT, capture_output=True, text=True, timeout=60)
    if done.returncode == 77:
        pytest.skip("libseccomp is not installed (Debian package libseccomp2)")
    assert done.returncode == 0
    assert [line.rpartition(" ")[2] for line in done.stderr.splitlines()] == ["before", "confined"]


CONFINED = """
import os, socket, sys, threading
from ext.pump import confine
from fastpath.privileges.confine import worker_program
program = worker_program()
if not program:
    sys.exit(77)
ours, theirs = socket.socketpair()
open("/proc/self/status").close()
confine(program)
ours.send(b"still talks")
said = [theirs.recv(99).decode()]
thread = threading.Thread(target=lambda: said.append("has threads"))
thread.start()
thread.join()
refused = {
    "open a file": lambda: open("/proc/self/status"),
    "open a socket": socket.socket,
    "execute a program": lambda: os.execv("/bin/true", ["true"]),
    "fork": os.fork,
    "signal others": lambda: os.kill(1, 0),
    "remove a file": lambda: os.unlink("/nowhere"),
}
for what, attempt in refused.items():
    try:
        attempt()
        said.append("may " + what)
    except PermissionError:
        said.append("may not " + what)
sys.stdout.write(chr(10).join(said))
"""


def test_a_confined_worker_has_its_sockets_and_threads_and_nothing_else() -> None:
    done = subprocess.run([sys.executable, "-c", CONFINED], cwd=ROOT, capture_output=True, text=True, timeout=60)
    if done.returncode == 77:
        pytest.skip("no libseccomp (Debian package libseccomp2)")
    assert done.stdout.splitlines() == [
        "still talks",
        "has threads",
        "may not open a file",
        "may not open a socket",
        "may not execute a program",
        "may not fork",
        "may not signal others",
        "may not remove a file",
    ], done.stderr
