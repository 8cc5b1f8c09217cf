"""`python -m fastpath ...`: worker FD and supervise FD, not for people: `bootstorm` starts them."""

from __future__ import annotations

import sys

from fastpath.process.logs import configure_logging


def main(arguments: list[str]) -> int:
    configure_logging(at_once=False)
    match arguments:
        case ["worker", fd]:
            from fastpath.process.lifeline import die_with_parent

            die_with_parent(int(fd))
            from fastpath.protocol import Channel, ChannelClosed
            from fastpath.worker import Worker

            try:
                Worker(Channel.of_fd(int(fd))).run()
            except ChannelClosed:
                return 1
            return 0
        case ["try", _layout]:  # asked by builds that could take over from their own layout only
            sys.stderr.write("this build cannot be upgraded to in place from that one\n")
            return 1
        case ["supervise", fd]:
            from fastpath.supervisor.serving import main as supervise

            return supervise(int(fd))
    sys.stderr.write("usage: python -m fastpath worker FD | supervise FD (started by `bootstorm serve`)\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
