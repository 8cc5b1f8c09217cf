"""Which reader belongs to dhcp.api_url."""

from __future__ import annotations

from control.config.config import Dhcp
from control.sources.contract.source import HostsSource
from control.sources.fetch import Fetcher, Progress
from control.sources.file_url import SCHEME
from control.sources.filesource import FileSource
from control.sources.hosts_url import is_hosts_url
from control.sources.model import Source


def open_source(dhcp: Dhcp, progress: Progress) -> Source:
    if dhcp.api_url.startswith(SCHEME):
        return FileSource(dhcp.api_url, progress)
    if is_hosts_url(dhcp.api_url):
        return HostsSource(dhcp.api_url, dhcp.api_token, progress, dhcp.api_ca)
    return Fetcher(dhcp.api_url, dhcp.api_token, progress, dhcp.api_ca)
