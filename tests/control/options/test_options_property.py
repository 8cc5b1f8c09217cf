"""control/options/rendering.py under generated input: only OptionRejected comes out, and what goes out can be read
back."""

import contextlib
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.dns import dns_get_str

from control.options import rendering
from control.options.rendering import OptionRejected, Vocabulary, encode, render, tlv
from control.options.table import SUBOPTION_ROWS, option_by_code
from tests.control.options.test_options import option, parse

_codes = st.integers(1, 254)
_render_codes = _codes.filter(lambda code: code not in rendering.ENCODER_OWNED)
_payloads = st.dictionaries(_render_codes, st.binary(min_size=1, max_size=600), max_size=12)
_address_like = st.lists(st.ip_addresses(v=4).map(str), max_size=4).map(", ".join)
# Sub-options with a name or number that is right or nearly so, and a value that is a little of everything.
_sub_names = sorted({name for rows in SUBOPTION_ROWS.values() for _, _, names in rows for name in names.split()})
_sub_value = st.one_of(
    st.text(max_size=12), st.from_regex(r"(u8:|u16:|ip:|text:|0x)?[0-9a-f.\"' ]{0,12}", fullmatch=True), _address_like
)
_sub = st.builds("{}={}".format, st.one_of(st.sampled_from(_sub_names), st.integers(0, 256)), _sub_value)
_subs = st.lists(_sub, max_size=4).map(", ".join)
_text_like = st.one_of(
    _subs,
    st.builds("enterprise {}: {}".format, st.integers(0, 2**33), _subs),
    st.builds("{} {}".format, st.integers(0, 300), _address_like),
    st.text(max_size=40),
    _address_like,
    st.from_regex(r"(0x)?[0-9a-f]{1,2}([: -][0-9a-f]{1,2}){0,4}", fullmatch=True),
    st.from_regex(r"[0-9.]{1,9}/[0-9]{1,3} [0-9.]{1,9}", fullmatch=True),
    st.from_regex(r"[a-z-]{1,9}(\.[a-z-]{0,9}){0,3}", fullmatch=True),
)
# What JSON can hold, alone and in a list: an attribute's value is whatever somebody wrote into the inventory.
_one = st.one_of(_text_like, st.integers(), st.booleans(), st.none(), st.floats())
_values = st.one_of(
    _one, st.lists(st.one_of(_one, st.lists(_one, max_size=2), st.dictionaries(_one, _one)), max_size=4)
)


@pytest.mark.property
@settings(deadline=None)
@given(code=_codes, payload=st.binary(min_size=1, max_size=1400))
def test_tlv_round_trip(code: int, payload: bytes) -> None:
    wire = tlv(code, payload)
    assert parse(wire) == {code: payload}
    assert len(wire) == len(payload) + 2 * -(-len(payload) // 255)


@pytest.mark.property
@settings(deadline=None)
@given(payloads=_payloads, seed=st.integers(), order=st.permutations(rendering.PREFERRED_ORDER))
def test_render_round_trip_independent_of_insertion(
    payloads: dict[int, bytes], seed: int, order: Sequence[int]
) -> None:
    shuffled = list(payloads.items())
    random.Random(seed).shuffle(shuffled)
    assert render(dict(shuffled), order) == render(payloads, order)
    assert parse(render(payloads)) == payloads
    assert parse(render(payloads, order)) == payloads


@pytest.mark.property
@settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(code=_codes, values=_values)
def test_encode_gives_sendable_bytes_or_option_rejected(code: int, values: Any) -> None:
    target = option_by_code(code)
    try:
        payload = encode(target, values)
    except OptionRejected as rejected:
        assert str(rejected).startswith(f"dhcp option {target.name} ({code}): found ")
        return
    assert len(payload) <= rendering.MAX_PAYLOAD
    assert parse(tlv(code, payload)) == {code: payload}


@pytest.mark.property
@settings(max_examples=200, deadline=None)
@given(texts=st.dictionaries(_render_codes, st.lists(_text_like, min_size=1, max_size=3), max_size=30))
def test_what_is_encoded_walks_back_out_of_the_blob(texts: dict[int, list[str]]) -> None:
    payloads = {}
    for code, values in texts.items():
        with contextlib.suppress(OptionRejected):
            payloads[code] = encode(option_by_code(code), values)
    assert parse(render(payloads)) == payloads


@pytest.mark.property
@settings(max_examples=100, deadline=None)
@given(subkey=st.text(max_size=60))
def test_find_and_nearest_never_fail(subkey: str) -> None:
    vocabulary = Vocabulary({"66": "tftp_server", "240": "rack_colour"})
    found = vocabulary.find(subkey)
    assert found is None or 1 <= found.code <= 254
    near = vocabulary.nearest(subkey)
    assert near is None or vocabulary.find(near) is not None


@pytest.mark.property
@settings(deadline=None)
@given(number=st.integers(0, 65535), addresses=st.lists(st.ip_addresses(v=4), min_size=1, max_size=50))
def test_text_and_several_attributes_mean_the_same(number: int, addresses: list[Any]) -> None:
    boot_size = option("boot-size")
    assert encode(boot_size, [number]) == encode(boot_size, [str(number)]) == number.to_bytes(2, "big")
    router, texts = option("router"), [str(address) for address in addresses]
    assert encode(router, texts) == encode(router, [", ".join(texts)]) == b"".join(a.packed for a in addresses)


_label = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True)
_tails = st.sampled_from(["example.org", "rack.example.org", "org", "b"])
_names = st.lists(st.one_of(_tails, st.builds("{}.{}".format, _label, _tails), _label), min_size=1, max_size=30)


