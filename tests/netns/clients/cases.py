"""What the tests of real clients share: the clients as parameters, tcpdump's words, and what a lease must be."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from bench.lab.client import Lease, Unsupported
from tests.netns.clients.servers import BOOT_FILE, DOMAIN, MASK, SERVER, Known


def client(name: str, *values: Any) -> Any:
    """A parameter that stands for a client; its row in the table of clients (table.py) bears the name."""
    return pytest.param(*values, id=name, marks=pytest.mark.client(name))


def flow(source: str, destination: str) -> str:
    """tcpdump's words for a datagram, both ends as ADDRESS:PORT."""
    return " > ".join(end.replace(":", ".").replace(".", r"\.") for end in (source, destination))


def kind(message: str) -> str:
    return rf"DHCP-Message \(53\), length 1: {message}"


@contextlib.contextmanager
def skipping() -> Iterator[None]:
    """A client that isn't installed, or a kernel that can't do what a test needs, is a skip."""
    try:
        yield
    except Unsupported as lost:
        pytest.skip(str(lost))


def must_be(lease: Lease, known: Known, far: bool = False) -> None:
    """Every field that the client shows is the one that the inventory holds."""
    wanted = {
        "address": known.far if far else known.near,
        "mask": MASK,
        "router": "10.77.0.1" if far else "10.88.0.1",
        "server_id": SERVER,
        "lease_time": known.lease_s,
        "boot_file": BOOT_FILE,
        "siaddr": SERVER,
        "hostname": known.name,
        "domain": DOMAIN,
    }
    found = {field: getattr(lease, field) for field in wanted}
    assert found == wanted | dict.fromkeys(lease.hides, "")
