"""control/discovery/traps/vendors/cisco.py: a MAC that moved, and one that port security does not admit."""

from __future__ import annotations

import pytest

from control.discovery.trapseen import numbered
from tests.control.discovery.traps.messages import binding, case, case_rows, datagram, number, reader, told

MAC, OTHER = "02:e2:e0:00:00:11", b"\x02\xe2\xe0\0\0\x12"
OCTETS = bytes.fromhex(MAC.replace(":", ""))
MOVED = "1.3.6.1.4.1.9.9.215.2.0.2"
MOVE = "1.3.6.1.4.1.9.9.215.1.3"
SECURITY = "1.3.6.1.4.1.9.9.315"
ROW = f"{SECURITY}.1.2.1.1"
FORMS = ("v1", "v2c", "inform")


def move(mac: bytes = OCTETS, vlan: int = 10, left: int = 3, port: int = 7) -> dict[str, bytes]:
    """The objects of cmnMacMoveNotification, as its MIB orders them."""
    return {
        "mac": binding(f"{MOVE}.3.0", 0x04, mac),
        "vlan": number(f"{MOVE}.4.0", vlan),
        "from": number(f"{MOVE}.5.0", left),
        "to": number(f"{MOVE}.6.0", port),
        "time": number(f"{MOVE}.7.0", 12345, 0x43),
    }


def but(name: str) -> list[bytes]:
    return [row for key, row in move().items() if key != name]


@pytest.mark.parametrize("form", FORMS)
def test_a_mac_that_moved_is_learnt_at_one_port_and_gone_from_the_other(form: str) -> None:
    reading = reader().read(datagram(told(MOVED, *move().values(), form=form)))
    places = [(one.mac, one.port, one.vlan, one.learnt) for one in reading.seen]
    assert places == [(MAC, 7, 10, True), (MAC, 3, 10, False)]
    assert (reading.outcome, len(reading.replies)) == ("decoded", form == "inform")


def test_a_repeated_move_is_one_and_the_way_back_is_another() -> None:
    flapping = reader()
    turns = [move(), move(), move(left=7, port=3), move()]
    found = [flapping.read(datagram(told(MOVED, *rows.values()))) for rows in turns]
    assert [len(reading.seen) for reading in found] == [2, 0, 2, 2]
    assert [reading.skips["repeated"] for reading in found] == [0, 1, 0, 0]


def test_the_public_case_s_move_is_not_as_the_mib_has_it_and_is_named() -> None:
    """Its MAC stands where cmnMACMoveNotificationsEnabled does, each further object one before its own."""
    trap, rows = case("27-cisco-move-215.2.0.2.sh")
    reading = reader().read(datagram(told(trap, *case_rows(rows))))
    assert (reading.outcome, reading.seen) == ("unknown", [])
    assert reading.unknown is not None and trap == MOVED


@pytest.mark.parametrize(
    "changed, reason",
    [
        pytest.param({"mac": bytes(6)}, "mac_zero", id="zeros"),
        pytest.param({"mac": b"\xff" * 6}, "mac_broadcast", id="broadcast"),
        pytest.param({"mac": b"\x01\0\x5e\0\0\1"}, "mac_multicast", id="multicast"),
        pytest.param({"mac": OCTETS[:5]}, "mac_length", id="five-octets"),
        pytest.param({"mac": OCTETS * 100}, "mac_length", id="six-hundred"),
        pytest.param({"mac": b""}, "mac_length", id="none"),
        pytest.param({"vlan": 4095}, "vlan", id="vlan-4095"),
        pytest.param({"left": 0}, "port", id="from-0"),
        pytest.param({"port": 0}, "port", id="to-0"),
        pytest.param({"port": 65536}, "port", id="to-65536"),
    ],
)
def test_a_move_that_cannot_be(changed: dict[str, int | bytes], reason: str) -> None:
    reading = reader().read(datagram(told(MOVED, *move(**changed).values())))  # type: ignore[arg-type]
    assert (reading.outcome, reading.seen, dict(reading.skips)) == ("decoded", [], {reason: 1})


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([*move().values(), *move(mac=OTHER).values()], id="everything-twice"),
        pytest.param([*move().values(), number(f"{MOVE}.6.0", 9)], id="two-ports"),
        *(pytest.param(but(name), id=f"no-{name}") for name in ("mac", "vlan", "from", "to")),
        pytest.param([*(move() | {"mac": number(f"{MOVE}.3.0", 1)}).values()], id="a-number-for-a-MAC"),
        pytest.param([*(move() | {"to": binding(f"{MOVE}.6.0", 0x04, b"\7")}).values()], id="a-text-for-a-port"),
        pytest.param([*(move() | {"to": number(f"{MOVE}.6.0", 7, 0x43)}).values()], id="TimeTicks-for-a-port"),
        pytest.param([*(move() | {"to": number(f"{MOVE}.6.1", 7)}).values()], id="another-instance"),
        pytest.param([], id="nothing"),
        pytest.param([number(f"{MOVE}.6.0", at) for at in range(500)], id="five-hundred-ports"),
    ],
)
def test_a_move_without_its_objects_is_unknown(rows: list[bytes]) -> None:
    reading = reader().read(datagram(told(MOVED, *rows)))
    assert (reading.outcome, reading.seen) == ("unknown", [])


