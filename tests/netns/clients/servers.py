"""Servers that the client tests can be run against: ours, and dnsmasq as the rival that proves the tests.

Both serve the same two hosts on the same two networks; netns/conftest.py picks one by BOOTSTORM_RIVAL.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.lab.client import Unsupported, missing
from bench.lab.lab import Host, LabError, Process

ROOT = Path(__file__).resolve().parents[3]
SERVER = "10.88.0.1"
MASK = "255.255.255.0"
LEASE_S = 7200
BOOT_FILE = "/pxelinux.0"
DOMAIN = "example.org"
READY_S = 60.0
INVENTORY = "127.0.0.1:9996"


@dataclass(frozen=True, slots=True)
class Known:
    """A host that the server shall know."""

    name: str
    mac: str
    near: str  # its address on 10.88.0.0/24, the server's own network
    far: str = ""  # its address on 10.77.0.0/24, behind the relay
    lease_s: int = LEASE_S
    dhcp: Mapping[str, str | int] = field(default_factory=dict, hash=False)  # attributes of its own


CLIENT = Known("e2e-client", "02:e2:e0:00:00:11", "10.88.0.11", "10.77.0.11")
SECOND = Known("e2e-vm", "52:54:00:e2:00:01", "10.88.0.21")
# Renews and rebinds within the patience of a test.  dhcpcd takes no lease under 20 s.
SHORT = Known(
    "e2e-short", "02:e2:e0:00:00:22", "10.88.0.31", "10.77.0.31", 24, {"renewal_time": 3, "rebinding_time": 6}
)
POPULATION = (CLIENT, SECOND, SHORT)
STRANGER_MAC = "02:e2:e0:00:00:99"

# What a server may lack (dnsmasq does), and ours must not.
KEEPS_DECLINED = "keep a declined address in use"
ECHOES_ID = "send the client identifier back"
SAME_TWICE = "answer a renewal that arrives twice with the same times"
INFORMS_WITHOUT_LEASE = "leave the lease out of an ACK to INFORM"
NAMES_BOOT_SERVER = "name the boot server in option 66"
OWN_RENEWALS_ONLY = "stay silent to a renewal of an address that is not the host's"
RENEWS_WITHOUT_MEMORY = "acknowledge a renewal of a lease that it does not remember"

# The document's own lines, in the server's network namespace, where the inventory listens.
_FILL = f"""
import json, sys
from control.clusto.client import BasicServer, IPManager, Pool, connect
connect("http://{INVENTORY}")
for third in (88, 77):
    IPManager(f"net-{{third}}", baseip=f"10.{{third}}.0.0", netmask="{MASK}", gateway=f"10.{{third}}.0.1")
p = Pool("pxeboot-servers")
for subkey, value in (("enabled", 1), ("tftp_server", "{SERVER}"), ("tftp_filename", "{BOOT_FILE}"),
                      ("domain", "{DOMAIN}"), ("lease_time", {LEASE_S})):
    p.set_attr(key="dhcp", subkey=subkey, value=value)
for name, mac, dhcp, *addresses in json.load(sys.stdin):
    s = BasicServer(name)
    for subkey, value in dhcp.items():
        s.set_attr(key="dhcp", subkey=subkey, value=value)
    s.set_port_attr("nic-eth", 1, "mac", mac)
    for address in addresses:
        s.bind_ip_to_osport(address, "eth0")
    p.insert(s)
