"""Sub-options, which old servers write as options of a space of their own -> the options that carry them.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from control.importers.kinds import Kinds, Said, Value
from control.importers.site import Unfit
from control.importers.values import VENDOR_SPECIFIC, attribute, by_code, suboptions
from control.options.table import Option

VENDOR_SPACE: Final = "vendor-option-space"  # key of a Said: the space whose options are 43, as dhcpd has it
SPACE_MARK: Final = "\0"  # `SPACE\0CODE` is the key of a sub-option; its value is `hex`


def flattened(kinds: Kinds, said: Said, carriers: Mapping[str, int]) -> tuple[Said, list[str]]:
    """Sub-options of option spaces made into the options that carry them; and what cannot be."""
    inner = {key: value for key, value in said.items() if SPACE_MARK in key}
    if not inner and VENDOR_SPACE not in said:
        return said, []
    found = {key: value for key, value in said.items() if SPACE_MARK not in key and key != VENDOR_SPACE}
    faults: list[str] = []
    vendor = kinds.spread(said.get(VENDOR_SPACE))
    wanted = {name: code for name, code in carriers.items() if any(key.startswith(name + SPACE_MARK) for key in inner)}
    for code in sorted({VENDOR_SPECIFIC, *wanted.values()}):
        option = by_code(code)
        payloads: list[Value | None] = []
        for at in range(len(kinds)):
            names = [name for name, carrier in wanted.items() if carrier == code]
            if code == VENDOR_SPECIFIC and vendor[at] is not None:
                names.append(vendor[at])
            try:
                payloads.append(_payload(option, kinds, inner, names, at))
            except Unfit as unfit:
                faults.append(str(unfit))
                payloads.append(None)
        joined = kinds.joined(payloads)
        if joined is not None:
            found[option.name] = joined
    return found, list(dict.fromkeys(faults))


def _payload(option: Option, kinds: Kinds, inner: Said, names: list[str], at: int) -> Value | None:
    parts = []
    for key, value in inner.items():
        space, _, code = key.partition(SPACE_MARK)
        told = kinds.spread(value)[at]
        if space in names and told is not None:
            parts.append((int(code), bytes.fromhex(str(told))))
    return attribute(option, None, suboptions(sorted(parts))) if parts else None
