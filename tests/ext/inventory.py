"""The hosts of tests/data/pcaps/hosts.yaml as a table, with options as the control process renders them."""

from typing import Any

import yaml
from ext.builder import Builder, Surroundings
from ext.codec import Reply

from ext import codec, table
from tests.ext.captures import PCAPS, Datagram
from tests.ext.packets import BROADCAST, ip, tlv
from tests.ext.sites import generation

SERVER, KEA = "10.88.0.1", "10.96.0.1"
LINKS = (
    (2, ip(SERVER), 24, 1500, True),
    (3, ip(KEA), 16, 1500, True),
    (4, ip("10.77.0.2"), 24, 1500, True),
)
PERFDHCP_COUNT = 200  # MACs whose last octet carries on, modulo 256, without carry


def read() -> dict[str, Any]:
    described: dict[str, Any] = yaml.safe_load((PCAPS / "hosts.yaml").read_text())
    return described


def known_hosts() -> dict[int, tuple[str, list[str]]]:
    """MAC -> name and addresses; the x4 and perfdhcp hosts as the file's comments tell."""
    known = {int(row["mac"].replace(":", ""), 16): (row["name"], row["addresses"]) for row in read()["hosts"]}
    for i in range(4):
        known[0x525400E20100 + i] = (f"vm{i}", [f"10.88.0.{100 + i}"])
    for i in range(PERFDHCP_COUNT):
        known[0x000C01020300 | ((4 + i) & 0xFF)] = (f"perf{i}", [f"10.96.{1 + (i >> 8)}.{i & 0xFF}"])
    return known


def networks() -> list[tuple[int, int, str, str]]:
    """First address, prefix, mask, gateway."""
    return [(ip(row["base"]), ip(row["mask"]).bit_count(), row["mask"], row["gateway"]) for row in read()["networks"]]


def pair() -> table.Pair:
    builder = Builder()
    nets = networks()
    indexes = [
        builder.add_template(
            options=tlv(1, mask) + tlv(3, gateway) + tlv(28, last_of(first, prefix).to_bytes(4, "big")),
            file=b"boot.ipxe",
            siaddr=ip(SERVER),
        )
        for first, prefix, mask, gateway in nets
    ]
    for mac, (name, texts) in known_hosts().items():
        leases = []
        for address in map(ip, texts):
            at = next(i for i, net in enumerate(nets) if net[0] <= address <= last_of(*net[:2]))
            leases.append((address, nets[at][1], indexes[at]))
        builder.add_host(mac, name=name.encode(), own=tlv(12, name.encode()), leases=tuple(leases))
    ranges = tuple((first, last_of(first, prefix)) for first, prefix, _, _ in nets)
    return table.Pair(generation(builder, around=Surroundings(networks=ranges, links=LINKS)))


def last_of(first: int, prefix: int) -> int:
    return first | (0xFFFFFFFF >> prefix)


def replay(known: table.Pair, datagram: Datagram) -> Reply:
    """The datagram as it arrived where it was captured (-clientside: on the clients' link)."""
    where = 3 if datagram.name.startswith("perfdhcp") else 4 if "-clientside" in datagram.name else 2
    ours = next(link[1] for link in LINKS if link[0] == where)
    return codec.answer(
        known, datagram.payload, ifindex=where, source=datagram.source, source_port=datagram.source_port,
        destination=datagram.destination, local=ours if datagram.destination == BROADCAST else datagram.destination,
    )  # fmt: skip
