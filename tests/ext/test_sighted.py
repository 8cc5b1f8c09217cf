"""ext/sighted.pyx: what it remembers and what it calls news, against a model that is as simple as can be."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import pytest
from ext.page import WorkerPage, create_worker_page
from ext.sighted import CLIENT_ID_BYTES, News, Sighted
from hypothesis import given
from hypothesis import strategies as st

from tests.ext.sightings import duid, mac, own, sighting

CLIENT_IDS = [b"", own(1), own(2), duid(1), duid(2), duid(1, b"another-DUID"), b"\0golden", bytes(CLIENT_ID_BYTES)]


def identity_of(client_id: bytes, machine: str) -> bytes:
    """What of a client-id no other machine should have."""
    if not 2 < len(client_id) < CLIENT_ID_BYTES or client_id == b"\1" + bytes.fromhex(machine.replace(":", "")):
        return b""
    said = client_id[5:] if client_id[0] == 255 and len(client_id) > 8 else client_id
    return said if len(set(said[1:])) > 1 else b""


class Model:
    def __init__(self, most: int) -> None:
        self.most = most
        # The one that was silent for longest comes first.
        self.said: OrderedDict[tuple[str, str, str], dict[str, Any]] = OrderedDict()

    def hear(self, event: dict[str, Any]) -> News | None:
        key = event["mac"], event["class"], event["role"]
        address = (event["ciaddr"] or event["requested"]) if event["role"] == "host" else 0
        users = [each for each in self.said.values() if address and each["address"] == address]
        former = self.said.pop(key, None)
        left = b""
        if former is None and len(self.said) == self.most:
            left = self.left(self.said.popitem(last=False)[1]["identity"])
        identity = identity_of(event["client_id"], event["mac"])
        self.said[key] = {
            "mac": event["mac"], "client_id": event["client_id"], "vendor": event["vendor_class"], "identity": identity,
            "seen": event["boottime_ns"], "address": address or (former or {"address": 0})["address"],
        }  # fmt: skip
        if former is not None and former["client_id"] != event["client_id"]:
            left = self.left(former["identity"])
        others = [each for each in self.said.values() if each["mac"] != event["mac"]]
        same = identity if any(identity and each["identity"] == identity for each in others) else b""
        shared = any(each["mac"] != event["mac"] for each in users)
        used = max((each["seen"] for each in users if each["mac"] == event["mac"]), default=0)
        return News(same, left, shared, used) if same or left or shared else None

    def left(self, identity: bytes) -> bytes:
        return identity if any(each["identity"] == identity for each in self.said.values()) else b""


EVENTS = st.builds(
    lambda number, client_id, client, role, address: sighting(
        number, client_id, role=role, requested=address, vendor_class=client.encode(), **{"class": client}
    ),
    st.integers(1, 6),
    st.sampled_from(CLIENT_IDS),
    st.sampled_from(["OS", "IPXE"]),
    st.sampled_from(["host", "host", "bmc"]),
    st.integers(0, 3),
)


@given(st.lists(EVENTS, max_size=60), st.integers(1, 12))
def test_it_says_and_remembers_what_the_model_does(events: list[dict[str, Any]], most: int) -> None:
    sighted, model = Sighted(most), Model(most)
    for at, event in enumerate(events, 1):
        event = event | {"boottime_ns": at}
        assert sighted.hear(event) == model.hear(event)
        assert_equal(sighted, model)


def assert_equal(sighted: Sighted, model: Model) -> None:
    assert sighted.machines == len({key[0] for key in model.said})
    for number in range(1, 7):
        words = {(client, role): rest for client, role, *rest in sighted.words_of(mac(number))}
        assert words == {
            key[1:]: [each["client_id"], each["vendor"], each["seen"], each["identity"]]
            for key, each in model.said.items()
            if key[0] == mac(number)
        }
    for identity in {each["identity"] for each in model.said.values()} | {b"nobody's"}:
        sayers: dict[str, int] = {}
        for each in model.said.values():
            if each["identity"] == identity != b"":
                sayers[each["mac"]] = max(sayers.get(each["mac"], 0), each["seen"])
        if identity:
            assert sighted.sayers(identity, 10) == sayers and sighted.count_sayers(identity) == len(sayers)
            assert len(sighted.sayers(identity, 1)) == min(1, len(sayers))
    for address in range(1, 4):
        users: dict[str, tuple[bool, int]] = {}
        for (machine, client, _role), each in model.said.items():
            if each["address"] == address and users.get(machine, (False, -1))[1] < each["seen"]:
                users[machine] = (client == "OS", each["seen"])
        assert sighted.users_of(address) == users


def test_it_grows_and_forgets_nobody_before_it_is_full() -> None:
    sighted = Sighted(5_000)
    for number in range(6_000):
        sighted.hear(sighting(number, duid(1, b"DUID" + number.to_bytes(4, "big")), requested=1 + number))
    assert sighted.machines == 5_000
    assert [len(sighted.words_of(mac(number))) for number in (0, 999, 1_000, 5_999)] == [0, 0, 1, 1]
    assert sighted.users_of(1) == {} and list(sighted.users_of(6_000)) == [mac(5_999)]
    assert sighted.sayers(b"DUID" + (5_000).to_bytes(4, "big"), 3) == {mac(5_000): 1000 * 1_000_000_000}


@pytest.fixture
def page() -> Iterator[WorkerPage]:
    fd = create_worker_page(0)
    yield WorkerPage(fd)
    os.close(fd)


def test_an_empty_ring_gives_nothing(page: WorkerPage) -> None:
    assert page.drain(10, Sighted(), False) == []
