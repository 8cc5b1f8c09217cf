"""Sets of client classes of a site, and requests that fit them last or not at all: what rules cost a packet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from ext.site_classes import CLASSES_MAX, NESTED_MAX, TEXT_BYTES_MAX, VALUES_MAX

from bench.rig.stage import RELAY

Options = tuple[tuple[int, bytes], ...]
RELAYED = int(IPv4Address(RELAY))
_CODES = {"vendor_class": 60, "user_class": 77, "machine_guid": 97}


@dataclass(frozen=True, slots=True)
class RuleSet:
    """classes: as ext.builder.Surroundings has them; options: of each request besides the usual ones."""

    classes: tuple[Any, ...]
    options: Options
    words: str


def _classes(conditions: Sequence[Sequence[tuple[str, Any]]]) -> tuple[Any, ...]:
    return tuple(
        (f"class-{at}", "os", tuple((field, (value,)) for field, value in each)) for at, each in enumerate(conditions)
    )


def over_five_fields() -> RuleSet:
    """Rules as sites have them: vendors by 60 and 77, boards by 97, architectures, vendors of cards."""
    made: list[list[tuple[str, Any]]] = []
    for at in range(CLASSES_MAX):
        text = b"%c%02d-vendor" % (65 + at % 26, at)
        match at % 5:
            case 0:
                made.append([("vendor_class", (text, True))])
            case 1:
                made.append([("user_class", (text, True))])
            case 2:
                made.append([("machine_guid", (b"\0" + bytes([at]) * 3, True))])
            case 3:
                made.append([("architecture", (at, at))])
            case _:
                made.append([("mac", ((at << 40) + 1, (at << 40) + (1 << 24)))])
    options = ((60, b"Z99-other"), (77, b"Z99-other"), (93, b"\0\x07"), (97, b"\0" + b"\xee" * 16))
    return RuleSet(_classes(made), options, "over five fields")


def architectures() -> RuleSet:
    """All of one field, and all alike to the last digits."""
    made = [[("vendor_class", (b"PXEClient:Arch:%05d" % at, True))] for at in range(CLASSES_MAX)]
    return RuleSet(_classes(made), ((60, b"PXEClient:Arch:00063:UNDI:003016"), (93, b"\0\x07")), "PXEClient:Arch:...")


def worst() -> RuleSet:
    """The dearest that `check` accepts (ext.site_classes.COST_MAX): a few rules that all fit by every field, so that
    none ends the search early; in each field as many values as are allowed, texts alike to their ends, the longest of
    those that begin with each other not met."""
    count = NESTED_MAX
    made = []
    for rule in range(count):
        values = range(rule, VALUES_MAX, count)
        alike = b"x" * (TEXT_BYTES_MAX - 2)
        texts = tuple((alike + b"%02d" % at if at >= count else alike[: 40 + at % (count - 1)], True) for at in values)
        links = tuple(((at + 1) << 8, ((at + 1) << 8) + 1) for at in values if at >= count * 6)
        conditions: list[tuple[str, Any]] = [(field, texts) for field in _CODES]
        conditions.append(("relay", (*links, (RELAYED, RELAYED))))
        made.append((f"class-{rule}", "os", tuple((field, tuple(values)) for field, values in conditions)))
    value = b"x" * (TEXT_BYTES_MAX - 2) + b"zz"
    options = tuple((code, value) for code in _CODES.values())
    return RuleSet(tuple(made), options, "the worst that `check` accepts")


RULE_SETS = {"easy": over_five_fields, "architectures": architectures, "worst": worst}
