"""When a machine's ACKs are a boot loop."""

import pytest
from ext.codec import loop_rounds


@pytest.mark.parametrize(
    "apart_s, rounds, told",
    [
        pytest.param(2, 3, [], id="three-stages-of-one-boot"),
        pytest.param(10, 16, [3, 9, 15], id="told-once-a-minute"),
        pytest.param(45, 4, [3], id="slow-UEFI"),
        pytest.param(60, 4, [3], id="a-minute"),
        pytest.param(61, 9, [], id="slower-is-work"),
    ],
)
def test_rounds(apart_s: int, rounds: int, told: list[int]) -> None:
    assert loop_rounds([(1000 + apart_s * number, number + 1) for number in range(rounds)]) == told


def test_a_repeated_request_is_no_round() -> None:
    assert loop_rounds([(1000 + number, 7) for number in range(20)]) == []


def test_a_transaction_id_of_zero_is_as_good_as_any() -> None:
    assert loop_rounds([(1000, 0), (1002, 1), (1004, 0), (1006, 1)]) == [3]


def test_a_pause_ends_a_loop() -> None:
    assert loop_rounds([(1000, 1), (1010, 2), (1020, 3), (1081, 4), (1090, 5), (1100, 6), (1110, 7)]) == [6]
