"""JSON Schema (draft 7, which editors know) of what the checks of services.conf take.  Pure.

A shape never refuses what its check takes, or an editor would underline a good file.  What no schema can say is left
to the check: host bits of a network, two spellings of one address, what one key has to do with another.

Patterns are those that Python and ECMA 262 read alike: no \\d, \\w or \\Z, and they are anchored by whole().
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

Shape = dict[str, Any]
_Take = TypeVar("_Take", bound=Callable[[Any], Any])
_shapes: Final[dict[Callable[[Any], Any], Shape]] = {}


def takes(shape: Shape) -> Callable[[_Take], _Take]:
    """Decorates the function of a check with what it takes."""

    def note(take: _Take) -> _Take:
        _shapes[take] = shape
        return take

    return note


def shape_of(take: Callable[[Any], Any]) -> Shape:
    """{}, which is anything, of a function that was not decorated; tests/control/config/test_schema.py finds those."""
    return dict(_shapes.get(take, {}))


def whole(pattern: str) -> str:
    """Of a text as a whole, where re.fullmatch() asks for the same."""
    return f"^(?:{pattern})$"


def text(pattern: str) -> Shape:
    """pattern: with \\w, if at all, outside of brackets."""
    # ECMA's \w has ASCII letters only; Python's has those of every language, as module names may.
    return {"type": "string", "pattern": whole(pattern.replace(r"\w", r"[0-9A-Z_a-z\u0080-\uffff]"))}


def nullable(shape: Shape) -> Shape:
    if isinstance(kind := shape.get("type"), str):
        return shape | {"type": [kind, "null"]}
    return {"anyOf": [shape, {"type": "null"}]}


_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_QUAD = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
HOST_ADDRESS: Final = rf"(?!0\.0\.0\.0$)(?:22[0-3]|2[01][0-9]|1[0-9]{{2}}|[1-9]?[0-9])(?:\.{_OCTET}){{3}}"
NETWORK: Final = rf"{_QUAD}(?:/(?:0*(?:3[0-2]|[12]?[0-9])|{_QUAD}))?"
_IPV6 = r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[^%]+)?"
_LABELS = r"(?!-)[0-9A-Za-z-]{1,63}(?:\.[0-9A-Za-z-]{1,63})*"
HOST: Final = rf"{_QUAD}|{_IPV6}|(?!.*-$)(?![0-9.]*$){_LABELS}"
_PORT = r"(?!0+$)(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[0-5]?[0-9]{1,4})"
HOST_PORT: Final = rf"(?:{_QUAD}|\[{_IPV6}\]|(?!.*-:[0-9]*$)(?![0-9.]*:[0-9]*$){_LABELS}):{_PORT}"
_AUTHORITY = r"""(?!:)[!"$-.0->A-~]+"""  # visible ASCII but / ? # @
# file: any number of slashes but two, which a host would follow.
_HTTP: Final = r"[Hh][Tt][Tt][Pp][Ss]?(?:\+[Hh][Oo][Ss][Tt][Ss])?"
URL: Final = rf"""{_HTTP}://{_AUTHORITY}(?:/[!"$->@-~]*)?|[Ff][Ii][Ll][Ee]:/(?!/[^/])[!-~]*[!-.0-~]"""
PATH: Final = r"/[^\u0000-\u001f\u007f]*"
OPTION: Final = r"25[0-4]|2[0-4][0-9]|1[0-9]{2}|[1-9][0-9]?"
_HEX_PAIR = "[0-9A-Fa-f]{2}"

BMC_RULE: Final[Shape] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "vendor_class": text(r"[ -~]{1,29}"),
        "user_class": text(r"[ -~]{1,29}"),
        "client_id": text(rf"(?:{_HEX_PAIR}:?){{1,29}}"),
        "requested_options": {
            "type": "array",
            "minItems": 1,
            "maxItems": 29,
            "items": {"type": "integer", "minimum": 1, "maximum": 254},
        },
        "other_mac": {"const": True},
        "role": {"enum": ["host", "bmc"], "default": "bmc"},
    },
    "oneOf": [
        {"required": [kind]} for kind in ("vendor_class", "user_class", "client_id", "requested_options", "other_mac")
    ],
}


def snmp_user(fields: Mapping[str, str]) -> Shape:
    """fields: name -> pattern; one of words only becomes a choice of them."""

    def field(pattern: str) -> Shape:
        words = pattern.split("|")
        return {"enum": words} if len(words) > 1 and all(word.isalnum() for word in words) else text(pattern)

    def needs(protocol: str, more: Shape) -> Shape:
        password = f"{protocol}_password"
        is_on = {"required": [protocol], "properties": {protocol: {"not": {"const": "none"}}}}
        return {"if": is_on, "then": {"required": [password]} | more, "else": {"not": {"required": [password]}}}

    secured = {"required": ["auth", "privacy_password"], "properties": {"auth": {"not": {"const": "none"}}}}
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": {name: field(pattern) for name, pattern in fields.items()},
        "allOf": [needs("auth", {}), needs("privacy", secured)],
    }
