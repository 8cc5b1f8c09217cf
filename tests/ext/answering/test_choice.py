"""Which of a host's addresses it gets on which link, against a model of a few lines: its own network's, then one of a
network that shares the link, then one without a network; and never a NAK for what it could be given.

BOOTSTORM_EXAMPLES sets how many sites each property tries.
"""

import fcntl
import os
import struct
from ipaddress import IPv4Address, IPv4Network
from typing import NamedTuple

import pytest
from ext.builder import Builder, Surroundings
from ext.codec import Reply, trace
from ext.table import Generation, Pair, TableInvalid, checksum, new_memfd
from ext.verdict import Verdict as V
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ext.packets import Parsed, discover, ip, message, request, tlv
from tests.ext.sites import ALICE, OPTIONS, generation, surroundings

EXAMPLES = int(os.environ.get("BOOTSTORM_EXAMPLES", "100"))
FEW = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
NETWORKS = [
    *map(IPv4Network, ("10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/25", "10.3.0.128/25", "10.64.0.0/14")),
    *map(IPv4Network, ("198.51.100.7", "198.51.100.8")),
]
STRANGE = IPv4Address("203.0.113.1")
RELAYS = [*(network.network_address + 1 for network in NETWORKS[:5]), STRANGE]
US = ip("10.250.0.2")


class Site(NamedTuple):
    """groups: of each of NETWORKS, 0: none.  leases: places in NETWORKS; ours: those that our interface has one of."""

    groups: list[int]
    leases: list[int]
    ours: list[int]

    def pair(self) -> Pair:
        builder = Builder()
        index = builder.add_template(options=OPTIONS)
        leases = tuple((int(self.address(place)), NETWORKS[place].prefixlen, index) for place in self.leases)
        builder.add_host(ALICE, name=b"alice", leases=leases)
        spans = [(int(net.network_address), int(net.broadcast_address)) for net in NETWORKS]
        shared = tuple((*span, group) for span, group in zip(spans, self.groups, strict=True) if group)
        links = [
            (2, int(NETWORKS[place].network_address + 2), NETWORKS[place].prefixlen, 1500, True) for place in self.ours
        ]
        around = Surroundings(networks=tuple(spans), links=(*links, (3, US, 24, 1500, True)), shared=shared)
        return Pair(generation(builder, around=around))

    @staticmethod
    def address(place: int) -> IPv4Address:
        network = NETWORKS[place]
        return network.network_address + (50 if network.prefixlen < 32 else 0)

    def fitting(self, links: list[IPv4Address]) -> list[IPv4Address]:
        """The addresses that may be given out on a link with these addresses, the first that counts first."""
        places = [place for place, net in enumerate(NETWORKS) if any(link in net for link in links)]
        groups = {self.groups[place] for place in places} - {0}
        own = [each for each in self.leases if each in places]
        beside = [each for each in self.leases if self.groups[each] in groups]
        alone = [each for each in self.leases if NETWORKS[each].prefixlen == 32 and places]
        return [self.address(place) for place in dict.fromkeys((*own, *beside, *alone))]


@st.composite
def sites(draw: st.DrawFn) -> Site:
    groups = draw(st.lists(st.sampled_from([0, 7, 1 << 63]), min_size=len(NETWORKS), max_size=len(NETWORKS)))
    leases = draw(st.lists(st.integers(0, len(NETWORKS) - 1), min_size=1, max_size=4, unique=True))
    return Site(groups, leases, draw(st.lists(st.integers(0, 4), max_size=2, unique=True)))


def ask(site: Site, relay: IPv4Address | None, selected: bool, requested: IPv4Address | None) -> Reply:
    fields: dict[str, object] = {"giaddr": str(relay)} if relay else {}
    if relay and selected:
        fields = {"giaddr": "10.250.0.9", "agent": tlv(5, str(relay))}
    kind = discover(ALICE, **fields) if requested is None else request(ALICE, requested=str(requested), **fields)
    if relay is None:
        return trace(site.pair(), kind, ifindex=2, local=int(NETWORKS[0].network_address + 2)).reply
    return trace(site.pair(), kind, ifindex=3, source=ip("10.250.0.9"), destination=US, local=US).reply


