"""overload.pxd: requests that their clients have given up, and the shares of relays that want more than there is."""

import pytest
from ext.codec import fair_share
from ext.verdict import Verdict
from hypothesis import given
from hypothesis import strategies as st

from tests.ext.packets import discover, request, tlv
from tests.ext.sites import ALICE, STRANGER, ask, one_host

NO_LIMIT = 0xFFFFFFFF
MS = 1_000_000
PXE = tlv(60, b"PXEClient:Arch:00007:UNDI:003016")
IPXE = PXE + tlv(77, b"iPXE")


@pytest.mark.parametrize(
    "packet, patience_ms",
    [
        pytest.param(discover(ALICE, options=IPXE), 900, id="ipxe-discover-asks-again-after-1s"),
        pytest.param(request(ALICE, requested="10.1.0.50", options=IPXE), 225, id="ipxe-request-after-250ms"),
        pytest.param(discover(ALICE, options=PXE), 3200, id="rom-after-3.6s"),
        pytest.param(request(ALICE, requested="10.1.0.50", options=PXE), 3200, id="rom-request"),
        pytest.param(discover(ALICE), 1800, id="system-after-2s"),
    ],
)
def test_late_is_what_the_client_has_given_up(packet: bytes, patience_ms: int) -> None:
    pair = one_host()
    assert ask(pair, packet, waited_ns=0).verdict <= Verdict.ACKED
    assert ask(pair, packet, waited_ns=patience_ms * MS).verdict <= Verdict.ACKED
    assert ask(pair, packet, waited_ns=patience_ms * MS + 1).verdict == Verdict.IGNORED_LATE


def test_late_strangers_are_not_even_looked_up() -> None:
    assert ask(one_host(), discover(STRANGER), waited_ns=10_000 * MS).verdict == Verdict.IGNORED_LATE


@pytest.mark.parametrize(
    "wanted, capacity, level",
    [
        ([], 100, NO_LIMIT),
        ([10, 20], 100, NO_LIMIT),
        ([50, 50], 100, NO_LIMIT),
        ([1000, 20], 100, 80),
        ([1000, 1000], 100, 50),
        ([1000, 1000, 10], 100, 45),
        ([1000, 40, 40, 40], 100, 25),
        ([1000] * 200, 100, 1),
    ],
)
def test_fair_share(wanted: list[int], capacity: int, level: int) -> None:
    assert fair_share(wanted, capacity) == level


@pytest.mark.property
@given(st.lists(st.integers(0, 100_000), max_size=256), st.integers(256, 1_000_000))
def test_a_share_is_max_min_fair(wanted: list[int], capacity: int) -> None:
    """Nobody gets more than there is; what is left over is less than one more for each that wants more."""
    level = fair_share(wanted, capacity)
    given_away = sum(min(want, level) for want in wanted)
    unsatisfied = [want for want in wanted if want > level]
    assert given_away <= capacity
    if unsatisfied:
        assert capacity - given_away < len(unsatisfied)
    else:
        assert sum(wanted) <= capacity or level == max(wanted)