def test_a_move_from_a_port_to_itself_removes_nothing() -> None:
    reading = reader().read(datagram(told(MOVED, *move(left=7).values())))
    assert [(one.port, one.learnt) for one in reading.seen] == [(7, True)]


def test_a_negative_port_is_none() -> None:
    rows = [*(move() | {"to": binding(f"{MOVE}.6.0", 0x02, b"\xff")}).values()]
    for form in FORMS:
        assert dict(reader().read(datagram(told(MOVED, *rows, form=form))).skips) == {"port": 1}


# --- port security ---------------------------------------------------------------------------------------------------


def violation(kind: int, index: int = 10105, mac: bytes = OCTETS, vlan: int = 20) -> list[bytes]:
    """The objects of each of the three, as the MIB orders them."""
    name = binding(f"1.3.6.1.2.1.31.1.1.1.1.{index}", 0x04, b"Gi1/0/5")
    address = binding(f"{ROW}.10.{index}", 0x04, mac)
    between = {
        1: [number(f"1.3.6.1.2.1.2.2.1.1.{index}", index)],
        2: [binding(f"1.3.6.1.4.1.9.9.46.1.3.1.1.4.1.{vlan}", 0x04, b"servers")],
        3: [number(f"{ROW}.18.{index}", vlan, 0x42)],
    }
    return [name, *between[kind], address]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind, vlan", [(1, 0), (2, 0), (3, 20)])
def test_a_mac_that_port_security_refuses_is_seen_at_its_interface(form: str, kind: int, vlan: int) -> None:
    reading = reader().read(datagram(told(f"{SECURITY}.0.0.{kind}", *violation(kind), form=form)))
    (one,) = reading.seen
    assert (one.mac, one.port, one.vlan, one.learnt) == (MAC, "ifIndex 10105 (refused)", vlan, True)
    assert numbered(one.port) == ("ifIndex", 10105, True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "rows, reason",
    [
        pytest.param(violation(1, index=0), "port", id="ifIndex-0"),
        pytest.param(violation(2, index=2**31), "port", id="ifIndex-2^31"),
        pytest.param(violation(1, mac=bytes(6)), "mac_zero", id="zeros"),
        pytest.param(violation(1, mac=b"GigabitEthernet1/0/5"), "mac_length", id="a-text"),
        pytest.param(violation(3, vlan=4095), "vlan", id="vlan-4095"),
        pytest.param([*violation(1), number("1.3.6.1.2.1.2.2.1.1.10106", 10106)], "two_ports", id="two-interfaces"),
        pytest.param([*violation(1)[2:], number("1.3.6.1.2.1.2.2.1.1.10105", 9)], "two_ports", id="index-and-value"),
        pytest.param([*violation(1), number(f"{ROW}.18.7", 20)], "two_ports", id="the-VLAN-of-another"),
    ],
)
def test_a_violation_that_cannot_be(rows: list[bytes], reason: str) -> None:
    reading = reader().read(datagram(told(f"{SECURITY}.0.0.3", *rows)))
    assert (reading.outcome, reading.seen, dict(reading.skips)) == ("decoded", [], {reason: 1})


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([*violation(1), *violation(1, index=10106, mac=OTHER)], id="two-MACs"),
        pytest.param(violation(1)[:2], id="no-MAC"),
        pytest.param([*violation(3), number(f"{ROW}.18.10106", 20)], id="two-VLANs"),
        pytest.param([binding(f"{ROW}.10.10105.1", 0x04, OCTETS)], id="two-indices"),
        pytest.param([number(f"{ROW}.10.10105", 1)], id="a-number-for-a-MAC"),
        pytest.param([*violation(1), binding(f"{ROW}.18.10105", 0x04, b"20")], id="a-text-for-a-VLAN"),
    ],
)
def test_a_violation_without_its_objects_is_unknown(rows: list[bytes]) -> None:
    reading = reader().read(datagram(told(f"{SECURITY}.0.0.1", *rows)))
    assert (reading.outcome, reading.seen) == ("unknown", [])


def test_other_traps_of_that_mib_are_unknown() -> None:
    assert reader().read(datagram(told(f"{SECURITY}.0.0.4", *violation(1)))).outcome == "unknown"
