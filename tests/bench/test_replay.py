"""Captures become traffic: read, given holes, multiplied, replayed, checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import replay
from bench.engine.forms import ACK, DISCOVER, INFORM, NAK, OFFER, RELEASE, REQUEST, Form, captured, form, kind_of
from bench.engine.target import Target, population
from tests.bench.responders import FIRST_ADDRESS, FIRST_MAC, responder, right

PCAPS = Path(__file__).parents[1] / "data" / "pcaps"
ALL = sorted(path for path in PCAPS.glob("*.pcap") if not path.name.startswith("snmp-"))


def capture(name: str) -> Path:
    return PCAPS / f"{name}.pcap"


def test_every_capture_is_read_as_the_index_says() -> None:
    rows = [line.split("\t") for line in (PCAPS / "INDEX.tsv").read_text().splitlines()[1:]]
    indexed = [path for path in ALL if path.name in {row[0] for row in rows}]
    assert len(indexed) > 30
    for path in indexed:
        mine = [row for row in rows if row[0] == path.name and row[10]]
        found = [(kind_of(each.payload), each.xid, each.mac.hex(":")) for each in replay.messages_of(path)]
        assert found == [(int(row[10]), int(row[11], 16), row[18].split(",")[0]) for row in mine], path.name


def test_what_is_no_capture_is_said(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"\x7fELF" + bytes(40))
    with pytest.raises(ValueError, match="begins with 7f454c46, wanted a pcap or pcapng capture"):
        replay.messages_of(other)
    with pytest.raises(ValueError, match="no DHCP request"):
        replay.traffic([capture("snmp-trap-v2c")])


def test_two_hundred_machines_with_one_client_are_two_forms() -> None:
    traffic = replay.traffic([capture("perfdhcp-200")])
    assert len(traffic.macs) == 200
    assert [(each.kind, each.wants) for each in traffic.forms] == [(DISCOVER, OFFER), (REQUEST, ACK)]
    assert all(each.requested_at and each.server_at for each in traffic.forms if each.kind == REQUEST)


def test_what_a_relay_added_is_taken_off_and_ours_put_on() -> None:
    asked = next(each for each in replay.messages_of(capture("relay82")) if each.is_request)
    bare, ours = captured(asked.payload), captured(asked.payload, circuit=True)
    assert bare is not None and ours is not None
    assert bare.circuit_at == 0 and bare.data[24:28] == bytes(4) and bare.data[3] == 0
    assert ours.data[ours.circuit_at - 4 : ours.circuit_at + 4] == bytes([82, 6, 1, 4, 0, 0, 0, 0])


def test_a_renewal_carries_the_host_s_address_and_goes_to_the_server() -> None:
    forms = {each.kind: each for each in replay.traffic([capture("renew")]).forms if each.ciaddr}
    assert forms[REQUEST].unicast and forms[REQUEST].data[12:16] == bytes(4)
    rebinding = replay.traffic([capture("rebind")]).forms
    assert any(each.ciaddr and not each.unicast for each in rebinding if each.kind == REQUEST)


def test_what_was_refused_is_to_be_refused_again() -> None:
    forms = replay.traffic([capture("init-reboot-nak")]).forms
    assert [each.wants for each in forms if each.wants == NAK] == [NAK]
    assert all(each.requested_at == 0 for each in forms if each.wants == NAK)


def test_release_wants_silence_and_inform_an_ack() -> None:
    forms = replay.traffic([capture("release"), capture("inform")]).forms
    assert {each.wants for each in forms if each.kind == RELEASE} == {0}
    assert {each.wants for each in forms if each.kind == INFORM} == {ACK}


def test_copies_keep_the_order_and_the_pace() -> None:
    traffic = replay.traffic([capture("udhcpc"), capture("dhclient-giaddr")])
    one = replay.plan(traffic, 1)
    assert one.due_ns[-1] == pytest.approx(traffic.seconds * 1e9, abs=1000)
    fast = replay.plan(traffic, 3, speed=2.0, spread_s=0.5, seed=4)
    assert len(fast.due_ns) == 3 * len(traffic.said) and list(fast.due_ns) == sorted(fast.due_ns)
    for peer in set(fast.peers):
        said = [fast.templates[i] for i in range(len(fast.peers)) if fast.peers[i] == peer]
        assert said == [each.form for each in traffic.said if each.machine == peer % len(traffic.macs)]
    assert replay.plan(traffic, 3, spread_s=0.5, seed=4).due_ns != replay.plan(traffic, 3, spread_s=0.5, seed=5).due_ns


def test_a_replay_is_answered_and_checked() -> None:
    traffic = replay.traffic([capture("udhcpc"), capture("dhclient")], circuit=True)
    hosts = 5 * len(traffic.macs)
    people = population(range(FIRST_MAC, FIRST_MAC + hosts), range(FIRST_ADDRESS, FIRST_ADDRESS + hosts))
    planned = replay.plan(traffic, 5, speed=50.0)
    with responder(right) as port:
        target = Target("127.0.0.1", ("127.0.0.1",), port=port, own_port=0)
        result = replay.start(target, people, traffic.forms, planned, limit_s=60.0).wait()
    assert result.answered == result.offered == 5 * len(traffic.said)
    assert result.good and result.late == 0


def test_an_invented_request_has_its_holes_where_its_options_are() -> None:
    asked = form(REQUEST, circuit=True)
    assert asked.data[asked.requested_at - 2 : asked.requested_at] == bytes([50, 4])
    assert asked.data[asked.server_at - 2 : asked.server_at] == bytes([54, 4])
    assert asked.data[asked.client_id_at - 3 : asked.client_id_at] == bytes([61, 7, 1])
    assert len(asked.data) >= 300 and isinstance(asked, Form)
