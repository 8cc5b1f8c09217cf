"""What dnsmasq's files say -> a Site: what each kind of client is told in each network, and with each set of tags."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

from control.importers.dnsmasq.hosts import HostLine
from control.importers.dnsmasq.reader import Range, Reader
from control.importers.dnsmasq.tags import Tagged, Tags, chosen, matches
from control.importers.kinds import VENDOR_CLASS, Kinds, Said, Value
from control.importers.reading import Files
from control.importers.site import Group, Host, Inside, Network, Notes, Site, Unfit
from control.importers.values import BOOT_FILE, BOOT_SERVER, LEASE, ROUTER, attribute, by_name, suboptions

Resolve = Callable[[str], "list[str] | tuple[str, ...]"]
_DNS, _DOMAIN = "name_server", "domain"
_BOOTS: Final = frozenset({BOOT_FILE, BOOT_SERVER})


def read_dnsmasq(
    path: Path,
    files: Files,
    resolve: Resolve,
    ethers: Path,
    ours: Sequence[IPv4Address] = (),
    networks: Sequence[IPv4Network] = (),
) -> Site:
    """ours: addresses of the machine that dnsmasq runs on.  networks: of ranges without a mask.  Raises Unreadable."""
    notes = Notes()
    reader = Reader(files, notes, resolve, ethers, list(ours), networks)
    reader.read(path)
    return Assembly(reader, Kinds(reader.texts), notes).site()


class Assembly:
    def __init__(self, reader: Reader, kinds: Kinds, notes: Notes) -> None:
        self.reader = reader
        self.kinds = kinds
        self.notes = notes
        self.of_kind = [reader.rules.of_kind(kind) for kind in kinds.all]
        self.networks: dict[IPv4Network, Range] = {}
        self.groups: dict[tuple[Tags, IPv4Network], Group | None] = {}
        self.known_groups: dict[tuple[Tags, str], Group] = {}
        self.said: dict[IPv4Network, Said] = {}
        self.inside = Inside(())
        # Tags that ranges alone set: what has one counts in its networks, and need not be looked at for others.
        others = {tag for rule in reader.rules.ifs for tag in rule.sets} | {each.tag for each in reader.rules.setters}
        others |= {tag for host in reader.hosts for tag in host.tags} | {each.tag for each in reader.mac_tags}
        self.range_tags = {each.tag for each in reader.ranges if each.tag} - others
        self.options = self.by_range_tag(reader.options)
        self.boots = self.by_range_tag(reader.boots)
        # Kinds that set the same tags, and are the same to what is said to vendor classes, are told the same.
        vendors = {each.vendor for each in reader.options if each.vendor is not None}
        self.alike: dict[tuple[Tags, Tags], list[int]] = {}
        for at, kind in enumerate(kinds.all):
            fits = frozenset(each.hex() for each in vendors if each in kind.options.get(VENDOR_CLASS, b""))
            self.alike.setdefault((frozenset(self.of_kind[at]), fits), []).append(at)
        self.tells_defaults = True  # a configuration; a file of hosts alone does not say what dnsmasq is told besides

    def site(self) -> Site:
        site = Site(self.kinds, self.notes)
        for each in self.reader.ranges:
            before = self.networks.setdefault(each.network, each)
            if before.tag != each.tag:
                why = f"{each.network} has tag {before.tag or 'none'} from line {before.place.line}; that counts"
                self.notes.lost(each.place, each.text, why)
        self.inside = Inside(self.networks)
        self.remark_tags()
        for network, found in self.networks.items():
            self.said[network] = self.told(network, frozenset())
            if self.tells_defaults:
                self.remark_defaults(network, found)
            site.networks.append(Network(found.place, network, self.said[network]))
        for line in self.reader.hosts:
            host = self.host(line)
            if host is not None:
                site.hosts.append(host)
        return site

    # --- what is told ------------------------------------------------------------------------------------------------

    def told(self, network: IPv4Network, tags: Tags) -> Said:
        """To every kind of client with an address in a network, whose host sets these tags."""
        per_kind: list[dict[str, Value]] = [{}] * len(self.kinds)
        for places in self.alike.values():
            told_to = self.told_to(network, tags, places[0])
            for at in places:
                per_kind[at] = told_to
        found: Said = {}
        for option in dict.fromkeys(option for told in per_kind for option in told):
            joined = self.kinds.joined([told.get(option) for told in per_kind])
            if joined is not None:
                found[option] = joined
        return found

    def by_range_tag(self, items: Sequence[Tagged]) -> dict[str, list[tuple[int, Tagged]]]:
        """By the tag of a range that each wants; "" where it wants none, or the absence of one.  With their places."""
        found: dict[str, list[tuple[int, Tagged]]] = {"": []}
        for at, item in enumerate(items):
            tag = next((each for each in item.tags if each in self.range_tags), "")
            found.setdefault(tag, []).append((at, item))
        return found

    @staticmethod
    def for_range(items: dict[str, list[tuple[int, Tagged]]], tag: str | None) -> list[Tagged]:
        """In the order of the files."""
        own = items.get(tag, []) if tag else []
        return [item for _at, item in sorted([*items[""], *own], key=lambda each: each[0])]

    def told_to(self, network: IPv4Network, tags: Tags, at: int) -> dict[str, Value]:
        rules, found = self.reader.rules, self.networks[network]
        set_here = self.of_kind[at] | tags
        everything = rules.completed(set_here | ({found.tag} if found.tag else set()))
        own = rules.completed(set_here)
        told: dict[str, Value] = {LEASE: found.lease} | self.defaults(network)
        sent = self.kinds.all[at].options.get(VENDOR_CLASS, b"")
        every = self.for_range(self.options, found.tag)
        options = [each for each in every if each.vendor is None or each.vendor in sent]
        parts: dict[str, list[tuple[int, bytes]]] = {}
        for item in chosen(options, own, everything, lambda each: (each.option, each.part)).values():
            if item.part is not None:
                parts.setdefault(item.option, []).append((item.part, bytes.fromhex(str(item.value))))
            elif item.value is None:
                told.pop(item.option, None)
            else:
                told[item.option] = item.value
        for item in chosen(
            self.for_range(self.boots, found.tag), everything, everything, lambda each: each.option
        ).values():
            if item.value is not None:
                told[item.option] = item.value
        for name, said in parts.items():
            told[name] = self.encapsulated(name, said)
        return told

    def encapsulated(self, name: str, parts: list[tuple[int, bytes]]) -> Value:
        option = by_name(name)
        assert option is not None
        return attribute(option, None, suboptions(sorted(parts)))

    def defaults(self, network: IPv4Network) -> dict[str, Value]:
        """What dnsmasq tells unless something else is said (dnsmasq(8), --dhcp-option)."""
        found: dict[str, Value] = {}
        inside = [each for each in self.reader.ours if each in network]
        nearest = inside or (self.reader.ours if len(self.reader.ours) == 1 else [])
        if inside:
            found[ROUTER] = str(inside[0])
        if self.reader.dns and nearest:
            found[_DNS] = str(nearest[0])
        for within, domain in self.reader.domains:
            if within is None or network.subnet_of(within):
                found[_DOMAIN] = domain
        return found

    def remark_defaults(self, network: IPv4Network, found: Range) -> None:
        """Of what dnsmasq tells of itself, and nobody knows."""
        wanted = [(ROUTER, "router", True), (_DNS, "name server", self.reader.dns)]
        suppressed = {item.option for item in self.reader.options if item.value is None}
        missing = [
            word
            for option, word, tells in wanted
            if tells and option not in self.said[network] and option not in suppressed
        ]
        if missing:
            why = (
                f"for {network} dnsmasq tells its own address, or its relay's, as {' and '.join(missing)}: "
                "--server-address ADDRESS says which; none was taken"
            )
            self.notes.lost(found.place, found.text, why)

    def remark_tags(self) -> None:
        """Of those that nothing here sets: interfaces set tags of their names."""
        rules = self.reader.rules
        known = {setter.tag for setter in rules.setters} | {tag for rule in rules.ifs for tag in rule.sets}
        known |= {each.tag for each in self.reader.ranges if each.tag} | {
            tag for h in self.reader.hosts for tag in h.tags
        }
        known |= {each.tag for each in self.reader.mac_tags} | {"known"}
        for item in (*self.reader.options, *self.reader.boots):
            for tag in item.tags:
                name = tag.removeprefix("!")
                if not tag.startswith("!") and name not in known and not name.endswith("*"):
                    shown = f"{item.option} for tag {name}"
                    why = "nothing sets this tag: the name of an interface, perhaps; say it to a network"
                    self.notes.lost(item.place, shown, why)

    # --- hosts -------------------------------------------------------------------------------------------------------

    def host(self, line: HostLine) -> Host | None:
        addresses = list(line.addresses)
        if not addresses and not line.ignored:
            if line.name is None:
                self.notes.lost(line.place, line.text, "it has no address: say one, or it stays a stranger")
                return None
            try:
                addresses += self.reader.resolve(line.name)
            except Unfit as unfit:
                self.notes.lost(line.place, line.text, str(unfit))
                return None
        if line.ignored:
            self.notes.needless(line.place, line.text, "machines that are not in the inventory get no answer")
            return None
        try:
            found = tuple(IPv4Address(each) for each in addresses)
        except AddressValueError as error:
            self.notes.lost(line.place, line.text, str(error))
            return None
        tags = frozenset(line.tags) | {each.tag for each in self.reader.mac_tags if any(map(each.fits, line.macs))}
        enabled = True
        for place, text, wanted in self.reader.ignores:
            if matches(wanted, self.reader.rules.completed(tags)):
                enabled = False
                self.notes.needless(place, text, "its hosts have dhcp enabled off")
        network = self.inside.network(found[0]) if tags else None
        group = self.group(tags, network) if network is not None else None
        said: Said = {LEASE: line.lease} if line.lease is not None else {}
        name = line.name or f"host-{line.macs[0].replace(':', '')}"
        return Host(line.place, name, tuple(line.macs), found, said, group, name, enabled)

    def group(self, tags: Tags, network: IPv4Network) -> Group | None:
        """What these tags change in what a network's clients are told; None: nothing."""
        if (tags, network) not in self.groups:
            wider, told = self.said[network], self.told(network, tags)
            said = {option: value for option, value in told.items() if wider.get(option) != value}
            key = (tags, repr(sorted(said.items(), key=lambda item: item[0])))
            if not said:
                group = None
            else:
                place = self.networks[network].place
                group = self.known_groups.setdefault(key, Group(place, "-".join(sorted(tags)), said))
            self.groups[tags, network] = group
        return self.groups[tags, network]
