"""ext/site_classes: the class of the site whose rule fits first, by a model that compares one rule after the other; and
what the clients of such a class get, in tables whose templates say something to some classes."""

from collections.abc import Sequence
from typing import Any

import pytest
from ext.builder import Builder
from ext.classify import ClientClass
from ext.codec import trace
from ext.site_classes import BUILT_IN, PARENTS, ClassNumbers, TooMuch
from ext.table import Generation, Pair, TableInvalid
from hypothesis import given, reject
from hypothesis import strategies as st

from tests.ext.packets import DISCOVER, ip, mac_bytes, message, tlv
from tests.ext.sites import ALICE, LINKS, NETWORKS, generation, surroundings

Class = tuple[str, str, tuple[tuple[str, tuple[Any, ...]], ...]]
TEXTS = {"vendor_class": 60, "user_class": 77, "client_id": 61, "machine_guid": 97}
# Few octets, so that texts begin with each other, and stand side by side.
text = st.binary(min_size=1, max_size=5).map(lambda raw: bytes(b"ABC"[each % 3] for each in raw))
number = st.integers(0, 12)


def ranges(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high)).map(lambda pair: (min(pair), max(pair)))


CONDITIONS = st.one_of(
    *(st.tuples(st.just(field), st.lists(st.tuples(text, st.booleans()), min_size=1, max_size=3)) for field in TEXTS),
    st.tuples(st.just("architecture"), st.lists(ranges(0, 12), min_size=1, max_size=3)),
    st.tuples(st.just("enterprise"), st.lists(ranges(0, 12), min_size=1, max_size=2)),
    st.tuples(st.just("mac"), st.lists(ranges(ALICE - 3, ALICE + 3), min_size=1, max_size=2)),
    st.tuples(st.just("relay"), st.lists(ranges(ip("10.1.0.0"), ip("10.1.0.8")), min_size=1, max_size=2)),
    st.tuples(st.just("link"), st.lists(ranges(ip("10.1.0.0"), ip("10.1.0.8")), min_size=1, max_size=2)),
    st.tuples(st.just("present"), st.lists(st.sampled_from([12, 43, 60, 124, 200]), min_size=1, max_size=2)),
)


@st.composite
def rules(draw: st.DrawFn, most: int = 12) -> list[Class]:
    found: list[Class] = []
    for at in range(draw(st.integers(1, most))):
        conditions = draw(st.lists(CONDITIONS, min_size=1, max_size=3, unique_by=lambda each: each[0]))
        parent = draw(st.sampled_from(["os", "ipxe", "uefi-x64", *(name for name, _, _ in found)]))
        found.append((f"c{at}", parent, tuple((field, tuple(dict.fromkeys(values))) for field, values in conditions)))
    return found


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    said: dict[str, Any] = {field: draw(st.none() | text) for field in TEXTS}
    said["architecture"] = draw(st.none() | number)
    said["enterprise"] = draw(st.lists(number, max_size=2))
    said["giaddr"] = draw(st.sampled_from([0, ip("10.1.0.3"), ip("10.1.0.4"), ip("10.1.0.7")]))
    said["others"] = draw(st.sets(st.sampled_from([12, 43, 200])))
    return said


def octets(said: dict[str, Any]) -> bytes:
    options = b"".join(tlv(TEXTS[field], said[field]) for field in TEXTS if said[field] is not None)
    if said["architecture"] is not None:
        options += tlv(93, said["architecture"].to_bytes(2, "big"))
    for code, enterprise in zip((124, 125), said["enterprise"], strict=False):
        options += tlv(code, enterprise.to_bytes(4, "big") + b"\0")
    options += b"".join(tlv(code, b"x") for code in sorted(said["others"]))
    return message(DISCOVER, ALICE, options, giaddr=said["giaddr"])


def fits(field: str, value: Any, said: dict[str, Any]) -> bool:
    if field in TEXTS:
        found = said[field]
        if found is None or (field == "client_id" and len(found) == 1):  # no client id: RFC 2132 section 9.14
            return False
        if field == "user_class" and len(found) > 1 and found[0] == len(found) - 1:
            found = found[1:]
        wanted, is_prefix = value
        return bool(found.startswith(wanted) if is_prefix else found == wanted)
    if field == "present":
        codes = {TEXTS[each] for each in TEXTS if said[each] is not None} | said["others"] | {53}
        codes |= {93} if said["architecture"] is not None else set()
        return value in codes | set((124, 125)[: len(said["enterprise"])])
    numbers = {
        "architecture": [] if said["architecture"] is None else [said["architecture"]],
        "enterprise": said["enterprise"],
        "mac": [ALICE],
        "relay": [said["giaddr"]] if said["giaddr"] else [],
        "link": [said["giaddr"] or ip("10.1.0.1")],
    }[field]
    return any(value[0] <= each <= value[1] for each in numbers)


