"""Two servers of one inventory on one segment: which of them answers makes no difference, and a fault is named.

And what control makes of what their clients say of themselves: boot loops, cloned client-ids.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from bench.lab.lab import Host, Lab
from bench.lab.site import ENVIRONMENT, RunningSite, running_site
from tests.ext.packets import BROADCAST_FLAG, Parsed, discover, quad, request, tlv

pytestmark = pytest.mark.netns

FIRST, SECOND, VIP, EVERYBODY = "10.88.0.1", "10.88.0.2", "10.88.0.100", "255.255.255.255"
MAC, OTHER_MAC, ADDRESS, OTHER_ADDRESS = 0x02AA00000001, 0x02AA00000002, "10.88.0.11", "10.88.0.12"
SITE = {
    "networks": [{"base": "10.88.0.0", "mask": "255.255.255.0", "gateway": "10.88.0.254"}],
    "pools": [
        {
            "name": "boot",
            "dhcp": {
                "enabled": 1,
                "tftp_server": "10.88.0.5",
                "tftp_filename": "/a.0",
                "tftp_filename--uefi-x64": "a.efi",
            },
        }
    ],
    "hosts": [
        {"name": "one", "mac": "02:aa:00:00:00:01", "address": ADDRESS, "pool": "boot"},
        {"name": "two", "mac": "02:aa:00:00:00:02", "address": OTHER_ADDRESS, "pool": "boot"},
    ],
}
XIDS = itertools.count(0x1000)
UEFI = tlv(60, b"PXEClient:Arch:00007:UNDI:003016") + tlv(93, b"\0\7")
DUID = b"\xff\0\0\0\1\0\2\0\0\xab\x11" + bytes(range(8))


@dataclass(frozen=True)
class Replicas:
    first: RunningSite
    second: RunningSite
    client: Host

    def ask(self, *asked: tuple[bytes, str, int]) -> list[dict[str, bytes]]:
        """(request, destination, replies to wait for) -> source -> reply, for each."""
        rows = [{"payload": payload.hex(), "to": to, "replies": replies} for payload, to, replies in asked]
        argv = [sys.executable, "-m", "tests.netns.ask_alone", "cl"]
        said = self.client.run(argv, timeout=120.0, text_in=json.dumps(rows), env=ENVIRONMENT).stdout
        return [{source: bytes.fromhex(data) for source, data in replies} for replies in json.loads(said)]


@contextmanager
def replicas(**dhcp: Any) -> Iterator[Replicas]:
    if reason := Lab.available():
        pytest.skip(reason)
    with Lab() as lab, ExitStack() as running:
        segment, client = lab.bridge("segment"), lab.host("client")
        segment.plug(client, "cl", f"{ADDRESS}/24", mac="02:aa:00:00:00:01")
        sites = []
        for name, address in (("first", FIRST), ("second", SECOND)):
            host = lab.host(name)
            segment.plug(host, "sv", f"{address}/24")
            sites.append(running.enter_context(running_site(host, json.dumps(SITE), 2, **dhcp)))
        client.await_carrier("cl")
        yield Replicas(sites[0], sites[1], client)


@pytest.fixture(scope="module")
def apart() -> Iterator[Replicas]:
    """Each with its own id, neither lists the other's."""
    with replicas() as found:
        yield found


@pytest.fixture(scope="module")
def together() -> Iterator[Replicas]:
    """One id for both, a virtual address; those that they had before still count."""
    with replicas(server_id=VIP, server_ids=[FIRST, SECOND]) as found:
        yield found


def to_all(build: Any, *arguments: Any, mac: int = MAC, **fields: Any) -> bytes:
    return bytes(build(mac, *arguments, xid=next(XIDS), flags=BROADCAST_FLAG, **fields))


def without_id(data: bytes) -> bytes:
    return data.replace(tlv(54, quad(Parsed.of(data).server_id)), tlv(54, bytes(4)))


def test_the_same_bytes_but_for_the_id(apart: Replicas) -> None:
    asked = [
        to_all(discover), to_all(discover, options=UEFI), to_all(request, requested=ADDRESS),
        to_all(request, requested="10.88.0.99"), to_all(request, ciaddr=ADDRESS),
    ]  # fmt: skip
    for replies in apart.ask(*((payload, EVERYBODY, 2) for payload in asked)):
        assert replies.keys() == {FIRST, SECOND}
        assert without_id(replies[FIRST]) == without_id(replies[SECOND])
        assert {source: Parsed.of(data).server_id for source, data in replies.items()} == {
            FIRST: FIRST, SECOND: SECOND,
        }  # fmt: skip
    digests = {site.ctl("status")["digest"] for site in (apart.first, apart.second)}
    assert len(digests) == 1, "one inventory, one digest"


