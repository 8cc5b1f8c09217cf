"""kea-dhcp4.conf -> a Site.

What counts in Kea: for options the reservation, the subnet, the shared network, classes, the file; for next-server and
boot-file-name the reservation, classes, the subnet, the shared network, the file.  Of several classes the first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Final

from control.importers.conditions import Test, always
from control.importers.kea.expressions import Expression, kea_s_own
from control.importers.kea.options import Definitions, as_list
from control.importers.kea.text import Map, read_json
from control.importers.kea.words import LOST, NEEDLESS
from control.importers.kinds import Kinds, Said, SiteText
from control.importers.reading import Files, Unreadable
from control.importers.site import Group, Host, Network, Notes, Place, Site, Unfit
from control.importers.spaces import flattened
from control.importers.values import (
    BOOT_FILE,
    BOOT_SERVER,
    LEASE,
    attribute,
    by_name,
    is_address,
    mac_of,
    mac_of_client_id,
    octets_of,
)

USUAL_LEASE_S: Final = 7_200
_TIMES: Final = {"valid-lifetime": LEASE, "renew-timer": "renewal_time", "rebind-timer": "rebinding_time"}
_IDENTIFIERS: Final = ("hw-address", "duid", "circuit-id", "client-id", "flex-id")
_ADDITIONAL: Final = ("require-client-classes", "evaluate-additional-classes")
_LATE: Final = ("only-if-required", "only-in-additional-list")


@dataclass(slots=True)
class Level:
    """What one level says: options, and the fields of the packet, which have an order of their own."""

    options: Said
    fields: Said


@dataclass(slots=True)
class KeaClass:
    name: str
    place: Place
    test: Test | None
    level: Level
    late: bool


class Reader:
    def __init__(self, notes: Notes) -> None:
        self.notes = notes
        self.definitions = Definitions()
        self.texts: set[SiteText] = set()
        self.members: dict[str, Test] = {}
        self.classes: dict[str, KeaClass] = {}
        self.kinds = Kinds()
        self.networks: list[Network] = []
        self.hosts: list[Host] = []
        self.groups: dict[tuple[str, str], Group | None] = {}
        self.levels: dict[
            IPv4Network, list[Level]
        ] = {}  # those beneath classes, the widest first: file, shared, subnet

    # --- the whole ---------------------------------------------------------------------------------------------------

    def site(self, top: Map) -> Site:
        for said in maps(top.get("option-def")):
            try:
                self.definitions.define(said)
            except Unfit as unfit:
                self.notes.lost(said.place, f"option-def {said.get('name', '')}", str(unfit))
        for said in maps(top.get("client-classes")):
            self._class(said)
        self.kinds = Kinds(self.texts)
        for found in self.classes.values():
            self._check(found)
        file = self.level(top, {LEASE: USUAL_LEASE_S})
        self.leave(top, {"option-def", "client-classes", "subnet4", "shared-networks", "reservations", *_LEVEL})
        for said in maps(top.get("subnet4")):
            self._subnet(said, [file], None)
        for said in maps(top.get("shared-networks")):
            name = str(said.get("name", "shared"))
            inner = self.level(said, {})
            self.leave(said, {"name", "subnet4", "reservations", *_LEVEL, *_ADDITIONAL})
            for subnet in maps(said.get("subnet4")):
                self._subnet(subnet, [file, inner], name, [str(each) for each in _additional(said)])
        for said in maps(top.get("reservations")):
            self._reservation(said, None)
        return Site(self.kinds, self.notes, self.networks, self.hosts)

    def level(self, said: Map, usual: Said) -> Level:
        """What stands directly in it."""
        options: Said = dict(usual)
        fields: Said = {}
        for key, name in _TIMES.items():
            if type(said.get(key)) is int and said[key] > 0:
                options[name] = said[key]
        for each in maps(said.get("option-data")):
            try:
                name, value = self.definitions.value(each)
                options[name] = value
            except Unfit as unfit:
                self.notes.lost(each.place, f"option-data {each.get('name', each.get('code', ''))}", str(unfit))
        for key, name in (("next-server", BOOT_SERVER), ("boot-file-name", BOOT_FILE)):
            try:
                if said.get(key) not in (None, "", "0.0.0.0"):
                    fields[name] = _field(name, str(said[key]))
            except Unfit as unfit:
                self.notes.lost(said.places[key], f"{key} {said[key]}", str(unfit))
        return Level(options, fields)

    def leave(self, said: Map, known: Iterable[str]) -> None:
        """Note every key that nothing was made of."""
        for key in said:
            if key in known:
                continue
            place = said.places[key]
            if key in NEEDLESS:
                self.notes.needless(place, key, NEEDLESS[key])
            else:
                self.notes.lost(place, key, LOST.get(key, "no key of this name is known here"))

    # --- classes -----------------------------------------------------------------------------------------------------

    def _class(self, said: Map) -> None:
        name, text = str(said.get("name", "")), said.get("test")
        test = kea_s_own(name)
        if "template-test" in said:
            self.notes.lost(said.place, f"class {name}", "a class that makes classes; say each of them")
            return
        if isinstance(text, str) and text:
            try:
                members = {each: own for each in _own_names(text) if (own := kea_s_own(each)) is not None}
                test = Expression(text, self.definitions.code_of, members | self.members, self.texts).test()
            except Unfit as unfit:
                self.notes.lost(said.places["test"], f"test of class {name}", f"{unfit}, so nobody is in it")
                test = always(False)
        if test is not None:
            self.members[name] = test
        for each in maps(said.get("option-def")):
            try:
                self.definitions.define(each)
            except Unfit as unfit:
                self.notes.lost(each.place, f"option-def {each.get('name', '')}", str(unfit))
        late = any(said.get(key) for key in _LATE)
        self.classes[name] = KeaClass(name, said.place, test, self.level(said, {}), late)
        self.leave(said, {"name", "test", "option-def", *_LEVEL, *_LATE})

    def _check(self, found: KeaClass) -> None:
        """A test that no kind of client decides has no members."""
        test = found.test
        if test is None:
            return
        try:
            for kind in self.kinds.all:
                test(kind.options)
        except Unfit as unfit:
            self.notes.lost(found.place, f"class {found.name}", f"{unfit}, so nobody is in it")
            found.test = always(False)

    def told_by_classes(self, additional: Iterable[str]) -> Level:
        """Of several classes that a client is in, the first counts."""
        chosen = [each for each in self.classes.values() if each.test is not None and not each.late]
        chosen += [self.classes[name] for name in additional if name in self.classes and self.classes[name].late]
        options: Said = {}
        fields: Said = {}
        for found in reversed(chosen):
            assert found.test is not None
            options = self.kinds.over(options, self.to_members(found.level.options, found.test))
            fields = self.kinds.over(fields, self.to_members(found.level.fields, found.test))
        return Level(options, fields)

    def to_members(self, said: Said, test: Test) -> Said:
        inside = [test(kind.options) for kind in self.kinds.all]
        found: Said = {}
        for option, value in said.items():
            told = self.kinds.spread(value)
            joined = self.kinds.joined([each if hit else None for each, hit in zip(told, inside, strict=True)])
            if joined is not None:
                found[option] = joined
        return found

    # --- networks and hosts ------------------------------------------------------------------------------------------

    def _subnet(self, said: Map, around: list[Level], shared: str | None, additional: Iterable[str] = ()) -> None:
        text = str(said.get("subnet", ""))
        try:
            network = IPv4Network(text, strict=False)
        except ValueError as error:
            self.notes.lost(said.place, f"subnet {text}", str(error))
            return
        levels = [*around, self.level(said, {})]
        self.levels[network] = levels
        names = [*(str(each) for each in _additional(said)), *additional]
        told = self.composed(levels, self.told_by_classes(names))
        self.networks.append(Network(said.place, network, self.flat(told, said.place, text), shared))
        self.leave(said, {"id", "subnet", "reservations", *_LEVEL, *_ADDITIONAL})
        for each in maps(said.get("reservations")):
            self._reservation(each, network)

    def composed(self, levels: list[Level], classes: Level) -> Said:
        file, *nearer = levels
        options = self.kinds.over(file.options, classes.options)
        fields = file.fields
        for level in nearer:
            options = self.kinds.over(options, level.options)
            fields = self.kinds.over(fields, level.fields)
        return self.kinds.over(options, self.kinds.over(fields, classes.fields))

    def flat(self, said: Said, place: Place, text: str) -> Said:
        found, faults = flattened(self.kinds, said, self.definitions.carriers)
        for fault in faults:
            self.notes.lost(place, text, fault)
        return found

    def _reservation(self, said: Map, network: IPv4Network | None) -> None:
        name = str(said.get("hostname") or "")
        by = next((key for key in _IDENTIFIERS if said.get(key)), "")
        text = f"reservation {said.get(by, '')}"
        try:
            mac = _mac(said)
            if not is_address(str(said.get("ip-address", ""))):
                raise Unfit("it has no address: say one, or it stays a stranger")
            address = IPv4Address(said["ip-address"])
        except (Unfit, AddressValueError) as error:
            self.notes.lost(said.place, text, str(error))
            return
        level = self.level(said, {})
        own = self.flat(level.options | level.fields, said.place, text) if level.options or level.fields else {}
        group = self.group([str(each) for each in as_list(said.get("client-classes"))], network, said)
        # Kea sends what stands before the first dot as it stands; a domain behind it as well.
        host = Host(said.place, name or f"host-{mac.replace(':', '')}", (mac,), (address,), own, group, name or None)
        self.hosts.append(host)
        self.leave(said, {*_IDENTIFIERS, "ip-address", "hostname", "client-classes", *_LEVEL})

    def group(self, names: list[str], network: IPv4Network | None, said: Map) -> Group | None:
        """Of the classes that a reservation puts its host into: what its network's levels do not say themselves."""
        if not names:
            return None
        key = (",".join(names), str(network))
        if key not in self.groups:
            options: Said = {}
            fields: Said = {}
            for name in reversed(names):
                found = self.classes.get(name)
                if found is None:
                    self.notes.lost(said.places["client-classes"], name, "a class that is declared nowhere")
                    continue
                options |= found.level.options
                fields |= found.level.fields
            nearer = self.levels[network][1:] if network is not None else []
            told = {option for level in nearer for option in level.options}
            options = {option: value for option, value in options.items() if option not in told}
            flat = self.flat(options | fields, said.place, key[0])
            self.groups[key] = Group(said.place, "-".join(names), flat) if flat else None
        return self.groups[key]


