"""Conditions on what a client sends, as functions; the readers of dhcpd's and Kea's languages put them together.

A Data gives octets, or None where the client does not send what is asked for; a Test is true or false.  Either raises
NotKnown for what a kind of client does not decide (its hardware address, its relay).  Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from control.importers.kinds import ENCAPSULATED, USER_CLASS, VENDOR_CLASS, SiteText, options_of
from control.importers.site import Unfit

Options = Mapping[int, bytes]
Data = Callable[[Options], bytes | None]
Test = Callable[[Options], bool]
KNOWN_ABOUT = frozenset({53, 54, 55, VENDOR_CLASS, 61, USER_CLASS, 82, 93, 94, 97, 118, ENCAPSULATED})
_DECIDED = frozenset({VENDOR_CLASS, USER_CLASS, 93, ENCAPSULATED})
_FIELD = {VENDOR_CLASS: "vendor_class", USER_CLASS: "user_class"}
_ROM = re.compile(rb"((?:PXE|HTTP)Client:Arch:\d{5}):UNDI:\d{6}$")
_OURS = (b"PXEClient", b"HTTPClient", b"iPXE", b"gPXE")


class NotKnown(Unfit):
    """What is asked for is no matter of the kind of client."""


def option_data(code: int) -> Data:
    def value(options: Options) -> bytes | None:
        if code in KNOWN_ABOUT and code not in _DECIDED:
            raise NotKnown(f"it depends on option {code} of the request")
        return options.get(code)

    return value


def part_data(code: int, part: int) -> Data:
    """A sub-option of 175; others are nobody's."""
    whole = option_data(code)

    def value(options: Options) -> bytes | None:
        payload = whole(options)
        return None if payload is None else options_of(payload).get(part)

    return value


def literal(data: bytes) -> Data:
    return lambda _: data


def unknown(what: str) -> Data:
    def value(_: Options) -> bytes | None:
        raise NotKnown(f"it depends on {what}")

    return value


def substring(of: Data, start: int, length: int | None) -> Data:
    """start below 0: from the end."""

    def value(options: Options) -> bytes | None:
        whole = of(options)
        if whole is None:
            return None
        first = max(len(whole) + start, 0) if start < 0 else start
        return whole[first:] if length is None else whole[first : first + length]

    return value


def suffix(of: Data, length: int) -> Data:
    def value(options: Options) -> bytes | None:
        whole = of(options)
        return None if whole is None else whole[-length:] if length else b""

    return value


def concat(parts: list[Data]) -> Data:
    def value(options: Options) -> bytes | None:
        found = [part(options) for part in parts]
        return b"".join(each for each in found if each is not None)

    return value


def changed(of: Data, how: Callable[[bytes], bytes]) -> Data:
    def value(options: Options) -> bytes | None:
        whole = of(options)
        return None if whole is None else how(whole)

    return value


def first_of(parts: list[Data]) -> Data:
    def value(options: Options) -> bytes | None:
        return next((found for part in parts if (found := part(options)) is not None), None)

    return value


def equal(one: Data, other: Data) -> Test:
    """Nothing equals what is not sent.  The version of a ROM's UNDI is none of our kinds': any counts as the same."""

    def test(options: Options) -> bool:
        left, right = one(options), other(options)
        if left is None or right is None or left == right:
            return left is not None and left == right
        return _ROM.match(left) is not None and _ROM.sub(rb"\1", left) == _ROM.sub(rb"\1", right)

    return test


def matches(data: Data, pattern: str, case_matters: bool) -> Test:
    """Raises Unfit for no regular expression."""
    try:
        compiled = re.compile(pattern.encode("latin-1", "replace"), 0 if case_matters else re.IGNORECASE)
    except re.error as error:
        raise Unfit(f"the regular expression {pattern!r}: {error}") from error

    def test(options: Options) -> bool:
        found = data(options)
        return found is not None and compiled.search(found[:1024]) is not None

    return test


def present(data: Data) -> Test:
    return lambda options: data(options) is not None


def always(answer: bool) -> Test:
    return lambda _: answer


def negated(test: Test) -> Test:
    return lambda options: not test(options)


def both(one: Test, other: Test) -> Test:
    return lambda options: one(options) and other(options)


def either(one: Test, other: Test) -> Test:
    return lambda options: one(options) or other(options)


def site_text(code: int, text: bytes, is_prefix: bool) -> SiteText | None:
    """What a comparison of an option with a text needs a class of the site for; None: nothing, or none that helps."""
    if code not in _FIELD or not text or len(text) > 64 or any(text.startswith(each[: len(text)]) for each in _OURS):
        return None
    return SiteText(_FIELD[code], text, is_prefix)
