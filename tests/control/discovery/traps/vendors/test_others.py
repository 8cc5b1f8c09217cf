"""control/discovery/traps/vendors/: the decoders of enterprise 13464, Juniper and Dell."""

from __future__ import annotations

from pathlib import Path

import pytest

from control.discovery.trapseen import Port
from tests.control.discovery.traps.messages import (
    binding,
    case,
    case_rows,
    datagram,
    needs_net_snmp,
    number,
    reader,
    received,
    told,
)

MAC = "02:e2:e0:00:00:11"
OCTETS = bytes.fromhex(MAC.replace(":", ""))
FORMS = ("v1", "v2c", "inform")
GBN, GBN_ROW = "1.3.6.1.4.1.13464.1.2.3.3.1.2.0.1", "1.3.6.1.4.1.13464.1.2.3.3.1.1.1.8.1.2"
EX, EX_ROW = "1.3.6.1.4.1.2636.3.40.1.7.2.0.1", "1.3.6.1.4.1.2636.3.40.1.7.1.1.1.8.1.2"
L2ALD, L2ALD_ROW = "1.3.6.1.4.1.2636.3.48.1.0.5", "1.3.6.1.4.1.2636.3.48.1.2.1.8.1.2"
DELL = "1.3.6.1.4.1.6027.3.28.1"
Row = tuple[str, Port, int, bool]


def seen(content: bytes) -> list[Row]:
    return [(one.mac, one.port, one.vlan, one.learnt) for one in reader().read(datagram(content)).seen]


def test_the_public_case_of_13464() -> None:
    trap, rows = case("27-13464-same-format.sh")
    assert (trap, rows[0][0]) == (GBN, f"{GBN_ROW}.1")
    assert seen(told(trap, *case_rows(rows))) == [("02:00:00:00:00:05", 5, 10, True)]


def test_the_public_cases_as_net_snmp_sends_them(tmp_path: Path) -> None:
    needs_net_snmp()
    assert seen(received(tmp_path, "27-13464-same-format.sh")) == [("02:00:00:00:00:05", 5, 10, True)]
    assert reader().read(datagram(received(tmp_path, "27-cisco-move-215.2.0.2.sh"))).outcome == "unknown"


def ex(operation: int = 1, vlan: int = 10, mac: bytes = OCTETS, port: int = 5) -> bytes:
    return bytes((operation,)) + vlan.to_bytes(2, "big") + mac + port.to_bytes(4, "big")


def l2ald(operation: int = 1, vlan: int = 10, mac: bytes = OCTETS, port: int = 5, index: int = 3) -> bytes:
    return bytes((operation,)) + index.to_bytes(2, "big") + mac + port.to_bytes(2, "big") + vlan.to_bytes(2, "big")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "trap, row, tuples",
    [
        pytest.param(GBN, GBN_ROW, bytes.fromhex("01000a02e2e0000011000502000a02e2e00000110006"), id="13464"),
        pytest.param(EX, EX_ROW, ex() + ex(2, port=6), id="EX"),
        pytest.param(L2ALD, L2ALD_ROW, l2ald() + l2ald(2, port=6), id="L2ALD"),
    ],
)
@pytest.mark.parametrize("end", [b"", b"\0", b"\0" + b"\xff" * 40], ids=["to-the-end", "end-mark", "more-behind-it"])
def test_a_history(form: str, trap: str, row: str, tuples: bytes, end: bytes) -> None:
    rows = [binding(f"{row}.17", 0x04, tuples + end), number(f"{row[:-1]}3.17", 99, 0x43)]
    assert seen(told(trap, *rows, form=form)) == [(MAC, 5, 10, True), (MAC, 6, 10, False)]


