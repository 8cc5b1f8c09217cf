"""The order of a Python 2 set of names, in which the original answers get_from_pools; queries.py sorts by it.

CLUSTO-HTTPD 6 calls it no order; but it is the same at every call, and recordings compare by it (108, 109).
"""

from collections.abc import Iterable
from typing import Final

_MULTIPLIER: Final = 1_000_003
_WORD: Final = 2**64 - 1


def in_set_order(names: Iterable[str]) -> list[str]:
    """By slot in the set's table; names that share one keep the order of their hashes."""
    hashes = {name: _hash(name) for name in names}
    mask = _slots(len(hashes)) - 1
    return sorted(hashes, key=lambda name: (hashes[name] & mask, hashes[name]))


def _hash(name: str) -> int:
    """Python 2's hash of a text, on a machine of 64 bits without -R."""
    if not name:
        return 0
    value = ord(name[0]) << 7
    for letter in name:
        value = ((value * _MULTIPLIER) ^ ord(letter)) & _WORD
    return value ^ len(name)


def _slots(count: int) -> int:
    """A set has 8 slots and grows to four times what it holds when two thirds are taken."""
    slots, held = 8, 0
    while count * 3 >= slots * 2:
        held = -(-slots * 2 // 3)
        while slots <= held * 4:
            slots *= 2
    return slots
