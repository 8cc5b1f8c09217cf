"""FreeRADIUS (Debian's freeradius and freeradius-dhcp, 3.2): its DHCP listener, hosts in a file that it hashes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.lab.lab import which
from bench.peers.peer import Peer, Written
from bench.peers.table import Table

CONFIG, HOSTS, DICTIONARY = "radiusd.conf", "hosts", "dictionary"
_CONFIG = """\
prefix = {folder}
localstatedir = {folder}
logdir = {folder}
name = radiusd
confdir = {folder}
run_dir = {folder}
libdir = /usr/lib/freeradius
pidfile = {folder}/radiusd.pid
max_request_time = 30
cleanup_delay = 2
max_requests = 262144
hostname_lookups = no
log {{
    destination = files
    file = {folder}/radiusd.log
}}
thread pool {{
    start_servers = 1
    max_servers = 1
    min_spare_servers = 1
    max_spare_servers = 1
    max_requests_per_server = 0
    auto_limit_acct = no
    max_queue_size = 262144
}}
modules {{
    files hosts {{
        filename = {folder}/hosts
        key = "%{{DHCP-Client-Hardware-Address}}"
    }}
}}
server dhcp {{
    listen {{
        type = dhcp
        ipaddr = {server}
        src_ipaddr = {server}
        port = 67
        interface = {ifname}
        broadcast = no
        performance {{
            skip_duplicate_checks = yes
        }}
    }}
    dhcp DHCP-Discover {{
        update reply {{
            &DHCP-Message-Type = DHCP-Offer
        }}
        common
    }}
    dhcp DHCP-Request {{
        update reply {{
            &DHCP-Message-Type = DHCP-Ack
        }}
        common
    }}
}}
policy {{
    common {{
        hosts
        if (notfound || noop) {{
            update control {{
                &Response-Packet-Type := Do-Not-Respond
            }}
        }}
        else {{
            update reply {{
                &DHCP-Subnet-Mask = {mask}
                &DHCP-Router-Address = {server}
                &DHCP-Broadcast-Address = {broadcast}
                &DHCP-IP-Address-Lease-Time = {lease_s}
                &DHCP-Renewal-Time = {renew_s}
                &DHCP-Rebinding-Time = {rebind_s}
                &DHCP-DHCP-Server-Identifier = {server}
                &DHCP-Server-IP-Address = {server}
                &DHCP-TFTP-Server-Name = "{server}"
                &DHCP-Boot-File-Name = "{boot_file}"
                &DHCP-Boot-Filename = "{boot_file}"
            }}
        }}
    }}
}}
"""


class Freeradius(Peer):
    name, program, package = "freeradius", "freeradius", "freeradius"
    limits = "with one thread for requests"

    def missing(self) -> str | None:
        if (reason := super().missing()) is not None:
            return reason
        if not Path("/usr/lib/freeradius/proto_dhcp.so").exists():
            return "freeradius has no proto_dhcp.so (Debian package freeradius-dhcp)"
        return None

    def files(self, table: Table, ifname: str, folder: Path) -> dict[str, str]:
        values = {
            "folder": folder,
            "ifname": ifname,
            "server": table.server,
            "mask": table.network.netmask,
            "broadcast": table.network.broadcast_address,
            "boot_file": table.boot_file,
            "lease_s": table.lease_s,
            "renew_s": table.renew_s,
            "rebind_s": table.rebind_s,
        }
        hosts = "".join(
            f'{host.mac}\n\tDHCP-Your-IP-Address := {host.address},\n\tDHCP-Hostname := "{host.name}"\n\n'
            for host in table.hosts()
        )
        return {CONFIG: _CONFIG.format(**values), HOSTS: hosts, DICTIONARY: ""}

    def command(self, written: Written) -> Sequence[str]:
        return [self.program, "-f", "-d", str(written.folder), "-n", "radiusd"]

    def check_command(self, written: Written) -> Sequence[str]:
        return [str(which(self.program)), "-C", "-d", str(written.folder), "-n", "radiusd"]
