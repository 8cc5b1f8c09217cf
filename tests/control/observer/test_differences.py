"""control/observer/differences.py: which differences are set aside, why, and their neighbours that are not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from ext.builder import Builder
from ext.table import Pair

from control.messages.capture import read_capture
from control.messages.dissect import Message, dissect, options_of
from control.observer import shadow
from control.observer.differences import (
    DEFAULT,
    FILE_PLACE,
    NAMES_ITSELF,
    NOT_ASKED,
    OWN_ID,
    RANDOM_PART,
    SERVER_IN_URL,
    SERVER_PLACE,
    Compared,
    compared,
)
from control.observer.replay import Replay
from control.observer.shadow import DIFFERENT, SAME
from ext import codec
from tests.control.observer.test_shadow import ALICE_NAME, THEY, Wire, ours
from tests.ext.captures import PCAPS, dhcp_captures
from tests.ext.packets import ACK, DISCOVER, OFFER, ip, message, quad, tlv
from tests.ext.sites import ALICE, generation

LIST = tlv(55, bytes((1, 3, 6, 12, 15, 66, 67)))
OS_LIST = tlv(55, bytes((1, 3, 6, 12)))
ROM = tlv(60, b"PXEClient:Arch:00007:UNDI:003016") + tlv(93, b"\0\7")
HOUR = tlv(51, (3600).to_bytes(4, "big"))
ID = tlv(61, b"\1\2\0\0\0\0\1")


def seconds(code: int, number: int) -> bytes:
    return tlv(code, number.to_bytes(4, "big"))


class Said(NamedTuple):
    """Of one reply."""

    options: bytes = b""
    file: bytes = b""
    siaddr: str = "0.0.0.0"
    sname: bytes = b""
    kind: int = OFFER

    def message(self, server: str) -> Message:
        options = tlv(54, server) + tlv(1, "255.255.255.0") + self.options
        fields: dict[str, Any] = {"op": 2, "yiaddr": "10.1.0.50", "file": self.file, "sname": self.sname}
        payload = message(self.kind, ALICE, options, **fields)
        found = dissect(payload[:20] + quad(self.siaddr) + payload[24:])
        assert found is not None
        return found


def between(asked: bytes, our: Said, their: Said) -> Compared:
    request = codec.parse(message(DISCOVER, ALICE, asked))
    return compared(our.message("10.1.0.1"), their.message(THEY), request)


ASIDE = [
    pytest.param(OS_LIST, Said(tlv(42, "10.1.0.9")), Said(), {"option 42 NTP_server": NOT_ASKED}, id="unasked"),
    pytest.param(
        OS_LIST, Said(tlv(42, "10.1.0.9")), Said(tlv(42, "10.1.0.8")), {"option 42 NTP_server": NOT_ASKED},
        id="unasked-of-both",
    ),
    pytest.param(
        OS_LIST, Said(), Said(tlv(43, b"\6\1\x08\xff")), {"option 43 vendor_specific": NOT_ASKED},
        id="unasked-of-a-system",
    ),
    pytest.param(LIST, Said(file=b"a.0"), Said(tlv(67, b"a.0")),
                 {"boot file": FILE_PLACE, "option 67 tftp_filename": FILE_PLACE}, id="file"),
    pytest.param(b"", Said(tlv(67, b"a.0\0"), b"a.0"), Said(file=b"a.0"), {"option 67 tftp_filename": FILE_PLACE},
                 id="file-twice"),
    pytest.param(ROM, Said(tlv(66, b"10.1.0.5\0"), b"a.0"), Said(b"", b"a.0", "10.1.0.5"),
                 {"next server": SERVER_PLACE, "option 66 tftp_server": SERVER_PLACE}, id="server"),
    pytest.param(ROM, Said(b"", b"a.0", "10.1.0.5"), Said(b"", b"a.0", sname=b"10.1.0.5"),
                 {"next server": SERVER_PLACE, "server name": SERVER_PLACE}, id="server-in-sname"),
    pytest.param(LIST, Said(b"", b"http://b/x"), Said(tlv(67, b"http://b/x"), siaddr=THEY),
                 {"boot file": FILE_PLACE, "option 67 tftp_filename": FILE_PLACE, "next server": SERVER_IN_URL},
                 id="url"),
    pytest.param(LIST, Said(), Said(siaddr=THEY), {"next server": NAMES_ITSELF}, id="names-itself"),
    pytest.param(LIST + ID, Said(ID), Said(), {"option 61 client_id": OWN_ID}, id="own-id"),
    pytest.param(ID, Said(ID), Said(), {"option 61 client_id": OWN_ID}, id="own-id-without-list"),
    pytest.param(b"", Said(HOUR + seconds(58, 1800) + seconds(59, 3150)), Said(HOUR),
                 {"option 58 renewal_time": DEFAULT, "option 59 rebinding_time": DEFAULT}, id="times"),
    pytest.param(b"", Said(seconds(51, 0xFFFFFFFF) + seconds(58, 0xFFFFFFFF)), Said(seconds(51, 0xFFFFFFFF)),
                 {"option 58 renewal_time": DEFAULT}, id="times-for-ever"),
    pytest.param(b"", Said(tlv(28, "10.1.0.255")), Said(), {"option 28 broadcast_address": DEFAULT}, id="broadcast"),
    pytest.param(b"", Said(HOUR + seconds(58, 1800)), Said(HOUR + seconds(58, 1575)),
                 {"option 58 renewal_time": RANDOM_PART}, id="a-sixteenth"),
]  # fmt: skip


@pytest.mark.parametrize("asked, our, their, reasons", ASIDE)
def test_set_aside(asked: bytes, our: Said, their: Said, reasons: dict[str, str]) -> None:
    found = between(asked, our, their)
    assert {each.what: each.why for each in found.aside} == reasons and found.found == []
    turned = between(asked, their, our)
    one_sided = NAMES_ITSELF in reasons.values()
    assert ({each.what: each.why for each in turned.aside}, turned.found) == (reasons, []) or one_sided


COUNTED = [
    pytest.param(OS_LIST, Said(tlv(6, "10.1.0.9")), Said(), ["option 6 name_server"], id="asked"),
    pytest.param(b"", Said(tlv(42, "10.1.0.9")), Said(), ["option 42 NTP_server"], id="no-list-asks-for-all"),
    pytest.param(OS_LIST, Said(HOUR), Said(), ["option 51 lease_time"], id="lease"),
    pytest.param(tlv(55, b"\3"), Said(), Said(tlv(1, "255.0.0.0")), ["option 1 subnet_mask"], id="mask"),
    pytest.param(OS_LIST, Said(tlv(82, b"\1\1x")), Said(), ["option 82 relay_agent_Information"], id="relay-s-note"),
    pytest.param(OS_LIST, Said(tlv(118, "10.1.0.0")), Said(), ["option 118 subnet-selection"], id="subnet-selection"),
    pytest.param(OS_LIST + ROM, Said(tlv(210, b"/")), Said(), ["option 210 pxelinux-pathprefix"], id="for-the-loader"),
    pytest.param(LIST, Said(file=b"a.0"), Said(tlv(67, b"b.0")), ["boot file", "option 67 tftp_filename"], id="file"),
    pytest.param(b"", Said(tlv(67, b"a.0"), b"a.0"), Said(tlv(67, b"b.0"), b"a.0"), ["option 67 tftp_filename"],
                 id="two-files"),
    pytest.param(OS_LIST, Said(), Said(file=b"a.0"), ["boot file"], id="the-field-is-for-everybody"),
    pytest.param(LIST, Said(b"", b"a.0", "10.1.0.5"), Said(tlv(66, b"10.1.0.6"), b"a.0"),
                 ["next server", "option 66 tftp_server"], id="server"),
    pytest.param(LIST, Said(b"", b"http://b/x"), Said(b"", b"a.0", THEY), ["next server", "boot file"], id="url-once"),
    pytest.param(LIST, Said(), Said(siaddr="10.1.0.7"), ["next server"], id="names-another"),
    pytest.param(LIST, Said(siaddr="10.1.0.7"), Said(siaddr=THEY), ["next server"], id="we-name-one"),
    pytest.param(LIST, Said(b"", b"a.0"), Said(b"", b"a.0", THEY), ["next server"], id="there-is-a-file"),
    pytest.param(LIST + ROM, Said(), Said(siaddr=THEY), ["next server"], id="a-rom-may-know-a-file"),
    pytest.param(ID, Said(ID), Said(tlv(61, b"\1\2\0\0\0\0\2")), ["option 61 client_id"], id="another-s-id"),
    pytest.param(b"", Said(HOUR + seconds(58, 1800)), Said(HOUR + seconds(58, 1574)), ["option 58 renewal_time"],
                 id="over-a-sixteenth"),
    pytest.param(b"", Said(HOUR + seconds(58, 1800)), Said(seconds(51, 3601) + seconds(58, 1801)),
                 ["option 51 lease_time", "option 58 renewal_time"], id="times-of-another-lease"),
    pytest.param(b"", Said(tlv(28, "10.1.255.255")), Said(), ["option 28 broadcast_address"], id="broadcast"),
    pytest.param(OS_LIST, Said(), Said(kind=ACK), ["message"], id="message"),
]  # fmt: skip


@pytest.mark.parametrize("asked, our, their, whats", COUNTED)
def test_not_set_aside(asked: bytes, our: Said, their: Said, whats: list[str]) -> None:
    found = between(asked, our, their)
    assert [each["what"] for each in found.found] == whats and found.aside == []


# --- what becomes of it ----------------------------------------------------------------------------------------------


def noisy(wire: Wire, xid: int, **fields: bytes) -> None:
    """A system that asks for a netmask alone; the other server's reply lacks our router and names a time server."""
    request = message(DISCOVER, ALICE, tlv(55, b"\1"), xid=xid)
    wire.send(request)
    reply = bytearray(ours(request).replace(tlv(3, "10.1.0.254"), tlv(42, "10.1.0.253")))
    reply[16:20] = fields.get("yiaddr", bytes(reply[16:20]))
    wire.reply(bytes(reply))


