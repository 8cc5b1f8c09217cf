"""`python -m control ...`: each process by its word, without the command line's weight; all else is `bootstorm`."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable

TYPE_CHECKING = False  # as type checkers know it; typing itself takes longer to load than all of --version
if TYPE_CHECKING:
    from control.fleet.process.page import LeadPage

INTERRUPTED = 130  # as a shell says it of SIGINT


def main() -> None:
    """Ctrl-C ends whatever it is, at whatever it is, without a traceback; so does an end of who started a process."""
    if sys.argv[1:2] == ["serve"]:  # before it loads anything: what comes from now on waits for the supervisor's loop
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP, signal.SIGUSR2))
    fill_standard_descriptors()
    try:
        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        from fastpath.protocol import ChannelClosed

        if not isinstance(error, ChannelClosed):
            raise
        sys.exit(1)


def fill_standard_descriptors() -> None:
    """Those that are closed (`2>&-`) lead to /dev/null, or what we open next is written to as if it were the log."""
    while (fd := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)  # Python has none for what was closed when it began
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def command_line() -> None:
    from control.cli.command_line import main as run_command

    run_command(prog_name="bootstorm")


def show_version() -> None:
    """As the command line does it, whose libraries take longer to load than Python itself."""
    from fastpath.process.build import BUILD_NAME

    sys.stdout.write(f"bootstorm {BUILD_NAME}\n")
    sys.stdout.flush()


def obey(command: Callable[[], None]) -> None:
    """A command of a person's or a script's, which ends with a sentence, whatever the machine refuses it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding does not have
    try:
        command()
    except OSError as error:  # most often our own output: a full disk, a terminal that is gone
        with contextlib.suppress(OSError):
            if not isinstance(error, BrokenPipeError):  # of `| head -1`
                sys.stderr.write(f"bootstorm: {error}\n")
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for fd in (1, 2):  # what is still in their buffers would fail once more, and change the exit code
            os.dup2(nowhere, fd)
        sys.exit(1)


def lead_page(fd: int) -> LeadPage:
    """Of a fleet: nothing of it is loaded without one."""
    from control.fleet.process.page import LeadPage

    return LeadPage(fd)


def dies_first() -> None:
    """Before it loads anything: where memory ends meanwhile, the kernel would take control, which is larger."""
    from fastpath.process.oom import FIRST, offer

    offer(FIRST)


def run() -> None:
    """Processes that supervisor and control start, each with the fd of its channel; all else is
    cli/command_line.py's."""
    match sys.argv[1:]:
        case ["run" | "traps" | "planner" | "observer" | "registrar" | "fleet" | "try", fd] if fd.isdigit():
            from fastpath.process.lifeline import die_with_parent

            die_with_parent(int(fd))
    match sys.argv[1:]:
        case ["run", fd] if fd.isdigit():
            from control.planner.child import PlannerProcess
            from fastpath.process.oom import BEFORE_WORKERS, offer

            offer(BEFORE_WORKERS)
            planner = PlannerProcess.ahead()  # first: it loads its libraries while we load ours
            from control.service.service import main as run_service

            run_service(int(fd), planner)
        case ["traps", fd] if fd.isdigit():
            from control.discovery.traps.receiver import main as receive_traps

            receive_traps(int(fd))
        case ["planner", fd] if fd.isdigit():
            dies_first()
            from control.planner.process import main as run_planner

            run_planner(int(fd))
        case ["observer", fd] if fd.isdigit():
            from control.observer.observer import main as run_observer

            run_observer(int(fd))
        case ["registrar", fd] if fd.isdigit():
            dies_first()
            from control.discovery.registrar.registrar import main as run_registrar

            run_registrar(int(fd), lead_page)
        case ["fleet", fd] if fd.isdigit():
            dies_first()
            from control.fleet.process.process import main as run_fleet

            run_fleet(int(fd))
        case ["try", fd] if fd.isdigit():
            from control.service.trial import main as try_out

            try_out(int(fd))
        case ["--version"]:
            obey(show_version)
        case _:
            obey(command_line)


if __name__ == "__main__":
    main()
