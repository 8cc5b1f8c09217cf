"""What is wrong with an object of the inventory: a sentence that knows its kind.  Pure.

The kinds are words for programs, and for `ctl faults --kind`; a sentence gets its kind where it arises.
"""

from __future__ import annotations

from typing import Final

OTHER: Final = "other"
KINDS: Final = {
    "unknown-option": "a `dhcp` attribute that is no option",
    "bad-value": "a value that cannot be sent, or is neither on nor off",
    "in-vain": "a value for a class that reaches nobody",
    "tie": "two containers on one level say different things of one option; the first by name counts",
    "bad-mac": "a MAC that is none of a single card, or several where one is wanted",
    "bad-address": "an address that no host can have, or whose text and number differ",
    "gateway-address": "an address that is the gateway's",
    "no-network": "an address in no network, in several, or outside the one that its record names",
    "second-address": "a further address in a network where the host has one already",
    "bad-network": "an IP manager that says nothing usable about a network",
    "conflict": "a MAC or an address of two objects",
    "too-large": "more options or addresses than a table takes",
    "bad-row": "a row of a host file that cannot be taken",
    "twice": "a row of a host file whose object has a row already",
    "unknown-container": "a container that a row names and that has no row",
    "unread": "what cannot be read, or depends on what cannot",
    "flips": "a host that changes to and fro with every refresh",
    OTHER: "anything else",
}


class Reason(str):
    """kind: of KINDS.  about: the `dhcp` subkey in question, if there is one.  line: of the file; 0: not known."""

    __slots__ = ("about", "kind", "line")

    def __new__(cls, text: str, kind: str = OTHER, about: str = "", line: int = 0) -> Reason:
        made = super().__new__(cls, text)
        made.kind, made.about, made.line = kind, about, line
        return made

    kind: str
    about: str
    line: int


def reason_of(text: str, kind: str = OTHER, about: str = "") -> Reason:
    """Of a sentence that may know its kind already."""
    return text if isinstance(text, Reason) else Reason(text, kind, about)


def clipped(text: str, most: int) -> str:
    """A conflict of ten thousand objects names them all, and each of them has that reason."""
    return text if len(text) <= most else f"{text[: most - 40]}... ({len(text)} characters)"
