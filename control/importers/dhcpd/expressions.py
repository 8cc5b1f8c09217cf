"""dhcp-eval(5): conditions and data expressions, read into functions of what a client sends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from control.importers.conditions import (
    Data,
    Test,
    always,
    both,
    changed,
    concat,
    either,
    equal,
    first_of,
    literal,
    matches,
    negated,
    option_data,
    part_data,
    present,
    site_text,
    substring,
    suffix,
    unknown,
)
from control.importers.dhcpd.tokens import Token, Words
from control.importers.kinds import ENCAPSULATED, SiteText
from control.importers.site import Unfit
from control.importers.values import by_name, octets_of

DEPTH_MAX: Final = 60
# Options of whose value nothing is in the table of names as dhcpd has them.
_NAMES: Final = {
    "user-class": 77, "vendor-class-identifier": 60, "dhcp-client-identifier": 61, "pxe-system-type": 93,
    "dhcp-parameter-request-list": 55, "dhcp-message-type": 53, "host-name": 12, "pxe-client-id": 97,
    "pxe-interface-id": 94,
}  # fmt: skip
_NOT_THEIRS: Final = (
    "hardware", "client-id", "leased-address", "lease-time", "client-state", "config-option", "host-decl-name",
    "packet", "encode-int", "extract-int", "reverse", "v6relay", "gethostname", "filename", "server-name",
    "binary-to-ascii",
)  # fmt: skip


class Reader:
    """spaces: names of option spaces -> the option that carries each; codes: options defined in the file, by name."""

    def __init__(self, words: Words, codes: Mapping[str, int], spaces: Mapping[str, int], texts: set[SiteText]) -> None:
        self.words = words
        self.codes = codes
        self.spaces = spaces
        self.texts = texts  # what a class of the site would be needed for
        self.depth = 0

    # --- conditions --------------------------------------------------------------------------------------------------

    def condition(self) -> Test:
        """Raises Unfit."""
        self.deeper()
        test = self._and()
        while self.word("or"):
            test = either(test, self._and())
        self.depth -= 1
        return test

    def _and(self) -> Test:
        test = self._not()
        while self.word("and"):
            test = both(test, self._not())
        return test

    def _not(self) -> Test:
        self.deeper()
        try:
            if self.word("not") or self.words.take_if("!"):
                return negated(self._not())
            if self.words.take_if("("):
                return self._in_parentheses()
            return self._simple()
        finally:
            self.depth -= 1

    def _in_parentheses(self) -> Test:
        test = self.condition()
        self.mark(")")
        return test

    def _simple(self) -> Test:
        if self.word("exists"):
            return present(self._option())
        if self.word("known") or self.word("static"):
            return always(True)  # every host of a host file is
        for word in ("check", "lease-time"):
            if self.word(word):
                raise Unfit(f"a condition on {word}")
        left = self._data()
        return self._comparison(left)

    def _comparison(self, left: Said) -> Test:
        token = self.words.take()
        if token.kind != "mark" or token.text not in ("=", "!=", "~=", "~~"):
            raise Unfit(f"a condition that goes on with {token.text!r}; wanted a comparison")
        right = self._data()
        if token.text in ("~=", "~~"):
            if right.fixed is None:
                raise Unfit("a regular expression that is no text")
            pattern = right.fixed.decode("latin-1")
            return matches(left.data, pattern, case_matters=token.text == "~=")
        for one, other in ((left, right), (right, left)):
            if one.code is not None and other.fixed is not None:
                found = site_text(one.code, other.fixed, one.is_prefix)
                if found is not None:
                    self.texts.add(found)
        test = equal(left.data, right.data)
        return negated(test) if token.text == "!=" else test

    # --- data --------------------------------------------------------------------------------------------------------

    def data(self) -> Said:
        """Raises Unfit."""
        return self._data()

    def _data(self) -> Said:
        self.deeper()
        try:
            return self._data_of(self.words.take())
        finally:
            self.depth -= 1

    def _data_of(self, token: Token) -> Said:
        if token.kind == "text":
            octets = token.text.encode("latin-1" if max(token.text, default="") < "\u0100" else "utf-8")
            return Said(literal(octets), fixed=octets)
        if token.kind != "word":
            raise Unfit(f"an expression that begins with {token.text!r}")
        word = token.text.lower()
        if word == "option":
            return self._named_option()
        read = getattr(self, f"_read_{word.replace('-', '_')}", None)
        if read is not None and self.words.is_mark("("):
            self.words.take()
            found: Said = read()
            self.mark(")")
            return found
        if word in _NOT_THEIRS or (self.words.is_mark("(") and word):
            self._skip_parentheses()
            return Said(unknown(f"{word} of the request"))
        known = octets_of(word) if ":" in word or len(word) <= 2 else None
        if known is None:
            return Said(unknown(f"{word!r}"))
        return Said(literal(known), fixed=known)

    def _skip_parentheses(self) -> None:
        depth = 0
        while self.words.is_mark("(") or depth:
            token = self.words.take()
            if token.kind == "end" or (token.kind == "mark" and token.text in "{};"):
                raise Unfit("parentheses that nothing closes")
            depth += (token.text == "(") - (token.text == ")") if token.kind == "mark" else 0
            if not depth:
                return

    def _named_option(self) -> Said:
        name = self._name()
        data, code = self._of(name)
        return Said(data, code=code)

    def _option(self) -> Data:
        self.word("option")
        return self._of(self._name())[0]

    def _of(self, name: str) -> tuple[Data, int | None]:
        space, dot, part = name.rpartition(".")
        if dot and space not in ("dhcp", ""):
            carrier = self.spaces.get(space)
            code = self.codes.get(name)
            if carrier == ENCAPSULATED and code is not None:
                return part_data(ENCAPSULATED, code), None
            if space == "agent":
                return option_data(82), None
            raise Unfit(f"option {name}")
        known = by_name(part)
        code = self.codes.get(part) or _NAMES.get(part) or (known.code if known is not None else None)
        if code is None:
            raise Unfit(f"option {name} that is defined nowhere")
        return option_data(code), code

    def _read_substring(self) -> Said:
        of = self._data()
        self.mark(",")
        start = self._number()
        self.mark(",")
        length = self._number()
        is_prefix = start == 0 and of.code is not None and not of.is_prefix
        fixed = of.fixed[start : start + length] if of.fixed is not None else None
        return Said(substring(of.data, start, length), of.code if is_prefix else None, is_prefix, fixed)

    def _read_suffix(self) -> Said:
        of = self._data()
        self.mark(",")
        return Said(suffix(of.data, self._number()))

    def _read_concat(self) -> Said:
        parts = self._list()
        fixed = b"".join(each.fixed for each in parts if each.fixed is not None)
        whole = all(each.fixed is not None for each in parts)
        return Said(concat([each.data for each in parts]), fixed=fixed if whole else None)

    def _read_pick_first_value(self) -> Said:
        return Said(first_of([each.data for each in self._list()]))

    def _read_lcase(self) -> Said:
        return self._changed(bytes.lower)

    def _read_ucase(self) -> Said:
        return self._changed(bytes.upper)

    def _changed(self, how: object) -> Said:
        of = self._data()
        assert how in (bytes.lower, bytes.upper)
        change = bytes.lower if how is bytes.lower else bytes.upper
        return Said(changed(of.data, change), fixed=None if of.fixed is None else change(of.fixed))

    def _list(self) -> list[Said]:
        found = [self._data()]
        while self.words.take_if(","):
            found.append(self._data())
        return found

    # --- words -------------------------------------------------------------------------------------------------------

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise Unfit(f"an expression {DEPTH_MAX} deep")

    def word(self, wanted: str) -> bool:
        if self.words.next.kind == "word" and self.words.next.text.lower() == wanted:
            self.words.take()
            return True
        return False

    def mark(self, wanted: str) -> None:
        token = self.words.next
        if not self.words.take_if(wanted):
            raise Unfit(f"found {token.text!r}; wanted {wanted}")

    def _name(self) -> str:
        token = self.words.take()
        if token.kind != "word":
            raise Unfit(f"found {token.text!r}; wanted an option's name")
        return token.text.lower()

    def _number(self) -> int:
        token = self.words.take()
        if token.kind != "word" or not token.text.lstrip("-").isdecimal() or len(token.text) > 6:
            raise Unfit(f"found {token.text!r}; wanted a number")
        return int(token.text)


class Said:
    """A data expression.  code: it is that option as the client sends it, or its beginning where is_prefix.  fixed: its
    octets, where no client matters."""

    __slots__ = ("code", "data", "fixed", "is_prefix")

    def __init__(
        self, data: Data, code: int | None = None, is_prefix: bool = False, fixed: bytes | None = None
    ) -> None:
        self.data = data
        self.code = code
        self.is_prefix = is_prefix
        self.fixed = fixed