def first_that_fits(classes: Sequence[Class], said: dict[str, Any]) -> str | None:
    for name, _parent, conditions in classes:
        if all(any(fits(field, value, said) for value in values) for field, values in conditions):
            return name
    return None


def pair_with(classes: Sequence[Class], variants: dict[Any, bytes] | None = None) -> Pair:
    builder = Builder()
    made = {client: {"options": tlv(15, said)} for client, said in (variants or {}).items()}
    template = builder.add_template(options=tlv(15, b"everybody"), variants=made)
    builder.add_host(ALICE, name=b"alice", leases=((ip("10.1.0.50"), 24, template),))
    return Pair(generation(builder, around=surroundings(networks=NETWORKS, links=LINKS, classes=tuple(classes))))


@given(classes=rules(), said=requests())
def test_the_first_rule_that_fits_decides(classes: list[Class], said: dict[str, Any]) -> None:
    try:
        pair = pair_with(classes)
    except TooMuch:  # they look at nearly everything
        reject()
    pair.base.verify()
    found = trace(pair, octets(said), ifindex=2, local=ip("10.1.0.1"))
    number = found.request["option_class"]
    want = first_that_fits(classes, said)
    assert pair.base.classes.said(number) == (want if want is not None else int(found.request["client_class"]))


def wider(name: Any, variants: dict[Any, bytes], parents: dict[str, str]) -> bytes:
    """The model: what a class has itself, else what its parent has; the first nine, whatever else, what all have."""
    while True:
        if name in variants:
            return variants[name]
        if isinstance(name, str):
            parent = parents[name]
            name = BUILT_IN.get(parent, parent)
        elif name < ClientClass.PXE:
            return b"everybody"
        else:
            name = PARENTS[name]


built_in = st.sampled_from([int(client) for client in ClientClass if client is not ClientClass.BMC])


@given(
    classes=rules(5), said=requests(), more=st.dictionaries(built_in, st.sampled_from([b"x", b"y", b"z"]), max_size=4)
)
def test_a_class_gets_its_own_or_what_its_parent_gets(
    classes: list[Class], said: dict[str, Any], more: dict[int, bytes]
) -> None:
    names = [name for name, _parent, _conditions in classes]
    variants: dict[Any, bytes] = more | {name: f"of {name}".encode() for name in names[::2]}
    variants = {client: value for client, value in variants.items() if client != 0}
    pair = pair_with(classes, variants)
    pair.base.verify()
    parents = {name: parent for name, parent, _conditions in classes}
    found = trace(pair, octets(said), ifindex=2, local=ip("10.1.0.1"))
    want = first_that_fits(classes, said)
    chosen = want if want is not None else int(found.request["client_class"])
    if found.reply.data:
        assert tlv(15, wider(chosen, variants, parents)) in found.reply.data
    # And a copy of the row, into a table of other classes, says the same to those that it knows.
    again = Builder()
    again.copy_host(pair.base, ALICE)
    other = (("new", "os", (("present", (43,)),)), *classes[::2])
    roots = {name for name, _parent, _conditions in other}
    other = tuple((name, parent if parent in roots | set(BUILT_IN) else "os", rule) for name, parent, rule in other)
    copied = generation(again, around=surroundings(networks=NETWORKS, links=LINKS, classes=other))
    for name in names[::2]:
        assert copied.lookup(ALICE)["leases"][0]["template"]["variants"][name]["options"] == tlv(15, variants[name])


def test_a_delta_has_the_classes_of_its_base() -> None:
    onie: Class = ("onie", "os", (("vendor_class", ((b"onie_vendor:", True),)),))
    base = pair_with([onie], {"onie": b"installer"}).base
    builder = Builder(base)
    template = builder.add_template(options=tlv(15, b"new"), variants={"onie": {"options": tlv(15, b"younger")}})
    builder.add_host(ALICE, name=b"alice", leases=((ip("10.1.0.50"), 24, template),))
    fd = builder.seal(9, surroundings(networks=NETWORKS, links=LINKS, classes=(("other", *onie[1:]),)), created_s=6)
    pair = Pair(base, Generation(fd))
    pair.delta.verify()
    found = trace(pair, message(DISCOVER, ALICE, tlv(60, b"onie_vendor:x86")), ifindex=2, local=ip("10.1.0.1"))
    assert tlv(15, b"younger") in found.reply.data and pair.delta.classes.names == ["onie"]
    other = pair_with([("other", *onie[1:])]).base
    with pytest.raises(TableInvalid, match="another base"):
        Pair(other, Generation(fd))


def test_a_site_without_classes_has_none_of_their_sections() -> None:
    pair = pair_with([], {int(ClientClass.IPXE): b"menu"})
    assert (pair.base.site_classes, pair.base.own_columns()) == (b"", [])
    assert pair_with([], {int(ClientClass.UEFI_RISCV64): b"r"}).base.own_columns() == [int(ClientClass.UEFI_RISCV64)]