def test_a_host_with_nothing_else_is_the_same_and_strictly_different() -> None:
    wire = Wire()
    noisy(wire, 1)
    assert wire.counted()[SAME] == wire.counted()["all set aside"] == 1 and wire.told == []
    assert wire.shadow.differing("", 9) == []
    totals, strict = wire.shadow.totals(), wire.shadow.totals(strict=True)
    assert totals["set_aside"] == strict["set_aside"] == {NOT_ASKED: 1}
    assert (totals["kinds"], totals["hosts"][SAME]) == ({}, 1)
    assert (strict["counts"][SAME], strict["counts"][DIFFERENT], strict["hosts"][DIFFERENT]) == (0, 1, 1)
    assert set(strict["kinds"]) == {"option 3 router", "option 42 NTP_server"}
    (stage,) = wire.shadow.row(ALICE_NAME)["stages"]
    router = {"kind": "option 3 router", "what": "option 3 router", "ours": "10.1.0.254", "theirs": "-"}
    assert (stage["result"], stage["differences"]) == (SAME, [])
    assert stage["set_aside"][0] == router | {"why": NOT_ASKED}, "what, and why"
    (row,) = wire.shadow.differing("", 9, strict=True)
    (stage,) = row["stages"]
    assert (stage["result"], len(stage["differences"]), stage["set_aside"]) == (DIFFERENT, 2, [])


