"""Real firmware boots on our answers: iPXE of a BIOS machine, and edk2 by PXE and by HTTP (site: boot.py)."""

from __future__ import annotations

import pytest

from bench.machines import BIOS_IPXE, UEFI_HTTP, UEFI_PXE
from tests.netns.boot import BY_EDK2, BY_HTTP_ALONE, BY_ROM, OWN_FILE, PLAIN, SCRIPT_BY_HTTP, boots
from tests.netns.scene import Scene

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
