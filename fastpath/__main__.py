"""`python -m fastpath worker FD` and `python -m fastpath supervise FD`: not for people, `bootstorm` starts them."""

from __future__ import annotations

import sys

from fastpath.logs import configure_logging


def main(arguments: list[str]) -> int:
    configure_logging(at_once=False)
    match arguments:
        case ["worker", fd]:
            from fastpath.protocol import Channel, ChannelClosed
            from fastpath.worker import Worker

            try:
                Worker(Channel.of_fd(int(fd))).run()
            except ChannelClosed:
                return 1
            return 0
        case ["try", layout]:  # before an upgrade: does this code load, and does it share the running one's memory?
            from fastpath import worker as _worker
            from fastpath.supervisor import LAYOUT

            if layout != LAYOUT:
                sys.stderr.write(f"{_worker.__name__}: shared memory of {LAYOUT}, the running service has {layout}\n")
                return 1
            return 0
        case ["supervise", fd]:
            from fastpath.supervisor import main as supervise

            return supervise(int(fd))
    sys.stderr.write("usage: python -m fastpath worker FD | supervise FD (started by `bootstorm serve`)\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
