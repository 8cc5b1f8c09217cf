"""ext/mac_bloom.pyx's KnownOuis: which makers' cards the inventory has."""

from __future__ import annotations

import os

from ext.builder import Builder, Surroundings
from ext.mac_bloom import KnownOuis
from ext.table import Generation, Pair


def sealed(builder: Builder, number: int) -> Generation:
    fd = builder.seal(number, Surroundings(), created_s=number)
    try:
        return Generation(fd)
    finally:
        os.close(fd)


def hosts(*macs: int, base: Generation | None = None) -> Builder:
    builder = Builder(base) if base is not None else Builder()
    template = builder.add_template()
    for at, mac in enumerate(macs):
        builder.add_host(mac, name=b"h", leases=((0x0A000001 + at, 24, template),))
    return builder


def test_makers_of_base_and_delta() -> None:
    ouis, base = KnownOuis(), sealed(hosts(0x001122000001, 0xFFFFFE000000), 1)
    ouis.follow(Pair(base))
    assert 0x001122FFFFFF in ouis and 0xFFFFFE123456 in ouis
    assert 0x001123000001 not in ouis and 0x000000000000 not in ouis
    ouis.follow(Pair(base, sealed(hosts(0x00AABB000001, base=base), 2)))
    assert 0x00AABB000002 in ouis and 0x001122000009 in ouis
    ouis.follow(Pair(sealed(hosts(0x020202000001), 3)))
    assert 0x020202999999 in ouis and 0x001122000001 not in ouis and 0x00AABB000001 not in ouis, "another base"
