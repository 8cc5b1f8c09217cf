"""Before an upgrade: does the code that is installed now load, and can it go on from the running service?

A child of the running supervisor, which goes on meanwhile.  It is given copies: the supervisor's state as text, the
accepted services.conf, the table read-only; nothing by which it could touch the service.  How it is started
(`python -m control try FD`) and what it is told and says (Try, Tried) is the same in every build.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import sys
from importlib.util import find_spec
from pathlib import Path

from fastpath.process.build import fingerprint
from fastpath.process.logs import configure_logging, leave_journal
from fastpath.protocol import Channel, Fds, Tried, Try

NICE = 5  # the workers of the running service answer first
PACKAGES = ("ext", "fastpath", "control")
# Extras: a site that has not installed the library does without the modules.
EXTRAS = {"control.board.": "uvicorn", "control.fleet.process.": "nats"}
REFUSED_MAX = 40  # notes in one message


def load_everything() -> None:
    """Every module that any process of the service may load later.  Raises whatever is wrong with one of them."""
    missing = tuple(prefix for prefix, library in EXTRAS.items() if find_spec(library) is None)
    for package in PACKAGES:
        path = importlib.import_module(package).__path__
        for module in pkgutil.walk_packages(path, f"{package}."):
            if module.name.startswith(missing):
                continue
            if not module.name.endswith(".__main__"):  # control's has started us, and fastpath's has the last word
                importlib.import_module(module.name)


def read(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def parse_config(text: bytes, path: Path) -> list[str]:
    """The configuration that the running service has accepted: what this build refuses of it, each a sentence.

    Raises ConfigFaults where it can read none of it: all defaults together are no configuration to go on with."""
    from control.config.config import ConfigFaults, parse_accepted

    refused = parse_accepted(text, path)[1]
    try:
        json.loads(text)
    except ValueError as error:
        raise ConfigFaults(refused) from error
    return refused


def try_out(message: Try, fds: Fds) -> list[str]:
    """Notes for the log.  Raises what keeps this build from taking over."""
    load_everything()
    from ext.table import Generation, Pair

    from fastpath.trial import same_table_layout, try_state

    state = read(fds.one("state"))
    notes = try_state(state)
    notes += parse_config(read(fds.one("config")), Path(message.config_path))
    if fds.all("base") and same_table_layout(state):
        delta = fds.perhaps("delta")
        Pair(Generation(fds.one("base")), Generation(delta) if delta >= 0 else None)
    return notes


def main(fd: int) -> None:
    """The process.  fd: its channel to the supervisor."""
    configure_logging()
    channel = Channel.of_fd(fd)
    message, fds = channel.receive()
    if not isinstance(message, Try):
        raise TypeError(f"trial: the first message is {type(message).__name__}, wanted Try")
    if message.quiet:
        fall_silent()
    if not message.urgent:
        os.nice(NICE)
    try:
        folders = installed_folders()
        seen = fingerprint(folders)  # before it is loaded
        notes = try_out(message, fds)
    except BaseException as fault:  # also what a module raises to end the process
        channel.send(Tried(fault=in_one_line(fault)))
        raise
    notes = [note[:500] for note in notes[:REFUSED_MAX]]
    say(channel, Tried(notes=notes, folders=folders, fingerprint=seen))


def fall_silent() -> None:
    """Also over the exec, and whatever Python itself prints."""
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, sys.stderr.fileno())
    os.close(null)
    leave_journal()


def installed_folders() -> list[str]:
    return [folder for package in PACKAGES for folder in importlib.import_module(package).__path__]


def say(channel: Channel, word: Tried) -> None:
    """Nothing has failed, and the last that could is what an upgrade executes."""
    from fastpath.trial import say_by_the_entry

    try:
        say_by_the_entry(channel, word)
    except OSError as fault:
        channel.send(Tried(fault=in_one_line(fault)))
        raise


def in_one_line(fault: BaseException) -> str:
    words = " ".join(str(fault).split())
    return f"{type(fault).__name__}: {words}"[:500]
