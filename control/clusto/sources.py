"""Which reader belongs to dhcp.api_url."""

from __future__ import annotations

from control.clusto.fetch import Fetcher, Progress
from control.clusto.filesource import SCHEME, FileSource
from control.clusto.model import Source
from control.config import Dhcp


def open_source(dhcp: Dhcp, progress: Progress) -> Source:
    if dhcp.api_url.startswith(SCHEME):
        return FileSource(dhcp.api_url, progress)
    return Fetcher(dhcp.api_url, dhcp.api_token, progress)
