"""What commands share: exit codes, `-c` with what is said of a faulty services.conf, and examples under `--help`.

Nothing of ours is imported here before a command needs it, nor in the files of the commands: `--help` and `--version`
answer at once.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from control.config.config import Config

FAILED, WRONG = 1, 2  # exit codes

config_option = click.option(
    "-c", "--config", "path", metavar="FILE", help="services.conf; default: clusto's search path."
)


def read_config(path: str | None) -> Config:
    """Exit 2 with every fault listed."""
    from control.config.config import ConfigFaults, load, load_first, search_path

    try:
        if path is not None:
            return load(path)
        config, passed_over = load_first(search_path(os.environ.get("HOME")))
    except ConfigFaults as faults:
        for fault in faults.faults:
            click.echo(f"bootstorm: {fault}", err=True)
        sys.exit(WRONG)
    for line in passed_over:
        click.echo(f"bootstorm: {line}", err=True)
    return config


def examples(*lines: str) -> str:
    """The end of a command's `--help`: one line each, which tests/test_docs_fences.py takes at their word."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))
