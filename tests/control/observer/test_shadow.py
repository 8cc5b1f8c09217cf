"""control/observer/shadow.py and control/observer/replay.py: what is paired, what is named, what means nothing, what is
bounded."""

from __future__ import annotations

from typing import Any

import pytest
from ext.verdict import Verdict

from control.messages.dissect import dissect
from control.observer import shadow
from control.observer.replay import Replay, Seen, with_server_id, with_subnet_selection
from control.observer.shadow import BOTH_SILENT, DIFFERENT, NOT_SEEN, ONLY_THEY, ONLY_WE, SAME, WAIT_S, Shadow
from ext import codec
from tests.ext.packets import ACK, BROADCAST, DECLINE, DISCOVER, INFORM, NAK, OFFER, RELEASE, REQUEST, ip, message, tlv
from tests.ext.sites import ALICE, DISABLED, PROXIED, REMOTE, STRANGER, one_host, site

THEY = "10.1.0.200"
START_S = 1_000_000.0
ALICE_NAME = "02:00:00:00:00:01"


class Wire:
    """Feeds a Shadow; each datagram comes a hundredth of a second after the one before."""

    def __init__(self, **changes: Any) -> None:
        self.pair = site(**changes)
        self.told: list[tuple[str, str, str]] = []
        self.now_s = START_S
        self.shadow = Shadow(lambda: 0, lambda ifindex: f"eth{ifindex}", lambda *said: self.told.append(said))
        self.shadow.replay = Replay(self.pair)

    def send(self, payload: bytes, **place: Any) -> None:
        self.now_s += 0.01
        place = {"ifindex": 2, "source": 0, "source_port": 68, "destination": BROADCAST} | place
        self.shadow.take(Seen(self.now_s, place.pop("ifindex"), payload=payload, **place))

    def reply(self, payload: bytes, ifindex: int = 2, source: str = THEY) -> None:
        self.send(payload, ifindex=ifindex, source=ip(source), source_port=67)

    def later(self) -> None:
        self.now_s += WAIT_S + 1
        self.shadow.expire(self.now_s)

    def counted(self) -> dict[str, int]:
        return {name: count for name, count in self.shadow.counts.items() if count}

    def found(self, name: str = ALICE_NAME) -> dict[str, shadow.Outcome]:
        return self.shadow.hosts[name].stages

    def only(self, name: str = ALICE_NAME) -> shadow.Outcome:
        (outcome,) = self.found(name).values()
        return outcome


def ours(payload: bytes, **place: Any) -> bytes:
    """Our own reply, as from another server: the same but for the server id."""
    data = codec.answer(site(), payload, **{"ifindex": 2, "local": ip("10.1.0.1"), **place}).data
    return data.replace(tlv(54, "10.1.0.1"), tlv(54, THEY))


def offer(mac: int = ALICE, yiaddr: str = "10.1.0.50", options: bytes = b"", kind: int = OFFER, **fields: Any) -> bytes:
    return message(kind, mac, tlv(54, THEY) + options, op=2, yiaddr=yiaddr, **fields)


# --- pairs -----------------------------------------------------------------------------------------------------------


def test_the_same_but_for_the_server_id() -> None:
    wire, discover = Wire(), message(DISCOVER, ALICE)
    wire.send(discover)
    wire.reply(ours(discover))
    wire.later()
    assert wire.counted() == {"requests": 1, "replies": 1, SAME: 1, "other server id": 1}
    assert list(wire.found()) == ["DISCOVER of os on eth2"] and wire.only().result == SAME
    assert wire.told == [] and wire.shadow.totals()["servers"] == {THEY: 1}


