"""control/discovery/traps/decoders.py: which trap is whose; what a history of MACs says, and is not to be believed."""

from __future__ import annotations

import pytest

from control.config.sections import TRAPS
from control.discovery.traps.ber import OCTET_STRING, OID, Binding, oid
from control.discovery.traps.decoders import FAMILIES, NAMES, Decoders, known_as
from control.discovery.traps.notification import SKIPS, SNMP_TRAP_OID, Notification, Sighting
from tests.control.discovery.traps.messages import HISTORY, LEARNT, MAC_CHANGED

REMOVED = bytes.fromhex("0200140000d1a5c0ffee0030")[:11]
SEEN = Sighting("02:e2:e0:00:00:11", 5, 10, True)
decode = Decoders().decode


def notification(*histories: bytes, trap: str = MAC_CHANGED, name: str = f"{HISTORY}.2.17") -> Notification:
    rows: list[Binding] = [(SNMP_TRAP_OID, OID, oid(trap))]
    return Notification.of(rows + [(oid(name), OCTET_STRING, history) for history in histories])


def tuple_of(operation: int = 1, vlan: int = 10, mac: str = "02e2e0000011", port: int = 5) -> bytes:
    return bytes((operation,)) + vlan.to_bytes(2, "big") + bytes.fromhex(mac) + port.to_bytes(2, "big")


@pytest.mark.parametrize(
    "history, want",
    [
        pytest.param(LEARNT, [SEEN], id="learnt"),
        pytest.param(tuple_of(2), [Sighting(SEEN.mac, 5, 10, False)], id="removed"),
        pytest.param(LEARNT[:11], [SEEN], id="no-end-mark"),
        pytest.param(LEARNT[:11] * 23, [SEEN] * 23, id="as-many-as-the-MIB-allows"),
        pytest.param(LEARNT[:11] + REMOVED + b"\0", [SEEN, Sighting("00:00:d1:a5:c0:ff", 60928, 20, False)], id="two"),
        pytest.param(b"\0" + LEARNT, [], id="nothing-behind-the-end"),
        pytest.param(b"", [], id="empty"),
        pytest.param(tuple_of(mac="f8f21e000001"), [Sighting("f8:f2:1e:00:00:01", 5, 10, True)], id="any-OUI"),
        pytest.param(tuple_of(mac="0" * 12), ["mac_zero"], id="zeros"),
        pytest.param(tuple_of(mac="f" * 12), ["mac_broadcast"], id="broadcast"),
        pytest.param(tuple_of(mac="01005e000001"), ["mac_multicast"], id="multicast"),
        pytest.param(tuple_of(3), ["operation"], id="operation-3"),
        pytest.param(tuple_of(3) + LEARNT, ["operation", SEEN], id="the-next-one-counts"),
        pytest.param(tuple_of(vlan=4095), ["vlan"], id="vlan-4095"),
        pytest.param(tuple_of(vlan=4094), [Sighting(SEEN.mac, 5, 4094, True)], id="vlan-4094"),
        pytest.param(tuple_of(port=0), ["port"], id="port-0"),
        pytest.param(tuple_of(port=65535), [Sighting(SEEN.mac, 65535, 10, True)], id="port-65535"),
        pytest.param(LEARNT[:10], ["cut"], id="cut"),
        pytest.param(LEARNT[:11] + b"\1", [SEEN, "cut"], id="one-octet-too-many"),
        pytest.param(tuple_of() + b"\xff" * 5, [SEEN, "cut"], id="a-second-one-cut"),
    ],
)
def test_history(history: bytes, want: list[Sighting | str]) -> None:
    assert list(decode(notification(history)) or ()) == want
    assert {reason for reason in want if isinstance(reason, str)} <= SKIPS.keys()


def test_every_history_index_of_one_trap() -> None:
    rows: list[Binding] = [(SNMP_TRAP_OID, OID, oid(MAC_CHANGED))]
    for index in (1, 2, 127, 128, 499, 2**32 - 1):
        rows.append((oid(f"{HISTORY}.2.{index}"), OCTET_STRING, tuple_of(port=index % 48 + 1)))
        rows.append((oid(f"{HISTORY}.3.{index}"), 0x43, b"\1"))
    found = list(decode(Notification.of(rows)) or ())
    assert [one.port for one in found if isinstance(one, Sighting)] == [2, 3, 32, 33, 20, 16]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(notification(LEARNT, trap="1.3.6.1.6.3.1.1.5.4"), id="linkUp"),
        pytest.param(notification(LEARNT, trap="1.3.6.1.4.1.9.9.2151.2.0.1"), id="OID-that-begins-alike"),
        pytest.param(notification(LEARNT, name=f"{HISTORY}.2"), id="no-index"),
        pytest.param(notification(LEARNT, name=f"{HISTORY}.2.1.1"), id="two-indices"),
        pytest.param(notification(LEARNT, name=f"{HISTORY}.4.1"), id="another-column"),
        pytest.param(notification(), id="no-history"),
        pytest.param(Notification(oid(MAC_CHANGED), [(oid(f"{HISTORY}.2.1"), 0x44, LEARNT)]), id="Opaque"),
        pytest.param(Notification.of([(oid(f"{HISTORY}.2.1"), OCTET_STRING, LEARNT)]), id="no-snmpTrapOID"),
    ],
)
def test_what_nobody_knows(other: Notification) -> None:
    assert decode(other) is None


def test_every_family_of_the_configuration_has_its_traps() -> None:
    assert tuple(FAMILIES) == TRAPS
    traps = [trap for family in FAMILIES.values() for trap in family]
    assert len(traps) == len(set(traps)), "a trap of two families"


@pytest.mark.parametrize("family", TRAPS)
def test_a_family_that_is_not_listed_is_not_read(family: str) -> None:
    without = Decoders(name for name in TRAPS if name != family)
    assert len(FAMILIES[family]) > 0 and not FAMILIES[family].keys() & without.of_trap.keys()
    if family == "cisco-mac-notification":
        assert without.decode(notification(LEARNT)) is None


def test_a_site_reads_as_before_by_one_key() -> None:
    only = Decoders(("cisco-mac-notification",))
    assert list(only.decode(notification(LEARNT)) or ()) == [SEEN]
    assert only.decode(notification(trap="1.3.6.1.4.1.9.9.215.2.0.2")) is None


def test_what_nobody_decodes_has_its_oid_and_a_name_where_it_has_one() -> None:
    assert known_as("1.3.6.1.6.3.1.1.5.4") == "1.3.6.1.6.3.1.1.5.4 (linkUp)"
    assert known_as("1.3.6.1.4.1.8072.4.0.2") == "1.3.6.1.4.1.8072.4.0.2"
    assert known_as("") == "without snmpTrapOID"
    decoded = {trap for family in FAMILIES.values() for trap in family}
    assert not {oid(trap) for trap in NAMES} & decoded