def test_beside_another_difference_it_is_kept_apart() -> None:
    wire = Wire()
    noisy(wire, 1, yiaddr=bytes((10, 1, 0, 51)))
    ((_, kind, _),) = wire.told
    assert kind == "address" and wire.counted()[DIFFERENT] == 1 and "all set aside" not in wire.counted()
    (row,) = wire.shadow.differing("", 9)
    (stage,) = row["stages"]
    assert [each["what"] for each in stage["differences"]] == ["address"] and len(stage["set_aside"]) == 2
    (stage,) = wire.shadow.row(ALICE_NAME, strict=True)["stages"]
    assert stage["differences"][0]["what"] == "address" and len(stage["differences"]) == 3


def test_one_kind_counts_once_for_two_replies() -> None:
    """T1 is what a client takes without it, T2 and the lease are not: strictly one exchange with another lease time."""
    wire, discover = Wire(), message(DISCOVER, ALICE)
    wire.send(discover)
    changed = ours(discover).replace(seconds(51, 3600) + seconds(58, 1600) + seconds(59, 3150), seconds(51, 3200))
    assert changed != ours(discover)
    wire.reply(changed)
    assert {each.what: each.why for each in wire.only().aside} == {"option 58 renewal_time": DEFAULT}
    assert wire.shadow.totals()["kinds"] == wire.shadow.totals(strict=True)["kinds"] == {"lease time": 1}


