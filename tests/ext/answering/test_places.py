"""ext/places.pxd, placing.pxd: a site of many addresses and relays is answered as if all of them were gone through."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest
from ext.codec import trace
from hypothesis import given
from hypothesis import strategies as st

from tests.ext.packets import discover, inform, ip, message, request, tlv
from tests.ext.sites import ALICE, LINKS, PROXIED, PUBLIC, REMOTE, TWO, site

ANSWERS = ("10.1.0.50", "10.1.0.60", "10.9.0.60", "10.9.0.70", "10.2.0.90")
NEAR = [ip(text) for text in ("10.1.0.0", "10.1.0.1", "10.1.0.50", "10.1.0.255", "10.2.0.1", "10.9.0.1", "10.3.0.9")]

anywhere = st.builds(lambda low, net: (10 << 24) + (net << 16) + low, st.integers(0, 1023), st.integers(0, 9))
addresses = st.one_of(st.sampled_from(NEAR), anywhere)
links = st.tuples(
    st.integers(2, 5), addresses, st.sampled_from([0, 8, 16, 22, 24, 30, 31, 32]), st.just(1500), st.booleans()
)
networks = st.tuples(addresses, st.integers(0, 300)).map(lambda each: (each[0], each[0] + each[1]))
relays = st.tuples(addresses, st.sampled_from([16, 24, 29, 32]))


@st.composite
def sites(draw: st.DrawFn) -> dict[str, Any]:
    """More links or relays than are gone through, in any order, some twice."""
    many = draw(st.booleans())
    said: dict[str, Any] = {
        "links": tuple(draw(st.lists(links, min_size=17 if many else 0, max_size=40))),
        "relays": tuple(draw(st.lists(relays, min_size=0 if many else 17, max_size=40))),
        "networks": tuple(draw(st.lists(networks, max_size=6))),
        "interfaces_limited": draw(st.booleans()),
    }
    edges = sorted(draw(st.sets(addresses, max_size=8)))
    said["shared"] = tuple(
        (first, last - 1, draw(st.integers(1, 3))) for first, last in zip(edges[::2], edges[1::2], strict=False)
    )
    return said


@st.composite
def packets(draw: st.DrawFn) -> tuple[bytes, dict[str, Any]]:
    mac = draw(st.sampled_from([ALICE, TWO, REMOTE, PUBLIC, PROXIED]))
    place: dict[str, Any] = {"ifindex": draw(st.integers(2, 5))}
    giaddr = draw(st.one_of(st.just(0), addresses))
    if draw(st.booleans()):
        to = draw(addresses)
        place |= {"source": draw(addresses), "destination": to, "local": to}
    if draw(st.booleans()):
        place[draw(st.sampled_from(["at_boot_port", "framed"]))] = True
    kind = draw(st.integers(0, 4))
    address = draw(st.one_of(st.sampled_from([ip(each) for each in ANSWERS]), addresses))
    if kind == 0:
        return discover(mac, giaddr=giaddr), place
    if kind == 1:
        return request(mac, requested=address, giaddr=giaddr), place
    if kind == 2:
        return message(3, mac, tlv(60, b"PXEClient:Arch:00007"), ciaddr=address), place | {"source": address}
    if kind == 3:
        return inform(mac, address), place
    return discover(mac, giaddr=giaddr, agent=tlv(5, address.to_bytes(4, "big"))), place


@given(sites(), st.lists(packets(), min_size=1, max_size=12))
def test_the_answer_is_that_of_going_through_all(said: dict[str, Any], asked: Sequence[tuple[bytes, Any]]) -> None:
    pair = site(**said)
    for payload, place in asked:
        assert trace(pair, payload, **place) == trace(pair, payload, **place, gone_through=True)


def test_few_stay_as_they_are() -> None:
    assert trace(site(), discover(ALICE), ifindex=2, local=ip("10.1.0.1")).reply.data


@pytest.mark.parametrize("what", ["links", "relays"])
def test_a_packet_costs_what_it_costs_at_a_few(what: str) -> None:
    """Five thousand addresses, ten thousand relays: before, each packet went through all of them."""
    first = ip("100.64.0.0")
    more = {
        "links": {"links": (*LINKS, *((9, first + 4 * number, 30, 1500, False) for number in range(5_000)))},
        "relays": {"relays": (*((first + 2 * number, 32) for number in range(10_000)), (ip("10.9.0.1"), 32))},
    }[what]
    packet = discover(REMOTE, giaddr="10.9.0.1")
    place = {"ifindex": 2, "source": ip("10.9.0.1"), "destination": ip("10.1.0.1"), "local": ip("10.1.0.1")}
    few, many = site(), site(**more)
    assert trace(few, packet, **place).reply.data == trace(many, packet, **place).reply.data != b""

    def cost_s(pair: Any, **how: Any) -> float:
        """The least of several tries: others use the processor, too."""
        found = []
        for _ in range(7):
            began = time.thread_time()
            for _ in range(200):
                trace(pair, packet, **place, **how)
            found.append(time.thread_time() - began)
        return min(found)

    assert cost_s(many) < 1.3 * cost_s(few)
    assert cost_s(many, gone_through=True) > 1.3 * cost_s(few), "else this shows nothing"
