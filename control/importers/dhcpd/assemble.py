"""What stands in dhcpd.conf -> a Site: each scope evaluated for each kind of client, hosts with what is theirs."""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Final

from control.importers.dhcpd.definitions import Resolve
from control.importers.dhcpd.hosts import HostDeclaration
from control.importers.dhcpd.reader import Reader
from control.importers.dhcpd.scopes import Evaluation, Scope
from control.importers.kinds import Kinds, Said
from control.importers.reading import Files
from control.importers.site import Host, Network, Notes, Site, Unfit
from control.importers.spaces import SPACE_MARK, VENDOR_SPACE, flattened
from control.importers.values import LEASE

USUAL_LEASE_S: Final = 43_200  # dhcpd.conf(5): default-lease-time where nobody says one


def read_dhcpd(path: Path, files: Files, resolve: Resolve) -> Site:
    """Raises Unreadable."""
    notes = Notes()
    reader = Reader(files, notes, resolve)
    reader.read(path)
    return Assembly(reader, Kinds(reader.texts), notes).site()


class Assembly:
    def __init__(self, reader: Reader, kinds: Kinds, notes: Notes) -> None:
        self.reader = reader
        self.kinds = kinds
        self.notes = notes
        self.evaluation = Evaluation(kinds, notes)
        self.of_scope: dict[Scope, Said] = {}
        self.global_parts: Said = {}  # sub-options of the file itself, beside which a group's own are sent

    def site(self) -> Site:
        site = Site(self.kinds, self.notes)
        top = self.said_in(self.reader.top)
        self.global_parts = {key: value for key, value in top.items() if SPACE_MARK in key or key == VENDOR_SPACE}
        self.of_scope[self.reader.top] = {LEASE: USUAL_LEASE_S} | top
        classes = self.classes()
        for subnet in self.reader.subnets:
            said: Said = {}
            shared = None
            for scope in reversed(list(subnet.scope.chain())):
                said = self.kinds.over(said, self.said_in(scope))
                shared = scope.name if scope.kind == "shared" else shared
            said = self.flat(self.kinds.over(said, classes), subnet.scope)
            site.networks.append(Network(subnet.scope.place, subnet.network, said, shared))
        for declaration in self.reader.hosts:
            host = self.host(declaration)
            if host is not None:
                site.hosts.append(host)
        self.groups()
        return site

    def said_in(self, scope: Scope) -> Said:
        """By its own statements."""
        found = self.of_scope.get(scope)
        if found is None:
            found = self.of_scope[scope] = self.evaluation.said(scope.statements)
        return found

    def flat(self, said: Said, scope: Scope) -> Said:
        found, faults = flattened(self.kinds, said, self.reader.definitions.carriers)
        for fault in faults:
            self.notes.lost(scope.place, f"{scope.kind} {scope.name}".strip(), fault)
        return found

    def own(self, scope: Scope, said: Said) -> Said:
        """Of a group or a host: with the file's sub-options, if it has some."""
        if any(SPACE_MARK in key for key in said):
            said = self.kinds.over(self.global_parts, said)
        return self.flat(said, scope)

    def classes(self) -> Said:
        """What all classes tell, over one another in the order of the file."""
        said: Said = {}
        for found in self.reader.classes.values():
            text = f"class {found.scope.name}"
            tests = [(found.test, found.scope)] if found.test is not None else []
            for test, scope in found.members:
                tests += [(test, found.scope), (test, scope)]
            told = [(test, scope) for test, scope in tests if scope.statements]
            if not told and found.scope.statements:
                self.notes.lost(found.scope.place, text, f"{found.why}: what it says is told nobody")
            elif not told:
                self.notes.needless(found.scope.place, text, "its members are told nothing; it only chose a pool")
            for test, scope in told:
                try:
                    said = self.kinds.over(said, self.evaluation.said(scope.statements, test))
                except Unfit as unfit:
                    self.notes.lost(scope.place, f"class {scope.name}", f"{unfit}, so what it says is told nobody")
        return said

    def groups(self) -> None:
        """Those of scopes in which hosts are."""
        for declaration in self.reader.hosts:
            for scope in declaration.scope.chain():
                if scope.group is not None and scope.kind == "group" and not scope.group.said:
                    scope.group.said = self.own(scope, self.said_in(scope))

    def host(self, declaration: HostDeclaration) -> Host | None:
        scope = declaration.scope
        text = f"host {scope.name}"
        if declaration.mac is None:
            by = declaration.known_by or "nothing"
            self.notes.lost(scope.place, text, f"it is known by {by}; a machine is known by its MAC here")
            return None
        if declaration.known_by:
            self.notes.needless(scope.place, text, f"{declaration.known_by} is not looked at: its MAC says who it is")
        addresses = self.addresses(declaration)
        if not addresses:
            if not declaration.fixed:  # else that is told
                self.notes.lost(scope.place, text, "it has no fixed address: say one, or it stays a stranger")
            return None
        hostname = declaration.hostname
        if hostname is None and next(
            (each.names_hosts for each in scope.chain() if each.names_hosts is not None), False
        ):
            hostname = scope.name
        said = self.own(scope, self.evaluation.said(scope.statements)) if scope.statements else {}
        boots = next((each.boots for each in scope.chain() if each.boots is not None), True)
        return Host(scope.place, scope.name, (declaration.mac,), addresses, said, scope.group, hostname, boots)

    def addresses(self, declaration: HostDeclaration) -> tuple[IPv4Address, ...]:
        found: list[IPv4Address] = []
        for text in declaration.fixed:
            try:
                found.append(IPv4Address(text))
            except AddressValueError:
                try:
                    found += map(IPv4Address, self.reader.resolve(text))
                except Unfit as unfit:
                    self.notes.lost(declaration.scope.place, f"host {declaration.scope.name}: {text}", str(unfit))
        return tuple(dict.fromkeys(found))
