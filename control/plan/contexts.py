"""The `dhcp` attributes of objects and of the containers above them, merged and encoded.  Pure.

The nearest level that says anything about an option decides; hosts with the same containers share one Context, and a
Context is good for as long as its containers say the same, over many refreshes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from control.options.rendering import Kind, Option, OptionRejected, Vocabulary, encode, tlv
from control.plan.classes import LOADS_URL, SEPARATOR, URL_KEY, ClientClasses, is_url
from control.plan.networks import BadRecord, quote
from control.plan.ports import Ports, parse_ports
from control.sources.model import Attribute, Inventory, Said, Thing
from control.sources.reasons import OTHER, Reason, reason_of

ENABLED = "enabled"
PROXY = "proxy"  # another server gives the address, we say what to boot
BOOT_PORTS = "boot-ports"  # which cards of a host are served, plan/ports.py
BOOT_ENDS = "boot-ends"  # the last phase of a boot that asks by DHCP
ENDS = {"rom": "rom", "ipxe": "loader", "os": "system"}  # its values -> phases, ext/ledger.pyx
OVERLOAD, ALWAYS_BROADCAST = "overload", "always-broadcast"
SWITCHES = {OVERLOAD, ALWAYS_BROADCAST}  # no options: how replies are made, for everybody or for one class
_BOOT_FILE = "67"
_SPAN = re.compile(r"\s*([0-9]{1,9})\s*([smhdw])\s*", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
ON, OFF = {"1", "true", "yes"}, {"0", "false", "no", ""}
REASONS_MAX = 100  # that are kept of one object
Blame = Callable[..., None]
"""Faults.blame: called with the object's name and what is wrong with it; where that is known, also with the kind
(control/sources/reasons.py) and the subkey."""


class Values(NamedTuple):
    """The attributes of one subkey on one object, and which object that is."""

    subkey: str
    values: tuple[Any, ...]
    origin: str


Merged = dict[str, Values]
"""By key: the option's identity (its code, or the folded subkey), and `--class` when it is said to one class alone."""
Payloads = dict[str, bytes | None]
"""By the same keys; None where the value cannot be sent."""


class Faults(dict[str, list[Reason]]):
    """Name of an object -> why its record, or a part of it, is not used; the first REASONS_MAX, and how many more.

    A file with a wrong header blames one name once a row: what is said of it has to end, and so has the comparing."""

    def __init__(self) -> None:
        super().__init__()
        self.more: dict[str, int] = {}
        self.included: dict[int, Faults] = {}  # by id(): one that came twice would be counted twice

    def blame(self, name: str, reason: str, kind: str = OTHER, about: str = "") -> None:
        """kind, about: of a sentence that does not know them itself, as a Reason does."""
        reasons = self.setdefault(name, [])
        if reason in reasons:
            return
        if len(reasons) < REASONS_MAX:
            reasons.append(reason_of(reason, kind, about))
        else:
            self.count(name, 1)

    def count(self, name: str, more: int) -> None:
        self.more[name] = self.more.get(name, 0) + more
        self[name][REASONS_MAX:] = [Reason(f"... and {self.more[name]} more")]

    def include(self, others: Mapping[str, Iterable[str]]) -> None:
        more = {}
        if isinstance(others, Faults):
            if id(others) in self.included:
                return
            self.included[id(others)] = others
            more = others.more
        for name, reasons in others.items():
            for reason in islice(reasons, REASONS_MAX) if name in more else reasons:
                self.blame(name, reason)
            if name in more:
                self.count(name, more[name])


