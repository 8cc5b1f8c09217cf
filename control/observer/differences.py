"""Two replies to one request beside each other: what differs, and which of it is *set aside*, because no client that
asked so acts otherwise for it.  Pure.

What a client asks for stands in its option 55; one that sends none is taken to ask for everything.  Whatever is set
aside keeps its reason, so that a person can see it and judge otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Any, Final, NamedTuple

from ext.classify import ClientClass

from control.messages.dissect import Message, differences, words

NOT_ASKED: Final = "not asked for (option 55)"
FILE_PLACE: Final = "the same boot file, in another place"
SERVER_PLACE: Final = "the same boot server, in another place"
SERVER_IN_URL: Final = "the boot file is a URL, which names its server"
NAMES_ITSELF: Final = "no boot file, and the other server names itself as the boot server"
OWN_ID: Final = "the client's own id, repeated or not (RFC 6842)"
DEFAULT: Final = "what a client takes where nothing is said"
RANDOM_PART: Final = "within a sixteenth of the lease: servers vary T1 and T2 at random"

_MASK, _BROADCAST, _LEASE, _OVERLOAD, _SERVER_ID, _T1, _T2, _CLIENT_ID = 1, 28, 51, 52, 54, 58, 59, 61
_RELAY_AGENT, _SUBNET = 82, 118
_SERVER_NAME, _BOOT_FILE = 66, 67
_TIMES = {_LEASE, _T1, _T2}
# Servers send these to everybody and clients act on them, asked for or not; or repeat them, to who waits for that.
_UNASKED = {_MASK, *_TIMES, _CLIENT_ID, _RELAY_AGENT, _SUBNET}
# Firmware acts on these unasked, and what it loads (PXELINUX, iPXE) reads them in the firmware's reply: RFC 5071.
_TO_BOOT = {17, 43, 60, _SERVER_NAME, _BOOT_FILE, 175, 208, 209, 210, 211}
_FOR_EVER = 0xFFFFFFFF
_RANDOM_SHARE = 16  # dnsmasq shortens T1 and T2 of a renewal by up to this part of the lease


class Aside(NamedTuple):
    """A difference that was set aside.  A tuple, since thousands of hosts have the same ones: they are kept once."""

    kind: str
    what: str
    ours: str
    theirs: str
    why: str


class Compared(NamedTuple):
    """found: what two replies say otherwise, as dissect.differences() has it, each with its kind.  apart: their server
    ids differ."""

    found: list[dict[str, str]]
    aside: list[Aside]
    apart: bool


def compared(ours: Message, theirs: Message, request: Mapping[str, Any]) -> Compared:
    """How options are packed (52) is no difference.  request: codec.parse() of what both answer."""
    if ours.kind != theirs.kind:
        kinds = {"kind": "message", "what": "message", "ours": ours.kind or "-", "theirs": theirs.kind or "-"}
        return Compared([kinds], [], False)
    found: list[dict[str, str]] = []
    aside: list[Aside] = []
    apart = False
    for each in differences(ours, theirs):
        code = int(each["what"].split()[1]) if each["what"].startswith("option ") else 0
        if code == _SERVER_ID:
            apart = True
        elif code != _OVERLOAD:
            kind = kind_of(each["what"], code, ours, theirs)
            if why := why_aside(each["what"], code, ours, theirs, request):
                aside.append(Aside(kind, **each, why=why))
            else:
                found.append({"kind": kind, **each})
    return Compared(found, aside, apart)


def kind_of(what: str, code: int, ours: Message, theirs: Message) -> str:
    if (code == _BOOT_FILE or what == "boot file") and boot_files(ours) == boot_files(theirs):
        return "place of the boot file"
    return "lease time" if code in _TIMES else what


def why_aside(what: str, code: int, ours: Message, theirs: Message, request: Mapping[str, Any]) -> str:
    """The reason why a difference is none to this client; "" where it is one."""
    if what == "boot file" or code == _BOOT_FILE:
        if boot_files(ours) == boot_files(theirs):
            return FILE_PLACE
    elif what in ("next server", "server name") or code == _SERVER_NAME:
        if why := why_no_other_server(what, ours, theirs, request):
            return why
    elif code == _CLIENT_ID:
        said = {message.options[code] for message in (ours, theirs) if code in message.options}
        return OWN_ID if said == {request["client_id"]} else ""
    elif code in (_T1, _T2, _BROADCAST):
        if (taken := taken_for(ours, code)) is not None and taken == taken_for(theirs, code):
            return DEFAULT
        if code != _BROADCAST and varies_at_random(ours, theirs, code):
            return RANDOM_PART
    asked = request["parameter_list"]
    if not code or not asked or code in asked or code in _UNASKED:
        return ""
    return "" if code in _TO_BOOT and request["client_class"] is not ClientClass.OS else NOT_ASKED


def why_no_other_server(what: str, ours: Message, theirs: Message, request: Mapping[str, Any]) -> str:
    """The same for one of the three places of the boot server."""
    if boot_servers(ours) == boot_servers(theirs):
        return SERVER_PLACE
    files = boot_files(ours) | boot_files(theirs)
    if files and all("://" in file for file in files):
        return SERVER_IN_URL
    # dnsmasq puts its own address into siaddr of every reply.  Firmware may load a file that nobody names from there.
    itself = theirs.options.get(_SERVER_ID, b"") == IPv4Address(theirs.siaddr or 0).packed
    idle = not files and request["client_class"] is ClientClass.OS
    return NAMES_ITSELF if what == "next server" and idle and itself and not ours.siaddr else ""


def boot_files(message: Message) -> set[str]:
    """What stands in the two places of the boot file: one name, unless they contradict each other."""
    return {message.file, name_in(message, _BOOT_FILE)} - {""}


def boot_servers(message: Message) -> set[str]:
    """What stands in the three places of the boot server."""
    return {message.siaddr, message.sname, name_in(message, _SERVER_NAME)} - {""}


def name_in(message: Message, code: int) -> str:
    """An option's text without the NUL that some servers put behind it; "" where there is none."""
    value = message.options.get(code, b"").rstrip(b"\0")
    return words(value) if value else ""


