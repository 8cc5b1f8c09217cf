"""One machine of the fleet: hands each event to the decisions that it concerns, and returns what is to be done.

The process feeds it what the engine, the clock and the planner say; the simulator feeds it the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from control.fleet import adoption, election, heads, intake, leading, strangers
from control.fleet.actions import Action, Actions, Lead, Resign, StepDown
from control.fleet.adoption import Counted, Responder
from control.fleet.election import Election
from control.fleet.intake import Intake, Key, Spool
from control.fleet.leading import Leading, Phase
from control.fleet.messages import (
    Announcement,
    Content,
    Have,
    Journaled,
    LookedUp,
    LookUp,
    Seen,
    decode,
    kind_of,
)  # fmt: skip
from control.fleet.strangers import Answering, Asking, Found
from control.fleet.wire import Reason, Refused

Message = TypeVar("Message")


@dataclass(slots=True)
class Member:
    responder: Responder
    lease: Election
    leading: Leading
    spool: Spool
    intake: Intake
    asking: Asking
    answering: Answering
    refusals: Counter[str] = field(default_factory=Counter)

    # --- the clock ---------------------------------------------------------------------------------------------------

    def tick(self, wall_s: int, now: int) -> Actions:
        """Once a second, and before anything that needs the lead."""
        actions = self.lease_tick(now)
        self.leading, more = leading.tick(self.leading, wall_s, now)
        actions += self.routed(more, now)
        more = self.responded(adoption.tick(self.responder, now))
        self.spool, passed = intake.tick(self.spool, now)
        self.asking, asked = strangers.tick(self.asking, now)
        if self.leads(now):
            self.answering, looked = strangers.tick_leader(self.answering, now)
            asked += looked
        return actions + more + passed + asked

    def lease_tick(self, now: int) -> Actions:
        self.lease, actions = election.tick(self.lease, now)
        return self.routed(actions, now)

    def leads(self, now: int) -> bool:
        """As of now: a process that was stopped finds out here."""
        return election.leads(self.lease, now) and self.leading.phase is not Phase.IDLE

    def may_write(self, timeout_ms: int, now: int) -> bool:
        """To the inventory, by a request that may take as long as timeout_ms."""
        return leading.may_write(self.lease, self.leading, now, timeout_ms)

    def write_until_ms(self, now: int) -> int:
        """A request to the inventory may be sent that is over by then; 0: none."""
        return leading.write_until_ms(self.lease, self.leading, now)

    def release(self, busy_ms: int, now: int) -> Actions:
        """At an orderly end.  busy_ms: until then a request to the inventory may be under way."""
        self.lease, actions = election.release(self.lease, busy_ms, now)
        return self.routed(actions, now)

    def routed(self, actions: Actions, now: int) -> Actions:
        """What the decisions say to each other is taken out."""
        left: list[Action] = []
        for action in actions:
            match action:
                case Lead(revision):
                    own = None if self.responder.by_itself else self.responder.serves
                    self.leading, more = leading.begin(self.leading, revision, own, self.responder.head, now)
                    left += more
                case StepDown():
                    self.leading = leading.end(self.leading)
                    self.answering, self.intake = strangers.end(self.answering), intake.end(self.intake)
                    left.append(action)
                case Resign(why):
                    self.lease, more = election.resign(self.lease, why)
                    left += self.routed(more, now)
                case _:
                    left.append(action)
        return tuple(left)

    # --- the engine's answers ----------------------------------------------------------------------------------------

    def lease_read(self, asked_ms: int, value: bytes | None, revision: int, now: int) -> Actions:
        self.lease, actions = election.lease_read(self.lease, asked_ms, value, revision, now)
        return self.routed(actions, now)

    def lease_written(self, beat: int, revision: int, now: int) -> Actions:
        self.lease, actions = election.lease_written(self.lease, beat, revision, now)
        return self.routed(actions, now)

    def head_read(self, hub: bool, asked_ms: int, value: bytes | None, revision: int, now: int) -> Actions:
        actions: Actions = ()
        if hub and self.leads(now):
            self.leading, more = leading.head_read(self.leading, asked_ms, value, revision, now)
            actions = self.routed(more, now)
        return actions + self.responded(adoption.head_read(self.responder, value, now))

    def responded(self, step: adoption.Step) -> Actions:
        """The responder's next state; what it refused is counted."""
        before, (self.responder, actions) = self.responder.refusals, step
        if self.responder.refusals != before:
            self.refusals[self.responder.reason] += 1
        return actions

    def head_written(self, generation: int, revision: int, now: int) -> Actions:
        if not self.leads(now):
            return self.lease_tick(now)
        self.leading, actions = leading.head_written(self.leading, generation, revision, now)
        return self.routed(actions, now)

    def blobs_put(self, digest: bytes, done: bool, now: int) -> Actions:
        if not self.leads(now):
            return self.lease_tick(now)
        self.leading, actions = leading.blobs_put(self.leading, digest, done, now)
        return self.routed(actions, now)

    def blob_read(self, sha256: bytes, fault: Refused | None, now: int) -> Actions:
        return self.responded(adoption.blob_read(self.responder, sha256, fault, now))

    # --- the planner's -----------------------------------------------------------------------------------------------

    def built(self, content: Content, changed: int, now: int) -> Actions:
        if not self.leads(now):
            return self.lease_tick(now)
        self.leading, actions = leading.built(self.leading, content, changed, now)
        return self.routed(actions, now)

    def table_checked(self, digest: bytes, fault: Refused | None, now: int) -> Actions:
        actions = self.responded(adoption.table_checked(self.responder, digest, fault, now))
        if self.responder.serves is not None and not self.responder.by_itself:
            self.leading = leading.serves(self.leading, self.responder.serves)
        return actions

    def inventory_read(self, content: Content, now: int) -> Actions:
        self.responder, actions = adoption.inventory_read(self.responder, content, now)
        return actions

    def adopted(self, digest: bytes, now: int) -> Actions:
        self.responder, actions = adoption.adopted(self.responder, digest, now)
        return actions

    def counted(self, counted: Counted) -> None:
        self.responder = self.responder._replace(counted=counted)

    # --- messages of others ------------------------------------------------------------------------------------------

    def read(self, wanted: type[Message], raw: bytes) -> Message | None:
        try:
            return decode(wanted, raw)
        except Refused as fault:
            self.refusals[fault.reason] += 1
            return None

    def announcement(self, raw: bytes, now: int) -> Actions:
        if (said := self.read(Announcement, raw)) is None:
            return ()
        self.responder, actions = adoption.announced(self.responder, said, now)
        return actions

    def have(self, raw: bytes, now: int) -> Actions:
        if not self.leads(now) or (said := self.read(Have, raw)) is None:
            return ()
        self.leading, actions = leading.have_heard(self.leading, said, now)
        return self.routed(actions, now)

    def order(self, raw: bytes, now: int) -> Actions:
        if not self.leads(now):
            return ()
        try:
            order = heads.read_order(self.leading.site, raw)
        except Refused as fault:
            self.refusals[fault.reason] += 1
            return ()
        self.leading, actions = leading.ordered(self.leading, order, now)
        return self.routed(actions, now)

    # --- what followers see ------------------------------------------------------------------------------------------

    def seen(self, raw: bytes, by: str, now: int) -> Actions:
        """For who leads, a trap or a look-up.  by: which host the engine lets say this."""
        if not self.leads(now):
            return ()
        said: Seen | LookUp | None = self.read(LookUp, raw) if kind_of(raw) is LookUp else self.read(Seen, raw)
        if said is not None and said.host != by:
            self.refusals[Reason.OTHER_HOST] += 1
            return ()
        if isinstance(said, LookUp):
            self.answering, actions = strangers.heard(self.answering, said, now)
        elif said is not None:
            self.intake, actions = intake.seen(self.intake, said, now)
        else:
            return ()
        return actions

    # --- look-ups ----------------------------------------------------------------------------------------------------

    def look_up(self, macs: Iterable[bytes], names: Iterable[str], asked: bool, now: int) -> Actions:
        """Asks the leader; self.asking.number is its number, which Learnt has as well."""
        self.asking, actions = strangers.ask(self.asking, macs, names, asked, now)
        return actions

    def looked_up(self, raw: bytes) -> Actions:
        if (said := self.read(LookedUp, raw)) is None:
            return ()
        self.asking, actions = strangers.answered(self.asking, said)
        return actions

    def looked(self, number: int, found: Found, now: int) -> Actions:
        """The planner's answer to a LookInto."""
        if not self.leads(now):
            return self.lease_tick(now)
        self.answering, actions = strangers.looked(self.answering, number, found, now)
        return actions

    # --- traps -------------------------------------------------------------------------------------------------------

    def trap_kept(self, number: int, what: bytes) -> Actions:
        """It is in the spool on disk."""
        self.spool, actions = intake.kept(self.spool, number, what)
        return actions

    def journaled(self, key: Key) -> Actions:
        self.intake, actions = intake.journaled(self.intake, key)
        return actions

    def trap_confirmed(self, raw: bytes) -> Iterable[int]:
        """The numbers that may be taken off the spool on disk."""
        if (said := self.read(Journaled, raw)) is None:
            return ()
        self.spool, gone = intake.confirmed(self.spool, said)
        return gone
