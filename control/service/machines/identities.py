"""What answered machines say of themselves: who was seen as what, who is in a boot loop, who shares an identifier, who
uses one address at two cards.

Pure; fed with the workers' sightings (ext/sightings.pxd), whose clock it goes by.  An address hangs on the MAC alone,
so nothing in here decides about an answer: one machine that shows two vendor classes or client-ids in one boot is as
usual as can be, two machines that show one client-id are worth a word.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address
from itertools import islice
from typing import Any, NamedTuple

from ext.classify import ClientClass
from ext.site_classes import PARENTS

from control.explain.wording import CLASSES, class_name
from control.messages.dissect import describe_option, options_of
from control.plan.classes import EVERYWHERE

HOSTS_MAX = 100_000
STAGES_MAX = 18  # of one host: every class as host and as BMC
CLONES_MAX = LOOPS_MAX = 1_000
SHOWN_MAX = 16  # machines of one clone in the status
CLIENT_ID_BYTES = 28  # an event's room: one that fills it may have been longer
COUNTED_MAX = 255  # of ACKs in a row, which an event has a byte for
LOOP_LASTS_NS = 120_000_000_000  # a loop is told anew within a minute and a round of a minute
CLONE_WITHIN_NS = 86_400_000_000_000  # a card that was moved, or a disk, is no clone of the machine that it came from
COMPARED_MAX = 8
CARDS_MAX = 4  # of one address
_ETHERNET, _DUID = 1, 255  # first byte of a client-id: a MAC follows; IAID and DUID follow (RFC 4361)


class Word(NamedTuple):
    """What a machine said last in one stage of its boot."""

    client: str
    role: str
    client_id: bytes
    vendor_class: bytes
    boottime_ns: int


class Loop(NamedTuple):
    """A machine that asked so often in one class, each time within a minute of the last."""

    mac: str
    role: str
    client: str
    repeats: int


class Clone(NamedTuple):
    """Machines that say one and the same of themselves; macs grows while others join."""

    identity: bytes
    client_id: bytes
    macs: dict[str, None]


class Shared(NamedTuple):
    """Cards of one host that use one address at once."""

    address: int
    macs: tuple[str, ...]


# A Word as it is kept.  Plain tuples of plain values are none of the garbage collector's business: with 300,000 named
# ones it would stop control for 0.2 s from time to time.
Kept = tuple[str, str, bytes, bytes, int]
User = tuple[str, bool, int]  # MAC, whether its system, when
Finding = Loop | Clone | Shared
RowOf = Callable[[str], Mapping[str, Any] | None]  # MAC -> its row as a host, as of ext.table.Pair.lookup
NOTHING: tuple[Finding, ...] = ()


class Identities:
    """name_of: MAC -> its object of the inventory; one object with two MACs is no clone of itself."""

    def __init__(
        self,
        name_of: Callable[[str], str | None],
        hosts_max: int = HOSTS_MAX,
        row_of: RowOf = lambda _mac: None,
    ) -> None:
        self.name_of = name_of
        self.row_of = row_of
        self.users: OrderedDict[int, tuple[User, ...]] = OrderedDict()  # address -> the cards that were ACKed with it
        self.hosts_max = hosts_max
        self.hosts: OrderedDict[str, tuple[Kept, ...]] = (
            OrderedDict()
        )  # the one that was silent for longest comes first
        self.owners: dict[bytes, str | dict[str, None]] = {}  # identity -> its MAC, or its MACs when there are several
        self.clones: OrderedDict[bytes, Clone] = OrderedDict()
        self.loops: OrderedDict[tuple[str, str, str], int] = OrderedDict()  # -> when it was last seen looping
        self.kept: dict[bytes, bytes] = {}  # vendor classes: thousands of machines share a few

    def take(self, event: Mapping[str, Any]) -> tuple[Finding, ...]:
        """One sighting; what there is to say about it, if anything."""
        mac, client_id = event["mac"], event["client_id"]
        vendor_class, seen_ns = self.shared(event["vendor_class"]), event["boottime_ns"]
        former_id = self.remember(mac, (event["class"], event["role"], client_id, vendor_class, seen_ns))
        if former_id is not None and former_id != client_id:
            self.leave(identity_of(former_id, mac), mac)
        found: tuple[Finding, ...] = NOTHING
        identity = identity_of(client_id, mac)
        if identity:
            clone = self.join(identity, mac, client_id, seen_ns)
            found = NOTHING if clone is None else (clone,)
        if event["repeats"]:
            found += (self.loop(event),)
        address = event["ciaddr"] or event["requested"]
        if address and event["role"] == "host":
            shared = self.use(address, (mac, event["class"] == ClientClass.OS.name, seen_ns))
            found += () if shared is None else (shared,)
        return found

    # --- one address, two cards of a host ------------------------------------------------------------------------

    def use(self, address: int, now: User) -> Shared | None:
        """A card was ACKed with an address: does another card of its host use it, too?

        A ROM boots from one card, and its system may then take another; it is both at once when both have a system, or
        when the first comes back after the second.  Nobody is believed to use it longer than a lease."""
        before = self.users.pop(address, ())
        self.users[address] = (*(user for user in before if user[0] != now[0]), now)[-CARDS_MAX:]
        while len(self.users) > self.hosts_max:
            self.users.popitem(last=False)
        others = [user for user in before if user[0] != now[0]]
        row = self.row_of(now[0]) if others else None
        if row is None:
            return None
        lease_ns = max((each["template"]["lease_s"] for each in row["leases"]), default=0) * 1_000_000_000
        mine_ns = [seen_ns for mac, _system, seen_ns in before if mac == now[0] and now[2] - seen_ns < lease_ns]
        macs = [
            mac
            for mac, system, seen_ns in others
            if now[2] - seen_ns < lease_ns
            and ((system and now[1]) or (mine_ns and seen_ns > mine_ns[0]))
            and (other := self.row_of(mac)) is not None
            and other["identity"] == row["identity"]
        ]
        return Shared(address, (*macs, now[0])) if macs else None

    def shared(self, vendor_class: bytes) -> bytes:
        if len(self.kept) > 1_000:
            self.kept.clear()
        return self.kept.setdefault(vendor_class, vendor_class)

    def remember(self, mac: str, word: Kept) -> bytes | None:
        """The client-id that the machine had before in this stage."""
        words = self.hosts.get(mac)
        if words is None:
            self.hosts[mac] = (word,)
            while len(self.hosts) > self.hosts_max:
                gone, said = self.hosts.popitem(last=False)
                for _client, _role, client_id, _vendor_class, _seen_ns in said:
                    self.leave(identity_of(client_id, gone), gone)
            return None
        self.hosts.move_to_end(mac)
        for at, (client, role, client_id, _vendor_class, _seen_ns) in enumerate(words):
            if client == word[0] and role == word[1]:
                self.hosts[mac] = (*words[:at], word, *words[at + 1 :])
                return client_id
        self.hosts[mac] = (*words, word)[-STAGES_MAX:]
        return None

    def words_of(self, mac: str) -> list[Word]:
        return [Word(*said) for said in self.hosts.get(mac, ())]

    # --- one identifier, several machines ------------------------------------------------------------------------

    def join(self, identity: bytes, mac: str, client_id: bytes, seen_ns: int) -> Clone | None:
        """Another machine with this identity?  The clone when it is news."""
        owners = self.owners.get(identity)
        if owners is None or owners == mac:
            self.owners[identity] = mac
            return None
        if isinstance(owners, str):
            owners = self.owners[identity] = {owners: None}
        owners[mac] = None
        if identity in self.clones or not self.are_two(identity, mac, seen_ns, owners):
            return None
        clone = self.clones[identity] = Clone(identity, client_id, owners)
        while len(self.clones) > CLONES_MAX:
            self.clones.popitem(last=False)
        return clone

    def are_two(self, identity: bytes, mac: str, seen_ns: int, owners: dict[str, None]) -> bool:
        """Is one of the others, of which the last to join are looked at, another machine that is about?"""
        name = self.name_of(mac)
        for other in islice((each for each in reversed(owners) if each != mac), COMPARED_MAX):
            said = [each.boottime_ns for each in self.saying(identity, other)]
            if said and seen_ns - max(said) < CLONE_WITHIN_NS and self.name_of(other) != name:
                return True
        return False

    def saying(self, identity: bytes, mac: str) -> list[Word]:
        """The stages in which a machine has an identity."""
        return [word for word in self.words_of(mac) if identity_of(word.client_id, mac) == identity]

    def leave(self, identity: bytes, mac: str) -> None:
        """The machine says something else now, or is forgotten; unless it still says this in another stage."""
        owners = self.owners.get(identity)
        if owners is None or self.saying(identity, mac):
            return
        if isinstance(owners, dict):
            owners.pop(mac, None)
            if len(owners) < 2:
                self.clones.pop(identity, None)
        if owners in (mac, {}):
            del self.owners[identity]

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
            "seen": len(self.hosts),
            "cloned": len(self.clones),
            "loops": len(looping),
            "clones": [
                {
                    "client_id": client_id_words(clone.client_id),
                    "machines": len(clone.macs),
                    "shown": [{"mac": mac, "host": self.name_of(mac)} for mac in islice(clone.macs, SHOWN_MAX)],
                }
                for clone in islice(reversed(self.clones.values()), SHOWN_MAX)
            ],
        }

    def of(self, mac: str, now_ns: int) -> list[dict[str, Any]]:
        """What a machine was seen as, the last first."""
        words = sorted(self.words_of(mac), key=lambda word: -word.boottime_ns)
        return [
            {
                "class": shown_class(word.client),
                "role": word.role,
                "client_id": client_id_words(word.client_id) if word.client_id else None,
                "other_mac": other_mac(word.client_id, mac),
                "shared_with": list(self.others(identity_of(word.client_id, mac), mac)),
                "vendor_class": printable(word.vendor_class),
                "seconds_ago": round((now_ns - word.boottime_ns) / 1e9, 3),
            }
            for word in words
        ]

    def others(self, identity: bytes, mac: str) -> Iterator[str]:
        """At most SHOWN_MAX MACs of other machines that have an identity, too."""
        clone = self.clones.get(identity)
        macs = (other for other in (clone.macs if clone is not None else ()) if other != mac)
        return islice(macs, SHOWN_MAX)


# --- client-ids ------------------------------------------------------------------------------------------------------


def identity_of(client_id: bytes, mac: str) -> bytes:
    """What of a client-id no other machine should have; b"" when it says nothing of that kind.

    Of RFC 4361's form the DUID: the IAID before it is the interface's.  One of zeros or ones alone is a board without a
    GUID, and one that may have been cut off is not compared."""
    if not 2 < len(client_id) < CLIENT_ID_BYTES:
        return b""
    kind = client_id[0]
    if kind == _ETHERNET and len(client_id) == 7 and client_id[1:].hex(":") == mac:
        return b""
    said = client_id[5:] if kind == _DUID and len(client_id) > 8 else client_id
    return b"" if len(set(said[1:])) < 2 else said


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