@pytest.mark.parametrize("trap, row, made", [(EX, EX_ROW, ex), (L2ALD, L2ALD_ROW, l2ald)], ids=["EX", "L2ALD"])
def test_juniper_s_updated_is_at_its_new_port(trap: str, row: str, made: type[bytes]) -> None:
    assert seen(told(trap, binding(f"{row}.1", 0x04, made(3, port=9)))) == [(MAC, 9, 10, True)]  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "trap, row, tuples, skips",
    [
        pytest.param(GBN, GBN_ROW, bytes.fromhex("03000a02e2e00000110005"), {"operation": 1}, id="13464-update"),
        pytest.param(EX, EX_ROW, ex(4), {"operation": 1}, id="EX-operation-4"),
        pytest.param(EX, EX_ROW, ex()[:-1], {"cut": 1}, id="EX-cut"),
        pytest.param(EX, EX_ROW, ex(port=65536), {"port": 1}, id="EX-port-65536"),
        pytest.param(EX, EX_ROW, ex(port=0), {"port": 1}, id="EX-port-0"),
        pytest.param(EX, EX_ROW, ex(vlan=4095), {"vlan": 1}, id="EX-vlan"),
        pytest.param(L2ALD, L2ALD_ROW, l2ald(vlan=4095), {"vlan": 1}, id="L2ALD-tag"),
        pytest.param(L2ALD, L2ALD_ROW, l2ald(mac=bytes(6)), {"mac_zero": 1}, id="L2ALD-zeros"),
        pytest.param(L2ALD, L2ALD_ROW, b"\1", {"cut": 1}, id="L2ALD-one-octet"),
        pytest.param(EX, EX_ROW, (b"\4" + ex()[1:]) * 5000, {"operation": 5000}, id="EX-the-largest-datagram"),
    ],
)
def test_a_history_that_cannot_be(trap: str, row: str, tuples: bytes, skips: dict[str, int]) -> None:
    reading = reader().read(datagram(told(trap, binding(f"{row}.1", 0x04, tuples))))
    assert (reading.outcome, reading.seen, dict(reading.skips)) == ("decoded", [], skips)


@pytest.mark.parametrize("trap", [GBN, EX, L2ALD])
def test_a_history_of_another_vendor_is_none_of_theirs(trap: str) -> None:
    others = {GBN: EX_ROW, EX: L2ALD_ROW, L2ALD: GBN_ROW}
    for row in (others[trap], "1.3.6.1.4.1.9.9.215.1.1.8.1.2"):
        assert reader().read(datagram(told(trap, binding(f"{row}.1", 0x04, ex())))).outcome == "unknown"


# --- Dell ------------------------------------------------------------------------------------------------------------


def dell(mac: bytes = OCTETS, vlan: int = 10, port: int = 5, new: int | None = None) -> list[bytes]:
    ports = [number(f"{DELL}.4.0", port), *([number(f"{DELL}.5.0", new)] if new is not None else [])]
    told_besides = number(f"{DELL}.6.0", 99, 0x43), binding(f"{DELL}.7.0", 0x04, b"MAC 02:e2:e0:00:00:11 \x1b[31m")
    return [binding(f"{DELL}.2.0", 0x04, mac), number(f"{DELL}.3.0", vlan), *ports, *told_besides]


@pytest.mark.parametrize("form", FORMS)
def test_dell_s_learnt_and_moved(form: str) -> None:
    assert seen(told(f"{DELL}.1.1", *dell(), form=form)) == [(MAC, "portId 5", 10, True)]
    moved = [(MAC, "portId 9", 10, True), (MAC, "portId 5", 10, False)]
    assert seen(told(f"{DELL}.1.2", *dell(new=9), form=form)) == moved


@pytest.mark.parametrize(
    "rows, reason",
    [
        pytest.param(dell(mac=b"\xff" * 6, new=9), "mac_broadcast", id="broadcast"),
        pytest.param(dell(mac=b"02:e2:e0:00:00:11", new=9), "mac_length", id="text"),
        pytest.param(dell(vlan=4095, new=9), "vlan", id="vlan"),
        pytest.param(dell(port=0, new=9), "port", id="from-0"),
        pytest.param(dell(new=0), "port", id="to-0"),
        pytest.param(dell(new=65536), "port", id="to-65536"),
    ],
)
def test_dell_s_that_cannot_be(rows: list[bytes], reason: str) -> None:
    reading = reader().read(datagram(told(f"{DELL}.1.2", *rows)))
    assert (reading.outcome, reading.seen, dict(reading.skips)) == ("decoded", [], {reason: 1})


@pytest.mark.parametrize(
    "trap, rows",
    [
        pytest.param("1.2", dell(), id="moved-without-a-new-port"),
        pytest.param("1.1", dell()[1:], id="no-MAC"),
        pytest.param("1.1", [*dell(), *dell()], id="twice"),
        pytest.param("1.3", dell(), id="another-trap"),
        pytest.param("1.1", [*dell()[:1], binding(f"{DELL}.3.0", 0x04, b"10"), *dell()[2:]], id="a-text-for-a-VLAN"),
    ],
)
def test_dell_s_without_its_objects_is_unknown(trap: str, rows: list[bytes]) -> None:
    reading = reader().read(datagram(told(f"{DELL}.{trap}", *rows)))
    assert (reading.outcome, reading.seen) == ("unknown", [])