"""


def own_attributes(known: Known) -> dict[str, str | int]:
    return {**known.dhcp, **({"lease_time": known.lease_s} if known.lease_s != LEASE_S else {})}


class ServerUnderTest(Protocol):
    """A DHCP server on the host `server`, which has 10.88.0.1 on its interface sv."""

    name: str
    shortest_lease_s: int
    lacks: frozenset[str]  # of the virtues that tests name with Scene.needs

    def start(self, host: Host) -> None:
        """Returns when it answers for POPULATION; LabError with its log when it does not."""

    def stop(self) -> None: ...


class Bootstorm:
    """The embedded inventory, filled over HTTP, and `serve` on top of it."""

    name = "bootstorm"
    shortest_lease_s = 1
    lacks: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._processes: list[Process] = []

    def start(self, host: Host) -> None:
        env = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        control = [sys.executable, "-m", "control"]
        dsn = f"sqlite:///{host.scratch}/inventory.db"
        inventory = host.popen([*control, "inventory", "--dsn", dsn, "--bind", INVENTORY], env=env)
        self._processes.append(inventory)
        inventory.wait_for("listening on", READY_S)
        rows = [
            [known.name, known.mac, own_attributes(known), *filter(None, (known.near, known.far))]
            for known in POPULATION
        ]
        host.run([sys.executable, "-c", _FILL], timeout=READY_S, text_in=json.dumps(rows), env=env)
        socket, conf = host.scratch / "control.sock", host.scratch / "services.conf"
        dhcp = {
            "api_url": f"http://{INVENTORY}",
            "state_dir": str(host.scratch),
            "workers": 2,
            "refresh_interval": 3600,
        }
        conf.write_text(json.dumps({"dhcp": dhcp, "control": {"socket": str(socket)}}))
        serve = host.popen([*control, "serve", "-c", str(conf)], env=env)
        self._processes.append(serve)
        ask = [*control, "ctl", "--socket", str(socket), "--json", "status"]
        self._await_generation(host, serve, ask, env)

    @staticmethod
    def _await_generation(host: Host, serve: Process, ask: list[str], env: dict[str, str]) -> None:
        deadline, said = time.monotonic() + READY_S, "nothing"
        while time.monotonic() < deadline and serve.running():
            # Each question is a new process and paces the loop; before the socket exists it fails at once.
            done = host.run(ask, timeout=READY_S, check=False, env=env)
            said = done.stdout + done.stderr
            if done.stdout:
                status = json.loads(done.stdout)
                if status["generation"] > 0 and status["hosts"] == len(POPULATION):
                    return
        raise LabError(
            f"serve: last status within {READY_S:g} s was {said!r}, wanted a generation with {len(POPULATION)} hosts; "
            f"it said:\n{serve.log()}"
        )

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.stop()


class Dnsmasq:
    """dnsmasq with one static reservation for each address."""

    name = "dnsmasq"
    shortest_lease_s = 120
    lacks = frozenset(
        {
            KEEPS_DECLINED,
            ECHOES_ID,
            SAME_TWICE,
            INFORMS_WITHOUT_LEASE,
            NAMES_BOOT_SERVER,
            OWN_RENEWALS_ONLY,
            RENEWS_WITHOUT_MEMORY,
        }
    )

    def __init__(self) -> None:
        self._process: Process | None = None

    def start(self, host: Host) -> None:
        if lost := missing("dnsmasq"):
            raise Unsupported(lost)
        # --no-daemon and not --keep-in-foreground: that one gives up root, which a user namespace refuses.
        argv = ["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--port=0"]
        argv += ["--log-dhcp", "--dhcp-authoritative", f"--dhcp-leasefile={host.scratch}/leases"]
        argv += ["--interface=sv", "--bind-interfaces", f"--domain={DOMAIN}"]
        argv += [f"--dhcp-range=10.88.0.0,static,{MASK},{LEASE_S}", f"--dhcp-boot={BOOT_FILE},,{SERVER}"]
        argv += [f"--dhcp-range=set:far,10.77.0.0,static,{MASK},{LEASE_S}", "--dhcp-option=tag:far,3,10.77.0.1"]
        for known in POPULATION:
            for address in filter(None, (known.near, known.far)):
                argv.append(f"--dhcp-host={known.mac},{address},{known.name}")
        self._process = host.popen(argv)
        self._process.wait_for("DHCP, static leases only on 10.77", READY_S)

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()


SERVERS: dict[str, type[Bootstorm] | type[Dnsmasq]] = {"bootstorm": Bootstorm, "dnsmasq": Dnsmasq}
