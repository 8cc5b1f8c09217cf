"""Look-ups of strangers: asked for by who does not read the inventory, answered by who leads.

A request may be lost, and its answer too: it is sent again until it is answered, and given up after a while, which is
said.  What the inventory knows comes back to all as the next head; the answer only says that it was asked.

The leader has one question of others at its planner at a time, so that its own machine's wait behind one at most.  Each
machine has a budget there, and all of them together have one; who asks for the same MACs meanwhile shares the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from control.fleet.actions import Action, Actions, Answer, AskLeader, Learnt, LookInto
from control.fleet.messages import COUNTS, MACS_MAX, NAMES_MAX, LookedUp, LookUp, encode
from control.fleet.wire import TEXT_BYTES_MAX

NEVER: Final = -(1 << 60)
AGAIN_MS: Final = 1_000
LIMIT_MS: Final = 6_000  # for a stranger, who asks again by himself
ASKED_LIMIT_MS: Final = 15_000  # for a person: another leader may have to be found meanwhile
UNDER_WAY_MAX: Final = 8
LOOK_MS: Final = 60_000  # of the leader's planner, which says so itself before
WAITING_MAX: Final = 4  # requests of one machine, until it is their turn
MACHINES_MAX: Final = 1_024  # with a budget that is not full
HOST_PER_S, HOST_BURST = 20.0, 100.0  # MACs and names of one machine
TOTAL_PER_S, TOTAL_BURST = 40.0, 200.0  # of all machines but the leader's own
ASKED_PER_S, ASKED_BURST = 4.0, 64.0  # of one machine's people and discovery
ASKED_TOTAL_PER_S, ASKED_TOTAL_BURST = 16.0, 256.0
UNKNOWN_MS, UNKNOWN_MAX = 60_000, 10_000  # who is not in the inventory is not asked for again so soon
ANSWERS_MAX, ANSWERS_MS = 256, 20_000  # longer than anybody asks again


# --- who asks --------------------------------------------------------------------------------------------------------


class Wish(NamedTuple):
    said: LookUp
    since_ms: int
    sent_ms: int


class Asking(NamedTuple):
    """Of one process: session is drawn at random when it starts."""

    shard: str
    host: str
    session: bytes
    number: int = 0
    under_way: Mapping[int, Wish] = {}


def failed(said: LookUp, why: str) -> LookedUp:
    fault = why.encode("ascii", "replace")[:TEXT_BYTES_MAX].decode()
    return LookedUp(host=said.host, session=said.session, number=said.number, fault=fault)


def ask(state: Asking, macs: Iterable[bytes], names: Iterable[str], asked: bool, now: int) -> tuple[Asking, Actions]:
    """Of more than fit into one request the first.  Its number is state.number afterwards."""
    number = state.number + 1
    said = LookUp(
        shard=state.shard, host=state.host, session=state.session, number=number, macs=tuple(macs)[:MACS_MAX],
        names=tuple(names)[:NAMES_MAX], asked=asked,
    )  # fmt: skip
    state = state._replace(number=number)
    if len(state.under_way) >= UNDER_WAY_MAX:
        return state, (Learnt(failed(said, f"{UNDER_WAY_MAX} look-ups wait for the leader of the fleet already")),)
    return state._replace(under_way={**state.under_way, number: Wish(said, now, now)}), (AskLeader(encode(said)),)


def limit_ms(said: LookUp) -> int:
    return ASKED_LIMIT_MS if said.asked else LIMIT_MS


def tick(state: Asking, now: int) -> tuple[Asking, Actions]:
    if not state.under_way:
        return state, ()
    actions: list[Action] = []
    left: dict[int, Wish] = {}
    for number, wish in state.under_way.items():
        if now - wish.since_ms >= limit_ms(wish.said):
            why = f"no leader of the fleet answered within {limit_ms(wish.said) // 1000} s"
            actions.append(Learnt(failed(wish.said, why)))
            continue
        if now - wish.sent_ms >= AGAIN_MS:
            wish = wish._replace(sent_ms=now)
            actions.append(AskLeader(encode(wish.said)))
        left[number] = wish
    return state._replace(under_way=left), tuple(actions)


def answered(state: Asking, said: LookedUp) -> tuple[Asking, Actions]:
    """One that was given up, or is another process's, is nobody's any more."""
    if (said.host, said.session) != (state.host, state.session) or said.number not in state.under_way:
        return state, ()
    left = {number: wish for number, wish in state.under_way.items() if number != said.number}
    return state._replace(under_way=left), (Learnt(said),)


# --- who leads -------------------------------------------------------------------------------------------------------


class Budget(NamedTuple):
    left: float
    since_ms: int


Key = tuple[str, bytes, int]  # host, session, number
Payer = tuple[str, bool]  # host, "" for all together; asked


class Answering(NamedTuple):
    """waiting: with the time of their coming, the first come first; at: whose question the planner is at; number: of
    that; turn: whose request was taken last.  unknown: until when.  given: answers, for who did not get his."""

    shard: str
    host: str
    waiting: tuple[tuple[LookUp, int], ...] = ()
    at: tuple[LookUp, ...] = ()
    number: int = 0
    at_ms: int = NEVER
    turn: str = ""
    budgets: Mapping[Payer, Budget] = {}
    unknown: Mapping[bytes, int] = {}
    given: Mapping[Key, tuple[LookedUp, int]] = {}


def key_of(said: LookUp) -> Key:
    return said.host, said.session, said.number


def answer(said: LookedUp) -> Answer:
    return Answer(encode(said), said.host)


def end(state: Answering) -> Answering:
    """Of the lead.  Who waits asks the next leader; budgets are the inventory's and stay."""
    return Answering(state.shard, state.host, number=state.number, budgets=state.budgets)


