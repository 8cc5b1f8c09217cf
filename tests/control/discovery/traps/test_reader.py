"""control/discovery/traps/reader.py and engine.py: who is believed, who is answered, and what each datagram counts
as."""

from __future__ import annotations

import socket
import time
from collections import Counter
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from control.config.config import SnmpUser
from control.discovery.traps.ber import oid
from control.discovery.traps.engine import Clocks
from control.discovery.traps.reader import ASK_BINDINGS_MAX, REPEAT_S
from control.discovery.trapseen import TrapSeen
from tests.control.discovery.traps.messages import (  # fmt: skip
    AS_SW1,
    ENGINE,
    HEAD,
    LEARNT,
    SWITCH,
    USERS,
    address_binding,
    binding,
    datagram,
    mac_trap,
    message,
    numbered,
    reader,
    recorded,
    told,
    v1_trap,
)
from tests.ext.captures import datagrams

INFORM = mac_trap(LEARNT, pdu=0xA6)
DISCOVERY = next(datagrams("snmp-inform-v3")).payload
BINDING = binding("1.3.6.1.2.1.1.1", 0x04, b"")
PRIVATE = ["-v", "3", "-l", "authPriv", *AS_SW1]


def seen(mac: str = "02:e2:e0:00:00:11", switch: str = "10.88.0.9", port: int = 5, vlan: int = 10) -> TrapSeen:
    return TrapSeen(switch=switch, mac=mac, port=port, vlan=vlan, learnt=True, boottime_s=1000.0)


# --- captures --------------------------------------------------------------------------------------------------------


ONE = [("02:e2:e0:00:00:11", 5, True)]
THREE = [*ONE, ("52:54:00:e2:00:01", 6, True), ("52:54:00:e2:00:02", 7, False)]


@pytest.mark.parametrize(
    "name, outcome, macs, replies",
    [
        ("snmp-trap-v2c", "decoded", ONE, 0),
        ("snmp-trap-v2c-3macs", "decoded", THREE, 0),
        ("snmp-inform-v2c", "decoded", THREE, 1),
        ("snmp-trap-v2c-badcommunity", "community", [], 0),
        ("snmp-trap-linkup-v2c", "unknown", [], 0),
        ("snmp-trap-v3", "decoded", THREE, 0),
        ("snmp-inform-v3", "discovery", [], 1),  # the rest of it is for the engine id of the receiver of then
    ],
)
def test_captures(name: str, outcome: str, macs: list[tuple[str, int, bool]], replies: int) -> None:
    first = next(datagrams(name))
    reading = reader().read(datagram(first.payload, first.source, first.source_port))
    assert (reading.outcome, len(reading.replies)) == (outcome, replies), reading.detail
    assert [(one.mac, one.port, one.learnt) for one in reading.seen] == macs
    assert {(one.switch, one.vlan) for one in reading.seen} <= {("10.88.0.9", 10)}


def test_a_captured_v3_inform_for_another_receiver() -> None:
    """Only who knows our engine id is heard by SNMPv3, and nobody learns anything from the refusal."""
    _discovery, _report, inform, _response = datagrams("snmp-inform-v3")
    reading = reader().read(datagram(inform.payload))
    assert (reading.outcome, reading.replies) == ("user", [])


# --- v1, v2c ---------------------------------------------------------------------------------------------------------


def test_a_v2c_trap() -> None:
    reading = reader().read(datagram(mac_trap(LEARNT)))
    assert (reading.outcome, reading.seen, reading.replies) == ("decoded", [seen()], [])


def test_a_v1_trap_is_its_senders_whatever_agent_it_names() -> None:
    reading = reader().read(datagram(v1_trap(socket.inet_aton("10.9.9.9"))))
    assert (reading.outcome, reading.seen) == ("decoded", [seen()])


def test_an_inform_is_acknowledged_with_its_own_content() -> None:
    reading = reader().read(datagram(INFORM))
    assert reading.seen == [seen()]
    (reply,) = reading.replies
    assert reply == INFORM[: INFORM.index(b"\xa6")] + b"\xa2" + INFORM[INFORM.index(b"\xa6") + 1 :]


