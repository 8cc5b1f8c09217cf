"""control/service/machines/identities.py: loops and clones are found, what is usual is not; all of it is bounded."""

from __future__ import annotations

import time
from typing import Any

import pytest
from ext.classify import ClientClass
from ext.sighted import CLIENT_ID_BYTES, Sighted

from control.service.machines.identities import (
    CLONE_WITHIN_NS,
    CLONES_MAX,
    LOOP_LASTS_NS,
    LOOPS_MAX,
    SHOWN_MAX,
    Clone,
    Finding,
    Identities,
    Loop,
    Shared,
    boot_file,
    clone_words,
    loop_words,
    other_mac,
    shared_words,
)
from tests.ext.packets import ip
from tests.ext.sightings import DUID, S, duid, mac, own, sighting


def take(found: Identities, event: dict[str, Any]) -> tuple[Finding, ...]:
    """As when ext.page.WorkerPage.drain() gives it."""
    return found.find(event | {"news": found.sighted.hear(event)})


@pytest.fixture
def found() -> Identities:
    return Identities(lambda text: f"node{int(text[-2:], 16)}")


# --- one identifier, several machines --------------------------------------------------------------------------------


def test_one_duid_of_several_machines_is_told_once(found: Identities) -> None:
    assert take(found, sighting(1, duid(11))) == ()
    (clone,) = take(found, sighting(2, duid(22)))
    assert isinstance(clone, Clone) and clone.macs == (mac(1), mac(2)) and clone.identity == DUID
    for number in (1, 2, 3):
        assert take(found, sighting(number, duid(number), boottime_ns=2000 * S)) == ()
    counts = found.counts(2000 * S)
    assert (counts["seen"], counts["cloned"]) == (3, 1)
    assert counts["clones"][0]["machines"] == 3
    assert [each["host"] for each in counts["clones"][0]["shown"]] == ["node1", "node2", "node3"]
    words = clone_words(clone, found.name_of)
    assert f"{mac(1)} (node1) and {mac(2)} (node2)" in words and "machine-id" in words and DUID.hex() in words
    assert found.of(mac(2), 2000 * S)[0]["shared_with"] == [mac(1), mac(3)]


@pytest.mark.parametrize(
    "first, second",
    [
        pytest.param(own(1), own(2), id="each-its-own-mac"),
        pytest.param(b"", b"", id="none"),
        pytest.param(b"\0" + bytes(16), b"\0" + bytes(16), id="boards-without-a-guid"),
        pytest.param(b"\0" + b"\xff" * 16, b"\0" + b"\xff" * 16, id="boards-with-an-empty-guid"),
        pytest.param(duid(1), duid(1, DUID[:-1] + b"!"), id="one-iaid-two-duids"),
        pytest.param(bytes(range(CLIENT_ID_BYTES)), bytes(range(CLIENT_ID_BYTES)), id="cut-off"),
        pytest.param(b"\xff", b"\xff", id="one-byte"),
    ],
)
def test_what_is_no_clone(found: Identities, first: bytes, second: bytes) -> None:
    assert take(found, sighting(1, first)) == () and take(found, sighting(2, second)) == ()
    assert found.counts(1000 * S)["cloned"] == 0


@pytest.mark.parametrize("client_id", [b"\0" + bytes(range(16)), b"\0golden-image", own(9)])
def test_other_kinds_of_client_id_are_compared_too(found: Identities, client_id: bytes) -> None:
    take(found, sighting(1, client_id))
    assert len(take(found, sighting(2, client_id))) == 1


def test_two_cards_of_one_machine_are_no_clones() -> None:
    found = Identities(lambda _mac: "node1")
    assert take(found, sighting(1, duid(1))) == () and take(found, sighting(2, duid(2))) == ()
    assert found.counts(1000 * S)["cloned"] == 0


def test_a_card_that_was_replaced_is_no_clone(found: Identities) -> None:
    take(found, sighting(1, duid(1)))
    assert take(found, sighting(2, duid(2), boottime_ns=1000 * S + CLONE_WITHIN_NS)) == ()
    assert len(take(found, sighting(1, duid(1), boottime_ns=1001 * S + CLONE_WITHIN_NS))) == 1, "both are about"


def test_a_machine_that_got_an_id_of_its_own_leaves_the_clone(found: Identities) -> None:
    take(found, sighting(1, duid(1)))
    take(found, sighting(2, duid(2)))
    take(found, sighting(2, duid(2, bytes(range(14)))))
    assert found.counts(1000 * S)["cloned"] == 0 and found.of(mac(1), 0)[0]["shared_with"] == []
    assert len(take(found, sighting(3, duid(3)))) == 1, "and another one joins: news"


def test_the_id_stays_while_another_stage_says_it(found: Identities) -> None:
    take(found, sighting(1, duid(1)))
    take(found, sighting(1, duid(1), **{"class": "IPXE"}))
    take(found, sighting(1, own(1), **{"class": "IPXE"}))
    assert len(take(found, sighting(2, duid(2)))) == 1


# --- what is usual ---------------------------------------------------------------------------------------------------


