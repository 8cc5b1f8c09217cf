"""What boots a machine, stage by stage: the options and the timers of PXE ROMs, iPXE, systems and management cards."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.engine.forms import DISCOVER, REQUEST, Form, form


@dataclass(frozen=True, slots=True)
class Firmware:
    """One DHCP client.  discover_s, request_s: waits before each retransmission, after the last one it gives up.

    collect_s: offers are collected for so long before the REQUEST; insists: with more DISCOVERs meanwhile.
    wait_s: what lies between the stage before and this one, evenly spread."""

    name: str
    discover_s: tuple[float, ...]
    request_s: tuple[float, ...]
    options: tuple[tuple[int, bytes], ...]
    collect_s: float = 0.0
    insists: bool = False
    broadcast: bool = False
    wait_s: tuple[float, float] = (0.0, 0.0)

    def forms(self, circuit: bool) -> tuple[Form, Form]:
        """Its DISCOVER and its REQUEST."""
        flags = 0x8000 if self.broadcast else 0
        return (
            form(DISCOVER, self.options, flags=flags, circuit=circuit),
            form(REQUEST, self.options, flags=flags, circuit=circuit),
        )

    def after(self, least_s: float, most_s: float) -> Firmware:
        return replace(self, wait_s=(least_s, most_s))


_UEFI = ((57, b"\x05\xc0"), (93, b"\x00\x07"), (94, b"\x01\x03\x10"), (60, b"PXEClient:Arch:00007:UNDI:003016"))
# PXE 2.1 section 2.2.3 for the timers; a capture of edk2 showed 3.8 s of collecting and the broadcast flag.
ROM = Firmware("rom", (4, 8, 16, 32), (4, 8, 16, 32), _UEFI, collect_s=3.8, broadcast=True)
# Captures of iPXE: DISCOVER at 0 and 1 s whatever is offered, REQUEST at 3 s (it waits for a ProxyDHCP); with
# option 175.176 it takes the first offer at once.
IPXE = Firmware(
    "ipxe", (1, 2, 4, 8), (0.25, 0.5, 1, 2, 4, 8), (*_UEFI, (77, b"iPXE"), (175, b"\x21\x01\x01")), 3.0, insists=True
)
IPXE_HASTY = replace(IPXE, collect_s=0.0, insists=False)
OS = Firmware("os", (4, 8, 16, 32), (4, 8, 16, 32), ((57, b"\x05\xc0"), (12, b"node")))  # RFC 2131 section 4.1
BMC = Firmware("bmc", (3, 3, 3, 3, 3, 3, 3, 3), (3, 3, 3, 3, 3, 3, 3, 3), ((60, b"udhcp 1.35.0"),))  # busybox
