"""A limit on processes that is full refuses threads as well: whoever stands by has those that it will need."""

from __future__ import annotations

import os
import time

from fastpath.privileges.confine import worker_program
from fastpath.protocol import Confine
from fastpath.supervisor.children import commands, spawn

LIMIT_S = 20.0


def test_a_spare_has_its_thread_before_it_takes_a_slot() -> None:
    """Else the slot of a worker that died at a full limit stays empty, although a spare stood by for it."""
    spare = spawn("spare", commands()["spare"])
    try:
        spare.channel.send(Confine(program=worker_program()), {})
        deadline = time.monotonic() + LIMIT_S
        while len(os.listdir(f"/proc/{spare.pid}/task")) < 2:
            assert time.monotonic() < deadline, "a confined spare that has one thread"
            time.sleep(0.02)
    finally:
        spare.kill()
        os.waitpid(spare.pid, 0)
        spare.close()
