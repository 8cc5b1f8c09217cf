"""dhcp-host in all its forms, and lines of ethers.  Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from control.importers.dnsmasq.lines import Quoted
from control.importers.dnsmasq.values import lease_s
from control.importers.site import Place, Unfit
from control.importers.values import is_address, mac_of_client_id, octets_of

_MAC: Final = re.compile(r"([0-9a-fA-F]{1,2}-)?([0-9a-fA-F]{1,2}|\*)(:([0-9a-fA-F]{1,2}|\*)){5}")
_OTHER_HARDWARE: Final = re.compile(r"([0-9a-fA-F]{1,2}-)?([0-9a-fA-F]{1,2}|\*)(:([0-9a-fA-F]{1,2}|\*)){3,19}")
_ETHERNET: Final = (1, 0)


@dataclass(slots=True)
class HostLine:
    """tags: that it sets.  whys: what of it cannot be carried over."""

    place: Place
    text: str
    macs: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    name: str | None = None
    lease: int | None = None
    tags: list[str] = field(default_factory=list)
    client_id: str = ""
    ignored: bool = False
    whys: list[str] = field(default_factory=list)


def read_host(parts: list[str], place: Place, text: str) -> HostLine:
    """Raises Unfit for what is no host at all."""
    host = HostLine(place, text)
    for part in parts:
        if part:
            _take(host, part)
    if not host.macs:
        if host.client_id:
            raise Unfit(f"it is known by the client identifier {host.client_id}; a machine is known by its MAC here")
        if host.name is not None:
            raise Unfit("it is known by the name that it claims; a machine is known by its MAC here")
        raise Unfit("wanted a MAC address")
    return host


def _take(host: HostLine, part: str) -> None:
    """One part between commas."""
    word, colon, rest = part.partition(":")
    if colon and word in ("set", "net"):
        host.tags.append(rest)
    elif colon and word == "tag":
        host.whys.append(f"it counts only with tag {rest}: that is not asked for")
    elif colon and word == "id":
        _client_id(host, rest)
    elif part.startswith("["):
        host.whys.append(f"{part} is IPv6's")
    elif _MAC.fullmatch(part):
        host.macs.append(mac(part))
    elif _OTHER_HARDWARE.fullmatch(part):
        raise Unfit(f"{part} is no MAC address of Ethernet")
    elif is_address(part):
        host.addresses.append(part)
    elif part == "ignore" and not isinstance(part, Quoted):
        host.ignored = True
    elif lease_s(part) is not None:
        host.lease = lease_s(part)
    elif host.name is None:
        host.name = part
    else:
        host.whys.append(f"a second name, {part}")


def mac(text: str) -> str:
    """Raises Unfit for a pattern, and for other hardware than Ethernet."""
    kind, dash, digits = text.rpartition("-")
    if dash and int(kind, 16) not in _ETHERNET:
        raise Unfit(f"{text} is no MAC address of Ethernet")
    octets = octets_of(digits)
    if octets is None:
        raise Unfit(f"{text} stands for many machines; name each of them")
    return octets.hex(":")


def _client_id(host: HostLine, text: str) -> None:
    if text == "*":
        return  # client identifiers are never looked at here
    octets = octets_of(text) if ":" in text else None
    found = mac_of_client_id(octets) if octets is not None else None
    if found is not None and found not in host.macs:
        host.macs.append(found)
    host.client_id = text


def pattern(text: str) -> re.Pattern[str]:
    """Of --dhcp-mac: octets, `*` for any.  Raises Unfit."""
    if not _MAC.fullmatch(text):
        raise Unfit(f"found {text}; wanted a MAC address, with * for an octet that may be any")
    words = text.rpartition("-")[2].split(":")
    return re.compile(":".join("[0-9a-f]{2}" if word == "*" else f"{int(word, 16):02x}" for word in words))
