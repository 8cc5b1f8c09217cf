"""`python -m control ...` and the command `bootstorm`: processes start without the command line's weight."""

from __future__ import annotations

import sys


def main() -> None:
    """`run`, `planner` and `registrar` are started by the supervisor and by control; everything else is cli.py's."""
    match sys.argv[1:]:
        case ["run", fd] if fd.isdigit():
            from control.service import main as run_service

            run_service(int(fd))
        case ["planner", fd] if fd.isdigit():
            from control.planner import main as run_planner

            run_planner(int(fd))
        case ["registrar", fd] if fd.isdigit():
            from control.discovery.registrar import main as run_registrar

            run_registrar(int(fd))
        case _:
            from control.cli import main as command_line

            command_line(prog_name="bootstorm")


if __name__ == "__main__":
    main()