def test_who_has_his_address_from_the_other_server_is_no_difference() -> None:
    """`dhcp` `proxy`: what we say and what it says belong together.  Neither is silence, on either side."""
    rom = tlv(60, b"PXEClient:Arch:00000:UNDI:002001")
    wire, discover = Wire(), message(DISCOVER, PROXIED, rom)
    wire.send(discover)
    wire.reply(offer(PROXIED, "10.1.0.150"))
    wire.send(message(REQUEST, PROXIED, tlv(54, THEY) + tlv(50, "10.1.0.150"), xid=7))
    wire.reply(offer(PROXIED, "10.1.0.150", kind=ACK, xid=7))
    wire.send(message(DISCOVER, PROXIED, rom, xid=9))
    wire.later()
    assert wire.counted() == {"requests": 3, "replies": 2, "proxied": 3, "other server id": 1}
    assert wire.told == [] and wire.shadow.totals()["kinds"] == {}


def test_order_is_no_difference_and_is_counted() -> None:
    wire, discover = Wire(), message(DISCOVER, ALICE)
    said = dissect(ours(discover))
    assert said is not None
    options = b"".join(tlv(code, value) for code, value in reversed(said.options.items()) if code not in (53,))
    wire.send(discover)
    wire.reply(message(OFFER, ALICE, options, op=2, yiaddr="10.1.0.50", file=b"/pxelinux.0").replace(
        bytes(4) + b"\2\0\0\0\0\1", bytes(4) + b"\2\0\0\0\0\1"))  # fmt: skip
    found = wire.only()
    assert [each["what"] for each in found.differences] == ["next server"], "message() has no siaddr"
    reordered = bytearray(message(OFFER, ALICE, options, op=2, yiaddr="10.1.0.50", file=b"/pxelinux.0", xid=7))
    reordered[20:24] = bytes((10, 1, 0, 5))
    wire.send(message(DISCOVER, ALICE, xid=7))
    wire.reply(bytes(reordered))
    assert wire.only().result == SAME and wire.counted()["other order"] == 1


def fields(**changed: Any) -> bytes:
    """Our OFFER for Alice with another field or option."""
    said = bytearray(ours(message(DISCOVER, ALICE)))
    for name, value in changed.items():
        at = {"yiaddr": 16, "siaddr": 20, "sname": 44, "file": 108}[name]
        said[at : at + len(value)] = value
    return bytes(said)


DIFFERENCES = [
    pytest.param(fields(yiaddr=bytes((10, 1, 0, 51))), "address", "10.1.0.51", "10.1.0.50", id="yiaddr"),
    pytest.param(fields(siaddr=bytes((10, 1, 0, 9))), "next server", "10.1.0.9", "10.1.0.5", id="siaddr"),
    pytest.param(fields(sname=b"tftp\0"), "server name", "tftp", "-", id="sname"),
    pytest.param(fields(file=b"/x\0"), "boot file", "/x", "/pxelinux.0", id="file"),
    pytest.param(
        ours(message(DISCOVER, ALICE)).replace(tlv(3, "10.1.0.254"), tlv(3, "10.1.0.253")),
        "option 3 router", "10.1.0.253", "10.1.0.254", id="option",
    ),
    pytest.param(
        ours(message(DISCOVER, ALICE)).replace(b"\x33\4\0\0\x0e\x10", b"\x33\4\0\0\x1c\x20"),
        "lease time", "2 h", "1 h", id="lease-time",
    ),
]  # fmt: skip


@pytest.mark.parametrize("reply, kind, theirs, mine", DIFFERENCES)
def test_one_difference(reply: bytes, kind: str, theirs: str, mine: str) -> None:
    wire = Wire()
    wire.send(message(DISCOVER, ALICE))
    wire.reply(reply)
    (found,) = wire.only().differences
    assert (found["kind"], found["theirs"], found["ours"]) == (kind, theirs, mine)
    assert wire.counted()[DIFFERENT] == 1 and wire.shadow.totals()["kinds"] == {kind: 1}
    ((host, told, sentence),) = wire.told
    assert (host, told) == (ALICE_NAME, kind)
    assert sentence.startswith(f"{ALICE_NAME} (alice), DISCOVER of os on eth2: ") and f"they say {theirs}" in sentence