def links_of(site: Site, relay: IPv4Address | None) -> list[IPv4Address]:
    return [relay] if relay else [NETWORKS[place].network_address + 2 for place in site.ours]


PLACES = st.sampled_from([*RELAYS, None])


@pytest.mark.property
@FEW
@given(site=sites(), relay=PLACES, selected=st.booleans())
def test_an_offer_is_of_the_first_address_that_fits(site: Site, relay: IPv4Address | None, selected: bool) -> None:
    fitting = site.fitting(links_of(site, relay))
    reply = ask(site, relay, selected, None)
    if not fitting:
        assert reply.verdict == V.IGNORED_OTHER_LINK
        return
    assert (reply.verdict, Parsed.of(reply.data).yiaddr) == (V.OFFERED, str(fitting[0]))


@pytest.mark.property
@FEW
@given(site=sites(), relay=PLACES, selected=st.booleans(), wanted=st.integers(0, len(NETWORKS) - 1))
def test_a_reboot_keeps_what_could_be_given_and_a_nak_is_for_the_rest(
    site: Site, relay: IPv4Address | None, selected: bool, wanted: int
) -> None:
    links = links_of(site, relay)
    reply = ask(site, relay, selected, site.address(wanted))
    if site.address(wanted) in site.fitting(links):
        assert (reply.verdict, Parsed.of(reply.data).yiaddr) == (V.ACKED, str(site.address(wanted)))
    elif any(link in network for link in links for network in NETWORKS):
        assert reply.verdict == V.NAKED
    else:
        assert reply.verdict == V.IGNORED_NAK_UNKNOWN_LINK


def shared_site(shared: tuple[tuple[int, int, int], ...], prefix: int = 24) -> Pair:
    builder = Builder()
    index = builder.add_template(options=OPTIONS)
    builder.add_host(ALICE, name=b"alice", leases=((ip("10.2.0.50"), prefix, index),))
    around = surroundings(shared=shared, networks=((ip("10.1.0.0"), ip("10.2.255.255")),))
    return Pair(generation(builder, around=around))


BOTH = ((ip("10.1.0.0"), ip("10.1.0.255"), 5), (ip("10.2.0.0"), ip("10.2.0.255"), 5))
RELAYED = {"source": ip("10.1.0.9"), "destination": ip("10.1.0.1"), "local": ip("10.1.0.1"), "ifindex": 2}


@pytest.mark.parametrize("prefix, verdict", [(24, V.OFFERED), (25, V.OFFERED), (23, V.IGNORED_OTHER_LINK)])
def test_a_network_that_a_group_has_in_part_is_not_of_it(prefix: int, verdict: V) -> None:
    """Of a wider network only some addresses are on that link: which ones a lease does not say."""
    packet = discover(ALICE, giaddr="10.1.0.9")
    assert trace(shared_site(BOTH, prefix), packet, **RELAYED).reply.verdict == verdict


def test_a_closed_interface_answers_nobody_whatever_fits() -> None:
    builder = Builder()
    index = builder.add_template(options=OPTIONS)
    builder.add_host(ALICE, name=b"alice", leases=((ip("198.51.100.7"), 32, index),))
    pair = Pair(generation(builder, around=surroundings(shared=BOTH, interfaces_limited=True)))
    for ifindex, ours, verdict in ((2, "10.1.0.1", V.OFFERED), (3, "10.3.0.1", V.IGNORED_INTERFACE)):
        assert trace(pair, discover(ALICE), ifindex=ifindex, local=ip(ours)).reply.verdict == verdict
    assert trace(pair, discover(ALICE), ifindex=4, local=ip("172.31.0.1")).reply.verdict == V.IGNORED_INTERFACE


