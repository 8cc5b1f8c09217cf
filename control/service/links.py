"""This machine's IPv4 addresses by interface, and word of every change; the only file that imports pyroute2."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from socket import AF_INET
from typing import NamedTuple

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted, NetlinkError
from pyroute2.netlink.rtnl import RTMGRP_IPV4_IFADDR, RTMGRP_LINK

log = logging.getLogger("bootstorm.links")

LINKS_MAX = 65_536  # what is more is left out, and said
PAUSE_MIN_S, PAUSE_MAX_S = 0.02, 2.0  # between two reads: four times what one costs
NOTICE_BYTES = 1 << 16
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
    addresses = [address for *_order, address in sorted(found)]
    if len(addresses) > LINKS_MAX:
        log.error(
            "%d interface addresses: the first %d are used; requests for the others' networks are not answered",
            len(addresses),
            LINKS_MAX,
        )
    return addresses[:LINKS_MAX]


async def addresses_now() -> list[LinkAddress]:
    """Once, for a command that ends.  Raises OSError."""
    while True:
        try:
            async with AsyncIPRoute() as ipr:
                return await _read(ipr)
        except NetlinkDumpInterrupted:  # they changed meanwhile
            continue
        except NetlinkError as error:
            raise OSError(error.code, f"the interfaces' addresses cannot be read: {error}") from error


@contextmanager
def notices() -> Iterator[asyncio.Event]:
    """Set whenever an interface or an address changed, or more of them than the kernel could keep for us.

    What the kernel says is thrown away at once, since all is read anew: a flapping interface fills no queue of ours."""
    changed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def drain() -> None:
        changed.set()
        for _ in range(256):  # the rest in the loop's next turn
            try:
                sock.recv(NOTICE_BYTES)
            except BlockingIOError:
                return
            except OSError:  # ENOBUFS: some were lost
                continue

    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.setblocking(False)
        sock.bind((0, RTMGRP_IPV4_IFADDR | RTMGRP_LINK))
        loop.add_reader(sock.fileno(), drain)
        try:
            yield changed
        finally:
            loop.remove_reader(sock.fileno())


async def watch_links() -> AsyncIterator[list[LinkAddress]]:
    """The addresses now, and again after each change of them, however many changes came together.

    A read that fails is tried again: there is no moment at which the interfaces may end control."""
    last: list[LinkAddress] | None = None
    loop = asyncio.get_running_loop()
    with notices() as changed:
        while True:
            changed.clear()
            started = loop.time()
            try:
                async with AsyncIPRoute() as ipr:
                    current = await _read(ipr)
            except NetlinkDumpInterrupted:
                changed.set()
            except (OSError, NetlinkError) as error:
                log.warning("the interfaces' addresses cannot be read: %s; tried again", error)
                changed.set()
            else:
                if current != last:
                    last = current
                    yield current
            await asyncio.sleep(min(PAUSE_MAX_S, max(PAUSE_MIN_S, 4 * (loop.time() - started))))
            await changed.wait()
