"""Rules 2 to 8 of harness.pyx once more, in Python: for the replay of the corpus where there is no clang."""

from ext.codec import Reply, parse
from ext.verdict import Verdict

from tests.ext.packets import BROADCAST, Parsed, ip
from tests.fuzz.population import AT_BOOT_PORT, NO_TABLE, TRUNCATED, Place, addresses, ask, sites

KINDS = {
    Verdict.OFFERED: 2,
    Verdict.OFFERED_PROXY: 2,
    Verdict.ACKED: 5,
    Verdict.ACKED_INFORM: 5,
    Verdict.ACKED_BOOT: 5,
    Verdict.ANSWERED_BOOTP: 0,
    Verdict.NAKED: 6,
}
OF_PROXIED = {Verdict.OFFERED_PROXY, Verdict.ACKED_INFORM, Verdict.ACKED_BOOT}
# answer() returns none of these: the worker gives up and shares out before it asks.
NEVER = {Verdict.GO_ON, Verdict.ABANDONED, Verdict.IGNORED_SHARE, Verdict.IGNORED_CHECKSUM}


def mask(prefix: int) -> int:
    return 0xFFFFFFFF << (32 - prefix) & 0xFFFFFFFF


def check_relay(place: Place, giaddr: int) -> None:
    around = sites()[place.site % len(sites())][2]
    assert giaddr >> 24 not in (0, 127) and giaddr >> 24 < 224
    for _, own, prefix, _, _ in around.links:
        assert giaddr != own
        if prefix < 31 and (giaddr ^ own) & mask(prefix) == 0:
            assert giaddr & ~mask(prefix) not in (0, ~mask(prefix) & 0xFFFFFFFF)
    assert not around.relays or any((giaddr ^ relay) & mask(prefix) == 0 for relay, prefix in around.relays)


def check_sender(place: Place, packet: bytes, reply: Reply) -> None:
    """The reply goes to who says so himself, twice, and to nobody that is ours."""
    assert reply.destination == place.source == int.from_bytes(packet[12:16], "big")
    assert reply.destination >> 24 not in (0, 127) and reply.destination >> 24 < 224
    for _, ours, prefix, _, _ in sites()[place.site % len(sites())][2].links:
        assert reply.destination != ours
        inside = prefix < 31 and (reply.destination ^ ours) & mask(prefix) == 0
        assert not inside or reply.destination & ~mask(prefix) not in (0, ~mask(prefix) & 0xFFFFFFFF)


def check_destination(place: Place, packet: bytes, own: set[int], reply: Reply) -> None:
    giaddr = int.from_bytes(packet[24:28], "big")
    links = sites()[place.site % len(sites())][2].links
    if giaddr:
        check_relay(place, giaddr)
        assert (reply.route, reply.destination) == ("udp", giaddr)
        assert reply.port in (67, place.source_port)
    else:
        at_boot_port = bool(place.flags & AT_BOOT_PORT)
        assert reply.port == (place.source_port if at_boot_port else 68)
        assert (reply.destination == BROADCAST) == (reply.route == "broadcast")
        if at_boot_port or (0 in own and reply.route != "broadcast"):
            check_sender(place, packet, reply)
        assert reply.route == "broadcast" or reply.destination in own or own == {0}
    if reply.route != "udp":
        assert reply.ifindex == place.ifindex
    if reply.route == "frame":
        assert (packet[1], reply.mac) == (1, packet[28:34])
    ours = {link[1] for link in links} | ({place.local} if place.local == place.destination else set())
    assert reply.source in ours - {0}


def check_size(place: Place, packet: bytes, reply: Reply) -> None:
    asked = parse(packet)
    agent = len(asked["relay_agent"])
    most = max(asked["max_size"], 576) if asked["message_type"] else 328
    client = most + (agent + 2 if agent else 0) - 28
    links = sites()[place.site % len(sites())][2].links
    mtu = next((link[3] for link in links if link[0] == place.ifindex), 1500)
    assert 300 <= len(reply.data) <= min(client, mtu - 28, place.room)


def check(case: bytes) -> Reply:
    """Ask one input twice and hold the reply to the rules.  Returns it; raises AssertionError."""
    place, packet = Place.of(case), case[Place.FORM.size :]
    reply = ask(case)
    assert reply == ask(case)
    assert reply.verdict in set(Verdict) - NEVER
    assert place.waited or reply.verdict != Verdict.IGNORED_LATE
    if reply.verdict not in KINDS:
        assert (reply.data, reply.route, reply.destination) == (b"", "", 0)
        return reply
    assert not place.flags & (TRUNCATED | NO_TABLE)
    assert len(packet) >= 240 and packet[0] == 1 and (packet[2] >= 6 or packet[1] == 32)
    pair, _, around = sites()[place.site % len(sites())]
    mac = parse(packet)["mac"]
    assert mac == packet[28:34] or packet[2] < 6
    own = addresses(pair, mac, 0) | (addresses(pair, mac, 1) if around.rules else set())
    assert around.bootp or reply.verdict != Verdict.ANSWERED_BOOTP
    assert own, "an answer to somebody whom the table does not serve"
    check_size(place, packet, reply)
    said = Parsed.of(reply.data)  # raises where an area does not end in END
    assert (said.op, said.htype, said.hlen) == (2, packet[1], packet[2])
    assert reply.data[4:8] == packet[4:8]
    assert (reply.data[24:28], said.chaddr) == (packet[24:28], packet[28:44])
    at_boot_port = bool(place.flags & AT_BOOT_PORT)
    assert (reply.verdict == Verdict.ACKED_BOOT) == at_boot_port and not (at_boot_port and said.giaddr != "0.0.0.0")
    assert reply.verdict in OF_PROXIED if own == {0} else reply.verdict != Verdict.OFFERED_PROXY
    assert own != {0} or not {1, 3, 51, 58, 59}.intersection(said.codes)
    addressed = reply.verdict in (Verdict.OFFERED, Verdict.ACKED, Verdict.ANSWERED_BOOTP)
    assert ip(said.yiaddr) in (own if addressed else {0})
    if reply.verdict == Verdict.ANSWERED_BOOTP:
        assert not {51, 52, 53, 54, 58, 59}.intersection(said.codes)
    else:
        assert (said.codes[:2], said.kind) == ([53, 54], KINDS[reply.verdict])
        assert said.server_id != "0.0.0.0"
    agent = parse(packet)["relay_agent"]
    assert [value for code, value in said.order + said.overflow if code == 82] == ([agent] if agent else [])
    assert not agent or said.order[-1][0] == 82
    check_destination(place, packet, own, reply)
    assert ask(case[: Place.FORM.size] + reply.data).verdict == Verdict.IGNORED_NOT_REQUEST
    return reply
