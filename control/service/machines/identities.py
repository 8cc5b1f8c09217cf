"""What answered machines say of themselves: who was seen as what, who is in a boot loop, who shares an identifier, who
uses one address at two cards.

ext/sighted.pyx hears the workers' sightings (ext/sightings.pxd) and remembers them; what concerns a second machine
comes here, to be told or not.  The clock is that of the sightings.  An address hangs on the MAC alone, so nothing in
here decides about an answer: one machine that shows two vendor classes or client-ids in one boot is as usual as can be,
two machines that show one client-id are worth a word.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address
from itertools import islice
from typing import Any, NamedTuple

from ext.classify import ClientClass
from ext.sighted import CLIENT_ID_BYTES, News, Sighted
from ext.site_classes import PARENTS

from control.explain.wording import CLASSES, class_name
from control.messages.dissect import describe_option, options_of
from control.plan.classes import EVERYWHERE

CLONES_MAX = LOOPS_MAX = 1_000
SHOWN_MAX = 16  # machines of one clone in the status
COUNTED_MAX = 255  # of ACKs in a row, which an event has a byte for
LOOP_LASTS_NS = 120_000_000_000  # a loop is told anew within a minute and a round of a minute
CLONE_WITHIN_NS = 86_400_000_000_000  # a card that was moved, or a disk, is no clone of the machine that it came from
COMPARED_MAX = 8
_ETHERNET = 1  # first byte of a client-id: a MAC follows


class Loop(NamedTuple):
    """A machine that asked so often in one class, each time within a minute of the last."""

    mac: str
    role: str
    client: str
    repeats: int


class Clone(NamedTuple):
    """Machines that say one and the same of themselves; macs: the SHOWN_MAX that joined last, in that order."""

    identity: bytes
    client_id: bytes
    macs: tuple[str, ...]


class Shared(NamedTuple):
    """Cards of one host that use one address at once."""

    address: int
    macs: tuple[str, ...]


Finding = Loop | Clone | Shared
RowOf = Callable[[str], Mapping[str, Any] | None]  # MAC -> its row as a host, as of ext.table.Pair.lookup


class Identities:
    """name_of: MAC -> its object of the inventory; one object with two MACs is no clone of itself."""

    def __init__(
        self,
        name_of: Callable[[str], str | None],
        row_of: RowOf = lambda _mac: None,
        sighted: Sighted | None = None,
    ) -> None:
        self.name_of = name_of
        self.row_of = row_of
        self.sighted = Sighted() if sighted is None else sighted
        self.clones: OrderedDict[bytes, bytes] = OrderedDict()  # identities that were told -> a client-id with it
        self.loops: OrderedDict[tuple[str, str, str], int] = OrderedDict()  # -> when it was last seen looping

    def find(self, event: Mapping[str, Any]) -> tuple[Finding, ...]:
        """What there is to say about a sighting that ext.page.WorkerPage.drain() gives, if anything."""
        found: list[Finding | None] = []
        news: News | None = event["news"]
        if news is not None and news.left and self.sighted.count_sayers(news.left) < 2:
            self.clones.pop(news.left, None)
        if news is not None and news.same:
            found.append(self.join(news.same, event))
        if event["repeats"]:
            found.append(self.loop(event))
        if news is not None and news.shared:
            found.append(self.use(news.used_ns, event))
        return tuple(each for each in found if each is not None)

    # --- one address, two cards of a host ------------------------------------------------------------------------

    def use(self, used_ns: int, event: Mapping[str, Any]) -> Shared | None:
        """A card was ACKed with an address: does another card of its host use it, too?

        A ROM boots from one card, and its system may then take another; it is both at once when both have a system, or
        when the first comes back after the second.  Nobody is believed to use it longer than a lease."""
        mac, now_ns, address = event["mac"], event["boottime_ns"], event["ciaddr"] or event["requested"]
        row = self.row_of(mac)
        if row is None:
            return None
        lease_ns = max((each["template"]["lease_s"] for each in row["leases"]), default=0) * 1_000_000_000
        came_back = used_ns and now_ns - used_ns < lease_ns
        is_system = event["class"] == ClientClass.OS.name
        macs = [
            other
            for other, (system, seen_ns) in self.sighted.users_of(address).items()
            if other != mac
            and now_ns - seen_ns < lease_ns
            and ((system and is_system) or (came_back and seen_ns > used_ns))
            and (other_row := self.row_of(other)) is not None
            and other_row["identity"] == row["identity"]
        ]
        return Shared(address, (*sorted(macs), mac)) if macs else None

    # --- one identifier, several machines ------------------------------------------------------------------------

    def join(self, identity: bytes, event: Mapping[str, Any]) -> Clone | None:
        """Another machine with this identity: the clone when it is news."""
        if identity in self.clones:
            return None
        sayers = self.sighted.sayers(identity, COMPARED_MAX + 1)
        name = self.name_of(event["mac"])
        if not any(
            event["boottime_ns"] - seen_ns < CLONE_WITHIN_NS and self.name_of(mac) != name
            for mac, seen_ns in sayers.items()
            if mac != event["mac"]
        ):
            return None
        self.clones[identity] = event["client_id"]
        while len(self.clones) > CLONES_MAX:
            self.clones.popitem(last=False)
        return Clone(identity, event["client_id"], self.first_sayers(identity))

    def first_sayers(self, identity: bytes) -> tuple[str, ...]:
        return tuple(reversed(self.sighted.sayers(identity, SHOWN_MAX)))

    # --- boot loops ----------------------------------------------------------------------------------------------

    def loop(self, event: Mapping[str, Any]) -> Loop:
        key = event["mac"], event["role"], event["class"]
        self.loops.pop(key, None)
        self.loops[key] = event["boottime_ns"]
        while len(self.loops) > LOOPS_MAX:
            self.loops.popitem(last=False)
        return Loop(*key, event["repeats"])

    # --- for the console -----------------------------------------------------------------------------------------

    def counts(self, now_ns: int) -> dict[str, Any]:
        """seen: machines; cloned: client-ids that several of them share; loops: machines in a boot loop just now."""
        looping = {mac for (mac, _role, _class), seen_ns in self.loops.items() if now_ns - seen_ns < LOOP_LASTS_NS}
        return {
            "seen": self.sighted.machines,
            "cloned": len(self.clones),
            "loops": len(looping),
            "clones": [
                {
                    "client_id": client_id_words(self.clones[identity]),
                    "machines": self.sighted.count_sayers(identity),
                    "shown": [{"mac": mac, "host": self.name_of(mac)} for mac in self.first_sayers(identity)],
                }
                for identity in islice(reversed(self.clones), SHOWN_MAX)
            ],
        }

    def of(self, mac: str, now_ns: int) -> list[dict[str, Any]]:
        """What a machine was seen as, the last first."""
        words = sorted(self.sighted.words_of(mac), key=lambda word: -word[4])
        return [
            {
                "class": shown_class(client),
                "role": role,
                "client_id": client_id_words(client_id) if client_id else None,
                "other_mac": other_mac(client_id, mac),
                "shared_with": self.others(identity, mac),
                "vendor_class": printable(vendor_class),
                "seconds_ago": round((now_ns - seen_ns) / 1e9, 3),
            }
            for client, role, client_id, vendor_class, seen_ns, identity in words
        ]

    def others(self, identity: bytes, mac: str) -> list[str]:
        """At most SHOWN_MAX MACs of other machines that have an identity, too."""
        if identity not in self.clones:
            return []
        sayers = self.sighted.sayers(identity, SHOWN_MAX + 1)
        return [other for other in reversed(sayers) if other != mac][:SHOWN_MAX]


# --- client-ids ------------------------------------------------------------------------------------------------------


def other_mac(client_id: bytes, mac: str) -> str | None:
    """The MAC in a client-id of that form, when it is not the sender's."""
    if len(client_id) == 7 and client_id[0] == _ETHERNET and client_id[1:].hex(":") != mac:
        return client_id[1:].hex(":")
    return None


