"""The packet path's part of a trial of this build: can it go on from what the running service has written down?"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

from fastpath import worker
from fastpath.protocol import Channel, Tried, write_all
from fastpath.supervisor import serving
from fastpath.supervisor.children import LAYOUTS, differing
from fastpath.supervisor.upgrade import command, read_state

ENTRIES = (serving.main, worker.Worker)  # what an upgrade will execute
SENTENCES = {
    "page": "pages are made anew, counters are carried over by name",
    "table": "tables are made anew, from the one on disk or from the inventory; until then the old workers serve",
    "pool": "XDP pools are laid out otherwise: sockets serve instead until the next restart",
}


def try_state(text: bytes) -> list[str]:
    """What this build will do otherwise, each a sentence.  Raises what keeps it from taking over."""
    state = read_state(text)
    notes = []
    for name in differing(state.layouts):
        if name != "pool" or state.kept.xdp is not None:
            was = state.layouts.get(name, "none")
            notes.append(f"layout of {name}: {was} in the running build, {LAYOUTS[name]} in this; {SENTENCES[name]}")
    return notes


def same_table_layout(text: bytes) -> bool:
    return "table" not in differing(read_state(text).layouts)


def say_by_the_entry(channel: Channel, word: Tried) -> None:
    """Execute what an upgrade executes, which says the word (serving.answer_probe()) and ends: an entry that is empty
    or does not load says nothing.  In this process, whose CPU time and whose end are watched.

    Raises OSError; else it does not return."""
    fd = os.memfd_create("bootstorm-probe")
    write_all(fd, json.dumps({"probe": {"channel": channel.fileno(), "tried": asdict(word)}}).encode())
    for each in (fd, channel.fileno()):
        os.set_inheritable(each, True)
    os.execv(sys.executable, command(fd))
