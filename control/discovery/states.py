"""How far a machine is with discovery: its states, what moves it, and one table of which moves there are.  Pure.

A machine is SEEN by a trap or a DHCP request, has its turn (WORKING: a registrar has it in hand), and stays where the
registrar's outcome says until something new is seen of it, its time has come, or a person says something.
"""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import Final

log = logging.getLogger("bootstorm.discovery")


class State(StrEnum):
    SEEN = "seen"  # its turn comes
    WORKING = "working"  # a registrar has it in hand
    REGISTERED = "registered"  # a server is there, its MAC not confirmed by DHCP yet
    CONFIRMED = "confirmed"  # the MAC stands on its port
    KNOWN = "known"  # nothing to do
    WAITS = "waits"  # for a person, or for a change in the inventory
    DOWN = "down"  # the inventory does not answer
    RETRY = "retry"  # it refused in a way that may pass
    OFF = "off"  # no discovery there
    UPLINK = "uplink"  # every place leads to a switch
    UNKNOWN = "unknown"  # only DHCP saw it, and the inventory has no such MAC
    WOULD = "would"  # dry run: what would have been done
    IGNORED = "ignored"  # by a person, until one undoes it or adopts it


class Event(StrEnum):
    """What moves a machine, besides its outcome."""

    NEWS = "news"  # another place, another role in DHCP, or a trap again after a long time
    STRANGER = "stranger"  # a DHCP request alone shows it, for the first time
    TAKEN = "taken"  # by a registrar
    LOOPING = "looping"  # it changes its port too often
    CROWDED = "crowded"  # its last place proved a hub or an uplink
    ADOPT = "adopt"  # a person: go on
    IGNORE = "ignore"  # a person: leave it
    UNIGNORE = "unignore"  # a person: no, do not
    RECALL = "recall"  # read from the journal by the next control process


# What a registrar may say of a machine that it had in hand.
OUTCOMES: Final = frozenset(
    {
        State.REGISTERED, State.CONFIRMED, State.KNOWN, State.WAITS, State.DOWN, State.RETRY, State.OFF, State.UPLINK,
        State.UNKNOWN, State.WOULD,
    }
)  # fmt: skip
WAITING: Final = frozenset({State.WAITS, State.OFF})  # looked at again by itself, after minutes
AGAIN: Final = frozenset({State.DOWN, State.RETRY})  # after seconds
FORGETTABLE: Final = frozenset(
    {State.KNOWN, State.CONFIRMED, State.UNKNOWN, State.OFF, State.UPLINK, State.WOULD}
)  # where there is no room
KEPT: Final = frozenset(
    {State.SEEN, State.WORKING, State.REGISTERED, State.WAITS, State.DOWN, State.RETRY, State.IGNORED}
)  # in the journal
_FREE: Final = frozenset(State) - {State.WORKING, State.IGNORED}

# Event -> from which states, and where to.
TRANSITIONS: Final[dict[Event, tuple[frozenset[State], State]]] = {
    Event.NEWS: (_FREE, State.SEEN),
    Event.STRANGER: (frozenset({State.SEEN}), State.UNKNOWN),
    Event.TAKEN: (frozenset({State.SEEN, State.UNKNOWN}) | WAITING | AGAIN, State.WORKING),
    Event.LOOPING: (_FREE, State.WAITS),
    Event.CROWDED: (frozenset({State.SEEN}) | WAITING | AGAIN, State.UPLINK),
    Event.ADOPT: (frozenset(State) - {State.WORKING}, State.SEEN),
    Event.IGNORE: (frozenset(State), State.IGNORED),
    Event.UNIGNORE: (frozenset({State.IGNORED}), State.SEEN),
    Event.RECALL: (KEPT - {State.REGISTERED, State.IGNORED}, State.SEEN),
}


def moved(state: State, event: Event) -> State:
    """Where an event leads to.  One that cannot come in a state is a fault of ours: logged, and the machine stays."""
    sources, target = TRANSITIONS[event]
    if state in sources:
        return target
    log.error("discovery: a machine that is %s cannot be moved by %s: it stays; report this", state, event)
    return state


def done(state: State, outcome: State) -> State:
    """Where an outcome leads to.  It is old where a person has ignored the machine since, or adopted it again."""
    return outcome if state is State.WORKING else state
