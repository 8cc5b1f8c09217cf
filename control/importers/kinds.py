"""The kinds of clients that a configuration can tell apart, as what each of them sends, and the way back: from what
each kind is told to `OPTION--CLASS`.

An old configuration is asked as each kind: whatever its conditions look like, what counts is what a BIOS, a UEFI
machine, iPXE, a system would be told.  Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ext.classify import ClientClass
from ext.site_classes import BUILT_IN, PARENTS

from control.explain.classes import said_by_firmware

Value = str | int | tuple[str | int, ...]
"""Of one option, as an attribute has it."""

EVERYBODY: Final = ""
OS, PXE, HTTP_BOOT, IPXE = "os", "pxe", "http-boot", "ipxe"
HEADS: Final = (OS, PXE, HTTP_BOOT, IPXE)
VENDOR_CLASS, USER_CLASS, ARCHITECTURE, ENCAPSULATED = 60, 77, 93, 175
# What iPXE says of its build in 175, as in tests/data/pcaps (ipxe-bios.pcap, ovmf-ipxerom.pcap): bus id, version, and a
# sub-option for each feature (DNS, ELF, iSCSI, menus, multiboot, NFS, PXE, TFTP, bzImage, AoE; UEFI; HTTP).
_BUILD: Final = b"\xb1\x05\x01\x80\x86\x10\x0e\xeb\x03\x01\0\0"
_BIOS_HAS, _UEFI_HAS, _HTTP_HAS = (23, 34, 17, 39, 25, 41, 16, 33, 21, 24, 18), (23, 36, 17, 39, 41, 21, 18), (19, 20)
_EMPTY_IS_NONE: Final = frozenset({"tftp_filename"})  # an empty value says: nothing, whatever a wider level says
_HARMLESS: Final = frozenset({"tftp_server"})  # to who is told no boot file
_OTHER_X64: Final = 9
# iPXE keeps the ROM's architecture in 93; what it is told on others than a BIOS's 0 wants classes of the site.
IPXE_HTTP: Final = "ipxe-http"
IPXE_ON: Final = {"ipxe-uefi-x64": (7, 9), "ipxe-uefi-arm64": (11,)}
ROM_OF: Final = {name: name.removeprefix("ipxe-") for name in IPXE_ON}


class Kind(NamedTuple):
    """client: the class of ours that such a client is.  options: what it sends, by code."""

    client: str
    options: Mapping[int, bytes]


class PerKind(tuple[Any, ...]):
    """What each kind is told of one option, in the order of Kinds; None: nothing."""

    __slots__ = ()


Said = dict[str, "Value | PerKind"]
"""By the option's name.  A value that is no PerKind is told to every kind."""


class SiteText(NamedTuple):
    """A text that a condition compares an option with, and that no built-in class is about."""

    field: str  # as services.conf has it: vendor_class, user_class
    text: bytes
    is_prefix: bool

    def shown(self) -> str:
        """As services.conf has it."""
        text = self.text
        is_plain = text.isascii() and text.decode("ascii").isprintable() and b"*" not in text
        shown = text.decode("ascii") if is_plain and not text.startswith(b"hex:") else f"hex:{text.hex()}"
        return shown + ("*" if self.is_prefix else "")


class SiteClass(NamedTuple):
    """match: as dhcp.classes has it; words: for people."""

    parent: str
    match: dict[str, Any]
    words: str


_CODES: Final = {"vendor_class": VENDOR_CLASS, "user_class": USER_CLASS}


def options_of(said: bytes) -> dict[int, bytes]:
    """Of a list of options as a request has it."""
    found, at = {}, 0
    while at + 2 <= len(said):
        found[said[at]] = said[at + 2 : at + 2 + said[at + 1]]
        at += 2 + said[at + 1]
    return found


def _built_in() -> Iterator[Kind]:
    ipxe: dict[int, bytes] = {}
    for name, number in BUILT_IN.items():
        client = ClientClass(number)
        if client is ClientClass.BMC:
            continue
        options = options_of(said_by_firmware(client))
        if client in (ClientClass.IPXE, ClientClass.IPXE_HTTP):
            ipxe = options | {ENCAPSULATED: _build(_BIOS_HAS, _HTTP_HAS if client is ClientClass.IPXE_HTTP else ())}
            yield Kind(name, ipxe)
            continue
        yield Kind(name, options)
        if client is ClientClass.UEFI_X64:
            yield Kind(name, options | _architecture(_OTHER_X64))
    for name, (architecture, *_others) in IPXE_ON.items():
        yield Kind(name, ipxe | _architecture(architecture) | {ENCAPSULATED: _build(_UEFI_HAS, _HTTP_HAS)})


def _build(*features: tuple[int, ...]) -> bytes:
    return _BUILD + b"".join(bytes((code, 1, 1)) for each in features for code in each)


def _architecture(number: int) -> dict[int, bytes]:
    return {
        VENDOR_CLASS: b"PXEClient:Arch:%05d:UNDI:003016" % number,
        ARCHITECTURE: number.to_bytes(2, "big"),
    }