_LEVEL: Final = frozenset({"option-data", "next-server", "boot-file-name", *_TIMES})


def maps(value: Any) -> list[Map]:
    return [each for each in as_list(value) if isinstance(each, Map)]


def _additional(said: Map) -> list[Any]:
    return [each for key in _ADDITIONAL for each in as_list(said.get(key))]


def _own_names(text: str) -> list[str]:
    """Of the classes that a test asks membership of."""
    return [part.partition("'")[0] for part in text.split("member('")[1:]]


def _field(name: str, text: str) -> Any:
    option = by_name(name)
    assert option is not None
    return attribute(option, text)


def _mac(said: Map) -> str:
    """Raises Unfit."""
    octets = octets_of(str(said.get("hw-address", "")).replace("-", ":"))
    mac = mac_of(octets) if octets is not None else None
    if mac is None and said.get("client-id"):
        octets = octets_of(str(said["client-id"]))
        mac = mac_of_client_id(octets) if octets is not None else None
    if mac is None:
        by = next((key for key in _IDENTIFIERS if said.get(key)), "nothing")
        raise Unfit(f"it is known by its {by}; a machine is known by its MAC here")
    return mac


def read_kea(path: Path, files: Files) -> Site:
    """Raises Unreadable."""
    notes = Notes()
    whole = read_json(path, files, notes)
    top = whole.get("Dhcp4") if isinstance(whole, Map) else None
    if not isinstance(top, Map):
        raise Unreadable(f"{path}: no Dhcp4 in it; wanted kea-dhcp4.conf")
    for key in whole:
        if key != "Dhcp4":
            notes.lost(whole.places[key], key, "only Dhcp4 is read")
    return Reader(notes).site(top)
