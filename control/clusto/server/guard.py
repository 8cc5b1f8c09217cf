"""Who may ask the embedded inventory from within a browser: pages of its own, under names that are its own.  Pure.

It answers GETs that change things and has no login, so a page of anybody's that a person opens could reach it: by a
name that the page's owner lets point here (DNS rebinding), or by plain links.  An address cannot be rebound.

No page can make its browser lie in Host, Origin, Sec-Fetch-Site or, for links, pictures and scripts, in User-Agent; it
can leave out the Referer.  Browsers send no Sec-Fetch-Site to http://ADDRESS other than loopback.
"""

import re
import socket
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final
from urllib.parse import urlsplit

from werkzeug.datastructures import Headers

from control.clusto.errors import Answered, plain

ANY: Final = "*"
BROWSERS: Final = "Mozilla/"  # how each of them has named itself since 1995
CALLBACK_CHARS_MAX: Final = 128
_CALLBACK: Final = re.compile(r"[A-Za-z_$][\w$]*(\.[A-Za-z_$][\w$]*)*", re.ASCII)


class Guard:
    """names: that the inventory is reached under, besides localhost, this machine's name and every address."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.configured = {name.lower().rstrip(".") for name in names}
        self.names = {"localhost", socket.gethostname().lower(), *self.configured}

    def check(self, host: str | None, origin: str | None) -> None:
        """The headers Host and Origin.  Raises Answered(403)."""
        if ANY in self.configured:
            return
        if host is not None and not self.is_ours(host):
            raise Answered(
                403, f"Host {plain(host[:100])} is not this inventory; start it with --name for each of its names"
            )
        if origin is None:
            return
        theirs = urlsplit_or_none(origin)
        if theirs is None or (theirs != (host or "").lower() and not self.is_configured(theirs)):
            raise Answered(403, f"Origin {plain(origin[:100])} is not this inventory; other sites' pages are refused")

    def check_page(self, headers: Headers, what: str) -> None:
        """For what a page can do without an Origin: a change, and to read by JSONP.  Raises Answered(403)."""
        if ANY in self.configured:
            return
        site = headers.get("Sec-Fetch-Site")
        page = headers.get("Origin") or headers.get("Referer")
        if site in ("same-origin", "none"):
            return
        if page is not None:
            theirs = urlsplit_or_none(page) or ""
            if self.is_configured(theirs) or (site is None and theirs == headers.get("Host", "").lower()):
                return
        elif site is None and not headers.get("User-Agent", "").startswith(BROWSERS):
            return
        origin = plain(page[:100]) if page is not None else "a page that it does not name"
        raise Answered(
            403,
            f"{what} for a browser, from {origin}: wanted a page of this inventory; "
            "take a program (curl), or start the inventory with --name for the page's host",
        )

    def is_configured(self, host: str) -> bool:
        return _name_of(host) in self.configured

    def is_ours(self, host: str) -> bool:
        name = _name_of(host)
        return name in self.names or _is_address(name)


def check_callback(callback: str | None) -> None:
    """Of JSONP.  Raises Answered(400) for what is no name of a function: it would be run as it stands."""
    if callback is not None and (len(callback) > CALLBACK_CHARS_MAX or not _CALLBACK.fullmatch(callback)):
        raise Answered(400, f"callback {plain(callback[:100])}: wanted a name of a JavaScript function")


def urlsplit_or_none(origin: str) -> str | None:
    """host:port, lower case; None for what is no origin, "null" among it."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.lower() if parts.scheme in ("http", "https") and parts.netloc else None


def _name_of(host: str) -> str:
    """NAME, NAME:PORT, [ADDRESS]:PORT -> the name or address."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")


def _is_address(name: str) -> bool:
    for kind in (IPv4Address, IPv6Address):
        try:
            kind(name)
        except AddressValueError:
            continue
        return True
    return False
