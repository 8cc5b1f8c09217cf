"""Where we answer otherwise than Kea on purpose, each with its reason; test_kea.py allows these and no others."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final

from tests.ext.packets import DISCOVER, INFORM, REQUEST, TYPE_NAMES, Parsed
from tests.netns.asker import ALL, Heard
from tests.netns.kea.questions import Question

SILENCE = "silence"
Told = Mapping[str, object]  # field -> value; of a reply, or of none


@dataclass(frozen=True)
class Case:
    """A question and its two answers.  declined, released: MACs of machines that did so before and have no lease of a
    server that keeps leases since."""

    question: Question
    ours: Told
    kea: Told
    declined: frozenset[bytes] = field(default_factory=frozenset)
    released: frozenset[bytes] = field(default_factory=frozenset)

    @property
    def asked(self) -> Parsed:
        return self.question.asked

    def differing(self) -> list[str]:
        """Fields; the kind of answer alone when that differs, for then nothing else can be the same."""
        if self.ours["kind"] != self.kea["kind"]:
            return ["kind"]
        return sorted(name for name in {*self.ours, *self.kea} if self.ours.get(name) != self.kea.get(name))


def told(question: Question, heard: Heard | None, relay: Collection[bytes]) -> Told:
    """A reply field by field; where it goes without the MACs of this run.  relay: its MACs."""
    if heard is None:
        return {"kind": SILENCE}
    said = Parsed.of(heard.payload)
    names = dict.fromkeys(relay, "the relay") | {question.payload[28:34]: "the machine", ALL: "everybody"}
    header = ("htype", "hlen", "hops", "xid", "secs", "flags", "ciaddr", "yiaddr", "siaddr", "giaddr")
    return (
        {"kind": TYPE_NAMES[said.kind]}
        | {name: getattr(said, name) for name in header}
        | {"chaddr": said.chaddr, "file": said.file.rstrip(b"\0"), "sname": said.sname.rstrip(b"\0")}
        | {f"option {code}": said.option(code) for code, _ in said.order + said.overflow if code not in (52, 53)}
        | {"to": f"{IPv4Address(heard.destination)}:{heard.port}", "from": str(IPv4Address(heard.source))}
        | {"mac": names[heard.to_mac], "300 octets": said.length >= 300}
        | {"82 last": said.codes[-1] == 82, "53 first": said.codes[0] == 53}
    )


@dataclass(frozen=True)
class Difference:
    """holds: of these fields, in such a case."""

    name: str
    ours: str
    reason: str
    fields: tuple[str, ...]
    holds: Callable[[Case], bool]


def is_http(case: Case) -> bool:
    return (case.asked.option(60) or b"").startswith(b"HTTPClient")


def relay_option(case: Case, code: int) -> bytes | None:
    value = case.asked.option(82) or b""
    at = 0
    while at + 2 <= len(value):
        if value[at] == code:
            return value[at + 2 : at + 2 + value[at + 1]]
        at += 2 + value[at + 1]
    return None


def ends_with_nul(case: Case) -> bool:
    return all(
        case.ours.get(name) in (case.kea.get(name), (case.kea.get(name) or b"") + b"\0")  # type: ignore[operator]
        for name in ("option 66", "option 67")
    )


def is_inform(case: Case) -> bool:
    return case.asked.kind == INFORM


DIFFERENCES: Final = (
    Difference(
        name="names-end-with-nul",
        ours="options 66 and 67 end with a NUL",
        reason="some ROMs need it; Kea strips it from what it is configured to send",
        fields=("option 66", "option 67"),
        holds=ends_with_nul,
    ),
    Difference(
        name="hops-are-0",
        ours="hops is 0 in every reply",
        reason="RFC 2131 table 3; Kea copies the request's",
        fields=("hops",),
        holds=lambda case: (case.ours["hops"], case.kea["hops"]) == (0, case.asked.hops),
    ),
    Difference(
        name="padded-to-300",
        ours="no reply is shorter than 300 octets",
        reason="RFC 1542 section 2.1, and ROMs that drop what is shorter; Kea does not pad",
        fields=("300 octets",),
        holds=lambda case: case.ours["300 octets"] is True,
    ),
    Difference(
        name="http-boot-has-no-boot-server",
        ours="siaddr is 0 for HTTP boot",
        reason="the URL says where; a TFTP server would be one more thing to go wrong. Kea's next-server is for all",
        fields=("siaddr",),
        holds=lambda case: is_http(case) and case.ours["siaddr"] == "0.0.0.0",
    ),
    Difference(
        name="broadcast-to-everybody",
        ours="what is sent to 255.255.255.255 goes to the Ethernet broadcast address",
        reason="who sets the flag may not hear frames to his MAC yet; Kea's raw socket addresses the machine's own",
        fields=("mac",),
        holds=lambda case: (
            case.ours["mac"] == "everybody"
            and case.ours["to"] == "255.255.255.255:68"
            and case.kea["mac"] != "the relay"
        ),
    ),
    Difference(
        name="server-id-of-the-relay",
        ours="option 54 is what the relay says in 82.11",
        reason="RFC 5107; Kea 2.2 accepts a REQUEST that names it, but says its own id",
        fields=("option 54",),
        holds=lambda case: case.ours["option 54"] == relay_option(case, 11),
    ),
    Difference(
        name="relayed-nak-has-the-flag",
        ours="a NAK through a relay has the broadcast flag set",
        reason="RFC 2131 section 4.3.2: the relay must broadcast it; Kea copies the request's flags",
        fields=("flags",),
        holds=lambda case: case.ours["kind"] == "NAK" and case.asked.giaddr != "0.0.0.0",
    ),
    Difference(
        name="inform-goes-back-through-the-relay",
        ours="an INFORM with giaddr is answered to giaddr, with giaddr and option 82",
        reason="RFC 2131 section 4.1, RFC 3046 section 2.1.1: the relay needs it; Kea answers ciaddr itself",
        fields=("to", "mac", "giaddr", "option 82", "82 last"),
        holds=lambda case: is_inform(case) and case.asked.giaddr != "0.0.0.0",
    ),
    Difference(
        name="inform-has-all-options",
        ours="the ACK to INFORM has the netmask and the host name",
        reason="RFC 2131 section 4.3.5 has the configuration sent; Kea leaves out what hangs on a lease",
        fields=("option 1", "option 12"),
        holds=lambda case: is_inform(case) and case.kea.get("option 1") is None,
    ),
    Difference(
        name="inform-by-its-own-address-only",
        ours="an INFORM with an address that is not the machine's: silence",
        reason="the inventory says that it cannot have it; and no reply may be aimed at somebody else's address",
        fields=("kind",),
        holds=lambda case: is_inform(case) and case.ours["kind"] == SILENCE and case.kea["kind"] == "ACK",
    ),
    Difference(
        name="ciaddr-of-a-discover",
        ours="the OFFER goes where it would without ciaddr",
        reason="RFC 2131 table 5 has 0 there; whoever sets it may not have that address. Kea sends there",
        fields=("to", "mac"),
        holds=lambda case: case.asked.kind == DISCOVER and case.asked.ciaddr != "0.0.0.0",
    ),
    Difference(
        name="declined-addresses-stay",
        ours="a machine that declined its address is offered it again",
        reason="there is no other one, and a forged DECLINE must not take a machine out; Kea parks the address",
        fields=("kind",),
        holds=lambda case: case.question.payload[28:34] in case.declined and case.kea["kind"] in (SILENCE, "NAK"),
    ),
    Difference(
        name="released-addresses-are-still-its-own",
        ours="a machine that reboots after a RELEASE with the address that it had is ACKed",
        reason="the inventory binds the address, not a lease; Kea has forgotten it and refuses",
        fields=("kind",),
        holds=lambda case: (
            (case.ours["kind"], case.kea["kind"]) == ("ACK", "NAK")
            and case.question.payload[28:34] in case.released
            and case.asked.option(54) is None
        ),
    ),
    Difference(
        name="server-id-that-the-client-names",
        ours="a REQUEST that names another address of this machine gets that in 54, and comes from there",
        reason="the client compares it with the OFFER's, which came from there; Kea answers with the interface's",
        fields=("option 54", "from"),
        holds=lambda case: case.asked.kind == REQUEST and case.ours["option 54"] == case.asked.option(54),
    ),
    Difference(
        name="nak-to-who-selected-us",
        ours="a REQUEST with our id and an address that is nobody's: NAK",
        reason="RFC 2131 section 3.1 item 4; nobody else will answer it. Kea is silent when no pool has the address",
        fields=("kind",),
        holds=lambda case: (case.ours["kind"], case.kea["kind"]) == ("NAK", SILENCE) and bool(case.asked.option(54)),
    ),
)


def explained(case: Case, name: str) -> Difference | None:
    """The first difference that covers a field of a case."""
    return next((each for each in DIFFERENCES if name in each.fields and each.holds(case)), None)