def test_a_boot_file_in_the_other_place_is_set_aside_under_a_kind_of_its_own() -> None:
    wire = Wire()
    wire.send(message(DISCOVER, ALICE))
    plain = bytearray(ours(message(DISCOVER, ALICE)))
    plain[108:236] = bytes(128)
    end = plain.rindex(tlv(54, THEY))
    wire.reply(bytes(plain[:end]) + tlv(67, b"/pxelinux.0") + bytes(plain[end:]))
    assert (wire.only().result, wire.only().differences) == (SAME, [])
    assert {each.kind for each in wire.only().aside} == {"place of the boot file"}


def test_their_ACK_and_our_NAK() -> None:
    wire, request = Wire(), message(REQUEST, ALICE, tlv(50, "10.1.0.77") + tlv(54, THEY))
    wire.send(request)
    wire.reply(offer(yiaddr="10.1.0.77", kind=ACK))
    assert wire.only().differences == [{"kind": "message", "what": "message", "ours": "NAK", "theirs": "ACK"}]


def test_their_NAK_and_our_ACK() -> None:
    wire = Wire()
    wire.send(message(REQUEST, ALICE, tlv(50, "10.1.0.50")))
    wire.reply(offer(yiaddr="0.0.0.0", kind=NAK))
    assert wire.only().differences == [{"kind": "message", "what": "message", "ours": "ACK", "theirs": "NAK"}]


def test_a_REQUEST_to_their_server_is_decided_as_if_it_had_come_to_us() -> None:
    wire = Wire()
    request = message(REQUEST, ALICE, tlv(50, "10.1.0.50") + tlv(54, THEY))
    assert codec.answer(wire.pair, request, ifindex=2, local=ip("10.1.0.1")).verdict == Verdict.IGNORED_OTHER_SERVER
    wire.send(request)
    wire.reply(ours(with_server_id(request, ip("10.1.0.1"))))
    assert (wire.only().result, wire.only().verdict) == (SAME, "ACKED")


def test_a_renewal_sent_to_their_server_alone() -> None:
    wire = Wire()
    renewal = message(REQUEST, ALICE, ciaddr="10.1.0.50")
    wire.send(renewal, source=ip("10.1.0.50"), destination=ip(THEY))
    wire.reply(ours(renewal, source=ip("10.1.0.50")))
    assert wire.only().result == SAME


def test_INFORM_and_BOOTP_have_their_own_replies() -> None:
    wire = Wire(bootp=True)
    inform = message(INFORM, ALICE, ciaddr="10.1.0.50")
    wire.send(inform, source=ip("10.1.0.50"))
    wire.reply(ours(inform, source=ip("10.1.0.50")))
    wire.send(message(None, ALICE, xid=9))
    wire.reply(message(None, ALICE, op=2, yiaddr="10.1.0.51", xid=9))
    found = wire.found()
    assert found["INFORM of os on eth2"].result == SAME
    assert found["BOOTP of os on eth2"].differences[0]["theirs"] == "10.1.0.51"


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(offer(xid=5), id="another-xid"),
        pytest.param(offer(ALICE + 1), id="another-MAC"),
        pytest.param(offer(giaddr="10.9.0.1"), id="another-relay"),
        pytest.param(offer(kind=ACK), id="another-message"),
        pytest.param(offer(kind=NAK), id="NAK-to-a-DISCOVER"),
    ],
)
def test_what_is_no_reply_to_it(reply: bytes) -> None:
    wire = Wire()
    wire.send(message(DISCOVER, ALICE))
    if reply == offer(kind=ACK):  # rapid commit (RFC 4039) is one
        wire.reply(reply)
        assert wire.only().differences[0]["what"] == "message"
        return
    wire.reply(reply)
    assert wire.counted()["stray replies"] == 1 and wire.shadow.hosts == {}


def test_copies_count_once_and_two_servers_twice() -> None:
    wire, discover = Wire(), message(DISCOVER, ALICE)
    for _ in range(3):
        wire.send(discover)
    wire.reply(offer())
    wire.reply(offer())
    wire.reply(offer().replace(tlv(54, THEY), tlv(54, "10.1.0.201")))
    wire.later()
    counted = wire.counted()
    assert (counted["requests"], counted["repeats"], counted["replies"], counted[DIFFERENT]) == (3, 2, 3, 2)
    assert wire.only().server == "10.1.0.201"