@pytest.mark.parametrize(
    "said",
    [
        b"{", b"[1]", b'[["a"]]', b'[["a", "b", []]]', b'[["a", "a", []]]', b'[["a", "b", []], ["b", "a", []]]',
        b'[["a", "os", []], ["a", "os", []]]', b'[["a", "os", [["vendor_class", [["zz", true]]]]]]',
        b'[["a", "os", [["mac", [1]]]]]', b"[" * 100_000,
    ],
)  # fmt: skip
def test_damaged_names_are_refused(said: bytes) -> None:
    with pytest.raises(ValueError):
        ClassNumbers.read(said)


@pytest.mark.parametrize(
    "classes, why",
    [
        ([(f"c{at}", "os", (("architecture", ((at, at),)),)) for at in range(65)], "65 client classes"),
        ([("long", "os", (("vendor_class", ((b"x" * 65, True),)),))], "1 to 64 octets"),
        ([("many", "os", (("vendor_class", tuple((b"%d" % at, True) for at in range(65))),))], "65 values of vendor"),
        ([("many", "os", (("present", tuple(range(1, 18))),))], "17 values of present"),
        (
            [
                (
                    "dear",
                    "os",
                    tuple((field, tuple((b"x" * 60 + b"%02d" % at, True) for at in range(60))) for field in TEXTS),
                ),
                ("short", "os", tuple((field, ((b"x", True),)) for field in TEXTS)),
            ],
            "pay 1508 instructions",
        ),
        ([("deep", "os", (("client_id", tuple((b"x" * at, True) for at in range(1, 10))),))], "8 more texts begin"),
    ],
)
def test_limits(classes: list[Class], why: str) -> None:
    with pytest.raises(TooMuch, match=why):
        pair_with(classes)


def test_64_classes_are_not_too_many() -> None:
    many = [(f"c{at}", "os", (("architecture", ((at, at),)),)) for at in range(64)]
    assert pair_with(many).base.classes.of("c63") == 128 + 63


@pytest.mark.parametrize(
    "parent, want", [("ipxe", b"menu"), ("uefi-x64", b"everybody"), ("http-boot-arm64", b"url"), ("os", b"everybody")]
)
def test_a_class_without_a_word_of_its_own_gets_its_parent_s(parent: str, want: bytes) -> None:
    """Also where no template has anything for a class beyond the usual ones; in a delta, too."""
    variants = {int(ClientClass.IPXE): b"menu", int(ClientClass.HTTP_BOOT): b"url"}
    pair = pair_with([("mine", parent, (("present", (200,)),))], variants)
    packet = message(DISCOVER, ALICE, tlv(200, b"x"))
    assert tlv(15, want) in trace(pair, packet, ifindex=2, local=ip("10.1.0.1")).reply.data
    builder = Builder(pair.base)
    builder.copy_host(pair.base, ALICE)
    delta = Generation(builder.seal(9, surroundings(networks=NETWORKS, links=LINKS), created_s=6))
    assert tlv(15, want) in trace(Pair(pair.base, delta), packet, ifindex=2, local=ip("10.1.0.1")).reply.data


@pytest.mark.parametrize("count", [31, 32, 33, 63, 64])
def test_as_many_rules_as_there_are_bits(count: int) -> None:
    """Each looks at one of two fields, and leaves the other to anybody."""
    every = [
        (f"c{at}", "os", (("architecture", ((at, at),)),) if at % 2 else (("vendor_class", ((b"v%02d" % at, False),)),))
        for at in range(count)
    ]
    pair = pair_with(every)
    for at in range(count):
        said = tlv(93, at.to_bytes(2, "big")) if at % 2 else tlv(60, b"v%02d" % at)
        found = trace(pair, message(DISCOVER, ALICE, said), ifindex=2, local=ip("10.1.0.1"))
        assert found.request["option_class"] == 128 + at


def test_64_rules_that_all_fit_cost_the_first_its_turn() -> None:
    every = [(f"c{at}", "os", (("vendor_class", ((b"PXEClient"[: 1 + at % 8], True),)),)) for at in range(64)]
    found = trace(pair_with(every), message(DISCOVER, ALICE, tlv(60, b"PXEClient")), ifindex=2, local=ip("10.1.0.1"))
    assert found.request["option_class"] == 128 and found.request["client_class"] is ClientClass.BIOS_PXE


def test_the_mac_that_is_compared_is_the_card_s() -> None:
    oui = int.from_bytes(mac_bytes(ALICE)[:3], "big") << 24
    pair = pair_with([("vendor", "os", (("mac", ((oui, oui + (1 << 24) - 1),)),))])
    assert trace(pair, message(DISCOVER, ALICE), ifindex=2, local=ip("10.1.0.1")).request["option_class"] == 128
