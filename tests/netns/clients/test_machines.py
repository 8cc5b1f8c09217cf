"""More firmware, for minutes: every card that Debian has a ROM for, other boot files, relays, several at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.lab.boot_files import announcing
from bench.lab.clients import dhcrelay
from bench.lab.emulated import BIOS_IPXE, CARDS, UEFI_HTTP, UEFI_IPXE, UEFI_PXE, Firmware
from tests.netns.clients.boot import (
    BY_CHAIN,
    BY_EDK2,
    BY_HTTP,
    BY_HTTP_ALONE,
    BY_PXELINUX,
    BY_ROM,
    CHAINED,
    CROWD,
    FOREIGN_43,
    LINUX,
    PLAIN,
    PROXIED,
    PROXIED_BY_HTTP,
    Boot,
    addresses_by_dnsmasq,
    boots,
    files_elsewhere,
)
from tests.netns.clients.cases import client, skipping
from tests.netns.clients.scene import Scene
from tests.netns.clients.servers import SERVER, Known

pytestmark = [pytest.mark.netns, pytest.mark.firmware, pytest.mark.machines, pytest.mark.timeout(1200)]

EACH = [
    client("iPXE BIOS", BIOS_IPXE, BY_ROM),
    client("iPXE UEFI", UEFI_IPXE, BY_ROM),
    client("OVMF PXE", UEFI_PXE, BY_EDK2),
    client("OVMF HTTP", UEFI_HTTP, BY_HTTP),
]


@pytest.mark.parametrize(("firmware", "wanted"), EACH)
def test_one_machine_with_any_firmware(scene: Scene, firmware: Firmware, wanted: Boot) -> None:
    """The same machine four times: its address stays, its boot file is the stage's."""
    boots(scene, firmware, [PLAIN], wanted)


@pytest.mark.client("iPXE BIOS")
def test_pxelinux(scene: Scene) -> None:
    boots(scene, BIOS_IPXE, [LINUX], BY_PXELINUX)


@pytest.mark.client("iPXE BIOS")
def test_chain_loads_undionly(scene: Scene) -> None:
    boots(scene, BIOS_IPXE, [CHAINED], BY_CHAIN)


@pytest.mark.client("iPXE BIOS")
@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.replace("-", " "))
def test_card(scene: Scene, card: str) -> None:
    boots(scene, BIOS_IPXE, [PLAIN], BY_ROM, card)


@pytest.mark.parametrize(("firmware", "wanted"), [EACH[0], EACH[2]])
def test_behind_a_relay_with_option_82(scene: Scene, firmware: Firmware, wanted: Boot) -> None:
    relay = scene.site.relay
    with skipping(), dhcrelay(relay, "rc", "rs", SERVER, option82=True), announcing(relay, "rc"):
        boots(scene, firmware, [PLAIN], wanted, far=True)


@pytest.mark.client("OVMF PXE")
def test_uefi_boots_with_a_43_that_is_not_pxes(scene: Scene) -> None:
    """With 60 = PXEClient beside it, edk2 took the offer for a BINL server's: it asked port 4011 of the boot server,
    where nobody answers, and stopped with PXE-E16."""
    with skipping(), files_elsewhere(scene) as files:
        boots(scene, UEFI_PXE, [FOREIGN_43], BY_EDK2, files=files)


@pytest.mark.client("iPXE BIOS")
def test_eight_at_once(scene: Scene) -> None:
    boots(scene, BIOS_IPXE, CROWD, BY_ROM)


@pytest.mark.client("OVMF PXE")
def test_four_at_once(scene: Scene, record_property: Callable[[str, object], None]) -> None:
    """Those that start together choose the same transaction ids: each must get its own address all the same."""
    boots(scene, UEFI_PXE, CROWD[:4], BY_EDK2)
    names = [xid for xid, _ in {(packet.xid, packet.mac) for packet in scene.packets()}]
    record_property("transaction ids of several machines", len({xid for xid in names if names.count(xid) > 1}))


@pytest.mark.parametrize(
    ("firmware", "known", "wanted"),
    [
        client("iPXE UEFI", UEFI_IPXE, PROXIED, BY_ROM),
        client("OVMF PXE", UEFI_PXE, PROXIED, BY_EDK2),
        client("OVMF HTTP", UEFI_HTTP, PROXIED_BY_HTTP, BY_HTTP_ALONE),
    ],
)
def test_an_address_from_dnsmasq_and_the_boot_file_from_us(
    scene: Scene, firmware: Firmware, known: Known, wanted: Boot
) -> None:
    """edk2 takes our offer by 60 and 43, asks no menu and no port 4011, and fetches what the offer names."""
    with skipping(), addresses_by_dnsmasq(scene, known):
        boots(scene, firmware, [known], wanted)
