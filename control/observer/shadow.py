"""What we would have said beside what the present server said: requests are paired with replies, differences named.

Pure: no I/O, no clock; every time is that of a datagram.  control/observer/observer.py feeds it from the wire,
control/observer/replay.py decides as the workers do.  Everything is bounded: what finds no room is counted.

A reply belongs to the request with the same chaddr, xid, giaddr and kind.  Where replies of the present server cannot
be seen (they go to a relay), silence means nothing; a REQUEST that names that server, or an address in use, tells what
it had said.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

from control.explain.wording import VERDICTS, class_name
from control.messages.dissect import Message, differences, dissect, hexadecimal, words
from control.observer.replay import Decided, Replay, Seen
from ext import codec

WAIT_S = 10.0  # for the other server's reply: some probe an address for up to 3 s before they offer it
PENDING_MAX = 50_000
HOSTS_MAX = 100_000
STAGES_MAX = 24  # of one host
DIFFERENCES_MAX = 40  # of one reply
SERVERS_MAX = 64
PLACES_MAX = 10_000
HEARD_S = 3600.0  # a place where a reply was seen so long ago is one where replies are seen

SAME, DIFFERENT, ONLY_THEY, ONLY_WE = "same", "different", "only they", "only we"
BOTH_SILENT, NOT_SEEN = "both silent", "not seen"
COUNTS = (
    "requests", "repeats", "replies", "stray replies", "no table", "other order", "other server id", "told by requests",
    "not watched", "not noted", "proxied", SAME, DIFFERENT, ONLY_THEY, ONLY_WE, BOTH_SILENT, NOT_SEEN,
)  # fmt: skip
WORTH_TELLING = (DIFFERENT, ONLY_THEY, ONLY_WE)
_OVERLOAD, _SERVER_ID, _BOOT_FILE = 52, 54, 67
_TIMES = {51, 58, 59}
_ASKED_BY = {"OFFER": (1,), "ACK": (3, 8, 1), "NAK": (3,), "": (0,)}  # message types that a reply may answer
_NEVER_ANSWERED = (4, 7)
_KINDS = {0: "BOOTP", 1: "DISCOVER", 3: "REQUEST", 8: "INFORM"}
Key = tuple[bytes, int, str, int]
Place = str | int


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


@dataclass(slots=True)
class HostView:
    name: str = ""
    stages: dict[str, Outcome] = field(default_factory=dict)

    def results(self) -> set[str]:
        return {outcome.result for outcome in self.stages.values()}


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
            return
        if self.replay is None:
            self.counts["no table"] += 1
            return
        if len(self.pending) >= PENDING_MAX:
            self.counts["not watched"] += 1
            return
        self.pending[key] = Pending(seen, request, self.replay.decide(seen, request, 0, self.age_s()))

    def take_reply(self, seen: Seen, theirs: Message) -> None:
        self.counts["replies"] += 1
        named = theirs.options.get(_SERVER_ID, b"")
        server = str(IPv4Address(named)) if len(named) == 4 else str(IPv4Address(seen.source))
        if server in self.servers or len(self.servers) < SERVERS_MAX:
            self.servers[server] = self.servers.get(server, 0) + 1
        self.hear(theirs.giaddr or seen.ifindex, seen.time_s)
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
        found, apart = compared(ours.reply, theirs)
        self.counts["other server id"] += apart
        self.counts["other order"] += not found and not same_order(ours.reply, theirs)
        self.settle(pending, ours, DIFFERENT if found else SAME, found, server, "reply", now_s)

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
        place = str(IPv4Address(request["giaddr"])) if request["giaddr"] else seen.ifindex
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
        when_s: float,
    ) -> None:  # fmt: skip
        if ours is not None and ours.proxied:  # what the other server says is meant to be different
            self.counts["proxied"] += 1
            return
        self.counts[result] += 1
        for kind in dict.fromkeys(each["kind"] for each in found):
            self.kinds[kind] = self.kinds.get(kind, 0) + 1
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
        view.stages[stage] = Outcome(result, found[:DIFFERENCES_MAX], verdict, server, by, when_s, times)
        if result in WORTH_TELLING:
            who = f"{name} ({view.name})" if view.name else name
            for each in found:
                self.tell(name, each["kind"], f"{who}, {stage}: {difference_words(each)}")

    def stage_of(self, pending: Pending) -> str:
        """Which of a host's exchanges this is."""
        request = pending.request
        kind = _KINDS.get(request["message_type"], str(request["message_type"]))
        relay = f"by relay {IPv4Address(request['giaddr'])}" if request["giaddr"] else ""
        place = relay or f"on {self.interface_name(pending.seen.ifindex)}"
        return f"{kind} of {class_name(request['client_class'])} {place}"

    # --- what is told --------------------------------------------------------------------------------------------

    def totals(self) -> dict[str, Any]:
        """Counts since the start; hosts by what their newest comparisons say."""
        hosts = dict.fromkeys((SAME, DIFFERENT, ONLY_THEY, ONLY_WE, "without comparison"), 0)
        for view in self.hosts.values():
            results = view.results()
            worst = next(
                (each for each in (DIFFERENT, ONLY_THEY, ONLY_WE, SAME) if each in results), "without comparison"
            )
            hosts[worst] += 1
        return {
            "counts": dict(self.counts), "kinds": dict(self.kinds), "servers": dict(self.servers), "hosts": hosts,
            "waiting": len(self.pending),
        }  # fmt: skip

    def differing(self, after: str, limit: int) -> list[dict[str, Any]]:
        """Hosts with anything worth telling, in the order of their names, behind `after`."""
        names = sorted(
            name for name, view in self.hosts.items() if name > after and view.results() & set(WORTH_TELLING)
        )
        return [self.row(name, WORTH_TELLING) for name in names[:limit]]

    def row(self, name: str, results: tuple[str, ...] | None = None) -> dict[str, Any]:
        """results: only stages that ended so."""
        view = self.hosts[name]
        stages = [
            {
                "stage": stage, "result": outcome.result, "differences": outcome.differences,
                "verdict": outcome.verdict, "server": outcome.server, "by": outcome.by, "seen_s": outcome.seen_s,
                "times": outcome.times,
            }
            for stage, outcome in view.stages.items()
            if results is None or outcome.result in results
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


def compared(ours: Message, theirs: Message) -> tuple[list[dict[str, str]], bool]:
    """(differences with their kinds, whether the server ids differ).  How options are packed (52) is no difference."""
    if ours.kind != theirs.kind:
        return [{"kind": "message", "what": "message", "ours": ours.kind or "-", "theirs": theirs.kind or "-"}], False
    same_file = boot_file(ours) == boot_file(theirs)
    found, apart = [], False
    for each in differences(ours, theirs):
        code = int(each["what"].split()[1]) if each["what"].startswith("option ") else 0
        kind = "lease time" if code in _TIMES else each["what"]
        if same_file and (code == _BOOT_FILE or each["what"] == "boot file"):
            kind = "place of the boot file"
        if code == _SERVER_ID:
            apart = True
        elif code != _OVERLOAD:
            found.append({"kind": kind, **each})
    return found, apart


def boot_file(message: Message) -> str:
    """Whichever of its two places it stands in."""
    return message.file or words(message.options.get(_BOOT_FILE, b""))


def same_order(ours: Message, theirs: Message) -> bool:
    def order(message: Message) -> list[int]:
        return [code for code in message.options if code not in (_OVERLOAD, _SERVER_ID)]

    return order(ours) == order(theirs)
