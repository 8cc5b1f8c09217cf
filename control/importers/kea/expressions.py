"""Kea's `test` expressions (its manual, "Using Expressions in Classification") -> functions of what a client sends."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from control.importers.conditions import (
    Data,
    NotKnown,
    Options,
    Test,
    both,
    changed,
    concat,
    either,
    equal,
    literal,
    matches,
    negated,
    option_data,
    part_data,
    present,
    site_text,
    substring,
    unknown,
)
from control.importers.kinds import ENCAPSULATED, SiteText
from control.importers.site import Unfit

DEPTH_MAX: Final = 60
_TOKEN: Final = re.compile(
    r"""\s*(?:
        '(?P<text>[^']*)'
      | 0[xX](?P<hex>[0-9a-fA-F]*)
      | (?P<address>\d{1,3}(?:\.\d{1,3}){3})
      | (?P<number>-?\d+)
      | (?P<word>[A-Za-z_][A-Za-z0-9_-]*)
      | (?P<mark>==|[()\[\].,+*])
      | (?P<end>\Z)
    )""",
    re.VERBOSE,
)


class Token(NamedTuple):
    kind: str
    text: str


class Said(NamedTuple):
    """code: it is that option as it is sent, or its beginning where is_prefix; fixed: octets that no client changes."""

    data: Data
    code: int | None = None
    is_prefix: bool = False
    fixed: bytes | None = None


class Expression:
    """members: classes above this one and their tests, those of Kea's own included."""

    def __init__(
        self, text: str, code_of: Callable[[str], int], members: Mapping[str, Test], texts: set[SiteText]
    ) -> None:
        self.code_of = code_of
        self.members = members
        self.texts = texts
        self.depth = 0
        self.tokens = list(_split(text))
        self.at = 0

    def test(self) -> Test:
        """The whole.  Raises Unfit."""
        found = self._or()
        if self.next.kind != "end":
            raise Unfit(f"found {self.next.text!r} behind the condition")
        return found

    @property
    def next(self) -> Token:
        return self.tokens[self.at]

    def take(self) -> Token:
        token = self.tokens[self.at]
        self.at = min(self.at + 1, len(self.tokens) - 1)
        return token

    def _or(self) -> Test:
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise Unfit(f"a condition {DEPTH_MAX} deep")
        found = self._and()
        while self._word("or"):
            found = either(found, self._and())
        self.depth -= 1
        return found

    def _and(self) -> Test:
        found = self._not()
        while self._word("and"):
            found = both(found, self._not())
        return found

    def _not(self) -> Test:
        turned = False
        while self._word("not"):
            turned = not turned
        found = self._simple()
        return negated(found) if turned else found

    def _simple(self) -> Test:
        if self._mark("("):
            found = self._or()
            self._want(")")
            return found
        if self._word("member"):
            self._want("(")
            name = self.take().text
            self._want(")")
            if name not in self.members:
                raise Unfit(f"a member of {name}, of which no test is known")
            return self.members[name]
        if self._word("match"):
            return self._match()
        left = self._data()
        if self.next == Token("word", "exists"):
            self.take()
            return present(left.data)
        self._want("==")
        right = self._data()
        for one, other in ((left, right), (right, left)):
            if one.code is not None and other.fixed is not None:
                found_text = site_text(one.code, other.fixed, one.is_prefix)
                self.texts.update([found_text] if found_text is not None else [])
        return equal(left.data, right.data)

    def _match(self) -> Test:
        """match('REGULAR EXPRESSION', DATA): of the whole."""
        self._want("(")
        pattern = self.take()
        self._want(",")
        of = self._data()
        self._want(")")
        if pattern.kind != "text":
            raise Unfit("a regular expression that is no text")
        return matches(of.data, f"^(?:{pattern.text})$", case_matters=True)

    # --- data --------------------------------------------------------------------------------------------------------

    def _data(self) -> Said:
        found = self._part()
        parts = [found]
        while self._mark("+"):
            parts.append(self._part())
        if len(parts) == 1:
            return found
        return _joined(parts)

    def _part(self) -> Said:
        token = self.take()
        if token.kind == "text":
            return _fixed(token.text.encode())
        if token.kind == "hex":
            digits = token.text if len(token.text) % 2 == 0 else f"0{token.text}"
            return _fixed(bytes.fromhex(digits))
        if token.kind == "address":
            octets = [int(word) for word in token.text.split(".")]
            if max(octets) > 255:
                raise Unfit(f"found {token.text}; wanted an address")
            return _fixed(bytes(octets))
        if token == Token("mark", "("):
            found = self._data()
            self._want(")")
            return found
        if token.kind == "word":
            return self._named(token.text)
        raise Unfit(f"found {token.text or 'its end'!r}; wanted data")

    def _named(self, word: str) -> Said:
        if word == "option":
            return self._option()
        if word in ("substring", "concat", "lcase", "ucase", "ifelse"):
            self._want("(")
            found: Said = getattr(self, f"_{word}")()
            self._want(")")
            return found
        self._skip()
        return Said(unknown(f"{word} of the request"))

    def _skip(self) -> None:
        """Of something that no kind of client decides: `pkt4.mac`, `relay4[1].hex`, `hexstring(...)`."""
        while self.next.kind == "mark" and self.next.text in (".", "(", "["):
            mark = self.take().text
            if mark == ".":
                self.take()
                continue
            depth = 1
            while depth:
                token = self.take()
                if token.kind == "end":
                    raise Unfit("parentheses that nothing closes")
                depth += (token.text in "([") - (token.text in ")]") if token.kind == "mark" else 0

    def _option(self) -> Said:
        code = self._index()
        parts = []
        while self._mark("."):
            word = self.take()
            if word == Token("word", "option"):
                parts.append(self._index())
            elif word.text in ("hex", "text"):
                break
            elif word.text == "exists":
                self.at -= 1
                break
            else:
                raise Unfit(f"found {word.text!r}; wanted hex, text or exists")
        if not parts:
            return Said(option_data(code), code)
        if code == ENCAPSULATED and len(parts) == 1:
            return Said(part_data(code, parts[0]))
        return Said(unknown(f"sub-options of option {code} of the request"))

    def _index(self) -> int:
        self._want("[")
        token = self.take()
        self._want("]")
        return int(token.text) if token.kind == "number" else self.code_of(token.text)

    def _substring(self) -> Said:
        of = self._data()
        self._want(",")
        start = int(self._number())
        self._want(",")
        length = None if self._word("all") else int(self._number())
        is_prefix = start == 0 and length is not None and of.code is not None and not of.is_prefix
        return Said(substring(of.data, start, length), of.code if is_prefix else None, is_prefix)

    def _concat(self) -> Said:
        one = self._data()
        self._want(",")
        return _joined([one, self._data()])

    def _lcase(self) -> Said:
        return Said(changed(self._data().data, bytes.lower))

    def _ucase(self) -> Said:
        return Said(changed(self._data().data, bytes.upper))

    def _ifelse(self) -> Said:
        test = self._or()
        self._want(",")
        one = self._data().data
        self._want(",")
        other = self._data().data

        def value(options: Options) -> bytes | None:
            return one(options) if test(options) else other(options)

        return Said(value)

    # --- words -------------------------------------------------------------------------------------------------------

    def _number(self) -> str:
        token = self.take()
        if token.kind != "number" or len(token.text) > 6:
            raise Unfit(f"found {token.text!r}; wanted a number")
        return token.text

    def _word(self, word: str) -> bool:
        if self.next == Token("word", word):
            self.take()
            return True
        return False

    def _mark(self, mark: str) -> bool:
        if self.next == Token("mark", mark):
            self.take()
            return True
        return False

    def _want(self, mark: str) -> None:
        if not self._mark(mark):
            raise Unfit(f"found {self.next.text or 'its end'!r}; wanted {mark}")