class Reader:
    """Reads and encodes `dhcp` attributes with one vocabulary; remembers what it worked out about subkeys."""

    def __init__(self, vocabulary: Vocabulary, classes: ClientClasses) -> None:
        self.vocabulary = vocabulary
        self.classes = classes
        self.identities: dict[str, str] = {}
        self.hints: dict[str, str] = {}

    def identity(self, subkey: str) -> str:
        """Two spellings of one option are one option."""
        known = self.identities.get(subkey)
        if known is None:
            name, said_to = self.classes.split(subkey)
            option = self.vocabulary.find(name)
            if option is not None:
                known = str(option.code)
            else:
                dashed = name.lower().replace("_", "-")
                known = dashed if dashed in (URL_KEY, BOOT_PORTS, BOOT_ENDS) or dashed in SWITCHES else name.lower()
                said_to = LOADS_URL.get(said_to, said_to) if known == URL_KEY else said_to
            known = self.identities[subkey] = f"{known}{SEPARATOR}{said_to}" if said_to else known
        return known

    def own(self, thing: Thing) -> Merged:
        """What an object itself says."""
        grouped: dict[str, list[Attribute]] = {}
        for attribute in thing.attributes:
            if attribute.key == "dhcp" and attribute.subkey is not None:
                grouped.setdefault(self.identity(attribute.subkey), []).append(attribute)
        found = {}
        for identity, attributes in grouped.items():
            attributes.sort(key=lambda a: (a.number is not None, a.number or 0))
            values = tuple(a.value for a in attributes)
            found[identity] = Values(str(attributes[0].subkey), values, thing.name)
        return found

    def level(self, things: Iterable[Thing], blame: Blame) -> Merged:
        """What one level says; among several objects the first by name counts, and a tie is reported."""
        merged: Merged = {}
        for thing in things:
            for identity, values in self.own(thing).items():
                other = merged.setdefault(identity, values)
                if other.values != values.values:
                    blame(
                        thing.name,
                        f"dhcp {values.subkey} = {quote(values.values[0])} competes with {quote(other.values[0])} of "
                        f"{other.origin} on the same level; the first by name counts",
                        "tie",
                        values.subkey,
                    )
        return merged

    def payloads(self, merged: Merged, blame: Blame) -> Payloads:
        """Encoded values.  One that cannot be sent costs that option, not the host, and is reported."""
        found: Payloads = {}
        for key, values in merged.items():
            if key in (ENABLED, PROXY, BOOT_PORTS, BOOT_ENDS):
                if key == BOOT_ENDS and not ends_of(merged):
                    said = f"dhcp {values.subkey} = {quote(values.values[0])}: wanted one of {', '.join(ENDS)}"
                    blame(values.origin, said, "bad-value", values.subkey)
                continue
            found[key] = None
            if Said.UNUSABLE in values.values:
                continue
            identity, _, said_to = key.partition(SEPARATOR)
            in_vain = self.classes.why_nobody(identity, said_to) if said_to else ""
            if in_vain:
                blame(values.origin, f"dhcp {values.subkey} reaches nobody: {in_vain}", "in-vain", values.subkey)
            if identity in SWITCHES:
                found[key] = self.switch(values, blame)
                continue
            option = self.vocabulary.find(_BOOT_FILE if identity == URL_KEY else self.classes.split(values.subkey)[0])
            if option is None:
                said = f"dhcp {values.subkey}: no such option{self.hint(values.subkey)}"
                blame(values.origin, said, "unknown-option", values.subkey)
                continue
            if identity == URL_KEY:  # in what is said about it, the name that was written
                option = Option(option.code, self.classes.split(values.subkey)[0], option.kind)
            if str(option.code) == _BOOT_FILE and values.values == ("",):  # no fault: it boots nothing, and says so
                found[key] = b""
                continue
            try:
                payload = encode(option, values.values)
                tlv(option.code, payload)
            except (OptionRejected, ValueError) as fault:
                blame(values.origin, f"{fault}{in_seconds(option, values.values)}", "bad-value", values.subkey)
                continue
            if said_to and str(option.code) == _BOOT_FILE and self.classes.takes_urls_alone(said_to):
                self.check_url(values, payload, blame)
            if identity == URL_KEY:
                payload = payload.rstrip(b"\0")
                if not is_url(payload):
                    blame(
                        values.origin,
                        f"dhcp {values.subkey}: found {quote(values.values[0])}, wanted http:// or https://",
                        "bad-value",
                        values.subkey,
                    )
                    continue
            found[key] = payload
        return found

    @staticmethod
    def check_url(values: Values, payload: bytes, blame: Blame) -> None:
        if payload and not is_url(payload):
            said = (
                f"dhcp {values.subkey} = {quote(values.values[0])} reaches nobody: who boots by HTTP loads http:// or "
            )
            blame(values.origin, said + "https:// alone", "in-vain", values.subkey)

    @staticmethod
    def switch(values: Values, blame: Blame) -> bytes | None:
        try:
            return b"\1" if is_on(values) else b"\0"
        except BadRecord as bad:
            blame(values.origin, str(bad), bad.kind, values.subkey)
            return None

    def hint(self, subkey: str) -> str:
        """Remembered: a guess takes half a millisecond, and ten thousand hosts may have the same unknown attribute."""
        if subkey not in self.hints:
            name, _, said_to = subkey.rpartition(SEPARATOR)
            if name and self.vocabulary.find(name) is not None:
                self.hints[subkey] = f" for class {said_to}{self.classes.nearest(said_to)}"
            else:
                nearest = self.vocabulary.nearest(subkey)
                self.hints[subkey] = f"; did you mean {nearest}?" if nearest else ""
        return self.hints[subkey]