def test_what_many_hosts_have_is_kept_once_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire()
    noisy(wire, 1)
    before = wire.only().aside
    noisy(wire, 2)
    assert wire.only().aside[0] is before[0] and wire.only().times == 2
    monkeypatch.setattr(shadow, "ASIDES_MAX", 2)
    noisy(wire, 3)
    assert len(wire.shadow.asides) <= 2
    monkeypatch.setattr(shadow, "DIFFERENCES_MAX", 1)
    noisy(wire, 4)
    assert len(wire.only().aside) == 1


# --- what dnsmasq and Kea really said --------------------------------------------------------------------------------

NOT_ALIKE = {  # captures
    "release", "udhcpc-noserver", "noserver-ipxe-and-ovmf",  # without a reply
    "relay-clientside", "relay82-clientside", "relay82-bcast-clientside",  # the reply alone has a giaddr
    "dhcping-request",  # its REQUEST has no list, and asks for everything
    "init-reboot-nak",  # a NAK does not say how a site is described
    "dhcpcd-inform",  # dnsmasq says a lease time to an INFORM
    "perfdhcp-200",  # as perfdhcp-kea-20, but 200 times
}  # fmt: skip
KEPT_BY_SERVERS = {51, 53, 54, 58, 59, 61, 66, 67, 82}
OF_OURS = tlv(42, "10.9.9.9") + tlv(26, b"\5\xdc") + tlv(119, b"\1a\0")  # the site has these for everybody


def exchanges(name: str) -> Iterator[tuple[bytes, bytes]]:
    """(request, the reply to it)."""
    asked: dict[tuple[int, bytes], bytes] = {}
    for datagram in read_capture(PCAPS / f"{name}.pcap").datagrams:
        said = dissect(datagram.payload)
        assert said is not None
        if said.op == 1:
            asked[said.key] = datagram.payload
        elif said.key in asked:
            yield asked[said.key], datagram.payload


def table_of(reply: Message, asked: bytes) -> Pair:
    """A site that is described as the other server's reply says, in our ways: 66 and 67 and the fields, and options
    for everybody.  What stands in 43 or is meant for a loader is the same, as far as anything there is asked for."""
    file = reply.file or reply.options.get(67, b"").rstrip(b"\0").decode()
    server = reply.siaddr if file else ""
    options = b"".join(tlv(code, value) for code, value in reply.options.items() if code not in KEPT_BY_SERVERS)
    options += tlv(66, server.encode() + b"\0") + tlv(67, file.encode() + b"\0") if file else b""
    known = {code for code, _ in options_of(options)}
    options += b"".join(tlv(code, value) for code, value in options_of(OF_OURS) if code not in {*known, *asked})
    builder = Builder()
    lease_s = int.from_bytes(reply.options.get(51, b"\0\0\x0e\x10"), "big")
    template = builder.add_template(
        options=options, file=file.encode(), siaddr=ip(server) if server else 0, lease_s=lease_s,
        renewal_s=lease_s // 2, rebinding_s=lease_s * 7 // 8,
    )  # fmt: skip
    mac = int.from_bytes(reply.chaddr[:6], "big")
    builder.add_host(mac, name=b"host", leases=((ip(reply.yiaddr or reply.ciaddr), 16, template),))
    return Pair(generation(builder))


@pytest.mark.parametrize("name", sorted({*dhcp_captures()} - NOT_ALIKE))
def test_beside_dnsmasq_and_kea_a_site_that_is_described_alike_has_no_difference(name: str) -> None:
    wire, count = Wire(), 0
    for asked, answered in exchanges(name):
        reply, request = dissect(answered), codec.parse(asked)
        assert reply is not None
        wire.shadow.replay = Replay(table_of(reply, request["parameter_list"]))
        wire.send(asked, ifindex=77)  # a mirror port
        wire.reply(answered, ifindex=77, source=str(reply.siaddr or THEY))
        wire.later()
        count += 1
    found = [each for view in wire.shadow.hosts.values() for each in view.stages.values()]
    assert [difference for outcome in found for difference in outcome.differences] == []
    assert wire.counted()[SAME] == count > 0
    assert wire.shadow.totals(strict=True)["counts"][DIFFERENT] == count, "without that, each of them was different"
    assert wire.told == []
