"""`http+hosts://HOST/PATH`, as dhcp.api_url names an inventory that speaks the contract of docs/contract.md."""

from __future__ import annotations

from typing import Final

SCHEMES: Final = ("http+hosts://", "https+hosts://")


def is_hosts_url(url: str) -> bool:
    return url.startswith(SCHEMES)


def plain_url(url: str) -> str:
    """The URL to ask at, without a trailing slash."""
    scheme, _, rest = url.partition("+hosts:")
    return f"{scheme}:{rest}".rstrip("/")