@dataclass(slots=True)
class Context:
    """What all containers above some hosts say.  templates: of those hosts, by what else decides; see plan.py."""

    digest: bytes
    merged: Merged
    payloads: Payloads
    faults: Faults
    templates: dict[Any, Any] = field(default_factory=dict)
    usual: bool = False  # hosts with nothing of their own are served, with an address of ours
    ports: Ports | None = None  # that are served; None: nothing is said
    ends: str = ""  # where boots end: a phase, or nothing

    @property
    def enabled(self) -> Values | None:
        return self.merged.get(ENABLED)


class Contexts:
    """The contexts of one inventory.  known: those of the last one, by digest; what is unchanged comes from there."""

    def __init__(self, inventory: Inventory, reader: Reader, known: Mapping[bytes, Context]) -> None:
        self.inventory = inventory
        self.reader = reader
        self.known = known
        self.by_parents: dict[tuple[str, ...], Context] = {}

    def of(self, parents: tuple[str, ...]) -> Context:
        context = self.by_parents.get(parents)
        if context is None:
            context = self.by_parents[parents] = self.make(parents)
        return context

    def make(self, parents: tuple[str, ...]) -> Context:
        things = self.inventory.things
        levels = [[things[p] for p in level if p in things] for level in self.inventory.levels_above(parents)]
        says = [[(thing.name, thing.of_key("dhcp")) for thing in level] for level in levels]
        digest = hashlib.blake2b(repr(says).encode("utf-8", "backslashreplace"), digest_size=16).digest()
        known = self.known.get(digest)
        if known is not None:
            return known
        faults = Faults()
        merged: Merged = {}
        for level in levels:
            for identity, values in self.reader.level(level, faults.blame).items():
                merged.setdefault(identity, values)
        payloads = self.reader.payloads(merged, faults.blame)
        usual = is_usual(merged)
        ports = boot_ports(merged) if usual else None
        return Context(digest, merged, payloads, faults, usual=usual, ports=ports, ends=ends_of(merged))

    def in_use(self) -> dict[bytes, Context]:
        return {context.digest: context for context in self.by_parents.values()}


def is_enabled(values: Values | None) -> bool:
    """Raises BadRecord for a value that is neither on nor off."""
    return values is not None and is_on(values)


def is_proxied(own: Merged, context: Context) -> Values | None:
    """What says that another server gives a host's address; None: we do.  Raises BadRecord as is_enabled()."""
    values = own.get(PROXY, context.merged.get(PROXY))
    return values if values is not None and is_on(values) else None


def is_usual(merged: Merged) -> bool:
    try:
        boot_ports(merged)
        return is_enabled(merged.get(ENABLED)) and not (PROXY in merged and is_on(merged[PROXY]))
    except BadRecord:  # told when such a host is planned
        return False


def boot_ports(merged: Merged) -> Ports | None:
    """What is said of which ports are served.  Raises BadRecord."""
    values = merged.get(BOOT_PORTS)
    return parse_ports(values.subkey, values.values, values.origin) if values is not None else None


def ends_of(merged: Merged) -> str:
    """The phase in which boots end; nothing where nobody says, or what is none."""
    values = merged.get(BOOT_ENDS)
    return ENDS.get(str(values.values[0]).strip().lower(), "") if values is not None else ""


def is_on(values: Values) -> bool:
    """Raises BadRecord for a value that is neither on nor off."""
    text = str(values.values[0]).strip().lower() if values.values[0] is not None else ""
    if text in ON:
        return True
    if text in OFF:
        return False
    raise BadRecord(
        f"dhcp {values.subkey} = {quote(values.values[0])} of {values.origin}: wanted 1, true, yes or 0, false, no",
        "bad-value",
        values.subkey,
    )


def in_seconds(option: Option, values: Sequence[Any]) -> str:
    """What `1h` is, where a number of seconds is wanted."""
    found = _SPAN.fullmatch(str(values[0])) if option.kind in (Kind.INT32, Kind.SINT32) else None
    return f"; {found[0].strip()} is {int(found[1]) * _SECONDS[found[2].lower()]} seconds" if found else ""
