"""What we would have said beside what the present server said: requests are paired with replies, differences named.

Pure: no I/O, no clock; every time is that of a datagram.  control/observer/observer.py feeds it from the wire,
control/observer/replay.py decides as the workers do.  Everything is bounded: what finds no room is counted.

A reply belongs to the request with the same chaddr, xid, giaddr and kind.  Where replies of the present server cannot
be seen (they go to a relay), silence means nothing; a REQUEST that names that server, or an address in use, tells what
it had said.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

from control.explain.wording import VERDICTS, class_name
from control.messages.dissect import Message, dissect, hexadecimal
from control.observer.differences import Aside, compared, same_order
from control.observer.replay import Decided, Replay, Seen
from ext import codec

WAIT_S = 10.0  # for the other server's reply: some probe an address for up to 3 s before they offer it
PENDING_MAX = 50_000
HOSTS_MAX = 100_000
STAGES_MAX = 24  # of one host
DIFFERENCES_MAX = 40  # of one reply, and as many that were set aside
SERVERS_MAX = 64
ASIDES_MAX = 10_000  # kept once for all the hosts that have them
PLACES_MAX = 10_000
HEARD_S = 3600.0  # a place where a reply was seen so long ago is one where replies are seen

SAME, DIFFERENT, ONLY_THEY, ONLY_WE = "same", "different", "only they", "only we"
BOTH_SILENT, NOT_SEEN = "both silent", "not seen"
COUNTS = (
    "requests", "repeats", "replies", "stray replies", "no table", "other order", "other server id", "told by requests",
    "not watched", "not noted", "proxied", "all set aside", SAME, DIFFERENT, ONLY_THEY, ONLY_WE, BOTH_SILENT, NOT_SEEN,
)  # fmt: skip
WORTH_TELLING = (DIFFERENT, ONLY_THEY, ONLY_WE)
_SERVER_ID = 54
_ASKED_BY = {"OFFER": (1,), "ACK": (3, 8, 1), "NAK": (3,), "": (0,)}  # message types that a reply may answer
_NEVER_ANSWERED = (4, 7)
_KINDS = {0: "BOOTP", 1: "DISCOVER", 3: "REQUEST", 8: "INFORM"}
Key = tuple[bytes, int, str, int]
Place = str | int | tuple[int, int]


@dataclass(slots=True)
class Pending:
    """A request that waits for the other server's reply.  decided None: not known yet where its client stands."""

    seen: Seen
    request: dict[str, Any]
    decided: Decided | None
    servers: list[str] = field(default_factory=list)  # that have replied


@dataclass(slots=True)
class Outcome:
    """The newest comparison at one stage of a host.  by: "reply", or "request" where replies are not seen."""

    result: str
    differences: list[dict[str, str]]
    verdict: str
    server: str
    by: str
    seen_s: float
    times: int = 1
    aside: tuple[Aside, ...] = ()

    def judged(self, strict: bool) -> str:
        """The result.  strict: what was set aside is a difference, too."""
        return DIFFERENT if strict and self.aside and self.result == SAME else self.result


@dataclass(slots=True)
class HostView:
    name: str = ""
    stages: dict[str, Outcome] = field(default_factory=dict)

    def results(self, strict: bool = False) -> set[str]:
        return {outcome.judged(strict) for outcome in self.stages.values()}


Tell = Callable[[str, str, str], None]
"""(host, kind of difference, sentence)."""