def test_what_is_never_answered_is_not_waited_for() -> None:
    wire = Wire()
    wire.send(message(RELEASE, ALICE, ciaddr="10.1.0.50"))
    wire.send(message(DECLINE, ALICE, tlv(50, "10.1.0.50")))
    wire.send(b"junk")
    wire.send(message(9, ALICE))
    wire.later()
    assert wire.counted() == {}


# --- silence ---------------------------------------------------------------------------------------------------------


def heard() -> Wire:
    """A wire on which replies of the present server have been seen."""
    wire = Wire()
    wire.send(message(DISCOVER, ALICE + 1, xid=1))
    wire.reply(ours(message(DISCOVER, ALICE + 1, xid=1)))
    return wire


@pytest.mark.parametrize(
    "mac, reason",
    [
        pytest.param(STRANGER, "the inventory has no machine with this MAC address", id="unknown"),
        pytest.param(DISABLED, "the machine is known, but DHCP is not enabled for it", id="disabled"),
    ],
)
def test_they_answer_and_we_would_not(mac: int, reason: str) -> None:
    wire = Wire()
    wire.send(message(DISCOVER, mac))
    wire.reply(offer(mac, "10.1.0.90"))
    outcome = wire.only(mac.to_bytes(6, "big").hex(":"))
    assert outcome.result == ONLY_THEY
    assert outcome.differences == [{"kind": "silence", "what": "OFFER", "ours": reason, "theirs": "10.1.0.90"}]
    assert f"they OFFER 10.1.0.90, we would be silent: {reason}" in wire.told[0][2]


def test_we_would_answer_and_they_are_silent() -> None:
    wire = heard()
    wire.send(message(DISCOVER, ALICE))
    assert ALICE_NAME not in wire.shadow.hosts, "they have time for it"
    wire.later()
    assert wire.only().result == ONLY_WE and wire.told[-1][2].endswith("we would OFFER 10.1.0.50, they are silent")


def test_both_are_silent() -> None:
    wire = heard()
    wire.send(message(DISCOVER, STRANGER))
    wire.later()
    assert wire.counted()[BOTH_SILENT] == 1 and wire.told == []


def test_silence_means_nothing_where_replies_are_not_seen() -> None:
    wire = heard()
    wire.send(message(DISCOVER, REMOTE, giaddr="10.9.0.1", hops=1), source=ip("10.9.0.1"), destination=ip("10.1.0.1"))
    wire.later()
    assert wire.counted()[NOT_SEEN] == 1 and wire.told == []


def test_silence_means_nothing_while_datagrams_were_lost() -> None:
    wire = heard()
    wire.send(message(DISCOVER, ALICE))
    wire.shadow.lost(wire.now_s + 1, wire.now_s + 2)
    wire.later()
    assert wire.counted()[NOT_SEEN] == 1 and wire.told == []
    wire.now_s += WAIT_S
    wire.send(message(DISCOVER, ALICE, xid=2))
    wire.later()
    assert wire.only().result == ONLY_WE, "what came after that counts again"


def test_gaps_that_touch_are_one() -> None:
    wire = Wire()
    for first, last, want in ((50.0, 51.0, (50.0, 51.0)), (55.0, 56.0, (50.0, 56.0)), (500.0, 501.0, (500.0, 501.0))):
        wire.shadow.lost(first, last)
        assert wire.shadow.gap_s == want


REMOTE_NAME = "02:00:00:00:00:03"