@pytest.mark.parametrize("content", [INFORM, mac_trap(LEARNT)], ids=["inform", "trap"])
def test_strangers_are_not_answered(content: bytes) -> None:
    reading = reader(communities=("secret", "other")).read(datagram(content))
    assert (reading.outcome, reading.seen, reading.replies) == ("community", [], [])


@pytest.mark.parametrize("community", [b"public", b"other"])
@pytest.mark.parametrize("pdu", [0xA6, 0xA7])
def test_several_communities(community: bytes, pdu: int) -> None:
    reading = reader(communities=("public", "other")).read(datagram(mac_trap(LEARNT, community=community, pdu=pdu)))
    assert reading.seen == [seen()]
    assert all(community in reply for reply in reading.replies)


@pytest.mark.parametrize("pdu", [0xA6, 0xA7])
def test_a_star_is_any_community(pdu: int) -> None:
    content = mac_trap(LEARNT, community=b"\xff\0", pdu=pdu)
    assert reader(communities=("*",)).read(datagram(content)).seen == [seen()]


@pytest.mark.parametrize("content", [mac_trap(LEARNT), INFORM, b"\x30\x80" + mac_trap(LEARNT)[2:] + b"\0\0"])
def test_who_says_whom_to_believe_in_no_way_believes_nobody(content: bytes) -> None:
    """It registered whatever anybody on the network said."""
    reading = reader(communities=(), users=()).read(datagram(content))
    assert (reading.outcome, reading.seen, reading.replies) == ("unbelieved", [], [])


def test_users_or_proxies_alone_make_no_community_believed_but_a_proxy_s() -> None:
    net = IPv4Network("10.0.0.0/30")
    for content in (mac_trap(LEARNT), INFORM):
        assert reader(communities=()).read(datagram(content)).outcome == "unbelieved"
        one = reader(communities=(), users=(), proxies=(net,))
        assert one.read(datagram(content, source=SWITCH ^ 1 << 16)).outcome == "unbelieved"
        assert one.read(datagram(content, source=int(net[2]))).outcome == "decoded"


@pytest.mark.parametrize("costly", [DISCOVERY, INFORM], ids=["discovery", "inform"])
def test_a_flood_of_what_costs_milliseconds_leaves_plain_traps_their_time(costly: bytes) -> None:
    """20,000 of them from forged addresses took pysnmp a minute, and every plain trap stood behind them."""
    one, started = reader(), time.process_time()
    outcomes: Counter[str] = Counter()
    for number in range(20_000):
        source = SWITCH + 1 + number if costly is DISCOVERY else SWITCH + 1
        outcomes[one.read(datagram(costly, source=source, at_s=1000.0 + number / 10_000)).outcome] += 1
    spent_s = time.process_time() - started
    assert outcomes["costly"] > 15_000
    assert one.read(datagram(numbered(7), at_s=1002.0)).outcome == "decoded"
    print(f"{dict(outcomes)} in {spent_s:.2f} s of CPU")
    assert spent_s < 4.0, "half a second saved up, a tenth of two seconds, and a look at each"


def test_strangers_spend_their_own_share_and_who_was_believed_keeps_his() -> None:
    one = reader()
    assert one.read(datagram(INFORM)).outcome == "decoded"
    for number in range(3_000):
        one.read(datagram(DISCOVERY, source=SWITCH + 1 + number))
    assert one.read(datagram(DISCOVERY, source=SWITCH + 5_000)).outcome == "costly"
    assert one.read(datagram(INFORM, at_s=1001.0)).outcome == "decoded"


def test_valid_ber_that_nobody_writes_is_read_by_pysnmp() -> None:
    strange = b"\x30\x80" + mac_trap(LEARNT)[2:] + b"\0\0"
    assert reader().read(datagram(strange)).seen == [seen()]
    assert reader(communities=("x",)).read(datagram(strange)).outcome == "community"