def client_id_words(client_id: bytes) -> str:
    words: str = describe_option(61, client_id)["value"]
    return f"{words}..." if len(client_id) >= CLIENT_ID_BYTES else words


def printable(text: bytes) -> str:
    """Whatever strangers send, one line of ASCII."""
    return text.decode("latin-1").encode("unicode_escape").decode("ascii")


def shown_class(name: str) -> str:
    return class_name(ClientClass[name])


# --- in words --------------------------------------------------------------------------------------------------------


def loop_words(loop: Loop, row: Mapping[str, Any] | None, addresses: tuple[int, ...]) -> str:
    """What a looping machine gets again and again, and what to look at.

    row: of ext.table.Pair.lookup; addresses: those that it asked for, to tell its leases apart."""
    client = ClientClass[loop.client]
    name = class_name(client)
    times = f"{loop.repeats} or more" if loop.repeats == COUNTED_MAX else str(loop.repeats)
    head = f"asked {times} times in a row within a minute of each other as {name} ({CLASSES[name]})"
    file, server = boot_file(row, client, addresses)
    if not file:
        return f"{head} and is given no boot file: set dhcp tftp_filename for it or for a container of it"
    place = f" from {server}" if server and "://" not in file else ""
    return (
        f"{head} and each time was given the boot file {file}{place}; {what_to_look_at(row, client, addresses, file)}"
    )