def taken_for(message: Message, code: int) -> bytes | None:
    """What a client goes by: the option, else its default (RFC 2131 section 4.4.5, RFC 1122 section 3.3.6)."""
    if code in message.options:
        return message.options[code]
    lease, mask = message.options.get(_LEASE, b""), message.options.get(_MASK, b"")
    if code == _BROADCAST:
        address = message.yiaddr or message.ciaddr
        if not address or len(mask) != 4:
            return None
        hosts = 0xFFFFFFFF ^ int.from_bytes(mask, "big")
        return (int(IPv4Address(address)) | hosts).to_bytes(4, "big")
    if len(lease) != 4:
        return None
    lease_s = int.from_bytes(lease, "big")
    share = (1, 2) if code == _T1 else (7, 8)
    return (lease_s if lease_s == _FOR_EVER else lease_s * share[0] // share[1]).to_bytes(4, "big")


def varies_at_random(ours: Message, theirs: Message, code: int) -> bool:
    """Of T1 or T2 of one and the same lease."""
    lease = ours.options.get(_LEASE, b"")
    if not lease or lease != theirs.options.get(_LEASE):
        return False
    one, two = (int.from_bytes(taken_for(message, code) or b"", "big") for message in (ours, theirs))
    return abs(one - two) <= int.from_bytes(lease, "big") // _RANDOM_SHARE


def same_order(ours: Message, theirs: Message) -> bool:
    """Of the options that both have."""

    def order(message: Message, other: Message) -> list[int]:
        return [code for code in message.options if code not in (_OVERLOAD, _SERVER_ID) and code in other.options]

    return order(ours, theirs) == order(theirs, ours)