def _fixed(octets: bytes) -> Said:
    return Said(literal(octets), fixed=octets)


def _joined(parts: list[Said]) -> Said:
    fixed = [part.fixed for part in parts if part.fixed is not None]
    return Said(concat([part.data for part in parts]), fixed=b"".join(fixed) if len(fixed) == len(parts) else None)


def _split(text: str) -> list[Token]:
    found, at = [], 0
    while True:
        token = _TOKEN.match(text, at)
        if token is None:
            raise Unfit(f"found {text[at : at + 20]!r} in the condition")
        kind = token.lastgroup or ""
        found.append(Token(kind, token[kind]))
        if kind == "end":
            return found
        at = token.end()


def kea_s_own(name: str) -> Test | None:
    """Classes that Kea puts clients into by itself; None: it is none of them."""
    if name in ("ALL", "KNOWN"):
        return lambda _: True
    if name in ("UNKNOWN", "BOOTP"):
        return lambda _: False
    if name.startswith("VENDOR_CLASS_"):
        return equal(option_data(60), literal(name.removeprefix("VENDOR_CLASS_").encode()))
    if name.startswith(("HA_", "AFTER_", "EXTERNAL_", "SPAWN_", "SKIP_DDNS", "DROP")):

        def refuse(_: Options) -> bool:
            raise NotKnown(f"it depends on class {name}, which Kea sets by itself")

        return refuse
    return None
