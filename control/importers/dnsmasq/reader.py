"""dnsmasq.conf and what it includes -> what it says of DHCP; assemble.py makes a Site of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from pathlib import Path
from typing import Final, NamedTuple

from control.importers.dnsmasq.hosts import HostLine, pattern, read_host
from control.importers.dnsmasq.lines import Line, options_in, plain_lines, split, tags_of
from control.importers.dnsmasq.tags import KNOWN, Setter, Tagged, TagIf, TagRules, contains, matching, text_for_class
from control.importers.dnsmasq.values import USUAL_LEASE_S, code_of, lease_s, octets, value_of
from control.importers.dnsmasq.words import LOST, NEEDLESS, PXE_SYSTEMS
from control.importers.kinds import ARCHITECTURE, USER_CLASS, VENDOR_CLASS, SiteText
from control.importers.reading import Files, Unreadable, files_in
from control.importers.site import Notes, Place, Unfit
from control.importers.values import BOOT_FILE, BOOT_SERVER, attribute, by_code, by_name, is_address, octets_of

_MODES: Final = frozenset({"static", "proxy", "ra-only", "slaac", "ra-names", "ra-stateless", "ra-advrouter"})
BOOT_SERVER_CODE: Final = 255  # dnsmasq's own number for siaddr
DOMAIN: Final = "domain"
Resolve = Callable[[str], "list[str] | tuple[str, ...]"]


class Range(NamedTuple):
    place: Place
    text: str
    network: IPv4Network
    tag: str | None
    lease: int


class MacTag(NamedTuple):
    tag: str
    fits: Callable[[str], object]


class Reader:
    """boots: boot files, which dnsmasq chooses apart from the options.  ours: addresses of the old server."""

    def __init__(
        self,
        files: Files,
        notes: Notes,
        resolve: Resolve,
        ethers: Path,
        ours: list[IPv4Address],
        networks: Sequence[IPv4Network] = (),
    ) -> None:
        self.networks = networks
        self.files = files
        self.notes = notes
        self.resolve = resolve
        self.ethers = ethers
        self.ours = list(ours)
        self.ranges: list[Range] = []
        self.hosts: list[HostLine] = []
        self.options: list[Tagged] = []
        self.boots: list[Tagged] = []
        self.rules = TagRules()
        self.mac_tags: list[MacTag] = []
        self.ignores: list[tuple[Place, str, list[str]]] = []
        self.texts: set[SiteText] = set()
        self.dns = True
        self.domains: list[tuple[IPv4Network | None, str]] = []
        self.services: dict[int, list[tuple[Line, tuple[str, ...], list[str]]]] = {}
        self.say: dict[str, Callable[[Line], None]] = {
            "dhcp-range": self._range, "dhcp-host": self._host, "dhcp-hostsfile": self._hosts_file,
            "dhcp-hostsdir": self._hosts_file, "dhcp-option": self._option, "dhcp-option-force": self._option,
            "dhcp-optsfile": self._options_file, "dhcp-optsdir": self._options_file, "dhcp-boot": self._boot,
            "dhcp-match": self._match, "dhcp-vendorclass": self._vendor_class, "dhcp-userclass": self._user_class,
            "dhcp-mac": self._mac, "tag-if": self._tag_if, "dhcp-ignore": self._ignore, "domain": self._domain,
            "dhcp-broadcast": self._broadcast, "dhcp-no-override": self._no_override, "port": self._port,
            "listen-address": self._listen, "read-ethers": self._ethers, "pxe-service": self._service,
        }  # fmt: skip

    def read(self, path: Path) -> None:
        """Raises Unreadable of the file itself."""
        for line in options_in(self.files, path, self.notes):
            self._line(line)
        self._services()

    def read_hosts(self, path: Path) -> None:
        """A dhcp-hostsfile by itself.  Raises Unreadable."""
        self._hosts_of(path)

    def _line(self, line: Line) -> None:
        take = self.say.get(line.name)
        if take is not None:
            try:
                take(line)
            except Unfit as unfit:
                self.notes.lost(line.place, line.text, str(unfit))
        elif line.name in NEEDLESS:
            self.notes.needless(line.place, line.text, NEEDLESS[line.name])
        else:
            self.notes.lost(line.place, line.text, LOST.get(line.name, "no option of this name is known"))

    # --- networks and hosts ------------------------------------------------------------------------------------------

    def _range(self, line: Line) -> None:
        parts = split(line.value or "")
        tags, parts = tags_of(parts, "set:", "net:", "tag:")
        wanted = [part.partition(":")[2] for part in split(line.value or "") if part.startswith("tag:")]
        if any(":" in part for part in parts):
            raise Unfit("it is IPv6's")
        if not parts or not is_address(parts[0]):
            raise Unfit("wanted the first address of a range")
        lease = lease_s(parts[-1]) if len(parts) > 1 and not is_address(parts[-1]) else None
        if lease is not None:
            parts = parts[:-1]
        start, rest = parts[0], parts[1:]
        mode = next((part for part in rest if part in _MODES), None)
        addresses = [part for part in rest if is_address(part)]
        end = addresses.pop(0) if mode is None and addresses else None
        mask = addresses[0] if addresses else None
        network = self._network(line, start, end, mask)
        if wanted:
            self.notes.lost(
                line.place, line.text, f"the range is for tag {', '.join(wanted)} only: that is not asked for"
            )
        if mode == "proxy":
            raise Unfit("say `proxy` to the hosts whose address another server gives: docs/inventory.md")
        if end is not None:
            why = f"{start} to {end} are given to machines that nobody named; here each has its own, the others none"
            self.notes.lost(line.place, line.text, why)
        tag = next((each for each in tags if each not in wanted), None)
        self.ranges.append(Range(line.place, line.text, network, tag, lease or USUAL_LEASE_S))

    def _network(self, line: Line, start: str, end: str | None, mask: str | None) -> IPv4Network:
        """Raises Unfit."""
        try:
            if mask is not None:
                return IPv4Network(f"{start}/{mask}", strict=False)
            told = next((each for each in self.networks if IPv4Address(start) in each), None)
            if told is not None:
                return told
            network = IPv4Network(f"{start}/24", strict=False)
        except (AddressValueError, NetmaskValueError, ValueError) as error:
            raise Unfit(f"{error}; wanted a netmask") from error
        if end is not None and IPv4Address(end) not in network:
            raise Unfit("no netmask stands there, and none is known of its interface: --network ADDRESS/PREFIX says it")
        why = f"no netmask stands there: {network} was taken, --network says another; dnsmasq asks its interface"
        self.notes.lost(line.place, line.text, why)
        return network

    def _host(self, line: Line) -> None:
        self._host_of(line.value or "", line.place, line.text)

    def _host_of(self, value: str, place: Place, text: str) -> None:
        """Raises Unfit."""
        host = read_host(split(value), place, text)
        for why in host.whys:
            self.notes.lost(place, text, why)
        self.hosts.append(host)

    def _hosts_file(self, line: Line) -> None:
        for path in self._files(line):
            try:
                self._hosts_of(path)
            except Unreadable as error:
                raise Unfit(str(error)) from error

    def _files(self, line: Line) -> list[Path]:
        """Raises Unfit."""
        if not line.value:
            raise Unfit("wanted the name of a file")
        path = self.files.beside(line.value)
        try:
            return files_in(path) if path.is_dir() else [path]
        except Unreadable as error:
            raise Unfit(str(error)) from error

    def _hosts_of(self, path: Path) -> None:
        """Raises Unreadable."""
        for text, place in plain_lines(self.files, path):
            try:
                self._host_of(text.removeprefix("dhcp-host="), place, text)
            except Unfit as unfit:
                self.notes.lost(place, text, str(unfit))

    def _ethers(self, line: Line) -> None:
        """A hardware address, and a name or an address."""
        try:
            for text, place in plain_lines(self.files, self.ethers):
                self.read_ethers_line(text, place)
        except Unreadable as error:
            raise Unfit(f"{error}; --ethers FILE names it") from error

    def read_ethers_line(self, text: str, place: Place) -> None:
        words = text.split()
        try:
            if len(words) != 2:
                raise Unfit("wanted a MAC address, and a name or an address")
            self._host_of(",".join(words), place, text)
        except Unfit as unfit:
            self.notes.lost(place, text, str(unfit))

    # --- options -----------------------------------------------------------------------------------------------------

    def _option(self, line: Line) -> None:
        self._option_of(line.value or "", line.place)

    def _options_file(self, line: Line) -> None:
        for path in self._files(line):
            try:
                for text, place in plain_lines(self.files, path):
                    try:
                        self._option_of(text.removeprefix("dhcp-option="), place)
                    except Unfit as unfit:
                        self.notes.lost(place, text, str(unfit))
            except Unreadable as error:
                raise Unfit(str(error)) from error

    def _option_of(self, value: str, place: Place) -> None:
        """Raises Unfit."""
        tags, parts = tags_of(split(value), "tag:", "net:")
        head = parts[0] if parts else ""
        if head.startswith("option6:"):
            self.notes.needless(place, value, "it is IPv6's")
            return
        if head.startswith("vi-encap:"):
            raise Unfit("say it as vendor_specific_information: docs/inventory.md")
        if head.startswith(("encap:", "vendor:")):
            self._suboption(head, parts[1:], tuple(tags), place)
            return
        if head in ("option:server-ip-address", "server-ip-address"):
            self.options.append(Tagged(place, tuple(tags), BOOT_SERVER, self._address(parts[1])))
            return
        option = by_code(code_of(head))
        values = self._without_ourselves(parts[1:])
        if not values or values == [""]:
            self.options.append(Tagged(place, tuple(tags), option.name, None))
            return
        self.options.append(Tagged(place, tuple(tags), option.name, value_of(option, values)))

    def _without_ourselves(self, parts: list[str]) -> list[str]:
        """0.0.0.0 is the machine that dnsmasq runs on."""
        if "0.0.0.0" not in parts or any(not is_address(part) for part in parts):
            return parts
        if len(self.ours) != 1:
            raise Unfit("0.0.0.0 is that server's own address: --server-address ADDRESS says which")
        return [str(self.ours[0]) if part == "0.0.0.0" else part for part in parts]

    def _address(self, text: str) -> str:
        """Raises Unfit."""
        return text if is_address(text) else self.resolve(text)[0]

    def _suboption(self, head: str, parts: list[str], tags: tuple[str, ...], place: Place) -> None:
        """`encap:175,190,text`, `vendor:PXEClient,1,0.0.0.0`: what stands in 43 is told to whose 60 has the word."""
        word, _, rest = head.partition(":")
        code = code_of(rest) if word == "encap" else 43
        vendor = rest.encode() if word == "vendor" and rest else None
        if not parts or not parts[0].isdecimal() or int(parts[0]) > 254:
            raise Unfit("wanted a sub-option's number")
        if vendor is not None:
            text = text_for_class(VENDOR_CLASS, rest)
            self.texts.update([text] if text is not None else [])
        data = octets(parts[1:]).hex()
        self.options.append(Tagged(place, tags, by_code(code).name, data, int(parts[0]), vendor))

    def _boot(self, line: Line) -> None:
        tags, parts = tags_of(split(line.value or ""), "tag:", "net:")
        if not parts:
            raise Unfit("wanted a boot file")
        option = by_name(BOOT_FILE)
        assert option is not None
        file = attribute(option, str(parts[0])) if parts[0] else ""
        self.boots.append(Tagged(line.place, tuple(tags), BOOT_FILE, file))
        server: str | None = None
        if len(parts) > 2 and parts[2]:
            server = self._address(parts[2])
        elif len(self.ours) == 1:
            server = str(self.ours[0])
        else:
            why = "its boot server is that server itself: --server-address ADDRESS says which; no boot server was taken"
            self.notes.lost(line.place, line.text, why)
        self.boots.append(Tagged(line.place, tuple(tags), BOOT_SERVER, server))

    def _service(self, line: Line) -> None:
        tags, parts = tags_of(split(line.value or ""), "tag:", "net:")
        system = PXE_SYSTEMS.get(parts[0].lower(), int(parts[0]) if parts and parts[0].isdecimal() else None)
        if system is None or len(parts) < 2:
            raise Unfit("wanted a client's system, and the line of a menu")
        self.services.setdefault(system, []).append((line, tuple(tags), parts[2:]))

    def _services(self) -> None:
        """One for a system is a boot file; several are a menu."""
        for system, found in sorted(self.services.items()):
            for line, tags, parts in found:
                file = parts[0] if parts else ""
                if len(found) > 1 or not file or file.isdecimal():
                    self.notes.lost(line.place, line.text, "menus are said as vendor_specific: docs/inventory.md")
                    continue
                tag = f"pxe-service\0{system}"
                self.rules.setters.append(Setter(tag, matching(ARCHITECTURE, str(system))))
                file = file if "." in file else f"{file}.0"  # PXE's layer
                server = parts[1] if len(parts) > 1 else str(self.ours[0]) if len(self.ours) == 1 else None
                self.boots.append(Tagged(line.place, (*tags, tag), BOOT_FILE, file))
                if server is None:
                    why = "its boot server is that server itself: --server-address ADDRESS says which"
                    self.notes.lost(line.place, line.text, why)
                    continue
                self.boots.append(Tagged(line.place, (*tags, tag), BOOT_SERVER, self._address(server)))

    def _broadcast(self, line: Line) -> None:
        tags, _ = tags_of(split(line.value or ""), "tag:", "net:")
        self.options.append(Tagged(line.place, tuple(tags), "always_broadcast", 1))

    def _no_override(self, line: Line) -> None:
        self.options.append(Tagged(line.place, (), "overload", 0))

    def _domain(self, line: Line) -> None:
        parts = split(line.value or "")
        if not parts[0] or parts[0] == "#":
            raise Unfit("wanted a domain")
        if len(parts) == 1:
            self.domains.append((None, parts[0]))
            return
        try:
            if "/" not in parts[1] or parts[2:] not in ([], ["local"]):
                raise ValueError(parts[1])
            self.domains.append((IPv4Network(parts[1]), parts[0]))
        except ValueError as error:
            raise Unfit("only a network such as 10.20.0.0/24 can have a domain of its own here") from error

    # --- tags --------------------------------------------------------------------------------------------------------

    def _setter(self, line: Line) -> tuple[str, list[str]]:
        """Raises Unfit."""
        tags, parts = tags_of(split(line.value or ""), "set:", "net:")
        if not tags and len(parts) > 1:
            return parts[0], parts[1:]  # as older versions had it
        if len(tags) != 1 or not parts:
            raise Unfit("wanted set: and a tag, and what sets it")
        return tags[0], parts

    def _match(self, line: Line) -> None:
        tag, parts = self._setter(line)
        if parts[0].startswith(("vi-encap:", "option6:")):
            raise Unfit("vendor classes by enterprise are said as dhcp.classes in services.conf")
        code = code_of(parts[0])
        value = parts[1] if len(parts) > 1 else None
        self._set_by(line, tag, Setter(tag, matching(code, value)), code, value)

    def _set_by(self, line: Line, tag: str, setter: Setter, code: int, value: str | None) -> None:
        self.rules.setters.append(setter)
        text = text_for_class(code, value)
        if text is not None:
            self.texts.add(text)
            if octets_of(value or "") is None:
                why = f"{value} counts at the beginning of option {code} only; dnsmasq looks for it anywhere"
                self.notes.needless(line.place, line.text, why)

    def _vendor_class(self, line: Line) -> None:
        tag, parts = self._setter(line)
        if parts[0].startswith("enterprise:"):
            raise Unfit("vendor classes by enterprise are said as dhcp.classes in services.conf")
        text = ",".join(parts)
        self._set_by(line, tag, Setter(tag, contains(VENDOR_CLASS, text.encode())), VENDOR_CLASS, text)

    def _user_class(self, line: Line) -> None:
        tag, parts = self._setter(line)
        text = ",".join(parts)
        self._set_by(line, tag, Setter(tag, contains(USER_CLASS, text.encode())), USER_CLASS, text)

    def _mac(self, line: Line) -> None:
        tag, parts = self._setter(line)
        self.mac_tags.append(MacTag(tag, pattern(parts[0]).fullmatch))

    def _tag_if(self, line: Line) -> None:
        parts = split(line.value or "")
        sets = tuple(part.partition(":")[2] for part in parts if part.startswith(("set:", "net:")))
        wants = tuple(part.partition(":")[2] for part in parts if part.startswith("tag:"))
        if not sets or len(sets) + len(wants) != len(parts):
            raise Unfit("wanted set: and tag: with a tag each")
        self.rules.ifs.append(TagIf(sets, wants))

    def _ignore(self, line: Line) -> None:
        tags, rest = tags_of(split(line.value or ""), "tag:", "net:")
        if rest:
            raise Unfit("wanted tags")
        if f"!{KNOWN}" in tags:
            self.notes.needless(line.place, line.text, "machines that are not in the inventory get no answer")
        else:
            self.ignores.append((line.place, line.text, tags))

    def _port(self, line: Line) -> None:
        self.dns = line.value != "0"
        self.notes.needless(line.place, line.text, "it is about DNS, which is another server's")

    def _listen(self, line: Line) -> None:
        for part in split(line.value or ""):
            if is_address(part) and not part.startswith("127.") and IPv4Address(part) not in self.ours:
                self.ours.append(IPv4Address(part))
        self.notes.needless(line.place, line.text, "say dhcp.interfaces in services.conf")
