"""For loops of asyncio: as long as one turns, its word says so.

Apart from turns.py, which supervisor and workers load: asyncio would be a third of their start."""

from __future__ import annotations

import asyncio

from fastpath.process.turns import Turns

SHOW_S = 0.25


async def show_turns(turns: Turns | None, kind: str) -> None:
    """A task of the loop.  None: whoever started us did not ask."""
    while turns is not None:
        turns.show(kind)
        await asyncio.sleep(SHOW_S)
