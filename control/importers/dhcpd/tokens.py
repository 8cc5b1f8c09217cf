"""The words of dhcpd.conf, one by one, with their lines: names, quoted strings, punctuation.  Pure.

A comment begins at a # outside of quotation marks.  A string may hold \\n, \\t, \\r, \\b, octal \\ooo and \\xhh.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

# Blanks and comments, then one token, or the end.
_TOKEN: Final = re.compile(
    r"""(?:\s++|\#[^\n]*+)*+
      (?: (?P<word>[^\s\#"{};,()=!~\\?+/*%&|^<>]++)
        | (?P<mark>[{};,()=] | != | ~= | ~~)
        | "(?P<text>(?:[^"\\]++|\\.)*+)"
        | (?P<other>[^\s\#])
        | \Z
      )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE: Final = re.compile(r"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_NAMED: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b"}
TELL_EVERY: Final = 1 << 16
END: Final = "end of file"


class Token(NamedTuple):
    """kind: "word", "text" (a quoted string, without its marks), "mark", "end"."""

    kind: str
    text: str
    line: int


def tokens(text: str, heard: Callable[[int], None] = lambda _: None) -> Iterator[Token]:
    """Ends with a token "end".  A quotation mark that nothing closes is a mark of its own."""
    line, told, at = 1, 0, 0
    match, count, made = _TOKEN.match, text.count, tuple.__new__  # a NamedTuple's own way takes twice as long
    while True:
        found = match(text, at)
        assert found is not None, "what is no token is another character, or the end"
        kind = found.lastgroup
        if kind is None:
            yield Token("end", END, line + count("\n", at))
            return
        begin, end = found.span(kind)
        if begin > at:
            line += count("\n", at, begin)
        at = found.end()
        if kind == "text":
            said = text[begin:end]
            yield Token("text", _unescaped(said) if "\\" in said else said, line)
            line += said.count("\n")
        else:
            yield made(Token, ("word" if kind == "word" else "mark", text[begin:end], line))
        if at - told >= TELL_EVERY:
            told = at
            heard(at)


def _unescaped(text: str) -> str:
    def one(found: re.Match[str]) -> str:
        said = found[1]
        if said[0] == "x" and len(said) > 1:
            return chr(int(said[1:], 16))
        if said[0] in "01234567":
            return chr(int(said, 8) & 0xFF)
        return _NAMED.get(said, said)

    return _ESCAPE.sub(one, text)


class Words:
    """Tokens with one to look at before it is taken."""

    def __init__(self, text: str, file: str, heard: Callable[[int], None] = lambda _: None) -> None:
        self.file = file
        self._rest = tokens(text, heard)
        self.next = next(self._rest)

    def take(self) -> Token:
        """The next one; at the end that of the end, again and again."""
        token = self.next
        if token.kind != "end":
            self.next = next(self._rest)
        return token

    def take_if(self, *marks: str) -> bool:
        if self.next.kind == "mark" and self.next.text in marks:
            self.take()
            return True
        return False

    def is_mark(self, *marks: str) -> bool:
        return self.next.kind == "mark" and self.next.text in marks

    def at_end(self) -> bool:
        return self.next.kind == "end"

    def rest_of_statement(self) -> list[Token]:
        """Up to its `;`, which is taken; up to a brace, which is not."""
        found: list[Token] = []
        token, rest = self.next, self._rest
        while token.kind != "end":
            if token.kind == "mark":
                if token.text == ";":
                    token = next(rest)
                    break
                if token.text in "{}":
                    break
            found.append(token)
            token = next(rest)
        self.next = token
        return found

    def skip_statement(self) -> None:
        """To the end of one that nobody understands: past its `;`, or past its block."""
        self.rest_of_statement()
        if self.is_mark("{"):
            self.skip_block()

    def skip_block(self) -> None:
        """From its { to the } that closes it."""
        depth = 0
        while not self.at_end():
            token = self.take()
            if token.kind == "mark":
                depth += (token.text == "{") - (token.text == "}")
                if depth <= 0 and token.text in "{}":
                    return


def said(tokens: list[Token]) -> str:
    """As it may be shown in a note."""
    return " ".join(f'"{token.text}"' if token.kind == "text" else token.text for token in tokens[:60])
