"""This machine's IPv4 addresses by interface, and word of every change; the only file that imports pyroute2."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from socket import AF_INET
from typing import NamedTuple

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.rtnl import RTMGRP_IPV4_IFADDR, RTMGRP_LINK

_SECONDARY = 0x01  # IFA_F_SECONDARY


class LinkAddress(NamedTuple):
    """One address of one interface.  address: int in host order."""

    ifindex: int
    name: str
    address: int
    prefix: int
    mtu: int


async def _read(ipr: AsyncIPRoute) -> list[LinkAddress]:
    """All addresses, an interface's primary one before its others."""
    interfaces = {link["index"]: link async for link in await ipr.link("dump")}
    found: list[tuple[int, int, int, LinkAddress]] = []
    async for row in await ipr.addr("dump", family=AF_INET):
        link = interfaces.get(row["index"])
        text = row.get("local") or row.get("address")
        if link is None or text is None:
            continue
        address = LinkAddress(
            row["index"], link.get("ifname"), int(IPv4Address(text)), row["prefixlen"], link.get("mtu") or 1500
        )
        found.append((row["index"], row["flags"] & _SECONDARY, len(found), address))
    return [address for *_order, address in sorted(found)]


async def watch_links() -> AsyncIterator[list[LinkAddress]]:
    """The addresses now, and again after each change of them."""
    async with AsyncIPRoute() as ipr:
        await ipr.bind(groups=RTMGRP_IPV4_IFADDR | RTMGRP_LINK)
        last = await _read(ipr)
        yield last
        while True:
            async for _message in ipr.get():  # one get() ends after one datagram; what changed is read anew
                pass
            current = await _read(ipr)
            if current != last:
                last = current
                yield current