@pytest.mark.parametrize(
    "mac, said, result, theirs, mine",
    [
        pytest.param(REMOTE, {"requested": "10.9.0.70"}, SAME, "", "", id="offer-taken"),
        pytest.param(REMOTE, {"requested": "10.9.0.71"}, DIFFERENT, "10.9.0.71", "refuse", id="another-offer-taken"),
        pytest.param(REMOTE, {"ciaddr": "10.9.0.70"}, SAME, "", "", id="renewal"),
        pytest.param(
            REMOTE, {"ciaddr": "10.9.0.72"}, DIFFERENT, "10.9.0.72", "(ours is 10.9.0.70)", id="another-in-use"
        ),
        pytest.param(STRANGER, {"requested": "10.9.0.73"}, ONLY_THEY, "10.9.0.73", "no machine", id="unknown-to-us"),
    ],
)
def test_a_REQUEST_tells_what_the_unseen_server_said(
    mac: int, said: dict[str, str], result: str, theirs: str, mine: str
) -> None:
    wire = Wire()
    options = tlv(50, said["requested"]) + tlv(54, THEY) if "requested" in said else b""
    request = message(REQUEST, mac, options, giaddr="10.9.0.1", ciaddr=said.get("ciaddr", 0))
    wire.send(request, source=ip("10.9.0.1"), source_port=67, destination=ip("10.1.0.1"))
    wire.later()
    outcome = wire.only(mac.to_bytes(6, "big").hex(":"))
    assert (outcome.result, outcome.by) == (result, "request") and wire.counted()["told by requests"] == 1
    assert list(wire.found(mac.to_bytes(6, "big").hex(":"))) == ["REQUEST of os by relay 10.9.0.1"]
    if theirs:
        (found,) = outcome.differences
        assert found["theirs"] == theirs and mine in found["ours"]


def test_what_a_rebooting_host_remembers_tells_nothing() -> None:
    wire = Wire()
    wire.send(message(REQUEST, ALICE, tlv(50, "10.1.0.77")))
    wire.later()
    assert wire.counted() == {"requests": 1, NOT_SEEN: 1}


# --- where nobody of ours stands -------------------------------------------------------------------------------------


def test_a_mirror_port_without_address() -> None:
    """The reply says where its client stands; what came in by that option does not count as a difference."""
    wire, discover = Wire(), message(DISCOVER, ALICE)
    wire.send(discover, ifindex=77)
    wire.reply(ours(discover), ifindex=77)
    assert wire.only().result == SAME and list(wire.found()) == ["DISCOVER of os on eth77"]
    wire.send(message(DISCOVER, ALICE, xid=2), ifindex=77)
    wire.reply(offer(yiaddr="10.1.0.66", xid=2), ifindex=77)
    assert wire.only().differences[0]["theirs"] == "10.1.0.66"
    wire.send(message(DISCOVER, ALICE, xid=3), ifindex=77)
    wire.later()
    assert wire.counted()[NOT_SEEN] == 1, "where that one stands nobody has said"


def test_a_tag_without_an_interface_is_a_place_of_its_own() -> None:
    """Replies that are heard in one VLAN of a trunk say nothing of silence in another; our address there, neither."""
    wire, discover = Wire(), message(DISCOVER, ALICE)
    wire.send(discover, vlan=7)
    assert next(iter(wire.shadow.pending.values())).decided is None, "interface 2 has an address, untagged"
    wire.send(ours(discover), vlan=7, source=ip(THEY), source_port=67)
    assert wire.only().result == SAME and list(wire.found()) == ["DISCOVER of os on eth2, VLAN 7"]
    wire.send(message(REQUEST, ALICE, tlv(50, "10.1.0.50"), xid=2), vlan=8)
    wire.later()
    assert wire.counted()[NOT_SEEN] == 1 and set(wire.shadow.heard) == {(2, 7)}


def test_a_copy_that_comes_in_where_our_address_is_decides() -> None:
    """A bridge or a bond has the address, and the kernel shows the datagram on its port before."""
    wire, discover = heard(), message(DISCOVER, ALICE)
    wire.send(discover, ifindex=77)
    first_s = wire.now_s
    wire.send(discover, ifindex=2)
    wire.shadow.expire(first_s + WAIT_S)
    assert wire.only().result == ONLY_WE and list(wire.found()) == ["DISCOVER of os on eth2"]
    assert wire.counted()["repeats"] == 1


