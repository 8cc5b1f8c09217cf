"""What the service makes of a request, and why: ext.codec's answer() decides, here it becomes words.

A request becomes a dict of plain values (JSON, msgpack): who asks, from where, which record and lease, the verdict, the
reply with its options and who gave them.  cli/explain_text.py lays it out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from typing import Any

from ext.table import Pair

from control.explain import classes
from control.explain.leasequery import is_leasequery, said_by, subject_of
from control.explain.offline import Interface, router_of
from control.explain.pairing import Answer, Paired, pair, to_relay
from control.explain.wording import stage_of, verdict_words
from control.mac import show_mac
from control.messages.capture import BOOT_PORT, Capture, Datagram
from control.messages.dissect import (
    Message,
    describe_option,
    differences,
    dissect,
    options_of,
    relay_words,
    words,
)
from control.plan.classes import Client
from control.plan.origins import BOOT_FILE, NEXT_SERVER
from control.table.rows import port_reason
from ext import codec

BROADCAST = 0xFFFFFFFF
SERVER_PORT, CLIENT_PORT = 67, 68
WAITING_MAX = 256  # requests of one machine under one xid that a capture has no reply to yet
ReasonOf = Callable[[str], str | None]
OriginOf = Callable[[int, Client, int], dict[int, str]]
_LINKS = {
    "link selection": "the relay says in option 82.5 that it stands there",
    "Cisco's": "the relay says in option 82.150, Cisco's link selection, that it stands there",
    "subnet selection": "it says so itself in option 118",
    "giaddr": "the relay's address (giaddr)",
    "": "the network of the interface that it came in on",
}

_FITS = {  # a lease whose own network is not the client's link
    "shared": "{network} is on that link, too: its IP manager has the same `shared` as the link's",
    "routed": "{network} is an address without a network of its own: the site routes it to whatever link of its "
    "the machine is on",
}


class Explainer:
    """One table and what is known besides.  pair None: there is no table, only the requests are explained."""

    def __init__(
        self,
        pair: Pair | None,
        interfaces: Sequence[Interface],
        reason_of: ReasonOf = lambda _mac: None,
        origin_of: OriginOf = lambda _mac, _client, _address: {},
    ) -> None:
        self.pair = pair
        self.interfaces = interfaces
        self.reason_of = reason_of
        self.origin_of = origin_of

    # --- one datagram --------------------------------------------------------------------------------------------

    def request(self, payload: bytes, **place: Any) -> dict[str, Any]:
        """One request; place: ifindex, source, source_port, destination, local, as codec.trace takes them."""
        trace = codec.trace(self.pair, payload, **place)
        request = trace.request
        if self.pair is None:
            parsed = codec.parse(payload, unicast=place.get("destination", BROADCAST) != BROADCAST)
            request = {} if "verdict" in parsed else parsed
        stage = "a datagram", "not understood as a request of DHCP"
        if request:
            stage = stage_of(request, place.get("at_boot_port", False))
        message = dissect(payload)
        said: dict[str, Any] = {
            "stage": stage[0],
            "stage_words": stage[1],
            "mac": message.chaddr[:6].hex(":") if message is not None else None,
            "xid": f"{message.xid:08x}" if message is not None else None,
            "says": self.says(request, message),
            "class": classes.label(classes.client_of(self.pair, request)) if request else None,
            "class_words": classes.described(self.pair, request) if request else None,
            "request": described(message) if message is not None else None,
            "names": names_in(message),
        }
        said |= self.outcome(trace, request, place.get("ifindex", 1))
        return said | said_by(message, self.pair is not None) if is_leasequery(message) else said

    def outcome(self, trace: codec.Trace, request: dict[str, Any], ifindex: int) -> dict[str, Any]:
        """Link, record, verdict, reply; nothing but "verdict" None without a table."""
        if self.pair is None:
            return {"verdict": None, "meaning": "there is no table to answer from", "advice": "", "reply": None} | (
                dict.fromkeys(
                    ("link", "link_words", "host", "role", "state", "reason", "address", "fit", "relay_agent")
                )
            )
        verdict = trace.reply.verdict.name
        meaning, advice = verdict_words(verdict)
        mac = show_mac(trace.mac) if trace.mac else None
        return {
            "link": str(IPv4Address(trace.link)) if trace.link else self.network_at(ifindex, trace.address),
            "link_words": _LINKS[told_by(trace)] if request else None,
            "host": trace.host.decode("utf-8", "replace") if trace.mac else None,
            "role": trace.role or None,
            "state": trace.state or None,
            "reason": self.reason(trace.mac) if mac else None,
            "address": f"{IPv4Address(trace.address)}/{trace.prefix}" if trace.address else None,
            "fit": _FITS[trace.fit].format(network=network_of(trace)) if trace.fit in _FITS else None,
            "relay_agent": relay_words(trace.request["relay_agent"]) if trace.request.get("relay_agent") else None,
            "verdict": verdict,
            "meaning": meaning,
            "advice": advice,
            "reply": self.reply(trace) if trace.reply.data else None,
        }

    def reason(self, mac: int) -> str | None:
        """Why a machine is not answered."""
        return self.reason_of(show_mac(mac)) or port_reason(self.pair.lookup(mac) if self.pair is not None else None)

    def network_at(self, ifindex: int, address: int) -> str | None:
        """The interface's network that has an address, else its first one."""
        networks = [each.network for each in self.interfaces if each.ifindex == ifindex]
        return next(
            (str(net) for net in networks if IPv4Address(address) in net), str(networks[0]) if networks else None
        )

    @staticmethod
    def says(request: dict[str, Any], message: Message | None) -> list[str]:
        """What the request says that decides, in words."""
        if not request or message is None:
            return []
        found = []
        if request["ciaddr"]:
            found.append(f"it has the address {IPv4Address(request['ciaddr'])}")
        if request["requested"]:
            found.append(f"it wants the address {IPv4Address(request['requested'])}")
        if request["server_id"]:
            found.append(f"it speaks to the server {IPv4Address(request['server_id'])}")
        if request["giaddr"]:
            found.append(f"the relay {IPv4Address(request['giaddr'])} passes it on")
        if request["flags"] & 0x8000:
            found.append("it wants the reply by broadcast")
        if request["vendor_class"]:
            found.append(f"it calls itself {words(request['vendor_class'])}")
        return found

    def reply(self, trace: codec.Trace) -> dict[str, Any]:
        """A reply, where it goes, and who gave each of its options."""
        said, reply = dissect(trace.reply.data), trace.reply
        assert said is not None
        origins = self.origin_of(trace.mac, classes.client_of(self.pair, trace.request), trace.address)
        options = [each | {"origin": origins.get(each["code"])} for each in described(said)["options"]]
        return described(said) | {
            "route": reply.route,
            "destination": str(IPv4Address(reply.destination)),
            "port": reply.port,
            "to_mac": reply.mac.hex(":") if reply.route == "frame" else None,
            "source": str(IPv4Address(reply.source)),
            "bytes": len(reply.data),
            "options": options,
            "origins": {"next_server": origins.get(NEXT_SERVER), "boot_file": origins.get(BOOT_FILE)},
        }

    def datagram(self, payload: bytes) -> dict[str, Any]:
        """A datagram without its addresses: as it would have come, by what it says itself."""
        message = dissect(payload)
        place = self.interfaces[0] if self.interfaces else Interface(1, 0, 0)
        if message is not None and message.giaddr:
            return self.request(payload, **unicast(place, int(IPv4Address(message.giaddr)), SERVER_PORT))
        if message is not None:
            place = self.place_of(message.chaddr[:6], message.ciaddr)
        return self.request(payload, ifindex=place.ifindex, local=place.address)

    def place_of(self, chaddr: bytes, near: str) -> Interface:
        """Where a broadcast came in: near an address, else in the first network of the machine."""
        wanted = [IPv4Address(near)] if near else []
        row = self.pair.lookup(int.from_bytes(chaddr, "big")) if self.pair is not None else None
        wanted += [IPv4Address(lease["address"]) for lease in row["leases"]] if row is not None else []
        for address in wanted:
            for each in self.interfaces:
                if address in each.network:
                    return each
        return self.interfaces[0] if self.interfaces else Interface(1, 0, 0)

    # --- one machine ---------------------------------------------------------------------------------------------

    def machine(self, mac: int) -> dict[str, Any]:
        """A DISCOVER of each client class in each network of a machine.

        {"mac", "host", "state", "reason", "networks": [{"network", "by", "groups": [{"classes", "explained",
        "differs"}]}]}: classes with one and the same reply are one group, `differs` says from the first that is one."""
        row = self.pair.lookup(mac) if self.pair is not None else None
        places = [self.reach(lease) for lease in row["leases"]] if row is not None and row["state"] == "served" else []
        if not places:
            first = self.interfaces[0] if self.interfaces else Interface(1, 0, 0)
            places = [(None, "", 0, {"ifindex": first.ifindex, "local": first.address})]
        return {
            "mac": show_mac(mac),
            "host": row["name"].decode("utf-8", "replace") if row is not None else None,
            "state": row["state"] if row is not None else None,
            "reason": self.reason(mac),
            "networks": [
                {"network": network, "by": by, "groups": self.groups(mac, giaddr, place)}
                for network, by, giaddr, place in places
            ],
        }

    def reach(self, lease: dict[str, Any]) -> tuple[str | None, str, int, dict[str, Any]]:
        """(network, in words how its requests come, giaddr, place) for a lease's network."""
        network = Interface(0, lease["address"], lease["prefix"]).network
        for each in self.interfaces:
            if IPv4Address(each.address) in network:
                return (
                    str(network),
                    f"by broadcast; the server has {each} there",
                    0,
                    {"ifindex": each.ifindex, "local": each.address},
                )
        if lease["prefix"] == 32 and self.interfaces:
            place = self.interfaces[0]
            words = f"by broadcast on any link of the site, here that of {place}"
            return str(network), words, 0, {"ifindex": place.ifindex, "local": place.address}
        relay = router_of(lease) or int(network.network_address) + 1
        first = self.interfaces[0] if self.interfaces else Interface(1, 0, 0)
        return str(network), f"by a relay, assumed at {IPv4Address(relay)}", relay, unicast(first, relay, SERVER_PORT)

    def groups(self, mac: int, giaddr: int, place: dict[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        replies: list[tuple[Message | None, str]] = []
        for name, payload in classes.discovers(self.pair, mac, giaddr, place) if self.pair is not None else ():
            said = dissect(codec.answer(self.pair, payload, **place).data)
            explained = self.request(payload, **place)
            key = (said, explained["verdict"])
            if key in replies:
                found[replies.index(key)]["classes"].append(name)
                continue
            first = next((reply for reply, _verdict in replies if reply is not None), None)
            differs = differences(said, first) if said is not None and first is not None else []
            replies.append(key)
            found.append({"classes": [name], "explained": explained, "differs": differs})
        return found

    # --- a capture -----------------------------------------------------------------------------------------------

    def capture(self, capture: Capture, paired: Paired | None = None) -> list[dict[str, Any]]:
        """The requests of a capture in order, each with the replies that the capture has to it."""
        paired = paired or pair(capture.datagrams)
        begun_s = begin_of(capture)
        replies = captured_replies(capture)
        found: list[dict[str, Any]] = []
        for at, asked in enumerate(paired.requests):
            datagram = asked.datagram
            place = self.place_in(datagram, asked.message, replies.get(datagram.frame))
            reply = codec.answer(self.pair, datagram.payload, **place).data
            ours = dissect(reply) if reply else None
            found.append(
                {"frame": datagram.frame, "seconds": round(datagram.time_s - begun_s, 6)}
                | self.request(datagram.payload, **place)
                | {
                    "missed": self.missed(datagram),
                    "origin": None if asked.origin is None else paired.requests[asked.origin].datagram.frame,
                    "passed_on": [paired.requests[copy].datagram.frame for copy in asked.passed_on],
                    "unanswered": paired.is_unanswered(at),
                    "seen": [seen_reply(answer, ours) for answer in asked.answers],
                }
            )
        return found

    def missed(self, datagram: Datagram) -> str | None:
        """Where a datagram goes that never reaches us."""
        if datagram.destination == BROADCAST or self.pair is None:
            return None
        for each in self.interfaces:
            if datagram.destination in (each.address, int(each.network.broadcast_address)):
                return None
        return str(IPv4Address(datagram.destination))

    def place_in(self, datagram: Datagram, message: Message | None, server: int | None) -> dict[str, Any]:
        """Where a captured request would come in at ours."""
        at_boot_port = datagram.destination_port == BOOT_PORT
        for each in self.interfaces:
            if datagram.destination == each.address:
                return unicast(each, datagram.source, datagram.source_port) | {"at_boot_port": at_boot_port}
        place = next((each for each in self.interfaces if server and IPv4Address(server) in each.network), None)
        if place is None:
            place = self.place_of(message.chaddr[:6] if message else b"", message.ciaddr if message else "")
        return {
            "ifindex": place.ifindex, "source": datagram.source, "source_port": datagram.source_port,
            "destination": datagram.destination, "local": place.address, "at_boot_port": at_boot_port,
        }  # fmt: skip


def told_by(trace: codec.Trace) -> str:
    """A key of _LINKS."""
    own = 5 not in dict(options_of(trace.request.get("relay_agent", b"")))
    return "Cisco's" if trace.told_by == "link selection" and own else trace.told_by


def network_of(trace: codec.Trace) -> Any:
    return Interface(0, trace.address, trace.prefix).network


def unicast(to: Interface, source: int, port: int) -> dict[str, Any]:
    return {
        "ifindex": to.ifindex, "source": source, "source_port": port, "destination": to.address, "local": to.address,
    }  # fmt: skip


def captured_replies(capture: Capture) -> dict[int, int]:
    """Frame of a request -> who answered it first; of what a client itself sent, who answered on its own wire."""
    open_requests: dict[tuple[int, bytes], list[tuple[int, str]]] = {}
    found: dict[int, int] = {}
    for datagram in capture.datagrams:
        message = dissect(datagram.payload)
        if message is None:
            continue
        waiting = open_requests.setdefault(message.key, [])
        if message.op == 1:
            waiting.append((datagram.frame, message.giaddr))
            del waiting[:-WAITING_MAX]
            continue
        beyond = to_relay(datagram, message)
        found |= {frame: datagram.source for frame, giaddr in waiting if giaddr or not beyond}
        open_requests[message.key] = [(frame, giaddr) for frame, giaddr in waiting if not giaddr and beyond]
    return found


def begin_of(capture: Capture) -> float:
    """Seconds since 1970."""
    return capture.datagrams[0].time_s if capture.datagrams else 0.0


def servers_of(capture: Capture) -> tuple[list[int], set[int]]:
    """(addresses that a server has in a capture, those of relays)."""
    servers: list[int] = []
    relays: set[int] = set()
    for datagram in capture.datagrams:
        message = dissect(datagram.payload)
        if message is None:
            continue
        if message.giaddr:
            relays.add(int(IPv4Address(message.giaddr)))
        if message.op == 2:
            named = message.options.get(54, b"")
            servers += [int.from_bytes(named, "big")] if len(named) == 4 else []
            servers.append(datagram.source)
        elif datagram.destination != BROADCAST and datagram.destination & 0xFF != 0xFF:
            servers.append(datagram.destination)
    return servers, relays


def seen_reply(answer: Answer, ours: Message | None) -> dict[str, Any]:
    """A reply of the capture, and what it says otherwise than ours."""
    theirs = answer.message
    told = f"{theirs.kind}: {subject_of(theirs)[0]}" if is_leasequery(theirs) else theirs.kind
    return {
        "frame": answer.datagram.frame,
        "source": str(IPv4Address(answer.datagram.source)),
        "server": answer.server,
        "relay": (theirs.giaddr or None) if not is_leasequery(theirs) else None,
        "copies": [each.frame for each in answer.copies],
        "reached_client": answer.reached_client,
        "message": told or "a reply",
        "address": theirs.yiaddr,
        "differences": differences(ours, theirs) if ours is not None else None,
        "content": described(theirs),
    }


def strays_of(paired: Paired, begun_s: float) -> list[dict[str, Any]]:
    """Replies whose requests the capture does not have."""
    return [
        seen_reply(answer, None)
        | {
            "seconds": round(answer.datagram.time_s - begun_s, 6),
            "mac": answer.message.chaddr[:6].hex(":") if not is_leasequery(answer.message) else None,
        }
        for answer in paired.strays
    ]


def names_in(message: Message | None) -> dict[str, str | None]:
    """The addresses that a request names; None where it does not."""
    found: dict[str, str | None] = dict.fromkeys(("ciaddr", "requested", "server_id", "relay"))
    if message is None:
        return found
    for word, code in (("requested", 50), ("server_id", 54)):
        value = message.options.get(code, b"")
        found[word] = str(IPv4Address(value)) if len(value) == 4 else None
    return found | {"ciaddr": message.ciaddr or None, "relay": message.giaddr or None}


def described(message: Message) -> dict[str, Any]:
    """A message's fields and options in words."""
    return {
        "message": message.kind or "BOOTP",
        "address": message.yiaddr or None,
        "next_server": message.siaddr or None,
        "boot_file": message.file or None,
        "options": [describe_option(code, value) for code, value in message.options.items() if 0 < code < 255],
    }