def test_one_machine_that_says_something_else_at_each_stage(found: Identities) -> None:
    stages = [
        ("UEFI_X64", b"PXEClient:Arch:00007", b"\0" + bytes(range(16))),
        ("IPXE", b"PXEClient:Arch:00007:UNDI:003016", own(1)),
        ("OS", b"anaconda-Linux", duid(1)),
        ("OS", b"", duid(1)),
    ]
    for second, (client, vendor_class, client_id) in enumerate(stages):
        event = sighting(1, client_id, vendor_class=vendor_class, boottime_ns=second * S)
        assert take(found, event | {"class": client}) == (), "usual"
    seen = found.of(mac(1), 10 * S)
    assert [(each["class"], each["seconds_ago"]) for each in seen] == [("os", 7), ("ipxe", 9), ("uefi-x64", 10)]
    assert seen[1]["client_id"] == f"Ethernet {mac(1)}" and seen[1]["other_mac"] is None
    assert seen[0]["vendor_class"] == "" and seen[0]["shared_with"] == []
    assert found.of(mac(2), 0) == []


def test_the_mac_of_another_card_is_noted(found: Identities) -> None:
    assert take(found, sighting(1, own(2))) == ()
    assert found.of(mac(1), 0)[0]["other_mac"] == mac(2) == other_mac(own(2), mac(1))
    assert other_mac(own(1), mac(1)) is None


def test_host_and_bmc_of_one_mac_are_told_apart(found: Identities) -> None:
    take(found, sighting(1, own(1)))
    take(found, sighting(1, b"", role="bmc", vendor_class=b"iDRAC"))
    assert {each["role"] for each in found.of(mac(1), 0)} == {"host", "bmc"} and found.counts(0)["seen"] == 1


# --- boot loops ------------------------------------------------------------------------------------------------------


def test_a_loop_is_counted_while_it_lasts(found: Identities) -> None:
    (loop,) = take(found, sighting(1, repeats=4, **{"class": "UEFI_X64"}))
    assert loop == Loop(mac(1), "host", "UEFI_X64", 4)
    take(found, sighting(1, repeats=4, **{"class": "IPXE"}))
    assert found.counts(1000 * S)["loops"] == 1, "one machine, whatever stages it goes through"
    assert found.counts(1000 * S + LOOP_LASTS_NS)["loops"] == 0


def row(file: bytes = b"", variants: dict[ClientClass, bytes] | None = None, **fields: Any) -> dict[str, Any]:
    def template(name: bytes) -> dict[str, Any]:
        return {"options": b"", "file": name, "siaddr": ip("10.20.0.2"), **fields}

    classes = {int(client): template(name) for client, name in (variants or {}).items()}
    everybody = template(file) | ({"variants": classes} if classes else {})
    return {"leases": [{"address": ip("10.20.0.11"), "prefix": 24, "template": everybody}]}


IPXE, BIOS, HTTP = ClientClass.IPXE, ClientClass.BIOS_PXE, ClientClass.HTTP_BOOT


@pytest.mark.parametrize(
    "client, given, wanted",
    [
        pytest.param("BIOS_PXE", row(b"/a.0"), ["as bios-pxe", "boot file /a.0 from 10.20.0.2;", "TFTP log"], id="rom"),
        pytest.param("BIOS_PXE", row(b"/a.0", {BIOS: b"/b.0"}), ["boot file /b.0 from"], id="the-class-s-own"),
        pytest.param("IPXE", row(b"undionly.kpxe"), ["iPXE loads iPXE", "tftp_filename--ipxe"], id="itself-again"),
        pytest.param(
            "IPXE", row(b"a", {IPXE: b"menu"}), ["boot file menu from", "what does the script do"], id="script"
        ),
        pytest.param("HTTP_BOOT", row(b"a", {HTTP: b"http://s/x.efi"}), ["http://s/x.efi;", "HEAD and GET"], id="url"),
        pytest.param("BIOS_PXE", row(), ["no boot file: set dhcp tftp_filename"], id="none"),
        pytest.param("BIOS_PXE", None, ["no boot file"], id="gone-meanwhile"),
        pytest.param("BIOS_PXE", {"leases": []}, ["no boot file"], id="not-served-any-more"),
    ],
)
def test_what_a_looping_machine_gets(client: str, given: dict[str, Any] | None, wanted: list[str]) -> None:
    words = loop_words(Loop(mac(1), "host", client, 8), given, (0, ip("10.20.0.11")))
    assert words.startswith("asked 8 times in a row within a minute of each other as ")
    assert [piece for piece in wanted if piece not in words] == [], words


def test_the_boot_file_is_that_of_the_lease_it_asked_for() -> None:
    given = row(b"near")
    given["leases"] += row(b"far")["leases"]
    given["leases"][1]["address"] = ip("10.77.0.11")
    assert boot_file(given, BIOS, (0, ip("10.77.0.11"))) == ("far", "10.20.0.2")
    assert boot_file(given, BIOS, (0, 0)) == ("near", "10.20.0.2")