def boot_file(row: Mapping[str, Any] | None, client: ClientClass, addresses: tuple[int, ...]) -> tuple[str, str]:
    """(boot file, who has it) of a class, from the table; empty texts where it says nothing."""
    if row is None or not row["leases"]:
        return "", ""
    leases = row["leases"]
    everybody = next((each for each in leases if each["address"] in addresses), leases[0])["template"]
    variants, wider = everybody.get("variants", {}), int(client)
    while wider not in variants and wider > max(EVERYWHERE):  # of another class the table says what its wider one gets
        wider = PARENTS[wider]
    said = variants.get(wider, everybody)
    options = dict(options_of(said["options"]))
    file = said["file"] or options.get(67, b"").rstrip(b"\0")
    siaddr = str(IPv4Address(said["siaddr"])) if said["siaddr"] else ""
    return printable(file), siaddr or printable(options.get(66, b"").rstrip(b"\0"))


def what_to_look_at(row: Mapping[str, Any] | None, client: ClientClass, addresses: tuple[int, ...], file: str) -> str:
    if client in (ClientClass.IPXE, ClientClass.IPXE_HTTP):
        firmware = (ClientClass.BIOS_PXE, ClientClass.UEFI_X64, ClientClass.UEFI_IA32, ClientClass.UEFI_ARM64)
        if any(boot_file(row, each, addresses)[0] == file for each in firmware):
            return "its firmware is given the same file, so iPXE loads iPXE: set dhcp tftp_filename--ipxe to its script"
        return "does it get the file (log of that server), and what does the script do at its end (console)?"
    if ClientClass.HTTP_BOOT in (client, PARENTS[client]):
        return "does that server answer HEAD and GET for it (its log), and is it signed where Secure Boot is on?"
    return (
        "does that server deliver it (its TFTP log), is it made for this firmware, and does what it starts get a file "
        "of its own (tftp_filename--ipxe for iPXE)?"
    )


def clone_words(clone: Clone, name_of: Callable[[str], str | None]) -> str:
    shown = [f"{mac} ({name_of(mac)})" for mac in islice(clone.macs, SHOWN_MAX)]
    return (
        f"{' and '.join(shown)} say one and the same client-id, {client_id_words(clone.client_id)}: made from one "
        "image? Here each keeps its own address, which hangs on the MAC; what goes by machine-id or client-id takes "
        "them for one. Give each an /etc/machine-id of its own, or remove the DHCP client's saved DUID"
    )


def shared_words(shared: Shared, name_of: Callable[[str], str | None]) -> str:
    return (
        f"{' and '.join(shared.macs)} of {name_of(shared.macs[0])} both use {IPv4Address(shared.address)}: replies "
        "reach now one card, now the other. Let the system use one of them, or bind an address to each by osportname"
    )