def test_a_relay_beyond_a_mirror_port() -> None:
    wire = Wire()
    request = message(DISCOVER, REMOTE, giaddr="10.9.0.1")
    wire.send(request, ifindex=77, source=ip("10.9.0.1"), source_port=67, destination=ip(THEY))
    wire.reply(offer(REMOTE, "10.9.0.71", giaddr="10.9.0.1"), ifindex=77)
    assert wire.only(REMOTE_NAME).differences[0]["ours"] == "10.9.0.70"


def test_options_are_put_before_the_end() -> None:
    payload = message(DISCOVER, ALICE, bytes(3) + tlv(12, b"x"))
    told = dissect(with_subnet_selection(payload, ip("10.1.0.9")))
    assert told is not None and told.options[118] == bytes((10, 1, 0, 9)) and told.options[12] == b"x"
    assert with_server_id(payload, 1) == payload
    cut = message(DISCOVER, ALICE, end=b"") + b"\x0c\xff"
    assert dissect(with_subnet_selection(cut, ip("10.1.0.9"))) is not None


def test_no_table_yet_and_none_with_addresses() -> None:
    wire = Wire()
    wire.shadow.replay = None
    wire.send(message(DISCOVER, ALICE))
    wire.reply(offer())
    assert wire.counted() == {"requests": 1, "replies": 1, "no table": 1, "stray replies": 1}
    wire = Wire(links=())
    wire.send(message(DISCOVER, ALICE))
    wire.reply(offer())
    wire.later()
    assert wire.counted() == {"requests": 1, "replies": 1}


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_the_newest_comparison_counts() -> None:
    """A difference that was repaired in the inventory is gone with the machine's next exchange."""
    wire = Wire()
    for xid, table in ((1, one_host(address="10.1.0.40")), (2, one_host(address="10.1.0.40")), (3, wire.pair)):
        wire.shadow.replay = Replay(table)
        wire.send(message(DISCOVER, ALICE, xid=xid))
        wire.reply(ours(message(DISCOVER, ALICE, xid=xid)))
        if xid == 2:
            assert (wire.only().result, wire.only().times) == (DIFFERENT, 2)
            assert [row["mac"] for row in wire.shadow.differing("", 9)] == [ALICE_NAME]
    assert (wire.only().result, wire.only().times) == (SAME, 1)
    assert wire.shadow.differing("", 9) == [] and wire.shadow.totals()["hosts"][SAME] == 1


def test_hosts_are_listed_in_pieces() -> None:
    wire = Wire()
    for number in range(5):
        wire.send(message(DISCOVER, STRANGER + number))
        wire.reply(offer(STRANGER + number))
    names = [row["mac"] for row in wire.shadow.differing("", 99)]
    assert names == sorted(names) and len(names) == 5
    assert [row["mac"] for row in wire.shadow.differing(names[1], 2)] == names[2:4]


def test_everything_is_bounded_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in (("PENDING_MAX", 10), ("HOSTS_MAX", 5), ("STAGES_MAX", 1), ("SERVERS_MAX", 1), ("PLACES_MAX", 2)):
        monkeypatch.setattr(shadow, name, most)
    wire = Wire()
    for number in range(20):
        mac = STRANGER + number
        wire.send(message(DISCOVER, mac))
        wire.reply(offer(mac).replace(tlv(54, THEY), tlv(54, f"10.1.0.{number}")), ifindex=number)
    assert len(wire.shadow.pending) == 10 and wire.counted()["not watched"] == 10
    assert len(wire.shadow.hosts) == 5 and wire.counted()["not noted"] == 5
    assert len(wire.shadow.servers) == 1 and len(wire.shadow.heard) == 2
    wire.later()
    wire.send(message(REQUEST, STRANGER, tlv(50, "10.1.0.9"), xid=99))
    wire.later()
    assert len(wire.shadow.hosts["02:00:00:00:00:ff"].stages) == 1
