"""The client classes of a site, `dhcp.classes`: names, parents, and what a request has to say to be of one.  Pure.

Workers go by them for each packet, before the built-in classes (ext/site_classes.pxd); the first that fits decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network
from typing import Any, Final, NamedTuple

from ext.site_classes import BUILT_IN, CLASSES_MAX, PRESENT, TEXT_BYTES_MAX, TooMuch, rules_of

from control.config import shapes
from control.config.checks import Check, Wrong, show
from control.config.shapes import Shape, shape_of, takes

NAME: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
NAME_CHARS_MAX: Final = 32
EVERYBODY: Final = "os"  # the parent where none is named
Values = tuple[Any, ...]


class SiteClass(NamedTuple):
    """As ext.builder.Surroundings.classes wants it; conditions: ((field, values), ...), all of which have to hold."""

    name: str
    parent: str
    conditions: tuple[tuple[str, Values], ...]


@takes(shapes.text(r"(?:hex:[0-9A-Fa-f:]+|(?!hex:)[ -)+-~]+)\*?"))
def _text(found: Any) -> tuple[bytes, bool]:
    """What an option is, or begins with: one `*` at the end; `hex:` and digits for octets that are no text."""
    if not isinstance(found, str) or not found:
        raise Wrong()
    whole, is_prefix = (found[:-1], True) if found.endswith("*") else (found, False)
    if whole.startswith("hex:"):
        digits = whole.removeprefix("hex:").replace(":", "")
        if not re.fullmatch(r"([0-9a-fA-F]{2})+", digits):
            raise Wrong(wanted="pairs of hexadecimal digits after hex:")
        octets = bytes.fromhex(digits)
    elif whole.isascii() and whole.isprintable() and "*" not in whole:
        octets = whole.encode()
    else:
        raise Wrong(wanted="printable ASCII, with one * at the end or none; or hex: and digits")
    if not 0 < len(octets) <= TEXT_BYTES_MAX:
        raise Wrong(f"{len(octets)} octets", f"1 to {TEXT_BYTES_MAX} octets")
    return octets, is_prefix


def _number(high: int) -> Callable[[Any], tuple[int, int]]:
    @takes({"type": "integer", "minimum": 0, "maximum": high})
    def take(found: Any) -> tuple[int, int]:
        if type(found) is not int or not 0 <= found <= high:
            raise Wrong(wanted=f"a whole number 0..{high}")
        return found, found

    return take


@takes(shapes.text(r"(?:[:.-]*[0-9A-Fa-f][:.-]*[0-9A-Fa-f]){3,6}[:.-]*"))
def _oui(found: Any) -> tuple[int, int]:
    digits = re.sub(r"[:.-]", "", found) if isinstance(found, str) else ""
    if not re.fullmatch(r"([0-9a-fA-F]{2}){3,6}", digits):
        raise Wrong(wanted="the first three to six octets of a MAC address, such as 00:1b:21")
    first, below = int(digits.ljust(12, "0"), 16), 48 - 4 * len(digits)
    return first, first + (1 << below) - 1


@takes(shapes.text(shapes.NETWORK))
def _network(found: Any) -> tuple[int, int]:
    try:
        network = IPv4Network(found) if isinstance(found, str) else None
    except ValueError:
        network = None
    if network is None:
        raise Wrong(wanted="an IPv4 address or prefix such as 192.0.2.0/24")
    return int(network.network_address), int(network.broadcast_address)


@takes({"type": "integer", "minimum": 1, "maximum": 254})
def _code(found: Any) -> int:
    if type(found) is not int or not 1 <= found <= 254:
        raise Wrong(wanted="an option's number, 1..254")
    return found


# Key of `match` -> field of ext/site_classes.pyx, and how a value of it is read.
FIELDS: Final[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
    "vendor_class": ("vendor_class", _text),
    "user_class": ("user_class", _text),
    "client_id": ("client_id", _text),
    "machine_guid": ("machine_guid", _text),
    "architecture": ("architecture", _number(0xFFFF)),
    "enterprise": ("enterprise", _number(0xFFFFFFFF)),
    "has_option": (PRESENT, _code),
    "oui": ("mac", _oui),
    "relay": ("relay", _network),
    "link": ("link", _network),
}


def _take_class(value: Any, at: str) -> SiteClass:
    if not isinstance(value, dict):
        raise Wrong(show(value), at=at)
    unknown = [key for key in value if key not in ("name", "parent", "match")]
    if unknown or "name" not in value or "match" not in value:
        raise Wrong(f"an object of {', '.join(map(show, value)) or 'nothing'}", at=at)
    name = value["name"]
    if not isinstance(name, str) or not NAME.fullmatch(name) or len(name) > NAME_CHARS_MAX:
        wanted = f"small letters, digits and single dashes, at most {NAME_CHARS_MAX}: attributes carry it after --"
        raise Wrong(show(name), wanted, at=f"{at}.name")
    if name in BUILT_IN:
        raise Wrong(show(name), "a name that is no built-in class's", at=f"{at}.name")
    parent = value.get("parent", EVERYBODY)
    if not isinstance(parent, str) or parent == "bmc":
        raise Wrong(show(parent), "the name of another class", at=f"{at}.parent")
    match = value["match"]
    if not isinstance(match, dict) or not match or any(key not in FIELDS for key in match):
        raise Wrong(show(match), f"an object of {', '.join(FIELDS)}", at=f"{at}.match")
    return SiteClass(name, parent, tuple(_conditions(match, at)))


def _conditions(match: dict[str, Any], at: str) -> Iterator[tuple[str, Values]]:
    for key, found in match.items():
        field, take = FIELDS[key]
        several = found if isinstance(found, list) else [found]
        if not several:
            raise Wrong("an empty list", "a value, or a list of them", at=f"{at}.match.{key}")
        values = []
        for each in several:
            try:
                values.append(take(each))
            except Wrong as wrong:
                raise Wrong(wrong.found or show(each), wrong.wanted or "a text", at=f"{at}.match.{key}") from None
        yield field, tuple(dict.fromkeys(values))


def _shape_of_a_class() -> Shape:
    def one_or_more(value: Shape) -> Shape:
        return {"anyOf": [value, {"type": "array", "minItems": 1, "items": value}]}

    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "match"],
        "properties": {
            "name": shapes.text(NAME.pattern) | {"maxLength": NAME_CHARS_MAX, "not": {"enum": sorted(BUILT_IN)}},
            "parent": {
                "type": "string",
                "not": {"const": "bmc"},
                "default": EVERYBODY,
                "examples": sorted(BUILT_IN.keys() - {"bmc"}),
            },
            "match": {
                "type": "object",
                "additionalProperties": False,
                "minProperties": 1,
                "properties": {key: one_or_more(shape_of(take)) for key, (_field, take) in FIELDS.items()},
            },
        },
    }


@takes({"type": "array", "maxItems": CLASSES_MAX, "items": _shape_of_a_class()})
def _take_classes(value: Any) -> tuple[SiteClass, ...]:
    if not isinstance(value, list):
        raise Wrong(step="put it in brackets: [...]" if isinstance(value, dict) else "")
    if len(value) > CLASSES_MAX:
        raise Wrong(f"{len(value)} classes", f"at most {CLASSES_MAX}", "join those that get the same options")
    taken: list[SiteClass] = []
    wrong: list[Wrong] = []
    for number, each in enumerate(value):
        try:
            taken.append(_take_class(each, f"[{number}]"))
        except Wrong as fault:
            wrong.append(fault)
    if not wrong:
        wrong = list(_wrong_names(taken))
    if wrong:
        raise ExceptionGroup("classes", wrong)
    try:
        rules_of(taken)
    except TooMuch as much:
        raise Wrong(str(much), "fewer", "join those that get the same options") from None
    return tuple(taken)


def _wrong_names(taken: Sequence[SiteClass]) -> Iterator[Wrong]:
    """Of what one class has to do with the others."""
    parents: dict[str, str] = {}
    for number, each in enumerate(taken):
        if each.name in parents:
            step = "give the first one a list of values"
            yield Wrong(f"{show(each.name)} twice", "one class of a name", step, f"[{number}].name")
        parents.setdefault(each.name, each.parent)
    for number, each in enumerate(taken):
        try:
            check_parent(each, parents, f"[{number}].parent")
        except Wrong as fault:
            yield fault


def check_parent(of: SiteClass, parents: Mapping[str, str], at: str) -> None:
    """Raises Wrong for one that is not there, and for a circle."""
    passed = [of.name]
    while passed[-1] in parents:
        parent = parents[passed[-1]]
        if parent not in parents and parent not in BUILT_IN:
            raise Wrong(show(parent), "a built-in class (docs/protocol.md) or one of dhcp.classes", at=at)
        if parent in passed:
            raise Wrong(" -> ".join([*passed, parent]), "parents that end at a built-in class", at=at)
        passed.append(parent)


CLASSES: Final = Check(
    'a list, each element an object such as {"name": "onie", "parent": "os", "match": {"vendor_class": '
    f'"onie_vendor:*"}}}}; match: one or more of {", ".join(FIELDS)}, a value each or a list of them',
    _take_classes,
)


# --- what `check` remarks ---------------------------------------------------------------------------------------------


# Of which some in a DISCOVER, some in a REQUEST, and 82 and 118 by a relay.
IPXE_SENDS: Final = {50, 53, 54, 55, 57, 60, 61, 77, 82, 93, 94, 97, 118, 175}
IPXE_ONLY: Final = 175
IPXE_SAYS: Final = (b"iPXE", False)  # in 77
IPXE_ARCHITECTURES: Final = (0, 6, 7, 9, 10, 11, 25, 27, 37, 39)  # that it is built for; of UEFI 9, too, says x64


def remarks(classes: Sequence[SiteClass]) -> list[str]:
    """Rules that never decide, and those that take more than their author may think.  A line each."""
    found = []
    parents = {each.name: each.parent for each in classes}
    for at, each in enumerate(classes):
        before = next((other for other in classes[:at] if covers(other, each)), None)
        if before is not None:
            found.append(
                f"dhcp.classes: {each.name} is never reached: whatever fits it fits {before.name} before it; "
                f"put {each.name} in front of {before.name}"
            )
        if is_for_ipxe(each) and not is_below_ipxe(each, parents):
            found.append(
                f"dhcp.classes: {each.name} is for iPXE and has the parent {each.parent}: what is said to ipxe does "
                "not reach it; wanted ipxe-http (or ipxe, for builds without HTTP)"
            )
        elif catches_ipxe(each, parents) and not any(
            is_below_ipxe(other, parents) and takes_its_ipxe(other, each) for other in classes[:at]
        ):
            found.append(
                f"dhcp.classes: {each.name} takes iPXE as well, which keeps the ROM's options 60 and 93; put a class "
                'for {"user_class": "iPXE*"} with parent ipxe-http in front of it if iPXE is to get its script'
            )
    return found


def covers(wider: SiteClass, narrower: SiteClass) -> bool:
    """Every request that fits the one fits the other."""
    theirs = dict(narrower.conditions)
    return all(field in theirs and values_cover(field, values, theirs[field]) for field, values in wider.conditions)


def values_cover(field: str, wider: Values, narrower: Values) -> bool:
    return all(any(value_covers(field, one, other) for one in wider) for other in narrower)


def value_covers(field: str, wider: Any, narrower: Any) -> bool:
    if field == PRESENT:
        return bool(wider == narrower)
    if isinstance(wider[0], bytes):
        (text, is_prefix), (other, other_is_prefix) = wider, narrower
        return bool(other.startswith(text) if is_prefix else text == other and not other_is_prefix)
    return bool(wider[0] <= narrower[0] and narrower[1] <= wider[1])


def is_below_ipxe(each: SiteClass, parents: Mapping[str, str]) -> bool:
    return root_of(each, parents) in ("ipxe", "ipxe-http")


def root_of(each: SiteClass, parents: Mapping[str, str]) -> str:
    """The built-in class that it is below."""
    root = each.parent
    while root in parents:
        root = parents[root]
    return root


def is_for_ipxe(each: SiteClass) -> bool:
    """It asks for what iPXE alone says."""
    asks_for = dict(each.conditions)
    return asks_for.get(PRESENT) == (IPXE_ONLY,) or (
        "user_class" in asks_for and values_cover("user_class", ((b"iPXE", True),), asks_for["user_class"])
    )


def takes_its_ipxe(before: SiteClass, each: SiteClass) -> bool:
    """Every iPXE that fits the one fits the other, which is asked before it."""
    theirs = dict(each.conditions)
    for field, values in before.conditions:
        if field == "user_class":
            fits = values_cover(field, values, (IPXE_SAYS,))
        elif field == PRESENT and IPXE_ONLY in values:
            fits = True
        else:
            fits = field in theirs and values_cover(field, values, theirs[field])
        if not fits:
            return False
    return True


def catches_ipxe(each: SiteClass, parents: Mapping[str, str]) -> bool:
    """It takes iPXE's requests with a ROM's, and neither names iPXE nor is a class of it.

    One that takes all that asks somewhere, or with some cards, is meant to, unless it is to boot them as ROMs."""
    below = root_of(each, parents)
    asks_for = dict(each.conditions)
    is_about_roms = below != EVERYBODY or bool(asks_for.keys() & {"vendor_class", "architecture", PRESENT})
    return (
        is_about_roms
        and not is_below_ipxe(each, parents)
        and "user_class" not in asks_for
        and all(any(ipxe_may_say(field, value) for value in values) for field, values in asks_for.items())
    )


def ipxe_may_say(field: str, value: Any) -> bool:
    """In a request of iPXE's that came from some network card, over some relay: it keeps the ROM's own words."""
    if field == "vendor_class":
        text, is_prefix = value
        rom = b"PXEClient:Arch:"
        return bool(text.startswith(rom) or (is_prefix and rom.startswith(text)))
    if field == "client_id":  # the type of Ethernet and the MAC
        return bool(value[0].startswith(b"\1"))
    if field == PRESENT:
        return value in IPXE_SENDS
    if field == "architecture":
        return any(value[0] <= architecture <= value[1] for architecture in IPXE_ARCHITECTURES)
    return field != "enterprise"