def slug(text: SiteText) -> str:
    """A name for a class of the site."""
    letters = "".join(chr(octet).lower() if chr(octet).isalnum() and octet < 128 else "-" for octet in text.text)
    words = [word for word in letters.split("-") if word]
    return "-".join(words)[:28].strip("-") or text.text.hex()[:28]


class Kinds:
    """The built-in kinds, and one for each text that the configuration compares with besides."""

    def __init__(self, texts: Iterable[SiteText] = ()) -> None:
        self.all: list[Kind] = list(_built_in())
        self.site: dict[str, SiteClass] = {}
        # What fits the longer text first fits the shorter one as well; the first rule that fits decides.
        for text in sorted(set(texts), key=lambda each: (-len(each.text), each)):
            name = slug(text)
            while name in self.site or name in BUILT_IN:
                name += "-x"
            self.site[name] = SiteClass(EVERYBODY, {text.field: text.shown()}, f"{text.field} {text.shown()}")
            self.all.append(Kind(name, {_CODES[text.field]: text.text}))
        for name, numbers in IPXE_ON.items():
            match = {"user_class": "iPXE*", "architecture": list(numbers)}
            self.site[name] = SiteClass(IPXE_HTTP, match, f"iPXE on {ROM_OF[name]}")
        self.of_class: dict[str, list[int]] = {}
        for at, kind in enumerate(self.all):
            self.of_class.setdefault(kind.client, []).append(at)

    def __len__(self) -> int:
        return len(self.all)

    def parent(self, name: str) -> str:
        """Of a class; EVERYBODY above the heads, and above a class of the site."""
        if name in HEADS or name in self.site:
            return self.site[name].parent if name in self.site else EVERYBODY
        wider = ClientClass(PARENTS[BUILT_IN[name]]).name.lower().replace("_", "-")
        return EVERYBODY if wider == OS else wider

    def chain(self, name: str) -> Iterator[str]:
        """The class, its wider ones, everybody."""
        while name != EVERYBODY:
            yield name
            name = self.parent(name)
        yield EVERYBODY

    # --- what is told ------------------------------------------------------------------------------------------------

    def spread(self, value: Value | PerKind | None) -> PerKind:
        return value if isinstance(value, PerKind) else PerKind([value] * len(self.all))

    def joined(self, values: Sequence[Value | None]) -> Value | PerKind | None:
        """A PerKind, or the one value that all are told."""
        first = values[0]
        return first if all(each == first for each in values) else PerKind(values)

    def over(self, wider: Said, nearer: Said) -> Said:
        """What counts where both are said."""
        if not nearer:
            return wider
        found = dict(wider)
        for option, value in nearer.items():
            if isinstance(value, PerKind) and option in wider:
                below = self.spread(wider[option])
                both = [mine if mine is not None else theirs for mine, theirs in zip(value, below, strict=True)]
                joined = self.joined(both)
                assert joined is not None
                found[option] = joined
            else:
                found[option] = value
        return found

    def by_class(self, values: PerKind) -> dict[str, Value | None]:
        """What each class is told."""
        found: dict[str, Value | None] = {}
        for name, places in self.of_class.items():
            told = [values[at] for at in places]
            found[name] = told[0]
            if all(each == told[0] for each in told):
                continue
            other = values[self.of_class["bios-pxe"][0]]  # uefi-x64 alone has two kinds, of which files name one
            found[name] = told[0] if told[0] != other else told[1]
        return found

    def classes(
        self, option: str, value: Value | PerKind, above: Collection[str] = ()
    ) -> tuple[dict[str, Value], list[str]]:
        """(class -> value, "" for everybody; what cannot be said so).

        above: classes to which a wider level says something of this option: a value for a class beats one without,
        wherever it stands, so that a value of ours has to be said to them as well."""
        if not isinstance(value, PerKind):
            return {EVERYBODY: value} | dict.fromkeys(sorted(above), value), []
        told = self.by_class(value)
        remarks = []
        found: dict[str, Value] = {}
        everybody = told[OS] if all(each is not None for each in told.values()) else None
        top = [*HEADS, *(name for name, each in self.site.items() if each.parent == EVERYBODY)]
        if everybody is not None:
            found[EVERYBODY] = everybody
        for head in top:
            if told[head] is not None and told[head] != everybody:
                found[head] = told[head]  # type: ignore[assignment]
        for name, wanted in told.items():
            if name in top:
                continue
            inherited = next((found[each] for each in self.chain(self.parent(name)) if each in found), None)
            if wanted == inherited:
                continue
            if wanted is not None:
                found[name] = wanted
            elif option in _EMPTY_IS_NONE:
                found[name] = ""
            elif option not in _HARMLESS and name not in IPXE_ON:
                remarks.append(f"{option} is told to {self.parent(name)} and not to {name}: it is told to both here")
        for name in sorted(above):
            if name not in found and name in told and told[name] is not None:
                found[name] = told[name]  # type: ignore[assignment]
        return found, remarks
