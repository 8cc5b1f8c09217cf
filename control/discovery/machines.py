"""What is known of each MAC that was seen: where, as what, how far it is, and when it is its turn.  No I/O, no clock.

Bounded: settled machines that nobody waits for make room first; what does not fit is counted, and comes again by its
next trap.  A port that shows more MACs than `snmp.max_macs_per_port` in a while leads to a switch and is left out.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from control.discovery.jobs import Outcome, Work
from control.discovery.states import (
    AGAIN,
    FORGETTABLE,
    KEPT,
    OUTCOMES,
    TRANSITIONS,
    WAITING,
    Event,
    State,
    done,
    moved,
)
from control.discovery.trapseen import Port, TrapSeen, numbered

MACHINES_MAX: Final = 50_000
STRANGERS_MAX: Final = 2_000  # that only DHCP saw: anybody can make them up, and none may take a trap's place
PORTS_MAX: Final = 100_000
SETTLE_S: Final = 1.0  # after the first trap: the other MACs of a hub or an uplink come in the same second
REPEAT_S: Final = 300.0  # the same trap again changes nothing for so long
WAIT_FIRST_S, WAIT_MAX_S = 300.0, 3600.0  # until what waits for a person is looked at again by itself
RETRY_FIRST_S, RETRY_MAX_S = 0.5, 60.0
TOGETHER_S: Final = 30.0  # traps of one MAC from several ports within this count together: one of them is an uplink
MOVES_MAX, MOVES_S = 6, 60.0  # more changes of place than this in so long: a loop
PLACES_MAX: Final = 8  # of one machine
MACS_AGE_S: Final = 600.0  # who was not heard of for so long is not behind its port any more
UPLINK_S: Final = 3600.0
BMC_LASTS_S: Final = 3600.0  # between two sightings as a BMC at one place, before that is written down
PER_SWITCH_PER_S, PER_SWITCH_BURST = 20.0, 200.0
SWITCHES_MAX: Final = 10_000
TEXT_BYTES_MAX: Final = 8_000  # of a journal's record; a reason has 1,000 characters
AT_ONCE: Final = 2_000  # a slice of control's loop: 3 ms
NO_SWITCH: Final = ""  # the queue of machines that only DHCP saw

COUNTS: Final = (
    "learnt", "removed", "on_uplinks", "repeated", "looping", "ignored", "dropped_full", "strangers_forgotten",
    *sorted(OUTCOMES),
)  # fmt: skip
ROLES: Final = frozenset({"host", "boot", "bmc"})  # jobs.Work
_MAC: Final = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")

Place = tuple[str, Port]  # switch, and its port as the trap names it


@dataclass(slots=True)
class Machine:
    """One MAC.  places: since when it is seen there, and in which VLAN.  due_s: when it is its turn, or None.

    Of tens of thousands at a time: nearly all share the empty tuples, and the garbage collector walks the rest."""

    mac: str
    state: State = State.SEEN
    reason: str = ""
    places: dict[Place, tuple[float, int]] = field(default_factory=dict)
    roles: frozenset[str] = frozenset()
    sighting: Mapping[str, Any] | None = None
    server: str = ""
    switch: str = ""
    port: int = 0
    did: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    name: str = ""
    adopted: bool = False
    seen_s: float = 0.0
    settled_s: float = 0.0
    due_s: float | None = None
    tries: int = 0
    traps: int = 0
    again: bool = False
    moved: tuple[float, ...] = ()  # when, of late
    left: tuple[Place, int] | None = None  # the place and VLAN that it lost when that proved an uplink
    bmc_at: tuple[Place, float] | None = None  # where it was when it first said that it is a BMC, and when
    lasting: bool = False  # it said so again there, long after
    bmc_word: bool = False  # and a person, who had heard it, says so

    def move(self, event: Event) -> None:
        """Whatever it was waiting for, it is not any more."""
        self.state, self.due_s = moved(self.state, event), None

    @property
    def place(self) -> Place | None:
        """Where it was seen last."""
        newest = max(self.places.items(), key=lambda item: item[1][0], default=None)
        return newest[0] if newest else None

    @property
    def queue(self) -> str:
        place = self.place
        return place[0] if place else NO_SWITCH

    def says_bmc(self, now: float) -> bool:
        """It says that it is a BMC, in a request.  True: with this it has said so for long enough, in one place."""
        place = self.place
        if place is None:
            self.bmc_at, self.lasting = None, False
        elif self.bmc_at is None or self.bmc_at[0] != place:
            self.bmc_at, self.lasting = (place, now), False
        elif not self.lasting and now >= self.bmc_at[1] + BMC_LASTS_S:
            self.lasting = True
            return True
        return False

    def work(self) -> Work:
        newest_first = sorted(self.places.items(), key=lambda item: -item[1][0])
        places: list[list[str | int]] = [[switch, port, vlan] for (switch, port), (_since, vlan) in newest_first]
        return Work(
            mac=self.mac,
            places=places,
            roles=sorted(self.roles),
            name=self.name,
            adopted=self.adopted,
            lasting=self.lasting and self.bmc_at is not None and self.bmc_at[0] == self.place,
            bmc_word=self.bmc_word,
        )

    def record(self) -> dict[str, Any]:
        """For the journal."""
        places = [[switch, port, vlan] for (switch, port), (_since, vlan) in self.places.items()]
        kept = {"state": str(self.state), "reason": self.reason, "places": places, "roles": sorted(self.roles)}
        named = {"server": self.server, "switch": self.switch, "port": self.port, "name": self.name}
        bmc = [*self.bmc_at[0], self.bmc_at[1]] if self.bmc_at is not None else None
        return kept | named | {"adopted": self.adopted, "bmc_at": bmc, "bmc_word": self.bmc_word}

    @classmethod
    def of_record(cls, record: Mapping[str, Any], now: float) -> Machine:
        """Raises ValueError for what no record of ours says, of whatever type its values are."""
        mac, state, port = record.get("mac"), record.get("state"), record.get("port")
        if not (isinstance(mac, str) and _MAC.fullmatch(mac)):
            raise ValueError(f"mac {str(mac)[:40]!r}")
        if not (isinstance(state, str) and state in KEPT and _is_number(port)):
            raise ValueError(f"state {str(state)[:40]!r}, port {str(port)[:40]!r}")
        texts = [record.get(name) for name in ("reason", "server", "switch", "name")]
        if not all(isinstance(text, str) and len(text.encode()) <= TEXT_BYTES_MAX for text in texts):
            raise ValueError("a reason, server, switch or name that is no text, or a long one")
        made = cls(mac=mac, state=State(state), seen_s=now, settled_s=now, port=port)  # type: ignore[arg-type]
        made.reason, made.server, made.switch, made.name = texts  # type: ignore[assignment]
        made.adopted, made.bmc_word = record.get("adopted") is True, record.get("bmc_word") is True
        made.places = {(switch, port): (now, vlan) for switch, port, vlan in _places(record.get("places"))}
        roles = record.get("roles")
        if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
            raise ValueError("roles that are no texts")
        made.roles = frozenset(roles) & ROLES
        bmc_at = record.get("bmc_at")
        if isinstance(bmc_at, list) and len(bmc_at) == 3:
            since = bmc_at[2]
            known = isinstance(bmc_at[0], str) and _is_port(bmc_at[1]) and type(since) in (int, float)
            if known and 0 <= since <= now:  # else of before a reboot: it begins anew
                made.bmc_at = ((bmc_at[0], bmc_at[1]), float(since))
        return made


def _is_number(value: object) -> bool:
    """Of a port or a VLAN."""
    return type(value) is int and 0 <= value < 1 << 31


def _is_port(value: object) -> bool:
    if not isinstance(value, str):
        return _is_number(value)
    try:
        numbered(value)
    except ValueError:
        return False
    return True


def _places(said: object) -> list[tuple[str, Port, int]]:
    """Raises ValueError."""
    if not isinstance(said, list) or len(said) > PLACES_MAX:
        raise ValueError(f"places {str(said)[:40]!r}")
    places: list[tuple[str, Port, int]] = []
    for one in said:
        if not (isinstance(one, list) and len(one) == 3 and isinstance(one[0], str)):
            raise ValueError(f"place {str(one)[:40]!r}")
        if not (_is_port(one[1]) and _is_number(one[2])):
            raise ValueError(f"place {str(one)[:40]!r}")
        places.append((one[0], one[1], one[2]))
    return places


@dataclass(slots=True)
class Pace:
    """Of one switch: how many machines it may still have done at once, and since when."""

    left: float = PER_SWITCH_BURST
    since_s: float = 0.0
    paused_s: float = 0.0  # until when: its rack's factory hung
    pause_s: float = 0.0
    reason: str = ""

    def take(self, now: float) -> bool:
        if now < self.paused_s:
            return False
        self.left = min(PER_SWITCH_BURST, self.left + (now - self.since_s) * PER_SWITCH_PER_S)
        self.since_s = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


class Machines:
    """max_macs: snmp.max_macs_per_port."""

    def __init__(self, max_macs: int, most: int = MACHINES_MAX) -> None:
        self.max_macs = max_macs
        self.most = most
        self.of_mac: OrderedDict[str, Machine] = OrderedDict()  # the longest unseen first
        self.strangers: OrderedDict[str, None] = OrderedDict()  # of these the ones without a place
        self.of_port: OrderedDict[Place, dict[str, float]] = OrderedDict()  # MAC -> when
        self.uplinks: OrderedDict[Place, float] = OrderedDict()  # until when
        self.due: list[tuple[float, str]] = []
        self.ready: OrderedDict[str, OrderedDict[str, None]] = OrderedDict()  # switch -> MACs
        self.paces: OrderedDict[str, Pace] = OrderedDict()
        self.counts: Counter[str] = Counter()

    # --- what is seen --------------------------------------------------------------------------------------------

    def take(self, trap: TrapSeen, now: float) -> Machine | None:
        """The machine when it is its turn now, or there is news of it."""
        place = (trap.switch, trap.port)
        if not trap.learnt:
            self.gone(trap.mac, place)
            return None
        self.counts["learnt"] += 1
        if self.is_uplink(place, now) or self.crowded(place, trap.mac, now):
            self.counts["on_uplinks"] += 1
            return None
        machine = self.known(trap.mac, now)
        if machine is None:
            return None
        machine.traps += 1
        return machine if self.placed(machine, place, trap.vlan, now) else None

    def placed(self, machine: Machine, place: Place, vlan: int, now: float) -> bool:
        """Whether that is news."""
        new = place not in machine.places
        self.strangers.pop(machine.mac, None)
        if new and machine.places:
            machine.moved = (*machine.moved, now)[-MOVES_MAX:]
        machine.places[place] = (now, vlan)
        for old in [old for old, (since, _vlan) in machine.places.items() if since < now - TOGETHER_S]:
            del machine.places[old]
        while len(machine.places) > PLACES_MAX:
            del machine.places[min(machine.places, key=lambda one: machine.places[one][0])]
        if machine.state is State.IGNORED:
            self.counts["ignored"] += 1
            return False
        if machine.state is State.WORKING:
            machine.again = machine.again or new
            return False
        if len(machine.moved) == MOVES_MAX and machine.moved[0] > now - MOVES_S:
            self.counts["looping"] += 1
            machine.move(Event.LOOPING)
            machine.settled_s = now
            machine.reason = f"seen on other ports {MOVES_MAX} times within {MOVES_S:.0f} s: a loop?"
            self.schedule(machine, now + MOVES_S)
            return True
        if machine.due_s is not None and machine.state is State.SEEN:
            self.counts["repeated"] += not new
            return new
        if not new and now < machine.settled_s + REPEAT_S:
            self.counts["repeated"] += 1
            return False
        self.start(machine, now + SETTLE_S)
        return True

    def start(self, machine: Machine, due_s: float, event: Event = Event.NEWS) -> None:
        machine.move(event)
        machine.reason, machine.tries = "", 0
        self.schedule(machine, due_s)

    def gone(self, mac: str, place: Place) -> None:
        self.counts["removed"] += 1
        self.of_port.get(place, {}).pop(mac, None)
        machine = self.of_mac.get(mac)
        if machine is not None and len(machine.places) > 1:
            machine.places.pop(place, None)

    def put_back(self, machine: Machine, now: float) -> None:
        """A person says that the crowd on its port is none of its business."""
        if machine.left is not None and not machine.places:
            place, vlan = machine.left
            machine.places[place] = (now, vlan)

    def is_uplink(self, place: Place, now: float) -> bool:
        return self.uplinks.get(place, 0.0) > now

    def crowded(self, place: Place, mac: str, now: float) -> bool:
        """Whether this MAC is one too many on its port; then none of them counts there any more."""
        macs = self.of_port.setdefault(place, {})
        self.of_port.move_to_end(place)
        if len(self.of_port) > PORTS_MAX:
            self.of_port.popitem(last=False)
        macs[mac] = now
        if len(macs) <= self.max_macs:
            return False
        for old in [old for old, when in macs.items() if when < now - MACS_AGE_S]:
            del macs[old]
        if len(macs) <= self.max_macs:
            return False
        self.mark_uplink(place, now)
        return True

    def mark_uplink(self, place: Place, now: float) -> None:
        self.uplinks[place] = now + UPLINK_S
        self.uplinks.move_to_end(place)
        while len(self.uplinks) > PORTS_MAX:
            self.uplinks.popitem(last=False)
        for mac in self.of_port.pop(place, {}):
            machine = self.of_mac.get(mac)
            if machine is None or machine.state is State.WORKING:
                continue
            if (seen := machine.places.pop(place, None)) is not None:
                machine.left = (place, seen[1])
            if not machine.places and machine.state in TRANSITIONS[Event.CROWDED][0]:
                machine.move(Event.CROWDED)
                machine.reason = f"more than {self.max_macs} MACs on {place[0]} port {place[1]}: a hub or an uplink"

    def known(self, mac: str, now: float) -> Machine | None:
        """The machine, a new one if it must be; None when there is no room."""
        machine = self.of_mac.get(mac)
        if machine is None:
            if len(self.of_mac) >= self.most and not self.make_room():
                self.counts["dropped_full"] += 1
                return None
            machine = self.of_mac[mac] = Machine(mac)
        machine.seen_s = now
        self.of_mac.move_to_end(mac)
        return machine

    def stranger(self, mac: str, now: float) -> Machine | None:
        """One that no trap has shown; the longest unseen of its kind makes room.  None as known()."""
        self.strangers[mac] = None
        self.strangers.move_to_end(mac)
        while len(self.strangers) > STRANGERS_MAX:
            oldest, _none = self.strangers.popitem(last=False)
            gone = self.of_mac.get(oldest)
            if gone is not None and not gone.places and gone.state in (State.SEEN, State.UNKNOWN):
                del self.of_mac[oldest]
                self.counts["strangers_forgotten"] += 1
        return self.known(mac, now)

    def forget(self, machine: Machine) -> None:
        """As if nobody had ever named it."""
        machine.due_s = None
        self.of_mac.pop(machine.mac, None)
        self.strangers.pop(machine.mac, None)

    def make_room(self) -> bool:
        for mac, machine in islice(self.of_mac.items(), 64):
            if (machine.state in FORGETTABLE and machine.due_s is None) or machine.state is State.OFF:
                del self.of_mac[mac]
                return True
        return False

    # --- whose turn it is ----------------------------------------------------------------------------------------

    def schedule(self, machine: Machine, due_s: float) -> None:
        machine.due_s = due_s
        heapq.heappush(self.due, (due_s, machine.mac))
        if len(self.due) > 4 * self.most:
            self.due = [(m.due_s, m.mac) for m in self.of_mac.values() if m.due_s is not None]
            heapq.heapify(self.due)

    def next(self, now: float, busy: Collection[str], stay: str | None = None) -> Machine | None:
        """The next one, of `stay` or else of another switch each time; of none that is busy, paused or over its rate.

        Looks at AT_ONCE of what is due and of the switches: the rest has its turn at the next call."""
        for _turn in range(AT_ONCE):
            if not self.due or self.due[0][0] > now:
                break
            due_s, mac = heapq.heappop(self.due)
            machine = self.of_mac.get(mac)
            if machine is not None and machine.due_s == due_s:
                self.ready.setdefault(machine.queue, OrderedDict())[mac] = None
        switches = [switch for switch in islice(self.ready, AT_ONCE) if switch != stay]
        if stay is not None and stay in self.ready:
            switches.insert(0, stay)
        for switch in switches:
            if switch in busy or not self.pace(switch).take(now):
                self.ready.move_to_end(switch)
                continue
            machine = self.first_of(switch)
            if machine is not None:
                return machine
        return None

    def first_of(self, switch: str) -> Machine | None:
        queue = self.ready.pop(switch)
        while queue:
            mac, _none = queue.popitem(last=False)
            machine = self.of_mac.get(mac)
            if machine is None or machine.due_s is None or machine.state in (State.WORKING, State.IGNORED):
                continue
            if queue:
                self.ready[switch] = queue  # behind the others
            machine.move(Event.TAKEN)
            machine.again = False
            return machine
        return None

    def wakes_in(self, now: float) -> float:
        """Seconds until somebody may be due; the rate of a switch is not looked at."""
        if self.ready:
            return 0.0 if self.due and self.due[0][0] <= now else 1 / PER_SWITCH_PER_S
        return max(0.0, self.due[0][0] - now) if self.due else 3600.0

    def pace(self, switch: str) -> Pace:
        if switch not in self.paces:
            self.paces[switch] = Pace()
            while len(self.paces) > SWITCHES_MAX:
                self.paces.popitem(last=False)
        return self.paces[switch]

    # --- how far it came -----------------------------------------------------------------------------------------

    def settle(self, machine: Machine, outcome: Outcome, now: float) -> None:
        """Takes the outcome over, and says when it is looked at again."""
        said = State(outcome.state)
        left = machine.state is not State.WORKING  # meanwhile, by a person
        machine.state, machine.settled_s = done(machine.state, said), now
        if not left:
            machine.reason = outcome.reason
        machine.switch, machine.port = outcome.switch or machine.switch, outcome.port or machine.port
        machine.server = outcome.server or machine.server
        machine.did = (*machine.did, *outcome.did)[-40:]
        machine.notes = tuple(outcome.notes[:10])
        self.counts[said] += 1
        for switch, port in outcome.uplinks:
            self.mark_uplink((str(switch), port), now)
        if said not in (State.WAITS, *AGAIN):
            machine.name = ""
        if left:
            return
        if machine.again:
            machine.again = False
            self.start(machine, now + SETTLE_S)
        elif said in AGAIN:
            machine.tries += 1
            self.schedule(machine, now + min(RETRY_MAX_S, RETRY_FIRST_S * 2 ** min(machine.tries - 1, 10)))
        elif said in WAITING:
            machine.tries += 1
            self.schedule(machine, now + min(WAIT_MAX_S, WAIT_FIRST_S * 2 ** min(machine.tries - 1, 10)))

    def rows(self, offset: int, limit: int, only: Sequence[str] = ()) -> Iterator[Machine]:
        """The latest seen first, without the strangers that only DHCP saw."""
        shown = (
            m for m in reversed(self.of_mac.values()) if m.state is not State.UNKNOWN and (not only or m.mac in only)
        )
        return islice(shown, offset, offset + limit)
