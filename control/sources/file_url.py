"""`file:///etc/hosts.yaml`, as dhcp.api_url names a host file; control watches it, and its planner alone reads it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

SCHEME = "file://"


def path_in(url: str) -> Path:
    return Path(unquote(urlsplit(url).path))
