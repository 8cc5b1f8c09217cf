"""The host file of a site of any size: pools of 10,000 hosts, as `inventory load` and dhcp.api_url take it."""

from __future__ import annotations

from collections.abc import Iterator

from bench.rig.stage import FIRST_ADDRESS, FIRST_MAC, NETWORK, SERVER

POOL_HOSTS = 10_000

PARENT = "site"


def host_file(count: int, boot_file: str = "/pxelinux.0", extra: tuple[str, str] | None = None) -> Iterator[str]:
    """CSV of `count` hosts in pools of POOL_HOSTS, all in one pool that says what they boot, and one option `extra`."""
    option, value = extra or ("domain", "example.org")
    yield f"base,mask,gateway\n{NETWORK.network_address},{NETWORK.netmask},{SERVER}\n\n"
    yield f"name,pool,dhcp.enabled,dhcp.tftp_server,dhcp.tftp_filename,dhcp.{option}\n"
    yield f"{PARENT},,1,{SERVER},{boot_file},{value}\n"
    for number in range((count + POOL_HOSTS - 1) // POOL_HOSTS):
        yield f"pool{number},{PARENT},,,,\n"
    yield "\nname,mac,address,pool\n"
    for number in range(count):
        mac = (FIRST_MAC + number).to_bytes(6, "big").hex(":")
        address = ".".join(map(str, (FIRST_ADDRESS + number).to_bytes(4, "big")))
        yield f"node{number:07d},{mac},{address},pool{number // POOL_HOSTS}\n"
