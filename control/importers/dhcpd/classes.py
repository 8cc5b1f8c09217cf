"""Classes and subclasses of dhcpd.conf: which kinds of clients are in them, and what those are told.  Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from control.importers.conditions import Data, Test, equal, literal, site_text
from control.importers.dhcpd.expressions import Said
from control.importers.dhcpd.scopes import Scope
from control.importers.dhcpd.tokens import Token, Words, said
from control.importers.site import Place, Unfit

if TYPE_CHECKING:
    from control.importers.dhcpd.reader import Reader


@dataclass(slots=True)
class DeclaredClass:
    """test: of `match if`; key: of `match EXPRESSION`, which its subclasses give values of.  why: neither is known."""

    scope: Scope
    test: Test | None = None
    key: Said | None = None
    why: str = "nothing says what is in it"
    members: list[tuple[Test, Scope]] = field(default_factory=list)


def read_class(reader: Reader, words: Words, scope: Scope, first: Token) -> None:
    """Behind the word `class`."""
    name = words.take().text
    inner = Scope("class", name, Place(words.file, first.line), scope, group=scope.group)
    found = reader.classes.setdefault(name, DeclaredClass(inner))
    if not words.take_if("{"):
        raise Unfit(f"found {words.next.text!r}; wanted a block in braces")
    while not words.is_mark("}"):
        if words.at_end():
            reader.notes.lost(inner.place, f"class {name}", "nothing closes this brace")
            return
        word = words.next.text.lower() if words.next.kind == "word" else ""
        if word == "match":
            _match(reader, words, found, words.take())
        else:
            reader.statement(words, found.scope, reader.depth + 1)
    words.take()


def _match(reader: Reader, words: Words, found: DeclaredClass, first: Token) -> None:
    place = Place(words.file, first.line)
    expressions = reader.expressions(words)
    try:
        if expressions.word("if"):
            found.test = expressions.condition()
        else:
            found.key = expressions.data()
        rest = words.rest_of_statement()
        if rest:
            raise Unfit(f"found {said(rest)!r} behind the condition")
    except Unfit as unfit:
        found.test, found.key, found.why = None, None, str(unfit)
        words.rest_of_statement()
        reader.notes.lost(place, "match", f"{unfit}, so class {found.scope.name} has no members")


def read_subclass(reader: Reader, words: Words, scope: Scope, first: Token) -> None:
    """`subclass "NAME" VALUE;`, or with a block instead of the `;`."""
    name = words.take().text
    of = reader.classes.get(name)
    place = Place(words.file, first.line)
    if of is None:
        raise Unfit(f"class {name} is declared nowhere above")
    value = reader.expressions(words).data()
    if value.fixed is None:
        raise Unfit("a value that no text or octets are")
    inner = Scope("class", name, place, of.scope.parent, group=scope.group)
    if words.is_mark("{"):
        reader.block(words, inner, reader.depth)
    else:
        words.rest_of_statement()
    if of.key is None:
        reader.notes.lost(place, f"subclass {name}", f"of class {name}: {of.why}")
        return
    if of.key.code is not None:
        text = site_text(of.key.code, value.fixed, of.key.is_prefix)
        if text is not None:
            reader.texts.add(text)
    key: Data = of.key.data
    of.members.append((equal(key, literal(value.fixed)), inner))
