"""One machine, several stages of its boot: one address in all of them, and to each stage its own boot file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from bench.lab.client import Lease
from bench.lab.clients import dhclient, dhcpcd, udhcpc
from bench.lab.lab import Host, Lab
from bench.lab.site import running_site
from tests.netns.clients.cases import client as case
from tests.netns.clients.cases import skipping

pytestmark = pytest.mark.netns

SERVER, MAC, ADDRESS = "10.88.0.1", "02:aa:00:00:00:01", "10.88.0.11"
SITE = {
    "networks": [{"base": "10.88.0.0", "mask": "255.255.255.0", "gateway": SERVER}],
    "pools": [
        {
            "name": "boot",
            "dhcp": {
                "enabled": 1,
                "tftp_server": SERVER,
                "tftp_filename--bios-pxe": "undionly.kpxe",
                "tftp_filename--uefi-x64": "snponly.efi",
                "tftp_filename--ipxe": "menu.ipxe",
                "bootfile_url": "http://10.88.0.1/a.efi",
                "lease_time--bios-pxe": 120,
            },
        }
    ],
    # The host's own file is for everybody: no class may fall back to it that has a file of its own.
    "hosts": [{"name": "a", "mac": MAC, "address": ADDRESS, "pool": "boot", "dhcp": {"tftp_filename": "/installed.0"}}],
}
STAGES = {  # vendor class, user class
    ("", ""): ("/installed.0", 3600),
    ("udhcp 0.9.9-pre", ""): ("/installed.0", 3600),
    ("PXEClient:Arch:00000:UNDI:002001", ""): ("undionly.kpxe", 120),
    ("PXEClient:Arch:00000:UNDI:002001", "iPXE"): ("menu.ipxe", 3600),
    ("PXEClient:Arch:00007:UNDI:003016", ""): ("snponly.efi", 3600),
    ("PXEClient:Arch:00007:UNDI:003016", "iPXE"): ("menu.ipxe", 3600),
    ("HTTPClient:Arch:00016:UNDI:003001", ""): ("http://10.88.0.1/a.efi", 3600),
}
# These have a boot file among what they show; one of them sends the user class as plain text, dhcpcd as a list.
CLIENTS = [case("udhcpc", udhcpc), case("dhclient", dhclient), case("dhcpcd", dhcpcd)]


@pytest.fixture(scope="module")
def client() -> Iterator[Host]:
    if reason := Lab.available():
        pytest.skip(reason)
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        lab.wire(server, client, a_if="sv", b_if="cl", a_addr=f"{SERVER}/24", b_mac=MAC)
        with running_site(server, json.dumps(SITE), 1):
            yield client


@pytest.mark.parametrize(("vendor_class", "user_class"), STAGES, ids=lambda words: words.replace("-", " ") or "none")
@pytest.mark.parametrize("run", CLIENTS)
def test_each_stage(client: Host, run: Callable[..., Lease], vendor_class: str, user_class: str) -> None:
    with skipping():
        lease = run(client, "cl", vendor_class=vendor_class, user_class=user_class)
    assert lease.address == ADDRESS
    assert (lease.boot_file.rstrip("\0"), lease.lease_time) == STAGES[vendor_class, user_class]
