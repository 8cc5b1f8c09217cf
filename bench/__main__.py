"""`bootstorm bench ...`: the benches, each a command."""

from __future__ import annotations

import signal

import click

from bench.all import main as everything
from bench.cold import main as cold
from bench.core import main as core
from bench.demo.fleet import main as demo_fleet
from bench.demo.single import main as demo
from bench.engine.crowd import main as crowd
from bench.growth import main as growth
from bench.limit import limit_command
from bench.load import load_command
from bench.overload import main as overload
from bench.peers.run import main as peers
from bench.perfdhcp import main as perfdhcp
from bench.queue import main as queue
from bench.refresh import main as refresh
from bench.replay import replay_command
from bench.report.compare import main as compare
from bench.soak import main as soak
from bench.storm.boot import main as boot
from bench.storm.storm import main as storm
from bench.xdp import main as xdp


@click.group()
def main() -> None:
    """Load, laboratories and comparisons."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))


main.add_command(everything, "all")
main.add_command(boot, "boot")
main.add_command(cold, "cold")
main.add_command(compare, "compare")
main.add_command(core, "core")
main.add_command(crowd, "crowd")
main.add_command(demo, "demo")
main.add_command(demo_fleet, "demo-fleet")
main.add_command(growth, "growth")
main.add_command(limit_command, "limit")
main.add_command(load_command, "load")
main.add_command(overload, "overload")
main.add_command(peers, "peers")
main.add_command(perfdhcp, "perfdhcp")
main.add_command(queue, "queue")
main.add_command(refresh, "refresh")
main.add_command(replay_command, "replay")
main.add_command(soak, "soak")
main.add_command(storm, "storm")
main.add_command(xdp, "xdp")

if __name__ == "__main__":
    main(prog_name="bootstorm bench")