def search_list(payload: bytes) -> list[str]:
    """RFC 3397 section 2 read plainly: labels, pointers into what came before, until the payload ends."""
    names, at = [], 0
    while at < len(payload):
        labels: list[str] = []
        here, jumped = at, False
        while payload[here]:
            if payload[here] >= 0xC0:
                target = int.from_bytes(payload[here : here + 2], "big") & 0x3FFF
                assert target < here, "a pointer leads backwards"
                if not jumped:
                    at, jumped = here + 2, True
                here = target
                continue
            labels.append(payload[here + 1 : here + 1 + payload[here]].decode())
            here += 1 + payload[here]
        names.append(".".join(labels))
        at = at if jumped else here + 1
    return names


@pytest.mark.property
@settings(max_examples=300, deadline=None)
@given(names=_names)
def test_search_lists_are_read_back_by_us_and_by_scapy_and_never_longer_for_it(names: list[str]) -> None:
    payload = encode(option("domain-search"), names)
    assert search_list(payload) == names
    rest, theirs = payload, []
    while rest:
        name, rest = dns_get_str(rest, full=payload)
        theirs.append(name.decode().removesuffix("."))
    assert theirs == names
    plain = sum(len(name) + 2 for name in names)
    assert len(payload) <= plain
    repeated = len({name.rpartition(".")[2] for name in names}) < len(names)
    assert (len(payload) < plain) == repeated, "whenever two names end alike it is shorter"


@pytest.mark.property
@settings(max_examples=300, deadline=None)
@given(values=st.dictionaries(st.integers(1, 254), st.binary(max_size=20), min_size=1, max_size=8))
def test_suboptions_by_number_and_bytes_are_a_plain_list(values: dict[int, bytes]) -> None:
    text = ", ".join(f"{code}=0x{data.hex()}" for code, data in values.items())
    want = b"".join(bytes([code, len(data)]) + data for code, data in values.items())
    assert encode(option("ipxe"), [text]) == encode(option("vendor_specific"), [text]) == want
    assert encode(option("vivso"), [f"enterprise 9: {text}"]) == bytes([0, 0, 0, 9, len(want)]) + want


@pytest.mark.property
@settings(max_examples=300, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="'"), min_size=1, max_size=60))
def test_any_text_goes_through_quotation_marks(text: str) -> None:
    data = text.encode()
    assert encode(option("ipxe"), [f"scriptlet='{text}', 8=1"]) == bytes([81, len(data)]) + data + b"\x08\x01\x01"
