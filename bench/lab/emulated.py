"""Machines without a disk that boot over a laboratory's network: qemu with real firmware, its console on our side.

`Machine` is switched on when it is made and off when it is closed; what it writes to its serial console is collected,
and a boot file that ran has left its words there.  All is emulated (no KVM), so it runs wherever qemu does.
"""

from __future__ import annotations

import re
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.lab.client import Unsupported, missing
from bench.lab.lab import LabError, Process, Segment

OVMF = Path("/usr/share/OVMF")
OVMF_CODE, OVMF_VARS = OVMF / "OVMF_CODE_4M.fd", OVMF / "OVMF_VARS_4M.fd"
ROMS = Path("/usr/lib/ipxe/qemu")

_ESCAPES = re.compile(r"\x1b(?:\[[?=]?[\d;]*[A-Za-z]|c)")

# Cards whose ROM Debian has -> the ROM that qemu puts into them.
CARDS = {
    "virtio-net-pci": "efi-virtio.rom",
    "e1000": "efi-e1000.rom",
    "e1000e": "efi-e1000e.rom",
    "rtl8139": "efi-rtl8139.rom",
    "vmxnet3": "efi-vmxnet3.rom",
    "pcnet": "efi-pcnet.rom",
    "ne2k_pci": "efi-ne2k_pci.rom",
    "i82559er": "efi-eepro100.rom",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Firmware:
    """How a machine boots.  The network stack is the card's ROM (iPXE) or, without it, the firmware's own (edk2)."""

    name: str
    memory_mb: int
    machine: tuple[str, ...]
    uefi: bool = False
    rom: bool = True
    switches: tuple[str, ...] = ()


def _fw_cfg(**switches: str) -> tuple[str, ...]:
    return tuple(
        word
        for name, value in switches.items()
        for word in ("-fw_cfg", f"name=opt/org.tianocore/{name},string={value}")
    )


# graphics=off lets SeaBIOS show on the serial console what goes to the screen.
BIOS_IPXE = Firmware(name="iPXE BIOS", memory_mb=32, machine=("-M", "pc,graphics=off"))
UEFI_PXE = Firmware(
    name="OVMF PXE", memory_mb=64, machine=("-M", "q35"), uefi=True, rom=False, switches=_fw_cfg(IPv6PXESupport="n")
)
UEFI_HTTP = Firmware(
    name="OVMF HTTP",
    memory_mb=64,
    machine=("-M", "q35"),
    uefi=True,
    rom=False,
    switches=_fw_cfg(IPv6PXESupport="n", IPv4PXESupport="n"),
)
UEFI_IPXE = Firmware(
    name="iPXE UEFI", memory_mb=64, machine=("-M", "q35"), uefi=True, switches=_fw_cfg(IPv6PXESupport="n")
)


def lacking(firmware: Firmware, card: str = "virtio-net-pci") -> str | None:
    """None when such a machine can be switched on here, else what to install."""
    needed = [(OVMF_CODE, "ovmf"), (OVMF_VARS, "ovmf")] if firmware.uefi else []
    needed += [(ROMS / CARDS[card], "ipxe-qemu")] if firmware.rom else []
    lost = [f"{path} is not there (Debian package {package})" for path, package in needed if not path.exists()]
    if not Path("/dev/net/tun").exists():
        lost.append("/dev/net/tun is not there (kernel module tun)")
    return "; ".join(filter(None, (missing("qemu-system-x86_64"), *lost))) or None


class Machine:
    """One machine on a segment, with power on; a context manager that takes its power away."""

    def __init__(self, segment: Segment, mac: str, firmware: Firmware, card: str = "virtio-net-pci") -> None:
        """Unsupported where a program or a firmware file is missing."""
        if lost := lacking(firmware, card):
            raise Unsupported(lost)
        self.firmware, self.mac = firmware, mac
        self._switch = segment.switch
        self.tap = segment.tap()
        argv = ["qemu-system-x86_64", *firmware.machine, "-accel", "tcg", "-m", str(firmware.memory_mb)]
        argv += ["-nodefaults", "-no-user-config", "-display", "none", "-vga", "none", "-no-reboot"]
        argv += ["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]
        argv += self._flash() if firmware.uefi else []
        argv += firmware.switches
        argv += ["-netdev", f"tap,id=n0,ifname={self.tap},script=no,downscript=no"]
        argv += ["-device", f"{card},netdev=n0,mac={mac},bootindex=1" + ("" if firmware.rom else ",romfile=")]
        self.switched_on = time.monotonic()
        self._process: Process = self._switch.popen(argv)

    def _flash(self) -> list[str]:
        """The firmware's code, shared, and variables of its own."""
        variables = self._switch.scratch / f"{self.tap}.vars"
        shutil.copyfile(OVMF_VARS, variables)
        drive = "if=pflash,format=raw,unit"
        return ["-drive", f"{drive}=0,readonly=on,file={OVMF_CODE}", "-drive", f"{drive}=1,file={variables}"]

    def console(self) -> str:
        """Its text, without what moves the cursor."""
        return _ESCAPES.sub("", self._process.log())

    def ends(self, timeout: float) -> float:
        """Seconds from power on until its boot file has switched it off.  LabError if it does not, or qemu failed."""
        if status := self._process.wait(timeout):
            raise LabError(f"qemu of {self.mac} ended with {status}, wanted 0; it said:\n{self.console()}")
        return time.monotonic() - self.switched_on

    def freeze(self) -> None:
        """From now on its processor does nothing; it keeps its power until it is closed."""
        self._process.send_signal(signal.SIGSTOP)

    def close(self) -> None:
        self._process.stop()
        self._switch.ip(f"link delete {self.tap}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