def test_options_66_and_67_where_the_header_is_empty() -> None:
    given = row(b"", options=bytes((67, 4)) + b"a.0\0" + bytes((66, 4)) + b"boot")
    given["leases"][0]["template"]["siaddr"] = 0
    assert boot_file(given, BIOS, ()) == ("a.0", "boot")


@pytest.mark.parametrize("said", [b"\0a\nFORGED", b"\0\x1b[2J..", b"\xff\xfe\xfd", bytes(range(20)), b"\xff" * 4])
def test_a_stranger_cannot_write_lines_of_its_own(found: Identities, said: bytes) -> None:
    take(found, sighting(1, said, vendor_class=said))
    clone = Clone(said, said, (mac(1), mac(2)))
    seen = found.of(mac(1), 0)[0]
    for text in (seen["client_id"], seen["vendor_class"], clone_words(clone, found.name_of)):
        assert text.isascii() and text.isprintable(), text


# --- bounds ----------------------------------------------------------------------------------------------------------


def test_who_was_silent_for_longest_is_forgotten_wholly() -> None:
    found = Identities(lambda text: text, sighted=Sighted(10))
    for number in range(25):
        take(found, sighting(number, duid(1, DUID + number.to_bytes(2, "big"))))
        take(found, sighting(0, duid(1, DUID + b"\0\0")))
    assert found.sighted.machines == 10 and found.of(mac(0), 0) and found.of(mac(24), 0) and not found.of(mac(1), 0)
    shared = Identities(lambda text: text, sighted=Sighted(10))
    for number in range(25):
        take(shared, sighting(number, duid(number)))
    assert shared.sighted.machines == 10 and shared.counts(0)["clones"][0]["machines"] == 10


def test_loops_and_clones_are_bounded(found: Identities) -> None:
    for number in range(max(LOOPS_MAX, CLONES_MAX) + 5):
        said = duid(1, DUID + number.to_bytes(2, "big"))
        take(found, sighting(2 * number, said, repeats=4))
        take(found, sighting(2 * number + 1, said))
    assert len(found.loops) == LOOPS_MAX and len(found.clones) == CLONES_MAX
    assert len(found.counts(0)["clones"]) == SHOWN_MAX


def test_ten_thousand_machines_of_one_image_cost_no_more_than_others() -> None:
    """Ten thousand times ten thousand comparisons would take minutes; told by processor time, not by the clock."""

    def seconds(said: Any) -> float:
        found = Identities(lambda text: text)
        since = time.process_time()
        for number in range(10_000):
            take(found, sighting(number, said(number)))
        return time.process_time() - since

    apart = seconds(lambda number: duid(1, DUID + number.to_bytes(2, "big")))
    assert seconds(lambda _number: duid(1)) < 5 * apart + 0.5


# --- one address, two cards ------------------------------------------------------------------------------------------

ADDRESS = ip("10.1.0.9")


def of_cards(*objects: int, lease_s: int = 3600) -> Identities:
    """objects: identity of each MAC from 1 on."""
    rows = {
        mac(number): {"identity": thing, "leases": [{"template": {"lease_s": lease_s}}]}
        for number, thing in enumerate(objects, 1)
    }
    return Identities(lambda text: f"node{rows[text]['identity']}", row_of=rows.get)


def using(found: Identities, number: int, at_s: int, client: str = "OS", **fields: Any) -> list[Any]:
    told = sighting(number, boottime_ns=at_s * S, requested=ADDRESS) | {"class": client} | fields
    return [each for each in take(found, told) if isinstance(each, Shared)]


def test_two_systems_with_one_address_are_told() -> None:
    found = of_cards(7, 7)
    assert using(found, 1, 1000) == [] == using(found, 1, 1500)
    (shared,) = using(found, 2, 2000, requested=0, ciaddr=ADDRESS)
    assert shared == Shared(ADDRESS, (mac(1), mac(2)))
    assert shared_words(shared, found.name_of).startswith(f"{mac(1)} and {mac(2)} of node7 both use 10.1.0.9:")


def test_a_rom_and_then_a_system_at_another_card_is_one_boot() -> None:
    found = of_cards(7, 7)
    assert using(found, 2, 1000, "UEFI_X64") == [] == using(found, 2, 1010, "IPXE") == using(found, 1, 1060)
    assert using(found, 1, 1900) == []
    (shared,) = using(found, 2, 2000, "UEFI_X64")
    assert shared.macs == (mac(1), mac(2)), "it came back while the other is up"


@pytest.mark.parametrize(
    "objects, at_s, fields",
    [
        pytest.param((7, 8), 2000, {}, id="of two objects: it moved"),
        pytest.param((7, 7), 4600, {}, id="the lease is over"),
        pytest.param((7, 7), 2000, {"role": "bmc"}, id="its BMC"),
        pytest.param((7, 7), 2000, {"requested": ip("10.1.0.10")}, id="another address"),
        pytest.param((7, 7), 2000, {"requested": 0}, id="no address"),
    ],
)
def test_what_is_no_sharing(objects: tuple[int, ...], at_s: int, fields: dict[str, Any]) -> None:
    found = of_cards(*objects)
    assert using(found, 1, 1000) == [] == using(found, 2, at_s, **fields)