def many(count: int, pdu: int) -> bytes:
    return message(*HEAD, *[BINDING] * count, pdu=pdu)


@pytest.mark.parametrize(
    "content, outcome",
    [
        pytest.param(b"", "malformed", id="empty"),
        pytest.param(b"\x30", "malformed", id="one-octet"),
        pytest.param(b"\x30\x84\xff\xff\xff\xff", "malformed", id="four-gigabytes"),
        pytest.param(b"hello", "malformed", id="text"),
        pytest.param(bytes(65507), "malformed", id="64-kB-of-zeros"),
        pytest.param(b"\x30\x80" * 1000, "malformed", id="nested-without-end"),
        pytest.param(b"\x30\x80" * 32000, "too_large", id="nested-64-kB"),
        pytest.param(mac_trap(LEARNT)[:60], "malformed", id="cut"),
        pytest.param(mac_trap(LEARNT, pdu=0xA0), "pdu", id="get"),
        pytest.param(mac_trap(LEARNT, pdu=0xA2), "pdu", id="response"),
        pytest.param(message(*HEAD, version=0, pdu=0xA7), "pdu", id="v2-trap-in-v1"),
        pytest.param(message(*HEAD, version=2), "version", id="version-2"),
        pytest.param(many(ASK_BINDINGS_MAX - 2, 0xA6), "unknown", id="inform-of-64-bindings"),
        pytest.param(many(ASK_BINDINGS_MAX - 1, 0xA6), "too_large", id="inform-of-65-bindings"),
        pytest.param(many(3000, 0xA7), "unknown", id="trap-of-3000-bindings"),
    ],
)
def test_bad_input(content: bytes, outcome: str) -> None:
    reading = reader().read(datagram(content))
    assert (reading.outcome, reading.seen) == (outcome, [])


@pytest.mark.parametrize("source, port", [(SWITCH, 0), (0, 5), ((224 << 24) + 1, 5), (2**32 - 1, 5)])
def test_senders_that_cannot_be(source: int, port: int) -> None:
    assert reader().read(datagram(INFORM, source, port)).outcome == "sender"


def test_a_trap_of_64_kb() -> None:
    """As full as UDP allows: 5,900 addresses."""
    count = 5940
    history = b"".join(b"\1\0\x0a\2\0" + number.to_bytes(4, "big") + b"\0\5" for number in range(count))
    content = mac_trap(history)
    assert 65_000 < len(content) <= 65_507
    assert len(reader().read(datagram(content)).seen) == count


# --- forwarders ------------------------------------------------------------------------------------------------------

PROXIES = {"proxies": (IPv4Network("10.88.0.0/24"),)}