def test_a_renewal_at_the_other_replica(apart: Replicas) -> None:
    taken = to_all(request, requested=ADDRESS, server_id=FIRST)
    renewal = request(MAC, ciaddr=ADDRESS, xid=next(XIDS))
    first, second = apart.ask((taken, EVERYBODY, 1), (renewal, SECOND, 1))
    assert first.keys() == {FIRST} and second.keys() == {SECOND}
    assert Parsed.of(first[FIRST]).yiaddr == Parsed.of(second[SECOND]).yiaddr == ADDRESS


def test_ids_that_differ_and_are_not_listed_are_named(apart: Replicas) -> None:
    apart.ask(*((to_all(request, requested=ADDRESS, server_id=FIRST), EVERYBODY, 1) for _ in range(2)))
    status = apart.second.await_status(lambda found: FIRST in found["other_servers"])
    assert status["other_servers"][FIRST]["host"] == "02:aa:00:00:00:01 (one)"
    (warning,) = [each for each in apart.second.ctl("recent") if each["verdict"] == "IGNORED_OTHER_SERVER"]
    assert f"ours {SECOND}, the other's {FIRST}" in warning["text"] and "on sv" in warning["text"]
    assert apart.second.server is not None
    assert f"list {FIRST} in dhcp.server_ids if it is a replica" in apart.second.server.log()
    assert not apart.first.ctl("status")["other_servers"], "nobody named the second's id"


def test_a_boot_loop_and_a_clone_are_named(apart: Replicas) -> None:
    loop = [to_all(request, requested=ADDRESS, options=UEFI) for _ in range(4)]
    clones = [
        to_all(request, requested=ADDRESS, options=tlv(61, DUID)),
        to_all(request, requested=OTHER_ADDRESS, mac=OTHER_MAC, options=tlv(61, DUID)),
    ]
    apart.ask(*((payload, EVERYBODY, 2) for payload in (*loop, *clones)))
    for site in (apart.first, apart.second):
        identities = site.await_status(lambda found: found["identities"]["cloned"])["identities"]
        assert (identities["seen"], identities["cloned"]) == (2, 1)
        words = {each["verdict"]: each for each in site.ctl("recent")}
        assert (
            "as uefi-x64" in words["BOOT_LOOP"]["text"]
            and "boot file a.efi from 10.88.0.5" in words["BOOT_LOOP"]["text"]
        )
        clones_text = words["CLONED_CLIENT_ID"]["text"]  # two workers saw them: either may be named first
        assert "02:aa:00:00:00:01 (one)" in clones_text and "02:aa:00:00:00:02 (two)" in clones_text
        seen = site.ctl("lookup", "02:aa:00:00:00:01")["seen"]
        assert {each["class"] for each in seen} == {"uefi-x64", "os"}
        assert [each["shared_with"] for each in seen if each["class"] == "os"] == [["02:aa:00:00:00:02"]]


def test_one_id_not_a_byte_differs_and_both_former_ids_are_taken(together: Replicas) -> None:
    asked = [
        to_all(discover), to_all(request, requested=ADDRESS, server_id=VIP), to_all(request, ciaddr=ADDRESS),
        to_all(request, requested=ADDRESS, server_id=FIRST), to_all(request, requested=ADDRESS, server_id=SECOND),
    ]  # fmt: skip
    answers = together.ask(*((payload, EVERYBODY, 2) for payload in asked))
    for replies in answers:
        assert replies.keys() == {FIRST, SECOND} and replies[FIRST] == replies[SECOND]
    ids = [Parsed.of(replies[FIRST]).server_id for replies in answers]
    assert ids == [VIP, VIP, VIP, FIRST, SECOND]
    assert not together.first.ctl("status")["other_servers"]


def test_a_virtual_address_that_moves(together: Replicas) -> None:
    """A renewal to it is answered by whoever has it, in the same words."""
    said = []
    for site in (together.first, together.second):
        generation = site.ctl("status")["generation"]
        site.host.address("sv", f"{VIP}/24")
        site.await_status(lambda found, was=generation: min(w["generation"] for w in found["workers"]) > was)
        (replies,) = together.ask((request(MAC, ciaddr=ADDRESS, xid=7), VIP, 1))
        assert replies.keys() == {VIP}
        said.append(replies[VIP])
        site.host.ip(f"addr del {VIP}/24 dev sv")
        together.client.ip("neigh flush dev cl")
    assert said[0] == said[1] and Parsed.of(said[0]).server_id == VIP
