"""Real firmware boots on our answers: iPXE of a BIOS machine, and edk2 by PXE and by HTTP (site: boot.py)."""

from __future__ import annotations

import pytest

from bench.lab.emulated import BIOS_IPXE, UEFI_HTTP, UEFI_PXE
from tests.netns.clients.boot import (
    BY_EDK2,
    BY_HTTP_ALONE,
    BY_ROM,
    OWN_FILE,
    PLAIN,
    PROXIED,
    SCRIPT_BY_HTTP,
    addresses_by_dnsmasq,
    boots,
)
from tests.netns.clients.cases import skipping
from tests.netns.clients.scene import Scene

pytestmark = [pytest.mark.netns, pytest.mark.firmware]


@pytest.mark.client("iPXE BIOS")
def test_boots(scene: Scene) -> None:
    boots(scene, BIOS_IPXE, [PLAIN], BY_ROM)


@pytest.mark.client("OVMF PXE")
def test_chain_loads_ipxe_and_not_in_a_circle(scene: Scene) -> None:
    boots(scene, UEFI_PXE, [OWN_FILE], BY_EDK2)


@pytest.mark.client("OVMF HTTP")
def test_chain_loads_ipxe_without_tftp(scene: Scene) -> None:
    boots(scene, UEFI_HTTP, [SCRIPT_BY_HTTP], BY_HTTP_ALONE)


@pytest.mark.client("iPXE BIOS")
def test_boots_what_we_say_with_an_address_from_dnsmasq(scene: Scene) -> None:
    with skipping(), addresses_by_dnsmasq(scene, PROXIED):
        boots(scene, BIOS_IPXE, [PROXIED], BY_ROM)