class Shadow:
    """age_s: of the table; interface_name: of an ifindex; tell: hears of each difference, every time."""

    def __init__(self, age_s: Callable[[], int], interface_name: Callable[[int], str], tell: Tell) -> None:
        self.replay: Replay | None = None
        self.age_s = age_s
        self.interface_name = interface_name
        self.tell = tell
        self.pending: OrderedDict[Key, Pending] = OrderedDict()
        self.hosts: dict[str, HostView] = {}
        self.heard: OrderedDict[Place, float] = OrderedDict()
        self.kinds: dict[str, int] = {}
        self.aside_kinds: dict[str, int] = {}
        self.aside_reasons: dict[str, int] = {}
        self.asides: dict[Aside, Aside] = {}
        self.servers: dict[str, int] = {}
        self.counts = dict.fromkeys(COUNTS, 0)
        self.gap_s = (0.0, 0.0)  # from, until: what came then was not all seen

    # --- what comes in -------------------------------------------------------------------------------------------

    def take(self, seen: Seen) -> None:
        """A datagram of UDP port 67 or 68, in the order of the wire."""
        self.expire(seen.time_s)
        message = dissect(seen.payload)
        if message is None:
            return
        if message.op == 1:
            self.take_request(seen)
        elif message.op == 2:
            self.take_reply(seen, message)

    def take_request(self, seen: Seen) -> None:
        request = codec.parse(seen.payload)
        if "verdict" in request or request["message_type"] in _NEVER_ANSWERED:
            return
        self.counts["requests"] += 1
        key = key_of(seen.payload, request["message_type"])
        if key in self.pending:  # a copy of it, or the client's next try
            self.counts["repeats"] += 1
            self.place_anew(self.pending[key], seen)
            return
        if self.replay is None:
            self.counts["no table"] += 1
            return
        if len(self.pending) >= PENDING_MAX:
            self.counts["not watched"] += 1
            return
        self.pending[key] = Pending(seen, request, self.replay.decide(seen, request, 0, self.age_s()))

    def place_anew(self, pending: Pending, seen: Seen) -> None:
        """The kernel shows a datagram on a port first and then on what has the addresses: a bond, a bridge."""
        if pending.decided is None and not pending.servers and self.replay is not None:
            pending.decided = self.replay.decide(seen, pending.request, 0, self.age_s())
            if pending.decided is not None:
                pending.seen = seen._replace(time_s=pending.seen.time_s)

    def take_reply(self, seen: Seen, theirs: Message) -> None:
        self.counts["replies"] += 1
        named = theirs.options.get(_SERVER_ID, b"")
        server = str(IPv4Address(named)) if len(named) == 4 else str(IPv4Address(seen.source))
        if server in self.servers or len(self.servers) < SERVERS_MAX:
            self.servers[server] = self.servers.get(server, 0) + 1
        self.hear(theirs.giaddr or seen.place, seen.time_s)
        keys = (key_of(seen.payload, kind) for kind in _ASKED_BY.get(theirs.kind, ()))
        pending = next((self.pending[key] for key in keys if key in self.pending), None)
        if pending is None:
            self.counts["stray replies"] += 1
            return
        if server in pending.servers:  # a copy: at the other side of a relay, or of a mirror port
            return
        pending.servers.append(server)
        if pending.decided is None and self.replay is not None:
            near = int(IPv4Address(theirs.yiaddr or theirs.ciaddr or server))
            pending.decided = self.replay.decide(pending.seen, pending.request, near, self.age_s())
        if pending.decided is not None:
            self.compare(pending, pending.decided, theirs, server, seen.time_s)

    def lost(self, from_s: float, until_s: float) -> None:
        """Datagrams of that time were not seen: no silence in it means anything."""
        first_s, last_s = self.gap_s
        self.gap_s = (first_s if from_s <= last_s + WAIT_S else from_s, until_s)

    def hear(self, place: Place, now_s: float) -> None:
        self.heard[place] = now_s
        self.heard.move_to_end(place)
        while len(self.heard) > PLACES_MAX:
            self.heard.popitem(last=False)

    # --- comparing -----------------------------------------------------------------------------------------------

    def compare(self, pending: Pending, ours: Decided, theirs: Message, server: str, now_s: float) -> None:
        if ours.reply is None:
            found = [
                {
                    "kind": "silence",
                    "what": theirs.kind or "reply",
                    "ours": reason(ours),
                    "theirs": theirs.yiaddr or "-",
                }
            ]
            self.settle(pending, ours, ONLY_THEY, found, server, "reply", now_s)
            return
        found, aside, apart = compared(ours.reply, theirs, pending.request)
        self.counts["other server id"] += apart
        self.counts["other order"] += not found and not same_order(ours.reply, theirs)
        self.settle(pending, ours, DIFFERENT if found else SAME, found, server, "reply", now_s, aside)

    def expire(self, now_s: float) -> None:
        """Judge what has waited long enough; to be called when nothing comes in, too."""
        while self.pending:
            key, pending = next(iter(self.pending.items()))
            if pending.seen.time_s + WAIT_S > now_s:
                return
            del self.pending[key]
            if not pending.servers:
                self.unanswered(pending)

    def unanswered(self, pending: Pending) -> None:
        """Nobody was seen to reply."""
        request, seen = pending.request, pending.seen
        when_s = seen.time_s + WAIT_S
        place = str(IPv4Address(request["giaddr"])) if request["giaddr"] else seen.place
        whole = not self.gap_s[0] - WAIT_S <= seen.time_s <= self.gap_s[1]
        visible = whole and self.heard.get(place, -HEARD_S) + HEARD_S > when_s
        claimed = request["ciaddr"] or (request["requested"] if request["server_id"] else 0)
        ours = pending.decided
        if not visible and request["message_type"] == 3 and claimed and self.replay is not None:
            ours = ours or self.replay.decide(seen, request, claimed, self.age_s())
            if ours is not None:
                self.infer(pending, ours, claimed, when_s)
                return
        if ours is None or not visible:
            self.settle(pending, ours, NOT_SEEN, [], "", "reply", when_s)
        elif ours.reply is None:
            self.settle(pending, ours, BOTH_SILENT, [], "", "reply", when_s)
        else:
            found = [
                {"kind": "silence", "what": ours.reply.kind or "reply", "ours": ours.reply.yiaddr or "-", "theirs": "-"}
            ]
            self.settle(pending, ours, ONLY_WE, found, "", "reply", when_s)

    def infer(self, pending: Pending, ours: Decided, claimed: int, when_s: float) -> None:
        """The client says which address the other server gave it."""
        self.counts["told by requests"] += 1
        theirs = str(IPv4Address(claimed))
        named = pending.request["server_id"]
        server = str(IPv4Address(named)) if named else ""
        mine = ours.reply.yiaddr if ours.reply is not None and ours.reply.kind != "NAK" else ""
        if mine == theirs:
            self.settle(pending, ours, SAME, [], server, "request", when_s)
            return
        if not ours.address:
            found = [{"kind": "silence", "what": "address", "ours": reason(ours), "theirs": theirs}]
            self.settle(pending, ours, ONLY_THEY, found, server, "request", when_s)
            return
        mine = mine or reason(ours)
        found = [{"kind": "address", "what": "address", "ours": mine, "theirs": theirs}]
        self.settle(pending, ours, DIFFERENT, found, server, "request", when_s)

    # --- what is kept --------------------------------------------------------------------------------------------

    def settle(
        self, pending: Pending, ours: Decided | None, result: str, found: list[dict[str, str]], server: str, by: str,
        when_s: float, aside: Sequence[Aside] = (),
    ) -> None:  # fmt: skip
        if ours is not None and ours.proxied:  # what the other server says is meant to be different
            self.counts["proxied"] += 1
            return
        self.counts[result] += 1
        kinds = dict.fromkeys(each["kind"] for each in found)
        for kind in kinds:
            self.kinds[kind] = self.kinds.get(kind, 0) + 1
        self.count_aside(aside, kinds)
        name = host_key(pending)
        view = self.hosts.get(name)
        if view is None:
            if len(self.hosts) >= HOSTS_MAX:
                self.counts["not noted"] += 1
                return
            view = self.hosts[name] = HostView()
        stage = self.stage_of(pending)
        before = view.stages.get(stage)
        if before is None and len(view.stages) >= STAGES_MAX:
            self.counts["not noted"] += 1
            return
        verdict = ours.verdict if ours is not None else ""
        view.name = ours.host if ours is not None and ours.host else view.name
        times = before.times + 1 if before is not None and before.result == result else 1
        kept = tuple(self.asides.get(each, each) for each in aside[:DIFFERENCES_MAX])
        view.stages[stage] = Outcome(result, found[:DIFFERENCES_MAX], verdict, server, by, when_s, times, kept)
        if result in WORTH_TELLING:
            who = f"{name} ({view.name})" if view.name else name
            for each in found:
                self.tell(name, each["kind"], f"{who}, {stage}: {difference_words(each)}")

    def count_aside(self, aside: Sequence[Aside], beside: Collection[str]) -> None:
        """beside: the kinds of the other differences of the same two replies."""
        self.counts["all set aside"] += bool(aside) and not beside
        for why in dict.fromkeys(each.why for each in aside):
            self.aside_reasons[why] = self.aside_reasons.get(why, 0) + 1
        for kind in dict.fromkeys(each.kind for each in aside if each.kind not in beside):
            self.aside_kinds[kind] = self.aside_kinds.get(kind, 0) + 1
        if len(self.asides) + len(aside) > ASIDES_MAX:
            self.asides.clear()
        for each in aside:
            self.asides.setdefault(each, each)

    def stage_of(self, pending: Pending) -> str:
        """Which of a host's exchanges this is."""
        request = pending.request
        kind = _KINDS.get(request["message_type"], str(request["message_type"]))
        relay = f"by relay {IPv4Address(request['giaddr'])}" if request["giaddr"] else ""
        vlan = f", VLAN {pending.seen.vlan}" if pending.seen.vlan else ""
        place = relay or f"on {self.interface_name(pending.seen.ifindex)}{vlan}"
        return f"{kind} of {class_name(request['client_class'])} {place}"

    # --- what is told --------------------------------------------------------------------------------------------

    def totals(self, strict: bool = False) -> dict[str, Any]:
        """Counts since the start; hosts by what their newest comparisons say.  strict: as if nothing were set aside."""
        hosts = dict.fromkeys((SAME, DIFFERENT, ONLY_THEY, ONLY_WE, "without comparison"), 0)
        for view in self.hosts.values():
            results = view.results(strict)
            worst = next(
                (each for each in (DIFFERENT, ONLY_THEY, ONLY_WE, SAME) if each in results), "without comparison"
            )
            hosts[worst] += 1
        counts, kinds = dict(self.counts), dict(self.kinds)
        if strict:
            counts[SAME] -= counts["all set aside"]
            counts[DIFFERENT] += counts["all set aside"]
            for kind, count in self.aside_kinds.items():
                kinds[kind] = kinds.get(kind, 0) + count
        return {
            "counts": counts, "kinds": kinds, "set_aside": dict(self.aside_reasons), "servers": dict(self.servers),
            "hosts": hosts, "waiting": len(self.pending),
        }  # fmt: skip

    def differing(self, after: str, limit: int, strict: bool = False) -> list[dict[str, Any]]:
        """Hosts with anything worth telling, in the order of their names, behind `after`."""
        names = sorted(
            name for name, view in self.hosts.items() if name > after and view.results(strict) & set(WORTH_TELLING)
        )
        return [self.row(name, WORTH_TELLING, strict) for name in names[:limit]]

    def row(self, name: str, results: tuple[str, ...] | None = None, strict: bool = False) -> dict[str, Any]:
        """results: only stages that ended so.  strict: what was set aside stands among the differences, with its
        reason."""
        view = self.hosts[name]
        stages = [
            {
                "stage": stage, "result": outcome.judged(strict),
                "differences": [*outcome.differences, *(each._asdict() for each in outcome.aside if strict)],
                "set_aside": [each._asdict() for each in outcome.aside if not strict],
                "verdict": outcome.verdict, "server": outcome.server, "by": outcome.by, "seen_s": outcome.seen_s,
                "times": outcome.times,
            }
            for stage, outcome in view.stages.items()
            if results is None or outcome.judged(strict) in results
        ]  # fmt: skip
        return {"mac": name, "host": view.name or None, "stages": stages}


def key_of(payload: bytes, message_type: int) -> Key:
    return payload[28:44], int.from_bytes(payload[4:8], "big"), payload[24:28].hex(), message_type


def host_key(pending: Pending) -> str:
    """The MAC that names the host; for one without, its client id."""
    request = pending.request
    if request["mac"]:
        return str(request["mac"].hex(":"))
    return f"client id {hexadecimal(request['client_id'])}" if request["client_id"] else request["chaddr"].hex(":")


def reason(ours: Decided) -> str:
    """Why we would not give it an address, in words."""
    meaning = VERDICTS.get(ours.verdict, (ours.verdict, ""))[0]
    return meaning + (f" (ours is {IPv4Address(ours.address)})" if ours.reply is None and ours.address else "")


def difference_words(each: dict[str, str]) -> str:
    if each["kind"] == "silence" and each["theirs"] == "-":
        return f"we would {each['what']} {each['ours']}, they are silent"
    if each["kind"] == "silence":
        did = "gave it" if each["what"] == "address" else each["what"]
        return f"they {did} {each['theirs']}, we would be silent: {each['ours']}"
    return f"{each['what']}: they say {each['theirs']}, we say {each['ours']}"
