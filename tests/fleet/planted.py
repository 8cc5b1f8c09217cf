"""Faults planted in the fleet's decisions, one at a time, to prove that the simulator finds such.

Each is a text of one function and what stands in its place; the function's code is exchanged while the fault is in.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from control.fleet import adoption, blobs, canary, election, heads, intake, leading, orders, signing, strangers


@dataclass(frozen=True, slots=True)
class Planted:
    """seed: of a schedule that finds it, for a quick look; it moves with every change of the simulator."""

    name: str
    function: Any
    old: str
    new: str
    seed: int = 0

    def code(self) -> CodeType:
        """Raises ValueError when the text does not stand in the function exactly once."""
        source = textwrap.dedent(inspect.getsource(self.function))
        if source.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.old!r} stands {source.count(self.old)} times in {self.function}")
        source = source[source.index("def ") :].replace(self.old, self.new)
        made: dict[str, Any] = {}
        code = compile("from __future__ import annotations\n" + source, "planted", "exec")
        exec(code, self.function.__globals__, made)
        function: FunctionType = made[self.function.__name__]
        return function.__code__

    @contextmanager
    def planted(self) -> Iterator[None]:
        before = self.function.__code__
        self.function.__code__ = self.code()
        try:
            yield
        finally:
            self.function.__code__ = before


BELIEVED = election.Timing.believed_ms.fget  # type: ignore[attr-defined]

PLANTED: tuple[Planted, ...] = (
    Planted("head written without its revision", leading.write,
            "WriteHead(value, state.head_revision, generation)", "WriteHead(value, None, generation)", 37),
    Planted("lease written without its revision", election.write,
            "WriteLease(value, last, beat)", "WriteLease(value, None, beat)", 25),
    Planted("epoch not compared", heads.judged,
            "if head.mark < newest:", "if head.mark.generation < newest.generation:", 15),
    Planted("generation not compared", heads.judged,
            "if head.mark < newest:", "if head.mark.epoch < newest.epoch:", 15),
    Planted("lease believed 2 s too long", BELIEVED, "self.ttl_ms - self.margin_ms", "self.ttl_ms", 2889),
    Planted("lease believed from its answer", election.lease_written, "until_ms = sent_ms +", "until_ms = now +", 500),
    Planted("request sent with less than its time-out left", leading.may_send, "> timeout_ms", "> 0", 868),
    Planted("missing lease makes a leader at once", election.lease_written,
            "if state.made else now", "if False else 0", 2),
    Planted("signature not checked", signing.opened,
            "keys.check(_key_id(found[1]), body, _signature(found[2]))", "pass", 41),
    Planted("blob not hashed", blobs.Assembly.take, "if self._hash.digest() != self.blob.sha256:", "if False:", 14),
    Planted("trap acknowledged before the journal", intake.seen,
            "(Journal(key, said.what),)", "(confirm(key), Journal(key, said.what))", 27),
    Planted("mark not kept on disk", adoption.head_read, "(KeepMark(head.mark, raw), *actions)", "actions", 0),
    Planted("table forgotten by a restart", adoption.lags, "return state.head is not None and", "return False and",
            1082),
    Planted("old incarnation in a new store", leading.new_incarnation,
            "return max(known.incarnation + 1, state.wall_s)", "return max(known.incarnation, 1)", 2),
    Planted("lease of another not noticed", election.lease_read, "if not is_ours(state, value):", "if False:", 2),
    Planted("renewals of a lease not noticed", election.lease_read,
            "since_ms = now if changed else", "since_ms = now if state.since_ms == NEVER else", 0),
    Planted("trial served by all", adoption.goal_of, " and host in head.canary", "", 17),
    Planted("restarts of a canary not counted", canary.heard,
            "if have.restarts or have.abandoned:", "if have.abandoned:", 17),
    Planted("trial promoted before its time", canary.heard, "have.served_s * 1000 >= canary.wait_ms", "True", 17),
    Planted("hold not obeyed", adoption.goal_of, "if head.held and serves is not None:", "if False:", 211),
    Planted("order obeyed twice", orders.obeyed, "if order.number != head.orders + 1:", "if False:", 20),
    Planted("without a table, waiting for the engine", adoption.tick, "if state.serves is None and", "if False and", 4),
    Planted("older head taken for the newest", leading.head_read, "if found.mark < highest(state):", "if False:", 301),
    Planted("lease given back during a request", election.release,
            "or now < busy_ms + state.timing.margin_ms", "or False", 0),
    Planted("look-up never given up", strangers.tick,
            "if now - wish.since_ms >= limit_ms(wish.said):", "if False:", 25),
    Planted("look-ups of others without a budget", strangers.heard, "if not paid:", "if False:", 371),
    Planted("look-ups of others all at once", strangers.go_on, "if state.at:", "if False:", 13),
)  # fmt: skip