def heard(state: Answering, said: LookUp, now: int) -> tuple[Answering, Actions]:
    """By who leads."""
    key = key_of(said)
    if said.shard != state.shard or any(
        key_of(one) == key for one in (*state.at, *(one for one, _ms in state.waiting))
    ):
        return state, ()
    if key in state.given:
        return state, (answer(state.given[key][0]),)
    wanted = tuple(mac for mac in said.macs if said.asked or state.unknown.get(mac, NEVER) <= now)
    if not wanted and not said.names:
        known = LookedUp(host=said.host, session=said.session, number=said.number, missing=said.macs)
        return state, (answer(known),)
    if sum(one.host == said.host for one, _ms in state.waiting) >= WAITING_MAX:
        return state, (answer(failed(said, f"the leader has {WAITING_MAX} look-ups of {said.host} waiting already")),)
    state, paid = pay(state, said.host, said.asked, len(wanted) + len(said.names), now)
    if not paid:
        return state, (answer(failed(said, f"over the budget that the leader has for look-ups of {said.host}")),)
    return go_on(state._replace(waiting=(*state.waiting, (said, now))), now)


def pay(state: Answering, host: str, asked: bool, count: int, now: int) -> tuple[Answering, bool]:
    """Of the machine's budget and of that of all, or of neither."""
    rates = ((ASKED_PER_S, ASKED_BURST), (ASKED_TOTAL_PER_S, ASKED_TOTAL_BURST)) if asked else (
        (HOST_PER_S, HOST_BURST), (TOTAL_PER_S, TOTAL_BURST))  # fmt: skip
    budgets = dict(state.budgets)
    left = []
    for payer, (per_s, burst) in zip(((host, asked), ("", asked)), rates, strict=True):
        found = budgets.pop(payer, Budget(burst, now))
        left.append((payer, min(burst, found.left + max(0, now - found.since_ms) * per_s / 1000)))
    paid = all(of >= count for _payer, of in left)
    for payer, of in left:
        budgets[payer] = Budget(of - count if paid else of, now)
    while len(budgets) > MACHINES_MAX:
        del budgets[next(payer for payer in budgets if payer[0])]  # the longest silent
    return state._replace(budgets=budgets), paid


def tick_leader(state: Answering, now: int) -> tuple[Answering, Actions]:
    if state.at and now - state.at_ms >= LOOK_MS:
        state = state._replace(at=())
    if not state.at and not state.waiting:
        return state, ()
    return go_on(state, now)


def go_on(state: Answering, now: int) -> tuple[Answering, Actions]:
    """The next question, if none is under way: of each machine in its turn, as many as fit into one."""
    if state.at:
        return state, ()
    waiting = [(said, came_ms) for said, came_ms in state.waiting if now - came_ms < limit_ms(said)]
    order = sorted({said.host for said, _ms in waiting})
    order = [host for host in order if host > state.turn] + [host for host in order if host <= state.turn]
    taken: list[LookUp] = []
    macs: dict[bytes, None] = {}
    names: dict[str, None] = {}
    for host in order:
        said = next(said for said, _ms in waiting if said.host == host)
        more_macs, more_names = {**macs, **dict.fromkeys(said.macs)}, {**names, **dict.fromkeys(said.names)}
        if len(more_macs) > MACS_MAX or len(more_names) > NAMES_MAX or (taken and said.asked != taken[0].asked):
            continue
        macs, names = more_macs, more_names
        taken.append(said)
    left = tuple((said, came_ms) for said, came_ms in waiting if said not in taken)
    if not taken:
        return state._replace(waiting=left), ()
    number = state.number + 1
    state = state._replace(waiting=left, at=tuple(taken), number=number, at_ms=now, turn=taken[-1].host)
    return state, (LookInto(number, tuple(macs), tuple(names), taken[0].asked),)


class Found(NamedTuple):
    """What the leader's planner says: as LookedUp."""

    missing: tuple[bytes, ...] = ()
    missing_names: tuple[str, ...] = ()
    digest: bytes = b""
    counts: tuple[int, ...] = ()
    fault: str = ""


def looked(state: Answering, number: int, found: Found, now: int) -> tuple[Answering, Actions]:
    if not state.at or number != state.number:
        return state, ()
    actions: list[Action] = []
    given = {key: kept for key, kept in state.given.items() if kept[1] > now}
    for said in state.at:
        made = failed(said, found.fault)
        if not found.fault:
            made = replace(
                made,
                missing=tuple(mac for mac in said.macs if mac in found.missing),
                missing_names=tuple(name for name in said.names if name in found.missing_names),
                digest=found.digest, counts=found.counts[:COUNTS],
            )  # fmt: skip
        given[key_of(said)] = made, now + ANSWERS_MS
        actions.append(answer(made))
    while len(given) > ANSWERS_MAX:
        del given[next(iter(given))]
    unknown = dict(state.unknown)
    for mac in found.missing:
        unknown.pop(mac, None)
        unknown[mac] = now + UNKNOWN_MS
    while len(unknown) > UNKNOWN_MAX:
        del unknown[next(iter(unknown))]
    state, more = go_on(state._replace(at=(), given=given, unknown=unknown), now)
    return state, (*actions, *more)
