"""The hosts of tests/data/pcaps/hosts.yaml as a table, with options as the control process renders them."""

from typing import Any

import yaml

from ext import table

from tests.ext.captures import PCAPS
from tests.ext.packets import ip, tlv
from tests.ext.sites import generation

SERVER, KEA = "10.88.0.1", "10.96.0.1"
LINKS = ((2, ip(SERVER), 24, 1500, True), (3, ip(KEA), 16, 1500, True))
PERFDHCP_COUNT = 200  # MACs whose last octet carries on, modulo 256, without carry


def read() -> dict[str, Any]:
    described: dict[str, Any] = yaml.safe_load((PCAPS / "hosts.yaml").read_text())
    return described


def known_hosts() -> dict[int, tuple[str, list[str]]]:
    """MAC -> name and addresses; the x4 and perfdhcp hosts as the file's comments tell."""
    known = {int(row["mac"].replace(":", ""), 16): (row["name"], row["addresses"]) for row in read()["hosts"]}
    for i in range(1, 10):
        known[0x525400E20100 + i] = (f"vm{i}", [f"10.88.0.{100 + i}"])
    for i in range(PERFDHCP_COUNT):
        known[0x000C01020300 | ((4 + i) & 0xFF)] = (f"perf{i}", [f"10.96.{1 + (i >> 8)}.{i & 0xFF}"])
    return known


def networks() -> list[tuple[int, int, str, str]]:
    """First address, prefix, mask, gateway."""
    return [
        (ip(row["base"]), ip(row["mask"]).bit_count(), row["mask"], row["gateway"]) for row in read()["networks"]
    ]


def pair() -> table.Pair:
    builder = table.Builder()
    templates = {}
    ranges = []
    for first, prefix, mask, gateway in networks():
        last = first | (0xFFFFFFFF >> prefix)
        options = tlv(1, mask) + tlv(3, gateway) + tlv(28, last.to_bytes(4, "big")) + tlv(67, b"boot.ipxe")
        index = builder.add_template(options=options, file=b"boot.ipxe", siaddr=ip(SERVER))
        templates[first, prefix] = index
        ranges.append((first, last))
    for mac, (name, texts) in known_hosts().items():
        leases = []
        for address in map(ip, texts):
            (first, prefix), index = next(
                (net, index) for net, index in templates.items() if net[0] <= address <= net[0] | 0xFFFFFFFF >> net[1]
            )
            assert first <= address
            leases.append((address, prefix, index))
        builder.add_host(mac, name=name.encode(), own=tlv(12, name.encode()), leases=tuple(leases))
    around = table.Surroundings(networks=tuple(ranges), links=LINKS)
    return table.Pair(generation(builder, around=around))