def test_a_sender_behind_a_router_is_not_on_the_interface_s_link() -> None:
    packet = discover(ALICE)
    assert trace(shared_site(BOTH), packet, ifindex=2, local=ip("10.1.0.1")).reply.verdict == V.OFFERED
    away = {"ifindex": 2, "source": ip("192.0.2.7"), "destination": ip("10.1.0.1"), "local": ip("10.1.0.1")}
    assert trace(shared_site(BOTH), packet, **away).reply.verdict == V.IGNORED_OTHER_LINK


def test_bootp_has_the_same_choice() -> None:
    builder = Builder()
    index = builder.add_template(options=OPTIONS)
    builder.add_host(ALICE, name=b"alice", leases=((ip("10.2.0.50"), 24, index),))
    pair = Pair(generation(builder, around=surroundings(shared=BOTH, bootp=True)))
    reply = trace(pair, message(None, ALICE, giaddr="10.1.0.9"), **RELAYED).reply
    assert (reply.verdict, Parsed.of(reply.data).yiaddr) == (V.ANSWERED_BOOTP, "10.2.0.50")


@pytest.mark.parametrize(
    "fit, around, address, prefix",
    [
        ("own", {}, "10.1.0.50", 24),
        ("shared", {"shared": BOTH}, "10.2.0.50", 24),
        ("routed", {}, "198.51.100.7", 32),
        ("", {}, "10.2.0.50", 24),
    ],
)
def test_a_trace_says_how_the_address_fits(fit: str, around: dict[str, object], address: str, prefix: int) -> None:
    builder = Builder()
    index = builder.add_template(options=OPTIONS)
    builder.add_host(ALICE, name=b"alice", leases=((ip(address), prefix, index),))
    pair = Pair(generation(builder, around=surroundings(**around)))
    assert trace(pair, discover(ALICE, giaddr="10.1.0.9"), **RELAYED).fit == fit


# --- in the table ----------------------------------------------------------------------------------------------------


def test_a_site_without_groups_has_no_section_of_them() -> None:
    with_groups, without = shared_site(BOTH).base, shared_site(()).base
    assert without.shared == () and with_groups.shared == BOTH
    assert with_groups.size > without.size


def test_a_delta_s_groups_replace_the_base_s() -> None:
    base = shared_site(BOTH).base
    for shared, verdict in (((), V.IGNORED_OTHER_LINK), (BOTH, V.OFFERED)):
        pair = Pair(base, generation(Builder(base), 2, surroundings(shared=shared)))
        assert trace(pair, discover(ALICE, giaddr="10.1.0.9"), **RELAYED).reply.verdict == verdict


@pytest.mark.parametrize(
    "shared",
    [((5, 4, 1),), ((1, 2, 0),), ((1, 5, 1), (5, 9, 1)), ((1, 5, 1), (2, 3, 1))],
    ids=["upside-down", "no-group", "touching", "nested"],
)
def test_impossible_groups_are_found_before_they_are_served(shared: tuple[tuple[int, int, int], ...]) -> None:
    with pytest.raises(TableInvalid, match="shared network"):
        generation(Builder(), around=surroundings(shared=shared))


def test_a_reader_skips_the_section_of_a_kind_that_it_does_not_know() -> None:
    """As a build of before reads a table that has groups."""
    fd = Builder().seal(1, surroundings(shared=BOTH), created_s=5)
    raw = bytearray(os.pread(fd, os.fstat(fd).st_size, 0))
    os.close(fd)
    (count,) = struct.unpack_from("<I", raw, 80)
    kinds = [struct.unpack_from("<I", raw, 128 + 32 * i)[0] for i in range(count)]
    assert kinds.count(20) == 1
    struct.pack_into("<I", raw, 128 + 32 * kinds.index(20), 63)
    struct.pack_into("<Q", raw, 32, 0)
    struct.pack_into("<Q", raw, 32, checksum(bytes(raw[128:]), bytes(raw[:128])))
    fd = new_memfd("later")
    os.write(fd, bytes(raw))
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    read = Generation(fd)
    os.close(fd)
    read.verify()
    assert read.shared == ()