@pytest.mark.parametrize(
    "proxies, address, want",
    [
        pytest.param(PROXIES, "10.9.9.9", "10.9.9.9", id="a-proxy-is-believed"),
        pytest.param({}, "10.9.9.9", "10.88.0.9", id="nobody-else-is"),
        pytest.param({"proxies": (IPv4Network("10.88.1.0/24"),)}, "10.9.9.9", "10.88.0.9", id="nor-a-neighbour"),
        pytest.param(PROXIES, "0.0.0.0", "10.88.0.9", id="which-names-nobody"),
        pytest.param(PROXIES, None, "10.88.0.9", id="or-says-nothing"),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_the_switch(proxies: dict[str, object], address: str | None, want: str, version: int) -> None:
    rows = [binding("1.3.6.1.4.1.9.9.215.1.1.8.1.2.17", 0x04, LEARNT)]
    rows += [address_binding(address)] if address else []
    content = message(*HEAD, *rows) if version == 2 else v1_trap(socket.inet_aton(address or "0.0.0.0"))
    assert reader(**proxies).read(datagram(content)).seen == [seen(switch=want)]


def test_what_nobody_decodes_is_the_switch_s_that_the_forwarder_names() -> None:
    link_up = "1.3.6.1.6.3.1.1.5.4"
    reading = reader(**PROXIES).read(datagram(told(link_up, address_binding("10.9.9.9"))))
    assert (reading.outcome, reading.unknown) == ("unknown", ((10 << 24) + (9 << 16) + (9 << 8) + 9, oid(link_up)))
    assert reader().read(datagram(told(link_up, address_binding("10.9.9.9")))).unknown == (SWITCH, oid(link_up))


def test_a_family_that_the_configuration_leaves_out_is_unknown() -> None:
    known = told("1.3.6.1.4.1.13464.1.2.3.3.1.2.0.1", binding("1.3.6.1.4.1.13464.1.2.3.3.1.1.1.8.1.2.1", 0x04, LEARNT))
    assert reader().read(datagram(known)).seen == [seen()]
    fewer = reader(traps=("cisco-mac-notification",))
    assert (fewer.read(datagram(known)).outcome, fewer.read(datagram(mac_trap(LEARNT))).outcome) == (
        "unknown",
        "decoded",
    )


@pytest.mark.parametrize("address", ["127.0.0.1", "224.0.0.1", "255.255.255.255"])
def test_forwarded_for_nobody(address: str) -> None:
    reading = reader(**PROXIES).read(datagram(v1_trap(socket.inet_aton(address))))
    assert (reading.outcome, reading.detail) == ("forwarder", f"snmpTrapAddress {address}")


# --- repetitions -----------------------------------------------------------------------------------------------------


def test_a_loop_of_traps_is_news_once_in_a_while() -> None:
    again = reader()
    turns = [again.read(datagram(mac_trap(LEARNT), at_s=1000 + turn / 10)) for turn in range(50)]
    assert sum(len(reading.seen) for reading in turns) == pytest.approx(5 / REPEAT_S, abs=1)
    assert sum(reading.skips["repeated"] + len(reading.seen) for reading in turns) == 50
    assert {reading.outcome for reading in turns} == {"decoded"}


def test_news_in_between_is_news() -> None:
    flapping = reader()
    histories = [LEARNT, b"\2" + LEARNT[1:], LEARNT, LEARNT[:9] + b"\0\6\0"]
    found = [flapping.read(datagram(mac_trap(history))).seen for history in histories]
    assert [(one.learnt, one.port) for (one,) in found] == [(True, 5), (False, 5), (True, 5), (True, 6)]


def test_a_repeated_inform_is_acknowledged_again() -> None:
    again = reader()
    first, second = again.read(datagram(INFORM)), again.read(datagram(INFORM, at_s=1001))
    assert (len(first.seen), len(second.seen), second.skips["repeated"]) == (1, 0, 1)
    assert first.replies == second.replies != []


# --- v3 --------------------------------------------------------------------------------------------------------------


def test_v3_by_level(tmp_path: Path) -> None:
    """A user with privacy has to use it, whatever the message says of itself."""
    taken = {
        level: reader().read(datagram(recorded(tmp_path, "-v", "3", *AS_SW1, "-l", level, "-Z", "5,123"))).outcome
        for level in ("authPriv", "authNoPriv", "noAuthNoPriv")
    }
    assert taken == {"authPriv": "decoded", "authNoPriv": "level", "noAuthNoPriv": "level"}


def test_v3_without_privacy(tmp_path: Path) -> None:
    users = (SnmpUser(name="sw1", auth="sha", auth_password="authpass12", engine_id=USERS[0].engine_id),)
    content = recorded(tmp_path, "-v", "3", *AS_SW1[:8], "-l", "authNoPriv", "-Z", "5,123")
    assert reader(users=users).read(datagram(content)).seen == [seen()]


@pytest.mark.parametrize(
    "auth, name, privacy, cipher",
    [("md5", "MD5", "des", "DES"), ("sha256", "SHA-256", "aes", "AES"), ("sha512", "SHA-512", "aes", "AES")],
)
def test_v3_algorithms(tmp_path: Path, auth: str, name: str, privacy: str, cipher: str) -> None:
    users = (
        SnmpUser(
            name="u", auth=auth, auth_password="authpass12", privacy=privacy, privacy_password="privpass12",
            engine_id="8000000903020000000009",
        ),
    )  # fmt: skip
    words = ["-a", name, "-A", "authpass12", "-x", cipher, "-X", "privpass12", "-l", "authPriv", "-Z", "5,123"]
    content = recorded(tmp_path, "-v", "3", "-e", "0x8000000903020000000009", "-u", "u", *words)
    reading = reader(users=users).read(datagram(content))
    assert (reading.outcome, reading.seen) == ("decoded", [seen()])


def test_v3_that_is_not_genuine(tmp_path: Path) -> None:
    content = recorded(tmp_path, *PRIVATE, "-Z", "5,123")
    forged = content[:-1] + bytes((content[-1] ^ 1,))
    assert reader().read(datagram(forged)).outcome == "digest"
    assert reader(users=()).read(datagram(content)).outcome == "user"
    assert reader(users=USERS[1:]).read(datagram(content)).outcome == "user", "without its engine id it only informs"


@pytest.mark.parametrize(
    "clock, outcome",
    [
        pytest.param("5,1000", "decoded", id="the-same-again"),
        pytest.param("5,860", "decoded", id="late-within-the-window"),
        pytest.param("5,840", "window", id="replayed"),
        pytest.param("4,99999", "window", id="of-before-its-restart"),
        pytest.param("6,0", "decoded", id="after-its-restart"),
        pytest.param("5,5000", "decoded", id="ahead"),
    ],
)
def test_v3_time_window(tmp_path: Path, clock: str, outcome: str) -> None:
    first, second = recorded(tmp_path, *PRIVATE, "-Z", "5,1000"), recorded(tmp_path, *PRIVATE, "-Z", clock)
    receiver = reader()
    assert receiver.read(datagram(first)).outcome == "decoded"
    assert receiver.read(datagram(second)).outcome == outcome
    assert receiver.read(datagram(first, at_s=1400)).outcome == "window", "replayed later, pysnmp has forgotten it"


def test_v3_discovery_is_answered_and_reports_are_not() -> None:
    """A report for our own report, and two receivers would talk for ever."""
    asking = next(datagrams("snmp-inform-v3"))
    receiver = reader()
    (report,) = receiver.read(datagram(asking.payload)).replies
    assert ENGINE in report
    again = receiver.read(datagram(report))
    assert again.replies == [] and again.seen == []
    assert reader(users=()).read(datagram(asking.payload)).replies == [], "nobody could inform us by SNMPv3"


def test_clocks_remember_a_bounded_number_of_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control.discovery.traps.engine.ENGINES_MAX", 3)
    clocks = Clocks()
    for number in range(5):
        assert clocks.in_window(bytes((number,)), 1, 100, 0.0)
    assert list(clocks.latest) == [b"\2", b"\3", b"\4"]
    assert not clocks.in_window(b"\5", 2**31 - 1, 1, 0.0), "its counter is at its end (RFC 3414 section 3.2 7b)"


def test_refused_messages_leave_nothing_behind(tmp_path: Path) -> None:
    """pysnmp keeps a state for each message that it refuses; a flood of those must not grow."""
    receiver = reader()
    genuine = recorded(tmp_path, *PRIVATE, "-Z", "5,123")
    forged = genuine[:-1] + bytes((genuine[-1] ^ 1,))
    for _turn in range(20):
        receiver.read(datagram(forged))
        receiver.read(datagram(INFORM))
        receiver.read(datagram(next(datagrams("snmp-inform-v3")).payload))
    assert all(model._cache.is_empty() for model in receiver.engine.snmp.security_models.values())


def test_numbered_traps_differ() -> None:
    macs = {receiver.mac for number in (0, 1, 2**32 - 1) for receiver in reader().read(datagram(numbered(number))).seen}
    assert macs == {"02:00:00:00:00:00", "02:00:00:00:00:01", "02:00:ff:ff:ff:ff"}
