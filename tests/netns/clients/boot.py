"""The site of the firmware tests: machines that boot, an inventory with a boot file for each stage, and the files.

A boot file has run when its words stand on the machine's console: each says which program ran it, and as whom.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.lab.boot_files import BootFiles, Fetched
from bench.lab.client import Unsupported, missing
from bench.lab.emulated import Firmware, Machine
from bench.lab.lab import Host
from bench.lab.site import RunningSite
from tests.netns.clients.cases import skipping
from tests.netns.clients.scene import Scene
from tests.netns.clients.servers import DOMAIN, LEASE_S, MASK, SERVER, Known

# One boot takes 4 to 12 s where nothing else runs, 125 s were seen on a machine with three times the load that it has
# cores for; several share the cores.
BOOT_S, BESIDE_S = 300.0, 60.0
URL = f"http://{SERVER}"

MENU = """#!ipxe
echo BOOTED menu on ${net0/chip} as ${net0/ip} of ${net0/mac} ${hostname}
echo and that is all
reboot
"""
# undionly.kpxe asks DHCP again and is of the same class as the ROM that loaded it: the script has to tell them apart.
CHAIN = """#!ipxe
iseq ${net0/chip} undionly && chain menu.ipxe || chain undionly.kpxe
"""
PXELINUX = """DEFAULT run
PROMPT 0
SAY BOOTED pxelinux
LABEL run
  COM32 reboot.c32
