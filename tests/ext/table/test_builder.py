"""ext/builder.pyx beyond one table: rows taken over in parts, who contests what, and the looks at a pair that need
it."""

import random
from typing import Any

import pytest
from ext.builder import Builder, delta_builder, identity_of_object
from ext.table import Changes, Generation, Keys, Pair, TableInvalid, compare, row_key
from hypothesis import given
from hypothesis import strategies as st

from tests.ext.packets import ip, tlv
from tests.ext.sites import ALICE, OPTIONS, TWO, generation, hosts
from tests.ext.table.test_table import FEW, TABLES, dump, filled

THIRD = 0x0200000000AA
ROWS_OF_OTHERS = st.lists(
    st.tuples(
        st.integers(0, 11).map(lambda i: 0x020000000000 + i % 6 | i // 9 << 48),  # MAC, of a quarter a BMC's
        st.integers(0, 1),  # state
        st.sampled_from([b"a", b"b", b"c"]),  # name
        st.lists(st.integers(1, 6), min_size=1, max_size=2),  # addresses
    ),
    max_size=12,
)
CLAIMS = st.lists(st.tuples(st.integers(1, 6), st.sampled_from([b"a", b"b", b"sw"])), max_size=4)


def served(builder: Builder, mac: int, name: bytes, *addresses: int, **template: Any) -> None:
    index = builder.add_template(options=OPTIONS, **template)
    builder.add_host(mac, name=name, own=tlv(12, name), leases=[(address, 24, index) for address in addresses])


# --- append ----------------------------------------------------------------------------------------------------------


@pytest.mark.property
@FEW
@given(TABLES, st.integers(1, 5), st.randoms(use_true_random=False))
def test_parts_put_together_are_the_whole(rows: dict[Any, Any], parts: int, chance: random.Random) -> None:
    """Same rows, same digest, same count of hosts, and nothing that verify() would not let pass."""
    shares: list[dict[Any, Any]] = [{} for _ in range(parts)]
    for key, row in rows.items():
        chance.choice(shares)[key] = row
    together = Builder()
    for share in shares:
        together.append(filled(share))
    made, whole = generation(together), generation(filled(rows))
    assert dump(made) == dump(whole)
    assert (made.digest, made.host_count, len(together)) == (whole.digest, whole.host_count, len(rows))


@pytest.mark.property
@FEW
@given(
    TABLES,
    TABLES,
    st.sets(st.tuples(st.integers(0, 30).map(lambda i: 0x020000000000 + i * 4), st.integers(0, 1)), max_size=9),
)
def test_skipped_rows_are_as_if_they_had_never_been(old: dict[Any, Any], new: dict[Any, Any], skip: set[Any]) -> None:
    """Of every role; what stays away neither counts nor leaves a trace in the digest."""
    fresh = {key: row for key, row in new.items() if key not in old}
    builder = filled(old)
    builder.append(filled(fresh), frozenset(row_key(*key) for key in skip))
    want = generation(filled(old | {key: row for key, row in fresh.items() if key not in skip}))
    made = generation(builder)
    assert (dump(made), made.digest, made.host_count) == (dump(want), want.digest, want.host_count)


def test_what_was_taken_over_may_be_added_to_and_the_giver_too() -> None:
    first, second = Builder(), Builder()
    served(first, ALICE, b"alice", 1, lease_s=9)
    served(second, TWO, b"two", 2, file=b"/x")
    first.append(second)
    served(first, THIRD, b"third", 3, file=b"/x")
    served(second, THIRD, b"third", 4, lease_s=7)
    made = generation(first)
    assert [made.lookup(mac)["leases"][0]["address"] for mac in (ALICE, TWO, THIRD)] == [1, 2, 3]
    assert made.lookup(TWO)["leases"][0]["template"] == made.lookup(THIRD)["leases"][0]["template"]
    assert generation(second).lookup(THIRD)["leases"][0]["template"]["lease_s"] == 7


def test_nothing_appended_is_nothing() -> None:
    builder = hosts()
    builder.append(Builder())
    assert generation(builder).digest == generation(hosts()).digest
    empty = Builder()
    empty.append(hosts(), frozenset(mac for mac, _role in generation(hosts()).keys()))  # noqa: SIM118
    assert (len(empty), generation(empty).host_count, generation(empty).digest) == (0, 0, "0" * 16)


def test_many_parts_of_many_rows() -> None:
    """The room for rows grows under way; the rows do not move apart from their names."""
    builder = Builder()
    for part in range(20):
        piece = Builder()
        for number in range(300):
            served(piece, part << 16 | number + 1, b"h%d-%d" % (part, number), part << 16 | number + 1)
            piece.add_claim(part << 16 | number + 1, b"h%d-%d" % (part, number))
        builder.append(piece)
    assert builder.contested() == ({}, {})
    made = generation(builder)
    assert made.host_count == 6000 and made.lookup(19 << 16 | 300)["name"] == b"h19-299"


def test_rows_of_a_delta_are_not_taken_over() -> None:
    base = generation(hosts())
    for mine, theirs in ((Builder(base), Builder()), (Builder(), Builder(base))):
        with pytest.raises(TableInvalid, match="rows of a delta cannot be taken over"):
            mine.append(theirs)


# --- contested -------------------------------------------------------------------------------------------------------


def contested(builder: Builder) -> tuple[dict[int, list[bytes]], dict[int, list[tuple[int | None, bytes]]]]:
    """Without the identities."""
    macs, addresses = builder.contested()
    return (
        {mac: [name for _key, name, _identity in found] for mac, found in macs.items()},
        {address: [(key, name) for key, name, _identity in found] for address, found in addresses.items()},
    )


def test_nobody_contests_anything() -> None:
    assert contested(hosts()) == ({}, {}) == contested(Builder())


def test_two_rows_with_one_mac() -> None:
    builder = Builder()
    served(builder, ALICE, b"a", 1)
    builder.add_host(ALICE, name=b"b", state=1)
    served(builder, TWO, b"c", 2)
    assert contested(builder) == ({ALICE: [b"a", b"b"]}, {})


def test_a_card_of_one_and_a_bmc_of_another() -> None:
    """All rows of such a MAC; a card that its own host's BMC shares is none, whatever stands between the two rows."""
    builder = Builder()
    for number in range(3):
        builder.add_host(ALICE + number, name=b"a%d" % number, state=1)
    builder.add_host(ALICE + 1, name=b"b", state=1, role=1)
    for number in (0, 2):
        builder.add_host(ALICE + number, name=b"a%d" % number, state=1, role=1)
    assert contested(builder) == ({ALICE + 1: [b"a1", b"b"]}, {})
    builder.add_host(ALICE + 2, name=b"c", state=1)
    assert contested(builder) == ({ALICE + 1: [b"a1", b"b"], ALICE + 2: [b"a2", b"a2", b"c"]}, {})


def test_two_rows_with_one_address() -> None:
    builder = Builder()
    served(builder, ALICE, b"a", 1, 7)
    served(builder, TWO, b"b", 7)
    assert contested(builder) == ({}, {7: [(ALICE, b"a"), (TWO, b"b")]})


def test_an_address_that_somebody_only_has() -> None:
    """A switch, a host with DHCP off: nobody else may be given it, though they are not answered with it."""
    builder = Builder()
    served(builder, ALICE, b"a", ip("255.255.255.254"))
    builder.add_claim(ip("255.255.255.254"), b"sw")
    builder.add_claim(5, b"sw")
    assert contested(builder) == ({}, {ip("255.255.255.254"): [(ALICE, b"a"), (None, b"sw")]})


def test_what_one_object_has_twice_is_not_contested() -> None:
    builder = Builder()
    served(builder, ALICE, b"a", 1)
    builder.add_claim(1, b"a")
    builder.add_claim(2, b"b")
    builder.add_claim(2, b"b")
    assert contested(builder) == ({}, {})


def test_objects_are_told_apart_by_identity_and_not_by_the_name_they_show() -> None:
    builder = Builder()
    template = builder.add_template()
    for number, (thing, address) in enumerate([(b"/server/a", 1), (b"/appliance/a", 1), (b"/server/b", 2)]):
        builder.add_host(ALICE + number, name=b"a", leases=((address, 24, template),), thing=thing)
    builder.add_host(ALICE + 2, role=1, name=b"b", leases=((2, 24, template),), thing=b"/server/b")
    assert contested(builder) == ({}, {1: [(ALICE, b"a"), (ALICE + 1, b"a")]})
    assert builder.objects() == {
        identity_of_object(b"/%s" % path) for path in (b"server/a", b"appliance/a", b"server/b")
    }
    assert builder.objects({identity_of_object(b"/server/b"), 7}) == {identity_of_object(b"/server/b")}


def test_rows_of_some_objects_are_not_taken_over() -> None:
    builder, other, want = Builder(), Builder(), Builder()
    for made in (other, want):
        served(made, TWO, b"b", 2)
    served(other, ALICE, b"a", 1)
    builder.append(other, objects={identity_of_object(b"a")})
    assert dump(generation(builder)) == dump(generation(want))
    assert generation(builder).digest == generation(want).digest


def test_two_that_only_have_it() -> None:
    """Nobody is answered with it; they are named all the same."""
    builder = Builder()
    builder.add_claim(2, b"a")
    builder.add_claim(2, b"b")
    assert contested(builder) == ({}, {2: [(None, b"a"), (None, b"b")]})


def test_a_claim_keeps_as_much_of_a_name_as_a_row_does() -> None:
    builder = Builder()
    builder.add_claim(2, b"x" * 300)
    builder.add_claim(2, b"b")
    assert contested(builder) == ({}, {2: [(None, b"x" * 255), (None, b"b")]})


def test_more_claims_than_there_was_room_for() -> None:
    builder = Builder()
    for number in range(1000):
        builder.add_claim(number + 1, b"s%d" % number)
    other = Builder()
    other.add_claim(1000, b"other")
    builder.append(other)
    builder.add_claim(1, b"last")
    assert contested(builder) == ({}, {1: [(None, b"s0"), (None, b"last")], 1000: [(None, b"s999"), (None, b"other")]})


@pytest.mark.property
@FEW
@given(st.lists(st.tuples(ROWS_OF_OTHERS, CLAIMS), min_size=1, max_size=4))
def test_contested_is_what_a_dictionary_finds_however_it_is_split(parts: list[Any]) -> None:
    builder = Builder()
    macs: dict[int, list[tuple[int, bytes]]] = {}
    owners: dict[int, list[Any]] = {}
    for rows, claims in parts:
        piece = Builder()
        for mac, state, name, addresses in rows:
            macs.setdefault(mac & (1 << 48) - 1, []).append((mac, name))
            if state == 0:
                served(piece, mac, name, *addresses)
                for address in addresses:
                    owners.setdefault(address, []).append((mac, name))
            else:
                piece.add_host(mac, name=name, state=state)
        for address, name in claims:
            piece.add_claim(address, name)
            owners.setdefault(address, []).append((None, name))
        builder.append(piece)
    found_macs, found_addresses = contested(builder)
    assert {mac: sorted(names) for mac, names in found_macs.items()} == {
        mac: sorted(name for _key, name in rows)
        for mac, rows in macs.items()
        if len({key for key, _name in rows}) < len(rows) or len({name for _key, name in rows}) > 1
    }
    assert {address: sorted(found, key=repr) for address, found in found_addresses.items()} == {
        address: sorted(found, key=repr) for address, found in owners.items() if len({name for _, name in found}) > 1
    }


# --- Keys ------------------------------------------------------------------------------------------------------------


def test_keys_are_a_sequence_of_pairs() -> None:
    keys = Keys([1 << 63 | ALICE, 1 << 63 | 1 << 48 | TWO])
    assert list(keys) == [(ALICE, 0), (TWO, 1)] and len(keys) == 2
    assert (keys[0], keys[1], keys[-1]) == ((ALICE, 0), (TWO, 1), (TWO, 1))
    assert (keys[1:], keys[:0], keys[0:99]) == ([(TWO, 1)], [], [(ALICE, 0), (TWO, 1)])
    assert keys == [(ALICE, 0), (TWO, 1)] and keys != [] and repr(keys) == repr([(ALICE, 0), (TWO, 1)])
    assert not Keys() and list(Keys()) == []
    with pytest.raises(IndexError):
        keys[2]


def test_many_changes_are_small() -> None:
    builder = Builder()
    for number in range(50_000):
        builder.add_host(number, state=1)
    changes = compare(None, generation(builder))
    assert len(changes) == 50_000 and changes.added.packed.itemsize == 8
    assert sorted(mac for mac, _role in changes.added) == list(range(50_000))


# --- pairs -----------------------------------------------------------------------------------------------------------


def pair_of(base: dict[Any, Any], now: dict[Any, Any]) -> Pair:
    """A base, and the delta that makes it say something else."""
    first, wanted = generation(filled(base)), generation(filled(now), 2)
    return Pair(first, generation(delta_builder(first, wanted, compare(Pair(first), wanted)), 3))


@pytest.mark.property
@FEW
@given(TABLES, TABLES, TABLES, TABLES)
def test_two_pairs_compared(old_base: Any, old: Any, new_base: Any, new: Any) -> None:
    """Whatever stands in which base and which delta."""
    before, after = pair_of(old_base, old), pair_of(new_base, new)
    was, now = dump(before), dump(after)
    changes = compare(before, after)
    assert sorted(changes.added) == sorted(now.keys() - was.keys())
    assert sorted(changes.removed) == sorted(was.keys() - now.keys())
    assert sorted(changes.changed) == sorted(key for key in was.keys() & now.keys() if was[key] != now[key])
    back = compare(after, before)
    assert (sorted(back.added), sorted(back.removed)) == (sorted(changes.removed), sorted(changes.added))
    assert sorted(compare(None, after).added) == sorted(now)
    assert compare(before, before) == Changes(Keys(), Keys(), Keys())


@pytest.mark.property
@FEW
@given(TABLES, TABLES, st.sets(st.sampled_from([b"", b"a", b"bb", b"x" * 255])))
def test_hosts_by_name(base: Any, now: Any, wanted: set[bytes]) -> None:
    pair = pair_of(base, now)
    found = sorted(key for key, row in dump(pair).items() if row["name"] in wanted)
    assert sorted(pair.with_names(wanted)) == found
    by_name = pair.base.with_names(wanted)
    assert by_name.keys() <= wanted and all(
        pair.base.lookup(*key)["name"] == name for name, keys in by_name.items() for key in keys
    )


@pytest.mark.property
@FEW
@given(TABLES, TABLES, TABLES)
def test_one_content_one_hash_wherever_it_stands(base: Any, now: Any, other: Any) -> None:
    pair, single = pair_of(base, now), generation(filled(other), 9)
    was, have = dump(pair), dump(single)
    for key in was.keys() | have.keys() | {(THIRD, 0)}:
        assert (pair.content_hash(*key) == 0) == (key not in was)
        assert (pair.content_hash(*key) == single.content_hash(*key)) == (was.get(key) == have.get(key))


def test_the_holder_of_a_host_is_who_spoke_last_of_it() -> None:
    base = generation(hosts())
    builder = Builder(base)
    builder.add_tombstone(ALICE)
    builder.add_host(TWO, name=b"two", state=1)
    pair = Pair(base, generation(builder, 2))
    holders: dict[int, Generation] = {mac: pair.holder_of(mac) for mac in (ALICE, TWO, THIRD)}
    assert (holders[ALICE], holders[TWO], holders[THIRD]) == (pair.delta, pair.delta, pair.base)
    assert pair.content_hash(ALICE) == 0 and base.content_hash(ALICE) != 0
