"""The packet path's part of a trial of this build: can it go on from what the running service has written down?"""

from __future__ import annotations

from fastpath import worker
from fastpath.supervisor import serving
from fastpath.supervisor.children import LAYOUTS, differing
from fastpath.supervisor.upgrade import read_state

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