"""
TEXTS = {"menu.ipxe": MENU, "chain.ipxe": CHAIN, "pxelinux.cfg/default": PXELINUX}


def machine(number: int, name: str, **dhcp: str) -> Known:
    own = {key.replace("__", "--").replace("ipxe_http", "ipxe-http"): value for key, value in dhcp.items()}
    return Known(name, f"52:54:00:e2:01:{number:02x}", f"10.88.0.{100 + number}", f"10.77.0.{100 + number}", dhcp=own)


PLAIN = machine(1, "plain")
# Its own boot file is for everybody; the pool's for iPXE counts before it, or iPXE would load iPXE for ever.
OWN_FILE = machine(2, "own-file", tftp_filename="snponly.efi")
SCRIPT_BY_HTTP = machine(3, "script-by-http", bootfile_url__ipxe_http=f"{URL}/menu.ipxe")
LINUX = machine(4, "pxelinux", tftp_filename__ipxe="pxelinux.0")
CHAINED = machine(5, "chained", tftp_filename__ipxe="chain.ipxe")
PROXIED = machine(6, "proxied", proxy="1")  # dnsmasq gives its address
PROXIED_BY_HTTP = machine(7, "proxied-by-http", proxy="1", bootfile_url__ipxe_http=f"{URL}/menu.ipxe")
# Files from another machine than the DHCP server, at whose port 4011 nobody is; and a 43 that says nothing to PXE.
FILES = "10.88.0.4"
FOREIGN_43 = machine(8, "foreign-43", tftp_server=FILES, vendor_specific="241=ip:10.88.0.5")
CROWD = [machine(10 + number, f"crowd{number}") for number in range(8)]
MACHINES = (PLAIN, OWN_FILE, SCRIPT_BY_HTTP, LINUX, CHAINED, PROXIED, PROXIED_BY_HTTP, FOREIGN_43, *CROWD)

POOL = {
    "enabled": 1,
    "tftp_server": SERVER,
    "tftp_filename": "pxelinux.0",
    "tftp_filename--uefi-x64": "snponly.efi",
    "tftp_filename--ipxe": "menu.ipxe",
    "bootfile_url--http-boot": f"{URL}/snponly.efi",
    "domain": DOMAIN,
    "lease_time": LEASE_S,
}


def is_proxied(known: Known) -> bool:
    return "proxy" in known.dhcp


def host_file(machines: Sequence[Known] = MACHINES, pool: Mapping[str, str | int] = POOL) -> str:
    """The machines as the inventory loads them."""
    networks = [{"base": f"10.{n}.0.0", "mask": MASK, "gateway": f"10.{n}.0.1"} for n in (88, 77)]
    hosts: list[dict[str, object]] = [
        {"name": k.name, "mac": k.mac, "pool": "boot", "dhcp": dict(k.dhcp)}
        | ({} if is_proxied(k) else {"addresses": [k.near, k.far]})
        for k in machines
    ]
    return json.dumps({"networks": networks, "pools": [{"name": "boot", "dhcp": pool}], "hosts": hosts})


class BootServers:
    """bootstorm for some machines, and TFTP and HTTP with their files, all on one address."""

    name = "bootstorm"
    shortest_lease_s = 1
    lacks: frozenset[str] = frozenset()
    files: BootFiles
    site: RunningSite

    def __init__(self, machines: Sequence[Known] = MACHINES, pool: Mapping[str, str | int] = POOL) -> None:
        self._machines, self._pool = machines, pool
        self._running: list[RunningSite | BootFiles] = []

    def start(self, host: Host) -> None:
        self.files = BootFiles(host, "sv", SERVER, TEXTS)
        self.site = RunningSite(host, workers=2)
        self.site.fill(host_file(self._machines, self._pool))
        self.site.start_inventory()
        self.site.serve(len(self._machines))
        self._running += [self.files, self.site]

    def stop(self) -> None:
        for running in self._running:
            running.close() if isinstance(running, BootFiles) else running.stop()


@dataclass(frozen=True, slots=True)
class Boot:
    """What a machine shall do: the files that it fetches, how often it asks DHCP on the way, what its console shows."""

    fetches: tuple[tuple[str, str], ...]  # protocol, file
    asks: int
    shows: str

    def check(
        self, scene: Scene, known: Known, far: bool, console: str, files: BootFiles, since: tuple[int, int]
    ) -> None:
        address = known.far if far else known.near
        assert re.search(self.shows.format(ip=address, mac=known.mac, name=known.name), console), console
        for protocol, name in self.fetches:
            if protocol == "tftp":
                files.await_tftp(name, address)
            assert Fetched(protocol, name, address) in files.fetched(since)
        if scene.wire is not None:
            answers = [packet for packet in scene.packets() if packet.mac == known.mac and packet.reply]
            if is_proxied(known):  # tcpdump shows no address 0; what the other server says it says to the client alone
                assert {packet.address for packet in answers if packet.source.startswith(SERVER)} == {""}
            else:
                assert {packet.address for packet in answers} == {address}, "one machine, one address, at every stage"
            assert len({packet.xid for packet in answers}) == self.asks, "once at each stage, and not round in a circle"


MENU_SHOWS = r"BOOTED menu on {chip} as {{ip}} of {{mac}} {{name}}"
BY_ROM = Boot((("tftp", "menu.ipxe"),), 1, MENU_SHOWS.format(chip=r"\S+"))
BY_EDK2 = Boot((("tftp", "snponly.efi"), ("tftp", "menu.ipxe")), 2, MENU_SHOWS.format(chip="SNP"))
BY_HTTP = Boot((("http", "snponly.efi"), ("tftp", "menu.ipxe")), 2, MENU_SHOWS.format(chip="SNP"))
BY_HTTP_ALONE = Boot((("http", "snponly.efi"), ("http", "menu.ipxe")), 2, MENU_SHOWS.format(chip="SNP"))
BY_PXELINUX = Boot((("tftp", "pxelinux.0"), ("tftp", "pxelinux.cfg/default")), 1, "BOOTED pxelinux")
BY_CHAIN = Boot(
    (("tftp", "chain.ipxe"), ("tftp", "undionly.kpxe"), ("tftp", "menu.ipxe")), 2, MENU_SHOWS.format(chip="undionly")
)


@contextlib.contextmanager
def addresses_by_dnsmasq(scene: Scene, *machines: Known) -> Iterator[None]:
    """Another server on the near segment: it gives machines their addresses and names, and nothing to boot."""
    if lost := missing("dnsmasq"):
        raise Unsupported(lost)
    host = scene.site.lab.host("addresses")
    scene.hosts.append(host)
    scene.site.near.plug(host, "other", "10.88.0.3/24")
    argv = ["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--port=0", "--log-dhcp"]
    argv += [f"--dhcp-leasefile={host.scratch}/leases", "--interface=other", "--bind-interfaces"]
    argv += [f"--dhcp-range=10.88.0.0,static,{MASK},{LEASE_S}", f"--dhcp-option=3,{SERVER}"]
    argv += [f"--dhcp-host={known.mac},{known.near},{known.name}" for known in machines]
    server = host.popen(argv)
    server.wait_for("DHCP, static leases only on 10.88", BESIDE_S)
    try:
        yield
    finally:
        server.stop()


@contextlib.contextmanager
def files_elsewhere(scene: Scene) -> Iterator[BootFiles]:
    """Another machine on the near segment: it has the boot files, and no DHCP."""
    host = scene.site.lab.host("files")
    scene.hosts.append(host)
    scene.site.near.plug(host, "files", f"{FILES}/24")
    with BootFiles(host, "files", FILES, TEXTS, prefix="fd00:89::") as files:
        yield files


def boots(
    scene: Scene,
    firmware: Firmware,
    machines: list[Known],
    wanted: Boot,
    card: str = "virtio-net-pci",
    far: bool = False,
    files: BootFiles | None = None,
) -> None:
    """Switch the machines on together and wait until each has booted as wanted and switched itself off.

    files: where they come from, where that is another machine than the DHCP server's."""
    servers = scene.site.under_test
    assert isinstance(servers, BootServers)
    files = files or servers.files
    since = files.mark()
    with skipping():
        files.needs(*(name for _, name in wanted.fetches if name not in TEXTS))
        running: list[tuple[Known, Machine]] = [(k, scene.machine(k, firmware, card, far)) for k in machines]
    until = time.monotonic() + BOOT_S + BESIDE_S * (len(running) - 1)
    scene.boot = max(machine.ends(until - time.monotonic()) for _, machine in running)
    for known, machine in running:
        wanted.check(scene, known, far, machine.console(), files, since)
