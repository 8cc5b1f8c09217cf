"""`bootstorm bench ...`: the drivers of a running server, each a command."""

from __future__ import annotations

import click

from bench.crowd import main as crowd
from bench.demo import main as demo
from bench.perfdhcp import main as perfdhcp


@click.group()
def main() -> None:
    """Load, laboratories and comparisons."""


main.add_command(crowd, "crowd")
main.add_command(demo, "demo")
main.add_command(perfdhcp, "perfdhcp")

if __name__ == "__main__":
    main(prog_name="bootstorm bench")
