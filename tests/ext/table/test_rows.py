"""ext/rows.pyx: the numbers of rows, and hosts by their rows; cards of ports that are not served.

Over edits, rollbacks and restarts they are tested by tests/control/planner/test_closure_property.py."""

import os
from collections.abc import Iterable

import pytest
from ext.addresses import Index
from ext.builder import Builder, Surroundings, delta_builder
from ext.leases import LeaseState
from ext.rows import ROW_NUMBERS_MAX, Numbers
from ext.table import Generation, Pair, TableInvalid, compare
from hypothesis import given
from hypothesis import strategies as st

from tests.ext.sites import ALICE, generation


def table(
    macs: Iterable[int], numbers: Numbers | None = None, number: int = 1, base: Generation | None = None
) -> Generation:
    builder = Builder(base)
    index = builder.add_template()
    for mac in macs:
        builder.add_host(mac, name=b"%d" % mac, leases=((mac, 24, index), (mac + 256, 24, index)))
    return sealed(builder, numbers, number)


def sealed(builder: Builder, numbers: Numbers | None, number: int) -> Generation:
    fd = builder.seal(number, Surroundings(), created_s=1, numbers=numbers)
    try:
        return Generation(fd)
    finally:
        os.close(fd)


def numbers_of(generation: Generation | Pair) -> dict[int, int]:
    return {mac: generation.number_of(mac, role) for mac, role in generation.keys()}  # noqa: SIM118


def test_without_numbers_rows_have_none() -> None:
    assert set(numbers_of(table([1, 2])).values()) == {0} and ROW_NUMBERS_MAX == (1 << 24) - 1
    assert table([1]).number_of(9) == 0


def test_new_rows_get_the_lowest_that_nobody_has_and_keep_it() -> None:
    first = table([10, 20, 30], Numbers([]))
    assert numbers_of(first) == {10: 1, 20: 2, 30: 3}
    second = table([30, 5, 10], Numbers([first]), 2)
    assert numbers_of(second) == {30: 3, 5: 4, 10: 1}, "2 is still borne by what can be gone back to"
    assert numbers_of(table([7, 30, 5, 10], Numbers([second]), 3)) == {7: 2, 30: 3, 5: 4, 10: 1}
    assert numbers_of(table([20, 30], Numbers([second, first]), 3)) == {20: 2, 30: 3}, "what comes back has its own"


def test_a_number_is_in_all_leases_and_in_no_digest() -> None:
    plain, numbered = table([1, 2]), table([2, 1], Numbers([table(range(3, 300), Numbers([]))]))
    assert plain.digest == numbered.digest and not compare(Pair(plain), numbered)
    assert all(plain.content_hash(mac) == numbered.content_hash(mac) for mac in (1, 2))
    assert numbers_of(numbered) == {2: 298, 1: 299}, "more than one octet of it"
    numbered.verify()


def test_a_delta_s_row_has_the_number_of_its_base_s_row_also_none() -> None:
    base = table([1, 2])
    delta = table([2, 3], Numbers([base], base), 2, base)
    assert numbers_of(delta) == {2: 0, 3: 1}
    assert numbers_of(table([1, 2, 3], Numbers([delta, base]), 3)) == {1: 2, 2: 3, 3: 1}


def test_a_tombstone_keeps_its_number() -> None:
    base = table([1, 2], Numbers([]))
    builder = delta_builder(base, (new := table([2, 3], None, 2)), compare(Pair(base), new))
    delta = sealed(builder, Numbers([base], base), 2)
    assert numbers_of(delta) == {1: 1, 3: 3}


@given(st.lists(st.lists(st.integers(1, 40), unique=True, max_size=20), min_size=1, max_size=8))
def test_any_row_of_bases_against_a_model(tables: list[list[int]]) -> None:
    """Two kept at a time, as `ctl rollback` keeps them."""
    kept: list[Generation] = []
    known: list[dict[int, int]] = []
    for turn, macs in enumerate(tables, 1):
        borne = {mac: number for each in reversed(known) for mac, number in each.items()}
        want = {mac: borne[mac] for mac in macs if mac in borne}
        taken = set(borne.values())
        for mac in macs:
            if mac not in want:
                want[mac] = next(number for number in range(1, 999) if number not in taken)
                taken.add(want[mac])
        made = table(macs, Numbers(kept), turn)
        assert numbers_of(made) == want
        kept, known = [made, *kept][:2], [want, *known][:2]


# --- hosts and cards --------------------------------------------------------------------------------------------------


def test_a_card_at_a_port_that_is_not_served() -> None:
    """It stands there as what builds that know no ports take it for, and is told apart by its port alone."""

    def made(port: int) -> Generation:
        builder = Builder()
        state = int(LeaseState.OTHER_PORT) if port else int(LeaseState.DISABLED)
        builder.add_host(ALICE, name=b"alice", state=state, port=port)
        return generation(builder, around=Surroundings())

    of_two = made(2)
    assert of_two.lookup(ALICE)["state"] == "other-port" and of_two.lookup(ALICE)["port"] == 2
    assert of_two.in_state("other-port") == [(ALICE, 0)] and of_two.in_state("disabled") == []
    assert made(0).in_state("disabled") == [(ALICE, 0)] and "port" not in made(0).lookup(ALICE)
    assert len({made(port).digest for port in (0, 2, 3)}) == 3
    copy = Builder(made(0))
    copy.copy_host(of_two, ALICE)
    assert generation(copy, number=2).lookup(ALICE) == of_two.lookup(ALICE)


def test_a_port_belongs_to_its_state_alone() -> None:
    with pytest.raises(TableInvalid, match="port 2 in state disabled"):
        Builder().add_host(ALICE, name=b"a", state=int(LeaseState.DISABLED), port=2)
    with pytest.raises(TableInvalid, match="port 0 in state other-port"):
        Builder().add_host(ALICE, name=b"a", state=int(LeaseState.OTHER_PORT))


def test_hosts_are_counted_by_their_objects() -> None:
    """However many cards they have; a BMC is none, nor is who is not answered."""
    builder = Builder()
    index = builder.add_template()
    for mac in (1, 2):
        builder.add_host(mac, name=b"a", leases=((5, 24, index),))
    builder.add_host(3, name=b"b", leases=((6, 24, index),))
    builder.add_host(3, name=b"b", leases=((7, 24, index),), role=1)
    builder.add_host(4, name=b"c", state=int(LeaseState.DISABLED))
    base = generation(builder, around=Surroundings())
    assert (len(base), base.host_count) == (5, 2)
    for gone, left in (((1,), 2), ((1, 2), 1), ((3,), 1), ((1, 2, 3), 0)):
        delta = Builder(base)
        for mac in gone:
            delta.add_tombstone(mac)
        assert Index(base).hosts_with(delta.answered()) == left, gone
    delta = Builder(base)
    template = delta.add_template()
    delta.add_host(4, name=b"c", leases=((8, 24, template),))
    delta.add_host(5, name=b"a", leases=((5, 24, template),))
    delta.add_host(3, name=b"a", leases=((5, 24, template),))
    hosts = Index(base).hosts_with(delta.answered())
    assert hosts == 2, "a and c; b has no card any more"
    fd = delta.seal(2, Surroundings(), created_s=5, hosts=hosts)
    try:
        assert Generation(fd).host_count == 2
    finally:
        os.close(fd)
