"""dhcpd.conf -> a Site.  Pure but for the files that it includes, and names where they are to be looked up."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Network, NetmaskValueError
from pathlib import Path
from typing import Final

from control.importers.dhcpd.classes import DeclaredClass, read_class, read_subclass
from control.importers.dhcpd.definitions import (
    Definitions,
    Resolve,
    defined_octets,
    defined_value,
    known_option,
    value_of,
)
from control.importers.dhcpd.expressions import Reader as Expressions
from control.importers.dhcpd.hosts import HostDeclaration, read_host
from control.importers.dhcpd.scopes import If, Scope, Set, Statement
from control.importers.dhcpd.tokens import Token, Words, said
from control.importers.dhcpd.words import LOST, NEEDLESS
from control.importers.kinds import SiteText, Value
from control.importers.reading import Files, Unreadable
from control.importers.site import Group, Notes, Place, Unfit
from control.importers.spaces import SPACE_MARK, VENDOR_SPACE
from control.importers.values import BOOT_FILE, BOOT_SERVER, LEASE, attribute, by_name, is_address

DEPTH_MAX: Final = 40  # of blocks in blocks
_FILE, _SERVER, _LEASE, _BROADCAST = "filename", "next-server", "default-lease-time", "always-broadcast"


class Subnet:
    """One declaration, before anything is known of what is said around it."""

    def __init__(self, scope: Scope, network: IPv4Network) -> None:
        self.scope = scope
        self.network = network


class Reader:
    """What stands in the files, by scopes; assemble.py makes a Site of it."""

    def __init__(self, files: Files, notes: Notes, resolve: Resolve) -> None:
        self.files = files
        self.notes = notes
        self.resolve = resolve
        self.top = Scope("file", "", Place("", 1))
        self.definitions = Definitions()
        self.subnets: list[Subnet] = []
        self.hosts: list[HostDeclaration] = []
        self.classes: dict[str, DeclaredClass] = {}
        self.texts: set[SiteText] = set()
        self.groups = self.depth = 0
        self.statements: dict[str, Callable[[Words, Scope, Token], None]] = {
            "include": self._include, "group": self._group, "subnet": self._subnet, "shared-network": self._shared,
            "pool": self._pool, "host": self._host, "class": self._class, "subclass": self._subclass,
            "option": self._option, "if": self._if, "use-host-decl-names": self._names_hosts,
            "allow": self._permission, "deny": self._permission, "ignore": self._permission,
            VENDOR_SPACE: self._vendor_space, "not": self._not, "supersede": self._supersede,
            _FILE: self._parameter, _SERVER: self._parameter, _LEASE: self._parameter, _BROADCAST: self._parameter,
        }  # fmt: skip

    def read(self, path: Path) -> None:
        """Raises Unreadable of the file itself; one that it includes is noted."""
        self._file(path, self.top)

    def _file(self, path: Path, scope: Scope) -> None:
        with self.files.opened(path) as text:
            words = Words(text, str(path), lambda done: self.files.heard(path.name, done, len(text)))
            while not words.at_end():
                self.statement(words, scope, 0)
                if words.is_mark("}"):
                    self.notes.lost(Place(words.file, words.next.line), "}", "it closes nothing")
                    words.take()

    def block(self, words: Words, scope: Scope, depth: int) -> None:
        """What stands between braces; the opening one is next."""
        begin = words.next.line
        if not words.take_if("{"):
            self.notes.lost(scope.place, scope.kind, f"found {words.next.text!r}; wanted a block in braces")
            words.skip_statement()
            return
        while not words.is_mark("}"):
            if words.at_end():
                self.notes.lost(Place(words.file, begin), "{", "nothing closes this brace")
                return
            self.statement(words, scope, depth + 1)
        words.take()

    def statement(self, words: Words, scope: Scope, depth: int) -> None:
        token = words.take()
        place = Place(words.file, token.line)
        if token.kind == "mark" and token.text == ";":
            return
        if token.kind != "word" or depth > DEPTH_MAX:
            why = f"blocks {depth} deep" if depth > DEPTH_MAX else "a statement begins with a word"
            self.leave(words, place, token, why, lost=True)
            return
        word = token.text.lower()
        known = self.statements.get(word)
        if known is None:
            lost = LOST.get(word)
            if word in NEEDLESS and (lost is None or scope.kind != "class"):
                self.leave(words, place, token, NEEDLESS[word], lost=False)
            else:
                self.leave(words, place, token, lost or "no statement of this name is known", lost=True)
            return
        around, self.depth = self.depth, depth
        try:
            known(words, scope, token)
        except Unfit as unfit:
            self.leave(words, place, token, str(unfit), lost=True)
        finally:
            self.depth = around

    def leave(self, words: Words, place: Place, first: Token, reason: str, *, lost: bool) -> None:
        """Note a statement and go on behind it."""
        if first.kind == "mark" and first.text in "{}":
            rest: list[Token] = []
        else:
            rest = words.rest_of_statement()
        (self.notes.lost if lost else self.notes.needless)(place, said([first, *rest]), reason)
        if words.is_mark("{"):
            words.skip_block()

    # --- blocks ------------------------------------------------------------------------------------------------------

    def _include(self, words: Words, scope: Scope, first: Token) -> None:
        rest = words.rest_of_statement()
        place = Place(words.file, first.line)
        if len(rest) != 1:
            self.notes.lost(place, said([first, *rest]), "wanted the name of one file")
            return
        path = self.files.beside(rest[0].text)
        try:
            self._file(path, scope)
        except (Unfit, Unreadable) as error:
            self.notes.lost(place, said([first, *rest]), str(error))

    def _group(self, words: Words, scope: Scope, first: Token) -> None:
        named = words.take().text if words.next.kind in ("text", "word") else ""
        self.groups += 1
        inner = self._inner("group", named or f"group-{self.groups}", words, scope, first)
        inner.group = Group(inner.place, inner.name, parent=scope.group)
        self.block(words, inner, self.depth)

    def _inner(self, kind: str, name: str, words: Words, scope: Scope, first: Token) -> Scope:
        return Scope(kind, name, Place(words.file, first.line), scope, group=scope.group)

    def _shared(self, words: Words, scope: Scope, first: Token) -> None:
        name = words.take().text if words.next.kind in ("text", "word") else ""
        self.block(words, self._inner("shared", name, words, scope, first), self.depth)

    def _pool(self, words: Words, scope: Scope, first: Token) -> None:
        self.block(words, self._inner("pool", "", words, scope, first), self.depth)

    def _subnet(self, words: Words, scope: Scope, first: Token) -> None:
        head = []
        while not words.at_end() and not words.is_mark("{", "}", ";"):
            head.append(words.take())
        inner = self._inner("subnet", "", words, scope, first)
        try:
            if len(head) != 3 or head[1].text.lower() != "netmask":
                raise ValueError("wanted: subnet ADDRESS netmask MASK { ... }")
            network = IPv4Network(f"{head[0].text}/{head[2].text}")
        except (ValueError, NetmaskValueError) as error:
            self.notes.lost(inner.place, said([first, *head]), str(error))
            words.skip_block()
            return
        self.subnets.append(Subnet(inner, network))
        self.block(words, inner, self.depth)

    def _host(self, words: Words, scope: Scope, first: Token) -> None:
        read_host(self, words, scope, first)

    def _class(self, words: Words, scope: Scope, first: Token) -> None:
        read_class(self, words, scope, first)

    def _subclass(self, words: Words, scope: Scope, first: Token) -> None:
        read_subclass(self, words, scope, first)

    # --- statements --------------------------------------------------------------------------------------------------

    def _if(self, words: Words, scope: Scope, first: Token) -> None:
        place = Place(words.file, first.line)
        branches: list[tuple[Callable[..., bool] | None, list[Statement]]] = []
        text = self._branch(words, scope, first, branches)
        while words.next.kind == "word" and words.next.text.lower() in ("else", "elsif"):
            word = words.take()
            if word.text.lower() == "elsif" or (words.next.kind == "word" and words.next.text.lower() == "if"):
                if word.text.lower() == "else":
                    words.take()
                self._branch(words, scope, word, branches)
            else:
                inner = self._inner("if", "", words, scope, word)
                inner.kind = scope.kind
                self.block(words, inner, self.depth)
                branches.append((None, inner.statements))
                break
        scope.statements.append(If(place, text, branches))

    def _branch(
        self,
        words: Words,
        scope: Scope,
        first: Token,
        branches: list[tuple[Callable[..., bool] | None, list[Statement]]],
    ) -> str:
        """A condition and its block; one that is not understood costs its whole `if`, when that is evaluated."""
        expressions = self.expressions(words)
        begin = words.next.text
        place = Place(words.file, first.line)
        reason = ""
        try:
            test = expressions.condition()
        except Unfit as unfit:
            reason = str(unfit)
            while not words.at_end() and not words.is_mark("{", "}", ";"):
                words.take()

            def test(_options: object, reason: str = reason) -> bool:
                raise Unfit(reason)

        inner = Scope(scope.kind, "", place, scope, group=scope.group)
        self.block(words, inner, self.depth)
        branches.append((test, inner.statements))
        return f"{first.text} {begin} ..."

    def expressions(self, words: Words) -> Expressions:
        return Expressions(words, self.definitions.codes, self.definitions.carriers, self.texts)

    def _parameter(self, words: Words, scope: Scope, first: Token) -> None:
        word = first.text.lower()
        rest = self._value(words)
        place = Place(words.file, first.line)
        try:
            option, value = self._parameter_value(word, rest)
        except Unfit as unfit:
            self.notes.lost(place, said([first, *rest]), str(unfit))
            return
        self.say(scope, place, [first, *rest], option, value)

    def _parameter_value(self, word: str, rest: list[Token]) -> tuple[str, Value]:
        """Raises Unfit."""
        if len(rest) != 1:
            raise Unfit("wanted one value")
        text = rest[0].text
        if word == _FILE:
            if not text:
                return BOOT_FILE, ""
            option = by_name(BOOT_FILE)
            assert option is not None
            return BOOT_FILE, attribute(option, text)
        if word == _SERVER:
            return BOOT_SERVER, text if is_address(text) else self.resolve(text)[0]
        if word == _BROADCAST:
            return "always_broadcast", int(text.lower() in ("on", "true"))
        option = by_name(LEASE)
        assert option is not None
        return LEASE, attribute(option, int(text) if text.isdecimal() else text)

    def _value(self, words: Words) -> list[Token]:
        """What stands up to the `;`; an expression that is the same for every client is one text."""
        if not words.take_if("="):
            return words.rest_of_statement()
        expressions = self.expressions(words)
        line = words.next.line
        try:
            found = expressions.data()
        except Unfit:
            words.rest_of_statement()
            raise
        rest = words.rest_of_statement()
        if found.fixed is None or rest:
            raise Unfit("a value that is computed for each client")
        return [Token("text", found.fixed.decode("latin-1"), line)]

    def say(self, scope: Scope, place: Place, tokens: list[Token], option: str, value: Value) -> None:
        if scope.kind == "pool":
            self.notes.needless(
                place, said(tokens), "in a pool it is told to clients with an address of its ranges only"
            )
            return
        scope.statements.append(Set(option, value))

    def _option(self, words: Words, scope: Scope, first: Token) -> None:
        """`option space NAME;`, `option NAME code ... = ...;`, `option NAME VALUE;`"""
        name = words.take()
        second = words.next
        if name.text.lower() == "space" and second.kind == "word":
            rest = words.rest_of_statement()
            self.definitions.spaces.add(rest[0].text.lower())
            return
        if second.kind == "word" and second.text.lower() == "code" and name.kind == "word":
            words.take()
            rest = self._definition(words)
            try:
                self.definitions.define(name.text.lower(), rest)
            except Unfit as unfit:
                self.notes.lost(Place(words.file, first.line), said([first, name, *rest]), str(unfit))
            return
        self.option_said(words, scope, first, name)

    @staticmethod
    def _definition(words: Words) -> list[Token]:
        """Its braces are those of a record."""
        rest = []
        while not words.at_end():
            token = words.take()
            if token.kind == "mark" and token.text == ";":
                break
            rest.append(token)
        return rest

    def option_said(self, words: Words, scope: Scope, first: Token, name: Token) -> None:
        place = Place(words.file, first.line)
        tokens = [first, name]
        if name.text.lower().startswith("fqdn."):
            self.notes.needless(place, said([*tokens, *words.rest_of_statement()]), NEEDLESS["ddns-updates"])
            return
        try:
            rest = self._value(words)
            tokens += rest
            option, value = self.option_value(name.text.lower(), rest)
        except Unfit as unfit:
            self.notes.lost(place, said(tokens), str(unfit))
            return
        self.say(scope, place, tokens, option, value)

    def option_value(self, name: str, rest: list[Token]) -> tuple[str, Value]:
        """Raises Unfit."""
        strange = next((token.text for token in rest if token.kind == "mark" and token.text != ","), None)
        if strange is not None:
            raise Unfit(f"found {strange} in a value")
        found = self.definitions.options.get(name)
        if found is None:
            option = known_option(name)
            return option.name, value_of(option, rest, self.resolve)
        if found.space:
            return f"{found.space}{SPACE_MARK}{found.code}", defined_octets(found, rest, self.resolve).hex()
        option = known_option(str(found.code))
        return option.name, defined_value(found, rest, self.resolve)

    def _vendor_space(self, words: Words, scope: Scope, first: Token) -> None:
        rest = words.rest_of_statement()
        if len(rest) == 1:
            scope.statements.append(Set(VENDOR_SPACE, rest[0].text.lower()))

    def _supersede(self, words: Words, scope: Scope, first: Token) -> None:
        raise Unfit("only in a host declaration that OMAPI wrote")

    def _names_hosts(self, words: Words, scope: Scope, first: Token) -> None:
        rest = words.rest_of_statement()
        scope.names_hosts = bool(rest) and rest[0].text.lower() in ("on", "true")

    def _not(self, words: Words, scope: Scope, first: Token) -> None:
        """`not authoritative;`"""
        rest = words.rest_of_statement()
        known = len(rest) == 1 and rest[0].text.lower() == "authoritative"
        say = self.notes.needless if known else self.notes.lost
        reason = NEEDLESS["authoritative"] if known else "no statement of this name is known"
        say(Place(words.file, first.line), said([first, *rest]), reason)

    def _permission(self, words: Words, scope: Scope, first: Token) -> None:
        """allow, deny, ignore."""
        rest = words.rest_of_statement()
        word = rest[0].text.lower() if rest else ""
        place = Place(words.file, first.line)
        if word == "booting":
            scope.boots = first.text.lower() == "allow"
        elif word in NEEDLESS or (word in ("unknown", "known", "dynamic") and len(rest) > 1):
            self.notes.needless(place, said([first, *rest]), NEEDLESS.get(word, NEEDLESS["unknown-clients"]))
        elif word == "bootp" and first.text.lower() != "allow":
            self.notes.needless(place, said([first, *rest]), "BOOTP is not answered unless dhcp.bootp is on")
        else:
            self.notes.lost(place, said([first, *rest]), LOST.get(word, "no permission of this name is known"))
