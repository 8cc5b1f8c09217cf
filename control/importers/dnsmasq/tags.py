"""Tags: which a kind of client sets, and which of the options and boot files with tags count for a set of them.

As dnsmasq decides (dnsmasq(8), --dhcp-option): what has tags of the client or its host counts before what has the
network's tag, and that before what has none; of equals the later line.  Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from control.importers.conditions import Options, Test, option_data, present
from control.importers.kinds import ARCHITECTURE, USER_CLASS, VENDOR_CLASS, Kind, SiteText, Value
from control.importers.site import Place, Unfit
from control.importers.values import octets_of

KNOWN: Final = "known"  # set for every host that has a line
Tags = frozenset[str]


@dataclass(slots=True)
class Tagged:
    """Something that counts where all its tags are set.  option: our name of it; value None: nothing is sent, not even
    what dnsmasq would send by itself; part: of a sub-option, its number, and then value is hex.

    vendor: only to who has this in option 60."""

    place: Place
    tags: tuple[str, ...]
    option: str
    value: Value | None
    part: int | None = None
    vendor: bytes | None = None


@dataclass(slots=True)
class Setter:
    """A tag that clients set who pass a test."""

    tag: str
    test: Test


@dataclass(slots=True)
class TagIf:
    sets: tuple[str, ...]
    wants: tuple[str, ...]


@dataclass(slots=True)
class TagRules:
    setters: list[Setter] = field(default_factory=list)
    ifs: list[TagIf] = field(default_factory=list)

    def of_kind(self, kind: Kind) -> set[str]:
        found = {KNOWN}
        for setter in self.setters:
            if setter.test(kind.options):
                found.add(setter.tag)
        return found

    def completed(self, tags: Iterable[str]) -> Tags:
        """With what --tag-if adds."""
        found = set(tags)
        for rule in self.ifs:
            if matches(rule.wants, found):
                found.update(rule.sets)
        return frozenset(found)


def matches(wanted: Iterable[str], tags: Iterable[str]) -> bool:
    """Every one that is wanted is set, and none that is wanted with a `!`."""
    tags = set(tags)
    for tag in wanted:
        name = tag.removeprefix("!")
        there = any(fnmatchcase(each, name) for each in tags) if name.endswith("*") else name in tags
        if there == tag.startswith("!"):
            return False
    return True


def chosen(
    items: Sequence[Tagged], own: Tags, everything: Tags, key: Callable[[Tagged], object]
) -> dict[object, Tagged]:
    """Of each key the one that counts.  own: without the network's tag; everything: with it."""
    found: dict[object, tuple[int, Tagged]] = {}
    for item in items:
        if item.tags and matches(item.tags, own):
            rank = 2
        elif item.tags and matches(item.tags, everything):
            rank = 1
        elif not item.tags:
            rank = 0
        else:
            continue
        before = found.get(key(item))
        if before is None or rank >= before[0]:
            found[key(item)] = (rank, item)
    return {each: item for each, (_rank, item) in found.items()}


# --- what sets a tag --------------------------------------------------------------------------------------------------


def contains(code: int, text: bytes) -> Test:
    """--dhcp-vendorclass and --dhcp-userclass look for the text anywhere in the option."""
    data = option_data(code)

    def test(options: Options) -> bool:
        found = data(options)
        return found is not None and text in found

    return test


def matching(code: int, value: str | None) -> Test:
    """--dhcp-match.  Raises Unfit."""
    data = option_data(code)
    if value is None:
        return present(data)
    if code == ARCHITECTURE:
        if not value.isdecimal() or int(value) > 0xFFFF:
            raise Unfit(f"found {value}; wanted an architecture's number")
        wanted = int(value).to_bytes(2, "big")

        def is_architecture(options: Options) -> bool:
            found = data(options) or b""
            return any(found[at : at + 2] == wanted for at in range(0, len(found), 2))

        return is_architecture
    words = value.split(":")
    octets = [octets_of(word) if word != "*" else None for word in words]
    if len(words) > 1 and all(word == "*" or octet is not None for word, octet in zip(words, octets, strict=True)):

        def fits(options: Options) -> bool:
            found = data(options) or b""
            return len(found) >= len(octets) and all(
                octet is None or octet == found[at : at + 1] for at, octet in enumerate(octets)
            )

        return fits
    return contains(code, value.encode())


def text_for_class(code: int, value: str | None) -> SiteText | None:
    """What a class of the site would have to match; None: none is needed or possible."""
    fields = {VENDOR_CLASS: "vendor_class", USER_CLASS: "user_class"}
    if code not in fields or not value:
        return None
    text = value.encode()
    usual = (b"PXEClient", b"HTTPClient", b"iPXE", b"gPXE")
    if len(text) > 64 or any(text in each or each in text for each in usual) or value.startswith("PXE"):
        return None
    return SiteText(fields[code], text, True)
