"""Which services.conf a command means: the option `-c` of all that have it, and what is said of a faulty file."""

from __future__ import annotations

import os
import sys

import click

from control.config.config import Config, ConfigFaults, load, load_first, search_path

FAILED, WRONG = 1, 2  # exit codes

config_option = click.option("-c", "--config", "path", help="services.conf; default: clusto's search path.")


def read_config(path: str | None) -> Config:
    """Exit 2 with every fault listed."""
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
